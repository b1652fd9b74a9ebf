//! The sliding log: when each of the last requests came, as many as the limit allows, so any window holds exactly the limit. It
//! costs eight bytes for each, so it is for small limits.

use std::collections::VecDeque;

use super::table::State;
use super::{Now, Rate, Rule, saturated};

/// The greatest amount: what a key costs is bounded by it.
pub(super) const MOST: u64 = 64;

/// What a key has done.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// When the latest request slides out.
    idle_at: u64,
    /// When the latest requests passed, or will pass, in their order: never more than the limit.
    passed: VecDeque<u64>,
}

impl State for Log {
    fn idle_at(&self) -> u64 {
        self.idle_at
    }

    fn inherited(&self) -> Option<Self> {
        Some(self.clone())
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SlidingLog(pub(super) Rate);

impl SlidingLog {
    /// How many of so many are too many.
    fn excess(self, log: &Log, weight: u64) -> u64 {
        (log.passed.len() as u64).saturating_add(weight).saturating_sub(self.0.amount)
    }
}

impl Rule for SlidingLog {
    type State = Log;

    fn capacity(&self) -> u64 {
        self.0.amount
    }

    fn wait(&self, log: &Log, weight: u64, now: Now) -> Option<u64> {
        if weight > self.0.amount {
            return None;
        }
        // As many of the oldest must slide out as there are too many.
        let last = usize::try_from(self.excess(log, weight)).ok()?.checked_sub(1).and_then(|last| log.passed.get(last));
        Some(last.map_or(0, |last| last.saturating_add(self.0.period).saturating_sub(now.mono.0)))
    }

    fn take(&self, log: &mut Log, weight: u64, now: Now) {
        for _ in 0..self.excess(log, weight) {
            log.passed.pop_front();
        }
        // The order holds even if another worker has read the clock later.
        let at = log.passed.back().map_or(now.mono.0, |latest| now.mono.0.max(*latest));
        log.passed.extend((0..weight).map(|_| at));
        log.idle_at = at.saturating_add(self.0.period);
    }

    fn remaining(&self, log: &Log, now: Now) -> u64 {
        let out = log.passed.partition_point(|at| at.saturating_add(self.0.period) <= now.mono.0);
        self.0.amount - saturated((log.passed.len() - out) as u128)
    }

    fn reset(&self, log: &Log, now: Now) -> u64 {
        log.idle_at.saturating_sub(now.mono.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{Ask, Outcome, settle};
    use super::*;
    use crate::balance::Nanos;

    const SECOND: u64 = 1_000_000_000;

    struct World {
        rule: SlidingLog,
        log: Log,
    }

    impl World {
        fn new(amount: u64, period: u64) -> Self {
            let rule = SlidingLog(Rate::new(amount, Duration::from_nanos(period)).unwrap());
            Self { rule, log: Log::default() }
        }

        fn ask(&mut self, weight: u64, now: u64, patience: Option<Duration>) -> Outcome {
            let now = Now { mono: Nanos(now), wall: Duration::ZERO };
            settle(&self.rule, &mut self.log, &Ask { weight, now, patience })
        }

        fn decide(&mut self, weight: u64, now: u64) -> Outcome {
            self.ask(weight, now, None)
        }
    }

    #[test]
    fn each_request_counts_for_exactly_one_period() {
        let mut world = World::new(3, 60 * SECOND);
        for second in [0, 10, 20] {
            assert!(world.decide(1, second * SECOND).allowed);
        }
        let refused = world.decide(1, 30 * SECOND);
        assert_eq!((refused.allowed, refused.remaining.whole()), (false, 0));
        assert_eq!(refused.retry_after, Some(Duration::from_secs(30)));
        assert_eq!(refused.reset_after.duration(), Duration::from_secs(50));
        assert!(!world.decide(1, 60 * SECOND - 1).allowed);
        assert!(world.decide(1, 60 * SECOND).allowed);
        assert!(!world.decide(1, 60 * SECOND).allowed);
        assert_eq!(world.decide(2, 60 * SECOND).retry_after, Some(Duration::from_secs(20)));
        assert_eq!(world.decide(4, 1000 * SECOND).retry_after, None);
    }

    #[test]
    fn it_remembers_no_more_than_the_limit_and_copies_nothing() {
        // B35: a log that is rebuilt for each request and never ends.
        let mut world = World::new(5, SECOND);
        assert!((0..10_000).filter(|step| world.decide(1, step * SECOND / 100).allowed).count() >= 495);
        assert_eq!(world.log.passed.len(), 5);
        assert!(world.log.passed.capacity() <= 8);
    }

    #[test]
    fn what_is_reserved_keeps_its_place_in_time() {
        let patience = Some(Duration::from_secs(1));
        let mut world = World::new(2, SECOND);
        let mut waits = |now| {
            let outcome = world.ask(1, now, patience);
            (outcome.allowed, saturated(outcome.wait.as_nanos()))
        };
        assert_eq!(waits(0), (true, 0));
        assert_eq!(waits(SECOND / 2), (true, 0));
        assert_eq!(waits(SECOND / 2), (true, SECOND / 2));
        assert_eq!(waits(SECOND / 2), (true, SECOND));
        assert_eq!(waits(SECOND / 2), (false, 0));
        assert_eq!(waits(3 * SECOND / 2), (true, SECOND / 2));
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_the_limit(
            amount in 1_u64..20,
            period in 1_u64..1000,
            steps in prop::collection::vec((0_u64..100, 0_u64..5, prop::option::of(0_u64..1000)), 1..300),
        ) {
            let mut world = World::new(amount, period);
            let (mut now, mut passed) = (0, Vec::new());
            for (pause, weight, patience) in steps {
                now += pause;
                let outcome = world.ask(weight, now, patience.map(Duration::from_nanos));
                if outcome.allowed {
                    let at = now + saturated(outcome.wait.as_nanos());
                    passed.extend((0..weight).map(|_| at));
                }
            }
            let in_window = |end: u64| passed.iter().filter(|at| **at <= end && **at + period > end).count();
            prop_assert!(passed.iter().all(|at| in_window(*at) <= usize::try_from(amount).unwrap()));
        }

        #[test]
        fn nobody_is_refused_who_would_fit(
            amount in 1_u64..20,
            period in 1_u64..1000,
            steps in prop::collection::vec((0_u64..100, 0_u64..5), 1..200),
        ) {
            let mut world = World::new(amount, period);
            let (mut now, mut passed) = (0, Vec::new());
            for (pause, weight) in steps {
                now += pause;
                passed.retain(|at| at + period > now);
                let fits = passed.len() as u64 + weight <= amount;
                let outcome = world.decide(weight, now);
                prop_assert_eq!(outcome.allowed, fits);
                passed.extend((0..if fits { weight } else { 0 }).map(|_| now));
                prop_assert_eq!(outcome.remaining.whole(), amount - passed.len() as u64);
            }
        }
    }
}
