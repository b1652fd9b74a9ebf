//! What a route does to traffic besides sending it on, as written: `split`, `mirror`, `fault`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::route::ValueFile;
use super::service::{CookieName, KeyFile};
use super::{Entries, TextOr};
use crate::value::{Duration, FieldName, Name, Share, Size};

/// A split that keeps clients with their part.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitFile {
    /// What keeps a client with its part. With a cookie, the gateway sets one where there is none.
    pub sticky: Option<KeyFile>,
    /// The parts.
    #[serde(default)]
    pub parts: Vec<SplitPartFile>,
}

/// A part of a split.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitPartFile {
    /// The service.
    pub service: Option<Name>,
    /// Its share of the requests, against the other parts' weights. Unless written 1, and 0 where there is a `when`.
    pub weight: Option<u32>,
    /// Requests that this is true for go here, whatever the weights.
    pub when: Option<WhenFile>,
}

/// A condition on a request. All that is written must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhenFile {
    /// A header that is there.
    pub header: Option<FieldName>,
    /// A cookie that is there.
    pub cookie: Option<CookieName>,
    /// Headers: a value, `present`, `absent` or `{ regex: ... }`.
    pub headers: Option<Entries<FieldName, TextOr<ValueFile>>>,
    /// Cookies: a value, `present`, `absent` or `{ regex: ... }`.
    pub cookies: Option<Entries<String, TextOr<ValueFile>>>,
}

/// Sends a copy of requests to another service. Nobody waits for its answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MirrorFile {
    /// The service.
    pub service: Option<Name>,
    /// Of how many requests.
    pub share: Option<Share>,
    /// Copies that may be under way at once, on each worker. More are dropped and counted.
    pub max: Option<u32>,
    /// Requests with a longer body are not copied.
    pub buffer: Option<Size>,
}

/// Trouble on purpose, to see how clients take it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FaultFile {
    /// Wait so long first.
    pub delay: Option<Duration>,
    /// Then answer with this status instead of the service.
    pub abort: Option<u16>,
    /// For how many requests.
    pub share: Option<Share>,
    /// Only for requests that this is true for.
    pub when: Option<WhenFile>,
}
