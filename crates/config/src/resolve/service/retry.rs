//! `retry` and `hedge`: requests that are sent more than once.

use std::time::Duration;

use crate::config::{Hedge, Retry, RetryMethods};
use crate::file::{AfterFile, HedgeFile, RetryFile, RetryMethodsFile};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;
use crate::resolve::service::protection::conditions;
use crate::value::{PerSecond, Share, Size};

/// More tries would only wear down a service that is in trouble.
const MAX_ATTEMPTS: u32 = 10;

/// The built-in budget.
const BUDGET: f64 = 0.2;
const BUDGET_FLOOR: u32 = 3;

impl Resolver<'_> {
    pub(super) fn service_retry(&mut self, file: &RetryFile, path: &Path) -> Retry {
        let Share(budget) = self.required(&path.join("budget"), file.budget, Share(BUDGET));
        let floor = self.required(&path.join("budget_floor"), file.budget_floor, PerSecond(BUDGET_FLOOR));
        Retry { budget, budget_floor: floor.0, ..self.retry(file, path) }
    }

    /// The `retry` of a service or a route, but for the budget, which routes have none of.
    pub(in crate::resolve) fn retry(&mut self, file: &RetryFile, path: &Path) -> Retry {
        let attempts = path.join("attempts");
        if file.attempts == Some(0) {
            let problem = Problem::error(attempts.clone(), "`attempts` are tries in all, so there is at least 1");
            self.push(problem.help("write `retry: off` to try once"));
        }
        if file.on.is_empty() && !self.is_excused(&path.join("on")) {
            let problem = Problem::error(path.join("on"), "nothing is tried again");
            self.push(problem.help("write `on: [connect, reset, 502, 503, 504]`, or `retry: off`"));
        }
        let methods = match file.methods {
            Some(RetryMethodsFile::All) => RetryMethods::All,
            Some(RetryMethodsFile::Idempotent) | None => RetryMethods::Idempotent,
        };
        if methods == RetryMethods::All {
            let problem = Problem::warning(
                path.join("methods"),
                "a POST may be carried out twice: an order placed, a payment made",
            );
            self.push(problem.help(
                "this is safe only where the service can tell repetitions, for instance by a key that clients send",
            ));
        }
        let per_try_timeout =
            file.per_try_timeout.map(|timeout| self.positive(&path.join("per_try_timeout"), Some(timeout)));
        let (backoff_base, backoff_max) = self.backoff(file, &path.join("backoff"));
        Retry {
            attempts: self.bounded(&attempts, file.attempts.map(|attempts| attempts.max(1)), (1, MAX_ATTEMPTS)),
            on: conditions(&file.on),
            methods,
            per_try_timeout,
            backoff_base,
            backoff_max,
            budget: BUDGET,
            budget_floor: BUDGET_FLOOR,
            buffer: file.buffer.map_or(0, |Size(bytes)| bytes),
        }
    }

    /// `backoff: off` does not wait.
    fn backoff(&mut self, file: &RetryFile, path: &Path) -> (Duration, Duration) {
        let Some(backoff) = &file.backoff else { return (Duration::ZERO, Duration::ZERO) };
        let base = backoff.base.map_or(Duration::ZERO, |base| base.0);
        let max = self.needed(&path.join("max"), backoff.max, 1);
        (base, self.at_least(base, max, &path.join("max"), "wait"))
    }

    pub(super) fn hedge(&mut self, file: &HedgeFile, path: &Path) -> Hedge {
        let after = path.join("after");
        match self.required(&after, file.after, AfterFile::Percentile(0.95)) {
            AfterFile::Percentile(share) => Hedge::Percentile(share),
            AfterFile::Time(time) => Hedge::After(self.needed(&after, Some(time), 1)),
        }
    }
}
