//! Accepting connections and finding out what they speak: the PROXY header, TLS, and HTTP/1 or HTTP/2.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustls::ServerConfig;
use tidegate_config::config::{self, ClientAuth};
use tidegate_core::client::{Peer, TlsFacts};
use tokio::net::{TcpListener, TcpStream};

use super::sniff::{Sniff, sniff};
use super::tls::Alpn;
use super::{Session, http1, http2, proxy_protocol, tls};
use crate::alarm::{pause, until};
use crate::io::{Io, Rewind};
use crate::limits::Place;
use crate::read::read_some;
use crate::snapshot::Snapshot;
use crate::tasks::spawn_local;
use crate::telemetry::{LetGo, ListenerCells, Refused};
use crate::worker::Worker;

/// Out of descriptors: how long accepting stops, so that connections can end.
const PAUSE: Duration = Duration::from_millis(100);

/// What a listener's connections have in common. A reload makes a new one; open connections keep theirs, and end with the exchange that
/// they carry if it says something else.
pub(crate) struct Door {
    pub(crate) listener: config::Listener,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) cells: Arc<ListenerCells>,
    /// The port that was bound.
    pub(crate) port: u16,
    /// Its listener is gone, or is another one now. A door that says the same as the one before shares it.
    closed: Rc<Cell<bool>>,
}

impl Door {
    /// That of the listener of this name, if there is one. It takes the place of `before` on the same socket.
    pub(crate) fn of(
        worker: &Worker,
        snapshot: &Snapshot,
        (listener, port): (&str, u16),
        before: Option<&Self>,
    ) -> Option<Rc<Self>> {
        let listener = snapshot.config.server.listeners.iter().find(|known| *known.name == *listener)?;
        let (same, other) = match before {
            Some(before) if promises_the_same(&before.listener, listener) => (Some(before), None),
            before => (None, before),
        };
        if let Some(other) = other {
            other.close();
        }
        Some(Rc::new(Self {
            listener: listener.clone(),
            tls: snapshot.tls.get(&listener.name).map(Arc::clone),
            cells: worker.shard.listener(&listener.name),
            port,
            closed: same.map(|same| Rc::clone(&same.closed)).unwrap_or_default(),
        }))
    }

    /// Whether its connections should end.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Lets its connections end, once they are woken.
    pub(crate) fn close(&self) {
        self.closed.set(true);
    }
}

/// Whether the connections of the one could be those of the other. A new certificate is no reason to end one.
fn promises_the_same(one: &config::Listener, other: &config::Listener) -> bool {
    let promise = |listener: &config::Listener| {
        let config::Listener { name, addresses: _, tls, proxy_protocol, http_to_https, at: _ } = listener;
        let tls = tls.as_ref().map(|tls| {
            let config::ListenerTls { certificates: _, min_version, client_ca, client_auth } = &**tls;
            (*min_version, client_ca.as_ref().map(|authorities| Arc::clone(&authorities.bytes)), *client_auth)
        });
        (Arc::clone(name), tls, *proxy_protocol, *http_to_https)
    };
    promise(one) == promise(other)
}

/// Accepts until the task is dropped. `door` is asked anew for every connection.
pub(crate) async fn run(worker: Rc<Worker>, socket: Rc<TcpListener>, door: impl Fn() -> Rc<Door>) {
    loop {
        match socket.accept().await {
            Ok((stream, address)) => welcome(&worker, stream, address, door()),
            Err(error) => after_error(&worker, &error).await,
        }
    }
}

/// Takes what waits in the socket's queue: it would be reset when the socket is closed.
pub(crate) fn take_queued(worker: &Rc<Worker>, socket: &TcpListener, door: &Rc<Door>) {
    // The system is asked itself: what the runtime knows of the socket may be old.
    let Ok(queue) = socket.as_fd().try_clone_to_owned().map(std::net::TcpListener::from) else { return };
    loop {
        match queue.accept() {
            Ok((stream, address)) => {
                if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                    welcome(worker, stream, address, Rc::clone(door));
                }
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(_) => return,
        }
    }
}

/// A connection that ended before it was accepted is nobody's trouble.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn after_error(worker: &Worker, error: &io::Error) {
    if !is_of_the_connection(error) {
        worker.shard.worker().accept_pauses.up();
        pause(&worker.clock, PAUSE).await;
    }
}

fn welcome(worker: &Rc<Worker>, stream: TcpStream, address: SocketAddr, door: Rc<Door>) {
    let local = worker.local();
    let limits = &local.snapshot.config.server.limits;
    let Ok(mut place) = worker.connections.enter(limits.connections) else {
        return door.cells.refuse(Refused::Connections);
    };
    let known = !door.listener.proxy_protocol && !local.snapshot.trusted.contains(address.ip());
    if known && place.claim(address.ip(), limits.connections_per_client).is_err() {
        return door.cells.refuse(Refused::ConnectionsPerClient);
    }
    // Fails only for a connection that is gone already.
    stream.set_nodelay(true).ok();
    let worker = Rc::clone(worker);
    spawn_local(async move {
        let enlisted = worker.enlist_current().await;
        let open = door.cells.open();
        connection(&worker, Io::Tcp(stream), address, &door, place).await;
        drop((enlisted, open));
    })
    .detach();
}

/// A connection whose first request, or what must come before requests in HTTP/2, is on its way.
struct Arrived {
    io: Io,
    early: BytesMut,
    session: Rc<Session>,
    since: Instant,
    is_http2: bool,
}

/// Serves a connection from its first byte. What comes before the first request, and that request's head, have one time together:
/// `header`. Only the TLS handshake has its own.
pub(crate) async fn connection(worker: &Rc<Worker>, io: Io, address: SocketAddr, door: &Door, mut place: Place) {
    // Boxed, so that what arriving needs is gone afterwards.
    let arrived = Box::pin(arrive(worker, io, address, (door, &mut place))).await;
    serve(worker, arrived).await;
}

async fn serve(worker: &Rc<Worker>, arrived: Option<Arrived>) {
    let Some(Arrived { io, early, session, since, is_http2 }) = arrived else { return };
    if is_http2 {
        Box::pin(http2::serve(Rc::clone(worker), session, io, early, since)).await;
    } else {
        http1::serve(Rc::clone(worker), session, io, early, since).await;
    }
}

/// `None` if it is over before anything was asked.
async fn arrive(
    worker: &Rc<Worker>,
    mut io: Io,
    address: SocketAddr,
    (door, place): (&Door, &mut Place),
) -> Option<Arrived> {
    let timeouts = worker.timeouts();
    let since = worker.clock.now();
    let mut early = BytesMut::new();
    let mut source = address;
    if door.listener.proxy_protocol {
        let limits = worker.local().snapshot.config.server.limits;
        let read = until(&worker.clock, since + timeouts.header, read_proxy_header(&mut io, &mut early)).await;
        let Some(Ok(named)) = read else {
            door.cells.refuse(Refused::ProxyProtocol);
            return None;
        };
        source = named.unwrap_or(address);
        let trusted = worker.local().snapshot.trusted.contains(source.ip());
        if !trusted && place.claim(source.ip(), limits.connections_per_client).is_err() {
            door.cells.refuse(Refused::ConnectionsPerClient);
            return None;
        }
    }
    let Some(config) = &door.tls else {
        return speaks(worker, (io, early), session(worker, source, door, None), since).await;
    };
    let began = worker.clock.now();
    let (io, facts, alpn) = match until(
        &worker.clock,
        began + timeouts.handshake,
        tls::accept(config, Rewind::new(early, io)),
    )
    .await
    {
        Some(Ok(opened)) => opened,
        Some(Err(error)) => {
            door.cells.handshake_failures.up();
            tracing::debug!(listener = &*door.listener.name, peer = %source, code = error.code(), "TLS handshake failed: {error}");
            return None;
        }
        None => {
            door.cells.handshake_failures.up();
            return None;
        }
    };
    door.cells.handshakes.up();
    Some(Arrived {
        io,
        early: BytesMut::new(),
        session: session(worker, source, door, Some(facts)),
        // As if the handshake had taken no time.
        since: since + worker.clock.now().saturating_duration_since(began),
        is_http2: alpn == Alpn::Http2,
    })
}

fn session(worker: &Worker, source: SocketAddr, door: &Door, facts: Option<TlsFacts>) -> Rc<Session> {
    let local = worker.local();
    let mut peer = Peer::new(source, Arc::clone(&door.listener.name), door.port, &local.snapshot.trusted);
    peer.tls = facts.map(Arc::new);
    let auth = door.listener.tls.as_ref().map_or(ClientAuth::Off, |tls| tls.client_auth);
    Rc::new(Session {
        peer: Rc::new(peer),
        redirects: door.listener.http_to_https,
        name_bound: auth != ClientAuth::Off,
        closed: Rc::clone(&door.closed),
        cells: Arc::clone(&door.cells),
    })
}

/// Serves a connection without TLS. `since`: when it began.
pub(crate) async fn plain(worker: &Rc<Worker>, io: Io, early: BytesMut, session: Rc<Session>, since: Instant) {
    let arrived = Box::pin(speaks(worker, (io, early), session, since)).await;
    serve(worker, arrived).await;
}

/// Without TLS, the first bytes tell HTTP/2 (by prior knowledge, RFC 9113, 3.3) from HTTP/1.
async fn speaks(
    worker: &Rc<Worker>,
    (mut io, mut early): (Io, BytesMut),
    session: Rc<Session>,
    since: Instant,
) -> Option<Arrived> {
    let deadline = since + worker.timeouts().header;
    loop {
        let is_http2 = match sniff(&early) {
            Sniff::Http1 => Some(false),
            Sniff::Http2 => Some(true),
            Sniff::NeedMore => None,
        };
        if let Some(is_http2) = is_http2 {
            return Some(Arrived { io, early, session, since, is_http2 });
        }
        let read = std::future::poll_fn(|cx| poll_first_bytes(worker, &session, (&mut io, &mut early), cx));
        let read = until(&worker.clock, deadline, read);
        match read.await {
            Some(Ok(read)) if read > 0 => {}
            Some(_) => return None,
            None => {
                session.cells.let_go(LetGo::Header);
                return None;
            }
        }
    }
}

/// A connection that has not said anything yet holds no buffer, and is not waited for once it should end.
fn poll_first_bytes(
    worker: &Worker,
    session: &Session,
    (io, early): (&mut Io, &mut BytesMut),
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if early.capacity() == 0 {
        *early = worker.buffers.take();
    }
    let read = read_some(io, early, 1024, cx);
    if read.is_ready() || !early.is_empty() {
        return read;
    }
    worker.buffers.put(std::mem::take(early));
    if session.is_leaving(worker) { Poll::Ready(Ok(0)) } else { Poll::Pending }
}

/// The client that a PROXY header names, if any.
async fn read_proxy_header(io: &mut Io, early: &mut BytesMut) -> Result<Option<SocketAddr>, ()> {
    loop {
        if let Some(header) = proxy_protocol::parse(early).map_err(|_| ())? {
            bytes::Buf::advance(early, header.length);
            return Ok(header.addresses.map(|addresses| addresses.source));
        }
        let read = std::future::poll_fn(|cx| read_some(io, early, 512, cx)).await;
        if !matches!(read, Ok(read) if read > 0) {
            return Err(());
        }
    }
}
