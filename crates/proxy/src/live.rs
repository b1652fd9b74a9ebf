//! An exchange while it lives, and what is told about it when it ends. Whatever way it ends, whoever drops it: exactly one
//! [`Completed`] is made of it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Method, Uri};
use tidegate_core::client::Peer;
use tidegate_core::exchange::Exchange;
use tidegate_core::policy::Chain;
use tidegate_core::rejection::Rejection;
use tidegate_http1::{Fields, Version};

use crate::telemetry::Series;
use crate::telemetry::{Completed, End};
use crate::upstream::call::Tried;
use crate::worker::Worker;

/// A request under way, in the exchange that was lent to it.
pub(crate) struct Live<'e> {
    pub(crate) worker: &'e Rc<Worker>,
    pub(crate) exchange: &'e mut Exchange,
    pub(crate) facts: Facts,
    /// The policies that see its reply.
    pub(crate) chain: Option<Rc<Chain>>,
}

/// What is learnt on the way and told at the end.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) series: Option<Series>,
    pub(crate) route: Option<Rc<str>>,
    /// Not the service itself: an exchange may outlive it by hours.
    pub(crate) service: Option<Rc<str>>,
    pub(crate) tried: Tried,
    pub(crate) upstream: Option<Duration>,
    /// 0 until a reply's head was written.
    pub(crate) status: u16,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) end: Option<End>,
    pub(crate) code: Option<&'static str>,
    pub(crate) cause: Option<String>,
    /// When the last byte was written; saves asking the clock again.
    pub(crate) finished: Option<Instant>,
}

impl<'e> Live<'e> {
    /// `exchange` has begun; it is vacant again afterwards.
    pub(crate) fn new(worker: &'e Rc<Worker>, exchange: &'e mut Exchange) -> Self {
        worker.shard.worker().requests.up();
        Self { worker, exchange, facts: Facts::default(), chain: None }
    }

    /// Notes why the gateway answers itself.
    pub(crate) fn refuse(&mut self, rejection: &Rejection) {
        self.facts.code = Some(rejection.code);
        self.facts.cause.clone_from(&rejection.cause);
    }

    /// Notes that the client left before there was an answer for it. Whatever was about to be refused, nobody was.
    pub(crate) fn leave(&mut self, received: u64) {
        self.facts = Facts { received, code: None, cause: None, end: None, ..std::mem::take(&mut self.facts) };
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        let Self { worker, exchange, facts, .. } = self;
        worker.shard.worker().requests.down();
        if std::thread::panicking() {
            worker.shard.worker().panics.up();
        }
        let finished = facts.finished.unwrap_or_else(|| worker.clock.now());
        let peer = &exchange.peer;
        complete(
            worker,
            &Completed {
                series: facts.series.as_ref(),
                route: facts.route.as_deref().unwrap_or_default(),
                service: facts.service.as_deref().unwrap_or_default(),
                endpoint: facts.tried.endpoint.as_ref().map(|endpoint| &**endpoint.authority()),
                listener: &peer.listener,
                method: exchange.head.method.as_str(),
                scheme: exchange.scheme.as_str(),
                host: &exchange.host,
                path: exchange.asked_path(),
                query: exchange.asked_query(),
                version: exchange.head.version,
                fields: &exchange.head.fields,
                client: exchange.client,
                peer: SocketAddr::new(peer.socket, peer.port),
                request_id: exchange.request_id.as_str(),
                status: facts.status,
                received: facts.received,
                sent: facts.sent,
                started: exchange.started,
                duration: finished.saturating_duration_since(exchange.started),
                upstream: facts.upstream,
                attempts: facts.tried.attempts,
                end: facts.end.unwrap_or(if worker.has_ended() { End::Shutdown } else { End::ClientGone }),
                trail: Some(&exchange.trail).filter(|trail| !trail.is_empty()),
                user: exchange.identity.as_ref().and_then(|identity| identity.user.as_deref()),
                code: facts.code,
                cause: facts.cause.as_deref(),
                tls: peer.tls.as_deref(),
            },
        );
        worker.buffers.put_head(exchange.vacate());
    }
}

/// Tells of a request that the codec refused, so that it never became an exchange, by the id and with the body that the client got.
pub(crate) fn refused(worker: &Worker, peer: &Peer, rejection: &Rejection, (request_id, body): (&str, &[u8])) {
    let unread = Unserved::unread(Version::Http11, rejection.code, &rejection.detail);
    let (status, sent) = (rejection.status().as_u16(), body.len() as u64);
    unserved(worker, peer, &Unserved { request_id, status, sent, ..unread });
}

/// A request that never became an exchange, as far as it is known.
pub(crate) struct Unserved<'a> {
    pub(crate) version: Version,
    /// Empty where it could not be read.
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) request_id: &'a str,
    /// 0 where none was sent.
    pub(crate) status: u16,
    /// Bytes of the answer's body.
    pub(crate) sent: u64,
    pub(crate) code: &'static str,
    pub(crate) cause: &'a str,
}

impl<'a> Unserved<'a> {
    /// One of which nothing was read.
    pub(crate) fn unread(version: Version, code: &'static str, cause: &'a str) -> Self {
        Self { version, method: "", host: "", path: "", request_id: "", status: 0, sent: 0, code, cause }
    }

    /// What it asked for. What follows a `?` may hold credentials of any name, and nobody has looked.
    pub(crate) fn named(self, method: &'a Method, uri: &'a Uri) -> Self {
        Self { method: method.as_str(), host: uri.host().unwrap_or_default(), path: uri.path(), ..self }
    }
}

/// Tells of a request that never became an exchange.
pub(crate) fn unserved(worker: &Worker, peer: &Peer, request: &Unserved<'_>) {
    let now = worker.clock.now();
    complete(
        worker,
        &Completed {
            series: None,
            route: "",
            service: "",
            endpoint: None,
            listener: &peer.listener,
            method: request.method,
            scheme: peer.scheme().as_str(),
            host: request.host,
            path: request.path,
            query: "",
            version: request.version,
            fields: &Fields::new(),
            client: peer.address,
            peer: SocketAddr::new(peer.socket, peer.port),
            request_id: request.request_id,
            status: request.status,
            received: 0,
            sent: request.sent,
            started: now,
            duration: Duration::ZERO,
            upstream: None,
            attempts: 0,
            end: End::Refused,
            trail: None,
            user: None,
            code: Some(request.code),
            cause: Some(request.cause),
            tls: peer.tls.as_deref(),
        },
    );
}

fn complete(worker: &Worker, completed: &Completed<'_>) {
    worker.shard.record(completed);
    worker.log.borrow_mut().write(completed, |instant| worker.wall_at(instant));
}
