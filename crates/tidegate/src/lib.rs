//! The program: command line, reload, signals and the admin listener around the gateway. It holds no logic of the data plane, and
//! nothing that happens here is on a request's path.

pub mod cli;

mod admin;
mod demo;
mod keys;
mod operations;
mod oplog;
mod process;
mod registry;
mod reload;
mod signals;
mod status;
mod wait;
mod watch;
