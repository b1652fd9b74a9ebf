//! The little that the backend and the load generator share: just enough HTTP/1 to know where a message ends.
//! Both believe what they read; neither is an HTTP implementation.

use memchr::memmem;

/// Where the first head of `bytes` ends, its empty line included.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// How a head says that its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes, perhaps none.
    Length(usize),
    /// After the last chunk.
    Chunked,
}

/// Reads the framing fields of `head`; without any there is no body.
pub fn body_of(head: &[u8]) -> Body {
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, rest) = line.split_at(colon);
        let value = rest.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value).unwrap_or_default();
            return Body::Length(digits.parse().unwrap_or(0));
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Body::Chunked;
        }
    }
    Body::Length(0)
}

/// The length of the first message in `bytes`, once all of it is there.
pub fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = head_end(bytes)?;
    let (fields, rest) = bytes.split_at(head);
    match body_of(fields) {
        Body::Length(length) => (rest.len() >= length).then_some(head + length),
        Body::Chunked => rest.ends_with(b"0\r\n\r\n").then_some(bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, body_of, message_length};

    #[test]
    fn a_message_is_complete_when_its_body_is() {
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(message_length(reply), Some(reply.len()));
        assert_eq!(message_length(&reply[..reply.len() - 1]), None);
        assert_eq!(message_length(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(27));
    }

    #[test]
    fn a_chunked_message_ends_with_its_last_chunk() {
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(body_of(head), Body::Chunked);
        assert_eq!(message_length(head), None);
        assert!(message_length(&[head.as_slice(), b"1\r\nx\r\n0\r\n\r\n"].concat()).is_some());
    }
}
