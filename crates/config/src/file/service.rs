//! `services`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::TextOr;
use crate::value::{Duration, Name};

/// Where requests go: one or several endpoints that are alike.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceFile {
    /// The one endpoint, the short form: `http://host:port` or `https://host`.
    pub url: Option<String>,
    /// Several endpoints: a URL each, or a mapping with a weight. Requests go round by weight.
    pub endpoints: Option<Vec<TextOr<EndpointFile>>>,
    /// What is spoken to the endpoints.
    pub protocol: Option<ProtocolFile>,
    /// TLS towards `https://` endpoints.
    pub tls: Option<UpstreamTlsFile>,
    /// How long the service may take for each step. `off` is no limit.
    pub timeouts: Option<ServiceTimeoutsFile>,
    /// Connections that are kept for the next request.
    pub pool: Option<PoolFile>,
}

/// One endpoint of a service.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointFile {
    /// `http://host:port` or `https://host:port`, without a path.
    pub url: Option<String>,
    /// Its share of the requests, against the other endpoints' weights. 1 unless written; 0 takes no new requests.
    pub weight: Option<u32>,
    /// Where it stands, for instance a data centre.
    pub zone: Option<Name>,
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
    /// How many may wait for a request.
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
