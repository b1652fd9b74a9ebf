//! One try at one endpoint: what it is given, and how it may fail. A failure says whose fault it was and whether the same
//! request may be tried again.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tidegate_config::config;
use tidegate_core::body::{Body, BodyError};
use tidegate_core::clock::Clock;
use tidegate_core::cluster::Outcome;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::{RequestHead, ResponseHead};

use super::line::Bursts;
use super::means::Means;
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
    /// Of the request, up to the reply's head.
    pub(crate) deadline: Option<Instant>,
    /// When the request came.
    pub(crate) began: Instant,
    /// When this try began.
    pub(crate) try_began: Instant,
    /// Of this try, up to the reply's head; `None` if no other may follow.
    pub(crate) try_limit: Option<TryLimit>,
    pub(crate) clock: &'a Clock,
    pub(crate) net: &'a Net,
    pub(crate) alarm: &'a SharedAlarm,
    pub(crate) buffers: &'a Rc<Buffers>,
    pub(crate) dice: &'a RefCell<fastrand::Rng>,
    pub(crate) bursts: &'a Bursts,
    /// What may keep the request with one endpoint.
    pub(crate) choice: Choice,
    /// Whether it may be tried again, and how; `None` is once.
    pub(crate) retry: Option<&'a config::Retry>,
    /// If the endpoint goes out of service while its reply is awaited, another may be asked.
    pub(crate) moves_on: bool,
    /// The field that tells the service how long it has.
    pub(crate) deadline_header: Option<&'a str>,
    /// Told which member was asked last.
    pub(crate) at: Option<&'a Cell<Option<u64>>>,
}

/// How long one try may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TryLimit {
    pub(crate) until: Instant,
    /// The same anew from the moment at which the client was waited for last.
    pub(crate) time: Duration,
}

/// What keeps a request with one endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Choice {
    /// A hash of what the service is balanced by.
    pub(crate) affinity: Option<u64>,
    /// The key of the endpoint that a sticky cookie names.
    pub(crate) preferred: Option<u64>,
}

impl<'a> Attempt<'a> {
    /// A request that no client waits for: one try, no deadline of its own.
    pub(crate) fn undriven(
        head: &'a RequestHead,
        body: Body,
        timeouts: config::ServiceTimeouts,
        (means, alarm): (&'a Means, &'a SharedAlarm),
    ) -> Self {
        let Means { clock, net, buffers, dice, bursts } = means;
        let now = clock.now();
        Self {
            head,
            body,
            upgrade: None,
            interim: None,
            read: timeouts.read,
            stream_idle: timeouts.read,
            write: timeouts.write,
            deadline: None,
            began: now,
            try_began: now,
            try_limit: None,
            clock,
            net,
            alarm,
            buffers,
            dice,
            bursts,
            choice: Choice::default(),
            retry: None,
            moves_on: false,
            deadline_header: None,
            at: None,
        }
    }

    /// The same request once more, with `body`, on an alarm of its own.
    pub(crate) fn twin<'b>(&'b self, body: Body, alarm: &'b SharedAlarm) -> Attempt<'b> {
        Attempt { body, alarm, ..*self }
    }

    /// From now on this service is asked.
    pub(crate) fn take_terms(&mut self, service: &'a config::Service) {
        self.read = service.timeouts.read;
        self.write = service.timeouts.write;
        self.deadline_header = service.deadline_header.as_deref();
        self.retry = self.retry.and(service.retry.as_ref());
        self.choice = Choice::default();
    }

    /// Milliseconds until the deadline of this try or of the request, for the service.
    pub(crate) fn time_left(&self) -> Option<(&'a str, u64)> {
        let deadline = self.deadline.into_iter().chain(self.try_limit.map(|limit| limit.until)).min();
        let (name, deadline) = (self.deadline_header?, deadline?);
        let left = deadline.saturating_duration_since(self.clock.now()).as_millis();
        Some((name, u64::try_from(left).unwrap_or(u64::MAX)))
    }

    pub(crate) fn new_alarm(&self) -> SharedAlarm {
        Rc::new(RefCell::new(Alarm::new(self.clock)))
    }
}

/// An upstream's answer.
pub(crate) struct Reply {
    pub(crate) head: ResponseHead,
    pub(crate) body: Body,
    /// Present with a 101: the raw connection, for a tunnel.
    pub(crate) tunnel: Option<Box<Tunnel>>,
    /// When its head was there.
    pub(crate) at: Instant,
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
    /// Every endpoint is out of service; when that may change, if anybody knows.
    NoEndpoint {
        again_in: Option<Duration>,
    },
    /// Circuit breakers keep requests from every endpoint that there is.
    CircuitOpen {
        again_in: Option<Duration>,
    },
    /// The service has as many requests as it may have at once, and its queue is full or did not move in time.
    Saturated,
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
    /// The route's `timeout` came before the reply's head; `at_fault` if it was the endpoint that was waited for.
    DeadlinePassed {
        at_fault: bool,
    },
    /// The same for the `per_try_timeout`.
    TryTimeout,
    /// The endpoint was taken out of service while its reply was awaited, and another may do better.
    GivenUp,
    /// The request's own body failed: the client's doing.
    Request(BodyError),
}

impl Failure {
    /// What the client is told (nothing internal) and what the log is told.
    pub(crate) fn rejection(&self) -> Rejection {
        let (kind, code, detail) = match self {
            Self::NoEndpoint { .. } => {
                (RejectionKind::Unavailable, "no_healthy_endpoints", "No healthy endpoints available")
            }
            Self::CircuitOpen { .. } => (RejectionKind::Unavailable, "circuit_open", "Service unavailable"),
            Self::Saturated => (RejectionKind::Unavailable, "concurrency_limit", "Service is busy"),
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
            Self::DeadlinePassed { .. } => {
                (RejectionKind::GatewayTimeout, "request_timeout", "Service timed out: request")
            }
            Self::TryTimeout => (RejectionKind::GatewayTimeout, "upstream_try_timeout", "Service timed out: one try"),
            Self::GivenUp => (RejectionKind::GatewayTimeout, "upstream_given_up", "Service timed out: no answer"),
            Self::Request(error) => return (*error).into(),
        };
        let rejection = Rejection::new(kind, code, detail).cause(self.to_string());
        match self.retry_after() {
            Some(seconds) => rejection.retry_after(seconds),
            None => rejection,
        }
    }

    /// Seconds after which asking again may help, for those who were not served at all.
    fn retry_after(&self) -> Option<u64> {
        let again_in = match self {
            Self::NoEndpoint { again_in } | Self::CircuitOpen { again_in } => *again_in,
            Self::Saturated | Self::PoolExhausted => None,
            Self::Resolve(_)
            | Self::Connect(_)
            | Self::ConnectTimeout
            | Self::Broken { .. }
            | Self::Malformed(_)
            | Self::WriteTimeout
            | Self::ReadTimeout
            | Self::DeadlinePassed { .. }
            | Self::TryTimeout
            | Self::GivenUp
            | Self::Request(_) => return None,
        };
        // Rounded up: nobody comes too early.
        let seconds = again_in.map_or(1, |again_in| again_in.as_secs() + u64::from(again_in.subsec_nanos() > 0));
        Some(seconds.max(1))
    }

    /// Nobody was there to take the request, so that something else may answer instead.
    pub(crate) fn is_outage(&self) -> bool {
        let refused_here =
            matches!(self, Self::NoEndpoint { .. } | Self::CircuitOpen { .. } | Self::Saturated | Self::PoolExhausted);
        refused_here || self.outcome() == Some(Outcome::Connect)
    }

    /// What the endpoint is to be blamed for; `None` if it had no part in it.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Resolve(_) | Self::Connect(_) | Self::ConnectTimeout => Some(Outcome::Connect),
            Self::Broken { .. } | Self::Malformed(_) => Some(Outcome::Reset),
            Self::WriteTimeout
            | Self::ReadTimeout
            | Self::TryTimeout
            | Self::GivenUp
            | Self::DeadlinePassed { at_fault: true } => Some(Outcome::Timeout),
            Self::NoEndpoint { .. }
            | Self::CircuitOpen { .. }
            | Self::Saturated
            | Self::PoolExhausted
            | Self::Request(_)
            | Self::DeadlinePassed { at_fault: false } => None,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoEndpoint { .. } => f.write_str("no endpoint takes requests"),
            Self::CircuitOpen { .. } => f.write_str("circuit breakers are open"),
            Self::Saturated => {
                f.write_str("the service has as many requests as it may have, and its queue did not move")
            }
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
            Self::DeadlinePassed { .. } => f.write_str("the route's timeout passed before the endpoint replied"),
            Self::TryTimeout => f.write_str("one try's timeout passed before the endpoint replied"),
            Self::GivenUp => f.write_str("the endpoint was taken out of service before it replied"),
            Self::Request(error) => write!(f, "the request's body failed: {error}"),
        }
    }
}
