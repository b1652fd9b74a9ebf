//! The world of `explain`: time stands still, nobody outside answers, and what somebody would have been asked is written down.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tidegate_core::clock::Clock;
use tidegate_core::policy::{Answer, Call, CallError, Local, World};

/// A world in which nothing goes on but what is asked for.
pub(super) struct Still {
    now: Instant,
    wall: Duration,
    asked: RefCell<Vec<String>>,
}

impl Still {
    /// The moment of this call.
    pub(super) fn now() -> Self {
        Self { now: Clock::System.now(), wall: Clock::System.wall(), asked: RefCell::default() }
    }

    /// What comes of it, or else who would have to answer first, as far as that is known.
    pub(super) fn finish<T>(&self, work: impl Future<Output = T>) -> Result<T, Vec<String>> {
        let mut work = pin!(work);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        self.asked.take();
        loop {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(done);
            }
            // What woke itself goes on; anything else waits for what does not happen here.
            if !woken.0.swap(false, Relaxed) {
                return Err(self.asked.take());
            }
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl World for Still {
    fn now(&self) -> Instant {
        self.now
    }

    fn wall(&self) -> Duration {
        self.wall
    }

    fn random(&self) -> u128 {
        0
    }

    fn worker(&self) -> usize {
        0
    }

    fn sleep(&self, until: Instant) -> Local<'_, ()> {
        if until <= self.now { Box::pin(std::future::ready(())) } else { Box::pin(std::future::pending()) }
    }

    fn call<'a>(&'a self, service: &'a str, call: Call<'a>) -> Local<'a, Result<Answer, CallError>> {
        self.asked.borrow_mut().push(format!("service `{service}` ({} {})", call.head.method, call.head.target));
        Box::pin(std::future::pending())
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> Local<'_, ()> {
        Box::pin(async move { work() })
    }

    /// Nothing goes on beside the request: connections are not opened.
    fn spawn(&self, _: Local<'static, ()>) {}
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_http1::RequestHead;

    use super::*;

    #[test]
    fn services_are_written_down_and_do_not_answer() {
        let world = Still::now();
        let ask = async {
            let head = RequestHead { target: "/verify".to_owned(), ..RequestHead::default() };
            let call = Call { head, body: Bytes::new(), deadline: world.now, retry: None, most: 1 };
            world.call("auth", call).await.is_ok()
        };
        assert_eq!(world.finish(ask), Err(vec!["service `auth` (GET /verify)".to_owned()]));
        assert_eq!(world.finish(world.sleep(world.now + Duration::from_secs(1))), Err(Vec::new()), "time stands still");
        assert_eq!(world.finish(world.sleep(world.now)), Ok(()));
    }

    #[test]
    fn what_wakes_itself_goes_on_and_work_aside_is_done() {
        let world = Still::now();
        let mut turns = 0;
        let work = std::future::poll_fn(|cx| {
            turns += 1;
            cx.waker().wake_by_ref();
            if turns < 5 { Poll::Pending } else { Poll::Ready(turns) }
        });
        assert_eq!(world.finish(work), Ok(5));
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        assert_eq!(world.finish(world.blocking(Box::new(move || told.store(true, Relaxed)))), Ok(()));
        assert!(done.load(Relaxed));
    }
}
