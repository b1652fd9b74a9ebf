//! How long a peer may keep the gateway waiting: never silent for longer than its idle timeout, and after a time of grace never
//! slower than the minimum rate. Only time that is spent waiting for this peer counts.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tidegate_core::clock::Clock;

use crate::alarm::Alarm;

/// Waiting time before the minimum rate applies.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// What one peer may do in one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Longest silence.
    pub(crate) idle: Duration,
    /// Bytes per second; `None` for streams, which may be as slow as they like.
    pub(crate) min_rate: Option<u64>,
}

/// Keeps account of the time spent waiting for one peer in one direction of one message.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waited: Duration,
    waiting_since: Option<Instant>,
    bytes: u64,
}

impl Pace {
    /// The peer moved: `bytes` were read from it, or taken by it.
    #[inline]
    pub(crate) fn moved(&mut self, bytes: usize, clock: &Clock) {
        self.bytes += bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += clock.now().saturating_duration_since(since);
        }
    }

    /// Waits on: ready once the peer's patience is used up.
    pub(crate) fn poll_late(
        &mut self,
        patience: Patience,
        clock: &Clock,
        alarm: &mut Alarm,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(|| clock.now());
        alarm.poll(cx, self.deadline(since, patience))
    }

    /// Why a wait that was too long was: true if it was the minimum rate, false if it was silence.
    pub(crate) fn is_below_rate(&self, patience: Patience, clock: &Clock) -> bool {
        let silent = self.waiting_since.map(|since| clock.now().saturating_duration_since(since));
        patience.min_rate.is_some() && silent.is_some_and(|silent| silent < patience.idle)
    }

    fn deadline(&self, since: Instant, patience: Patience) -> Instant {
        let silent = since + patience.idle;
        let Some(rate) = patience.min_rate.filter(|rate| *rate > 0) else { return silent };
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / rate);
        // Who was quick may rest for a while, not for ever.
        let credit = earned.clamp(GRACE, self.waited + 10 * GRACE);
        let slow = since + credit.saturating_sub(self.waited);
        silent.min(slow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_core::clock::ManualClock;

    const IDLE: Duration = Duration::from_secs(30);

    fn late(pace: &mut Pace, rate: Option<u64>, clock: &Clock) -> bool {
        let mut alarm = Alarm::new(clock);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        pace.poll_late(Patience { idle: IDLE, min_rate: rate }, clock, &mut alarm, &mut cx).is_ready()
    }

    fn clock() -> (Clock, std::sync::Arc<ManualClock>) {
        let manual = ManualClock::new(Duration::ZERO);
        (Clock::Manual(std::sync::Arc::clone(&manual)), manual)
    }

    #[test]
    fn silence_is_bounded_by_the_idle_timeout() {
        let (clock, manual) = clock();
        let mut pace = Pace::default();
        assert!(!late(&mut pace, None, &clock));
        manual.advance(Duration::from_millis(29_999));
        assert!(!late(&mut pace, None, &clock));
        manual.advance(Duration::from_millis(1));
        assert!(late(&mut pace, None, &clock));
    }

    #[test]
    fn a_peer_that_drips_is_let_go_after_the_grace() {
        let (clock, manual) = clock();
        let mut pace = Pace::default();
        let mut seconds = 0;
        while !late(&mut pace, Some(240), &clock) {
            manual.advance(Duration::from_secs(1));
            seconds += 1;
            if late(&mut pace, Some(240), &clock) {
                break;
            }
            pace.moved(1, &clock);
            assert!(seconds < 20, "one byte a second never ends");
        }
        assert_eq!(seconds, 10);
    }

    #[test]
    fn a_peer_at_the_minimum_rate_may_stay() {
        let (clock, manual) = clock();
        let mut pace = Pace::default();
        for _ in 0..120 {
            assert!(!late(&mut pace, Some(240), &clock));
            manual.advance(Duration::from_secs(1));
            assert!(!late(&mut pace, Some(240), &clock) || pace.bytes < 2400);
            pace.moved(300, &clock);
        }
    }

    #[test]
    fn time_that_is_not_spent_waiting_does_not_count() {
        let (clock, manual) = clock();
        let mut pace = Pace::default();
        pace.moved(10, &clock);
        manual.advance(Duration::from_hours(1));
        assert!(!late(&mut pace, Some(240), &clock));
    }
}
