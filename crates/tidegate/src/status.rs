//! What the process knows about itself, for the admin and status listeners: whether it is ready, which configuration is in use, and
//! why the last reload was refused.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_config::config::Secret;
use tidegate_core::clock::Clock;
use tidegate_core::policy::Rules;
use tidegate_policies::TABLE;
use tidegate_proxy::Upstreams;
use tidegate_proxy::telemetry::{Metrics, timestamp};

use crate::registry::Registry;

/// Shared by the control loop, which changes it, and the admin listeners, which show it.
pub(crate) struct Status {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) rules: Rules,
    pub(crate) registry: Arc<Registry>,
    clock: Clock,
    started: Duration,
    state: Mutex<State>,
}

/// What is in use.
#[derive(Debug, Default, Clone)]
pub(crate) struct InUse {
    pub(crate) revision: u64,
    /// Every value in effect, secrets hidden.
    pub(crate) shown: Arc<str>,
    /// Names and addresses of everything that listens.
    pub(crate) listeners: Vec<(Arc<str>, SocketAddr)>,
    pub(crate) token: Option<Secret>,
    /// Files of API keys.
    pub(crate) key_files: Vec<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    in_use: InUse,
    since: Duration,
    refused: Option<Refused>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Starting,
    Ready,
    Draining,
}

#[derive(Debug)]
struct Refused {
    at: Duration,
    why: String,
}

impl Status {
    pub(crate) fn new(metrics: Arc<Metrics>, upstreams: Arc<Upstreams>, clock: Clock) -> Arc<Self> {
        let started = clock.wall();
        let registry = Registry::new(Arc::clone(&upstreams));
        let rules = Rules::new(&TABLE);
        Arc::new(Self { metrics, upstreams, rules, registry, clock, started, state: Mutex::default() })
    }

    /// A configuration is in use: the first, or that of a reload.
    pub(crate) fn use_now(&self, in_use: InUse) {
        let wall = self.clock.wall();
        self.metrics.reloaded(in_use.revision, wall);
        let mut state = self.state();
        state.in_use = in_use;
        state.since = wall;
        state.refused = None;
        if state.phase == Phase::Starting {
            state.phase = Phase::Ready;
        }
    }

    /// A reload was refused.
    pub(crate) fn refuse(&self, why: String) {
        self.metrics.reload_failed();
        self.state().refused = Some(Refused { at: self.clock.wall(), why });
    }

    /// The end has begun: no new work, please.
    pub(crate) fn drain(&self) {
        self.state().phase = Phase::Draining;
    }

    /// The monotonic time.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// When the process began, since the Unix epoch.
    pub(crate) fn started(&self) -> Duration {
        self.started
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.state().refused.is_some()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state().phase == Phase::Ready
    }

    pub(crate) fn token(&self) -> Option<Secret> {
        self.state().in_use.token.clone()
    }

    /// Files of API keys that the configuration names.
    pub(crate) fn key_files(&self) -> Vec<PathBuf> {
        self.state().in_use.key_files.clone()
    }

    /// The time since 1970.
    pub(crate) fn wall(&self) -> Duration {
        self.clock.wall()
    }

    pub(crate) fn shown(&self) -> Arc<str> {
        Arc::clone(&self.state().in_use.shown)
    }

    /// One word: `starting`, `ready` or `draining`.
    pub(crate) fn word(&self) -> &'static str {
        match self.state().phase {
            Phase::Starting => "starting",
            Phase::Ready => "ready",
            Phase::Draining => "draining",
        }
    }

    /// Everything, for `/readyz?verbose`.
    pub(crate) fn details(&self) -> Value {
        let word = self.word();
        let state = self.state();
        let in_use = &state.in_use;
        let last_reload = match &state.refused {
            None => json!({ "result": "ok", "at": timestamp(state.since) }),
            Some(refused) => json!({ "result": "refused", "at": timestamp(refused.at), "why": refused.why }),
        };
        let listeners =
            in_use.listeners.iter().map(|(name, address)| json!({ "name": **name, "address": address.to_string() }));
        json!({
            "status": word,
            "version": env!("CARGO_PKG_VERSION"),
            "revision": in_use.revision,
            "since": timestamp(state.since),
            "last_reload": last_reload,
            "listeners": listeners.collect::<Vec<_>>(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
