//! Conversations with one worker over memory, under a clock that the tests move: what a connection does in every state, and
//! what ends it. Nothing here sleeps.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod breaking;
mod checks;
mod deadlines;
mod exchanges;
mod fallback;
mod hedging;
mod http2;
mod http2_parties;
mod http2_refused;
mod outliers;
mod policies;
mod queueing;
mod retries;
mod shaping;
mod sticky;
mod upstream;
mod world;
