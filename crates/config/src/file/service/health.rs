//! `health` and `outlier_detection`, as written: how the state of endpoints is found out.

use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::route::MethodName;
use crate::file::shapes::Entries;
use crate::value::{Duration, FieldName, FieldText, Invalid, Share, text_value};

/// Active checks of every endpoint. Off unless written; `{}` is on with the defaults. One of `http`, `tcp` and `grpc`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthFile {
    /// A request, and the answer that is well. This is the default.
    pub http: Option<HttpProbeFile>,
    /// A connection is enough; with TLS, the handshake too.
    pub tcp: Option<TcpProbeFile>,
    /// The health service of gRPC.
    pub grpc: Option<GrpcProbeFile>,
    /// A port for checks, instead of the endpoint's own.
    pub port: Option<u16>,
    /// The time between checks of an endpoint.
    pub interval: Option<Duration>,
    /// For one check, connection and all.
    pub timeout: Option<Duration>,
    /// Failures in a row before an endpoint is unhealthy.
    pub retries: Option<u32>,
    /// Successes in a row before it is healthy again.
    pub rise: Option<u32>,
    /// Endpoints that stay down are checked ever less often. `off` keeps to `interval`.
    pub backoff: Option<HealthBackoffFile>,
}

/// A request, and the answer that is well.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpProbeFile {
    /// Path and query.
    pub path: Option<String>,
    /// The method.
    pub method: Option<MethodName>,
    /// Further fields of the request. `host` replaces that of the endpoint.
    pub headers: Option<Entries<FieldName, FieldText>>,
    /// Statuses that are well: any of a list of statuses, ranges such as `200-399` and classes such as `2xx`.
    #[serde(default)]
    pub expect: Vec<StatusRange>,
    /// A text that the first 64 KB of the body must contain.
    pub body: Option<String>,
}

/// A connection is enough.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpProbeFile {}

/// The health service of gRPC.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrpcProbeFile {
    /// The service that is asked for; empty is the server as a whole.
    pub service: Option<String>,
}

/// Endpoints that stay down are checked ever less often.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthBackoffFile {
    /// The longest time between checks.
    pub max: Option<Duration>,
}

/// Takes endpoints out for a while by what real requests meet. On unless `off`; each criterion may be `off` too.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutlierDetectionFile {
    /// So many failures in a row: 5xx, resets, timeouts, failed connections.
    pub consecutive_errors: Option<u32>,
    /// Such a share of failures in the last ten seconds.
    pub failure_ratio: Option<Share>,
    /// With fewer requests in that time, neither the ratio nor the latency is judged.
    pub min_requests: Option<u32>,
    /// So many times slower than the median of the service's endpoints.
    pub slow_factor: Option<f64>,
    /// How long for the first time; for the n-th time in a row n times as long.
    pub eject: Option<Duration>,
    /// The longest ejection.
    pub max_eject: Option<Duration>,
    /// Never more than this share of the endpoints.
    pub max_ejected: Option<Share>,
}

/// A status, a range of them, or a class.
#[derive(Debug, Clone)]
pub(crate) struct StatusRange(pub RangeInclusive<u16>);

impl FromStr for StatusRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(format!("`{text}` is neither a status nor a range of them"))
                .help("write `204`, `200-399` or `2xx`; statuses are 200 to 599")
        };
        let number = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (200..600).contains(status));
        let range = match (text.strip_suffix("xx"), text.split_once('-')) {
            (Some(class), _) => {
                let first = number(&format!("{class}00")).ok_or_else(wrong)?;
                first..=first + 99
            }
            (None, Some((first, last))) => number(first).ok_or_else(wrong)?..=number(last).ok_or_else(wrong)?,
            (None, None) => {
                let status = number(text).ok_or_else(wrong)?;
                status..=status
            }
        };
        if range.is_empty() {
            return Err(Invalid::new(format!("the range `{text}` ends before it begins")));
        }
        Ok(Self(range))
    }
}

text_value!(StatusRange, "a status such as `204`, or a range such as `200-399`", {
    "title": "status",
    "type": ["string", "integer"],
    "description": "A status, a range such as `200-399`, or a class such as `2xx`.",
    "examples": [204, "200-399", "2xx"]
});
