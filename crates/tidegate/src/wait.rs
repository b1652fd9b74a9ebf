//! The control thread's one way to wait for time: not without waiting for something else too.

use std::future::Future;
use std::time::Duration;

/// What `future` gives, or `None` if it gives nothing within `limit`.
#[expect(clippy::disallowed_methods, reason = "the one place where the control thread waits for time")]
pub(crate) async fn at_most<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}
