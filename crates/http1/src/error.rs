//! Why a message was refused, in words that are safe to show to the peer: nothing of the message is quoted.

use std::fmt;

use http::StatusCode;

/// What can be wrong with a line of a header or trailer section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldLineError {
    /// The name is empty, no token, or followed by white space (RFC 9112 5.1).
    Name,
    /// The value holds a control byte (RFC 9110 5.5).
    Value,
    /// A line starts with white space, as obs-fold does (RFC 9112 5.2).
    Folded,
    /// A line does not end in CRLF (RFC 9112 2.2 allows to accept less; we don't).
    LineEnd,
    /// There are more fields than allowed.
    TooMany,
    /// The section, or the head that contains it, is larger than allowed.
    TooLarge,
}

/// Why a request was refused. The connection must be closed after the answer: where the next request would begin is
/// unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The first line is not `method SP target SP version CRLF` (RFC 9112 3).
    RequestLine,
    /// The method is not a token.
    Method,
    /// The method is longer than any in use.
    MethodTooLong,
    /// The target holds a byte that no URI has, or is in no form that its method allows (RFC 9112 3.2).
    Target,
    /// The target is longer than allowed.
    TargetTooLong,
    /// The version is neither 1.0 nor 1.1.
    Version,
    /// A field line is malformed or beyond the limits.
    Field(FieldLineError),
    /// HTTP/1.1 without Host (RFC 9112 3.2).
    HostMissing,
    /// Several Host fields (RFC 9112 3.2).
    HostRepeated,
    /// The Host, or the authority in the target, is not `host[:port]` (RFC 9110 7.2).
    Host,
    /// The target names one host and the Host field another.
    HostMismatch,
    /// Content-Length is not one plain number (RFC 9112 6.3).
    ContentLength,
    /// Content-Length beside Transfer-Encoding (RFC 9112 6.1).
    LengthAndEncoding,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1).
    EncodingInHttp10,
    /// Transfer-Encoding is repeated or malformed.
    TransferEncoding,
    /// Transfer-Encoding is something else than `chunked` (RFC 9112 6.1).
    UnsupportedEncoding,
}

/// Why a response was refused: the sender's fault, whatever the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// The first line is not `version SP status [SP reason] CRLF` (RFC 9112 4).
    StatusLine,
    /// The status is not between 100 and 599 (RFC 9110 15).
    Status,
    /// The version is neither 1.0 nor 1.1.
    Version,
    /// A field line is malformed or beyond the limits.
    Field(FieldLineError),
    /// Content-Length is not one plain number (RFC 9112 6.3).
    ContentLength,
    /// Content-Length beside Transfer-Encoding (RFC 9112 6.1).
    LengthAndEncoding,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1).
    EncodingInHttp10,
    /// Transfer-Encoding is something else than one `chunked`.
    TransferEncoding,
}

/// Why a body cannot be read on. Nothing that follows on the connection can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk's size is not made of hexadecimal digits (RFC 9112 7.1).
    ChunkSize,
    /// A chunk's size has more than 16 digits.
    ChunkSizeTooLong,
    /// A chunk extension is malformed (RFC 9112 7.1.1).
    ChunkExtension,
    /// The extensions of a chunk, or of all chunks together, are longer than allowed.
    ChunkExtensionTooLong,
    /// A chunk's size or data does not end in CRLF.
    ChunkEnd,
    /// A trailer line is malformed or beyond the limits.
    Trailer(FieldLineError),
    /// The peer closed before the body was complete.
    Incomplete,
}

impl FieldLineError {
    const fn status(self) -> StatusCode {
        match self {
            Self::Name | Self::Value | Self::Folded | Self::LineEnd => StatusCode::BAD_REQUEST,
            Self::TooMany | Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Name => "invalid_field_name",
            Self::Value => "invalid_field_value",
            Self::Folded => "folded_field",
            Self::LineEnd => "invalid_line_end",
            Self::TooMany => "too_many_fields",
            Self::TooLarge => "fields_too_large",
        }
    }
}

impl RequestError {
    /// The status to refuse the request with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::MethodTooLong | Self::UnsupportedEncoding => StatusCode::NOT_IMPLEMENTED,
            Self::Field(error) => error.status(),
            Self::RequestLine
            | Self::Method
            | Self::Target
            | Self::HostMissing
            | Self::HostRepeated
            | Self::Host
            | Self::HostMismatch
            | Self::ContentLength
            | Self::LengthAndEncoding
            | Self::EncodingInHttp10
            | Self::TransferEncoding => StatusCode::BAD_REQUEST,
        }
    }

    /// A stable name for logs and error bodies.
    pub const fn code(self) -> &'static str {
        match self {
            Self::RequestLine => "invalid_request_line",
            Self::Method => "invalid_method",
            Self::MethodTooLong => "method_too_long",
            Self::Target => "invalid_target",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "unsupported_version",
            Self::Field(error) => error.code(),
            Self::HostMissing => "missing_host",
            Self::HostRepeated => "repeated_host",
            Self::Host => "invalid_host",
            Self::HostMismatch => "host_mismatch",
            Self::ContentLength => "invalid_content_length",
            Self::LengthAndEncoding => "content_length_with_transfer_encoding",
            Self::EncodingInHttp10 => "transfer_encoding_in_http_1_0",
            Self::TransferEncoding => "invalid_transfer_encoding",
            Self::UnsupportedEncoding => "unsupported_transfer_encoding",
        }
    }
}

impl ResponseError {
    /// A stable name for logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::StatusLine => "invalid_status_line",
            Self::Status => "invalid_status",
            Self::Version => "unsupported_version",
            Self::Field(error) => error.code(),
            Self::ContentLength => "invalid_content_length",
            Self::LengthAndEncoding => "content_length_with_transfer_encoding",
            Self::EncodingInHttp10 => "transfer_encoding_in_http_1_0",
            Self::TransferEncoding => "invalid_transfer_encoding",
        }
    }
}

impl BodyError {
    /// The status to refuse a request with whose body failed like this.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Trailer(error) => error.status(),
            Self::ChunkSize
            | Self::ChunkSizeTooLong
            | Self::ChunkExtension
            | Self::ChunkExtensionTooLong
            | Self::ChunkEnd
            | Self::Incomplete => StatusCode::BAD_REQUEST,
        }
    }

    /// A stable name for logs and error bodies.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ChunkSize => "invalid_chunk_size",
            Self::ChunkSizeTooLong => "chunk_size_too_long",
            Self::ChunkExtension => "invalid_chunk_extension",
            Self::ChunkExtensionTooLong => "chunk_extension_too_long",
            Self::ChunkEnd => "invalid_chunk_end",
            Self::Trailer(error) => error.code(),
            Self::Incomplete => "incomplete_body",
        }
    }
}

impl From<FieldLineError> for RequestError {
    fn from(error: FieldLineError) -> Self {
        Self::Field(error)
    }
}

impl From<FieldLineError> for ResponseError {
    fn from(error: FieldLineError) -> Self {
        Self::Field(error)
    }
}

impl From<FieldLineError> for BodyError {
    fn from(error: FieldLineError) -> Self {
        Self::Trailer(error)
    }
}

impl fmt::Display for FieldLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "a field name is not a token directly followed by a colon",
            Self::Value => "a field value contains control characters",
            Self::Folded => "a field line starts with white space",
            Self::LineEnd => "a line does not end in CRLF",
            Self::TooMany => "there are too many fields",
            Self::TooLarge => "the fields are too large",
        })
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the request line is malformed",
            Self::Method => "the method is not a token",
            Self::MethodTooLong => "the method is too long",
            Self::Target => "the request target is malformed",
            Self::TargetTooLong => "the request target is too long",
            Self::Version => "the HTTP version is not supported here",
            Self::Field(error) => return error.fmt(f),
            Self::HostMissing => "the Host field is missing",
            Self::HostRepeated => "there are several Host fields",
            Self::Host => "the host is malformed",
            Self::HostMismatch => "the Host field differs from the host in the request target",
            Self::ContentLength => "Content-Length is not one plain number",
            Self::LengthAndEncoding => "there are both Content-Length and Transfer-Encoding",
            Self::EncodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding",
            Self::TransferEncoding => "Transfer-Encoding is malformed",
            Self::UnsupportedEncoding => "no Transfer-Encoding but chunked is supported",
        })
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StatusLine => "the status line is malformed",
            Self::Status => "the status is not between 100 and 599",
            Self::Version => "the HTTP version is not supported",
            Self::Field(error) => return error.fmt(f),
            Self::ContentLength => "Content-Length is not one plain number",
            Self::LengthAndEncoding => "there are both Content-Length and Transfer-Encoding",
            Self::EncodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding",
            Self::TransferEncoding => "Transfer-Encoding is not just chunked",
        })
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ChunkSize => "a chunk size is not a hexadecimal number",
            Self::ChunkSizeTooLong => "a chunk size is too long",
            Self::ChunkExtension => "a chunk extension is malformed",
            Self::ChunkExtensionTooLong => "the chunk extensions are too long",
            Self::ChunkEnd => "a chunk does not end in CRLF",
            Self::Trailer(error) => return error.fmt(f),
            Self::Incomplete => "the body is incomplete",
        })
    }
}

impl std::error::Error for FieldLineError {}
impl std::error::Error for RequestError {}
impl std::error::Error for ResponseError {}
impl std::error::Error for BodyError {}
