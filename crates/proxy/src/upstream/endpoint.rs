//! One endpoint as one worker sees it: its address, its idle connections, and how many are open.

mod queue;
mod resolver;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::config;
use tidegate_core::clock::Clock;
use tidegate_core::cluster::Member;

use self::queue::Queue;
use self::resolver::Resolver;
use super::http1::Connection;
use super::http2::Session;
use crate::telemetry::{self, Held, PoolCells};

/// How long more connections than `max_idle` may be idle.
const MOMENT: Duration = Duration::from_millis(200);

/// An endpoint of a service, on one worker.
pub(crate) struct Endpoint {
    pub(crate) config: Arc<config::Endpoint>,
    /// What all workers know of it; `None` if it is not one of a service that is balanced.
    pub(crate) member: Option<Arc<Member>>,
    /// What connections it may have, this worker's share of the service's pool.
    pub(crate) pool: config::Pool,
    idle: RefCell<VecDeque<Idle>>,
    sessions: RefCell<Vec<Rc<Session>>>,
    open: Cell<usize>,
    queue: Queue,
    resolver: Resolver,
    cells: Arc<PoolCells>,
    /// A connection that will carry many requests is being opened: others wait for it.
    opening_shared: Cell<bool>,
    /// How many services have it: the one before a reload and the one after it. With none, nothing comes back to the pool.
    owners: Cell<usize>,
}

struct Idle {
    connection: Box<Connection>,
    since: Instant,
}

impl Endpoint {
    /// An endpoint by itself.
    pub(crate) fn new(config: config::Endpoint, pool: config::Pool, cells: &Arc<PoolCells>) -> Rc<Self> {
        Rc::new(Self::build(Arc::new(config), None, pool, cells))
    }

    /// A member of a service.
    pub(crate) fn of(member: &Arc<Member>, pool: config::Pool, cells: &Arc<PoolCells>) -> Rc<Self> {
        Rc::new(Self::build(Arc::clone(&member.endpoint), Some(Arc::clone(member)), pool, cells))
    }

    fn build(
        config: Arc<config::Endpoint>,
        member: Option<Arc<Member>>,
        pool: config::Pool,
        cells: &Arc<PoolCells>,
    ) -> Self {
        Self {
            config,
            member,
            pool,
            idle: RefCell::default(),
            sessions: RefCell::default(),
            open: Cell::new(0),
            queue: Queue::default(),
            resolver: Resolver::default(),
            cells: Arc::clone(cells),
            opening_shared: Cell::new(false),
            owners: Cell::new(1),
        }
    }

    /// Which member of its service it is.
    pub(crate) fn id(&self) -> u64 {
        self.member.as_ref().map_or(0, |member| member.id)
    }

    /// The idle connection that was used last, if nobody waits for it.
    pub(crate) fn take_idle(&self, now: Instant) -> Option<Box<Connection>> {
        if self.queue.is_empty() { self.last_idle(now) } else { None }
    }

    /// The idle connection that was used last, if it is still good: the worker has not noticed that the peer closed it or sent
    /// what nobody asked for.
    fn last_idle(&self, now: Instant) -> Option<Box<Connection>> {
        loop {
            let Idle { mut connection, since } = self.idle.borrow_mut().pop_back()?;
            if self.is_fresh(&connection, since, now) && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    fn is_fresh(&self, connection: &Connection, since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) < self.pool.idle_timeout && self.may_be_reused(connection, now)
    }

    fn may_be_reused(&self, connection: &Connection, now: Instant) -> bool {
        let young = self.pool.max_age.is_zero() || now.saturating_duration_since(connection.born) < self.pool.max_age;
        young && (self.pool.max_requests == 0 || connection.requests < self.pool.max_requests)
    }

    /// Takes a connection back after an exchange that left it clean.
    pub(crate) fn give_back(&self, connection: Box<Connection>, now: Instant) {
        if self.owners.get() == 0 || !self.may_be_reused(&connection, now) {
            return;
        }
        if self.pool.max_idle > 0 {
            self.idle.borrow_mut().push_back(Idle { connection, since: now });
        }
        self.wake_waiting();
    }

    /// Closes idle connections that have waited too long, that the peer has closed, or that are too many. The last only if
    /// they were not used a moment ago: under load, connections come and go between two requests of the same client.
    pub(crate) fn prune(&self, now: Instant) {
        let all = std::mem::take(&mut *self.idle.borrow_mut());
        let kept: VecDeque<_> = all
            .into_iter()
            .filter_map(|mut idle| {
                let keep = self.is_fresh(&idle.connection, idle.since, now) && idle.connection.is_quiet();
                keep.then_some(idle)
            })
            .collect();
        let mut idle = self.idle.borrow_mut();
        *idle = kept;
        while idle.len() > self.pool.max_idle
            && idle.front().is_some_and(|oldest| now.saturating_duration_since(oldest.since) >= MOMENT)
        {
            idle.pop_front();
        }
        drop(idle);
        self.sessions.borrow_mut().retain(|session| session.is_open());
    }

    /// One more service has it.
    pub(crate) fn share(&self) {
        self.owners.set(self.owners.get() + 1);
    }

    /// One service fewer has it; the last one lets all idle connections go, and none is taken back.
    pub(crate) fn release(&self) {
        self.owners.set(self.owners.get().saturating_sub(1));
        if self.owners.get() == 0 {
            drop(self.idle.take());
            drop(self.sessions.take());
        }
    }

    /// A connection that takes one more request, or the right to open one; waits while neither is to be had. With `fresh`,
    /// idle connections make room instead of being used. With `shared`, the connection will carry many requests at once, so
    /// only one is opened at a time.
    pub(crate) async fn checkout(self: &Rc<Self>, clock: &Clock, fresh: bool, shared: bool) -> Checkout {
        if self.queue.is_empty()
            && let Some(found) = self.find(clock, fresh, shared)
        {
            return found;
        }
        let Some(turn) = self.queue.enter() else { return Checkout::Crowded };
        loop {
            turn.called().await;
            if let Some(found) = self.find(clock, fresh, shared) {
                turn.take(self.has_more(shared));
                return found;
            }
            turn.wait_again();
        }
    }

    fn find(self: &Rc<Self>, clock: &Clock, fresh: bool, shared: bool) -> Option<Checkout> {
        if fresh && self.is_full() {
            self.idle.borrow_mut().pop_front();
        }
        if !fresh && let Some(connection) = self.last_idle(clock.now()) {
            return Some(Checkout::Reused(connection));
        }
        if let Some(session) = self.roomy_session() {
            return Some(Checkout::Shared(session));
        }
        self.permit(shared).map(Checkout::Open)
    }

    /// True if the next one who waits may find something as well: he is worth calling.
    fn has_more(&self, shared: bool) -> bool {
        !self.idle.borrow().is_empty() || self.may_open(shared) || self.roomy_session().is_some()
    }

    fn may_open(&self, shared: bool) -> bool {
        !(self.is_full() || shared && self.opening_shared.get())
    }

    /// The right to open one more connection, if there may be one more.
    fn permit(self: &Rc<Self>, shared: bool) -> Option<Permit> {
        if !self.may_open(shared) {
            return None;
        }
        self.open.set(self.open.get() + 1);
        self.opening_shared.set(shared);
        Some(Permit { endpoint: Rc::clone(self), opens_shared: shared, counted: None })
    }

    /// True if opening a connection would have to wait for another to end.
    pub(crate) fn is_full(&self) -> bool {
        self.pool.max_connections != 0 && self.open.get() >= self.pool.max_connections
    }

    /// An HTTP/2 connection that takes one more stream, if nobody waits for it.
    pub(crate) fn session(&self) -> Option<Rc<Session>> {
        self.roomy_session().filter(|_| self.queue.is_empty())
    }

    fn roomy_session(&self) -> Option<Rc<Session>> {
        let sessions = self.sessions.borrow();
        if sessions.is_empty() {
            return None;
        }
        sessions.iter().find(|session| session.has_room()).cloned()
    }

    /// Keeps an HTTP/2 connection for further requests.
    pub(crate) fn keep_session(&self, session: &Rc<Session>) {
        self.sessions.borrow_mut().push(Rc::clone(session));
        self.opening_shared.set(false);
        self.wake_waiting();
    }

    /// There may be one more connection, or room on one: whoever has waited longest looks, and passes on what is left.
    pub(crate) fn wake_waiting(&self) {
        self.queue.call();
    }

    /// The addresses of the endpoint. The last good answer is kept when the resolver fails or hangs.
    pub(crate) async fn addresses(&self, clock: &Clock) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = (&*self.config.host, self.config.port);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let host = host.to_owned();
        let ask = || async move { tokio::net::lookup_host((host, port)).await.map(Iterator::collect) };
        self.resolver.addresses(clock, ask).await
    }

    /// For logs and metrics: `host:port`.
    pub(crate) fn authority(&self) -> &Arc<str> {
        &self.config.authority
    }
}

/// What [`Endpoint::checkout`] found.
pub(crate) enum Checkout {
    Reused(Box<Connection>),
    Shared(Rc<Session>),
    Open(Permit),
    /// Neither, and too many wait already.
    Crowded,
}

/// The right to one open connection; counted until it is dropped.
pub(crate) struct Permit {
    endpoint: Rc<Endpoint>,
    opens_shared: bool,
    counted: Option<Held<PoolCells>>,
}

impl Permit {
    /// The connection carries a request, or may do so at any time.
    pub(crate) fn work(&mut self) {
        self.count(PoolCells::active);
    }

    /// The connection is idle.
    pub(crate) fn rest(&mut self) {
        self.count(PoolCells::idle);
    }

    fn count(&mut self, gauge: fn(&PoolCells) -> &telemetry::Cell) {
        match &mut self.counted {
            Some(counted) => counted.change(gauge),
            None => self.counted = Some(Held::new(&self.endpoint.cells, gauge)),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.endpoint.open.set(self.endpoint.open.get() - 1);
        if self.opens_shared {
            self.endpoint.opening_shared.set(false);
        }
        self.endpoint.wake_waiting();
    }
}
