//! The control side of the data plane: it binds sockets, starts workers, hands them new snapshots and lets them end. It lives
//! on the control thread and is never on a request's path.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_config::config::Config;
use tidegate_config::overlap;
use tidegate_config::problem::Problems;
use tidegate_core::clock::Clock;
use tidegate_core::policy::Rules;
use tokio::sync::{mpsc, watch};

use crate::limits::Connections;
use crate::listener::bind::{bind, bind_beside};
use crate::run::{self, Command, Socket};
use crate::snapshot::Snapshot;
use crate::telemetry::LogSender;
use crate::telemetry::Metrics;
use crate::upkeep::Keeper;
use crate::upstreams::Upstreams;
use crate::worker::Parts;

/// What a gateway is started with besides its configuration.
pub struct Options {
    /// Where numbers go.
    pub metrics: Arc<Metrics>,
    /// Where access log lines go.
    pub log: LogSender,
    /// The policies that routes may ask for.
    pub rules: Rules,
    /// Where the services in use can be seen and steered.
    pub upstreams: Arc<Upstreams>,
    /// Where the time comes from.
    pub clock: Clock,
}

/// Why a gateway could not be started or reloaded. Nothing was changed.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be run.
    Problems(Problems),
    /// These addresses could not be bound.
    Bind(Vec<Unbound>),
    /// A worker could not be started.
    Worker(io::Error),
}

/// An address of a listener that could not be bound.
#[derive(Debug)]
pub struct Unbound {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub error: io::Error,
}

/// A running gateway.
pub struct Gateway {
    current: ArcSwap<Snapshot>,
    workers: Vec<WorkerHandle>,
    keeper: Keeper,
    upstreams: Arc<Upstreams>,
    sockets: Mutex<BTreeMap<Key, Bound>>,
    draining: AtomicBool,
    connections: Arc<Connections>,
    reloading: Mutex<()>,
    clock: Clock,
    rules: Rules,
}

/// What a socket is kept under across reloads: the address asked for. Port 0 asks for any, so there the listener counts too.
pub(crate) type Key = (SocketAddr, Option<Arc<str>>);

/// An address that is listened on.
struct Bound {
    listener: Arc<str>,
    local: SocketAddr,
    /// One per worker.
    sockets: Vec<TcpListener>,
}

impl Bound {
    fn of_worker(&self, number: usize, key: &Key) -> Option<io::Result<Socket>> {
        let accepts = self.sockets.get(number)?.try_clone();
        Some(accepts.map(|accepts| Socket {
            key: key.clone(),
            listener: Arc::clone(&self.listener),
            port: self.local.port(),
            accepts,
        }))
    }
}

struct WorkerHandle {
    commands: mpsc::UnboundedSender<Command>,
    /// Connections still open while the worker drains; closed when the worker has ended.
    ended: watch::Receiver<usize>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Gateway {
    /// What would keep `config` from running, and what is odd about it. Has no effects.
    pub fn check(config: &Arc<Config>, rules: &Rules) -> Problems {
        match Snapshot::build(config, None, rules, Clock::System.now()) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        }
    }

    /// Binds every listener and starts the workers.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start(config: &Arc<Config>, options: &Options) -> Result<Self, StartError> {
        let (snapshot, _) =
            Snapshot::build(config, None, &options.rules, options.clock.now()).map_err(StartError::Problems)?;
        let count = worker_count(config);
        let sockets = bind_all(config, &BTreeMap::new(), count)?;
        let shared_out = share_out(&sockets, count).map_err(StartError::Worker)?;
        let snapshot = Arc::new(snapshot);
        let connections = Arc::new(Connections::default());
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let parts = Parts {
                number,
                count,
                clock: options.clock.clone(),
                metrics: Arc::clone(&options.metrics),
                log: options.log.clone(),
                connections: Arc::clone(&connections),
                snapshot: Arc::clone(&snapshot),
                seed: fastrand::u64(..),
            };
            workers.push(start_worker(parts).map_err(StartError::Worker)?);
        }
        let upstreams = Arc::clone(&options.upstreams);
        snapshot.start(&upstreams, options.clock.now());
        let keeper = Keeper::start((options.clock.clone(), Arc::clone(&upstreams)), count, Arc::clone(&snapshot));
        let gateway = Self {
            keeper: keeper.map_err(StartError::Worker)?,
            upstreams,
            clock: options.clock.clone(),
            rules: options.rules.clone(),
            current: ArcSwap::new(Arc::clone(&snapshot)),
            workers,
            sockets: Mutex::new(sockets),
            draining: AtomicBool::new(false),
            connections,
            reloading: Mutex::default(),
        };
        gateway.publish(&snapshot, shared_out);
        Ok(gateway)
    }

    /// Builds everything that `config` asks for, then lets new requests see it. Requests under way finish on what they began
    /// with, and nothing that did not change is lost. The number of workers stays as it was.
    ///
    /// # Errors
    /// See [`StartError`]; the gateway runs on as before.
    pub fn reload(&self, config: &Arc<Config>) -> Result<u64, StartError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.current.load_full();
        let (snapshot, _) =
            Snapshot::build(config, Some(&last), &self.rules, self.clock.now()).map_err(StartError::Problems)?;
        let snapshot = Arc::new(snapshot);
        let sockets = bind_all(config, &self.sockets(), self.workers.len())?;
        let shared_out = share_out(&sockets, self.workers.len()).map_err(StartError::Worker)?;
        *self.sockets() = sockets;
        self.current.store(Arc::clone(&snapshot));
        snapshot.start(&self.upstreams, self.clock.now());
        self.keeper.adopt(&snapshot);
        self.publish(&snapshot, shared_out);
        Ok(snapshot.revision)
    }

    /// What new requests see.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Every listener's name and the address that it got.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        self.sockets().values().map(|bound| (Arc::clone(&bound.listener), bound.local)).collect()
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.connections.total()
    }

    /// True once the gateway has begun to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Stops accepting and lets connections end with the exchange that they carry. True if all had ended within `at_most`;
    /// the rest is cut off when the gateway is dropped.
    pub async fn drain(&self, at_most: Duration) -> bool {
        self.draining.store(true, Relaxed);
        self.sockets().clear();
        for worker in &self.workers {
            // A worker that is gone has drained.
            worker.commands.send(Command::Drain(at_most)).ok();
        }
        let mut clean = true;
        for worker in &self.workers {
            let mut ended = worker.ended.clone();
            // The channel closes when the worker ends; its last word is how many connections it had to cut off.
            while ended.changed().await.is_ok() {}
            clean &= *ended.borrow() == 0;
        }
        clean
    }

    /// Returns when all workers serve `snapshot`: whoever hears of the new configuration then meets it.
    fn publish(&self, snapshot: &Arc<Snapshot>, shared_out: Vec<Vec<Socket>>) {
        let (served, all_serve) = std::sync::mpsc::channel();
        for (worker, sockets) in self.workers.iter().zip(shared_out) {
            let adopt = Command::Adopt { snapshot: Arc::clone(snapshot), sockets, served: served.clone() };
            // A worker that is gone needs no snapshot.
            worker.commands.send(adopt).ok();
        }
        drop(served);
        // Nothing is ever sent: the channel closes when the last one has dropped its end.
        _ = all_serve.recv();
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Bound>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.commands.send(Command::Stop).ok();
        }
        for worker in &self.workers {
            let thread = worker.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(thread) = thread {
                // A worker that panicked has nothing more to say.
                thread.join().ok();
            }
        }
    }
}

fn worker_count(config: &Config) -> usize {
    let cores = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config.server.workers.map_or_else(cores, std::num::NonZero::get)
}

/// Binds what is not bound yet and keeps what is; all or nothing.
fn bind_all(config: &Config, bound: &BTreeMap<Key, Bound>, count: usize) -> Result<BTreeMap<Key, Bound>, StartError> {
    let mut all = BTreeMap::new();
    let mut unbound = Vec::new();
    for listener in &config.server.listeners {
        for address in &listener.addresses {
            let name = &listener.name;
            let key = (*address, (address.port() == 0).then(|| Arc::clone(name)));
            match bind_one(*address, bound, &key, count) {
                Ok((local, sockets)) => {
                    all.insert(key, Bound { listener: Arc::clone(name), local, sockets });
                }
                Err(error) => unbound.push(Unbound { listener: Arc::clone(name), address: *address, error }),
            }
        }
    }
    if unbound.is_empty() { Ok(all) } else { Err(StartError::Bind(unbound)) }
}

fn bind_one(
    address: SocketAddr,
    bound: &BTreeMap<Key, Bound>,
    key: &Key,
    count: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let sockets = match bound.get(key) {
        Some(kept) => kept.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?,
        None if bound.values().any(|held| overlap(held.local, address)) => bind_beside(address, count)?,
        None => bind(address, count)?,
    };
    let local = sockets.first().map_or(Ok(address), TcpListener::local_addr)?;
    Ok((local, sockets))
}

/// Every worker's own handles of the sockets: all, before anybody is told of any.
fn share_out(sockets: &BTreeMap<Key, Bound>, workers: usize) -> io::Result<Vec<Vec<Socket>>> {
    let of_worker = |number| sockets.iter().filter_map(move |(key, bound)| bound.of_worker(number, key)).collect();
    (0..workers).map(of_worker).collect()
}

fn start_worker(parts: Parts) -> io::Result<WorkerHandle> {
    let (commands, received) = mpsc::unbounded_channel();
    let (open, ended) = watch::channel(0);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let name = format!("worker-{}", parts.number);
    let thread = thread::Builder::new().name(name).spawn(move || run::worker(parts, received, (&open, &ready)))?;
    // Nobody is given a socket that is not accepted from: what it was sent would wait for ever.
    is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended at once")))?;
    Ok(WorkerHandle { commands, ended, thread: Mutex::new(Some(thread)) })
}
