//! The sliding window, counted in two numbers: what came in this window, and of what came in the last one the part that is still
//! inside when it is taken to have come evenly.

use super::{Bucket, Now, Rate, Rule, saturated};

/// The greatest amount that can be counted.
pub(super) const MOST: u64 = u32::MAX as u64;

/// Windows begin at multiples of the period. [`Bucket::idle_at`] is the end of the window after the one that is counted in;
/// [`Bucket::rest`] holds both counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlidingWindow(pub(super) Rate);

struct Counts {
    /// When the current window began.
    start: u64,
    previous: u64,
    current: u64,
}

impl SlidingWindow {
    /// The counts at a time, or at the start of the window that was reserved in if that is later.
    fn counts(self, bucket: &Bucket, now: u64) -> Counts {
        let start = now - now % self.0.period;
        let (previous, current) = (bucket.rest >> 32, bucket.rest & MOST);
        let counted = self.since(bucket);
        if counted >= start {
            return Counts { start: counted, previous, current };
        }
        let is_next = counted.saturating_add(self.0.period) == start;
        Counts { start, previous: if is_next { current } else { 0 }, current: 0 }
    }

    fn end(self, counts: &Counts) -> u64 {
        counts.start.saturating_add(self.0.period)
    }

    /// How long before the end of a window so little is left of the last one's `count` that there is `room` for it.
    fn early(self, room: u64, count: u64) -> u64 {
        if room >= count {
            return self.0.period;
        }
        saturated(u128::from(room) * u128::from(self.0.period) / u128::from(count))
    }
}

impl Rule for SlidingWindow {
    type State = Bucket;

    fn capacity(&self) -> u64 {
        self.0.amount
    }

    fn wait(&self, bucket: &Bucket, weight: u64, now: Now) -> Option<u64> {
        let room = self.0.amount.checked_sub(weight)?;
        let counts = self.counts(bucket, now.mono.0);
        let end = self.end(&counts);
        let at = match room.checked_sub(counts.current) {
            Some(room) => end - self.early(room, counts.previous),
            None => end.saturating_add(self.0.period - self.early(room, counts.current)),
        };
        Some(at.saturating_sub(now.mono.0))
    }

    fn take(&self, bucket: &mut Bucket, weight: u64, now: Now) {
        let counts = self.counts(bucket, now.mono.0);
        bucket.idle_at = self.end(&counts).saturating_add(self.0.period);
        bucket.rest = counts.previous << 32 | (counts.current + weight);
    }

    fn remaining(&self, bucket: &Bucket, now: Now) -> u64 {
        let counts = self.counts(bucket, now.mono.0);
        let left = self.end(&counts).saturating_sub(now.mono.0.max(counts.start));
        let inside = (u128::from(counts.previous) * u128::from(left)).div_ceil(self.0.period.into());
        self.0.amount.saturating_sub(counts.current).saturating_sub(saturated(inside))
    }

    fn reset(&self, bucket: &Bucket, now: Now) -> u64 {
        bucket.idle_at.saturating_sub(now.mono.0)
    }

    fn since(&self, bucket: &Bucket) -> u64 {
        bucket.idle_at.saturating_sub(2 * self.0.period)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{Ask, Outcome, settle};
    use super::*;
    use crate::balance::Nanos;

    const MINUTE: u64 = 60_000_000_000;

    struct World {
        rule: SlidingWindow,
        bucket: Bucket,
    }

    impl World {
        fn new(amount: u64, period: u64) -> Self {
            let rule = SlidingWindow(Rate::new(amount, Duration::from_nanos(period)).unwrap());
            Self { rule, bucket: Bucket::default() }
        }

        fn ask(&mut self, weight: u64, now: u64, patience: Option<Duration>) -> Outcome {
            let now = Now { mono: Nanos(now), wall: Duration::ZERO };
            settle(&self.rule, &mut self.bucket, &Ask { weight, now, patience })
        }

        fn decide(&mut self, weight: u64, now: u64) -> Outcome {
            self.ask(weight, now, None)
        }

        fn pass(&mut self, now: u64) -> usize {
            (0..1000).filter(|_| self.decide(1, now).allowed).count()
        }
    }

    #[test]
    fn what_came_in_the_last_window_slides_out_evenly() {
        let mut world = World::new(60, MINUTE);
        assert_eq!(world.pass(MINUTE / 2), 60);
        assert_eq!(world.pass(MINUTE), 0, "all of it still counts");
        assert_eq!(world.pass(MINUTE + MINUTE / 4), 15);
        assert_eq!(world.pass(MINUTE + MINUTE / 2), 15);
        assert_eq!(world.pass(2 * MINUTE), 30);
        assert_eq!(world.pass(4 * MINUTE), 60, "an empty window lies between");
    }

    #[test]
    fn a_refusal_says_when_to_come_again_and_takes_nothing() {
        let mut world = World::new(6, MINUTE);
        assert_eq!(world.pass(0), 6);
        let refused = world.decide(1, MINUTE / 2);
        assert_eq!(refused.retry_after, Some(Duration::from_secs(40)));
        assert_eq!(world.decide(1, MINUTE / 2), refused);
        assert!(!world.decide(1, MINUTE + MINUTE / 6 - 1).allowed);
        let outcome = world.decide(1, MINUTE + MINUTE / 6);
        assert_eq!((outcome.allowed, outcome.limit, outcome.remaining.whole()), (true, 6, 0));
        assert_eq!(outcome.reset_after.duration(), Duration::from_secs(110));
        assert_eq!(world.decide(7, 0).retry_after, None);
    }

    #[test]
    fn a_worker_whose_clock_was_read_earlier_is_not_refused_for_it() {
        let mut world = World::new(6, MINUTE);
        assert!(world.decide(1, MINUTE).allowed);
        assert!(world.decide(1, MINUTE - 5).allowed);
        assert_eq!(world.pass(MINUTE), 4);
    }

    #[test]
    fn what_is_reserved_counts_when_its_time_has_come() {
        let patience = Some(Duration::from_mins(1));
        let mut world = World::new(6, MINUTE);
        assert_eq!(world.pass(30), 6);
        let outcome = world.ask(2, 30, patience);
        assert_eq!((outcome.allowed, outcome.wait), (false, Duration::ZERO));
        assert_eq!(outcome.retry_after, Some(Duration::from_nanos(MINUTE + MINUTE / 3 - 30)));
        let outcome = world.ask(2, MINUTE / 2, patience);
        assert_eq!((outcome.allowed, outcome.wait), (true, Duration::from_secs(50)));
        assert_eq!(world.pass(MINUTE + MINUTE / 3), 0);
        assert_eq!(world.pass(MINUTE + MINUTE / 2), 1);
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_twice_the_limit(
            amount in 1_u64..20,
            period in 1_u64..1000,
            steps in prop::collection::vec((0_u64..100, 0_u64..5), 1..300),
        ) {
            let mut world = World::new(amount, period);
            let (mut now, mut granted) = (0, Vec::new());
            for (pause, weight) in steps {
                now += pause;
                let outcome = world.decide(weight, now);
                if outcome.allowed {
                    granted.push((now, weight));
                }
                let inside: u64 = granted.iter().filter(|(at, _)| at + period > now).map(|(_, weight)| weight).sum();
                prop_assert!(inside < 2 * amount, "{inside} of {amount}");
                let mut copy = World { bucket: world.bucket, ..world };
                prop_assert!(copy.decide(outcome.remaining.whole(), now).allowed);
                prop_assert!(!copy.decide(1, now).allowed);
            }
        }

        #[test]
        fn the_same_request_passes_exactly_when_it_was_told_to_come_again(
            amount in 4_u64..20,
            period in 1_u64..1000,
            steps in prop::collection::vec((0_u64..100, 0_u64..5), 1..100),
        ) {
            let mut world = World::new(amount, period);
            let mut now = 0;
            for (pause, weight) in steps {
                now += pause;
                let Some(after) = world.decide(weight, now).retry_after else { continue };
                let after = saturated(after.as_nanos());
                prop_assert!(!world.decide(weight, now + after - 1).allowed);
                now += after;
                prop_assert!(world.decide(weight, now).allowed);
            }
        }
    }
}
