//! What a gate or a job may ask of the thread that it runs on. Everything that is not pure goes through here.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use tidegate_config::config::Retry;
use tidegate_http1::{Fields, RequestHead};

use super::Local;

/// The thread that a gate or a job runs on.
pub trait World {
    /// Monotonic time: for limits, timeouts and ages.
    fn now(&self) -> Instant;

    /// Time since 1970: for what others have dated.
    fn wall(&self) -> Duration;

    /// 128 random bits, good for jitter and identifiers, not for secrets.
    fn random(&self) -> u128;

    /// Which worker this is, from 0 on, for what each of them has of its own; the thread without requests comes after the last.
    fn worker(&self) -> usize;

    /// Ends at `until`.
    fn sleep(&self, until: Instant) -> Local<'_, ()>;

    /// Asks a service of the configuration, by name. Its pool, balancing, breaker and concurrency limit hold.
    fn call<'a>(&'a self, service: &'a str, call: Call<'a>) -> Local<'a, Result<Answer, CallError>>;

    /// Does work that blocks or computes for long on a thread that serves nobody. It is lost if that thread panics.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> Local<'_, ()>;

    /// Runs `work` beside requests on this thread, to its end.
    fn spawn(&self, work: Local<'static, ()>);
}

/// A request of the gateway's own.
#[derive(Debug)]
pub struct Call<'a> {
    /// Method, target and fields; framing fields and `Host` are added. It must have nothing of a client's that was not named.
    pub head: RequestHead,
    /// The whole body.
    pub body: Bytes,
    /// When there must be an answer, body and all.
    pub deadline: Instant,
    /// How often it is tried; `None` is once.
    pub retry: Option<&'a Retry>,
    /// Bytes that the answer's body may have.
    pub most: usize,
}

/// A service's answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Any status.
    pub status: StatusCode,
    /// Its header fields.
    pub fields: Fields,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer that could be used, in words for the log. A policy that lets something pass during an outage does so for the first of
/// these alone: the others may be a caller's doing.
#[derive(Debug, Clone)]
pub enum CallError {
    /// The service does not answer: nobody could be reached, or nothing came in time.
    Down(String),
    /// It has answered, and that is too long, breaks off or breaks the protocol.
    Odd(String),
    /// It was not asked: it has as many requests as it may have at once, or nobody knows it.
    Unasked(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Down(cause) | Self::Odd(cause) | Self::Unasked(cause)) = self;
        f.write_str(cause)
    }
}

impl std::error::Error for CallError {}
