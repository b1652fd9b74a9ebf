//! What all workers share of a service for as long as a service of its name is configured, whatever its configuration becomes:
//! the state of its endpoints, and how many requests are in it and how long they take.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tidegate_config::config::{self, Balancing};
use tidegate_core::cluster::Cluster;
use tidegate_core::concurrency::Limit;
use tidegate_core::hedge::Latencies;

/// See the module.
pub(crate) struct Shared {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) latencies: Latencies,
    pub(crate) limit: Arc<Limit>,
    /// Requests under way, where the strategy wants to know.
    pub(crate) active: AtomicUsize,
    pub(crate) source: Source,
    secret: OnceLock<[u8; 32]>,
}

impl Shared {
    pub(crate) fn new(config: &Arc<config::Service>, zone: Option<Arc<str>>, now: Instant) -> Arc<Self> {
        let (max, queue) = places(config);
        Arc::new(Self {
            cluster: Cluster::new(Arc::clone(config), zone, now),
            latencies: Latencies::new(now),
            limit: Limit::new(max, queue),
            active: AtomicUsize::new(0),
            source: Source::default(),
            secret: OnceLock::new(),
        })
    }

    /// Counts a request for as long as the value lives: what a bound on each endpoint's load is measured against.
    pub(crate) fn count(self: &Arc<Self>, balancing: &Balancing) -> Option<Counted> {
        matches!(balancing, Balancing::ConsistentHash(_)).then(|| {
            self.active.fetch_add(1, Relaxed);
            Counted(Arc::clone(self))
        })
    }

    /// What sticky cookies are signed with where the configuration names no secret. Made when it is first asked for: to gather
    /// good randomness takes the library a tenth of a second.
    pub(crate) fn secret(&self) -> [u8; 32] {
        *self.secret.get_or_init(|| {
            let mut secret = [0; 32];
            if aws_lc_rs::rand::fill(&mut secret).is_err() {
                tracing::error!("the system gives no randomness; sticky cookies can be forged until a restart");
            }
            secret
        })
    }

    /// The service means this from now on. Endpoints that it still has keep their state.
    pub(crate) fn configure(&self, config: &Arc<config::Service>, zone: Option<Arc<str>>, now: Instant) {
        let (max, queue) = places(config);
        self.limit.configure(max, queue);
        self.cluster.configure(Arc::clone(config), zone, now);
        if config.discovery.is_none() {
            self.cluster.discovered(Vec::new(), now);
        }
    }
}

/// How the service's discovery fares.
#[derive(Default)]
pub(crate) struct Source {
    failures: AtomicU64,
    /// In milliseconds since the Unix epoch; 0 is never.
    last_success: AtomicU64,
}

impl Source {
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// The source answered at `wall`, since the Unix epoch.
    pub(crate) fn succeeded(&self, wall: Duration) {
        self.last_success.store(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    pub(crate) fn last_success(&self) -> Option<Duration> {
        Some(self.last_success.load(Relaxed)).filter(|millis| *millis > 0).map(Duration::from_millis)
    }
}

fn places(config: &config::Service) -> (usize, usize) {
    config.concurrency.as_ref().map_or((usize::MAX, 0), |limit| (limit.max, limit.queue))
}

/// A request that is counted.
pub(crate) struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}
