//! One try at one endpoint: what it is given, and how it may fail. A failure says whose fault it was and whether the same
//! request may be tried again.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tidegate_core::body::{Body, BodyError};
use tidegate_core::clock::Clock;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::{RequestHead, ResponseHead};

use crate::alarm::Alarm;
use crate::buffers::Buffers;
use crate::io::Io;
use crate::net::Net;

/// An alarm that all who work on one exchange share, since one task polls them all.
pub(crate) type SharedAlarm = Rc<RefCell<Alarm>>;

/// What an attempt needs to know.
pub(crate) struct Attempt<'a> {
    /// The head as the service shall see it, without framing fields.
    pub(crate) head: &'a RequestHead,
    pub(crate) body: Body,
    /// The upgrade that is asked for, if its protocol is allowed.
    pub(crate) upgrade: Option<&'a str>,
    /// Told of every 1xx except 100 and 101.
    pub(crate) interim: Option<&'a dyn Fn(ResponseHead)>,
    /// Longest silence while the reply's head is awaited, and inside its body.
    pub(crate) read: Duration,
    /// The same for replies that are streams by nature: event streams, gRPC, upgrades.
    pub(crate) stream_idle: Duration,
    /// Longest stall in taking the request.
    pub(crate) write: Duration,
    /// Up to the reply's head.
    pub(crate) deadline: Option<Instant>,
    pub(crate) clock: &'a Clock,
    pub(crate) net: &'a Net,
    pub(crate) alarm: &'a SharedAlarm,
    pub(crate) buffers: &'a Rc<Buffers>,
}

/// An upstream's answer.
pub(crate) struct Reply {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    /// Present with a 101: the raw connection, for a tunnel.
    pub(crate) tunnel: Option<Tunnel>,
}

/// The upstream half of an upgraded connection.
pub(crate) struct Tunnel {
    pub(crate) io: Io,
    /// What the upstream already sent in the new protocol.
    pub(crate) early: bytes::BytesMut,
    /// Whatever must live as long as the connection is open.
    pub(crate) hold: Box<dyn std::any::Any>,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Every endpoint is out of service or has been tried.
    NoEndpoint,
    /// All connections that the pool may have are busy and none became free in time.
    PoolExhausted,
    Resolve(io::Error),
    Connect(io::Error),
    ConnectTimeout,
    /// The connection broke, or was closed, before any byte of a reply. `sent` tells whether the request was under way.
    Broken {
        error: io::Error,
        sent: bool,
    },
    /// The reply's head breaks the protocol.
    Malformed(Cow<'static, str>),
    /// The service did not take the request for its `write` timeout.
    WriteTimeout,
    /// The service was silent for its `read` timeout while its reply was awaited.
    ReadTimeout,
    /// The route's `timeout` came before the reply's head.
    DeadlinePassed,
    /// The request's own body failed: the client's doing.
    Request(BodyError),
}

impl Failure {
    /// What the client is told (nothing internal) and what the log is told.
    pub(crate) fn rejection(&self) -> Rejection {
        let (kind, code, detail) = match self {
            Self::NoEndpoint => (RejectionKind::Unavailable, "no_healthy_endpoints", "No healthy endpoints available"),
            Self::PoolExhausted => (RejectionKind::Unavailable, "upstream_pool_exhausted", "Service unavailable"),
            Self::Resolve(_) => (RejectionKind::Unavailable, "upstream_unresolved", "Service unavailable"),
            Self::Connect(_) => (RejectionKind::BadGateway, "upstream_connect_failed", "Service error"),
            Self::ConnectTimeout => {
                (RejectionKind::GatewayTimeout, "upstream_connect_timeout", "Service timed out: connect")
            }
            Self::Broken { .. } => (RejectionKind::BadGateway, "upstream_closed", "Service error"),
            Self::Malformed(_) => (RejectionKind::BadGateway, "upstream_malformed", "Service error"),
            Self::WriteTimeout => {
                (RejectionKind::GatewayTimeout, "upstream_write_timeout", "Service timed out: write idle")
            }
            Self::ReadTimeout => {
                (RejectionKind::GatewayTimeout, "upstream_read_timeout", "Service timed out: response header")
            }
            Self::DeadlinePassed => (RejectionKind::GatewayTimeout, "request_timeout", "Service timed out: request"),
            Self::Request(error) => return body_rejection(*error),
        };
        Rejection::new(kind, code, detail).cause(self.to_string())
    }
}

/// What a client is told when its request's body failed.
pub(crate) fn body_rejection(error: BodyError) -> Rejection {
    let (kind, detail) = match error {
        BodyError::TooLarge => (RejectionKind::PayloadTooLarge, "Request body is larger than allowed"),
        BodyError::ClientTooSlow => (RejectionKind::RequestTimeout, "Request body was sent too slowly"),
        BodyError::ClientMalformed | BodyError::ClientGone => (RejectionKind::BadRequest, "Malformed request body"),
        BodyError::UpstreamAborted | BodyError::UpstreamTooSlow => (RejectionKind::BadGateway, "Service error"),
    };
    Rejection::new(kind, error.code(), detail).closing()
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no endpoint takes requests"),
            Self::PoolExhausted => f.write_str("every connection that the pool may have is busy"),
            Self::Resolve(error) => write!(f, "the endpoint's name could not be resolved: {error}"),
            Self::Connect(error) => write!(f, "the endpoint could not be connected to: {error}"),
            Self::ConnectTimeout => f.write_str("the endpoint did not accept the connection in time"),
            Self::Broken { error, sent } => {
                let when = if *sent { "before it replied" } else { "before it took the request" };
                write!(f, "the connection to the endpoint broke {when}: {error}")
            }
            Self::Malformed(what) => write!(f, "the endpoint's reply is malformed: {what}"),
            Self::WriteTimeout => f.write_str("the endpoint stopped taking the request"),
            Self::ReadTimeout => f.write_str("the endpoint was silent for too long"),
            Self::DeadlinePassed => f.write_str("the route's timeout passed before the endpoint replied"),
            Self::Request(error) => write!(f, "the request's body failed: {error}"),
        }
    }
}
