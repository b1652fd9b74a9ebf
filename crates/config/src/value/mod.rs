//! The small languages inside the YAML: hosts, paths, templates, durations, sizes. Each is a type that can only hold what
//! is valid, and whose error says what to write instead.

mod host;
mod path_pattern;
mod template;
mod text;
mod units;

pub use host::HostPattern;
pub use path_pattern::{Mixed, PathKind, PathPattern, Segment};
pub use template::{Template, TemplatePart, Variable};
pub use text::{Cidr, FieldName, FieldText, Name, Pattern};
pub use units::{Duration, PerSecond, Rate, RequestRate, Share, Size};

use std::fmt;

/// Why a text is not a value, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong, in plain words.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Invalid {
    /// Says what is wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Invalid {}

/// The largest program that a regular expression of the configuration may compile to, in bytes.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// Compiles a regular expression that must match all of a text. The engine is linear in the text's length.
pub(crate) fn whole_regex(source: &str) -> Result<regex::Regex, Invalid> {
    let compile = |source: &str| regex::RegexBuilder::new(source).size_limit(REGEX_SIZE_LIMIT).build();
    // First alone: an unbalanced `)` must not escape from the group below.
    compile(source).and_then(|_| compile(&format!("^(?:{source})$"))).map_err(|error| regex_problem(source, &error))
}

/// Compiles a regular expression that may match anywhere in a text.
pub(crate) fn part_regex(source: &str) -> Result<regex::Regex, Invalid> {
    regex::RegexBuilder::new(source).size_limit(REGEX_SIZE_LIMIT).build().map_err(|error| regex_problem(source, &error))
}

fn regex_problem(source: &str, error: &regex::Error) -> Invalid {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            Invalid::new(format!("the regular expression `{source}` needs more than {limit} bytes once compiled"))
                .help("repeat smaller parts, or fewer times")
        }
        regex::Error::Syntax(text) => {
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let invalid = Invalid::new(format!("`{source}` is not a regular expression: {reason}"));
            if source.contains("(?=") || source.contains("(?!") || source.contains("(?<") {
                return invalid
                    .help("look-around and back-references are left out on purpose: matching takes linear time");
            }
            invalid
        }
        other => Invalid::new(format!("`{source}` is not a regular expression: {other}")),
    }
}

/// The candidate that `word` was most probably meant to be.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let allowed = 1 + word.len() / 4;
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= allowed)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Writes the serde and schema halves of a type that is written as text and parsed by `FromStr`.
macro_rules! text_value {
    ($type:ty, $expecting:literal, $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::value::from_text(deserializer, $expecting)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use text_value;

/// Deserialises by `FromStr`. Message and help travel through serde's single error string, parted by a NUL, which no
/// YAML text contains.
pub(crate) fn from_text<'de, D, T>(deserializer: D, expecting: &'static str) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err = Invalid>,
{
    struct Text<T>(&'static str, std::marker::PhantomData<T>);

    impl<T: std::str::FromStr<Err = Invalid>> serde::de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(into_serde)
        }
    }

    deserializer.deserialize_str(Text(expecting, std::marker::PhantomData))
}

/// An [`Invalid`] as a serde error.
pub(crate) fn into_serde<E: serde::de::Error>(invalid: Invalid) -> E {
    match invalid.help {
        Some(help) => E::custom(format_args!("{}\0{help}", invalid.message)),
        None => E::custom(invalid.message),
    }
}
