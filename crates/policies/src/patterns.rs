//! Several regular expressions that are tried at once, in time that is linear in the text whatever the expressions are.

use regex::bytes::{RegexSet, RegexSetBuilder};
use tidegate_config::value::Invalid;

/// What all expressions of a set may need once compiled, in bytes.
const SIZE_LIMIT: usize = 8 << 20;

/// Regular expressions, each of which was checked by itself already.
#[derive(Debug, Clone)]
pub(crate) struct Patterns(RegexSet);

impl Patterns {
    /// Expressions that may match anywhere, in whatever case where `ignore_case` says so.
    pub(crate) fn new<P: AsRef<str>>(patterns: &[P], ignore_case: bool) -> Result<Self, Invalid> {
        let set = RegexSetBuilder::new(patterns).case_insensitive(ignore_case).size_limit(SIZE_LIMIT).build();
        set.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => {
                Invalid::new(format!("the regular expressions need more than {limit} bytes once compiled"))
                    .help("write fewer of them, or repeat smaller parts")
            }
            other @ (regex::Error::Syntax(_) | _) => {
                Invalid::new(format!("the regular expressions do not go together: {other}"))
            }
        })
    }

    /// As they were given.
    pub(crate) fn sources(&self) -> &[String] {
        self.0.patterns()
    }

    /// Whether one of them matches.
    pub(crate) fn has(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.0.patterns() == other.0.patterns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_match_is_enough_and_none_match_nothing() {
        let patterns = Patterns::new(&["^curl/", "bot"], true).unwrap();
        assert!(patterns.has(b"curl/8.0") && patterns.has(b"A Bot \xff"));
        assert!(!patterns.has(b"Mozilla/5.0 curl/8.0") && !patterns.has(b""));
        let none = Patterns::new::<&str>(&[], true).unwrap();
        assert!(!none.has(b""));
    }

    #[test]
    fn expressions_that_are_too_large_together_are_refused() {
        let invalid = Patterns::new(&[r"\w{200}"; 100], true).unwrap_err();
        assert!(invalid.message.contains("once compiled"), "{invalid}");
    }
}
