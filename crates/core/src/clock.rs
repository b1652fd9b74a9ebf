//! The one seam for time: every `now` and every wall time of the gateway comes from a [`Clock`], and whoever waits asks it
//! when to wake. Tests and dry runs move a manual clock by hand; nothing there ever sleeps.

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
    /// The monotonic time, for deadlines and durations.
    #[inline]
    pub fn now(&self) -> Instant {
        match self {
            Self::System => monotonic(),
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
