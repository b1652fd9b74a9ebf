//! `limiter KIND TURNS`: each turn is one decision of a limit, of ten a second and twenty at once for each key.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use tidegate_core::balance::Nanos;
use tidegate_core::limiter::{Algorithm, Cell, Limit, Now, Rate, Store};

const USAGE: &str = "usage: limiter (hit | new | refused | sliding_window | sliding_log | fixed_window | cell) TURNS";

/// Keys that are known, each with requests in its past.
const KEYS: u64 = 1000;
/// Each key comes every so many nanoseconds, half as often as it may.
const PACE: u64 = 200_000_000;

/// Not random, so that each run counts the same.
type Fixed = BuildHasherDefault<DefaultHasher>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, turns] = arguments.as_slice() else { bail!(USAGE) };
    let turns: u64 = turns.parse().context(USAGE)?;
    let bucket = Algorithm::TokenBucket { burst: 20 };
    match kind.as_str() {
        "hit" => known(bucket, turns),
        "sliding_window" => known(Algorithm::SlidingWindow, turns),
        "sliding_log" => known(Algorithm::SlidingLog, turns),
        "fixed_window" => known(Algorithm::FixedWindow, turns),
        "new" => new(turns),
        "refused" => refused(turns),
        "cell" => cell(turns),
        other => bail!("there is no kind `{other}`"),
    }
}

/// Keys that come again and again, and may.
fn known(algorithm: Algorithm, turns: u64) -> Result<()> {
    let keyed = Arc::new(Store::new(100_000, &Fixed::default())).keyed(limit(algorithm)?);
    for turn in 0..KEYS + turns {
        let outcome = keyed.decide(&client(turn % KEYS), 1, at(turn * (PACE / KEYS)));
        ensure!(black_box(outcome).allowed, "it keeps to its rate");
    }
    Ok(())
}

/// Keys that were never seen, and take the slots of those that are idle.
fn new(turns: u64) -> Result<()> {
    let keyed = Arc::new(Store::new(1000, &Fixed::default())).keyed(limit(Algorithm::TokenBucket { burst: 20 })?);
    for turn in 0..turns {
        ensure!(black_box(keyed.decide(&client(turn), 1, at(turn * (PACE / KEYS)))).allowed, "it is its first request");
    }
    Ok(())
}

/// Keys that have used up what they had.
fn refused(turns: u64) -> Result<()> {
    let keyed = Arc::new(Store::new(100_000, &Fixed::default())).keyed(limit(Algorithm::TokenBucket { burst: 20 })?);
    for key in 0..KEYS {
        ensure!(keyed.decide(&client(key), 20, at(0)).allowed, "it takes all at once");
    }
    for turn in 0..turns {
        ensure!(!black_box(keyed.decide(&client(turn % KEYS), 1, at(turn))).allowed, "nothing is left");
    }
    Ok(())
}

/// One key of its own.
fn cell(turns: u64) -> Result<()> {
    let cell = Cell::new(limit(Algorithm::TokenBucket { burst: 20 })?);
    for turn in 0..turns {
        ensure!(black_box(cell.decide(1, at(turn * PACE))).allowed, "it keeps to its rate");
    }
    Ok(())
}

fn limit(algorithm: Algorithm) -> Result<Limit> {
    let rate = Rate::new(10, Duration::from_secs(1)).context("it is a rate")?;
    Limit::new(algorithm, rate).map_err(|most| anyhow!("{most:?}"))
}

fn client(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::try_from(number % (1 << 32)).unwrap_or_default())
}

/// An hour after the start, and after that many nanoseconds.
fn at(nanos: u64) -> Now {
    let nanos = 3_600_000_000_000 + nanos;
    Now { mono: Nanos(nanos), wall: Duration::from_nanos(nanos) }
}
