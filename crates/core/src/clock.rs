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
    /// The monotonic time, for deadlines and durations; that of the [`turn`] in which it is asked for.
    #[inline]
    pub fn now(&self) -> Instant {
        match self {
            Self::System => now(),
            Self::Manual(clock) => clock.now(),
        }
    }

    /// The same, but read now, also within a [`turn`], which goes on from there: after much work.
    pub fn now_anew(&self) -> Instant {
        if let (Self::System, Turn::At(_)) = (self, TURN.get()) {
            TURN.set(Turn::Begun);
        }
        self.now()
    }

    /// The wall time since the Unix epoch, for dates and logs only: it may jump.
    pub fn wall(&self) -> Duration {
        match self {
            Self::System => wall(),
            Self::Manual(clock) => clock.wall(),
        }
    }
}

/// Runs `work` as one turn: on this thread, the machine's monotonic clock is read no more than once during it, unless somebody
/// asks for the time [anew](Clock::now_anew). For work that never waits, such as one poll of a task: reading the clock for each of
/// its steps costs more than most of them.
#[inline]
pub fn turn<T>(work: impl FnOnce() -> T) -> T {
    let _ended = Ended;
    TURN.set(Turn::Begun);
    work()
}

#[derive(Clone, Copy)]
enum Turn {
    /// There is none: every look at the clock is a new one.
    None,
    /// Nobody has looked yet.
    Begun,
    At(Instant),
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::None) };
}

/// Ends the turn, also when the work panics.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        TURN.set(Turn::None);
    }
}

#[inline]
fn now() -> Instant {
    match TURN.get() {
        Turn::At(now) => now,
        Turn::Begun => {
            let now = monotonic();
            TURN.set(Turn::At(now));
            now
        }
        Turn::None => monotonic(),
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
    fn a_turn_has_one_time_and_the_next_one_another() {
        let clock = Clock::System;
        let one = turn(|| {
            let now = clock.now();
            while monotonic() <= now {}
            assert_eq!(clock.now(), now);
            let anew = clock.now_anew();
            assert!(anew > now && clock.now() == anew);
            anew
        });
        let after = next_tick(&clock, one);
        assert!(turn(|| clock.now()) >= after);
    }

    #[test]
    fn a_turn_that_ends_in_a_panic_is_over() {
        let clock = Clock::System;
        let panicked = std::panic::catch_unwind(|| {
            turn(|| {
                clock.now();
                std::panic::resume_unwind(Box::new(()));
            })
        });
        assert!(panicked.is_err());
        let now = clock.now();
        assert!(next_tick(&clock, now) > now);
    }

    #[test]
    fn a_manual_clock_moves_within_a_turn_too() {
        let manual = ManualClock::new(Duration::ZERO);
        let clock = Clock::Manual(Arc::clone(&manual));
        turn(|| {
            let now = clock.now();
            manual.advance(Duration::from_secs(1));
            assert_eq!(clock.now(), now + Duration::from_secs(1));
        });
    }
}
