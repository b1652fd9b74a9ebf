//! `services`: where requests go, and what happens when an endpoint is slow, sick or gone.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::{Certificate, FileText, Respond, Secret};
use crate::problem::Path;

/// Where requests go.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// What routes call it.
    pub name: Arc<str>,
    /// Those that are written; others may be discovered. At least one, or a `discovery`.
    pub endpoints: Vec<Endpoint>,
    /// Where more endpoints come from.
    pub discovery: Option<Discovery>,
    /// What is spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// TLS towards `https` endpoints.
    pub tls: UpstreamTls,
    /// How long the service may take for each step.
    pub timeouts: ServiceTimeouts,
    /// Connections that are kept.
    pub pool: Pool,
    /// Which endpoint takes the next request.
    pub balancing: Balancing,
    /// Active checks; `None` is `off`, the default.
    pub health: Option<HealthCheck>,
    /// Passive checks; on unless `off`.
    pub outliers: Option<OutlierDetection>,
    /// How long an endpoint that came back takes to get its full share; zero is at once, the default.
    pub slow_start: Duration,
    /// Below this share of endpoints in service, those that are unhealthy or ejected are used too; `None` is never, the default.
    pub panic_threshold: Option<f64>,
    /// `None` is `off`, the default.
    pub breaker: Option<CircuitBreaker>,
    /// On unless `off`. Routes may have their own.
    pub retry: Option<Retry>,
    /// `None` is `off`, the default.
    pub hedge: Option<Hedge>,
    /// How many requests at once; `None` is no limit, the default.
    pub concurrency: Option<Concurrency>,
    /// What answers when no endpoint can; `None` is an error.
    pub fallback: Option<Fallback>,
    /// The field that tells the service how many milliseconds are left for its answer; `None` is `off`, the default.
    pub deadline_header: Option<Arc<str>>,
    /// Where it was written.
    pub at: Path,
}

/// One address of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `https`.
    pub tls: bool,
    /// A name or an address; IPv6 without brackets.
    pub host: Arc<str>,
    /// From 1.
    pub port: u16,
    /// What the `Host` field and `:authority` say when the client's own is not kept: `host` or `host:port`, bracketed as needed.
    pub authority: Arc<str>,
    /// 0 takes no new requests.
    pub weight: u32,
    /// Where it stands. Endpoints of the gateway's own zone (`server.zone`) go first.
    pub zone: Option<Arc<str>>,
    /// Its tier: 0 goes first, the next takes over when no endpoint of it is in service.
    pub priority: u32,
}

/// What is spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1 on plain connections; what ALPN says on TLS.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge on plain connections.
    Http2,
}

/// TLS towards endpoints.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpstreamTls {
    /// PEM; `None` trusts the system's authorities.
    pub ca: Option<FileText>,
    /// Name to verify and to send as SNI instead of the endpoint's host.
    pub server_name: Option<Arc<str>>,
    /// Chain and key, PEM.
    pub client: Option<Certificate>,
}

/// How long a service may take for each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceTimeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// Longest silence of the upstream while an answer is awaited or under way.
    pub read: Duration,
    /// Longest stall of the upstream in taking the request.
    pub write: Duration,
}

/// Limits on connections to each endpoint, for the whole process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// How many may wait for a request.
    pub max_idle: usize,
    /// How long one may wait for a request.
    pub idle_timeout: Duration,
    /// 0 is no limit.
    pub max_connections: usize,
    /// Zero is no limit.
    pub max_age: Duration,
    /// 0 is no limit.
    pub max_requests: u64,
}

/// Which endpoint takes the next request: `load_balancing`.
#[derive(Debug, Clone, PartialEq)]
pub enum Balancing {
    /// In turn, by weight.
    RoundRobin,
    /// The one with the fewest requests in flight, relative to its weight.
    LeastConnections,
    /// The one that would answer soonest: peak EWMA of its latency, times what it has in flight.
    LeastTime,
    /// The less busy of two taken at random.
    PowerOfTwo,
    /// At random, by weight.
    Random,
    /// By the client's address.
    IpHash,
    /// The same key goes to the same endpoint, and few keys move when endpoints come and go.
    ConsistentHash(Key),
    /// A signed cookie names the endpoint.
    StickyCookie(StickyCookie),
}

/// What of a request is hashed: `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path:PARAMETER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The client's address after trusted proxies.
    ClientIp,
    /// A field's first value; lower case.
    Header(Arc<str>),
    /// A cookie's value.
    Cookie(Arc<str>),
    /// A query parameter's first value.
    Query(Arc<str>),
    /// A parameter of the route's path.
    Path(Arc<str>),
}

/// `load_balancing: { sticky_cookie: ... }`.
#[derive(Debug, Clone, PartialEq)]
pub struct StickyCookie {
    /// The cookie's name; default `tg`.
    pub name: Arc<str>,
    /// What it is signed with; `None` is a new secret at every start, so that a restart mixes clients anew.
    pub secret: Option<Secret>,
    /// `Max-Age`; `None` is a cookie of the browser's session.
    pub max_age: Option<Duration>,
}

/// `health`: active checks. `{}` is on with the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    /// What is sent and expected; default `http: { path: /health }`.
    pub probe: Probe,
    /// Instead of the endpoint's own port.
    pub port: Option<u16>,
    /// Time between checks of an endpoint; default 30 s.
    pub interval: Duration,
    /// For one check, connection and all; default 5 s.
    pub timeout: Duration,
    /// Failures in a row before the endpoint is unhealthy; default 3.
    pub retries: u32,
    /// Successes in a row before it is healthy again; default 1.
    pub rise: u32,
    /// The longest time between checks of an endpoint that stays down; default 5 min.
    pub backoff_max: Duration,
}

/// What an active check does.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// A request and its status.
    Http(HttpProbe),
    /// A connection, with TLS where the endpoint has it.
    Tcp,
    /// `grpc.health.v1.Health/Check` of this service name, which may be empty.
    Grpc(Arc<str>),
}

/// `health.http`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// Path and query; default `/health`.
    pub path: Arc<str>,
    /// Default `GET`.
    pub method: Method,
    /// Further fields; a `host` among them replaces the endpoint's authority.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// Statuses that are well; default 200-399.
    pub expect: Statuses,
    /// What the first 64 KB of the body must contain.
    pub body: Option<Arc<str>>,
}

/// A set of statuses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statuses(pub Vec<RangeInclusive<u16>>);

impl Statuses {
    /// Whether it holds `status`.
    #[inline]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

/// `outlier_detection`: endpoints are taken out for a while by what real requests meet.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierDetection {
    /// So many failures in a row (5xx, resets, timeouts, failed connections); default 5.
    pub consecutive_errors: Option<u32>,
    /// This share of failures among at least `min_requests` of the last ten seconds; default 50 %.
    pub failure_ratio: Option<f64>,
    /// Below this the ratio and the latency are not judged; default 10.
    pub min_requests: u32,
    /// So many times slower than the median of the service's endpoints, or silent for that long; default 5.
    pub slow_factor: Option<f64>,
    /// For the first time so long, for the n-th time in a row n times as long; default 30 s.
    pub eject: Duration,
    /// The longest ejection; default 5 min.
    pub max_eject: Duration,
    /// Never more than this share of the endpoints; at least one may be ejected if there are two. Default 50 %.
    pub max_ejected: f64,
}

/// `circuit_breaker`. `{}` is on with the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct CircuitBreaker {
    /// What opens it.
    pub trip: Trip,
    /// How long it stays open before trials; default 30 s.
    pub open: Duration,
    /// Trials that are let through half open, all of which must succeed to close it; default 3.
    pub half_open_requests: u32,
    /// One for each endpoint (the default), or one for the service.
    pub per: BreakerScope,
    /// What counts as a failure; default connect, reset, timeout and 5xx.
    pub failures: Conditions,
}

/// What opens a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trip {
    /// A share of failures in a rolling window.
    Ratio {
        /// Default 60 %.
        share: f64,
        /// Default 3.
        min_requests: u32,
        /// Default 60 s.
        window: Duration,
    },
    /// So many in a row.
    Consecutive(u32),
}

/// Whose failures open a breaker, and who is kept from requests then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerScope {
    /// One endpoint.
    Endpoint,
    /// The whole service.
    Service,
}

/// Kinds of failures: `[connect, reset, timeout, 5xx, 502]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// No connection: refused, unreachable, unresolved, not in time.
    pub connect: bool,
    /// The connection broke before the reply was whole, or the reply was malformed.
    pub reset: bool,
    /// The endpoint was silent for too long.
    pub timeout: bool,
    /// Replies with these statuses.
    pub statuses: Statuses,
}

/// `retry`. On unless `off`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries in all; default 2.
    pub attempts: u32,
    /// What is tried again; default connect, reset, 502, 503, 504. A try that ran into `per_try_timeout` counts as 504.
    pub on: Conditions,
    /// Which methods may be tried again after the endpoint may have seen the request; default the idempotent ones.
    pub methods: RetryMethods,
    /// For one try, up to the reply's head; `None` is the route's timeout alone.
    pub per_try_timeout: Option<Duration>,
    /// The first wait is a random part of this; default 25 ms.
    pub backoff_base: Duration,
    /// No wait is longer; default 250 ms.
    pub backoff_max: Duration,
    /// Retries (and hedges) as a share of the requests in the last ten seconds; default 20 %.
    pub budget: f64,
    /// So many retries a second are always allowed; default 3.
    pub budget_floor: u32,
    /// The longest request body that is kept for another try; default 64 KB.
    pub buffer: u64,
}

/// Which methods may be sent twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryMethods {
    /// Those that RFC 9110, 9.2.2, calls idempotent.
    Idempotent,
    /// Every one: the service can tell repetitions.
    All,
}

/// `hedge`: a second try beside the first one when that is slow. Idempotent methods only, and within the retry budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hedge {
    /// After a fixed time.
    After(Duration),
    /// After the time that this share of the service's requests took less than: 0.95 for `p95`.
    Percentile(f64),
}

/// `concurrency`: requests of a service that may be under way at once, in the whole gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concurrency {
    /// At least 1.
    pub max: usize,
    /// How many may wait for a place; default 0.
    pub queue: usize,
    /// The longest wait; default 1 s.
    pub queue_timeout: Duration,
}

/// `fallback`: what answers when no endpoint can take the request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fallback {
    /// Another service, whose own fallback is not used.
    Service(Arc<str>),
    /// A fixed answer.
    Respond(Respond),
}

/// `discovery`: where endpoints come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// Names: A, AAAA or SRV records.
    Dns(DnsDiscovery),
    /// The health API of Consul.
    Consul(ConsulDiscovery),
    /// Keys below a prefix in etcd.
    Etcd(EtcdDiscovery),
    /// A file with a list of endpoints.
    File(PathBuf),
    /// `EndpointSlice` objects of a Kubernetes service.
    Kubernetes(KubernetesDiscovery),
    /// Endpoints register themselves at the admin listener.
    Registry(RegistryDiscovery),
}

impl Discovery {
    /// Whether all endpoints that it finds speak TLS, or none; `None` if each says so itself.
    pub fn endpoints_use_tls(&self) -> Option<bool> {
        match self {
            Self::Dns(dns) => Some(dns.tls),
            Self::Consul(consul) => Some(consul.endpoint_tls),
            Self::Kubernetes(kubernetes) => Some(kubernetes.endpoint_tls),
            Self::Etcd(_) | Self::File(_) | Self::Registry(_) => None,
        }
    }
}

/// `discovery.dns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsDiscovery {
    /// The name that is looked up.
    pub name: Arc<str>,
    /// For records that have no port. With SRV it is absent.
    pub port: Option<u16>,
    /// Which records; default A and AAAA.
    pub records: DnsRecords,
    /// Answers are used at least so long, whatever their TTL; default 5 s.
    pub min_ttl: Duration,
    /// Who is asked; empty is what `/etc/resolv.conf` names.
    pub servers: Vec<SocketAddr>,
    /// Whether the endpoints speak TLS; default no.
    pub tls: bool,
}

/// Record types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsRecords {
    /// A and AAAA.
    Addresses,
    /// A.
    A,
    /// AAAA.
    Aaaa,
    /// SRV: priority is the tier, and weight the weight.
    Srv,
}

/// How a discovery reaches its server.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiServer {
    /// The server's address.
    pub endpoint: Endpoint,
    /// TLS towards it, if it is `https`.
    pub tls: UpstreamTls,
}

/// `discovery.consul`.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsulDiscovery {
    /// Default `http://127.0.0.1:8500`.
    pub address: ApiServer,
    /// The service's name in Consul.
    pub service: Arc<str>,
    /// Only instances with this tag.
    pub tag: Option<Arc<str>>,
    /// Only instances whose checks pass; default yes.
    pub passing: bool,
    /// The key of the instance's metadata that holds its weight; default `weight`, and weight 1 without it.
    pub weight_from: Arc<str>,
    /// The longest time between two questions, and the longest wait of a blocking one; default 30 s.
    pub cache: Duration,
    /// The ACL token.
    pub token: Option<Secret>,
    /// Default the agent's own.
    pub datacenter: Option<Arc<str>>,
    /// Whether the endpoints speak TLS; default no.
    pub endpoint_tls: bool,
}

/// `discovery.etcd`: each value below the prefix is an endpoint in JSON, as in an endpoint file, or a bare URL.
#[derive(Debug, Clone, PartialEq)]
pub struct EtcdDiscovery {
    /// At least one; default `http://127.0.0.1:2379`. The next one is asked when one fails.
    pub addresses: Vec<ApiServer>,
    /// Where the keys begin, for instance `/services/search/`.
    pub prefix: Arc<str>,
    /// User and password.
    pub user: Option<(Arc<str>, Secret)>,
}

/// `discovery.kubernetes`.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesDiscovery {
    /// Default the pod's own.
    pub namespace: Option<Arc<str>>,
    /// The service's name.
    pub service: Arc<str>,
    /// A port's name or number; absent where the service has one port.
    pub port: Option<Arc<str>>,
    /// Default from `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, which `resolve` reads through the environment.
    pub api_server: Option<ApiServer>,
    /// Default `/var/run/secrets/kubernetes.io/serviceaccount/token`, read anew for every connection, since it rotates.
    pub token_file: PathBuf,
    /// Whether the endpoints speak TLS; default no.
    pub endpoint_tls: bool,
}

/// `discovery.registry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryDiscovery {
    /// Who does not renew within this time is dropped; default 30 s.
    pub ttl: Duration,
    /// Where registrations are kept across restarts; default `registry/<service>.json` beside the configuration.
    pub file: PathBuf,
}
