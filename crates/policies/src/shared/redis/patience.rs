//! Waiting with an end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use tidegate_core::policy::World;
use tokio::sync::oneshot;

/// The output of `work`, or `None` if `deadline` comes first.
pub(super) async fn before<F: Future>(world: &dyn World, deadline: Instant, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut alarm = world.sleep(deadline);
    let output = poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => alarm.as_mut().poll(cx).map(|()| None),
    })
    .await;
    if output.is_some() {
        return output;
    }
    // Time may have passed because this thread was busy, with the answer in its socket.
    tokio::task::yield_now().await;
    poll_fn(|cx| {
        Poll::Ready(match work.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

/// Does `work` until its end, or until the other half of `given_up` is dropped.
pub(super) async fn unless(mut given_up: oneshot::Receiver<()>, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    poll_fn(|cx| match pin!(&mut given_up).poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => work.as_mut().poll(cx),
    })
    .await;
}
