//! What the end-to-end tests are written with: the real gateway as a process, clients and backends that can be exact or hostile.
//! It knows nothing of the gateway's code; a step that fails is a failed test, so everything here may panic.
//!
//! - [`Gateway`] runs `tidegate run` on free ports and reads its log; [`forward`] and [`server`] write the usual YAML.
//! - [`Backend`] is an HTTP/1 upstream that follows a script and keeps every byte, [`http2::H2Backend`] one of HTTP/2.
//! - [`Client`] sends exact bytes and reads strictly; [`http2::H2Client`] is well-behaved, [`frames::Frames`] need not be.
//! - [`tokens::Signer`] signs whatever it is given, as providers and forgers do.
//! - [`tools`] are real programs: nginx, Python, curl, [`registries`] dnsmasq and etcd, [`redis`] Redis, [`provider`] an OpenID Connect
//!   provider. `scripts/test` installs them. [`fakes`] are not real, and say so.
//!
//! Nothing sleeps and nothing is measured by the clock: a test waits for bytes, a close, a log line or a metric, under a guard that
//! ends a hanging test. `GATEWAY_BIN=path` tries another build; `E2E_SEED` and `E2E_ROUNDS` go on where chance is involved.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a step that fails is a failed test"
)]

pub mod backend;
pub mod certs;
pub mod client;
pub mod dice;
pub mod fakes;
pub mod folder;
pub mod frames;
pub mod gate;
pub mod gateway;
pub mod http2;
pub mod provider;
pub mod redis;
pub mod registries;
pub mod stream;
pub mod tokens;
pub mod tools;
pub mod wire;

pub use backend::{Backend, Conn};
pub use client::Client;
pub use dice::Dice;
pub use folder::Folder;
pub use gate::Gate;
pub use gateway::{Gateway, Plan, forward, forward_with, server};
