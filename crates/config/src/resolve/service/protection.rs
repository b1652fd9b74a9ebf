//! `circuit_breaker`, `concurrency` and `fallback`: what protects a service and its clients from each other's trouble.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{BreakerScope, CircuitBreaker, Concurrency, Conditions, Fallback, Service, Trip};
use crate::file::{BreakerScopeFile, CircuitBreakerFile, ConcurrencyFile, ConditionFile, FallbackFile};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;
use crate::value::Name;

/// The windows that a ratio can be judged over.
const WINDOWS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

impl Resolver<'_> {
    pub(super) fn breaker(&mut self, file: &CircuitBreakerFile, path: &Path) -> CircuitBreaker {
        let failures = path.join("failures");
        if file.failures.is_empty() && !self.is_excused(&failures) {
            let problem = Problem::error(failures, "nothing counts as a failure, so the breaker never opens");
            self.push(problem.help("write `failures: [connect, reset, timeout, 5xx]`"));
        }
        CircuitBreaker {
            trip: self.trip(file, path),
            open: self.needed(&path.join("open"), file.open, 30),
            half_open_requests: self.bounded(&path.join("half_open_requests"), file.half_open_requests, (1, 1000)),
            per: match file.per {
                Some(BreakerScopeFile::Service) => BreakerScope::Service,
                Some(BreakerScopeFile::Endpoint) | None => BreakerScope::Endpoint,
            },
            failures: conditions(&file.failures),
        }
    }

    fn trip(&mut self, file: &CircuitBreakerFile, path: &Path) -> Trip {
        if let Some(count) = file.consecutive_failures {
            let ratio = [
                ("failure_ratio", file.failure_ratio.is_some()),
                ("min_requests", file.min_requests.is_some()),
                ("window", file.window.is_some()),
            ];
            if let Some((key, _)) = ratio.into_iter().find(|(_, written)| *written) {
                let problem = Problem::error(
                    path.join("consecutive_failures"),
                    format!(
                        "a breaker opens by `failure_ratio` or by `consecutive_failures`, but there is `{key}` too"
                    ),
                );
                self.push(problem.on_key().see(path.join(key), "it is here").help("keep one of them"));
            }
            return Trip::Consecutive(self.bounded(&path.join("consecutive_failures"), Some(count), (1, 1000)));
        }
        let window = self.needed(&path.join("window"), file.window, 60);
        if !window.is_zero() && !WINDOWS.contains(&window) {
            self.error(&path.join("window"), "a window is 1s to 1h");
        }
        Trip::Ratio {
            share: self.some_share(&path.join("failure_ratio"), file.failure_ratio, 0.6),
            min_requests: self.bounded(&path.join("min_requests"), file.min_requests, (1, u32::MAX)),
            window,
        }
    }

    pub(super) fn concurrency(&mut self, file: &ConcurrencyFile, path: &Path) -> Concurrency {
        if file.max.is_none() {
            self.missing(path, "max", "say how many requests the service can take at once: `max: 1000`");
        }
        let max = file.max.map_or(1, |max| self.bounded(&path.join("max"), Some(max), (1, u32::MAX)));
        Concurrency {
            max: super::to_usize(max),
            queue: super::to_usize(file.queue.unwrap_or(0)),
            queue_timeout: self.needed(&path.join("queue_timeout"), file.queue_timeout, 1),
        }
    }

    pub(super) fn fallback(&mut self, file: &FallbackFile, path: &Path) -> Option<Fallback> {
        let keys = [("respond", file.respond.is_some()), ("service", file.service.is_some())];
        self.one_of(path, &keys, "one thing answers instead");
        match (&file.respond, &file.service) {
            (Some(respond), _) => Some(Fallback::Respond(self.respond(respond, &path.join("respond")))),
            (None, Some(Name(service))) => Some(Fallback::Service(Arc::clone(service))),
            (None, None) => None,
        }
    }

    /// Every service that answers for another one must be there, and must not lead back.
    pub(super) fn check_fallbacks(&mut self, services: &BTreeMap<Arc<str>, Arc<Service>>, names: &BTreeSet<Arc<str>>) {
        for service in services.values() {
            let Some(Fallback::Service(other)) = &service.fallback else { continue };
            let path = service.at.join("fallback").join("service");
            if *other == service.name {
                let problem = Problem::error(path, format!("`{other}` cannot answer for itself"));
                self.push(problem.help(format!("name another service, or write `fallback: off` in `{other}`")));
                continue;
            }
            if self.service_name(&path, other, names).is_none() {
                continue;
            }
            let circle = circle(services, service);
            // It is the same one from each of its services: once is enough.
            if circle.iter().all(|name| *name >= &*service.name) && !circle.is_empty() {
                let names: Vec<String> = circle.iter().map(|name| format!("`{name}`")).collect();
                let problem = Problem::error(
                    path,
                    format!("these services answer for each other in a circle: {}", names.join(", ")),
                );
                self.push(problem.help("let one of them answer with `respond`, or not at all"));
            }
        }
    }
}

/// The services that lead from `start` back to it by their fallbacks; empty when they do not.
fn circle<'s>(services: &'s BTreeMap<Arc<str>, Arc<Service>>, start: &'s Service) -> Vec<&'s str> {
    let mut names: Vec<&str> = Vec::new();
    let mut service = start;
    while !names.contains(&&*service.name) {
        names.push(&service.name);
        let Some(Fallback::Service(next)) = &service.fallback else { return Vec::new() };
        let Some(next) = services.get(next) else { return Vec::new() };
        service = next;
    }
    if service.name == start.name { names } else { Vec::new() }
}

/// Kinds of failures in one value.
pub(super) fn conditions(written: &[ConditionFile]) -> Conditions {
    let mut conditions = Conditions::default();
    for condition in written {
        match condition {
            ConditionFile::Connect => conditions.connect = true,
            ConditionFile::Reset => conditions.reset = true,
            ConditionFile::Timeout => conditions.timeout = true,
            ConditionFile::Statuses(range) => conditions.statuses.0.push(range.clone()),
        }
    }
    conditions
}
