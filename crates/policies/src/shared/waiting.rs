//! Waiting that ends.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use tidegate_core::policy::World;

/// What comes of `work`, or `None` if it is not done by `until`.
pub(crate) async fn within<T>(world: &dyn World, until: Instant, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut end) = (pin!(work), world.sleep(until));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}
