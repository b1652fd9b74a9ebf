//! `retry` and `hedge`, as written: requests that are sent more than once.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::ConditionFile;
use crate::value::{Duration, Invalid, PerSecond, Share, Size, text_value};

/// Tries again, with another endpoint where there is one. On unless `off`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryFile {
    /// Tries in all, the first one included.
    pub attempts: Option<u32>,
    /// What is tried again: `connect`, `reset`, `timeout`, statuses such as `502` and classes such as `5xx`.
    #[serde(default)]
    pub on: Vec<ConditionFile>,
    /// Which methods may be sent again once the endpoint may have seen the request.
    pub methods: Option<RetryMethodsFile>,
    /// For one try, up to the head of its answer. `off` leaves it to the route's `timeout`.
    pub per_try_timeout: Option<Duration>,
    /// The wait before another try. `off` is none.
    pub backoff: Option<BackoffFile>,
    /// Retries as a share of the requests of the last ten seconds, so that they cannot double an outage.
    pub budget: Option<Share>,
    /// So many retries are allowed whatever the share.
    pub budget_floor: Option<PerSecond>,
    /// The longest body that is kept for another try.
    pub buffer: Option<Size>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RetryMethodsFile {
    /// Those that may be repeated by definition: GET, HEAD, OPTIONS, TRACE, PUT and DELETE.
    Idempotent,
    /// Every one: only where the service can tell repetitions.
    All,
}

/// The wait before another try: a random part of a time that doubles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackoffFile {
    /// The first wait is a random part of this.
    pub base: Option<Duration>,
    /// No wait is longer.
    pub max: Option<Duration>,
}

/// Sends a request that waits for long to a second endpoint too, and takes the answer that comes first. Idempotent methods only, and
/// within the budget of `retry`. Off unless written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HedgeFile {
    /// When: after a time, or after the time that such a share of the service's requests took less than.
    pub after: Option<AfterFile>,
}

/// A time, or a percentile of latencies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AfterFile {
    Time(Duration),
    /// 0.5 to 0.999.
    Percentile(f64),
}

impl FromStr for AfterFile {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let Some(digits) = text.strip_prefix('p') else {
            return text.parse().map(Self::Time).map_err(|invalid: Invalid| match invalid.help {
                Some(help) => Invalid::new(invalid.message).help(format!("{help}; or a percentile such as `p95`")),
                None => invalid,
            });
        };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match digits.parse::<f64>().ok().filter(|percent| plain && (50.0..=99.9).contains(percent)) {
            Some(percent) => Ok(Self::Percentile(percent / 100.0)),
            None => Err(Invalid::new(format!("`{text}` is not a percentile that can be waited for"))
                .help("percentiles are `p50` to `p99.9`")),
        }
    }
}

text_value!(AfterFile, "a percentile such as `p95`, or a duration such as `200ms`", {
    "title": "percentile or duration",
    "type": "string",
    "description": "A percentile of the service's latencies, p50 to p99.9, or a span of time.",
    "pattern": "^p[0-9]+(\\.[0-9]+)?$|^[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d)$|\\$\\{",
    "examples": ["p95", "200ms"]
});
