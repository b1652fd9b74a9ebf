//! The path condition of a route. Patterns are written in the canonical spelling that requests are brought to before they
//! are matched, so what cannot match is refused here instead of never matching there.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use regex::Regex;

use super::{Invalid, whole_regex};

/// A pattern for the canonical path of a request.
#[derive(Debug, Clone)]
pub struct PathPattern {
    /// The whole path, or its beginning by segments.
    pub kind: PathKind,
    /// What stands between the slashes. A trailing slash is a last empty literal: `/a/` is `a` and an empty one, `/` is an
    /// empty one. The prefix `/` has no segments.
    pub segments: Vec<Segment>,
    /// As written.
    pub source: Arc<str>,
}

/// How much of the path a [`PathPattern`] describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathKind {
    /// All of it.
    Exact,
    /// Its first segments: `/a` is `/a` and everything below it, never `/ab`.
    Prefix,
}

/// What one segment of a path must be.
#[derive(Debug, Clone)]
pub enum Segment {
    /// Exactly this.
    Literal(Arc<str>),
    /// `{name}`: anything but nothing.
    Param(Arc<str>),
    /// `{name:regex}`: what the expression matches as a whole.
    Regex(Arc<str>, Regex),
    /// `v{version}.json`: one parameter with literals around it.
    Mixed(Mixed),
    /// `*` or `{name...}`: all that is left, slashes included, at least one character. Always the last segment.
    Rest(Option<Arc<str>>),
}

/// A segment of one parameter, which is not empty, between literals of which one may be.
#[derive(Debug, Clone)]
pub struct Mixed {
    /// Before the parameter.
    pub prefix: Arc<str>,
    /// The parameter's name.
    pub name: Arc<str>,
    /// What the parameter must be; `None` is anything.
    pub regex: Option<Regex>,
    /// After the parameter.
    pub suffix: Arc<str>,
}

impl PathPattern {
    /// Parses a `path`.
    pub fn exact(text: &str) -> Result<Self, Invalid> {
        Self::parse(text, PathKind::Exact)
    }

    /// Parses a `path_prefix`.
    pub fn prefix(text: &str) -> Result<Self, Invalid> {
        Self::parse(text, PathKind::Prefix)
    }

    /// The prefix `/`: every path.
    pub fn everything() -> Self {
        Self { kind: PathKind::Prefix, segments: Vec::new(), source: "/".into() }
    }

    /// The names of the parameters, in order.
    pub fn params(&self) -> impl Iterator<Item = &Arc<str>> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// Whether a template may use `{path.NAME}`. `rest` is also what follows a prefix or stands for a `*`.
    pub fn binds(&self, name: &str) -> bool {
        self.params().any(|param| **param == *name) || (name == "rest" && self.has_implied_rest())
    }

    /// Whether `{path.rest}` has a meaning without a parameter of that name.
    pub fn has_implied_rest(&self) -> bool {
        self.kind == PathKind::Prefix || matches!(self.segments.last(), Some(Segment::Rest(None)))
    }

    fn parse(text: &str, kind: PathKind) -> Result<Self, Invalid> {
        let Some(path) = text.strip_prefix('/') else { return Err(not_a_path(text)) };
        let mut segments = Vec::new();
        let written = split_segments(text, path)?;
        let last = written.len().saturating_sub(1);
        for (position, segment) in written.into_iter().enumerate() {
            let parsed = Segment::parse(text, segment)?;
            check_place(text, kind, &parsed, position == last)?;
            segments.push(parsed);
        }
        if kind == PathKind::Prefix && text == "/" {
            segments.clear();
        }
        let pattern = Self { kind, segments, source: text.into() };
        pattern.check_names()?;
        Ok(pattern)
    }

    fn check_names(&self) -> Result<(), Invalid> {
        let mut seen: Vec<&str> = Vec::new();
        for name in self.params() {
            if seen.contains(&&**name) {
                return Err(Invalid::new(format!("the parameter `{name}` stands twice in `{self}`"))
                    .help("give each parameter a name of its own"));
            }
            if **name == *"rest" && self.has_implied_rest() {
                return Err(Invalid::new(format!(
                    "`rest` means what follows, so no parameter of `{self}` can have that name"
                )));
            }
            seen.push(name);
        }
        Ok(())
    }
}

/// A `path`; prefixes are made by [`PathPattern::prefix`].
impl FromStr for PathPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::exact(text)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Segment {
    /// The name of its parameter.
    pub fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Param(name) | Self::Regex(name, _) | Self::Mixed(Mixed { name, .. }) | Self::Rest(Some(name)) => {
                Some(name)
            }
            Self::Literal(_) | Self::Rest(None) => None,
        }
    }

    fn parse(whole: &str, text: &str) -> Result<Self, Invalid> {
        if text == "*" {
            return Ok(Self::Rest(None));
        }
        let Some((prefix, braced)) = text.split_once('{') else {
            check_literal(whole, text)?;
            check_dots(whole, text)?;
            return Ok(Self::Literal(text.into()));
        };
        let end = closing_brace(braced).ok_or_else(|| unbalanced(whole))?;
        let (inside, suffix) = (braced.get(..end).unwrap_or_default(), braced.get(end + 1..).unwrap_or_default());
        if suffix.contains('{') {
            return Err(Invalid::new(format!("`{text}` has two parameters in one segment"))
                .help("take one parameter with a regular expression, such as `{both:[a-z]+-[0-9]+}`"));
        }
        check_literal(whole, prefix)?;
        check_literal(whole, suffix)?;
        Self::from_parts(whole, prefix, inside, suffix)
    }

    fn from_parts(whole: &str, prefix: &str, inside: &str, suffix: &str) -> Result<Self, Invalid> {
        let alone = prefix.is_empty() && suffix.is_empty();
        if let Some(name) = inside.strip_suffix("...") {
            if !alone {
                return Err(Invalid::new(format!(
                    "`{{{name}...}}` must stand alone between slashes, not as in `{whole}`"
                )));
            }
            return Ok(Self::Rest(Some(param_name(whole, name)?)));
        }
        let (name, regex) = match inside.split_once(':') {
            Some((name, source)) => (name, Some(segment_regex(source)?)),
            None => (inside, None),
        };
        let name = param_name(whole, name)?;
        Ok(match regex {
            None if alone => Self::Param(name),
            Some(regex) if alone => Self::Regex(name, regex),
            regex => Self::Mixed(Mixed { prefix: prefix.into(), name, regex, suffix: suffix.into() }),
        })
    }
}

fn not_a_path(text: &str) -> Invalid {
    let invalid = Invalid::new(format!("the path `{text}` does not begin with `/`"));
    if let Some((_, rest)) = text.split_once("://") {
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
        return invalid.help(format!("write `path: {path}`, and the host as `host`"));
    }
    if let Some((method, path)) = text.split_once(' ') {
        return invalid.help(format!("write `path: {path}` and `methods: {method}`"));
    }
    if text.starts_with('^') || text.starts_with('~') {
        return invalid.help("a regular expression checks one segment: `/users/{id:[0-9]+}`");
    }
    invalid.help(format!("write `/{text}`"))
}

/// Splits at slashes outside of braces.
fn split_segments<'a>(whole: &str, path: &'a str) -> Result<Vec<&'a str>, Invalid> {
    let mut segments = Vec::new();
    let mut rest = path;
    loop {
        let end = segment_end(rest).ok_or_else(|| unbalanced(whole))?;
        segments.push(rest.get(..end).unwrap_or_default());
        match rest.get(end + 1..) {
            Some(next) => rest = next,
            None => return Ok(segments),
        }
    }
}

fn segment_end(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let rest = text.get(from..)?;
        let Some(at) = rest.find(['/', '{', '}']) else { return Some(text.len()) };
        match rest.as_bytes().get(at)? {
            b'/' => return Some(from + at),
            b'}' => return None,
            _ => from += at + 1 + closing_brace(rest.get(at + 1..)?)? + 1,
        }
    }
}

/// Where the brace that is open at the start of `text` closes. Braces inside a regular expression nest, escaped ones do not count.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    let mut escaped = false;
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(position);
        }
    }
    None
}

fn unbalanced(whole: &str) -> Invalid {
    Invalid::new(format!("the braces of `{whole}` do not match up"))
        .help("a parameter is `{name}`, `{name:regex}` or `{name...}`; a brace itself is `%7B` or `%7D`")
}

fn check_place(whole: &str, kind: PathKind, segment: &Segment, last: bool) -> Result<(), Invalid> {
    match segment {
        Segment::Rest(_) if kind == PathKind::Prefix => Err(Invalid::new(format!("`{whole}` is a prefix already"))
            .help("leave the last part out, or use `path` instead of `path_prefix`")),
        Segment::Rest(name) if !last => {
            let written = name.as_ref().map_or_else(|| "*".to_owned(), |name| format!("{{{name}...}}"));
            Err(Invalid::new(format!(
                "`{written}` takes all that is left, so it must be the last segment, not as in `{whole}`"
            ))
            .help("`{name}` takes one segment"))
        }
        Segment::Literal(text) if text.is_empty() && !last => {
            Err(Invalid::new(format!("`//` in `{whole}` would never match: repeated slashes of a request are merged"))
                .help("write one slash"))
        }
        Segment::Literal(text) if text.is_empty() && kind == PathKind::Prefix && whole != "/" => {
            let short = whole.trim_end_matches('/');
            Err(Invalid::new(format!("the prefix `{whole}` ends in a slash, but prefixes are taken by segments"))
                .help(format!("write `path_prefix: {short}` for {short} and everything below, `path: {short}/*` for what lies below only")))
        }
        Segment::Literal(_) | Segment::Param(_) | Segment::Regex(..) | Segment::Mixed(_) | Segment::Rest(_) => Ok(()),
    }
}

/// `.` and `..` never reach the router.
fn check_dots(whole: &str, text: &str) -> Result<(), Invalid> {
    let before_parameters = text.split(';').next().unwrap_or_default();
    if matches!(before_parameters, "." | "..") {
        return Err(Invalid::new(format!("`{whole}` has a `{text}` segment, which no request keeps"))
            .help("write the path that is meant"));
    }
    Ok(())
}

fn check_literal(whole: &str, text: &str) -> Result<(), Invalid> {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '%' => check_escape(whole, after)?,
            '?' => {
                return Err(
                    Invalid::new(format!("`{whole}` has a query")).help("conditions on the query stand in `query`")
                );
            }
            '#' => return Err(Invalid::new(format!("`{whole}` has a fragment, which is never sent"))),
            '*' => {
                return Err(Invalid::new(format!(
                    "a `*` stands for all that is left, after the last slash, not as in `{whole}`"
                ))
                .help("use `{name}` for a part of the path, `{name:[*]}` for the character itself"));
            }
            '}' => return Err(unbalanced(whole)),
            _ if is_path_char(c) => {}
            _ => {
                let mut buffer = [0; 4];
                let bytes = c.encode_utf8(&mut buffer).bytes();
                let escaped = bytes.fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"));
                return Err(Invalid::new(format!(
                    "{c:?} is percent-encoded in requests, so `{whole}` would never match"
                ))
                .help(format!("write `{escaped}`")));
            }
        }
        rest = after;
    }
    Ok(())
}

/// `pchar` of RFC 3986 3.3 without the percent sign.
fn is_path_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~!$&'()+,;=:@".contains(c)
}

/// Only the spelling that requests are brought to can match.
fn check_escape(whole: &str, after: &str) -> Result<(), Invalid> {
    let digits = after.get(..2).unwrap_or_default();
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let Some(byte) = byte else {
        return Err(Invalid::new(format!("`%` in `{whole}` is not followed by two hex digits"))
            .help("write `%25` for a percent sign"));
    };
    if matches!(byte, 0..=0x1f | 0x7f | b'/' | b'\\') {
        return Err(Invalid::new(format!("`%{digits}` in `{whole}` would never match: requests with it are refused"))
            .help("nobody agrees whether it parts segments; write `{name}` for a segment"));
    }
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        let plain = char::from(byte);
        return Err(Invalid::new(format!("`%{digits}` in `{whole}` would never match: requests have it as `{plain}`"))
            .help(format!("write `{plain}`")));
    }
    if digits.bytes().any(|b| b.is_ascii_lowercase()) {
        let upper = digits.to_ascii_uppercase();
        return Err(Invalid::new(format!(
            "`%{digits}` in `{whole}` would never match: requests have it as `%{upper}`"
        ))
        .help(format!("write `%{upper}`")));
    }
    Ok(())
}

fn param_name(whole: &str, name: &str) -> Result<Arc<str>, Invalid> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(name.into());
    }
    if name.is_empty() {
        return Err(Invalid::new(format!("a parameter of `{whole}` has no name"))
            .help("write `{name}`, `{name:regex}` or `{name...}`"));
    }
    Err(Invalid::new(format!("`{name}` cannot be the name of a parameter, as in `{whole}`"))
        .help("names are letters, digits and `_`, and begin with a letter or `_`"))
}

fn segment_regex(source: &str) -> Result<Regex, Invalid> {
    if source.contains('/') {
        return Err(Invalid::new(format!(
            "`{source}` has a slash, but a parameter is one segment and never contains one"
        ))
        .help("take a parameter for each segment"));
    }
    if source.is_empty() {
        return Err(Invalid::new("the regular expression after the `:` is missing").help("write `{name}` for anything"));
    }
    whole_regex(source)
}
