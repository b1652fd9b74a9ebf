//! What a route may ask of its requests: one file for each policy, and the table of them.

pub mod shared;
