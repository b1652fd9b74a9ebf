//! A worker's thread, as far as gates ask for it: on the real clock, without services.
#![expect(
    clippy::disallowed_methods,
    reason = "it is the bench's own seam of time, and its tasks end with their runtime"
)]

use std::time::{Duration, Instant, SystemTime};

use tidegate_core::policy::{Answer, Call, CallError, Local, World};

pub(crate) struct Thread;

impl World for Thread {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> Duration {
        SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
    }

    fn random(&self) -> u128 {
        fastrand::u128(..)
    }

    fn worker(&self) -> usize {
        0
    }

    fn sleep(&self, until: Instant) -> Local<'_, ()> {
        Box::pin(tokio::time::sleep_until(until.into()))
    }

    fn call<'a>(&'a self, service: &'a str, _: Call<'a>) -> Local<'a, Result<Answer, CallError>> {
        Box::pin(std::future::ready(Err(CallError::Unasked(format!("there is no service {service}")))))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> Local<'_, ()> {
        work();
        Box::pin(std::future::ready(()))
    }

    fn spawn(&self, work: Local<'static, ()>) {
        tokio::task::spawn_local(work);
    }
}
