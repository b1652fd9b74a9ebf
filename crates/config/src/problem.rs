//! What is wrong with a configuration, in words for the operator who wrote it. A problem knows the path of the value it is
//! about; only the renderer turns that into file, line, column and excerpt.

use std::fmt;
use std::sync::Arc;

use crate::tree::{Origin, Place};

/// Where a value stands in the configuration, for instance `routes[2].match.path`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<Segment>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// A key of a mapping.
    Key(Arc<str>),
    /// A position in a list, from 0.
    Index(usize),
}

impl Path {
    /// The whole document.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of `key` below this one.
    #[must_use]
    pub fn join(&self, key: &str) -> Self {
        self.with(Segment::Key(key.into()))
    }

    /// The path of the `index`th element below this one, from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The last key, when the path ends in one.
    pub fn last_key(&self) -> Option<&str> {
        match self.0.last()? {
            Segment::Key(key) => Some(key),
            Segment::Index(_) => None,
        }
    }

    /// The path of the object that this is a key or an element of; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        let mut segments = self.0.clone();
        segments.pop();
        Self(segments)
    }

    /// Whether `self` is `other` or lies below it.
    pub fn starts_with(&self, other: &Path) -> bool {
        self.0.starts_with(&other.0)
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if !is_plain(key) => write!(f, "[{key:?}]")?,
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is not used.
    Error,
    /// The configuration is used; the operator should look.
    Warning,
}

/// What of a `key: value` pair is underlined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// One thing that is wrong, with the place it is about and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub path: Path,
    /// One sentence without a full stop, in plain words.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Error or warning.
    pub severity: Severity,
    /// What to underline.
    pub part: Part,
    /// Other places that belong to it, each with a few words: "first defined here".
    pub related: Vec<(Path, String)>,
    /// Where it is when no path leads there.
    pub(crate) spot: Option<Box<Spot>>,
}

/// A place that is not in the merged tree: in a text that is no YAML, in a variable, in a value that lost against another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub origin: Option<Origin>,
    /// Another place that belongs to it, with a few words.
    pub related: Option<(Place, String)>,
}

impl Problem {
    /// Something that must be mended before the configuration can be used.
    pub fn error(path: Path, message: impl Into<String>) -> Self {
        Self {
            path,
            message: message.into(),
            help: None,
            severity: Severity::Error,
            part: Part::Value,
            related: Vec::new(),
            spot: None,
        }
    }

    /// Something to look at; the configuration is used all the same.
    pub fn warning(path: Path, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message) }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Underlines the key, not the value.
    #[must_use]
    pub fn on_key(mut self) -> Self {
        self.part = Part::Key;
        self
    }

    /// Adds another place that belongs to the problem, with a few words on what is there.
    #[must_use]
    pub fn see(mut self, path: Path, label: impl Into<String>) -> Self {
        self.related.push((path, label.into()));
        self
    }

    /// The same about a secret, which its message may quote.
    pub(crate) fn without_value(self) -> Self {
        Self { message: "the secret value is not valid here".to_owned(), help: None, ..self }
    }

    /// Says where it is when no path leads there.
    pub(crate) fn at(mut self, origin: impl Into<Option<Origin>>) -> Self {
        self.spot.get_or_insert_default().origin = origin.into();
        self
    }

    /// The same for another place.
    pub(crate) fn see_place(mut self, place: Option<Place>, label: &str) -> Self {
        self.spot.get_or_insert_default().related = place.map(|place| (place, label.to_owned()));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.segments().is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Problems are always a list: a configuration is checked to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Whether there is none at all, not even a warning.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// All of them, in the order found.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// `value` when there is no error among them; what is left are warnings.
    pub fn into_result<T>(self, value: T) -> Result<(T, Problems), Problems> {
        if self.has_errors() { Err(self) } else { Ok((value, self)) }
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.0.extend(problems);
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        Self(problems.into_iter().collect())
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// One line per problem, without excerpts.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_way_to_the_value() {
        let path = Path::root().join("routes").index(2).join("match").join("headers").join("x.y");
        assert_eq!(path.to_string(), r#"routes[2].match.headers["x.y"]"#);
        assert_eq!(Path::root().to_string(), "");
    }

    #[test]
    fn warnings_alone_are_a_success() {
        let problems = Problems::from(Problem::warning(Path::root(), "look"));
        let (value, warnings) = problems.into_result(1).expect("only a warning");
        assert_eq!((value, warnings.len()), (1, 1));
    }
}
