//! The world around one worker: clients, endpoints and the time, all in the test's hands.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_config::config::Config;
use tidegate_core::client::{Peer, TrustedProxies};
use tidegate_core::clock::{Clock, ManualClock};
use tidegate_proxy::Solo;
use tidegate_proxy::net::Net;
use tidegate_proxy::telemetry::{LogWriter, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A service at `/`, with every timeout at its default.
pub(crate) const PLAIN: &str = "
services: { one: { url: http://one.test:80 } }
routes: [{ match: { path_prefix: / }, service: one }]
";

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) solo: Solo,
    pub(crate) metrics: Arc<Metrics>,
    calls: Calls,
    _log: LogWriter,
}

/// Connections that the gateway opened and nobody took yet: to whom, and the endpoint's end.
type Calls = Rc<RefCell<VecDeque<(String, DuplexStream)>>>;

/// Runs a test's story to its end.
pub(crate) fn tell<F: Future<Output = ()>>(yaml: &str, story: impl FnOnce(World) -> F) {
    tell_with(yaml, |_| {}, story);
}

/// The same, with a configuration that is changed after it was read.
pub(crate) fn tell_with<F: Future<Output = ()>>(
    yaml: &str,
    change: impl FnOnce(&mut Config),
    story: impl FnOnce(World) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut loaded = match tidegate_config::from_yaml(yaml) {
            Ok(loaded) => loaded,
            Err(failure) => panic!("{}", failure.document.render(&failure.problems, false)),
        };
        change(&mut loaded.config);
        let clock = ManualClock::new(Duration::from_secs(1_700_000_000));
        let calls = Calls::default();
        let received = Rc::clone(&calls);
        let net = Net::Memory(Box::new(move |authority| {
            let (near, far) = tokio::io::duplex(64 * 1024);
            received.borrow_mut().push_back((authority.to_owned(), far));
            Ok(near)
        }));
        let metrics = Metrics::new();
        let log = LogWriter::start(None, Arc::clone(metrics.log())).unwrap();
        let solo = Solo::new(
            &Arc::new(loaded.config),
            Clock::Manual(Arc::clone(&clock)),
            net,
            (Arc::clone(&metrics), log.sender()),
        );
        story(World { clock, solo: solo.unwrap(), metrics, calls, _log: log }).await;
    });
}

impl World {
    /// A new client connection.
    pub(crate) fn client(&self) -> Party {
        let from: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        Party(self.solo.connect(Peer::new(from, "default".into(), 80, &TrustedProxies::default())))
    }

    /// The endpoint's side of the next connection that the gateway opens.
    pub(crate) async fn endpoint(&self) -> Party {
        loop {
            if let Some((_, call)) = self.calls.borrow_mut().pop_front() {
                return Party(call);
            }
            tokio::task::yield_now().await;
        }
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
        let text = self.metrics.render(&[]);
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
            match self.0.read_u8().await {
                Ok(byte) => heard.push(byte),
                Err(error) => panic!("it ended after {:?}: {error}", String::from_utf8_lossy(&heard)),
            }
        }
        String::from_utf8(heard).unwrap()
    }

    /// Reads a head.
    pub(crate) async fn head(&mut self) -> String {
        self.hear_until("\r\n\r\n").await
    }

    /// Reads to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut heard = Vec::new();
        // A reset is an end too.
        self.0.read_to_end(&mut heard).await.ok();
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
