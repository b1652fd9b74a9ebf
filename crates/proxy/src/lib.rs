//! Everything that touches a socket: listeners, TLS, HTTP, upstream pools, telemetry, snapshot, drain. Read `serve.rs` first:
//! it is the life of a request. This crate knows no single policy and reads neither files nor arguments.

mod alarm;
mod buffers;
mod forwarding;
pub mod gateway;
mod http2;
pub mod io;
mod limits;
pub mod listener;
mod live;
pub mod net;
mod outbox;
mod pace;
mod read;
mod run;
mod serve;
mod shaping;
pub mod snapshot;
pub mod solo;
pub mod tasks;
pub mod telemetry;
mod tunnel;
mod upkeep;
pub mod upstream;
mod upstreams;
mod worker;
mod world;

pub use gateway::Gateway;
pub use solo::Solo;
pub use upstreams::{DiscoveryReport, Registration, ServiceReport, SteeringError, Upstreams};
