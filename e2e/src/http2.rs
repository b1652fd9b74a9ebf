//! Well-behaved HTTP/2: a client and a backend on the `h2` crate. What must be able to misbehave is in `frames`.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::stream::PATIENCE;

/// Runs a future to its end on this thread, which must not wait longer than the guard between two of its steps.
///
/// # Panics
/// If nothing happens for too long.
pub fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let alarm = Arc::new(Alarm { thread: std::thread::current(), rung: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&alarm));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !alarm.rung.swap(false, Ordering::SeqCst) {
            std::thread::park_timeout(PATIENCE);
            assert!(alarm.rung.load(Ordering::SeqCst), "HTTP/2: nothing happened");
        }
    }
}

struct Alarm {
    thread: Thread,
    rung: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// How a connection ended, once it has.
type End = Arc<(Mutex<Option<Result<(), String>>>, Condvar)>;

/// An HTTP/2 connection to the gateway.
#[derive(Clone)]
pub struct H2Client {
    send: SendRequest<Bytes>,
    end: End,
}

/// A whole reply.
#[derive(Debug)]
pub struct H2Reply {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What followed the body.
    pub trailers: Option<HeaderMap>,
}

impl H2Reply {
    /// A field's first value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(|v| v.to_str().ok())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {:?}", self.body))
    }
}

impl H2Client {
    /// Connects with prior knowledge.
    ///
    /// # Panics
    /// If that fails.
    pub fn connect(address: SocketAddr) -> Self {
        Self::start(async move { TcpStream::connect(address).await.expect("connect") })
    }

    /// Connects over TLS, asking for `name`.
    ///
    /// # Panics
    /// If that fails.
    pub fn connect_tls(address: SocketAddr, config: Arc<rustls::ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a server name");
        Self::start(async move {
            let socket = TcpStream::connect(address).await.expect("connect");
            let tls = tokio_rustls::TlsConnector::from(config).connect(name, socket).await.expect("TLS handshake");
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "h2 was not agreed");
            tls
        })
    }

    fn start<T: AsyncRead + AsyncWrite + Unpin + 'static>(connect: impl Future<Output = T> + Send + 'static) -> Self {
        let (give, take) = std::sync::mpsc::channel();
        let end = End::default();
        let ended = Arc::clone(&end);
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let io = connect.await;
                let (send, connection) = h2::client::handshake::<T>(io).await.expect("HTTP/2 preface");
                drop(give.send(send));
                let result = connection.await.map_err(|e| e.to_string());
                *ended.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                ended.1.notify_all();
            });
        });
        let send = take.recv_timeout(PATIENCE).expect("an HTTP/2 connection");
        Self { send, end }
    }

    /// A GET with a whole reply.
    pub fn get(&self, uri: &str) -> H2Reply {
        let request = Request::get(uri).body(()).expect("a request");
        self.send(request, true).reply()
    }

    /// A request with a whole body, and its whole reply.
    pub fn call(&self, request: Request<()>, body: &[u8]) -> H2Reply {
        let mut stream = self.send(request, false);
        stream.data(body, true);
        stream.reply()
    }

    /// Sends a request's head; `end` if it has no body.
    ///
    /// # Panics
    /// If the connection takes no more.
    pub fn send(&self, request: Request<()>, end: bool) -> H2Stream {
        self.try_send(request, end).unwrap_or_else(|e| panic!("cannot send a request: {e}"))
    }

    /// Sends a request's head, if the connection still takes one.
    pub fn try_send(&self, request: Request<()>, end: bool) -> Result<H2Stream, h2::Error> {
        let mut ready = wait(self.send.clone().ready())?;
        let (reply, body) = ready.send_request(request, end)?;
        Ok(H2Stream { reply: Some(reply), body, incoming: None })
    }

    /// Waits for the connection's end, and tells how it ended. Requests must be finished or dropped.
    ///
    /// # Panics
    /// If it does not end.
    pub fn ended(self) -> Result<(), String> {
        drop(self.send);
        let (end, changed) = &*self.end;
        let guard = end.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut end, _) =
            changed.wait_timeout_while(guard, PATIENCE, |end| end.is_none()).unwrap_or_else(PoisonError::into_inner);
        end.take().expect("the HTTP/2 connection is still open")
    }
}

/// One request and its reply.
pub struct H2Stream {
    reply: Option<ResponseFuture>,
    body: SendStream<Bytes>,
    incoming: Option<RecvStream>,
}

impl H2Stream {
    /// Sends a part of the body, when the gateway has room for it.
    ///
    /// # Panics
    /// If the stream is gone.
    pub fn data(&mut self, bytes: &[u8], end: bool) {
        self.try_data(bytes, end).unwrap_or_else(|e| panic!("cannot send data: {e}"));
    }

    /// Sends a part of the body, if the stream still lives.
    pub fn try_data(&mut self, bytes: &[u8], end: bool) -> Result<(), h2::Error> {
        let mut rest = Bytes::copy_from_slice(bytes);
        while !rest.is_empty() {
            self.body.reserve_capacity(rest.len());
            let room = wait(std::future::poll_fn(|cx| self.body.poll_capacity(cx)));
            let room = room.unwrap_or(Err(Reason::CANCEL.into()))?;
            let part = rest.split_to(room.min(rest.len()));
            self.body.send_data(part, end && rest.is_empty())?;
        }
        if bytes.is_empty() {
            self.body.send_data(rest, end)?;
        }
        Ok(())
    }

    /// Ends the request with trailers.
    ///
    /// # Panics
    /// If the stream is gone.
    pub fn trailers(&mut self, trailers: HeaderMap) {
        self.body.send_trailers(trailers).expect("trailers sent");
    }

    /// Gives the stream up with this reason.
    pub fn reset(mut self, reason: Reason) {
        self.body.send_reset(reason);
    }

    /// The next 1xx head, or `None` when the final head is there.
    ///
    /// # Panics
    /// If the stream ends before.
    pub fn informational(&mut self) -> Option<Response<()>> {
        let reply = self.reply.as_mut().expect("the head was not read yet");
        wait(std::future::poll_fn(|cx| reply.poll_informational(cx))).map(|r| r.expect("an interim head"))
    }

    /// The head of the final reply.
    ///
    /// # Panics
    /// If there is none.
    pub fn head(&mut self) -> Response<()> {
        self.try_head().unwrap_or_else(|e| panic!("no reply: {e}"))
    }

    /// The head of the final reply, or why there is none.
    ///
    /// # Panics
    /// If it was asked for before.
    pub fn try_head(&mut self) -> Result<Response<()>, h2::Error> {
        let (head, incoming) = wait(self.reply.take().expect("the head is read once"))?.into_parts();
        self.incoming = Some(incoming);
        Ok(Response::from_parts(head, ()))
    }

    /// The next part of the reply's body. The head must have been read.
    ///
    /// # Panics
    /// If it was not.
    pub fn chunk(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let incoming = self.incoming.as_mut().expect("the head was read");
        let part = wait(incoming.data());
        if let Some(Ok(bytes)) = &part {
            drop(incoming.flow_control().release_capacity(bytes.len()));
        }
        part
    }

    /// The rest of the reply: body and trailers, or why they are not whole.
    ///
    /// # Panics
    /// If the head was not read.
    pub fn rest(&mut self) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
        let mut body = Vec::new();
        while let Some(part) = self.chunk() {
            body.extend_from_slice(&part?);
        }
        let trailers = wait(self.incoming.as_mut().expect("the head was read").trailers())?;
        Ok((body.into(), trailers))
    }

    /// The whole reply.
    ///
    /// # Panics
    /// If it is cut off.
    pub fn reply(mut self) -> H2Reply {
        let head = self.head();
        let (body, trailers) = self.rest().unwrap_or_else(|e| panic!("reply cut off: {e}"));
        H2Reply { status: head.status().as_u16(), fields: head.headers().clone(), body, trailers }
    }
}

/// What an HTTP/2 backend's script does with one request.
pub type Answer = Pin<Box<dyn Future<Output = ()>>>;
type Script = dyn Fn(Request<RecvStream>, SendResponse<Bytes>) -> Answer + Send + Sync;

/// An upstream that speaks HTTP/2. It ends, with its connections, when dropped.
pub struct H2Backend {
    address: SocketAddr,
    shared: Arc<H2Shared>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct H2Shared {
    seen: Mutex<H2Seen>,
    changed: Condvar,
    stopped: AtomicBool,
}

/// What an HTTP/2 backend has seen so far.
#[derive(Default)]
pub struct H2Seen {
    /// The heads of requests.
    pub heads: Vec<Request<()>>,
    /// How many connections were accepted.
    pub connections: usize,
    /// How many scripts came to their end.
    pub finished: usize,
}

impl H2Backend {
    /// Runs `script` for every request, over h2c.
    pub fn serve<F: Future<Output = ()> + 'static>(
        script: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::serve_at(([127, 0, 0, 1], 0).into(), script)
    }

    /// As [`H2Backend::serve`], at an address that was used before.
    pub fn serve_at<F: Future<Output = ()> + 'static>(
        address: SocketAddr,
        script: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::listen(address, None, Arc::new(move |request, respond| Box::pin(script(request, respond))))
    }

    /// Runs `script` for every request, over TLS.
    pub fn serve_tls<F: Future<Output = ()> + 'static>(
        config: Arc<rustls::ServerConfig>,
        script: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::listen(
            ([127, 0, 0, 1], 0).into(),
            Some(config),
            Arc::new(move |request, respond| Box::pin(script(request, respond))),
        )
    }

    fn listen(address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>, script: Arc<Script>) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("a backend's address");
        let address = listener.local_addr().expect("a bound address");
        listener.set_nonblocking(true).expect("a socket for tokio");
        let shared: Arc<H2Shared> = Arc::default();
        let sharing = Arc::clone(&shared);
        let serving = std::thread::spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime(), accept(listener, tls, script, sharing));
        });
        Self { address, shared, serving: Some(serving) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of requests so far.
    pub fn heads(&self) -> Vec<Request<()>> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).heads.clone()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).connections
    }

    /// Waits until `ready` holds of what was seen.
    ///
    /// # Panics
    /// If it never does.
    pub fn wait(&self, what: &str, ready: impl Fn(&H2Seen) -> bool) {
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.shared.changed.wait_timeout_while(seen, PATIENCE, |seen| !ready(seen));
        let (seen, waited) = waiting.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "the backend never saw {what}; requests: {:#?}", seen.heads);
    }
}

impl Drop for H2Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(std::net::TcpStream::connect(self.address));
        // Its listener and its connections end with it.
        drop(self.serving.take().map(JoinHandle::join));
    }
}

impl H2Shared {
    fn note(&self, what: impl FnOnce(&mut H2Seen)) {
        what(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

/// Answers 200 with JSON about the request, as `Backend::echo` does, and echoes trailers as trailers.
pub async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut incoming) = request.into_parts();
    let Ok((body, trailers)) = whole(&mut incoming).await else { return };
    let fields: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let told = serde_json::json!({
        "method": head.method.as_str(),
        "scheme": head.uri.scheme_str(),
        "authority": head.uri.authority().map(ToString::to_string),
        "target": head.uri.path_and_query().map(ToString::to_string),
        "fields": fields,
        "body": String::from_utf8_lossy(&body),
    });
    let reply = Response::builder().header("content-type", "application/json").body(()).expect("a reply");
    let Ok(mut sender) = respond.send_response(reply, false) else { return };
    let ended = trailers.is_none();
    if sender.send_data(told.to_string().into(), ended).is_ok()
        && let Some(trailers) = trailers
    {
        drop(sender.send_trailers(trailers));
    }
}

/// Lets the connection write out what was sent so far.
pub async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A request's whole body and its trailers.
pub async fn whole(incoming: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(part) = incoming.data().await {
        let part = part?;
        incoming.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    Ok((body, incoming.trailers().await?))
}

async fn accept(
    listener: std::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    script: Arc<Script>,
    shared: Arc<H2Shared>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket for tokio");
    while let Ok((socket, _)) = listener.accept().await {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        shared.note(|seen| seen.connections += 1);
        spawn(converse(socket, tls.clone(), Arc::clone(&script), Arc::clone(&shared)));
    }
}

async fn converse(
    socket: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    script: Arc<Script>,
    shared: Arc<H2Shared>,
) {
    match tls {
        None => requests(socket, &script, &shared).await,
        Some(config) => {
            if let Ok(tls) = tokio_rustls::TlsAcceptor::from(config).accept(socket).await {
                requests(tls, &script, &shared).await;
            }
        }
    }
}

async fn requests<T: AsyncRead + AsyncWrite + Unpin>(io: T, script: &Arc<Script>, shared: &Arc<H2Shared>) {
    let Ok(mut connection) = h2::server::handshake(io).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let mut head = Request::builder().method(request.method()).uri(request.uri());
        if let Some(fields) = head.headers_mut() {
            fields.clone_from(request.headers());
        }
        shared.note(|seen| seen.heads.push(head.body(()).expect("a head")));
        let (script, shared) = (Arc::clone(script), Arc::clone(shared));
        spawn(async move {
            let answer = script(request, respond);
            answer.await;
            shared.note(|seen| seen.finished += 1);
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "these tasks end with the backend's own runtime")]
fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(task);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
