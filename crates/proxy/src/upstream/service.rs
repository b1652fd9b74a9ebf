//! A service as one worker sees it, and the one way to call it: whatever calls upstream, driven by a client or not, goes
//! through [`Service::call`].

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ClientConfig;
use tidegate_config::config::{self, UpstreamProtocol};
use tidegate_core::balance::{Balance, Pick, Strategy};
use tidegate_core::body::Body;

use super::attempt::{Attempt, Failure, Reply};
use super::connect::{self, How, Opened};
use super::endpoint::{Checkout, Endpoint};
use super::http1;
use super::http2::Session;
use crate::alarm::until;
use crate::telemetry::PoolCells;

/// What all workers share of a service: what was configured, and what was made of it once.
pub(crate) struct Plan {
    pub(crate) config: Arc<config::Service>,
    /// Present if any endpoint uses TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) balance: Strategy,
}

/// A service on one worker, with its connections. It outlives snapshots as long as its configuration does not change.
pub(crate) struct Service {
    pub(crate) plan: Arc<Plan>,
    pub(crate) cells: Arc<PoolCells>,
    endpoints: Vec<Rc<Endpoint>>,
    cursor: Cell<usize>,
}

/// How a call went, besides its reply: for the log.
#[derive(Default)]
pub(crate) struct Tried {
    pub(crate) attempts: u32,
    pub(crate) endpoint: Option<Rc<Endpoint>>,
}

/// Something that takes one request.
enum Channel {
    Http1(Box<http1::Connection>),
    Http2(Rc<Session>),
}

impl Service {
    /// `workers` share the pool's limits; worker number `worker` starts at another endpoint than the others, so that
    /// together they are even from the first request on.
    pub(crate) fn new(plan: Arc<Plan>, cells: Arc<PoolCells>, worker: usize, workers: usize) -> Rc<Self> {
        let pool = share(plan.config.pool, workers);
        let endpoints =
            plan.config.endpoints.iter().map(|endpoint| Endpoint::new(endpoint.clone(), pool, &cells)).collect();
        Rc::new(Self { plan, cells, endpoints, cursor: Cell::new(worker) })
    }

    /// Sends a request to an endpoint and returns the reply once its head is there.
    ///
    /// An endpoint that cannot be connected to is passed over for the next. A pooled connection that turns out to be closed
    /// is replaced once, by a new one, if the service cannot have seen the request or may see it twice.
    pub(crate) async fn call(&self, attempt: &mut Attempt<'_>, tried: &mut Tried) -> Result<Reply, Failure> {
        let mut unreachable = Vec::new();
        loop {
            let picked = self.plan.balance.pick(&Pick { excluded: &unreachable, ..Pick::new(&self.cursor) });
            let Some((index, endpoint)) = picked.and_then(|index| Some((index, self.endpoints.get(index)?))) else {
                return Err(Failure::NoEndpoint);
            };
            tried.attempts += 1;
            tried.endpoint = Some(Rc::clone(endpoint));
            match self.call_endpoint(endpoint, attempt).await {
                Err(Failure::Connect(_) | Failure::ConnectTimeout | Failure::Resolve(_))
                    if unreachable.len() + 1 < self.endpoints.len() =>
                {
                    unreachable.push(index);
                }
                done => return done,
            }
        }
    }

    async fn call_endpoint(&self, endpoint: &Rc<Endpoint>, attempt: &mut Attempt<'_>) -> Result<Reply, Failure> {
        let spare = attempt.body.replayable();
        let (channel, reused) = self.channel(endpoint, attempt, false).await?;
        let failure = match over(channel, attempt).await {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        let Failure::Broken { sent, .. } = failure else { return Err(failure) };
        let again = match spare {
            Some(body) if !sent || attempt.head.method.is_idempotent() => Some(Body::full(body)),
            // A stream can be sent again only if nothing of it was taken: then it was handed back.
            None if !sent && !attempt.body.is_end() => Some(std::mem::take(&mut attempt.body)),
            _ => None,
        };
        // A new connection that broke under a request was given up by the service, not by time: once is enough.
        let (true, Some(body)) = (reused || !sent, again) else { return Err(failure) };
        attempt.body = body;
        self.cells.stale.up();
        let (channel, _) = self.channel(endpoint, attempt, true).await?;
        over(channel, attempt).await
    }

    /// A connection to the endpoint, and whether it was used before.
    async fn channel(
        &self,
        endpoint: &Rc<Endpoint>,
        attempt: &Attempt<'_>,
        fresh: bool,
    ) -> Result<(Channel, bool), Failure> {
        if !fresh {
            if let Some(connection) = endpoint.take_idle(attempt.clock) {
                self.cells.reused.up();
                return Ok((Channel::Http1(connection), true));
            }
            if let Some(session) = endpoint.session() {
                self.cells.reused.up();
                return Ok((Channel::Http2(session), true));
            }
        }
        let connect = attempt.clock.now() + self.plan.config.timeouts.connect;
        let (at, too_late) = match attempt.deadline {
            Some(deadline) if deadline < connect => (deadline, Failure::DeadlinePassed),
            _ if endpoint.is_full() => (connect, Failure::PoolExhausted),
            _ => (connect, Failure::ConnectTimeout),
        };
        until(attempt.clock, at, self.open(endpoint, attempt, fresh)).await.unwrap_or(Err(too_late))
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
    pub(crate) fn prune(&self, now: std::time::Instant) {
        for endpoint in &self.endpoints {
            endpoint.prune(now);
        }
    }
}

impl Drop for Service {
    /// A pool and its idle connections know each other; somebody must let go.
    fn drop(&mut self) {
        for endpoint in &self.endpoints {
            endpoint.close();
        }
    }
}

async fn over(channel: Channel, attempt: &mut Attempt<'_>) -> Result<Reply, Failure> {
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
