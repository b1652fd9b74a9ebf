//! A gateway without listeners and threads: one worker on the calling thread, over memory and a clock of the caller's. Tests and
//! dry runs use it; it is the same code that serves real traffic.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use tidegate_config::config::Config;
use tidegate_config::problem::Problems;
use tidegate_core::body::Body;
use tidegate_core::client::Peer;
use tidegate_core::clock::Clock;
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::policy::Rules;
use tidegate_http1::RequestHead;
use tokio::io::DuplexStream;

use crate::alarm::Alarm;
use crate::io::Io;
use crate::limits::Connections;
use crate::listener::{Session, accept};
use crate::net::Net;
use crate::serve;
use crate::snapshot::Snapshot;
use crate::tasks::{Task, spawn_local};
use crate::telemetry::{LogSender, Metrics};
use crate::upkeep::Upkeep;
use crate::upstreams::Upstreams;
use crate::worker::{Parts, Worker};

/// One worker on the calling thread. It must be used inside a `LocalSet`.
pub struct Solo {
    worker: Rc<Worker>,
    upkeep: RefCell<Upkeep>,
    upstreams: Arc<Upstreams>,
    rules: Rules,
    _tending: Task,
}

impl Solo {
    /// Builds what `config` asks for; connections to endpoints go by `net`.
    ///
    /// # Errors
    /// Everything that would keep the configuration from running.
    pub fn new(
        config: &Arc<Config>,
        rules: &Rules,
        clock: Clock,
        net: Net,
        telemetry: (Arc<Metrics>, LogSender),
    ) -> Result<Self, Problems> {
        let (snapshot, _) = Snapshot::build(config, None, rules, clock.now())?;
        let (metrics, log) = telemetry;
        let parts = Parts {
            number: 0,
            count: 1,
            clock,
            metrics,
            log,
            connections: Arc::new(Connections::default()),
            snapshot: Arc::new(snapshot),
            seed: 1,
        };
        let upstreams = Upstreams::new(parts.clock.clone());
        parts.snapshot.start(&upstreams, parts.clock.now());
        let worker = Worker::new(parts, Rc::new(net));
        let mut upkeep = Upkeep::new(worker.means.clone(), Arc::clone(&upstreams), 1);
        upkeep.adopt(&worker.local().snapshot);
        let tending = spawn_local(Rc::clone(&worker).tend());
        Ok(Self { worker, upkeep: RefCell::new(upkeep), upstreams, rules: rules.clone(), _tending: tending })
    }

    /// The reply to one request, as a client at `peer` would get it, before it is written to any protocol.
    pub async fn answer(&self, head: RequestHead, body: Body, peer: Peer) -> Reply {
        let session = self.session(peer);
        let alarm = Rc::new(Alarm::new(&self.worker.clock).into());
        let now = self.worker.clock.now();
        let mut exchange = Exchange::vacant(Rc::clone(&session.peer), now);
        let (mut live, opened) = serve::open(&self.worker, &session, &mut exchange, (head, body), now);
        let answer = serve::serve(&mut live, opened, serve::Means { alarm: &alarm, interim: &|_| {} }).await;
        live.facts.status = answer.reply.head.status.as_u16();
        answer.reply
    }

    /// The client's end of a new connection from `peer`, which is served until it ends.
    pub fn connect(&self, peer: Peer) -> DuplexStream {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let session = self.session(peer);
        let worker = Rc::clone(&self.worker);
        spawn_local(async move {
            let _enlisted = worker.enlist_current().await;
            let since = worker.clock.now();
            accept::plain(&worker, Io::Memory(near), BytesMut::new(), session, since).await;
        })
        .detach();
        far
    }

    /// The client's end of a new connection to the listener of this name, with all that it does before HTTP: PROXY header, TLS,
    /// limits. `None` if there is no such listener, or no place.
    pub fn arrive(&self, listener: &str, from: SocketAddr) -> Option<DuplexStream> {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let worker = Rc::clone(&self.worker);
        let local = worker.local();
        let door = accept::Door::of(&worker, &local.snapshot, (listener, 443), None)?;
        let place = worker.connections.enter(local.snapshot.config.server.limits.connections).ok()?;
        drop(local);
        spawn_local(async move {
            let _enlisted = worker.enlist_current().await;
            accept::connection(&worker, Io::Memory(near), from, &door, place).await;
        })
        .detach();
        Some(far)
    }

    /// Serves with `config` from now on.
    ///
    /// # Errors
    /// Everything that would keep the configuration from running; then nothing changes.
    pub fn reload(&self, config: &Arc<Config>) -> Result<(), Problems> {
        let now = self.worker.clock.now();
        let (snapshot, _) = Snapshot::build(config, Some(&self.worker.local().snapshot), &self.rules, now)?;
        snapshot.start(&self.upstreams, self.worker.clock.now());
        self.upkeep.borrow_mut().adopt(&snapshot);
        self.worker.adopt(Arc::new(snapshot));
        Ok(())
    }

    /// The services in use, to be seen and steered.
    pub fn upstreams(&self) -> &Arc<Upstreams> {
        &self.upstreams
    }

    /// Lets connections end as soon as they can.
    pub fn drain(&self) {
        self.worker.drain();
    }

    fn session(&self, peer: Peer) -> Rc<Session> {
        let cells = self.worker.shard.listener(&peer.listener);
        Rc::new(Session { peer: Rc::new(peer), redirects: false, name_bound: false, closed: Rc::default(), cells })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::client::TrustedProxies;
    use tidegate_core::policy::NoPolicies;

    use super::*;
    use crate::io::testing::block_on;
    use crate::telemetry::LogWriter;

    #[test]
    fn a_connection_between_requests_is_small() {
        block_on(async {
            let loaded = tidegate_config::from_yaml("routes: [{ match: { path: / }, respond: { status: 200 } }]");
            let config = Arc::new(loaded.map_err(|_| "a valid configuration").unwrap().config);
            let metrics = Metrics::new();
            let log = LogWriter::start(None, Arc::clone(metrics.log())).unwrap();
            let solo =
                Solo::new(&config, &Rules::new(&NoPolicies), Clock::System, Net::System, (metrics, log.sender()))
                    .unwrap();
            let from: SocketAddr = "192.0.2.7:4711".parse().unwrap();
            let session = solo.session(Peer::new(from, "default".into(), 80, &TrustedProxies::default()));
            let (near, _far) = tokio::io::duplex(64);
            let since = solo.worker.clock.now();
            let connection = accept::plain(&solo.worker, Io::Memory(near), BytesMut::new(), session, since);
            // Five thousand of them wait in every gateway.
            assert!(size_of_val(&connection) <= 1024, "{} bytes", size_of_val(&connection));
        });
    }
}
