//! A provider under test: it runs on a clock that is moved by hand, against servers that the test plays.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_config::config::{ApiServer, Discovery, Endpoint, Service, UpstreamTls};
use tidegate_core::clock::{Clock, ManualClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{Context, News, start};
use crate::buffers::Buffers;
use crate::io::testing::block_on;
use crate::net::Net;
use crate::tasks::Task;
use crate::upstream::means::Means;

type Files = Arc<Mutex<Vec<(PathBuf, Vec<u8>)>>>;

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) files: Files,
    news: Rc<RefCell<VecDeque<News>>>,
    calls: Rc<RefCell<VecDeque<DuplexStream>>>,
    _task: Task,
}

/// Tells a story about a discovery that runs from its beginning. Connections lead into memory, and files are the test's own.
pub(super) fn tell<F: Future<Output = ()>>(discovery: &Discovery, story: impl FnOnce(World) -> F) {
    tell_with(discovery, &[], story);
}

/// The same, with files from the beginning.
pub(super) fn tell_with<F: Future<Output = ()>>(
    discovery: &Discovery,
    files: &[(&str, &str)],
    story: impl FnOnce(World) -> F,
) {
    block_on(async {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect();
        story(World::start(discovery, Arc::new(Mutex::new(files)))).await;
    });
}

impl World {
    fn start(discovery: &Discovery, files: Files) -> Self {
        let loaded = tidegate_config::from_yaml(
            "services: { one: { url: http://one.test } }\nroutes: [{ match: { path: / }, service: one }]",
        );
        let config = loaded.map_err(|_| "a valid configuration").unwrap().config;
        let service: &Service = &config.services["one"];
        let clock = ManualClock::new(Duration::from_secs(1_700_000_000));
        let calls: Rc<RefCell<VecDeque<DuplexStream>>> = Rc::default();
        let received = Rc::clone(&calls);
        let net = Net::Memory(Box::new(move |_| {
            let (near, far) = tokio::io::duplex(64 * 1024);
            received.borrow_mut().push_back(far);
            Ok(near)
        }));
        let reading = Arc::clone(&files);
        let context = Context {
            means: Means {
                clock: Clock::Manual(Arc::clone(&clock)),
                net: Rc::new(net),
                buffers: Rc::new(Buffers::new(config.server.buffers)),
                dice: Rc::default(),
                bursts: Rc::default(),
            },
            roots: Rc::default(),
            read: Arc::new(move |path: &Path| {
                let files = reading.lock().unwrap();
                let file = files.iter().find(|(name, _)| name == path);
                file.map(|(_, bytes)| bytes.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
            }),
            seed: 1,
        };
        let news: Rc<RefCell<VecDeque<News>>> = Rc::default();
        let heard = Rc::clone(&news);
        let task = start(
            discovery,
            service,
            &context,
            Rc::new(move |news| {
                // That nothing changed is for those who count.
                if news != News::Confirmed {
                    heard.borrow_mut().push_back(news);
                }
            }),
        );
        Self { clock, files, news, calls, _task: task }
    }

    /// Replaces a file.
    pub(super) fn write(&self, path: &str, text: &str) {
        let mut files = self.files.lock().unwrap();
        files.retain(|(name, _)| name != Path::new(path));
        files.push((path.into(), text.into()));
    }

    /// The next news. What others must do for it happens meanwhile; what takes time does not.
    pub(super) async fn news(&self) -> News {
        loop {
            if let Some(news) = self.news.borrow_mut().pop_front() {
                return news;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The next set, as `url weight zone priority`.
    pub(super) async fn endpoints(&self) -> Vec<String> {
        match self.news().await {
            News::Endpoints(endpoints) => endpoints.iter().map(in_short).collect(),
            other @ (News::Confirmed | News::Failed(_)) => panic!("no set: {other:?}"),
        }
    }

    /// Why the source could not be asked.
    pub(super) async fn failure(&self) -> String {
        match self.news().await {
            News::Failed(why) => why,
            other @ (News::Confirmed | News::Endpoints(_)) => panic!("it did not fail: {other:?}"),
        }
    }

    /// Nothing was told that was not taken.
    pub(super) async fn is_quiet(&self) -> bool {
        settle().await;
        self.news.borrow().is_empty()
    }

    /// Lets time pass, and everybody notice.
    pub(super) async fn pass(&self, time: Duration) {
        settle().await;
        self.clock.advance(time);
        settle().await;
    }

    /// The server's side of the next connection.
    pub(super) async fn call(&self) -> Call {
        loop {
            if let Some(stream) = self.calls.borrow_mut().pop_front() {
                return Call(stream);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Whether a connection was opened that nobody took yet.
    pub(super) async fn was_called(&self) -> bool {
        settle().await;
        !self.calls.borrow().is_empty()
    }
}

async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

fn in_short(endpoint: &Endpoint) -> String {
    let scheme = if endpoint.tls { "https" } else { "http" };
    let zone = endpoint.zone.as_deref().unwrap_or("-");
    format!("{scheme}://{} {} {zone} {}", endpoint.authority, endpoint.weight, endpoint.priority)
}

/// A server of plain HTTP in memory.
pub(super) fn api() -> ApiServer {
    ApiServer { endpoint: super::endpoint(false, "api.test", 8500).unwrap(), tls: UpstreamTls::default() }
}

/// A connection to a server that the test plays.
pub(super) struct Call(DuplexStream);

impl Call {
    /// The head of the request, and its body if its length is told.
    pub(super) async fn request(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(bytes).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    /// A whole answer.
    pub(super) async fn answer(mut self, status: u16, fields: &str, body: &str) {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{fields}\r\n", body.len());
        self.say(&head).await;
        self.say(body).await;
    }

    /// The head of an answer that goes on.
    pub(super) async fn begin(&mut self) {
        self.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
    }

    /// A piece of an answer that goes on.
    pub(super) async fn piece(&mut self, text: &str) {
        self.say(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }

    /// The end of an answer that went on.
    pub(super) async fn end(mut self) {
        self.say("0\r\n\r\n").await;
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }
}
