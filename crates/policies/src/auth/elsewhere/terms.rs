//! How somebody else is asked: the keys that all ways have in common that ask, and what they mean.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::config::{Conditions, Discovery, Retry, RetryMethods, Service, Statuses};
use tidegate_config::policy::Reading;
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{self, Name, RequestRate};
use tidegate_core::limiter::Limit;

/// What a client waits for at most.
const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Nothing is remembered for longer: who calls may have changed.
const LONGEST_CACHE: Duration = Duration::from_hours(1);

/// Refusals are not remembered for longer: what was refused may be granted.
const LONGEST_REFUSED: Duration = Duration::from_mins(1);

/// Answers that may be remembered.
const MOST_CACHED: u32 = 1_000_000;

/// Questions that may be under way.
const MOST_AT_ONCE: u32 = 10_000;

/// More tries would only wear down a service that is in trouble.
const MOST_ATTEMPTS: u32 = 10;

/// Questions without an answer are asked again: after a random part of a time that doubles, and within the budget of the service's retries.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::auth) struct RetryFile {
    /// Tries in all. By default 2.
    attempts: Option<u32>,
    /// The wait before another try.
    backoff: Option<BackoffFile>,
    /// For one try, up to the head of its answer. By default it is only the `timeout` of all of them that ends one.
    per_try_timeout: Option<value::Duration>,
}

/// The wait before another try.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BackoffFile {
    /// The first wait is a random part of this. By default 25ms.
    base: Option<value::Duration>,
    /// No wait is longer. By default 250ms.
    max: Option<value::Duration>,
}

/// Declares a way as written that asks somebody else: its own keys, and beside them those that all such ways have. serde can flatten a struct or
/// refuse keys that it does not know, but not both.
macro_rules! asking_file {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            /// The service that is asked, by name: with its checks, TLS, breaker and limits.
            service: Option<tidegate_config::value::Name>,
            /// The path at the service, and a query if there is one.
            path: Option<String>,
            /// How long a caller is remembered, 1h at most, and never beyond the end of a token. Off unless written.
            cache: Option<tidegate_config::value::Duration>,
            /// How long a refusal is remembered, 1m at most. By default 5s where there is a `cache`.
            cache_refused: Option<tidegate_config::value::Duration>,
            /// How many answers are remembered. By default 10000.
            max_cached: Option<u32>,
            /// How long a request waits for the answer, all tries included. By default 2s.
            timeout: Option<tidegate_config::value::Duration>,
            /// Tries again. On unless `off`.
            retry: Option<$crate::auth::elsewhere::RetryFile>,
            /// How often the service is asked at most, tries after the first not counted. What is more is refused with 503. No limit unless written.
            max_rate: Option<tidegate_config::value::RequestRate>,
            /// Questions that are under way at the same time; others wait for a place. By default 100.
            concurrency: Option<u32>,
            $($own)*
        }

        impl $name {
            /// Takes out what all such ways have.
            fn terms(&mut self) -> $crate::auth::elsewhere::TermsFile {
                $crate::auth::elsewhere::TermsFile {
                    service: self.service.take(),
                    path: self.path.take(),
                    cache: self.cache,
                    cache_refused: self.cache_refused,
                    max_cached: self.max_cached,
                    timeout: self.timeout,
                    retry: self.retry.take(),
                    max_rate: self.max_rate,
                    concurrency: self.concurrency,
                }
            }
        }
    };
}
pub(in crate::auth) use asking_file;

/// The common keys, as written.
pub(in crate::auth) struct TermsFile {
    pub(in crate::auth) service: Option<Name>,
    pub(in crate::auth) path: Option<String>,
    pub(in crate::auth) timeout: Option<value::Duration>,
    pub(in crate::auth) retry: Option<RetryFile>,
    pub(in crate::auth) max_rate: Option<RequestRate>,
    pub(in crate::auth) concurrency: Option<u32>,
    pub(in crate::auth) cache: Option<value::Duration>,
    pub(in crate::auth) cache_refused: Option<value::Duration>,
    pub(in crate::auth) max_cached: Option<u32>,
}

/// How somebody else is asked.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::auth) struct Terms {
    /// Who is asked.
    pub(in crate::auth) service: Arc<str>,
    /// For which path and query.
    pub(in crate::auth) target: String,
    /// How long a request waits, for its turn and for all tries together.
    pub(super) timeout: Duration,
    pub(super) retry: Option<Retry>,
    pub(super) max_rate: Option<Limit>,
    /// Questions under way at the same time.
    pub(super) concurrency: usize,
    /// How long an answer is remembered; zero asks anew each time.
    pub(super) cache: Duration,
    pub(super) cache_refused: Duration,
    pub(super) max_cached: usize,
}

impl Terms {
    /// How long an answer may be kept.
    pub(super) fn time(&self, refused: bool) -> Duration {
        if refused { self.cache_refused } else { self.cache }
    }
}

impl TermsFile {
    /// What is meant, where the keys stand at `at` and are those of `kind` of the way called `name`.
    pub(in crate::auth) fn mean(
        self,
        (name, kind): (&str, &str),
        at: &Path,
        reading: &mut Reading<'_, '_>,
    ) -> Option<Terms> {
        let refused_is_off = reading.is_off(&[name, kind, "cache_refused"]);
        let cache = reading.time(at, "cache", (self.cache, Duration::ZERO), LONGEST_CACHE);
        let usual = if refused_is_off { Duration::ZERO } else { Duration::from_secs(5).min(cache) };
        let cache_refused = reading.time(at, "cache_refused", (self.cache_refused, usual), LONGEST_REFUSED);
        if cache.is_zero() && (self.cache_refused.is_some_and(|time| !time.0.is_zero()) || self.max_cached.is_some()) {
            let key = if self.max_cached.is_some() { "max_cached" } else { "cache_refused" };
            let problem = Problem::error(at.join(key), format!("`{key}` needs a `cache`: nothing is remembered"));
            reading.report(problem.on_key().help("write for instance `cache: 2m`"));
        }
        let timeout = reading.time(at, "timeout", (self.timeout, Duration::from_secs(2)), LONGEST_TIMEOUT);
        if timeout.is_zero() {
            reading.error(&at.join("timeout"), "nobody answers at once");
        }
        let retry = match &self.retry {
            None if reading.is_off(&[name, kind, "retry"]) => None,
            written => Some(retry(written.as_ref(), &at.join("retry"), reading)),
        };
        let max_cached = reading.count(at, "max_cached", (self.max_cached, 10_000), MOST_CACHED);
        let concurrency = reading.count(at, "concurrency", (self.concurrency, 100), MOST_AT_ONCE);
        let max_rate = self.max_rate.and_then(|rate| {
            let limit = Limit::bucket(rate, None);
            if limit.is_none() {
                reading.error(&at.join("max_rate"), "so often cannot be counted");
            }
            limit
        });
        let (service, target) = reached((self.service, self.path), at, reading)?;
        Some(Terms { service, target, timeout, retry, max_rate, concurrency, cache, cache_refused, max_cached })
    }
}

/// The service that is asked, and for what.
fn reached(
    (service, path): (Option<Name>, Option<String>),
    at: &Path,
    reading: &mut Reading<'_, '_>,
) -> Option<(Arc<str>, String)> {
    if service.is_none() {
        reading.missing(at, "service", "write the name of the service that is asked");
    }
    let service = service.and_then(|Name(service)| reading.service(&at.join("service"), &service));
    let Some(path) = path else {
        reading.missing(at, "path", "write the path at the service, such as `/auth/verify`");
        return None;
    };
    if !path.starts_with('/') {
        reading.error(&at.join("path"), "a path begins with `/`");
    } else if path.contains('#') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = Problem::error(at.join("path"), "a path is plain ASCII without spaces and `#`");
        reading.report(problem.help("write everything else as `%XX`"));
    }
    Some((service?, path))
}

fn retry(file: Option<&RetryFile>, at: &Path, reading: &mut Reading<'_, '_>) -> Retry {
    let attempts = file.and_then(|file| file.attempts).unwrap_or(2);
    if !(1..=MOST_ATTEMPTS).contains(&attempts) {
        let problem = Problem::error(at.join("attempts"), format!("`attempts` are tries in all, 1 to {MOST_ATTEMPTS}"));
        reading.report(problem.help("write `retry: off` to try once"));
    }
    let backoff = file.and_then(|file| file.backoff.as_ref());
    let time = |time: Option<value::Duration>, usual| time.map_or(Duration::from_millis(usual), |time| time.0);
    let base = time(backoff.and_then(|backoff| backoff.base), 25);
    let written = backoff.and_then(|backoff| backoff.max);
    let max = written.map_or_else(|| Duration::from_millis(250).max(base), |max| max.0);
    if max < base {
        reading.error(&at.join("backoff").join("max"), "the longest wait is shorter than the first");
    }
    let per_try_timeout = file.and_then(|file| file.per_try_timeout).map(|timeout| timeout.0);
    if per_try_timeout.is_some_and(|timeout| timeout.is_zero()) {
        reading.error(&at.join("per_try_timeout"), "nobody answers at once");
    }
    Retry {
        attempts,
        on: Conditions { connect: true, reset: true, timeout: true, statuses: Statuses(vec![502..=504]) },
        // Asking changes nothing, whatever the method.
        methods: RetryMethods::All,
        per_try_timeout,
        backoff_base: base,
        backoff_max: max,
        // The service's own budget holds.
        budget: 0.0,
        budget_floor: 0,
        buffer: 64 * 1024,
    }
}

/// Reading of what has a range.
trait Ranged {
    fn time(&mut self, at: &Path, key: &str, written: (Option<value::Duration>, Duration), most: Duration) -> Duration;
    fn count(&mut self, at: &Path, key: &str, written: (Option<u32>, u32), most: u32) -> usize;
}

impl Ranged for Reading<'_, '_> {
    fn time(
        &mut self,
        at: &Path,
        key: &str,
        (written, usual): (Option<value::Duration>, Duration),
        most: Duration,
    ) -> Duration {
        let time = written.map_or(usual, |written| written.0);
        if time > most {
            self.error(&at.join(key), format!("`{key}` is {} at most", value::Duration(most)));
        }
        time
    }

    fn count(&mut self, at: &Path, key: &str, (written, usual): (Option<u32>, u32), most: u32) -> usize {
        let count = written.unwrap_or(usual);
        if !(1..=most).contains(&count) {
            self.error(&at.join(key), format!("`{key}` is 1 to {most}"));
        }
        usize::try_from(count).unwrap_or_default()
    }
}

/// What callers show goes on to the service: whether there is a network between that has no TLS.
pub(super) fn in_clear(service: &Service, way: &str, at: &Path) -> Option<Problem> {
    let is_local = |host: &str| {
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let written = service.endpoints.iter().any(|endpoint| !endpoint.tls && !is_local(&endpoint.host));
    let found = service.discovery.as_ref().and_then(Discovery::endpoints_use_tls) == Some(false);
    let name = &service.name;
    let text = format!("what callers show to `{way}` can be read on its way to `{name}`, which is asked without TLS");
    let problem = Problem::warning(at.clone(), text).on_key().see(service.at.clone(), "this service");
    (written || found).then(|| problem.help("give the service `https://` endpoints"))
}
