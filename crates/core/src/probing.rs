//! When the active check of an endpoint comes next. The next one is planned when the last one is over, so there is never more than
//! one under way.

use std::time::Duration;

use tidegate_config::config::HealthCheck;

use crate::retry::part;

/// The times of one endpoint's checks. The first one is due at once.
#[derive(Debug, Clone)]
pub struct Schedule {
    interval: Duration,
    longest: Duration,
    retries: u32,
    failures: u32,
}

impl Schedule {
    /// As configured, with nothing known of the endpoint.
    pub fn new(check: &HealthCheck) -> Self {
        let longest = check.backoff_max.max(check.interval);
        Self { interval: check.interval, longest, retries: check.retries, failures: 0 }
    }

    /// The time from the end of a check to the next one, up to a tenth more or less, by the `random` bits, so that not all
    /// endpoints are asked at the same moment. An endpoint that is down (after `retries` failures in a row) is asked after one more
    /// interval, then two, four and so on, up to `backoff_max`.
    pub fn next(&mut self, well: bool, random: u64) -> Duration {
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        let doublings = self.failures.saturating_sub(self.retries);
        let doubled = 1_u32.checked_shl(doublings).and_then(|factor| self.interval.checked_mul(factor));
        let wait = doubled.unwrap_or(self.longest).min(self.longest);
        wait / 10 * 9 + part(wait / 5, random)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_config::config::Probe;

    use super::*;

    const MIDDLE: u64 = 1 << 63;

    fn check(interval: u64, backoff_max: u64) -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp,
            port: None,
            interval: Duration::from_secs(interval),
            timeout: Duration::from_secs(5),
            retries: 3,
            rise: 1,
            backoff_max: Duration::from_secs(backoff_max),
        }
    }

    #[test]
    fn an_endpoint_that_stays_down_is_asked_less_and_less() {
        let mut schedule = Schedule::new(&check(30, 300));
        let waits: Vec<_> = (0..8).map(|_| schedule.next(false, MIDDLE).as_secs()).collect();
        assert_eq!(waits, [30, 30, 30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn one_success_brings_the_interval_back() {
        let mut schedule = Schedule::new(&check(30, 300));
        for _ in 0..10 {
            schedule.next(false, MIDDLE);
        }
        assert_eq!(schedule.next(true, MIDDLE).as_secs(), 30);
        assert_eq!(schedule.next(false, MIDDLE).as_secs(), 30);
    }

    #[test]
    fn the_wait_is_never_shorter_than_the_interval_because_of_its_limit() {
        let mut schedule = Schedule::new(&check(30, 1));
        assert_eq!(schedule.next(false, MIDDLE).as_secs(), 30);
    }

    proptest! {
        #[test]
        fn waits_stay_within_a_tenth_of_what_is_planned(results in prop::collection::vec((any::<bool>(), any::<u64>()), 0..100)) {
            let mut schedule = Schedule::new(&check(30, 300));
            for (well, random) in results {
                let wait = schedule.next(well, random);
                let most = if well { 33 } else { 330 };
                prop_assert!((Duration::from_secs(27)..Duration::from_secs(most)).contains(&wait), "{wait:?}");
            }
        }
    }
}
