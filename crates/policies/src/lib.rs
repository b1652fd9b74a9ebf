//! What a route may ask of its requests: one file for each policy, and the table of them. A policy decides about exchanges; it
//! knows no listener and no upstream socket.

mod auth;
mod identity_headers;
mod ip;
mod policy;
mod require;
pub mod shared;
mod table;
#[cfg(test)]
mod testing;

pub use identity_headers::identity_jwks;
pub use table::{TABLE, VOCABULARY, examples};
