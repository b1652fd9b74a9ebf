//! Why a request is not answered by a service, in the words that its client may see. It says nothing about how the reply is
//! sent, and what only the operator may know (`cause`) never leaves for the client.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use tidegate_http1::{Fields, InvalidField, Known, NameRef, RequestError};

use crate::body::BodyError;

/// A refusal: what the client is told, and what the log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Decides the status.
    pub kind: RejectionKind,
    /// Stable and documented, for programs: `no_route`.
    pub code: &'static str,
    /// One sentence for people. The client sees it: nothing internal.
    pub detail: Cow<'static, str>,
    /// What the log says besides; never sent.
    pub cause: Option<String>,
    /// Fields of the reply, such as `allow` or `retry-after`. Boxed, because results carry rejections around.
    pub fields: Box<Fields>,
    /// The connection must not be used for another request.
    pub close: bool,
}

/// What sort of refusal it is. Only [`RejectionKind::status`] turns one into a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectionKind {
    /// The request breaks a rule of HTTP, or may be read in two ways.
    BadRequest,
    /// Nobody has proved who they are.
    Unauthorized,
    /// Known, and not allowed.
    Forbidden,
    /// No route matches.
    NotFound,
    /// A route matches but for its methods.
    MethodNotAllowed,
    /// The client was too slow.
    RequestTimeout,
    /// The body is larger than the limit of its route.
    PayloadTooLarge,
    /// The target is longer than `uri_bytes`.
    UriTooLong,
    /// The body's type is not one that can be handled.
    UnsupportedMediaType,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// The connection is not the one for this host (RFC 9110 15.5.20).
    MisdirectedRequest,
    /// Too many requests.
    TooManyRequests,
    /// More fields or larger ones than allowed.
    HeadersTooLarge,
    /// The gateway's own fault.
    Internal,
    /// A method or coding that the gateway does not know.
    NotImplemented,
    /// The service could not be reached or broke the protocol.
    BadGateway,
    /// Nobody is there to answer now.
    Unavailable,
    /// The service took too long; the detail says which deadline passed.
    GatewayTimeout,
    /// An HTTP version that the gateway does not speak.
    VersionNotSupported,
    /// Trouble on purpose, with the status that the configuration says.
    Injected(StatusCode),
}

impl RejectionKind {
    /// The status of the reply.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Injected(status) => status,
        }
    }

    /// The kind whose status the codec chose for a head that it refused; a bad request for any other status.
    pub fn of_malformed(status: StatusCode) -> Self {
        const CODEC: [RejectionKind; 6] = [
            RejectionKind::UriTooLong,
            RejectionKind::PayloadTooLarge,
            RejectionKind::ExpectationFailed,
            RejectionKind::HeadersTooLarge,
            RejectionKind::NotImplemented,
            RejectionKind::VersionNotSupported,
        ];
        CODEC.into_iter().find(|kind| kind.status() == status).unwrap_or(Self::BadRequest)
    }
}

impl From<RequestError> for Rejection {
    /// What the codec refuses.
    fn from(error: RequestError) -> Self {
        Self::new(RejectionKind::of_malformed(error.status()), error.code(), error.to_string())
    }
}

impl Rejection {
    /// A refusal with this `code` for programs and this `detail` for people.
    pub fn new(kind: RejectionKind, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, code, detail: detail.into(), cause: None, fields: Box::default(), close: false }
    }

    /// No route matches the request.
    pub fn no_route() -> Self {
        Self::new(RejectionKind::NotFound, "no_route", "No route matches this request")
    }

    /// Routes match the request but for its method; `allow` is the value of the `Allow` field (RFC 9110 15.5.6).
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::new(RejectionKind::MethodNotAllowed, "method_not_allowed", "Method not allowed")
            .field(Known::Allow, allow.as_bytes())
            .unwrap_or_else(|_| Self::internal("the value of `Allow` is not a field value".to_owned()))
    }

    /// TRACE that may be forwarded no further: the gateway does not send requests back to clients.
    pub fn no_trace() -> Self {
        let detail = "The gateway itself does not answer TRACE, and `Max-Forwards` lets it go no further";
        Self::new(RejectionKind::NotImplemented, "trace_not_supported", detail)
    }

    /// The gateway's own fault. The client learns nothing about it.
    pub fn internal(cause: String) -> Self {
        Self::new(RejectionKind::Internal, "internal", "Internal error").cause(cause)
    }

    /// The same, with words for the log only.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The same, with a field in the reply.
    pub fn field<'n>(mut self, name: impl Into<NameRef<'n>>, value: &[u8]) -> Result<Self, InvalidField> {
        self.fields.append(name, value)?;
        Ok(self)
    }

    /// The same, telling when asking again may help (RFC 9110, 10.2.3).
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        // Cannot fail: digits are a field value.
        self.fields.append(Known::RetryAfter, seconds.to_string().as_bytes()).ok();
        self
    }

    /// The same, after which the connection is closed.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The status of the reply.
    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// The reply's fields and body: `{"error", "code", "request_id"}`, or a problem document (RFC 9457) for clients whose
    /// `accept` asks for one. Framing fields, `Date` and the request id's own field are left to whoever sends it.
    pub fn render(&self, request_id: &str, accept: Option<&[u8]>) -> (Fields, Bytes) {
        let (media_type, body) = if accept.is_some_and(prefers_problem) {
            (&b"application/problem+json"[..], serde_json::to_vec(&Problem::of(self, request_id)))
        } else {
            (&b"application/json"[..], serde_json::to_vec(&Simple::of(self, request_id)))
        };
        let mut fields = Fields::clone(&self.fields);
        // Neither can fail: the name and values are constants, and structs of strings are always JSON.
        if fields.set(Known::ContentType, media_type).is_err() {
            fields.clear();
        }
        (fields, Bytes::from(body.unwrap_or_default()))
    }
}

/// What a client is told when its request's body failed.
impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        let (kind, detail) = match error {
            BodyError::TooLarge => (RejectionKind::PayloadTooLarge, "Request body is larger than allowed"),
            BodyError::ClientTooSlow => (RejectionKind::RequestTimeout, "Request body was sent too slowly"),
            BodyError::ClientMalformed | BodyError::ClientGone => (RejectionKind::BadRequest, "Malformed request body"),
            BodyError::UpstreamAborted => (RejectionKind::BadGateway, "Service error"),
            BodyError::UpstreamTooSlow => (RejectionKind::GatewayTimeout, "Service timed out: response body"),
        };
        Self::new(kind, error.code(), detail).closing()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status().as_u16(), self.code, self.detail)?;
        match &self.cause {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejection {}

#[derive(Serialize)]
struct Simple<'a> {
    error: &'a str,
    code: &'a str,
    request_id: &'a str,
}

impl<'a> Simple<'a> {
    fn of(rejection: &'a Rejection, request_id: &'a str) -> Self {
        Self { error: &rejection.detail, code: rejection.code, request_id }
    }
}

/// RFC 9457 3. `type` is absent: `about:blank`, so `title` is the status' own phrase.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
}

impl<'a> Problem<'a> {
    fn of(rejection: &'a Rejection, request_id: &'a str) -> Self {
        let status = rejection.status();
        Self {
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: &rejection.detail,
            code: rejection.code,
            request_id,
        }
    }
}

/// Whether `Accept` names problem documents, at least as dear as plain JSON. Wildcards do not ask for them.
fn prefers_problem(accept: &[u8]) -> bool {
    let problem = quality(accept, b"application/problem+json");
    problem > 0 && problem >= quality(accept, b"application/json")
}

/// The quality in thousandths of a media type that is named in full; 0 when it is not (RFC 9110 12.5.1).
fn quality(accept: &[u8], media_type: &[u8]) -> u16 {
    accept
        .split(|&byte| byte == b',')
        .filter_map(|member| {
            let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            parts.next()?.eq_ignore_ascii_case(media_type).then(|| parts.find_map(parse_quality).unwrap_or(1000))
        })
        .max()
        .unwrap_or(0)
}

fn parse_quality(parameter: &[u8]) -> Option<u16> {
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let quality: f32 = std::str::from_utf8(value).ok()?.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
    let thousandths = (quality.clamp(0.0, 1.0) * 1000.0) as u16;
    Some(thousandths)
}
