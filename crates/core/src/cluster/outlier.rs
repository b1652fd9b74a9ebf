//! Which endpoints stand out from the others by what requests met: failures, slowness, silence; and how many may be taken out.

use std::time::Duration;

use tidegate_config::config::OutlierDetection;

use super::breaker::Outcome;
use super::state::Reason;
use super::window::Tally;
use crate::balance::Nanos;

/// How far back failures and latencies are looked at.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// Latencies are judged by so many of the window's ten buckets, where those hold enough answers.
const RECENT: u64 = 3;
/// A smaller difference is not worth an ejection.
const FLOOR: Duration = Duration::from_millis(20);
/// A shorter silence is none.
const SILENCE: Duration = Duration::from_millis(500);
/// How many requests must succeed after an ejection.
pub(super) const PROBATION: u32 = 3;

/// What an offence costs users: retries heal what cannot be connected to, and nothing heals what is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Connection,
    Errors,
    Slow,
}

impl Severity {
    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Connect | Outcome::Reset => Self::Connection,
            Outcome::Status(_) => Self::Errors,
            Outcome::Timeout => Self::Slow,
        }
    }
}

/// Whether the endpoint is to blame.
#[inline]
pub(super) fn is_failure(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Status(status) => status >= 500,
        Outcome::Connect | Outcome::Reset | Outcome::Timeout => true,
    }
}

/// Why an endpoint with these results should be ejected, if it should.
pub(super) fn verdict(tally: &Tally, rules: &OutlierDetection, now: Nanos) -> Option<Reason> {
    if rules.consecutive_errors.is_some_and(|limit| tally.streak() >= limit.max(1)) {
        return Some(Reason::ConsecutiveErrors);
    }
    let share = rules.failure_ratio?;
    tally.counts(now).reach(share, rules.min_requests).then_some(Reason::FailureRatio)
}

/// How many of so many endpoints may be ejected.
pub(super) fn cap(rules: &OutlierDetection, endpoints: usize) -> usize {
    if endpoints < 2 {
        return 0;
    }
    let most = u32::try_from(endpoints).map_or(f64::MAX, |endpoints| rules.max_ejected * f64::from(endpoints));
    // The share is of 32 bits of endpoints, and a little is added because 0.3 x 10 is less than 3.
    (1..=endpoints)
        .rev()
        .find(|&count| u32::try_from(count).is_ok_and(|count| f64::from(count) <= most + 1e-9))
        .unwrap_or(1)
}

/// How an endpoint in service answers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    pub(super) recent: Answers,
    pub(super) window: Answers,
    /// Since when enough requests have been waiting and none was answered.
    pub(super) silent_since: Option<Nanos>,
    pub(super) last_answer: Nanos,
}

/// How many good answers there were, and how long they took on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Answers {
    pub(super) count: u32,
    pub(super) mean: Duration,
}

/// The answers that an endpoint is judged by: the latest if they suffice, else all of the window.
pub(super) fn recent(answers: impl Fn(u64) -> Answers, min_requests: u32) -> Answers {
    let latest = answers(RECENT);
    if latest.count >= min_requests { latest } else { answers(super::window::BUCKETS) }
}

/// Those that are much slower than the others, or silent while others answer; the slowest first. Numbers are places in `paces`.
pub(super) fn laggards(paces: &[Pace], rules: &OutlierDetection, now: Nanos) -> Vec<(usize, Reason)> {
    let Some(factor) = rules.slow_factor else { return Vec::new() };
    let recent = Medians::new(paces.iter().map(|pace| pace.recent), rules.min_requests.max(1));
    let window = Medians::new(paces.iter().map(|pace| pace.window), 1);
    let mut found: Vec<(Duration, usize, Reason)> = Vec::new();
    for (place, pace) in paces.iter().enumerate() {
        let answered_since = |since: u64| paces.iter().any(|pace| pace.last_answer.0 > since);
        let silent = silence(pace, window.without(place), factor, now);
        let others: u64 = paces.iter().map(|pace| u64::from(pace.recent.count)).sum();
        // A few quick answers elsewhere say nothing about long polls here.
        let others_answer = others - u64::from(pace.recent.count) >= u64::from(rules.min_requests);
        if let Some(silent) = silent.filter(|silent| others_answer && answered_since(now.0.saturating_sub(*silent))) {
            found.push((Duration::from_nanos(silent), place, Reason::Silent));
        } else if paces.len() >= 3 && is_slow(pace, recent.without(place), factor, rules.min_requests) {
            found.push((pace.recent.mean, place, Reason::Slow));
        }
    }
    found.sort_by_key(|&(time, place, _)| (std::cmp::Reverse(time), place));
    found.into_iter().map(|(_, place, reason)| (place, reason)).collect()
}

/// For how many nanoseconds it has been silent, if that is too long.
fn silence(pace: &Pace, median: Option<Duration>, factor: f64, now: Nanos) -> Option<u64> {
    let silent = now.0.saturating_sub(pace.silent_since?.0);
    let limit = times(median.unwrap_or_default(), factor).max(SILENCE);
    (Duration::from_nanos(silent) >= limit).then_some(silent)
}

fn is_slow(pace: &Pace, median: Option<Duration>, factor: f64, min_requests: u32) -> bool {
    let Some(median) = median.filter(|_| pace.recent.count >= min_requests.max(1)) else { return false };
    pace.recent.mean > times(median, factor) && pace.recent.mean >= median + FLOOR
}

fn times(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// The median latency of all but one, for each one, from one sorting.
struct Medians {
    /// By latency.
    sorted: Vec<(Duration, usize)>,
}

impl Medians {
    /// Only of those with enough answers.
    fn new(answers: impl Iterator<Item = Answers>, min_requests: u32) -> Self {
        let enough = answers.enumerate().filter(|(_, answers)| answers.count >= min_requests);
        let mut sorted: Vec<_> = enough.map(|(place, answers)| (answers.mean, place)).collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// The upper of two in the middle.
    fn without(&self, place: usize) -> Option<Duration> {
        let own = self.sorted.iter().position(|&(_, other)| other == place);
        let middle = (self.sorted.len() - usize::from(own.is_some())) / 2;
        let middle = if own.is_some_and(|own| own <= middle) { middle + 1 } else { middle };
        self.sorted.get(middle).map(|&(mean, _)| mean)
    }
}
