//! What a cluster tells operators: how everything stands, and what changed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::BreakerState;
use super::machine::{Machine, Seat};
use super::state::{Course, Reason, STEPS, State};

/// How a service and its endpoints stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The service's name.
    pub service: Arc<str>,
    /// In the order of the view.
    pub endpoints: Vec<EndpointReport>,
    /// How many are in service.
    pub in_service: usize,
    /// The service's own breaker; closed if there is none.
    pub breaker: BreakerState,
    /// Why.
    pub breaker_reason: Reason,
    /// Since when.
    pub breaker_since: Instant,
    /// When it will be half open.
    pub breaker_until: Option<Instant>,
    /// How often it opened.
    pub breaker_opened: u64,
    /// Events that were dropped because nobody took them.
    pub events_lost: u64,
}

/// How an endpoint stands.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointReport {
    /// The member's id.
    pub id: u64,
    /// Host and port.
    pub authority: Arc<str>,
    /// Its state.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// What the last active check complained of.
    pub detail: Option<Arc<str>>,
    /// Since when.
    pub since: Instant,
    /// When time alone will change it.
    pub until: Option<Instant>,
    /// Requests under way.
    pub in_flight: u32,
    /// As configured, or as an operator set it.
    pub weight: u32,
    /// What counts while its share grows; 0 when it is not in service.
    pub effective_weight: f64,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
    /// Its tier.
    pub priority: u32,
    /// As load balancing sees it; `None` before the first answer.
    pub latency: Option<Duration>,
    /// Ejections ever.
    pub ejections: u64,
    /// Ejections in a row, less what good standing forgave.
    pub strikes: u32,
    /// Results of the last ten seconds.
    pub requests: u32,
    /// Failures among them.
    pub failures: u32,
    /// Active checks that failed in a row.
    pub failed_checks: u32,
    /// Its breaker.
    pub breaker: BreakerState,
    /// How often that opened.
    pub breaker_opened: u64,
}

/// A transition, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// The endpoint's authority; `None` is the service's own breaker, which is `healthy` when closed.
    pub endpoint: Option<Arc<str>>,
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

/// So many events wait to be taken.
const EVENTS: usize = 1024;

/// Events that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Journal {
    events: VecDeque<Event>,
    lost: u64,
}

impl Journal {
    pub(super) fn note(&mut self, at: Instant, endpoint: Option<&Arc<str>>, step: (State, State), reason: Reason) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
            self.lost += 1;
        }
        let (from, to) = step;
        self.events.push_back(Event { at, endpoint: endpoint.cloned(), from, to, reason });
    }

    pub(super) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events).into()
    }
}

impl Machine {
    pub(super) fn report(&self, now: Instant) -> Report {
        Report {
            service: Arc::clone(&self.config.name),
            endpoints: self.seats.iter().map(|seat| self.endpoint_report(seat, now)).collect(),
            in_service: self.seats.iter().filter(|seat| seat.is_in_service()).count(),
            breaker: self.breaker.state(),
            breaker_reason: self.breaker.reason(),
            breaker_since: self.service_since,
            breaker_until: self.breaker.until(),
            breaker_opened: self.breaker.opened(),
            events_lost: self.journal.lost,
        }
    }

    fn endpoint_report(&self, seat: &Seat, now: Instant) -> EndpointReport {
        let Seat { member, standing, .. } = seat;
        let at = self.common.nanos(now);
        let results = member.counters.results.counts(at);
        let tenths = if seat.is_in_service() { seat.tenths(self.config.slow_start, now) } else { 0 };
        let eject = self.config.outliers.as_ref().map_or(Duration::ZERO, |rules| rules.eject);
        EndpointReport {
            id: member.id,
            authority: Arc::clone(&member.endpoint.authority),
            state: seat.state,
            reason: seat.reason,
            detail: standing.checks.detail.clone(),
            since: seat.since,
            until: match standing.course {
                Course::Warming { since } => Some(since + self.config.slow_start),
                Course::Serving | Course::Ejected { .. } | Course::Probation { .. } => seat.next_change,
            },
            in_flight: member.load.in_flight(),
            weight: seat.weight(),
            effective_weight: f64::from(seat.weight()) * f64::from(tenths) / f64::from(STEPS),
            zone: member.endpoint.zone.clone(),
            priority: member.endpoint.priority,
            latency: member.load.latency(at),
            ejections: standing.ejections,
            strikes: standing.strikes_at(eject, now),
            requests: results.total,
            failures: results.failed,
            failed_checks: member.failed_checks(),
            breaker: standing.breaker.state(),
            breaker_opened: standing.breaker.opened(),
        }
    }
}
