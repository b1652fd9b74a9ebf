//! The world around one worker: clients, endpoints and the time, all in the test's hands.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_config::config::Config;
use tidegate_core::client::{Peer, TrustedProxies};
use tidegate_core::clock::{Clock, ManualClock};
use tidegate_core::policy::{NoPolicies, Rules, Table};
use tidegate_proxy::Solo;
use tidegate_proxy::net::Net;
use tidegate_proxy::telemetry::{LogWriter, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A service at `/`, asked once, with every timeout at its default.
pub(crate) const PLAIN: &str = "
services: { one: { url: http://one.test:80, retry: off } }
routes: [{ match: { path_prefix: / }, service: one }]
";

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) solo: Solo,
    pub(crate) metrics: Arc<Metrics>,
    rules: Rules,
    calls: Calls,
    refusing: Rc<RefCell<HashSet<String>>>,
    _log: LogWriter,
}

/// How often everybody may have a turn before a test says that nothing happens.
pub(crate) const PATIENCE: usize = 10_000;

/// Connections that the gateway opened and nobody took yet: to whom, and the endpoint's end.
type Calls = Rc<RefCell<VecDeque<(String, DuplexStream)>>>;

/// Runs a test's story to its end.
pub(crate) fn tell<F: Future<Output = ()>>(yaml: &str, story: impl FnOnce(World) -> F) {
    tell_with(yaml, |_| {}, story);
}

/// The same, with policies.
pub(crate) fn tell_by<F: Future<Output = ()>>(yaml: &str, table: &'static dyn Table, story: impl FnOnce(World) -> F) {
    tell_all(load(yaml), table, story);
}

/// The same, with a configuration that is changed after it was read.
pub(crate) fn tell_with<F: Future<Output = ()>>(
    yaml: &str,
    change: impl FnOnce(&mut Config),
    story: impl FnOnce(World) -> F,
) {
    let mut config = load(yaml);
    change(&mut config);
    tell_all(config, &NoPolicies, story);
}

fn tell_all<F: Future<Output = ()>>(config: Config, table: &'static dyn Table, story: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let clock = ManualClock::new(Duration::from_secs(1_700_000_000));
        let calls = Calls::default();
        let received = Rc::clone(&calls);
        let refusing: Rc<RefCell<HashSet<String>>> = Rc::default();
        let refused = Rc::clone(&refusing);
        let net = Net::Memory(Box::new(move |authority| {
            if refused.borrow().contains(authority) {
                return Err(std::io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = tokio::io::duplex(64 * 1024);
            received.borrow_mut().push_back((authority.to_owned(), far));
            Ok(near)
        }));
        let (metrics, rules) = (Metrics::new(), Rules::new(table));
        let log = LogWriter::start(None, Arc::clone(metrics.log())).unwrap();
        let solo = Solo::new(
            &Arc::new(config),
            &rules,
            Clock::Manual(Arc::clone(&clock)),
            net,
            (Arc::clone(&metrics), log.sender()),
        );
        story(World { clock, solo: solo.unwrap(), metrics, rules, calls, refusing, _log: log }).await;
    });
}

fn load(yaml: &str) -> Config {
    match tidegate_config::from_yaml(yaml) {
        Ok(loaded) => loaded.config,
        Err(failure) => panic!("{}", failure.document.render(&failure.problems, false)),
    }
}

impl World {
    /// A new client connection.
    pub(crate) fn client(&self) -> Party {
        let from: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        Party(self.solo.connect(Peer::new(from, "default".into(), 80, &TrustedProxies::default())))
    }

    /// A new client connection to a listener of the configuration, which asks for whatever it asks before HTTP.
    pub(crate) fn arrives_at(&self, listener: &str) -> Party {
        Party(self.solo.arrive(listener, "192.0.2.7:4711".parse().unwrap()).unwrap())
    }

    /// The endpoint's side of the next connection that the gateway opens.
    pub(crate) async fn endpoint(&self) -> Party {
        self.called().await.1
    }

    /// The same, and to whom it goes.
    pub(crate) async fn called(&self) -> (String, Party) {
        for _ in 0..PATIENCE {
            if let Some((authority, call)) = self.calls.borrow_mut().pop_front() {
                return (authority, Party(call));
            }
            tokio::task::yield_now().await;
        }
        panic!("the gateway called nobody");
    }

    /// Connections to `authority` are refused from now on.
    pub(crate) fn refuse(&self, authority: &str) {
        self.refusing.borrow_mut().insert(authority.to_owned());
    }

    /// Connections to `authority` are accepted again.
    pub(crate) fn accept(&self, authority: &str) {
        self.refusing.borrow_mut().remove(authority);
    }

    /// Serves with this configuration from now on.
    pub(crate) fn reload(&self, yaml: &str) {
        self.solo.reload(&Arc::new(load(yaml))).unwrap();
    }

    /// A new client that has sent a request without a body.
    pub(crate) async fn asks(&self, path: &str) -> Party {
        let mut client = self.client();
        client.say(&format!("GET {path} HTTP/1.1\r\nHost: x.test\r\n\r\n")).await;
        client
    }

    /// A whole exchange of a new client: the endpoint that is asked replies so and closes. Returns who it was, and the reply.
    pub(crate) async fn exchange(&self, reply: &str) -> (String, String) {
        let client = self.asks("/").await;
        let (authority, mut endpoint) = self.called().await;
        endpoint.head().await;
        endpoint.say(reply).await;
        drop(endpoint);
        (authority, client.answer().await)
    }

    /// The endpoint's side of the next connection to `authority`, if the gateway opened one.
    pub(crate) async fn endpoint_of(&self, authority: &str) -> Option<Party> {
        settle().await;
        let mut calls = self.calls.borrow_mut();
        let at = calls.iter().position(|(to, _)| to == authority)?;
        calls.remove(at).map(|(_, call)| Party(call))
    }

    /// The value of a metric's series in the text; `None` if it is not there.
    pub(crate) fn metric(&self, series: &str) -> Option<String> {
        let text = self.metrics.render(&[], &self.rules.shared);
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
    }

    /// Whether the gateway opened a connection that nobody took yet.
    pub(crate) async fn was_called(&self) -> bool {
        settle().await;
        !self.calls.borrow().is_empty()
    }

    /// Lets time pass, and everybody notice.
    pub(crate) async fn pass(&self, time: Duration) {
        settle().await;
        self.clock.advance(time);
        settle().await;
    }
}

/// Lets everything happen that can happen without time.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// What comes of `future` without time passing; `None` if nothing does.
async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..PATIENCE {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(done) = polled {
            return Some(done);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// One end of a connection: a client's, or an endpoint's.
pub(crate) struct Party(DuplexStream);

impl Party {
    /// The bare connection, for those who speak something else than text.
    pub(crate) fn into_stream(self) -> DuplexStream {
        self.0
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until what came ends with `end`, and returns it.
    pub(crate) async fn hear_until(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(end.as_bytes()) {
            match soon(self.0.read_u8()).await {
                Some(Ok(byte)) => heard.push(byte),
                None => panic!("nothing came after {:?}", String::from_utf8_lossy(&heard)),
                Some(Err(error)) => panic!("it ended after {:?}: {error}", String::from_utf8_lossy(&heard)),
            }
        }
        String::from_utf8(heard).unwrap()
    }

    /// Reads a head.
    pub(crate) async fn head(&mut self) -> String {
        self.hear_until("\r\n\r\n").await
    }

    /// What a client was told: a head, and the body that came with it.
    pub(crate) async fn answer(mut self) -> String {
        let head = self.head().await;
        head + &self.now().await.unwrap_or_default()
    }

    /// Reads to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut heard = Vec::new();
        // A reset is an end too.
        assert!(soon(self.0.read_to_end(&mut heard)).await.is_some(), "it does not end: {heard:?}");
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// What can be read now without waiting; `None` if the connection has ended.
    pub(crate) async fn now(&mut self) -> Option<String> {
        settle().await;
        let mut heard = vec![0; 64 * 1024];
        let mut read = std::pin::pin!(self.0.read(&mut heard));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(read.as_mut().poll(cx))).await;
        match polled {
            std::task::Poll::Ready(Ok(0) | Err(_)) => None,
            std::task::Poll::Ready(Ok(length)) => Some(String::from_utf8_lossy(&heard[..length]).into_owned()),
            std::task::Poll::Pending => Some(String::new()),
        }
    }
}
