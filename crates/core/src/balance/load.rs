//! What an endpoint has to do right now and how long it takes to answer, as all workers see it, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nanoseconds since some origin of the caller's, which never run backwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

/// The live load of one endpoint. It has a cache line for itself (two, because processors fetch them in pairs), so that
/// workers that count at one endpoint do not slow down those at another.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    /// Requests in flight in the lower half, and how many of them wait for the head of their reply in the upper half: one change
    /// for both.
    requests: AtomicU64,
    /// A [`Peak`]; 0 before the first answer.
    peak: AtomicU64,
}

/// One request that waits, in [`Load::requests`].
const WAITING: u64 = 1 << 32;

impl Load {
    /// A request goes to the endpoint, and waits for the head of its reply.
    pub fn start(&self) {
        self.requests.fetch_add(WAITING | 1, Ordering::Relaxed);
    }

    /// A request that was started waits no longer.
    pub fn stop_waiting(&self) {
        self.requests.fetch_sub(WAITING, Ordering::Relaxed);
    }

    /// A request that was started and waits no longer is over, however it ended.
    pub fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests started and not ended.
    pub fn in_flight(&self) -> u32 {
        u32::try_from(self.requests.load(Ordering::Relaxed) % WAITING).unwrap_or_default()
    }

    /// Requests that wait for the head of their reply.
    pub fn waiting(&self) -> u32 {
        (self.requests.load(Ordering::Relaxed) >> 32) as u32
    }

    /// An answer came after `latency`. A longer one than is remembered counts at once and in full; shorter ones count by the
    /// time that passed since the last. Of those that come within 4 ms only the first counts, besides longer ones.
    pub fn answered(&self, latency: Duration, now: Nanos) {
        let sample = latency.as_secs_f32() * 1e9;
        self.peak.update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
            Peak::read(bits).map_or(Peak::first(sample, now), |peak| peak.add(sample, now)).bits()
        });
    }

    /// The peak-sensitive moving average of the latency, which halves every 8.6 s without answers. `None` before the first
    /// answer, and again 34 s after the last: too long ago to tell.
    pub fn latency(&self, now: Nanos) -> Option<Duration> {
        let seconds = self.nanos(now)? / 1e9;
        Some(Duration::try_from_secs_f32(seconds).unwrap_or(Duration::MAX))
    }

    /// The same, as a plain number.
    pub(super) fn nanos(&self, now: Nanos) -> Option<f32> {
        Peak::read(self.peak.load(Ordering::Relaxed))?.decayed(now)
    }
}

/// A latency and when it was last touched, small enough for one atomic.
#[derive(Clone, Copy)]
struct Peak {
    /// In nanoseconds, at least 1.
    latency: f32,
    /// In ticks, which start over after 208 days.
    stamp: u32,
}

impl Peak {
    /// A tick is 2^22 ns, 4.2 ms.
    const TICK_BITS: u32 = 22;
    /// A half-life is 2^11 ticks, 8.6 s.
    const HALF_LIFE_BITS: u32 = 11;
    /// So many half-lives after the last answer it is forgotten.
    const MEMORY: u32 = 4;

    fn first(latency: f32, now: Nanos) -> Self {
        Self { latency: latency.max(1.0), stamp: ticks(now) }
    }

    fn read(bits: u64) -> Option<Self> {
        let (high, low) = ((bits >> 32) as u32, bits & u64::from(u32::MAX));
        (bits != 0).then(|| Self { latency: f32::from_bits(high), stamp: u32::try_from(low).unwrap_or_default() })
    }

    fn bits(self) -> u64 {
        u64::from(self.latency.to_bits()) << 32 | u64::from(self.stamp)
    }

    fn add(self, sample: f32, now: Nanos) -> Self {
        let age = self.age(now);
        let kept = remaining(age);
        let forgotten = age >> Self::HALF_LIFE_BITS >= Self::MEMORY;
        let replaces = sample >= self.latency || forgotten;
        let latency = if replaces { sample } else { self.latency * kept + sample * (1.0 - kept) };
        // The stamp never goes back, even if another worker's clock was read a little later.
        Self { latency: latency.max(1.0), stamp: self.stamp.wrapping_add(age) }
    }

    fn decayed(self, now: Nanos) -> Option<f32> {
        let age = self.age(now);
        (age >> Self::HALF_LIFE_BITS < Self::MEMORY).then(|| self.latency * remaining(age))
    }

    /// Ticks since the last answer.
    fn age(self, now: Nanos) -> u32 {
        let age = ticks(now).wrapping_sub(self.stamp);
        // More than half of all ticks ahead is a little behind: see `add`.
        if age > u32::MAX / 2 { 0 } else { age }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "ticks start over: ages are differences")]
fn ticks(now: Nanos) -> u32 {
    (now.0 >> Peak::TICK_BITS) as u32
}

/// What is left of 1 after `age` ticks: half after each half-life, on straight lines between. Only a few instructions, because
/// it is asked for every candidate.
#[expect(clippy::cast_precision_loss, reason = "a part of a half-life has 11 bits")]
fn remaining(age: u32) -> f32 {
    let half_life = 1 << Peak::HALF_LIFE_BITS;
    let halvings = age / half_life;
    if halvings > 100 {
        return 0.0;
    }
    let power = f32::from_bits((127 - halvings) << 23);
    power * (1.0 - (age % half_life) as f32 / (2 * half_life) as f32)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Load, Nanos, remaining};

    const SECOND: u64 = 1_000_000_000;
    const HALF_LIFE: u64 = 1 << 33;

    /// Two requests come and one is answered.
    fn work(load: &Load, turn: u64) {
        load.start();
        load.start();
        load.answered(Duration::from_micros(turn), Nanos(turn));
        load.stop_waiting();
        load.end();
    }

    fn millis(load: &Load, now: u64) -> Option<u128> {
        load.latency(Nanos(now)).map(|latency| (latency + Duration::from_micros(500)).as_millis())
    }

    #[test]
    fn nothing_is_known_before_the_first_answer_and_long_after_the_last() {
        let load = Load::default();
        assert_eq!(millis(&load, 0), None);
        load.answered(Duration::from_millis(80), Nanos(SECOND));
        assert_eq!(millis(&load, SECOND), Some(80));
        assert_eq!(millis(&load, SECOND + HALF_LIFE), Some(40));
        assert_eq!(millis(&load, SECOND + 3 * HALF_LIFE), Some(10));
        assert_eq!(millis(&load, SECOND + 4 * HALF_LIFE), None);
        load.answered(Duration::from_millis(20), Nanos(SECOND + 5 * HALF_LIFE));
        assert_eq!(millis(&load, SECOND + 5 * HALF_LIFE), Some(20), "what is forgotten is not averaged");
    }

    #[test]
    fn a_peak_counts_at_once_and_better_times_slowly() {
        let load = Load::default();
        load.answered(Duration::from_millis(10), Nanos(0));
        load.answered(Duration::from_millis(100), Nanos(1));
        assert_eq!(millis(&load, 1), Some(100));
        load.answered(Duration::from_millis(10), Nanos(2));
        assert_eq!(millis(&load, 2), Some(100));
        (1..200).for_each(|step| load.answered(Duration::from_millis(10), Nanos(step * HALF_LIFE / 10)));
        assert_eq!(millis(&load, 199 * HALF_LIFE / 10), Some(10));
    }

    #[test]
    fn no_latency_is_too_long() {
        let load = Load::default();
        load.answered(Duration::MAX, Nanos(0));
        assert_eq!(load.latency(Nanos(0)), Some(Duration::MAX));
    }

    #[test]
    fn a_clock_that_was_read_a_little_earlier_forgets_nothing() {
        let load = Load::default();
        load.answered(Duration::from_millis(30), Nanos(5 * SECOND));
        assert_eq!(millis(&load, 4 * SECOND), Some(30));
        load.answered(Duration::from_millis(10), Nanos(4 * SECOND));
        assert_eq!(millis(&load, 5 * SECOND), Some(30));
    }

    #[test]
    fn counters_add_up_across_threads() {
        let load = &Load::default();
        thread::scope(|scope| {
            (0..4).for_each(|thread| drop(scope.spawn(move || (0..10_000).for_each(|turn| work(load, turn + thread)))));
        });
        assert_eq!((load.in_flight(), load.waiting()), (40_000, 40_000));
        assert_eq!(load.latency(Nanos(10_000)).map(|latency| latency.as_micros()), Some(10_002));
    }

    proptest! {
        #[test]
        fn the_average_stays_between_the_least_and_the_greatest(
            samples in prop::collection::vec((1_u16..5_000, 0_u64..2_000), 1..50)
        ) {
            let load = Load::default();
            let mut now = 0;
            for (latency, pause) in &samples {
                now += pause * 1_000_000;
                load.answered(Duration::from_millis((*latency).into()), Nanos(now));
            }
            let average = load.latency(Nanos(now)).map(|latency| latency.as_secs_f32() * 1e3);
            let (least, most) = samples.iter().fold((u16::MAX, 0), |(least, most), (latency, _)| {
                (least.min(*latency), most.max(*latency))
            });
            let average = average.unwrap_or_default();
            prop_assert!(average >= f32::from(least) * 0.999 && average <= f32::from(most) * 1.001);
        }

        #[test]
        fn what_remains_never_grows(age in 0_u32..1_000_000) {
            prop_assert!(remaining(age + 1) <= remaining(age));
        }
    }
}
