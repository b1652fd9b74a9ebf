//! Sums over the last while, kept in ten buckets that any thread may add to: no lock, no allocation, one atomic addition.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::balance::Nanos;

/// A window is so many buckets.
pub(super) const BUCKETS: u64 = 10;

/// A bucket is one word: which round of the clock it belongs to, and its sum.
const SUM_BITS: u32 = 44;
const SUM: u64 = (1 << SUM_BITS) - 1;
const ROUND: u64 = (1 << (64 - SUM_BITS)) - 1;

/// A sum over the last window. What was added more than a window ago is not in it any more.
#[derive(Debug)]
pub(super) struct Rolling {
    width: AtomicU64,
    buckets: [AtomicU64; 10],
}

impl Rolling {
    pub(super) fn new(window: Duration) -> Self {
        Self { width: AtomicU64::new(width(window)), buckets: Default::default() }
    }

    /// Makes the window longer or shorter, which forgets what was in it.
    pub(super) fn resize(&self, window: Duration) {
        let width = width(window);
        if self.width.swap(width, Relaxed) != width {
            self.clear();
        }
    }

    pub(super) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }

    /// Adds, and returns what the bucket held before.
    #[inline]
    pub(super) fn add(&self, now: Nanos, amount: u64) -> u64 {
        let epoch = self.epoch(now);
        let Some(bucket) = self.bucket(epoch) else { return 0 };
        let mut seen = bucket.load(Relaxed);
        while seen >> SUM_BITS != epoch & ROUND {
            if is_newer(seen >> SUM_BITS, epoch) {
                return 0;
            }
            let fresh = (epoch & ROUND) << SUM_BITS | amount;
            match bucket.compare_exchange(seen, fresh, Relaxed, Relaxed) {
                Ok(_) => return 0,
                Err(other) => seen = other,
            }
        }
        bucket.fetch_add(amount, Relaxed) & SUM
    }

    /// What the latest buckets hold, the one under way included.
    pub(super) fn latest(&self, now: Nanos, buckets: u64) -> impl Iterator<Item = u64> + '_ {
        let last = self.epoch(now);
        (0..buckets.min(BUCKETS)).filter_map(move |back| {
            let epoch = last.checked_sub(back)?;
            let word = self.bucket(epoch)?.load(Relaxed);
            (word >> SUM_BITS == epoch & ROUND).then_some(word & SUM)
        })
    }

    /// Replaces the sum of the bucket under way, unless it changes meanwhile.
    fn replace(&self, now: Nanos, change: impl Fn(u64) -> u64) {
        let Some(bucket) = self.bucket(self.epoch(now)) else { return };
        let seen = bucket.load(Relaxed);
        let changed = seen & !SUM | change(seen & SUM) & SUM;
        // Whoever came first has changed it, or the next addition will try again.
        bucket.compare_exchange(seen, changed, Relaxed, Relaxed).ok();
    }

    fn epoch(&self, now: Nanos) -> u64 {
        now.0 / self.width.load(Relaxed).max(1)
    }

    fn bucket(&self, epoch: u64) -> Option<&AtomicU64> {
        self.buckets.get(usize::try_from(epoch % BUCKETS).ok()?)
    }
}

fn width(window: Duration) -> u64 {
    (u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / BUCKETS).max(1)
}

/// Whether a bucket is of a later round than `epoch`, whose addition comes too late then.
fn is_newer(round: u64, epoch: u64) -> bool {
    let ahead = round.wrapping_sub(epoch) & ROUND;
    ahead != 0 && ahead <= ROUND / 2
}

/// Results of the last window, and failures in a row.
#[derive(Debug)]
pub(super) struct Tally {
    results: Rolling,
    streak: AtomicU32,
}

/// How many results there were, and how many of them were failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) total: u32,
    pub(super) failed: u32,
}

const COUNT_BITS: u32 = SUM_BITS / 2;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// Beyond this a bucket's counts are halved, which keeps their ratio.
const CROWDED: u64 = 1 << (COUNT_BITS - 1);

impl Tally {
    pub(super) fn new(window: Duration) -> Self {
        Self { results: Rolling::new(window), streak: AtomicU32::new(0) }
    }

    pub(super) fn resize(&self, window: Duration) {
        self.results.resize(window);
    }

    pub(super) fn clear(&self) {
        self.results.clear();
        self.streak.store(0, Relaxed);
    }

    /// Counts a success and returns the row of failures that it ended.
    #[inline]
    pub(super) fn succeed(&self, now: Nanos) -> u32 {
        self.count(now, 1);
        if self.streak.load(Relaxed) == 0 { 0 } else { self.streak.swap(0, Relaxed) }
    }

    /// Counts a failure.
    pub(super) fn fail(&self, now: Nanos) {
        self.count(now, 1 << COUNT_BITS | 1);
        self.streak.fetch_add(1, Relaxed);
    }

    /// Makes a failure of what counted as a success and had ended a row of `ended` failures.
    pub(super) fn revoke(&self, now: Nanos, ended: u32) {
        self.count(now, 1 << COUNT_BITS);
        self.streak.fetch_add(ended.saturating_add(1), Relaxed);
    }

    /// Failures in a row.
    pub(super) fn streak(&self) -> u32 {
        self.streak.load(Relaxed)
    }

    pub(super) fn counts(&self, now: Nanos) -> Counts {
        self.counts_of(now, BUCKETS)
    }

    pub(super) fn counts_of(&self, now: Nanos, buckets: u64) -> Counts {
        let mut counts = Counts::default();
        for sum in self.results.latest(now, buckets) {
            counts.total += narrow(sum & COUNT);
            counts.failed += narrow(sum >> COUNT_BITS);
        }
        counts
    }

    #[inline]
    fn count(&self, now: Nanos, amount: u64) {
        if self.results.add(now, amount) & COUNT >= CROWDED {
            self.results.replace(now, |sum| ((sum >> (COUNT_BITS + 1)) << COUNT_BITS) | ((sum & COUNT) / 2));
        }
    }
}

impl Counts {
    /// Whether there are enough results, and at least this share of them failures.
    pub(super) fn reach(self, share: f64, min_requests: u32) -> bool {
        self.total >= min_requests.max(1) && f64::from(self.failed) >= share * f64::from(self.total)
    }
}

/// Counts have 22 bits.
fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn counts(total: u32, failed: u32) -> Counts {
        Counts { total, failed }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let tally = Tally::new(Duration::from_secs(10));
        tally.fail(Nanos(0));
        tally.succeed(Nanos(5 * SECOND));
        assert_eq!(tally.counts(Nanos(9 * SECOND)), counts(2, 1));
        assert_eq!(tally.counts(Nanos(10 * SECOND)), counts(1, 0));
        assert_eq!(tally.counts(Nanos(15 * SECOND)), counts(0, 0));
    }

    #[test]
    fn a_bucket_that_comes_round_again_starts_from_nothing() {
        let tally = Tally::new(Duration::from_secs(10));
        tally.fail(Nanos(0));
        tally.succeed(Nanos(10 * SECOND));
        assert_eq!(tally.counts(Nanos(10 * SECOND)), counts(1, 0));
    }

    #[test]
    fn what_comes_a_window_too_late_is_not_counted() {
        let tally = Tally::new(Duration::from_secs(10));
        tally.succeed(Nanos(30 * SECOND));
        tally.fail(Nanos(20 * SECOND));
        assert_eq!(tally.counts(Nanos(30 * SECOND)), counts(1, 0));
    }

    #[test]
    fn crowded_buckets_keep_their_ratio() {
        let tally = Tally::new(Duration::from_secs(10));
        tally.results.add(Nanos(0), CROWDED | (CROWDED / 2) << COUNT_BITS);
        tally.succeed(Nanos(0));
        let counts = tally.counts(Nanos(0));
        assert_eq!(counts.total, narrow(CROWDED / 2));
        assert_eq!(counts.failed, narrow(CROWDED / 4));
    }

    #[test]
    fn a_success_that_is_revoked_continues_the_row_of_failures() {
        let tally = Tally::new(Duration::from_secs(10));
        for _ in 0..3 {
            let ended = tally.succeed(Nanos(0));
            tally.revoke(Nanos(0), ended);
        }
        assert_eq!(tally.streak(), 3);
        assert_eq!(tally.counts(Nanos(0)), counts(3, 3));
    }

    #[test]
    fn another_length_starts_a_new_window() {
        let tally = Tally::new(Duration::from_secs(10));
        tally.fail(Nanos(0));
        tally.resize(Duration::from_secs(10));
        assert_eq!(tally.counts(Nanos(0)), counts(1, 1));
        tally.resize(Duration::from_mins(1));
        assert_eq!(tally.counts(Nanos(0)), counts(0, 0));
    }
}
