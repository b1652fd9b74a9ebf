//! The service side: connections to endpoints, their pools, and the call that every request upstream goes through.

pub(crate) mod attempt;
pub(crate) mod call;
pub(crate) mod client;
mod connect;
pub(crate) mod discovery;
pub(crate) mod endpoint;
mod http1;
mod http2;
pub(crate) mod line;
pub(crate) mod means;
pub(crate) mod probe;
mod sender;
pub(crate) mod service;
pub(crate) mod shared;
pub mod sticky;
pub mod tls;
mod waiting;
mod watched;
