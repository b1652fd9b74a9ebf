//! Tells HTTP/2 with prior knowledge from HTTP/1 by a connection's first bytes. Pure: waiting for more bytes, and for how
//! long, is the caller's.

/// What an HTTP/2 client sends first, RFC 9113 section 3.4.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which protocol a connection's first bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// The whole preface is there.
    Http2,
    /// Something else; the HTTP/1 codec decides whether it is any good.
    Http1,
    /// A beginning of the preface: more bytes decide.
    NeedMore,
}

/// Looks at the first bytes of a connection.
pub fn sniff(first: &[u8]) -> Sniff {
    if first.starts_with(PREFACE) {
        Sniff::Http2
    } else if PREFACE.starts_with(first) {
        Sniff::NeedMore
    } else {
        Sniff::Http1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proper_beginning_of_the_preface_needs_more() {
        for length in 0..PREFACE.len() {
            assert_eq!(sniff(&PREFACE[..length]), Sniff::NeedMore, "{length} bytes");
        }
        assert_eq!(sniff(PREFACE), Sniff::Http2);
        assert_eq!(sniff(&[PREFACE, b"\0\0\0\x04"].concat()), Sniff::Http2);
    }

    #[test]
    fn the_first_byte_that_differs_decides() {
        for length in 0..PREFACE.len() {
            let mut bytes = PREFACE[..=length].to_vec();
            bytes[length] ^= 1;
            assert_eq!(sniff(&bytes), Sniff::Http1, "{length} bytes");
        }
        assert_eq!(sniff(b"PUT / HTTP/1.1\r\n"), Sniff::Http1);
    }
}
