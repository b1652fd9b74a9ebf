//! What a request is and what may be decided about it: exchange, routing, forwarding rules. Pure: time and randomness are
//! arguments, and nothing here opens a socket, reads a clock or spawns.

pub mod affinity;
pub mod balance;
pub mod body;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod concurrency;
pub mod exchange;
pub mod expression;
pub mod forward;
#[doc(hidden)]
pub mod fuzzing;
pub mod hedge;
pub mod identity;
pub mod keys;
pub mod limiter;
pub mod path;
pub mod policy;
pub mod probing;
pub mod query;
pub mod rejection;
pub mod request_id;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod shaping;
pub mod template;
pub mod trail;
