//! The real gateway on port 0 against real backends. Every row of the security page that concerns proxying has a test here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_collect,
    clippy::type_complexity,
    reason = "a step that fails is a failed test, and a table is read by people"
)]

mod attacks;
mod cli;
mod crosstalk;
mod discovery;
mod faults;
mod forwarding;
mod framing;
mod harness;
mod http2;
mod http2_upstream;
mod lifecycle;
mod limits;
mod login;
mod policies;
mod pool;
mod real;
mod replies;
mod routing;
mod services;
mod streams;
mod telemetry;
mod tls;
mod trust;
mod upstreams;
mod verify;
