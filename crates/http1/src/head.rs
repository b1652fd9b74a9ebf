//! What stands above a body: the request's and the response's head as data. Reading them is `reader`, judging them
//! `framing` and `target`.

use std::fmt;

use http::{Method, StatusCode};

use crate::Fields;

/// The version a message was written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2, so that its messages can use the same types. This codec never reads it.
    Http2,
}

/// The head of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, in its original case: methods are case-sensitive.
    pub method: Method,
    /// The target as received: origin form, absolute form, authority form (CONNECT only) or `*` (OPTIONS only).
    pub target: String,
    /// The version of the message.
    pub version: Version,
    /// The header section.
    pub fields: Fields,
}

/// The head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status, from 100 to 599.
    pub status: StatusCode,
    /// The reason phrase; empty when it is the standard one, absent or not UTF-8.
    pub reason: String,
    /// The version of the message.
    pub version: Version,
    /// The header section.
    pub fields: Fields,
}

/// How much of a head is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head, from the first line to the empty one.
    pub head_bytes: usize,
    /// Field lines.
    pub fields: usize,
    /// Bytes of a request's target.
    pub target_bytes: usize,
}

impl RequestHead {
    /// Back to the default, keeping the memory.
    pub fn clear(&mut self) {
        self.method = Method::default();
        self.target.clear();
        self.version = Version::default();
        self.fields.clear();
    }
}

impl ResponseHead {
    /// Back to the default, keeping the memory.
    pub fn clear(&mut self) {
        self.status = StatusCode::default();
        self.reason.clear();
        self.version = Version::default();
        self.fields.clear();
    }
}

impl Default for Limits {
    /// 32 KiB, 100 fields, 8 KiB of target.
    fn default() -> Self {
        Self { head_bytes: 32 * 1024, fields: 100, target_bytes: 8 * 1024 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}
