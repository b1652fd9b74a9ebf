//! A limit of one key, such as that of the whole gateway: it is counted in one place that all workers share, without a table.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Algorithm, Ask, Bucket, FixedWindow, Limit, Now, Outcome, Rule, SlidingLog, SlidingWindow, TokenBucket};

/// A limit that counts all requests together. It has two cache lines for itself, because all workers write to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct Cell {
    limit: Limit,
    counter: Counter,
}

#[derive(Debug)]
enum Counter {
    TokenBucket(Atomic),
    SlidingWindow(Locked<SlidingWindow>),
    SlidingLog(Locked<SlidingLog>),
    FixedWindow(Locked<FixedWindow>),
}

impl Cell {
    /// Nothing has come yet.
    pub fn new(limit: Limit) -> Self {
        let rate = limit.rate;
        let counter = match limit.algorithm {
            Algorithm::TokenBucket { burst } => Counter::TokenBucket(Atomic::new(TokenBucket::new(rate, burst))),
            Algorithm::SlidingWindow => Counter::SlidingWindow(Locked::new(SlidingWindow(rate))),
            Algorithm::SlidingLog => Counter::SlidingLog(Locked::new(SlidingLog(rate))),
            Algorithm::FixedWindow => Counter::FixedWindow(Locked::new(FixedWindow(rate))),
        };
        Self { limit, counter }
    }

    /// What limits all requests together.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Whether a request of this weight may pass now; if so, it is counted.
    pub fn decide(&self, weight: u64, now: Now) -> Outcome {
        self.settle(&Ask { weight, now, patience: None })
    }

    /// The same for a request that would wait for `patience`; if it may pass in that time, it is counted, and told how long to wait.
    pub fn reserve(&self, weight: u64, patience: Duration, now: Now) -> Outcome {
        self.settle(&Ask { weight, now, patience: Some(patience) })
    }

    fn settle(&self, ask: &Ask) -> Outcome {
        match &self.counter {
            Counter::TokenBucket(bucket) => bucket.settle(ask),
            Counter::SlidingWindow(window) => window.settle(ask),
            Counter::SlidingLog(log) => log.settle(ask),
            Counter::FixedWindow(window) => window.settle(ask),
        }
    }
}

/// A state that does not fit into one atomic: a lock is held for some nanoseconds.
#[derive(Debug)]
struct Locked<R: Rule> {
    rule: R,
    state: Mutex<R::State>,
}

impl<R: Rule<State: Default>> Locked<R> {
    fn new(rule: R) -> Self {
        Self { rule, state: Mutex::default() }
    }

    fn settle(&self, ask: &Ask) -> Outcome {
        self.rule.settle(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner), ask)
    }
}

/// A token bucket for which no worker ever waits for another.
#[derive(Debug)]
struct Atomic {
    rule: TokenBucket,
    /// [`Bucket::idle_at`], which each request that passes moves on: who changes it has taken the tokens.
    idle_at: AtomicU64,
    /// [`Bucket::rest`], and above it the lower half of the `idle_at` that it belongs to. Where it belongs to another, two workers
    /// met, and the rest is lost: that takes less than a nanosecond more than is due, and never less.
    rest: AtomicU64,
}

impl Atomic {
    fn new(rule: TokenBucket) -> Self {
        Self { rule, idle_at: AtomicU64::new(0), rest: AtomicU64::new(0) }
    }

    fn settle(&self, ask: &Ask) -> Outcome {
        let mut idle_at = self.idle_at.load(Relaxed);
        loop {
            let mut bucket = Bucket { idle_at, rest: self.rest_of(idle_at) };
            let outcome = self.rule.settle(&mut bucket, ask);
            if !outcome.allowed {
                return outcome;
            }
            match self.idle_at.compare_exchange(idle_at, bucket.idle_at, Relaxed, Relaxed) {
                Ok(_) => {
                    self.keep_rest(bucket);
                    return outcome;
                }
                Err(changed) => idle_at = changed,
            }
        }
    }

    fn rest_of(&self, idle_at: u64) -> u64 {
        let packed = self.rest.load(Relaxed);
        if packed >> 32 == idle_at & LOWER { packed & LOWER } else { 0 }
    }

    /// Where a token takes less than a nanosecond there is none, so that each request takes a whole one and moves `idle_at` on.
    fn keep_rest(&self, bucket: Bucket) {
        if self.rule.rate.amount <= self.rule.rate.period.min(LOWER) {
            self.rest.store((bucket.idle_at & LOWER) << 32 | bucket.rest, Relaxed);
        }
    }
}

const LOWER: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::super::{Rate, Store};
    use super::*;
    use crate::balance::Nanos;

    const SECOND: u64 = 1_000_000_000;

    fn cell(algorithm: Algorithm, amount: u64) -> Cell {
        Cell::new(Limit::new(algorithm, Rate::new(amount, Duration::from_secs(1)).unwrap()).unwrap())
    }

    fn algorithms() -> [Algorithm; 4] {
        let bucket = Algorithm::TokenBucket { burst: 50 };
        [bucket, Algorithm::SlidingWindow, Algorithm::SlidingLog, Algorithm::FixedWindow]
    }

    fn at(nanos: u64) -> Now {
        Now { mono: Nanos(nanos), wall: Duration::from_nanos(nanos) }
    }

    #[test]
    fn all_requests_count_together() {
        for algorithm in algorithms() {
            let cell = cell(algorithm, 50);
            assert_eq!((0..1000).filter(|_| cell.decide(1, at(0)).allowed).count(), 50);
            assert!(cell.decide(1, at(2 * SECOND)).allowed);
            assert_eq!(cell.decide(51, at(0)).retry_after, None);
        }
    }

    #[test]
    fn a_reservation_says_how_long_to_wait() {
        for algorithm in algorithms() {
            let cell = cell(algorithm, 50);
            assert!(cell.decide(50, at(SECOND)).allowed);
            let outcome = cell.reserve(1, Duration::from_secs(2), at(SECOND));
            assert!(outcome.allowed && outcome.wait >= Duration::from_millis(20), "{algorithm:?}: {outcome:?}");
            assert!(!cell.reserve(1, Duration::from_millis(1), at(SECOND)).allowed);
        }
    }

    #[test]
    fn workers_that_meet_get_no_more_than_the_limit() {
        for algorithm in algorithms() {
            let cell = &cell(algorithm, 50);
            let work = || (0..50_000_u64).filter(|turn| cell.decide(1, at(turn * 1000 / 10)).allowed).count();
            let passed: usize = thread::scope(|scope| {
                let threads = [scope.spawn(work), scope.spawn(work)];
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(passed, 50, "{algorithm:?}: in 5 ms nothing new comes");
        }
    }

    #[test]
    fn workers_that_meet_at_odd_rates_get_no_more_than_the_limit() {
        // A token takes 142.857142 ns, so each leaves a rest. In 10 ms come 70,000.
        let cell = &cell(Algorithm::TokenBucket { burst: 7 }, 7_000_000);
        let work = || (0..=100_000_u64).filter(|turn| cell.decide(1, at(turn * 100)).allowed).count();
        let passed: usize = thread::scope(|scope| {
            let threads = [scope.spawn(work), scope.spawn(work)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(passed <= 70_007, "{passed}");
    }

    proptest! {
        #[test]
        fn a_cell_does_what_a_key_of_a_store_does(
            which in 0_usize..4,
            amount in 1_u64..60,
            steps in prop::collection::vec((0..SECOND / 4, 0_u64..20, prop::option::of(0..SECOND)), 1..100),
        ) {
            let cell = cell(algorithms()[which], amount);
            let keyed = std::sync::Arc::new(Store::new(1, &std::hash::RandomState::new())).keyed(*cell.limit());
            let mut now = 0;
            for (pause, weight, patience) in steps {
                now += pause;
                match patience.map(Duration::from_nanos) {
                    None => prop_assert_eq!(cell.decide(weight, at(now)), keyed.decide("a", weight, at(now))),
                    Some(patience) => prop_assert_eq!(
                        cell.reserve(weight, patience, at(now)),
                        keyed.reserve("a", weight, patience, at(now))
                    ),
                }
            }
        }
    }
}
