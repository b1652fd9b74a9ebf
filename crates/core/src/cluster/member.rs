//! An endpoint as a member of its cluster: what requests read and count, without locks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tidegate_config::config::{self, BreakerScope, CircuitBreaker};

use super::Cluster;
use super::breaker::Circuit;
use super::outlier::{self, Answers, Pace};
use super::window::{Rolling, Tally};
use crate::affinity;
use crate::balance::{Load, Nanos};

/// An endpoint with its live counters.
#[derive(Debug)]
pub struct Member {
    /// Unique in the process. It stays as long as the endpoint's scheme and authority do.
    pub id: u64,
    /// A hash of scheme and authority, the same in every process.
    pub key: u64,
    /// As configured or discovered.
    pub endpoint: Arc<config::Endpoint>,
    /// What it has to do.
    pub load: Arc<Load>,
    /// The service's, as of the view that it is in.
    pub(super) config: Arc<config::Service>,
    pub(super) counters: Arc<Counters>,
    pub(super) common: Arc<Common>,
    pub(super) cluster: Weak<Cluster>,
}

impl Member {
    /// Active checks that failed in a row, for whoever schedules the next one.
    pub fn failed_checks(&self) -> u32 {
        self.counters.failed_checks.load(Relaxed)
    }

    /// Whether it takes requests as things stand.
    pub fn in_service(&self) -> bool {
        !self.counters.circuit.gate.is_shut()
    }

    /// Whether requests that wait for it had better go elsewhere: it failed others. One that is drained answers what it has.
    pub fn is_lost(&self) -> bool {
        self.counters.circuit.gate.is_lost()
    }

    /// Another endpoint than `other`, as far as connections and state are concerned.
    pub(super) fn is_at(&self, other: &config::Endpoint) -> bool {
        self.endpoint.tls == other.tls && self.endpoint.authority == other.authority
    }
}

/// What the members of a cluster have in common and requests need.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) origin: Instant,
    /// The breaker of the whole service.
    pub(super) circuit: Circuit,
}

impl Common {
    #[inline]
    pub(super) fn nanos(&self, now: Instant) -> Nanos {
        Nanos(u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The breaker's configuration if it is for this scope.
pub(super) fn breaker_of(config: &config::Service, scope: BreakerScope) -> Option<&CircuitBreaker> {
    config.breaker.as_ref().filter(|breaker| breaker.per == scope)
}

/// What requests count for one endpoint.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) circuit: Circuit,
    /// Results of the last ten seconds, for outlier detection.
    pub(super) results: Tally,
    /// Microseconds until the head of each reply that was no failure, in the last ten seconds.
    latency: Rolling,
    last_answer: AtomicU64,
    /// No ejection is asked for before this time, since the last one was refused.
    spared_until: AtomicU64,
    failed_checks: AtomicU32,
}

/// For so long an endpoint is spared when too many others are ejected.
const SPARED: Duration = Duration::from_secs(1);

impl Counters {
    pub(super) fn new(breaker: Option<&CircuitBreaker>) -> Self {
        Self {
            circuit: Circuit::new(breaker),
            results: Tally::new(outlier::WINDOW),
            latency: Rolling::new(outlier::WINDOW),
            last_answer: AtomicU64::new(0),
            spared_until: AtomicU64::new(0),
            failed_checks: AtomicU32::new(0),
        }
    }

    /// The head of a reply came, whatever it says.
    #[inline]
    pub(super) fn heard(&self, now: Nanos) {
        self.last_answer.store(now.0, Relaxed);
    }

    /// Counts a good answer and returns the row of failures that it ended.
    #[inline]
    pub(super) fn succeed(&self, latency: Duration, now: Nanos) -> u32 {
        self.latency.add(now, u64::try_from(latency.as_micros()).unwrap_or(0));
        self.results.succeed(now)
    }

    /// Forgets results: a new life begins.
    pub(super) fn clear(&self) {
        self.circuit.tally.clear();
        self.results.clear();
        self.latency.clear();
        self.spared_until.store(0, Relaxed);
    }

    /// So many active checks failed in a row.
    pub(super) fn failed(&self, checks: u32) {
        self.failed_checks.store(checks, Relaxed);
    }

    pub(super) fn spare(&self, now: Nanos) {
        self.spared_until.store(now.0.saturating_add(u64::try_from(SPARED.as_nanos()).unwrap_or(0)), Relaxed);
    }

    pub(super) fn is_spared(&self, now: Nanos) -> bool {
        now.0 < self.spared_until.load(Relaxed)
    }

    /// The good answers of the latest buckets of the window.
    pub(super) fn answers(&self, now: Nanos, buckets: u64) -> Answers {
        let results = self.results.counts_of(now, buckets);
        let count = results.total.saturating_sub(results.failed);
        let micros: u64 = self.latency.latest(now, buckets).sum();
        Answers { count, mean: Duration::from_micros(micros.checked_div(count.into()).unwrap_or(0)) }
    }

    /// How it answers, if more than `min_requests` have been waiting since `crowded_since`.
    pub(super) fn pace(&self, min_requests: u32, crowded_since: Option<Nanos>, now: Nanos) -> Pace {
        let last_answer = Nanos(self.last_answer.load(Relaxed));
        Pace {
            recent: outlier::recent(|buckets| self.answers(now, buckets), min_requests),
            window: self.answers(now, super::window::BUCKETS),
            silent_since: crowded_since.map(|since| since.max(last_answer)),
            last_answer,
        }
    }
}

/// The same for an endpoint in every process: cookies name endpoints by it, and rings place them by it.
pub(super) fn key(endpoint: &config::Endpoint) -> u64 {
    let scheme = if endpoint.tls { "https" } else { "http" };
    affinity::hash(format!("{scheme}://{}", endpoint.authority).as_bytes())
}
