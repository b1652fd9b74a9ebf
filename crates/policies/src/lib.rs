//! What a route may ask of its requests: one file for each policy, and the table of them. A policy decides about exchanges; it
//! knows no listener and no upstream socket.

mod auth;
#[doc(hidden)]
pub mod fuzzing;
mod ip;
mod policy;
mod shared;
mod table;
#[cfg(test)]
mod testing;

pub use table::{TABLE, VOCABULARY};
