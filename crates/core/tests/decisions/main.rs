//! What the core decides about requests, module by module: one binary, so that it is linked once.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail like tests")]

mod balance;
mod client;
mod expressions;
mod forward;
mod generated;
mod path;
mod refusals;
mod rewrite;
mod routing;
mod shaping;
mod world;
