//! Against a real Redis, on a clock that stands still unless a test moves it.

mod arithmetic;
mod bulk;
mod exact;
mod failing;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::clock::{Clock, ManualClock};
use tidegate_core::limiter::{Algorithm, Limit, Outcome, Rate};
use tidegate_core::policy::{Answer, Call, CallError, Job, Local, World};
use tokio::task::LocalSet;

use super::*;

const TIMEOUT: Duration = Duration::from_millis(20);
const SYNC: Duration = Duration::from_millis(100);

/// One worker's thread, as far as the store asks for it.
struct Thread {
    clock: Clock,
    manual: Arc<ManualClock>,
    worker: usize,
}

impl Thread {
    fn new() -> Rc<Self> {
        Self::number(0)
    }

    fn number(worker: usize) -> Rc<Self> {
        let manual = ManualClock::new(Duration::from_hours(498_672));
        Rc::new(Self { clock: Clock::Manual(Arc::clone(&manual)), manual, worker })
    }

    fn advance(&self, by: Duration) {
        self.manual.advance(by);
    }
}

impl World for Thread {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn wall(&self) -> Duration {
        self.clock.wall()
    }

    fn random(&self) -> u128 {
        511
    }

    fn worker(&self) -> usize {
        self.worker
    }

    fn sleep(&self, until: Instant) -> Local<'_, ()> {
        Box::pin(std::future::poll_fn(move |cx| {
            if self.now() >= until {
                return std::task::Poll::Ready(());
            }
            self.manual.wake_at(until, cx.waker());
            std::task::Poll::Pending
        }))
    }

    fn call<'a>(&'a self, _: &'a str, _: Call<'a>) -> Local<'a, Result<Answer, CallError>> {
        Box::pin(std::future::ready(Err(CallError::Down("there is nobody".to_owned()))))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> Local<'_, ()> {
        work();
        Box::pin(std::future::ready(()))
    }

    fn spawn(&self, work: Local<'static, ()>) {
        beside(work);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
fn beside(work: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(work);
}

/// Runs a test's steps on a thread's runtime.
fn run(steps: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    LocalSet::new().block_on(&runtime, steps);
}

/// Lets the other tasks of this thread go on until they have nothing to do, `condition` holds, or it is hopeless.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never came: {what}");
}

fn settings(url: &str, mode: Mode) -> Settings {
    let target = Target::of(url, || unreachable!("no TLS here")).unwrap();
    Settings { target, mode, timeout: TIMEOUT, prefix: "tidegate:".to_owned() }
}

fn exact(url: &str) -> RedisStore {
    RedisStore::new(settings(url, Mode::Exact))
}

fn counting_here(url: &str) -> Arc<RedisStore> {
    Arc::new(RedisStore::new(settings(url, Mode::Async { sync: SYNC, max_keys: 100_000 })))
}

fn limit(algorithm: Algorithm, amount: u64, period: u64) -> Limit {
    Limit::new(algorithm, Rate::new(amount, Duration::from_secs(period)).unwrap()).unwrap()
}

/// So many a day, all of them at once if need be.
fn a_day(amount: u64) -> Limit {
    limit(Algorithm::TokenBucket { burst: amount }, amount, 86_400)
}

/// What a store says of one request, in short.
async fn said(store: &RedisStore, world: &Thread, limit: &Limit) -> String {
    match store.decide(world, b"key", limit, 1).await {
        Ok(Outcome { allowed: true, remaining, .. }) => format!("pass, {} left", remaining.whole()),
        Ok(Outcome { retry_after: Some(_), .. }) => "later".to_owned(),
        Ok(_) => "never".to_owned(),
        Err(why) => why.label().to_owned(),
    }
}

/// How many of so many pass.
async fn passed(store: &RedisStore, world: &Thread, limit: &Limit, tries: usize) -> usize {
    let mut passed = 0;
    for _ in 0..tries {
        passed += usize::from(store.decide(world, b"key", limit, 1).await.unwrap().allowed);
    }
    passed
}
