//! One thread of the data plane: its view of the snapshot, its connections and pools. What it shares with other workers (the state
//! of endpoints, budgets, limits) is atomic, so nothing on a request's path takes a lock.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tidegate_config::config;
use tidegate_core::clock::Clock;
use tidegate_core::forward;
use tidegate_core::policy::{Chain, Guarded};

use crate::alarm::pause;
use crate::buffers::Buffers;
use crate::limits::Connections;
use crate::listener::Attendants;
use crate::net::Net;
use crate::pace::Patience;
use crate::shaping::Shaping;
use crate::snapshot::{Snapshot, Target};
use crate::telemetry::LogBuffer;
use crate::telemetry::LogSender;
use crate::telemetry::{Metrics, Series, Shard};
use crate::upstream::means::Means;
use crate::upstream::service::Service;

/// How often idle connections are looked at and logs handed on.
const TICK: Duration = Duration::from_millis(200);

/// A worker's state.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) count: usize,
    pub(crate) clock: Clock,
    /// What its attempts are made with.
    pub(crate) means: Means,
    pub(crate) shard: Shard,
    pub(crate) log: RefCell<LogBuffer>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) attendants: Attendants,
    /// What services were told about clients.
    pub(crate) told: forward::Told,
    /// Shared by all workers; used when connections come and go.
    pub(crate) connections: Arc<Connections>,
    local: RefCell<Rc<Local>>,
    draining: Cell<bool>,
    /// Its thread ends, and drops what is under way.
    ended: Cell<bool>,
    /// Tasks of open connections, to be woken when the worker drains.
    tasks: RefCell<HashMap<u64, Waker>>,
    next_task: Cell<u64>,
    /// A monotonic instant and the wall time at it, renewed with every tick.
    wall: Cell<(Instant, Duration)>,
    date: RefCell<Rc<str>>,
}

/// A snapshot as one worker sees it. An exchange keeps the one it began with.
pub(crate) struct Local {
    pub(crate) snapshot: Arc<Snapshot>,
    /// In the order of the snapshot's services.
    pub(crate) services: Vec<Rc<Service>>,
    /// In the order of the snapshot's routes.
    pub(crate) routes: Vec<RouteSeries>,
    pub(crate) shaping: Shaping,
    /// The routes' policies, in the order of the snapshot's routes.
    pub(crate) chains: Vec<Rc<Chain>>,
    /// The policies of replies that the router makes itself.
    pub(crate) router_chain: Rc<Chain>,
    pub(crate) guarded: Rc<Guarded>,
}

/// Where a route's requests are counted: by the service they go to; a single one for other targets.
pub(crate) struct RouteSeries {
    /// Requests note it, with a count of references that is this thread's own.
    pub(crate) name: Rc<str>,
    all: Vec<(Option<usize>, Series)>,
}

impl RouteSeries {
    pub(crate) fn of(&self, service: Option<usize>) -> Option<&Series> {
        self.all.iter().find(|(index, _)| *index == service).map(|(_, series)| series)
    }
}

/// What a worker starts with.
pub(crate) struct Parts {
    pub(crate) number: usize,
    pub(crate) count: usize,
    pub(crate) clock: Clock,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: LogSender,
    pub(crate) connections: Arc<Connections>,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Where this worker's chance begins: the same one on a manual clock, so that a test that fails once fails again.
    pub(crate) seed: u64,
}

impl Worker {
    /// Connections to endpoints go by `net`.
    pub(crate) fn new(parts: Parts, net: Rc<Net>) -> Rc<Self> {
        let Parts { number, count, clock, metrics, log, connections, snapshot, seed } = parts;
        let mut dice = fastrand::Rng::with_seed(seed);
        let shard = metrics.shard();
        let mut log = LogBuffer::new(log, dice.u64(..));
        log.configure(snapshot.config.log.access.as_ref());
        let local = Rc::new(Local::new(snapshot, None, &shard, (number, count)));
        let buffers = Rc::new(Buffers::new(local.snapshot.config.server.buffers));
        Rc::new(Self {
            number,
            count,
            wall: Cell::new((clock.now(), clock.wall())),
            date: RefCell::new(http_date(clock.wall())),
            means: Means {
                clock: clock.clone(),
                net,
                buffers: Rc::clone(&buffers),
                dice: Rc::new(RefCell::new(dice)),
                bursts: Rc::default(),
            },
            clock,
            shard,
            log: RefCell::new(log),
            buffers,
            attendants: Attendants::default(),
            told: forward::Told::default(),
            connections,
            local: RefCell::new(local),
            draining: Cell::new(false),
            ended: Cell::new(false),
            tasks: RefCell::default(),
            next_task: Cell::new(0),
        })
    }

    /// The snapshot that new exchanges see.
    #[inline]
    pub(crate) fn local(&self) -> Rc<Local> {
        Rc::clone(&self.local.borrow())
    }

    /// New exchanges see `snapshot` from now on. Services that did not change keep their connections.
    pub(crate) fn adopt(&self, snapshot: Arc<Snapshot>) {
        self.log.borrow_mut().configure(snapshot.config.log.access.as_ref());
        self.buffers.resize(snapshot.config.server.buffers);
        let last = self.local();
        let local = Local::new(snapshot, Some(&last), &self.shard, (self.number, self.count));
        *self.local.borrow_mut() = Rc::new(local);
    }

    pub(crate) fn timeouts(&self) -> config::ServerTimeouts {
        self.local.borrow().snapshot.config.server.timeouts
    }

    /// How long a client may take to take a reply, which may be a stream by nature (see [`forward::is_stream`]).
    pub(crate) fn write_patience(&self, streams: bool) -> Patience {
        let local = self.local.borrow();
        let server = &local.snapshot.config.server;
        if streams {
            Patience { idle: server.timeouts.stream_idle, min_rate: None }
        } else {
            Patience { idle: server.timeouts.write_idle, min_rate: server.limits.min_rate }
        }
    }

    /// 128 random bits, good for identifiers, not for secrets.
    #[inline]
    pub(crate) fn random(&self) -> u128 {
        self.means.dice.borrow_mut().u128(..)
    }

    /// The wall time at `instant`, without asking the system.
    pub(crate) fn wall_at(&self, instant: Instant) -> Duration {
        let (base, wall) = self.wall.get();
        match instant.checked_duration_since(base) {
            Some(later) => wall + later,
            None => wall.saturating_sub(base.saturating_duration_since(instant)),
        }
    }

    /// The current `Date` (RFC 9110, 6.6.1), at most a tick old.
    pub(crate) fn date(&self) -> Rc<str> {
        Rc::clone(&self.date.borrow())
    }

    /// True once connections should end with the exchange that they carry.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Lets every connection end as soon as it can.
    pub(crate) fn drain(&self) {
        self.draining.set(true);
        self.wake_connections();
    }

    /// Whatever is under way now is cut off.
    pub(crate) fn end(&self) {
        self.ended.set(true);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Lets every connection look whether it should end.
    pub(crate) fn wake_connections(&self) {
        for waker in self.tasks.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Notes the current task as a connection's, until the returned value is dropped.
    pub(crate) async fn enlist_current(self: &Rc<Self>) -> Enlisted {
        let waker = std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let id = self.next_task.get();
        self.next_task.set(id + 1);
        self.tasks.borrow_mut().insert(id, waker);
        Enlisted { worker: Rc::clone(self), id }
    }

    /// What must be done now and then: never ends.
    pub(crate) async fn tend(self: Rc<Self>) {
        loop {
            pause(&self.clock, TICK).await;
            let now = self.clock.now();
            let wall = self.clock.wall();
            if wall.as_secs() != self.wall.get().1.as_secs() {
                *self.date.borrow_mut() = http_date(wall);
            }
            self.wall.set((now, wall));
            self.log.borrow_mut().flush();
            for service in &self.local().services {
                service.prune(now);
            }
        }
    }
}

impl Local {
    fn new(snapshot: Arc<Snapshot>, last: Option<&Self>, shard: &Shard, (number, count): (usize, usize)) -> Self {
        let services: Vec<_> = snapshot
            .services
            .iter()
            .map(|plan| {
                let name = &plan.config.name;
                let last = last.and_then(|last| last.services.iter().find(|old| old.plan.config.name == *name));
                match last {
                    Some(kept) if Arc::ptr_eq(&kept.plan, plan) => Rc::clone(kept),
                    last => Service::new(Arc::clone(plan), shard.pool(name), (number, count), last.map(|last| &**last)),
                }
            })
            .collect();
        let routes = snapshot.config.routes.iter().zip(&snapshot.targets);
        let routes = routes.map(|(route, target)| series(shard, &route.name, target, &snapshot)).collect();
        let shaping = Shaping::new(&snapshot, &services, shard);
        let policies = &snapshot.policies;
        let of_worker = |chain: &Arc<Chain>| Rc::new(Chain::clone(chain));
        let chains = policies.routes.iter().map(of_worker).collect();
        let (router_chain, guarded) = (of_worker(&policies.router), Rc::new(policies.guarded.clone()));
        Self { snapshot, services, routes, shaping, chains, router_chain, guarded }
    }
}

fn series(shard: &Shard, route: &Arc<str>, target: &Target, snapshot: &Snapshot) -> RouteSeries {
    let of = |index: usize| {
        let name = snapshot.services.get(index).map_or_else(|| Arc::from(""), |plan| Arc::clone(&plan.config.name));
        (Some(index), shard.series(route, &name))
    };
    let mut all = match target {
        Target::Service(index) => vec![of(*index)],
        Target::Split(split) => split.services().map(of).collect(),
        Target::Answer => Vec::new(),
    };
    all.push((None, shard.series(route, &Arc::from(""))));
    RouteSeries { name: Rc::from(&**route), all }
}

fn http_date(wall: Duration) -> Rc<str> {
    httpdate::fmt_http_date(UNIX_EPOCH + wall).into()
}

/// A connection's entry in its worker's list.
pub(crate) struct Enlisted {
    worker: Rc<Worker>,
    id: u64,
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        self.worker.tasks.borrow_mut().remove(&self.id);
    }
}
