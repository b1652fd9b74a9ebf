//! What a route does to traffic besides sending it on: parts, mirrors, faults.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::{FieldMatch, Key, Retry};

/// Parts of the traffic, each to a service.
#[derive(Debug, Clone)]
pub struct Split {
    /// At least one; the sum of the weights is at least 1.
    pub parts: Vec<SplitPart>,
    /// What keeps a client with its part; `None` throws the dice for every request. With a cookie the gateway sets one where
    /// there is none.
    pub sticky: Option<Key>,
}

/// A part of a split.
#[derive(Debug, Clone)]
pub struct SplitPart {
    /// The service's name.
    pub service: Arc<str>,
    /// Its share, against the other weights.
    pub weight: u32,
    /// Requests that all of this is true for go here, whatever the weights; others only by weight.
    pub when: Option<When>,
}

/// A condition on a request. All that is written must hold; at least one thing is.
#[derive(Debug, Clone, Default)]
pub struct When {
    /// `header: x-canary`, or `headers: { x-canary: "1" }`.
    pub headers: Vec<FieldMatch>,
    /// `cookie: beta`, or `cookies: { beta: "1" }`.
    pub cookies: Vec<FieldMatch>,
}

/// A route's own `retry`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum RouteRetry {
    /// Not written: what the service says.
    #[default]
    OfService,
    /// `off`.
    Off,
    /// Instead of the service's. The budget stays the service's.
    Own(Retry),
}

/// `mirror`: a copy of requests, whose answer nobody waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// The service's name.
    pub service: Arc<str>,
    /// 0 to 1; default 1.
    pub share: f64,
    /// Copies that may be under way at once, on each worker; more are dropped and counted. Default 100.
    pub max: usize,
    /// Requests with a longer body are not mirrored; default 64 KB.
    pub buffer: u64,
}

/// `fault`: trouble on purpose, to see how clients take it.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Wait so long first.
    pub delay: Option<Duration>,
    /// Then answer with this status instead of the service.
    pub abort: Option<StatusCode>,
    /// 0 to 1; default 1.
    pub share: f64,
    /// Only such requests.
    pub when: Option<When>,
}
