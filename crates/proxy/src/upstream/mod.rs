//! The service side: connections to endpoints, their pools, and the call that every request upstream goes through.

pub(crate) mod attempt;
mod connect;
pub(crate) mod endpoint;
mod http1;
mod http2;
#[cfg_attr(not(test), expect(dead_code, reason = "services do not watch their endpoints yet"))]
pub(crate) mod probe;
mod sender;
pub(crate) mod service;
pub mod tls;
