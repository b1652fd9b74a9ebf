//! Keys that tokens are verified with: written once and for all, or fetched from a provider, again and again. A provider that is
//! down takes no keys away, and callers who name keys that nobody knows cause one fetch at a time, and few.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use bytes::Bytes;
use http::{Method, StatusCode};
use tidegate_core::policy::{Call, Gauge, Gauges, Job, Local, World};
use tidegate_http1::{Known, RequestHead};
use tokio::sync::{Notify, watch};

use super::key_set::{KeySet, MOST_BYTES};
use super::signing_key::Algorithm;
use super::waiting::within;

/// Requests that wait for the same fetch.
const MOST_WAITING: usize = 1000;

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Failures after which pauses grow no longer: a minute.
const MOST_DOUBLINGS: u32 = 6;

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
    fetching: Option<Fetching>,
}

struct Fetching {
    source: Source,
    state: Mutex<State>,
    /// A caller wants a fetch now.
    wanted: Notify,
    /// A fetch has ended, well or not.
    ended: watch::Sender<()>,
    last_success: Arc<Gauge>,
    failures: Arc<Gauge>,
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
        let labels = [("way", &source.way)];
        let last_success = gauges.add("tidegate_jwks_last_success_timestamp_seconds", &labels);
        let failures = gauges.add("tidegate_jwks_fetch_failures_total", &labels);
        let (ended, _) = watch::channel(());
        let (state, wanted) = (Mutex::default(), Notify::new());
        let fetching = Fetching { source, state, wanted, ended, last_success, failures };
        Self { set: ArcSwapOption::empty(), fetching: Some(fetching) }
    }

    /// Whether they may change.
    pub(crate) fn may_change(&self) -> bool {
        self.fetching.is_some()
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

impl Fetching {
    async fn go_on(&self, set: &ArcSwapOption<KeySet>, world: &dyn World) {
        let (mut known, mut failures, mut failed) = (Bytes::new(), 0.0, 0);
        loop {
            self.begin(world.now());
            match self.fetch(world).await.and_then(|body| self.take_over(body, &mut known, set)) {
                Ok(()) => {
                    failed = 0;
                    self.last_success.set(world.wall().as_secs_f64());
                }
                Err(reason) => {
                    (failed, failures) = (failed + 1, failures + 1.0);
                    self.failures.set(failures);
                    let Source { way, address, .. } = &self.source;
                    tracing::warn!(%way, %address, reason, failed, "keys could not be fetched, those that are known stay");
                }
            }
            self.end();
            let due = world.now() + self.pause(failed, world.random());
            while world.now() < due && !self.is_wanted() {
                within(world, due, self.wanted.notified()).await;
            }
        }
    }

    async fn fetch(&self, world: &dyn World) -> Result<Bytes, String> {
        let Source { service, target, timeout, .. } = &self.source;
        let mut head = RequestHead { method: Method::GET, target: target.clone(), ..RequestHead::default() };
        head.fields.append(Known::Accept, b"application/json").map_err(|error| error.to_string())?;
        let deadline = world.now() + *timeout;
        let call = Call { head, body: Bytes::new(), deadline, retry: None, most: MOST_BYTES };
        let answer = world.call(service, call).await.map_err(|error| error.to_string())?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(format!("the answer is {}", status.as_u16())),
        }
    }

    /// The same text again is the same set: what was verified with it stays so.
    fn take_over(&self, body: Bytes, known: &mut Bytes, set: &ArcSwapOption<KeySet>) -> Result<(), String> {
        if *known == body {
            return Ok(());
        }
        let version = set.load().as_ref().map_or(0, |set| set.version) + 1;
        set.store(Some(Arc::new(KeySet::from_jwks(&body, &self.source.algorithms, version)?)));
        *known = body;
        Ok(())
    }

    /// A tenth more or less, so that gateways that were started together do not ask together.
    fn pause(&self, failed: u32, random: u128) -> Duration {
        let refresh = self.source.refresh;
        let pause = match failed {
            0 => refresh,
            failed => refresh.min(FIRST_PAUSE * (1 << (failed - 1).min(MOST_DOUBLINGS))),
        };
        let thousandths = 900 + u32::try_from(random % 201).unwrap_or_default();
        pause * thousandths / 1000
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
