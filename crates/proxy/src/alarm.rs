//! Waiting for a point in time, made for deadlines that nearly never come: one alarm per connection serves all of its
//! deadlines, and moving a deadline later costs nothing. Everything that waits for time waits here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidegate_core::clock::{Clock, ManualClock};

/// Wakes its task when a deadline comes. It may be polled with several deadlines in turn: it is armed for the earliest, and
/// whoever is woken polls again with its own.
pub(crate) struct Alarm {
    clock: Clock,
    armed: Option<Instant>,
    source: Source,
    /// Whom to wake when it is rung. Kept, because to clone a waker is a locked instruction.
    owner: Option<Waker>,
}

enum Source {
    Idle,
    System(Pin<Box<tokio::time::Sleep>>),
    Manual(Arc<ManualClock>),
}

impl Alarm {
    pub(crate) fn new(clock: &Clock) -> Self {
        let source = match clock {
            Clock::System => Source::Idle,
            Clock::Manual(manual) => Source::Manual(Arc::clone(manual)),
        };
        Self { clock: clock.clone(), armed: None, source, owner: None }
    }

    /// From now on, to ring it is to wake this task.
    pub(crate) fn attend(&mut self, cx: &Context<'_>) {
        if self.owner.as_ref().is_none_or(|owner| !owner.will_wake(cx.waker())) {
            self.owner = Some(cx.waker().clone());
        }
    }

    /// Wakes who attends it, whatever the time.
    pub(crate) fn ring(&self) {
        if let Some(owner) = &self.owner {
            owner.wake_by_ref();
        }
    }

    /// Ready once `at` has come. While it has not, the task is woken at `at` or before; a wake-up before its time is normal.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        if self.armed.is_some_and(|armed| armed <= at) && !self.has_fired() {
            return Poll::Pending;
        }
        if self.clock.now() >= at {
            return Poll::Ready(());
        }
        self.arm(cx, at);
        Poll::Pending
    }

    fn has_fired(&self) -> bool {
        match &self.source {
            Source::Idle => true,
            Source::System(sleep) => sleep.is_elapsed(),
            Source::Manual(_) => self.armed.is_none_or(|armed| self.clock.now() >= armed),
        }
    }

    fn arm(&mut self, cx: &mut Context<'_>, at: Instant) {
        self.armed = Some(at);
        match &mut self.source {
            Source::Idle => {
                let mut sleep = Box::pin(sleep_until(at));
                wake_at(&mut sleep, cx);
                self.source = Source::System(sleep);
            }
            Source::System(sleep) => {
                sleep.as_mut().reset(at.into());
                wake_at(sleep, cx);
            }
            Source::Manual(clock) => clock.wake_at(at, cx.waker()),
        }
    }
}

/// Registers the task with the timer. Outside the runtime's cooperative budget: a task that has used its budget up would be told
/// to wait without being registered, and its deadline would be lost.
fn wake_at(sleep: &mut Pin<Box<tokio::time::Sleep>>, cx: &mut Context<'_>) {
    let polled = std::pin::pin!(tokio::task::unconstrained(sleep.as_mut())).poll(cx);
    if polled.is_ready() {
        cx.waker().wake_by_ref();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
fn sleep_until(at: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(at.into())
}

/// Returns once `duration` has passed on `clock`.
pub(crate) async fn pause(clock: &Clock, duration: Duration) {
    let at = clock.now() + duration;
    let mut alarm = Alarm::new(clock);
    std::future::poll_fn(|cx| alarm.poll(cx, at)).await;
}

/// The output of `future`, or `None` if `at` comes first.
pub(crate) async fn until<F: Future>(clock: &Clock, at: Instant, future: F) -> Option<F::Output> {
    let mut alarm = Alarm::new(clock);
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => alarm.poll(cx, at).map(|()| None),
    })
    .await
}
