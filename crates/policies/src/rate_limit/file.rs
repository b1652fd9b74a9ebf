//! Limits as written, and what is meant by them.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::config::Key as RequestKey;
use tidegate_config::policy::{AnyText, Entries, Reading, TextOr};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{self, Cidr, Name, RequestRate};
use tidegate_core::limiter::{Algorithm, Limit, Rate, TooMany};

use super::key::{Part, Prefixes};

/// Limits by name.
pub(crate) type LimitsFile = Entries<Name, Option<LimitFile>>;

/// How much may be asked for: `rate` in a time, or `concurrency` at once.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitFile {
    /// Requests per time: `10/s`, `600/m`, `1000/h`, `1/d`. A bare number is per second.
    rate: Option<RequestRate>,
    /// Requests that may come at once after a pause; by default as many as `rate` allows in its time. For `token_bucket` only.
    burst: Option<u64>,
    /// Requests that may be under way at once, instead of `rate`.
    concurrency: Option<u32>,
    /// What is counted by, each by itself: `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path:PARAMETER`, `identity`,
    /// `identity.tenant` or `claims.NAME`; several of them together make one key. Without it all requests count together. Who lacks what is
    /// counted by counts by their address.
    #[serde(default)]
    key: Vec<Part>,
    /// How it is counted.
    algorithm: Option<AlgorithmFile>,
    /// What is done about a request beyond the limit.
    mode: Option<ModeFile>,
    /// With `mode: delay`: who would have to wait for longer is refused.
    max_delay: Option<value::Duration>,
    /// What a request counts: a number, or a mapping of methods to numbers, in which others count 1.
    weight: Option<TextOr<Entries<String, u32>>>,
    /// Whom it is not for.
    exempt: Option<ExemptFile>,
    /// Bits of an IPv4 address that tell clients apart.
    ipv4_prefix: Option<u8>,
    /// Bits of an IPv6 address that tell clients apart.
    ipv6_prefix: Option<u8>,
}

/// Whom a limit is not for: any of these.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExemptFile {
    /// Clients with these addresses.
    #[serde(default)]
    client_ip: Vec<Cidr>,
    /// These users.
    #[serde(default)]
    users: Vec<String>,
    /// Users with one of these roles.
    #[serde(default)]
    roles: Vec<String>,
}

/// How it is counted.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AlgorithmFile {
    /// A bucket of `burst` tokens that is refilled evenly at the rate.
    TokenBucket,
    /// This window and the part of the last one that has not slid out.
    SlidingWindow,
    /// Exactly the rate in any window; for small rates.
    SlidingLog,
    /// Anew with every second, minute, hour or day (UTC): for quotas.
    FixedWindow,
}

/// What is done about a request beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ModeFile {
    /// It is refused.
    Enforce,
    /// It is counted and logged, and passes.
    Shadow,
    /// It waits until it is within the limit.
    Delay,
}

/// A limit, checked.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    pub(crate) what: What,
    pub(crate) parts: Vec<Part>,
    pub(crate) prefixes: Prefixes,
    pub(crate) mode: ModeFile,
    pub(crate) max_delay: Duration,
    pub(crate) weights: Weights,
    pub(crate) exempt: Exempt,
    pub(crate) at: Path,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Rate(Limit),
    Concurrency(u32),
}

/// What requests count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weights {
    every: Option<u64>,
    methods: Vec<(Method, u64)>,
}

/// Whom a limit is not for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exempt {
    pub(crate) client_ip: Vec<Cidr>,
    pub(crate) users: Vec<Arc<str>>,
    pub(crate) roles: Vec<Arc<str>>,
}

impl Definition {
    /// What makes two limits the same, so that what was counted is kept.
    pub(crate) fn identity(&self) -> String {
        format!("{:?} {:?} {:?}", self.what, self.parts, self.prefixes)
    }

    /// Whether the caller must be known before it can be counted.
    pub(crate) fn needs_identity(&self) -> bool {
        let Exempt { users, roles, .. } = &self.exempt;
        self.parts.iter().any(Part::needs_identity) || !users.is_empty() || !roles.is_empty()
    }
}

impl Weights {
    pub(crate) fn of(&self, method: &Method) -> u64 {
        let found = self.methods.iter().find(|(known, _)| known == method);
        found.map_or(self.every.unwrap_or(1), |(_, weight)| *weight)
    }

    fn greatest(&self) -> u64 {
        let every = self.every.unwrap_or(1);
        self.methods.iter().map(|(_, weight)| *weight).chain([every]).max().unwrap_or(1)
    }
}

/// Limits by name; `None` is one that was written as `off`.
pub(crate) type Limits = Vec<(Arc<str>, Option<Arc<Definition>>)>;

pub(crate) fn mean(file: LimitsFile, reading: &mut Reading<'_, '_>) -> Limits {
    let root = reading.path();
    let entries = file.0.into_iter().map(|(Name(name), limit)| {
        let at = root.join(&name);
        let limit = limit.and_then(|limit| definition(limit, &at, reading)).map(Arc::new);
        (name, limit)
    });
    entries.collect()
}

fn definition(file: LimitFile, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Definition> {
    let kinds = [("rate", file.rate.is_some()), ("concurrency", file.concurrency.is_some())];
    reading.one_of(at, &kinds, "a limit has a `rate` or a `concurrency`");
    for part in &file.key {
        if let Part::Request(RequestKey::Path(name)) = part {
            check_parameter(name, &at.join("key"), reading);
        }
    }
    let weights = weights(file.weight.as_ref(), &at.join("weight"), reading);
    let mode = file.mode.unwrap_or(ModeFile::Enforce);
    let what = match (file.rate, file.concurrency) {
        (Some(rate), _) => What::Rate(limit(&file, rate, &weights, (at, reading))?),
        (None, Some(most)) => {
            if mode == ModeFile::Delay {
                reading.error(&at.join("mode"), "who waits is under way too: `concurrency` cannot delay");
            }
            What::Concurrency(most)
        }
        (None, None) => return None,
    };
    let exempt = file.exempt.unwrap_or_default();
    let texts = |texts: Vec<String>| texts.into_iter().map(Arc::from).collect();
    Some(Definition {
        what,
        parts: file.key,
        prefixes: Prefixes {
            v4: prefix(file.ipv4_prefix, (32, 32), &at.join("ipv4_prefix"), reading),
            v6: prefix(file.ipv6_prefix, (64, 128), &at.join("ipv6_prefix"), reading),
        },
        mode,
        max_delay: file.max_delay.map_or(Duration::from_secs(1), |delay| delay.0),
        weights,
        exempt: Exempt { client_ip: exempt.client_ip, users: texts(exempt.users), roles: texts(exempt.roles) },
        at: at.clone(),
    })
}

fn check_parameter(name: &str, at: &Path, reading: &mut Reading<'_, '_>) {
    // At the top, a route's own pattern decides.
    if at.segments().len() > 3 && !reading.pattern().binds(name) {
        let problem = Problem::error(at.clone(), format!("the route's path has no `{{{name}}}`"));
        reading.report(problem.help("write the parameter into `match.path`, or count by something else"));
    }
}

fn prefix(written: Option<u8>, (usual, most): (u8, u8), at: &Path, reading: &mut Reading<'_, '_>) -> u8 {
    let bits = written.unwrap_or(usual);
    if bits > most || bits == 0 {
        reading.error(at, format!("a prefix is 1 to {most} bits"));
        return most;
    }
    bits
}

fn weights(file: Option<&TextOr<Entries<String, u32>>>, at: &Path, reading: &mut Reading<'_, '_>) -> Weights {
    match file {
        None => Weights::default(),
        Some(TextOr::Text(AnyText(text))) => {
            let every = text.parse::<u32>().ok().filter(|weight| *weight > 0).map(u64::from);
            if every.is_none() {
                reading.error(at, format!("a weight is a whole number from 1 on, not `{text}`"));
            }
            Weights { every, methods: Vec::new() }
        }
        Some(TextOr::Full(Entries(methods))) => {
            let methods = methods.iter().filter_map(|(name, weight)| {
                let method = Method::from_bytes(name.as_bytes()).ok();
                if method.is_none() {
                    reading.error(at, format!("`{name}` cannot be a method"));
                }
                Some((method?, u64::from(*weight)))
            });
            Weights { every: None, methods: methods.collect() }
        }
    }
}

fn limit(
    file: &LimitFile,
    written: RequestRate,
    weights: &Weights,
    (at, reading): (&Path, &mut Reading<'_, '_>),
) -> Option<Limit> {
    let rate = Rate::new(written.requests.into(), written.per)?;
    let burst = file.burst.unwrap_or(u64::from(written.requests));
    let algorithm = match file.algorithm.unwrap_or(AlgorithmFile::TokenBucket) {
        AlgorithmFile::TokenBucket => Algorithm::TokenBucket { burst },
        AlgorithmFile::SlidingWindow => Algorithm::SlidingWindow,
        AlgorithmFile::SlidingLog => Algorithm::SlidingLog,
        AlgorithmFile::FixedWindow => Algorithm::FixedWindow,
    };
    let most = if let Algorithm::TokenBucket { burst } = algorithm { burst } else { written.requests.into() };
    if file.burst.is_some() && !matches!(algorithm, Algorithm::TokenBucket { .. }) {
        let problem = Problem::error(at.join("burst"), "only a `token_bucket` has a burst").on_key();
        reading.report(problem.help("take `burst` out: the others allow their whole rate at once"));
    }
    if weights.greatest() > most {
        let problem =
            Problem::error(at.clone(), format!("a request that counts {} can never pass", weights.greatest()));
        reading.report(problem.help(format!("the limit is {most}: make `burst` larger, or the weight smaller")));
    }
    match Limit::new(algorithm, rate) {
        Ok(limit) => Some(limit),
        Err(TooMany(most)) => {
            let problem = Problem::error(at.join("rate"), format!("this algorithm counts to {most} at most"));
            reading.report(problem.help("write the same rate for a shorter time, or `algorithm: token_bucket`"));
            None
        }
    }
}
