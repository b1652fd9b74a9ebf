//! The status line (RFC 9112 4).

use http::StatusCode;

use crate::{FieldLineError, Fields, Limits, ResponseError, ResponseHead, Version, ascii, reader::Section};

pub(crate) struct StatusLine<'a> {
    version: Version,
    status: StatusCode,
    reason: &'a [u8],
}

impl Section for ResponseHead {
    type Line<'a> = StatusLine<'a>;
    type Error = ResponseError;

    fn parse<'a>(bytes: &'a [u8], _: &Limits) -> Result<Option<(StatusLine<'a>, usize)>, ResponseError> {
        let Some(version) = version(bytes)? else { return Ok(None) };
        let Some(status) = status(bytes.get(VERSION..).unwrap_or_default())? else { return Ok(None) };
        let rest = bytes.get(VERSION + STATUS..).unwrap_or_default();
        let Some(end) = ascii::find_control(rest) else {
            return if matches!(rest, [] | [b' ', ..]) { Ok(None) } else { Err(ResponseError::StatusLine) };
        };
        match rest.split_at_checked(end) {
            Some(([] | [b' ', ..], [b'\r', b'\n', ..])) => {}
            Some(([] | [b' ', ..], [b'\r'])) => return Ok(None),
            Some(([] | [b' ', ..], [b'\r' | b'\n', ..])) => return Err(FieldLineError::LineEnd.into()),
            _ => return Err(ResponseError::StatusLine),
        }
        let reason = rest.get(1..end).unwrap_or_default();
        Ok(Some((StatusLine { version, status, reason }, VERSION + STATUS + end + 2)))
    }

    fn fill(&mut self, line: StatusLine<'_>) {
        self.version = line.version;
        self.status = line.status;
        self.reason.clear();
        let standard = line.status.canonical_reason().is_some_and(|reason| reason.as_bytes() == line.reason);
        if !standard {
            self.reason.push_str(std::str::from_utf8(line.reason).unwrap_or_default());
        }
    }

    fn fields(&mut self) -> &mut Fields {
        &mut self.fields
    }

    fn longest_line(limits: &Limits) -> usize {
        limits.head_bytes
    }
}

/// The version and the space after it.
const VERSION: usize = "HTTP/1.1 ".len();
const STATUS: usize = 3;

fn version(bytes: &[u8]) -> Result<Option<Version>, ResponseError> {
    match bytes {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', ..] => Ok(Some(Version::Http11)),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b' ', ..] => Ok(Some(Version::Http10)),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b' ', ..]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(ResponseError::Version)
        }
        _ if bytes.len() < VERSION && could_be_version(bytes) => Ok(None),
        _ => Err(ResponseError::StatusLine),
    }
}

fn could_be_version(bytes: &[u8]) -> bool {
    bytes.iter().zip(b"HTTP/0.0 ").all(|(&byte, &like)| if like == b'0' { byte.is_ascii_digit() } else { byte == like })
}

fn status(bytes: &[u8]) -> Result<Option<StatusCode>, ResponseError> {
    let digits = bytes.get(..STATUS).unwrap_or(bytes);
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(ResponseError::StatusLine);
    }
    if digits.len() < STATUS {
        return Ok(None);
    }
    match StatusCode::from_bytes(digits) {
        Ok(status) if status.as_u16() < 600 => Ok(Some(status)),
        _ => Err(ResponseError::Status),
    }
}
