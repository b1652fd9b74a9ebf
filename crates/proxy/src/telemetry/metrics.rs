//! Counting: every worker has its own shard, and a scrape adds the shards up. Series are named by the configuration alone, so a
//! client cannot make new ones; they are found once per snapshot, so that counting a request touches a few numbers and no name.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::policy::{self, Tally, TallyKey};

use super::cells::{Cell, Held, Histogram};
use super::completed::{Completed, End};
use super::log_writer::LogCounters;
use super::shaped::{FaultCells, MirrorCells};
use crate::upstreams::ServiceReport;

/// All counts of the process. It outlives every snapshot: a route, service or listener that keeps its name keeps its counts.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Mutex<Registry>,
    control: Control,
    log: Arc<LogCounters>,
    operational_log: Arc<LogCounters>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A new worker's shard. To be made on the worker's thread: a shard stays there.
    pub fn shard(self: &Arc<Self>) -> Shard {
        let (id, worker) = {
            let mut registry = self.lock();
            let worker = Arc::<WorkerCells>::default();
            registry.workers.push(Arc::clone(&worker));
            (registry.workers.len(), worker)
        };
        let home = Home { metrics: Arc::clone(self), worker: id };
        let unrouted = Series::new(&home, (Arc::from(""), Arc::from("")));
        Shard { home, worker, unrouted, rejections: RefCell::default() }
    }

    /// Tells which names the configuration has now. The series of other routes, services and listeners are dropped as soon as
    /// no worker holds them any more.
    pub fn retain(&self, names: Names) {
        let mut registry = self.lock();
        registry.names = Some(names);
        registry.drop_retired();
    }

    /// A configuration was put to use at `wall` (since the Unix epoch): the first one, or by a reload.
    pub fn reloaded(&self, revision: u64, wall: Duration) {
        if self.control.revision.swap(revision, Relaxed) != 0 {
            self.control.reloads.fetch_add(1, Relaxed);
        }
        self.control.failing.store(0, Relaxed);
        self.control.loaded_at.store(wall.as_secs(), Relaxed);
    }

    /// A reload was refused, and the configuration stays what it was.
    pub fn reload_failed(&self) {
        self.control.failures.fetch_add(1, Relaxed);
        self.control.failing.store(1, Relaxed);
    }

    /// What the access log's writer counts in.
    pub fn log(&self) -> &Arc<LogCounters> {
        &self.log
    }

    /// What the operational log's writer counts in.
    pub fn operational_log(&self) -> &Arc<LogCounters> {
        &self.operational_log
    }

    /// Everything as it stands, how the services stand, and what policies did, in the Prometheus text format 0.0.4. The names are listed in
    /// `docs/metrics.md`.
    pub fn render(&self, services: &[ServiceReport], policies: &policy::Shared) -> String {
        super::exposition::render(&self.scrape(services, policies))
            + &super::policies::numbers(&policies.gauges().read())
    }

    fn scrape<'a>(&'a self, services: &'a [ServiceReport], policies: &policy::Shared) -> Scrape<'a> {
        let mut registry = self.lock();
        registry.drop_retired();
        // Copied, so that a worker that meets a new series does not wait for the text to be written.
        Scrape {
            registry: registry.clone(),
            services,
            tallies: policies.tallies(),
            control: &self.control,
            log: &self.log,
            operational_log: &self.operational_log,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names that the configuration has.
#[derive(Debug, Default, Clone)]
pub struct Names {
    /// Of routes.
    pub routes: BTreeSet<Arc<str>>,
    /// Of services.
    pub services: BTreeSet<Arc<str>>,
    /// Of listeners.
    pub listeners: BTreeSet<Arc<str>>,
}

/// One worker's counts.
#[derive(Debug)]
pub struct Shard {
    home: Home,
    worker: Arc<WorkerCells>,
    unrouted: Series,
    /// Codes are few and static; one is added when a code is first met.
    rejections: RefCell<Vec<(&'static str, Arc<Counter>)>>,
}

impl Shard {
    /// Counts a finished request.
    #[inline]
    pub fn record(&self, completed: &Completed<'_>) {
        completed.series.unwrap_or(&self.unrouted).cells().record(completed);
        if let Some(ended) = self.worker.ended.get(completed.end.index()) {
            ended.up();
        }
        if let Some(code) = completed.code {
            self.reject(code);
        }
    }

    /// Where requests of `route` that go to `service` (empty for none) are counted. Looks names up: once per snapshot, please.
    pub fn series(&self, route: &Arc<str>, service: &Arc<str>) -> Series {
        Series::new(&self.home, (Arc::clone(route), Arc::clone(service)))
    }

    /// Where a listener's connections are counted.
    pub fn listener(&self, name: &Arc<str>) -> Arc<ListenerCells> {
        self.home.metrics.lock().listeners.cells(self.home.worker, name)
    }

    /// Where a service's upstream connections are counted.
    pub fn pool(&self, service: &Arc<str>) -> Arc<PoolCells> {
        self.home.metrics.lock().pools.cells(self.home.worker, service)
    }

    /// Where a route's copies to the service that mirrors it are counted.
    pub fn mirror(&self, route: &Arc<str>, service: &Arc<str>) -> Arc<MirrorCells> {
        let key = (Arc::clone(route), Arc::clone(service));
        self.home.metrics.lock().mirrors.cells(self.home.worker, &key)
    }

    /// Where a route's faults are counted.
    pub fn fault(&self, route: &Arc<str>) -> Arc<FaultCells> {
        self.home.metrics.lock().faults.cells(self.home.worker, route)
    }

    /// What belongs to no listener, route or service.
    pub fn worker(&self) -> &Arc<WorkerCells> {
        &self.worker
    }

    fn reject(&self, code: &'static str) {
        let mut known = self.rejections.borrow_mut();
        if let Some((_, counter)) = known.iter().find(|(name, _)| std::ptr::eq(*name, code) || *name == code) {
            counter.0.up();
            return;
        }
        let counter = self.home.metrics.lock().rejections.cells(self.home.worker, &code);
        counter.0.up();
        known.push((code, counter));
    }
}

/// Where the requests of one route to one service are counted, on one worker. Cheap to clone.
///
/// The numbers are made when the first request comes, so ten thousand routes that nobody asks for cost next to nothing.
#[derive(Debug, Clone)]
pub struct Series(Rc<Lazy>);

impl Series {
    fn new(home: &Home, key: SeriesKey) -> Self {
        Self(Rc::new(Lazy { home: home.clone(), key, cells: OnceCell::new() }))
    }

    #[inline]
    fn cells(&self) -> &SeriesCells {
        let Lazy { home, key, cells } = &*self.0;
        cells.get_or_init(|| home.metrics.lock().series.cells(home.worker, key))
    }
}

#[derive(Debug)]
struct Lazy {
    home: Home,
    key: SeriesKey,
    cells: OnceCell<Arc<SeriesCells>>,
}

/// The names of the route and of the service.
pub(crate) type SeriesKey = (Arc<str>, Arc<str>);

#[derive(Debug, Clone)]
struct Home {
    metrics: Arc<Metrics>,
    worker: usize,
}

/// The requests of one route to one service.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct SeriesCells {
    /// By the first digit of the status; 0 is a client that left before there was one.
    pub(crate) replies: [Cell; 6],
    pub(crate) received: Cell,
    pub(crate) sent: Cell,
    pub(crate) attempts: Cell,
    pub(crate) duration: Histogram,
    pub(crate) upstream: Histogram,
}

impl SeriesCells {
    #[inline]
    fn record(&self, completed: &Completed<'_>) {
        if let Some(class) = self.replies.get(usize::from(completed.status / 100).min(5)) {
            class.up();
        }
        self.received.add(completed.received);
        self.sent.add(completed.sent);
        self.attempts.add(u64::from(completed.attempts));
        self.duration.record(completed.duration);
        if let Some(upstream) = completed.upstream {
            self.upstream.record(upstream);
        }
    }
}

/// One worker's counts that belong to no listener, route or service.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerCells {
    /// Gauge: requests under way.
    pub requests: Cell,
    /// How often accepting stopped for a moment because the process was out of descriptors.
    pub accept_pauses: Cell,
    /// Requests and connections whose task panicked; each cost itself alone.
    pub panics: Cell,
    pub(crate) ended: [Cell; End::NAMES.len()],
}

/// One listener's connections, on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerCells {
    /// Gauge: open connections.
    pub active: Cell,
    /// Connections accepted, those included that were refused at once.
    pub accepted: Cell,
    /// TLS handshakes that succeeded.
    pub handshakes: Cell,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures: Cell,
    pub(crate) refused: [Cell; Refused::ALL.len()],
    pub(crate) let_go: [Cell; LetGo::ALL.len()],
    pub(crate) refused_streams: [Cell; RefusedStream::ALL.len()],
}

impl ListenerCells {
    /// Counts an open connection for as long as the value lives.
    pub fn open(self: &Arc<Self>) -> Held<Self> {
        self.accepted.up();
        Held::new(self, |cells| &cells.active)
    }

    /// Counts a connection that was closed before it said anything.
    pub fn refuse(&self, why: Refused) {
        if let Some(cell) = self.refused.get(why as usize) {
            cell.up();
        }
    }

    /// Counts a connection that was closed because its peer was too slow or a nuisance.
    pub fn let_go(&self, why: LetGo) {
        if let Some(cell) = self.let_go.get(why as usize) {
            cell.up();
        }
    }

    /// Counts a stream of HTTP/2 that became no exchange.
    pub fn refuse_stream(&self, why: RefusedStream) {
        if let Some(cell) = self.refused_streams.get(why as usize) {
            cell.up();
        }
    }
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// `server.limits.connections` was reached.
    Connections,
    /// `server.limits.connections_per_client` was reached.
    ConnectionsPerClient,
    /// It did not begin with the PROXY protocol header that its listener demands.
    ProxyProtocol,
}

impl Refused {
    pub(crate) const ALL: [(Self, &'static str); 3] = [
        (Self::Connections, "connections"),
        (Self::ConnectionsPerClient, "connections_per_client"),
        (Self::ProxyProtocol, "proxy_protocol"),
    ];
}

/// Why the gateway closed a connection that had been accepted. The names are those of the timeouts and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetGo {
    /// No request for `idle`.
    Idle,
    /// No complete head within `header`.
    Header,
    /// No byte of the body for `body_idle`.
    BodyIdle,
    /// The client took nothing for `write_idle`.
    WriteIdle,
    /// No byte either way for `stream_idle`.
    StreamIdle,
    /// Slower than `min_rate`.
    MinRate,
    /// Too many resets, pings or other frames that cost more than they are worth.
    Flood,
    /// Frames that break the rules of HTTP/2 for the whole connection.
    Http2Error,
}

impl LetGo {
    pub(crate) const ALL: [(Self, &'static str); 8] = [
        (Self::Idle, "idle"),
        (Self::Header, "header"),
        (Self::BodyIdle, "body_idle"),
        (Self::WriteIdle, "write_idle"),
        (Self::StreamIdle, "stream_idle"),
        (Self::MinRate, "min_rate"),
        (Self::Flood, "flood"),
        (Self::Http2Error, "http2_error"),
    ];
}

/// Why a stream of HTTP/2 became no exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedStream {
    /// Its fields are larger than `server.limits.header_bytes`: 431.
    HeadersTooLarge,
    /// It is no request.
    Malformed,
    /// `server.limits.streams` was reached.
    TooMany,
}

impl RefusedStream {
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::HeadersTooLarge, "headers_too_large"), (Self::Malformed, "malformed"), (Self::TooMany, "streams")];
}

/// One service's upstream connections, on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PoolCells {
    /// Gauge: connections that carry a request now.
    pub active: Cell,
    /// Gauge: connections that wait for the next request.
    pub idle: Cell,
    /// Connections opened.
    pub opened: Cell,
    /// Attempts that found an idle connection.
    pub reused: Cell,
    /// Connections that could not be opened: refused, timed out, TLS.
    pub failed: Cell,
    /// Attempts repeated because a pooled connection turned out to be closed.
    pub stale: Cell,
    /// Endpoints that could not be connected to and were passed over for another.
    pub passed_over: Cell,
    /// Attempts that repeat a failed one.
    pub retries: Cell,
    /// Attempts made beside a slow one.
    pub hedges: Cell,
    /// Retries and hedges that the budget did not allow.
    pub budget_exhausted: Cell,
    /// Requests that the fallback answered.
    pub fallbacks: Cell,
}

impl PoolCells {
    /// The gauge of connections that carry a request.
    pub fn active(&self) -> &Cell {
        &self.active
    }

    /// The gauge of connections that are idle.
    pub fn idle(&self) -> &Cell {
        &self.idle
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counter(pub(crate) Cell);

/// What the control thread counts; several threads may, so these are added to in the ordinary way.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) revision: AtomicU64,
    pub(crate) loaded_at: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) failing: AtomicU64,
}

/// What a scrape sees.
#[derive(Debug)]
pub(crate) struct Scrape<'a> {
    pub(crate) registry: Registry,
    pub(crate) services: &'a [ServiceReport],
    pub(crate) tallies: Vec<(TallyKey, Arc<Tally>)>,
    pub(crate) control: &'a Control,
    pub(crate) log: &'a LogCounters,
    pub(crate) operational_log: &'a LogCounters,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Registry {
    pub(crate) workers: Vec<Arc<WorkerCells>>,
    pub(crate) listeners: Family<Arc<str>, ListenerCells>,
    pub(crate) pools: Family<Arc<str>, PoolCells>,
    pub(crate) series: Family<SeriesKey, SeriesCells>,
    pub(crate) rejections: Family<&'static str, Counter>,
    pub(crate) mirrors: Family<SeriesKey, MirrorCells>,
    pub(crate) faults: Family<Arc<str>, FaultCells>,
    names: Option<Names>,
}

impl Registry {
    fn drop_retired(&mut self) {
        let Some(names) = &self.names else { return };
        self.listeners.retain(|name| names.listeners.contains(name));
        self.pools.retain(|name| names.services.contains(name));
        self.mirrors.retain(|(route, service)| names.routes.contains(route) && names.services.contains(service));
        self.faults.retain(|route| names.routes.contains(route));
        self.series.retain(|(route, service)| {
            let route_lives = route.is_empty() || names.routes.contains(route);
            route_lives && (service.is_empty() || names.services.contains(service))
        });
    }
}

/// Cells by name, and for each name those of every worker that has met it.
#[derive(Debug)]
pub(crate) struct Family<K, C>(BTreeMap<K, Vec<(usize, Arc<C>)>>);

impl<K: Ord + Clone, C: Default> Family<K, C> {
    fn cells(&mut self, worker: usize, key: &K) -> Arc<C> {
        let all = self.0.entry(key.clone()).or_default();
        if let Some((_, cells)) = all.iter().find(|(owner, _)| *owner == worker) {
            return Arc::clone(cells);
        }
        let cells = Arc::<C>::default();
        all.push((worker, Arc::clone(&cells)));
        cells
    }

    /// Keeps what is named or still held by a worker.
    fn retain(&mut self, named: impl Fn(&K) -> bool) {
        self.0.retain(|key, all| named(key) || all.iter().any(|(_, cells)| Arc::strong_count(cells) > 1));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, impl Iterator<Item = &C> + Clone)> {
        self.0.iter().map(|(key, all)| (key, all.iter().map(|(_, cells)| &**cells)))
    }
}

impl<K, C> Default for Family<K, C> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Clone, C> Clone for Family<K, C>
where
    K: Ord,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[cfg(test)]
mod tests;
