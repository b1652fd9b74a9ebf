//! Keys that tokens are verified with: written once and for all, or fetched from a provider, again and again. A provider that is
//! down takes no keys away, and callers who name keys that nobody knows cause one fetch at a time, and few.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use tidegate_core::policy::{Gauges, Job, Local, World};
use tokio::sync::{Notify, watch};

use super::fetching::{Fetching, Numbers, Published};
use super::key_set::KeySet;
use super::signing_key::Algorithm;
use super::waiting::within;

/// Requests that wait for the same fetch.
const MOST_WAITING: usize = 1000;

/// The longest pause after a failure, unless keys are fetched more often anyway.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// Where keys are fetched, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Who asks: a way of authentication.
    pub(crate) way: Arc<str>,
    /// The URL, or a service and a path: what tells this source from others.
    pub(crate) address: String,
    /// The service that is asked.
    pub(crate) service: Arc<str>,
    /// For which path and query.
    pub(crate) target: String,
    /// What its keys may verify.
    pub(crate) algorithms: Vec<Algorithm>,
    /// How often keys are fetched, more or less.
    pub(crate) refresh: Duration,
    /// How long it may take.
    pub(crate) timeout: Duration,
    /// Callers with unknown keys cause no more than one fetch in this time.
    pub(crate) min_refresh: Duration,
}

/// Keys, which may change.
pub(crate) struct Keys {
    set: ArcSwapOption<KeySet>,
    fetching: Option<Fetched>,
}

struct Fetched {
    source: Source,
    state: Mutex<State>,
    /// A caller wants a fetch now.
    wanted: Notify,
    /// A fetch has ended, well or not.
    ended: watch::Sender<()>,
    numbers: Numbers,
}

#[derive(Default)]
struct State {
    /// Keys are being fetched, or will be at once.
    busy: bool,
    /// When the last fetch began.
    began: Option<Instant>,
}

impl Keys {
    /// Keys that never change.
    pub(crate) fn fixed(set: KeySet) -> Self {
        Self { set: ArcSwapOption::from_pointee(set), fetching: None }
    }

    /// Keys that are fetched by this as a job. Until then there are none.
    pub(crate) fn fetched(source: Source, gauges: &Gauges) -> Self {
        let names = ["tidegate_jwks_last_success_timestamp_seconds", "tidegate_jwks_fetch_failures_total"];
        let numbers = Numbers::new(gauges, &source.way, names);
        let (ended, _) = watch::channel(());
        let (state, wanted) = (Mutex::default(), Notify::new());
        let fetching = Fetched { source, state, wanted, ended, numbers };
        Self { set: ArcSwapOption::empty(), fetching: Some(fetching) }
    }

    /// Whether they may change.
    pub(crate) fn may_change(&self) -> bool {
        self.fetching.is_some()
    }

    /// Where they are fetched, if they are.
    pub(crate) fn address(&self) -> Option<&str> {
        self.fetching.as_ref().map(|fetching| &*fetching.source.address)
    }

    /// The keys as they are now; `None` as long as there never were any.
    pub(crate) fn now(&self) -> Guard<Option<Arc<KeySet>>> {
        self.set.load()
    }

    /// Has keys fetched again, if that was not done just now, and waits for it, but no longer than a fetch may take.
    pub(crate) async fn renew(&self, world: &dyn World) {
        let Some(fetching) = &self.fetching else { return };
        if fetching.ended.receiver_count() >= MOST_WAITING {
            return;
        }
        let mut ended = fetching.ended.subscribe();
        let now = world.now();
        if fetching.is_due(now) {
            // Late or not at all: the keys will tell.
            within(world, now + fetching.source.timeout, ended.changed()).await;
        }
    }
}

impl Job for Keys {
    fn run<'a>(&'a self, world: &'a dyn World) -> Local<'a, ()> {
        Box::pin(async move {
            if let Some(fetching) = &self.fetching {
                fetching.go_on(&self.set, world).await;
            }
        })
    }
}

impl Fetched {
    async fn go_on(&self, set: &ArcSwapOption<KeySet>, world: &dyn World) {
        let Source { way, address, service, target, refresh, timeout, .. } = &self.source;
        let (refresh, timeout, numbers) = (*refresh, *timeout, &self.numbers);
        let longest_pause = LONGEST_PAUSE.min(refresh);
        let mut fetching = Fetching::new(Published { service, target, timeout, refresh, longest_pause, numbers });
        loop {
            self.begin(world.now());
            if let Err((reason, failed)) = fetching.once(world, |body| self.take_over(body, set)).await {
                tracing::warn!(%way, %address, reason, failed, "keys could not be fetched, those that are known stay");
            }
            self.end();
            let due = fetching.due(world);
            while world.now() < due && !self.is_wanted() {
                within(world, due, self.wanted.notified()).await;
            }
        }
    }

    /// The same text again does not come here: what was verified with a set stays so.
    fn take_over(&self, body: &[u8], set: &ArcSwapOption<KeySet>) -> Result<(), String> {
        let version = set.load().as_ref().map_or(0, |set| set.version) + 1;
        set.store(Some(Arc::new(KeySet::from_jwks(body, &self.source.algorithms, version)?)));
        Ok(())
    }

    /// Whether a fetch is under way; one is begun if there was none for long enough.
    fn is_due(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = state.began.is_none_or(|began| now >= began + self.source.min_refresh);
        if !state.busy && rested {
            state.busy = true;
            self.wanted.notify_one();
        }
        state.busy
    }

    fn is_wanted(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).busy
    }

    fn begin(&self, now: Instant) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { busy: true, began: Some(now) };
    }

    fn end(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).busy = false;
        self.ended.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::task::{Context, Waker};

    use http::{Method, StatusCode};
    use tidegate_core::policy::{Answer, CallError};
    use tidegate_http1::Fields;

    use super::super::signing::{Signer, key_set};
    use super::*;
    use crate::testing::FakeWorld;

    fn source() -> Source {
        Source {
            way: "main".into(),
            address: "https://idp.test/keys".to_owned(),
            service: "auth/main".into(),
            target: "/keys".to_owned(),
            algorithms: vec![Algorithm::ES256],
            refresh: Duration::from_mins(10),
            timeout: Duration::from_secs(5),
            min_refresh: Duration::from_secs(10),
        }
    }

    /// A provider, and how often it was asked.
    #[derive(Clone, Default)]
    struct Provider {
        publishes: Rc<RefCell<Option<String>>>,
        asked: Rc<Cell<u32>>,
    }

    impl Provider {
        fn publish(&self, keys: &[&str]) {
            let keys: Vec<_> = keys.iter().map(|id| Signer::new("ES256").jwk(id)).collect();
            *self.publishes.borrow_mut() = Some(key_set(&keys));
        }

        fn world(&self) -> FakeWorld {
            let world = FakeWorld::default();
            let provider = self.clone();
            world.answering(move |service, call| {
                assert_eq!((service, &*call.head.target), ("auth/main", "/keys"));
                assert_eq!(call.head.method, Method::GET);
                provider.asked.set(provider.asked.get() + 1);
                let body = provider.publishes.borrow().clone().ok_or(CallError::Down("it is down".to_owned()))?;
                Ok(Answer { status: StatusCode::OK, fields: Fields::new(), body: body.into() })
            });
            world
        }
    }

    fn knows(keys: &Keys, id: &str) -> bool {
        keys.now().as_ref().is_some_and(|set| set.named(Some(id)).next().is_some())
    }

    fn poll(work: &mut Local<'_, ()>) -> bool {
        work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn shown(gauges: &Gauges) -> Vec<f64> {
        gauges.read().into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn keys_are_fetched_again_and_again_and_a_new_set_replaces_the_old_one() {
        let (provider, gauges) = (Provider::default(), Gauges::default());
        let (world, keys) = (provider.world(), Keys::fetched(source(), &gauges));
        let mut jobs = vec![keys.run(&world)];
        provider.publish(&["a"]);
        world.turn(&mut jobs);
        assert!(knows(&keys, "a") && !knows(&keys, "b"));
        assert_eq!(shown(&gauges), [0.0, world.wall().as_secs_f64()]);
        let first = keys.now().as_ref().map(|set| set.version);
        world.advance(Duration::from_secs(539));
        world.turn(&mut jobs);
        assert_eq!(provider.asked.get(), 1, "not before nine tenths of the time");
        world.advance(Duration::from_secs(122));
        world.turn(&mut jobs);
        assert_eq!(provider.asked.get(), 2, "not after eleven tenths of it");
        assert_eq!(keys.now().as_ref().map(|set| set.version), first, "the same text is the same set");
        provider.publish(&["b"]);
        world.advance(Duration::from_secs(661));
        world.turn(&mut jobs);
        assert!(knows(&keys, "b") && !knows(&keys, "a"));
        assert_ne!(keys.now().as_ref().map(|set| set.version), first);
    }

    #[test]
    fn a_provider_that_is_down_takes_no_keys_away_and_is_asked_less_and_less_often() {
        let (provider, gauges) = (Provider::default(), Gauges::default());
        let (world, keys) = (provider.world(), Keys::fetched(source(), &gauges));
        let mut jobs = vec![keys.run(&world)];
        provider.publish(&["a"]);
        world.turn(&mut jobs);
        provider.publishes.take();
        world.advance(Duration::from_secs(661));
        world.turn(&mut jobs);
        for (seconds, asked) in [(2, 3), (3, 4), (5, 5), (9, 6), (18, 7), (36, 8), (71, 9), (71, 10), (71, 11)] {
            world.advance(Duration::from_secs(seconds));
            world.turn(&mut jobs);
            assert_eq!(provider.asked.get(), asked, "after {seconds}s");
        }
        assert!(knows(&keys, "a"));
        assert_eq!(shown(&gauges)[..1], [10.0]);
        for broken in ["", "{\"keys\":[]}", "<html>"] {
            *provider.publishes.borrow_mut() = Some(broken.to_owned());
            world.advance(Duration::from_secs(71));
            world.turn(&mut jobs);
            assert!(knows(&keys, "a"), "{broken}");
        }
        provider.publish(&["b"]);
        world.advance(Duration::from_secs(71));
        world.turn(&mut jobs);
        assert!(knows(&keys, "b"));
        assert_eq!(shown(&gauges), [13.0, world.wall().as_secs_f64()]);
    }

    #[test]
    fn an_empty_answer_is_a_failure_the_first_time_too() {
        let (provider, gauges) = (Provider::default(), Gauges::default());
        let (world, keys) = (provider.world(), Keys::fetched(source(), &gauges));
        let mut jobs = vec![keys.run(&world)];
        *provider.publishes.borrow_mut() = Some(String::new());
        world.turn(&mut jobs);
        assert_eq!(shown(&gauges), [1.0, 0.0]);
        provider.publish(&["a"]);
        world.advance(Duration::from_secs(2));
        world.turn(&mut jobs);
        assert!(knows(&keys, "a"));
    }

    #[test]
    fn a_thousand_callers_with_unknown_keys_cause_one_fetch() {
        let provider = Provider::default();
        let (world, keys) = (provider.world(), Keys::fetched(source(), &Gauges::default()));
        let mut jobs = vec![keys.run(&world)];
        provider.publish(&["a"]);
        world.turn(&mut jobs);
        world.advance(Duration::from_secs(10));
        provider.publish(&["b"]);
        let mut callers: Vec<Local<'_, ()>> = Vec::new();
        for _ in 0..1100 {
            callers.push(Box::pin(keys.renew(&world)));
        }
        let waiting = callers.iter_mut().filter_map(|caller| (!poll(caller)).then_some(caller)).collect::<Vec<_>>();
        assert_eq!(waiting.len(), MOST_WAITING, "more do not wait");
        world.turn(&mut jobs);
        assert_eq!(provider.asked.get(), 2);
        assert!(waiting.into_iter().all(poll) && knows(&keys, "b"));
        world.advance(Duration::from_secs(9));
        for _ in 0..100 {
            assert!(poll(&mut (Box::pin(keys.renew(&world)) as Local<'_, ()>)), "it was asked just now");
        }
        world.turn(&mut jobs);
        assert_eq!(provider.asked.get(), 2);
        world.advance(Duration::from_secs(1));
        let mut caller: Local<'_, ()> = Box::pin(keys.renew(&world));
        assert!(!poll(&mut caller));
        world.turn(&mut jobs);
        assert!(poll(&mut caller));
        assert_eq!(provider.asked.get(), 3);
        world.turn(&mut jobs);
        assert_eq!(provider.asked.get(), 3, "nothing is left over");
    }

    #[test]
    fn nobody_waits_longer_than_a_fetch_may_take() {
        let (world, keys) = (FakeWorld::default(), Keys::fetched(source(), &Gauges::default()));
        let mut caller: Local<'_, ()> = Box::pin(keys.renew(&world));
        assert!(!poll(&mut caller));
        world.advance(Duration::from_millis(4999));
        assert!(!poll(&mut caller));
        world.advance(Duration::from_millis(1));
        assert!(poll(&mut caller));
    }
}
