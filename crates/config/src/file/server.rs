//! `server`, `admin`, `status` and `log`, as written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::value::{Cidr, Duration, FieldName, Invalid, Name, Rate, Share, Size, text_value};

/// The side of the clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerFile {
    /// The address to listen on, when there is one listener. `localhost` is both of its addresses, `::` is IPv6 and IPv4.
    pub host: Option<String>,
    /// The port to listen on, when there is one listener. 0 lets the system choose.
    pub port: Option<u16>,
    /// TLS for the one listener. Absent is plain HTTP. HTTP/2 is spoken by ALPN, and on plain listeners by prior knowledge.
    pub tls: Option<TlsFile>,
    /// Several listeners, instead of `host`, `port` and `tls`.
    #[serde(default)]
    pub listeners: Vec<ListenerFile>,
    /// How many worker threads serve requests: `auto` is one per core.
    pub workers: Option<Workers>,
    /// How long a client connection may stay in each state.
    pub timeouts: Option<TimeoutsFile>,
    /// How much a client may ask for.
    pub limits: Option<LimitsFile>,
    /// Memory of a connection in each direction. Bodies stream, they are never collected whole.
    pub buffers: Option<BuffersFile>,
    /// Peers that may say who the client is, with `X-Forwarded-*` and `Forwarded`. Nobody by default. The addresses in the header are
    /// walked from the right, up to the first that is not trusted. They are exempt from `connections_per_client`.
    #[serde(default)]
    pub trusted_proxies: Vec<Cidr>,
    /// The id that every request has.
    pub request_id: Option<RequestIdFile>,
    /// Where this gateway stands, for instance a data centre. Endpoints of the same zone go first.
    pub zone: Option<Name>,
    /// Every route must say who may call: one without `auth` is a mistake, unless it says `auth: none`.
    pub require_auth: Option<bool>,
}

/// One listener.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerFile {
    /// The name for `match: { listener: ... }` and for metrics. By default `listener-1`, `listener-2` and so on.
    pub name: Option<Name>,
    /// The address to listen on. `localhost` is both of its addresses, `::` is IPv6 and IPv4.
    pub host: Option<String>,
    /// The port to listen on. 0 lets the system choose.
    pub port: Option<u16>,
    /// TLS. Absent is plain HTTP.
    pub tls: Option<TlsFile>,
    /// Every connection begins with a PROXY protocol header, version 1 or 2, which names the client.
    pub proxy_protocol: Option<bool>,
    /// Every request is redirected to https (308): the same host and target, at port 443.
    pub http_to_https: Option<bool>,
}

/// TLS towards clients.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFile {
    /// Certificates with their keys. The client's SNI chooses, exact names before wildcards; the first is for everybody else.
    #[serde(default)]
    pub certificates: Vec<CertificateFile>,
    /// The oldest version that is spoken.
    pub min_version: Option<VersionFile>,
    /// A PEM file with the authorities that sign client certificates.
    pub client_ca: Option<String>,
    /// Whether clients show a certificate.
    pub client_auth: Option<ClientAuthFile>,
}

/// A certificate with its key. Both files are read again when they change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateFile {
    /// A PEM file with the certificate, followed by those of its issuers.
    pub cert: Option<String>,
    /// A PEM file with the private key.
    pub key: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum VersionFile {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAuthFile {
    /// Clients are not asked.
    Off,
    /// Clients are asked; one without a certificate may go on, and routes can tell.
    Optional,
    /// A client without a valid certificate is turned away.
    Required,
}

/// How long a client connection may stay in each state. `off` is no limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeoutsFile {
    /// For the TLS handshake. Cannot be `off`.
    pub handshake: Option<Duration>,
    /// For a whole request head. For the first on a connection it begins with the connection and holds what comes before the head (a
    /// PROXY protocol header, the preface of HTTP/2) but not the TLS handshake; for later ones with their first byte. Cannot be `off`.
    pub header: Option<Duration>,
    /// The longest silence while a request's body is awaited.
    pub body_idle: Option<Duration>,
    /// The longest stall of a client that takes its answer.
    pub write_idle: Option<Duration>,
    /// Between two requests.
    pub idle: Option<Duration>,
    /// The longest silence of upgraded connections, gRPC and event streams, instead of the shorter ones.
    pub stream_idle: Option<Duration>,
    /// On shutdown, between failing readiness and no longer accepting: time for load balancers to notice.
    pub drain_delay: Option<Duration>,
    /// On shutdown, how long requests under way may take to finish.
    pub drain: Option<Duration>,
}

/// How much a client may ask for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsFile {
    /// The size of a request's head. Cannot be `off`.
    pub header_bytes: Option<Size>,
    /// The number of header fields. Cannot be `off`.
    pub headers: Option<u32>,
    /// The length of the request's target. Cannot be `off`.
    pub uri_bytes: Option<Size>,
    /// The size of a request's body. `off` is no limit; a route may say otherwise.
    pub body: Option<Size>,
    /// Connections in all. `off` is no limit.
    pub connections: Option<u32>,
    /// Connections from one address. `off` is no limit.
    pub connections_per_client: Option<u32>,
    /// Requests at the same time on one HTTP/2 connection. Cannot be `off`.
    pub streams: Option<u32>,
    /// The least that a slow client must send or take, after 10 s of grace and only while the gateway waits for that client. Streams are
    /// exempt. `off` is no limit.
    pub min_rate: Option<Rate>,
}

/// Memory of a connection in each direction.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuffersFile {
    /// What a connection begins to read a head with; grows up to `limits.header_bytes`.
    pub head: Option<Size>,
    /// What a body streams through, but for large replies that clients take as they come: those are read 128 KB at a time, into no more
    /// than 8 such buffers for each worker.
    pub body: Option<Size>,
}

/// The id that every request has, that the service and the client are told, and that the log shows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestIdFile {
    /// The header that carries it.
    pub header: Option<FieldName>,
    /// Whose id is taken over.
    pub accept: Option<AcceptFile>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AcceptFile {
    /// That of trusted proxies.
    Trusted,
    /// Anybody's.
    Any,
    /// Nobody's: there is always a new one.
    Never,
}

/// `auto` or a number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workers {
    Auto,
    Count(std::num::NonZeroUsize),
}

impl std::str::FromStr for Workers {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse::<std::num::NonZeroUsize>() {
            Ok(count) if count.get() <= 1024 => Ok(Self::Count(count)),
            _ => Err(Invalid::new(format!("expected `auto` or a number of threads from 1 to 1024, found `{text}`"))),
        }
    }
}

text_value!(Workers, "`auto` or a number of threads", {
    "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }]
});

/// The listener for operators.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminFile {
    /// The address to listen on. Beyond loopback it takes a token.
    pub host: Option<String>,
    /// The port to listen on.
    pub port: Option<u16>,
    /// What callers show as `Authorization: Bearer ...`. Take it from the environment or a file: `${TIDEGATE_ADMIN_TOKEN:-}`. An
    /// empty one is none: then only loopback is listened on, and nothing can be changed.
    pub token: Option<String>,
}

/// The listener for probes and scrapers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatusFile {
    /// The address to listen on.
    pub host: Option<String>,
    /// The port to listen on.
    pub port: Option<u16>,
}

/// What is logged.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogFile {
    /// How much the gateway tells about itself, on standard error.
    pub level: Option<LevelFile>,
    /// One line for each request. Off unless written; `on` and `{}` are the defaults.
    pub access: Option<AccessFile>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LevelFile {
    Debug,
    Info,
    Warn,
    Error,
}

/// One line for each request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccessFile {
    /// How a line looks.
    pub format: Option<FormatFile>,
    /// `stdout`, `stderr` or the name of a file, which is opened anew on SIGHUP.
    pub to: Option<String>,
    /// Which share of the requests is logged.
    pub sample: Option<Share>,
    /// Headers whose values are never logged.
    #[serde(default)]
    pub redact: Vec<FieldName>,
    /// Headers of the request to log besides what is always there.
    #[serde(default)]
    pub headers: Vec<FieldName>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FormatFile {
    /// A JSON object.
    Json,
}
