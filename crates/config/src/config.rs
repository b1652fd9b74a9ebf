//! What the configuration means, after defaults, bundles, environment and checks. Holding one means that it was checked.
//! It does not say how anything is done: sockets, certificates and routing tables are made from it elsewhere.

mod service;
mod shaping;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use ipnet::IpNet;
use regex::Regex;

pub use self::service::*;
pub use self::shaping::*;
use crate::policy::Written;
use crate::problem::Path;
use crate::value::{HostPattern, PathPattern, Template};

/// A whole checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Listeners, limits and timeouts of the client side.
    pub server: Server,
    /// The admin listener (metrics, state); `None` when not configured.
    pub admin: Option<Admin>,
    /// The listener for probes and scrapers; `None` when not configured.
    pub status: Option<Vec<SocketAddr>>,
    /// What is logged, and where.
    pub log: Log,
    /// Services by name.
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
    /// Routes in the order written.
    pub routes: Vec<Arc<Route>>,
    /// What policies were told at the top of the file.
    pub policies: Vec<Written>,
    /// Every file that was read to make this, for the watcher: configuration, includes, certificates, secrets.
    pub files: Vec<PathBuf>,
    /// Include patterns with a `*`, for the watcher: a new file that one of them lists belongs to the configuration too.
    pub patterns: Vec<PathBuf>,
}

/// The client side: `server` in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// At least one.
    pub listeners: Vec<Listener>,
    /// Number of worker threads; `None` is one per core.
    pub workers: Option<NonZeroUsize>,
    /// How long each state of a connection may last.
    pub timeouts: ServerTimeouts,
    /// How much a client may ask for.
    pub limits: ServerLimits,
    /// Memory of a connection, per direction.
    pub buffers: Buffers,
    /// Peers that may set `X-Forwarded-*`.
    pub trusted_proxies: Vec<IpNet>,
    /// The id that every request has.
    pub request_id: RequestId,
    /// Where this gateway stands: endpoints of the same zone go first.
    pub zone: Option<Arc<str>>,
    /// Whether every route must say who may call, or that everybody may.
    pub require_auth: bool,
}

/// One entry of `server.listeners`, or the listener that `server.host` and `server.port` describe.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique. `default` for the short form; `listener-<n>` (from 1) where none is written.
    pub name: Arc<str>,
    /// What to bind: one address, or two for a dual-stack host such as `localhost`. Port 0 asks the system for one.
    pub addresses: Vec<SocketAddr>,
    /// `None` is plain HTTP.
    pub tls: Option<Arc<ListenerTls>>,
    /// Every connection begins with a PROXY protocol header (v1 or v2) that names the client.
    pub proxy_protocol: bool,
    /// Every request is redirected to https (308), whatever its route says.
    pub http_to_https: bool,
    /// Where it was written.
    pub at: Path,
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTls {
    /// At least one; chosen by SNI, exact names before wildcards; the first is the default.
    pub certificates: Vec<Certificate>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// PEM of the authorities that sign client certificates. Present when `client_auth` is not `Off`.
    pub client_ca: Option<FileText>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
}

/// A certificate chain and its key, both PEM.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// The chain, the leaf first.
    pub cert: FileText,
    /// The private key of the leaf.
    pub key: FileText,
    /// Where it was written.
    pub at: Path,
}

/// A file's path and what was in it when the configuration was read. `Debug` prints the path alone: it may be a key.
#[derive(Clone, PartialEq)]
pub struct FileText {
    /// Where it is.
    pub path: PathBuf,
    /// What was in it.
    pub bytes: Arc<[u8]>,
}

impl std::fmt::Debug for FileText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileText").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The oldest TLS version that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and later.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Clients are not asked.
    Off,
    /// Clients are asked; one without a certificate may go on.
    Optional,
    /// A client without a valid certificate is turned away.
    Required,
}

/// How long each state of a client connection may last. Defaults as in the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTimeouts {
    /// For the TLS handshake and the PROXY protocol header.
    pub handshake: Duration,
    /// From the first byte of a request head to its last: total, not per read.
    pub header: Duration,
    /// The longest silence while a request's body is awaited.
    pub body_idle: Duration,
    /// The longest stall of a client that takes its answer.
    pub write_idle: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// The longest silence of upgraded connections, gRPC and event streams.
    pub stream_idle: Duration,
    /// Between failing readiness and no longer accepting.
    pub drain_delay: Duration,
    /// For requests under way to finish.
    pub drain: Duration,
}

/// How much a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Number of header fields.
    pub headers: usize,
    /// Bytes of the request's target.
    pub uri_bytes: usize,
    /// Bytes of a request body; a route may say otherwise. `None` is no limit (`off`).
    pub body: Option<u64>,
    /// Connections in all; `usize::MAX` is `off`.
    pub connections: usize,
    /// Connections from one address; `usize::MAX` is `off`.
    pub connections_per_client: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: u32,
    /// Bytes per second, both ways; `None` is `off`.
    pub min_rate: Option<u64>,
}

/// Memory of a connection, per direction, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffers {
    /// Bytes that a connection begins to read a head with.
    pub head: usize,
    /// Bytes that a body streams through.
    pub body: usize,
}

/// The id that every request has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    /// The field's name as written, for instance `x-request-id`.
    pub header: Arc<str>,
    /// Whose id is taken over.
    pub accept: AcceptRequestId,
}

/// Whose request id is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptRequestId {
    /// That of trusted proxies.
    Trusted,
    /// Anybody's.
    Any,
    /// Nobody's.
    Never,
}

/// The listener for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// What to bind.
    pub addresses: Vec<SocketAddr>,
    /// Empty is none: loopback only, reads only.
    pub token: Option<Secret>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// How much the gateway tells about itself.
    pub level: Level,
    /// `None` is off.
    pub access: Option<AccessLog>,
}

/// How much the gateway tells about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What helps to find a fault.
    Debug,
    /// What operators want to know.
    Info,
    /// What may become a fault.
    Warn,
    /// What is one.
    Error,
}

/// One line for each request.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// How a line looks.
    pub format: AccessFormat,
    /// Where lines go.
    pub to: LogTarget,
    /// 0.0 to 1.0.
    pub sample: f64,
    /// Field names, lower case, whose values are never logged.
    pub redact: Vec<Arc<str>>,
    /// Request fields to log besides the fixed ones, lower case.
    pub headers: Vec<Arc<str>>,
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// One object per line.
    Json,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, opened anew on SIGHUP.
    File(PathBuf),
}

/// One rule: what it matches, and what happens then.
#[derive(Debug, Clone)]
pub struct Route {
    /// Unique; `route-<n>` (from 1) where none is written.
    pub name: Arc<str>,
    /// Goes before everything else: the higher one wins.
    pub priority: i32,
    /// Which requests.
    pub matches: Match,
    /// What happens to them.
    pub target: Target,
    /// What the service sees instead of what the client sent.
    pub rewrite: Rewrite,
    /// Up to the head of the reply; `None` is `off`.
    pub timeout: Option<Duration>,
    /// Bytes of a request body; `None` is no limit. The server's limit is already merged in.
    pub body_limit: Option<u64>,
    /// Whether a try is repeated; instead of what the service says.
    pub retry: RouteRetry,
    /// A copy of requests goes here.
    pub mirror: Option<Mirror>,
    /// Trouble on purpose.
    pub fault: Option<Fault>,
    /// Protocols that may be upgraded to, lower case; default `websocket`.
    pub upgrade: Vec<Arc<str>>,
    /// What its policies were told.
    pub policies: Vec<Written>,
    /// The keys of policies that only watch: what they would refuse goes on.
    pub shadow: Vec<Arc<str>>,
    /// Where it was written.
    pub at: Path,
}

/// Every condition that is present must hold. An empty list means no condition.
#[derive(Debug, Clone)]
pub struct Match {
    /// Any of these.
    pub hosts: Vec<HostPattern>,
    /// Absent in the file means everything: the prefix `/`.
    pub path: PathPattern,
    /// Empty is any. `GET` includes `HEAD` (added by the router, not here).
    pub methods: Vec<Method>,
    /// All of these.
    pub headers: Vec<FieldMatch>,
    /// All of these.
    pub query: Vec<FieldMatch>,
    /// All of these.
    pub cookies: Vec<FieldMatch>,
    /// Any of these, for the client's address after trusted proxies.
    pub client_ip: Vec<IpNet>,
    /// Listener names.
    pub listeners: Vec<Arc<str>>,
    /// Facts of the client's certificate. Any of each list.
    pub client_cert: Option<ClientCertMatch>,
}

/// A condition on a header, query parameter or cookie.
#[derive(Debug, Clone)]
pub struct FieldMatch {
    /// Lower case for headers; as written for query parameters and cookies.
    pub name: Arc<str>,
    /// What its value must be.
    pub is: ValueMatch,
}

/// What a value must be.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// Exactly this.
    Exact(Arc<str>),
    /// What the expression finds a match in.
    Regex(Regex),
    /// Anything, also nothing.
    Present,
    /// Not there.
    Absent,
}

/// What a client certificate must say; only where the listener asks for certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientCertMatch {
    /// The common name of the subject.
    pub subjects: Vec<Arc<str>>,
    /// Subject alternative names (DNS, URI, email), exact.
    pub sans: Vec<Arc<str>>,
}

/// What happens to a request that a route is found for.
#[derive(Debug, Clone)]
pub enum Target {
    /// A service, by name.
    Service(Arc<str>),
    /// Several services, each with a part of the requests.
    Split(Split),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The gateway answers itself.
    Respond(Respond),
}

/// Sends the client elsewhere.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// An absolute URL or a path.
    pub to: Template,
    /// 301, 302, 303, 307 or 308 (default).
    pub status: StatusCode,
}

/// An answer without a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Respond {
    /// The status of the answer.
    pub status: StatusCode,
    /// Its body; may be empty.
    pub body: Arc<[u8]>,
    /// `content-type` is here too: written, or `application/json` when the body is JSON, else `text/plain; charset=utf-8`.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
}

/// What the service sees instead of what the client sent.
#[derive(Debug, Clone, Default)]
pub struct Rewrite {
    /// The path.
    pub path: Option<PathRewrite>,
    /// The `Host` that the service sees; `None` keeps the client's.
    pub host: Option<Template>,
    /// Query parameters to set (replacing), in order.
    pub query_set: Vec<(Arc<str>, Template)>,
    /// Query parameters to remove.
    pub query_remove: Vec<Arc<str>>,
}

/// The path that the service sees.
#[derive(Debug, Clone)]
pub enum PathRewrite {
    /// Segment-wise; what is left begins with `/`.
    StripPrefix(Arc<str>),
    /// The whole path anew.
    Replace(Template),
}
