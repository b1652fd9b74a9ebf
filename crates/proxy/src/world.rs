//! What the gates and jobs of policies may ask of the thread that they run on.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::body::Body;
use tidegate_core::policy::{Answer, Call, CallError, Job, Local, World};

use crate::alarm::{Alarm, pause, until};
use crate::snapshot::Snapshot;
use crate::tasks::{Task, blocking, spawn_local};
use crate::upstream::attempt::{Attempt, Failure};
use crate::upstream::call::Tried;
use crate::upstream::means::Means;
use crate::upstream::service::{Plan, Service};
use crate::worker::Worker;

impl World for Worker {
    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn wall(&self) -> Duration {
        self.wall_at(self.clock.now())
    }

    fn random(&self) -> u128 {
        self.random()
    }

    fn worker(&self) -> usize {
        self.number
    }

    fn sleep(&self, until: Instant) -> Local<'_, ()> {
        Box::pin(sleep(&self.means, until))
    }

    fn call<'a>(&'a self, service: &'a str, call: Call<'a>) -> Local<'a, Result<Answer, CallError>> {
        let local = self.local();
        let found = local.services.iter().find(|known| *known.plan.config.name == *service).map(Rc::clone);
        Box::pin(async move {
            let Some(found) = found else { return Err(unknown(service)) };
            ask(&found, call, &self.means).await
        })
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> Local<'_, ()> {
        Box::pin(work_aside(work))
    }

    fn spawn(&self, work: Local<'static, ()>) {
        spawn_local(work).detach();
    }
}

/// The world of jobs, on the thread that looks after services.
pub(crate) struct Aside {
    means: Rc<Means>,
    workers: usize,
    /// Made when they are asked for the first time.
    services: RefCell<HashMap<Arc<str>, Rc<Service>>>,
    plans: RefCell<Vec<Arc<Plan>>>,
}

impl Aside {
    /// `workers` is how many serve requests.
    pub(crate) fn new(means: Rc<Means>, workers: usize) -> Rc<Self> {
        Rc::new(Self { means, workers, services: RefCell::default(), plans: RefCell::default() })
    }

    /// The services of `snapshot` from now on. What did not change keeps its connections.
    pub(crate) fn adopt(&self, snapshot: &Snapshot) {
        self.plans.borrow_mut().clone_from(&snapshot.services);
        let is_current = |service: &Rc<Service>| snapshot.services.iter().any(|plan| Arc::ptr_eq(plan, &service.plan));
        self.services.borrow_mut().retain(|_, service| is_current(service));
    }

    fn service(&self, name: &str) -> Option<Rc<Service>> {
        if let Some(known) = self.services.borrow().get(name) {
            return Some(Rc::clone(known));
        }
        let plan = self.plans.borrow().iter().find(|plan| *plan.config.name == *name).map(Arc::clone)?;
        let name = Arc::clone(&plan.config.name);
        let service = Service::new(plan, Arc::default(), (self.workers, self.workers + 1), None);
        self.services.borrow_mut().insert(name, Rc::clone(&service));
        Some(service)
    }
}

impl World for Aside {
    fn now(&self) -> Instant {
        self.means.clock.now()
    }

    fn wall(&self) -> Duration {
        self.means.clock.wall()
    }

    fn random(&self) -> u128 {
        self.means.dice.borrow_mut().u128(..)
    }

    fn worker(&self) -> usize {
        self.workers
    }

    fn sleep(&self, until: Instant) -> Local<'_, ()> {
        Box::pin(sleep(&self.means, until))
    }

    fn call<'a>(&'a self, service: &'a str, call: Call<'a>) -> Local<'a, Result<Answer, CallError>> {
        Box::pin(async move {
            let Some(found) = self.service(service) else { return Err(unknown(service)) };
            ask(&found, call, &self.means).await
        })
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> Local<'_, ()> {
        Box::pin(work_aside(work))
    }

    fn spawn(&self, work: Local<'static, ()>) {
        spawn_local(work).detach();
    }
}

/// A job that goes on until this is dropped.
pub(crate) struct Running {
    job: Arc<dyn Job>,
    _task: Task,
}

impl Running {
    /// The jobs of `snapshot`: those that run already go on undisturbed.
    pub(crate) fn adopt(running: &mut Vec<Self>, snapshot: &Snapshot, world: &Rc<Aside>) {
        let jobs = &snapshot.policies.jobs;
        running.retain(|running| jobs.iter().any(|job| Arc::ptr_eq(job, &running.job)));
        for job in jobs {
            if !running.iter().any(|running| Arc::ptr_eq(job, &running.job)) {
                let task = spawn_local(run(Arc::clone(job), Rc::clone(world)));
                running.push(Self { job: Arc::clone(job), _task: task });
            }
        }
    }
}

async fn run(job: Arc<dyn Job>, world: Rc<Aside>) {
    job.run(&*world).await;
}

fn unknown(service: &str) -> CallError {
    CallError::Unasked(format!("there is no service `{service}`"))
}

async fn sleep(means: &Means, until: Instant) {
    pause(&means.clock, until.saturating_duration_since(means.clock.now())).await;
}

async fn work_aside(work: Box<dyn FnOnce() + Send>) {
    // A panic has lost the work, as is documented; whoever waits for its result sees that there is none.
    blocking(work).await;
}

/// One call of a service, and its whole answer.
async fn ask(service: &Rc<Service>, call: Call<'_>, means: &Means) -> Result<Answer, CallError> {
    let Call { head, body, deadline, retry, most } = call;
    let alarm = Rc::new(RefCell::new(Alarm::new(&means.clock)));
    let mut attempt = Attempt::undriven(&head, Body::full(body), service.plan.config.timeouts, (means, &alarm));
    attempt.deadline = Some(deadline);
    attempt.retry = retry;
    let (mut tried, has_begun) = (Tried::default(), Cell::new(false));
    let answered = until(&means.clock, deadline, async {
        let mut reply = service.call(&mut attempt, &mut tried).await.map_err(|failure| failed(&failure))?;
        has_begun.set(true);
        let body = reply.body.collect(most).await.map_err(|error| CallError::Odd(error.to_string()))?;
        let body = body.ok_or_else(|| CallError::Odd(format!("the answer is longer than {most} bytes")))?;
        Ok(Answer { status: reply.head.status, fields: reply.head.fields, body })
    });
    answered.await.unwrap_or_else(|| {
        let error = if has_begun.get() { CallError::Odd } else { CallError::Down };
        Err(error("there was no answer in time".to_owned()))
    })
}

/// What it means that no reply has begun.
fn failed(failure: &Failure) -> CallError {
    let error = match failure {
        Failure::Saturated
        | Failure::PoolExhausted
        | Failure::DeadlinePassed { at_fault: false }
        | Failure::Request(_) => CallError::Unasked,
        Failure::Malformed(_) => CallError::Odd,
        Failure::NoEndpoint { .. }
        | Failure::CircuitOpen { .. }
        | Failure::Resolve(_)
        | Failure::Connect(_)
        | Failure::ConnectTimeout
        | Failure::Broken { .. }
        | Failure::WriteTimeout
        | Failure::ReadTimeout
        | Failure::DeadlinePassed { at_fault: true }
        | Failure::TryTimeout
        | Failure::GivenUp => CallError::Down,
    };
    error(failure.to_string())
}
