//! The fixed window, for quotas: what came since the hour, the day or the month of thirty days began. Whoever uses up one window at
//! its end and the next at its start gets twice the amount at once, so it is for quotas only.

use super::{Bucket, Now, Rate, Rule, saturated};

/// The greatest amount that can be counted.
pub(super) const MOST: u64 = (1 << COUNT_BITS) - 1;

const COUNT_BITS: u32 = 48;

/// The two clocks are not read at the same moment, and the wall clock is corrected by small steps. A window is remembered so
/// many nanoseconds longer, so that it does not begin anew before the wall clock says so.
const SLACK: u64 = 1_000_000_000;

/// Windows begin at multiples of the period since the Unix epoch. [`Bucket::idle_at`] is the window's end and [`SLACK`];
/// [`Bucket::rest`] holds the number of the window, of which 16 bits are enough to tell what is later, and the count.
///
/// A wall clock that is set forward begins a new window. One that is set back does not: the old window ends when its time is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct FixedWindow(pub(super) Rate);

#[derive(Clone, Copy)]
struct Window {
    number: u16,
    /// By the monotonic clock.
    end: u64,
    count: u64,
}

impl FixedWindow {
    fn window(self, bucket: &Bucket, now: Now) -> Window {
        let (wall, period) = (saturated(now.wall.as_nanos()), self.0.period);
        let number = low_bits(wall / period);
        let counted = low_bits(bucket.rest >> COUNT_BITS);
        let is_later = (1..1 << 15).contains(&number.wrapping_sub(counted));
        if now.mono.0 < bucket.idle_at && !is_later {
            return Window { number: counted, end: bucket.idle_at.saturating_sub(SLACK), count: bucket.rest & MOST };
        }
        Window { number, end: now.mono.0.saturating_add(period - wall % period), count: 0 }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the numbers of windows start over: only differences count")]
fn low_bits(number: u64) -> u16 {
    number as u16
}

impl Rule for FixedWindow {
    type State = Bucket;

    fn capacity(&self) -> u64 {
        self.0.amount
    }

    fn wait(&self, bucket: &Bucket, weight: u64, now: Now) -> Option<u64> {
        let room = self.0.amount.checked_sub(weight)?;
        let window = self.window(bucket, now);
        if window.count <= room {
            return Some(self.since(bucket).saturating_sub(now.mono.0));
        }
        // Even if its end has come by one clock and not by the other.
        Some(window.end.saturating_sub(now.mono.0).max(1))
    }

    fn take(&self, bucket: &mut Bucket, weight: u64, now: Now) {
        let mut window = self.window(bucket, now);
        if window.count + weight > self.0.amount {
            let end = window.end.saturating_add(self.0.period);
            window = Window { number: window.number.wrapping_add(1), end, count: 0 };
        }
        bucket.idle_at = window.end.saturating_add(SLACK);
        bucket.rest = u64::from(window.number) << COUNT_BITS | (window.count + weight);
    }

    fn remaining(&self, bucket: &Bucket, now: Now) -> u64 {
        self.0.amount.saturating_sub(self.window(bucket, now).count)
    }

    fn reset(&self, bucket: &Bucket, now: Now) -> u64 {
        self.window(bucket, now).end.saturating_sub(now.mono.0)
    }

    fn since(&self, bucket: &Bucket) -> u64 {
        bucket.idle_at.saturating_sub(SLACK + self.0.period)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Ask, Outcome, settle};
    use super::*;
    use crate::balance::Nanos;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;
    /// 2026-11-21 00:00:00 UTC.
    const MIDNIGHT: u64 = 1_795_219_200;

    /// Times are in seconds.
    struct World {
        rule: FixedWindow,
        bucket: Bucket,
        wall: u64,
        mono: u64,
    }

    impl World {
        fn new(amount: u64, period: u64, wall: u64) -> Self {
            let rule = FixedWindow(Rate::new(amount, Duration::from_secs(period)).unwrap());
            Self { rule, bucket: Bucket::default(), wall, mono: 5 }
        }

        fn advance(&mut self, seconds: u64) {
            self.wall += seconds;
            self.mono += seconds;
        }

        fn ask(&mut self, weight: u64, patience: Option<Duration>) -> Outcome {
            let now = Now { mono: Nanos(self.mono * 1_000_000_000), wall: Duration::from_secs(self.wall) };
            settle(&self.rule, &mut self.bucket, &Ask { weight, now, patience })
        }

        fn decide(&mut self, weight: u64) -> Outcome {
            self.ask(weight, None)
        }

        fn pass(&mut self) -> usize {
            (0..1000).filter(|_| self.decide(1).allowed).count()
        }
    }

    #[test]
    fn a_quota_begins_anew_with_the_day() {
        let mut world = World::new(10, DAY, MIDNIGHT + 23 * HOUR);
        let outcome = world.decide(4);
        assert_eq!((outcome.allowed, outcome.limit, outcome.remaining.whole()), (true, 10, 6));
        assert_eq!(outcome.reset_after.duration(), Duration::from_secs(HOUR));
        assert_eq!(world.pass(), 6);
        world.advance(HOUR - 1);
        assert_eq!(world.decide(1).retry_after, Some(Duration::from_secs(1)));
        world.advance(1);
        assert_eq!(world.pass(), 10);
        world.advance(20 * DAY);
        assert_eq!(world.pass(), 10);
        assert_eq!(world.decide(11).retry_after, None);
    }

    #[test]
    fn a_refusal_takes_nothing() {
        let mut world = World::new(10, HOUR, MIDNIGHT);
        assert!(world.decide(8).allowed);
        let refused = world.decide(3);
        assert_eq!((refused.allowed, refused.remaining.whole()), (false, 2));
        assert_eq!(refused.retry_after, Some(Duration::from_secs(HOUR)));
        assert_eq!(world.decide(3), refused);
        assert!(world.decide(2).allowed);
    }

    #[test]
    fn a_wall_clock_that_is_set_back_gives_no_new_quota() {
        let mut world = World::new(10, HOUR, MIDNIGHT);
        assert_eq!(world.pass(), 10);
        world.wall -= 10;
        assert_eq!(world.pass(), 0);
        world.wall -= 10 * HOUR;
        assert_eq!(world.pass(), 0);
        world.advance(HOUR - 1);
        assert_eq!(world.pass(), 0);
        world.advance(2);
        assert_eq!(world.pass(), 10, "an hour has passed, whatever the wall clock says");
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_begins_a_new_window() {
        let mut world = World::new(10, HOUR, MIDNIGHT);
        assert_eq!(world.pass(), 10);
        world.wall += HOUR;
        assert_eq!(world.pass(), 10);
        assert_eq!(world.pass(), 0);
    }

    #[test]
    fn a_wall_clock_that_lags_a_little_gives_no_window_between_windows() {
        let mut world = World::new(10, HOUR, MIDNIGHT);
        assert_eq!(world.pass(), 10);
        world.advance(HOUR);
        world.wall -= 1;
        assert_eq!(world.pass(), 0);
        assert!(world.decide(1).retry_after.is_some_and(|after| !after.is_zero()));
        world.wall += 1;
        assert_eq!(world.pass(), 10);
    }

    #[test]
    fn what_is_reserved_is_taken_from_the_next_window() {
        let mut world = World::new(10, 60, MIDNIGHT + 50);
        assert_eq!(world.pass(), 10);
        assert!(!world.ask(4, Some(Duration::from_secs(9))).allowed);
        let outcome = world.ask(4, Some(Duration::from_secs(10)));
        assert_eq!((outcome.allowed, outcome.wait), (true, Duration::from_secs(10)));
        let outcome = world.ask(4, Some(Duration::from_secs(10)));
        assert_eq!((outcome.allowed, outcome.wait), (true, Duration::from_secs(10)));
        assert!(!world.ask(4, Some(Duration::from_secs(10))).allowed);
        world.advance(10);
        assert_eq!(world.pass(), 2);
    }
}
