//! How long the requests of a service take, counted so that a slow one can be told while it still runs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a half of the memory is filled before it takes the place of the other: an answer rests on what came in the last one
/// to two of these.
pub const HALF: Duration = Duration::from_secs(30);

/// Below so many samples there is no answer.
pub const ENOUGH: u64 = 50;

/// Each octave has so many buckets: their width is 3 to 6 % of the latency.
const PER_OCTAVE: usize = 16;

/// Latencies below 2^OCTAVES microseconds are told apart: up to 268 s.
const OCTAVES: usize = 28;

const BUCKETS: usize = PER_OCTAVE * (OCTAVES - PER_OCTAVE.trailing_zeros() as usize + 1);

/// The latencies of the last minute, shared by all workers. Nobody waits: counting is one addition.
#[derive(Debug)]
pub struct Latencies {
    start: Instant,
    /// The half that is being filled, counted from the start.
    current: AtomicU64,
    halves: [Counts; 2],
}

impl Latencies {
    /// Nothing is known yet.
    pub fn new(start: Instant) -> Self {
        Self { start, current: AtomicU64::new(0), halves: [Counts::default(), Counts::default()] }
    }

    /// Counts a request that took `latency`. One counted while the halves change places may be lost.
    #[inline]
    pub fn record(&self, latency: Duration, now: Instant) {
        let half = self.rotate(now);
        if let Some(count) = self.half(half).0.get(bucket(latency)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The time that this share (0.95) of the requests took at most; `None` if there were too few to tell. It reads all buckets:
    /// about a microsecond.
    pub fn percentile(&self, share: f64, now: Instant) -> Option<Duration> {
        self.rotate(now);
        let [one, other] = &self.halves;
        let both =
            |(one, other): (&AtomicU32, &AtomicU32)| u64::from(one.load(Relaxed)) + u64::from(other.load(Relaxed));
        let counts = || one.0.iter().zip(other.0.iter()).map(both);
        let total: u64 = counts().sum();
        if total < ENOUGH {
            return None;
        }
        let mut missing = rank(share, total);
        let bucket = counts().position(|count| {
            missing = missing.saturating_sub(count);
            missing == 0
        });
        // Others may have emptied a half between the two looks.
        Some(upper_edge(bucket?))
    }

    /// The half that `now` belongs to. Whoever notices first that it is a new one empties it.
    #[inline]
    fn rotate(&self, now: Instant) -> u64 {
        let half = now.saturating_duration_since(self.start).as_secs() / HALF.as_secs();
        let current = self.current.load(Relaxed);
        if half <= current || self.current.compare_exchange(current, half, Relaxed, Relaxed).is_err() {
            return half.max(current);
        }
        self.half(half).clear();
        if half - current > 1 {
            self.half(half - 1).clear();
        }
        half
    }

    fn half(&self, number: u64) -> &Counts {
        let [even, odd] = &self.halves;
        if number.is_multiple_of(2) { even } else { odd }
    }
}

#[derive(Debug)]
struct Counts(Box<[AtomicU32; BUCKETS]>);

impl Default for Counts {
    fn default() -> Self {
        Self(Box::new([const { AtomicU32::new(0) }; BUCKETS]))
    }
}

impl Counts {
    fn clear(&self) {
        for count in self.0.iter() {
            count.store(0, Relaxed);
        }
    }
}

/// Buckets are as wide as a sixteenth of the power of two below them; the first sixteen are one microsecond each.
fn bucket(latency: Duration) -> usize {
    let micros = latency.as_micros().min((1 << OCTAVES) - 1) as usize;
    let octave = (micros / PER_OCTAVE).checked_ilog2().map_or(0, |log| log as usize);
    octave * PER_OCTAVE + (micros >> octave)
}

/// The least latency above those in `bucket`.
fn upper_edge(bucket: usize) -> Duration {
    let octave = (bucket / PER_OCTAVE).saturating_sub(1);
    Duration::from_micros(((bucket - octave * PER_OCTAVE + 1) as u64) << octave)
}

/// How many of `total` are a share of it, rounded up; at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a count is a count, and far below 2^52"
)]
fn rank(share: f64, total: u64) -> u64 {
    ((total as f64 * share).ceil() as u64).clamp(1, total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock, ManualClock};

    fn start() -> Instant {
        Clock::Manual(ManualClock::new(Duration::ZERO)).now()
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn too_few_samples_tell_nothing() {
        let (latencies, now) = (Latencies::new(start()), start());
        for _ in 0..49 {
            latencies.record(millis(1), now);
        }
        assert_eq!(latencies.percentile(0.95, now), None);
        latencies.record(millis(1), now);
        assert!(latencies.percentile(0.95, now).is_some());
    }

    #[test]
    fn a_percentile_is_right_to_six_percent() {
        let (latencies, now) = (Latencies::new(start()), start());
        for latency in 1..=1000 {
            latencies.record(millis(latency), now);
        }
        for (share, exact) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1000.0)] {
            let told = latencies.percentile(share, now).unwrap().as_secs_f64() * 1000.0;
            assert!((exact..=exact * 1.0625 + 1.0).contains(&told), "{told} for {exact}");
        }
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let latencies = Latencies::new(start());
        let mut now = start();
        (0..100).for_each(|_| latencies.record(millis(10), now));
        now += HALF;
        (0..100).for_each(|_| latencies.record(millis(100), now));
        assert!(latencies.percentile(0.25, now).unwrap() < millis(11), "both halves count");
        now += HALF;
        assert!(latencies.percentile(0.25, now).unwrap() >= millis(100), "the first half is gone");
        now += 2 * HALF;
        assert_eq!(latencies.percentile(0.25, now), None, "a long silence forgets all");
    }

    #[test]
    fn workers_lose_nothing_within_a_half() {
        let now = start();
        let latencies = Latencies::new(now);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..10_000).for_each(|_| latencies.record(millis(5), now)));
            }
        });
        let [even, _] = &latencies.halves;
        assert_eq!(even.0.iter().map(|count| count.load(Relaxed)).sum::<u32>(), 30_000);
    }

    proptest! {
        #[test]
        fn every_latency_lies_in_its_bucket(micros in 0_u64..1 << OCTAVES) {
            let latency = Duration::from_micros(micros);
            let bucket = bucket(latency);
            prop_assert!(bucket < BUCKETS);
            let edge = upper_edge(bucket);
            prop_assert!(edge > latency);
            prop_assert!(edge.as_micros() <= u128::from(micros + micros / 16 + 1));
        }

        #[test]
        fn longer_latencies_lie_in_later_buckets(micros in 1_u64..1 << 40) {
            let (less, more) = (bucket(Duration::from_micros(micros - 1)), bucket(Duration::from_micros(micros)));
            prop_assert!(less == more || less + 1 == more);
            prop_assert!(more < BUCKETS);
        }
    }
}
