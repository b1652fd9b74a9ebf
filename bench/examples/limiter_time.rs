//! `limiter_time SECONDS`: what a decision of a limit costs by the clock, on two threads that share a store of a million keys, and beside
//! it the standard library's hash of such a key, and the memory where the key's counts are. All of it is measured in turns, and medians are
//! printed, in nanoseconds; `key` is bytes, and `shared` how many of the million keys must share their counts.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tidegate_core::balance::Nanos;
use tidegate_core::limiter::{Algorithm, Keyed, Limit, Now, Rate, Store};

const USAGE: &str = "usage: limiter_time SECONDS";

/// Keys that fit into the processor's cache.
const FEW: u64 = 1000;
const MANY: u64 = 1_000_000;
/// Each key comes every so many nanoseconds on each thread, half as often as it may.
const PACE: u64 = 200_000_000;
/// Of each thread, before something else is measured.
const TURNS: u64 = 300_000;
/// Bytes of a cache line.
const LINE: usize = 64;

fn main() -> Result<()> {
    let seconds = std::env::args().nth(1).context(USAGE)?.parse().context(USAGE)?;
    let (few, many) = (Limited::of(FEW)?, Limited::of(MANY)?);
    let (bytes, shared) = (many.store.memory(), many.store.shared());
    let memory: Vec<Line> = (0..bytes / LINE).map(|_| Line::default()).collect();
    let hasher = RandomState::new();
    let mut series: [Vec<f64>; 5] = Default::default();
    let end = Instant::now() + Duration::from_secs(seconds);
    while series.iter().any(Vec::is_empty) || Instant::now() < end {
        let began = TURNS * series[0].len() as u64;
        let measured = [
            on_two_threads(began, |turn| many.decide(turn, MANY))?,
            on_two_threads(began, |turn| few.decide(turn, FEW))?,
            on_two_threads(began, |turn| hasher.hash_one((7_u64, client(turn.random % MANY))))?,
            on_two_threads(began, |turn| line(&memory, turn.random ^ turn.last).0[0].load(Relaxed))?,
            on_two_threads(began, |turn| line(&memory, turn.random).0[0].fetch_add(0, Relaxed))?,
        ];
        series.iter_mut().zip(measured).for_each(|(series, measured)| series.push(measured));
    }
    print(series.map(median), bytes, shared);
    Ok(())
}

/// `read` waits for memory each time, because the last value says where the next one is; `write` does not.
#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "prints what it has measured")]
fn print([decision, cached, hash, read, write]: [f64; 5], bytes: usize, shared: u64) {
    let (key, to_read) = (bytes as f64 / MANY as f64, decision / read);
    println!(
        "{{\"decision\": {decision:.1}, \"cached\": {cached:.1}, \"hash\": {hash:.1}, \"read\": {read:.1}, \"write\": {write:.1}, \
         \"to_read\": {to_read:.3}, \"key\": {key:.2}, \"shared\": {shared}, \"calibration\": {read:.1}}}"
    );
}

/// A limit of ten a second and twenty at once for each key, and keys that are known.
struct Limited {
    store: Arc<Store>,
    keyed: Keyed,
}

impl Limited {
    fn of(keys: u64) -> Result<Self> {
        let store = Arc::new(Store::new(usize::try_from(keys)?, &RandomState::new()));
        let rate = Rate::new(10, Duration::from_secs(1)).context("it is a rate")?;
        let limit = Limit::new(Algorithm::TokenBucket { burst: 20 }, rate).map_err(|most| anyhow!("{most:?}"))?;
        let keyed = store.keyed(limit);
        for key in 0..keys {
            ensure!(keyed.decide(&client(key), 1, at(0)).allowed || store.shared() > 0, "it is its first request");
        }
        Ok(Self { store, keyed })
    }

    fn decide(&self, turn: Turn, keys: u64) -> u64 {
        let outcome = self.keyed.decide(&client(turn.random % keys), 1, at(turn.number * (PACE / keys)));
        black_box(outcome).allowed.into()
    }
}

/// What is done again and again.
#[derive(Clone, Copy)]
struct Turn {
    number: u64,
    random: u64,
    /// What came of the one before.
    last: u64,
}

/// Nanoseconds for a turn, on each of two threads.
#[expect(clippy::cast_precision_loss, reason = "a round takes less than a second")]
fn on_two_threads(began: u64, act: impl Fn(Turn) -> u64 + Sync) -> Result<f64> {
    let (act, barrier) = (&act, &Barrier::new(2));
    let run = |seed: u64| {
        let mut random = fastrand::Rng::with_seed(began + seed);
        let mut last = 0;
        barrier.wait();
        let start = Instant::now();
        for number in began..began + TURNS {
            last = act(Turn { number, random: random.u64(..), last });
        }
        black_box(last);
        start.elapsed().as_nanos() as f64 / TURNS as f64
    };
    thread::scope(|scope| {
        let other = scope.spawn(move || run(1));
        let mine = run(0);
        let other = other.join().map_err(|_| anyhow!("it panicked"))?;
        Ok(f64::midpoint(mine, other))
    })
}

#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; LINE / 8]);

#[expect(clippy::indexing_slicing, reason = "a product with a share below 1 is below the number of lines")]
#[expect(clippy::cast_possible_truncation, reason = "it is below the number of lines, a usize")]
fn line(memory: &[Line], random: u64) -> &Line {
    &memory[((u128::from(random) * memory.len() as u128) >> 64) as usize]
}

fn median(mut series: Vec<f64>) -> f64 {
    series.sort_by(f64::total_cmp);
    series.get(series.len() / 2).copied().unwrap_or(f64::NAN)
}

fn client(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::try_from(number % (1 << 32)).unwrap_or_default())
}

/// An hour after the start, and after that many nanoseconds.
fn at(nanos: u64) -> Now {
    let nanos = 3_600_000_000_000 + nanos;
    Now { mono: Nanos(nanos), wall: Duration::from_nanos(nanos) }
}
