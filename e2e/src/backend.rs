//! Upstreams that do exactly what a test says, keep every byte that arrived, and can misbehave at any point.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::stream::{PATIENCE, Stream, guarded};
use crate::wire::{Head, Message, Wire, WireError, latin1, parse_requests};

/// What a backend has seen so far.
#[derive(Default)]
pub struct Seen {
    /// Whole requests, in the order their last byte arrived.
    pub requests: Vec<Message>,
    /// One per connection, in the order accepted.
    pub connections: Vec<Connection>,
}

impl Seen {
    /// Connections that the gateway has not closed yet.
    pub fn open(&self) -> usize {
        self.connections.iter().filter(|c| !c.closed).count()
    }
}

/// One accepted connection.
pub struct Connection {
    /// Every byte that arrived.
    pub bytes: Arc<Mutex<Vec<u8>>>,
    /// The gateway closed or reset it, or the script ended.
    pub closed: bool,
    /// Whether the gateway showed a certificate.
    pub client_certificate: bool,
    /// The name asked for in TLS, if any.
    pub server_name: Option<String>,
    /// Kept to close it at the backend's end; gone after an abort.
    socket: Option<TcpStream>,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
    stopped: AtomicBool,
}

/// A listening upstream. It ends, with its connections, when dropped.
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

type Script = dyn Fn(&mut Conn) + Send + Sync;

impl Backend {
    /// Runs `script` for every connection, each in its own thread.
    pub fn scripted(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        Self::listen(([127, 0, 0, 1], 0).into(), None, Arc::new(script))
    }

    /// As [`Backend::scripted`], at an address that was used before.
    pub fn scripted_at(address: SocketAddr, script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        Self::listen(address, None, Arc::new(script))
    }

    /// As [`Backend::scripted`], over TLS.
    pub fn scripted_tls(config: Arc<ServerConfig>, script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        Self::listen(([127, 0, 0, 1], 0).into(), Some(config), Arc::new(script))
    }

    /// Answers every request with the same bytes, as often as asked.
    pub fn replying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::scripted(move |conn| while conn.request().is_some() && conn.send(&bytes) {})
    }

    /// Answers every request with `200` and this text.
    pub fn labelled(label: &str) -> Self {
        Self::replying(ok(label))
    }

    /// Answers with JSON about what it saw: `{"method", "target", "fields": [[name, value]...], "body", "trailers"}`.
    pub fn echo() -> Self {
        Self::scripted(echo)
    }

    /// [`Backend::echo`] over TLS.
    pub fn echo_tls(config: Arc<ServerConfig>) -> Self {
        Self::scripted_tls(config, echo)
    }

    fn listen(address: SocketAddr, tls: Option<Arc<ServerConfig>>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("backend at {address}: {e}"));
        let address = listener.local_addr().expect("a bound address");
        let shared =
            Arc::new(Shared { seen: Mutex::default(), changed: Condvar::new(), stopped: AtomicBool::new(false) });
        let sharing = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&listener, &sharing, tls.as_ref(), &script));
        Self { address, shared, accepting: Mutex::new(Some(accepting)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until `ready` holds of what was seen.
    ///
    /// # Panics
    /// If it never does.
    pub fn wait(&self, what: &str, ready: impl Fn(&Seen) -> bool) {
        let seen = self.seen();
        let (seen, waited) = self
            .shared
            .changed
            .wait_timeout_while(seen, PATIENCE, |seen| !ready(seen))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "the backend never saw {what}; requests: {:#?}", seen.requests);
    }

    /// Waits for that many requests.
    pub fn wait_requests(&self, n: usize) {
        self.wait(&format!("{n} requests"), |seen| seen.requests.len() >= n);
    }

    /// Waits for that many connections.
    pub fn wait_connections(&self, n: usize) {
        self.wait(&format!("{n} connections"), |seen| seen.connections.len() >= n);
    }

    /// Waits until every connection was closed by the gateway.
    pub fn wait_all_closed(&self) {
        self.wait("all connections closed", |seen| seen.open() == 0);
    }

    /// Whole requests so far.
    pub fn requests(&self) -> Vec<Message> {
        self.seen().requests.clone()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.seen().connections.len()
    }

    /// Looks at what was seen.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.shared.seen)
    }

    /// Every byte of every connection.
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        let records: Vec<_> = self.seen().connections.iter().map(|c| Arc::clone(&c.bytes)).collect();
        records.iter().map(|bytes| lock(bytes).clone()).collect()
    }

    /// Asserts that every byte so far was part of a well-formed request, and gives the requests.
    ///
    /// # Panics
    /// If not.
    pub fn assert_well_formed(&self, after: &str) -> Vec<Message> {
        let parse = |bytes: &Vec<u8>| {
            parse_requests(bytes).unwrap_or_else(|e| panic!("the backend received unsafe bytes after {after}: {e}"))
        };
        self.bytes().iter().flat_map(parse).collect()
    }

    /// Closes the listener and resets every connection, as a killed process does.
    pub fn kill(&self) {
        self.stop(true);
    }

    fn stop(&self, abort: bool) {
        if self.shared.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = lock(&self.accepting).take() {
            // Its end closes the listener; it has nothing to tell.
            drop(accepting.join());
        }
        for socket in self.seen().connections.iter().filter_map(|c| c.socket.as_ref()) {
            if abort {
                drop(socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)));
            }
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop(false);
    }
}

/// A `200` with a Content-Length.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A `200` with a chunked body, one chunk for each part.
pub fn chunked(parts: &[&str]) -> String {
    let chunks: String = parts.iter().map(|part| chunk(part)).collect();
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

/// One chunk with its size.
pub fn chunk(part: &str) -> String {
    format!("{:x}\r\n{part}\r\n", part.len())
}

/// The script of [`Backend::echo`].
pub fn echo(conn: &mut Conn) {
    while let Some(request) = conn.request() {
        let told = serde_json::json!({
            "method": request.head.method(),
            "target": request.head.target(),
            "fields": request.head.fields.0,
            "body": latin1(&request.body),
            "trailers": request.trailers.0,
        })
        .to_string();
        let body = if request.head.method() == "HEAD" { "" } else { &told };
        let length = told.len();
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
    }
}

/// The script's side of one connection.
pub struct Conn {
    /// Counted from zero over the backend's life.
    pub index: usize,
    wire: Wire,
    shared: Arc<Shared>,
}

impl Conn {
    /// The next whole request, or `None` when the gateway closes or sends what is no request.
    pub fn request(&mut self) -> Option<Message> {
        let request = self.wire.request().ok()?;
        self.record(request.clone());
        Some(request)
    }

    /// The next head, without its body. It counts as a request.
    pub fn head(&mut self) -> Option<Head> {
        let head = self.wire.head().ok()?;
        let framing = crate::wire::Framing::None;
        self.record(Message {
            head: head.clone(),
            framing,
            body: Vec::new(),
            trailers: crate::wire::Fields::default(),
        });
        Some(head)
    }

    /// The next chunk of a chunked request body.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        self.wire.chunk()
    }

    /// Exactly that many bytes, or `None` when the gateway closes before.
    pub fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        self.wire.exactly(n).ok()
    }

    /// Whatever comes next, or `None` when the gateway is gone.
    pub fn some(&mut self) -> Option<Vec<u8>> {
        self.wire.some().ok().flatten()
    }

    /// Sends bytes as they are; false when the gateway is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write(bytes.as_ref()).is_ok()
    }

    /// Reads on until the gateway closes, whatever it sends.
    pub fn wait_closed(&mut self) {
        while let Ok(Some(_)) = self.wire.some() {}
    }

    /// Ends our half in order.
    pub fn close(&mut self) {
        self.wire.stream.shutdown_write();
    }

    /// Aborts with a RST, now.
    pub fn reset(&mut self) {
        self.wire.stream.linger_none();
        // A socket is aborted when its last handle goes: the one kept for the backend's end goes first.
        if let Some(connection) = lock(&self.shared.seen).connections.get_mut(self.index) {
            connection.socket = None;
        }
        self.wire.stream = Stream::Bytes(io::Cursor::default());
    }

    fn record(&self, request: Message) {
        lock(&self.shared.seen).requests.push(request);
        self.shared.changed.notify_all();
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        if let Some(connection) = lock(&self.shared.seen).connections.get_mut(self.index) {
            connection.closed = true;
            if let Some(socket) = &connection.socket {
                drop(socket.shutdown(Shutdown::Both));
            }
        }
        self.shared.changed.notify_all();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, tls: Option<&Arc<ServerConfig>>, script: &Arc<Script>) {
    for socket in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(socket) = socket.map(guarded) else { continue };
        let index = {
            let mut seen = lock(&shared.seen);
            seen.connections.push(Connection {
                bytes: Arc::default(),
                closed: false,
                client_certificate: false,
                server_name: None,
                socket: socket.try_clone().ok(),
            });
            seen.connections.len() - 1
        };
        shared.changed.notify_all();
        let (shared, tls, script) = (Arc::clone(shared), tls.cloned(), Arc::clone(script));
        std::thread::spawn(move || converse(index, socket, &shared, tls, &*script));
    }
}

fn converse(index: usize, socket: TcpStream, shared: &Arc<Shared>, tls: Option<Arc<ServerConfig>>, script: &Script) {
    let stream = match tls {
        None => Ok(Stream::Plain(socket)),
        Some(config) => handshake(index, socket, shared, config),
    };
    // A failed handshake leaves a connection that closes at once and carried nothing.
    let failed = stream.is_err();
    let wire = Wire::new(stream.unwrap_or_else(|_| Stream::Bytes(io::Cursor::default())));
    if let Some(connection) = lock(&shared.seen).connections.get_mut(index) {
        connection.bytes = wire.received();
    }
    let mut conn = Conn { index, wire, shared: Arc::clone(shared) };
    if !failed {
        script(&mut conn);
    }
}

fn handshake(index: usize, socket: TcpStream, shared: &Shared, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut tls = StreamOwned::new(connection, socket);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    if let Some(seen) = lock(&shared.seen).connections.get_mut(index) {
        seen.client_certificate = tls.conn.peer_certificates().is_some();
        seen.server_name = tls.conn.server_name().map(str::to_owned);
    }
    Ok(Stream::TlsServer(Box::new(tls)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
