//! The request line (RFC 9112 3).

use http::Method;

use crate::{FieldLineError, Fields, Limits, RequestError, RequestHead, Version, ascii, reader::Section, target};

/// Longer than any registered method (`UPDATEREDIRECTREF`).
const METHOD_BYTES: usize = 24;

pub(crate) struct RequestLine<'a> {
    method: Method,
    target: &'a str,
    version: Version,
}

impl Section for RequestHead {
    type Line<'a> = RequestLine<'a>;
    type Error = RequestError;

    fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Option<(RequestLine<'a>, usize)>, RequestError> {
        // RFC 9112 2.2: one empty line, which old clients sent after a body, is ignored.
        let (start, bytes) = match bytes {
            [b'\r', b'\n', rest @ ..] => (2, rest),
            [] | [b'\r'] => return Ok(None),
            _ => (0, bytes),
        };
        let Some((method, bytes_left)) = method(bytes)? else { return Ok(None) };
        let Some((target, version)) = target_text(bytes_left, limits)? else { return Ok(None) };
        let Some(version) = version_and_end(version)? else { return Ok(None) };
        target::check_form(&method, target)?;
        let length = bytes.len() - bytes_left.len() + target.len() + VERSION_AND_END;
        Ok(Some((RequestLine { method, target, version }, start + length)))
    }

    fn fill(&mut self, line: RequestLine<'_>) {
        self.method = line.method;
        self.target.clear();
        self.target.push_str(line.target);
        self.version = line.version;
    }

    fn fields(&mut self) -> &mut Fields {
        &mut self.fields
    }

    fn longest_line(limits: &Limits) -> usize {
        limits.target_bytes.saturating_add(2 + METHOD_BYTES + 1)
    }
}

/// The method, and the bytes after the space that ends it.
#[inline]
fn method(bytes: &[u8]) -> Result<Option<(Method, &[u8])>, RequestError> {
    match bytes {
        // Nearly all requests there are.
        [b'G', b'E', b'T', b' ', rest @ ..] => return Ok(Some((Method::GET, rest))),
        [b'P', b'O', b'S', b'T', b' ', rest @ ..] => return Ok(Some((Method::POST, rest))),
        _ => {}
    }
    let within = bytes.get(..=METHOD_BYTES).unwrap_or(bytes);
    let Some(end) = within.iter().position(|&b| !ascii::is_token_byte(b)) else {
        return if within.len() > METHOD_BYTES { Err(RequestError::MethodTooLong) } else { Ok(None) };
    };
    match bytes.split_at_checked(end) {
        Some((method, [b' ', rest @ ..])) if !method.is_empty() => {
            let method = Method::from_bytes(method).map_err(|_| RequestError::Method)?;
            Ok(Some((method, rest)))
        }
        Some((_, [b'\r' | b'\n', ..])) => Err(RequestError::RequestLine),
        _ => Err(RequestError::Method),
    }
}

/// The target, and the bytes after the space that ends it.
#[inline]
fn target_text<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Option<(&'a str, &'a [u8])>, RequestError> {
    let within = limits.target_bytes.checked_add(1).and_then(|most| bytes.get(..most)).unwrap_or(bytes);
    let mut end = 0;
    loop {
        let rest = within.get(end..).unwrap_or_default();
        let Some(length) = ascii::find_target_end(rest) else {
            return if within.len() > limits.target_bytes { Err(RequestError::TargetTooLong) } else { Ok(None) };
        };
        end += length;
        match within.split_at_checked(end) {
            Some((target, [b' ', ..])) if !target.is_empty() => {
                let target = std::str::from_utf8(target).map_err(|_| RequestError::Target)?;
                return Ok(Some((target, bytes.get(end + 1..).unwrap_or_default())));
            }
            Some((target, [b'`', ..])) if target.contains(&b'?') => end += 1,
            Some((_, [b'\r' | b'\n', ..])) => return Err(RequestError::RequestLine),
            _ => return Err(RequestError::Target),
        }
    }
}

/// The space before the version, the version and CRLF.
const VERSION_AND_END: usize = " HTTP/1.1\r\n".len();

#[inline]
fn version_and_end(bytes: &[u8]) -> Result<Option<Version>, RequestError> {
    match bytes {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), rest @ ..] => match rest {
            [b'\r', b'\n', ..] => Ok(Some(if *minor == b'1' { Version::Http11 } else { Version::Http10 })),
            [] | [b'\r'] => Ok(None),
            [b'\r' | b'\n', ..] => Err(FieldLineError::LineEnd.into()),
            _ => Err(RequestError::RequestLine),
        },
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, ..] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(RequestError::Version)
        }
        _ if bytes.len() < 8 && could_be_version(bytes) => Ok(None),
        _ => Err(RequestError::RequestLine),
    }
}

fn could_be_version(bytes: &[u8]) -> bool {
    bytes.iter().zip(b"HTTP/0.0").all(|(&byte, &like)| if like == b'0' { byte.is_ascii_digit() } else { byte == like })
}
