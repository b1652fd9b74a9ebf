//! The only place that spawns. A task dies with its handle, unless it is let go on purpose.

use std::future::Future;

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

/// Runs `future` on this thread.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub fn spawn_local(future: impl Future<Output = ()> + 'static) -> Task {
    Task(Some(tokio::task::spawn_local(future)))
}

/// What `work` returns: it may block, so it runs on a thread that serves nobody. `None` if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
