//! What a route may ask of its requests: one file for each policy, and the table of them. A policy decides about exchanges; it
//! knows no listener and no upstream socket.

mod auth;
mod bots;
mod cors;
mod csrf;
#[doc(hidden)]
pub mod fuzzing;
mod identity_headers;
mod ip;
mod origins;
mod patterns;
mod policy;
mod rate_limit;
mod requests;
mod require;
mod security_headers;
pub mod shared;
mod table;
#[cfg(test)]
mod testing;
mod tls;

pub use auth::{Assumed, assumed, key_stores};
pub use identity_headers::identity_jwks;
pub use table::{TABLE, VOCABULARY, examples};
