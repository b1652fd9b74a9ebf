//! The one seam for time: every `now` and every wall time of the gateway comes from a [`Clock`], and whoever waits asks it
//! when to wake. Tests and dry runs move a manual clock by hand; nothing there ever sleeps.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clocks: monotonic for deadlines, wall for dates.
    #[default]
    System,
    /// Moved by hand.
    Manual(Arc<ManualClock>),
}

impl Clock {
    /// The monotonic time, for deadlines and durations; that of the [`moment`] in which it is asked for.
    #[inline]
    pub fn now(&self) -> Instant {
        match self {
            Self::System => now(),
            Self::Manual(clock) => clock.now(),
        }
    }

    /// The wall time since the Unix epoch, for dates and logs only: it may jump.
    pub fn wall(&self) -> Duration {
        match self {
            Self::System => wall(),
            Self::Manual(clock) => clock.wall(),
        }
    }
}

/// Runs `work` as one moment: on this thread, the machine's monotonic clock is read no more than once during it. For work that
/// never waits, such as one turn of a task: reading the clock for each of its steps costs more than most of them.
#[inline]
pub fn moment<T>(work: impl FnOnce() -> T) -> T {
    let _ended = Ended;
    MOMENT.set(Moment::Begun);
    work()
}

#[derive(Clone, Copy)]
enum Moment {
    /// Every look at the clock is a new one.
    None,
    /// Nobody has looked yet.
    Begun,
    At(Instant),
}

thread_local! {
    static MOMENT: Cell<Moment> = const { Cell::new(Moment::None) };
}

/// Ends the moment, also when the work panics.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        MOMENT.set(Moment::None);
    }
}

#[inline]
fn now() -> Instant {
    match MOMENT.get() {
        Moment::At(now) => now,
        Moment::Begun => {
            let now = monotonic();
            MOMENT.set(Moment::At(now));
            now
        }
        Moment::None => monotonic(),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
#[inline]
fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is the seam")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A clock that stands still until [`ManualClock::advance`] moves it.
#[derive(Debug)]
pub struct ManualClock {
    epoch: Instant,
    wall_epoch: Duration,
    state: Mutex<ManualState>,
}

#[derive(Debug, Default)]
struct ManualState {
    elapsed: Duration,
    waiting: Vec<(Instant, Waker)>,
}

impl ManualClock {
    /// A clock that reads `wall` (since the Unix epoch) and stands still.
    pub fn new(wall: Duration) -> Arc<Self> {
        Arc::new(Self { epoch: monotonic(), wall_epoch: wall, state: Mutex::default() })
    }

    fn now(&self) -> Instant {
        self.epoch + self.lock().elapsed
    }

    fn wall(&self) -> Duration {
        self.wall_epoch + self.lock().elapsed
    }

    /// Moves the clock on and wakes all who waited for a time that has now come.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.elapsed += by;
        let now = self.epoch + state.elapsed;
        let due: Vec<_> = state.waiting.extract_if(.., |(at, _)| *at <= now).collect();
        drop(state);
        for (_, waker) in due {
            waker.wake();
        }
    }

    /// Wakes `waker` once the clock has reached `at`.
    pub fn wake_at(&self, at: Instant, waker: &Waker) {
        let mut state = self.lock();
        if self.epoch + state.elapsed >= at {
            drop(state);
            waker.wake_by_ref();
        } else {
            state.waiting.push((at, waker.clone()));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clock has moved on when two looks at it differ; it ticks in nanoseconds, so that does not take long.
    fn next_tick(clock: &Clock, after: Instant) -> Instant {
        std::iter::repeat_with(|| clock.now()).find(|now| *now > after).expect("it never ends")
    }

    #[test]
    fn a_moment_has_one_time_and_the_next_one_another() {
        let clock = Clock::System;
        let one = moment(|| {
            let now = clock.now();
            while monotonic() <= now {}
            assert_eq!(clock.now(), now);
            now
        });
        let after = next_tick(&clock, one);
        assert!(moment(|| clock.now()) >= after);
    }

    #[test]
    fn a_moment_that_ends_in_a_panic_is_over() {
        let clock = Clock::System;
        let panicked = std::panic::catch_unwind(|| {
            moment(|| {
                clock.now();
                std::panic::resume_unwind(Box::new(()));
            })
        });
        assert!(panicked.is_err());
        let now = clock.now();
        assert!(next_tick(&clock, now) > now);
    }

    #[test]
    fn a_manual_clock_moves_within_a_moment_too() {
        let manual = ManualClock::new(Duration::ZERO);
        let clock = Clock::Manual(Arc::clone(&manual));
        moment(|| {
            let now = clock.now();
            manual.advance(Duration::from_secs(1));
            assert_eq!(clock.now(), now + Duration::from_secs(1));
        });
    }
}
