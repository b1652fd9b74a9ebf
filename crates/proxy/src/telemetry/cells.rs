//! The numbers that workers count in: one writer each, read by whoever scrapes. A worker adds with a plain load and store; no
//! lock prefix, no cache line shared with another worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A counter or a gauge with one writer: the worker whose shard it belongs to.
///
/// A second writer would lose counts, nothing worse. As a gauge it may be brought down on the writing thread only.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// One more.
    #[inline]
    pub fn up(&self) {
        self.add(1);
    }

    /// One fewer, for gauges.
    #[inline]
    pub fn down(&self) {
        self.add(u64::MAX);
    }

    /// What it says now.
    pub fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Something that counts in a gauge for as long as this value lives.
#[derive(Debug)]
pub struct Held<T> {
    cells: Arc<T>,
    gauge: fn(&T) -> &Cell,
}

impl<T> Held<T> {
    /// Brings the gauge up, and down again when dropped.
    pub fn new(cells: &Arc<T>, gauge: fn(&T) -> &Cell) -> Self {
        gauge(cells).up();
        Self { cells: Arc::clone(cells), gauge }
    }

    /// Counts in another gauge from now on.
    #[inline]
    pub fn change(&mut self, gauge: fn(&T) -> &Cell) {
        (self.gauge)(&self.cells).down();
        gauge(&self.cells).up();
        self.gauge = gauge;
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        (self.gauge)(&self.cells).down();
    }
}

/// Upper bounds of the buckets in microseconds, inclusive. They reach from what the gateway itself takes to what people wait for.
pub(crate) const BOUNDS: [u32; 20] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 15_000_000, 30_000_000, 45_000_000, 60_000_000,
];

/// For numbers of each length in bits: how many bounds lie below all of them. Two more may lie among them.
#[expect(clippy::indexing_slicing, reason = "runs in the compiler only")]
const BELOW: [usize; 33] = {
    let mut below = [0; 33];
    let mut bits = 1;
    while bits < below.len() {
        let mut count = 0;
        while count < BOUNDS.len() && BOUNDS[count] < 1 << (bits - 1) {
            count += 1;
        }
        below[bits] = count;
        bits += 1;
    }
    below
};

/// How many bounds `micros` exceeds; found without a branch.
#[inline]
fn bucket_of(micros: u32) -> usize {
    let below = BELOW.get((u32::BITS - micros.leading_zeros()) as usize).copied().unwrap_or_default();
    let exceeds = |at: usize| usize::from(BOUNDS.get(at).is_some_and(|bound| micros > *bound));
    below + exceeds(below) + exceeds(below + 1)
}

/// How many took how long, in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One per bound, and the last for what lies above all of them.
    buckets: [Cell; BOUNDS.len() + 1],
    sum: Cell,
}

impl Histogram {
    /// Counts one that took `duration`.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let short = u32::try_from(micros).unwrap_or(u32::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(short)) {
            bucket.up();
        }
        self.sum.add(micros);
    }

    /// Adds what this one holds to `total`.
    pub(crate) fn add_to(&self, total: &mut HistogramSum) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load();
        }
        total.micros = total.micros.wrapping_add(self.sum.load());
    }
}

/// The sum of several workers' histograms.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct HistogramSum {
    /// Not cumulative.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    pub(crate) micros: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_found_as_by_looking_at_all_bounds() {
        let powers = (0..32).map(|bits| 1 << bits);
        for near in BOUNDS.into_iter().chain(powers).chain([u32::MAX]) {
            for micros in [near.saturating_sub(1), near, near.saturating_add(1)] {
                assert_eq!(bucket_of(micros), BOUNDS.iter().filter(|bound| micros > **bound).count(), "{micros}");
            }
        }
    }

    #[test]
    fn a_duration_on_a_bound_counts_below_it() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001, u64::from(u32::MAX) + 5] {
            histogram.record(Duration::from_micros(micros));
        }
        let mut sum = HistogramSum::default();
        histogram.add_to(&mut sum);
        assert_eq!(sum.buckets[..2], [2, 1]);
        assert_eq!(sum.buckets[BOUNDS.len() - 1..], [1, 2]);
        assert_eq!(sum.buckets.iter().sum::<u64>(), 6);
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let cells = Arc::new(Cell::default());
        let first = Held::new(&cells, |cell| cell);
        let second = Held::new(&cells, |cell| cell);
        assert_eq!(cells.load(), 2);
        drop(first);
        assert_eq!(cells.load(), 1);
        drop(second);
        assert_eq!(cells.load(), 0);
    }
}
