//! One finished request, as the access log and the metrics see it. It decides nothing and is kept by nobody.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tidegate_core::client::TlsFacts;
use tidegate_core::trail::Trail;
use tidegate_http1::{Fields, Version};

use super::metrics::Series;

/// Everything about one finished request: the only source of access log lines and of request metrics.
///
/// It is made exactly once per request, when the reply's body or tunnel has ended or was dropped, and also for requests that the
/// codec refused before they became an exchange: then what was not known yet is empty.
#[derive(Debug)]
pub struct Completed<'a> {
    /// Where the request is counted: from [`Shard::series`](super::Shard::series), resolved when the snapshot was adopted. `None`
    /// is a request without a route.
    pub series: Option<&'a Series>,
    /// The route's name; empty without a route.
    pub route: &'a str,
    /// The service's name; empty when no service was asked.
    pub service: &'a str,
    /// The endpoint of the last attempt, `host:port`.
    pub endpoint: Option<&'a str>,
    /// The listener's name.
    pub listener: &'a str,
    /// The method; empty when the head could not be read.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host asked for, as routed: lower case, without the port.
    pub host: &'a str,
    /// The canonical path, without the query.
    pub path: &'a str,
    /// What follows the `?`; credentials in it are not logged.
    pub query: &'a str,
    /// The protocol between the client and the gateway.
    pub version: Version,
    /// The request's fields as received.
    pub fields: &'a Fields,
    /// The client's address after trusted proxies were believed.
    pub client: IpAddr,
    /// The other end of the socket.
    pub peer: SocketAddr,
    /// The id that both sides were told.
    pub request_id: &'a str,
    /// The status sent; 0 when the client left before there was one.
    pub status: u16,
    /// Bytes of the request's body, without framing.
    pub received: u64,
    /// Bytes of the reply's body, without framing.
    pub sent: u64,
    /// When the first byte of the head arrived.
    pub started: Instant,
    /// From the first byte of the head to the last of the reply.
    pub duration: Duration,
    /// From the first attempt to the head of the reply that was used; `None` when no upstream replied.
    pub upstream: Option<Duration>,
    /// How many times an upstream was asked.
    pub attempts: u32,
    /// How the exchange ended.
    pub end: End,
    /// The rejection's stable code, when the gateway answered itself because something was wrong.
    pub code: Option<&'static str>,
    /// Why, for the log alone: it may name internal addresses.
    pub cause: Option<&'a str>,
    /// What policies decided; `None` where there was nothing to decide.
    pub trail: Option<&'a Trail>,
    /// Who sent it, where that was proved.
    pub user: Option<&'a str>,
    /// What the handshake told, on TLS.
    pub tls: Option<&'a TlsFacts>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The whole reply was sent.
    Complete,
    /// The client left before that.
    ClientGone,
    /// The upstream ended its reply early.
    UpstreamAborted,
    /// A deadline passed after the reply had begun; the name says which, for instance `write idle`.
    Timeout(&'static str),
    /// The gateway refused: `code` says why.
    Refused,
    /// The connection became a tunnel, which has ended.
    Upgraded,
    /// The gateway ended before that: its drain timeout had passed.
    Shutdown,
}

impl End {
    /// Every value that `as_str` returns, in the order of `index`.
    pub(crate) const NAMES: [&'static str; 7] =
        ["complete", "client_gone", "upstream_aborted", "timeout", "refused", "upgraded", "shutdown"];

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamAborted => "upstream_aborted",
            Self::Timeout(_) => "timeout",
            Self::Refused => "refused",
            Self::Upgraded => "upgraded",
            Self::Shutdown => "shutdown",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Complete => 0,
            Self::ClientGone => 1,
            Self::UpstreamAborted => 2,
            Self::Timeout(_) => 3,
            Self::Refused => 4,
            Self::Upgraded => 5,
            Self::Shutdown => 6,
        }
    }
}
