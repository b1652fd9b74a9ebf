//! A service as one worker sees it: its endpoints as they are now, and connections to them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::ClientConfig;
use tidegate_config::config::{self, UpstreamProtocol};
use tidegate_core::cluster::{Member, View};
use tidegate_core::retry::Budget;

use super::attempt::{Attempt, Failure, Reply};
use super::connect::{self, How, Opened};
use super::endpoint::{Checkout, Endpoint};
use super::http1;
use super::http2::Session;
use super::shared::Shared;
use super::sticky::Sticky;
use crate::alarm::until;
use crate::telemetry::PoolCells;

/// What all workers share of a service: what was configured, and what was made of it once.
pub(crate) struct Plan {
    pub(crate) config: Arc<config::Service>,
    /// Present if any endpoint uses TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) shared: Arc<Shared>,
    /// For retries and hedges, of the service and of routes that go to it.
    pub(crate) budget: Budget,
    /// Present where a cookie keeps clients with their endpoint.
    pub(crate) sticky: Option<Sticky>,
}

/// A service on one worker, with its connections. It outlives snapshots as long as its configuration does not change.
pub(crate) struct Service {
    pub(crate) plan: Arc<Plan>,
    /// Requests note it, with a count of references that is this thread's own.
    pub(crate) name: Rc<str>,
    pub(crate) cells: Arc<PoolCells>,
    pub(super) cursor: Cell<usize>,
    pool: config::Pool,
    seen: RefCell<Rc<Seen>>,
}

/// The endpoints as they were at one moment.
pub(super) struct Seen {
    pub(super) view: Arc<View>,
    /// In the order of the view's members.
    pub(super) endpoints: Vec<Rc<Endpoint>>,
}

/// Something that takes one request.
pub(super) enum Channel {
    Http1(Box<http1::Connection>),
    Http2(Rc<Session>),
}

impl Service {
    /// `workers` share the pool's limits; worker number `worker` starts at another endpoint than the others, so that
    /// together they are even from the first request on. Connections of `last`, the same service before it was configured
    /// anew, are kept where they are as they should be.
    pub(crate) fn new(
        plan: Arc<Plan>,
        cells: Arc<PoolCells>,
        (worker, workers): (usize, usize),
        last: Option<&Self>,
    ) -> Rc<Self> {
        let pool = share(plan.config.pool, workers);
        let kept = last.filter(|last| connects_alike(&last.plan.config, &plan.config));
        let kept = kept.map(|last| Rc::clone(&last.seen.borrow()));
        let kept = kept.as_deref();
        let seen = Seen::new(plan.shared.cluster.view(), kept, |member| Endpoint::of(member, pool, &cells));
        let was_kept = |endpoint: &&Rc<Endpoint>| {
            kept.is_some_and(|kept| kept.endpoints.iter().any(|old| Rc::ptr_eq(old, endpoint)))
        };
        seen.endpoints.iter().filter(was_kept).for_each(|endpoint| endpoint.share());
        let name = Rc::from(&*plan.config.name);
        Rc::new(Self { name, cursor: Cell::new(worker), pool, seen: RefCell::new(Rc::new(seen)), plan, cells })
    }

    /// The endpoints as they are now.
    #[inline]
    pub(super) fn seen(&self, now: Instant) -> Rc<Seen> {
        let seen = self.seen.borrow();
        if self.plan.shared.cluster.is_current(&seen.view, now) {
            return Rc::clone(&seen);
        }
        drop(seen);
        self.refresh(now)
    }

    #[cold]
    fn refresh(&self, now: Instant) -> Rc<Seen> {
        let last = Rc::clone(&self.seen.borrow());
        let mut view = Arc::clone(&last.view);
        self.plan.shared.cluster.renew(&mut view, now);
        if view.revision == last.view.revision {
            return last;
        }
        let seen = Seen::new(view, Some(&last), |member| Endpoint::of(member, self.pool, &self.cells));
        for endpoint in last.endpoints.iter().filter(|old| !seen.endpoints.iter().any(|new| Rc::ptr_eq(old, new))) {
            endpoint.release();
        }
        let seen = Rc::new(seen);
        self.seen.replace(Rc::clone(&seen));
        seen
    }

    /// A connection to the endpoint, and whether it was used before.
    pub(super) async fn channel(
        &self,
        endpoint: &Rc<Endpoint>,
        attempt: &Attempt<'_>,
        fresh: bool,
    ) -> Result<(Channel, bool), Failure> {
        if !fresh {
            if let Some(connection) = endpoint.take_idle(attempt.try_began) {
                self.cells.reused.up();
                return Ok((Channel::Http1(connection), true));
            }
            if let Some(session) = endpoint.session() {
                self.cells.reused.up();
                return Ok((Channel::Http2(session), true));
            }
        }
        let connect = attempt.clock.now() + self.plan.config.timeouts.connect;
        let soonest = attempt.try_limit.map_or(connect, |limit| limit.until.min(connect));
        let (at, too_late) = match attempt.deadline {
            Some(deadline) if deadline < soonest => (deadline, Failure::DeadlinePassed { at_fault: true }),
            _ if soonest < connect => (soonest, Failure::TryTimeout),
            _ if endpoint.is_full() => (connect, Failure::PoolExhausted),
            _ => (connect, Failure::ConnectTimeout),
        };
        // Boxed, because it is rare and much larger than all else that a call keeps.
        Box::pin(until(attempt.clock, at, self.open(endpoint, attempt, fresh))).await.unwrap_or(Err(too_late))
    }

    async fn open(
        &self,
        endpoint: &Rc<Endpoint>,
        attempt: &Attempt<'_>,
        fresh: bool,
    ) -> Result<(Channel, bool), Failure> {
        let config = &self.plan.config;
        let shared = config.protocol == UpstreamProtocol::Http2;
        let mut permit = match endpoint.checkout(attempt.clock, fresh, shared).await {
            Checkout::Reused(connection) => return Ok((Channel::Http1(connection), true)),
            Checkout::Shared(session) => return Ok((Channel::Http2(session), true)),
            Checkout::Open(permit) => permit,
            Checkout::Crowded => return Err(Failure::PoolExhausted),
        };
        permit.work();
        let how = How {
            protocol: config.protocol,
            tls: self.plan.tls.as_ref(),
            server_name: config.tls.server_name.as_deref(),
            clock: attempt.clock,
            net: attempt.net,
        };
        match connect::open(endpoint, how, permit).await {
            Ok(Opened::Http1(connection)) => {
                self.cells.opened.up();
                Ok((Channel::Http1(connection), false))
            }
            Ok(Opened::Http2(session)) => {
                self.cells.opened.up();
                endpoint.keep_session(&session);
                Ok((Channel::Http2(session), false))
            }
            Err(failure) => {
                self.cells.failed.up();
                Err(failure)
            }
        }
    }

    /// Closes idle connections whose time has come.
    pub(crate) fn prune(&self, now: Instant) {
        for endpoint in &self.seen(now).endpoints {
            endpoint.prune(now);
        }
    }
}

impl Drop for Service {
    /// A pool and its idle connections know each other; somebody must let go.
    fn drop(&mut self) {
        for endpoint in &self.seen.borrow().endpoints {
            endpoint.release();
        }
    }
}

impl Seen {
    /// The members of `view`, with the pools of those that were seen before.
    fn new(view: Arc<View>, last: Option<&Self>, make: impl Fn(&Arc<Member>) -> Rc<Endpoint>) -> Self {
        let known = |member: &Member| last.and_then(|last| last.endpoints.iter().find(|old| old.id() == member.id));
        let endpoints = view.members.iter().map(|member| known(member).map_or_else(|| make(member), Rc::clone));
        Self { endpoints: endpoints.collect(), view }
    }

    /// How many endpoints take requests.
    pub(super) fn usable(&self) -> usize {
        self.view.members.iter().filter(|member| member.in_service()).count()
    }
}

/// Whether connections made for `one` are as good for `other`.
fn connects_alike(one: &config::Service, other: &config::Service) -> bool {
    one.protocol == other.protocol && one.tls == other.tls && one.pool == other.pool
}

pub(super) async fn over(channel: Channel, attempt: &mut Attempt<'_>) -> Result<Reply, Failure> {
    match channel {
        Channel::Http1(connection) => connection.exchange(attempt).await,
        Channel::Http2(session) => session.exchange(attempt).await,
    }
}

/// One worker's share of limits that hold for the whole process. Rounded up: a limit below the number of workers becomes one
/// connection each.
fn share(pool: config::Pool, workers: usize) -> config::Pool {
    config::Pool {
        max_idle: pool.max_idle.div_ceil(workers),
        max_connections: pool.max_connections.div_ceil(workers),
        ..pool
    }
}
