//! The states of an endpoint, why it is in one, and which of several findings about it prevails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::{Breaker, Trial};
use super::outlier::Severity;

/// What an endpoint is to the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It takes its full share.
    Healthy,
    /// It fails its active checks.
    Unhealthy,
    /// It was taken out for a while because of what requests met.
    Ejected,
    /// Its breaker lets nothing through.
    Open,
    /// Its breaker lets a few trials through.
    HalfOpen,
    /// An operator lets it finish what it has and gives it nothing new.
    Draining,
    /// It came back and takes less than its share.
    Warming,
}

impl State {
    /// As in metrics, logs and the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Draining => "draining",
            Self::Warming => "warming",
        }
    }
}

/// Why an endpoint, or a service's breaker, is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing speaks against it.
    Fine,
    /// `drain` was commanded.
    Drained,
    /// Its weight is 0.
    NoWeight,
    /// Active checks failed in a row.
    Checks,
    /// Requests failed in a row.
    ConsecutiveErrors,
    /// Too many of the latest requests failed.
    FailureRatio,
    /// It is much slower than the others.
    Slow,
    /// It leaves requests without an answer while others answer.
    Silent,
    /// It failed a request right after an ejection.
    Probation,
    /// A trial of a half-open breaker failed.
    TrialFailed,
    /// The breaker's time is over; trials decide.
    Trials,
    /// An operator opened the breaker.
    ForcedOpen,
    /// It came back not long ago.
    SlowStart,
}

impl Reason {
    /// As in metrics, logs and the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Drained => "drained",
            Self::NoWeight => "no_weight",
            Self::Checks => "checks",
            Self::ConsecutiveErrors => "consecutive_errors",
            Self::FailureRatio => "failure_ratio",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Probation => "probation",
            Self::TrialFailed => "trial_failed",
            Self::Trials => "trials",
            Self::ForcedOpen => "forced_open",
            Self::SlowStart => "slow_start",
        }
    }
}

/// Where an endpoint is on its way out and back. Nothing of it holds while its breaker is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    Serving,
    /// Its share grows.
    Warming {
        since: Instant,
    },
    Ejected {
        reason: Reason,
        severity: Severity,
        until: Instant,
    },
    /// The first requests after an ejection.
    Probation {
        trial: Trial,
        severity: Severity,
    },
}

/// What active checks say.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) unhealthy: bool,
    /// In a row.
    pub(super) successes: u32,
    /// In a row.
    pub(super) failures: u32,
    pub(super) detail: Option<Arc<str>>,
}

/// All that is known of one endpoint. Only changed under the cluster's lock.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) drained: bool,
    /// Set by an operator, instead of the configured one.
    pub(super) weight: Option<u32>,
    pub(super) breaker: Breaker,
    pub(super) checks: Checks,
    pub(super) course: Course,
    /// Ejections in a row, as of `good_since`; see [`Standing::strikes_at`].
    pub(super) strikes: u32,
    /// When it last came back from an ejection.
    pub(super) good_since: Instant,
    /// Ejections ever.
    pub(super) ejections: u64,
}

/// How many steps a slow start has.
pub(super) const STEPS: u32 = 10;

impl Standing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            drained: false,
            weight: None,
            breaker: Breaker::default(),
            checks: Checks::default(),
            course: Course::Serving,
            strikes: 0,
            good_since: now,
            ejections: 0,
        }
    }

    /// What prevails: administration, an open breaker, active checks, ejection, trials, slow start.
    pub(super) fn state(&self, weight: u32) -> (State, Reason) {
        if self.drained {
            return (State::Draining, Reason::Drained);
        }
        if weight == 0 {
            return (State::Draining, Reason::NoWeight);
        }
        if self.breaker.is_open() {
            return (State::Open, self.breaker.reason());
        }
        if self.checks.unhealthy {
            return (State::Unhealthy, Reason::Checks);
        }
        match self.course {
            Course::Ejected { reason, .. } => (State::Ejected, reason),
            _ if self.breaker.is_half_open() => (State::HalfOpen, Reason::Trials),
            Course::Probation { .. } => (State::Warming, Reason::Probation),
            Course::Warming { .. } => (State::Warming, Reason::SlowStart),
            Course::Serving => (State::Healthy, Reason::Fine),
        }
    }

    /// Ejections in a row: one is forgiven for each `eject` of good standing.
    pub(super) fn strikes_at(&self, eject: Duration, now: Instant) -> u32 {
        let good = match self.course {
            Course::Serving | Course::Warming { .. } => now.saturating_duration_since(self.good_since),
            Course::Ejected { .. } | Course::Probation { .. } => Duration::ZERO,
        };
        let forgiven = good.as_nanos().checked_div(eject.as_nanos()).unwrap_or(0);
        self.strikes.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::config::{BreakerScope, CircuitBreaker, Conditions, Trip};

    use super::*;
    use crate::clock::Clock;

    fn ejected(until: Instant) -> Course {
        Course::Ejected { reason: Reason::Slow, severity: Severity::Slow, until }
    }

    #[test]
    fn what_weighs_more_prevails() {
        let now = Clock::default().now();
        let config = CircuitBreaker {
            trip: Trip::Consecutive(1),
            open: Duration::from_secs(30),
            half_open_requests: 3,
            per: BreakerScope::Endpoint,
            failures: Conditions::default(),
        };
        let mut standing = Standing::new(now);
        assert_eq!(standing.state(1), (State::Healthy, Reason::Fine));
        standing.course = Course::Warming { since: now };
        assert_eq!(standing.state(1), (State::Warming, Reason::SlowStart));
        standing.course = ejected(now);
        assert_eq!(standing.state(1), (State::Ejected, Reason::Slow));
        standing.checks.unhealthy = true;
        assert_eq!(standing.state(1), (State::Unhealthy, Reason::Checks));
        standing.breaker.trip(Reason::FailureRatio, &config, now);
        assert_eq!(standing.state(1), (State::Open, Reason::FailureRatio));
        assert_eq!(standing.state(0), (State::Draining, Reason::NoWeight));
        standing.drained = true;
        assert_eq!(standing.state(1), (State::Draining, Reason::Drained));
    }

    #[test]
    fn good_standing_forgives_one_ejection_for_each_ejection_time() {
        let now = Clock::default().now();
        let standing = Standing { strikes: 3, ..Standing::new(now) };
        let second = Duration::from_secs(1);
        assert_eq!(standing.strikes_at(second, now), 3);
        assert_eq!(standing.strikes_at(second, now + 2 * second), 1);
        assert_eq!(standing.strikes_at(second, now + 9 * second), 0);
        let out = Standing { course: ejected(now), ..standing };
        assert_eq!(out.strikes_at(second, now + 9 * second), 3);
    }
}
