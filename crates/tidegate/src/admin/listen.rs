//! The sockets of the admin and status listeners. They stay open over reloads that keep their addresses.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_config::Config;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::routes::{self, Asked, Role};
use crate::status::Status;
use crate::wait::at_most;

/// More connections than this wait in the socket's queue: probes and people need few.
const CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A body may take so long, and no more bytes than that.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_BYTES: usize = 64 * 1024;
/// However slowly a peer reads: it comes back for more.
const CONNECTION_LIFE: Duration = Duration::from_mins(5);
/// After an error of `accept`, such as being out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// An address that cannot be listened on.
#[derive(Debug)]
pub(crate) struct BindError {
    pub(crate) role: Role,
    pub(crate) address: SocketAddr,
    pub(crate) error: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} listener cannot listen on {}: {}", self.role.name(), self.address, self.error)
    }
}

/// Everything that listens beside the traffic.
pub(crate) struct Listeners {
    status: Arc<Status>,
    /// By what was asked for, which may be port 0.
    open: BTreeMap<(Role, SocketAddr), Listener>,
    tasks: JoinSet<()>,
}

struct Listener {
    local: SocketAddr,
    task: AbortHandle,
}

/// Sockets that are bound but not served yet, so that a reload may still be given up.
pub(crate) struct Prepared {
    wanted: Vec<(Role, SocketAddr)>,
    new: Vec<((Role, SocketAddr), std::net::TcpListener)>,
}

impl Listeners {
    pub(crate) fn new(status: Arc<Status>) -> Self {
        Self { status, open: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// Binds what `config` asks for and is not open yet: all or nothing.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared, BindError> {
        let admin = config.admin.iter().flat_map(|admin| &admin.addresses).map(|address| (Role::Admin, *address));
        let status = config.status.iter().flatten().map(|address| (Role::Status, *address));
        let wanted: Vec<_> = admin.chain(status).collect();
        let mut new = Vec::new();
        for key @ (role, address) in wanted.iter().filter(|key| !self.open.contains_key(key)).copied() {
            let socket = std::net::TcpListener::bind(address)
                .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
                .map_err(|error| BindError { role, address, error })?;
            new.push((key, socket));
        }
        Ok(Prepared { wanted, new })
    }

    /// Serves what was prepared, and nothing else from now on. Gives the new listeners' names and addresses.
    pub(crate) fn adopt(&mut self, prepared: Prepared) -> io::Result<Vec<(Role, SocketAddr)>> {
        self.open.retain(|key, listener| {
            let stays = prepared.wanted.contains(key);
            if !stays {
                listener.task.abort();
            }
            stays
        });
        let mut added = Vec::new();
        for (key, socket) in prepared.new {
            let socket = TcpListener::from_std(socket)?;
            let local = socket.local_addr()?;
            let task = self.tasks.spawn(accept(socket, key.0, local, Arc::clone(&self.status)));
            self.open.insert(key, Listener { local, task });
            added.push((key.0, local));
        }
        Ok(added)
    }

    /// Names and addresses of all.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (Role, SocketAddr)> {
        self.open.iter().map(|((role, _), listener)| (*role, listener.local))
    }
}

/// Connections end with the listener's task, which owns them.
async fn accept(socket: TcpListener, role: Role, local: SocketAddr, status: Arc<Status>) {
    let mut connections = JoinSet::new();
    let mut reserve = Reserve::take();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match socket.accept().await {
            Ok((stream, peer)) => {
                connections.spawn(serve(stream, role, (local, peer), Arc::clone(&status)));
                reserve = reserve.or_else(Reserve::take);
            }
            // Asked again at once, now that one descriptor is free.
            Err(_) if reserve.take().is_some() => {}
            Err(_) => {
                at_most(PAUSE, std::future::pending::<()>()).await;
            }
        }
    }
}

/// A descriptor that is kept for the moment when the traffic has taken all others: just then operators want to look.
struct Reserve(#[expect(dead_code, reason = "held, not used")] File);

impl Reserve {
    fn take() -> Option<Self> {
        File::open("/dev/null").ok().map(Self)
    }
}

async fn serve(stream: TcpStream, role: Role, (local, peer): (SocketAddr, SocketAddr), status: Arc<Status>) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let status = Arc::clone(&status);
        async move {
            let (head, body) = request.into_parts();
            let reply = match collect(&head.method, body).await {
                Ok(body) => routes::answer(&Asked { role, local: local.ip(), peer, head: &head, body: &body }, &status),
                Err((code, word)) => routes::error(code, word, "the body could not be read"),
            };
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks off has nothing more to hear from us, and one that stays for ever has had enough.
    at_most(CONNECTION_LIFE, connection).await;
}

/// The whole body, where the method has one.
async fn collect(method: &Method, body: Incoming) -> Result<Bytes, (StatusCode, &'static str)> {
    if *method == Method::GET || *method == Method::HEAD {
        return Ok(Bytes::new());
    }
    let collected = at_most(BODY_TIMEOUT, Limited::new(body, BODY_BYTES).collect()).await;
    match collected.ok_or((StatusCode::REQUEST_TIMEOUT, "timeout"))? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err((StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")),
        Err(_) => Err((StatusCode::BAD_REQUEST, "bad_body")),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::clock::Clock;
    use tidegate_proxy::Upstreams;
    use tidegate_proxy::telemetry::Metrics;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn config(beside: &str) -> Config {
        let yaml = format!("{beside}\nroutes: [{{ match: {{ path: / }}, respond: {{ status: 200 }} }}]\n");
        tidegate_config::from_yaml(&yaml).expect("valid").config
    }

    fn listeners() -> Listeners {
        Listeners::new(Status::new(Metrics::new(), Upstreams::new(Clock::System), Clock::System))
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("answered");
        reply
    }

    #[tokio::test]
    async fn listeners_come_stay_and_go_with_the_configuration() {
        let mut listeners = listeners();
        let both = config("admin: { host: 127.0.0.1, port: 0 }\nstatus: { host: 127.0.0.1, port: 0 }");
        let prepared = listeners.prepare(&both).expect("ports");
        let added = listeners.adopt(prepared).expect("served");
        let [(Role::Admin, admin), (Role::Status, status)] = added[..] else { panic!("{added:?}") };
        assert!(get(admin, "/healthz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(status, "/config").await.starts_with("HTTP/1.1 404 "));

        let admin_alone = config("admin: { host: 127.0.0.1, port: 0 }");
        let prepared = listeners.prepare(&admin_alone).expect("nothing to bind");
        assert_eq!(listeners.adopt(prepared).expect("nothing to serve"), []);
        assert_eq!(listeners.addresses().collect::<Vec<_>>(), [(Role::Admin, admin)]);
        assert!(get(admin, "/healthz").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_and_nothing_is_opened() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let listeners = listeners();
        let both =
            config(&format!("admin: {{ host: 127.0.0.1, port: 0 }}\nstatus: {{ host: 127.0.0.1, port: {port} }}"));
        let Err(error) = listeners.prepare(&both) else { panic!("the port is taken") };
        assert!(error.to_string().starts_with(&format!("the status listener cannot listen on 127.0.0.1:{port}: ")));
        assert_eq!(listeners.addresses().count(), 0);
    }
}
