//! `services`, as written.

mod balancing;
mod discovery;
mod health;
mod protection;
mod retry;

use schemars::JsonSchema;
use serde::Deserialize;

pub use self::balancing::KeyFile;
pub(crate) use self::balancing::{BalancingFile, CookieName, StickyCookieFile, StrategyFile};
pub(crate) use self::discovery::{
    ConsulFile, DiscoveryFile, DnsFile, DnsRecordsFile, EtcdFile, KubernetesFile, RegistryFile,
};
pub(crate) use self::health::{HealthFile, HttpProbeFile, OutlierDetectionFile, StatusRange};
pub(crate) use self::protection::{BreakerScopeFile, CircuitBreakerFile, ConcurrencyFile, ConditionFile, FallbackFile};
pub(crate) use self::retry::{AfterFile, HedgeFile, RetryFile, RetryMethodsFile};
use super::TextOr;
use crate::value::{Duration, FieldName, Name, Share};

/// Where requests go: one or several endpoints that are alike.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceFile {
    /// The one endpoint, the short form: `http://host:port` or `https://host`.
    pub url: Option<String>,
    /// Several endpoints: a URL each, or a mapping with a weight.
    pub endpoints: Option<Vec<TextOr<EndpointFile>>>,
    /// Where more endpoints come from.
    pub discovery: Option<DiscoveryFile>,
    /// What is spoken to the endpoints.
    pub protocol: Option<ProtocolFile>,
    /// TLS towards `https://` endpoints.
    pub tls: Option<UpstreamTlsFile>,
    /// How long the service may take for each step. `off` is no limit.
    pub timeouts: Option<ServiceTimeoutsFile>,
    /// Connections that are kept for the next request.
    pub pool: Option<PoolFile>,
    /// Which endpoint takes the next request. `round_robin` and `weighted` are the same: in turn, by weight.
    pub load_balancing: Option<TextOr<BalancingFile, StrategyFile>>,
    /// Active checks of every endpoint. Off unless written; `{}` is on with the defaults.
    pub health: Option<HealthFile>,
    /// Takes endpoints out for a while by what real requests meet. On unless `off`.
    pub outlier_detection: Option<OutlierDetectionFile>,
    /// How long an endpoint that came back takes to get its full share. Off unless written.
    pub slow_start: Option<Duration>,
    /// With a smaller share of endpoints in service, those that are unhealthy or ejected are used too. Off unless written.
    pub panic_threshold: Option<Share>,
    /// Stops asking what keeps failing. Off unless written; `{}` is on with the defaults.
    pub circuit_breaker: Option<CircuitBreakerFile>,
    /// Tries again, with another endpoint where there is one. On unless `off`.
    pub retry: Option<RetryFile>,
    /// Sends a request that waits for long to a second endpoint too. Off unless written; `{}` is on with the defaults.
    pub hedge: Option<HedgeFile>,
    /// Requests that may be under way at once. Off unless written.
    pub concurrency: Option<ConcurrencyFile>,
    /// What answers when no endpoint can. Off unless written.
    pub fallback: Option<FallbackFile>,
    /// The header that tells the service how many milliseconds are left for its answer. Off unless written; `on` is
    /// `x-request-timeout-ms`.
    pub deadline_header: Option<FieldName>,
}

/// One endpoint of a service.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointFile {
    /// `http://host:port` or `https://host:port`, without a path.
    pub url: Option<String>,
    /// Its share of the requests, against the other endpoints' weights. 1 unless written; 0 takes no new requests.
    pub weight: Option<u32>,
    /// Where it stands, for instance a data centre. Endpoints of the gateway's own zone (`server.zone`) go first.
    pub zone: Option<Name>,
    /// Its tier. 0 unless written, and first; the next tier takes over when no endpoint of the one before is in service.
    pub priority: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProtocolFile {
    /// HTTP/1.1 on plain connections; what both sides prefer on TLS.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, on plain connections too: what gRPC needs.
    Http2,
}

/// TLS towards `https://` endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamTlsFile {
    /// A PEM file with the authorities to trust, instead of the system's.
    pub ca: Option<String>,
    /// The name that the certificate must have and that is sent as SNI, instead of the endpoint's host.
    pub server_name: Option<String>,
    /// A PEM file with the certificate that the gateway shows.
    pub client_cert: Option<String>,
    /// A PEM file with the key of `client_cert`.
    pub client_key: Option<String>,
}

/// How long a service may take for each step. `off` is no limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceTimeoutsFile {
    /// For a connection, TLS included. Cannot be `off`.
    pub connect: Option<Duration>,
    /// The longest silence while an answer is awaited or under way.
    pub read: Option<Duration>,
    /// The longest stall in taking a request.
    pub write: Option<Duration>,
}

/// Connections that are kept, for each endpoint and the whole gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoolFile {
    /// How many may wait for a request for longer than a moment.
    pub max_idle: Option<u32>,
    /// How long one may wait for a request.
    pub idle_timeout: Option<Duration>,
    /// How many there may be in all; 0 is no limit.
    pub max_connections: Option<u32>,
    /// How old one may get; 0s is no limit.
    pub max_age: Option<Duration>,
    /// How many requests one may serve; 0 is no limit.
    pub max_requests: Option<u64>,
}
