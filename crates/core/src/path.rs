//! The one canonical spelling of a request's path: made once, then used for matching, limits, cache keys and forwarding.
//! Spellings that two parties may read differently are refused, never guessed. It does not look at hosts or routes.

use std::fmt;

use crate::rejection::{Rejection, RejectionKind};

/// Why a request target has no canonical spelling. `Display` is safe to show to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathProblem {
    /// Not `/...` (nor `*`).
    NotOrigin,
    /// `%` without two hexadecimal digits.
    BadPercent,
    /// `%2F`: a slash for some, a letter for others.
    EncodedSlash,
    /// `\` or `%5C`: a slash for some.
    Backslash,
    /// A control character, a space or a byte outside ASCII, plain or (for controls) percent-encoded.
    Control,
    /// `..` that leads above the root.
    AboveRoot,
    /// A dot, slash, backslash or NUL that appears when the path is decoded twice, or decoded from overlong UTF-8.
    HiddenByte,
    /// `..;` or `.;`: a dot segment for servers that cut path parameters.
    DotParameter,
    /// `#` is not part of a request target (RFC 9112 3.2).
    Fragment,
}

impl PathProblem {
    /// A stable name for logs, metrics and the reply's `code`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotOrigin => "path_not_origin_form",
            Self::BadPercent => "path_bad_percent",
            Self::EncodedSlash => "path_encoded_slash",
            Self::Backslash => "path_backslash",
            Self::Control => "path_control",
            Self::AboveRoot => "path_above_root",
            Self::HiddenByte => "path_hidden_byte",
            Self::DotParameter => "path_dot_parameter",
            Self::Fragment => "path_fragment",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotOrigin => "The request target must begin with `/`",
            Self::BadPercent => "The path has a `%` that two hexadecimal digits do not follow",
            Self::EncodedSlash => "The path has an encoded slash (`%2F`), which servers read differently",
            Self::Backslash => "The path has a backslash, which servers read differently",
            Self::Control => "The request target has a character that must be percent-encoded or is not allowed at all",
            Self::AboveRoot => "The path leads above the root",
            Self::HiddenByte => "The path hides a dot, slash, backslash or NUL behind a second encoding",
            Self::DotParameter => "The path has a parameter (`;`) on a dot segment, which servers read differently",
            Self::Fragment => "The request target has a fragment (`#`)",
        }
    }
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for PathProblem {}

impl From<PathProblem> for Rejection {
    fn from(problem: PathProblem) -> Self {
        Self::new(RejectionKind::BadRequest, problem.code(), problem.text())
    }
}

/// Checks an origin-form target and rewrites its path in place to the canonical spelling: `/a/../%62?x=1` becomes `/b?x=1`.
/// Returns the length of the path part. `*` (of `OPTIONS *`) stays as it is. On an error the target is unchanged.
///
/// Percent-encoded unreserved characters are decoded and the hexadecimal digits of the others are upper case (RFC 3986
/// 6.2.2), characters that a path may not hold are percent-encoded, dot segments are removed (RFC 3986 5.2.4, the encoded
/// ones too) and neighbouring slashes merged, as they come: `/a//../b` is `/b`. The query is checked but kept as it is.
pub fn canonicalize(target: &mut String) -> Result<usize, PathProblem> {
    if target == "*" {
        return Ok(1);
    }
    let (scanned, path_end) = match canonical_prefix(target.as_bytes())? {
        Prefix::Whole(path_end) => return check_query(target, path_end).map(|()| path_end),
        Prefix::Until(scanned) => (scanned, target.find('?').unwrap_or(target.len())),
    };
    check_query(target, path_end)?;
    let rewritten = rewrite(target.as_bytes().get(..path_end).unwrap_or_default(), scanned)?;
    let length = rewritten.len();
    target.replace_range(..path_end, &rewritten);
    Ok(length)
}

/// How far the scan came without finding anything to rewrite.
enum Prefix {
    /// Nothing to do; the path ends here.
    Whole(usize),
    /// Everything before this byte is canonical. It is the start of a segment, or lies inside of one.
    Until(usize),
}

fn canonical_prefix(bytes: &[u8]) -> Result<Prefix, PathProblem> {
    if bytes.first() != Some(&b'/') {
        return Err(PathProblem::NotOrigin);
    }
    let mut previous = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match CLASS.get(usize::from(byte)) {
            Some(Class::Plain) => {}
            Some(Class::Slash | Class::Dot) if previous != b'/' => {}
            Some(Class::Question) => return Ok(Prefix::Whole(at)),
            Some(Class::Refused(problem)) => return Err(*problem),
            Some(Class::Slash | Class::Dot | Class::Percent | Class::Encode) | None => return Ok(Prefix::Until(at)),
        }
        previous = byte;
    }
    Ok(Prefix::Whole(bytes.len()))
}

fn check_query(target: &str, path_end: usize) -> Result<(), PathProblem> {
    for &byte in target.as_bytes().get(path_end..).unwrap_or_default() {
        match byte {
            b'#' => return Err(PathProblem::Fragment),
            0x21..=0x7e => {}
            _ => return Err(PathProblem::Control),
        }
    }
    Ok(())
}

/// Writes the canonical spelling of `path`, of which the first `scanned` bytes are known to be canonical.
fn rewrite(path: &[u8], scanned: usize) -> Result<String, PathProblem> {
    let segment_start = path.iter().take(scanned).rposition(|&byte| byte == b'/').unwrap_or(0);
    let mut out = String::with_capacity(path.len() + 16);
    out.extend(path.iter().take(segment_start).map(|&byte| char::from(byte)));
    let rest = path.get(segment_start + 1..).unwrap_or_default();
    let mut segments = rest.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let before = out.len();
        out.push('/');
        push_segment(segment, &mut out)?;
        match out.get(before + 1..).unwrap_or_default() {
            // An empty segment in the middle is a doubled slash; at the end it is the trailing slash, which counts.
            "" | "." if !last => out.truncate(before),
            "." => out.truncate(before + 1),
            ".." => step_up(&mut out, before, last)?,
            segment if is_dot_parameter(segment) => return Err(PathProblem::DotParameter),
            _ => {}
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

/// Removes the `..` written after `before`, and the segment before it.
fn step_up(out: &mut String, before: usize, last: bool) -> Result<(), PathProblem> {
    out.truncate(before);
    let parent = out.rfind('/').ok_or(PathProblem::AboveRoot)?;
    out.truncate(parent + usize::from(last));
    Ok(())
}

fn is_dot_parameter(segment: &str) -> bool {
    let rest = segment.strip_prefix("..").or_else(|| segment.strip_prefix('.'));
    rest.is_some_and(|rest| rest.starts_with(';') || rest.starts_with("%3B"))
}

fn push_segment(segment: &[u8], out: &mut String) -> Result<(), PathProblem> {
    let (start, mut rest, mut may_hide) = (out.len(), segment, false);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match CLASS.get(usize::from(byte)) {
            Some(Class::Percent) => {
                let decoded = hex_pair(after).ok_or(PathProblem::BadPercent)?;
                rest = after.get(2..).unwrap_or_default();
                may_hide |= decoded == b'%';
                push_decoded(decoded, rest, out)?;
            }
            Some(Class::Encode) => push_encoded(byte, out),
            Some(Class::Refused(problem)) => return Err(*problem),
            Some(Class::Plain | Class::Slash | Class::Dot | Class::Question) | None => out.push(char::from(byte)),
        }
    }
    let written = out.get(start..).unwrap_or_default();
    if may_hide && hides(written) { Err(PathProblem::HiddenByte) } else { Ok(()) }
}

/// Whether some `%25` hides a byte. Only what is written says so: `%252%45` and `%25%32e` become `%252E` and `%252e`.
fn hides(written: &str) -> bool {
    written.match_indices('%').any(|(at, _)| {
        let after = written.as_bytes().get(at + 1..).unwrap_or_default();
        match decoded_at_last(after) {
            Some((b'.' | b'/' | b'\\' | b';' | 0..=0x1f | 0x7f, _)) => after.starts_with(b"25"),
            Some((first, rest)) => is_overlong(first, rest),
            None => false,
        }
    })
}

/// Writes what `%XX` stands for, `rest` being what follows it.
fn push_decoded(decoded: u8, rest: &[u8], out: &mut String) -> Result<(), PathProblem> {
    match decoded {
        b'/' => Err(PathProblem::EncodedSlash),
        b'\\' => Err(PathProblem::Backslash),
        0..=0x1f | 0x7f => Err(PathProblem::Control),
        _ if is_overlong(decoded, rest) => Err(PathProblem::HiddenByte),
        _ if is_unreserved(decoded) => {
            out.push(char::from(decoded));
            Ok(())
        }
        _ => {
            push_encoded(decoded, out);
            Ok(())
        }
    }
}

/// The byte that the text after a `%` means when it is decoded as often as it is encoded, and what follows it.
fn decoded_at_last(mut rest: &[u8]) -> Option<(u8, &[u8])> {
    while let Some(after) = rest.strip_prefix(b"25") {
        rest = after;
    }
    Some((hex_pair(rest)?, rest.get(2..).unwrap_or_default()))
}

/// Overlong UTF-8 (RFC 3629 3), by which careless decoders were made to see `.` and `/`; each of its bytes may be encoded more than once.
fn is_overlong(first: u8, rest: &[u8]) -> bool {
    let second = || rest.strip_prefix(b"%").and_then(decoded_at_last).map(|(second, _)| second);
    match first {
        0xc0 | 0xc1 => matches!(second(), Some(0x80..=0xbf)),
        0xe0 => matches!(second(), Some(0x80..=0x9f)),
        0xf0 => matches!(second(), Some(0x80..=0x8f)),
        _ => false,
    }
}

/// The byte that two hexadecimal digits at the start of `digits` mean.
pub(crate) fn hex_pair(digits: &[u8]) -> Option<u8> {
    let high = char::from(*digits.first()?).to_digit(16)?;
    let low = char::from(*digits.get(1)?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// Writes `%XX` with upper-case digits (RFC 3986 2.1).
pub(crate) fn push_encoded(byte: u8, out: &mut String) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.push('%');
    out.extend(DIGITS.get(usize::from(byte >> 4)));
    out.extend(DIGITS.get(usize::from(byte & 15)));
}

/// RFC 3986 2.3.
pub(crate) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What the scan does with a byte of a path.
#[derive(Clone, Copy)]
enum Class {
    /// Stands for itself: unreserved, sub-delims, `:` and `@` (RFC 3986 3.3).
    Plain,
    Slash,
    Dot,
    Percent,
    Question,
    /// Printable, but not allowed in a path: percent-encoded, as browsers do for most of them.
    Encode,
    Refused(PathProblem),
}

static CLASS: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Refused(PathProblem::Control); 256];
    let mut byte: u8 = 0;
    while byte < 0x7f {
        #[expect(clippy::indexing_slicing, reason = "runs at compile time, where a wrong index fails the build")]
        {
            classes[byte as usize] = class(byte);
        }
        byte += 1;
    }
    classes
}

const fn class(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'.' => Class::Dot,
        b'%' => Class::Percent,
        b'?' => Class::Question,
        b'#' => Class::Refused(PathProblem::Fragment),
        b'\\' => Class::Refused(PathProblem::Backslash),
        b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => Class::Encode,
        0x21..=0x7e => Class::Plain,
        _ => Class::Refused(PathProblem::Control),
    }
}
