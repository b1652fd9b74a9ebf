//! What is done for services without any request: active checks, discovery, and whatever time alone changes. It has a thread of
//! its own, so that a busy worker never delays a check, nor a check a request.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidegate_config::config;
use tidegate_core::clock::Clock;
use tidegate_core::cluster::{Cluster, Member};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

use crate::alarm::pause;
use crate::buffers::Buffers;
use crate::net::Net;
use crate::snapshot::Snapshot;
use crate::tasks::{Task, spawn_local};
use crate::upstream::discovery::{self, News};
use crate::upstream::means::Means;
use crate::upstream::probe;
use crate::upstream::service::Plan;
use crate::upstream::shared::Shared;
use crate::upstreams::Upstreams;
use crate::world::{Aside, Running};

/// How often a service is looked at.
const TICK: Duration = Duration::from_millis(200);

/// Looks after the services of the snapshot in use; what did not change is not disturbed. It must be used on a local runtime.
pub(crate) struct Upkeep {
    means: Rc<Means>,
    tended: Vec<Tended>,
    aside: Rc<Aside>,
    jobs: Vec<Running>,
    _expiry: Task,
}

struct Tended {
    plan: Arc<Plan>,
    _task: Task,
}

impl Upkeep {
    /// `workers` is how many serve requests.
    pub(crate) fn new(means: Means, upstreams: Arc<Upstreams>, workers: usize) -> Self {
        let expiry = spawn_local(expire(upstreams, means.clock.clone()));
        let means = Rc::new(means);
        let aside = Aside::new(Rc::clone(&means), workers);
        Self { means, tended: Vec::new(), aside, jobs: Vec::new(), _expiry: expiry }
    }

    /// The services and jobs of `snapshot`, and no others, from now on.
    pub(crate) fn adopt(&mut self, snapshot: &Snapshot) {
        self.tended.retain(|tended| snapshot.services.iter().any(|plan| Arc::ptr_eq(plan, &tended.plan)));
        for plan in &snapshot.services {
            if !self.tended.iter().any(|tended| Arc::ptr_eq(plan, &tended.plan)) {
                let task = spawn_local(tend(Arc::clone(plan), Rc::clone(&self.means)));
                self.tended.push(Tended { plan: Arc::clone(plan), _task: task });
            }
        }
        self.aside.adopt(snapshot);
        Running::adopt(&mut self.jobs, snapshot, &self.aside);
    }
}

/// Never ends.
async fn tend(plan: Arc<Plan>, means: Rc<Means>) {
    let _discovery = plan.config.discovery.as_ref().map(|from| discover(from, &plan, &means));
    let mut checks = BTreeMap::new();
    loop {
        let cluster = &plan.shared.cluster;
        cluster.settle(means.clock.now());
        tell(&plan.config.name, cluster);
        if plan.config.health.is_some() {
            check_all(&plan, &means, &mut checks);
        }
        pause(&means.clock, TICK).await;
    }
}

/// Never ends. Drops registrations that were not renewed.
async fn expire(upstreams: Arc<Upstreams>, clock: Clock) {
    loop {
        pause(&clock, TICK).await;
        upstreams.expire(clock.now());
    }
}

/// What is learnt of the service's endpoints is told to its cluster.
fn discover(from: &config::Discovery, plan: &Arc<Plan>, means: &Means) -> Task {
    let context = discovery::Context {
        means: means.clone(),
        roots: Rc::default(),
        read: Arc::new(|path| std::fs::read(path)),
        seed: means.dice.borrow_mut().u64(..),
    };
    let (clock, told) = (means.clock.clone(), Arc::clone(plan));
    let publish = move |news| {
        let Shared { cluster, source, .. } = &*told.shared;
        match news {
            // What a discovery learns that is not configured any more is nobody's concern.
            News::Endpoints(_) if !cluster.follows(&told.config) => {}
            News::Endpoints(endpoints) => {
                cluster.discovered(endpoints, clock.now());
                source.succeeded(clock.wall());
            }
            News::Confirmed => source.succeeded(clock.wall()),
            News::Failed(_) => source.failed(),
        }
    };
    discovery::start(from, &plan.config, &context, Rc::new(publish))
}

/// One task for every endpoint that the service has now.
fn check_all(plan: &Arc<Plan>, means: &Rc<Means>, checks: &mut BTreeMap<u64, Task>) {
    let view = plan.shared.cluster.view();
    checks.retain(|id, _| view.members.iter().any(|member| member.id == *id));
    for member in &view.members {
        checks
            .entry(member.id)
            .or_insert_with(|| spawn_local(check(Arc::clone(plan), Arc::clone(member), Rc::clone(means))));
    }
}

/// Never ends.
async fn check(plan: Arc<Plan>, member: Arc<Member>, means: Rc<Means>) {
    let Some(health) = &plan.config.health else { return };
    let seed = means.dice.borrow_mut().u64(..);
    let told = |result| plan.shared.cluster.probed(member.id, result, means.clock.now());
    let context = probe::Context { service: &plan.config, tls: plan.tls.as_ref(), means: &means };
    probe::watch(health, &member.endpoint, context, seed, told).await;
}

/// Logs what became of endpoints.
fn tell(service: &str, cluster: &Cluster) {
    for event in cluster.events() {
        tracing::info!(
            service,
            endpoint = event.endpoint.as_deref().unwrap_or_default(),
            from = event.from.as_str(),
            to = event.to.as_str(),
            reason = event.reason.as_str(),
            "an endpoint changed its state"
        );
    }
}

fn local_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())
}

/// Looks after the services of each snapshot until no more can come.
async fn keep(
    (clock, upstreams): (Clock, Arc<Upstreams>),
    workers: usize,
    snapshot: Arc<Snapshot>,
    mut received: mpsc::UnboundedReceiver<Arc<Snapshot>>,
) {
    let buffers = Rc::new(Buffers::new(snapshot.config.server.buffers));
    let means = Means { clock, net: Rc::new(Net::System), buffers, dice: Rc::default(), bursts: Rc::default() };
    let mut upkeep = Upkeep::new(means, upstreams, workers);
    upkeep.adopt(&snapshot);
    drop(snapshot);
    while let Some(snapshot) = received.recv().await {
        upkeep.adopt(&snapshot);
    }
}

/// The thread on which services are looked after.
pub(crate) struct Keeper {
    /// Closed to end the thread.
    snapshots: Option<mpsc::UnboundedSender<Arc<Snapshot>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keeper {
    /// # Errors
    /// The system gives no thread, or no runtime for it.
    pub(crate) fn start(
        (clock, upstreams): (Clock, Arc<Upstreams>),
        workers: usize,
        snapshot: Arc<Snapshot>,
    ) -> io::Result<Self> {
        let (snapshots, received) = mpsc::unbounded_channel();
        let work = move || match local_runtime() {
            Ok(runtime) => {
                runtime.block_on(keep((clock, upstreams), workers, snapshot, received));
                // A name that is still being looked up does not hold the end up.
                runtime.shutdown_background();
            }
            Err(error) => tracing::error!("services cannot be looked after: {error}"),
        };
        let thread = thread::Builder::new().name("upkeep".into()).spawn(work)?;
        Ok(Self { snapshots: Some(snapshots), thread: Some(thread) })
    }

    /// The services of `snapshot`, and no others, from now on.
    pub(crate) fn adopt(&self, snapshot: &Arc<Snapshot>) {
        if let Some(snapshots) = &self.snapshots {
            // A thread that is gone has said so.
            snapshots.send(Arc::clone(snapshot)).ok();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.snapshots = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
