//! Who a caller is, asked of somebody else and remembered: once for all who ask the same at the same time, few questions at once, and
//! nothing for longer than the proof lasts. What is asked and what an answer means is for the way to say.

mod memory;
mod tally;
mod terms;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;
use bytes::Bytes;
use tidegate_config::problem::{Path, Problem};
use tidegate_core::limiter::Cell;
use tidegate_core::policy::{Answer, Call, CallError, Job, Local, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::RequestHead;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::memory::{Flight, Memory, Turn};
use self::tally::Tally;
pub(super) use self::terms::{RetryFile, Terms, TermsFile, asking_file};
use crate::policy::Setup;
use crate::shared::moment::Origin;
use crate::shared::waiting::within;

/// Bytes that an answer may have.
const MOST_BYTES: usize = 64 * 1024;

/// Requests that wait for the same answer, and those that wait for a place to ask.
const MOST_WAITING: usize = 1000;

/// What a question is known by: a keyed hash of all that is sent, so that no two questions are taken for the same and no credential is kept.
pub(super) type Print = [u8; 32];

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    /// Method, target and fields.
    pub(super) head: RequestHead,
    /// The body.
    pub(super) body: Bytes,
}

/// An answer, and how long it holds. What `Cache-Control` says is not looked at: it is for caches of HTTP, and those who know callers forbid all
/// of them by habit (RFC 6749, 5.1).
pub(super) struct Judged<T> {
    /// What it says.
    pub(super) said: T,
    /// It is for the one request that it was given to, and for no other that asks the same.
    pub(super) alone: bool,
    /// It proves nothing: it is kept for a short time, and makes room first.
    pub(super) refused: bool,
    /// Not beyond this time since 1970.
    pub(super) ends: Option<Duration>,
}

/// Why there is no answer, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unavailable {
    cause: Arc<str>,
    /// The service may be well: it was not asked, or has answered something that says nothing.
    pub(super) may_be_well: bool,
}

/// Asks, and remembers.
pub(super) struct Elsewhere<T> {
    way: Arc<str>,
    terms: Terms,
    secret: [u8; 32],
    /// `None` asks anew for every request.
    memory: Option<Memory<T>>,
    places: Semaphore,
    /// Those who wait for a place.
    waiting: AtomicUsize,
    rate: Option<Cell>,
    origin: Arc<Origin>,
    tally: Tally,
    /// The last question had no answer.
    is_down: AtomicBool,
}

/// Makes it for the way of this name and place, or gives the one that was there before a reload. `identity` says what is asked and what becomes of
/// answers, because these are remembered.
pub(super) fn elsewhere<T: Clone + Send + Sync + 'static>(
    (way, at): (&Arc<str>, &Path),
    terms: &Terms,
    identity: &str,
    setup: &mut Setup<'_>,
) -> Arc<Elsewhere<T>> {
    let service = setup.config.services.get(&terms.service);
    if let Some(problem) = service.and_then(|service| terms::in_clear(service, way, at)) {
        setup.report(problem);
    }
    // Somebody else at another address may say something else.
    let reached = service.map(|service| (&service.endpoints, &service.discovery, &service.tls));
    let identity = format!("{way} {identity} {terms:?} {reached:?}");
    let shared = Arc::clone(setup.shared);
    let origin = Origin::of(&shared);
    let mut secret = [0; 32];
    if rand::fill(&mut secret).is_err() {
        setup.report(Problem::error(at.clone(), "the system has no randomness"));
    }
    let kept = shared.keep(identity, || Elsewhere {
        way: Arc::clone(way),
        terms: terms.clone(),
        secret,
        memory: (!terms.cache.is_zero()).then(|| Memory::new(terms.max_cached)),
        places: Semaphore::new(terms.concurrency),
        waiting: AtomicUsize::new(0),
        rate: terms.max_rate.map(Cell::new),
        origin,
        tally: Tally::new(way, shared.gauges()),
        is_down: AtomicBool::new(false),
    });
    let job: Arc<dyn Job> = Arc::<Elsewhere<T>>::clone(&kept);
    setup.job(job);
    kept
}

impl<T: Clone> Elsewhere<T> {
    /// Who is asked, for operators: `auth /verify`.
    pub(super) fn address(&self) -> String {
        format!("{} {}", self.terms.service, self.terms.target)
    }

    /// What the question is known by; `None` where nothing is remembered.
    pub(super) fn print(&self, question: &Question) -> Option<Print> {
        self.memory.as_ref()?;
        let mut context = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            // With its length, so that nothing that is moved from one part to the next gives the same.
            context.update(&part.len().to_le_bytes());
            context.update(part);
        };
        add(&self.secret);
        add(question.head.method.as_str().as_bytes());
        add(question.head.target.as_bytes());
        for field in &question.head.fields {
            add(field.name.as_bytes());
            add(field.value);
        }
        add(&question.body);
        // Cannot fail: that is how long a SHA-256 is.
        context.finish().as_ref().try_into().ok()
    }

    /// What is known without asking.
    pub(super) fn remembered(&self, print: &Print, world: &dyn World) -> Option<T> {
        let known = self.memory.as_ref()?.find(print, world.now(), world.wall())?;
        self.tally.remembered(world.worker());
        Some(known)
    }

    /// Asks. Whoever asks the same while an answer is awaited gets that answer, if there is a `print`.
    pub(super) async fn ask(
        &self,
        world: &dyn World,
        print: Option<Print>,
        question: Question,
        judge: impl Fn(&Answer) -> Result<Judged<T>, String>,
    ) -> Result<T, Unavailable> {
        let deadline = world.now() + self.terms.timeout;
        let found = match (&self.memory, print) {
            (Some(memory), Some(print)) => self.ask_once(memory, &print, (world, deadline), (question, judge)).await,
            _ => self.call(world, deadline, (question, judge)).await.map(|judged| judged.said),
        };
        if found.is_err() {
            self.tally.unavailable();
        }
        found
    }

    /// One of all who ask the same asks, and the others wait for it. If its request goes away, the next one asks.
    async fn ask_once(
        &self,
        memory: &Memory<T>,
        print: &Print,
        (world, deadline): (&dyn World, Instant),
        asked: (Question, impl Fn(&Answer) -> Result<Judged<T>, String>),
    ) -> Result<T, Unavailable> {
        let flight = memory.join(print);
        let Turn::Mine(_mine) = self.turn(&flight, world, deadline).await? else {
            if let Some(found) = flight.found() {
                return found;
            }
            // It was for one request alone, and so will be what others are told: they need not wait for each other.
            return self.call(world, deadline, asked).await.map(|judged| judged.said);
        };
        if let Some(known) = memory.find(print, world.now(), world.wall()) {
            return Ok(known);
        }
        let judged = self.call(world, deadline, asked).await;
        let until = judged.as_ref().map_or(world.now(), |judged| world.now() + self.terms.time(judged.refused));
        let alone = judged.as_ref().is_ok_and(|judged| judged.alone);
        let said = judged.as_ref().map(|judged| judged.said.clone()).map_err(Unavailable::clone);
        if let Ok(judged) = judged
            && !alone
        {
            memory.keep(print, judged, (until, world.now(), world.wall()));
        }
        memory.land(print, &flight, (!alone).then(|| said.clone()));
        said
    }

    /// Whose turn it is to ask. Only those wait who come after another, so that a crowd before one question keeps nobody from asking another.
    async fn turn<'f>(
        &self,
        flight: &'f Flight<T>,
        world: &dyn World,
        deadline: Instant,
    ) -> Result<Turn<'f>, Unavailable> {
        if let Some(turn) = flight.turn_now() {
            return Ok(turn);
        }
        let _waiting = self.wait(&flight.waiting)?;
        within(world, deadline, flight.turn()).await.ok_or_else(|| self.late())
    }

    async fn call(
        &self,
        world: &dyn World,
        deadline: Instant,
        (Question { head, body }, judge): (Question, impl Fn(&Answer) -> Result<Judged<T>, String>),
    ) -> Result<Judged<T>, Unavailable> {
        let is_too_often = |rate: &Cell| !rate.decide(1, self.origin.now(rate.limit(), world)).allowed;
        if self.rate.as_ref().is_some_and(is_too_often) {
            return Err(Unavailable {
                cause: "it would be asked more often than `max_rate`".into(),
                may_be_well: true,
            });
        }
        let _place = self.place(world, deadline).await?;
        self.tally.asked();
        let retry = self.terms.retry.as_ref();
        let call = Call { head, body, deadline, retry, most: MOST_BYTES };
        let began = world.now();
        let answered = world.call(&self.terms.service, call).await;
        // After a long wait for a turn too little time may be left for a service that is well: anybody can make the queue that long.
        let had_time = deadline.saturating_duration_since(began) * 2 >= self.terms.timeout;
        let may_be_well = self.notice(&answered, had_time || world.now() < deadline);
        let judged = answered.map_err(|error| error.to_string()).and_then(|answer| judge(&answer));
        judged.map_err(|cause| Unavailable { cause: cause.into(), may_be_well })
    }

    /// Waits until there are few enough questions under way.
    async fn place(&self, world: &dyn World, deadline: Instant) -> Result<SemaphorePermit<'_>, Unavailable> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let _waiting = self.wait(&self.waiting)?;
        let place = within(world, deadline, self.places.acquire()).await.ok_or_else(|| self.late())?;
        place.map_err(|_| self.late())
    }

    fn wait<'w>(&self, waiting: &'w AtomicUsize) -> Result<Waiting<'w>, Unavailable> {
        let place = Waiting(waiting);
        if waiting.fetch_add(1, Relaxed) < MOST_WAITING {
            return Ok(place);
        }
        Err(self.unasked("too many requests wait for it"))
    }

    fn late(&self) -> Unavailable {
        self.unasked("its turn to be asked has not come in time")
    }

    /// There was no turn to ask. That is the service's fault only if it is known not to answer: otherwise there were too many requests.
    fn unasked(&self, cause: &str) -> Unavailable {
        Unavailable { cause: cause.into(), may_be_well: !self.is_down.load(Relaxed) }
    }

    /// Whether it may be well, if it `could` have answered. Operators are told when it goes away and when it comes back, and not of every
    /// request.
    fn notice(&self, answered: &Result<Answer, CallError>, could: bool) -> bool {
        let gone = match answered {
            Err(CallError::Unasked(_)) => return !self.is_down.load(Relaxed),
            Err(CallError::Down(_)) if !could => return !self.is_down.load(Relaxed),
            Err(CallError::Down(cause)) => Some(cause.clone()),
            Ok(answer) => is_gone(answer),
            Err(CallError::Odd(_)) => None,
        };
        let (way, service) = (&self.way, &self.terms.service);
        match &gone {
            Some(cause) if !self.is_down.swap(true, Relaxed) => {
                tracing::warn!(%way, %service, cause, "the service that knows callers does not answer");
            }
            None if self.is_down.load(Relaxed) && self.is_down.swap(false, Relaxed) => {
                tracing::info!(%way, %service, "the service that knows callers answers again");
            }
            Some(_) | None => {}
        }
        gone.is_none()
    }

    /// Counts a request that passes although nobody has said who it is.
    pub(super) fn allowed(&self) {
        self.tally.allowed();
    }
}

/// Whether a proxy or the service itself says that it does not answer now. Anything else that is no answer may have been brought about by
/// what a caller has sent.
fn is_gone(answer: &Answer) -> Option<String> {
    let status = answer.status.as_u16();
    matches!(status, 502..=504).then(|| format!("the answer is {status}"))
}

/// One of those who wait.
struct Waiting<'w>(&'w AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Unavailable {
    /// What the client is told.
    pub(super) fn rejection(&self, way: &str) -> Rejection {
        let detail = "Authentication is not available now";
        let rejection = Rejection::new(RejectionKind::Unavailable, "auth_unavailable", detail);
        rejection.cause(format!("`{way}` has no answer: {self}")).retry_after(1)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

/// Tells operators how it goes.
impl<T: Clone + Send + Sync> Job for Elsewhere<T> {
    fn run<'a>(&'a self, world: &'a dyn World) -> Local<'a, ()> {
        Box::pin(self.tally.tell(world))
    }
}
