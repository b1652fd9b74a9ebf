//! How policies are tried out: a gateway without sockets, whose clock is moved by hand and whose services are a closure. Requests pass
//! the whole chain of the route that is found for them.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidegate_config::{Config, Inputs, Memory, load};
use tidegate_core::body::Body;
use tidegate_core::client::{Peer, TlsFacts, TrustedProxies};
use tidegate_core::clock::{Clock, ManualClock};
use tidegate_core::exchange::{Exchange, Opening};
use tidegate_core::forward::Told;
use tidegate_core::policy::{Answer, Call, CallError, Local, Policies, Shared, Stop, Table, World};
use tidegate_core::rewrite;
use tidegate_core::route::{Found, Params, Router};
use tidegate_http1::{Fields, HeadReader, Known, Limits, RequestHead, ResponseHead};

use crate::{TABLE, VOCABULARY};

/// The wall time at which every world begins: 2027-01-15, 08:00 UTC.
pub(crate) const WALL: Duration = Duration::from_hours(500_000);

/// What the gateway says to one request: `pass`, or `403 forbidden: Insufficient permissions`, and then each field of the reply on a line
/// of its own.
pub(crate) fn check(yaml: &str, request: &str) -> String {
    Gateway::of(yaml).send(request).said
}

/// What is wrong with a configuration: a line for each problem, as `warning: path: message | help`.
pub(crate) fn problems(yaml: &str) -> String {
    problems_with(yaml, &Memory::new())
}

/// The same, where the configuration names files.
pub(crate) fn problems_with(yaml: &str, files: &Memory) -> String {
    match Gateway::load(yaml, files, Arc::default()) {
        Ok(gateway) => gateway.warnings,
        Err(problems) => problems,
    }
}

/// A gateway without sockets.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) policies: Policies,
    /// As [`problems`].
    pub(crate) warnings: String,
    pub(crate) world: FakeWorld,
    /// Where requests come from.
    pub(crate) client: SocketAddr,
    /// What the handshake said.
    pub(crate) tls: Option<Arc<TlsFacts>>,
    shared: Arc<Shared>,
    router: Router,
}

/// A request that was sent, and what became of it.
pub(crate) struct Sent {
    /// See [`check`].
    pub(crate) said: String,
    /// As the service would see it, but for what forwarding adds.
    pub(crate) exchange: Exchange,
    /// The number of its route.
    pub(crate) route: Option<usize>,
    /// What the log is told of a refusal.
    pub(crate) cause: Option<String>,
}

impl Gateway {
    /// The gateway of a valid configuration.
    pub(crate) fn of(yaml: &str) -> Self {
        Self::with_files(yaml, &Memory::new())
    }

    /// The same, where the configuration names files.
    pub(crate) fn with_files(yaml: &str, files: &Memory) -> Self {
        Self::load(yaml, files, Arc::default()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The gateway after a reload: what is shared, the clock and the services stay.
    pub(crate) fn reload(self, yaml: &str) -> Self {
        let new =
            Self::load(yaml, &Memory::new(), Arc::clone(&self.shared)).unwrap_or_else(|problems| panic!("{problems}"));
        Self { world: self.world, client: self.client, tls: self.tls, ..new }
    }

    fn load(yaml: &str, files: &Memory, shared: Arc<Shared>) -> Result<Self, String> {
        let file = Path::new("gateway.yaml");
        let source = files.clone().with(file, yaml);
        let loaded = load(&Inputs { file, source: &source, env: &[], vocabulary: &VOCABULARY })
            .map_err(|failure| lines(failure.problems.iter()))?;
        let (policies, found) = TABLE.build(&loaded.config, &shared);
        let (policies, warnings) = found.into_result(policies).map_err(|problems| lines(problems.iter()))?;
        let warnings = lines(loaded.warnings.iter().chain(warnings.iter()));
        let router = Router::build(&loaded.config.routes).0;
        let client = SocketAddr::from(([192, 0, 2, 1], 50_000));
        let world = FakeWorld::default();
        Ok(Self { config: loaded.config, policies, warnings, world, client, tls: None, shared, router })
    }

    /// The same, for connections whose handshake said this.
    pub(crate) fn over(self, tls: Option<Arc<TlsFacts>>) -> Self {
        Self { tls, ..self }
    }

    /// The same, with services that answer like this. Without it nobody answers.
    pub(crate) fn answering(self, answer: impl FnMut(&str, &Call<'_>) -> Result<Answer, CallError> + 'static) -> Self {
        self.world.answering(answer);
        self
    }

    /// Sends a request, given as the lines of its head: the version, a `Host` where none is written, and a body as long as
    /// `Content-Length` says, are added.
    pub(crate) fn send(&self, request: &str) -> Sent {
        self.world.finish(self.exchange(request))
    }

    /// Sends a request while `jobs` go on.
    pub(crate) fn send_beside(&self, request: &str, jobs: &mut Vec<Local<'_, ()>>) -> Sent {
        let mut work = pin!(self.exchange(request));
        for _ in 0..1000 {
            if let Poll::Ready(sent) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return sent;
            }
            self.world.turn(jobs);
        }
        panic!("it waits for something that does not happen");
    }

    /// A request that has to wait: it is to be moved on with [`FakeWorld::turn`].
    pub(crate) fn sending<'a>(&'a self, request: &'a str) -> Local<'a, ()> {
        Box::pin(async {
            self.exchange(request).await;
        })
    }

    /// The fields that the route's service gets of a request, which must pass.
    pub(crate) fn forwarded(&self, request: &str) -> Fields {
        let Sent { said, mut exchange, route, cause } = self.send(request);
        assert_eq!(said, "pass", "{cause:?}");
        let route = &self.config.routes[route.unwrap()];
        rewrite::outgoing(&mut exchange, route, "x-request-id", &Told::default()).unwrap();
        exchange.head.fields
    }

    /// The same, for what comes of it.
    pub(crate) async fn exchange(&self, request: &str) -> Sent {
        let mut exchange = self.open(request);
        let mut params = Params::new();
        let found = self.router.find(&tidegate_core::route::Head::of(&exchange), &mut params);
        exchange.params = params;
        self.policies.guarded.strip(&mut exchange.head.fields);
        let route = match found {
            Found::Route(number) => Some(number),
            Found::NotFound | Found::MethodNotAllowed(_) | Found::Options(_) => None,
        };
        let chain = route.map_or(&self.policies.router, |number| &self.policies.routes[number]);
        let verdict = chain.check(&mut exchange, &self.world).await;
        let (mut said, mut reply, mut cause) = ("pass".to_owned(), ResponseHead::default(), None);
        match verdict {
            Ok(()) => {}
            Err(Stop::Refuse(rejection)) => {
                said = format!("{} {}: {}", rejection.status().as_u16(), rejection.code, rejection.detail);
                reply.status = rejection.status();
                reply.fields = *rejection.fields;
                cause = rejection.cause;
            }
            Err(Stop::Answer(answer)) => {
                said = format!("answer {}", answer.head.status.as_u16());
                reply = answer.head;
            }
        }
        chain.reply(&exchange, &mut reply);
        for field in &reply.fields {
            write!(said, "\n{}: {}", field.name, String::from_utf8_lossy(field.value)).unwrap();
        }
        Sent { said, exchange, route, cause }
    }

    fn open(&self, request: &str) -> Exchange {
        let mut lines = request.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut text = format!("{} HTTP/1.1\r\n", lines.next().expect("a request line"));
        if !request.to_ascii_lowercase().contains("\nhost:") {
            text.push_str("Host: api.example.com\r\n");
        }
        lines.for_each(|line| text.extend([line, "\r\n"]));
        text.push_str("\r\n");
        let mut head = RequestHead::default();
        let read = HeadReader::default().request(text.as_bytes(), &Limits::default(), &mut head);
        assert_eq!(read, Ok(Some(text.len())), "{text}");
        let trusted = TrustedProxies::new(&self.config.server.trusted_proxies);
        let mut peer = Peer::new(self.client, Arc::clone(&self.config.server.listeners[0].name), 80, &trusted);
        peer.tls.clone_from(&self.tls);
        let request_id = &self.config.server.request_id;
        let opening = Opening { trusted: &trusted, request_id, random: self.world.random(), now: self.world.now() };
        let length = head.fields.text(Known::ContentLength).map_or(0, |length| length.parse().unwrap());
        let body = Body::full(vec![b'x'; length]);
        let (exchange, settled) = Exchange::open(head, body, Rc::new(peer), opening);
        settled.unwrap();
        exchange
    }

    /// What outlives configurations.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// All jobs, to be moved on with [`FakeWorld::turn`].
    pub(crate) fn jobs(&self) -> Vec<Local<'_, ()>> {
        self.policies.jobs.iter().map(|job| job.run(&self.world)).collect()
    }
}

fn lines<'p>(problems: impl Iterator<Item = &'p tidegate_config::Problem>) -> String {
    let line = |problem: &tidegate_config::Problem| {
        let severity = if problem.severity == tidegate_config::Severity::Error { "error" } else { "warning" };
        let help = problem.help.as_ref().map_or(String::new(), |help| format!(" | {help}"));
        format!("{severity}: {problem}{help}")
    };
    problems.map(line).collect::<Vec<_>>().join("\n")
}

type Services = Box<dyn FnMut(&str, &Call<'_>) -> Result<Answer, CallError>>;

/// A world whose time stands still until it is moved, and in which blocking work is done on the spot.
pub(crate) struct FakeWorld {
    pub(crate) clock: Arc<ManualClock>,
    services: RefCell<Services>,
    spawned: RefCell<Vec<Local<'static, ()>>>,
    drawn: Cell<u128>,
    blocked: Cell<usize>,
    called: Cell<usize>,
    is_slow: Cell<bool>,
}

impl Default for FakeWorld {
    fn default() -> Self {
        let nobody = |service: &str, _: &Call<'_>| Err(CallError::Down(format!("nobody answers for {service}")));
        Self {
            clock: ManualClock::new(WALL),
            services: RefCell::new(Box::new(nobody)),
            spawned: RefCell::default(),
            drawn: Cell::new(0),
            blocked: Cell::new(0),
            called: Cell::new(0),
            is_slow: Cell::new(false),
        }
    }
}

impl FakeWorld {
    /// Has services answer like this.
    pub(crate) fn answering(&self, answer: impl FnMut(&str, &Call<'_>) -> Result<Answer, CallError> + 'static) {
        *self.services.borrow_mut() = Box::new(answer);
    }

    /// From now on services wait with their answers, or no longer.
    pub(crate) fn slow(&self, is_slow: bool) {
        self.is_slow.set(is_slow);
    }

    /// How often services were called.
    pub(crate) fn called(&self) -> usize {
        self.called.get()
    }

    /// Moves the clock on.
    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Lets each of these go on as far as it can without waiting.
    pub(crate) fn turn(&self, going: &mut Vec<Local<'_, ()>>) {
        let mut context = Context::from_waker(Waker::noop());
        going.retain_mut(|work| work.as_mut().poll(&mut context).is_pending());
        let mut spawned = self.spawned.take();
        spawned.retain_mut(|work| work.as_mut().poll(&mut context).is_pending());
        self.spawned.borrow_mut().append(&mut spawned);
    }

    /// What comes of it, without anything else moving on.
    pub(crate) fn finish<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        for _ in 0..1000 {
            if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return done;
            }
            self.turn(&mut Vec::new());
        }
        panic!("it waits for something that does not happen");
    }

    /// How often blocking work was done.
    pub(crate) fn blocked(&self) -> usize {
        self.blocked.get()
    }

    fn clock(&self) -> Clock {
        Clock::Manual(Arc::clone(&self.clock))
    }
}

impl World for FakeWorld {
    fn now(&self) -> Instant {
        self.clock().now()
    }

    fn wall(&self) -> Duration {
        self.clock().wall()
    }

    fn random(&self) -> u128 {
        self.drawn.set(self.drawn.get() + 1);
        self.drawn.get().wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    fn worker(&self) -> usize {
        0
    }

    fn sleep(&self, until: Instant) -> Local<'_, ()> {
        Box::pin(std::future::poll_fn(move |_| if self.now() >= until { Poll::Ready(()) } else { Poll::Pending }))
    }

    fn call<'a>(&'a self, service: &'a str, call: Call<'a>) -> Local<'a, Result<Answer, CallError>> {
        Box::pin(async move {
            self.called.set(self.called.get() + 1);
            let is_late = || self.now() >= call.deadline;
            let wait =
                |_: &mut Context<'_>| if self.is_slow.get() && !is_late() { Poll::Pending } else { Poll::Ready(()) };
            std::future::poll_fn(wait).await;
            if is_late() {
                return Err(CallError::Down("there was no answer in time".to_owned()));
            }
            (self.services.borrow_mut())(service, &call)
        })
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> Local<'_, ()> {
        self.blocked.set(self.blocked.get() + 1);
        Box::pin(async move { work() })
    }

    fn spawn(&self, work: Local<'static, ()>) {
        self.spawned.borrow_mut().push(work);
    }
}
