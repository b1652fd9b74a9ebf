//! Leave to send one attempt to one endpoint. Whatever comes of the attempt is told to the ticket, which feeds everything that
//! judges the endpoint. A good reply takes no lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::config::{BreakerScope, CircuitBreaker};

use super::breaker::{Circuit, Outcome, is_among};
use super::gate::Pass;
use super::member::{Member, breaker_of};
use super::outlier::{self, Severity};
use super::state::Reason;
use crate::balance::Nanos;

/// The admission of one attempt. It counts as in flight until it is dropped; without a verdict that is neutral, and gives the
/// permit of a trial back.
#[derive(Debug)]
pub struct Ticket {
    /// The endpoint's place in the view.
    pub index: usize,
    /// The endpoint.
    pub member: Arc<Member>,
    endpoint: Leave,
    service: Leave,
    /// What outlier detection counted.
    results: Option<u32>,
    started: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Heard,
    Over,
}

/// A breaker's leave for one attempt.
#[derive(Debug, Clone, Copy)]
struct Leave {
    pass: Pass,
    /// If the head counted as a success: the row of failures that it ended, in case the body breaks.
    ended: Option<u32>,
}

/// An outcome and when it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) at: Instant,
}

/// What the counters say after an outcome.
#[derive(Debug, Default)]
struct Findings {
    endpoint: Option<Reason>,
    outlier: Option<Reason>,
    service: Option<Reason>,
}

impl Ticket {
    /// `passes` are the endpoint's and the service's.
    pub(super) fn new(index: usize, member: Arc<Member>, passes: (Pass, Pass), now: Instant) -> Self {
        member.load.start();
        let [endpoint, service] = [passes.0, passes.1].map(|pass| Leave { pass, ended: None });
        Self { index, member, endpoint, service, results: None, started: now, stage: Stage::Waiting }
    }

    /// The reply's head came, or the attempt failed before. Only the first call counts.
    pub fn head(&mut self, outcome: Outcome, now: Instant) {
        if self.stage != Stage::Waiting {
            return;
        }
        let (at, latency) = (self.member.common.nanos(now), now.saturating_duration_since(self.started));
        self.member.load.stop_waiting();
        self.stage = Stage::Over;
        if matches!(outcome, Outcome::Status(_)) {
            self.stage = Stage::Heard;
            self.member.load.answered(latency, at);
            self.member.counters.heard(at);
        }
        let findings = self.count(outcome, latency, at);
        self.conclude(Verdict { outcome, at: now }, &findings);
    }

    /// The endpoint cut the reply's body off: a reset, whatever the head said. Counts once, and only after a head.
    pub fn broken(&mut self, now: Instant) {
        if self.stage != Stage::Heard {
            return;
        }
        self.stage = Stage::Over;
        let findings = self.revoke(self.member.common.nanos(now));
        self.conclude(Verdict { outcome: Outcome::Reset, at: now }, &findings);
    }

    fn count(&mut self, outcome: Outcome, latency: Duration, at: Nanos) -> Findings {
        let Member { config, counters, common, .. } = &*self.member;
        let service = &common.circuit;
        let mut findings = Findings::default();
        if let Some(breaker) = breaker_of(config, BreakerScope::Endpoint) {
            findings.endpoint = self.endpoint.count(&counters.circuit, breaker, (outcome, at));
        } else if let Some(breaker) = breaker_of(config, BreakerScope::Service) {
            findings.service = self.service.count(service, breaker, (outcome, at));
        }
        if !self.endpoint.counts(&counters.circuit) {
            return findings;
        }
        if outlier::is_failure(outcome) {
            counters.results.fail(at);
            findings.outlier = outlying(&self.member, at);
        } else {
            self.results = Some(counters.succeed(latency, at));
        }
        findings
    }

    /// Makes a failure of the success that the head was.
    fn revoke(&mut self, at: Nanos) -> Findings {
        let Member { config, counters, common, .. } = &*self.member;
        let service = &common.circuit;
        let mut findings = Findings::default();
        if let Some(breaker) = breaker_of(config, BreakerScope::Endpoint) {
            findings.endpoint = self.endpoint.revoke(&counters.circuit, breaker, at);
        } else if let Some(breaker) = breaker_of(config, BreakerScope::Service) {
            findings.service = self.service.revoke(service, breaker, at);
        }
        if let Some(ended) = self.results.take().filter(|_| self.endpoint.counts(&counters.circuit)) {
            counters.results.revoke(at, ended);
            findings.outlier = outlying(&self.member, at);
        }
        findings
    }

    /// Asks the cluster for the transitions that are due. Trials always are: their results are the transitions.
    fn conclude(&self, verdict: Verdict, findings: &Findings) {
        let (trial, service_trial) = (self.endpoint.pass.trial, self.service.pass.trial);
        let due = trial || service_trial || findings.endpoint.or(findings.outlier).or(findings.service).is_some();
        let Some(cluster) = due.then(|| self.member.cluster.upgrade()).flatten() else { return };
        let (id, generation) = (self.member.id, self.endpoint.pass.generation);
        if trial {
            cluster.tried(id, generation, verdict);
        } else if let Some(reason) = findings.endpoint {
            cluster.trip(id, generation, reason, verdict.at);
        } else if let Some(reason) = findings.outlier {
            cluster.offended(id, generation, (reason, Severity::of(verdict.outcome)), verdict.at);
        }
        if service_trial {
            cluster.service_tried(self.service.pass.generation, verdict);
        } else if let Some(reason) = findings.service {
            cluster.service_trip(self.service.pass.generation, reason, verdict.at);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.stage == Stage::Waiting {
            self.member.load.stop_waiting();
            self.member.counters.circuit.gate.give_back(self.endpoint.pass);
            self.member.common.circuit.gate.give_back(self.service.pass);
        }
        self.member.load.end();
    }
}

impl Leave {
    /// Whether results go into the counters: not those of trials, and not those of an older generation.
    #[inline]
    fn counts(&self, circuit: &Circuit) -> bool {
        !self.pass.trial && circuit.gate.generation() == self.pass.generation
    }

    /// Why the breaker should open now, if it should.
    #[inline]
    fn count(&mut self, circuit: &Circuit, config: &CircuitBreaker, (outcome, at): (Outcome, Nanos)) -> Option<Reason> {
        if !self.counts(circuit) {
            return None;
        }
        if !is_among(outcome, &config.failures) {
            self.ended = Some(circuit.tally.succeed(at));
            return None;
        }
        circuit.tally.fail(at);
        circuit.verdict(config, at)
    }

    fn revoke(&mut self, circuit: &Circuit, config: &CircuitBreaker, at: Nanos) -> Option<Reason> {
        let ended = self.ended.take().filter(|_| config.failures.reset && self.counts(circuit))?;
        circuit.tally.revoke(at, ended);
        circuit.verdict(config, at)
    }
}

fn outlying(member: &Member, at: Nanos) -> Option<Reason> {
    let rules = member.config.outliers.as_ref().filter(|_| !member.counters.is_spared(at))?;
    outlier::verdict(&member.counters.results, rules, at)
}
