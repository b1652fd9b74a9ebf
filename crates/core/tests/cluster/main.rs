//! The life of endpoints, rule by rule, then by a model, then by many threads: one binary, so that it is linked once.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail like tests")]

mod breaker;
mod choice;
mod members;
mod model;
mod outliers;
mod threads;
mod world;
