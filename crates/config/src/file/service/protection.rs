//! What protects a service and its clients from each other's trouble, as written: `circuit_breaker`, `concurrency`, `fallback`.

use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::StatusRange;
use crate::file::route::RespondFile;
use crate::value::{Duration, Invalid, Name, Share, closest, text_value};

/// Stops asking what keeps failing. Off unless written; `{}` is on with the defaults. It opens by `failure_ratio`, or by
/// `consecutive_failures`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CircuitBreakerFile {
    /// Opens when so many of the requests in `window` failed.
    pub failure_ratio: Option<Share>,
    /// With fewer requests in `window` the ratio is not judged.
    pub min_requests: Option<u32>,
    /// How far back the ratio looks, 1s to 1h.
    pub window: Option<Duration>,
    /// Opens after so many failures in a row, instead of by ratio.
    pub consecutive_failures: Option<u32>,
    /// How long it stays open before it lets trials through.
    pub open: Option<Duration>,
    /// Trials, all of which must succeed to close it.
    pub half_open_requests: Option<u32>,
    /// Whether each endpoint has one, or the service has one for all.
    pub per: Option<BreakerScopeFile>,
    /// What counts as a failure: `connect`, `reset`, `timeout`, statuses such as `502` and classes such as `5xx`.
    #[serde(default)]
    pub failures: Vec<ConditionFile>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BreakerScopeFile {
    /// One for each endpoint.
    Endpoint,
    /// One for all of them.
    Service,
}

/// A kind of failure.
#[derive(Debug, Clone)]
pub(crate) enum ConditionFile {
    Connect,
    Reset,
    Timeout,
    Statuses(RangeInclusive<u16>),
}

impl FromStr for ConditionFile {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "connect" => return Ok(Self::Connect),
            "reset" => return Ok(Self::Reset),
            "timeout" => return Ok(Self::Timeout),
            _ => {}
        }
        let Ok(StatusRange(range)) = text.parse() else {
            let invalid = Invalid::new(format!("`{text}` is no kind of failure"));
            return Err(match closest(text, ["connect", "reset", "timeout"]) {
                Some(close) => invalid.help(format!("did you mean `{close}`?")),
                None => invalid
                    .help("there are `connect`, `reset`, `timeout`, statuses such as `502` and classes such as `5xx`"),
            });
        };
        if *range.start() < 400 {
            return Err(Invalid::new(format!("`{text}` is no failure")).help("failures are statuses from 400 to 599"));
        }
        Ok(Self::Statuses(range))
    }
}

text_value!(ConditionFile, "a kind of failure such as `reset` or `5xx`", {
    "title": "failure",
    "type": ["string", "integer"],
    "description": "`connect`, `reset`, `timeout`, a status such as `502`, or a class such as `5xx`.",
    "examples": ["connect", "reset", "timeout", "5xx", 502]
});

/// Requests that may be under way at once, in the whole gateway. Off unless written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConcurrencyFile {
    /// How many.
    pub max: Option<u32>,
    /// How many more may wait for a place.
    pub queue: Option<u32>,
    /// The longest wait.
    pub queue_timeout: Option<Duration>,
}

/// What answers when no endpoint can. Exactly one key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FallbackFile {
    /// The gateway answers itself.
    pub respond: Option<RespondFile>,
    /// Another service answers. Its own fallback is not used then.
    pub service: Option<Name>,
}
