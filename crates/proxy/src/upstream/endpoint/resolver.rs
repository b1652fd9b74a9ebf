//! The addresses behind an endpoint's name: one look-up at a time, and nobody waits for one while an answer is known.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tidegate_core::clock::Clock;
use tokio::sync::watch;

use crate::tasks::{Task, spawn_local};

/// How long the answer of the system's resolver is used before it is asked again.
const RESOLVED_FOR: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Default)]
pub(super) struct Resolver {
    /// The last good answer.
    known: Rc<RefCell<Option<Known>>>,
    /// The last look-up, which may be under way.
    look_up: RefCell<Option<LookUp>>,
}

struct Known {
    addresses: Vec<SocketAddr>,
    /// When the resolver last answered, be it with a failure.
    at: Instant,
}

struct LookUp {
    answer: watch::Receiver<Option<Answer>>,
    _task: Task,
}

/// Several may wait for it, so a failure is kept as what can be told of it.
type Answer = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

impl Resolver {
    /// The last good answer, at once, while there is one; an old one is looked up anew on the side. Without one, the answer of
    /// the look-up that is under way.
    pub(super) async fn addresses<F>(&self, clock: &Clock, ask: impl FnOnce() -> F) -> io::Result<Vec<SocketAddr>>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + 'static,
    {
        let known = self.known.borrow().as_ref().map(|known| (known.addresses.clone(), known.at));
        if let Some((addresses, at)) = known {
            if clock.now().saturating_duration_since(at) >= RESOLVED_FOR {
                self.look_up(clock, ask);
            }
            return Ok(addresses);
        }
        let mut answer = self.look_up(clock, ask);
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(addresses))) => Ok(addresses.clone()),
            Ok(Some(Err((kind, text)))) => Err(io::Error::new(*kind, text.clone())),
            Ok(None) | Err(_) => Err(io::Error::other("the look-up was broken off")),
        }
    }

    /// The look-up under way, or a new one. Its task goes on when nobody waits for it any more, and ends with the endpoint.
    fn look_up<F>(&self, clock: &Clock, ask: impl FnOnce() -> F) -> watch::Receiver<Option<Answer>>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + 'static,
    {
        let mut last = self.look_up.borrow_mut();
        // The other end lives as long as the task runs.
        if let Some(running) = last.as_ref().filter(|last| last.answer.has_changed().is_ok()) {
            return running.answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        let (known, clock, asked) = (Rc::clone(&self.known), clock.clone(), ask());
        let task = spawn_local(async move {
            let answer = told(asked.await);
            learn(&mut known.borrow_mut(), &answer, clock.now());
            sender.send_replace(Some(answer));
        });
        *last = Some(LookUp { answer: answer.clone(), _task: task });
        answer
    }
}

fn told(answer: io::Result<Vec<SocketAddr>>) -> Answer {
    match answer {
        Ok(addresses) if addresses.is_empty() => Err((io::ErrorKind::NotFound, "the name has no address".to_owned())),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err((error.kind(), error.to_string())),
    }
}

/// The last good answer is kept when the resolver fails.
fn learn(known: &mut Option<Known>, answer: &Answer, now: Instant) {
    match (answer, known) {
        (Ok(addresses), known) => *known = Some(Known { addresses: addresses.clone(), at: now }),
        (Err(_), Some(last)) => last.at = now,
        (Err(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use tidegate_core::clock::ManualClock;
    use tokio::sync::oneshot;

    use super::*;
    use crate::io::testing::block_on;

    type Reply = io::Result<Vec<SocketAddr>>;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn clock() -> (Arc<ManualClock>, Clock) {
        let manual = ManualClock::new(Duration::ZERO);
        (Arc::clone(&manual), Clock::Manual(manual))
    }

    /// A look-up that the test answers, and its answer.
    fn asked() -> (oneshot::Sender<Reply>, impl Future<Output = Reply>) {
        let (sender, receiver) = oneshot::channel();
        (sender, async { receiver.await.unwrap() })
    }

    async fn known(resolver: &Resolver, clock: &Clock, port: u16) {
        let answer = resolver.addresses(clock, || std::future::ready(Ok(vec![address(port)]))).await;
        assert_eq!(answer.unwrap(), [address(port)]);
    }

    async fn unasked(resolver: &Resolver, clock: &Clock) -> Vec<SocketAddr> {
        let ask = || -> std::future::Ready<Reply> { panic!("nobody is to be asked") };
        resolver.addresses(clock, ask).await.unwrap()
    }

    /// Lets the look-up's task have its turn.
    async fn settle() {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn an_answer_serves_for_its_time() {
        block_on(async {
            let (manual, clock) = clock();
            let resolver = Resolver::default();
            known(&resolver, &clock, 1).await;
            manual.advance(RESOLVED_FOR.saturating_sub(Duration::from_millis(1)));
            assert_eq!(unasked(&resolver, &clock).await, [address(1)]);
        });
    }

    #[test]
    fn a_resolver_that_hangs_takes_no_known_answer_away_and_is_asked_once() {
        block_on(async {
            let (manual, clock) = clock();
            let resolver = Resolver::default();
            known(&resolver, &clock, 1).await;
            manual.advance(RESOLVED_FOR);
            let (answers, pending) = asked();
            assert_eq!(resolver.addresses(&clock, || pending).await.unwrap(), [address(1)]);
            manual.advance(RESOLVED_FOR);
            assert_eq!(unasked(&resolver, &clock).await, [address(1)]);
            answers.send(Ok(vec![address(2)])).unwrap();
            settle().await;
            assert_eq!(unasked(&resolver, &clock).await, [address(2)]);
        });
    }

    #[test]
    fn a_failure_keeps_the_last_good_answer_for_as_long_again() {
        block_on(async {
            let (manual, clock) = clock();
            let resolver = Resolver::default();
            known(&resolver, &clock, 1).await;
            for empty in [Ok(Vec::new()), Err(io::ErrorKind::TimedOut.into())] {
                manual.advance(RESOLVED_FOR);
                let answer = resolver.addresses(&clock, || std::future::ready(empty)).await;
                assert_eq!(answer.unwrap(), [address(1)]);
                settle().await;
                assert_eq!(unasked(&resolver, &clock).await, [address(1)]);
            }
        });
    }

    #[test]
    fn those_who_come_together_share_a_look_up_even_if_the_first_gives_up() {
        block_on(async {
            let (_, clock) = clock();
            let resolver = Resolver::default();
            let (answers, pending) = asked();
            let mut first = Box::pin(resolver.addresses(&clock, || pending));
            assert!(first.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
            drop(first);
            let answer = async {
                settle().await;
                answers.send(Ok(vec![address(1)])).unwrap();
            };
            let (one, other, ()) = tokio::join!(unasked(&resolver, &clock), unasked(&resolver, &clock), answer);
            assert_eq!((one, other), (vec![address(1)], vec![address(1)]));
        });
    }

    #[test]
    fn a_failure_without_an_answer_is_told_and_the_next_one_asks_again() {
        block_on(async {
            let (_, clock) = clock();
            let resolver = Resolver::default();
            let failed: Reply = Err(io::ErrorKind::TimedOut.into());
            let error = resolver.addresses(&clock, || std::future::ready(failed)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let error = resolver.addresses(&clock, || std::future::ready(Ok(Vec::new()))).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            known(&resolver, &clock, 1).await;
        });
    }

    #[test]
    fn a_look_up_ends_with_its_endpoint() {
        struct Told(Rc<Cell<bool>>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        block_on(async {
            let (_, clock) = clock();
            let resolver = Resolver::default();
            let ended = Rc::new(Cell::new(false));
            let told = Told(Rc::clone(&ended));
            let forever = async move {
                let _told = told;
                std::future::pending::<Reply>().await
            };
            drop(resolver.look_up(&clock, || forever));
            settle().await;
            assert!(!ended.get());
            drop(resolver);
            settle().await;
            assert!(ended.get());
        });
    }
}
