//! What policies cost, in one program, because each of them takes long to link.
//!
//! - `policies crypto SECONDS`, `policies redis SECONDS`: see the modules.
//! - `policies (key | token | signature | library) TURNS`: each turn a request passes the policies of a route that must know who calls, by
//!   an API key, by a token that was verified before, or by one that is verified each time; `library` verifies its signature alone.
#![expect(clippy::disallowed_methods, reason = "it measures time, and its tasks end with its runtime")]

use std::time::Duration;

use anyhow::{Context, Result, bail};

mod crypto;
mod guarded;
mod redis;
mod route;
mod world;

const USAGE: &str = "usage: policies (crypto | redis) SECONDS | policies (key | token | signature | library) TURNS";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, number] = arguments.as_slice() else { bail!(USAGE) };
    let number = number.parse().context(USAGE)?;
    match kind.as_str() {
        "crypto" => crypto::compare(Duration::from_secs(number)),
        "redis" => redis::measure(Duration::from_secs(number)),
        "key" => guarded::key(number),
        "token" => guarded::token(number),
        "signature" => crypto::signature(number),
        "library" => crypto::library(number),
        _ => bail!(USAGE),
    }
}
