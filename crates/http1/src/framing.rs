//! Where a body ends (RFC 9112 6) and whether the connection lives on after it (RFC 9112 9.3). Two answers that
//! could both be right are an error: that is the whole defence against request smuggling.

use http::{Method, StatusCode};

use crate::{Fields, Known, RequestError, RequestHead, ResponseError, ResponseHead, Version, ascii};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and no field that speaks of one counts.
    None,
    /// So many bytes; 0 if Content-Length said so.
    Length(u64),
    /// Chunks up to the empty one.
    Chunked,
    /// Everything until the connection closes. Responses only.
    Close,
}

/// How a request's body ends (RFC 9112 6.3). Every error is one after which the connection must close.
pub fn request_framing(head: &RequestHead) -> Result<Framing, RequestError> {
    let length = content_length(&head.fields).map_err(|Malformed| RequestError::ContentLength)?;
    if !head.fields.contains(Known::TransferEncoding) {
        return Ok(length.map_or(Framing::None, Framing::Length));
    }
    if length.is_some() {
        return Err(RequestError::LengthAndEncoding);
    }
    if head.version == Version::Http10 {
        return Err(RequestError::EncodingInHttp10);
    }
    match head.fields.single(Known::TransferEncoding) {
        Ok(Some(value)) if value.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        Ok(Some(value)) if is_list_without_chunked(value) => Err(RequestError::UnsupportedEncoding),
        _ => Err(RequestError::TransferEncoding),
    }
}

/// How the body of a response to a request of this method ends (RFC 9112 6.3). Contradicting fields are refused also
/// where the response has no body, because they would go on to the client.
pub fn response_framing(request_method: &Method, head: &ResponseHead) -> Result<Framing, ResponseError> {
    let length = content_length(&head.fields).map_err(|Malformed| ResponseError::ContentLength)?;
    let chunked = is_chunked(head)?;
    if chunked && length.is_some() {
        return Err(ResponseError::LengthAndEncoding);
    }
    Ok(match length {
        _ if has_no_body(request_method, head.status) => Framing::None,
        Some(length) => Framing::Length(length),
        None if chunked => Framing::Chunked,
        None => Framing::Close,
    })
}

/// Whether the client wants to send another request after this one.
pub fn request_keep_alive(head: &RequestHead) -> bool {
    keep_alive(head.version, &head.fields)
}

/// Whether the server will answer another request after this one. Never after a body that ends by closing.
pub fn response_keep_alive(head: &ResponseHead, framing: Framing) -> bool {
    framing != Framing::Close && keep_alive(head.version, &head.fields)
}

struct Malformed;

/// The one plain number in Content-Length: digits only, without leading zeros, and no larger than what a signed
/// number holds, which is how most of those count who read it next.
fn content_length(fields: &Fields) -> Result<Option<u64>, Malformed> {
    let Some(value) = fields.single(Known::ContentLength).map_err(|_| Malformed)? else { return Ok(None) };
    if value.is_empty() || value.len() > 1 && value.first() == Some(&b'0') {
        return Err(Malformed);
    }
    let mut number: u64 = 0;
    for byte in value {
        let digit = if byte.is_ascii_digit() { byte - b'0' } else { return Err(Malformed) };
        number = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit))).ok_or(Malformed)?;
    }
    if i64::try_from(number).is_ok() { Ok(Some(number)) } else { Err(Malformed) }
}

/// A well-formed list of codings that we don't have, as opposed to garbage or `chunked` in disguise.
fn is_list_without_chunked(value: &[u8]) -> bool {
    value
        .split(|&b| b == b',')
        .map(ascii::trim)
        .all(|coding| ascii::is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked"))
}

fn is_chunked(head: &ResponseHead) -> Result<bool, ResponseError> {
    match head.fields.single(Known::TransferEncoding) {
        Ok(None) => Ok(false),
        Ok(Some(_)) if head.version == Version::Http10 => Err(ResponseError::EncodingInHttp10),
        Ok(Some(value)) if value.eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(ResponseError::TransferEncoding),
    }
}

fn has_no_body(request_method: &Method, status: StatusCode) -> bool {
    *request_method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || *request_method == Method::CONNECT && status.is_success()
}

fn keep_alive(version: Version, fields: &Fields) -> bool {
    let mut keep = version != Version::Http10;
    if !fields.contains(Known::Connection) {
        return keep;
    }
    for option in fields.tokens(Known::Connection) {
        // What is no token may mean `close` to others, and closing is never wrong.
        if option.eq_ignore_ascii_case(b"close") || !ascii::is_token(option) {
            return false;
        }
        keep |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    keep
}
