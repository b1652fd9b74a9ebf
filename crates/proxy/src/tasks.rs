//! The only place that spawns, and where tasks make way for each other. A task dies with its handle, unless it is let go on
//! purpose.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use tidegate_core::clock::turn;

/// A running task; dropping it ends the task.
#[must_use = "dropping a task ends it"]
#[derive(Debug)]
pub struct Task(Option<tokio::task::JoinHandle<()>>);

impl Task {
    /// Lets the task run to its own end (or to that of its runtime).
    pub fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort();
        }
    }
}

pin_project! {
    /// A task whose every poll is one turn of the clock.
    struct Turns<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Turns<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        turn(|| self.project().future.poll(cx))
    }
}

/// Runs `future` on this thread. Within one poll the clock stands still, see [`turn`].
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn_local(future: impl Future<Output = ()> + 'static) -> Task {
    Task(Some(tokio::task::spawn_local(Turns { future })))
}

/// What `work` returns: it may block, so it runs on a thread that serves nobody. `None` if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

/// What `work` says when it is polled now. Whom it has to wait for wakes nobody; and the runtime's cooperative budget, which would let a
/// task that has used it up wait for nothing, does not count.
pub(crate) fn at_once<T>(work: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let mut cx = Context::from_waker(Waker::noop());
    pin!(tokio::task::unconstrained(poll_fn(work))).poll(&mut cx)
}

/// Returns after the tasks that are ready now had their turn. Called before a message is sent, so that a worker first reads
/// what has come on all of its connections and then sends in one burst: a peer on this machine is woken once for several
/// messages, and waking it is a large part of what sending costs.
pub(crate) async fn let_others_go_first() {
    let mut went = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut went, true) {
            return Poll::Ready(());
        }
        // Not tokio's own `yield_now`: that waits for a look at all sockets as well.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
