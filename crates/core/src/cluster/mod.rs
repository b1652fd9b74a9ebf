//! The endpoints of a service as one state machine each: active checks, what requests meet, circuit breakers, slow start and
//! operators all speak to it, so that they cannot contradict each other. Pure: it neither checks nor sends anything.
//!
//! Workers hold a [`View`] and renew it by [`Cluster::renew`] before they choose. Good replies only touch atomics; the one
//! lock of a cluster is taken when something changes.

mod breaker;
mod gate;
mod machine;
mod member;
mod outlier;
mod report;
mod roster;
mod state;
mod ticket;
mod view;
mod window;

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use tidegate_config::config::{self, BreakerScope};

pub use breaker::{BreakerCommand, BreakerState, Outcome};
pub use member::Member;
pub use report::{EndpointReport, Event, Report};
pub use state::{Reason, State};
pub use ticket::Ticket;
pub use view::{Refusal, View};

use breaker::Circuit;
use machine::Machine;
use member::{Common, breaker_of};
use outlier::Severity;
use ticket::Verdict;

/// The endpoints of one service. It outlives configurations and is shared by all workers.
#[derive(Debug)]
pub struct Cluster {
    common: Arc<Common>,
    machine: Mutex<Machine>,
    view: ArcSwap<View>,
    revision: AtomicU64,
    /// When there is something to settle, in nanoseconds since the origin.
    due: AtomicU64,
}

/// What an operator may do to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// No new requests.
    Drain,
    /// The end of `Drain`.
    Resume,
    /// Another weight until the process ends; 0 takes no new requests.
    Weight(u32),
    /// To the endpoint's breaker.
    Breaker(BreakerCommand),
    /// The endpoint comes back at once, and its earlier ejections are forgotten.
    Forgive,
}

/// The service has no endpoint of that authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchEndpoint;

impl std::fmt::Display for NoSuchEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the service has no such endpoint")
    }
}

impl std::error::Error for NoSuchEndpoint {}

impl Cluster {
    /// The endpoints that are written in `config`. `zone` is the gateway's own.
    pub fn new(config: Arc<config::Service>, zone: Option<Arc<str>>, now: Instant) -> Arc<Self> {
        let circuit = Circuit::new(breaker_of(&config, BreakerScope::Service));
        let common = Arc::new(Common { origin: now, circuit });
        Arc::new_cyclic(|cluster| {
            let mut machine = Machine::new(config, zone, Arc::clone(&common), Weak::clone(cluster));
            machine.enlist(now);
            let view = Arc::new(machine.publish(0, now));
            let due = AtomicU64::new(0);
            Self { common, machine: Mutex::new(machine), view: ArcSwap::new(view), revision: AtomicU64::new(0), due }
        })
    }

    /// After a reload. Endpoints keep their state where scheme and authority stay.
    pub fn configure(&self, config: Arc<config::Service>, zone: Option<Arc<str>>, now: Instant) {
        self.change(now, |machine| machine.configure(config, zone, now));
    }

    /// Replaces what was discovered. Of endpoints with the same authority the first counts, and configured ones go before
    /// those. A set that is the same changes nothing.
    pub fn discovered(&self, endpoints: Vec<config::Endpoint>, now: Instant) {
        self.change(now, |machine| machine.discovered(endpoints, now));
    }

    /// Whether this is the configuration that it was given last.
    pub fn follows(&self, config: &Arc<config::Service>) -> bool {
        Arc::ptr_eq(&self.lock().config, config)
    }

    /// The number of the current view.
    #[inline]
    pub fn revision(&self) -> u64 {
        self.revision.load(Acquire)
    }

    /// The current view.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Whether one may choose from `view`: nothing has changed since it was made, and time has nothing to change.
    #[inline]
    pub fn is_current(&self, view: &View, now: Instant) -> bool {
        view.revision == self.revision() && view.next_change.is_none_or(|at| at > now)
    }

    /// Brings a worker's view up to date, before every choice. One atomic load if nothing changed.
    #[inline]
    pub fn renew(&self, view: &mut Arc<View>, now: Instant) {
        if self.is_current(view, now) {
            return;
        }
        if view.revision != self.revision() {
            *view = self.view();
        }
        if view.next_change.is_some_and(|at| at <= now) {
            self.settle(now);
            *view = self.view();
        }
    }

    /// Lets time take effect: ends ejections, begins trials, raises shares, judges silence and latency. To be called every
    /// 200 ms or so; one atomic load when nothing is due.
    pub fn settle(&self, now: Instant) {
        if self.common.nanos(now).0 >= self.due.load(Relaxed) {
            self.change(now, |machine| machine.settle(now));
        }
    }

    /// The result of an active check of the member with this id. Unknown ids are ignored: the member is gone.
    pub fn probed(&self, member: u64, result: Result<(), String>, now: Instant) {
        self.change(now, |machine| machine.probed(member, result, now));
    }

    /// Does what an operator wants done to an endpoint.
    pub fn command(&self, authority: &str, command: Command, now: Instant) -> Result<(), NoSuchEndpoint> {
        self.change(now, |machine| machine.command(authority, command, now))
    }

    /// Does what an operator wants done to the service's own breaker.
    pub fn breaker(&self, command: BreakerCommand, now: Instant) {
        self.change(now, |machine| machine.command_service(command));
    }

    /// How everything stands.
    pub fn report(&self, now: Instant) -> Report {
        self.lock().report(now)
    }

    /// The transitions since the last call, oldest first. The oldest are dropped if nobody asks for long; how many is in the
    /// report.
    pub fn events(&self) -> Vec<Event> {
        self.lock().journal.take()
    }

    fn trip(&self, id: u64, generation: u32, reason: Reason, now: Instant) {
        self.change(now, |machine| machine.trip((id, generation), reason, now));
    }

    fn offended(&self, id: u64, generation: u32, offence: (Reason, Severity), now: Instant) {
        self.change(now, |machine| machine.offended((id, generation), offence, now));
    }

    fn tried(&self, id: u64, generation: u32, verdict: Verdict) {
        self.change(verdict.at, |machine| machine.tried((id, generation), verdict));
    }

    fn service_trip(&self, generation: u32, reason: Reason, now: Instant) {
        self.change(now, |machine| machine.service_trip(generation, reason, now));
    }

    fn service_tried(&self, generation: u32, verdict: Verdict) {
        self.change(verdict.at, |machine| machine.service_tried(generation, verdict));
    }

    /// The only way to change the machine: what changed is published before anyone else can change more.
    fn change<T>(&self, now: Instant, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let done = change(&mut machine);
        if std::mem::take(&mut machine.changed) {
            let revision = self.revision.load(Relaxed) + 1;
            self.view.store(Arc::new(machine.publish(revision, now)));
            self.revision.store(revision, Release);
        }
        let due = machine.due().map_or(u64::MAX, |at| self.common.nanos(at).0);
        self.due.store(due, Relaxed);
        done
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
