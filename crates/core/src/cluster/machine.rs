//! The transitions of all endpoints of a service, and of its breaker. Everything here happens under the cluster's lock.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tidegate_config::config::{self, BreakerScope, OutlierDetection};

use super::breaker::{Breaker, BreakerCommand, Trial, is_among};
use super::gate::Mode;
use super::member::{Common, Member, breaker_of};
use super::outlier::{self, PROBATION, Pace, Severity};
use super::report::Journal;
use super::state::{Checks, Course, Reason, STEPS, Standing, State};
use super::ticket::Verdict;
use super::{Cluster, Command, NoSuchEndpoint};
use crate::balance::Nanos;

/// A service's endpoints and what is known of each.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) config: Arc<config::Service>,
    pub(super) zone: Option<Arc<str>>,
    pub(super) common: Arc<Common>,
    pub(super) cluster: Weak<Cluster>,
    pub(super) discovered: Vec<Arc<config::Endpoint>>,
    pub(super) seats: Vec<Seat>,
    /// The breaker of the whole service.
    pub(super) breaker: Breaker,
    pub(super) service_state: State,
    pub(super) service_since: Instant,
    pub(super) journal: Journal,
    /// Whether a new view is due.
    pub(super) changed: bool,
    /// When latencies are judged next.
    judging: Option<Instant>,
    service_mode: Mode,
}

/// A member and what is known of it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) member: Arc<Member>,
    pub(super) standing: Standing,
    /// As of the last view.
    pub(super) state: State,
    pub(super) reason: Reason,
    pub(super) since: Instant,
    /// When time alone will change something, as of the last view.
    pub(super) next_change: Option<Instant>,
    /// What the gate is set to, or nothing if it must be set anew.
    mode: Option<Mode>,
    /// Since when many requests have been waiting for it.
    crowded_since: Option<Nanos>,
}

/// A member's id, and the generation of the ticket that speaks of it.
type Spoken = (u64, u32);

/// The time between two judgements of latencies.
const JUDGING: Duration = Duration::from_millis(100);

impl Seat {
    pub(super) fn new(member: Arc<Member>, course: Course, now: Instant) -> Self {
        let standing = Standing { course, ..Standing::new(now) };
        let (state, reason) = standing.state(member.endpoint.weight);
        Self { member, standing, state, reason, since: now, next_change: None, mode: None, crowded_since: None }
    }

    pub(super) fn weight(&self) -> u32 {
        self.standing.weight.unwrap_or(self.member.endpoint.weight)
    }

    /// Whether an operator has not taken it out.
    pub(super) fn is_offered(&self) -> bool {
        !self.standing.drained && self.weight() > 0
    }

    pub(super) fn is_in_service(&self) -> bool {
        let serving = matches!(self.standing.course, Course::Serving | Course::Warming { .. });
        self.is_offered() && serving && self.standing.breaker.is_closed() && !self.standing.checks.unhealthy
    }

    /// Ejected, or on probation after that: both take a place among those that may be ejected.
    pub(super) fn is_out(&self) -> bool {
        let out = matches!(self.standing.course, Course::Ejected { .. } | Course::Probation { .. });
        self.is_offered() && out
    }

    /// Not in service, but good enough when too many others are not either. Never what a breaker or an operator took out.
    pub(super) fn is_last_resort(&self) -> bool {
        let trial = matches!(self.standing.course, Course::Probation { .. });
        self.is_offered() && self.standing.breaker.is_closed() && !trial && !self.is_in_service()
    }

    /// Whether a few requests may try it.
    pub(super) fn takes_trials(&self, panics: bool) -> bool {
        let Standing { breaker, course, checks, .. } = &self.standing;
        let trial = breaker.is_half_open() || matches!(course, Course::Probation { .. });
        self.is_offered() && trial && (panics || !checks.unhealthy)
    }

    fn severity(&self) -> Option<Severity> {
        match self.standing.course {
            Course::Ejected { severity, .. } | Course::Probation { severity, .. } => Some(severity),
            Course::Serving | Course::Warming { .. } => None,
        }
    }

    /// A new life: with little at first, and nothing held against it.
    pub(super) fn come_back(&mut self, slow_start: Duration, now: Instant) {
        self.enter(if slow_start.is_zero() { Course::Serving } else { Course::Warming { since: now } });
        self.standing.good_since = now;
    }

    /// What was counted on the old course does not count on the new one.
    fn enter(&mut self, course: Course) {
        self.standing.course = course;
        self.crowded_since = None;
        self.mode = None;
        self.member.counters.clear();
    }

    /// What follows from a breaker that is in another state than before.
    fn after_breaker(&mut self, slow_start: Duration, now: Instant) {
        if self.standing.breaker.is_closed() {
            self.come_back(slow_start, now);
        } else {
            self.enter(Course::Serving);
        }
    }

    fn obey(&mut self, command: Command, config: &config::Service, now: Instant) {
        let standing = &mut self.standing;
        match command {
            Command::Drain => standing.drained = true,
            Command::Weight(weight) => standing.weight = Some(weight),
            Command::Resume => {
                standing.drained = false;
                if self.is_in_service() {
                    self.come_back(config.slow_start, now);
                }
            }
            Command::Forgive => {
                standing.strikes = 0;
                if self.severity().is_some() {
                    self.come_back(config.slow_start, now);
                }
            }
            Command::Breaker(command) => {
                let before = standing.breaker.state();
                standing.breaker.command(command, breaker_of(config, BreakerScope::Endpoint));
                if standing.breaker.state() != before {
                    self.after_breaker(config.slow_start, now);
                }
            }
        }
    }

    /// Drops what a configuration does not ask for any more.
    pub(super) fn adapt(&mut self, config: &config::Service, now: Instant) {
        let breaker = breaker_of(config, BreakerScope::Endpoint);
        self.member.counters.circuit.configure(breaker);
        let released = breaker.is_none() && self.standing.breaker.release();
        if released || config.outliers.is_none() && self.severity().is_some() {
            self.come_back(config.slow_start, now);
        }
        if config.health.is_none() {
            self.standing.checks = Checks::default();
        }
    }

    fn mode(&self, panics: bool) -> Mode {
        match self.standing.course {
            _ if !self.is_offered() => Mode::Drained,
            _ if !self.standing.breaker.is_closed() => self.standing.breaker.mode(),
            Course::Ejected { .. } if !panics => Mode::Shut,
            Course::Probation { trial, .. } => Mode::Trial(trial.needed()),
            Course::Ejected { .. } | Course::Serving | Course::Warming { .. } => Mode::Free,
        }
    }

    /// Sets the gate, which begins a new generation, if it must let others pass than before.
    pub(super) fn set_gate(&mut self, panics: bool) {
        let mode = self.mode(panics);
        if self.mode != Some(mode) {
            self.member.counters.circuit.gate.set(mode);
            self.mode = Some(mode);
        }
    }

    /// Whether tickets of this generation may still decide something.
    fn hears(&self, generation: u32) -> bool {
        self.member.counters.circuit.gate.generation() == generation
    }

    /// When time alone will change something, if nothing has changed since `now`.
    pub(super) fn upcoming(&self, slow_start: Duration, now: Instant) -> Option<Instant> {
        match self.standing.course {
            Course::Ejected { until, .. } => Some(until),
            Course::Warming { since } => Some(since + slow_start / STEPS * self.tenths(slow_start, now)),
            Course::Serving | Course::Probation { .. } => self.standing.breaker.until(),
        }
    }

    /// How many tenths of its share it takes.
    pub(super) fn tenths(&self, slow_start: Duration, now: Instant) -> u32 {
        let Course::Warming { since } = self.standing.course else { return STEPS };
        let step = (slow_start / STEPS).as_nanos().max(1);
        let passed = now.saturating_duration_since(since).as_nanos() / step;
        u32::try_from(passed).map_or(STEPS, |passed| passed.saturating_add(1).min(STEPS))
    }
}

impl Machine {
    pub(super) fn new(
        config: Arc<config::Service>,
        zone: Option<Arc<str>>,
        common: Arc<Common>,
        cluster: Weak<Cluster>,
    ) -> Self {
        Self {
            config,
            zone,
            cluster,
            discovered: Vec::new(),
            seats: Vec::new(),
            breaker: Breaker::default(),
            service_state: State::Healthy,
            service_since: common.origin,
            journal: Journal::default(),
            changed: false,
            judging: None,
            service_mode: Mode::Free,
            common,
        }
    }

    /// When there is something to settle.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next_change().into_iter().chain(self.judging).min()
    }

    pub(super) fn next_change(&self) -> Option<Instant> {
        let changes = self.seats.iter().filter_map(|seat| seat.next_change);
        changes.chain(self.breaker.until()).min()
    }

    pub(super) fn settle(&mut self, now: Instant) {
        let config = Arc::clone(&self.config);
        let scoped = |scope| breaker_of(&config, scope);
        self.changed |= self.next_change().is_some_and(|at| at <= now);
        self.breaker.settle(scoped(BreakerScope::Service), now);
        for seat in &mut self.seats {
            seat.standing.breaker.settle(scoped(BreakerScope::Endpoint), now);
            match seat.standing.course {
                Course::Ejected { until, severity, .. } if until <= now => {
                    seat.enter(Course::Probation { trial: Trial::of(PROBATION), severity });
                }
                Course::Warming { since } if since + config.slow_start <= now => seat.standing.course = Course::Serving,
                Course::Ejected { .. } | Course::Warming { .. } | Course::Serving | Course::Probation { .. } => {}
            }
        }
        if let Some(rules) = config.outliers.as_ref().filter(|_| self.judging.is_some_and(|at| at <= now)) {
            self.judging = Some(now + JUDGING);
            self.judge(rules, now);
        }
    }

    /// Ejects those that are much slower than the others, or silent.
    fn judge(&mut self, rules: &OutlierDetection, now: Instant) {
        let at = self.common.nanos(now);
        let mut places = Vec::new();
        let mut measured: Vec<Pace> = Vec::new();
        for (place, seat) in self.seats.iter_mut().enumerate().filter(|(_, seat)| seat.is_in_service()) {
            let crowded = seat.member.load.waiting() >= rules.min_requests.max(1);
            seat.crowded_since = crowded.then(|| seat.crowded_since.unwrap_or(at));
            measured.push(seat.member.counters.pace(rules.min_requests, seat.crowded_since, at));
            places.push(place);
        }
        for (pace, reason) in outlier::laggards(&measured, rules, at) {
            if let Some(&place) = places.get(pace) {
                self.eject(place, (reason, Severity::Slow), now);
            }
        }
    }

    /// Takes an endpoint out for a while; whether there was room for that.
    fn eject(&mut self, place: usize, (reason, severity): (Reason, Severity), now: Instant) -> bool {
        let config = Arc::clone(&self.config);
        let (Some(rules), Some(seat)) = (&config.outliers, self.seats.get(place)) else { return false };
        if !seat.is_out() && !self.make_room(rules, severity, now) {
            return false;
        }
        let Some(seat) = self.seats.get_mut(place) else { return false };
        let strikes = seat.standing.strikes_at(rules.eject, now).saturating_add(1);
        let until = now + rules.eject.saturating_mul(strikes).min(rules.max_eject.max(rules.eject));
        seat.enter(Course::Ejected { reason, severity, until });
        seat.standing.strikes = strikes;
        seat.standing.ejections += 1;
        self.changed = true;
        true
    }

    /// Whether one more may be ejected, if need be instead of one that offended less.
    fn make_room(&mut self, rules: &OutlierDetection, severity: Severity, now: Instant) -> bool {
        let (out, cap) = self.ejected(rules);
        if out < cap {
            return true;
        }
        let slow_start = self.config.slow_start;
        let milder = self.mildest().filter(|seat| seat.severity() < Some(severity));
        milder.map(|seat| seat.come_back(slow_start, now)).is_some()
    }

    /// Brings back the mildest if there are fewer endpoints than when they were ejected.
    pub(super) fn relieve(&mut self, now: Instant) {
        let config = Arc::clone(&self.config);
        let Some(rules) = &config.outliers else { return };
        let (out, cap) = self.ejected(rules);
        for _ in cap..out {
            if let Some(seat) = self.mildest() {
                seat.come_back(config.slow_start, now);
            }
        }
    }

    /// How many are ejected, and how many may be.
    fn ejected(&self, rules: &OutlierDetection) -> (usize, usize) {
        let offered = self.seats.iter().filter(|seat| seat.is_offered()).count();
        (self.seats.iter().filter(|seat| seat.is_out()).count(), outlier::cap(rules, offered))
    }

    fn mildest(&mut self) -> Option<&mut Seat> {
        self.seats.iter_mut().filter(|seat| seat.is_out()).min_by_key(|seat| seat.severity())
    }

    /// The seat that a ticket speaks of, if it is still of the same generation.
    fn hear(&mut self, (id, generation): Spoken) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.member.id == id && seat.hears(generation))
    }

    pub(super) fn trip(&mut self, spoken: Spoken, reason: Reason, now: Instant) {
        let config = Arc::clone(&self.config);
        let Some(breaker) = breaker_of(&config, BreakerScope::Endpoint) else { return };
        let Some(seat) = self.hear(spoken) else { return };
        if seat.standing.breaker.trip(reason, breaker, now) {
            seat.enter(Course::Serving);
            self.changed = true;
        }
    }

    pub(super) fn offended(&mut self, spoken: Spoken, offence: (Reason, Severity), now: Instant) {
        let id = self.hear(spoken).filter(|seat| seat.severity().is_none()).map(|seat| seat.member.id);
        let Some(place) = self.seats.iter().position(|seat| Some(seat.member.id) == id) else { return };
        if !self.eject(place, offence, now)
            && let Some(seat) = self.seats.get(place)
        {
            seat.member.counters.spare(self.common.nanos(now));
        }
    }

    /// The result of a trial: of a half-open breaker, or after an ejection.
    pub(super) fn tried(&mut self, spoken: Spoken, Verdict { outcome, at: now }: Verdict) {
        let config = Arc::clone(&self.config);
        let Some(place) = self.seats.iter().position(|seat| seat.member.id == spoken.0 && seat.hears(spoken.1)) else {
            return;
        };
        let Some(seat) = self.seats.get_mut(place) else { return };
        if let Some(breaker) =
            breaker_of(&config, BreakerScope::Endpoint).filter(|_| seat.standing.breaker.is_half_open())
        {
            if seat.standing.breaker.tried(!is_among(outcome, &breaker.failures), breaker, now) {
                seat.after_breaker(config.slow_start, now);
                self.changed = true;
            }
        } else if let Course::Probation { trial, .. } = &mut seat.standing.course {
            if outlier::is_failure(outcome) {
                self.eject(place, (Reason::Probation, Severity::of(outcome)), now);
            } else if trial.pass() {
                seat.come_back(config.slow_start, now);
                self.changed = true;
            }
        }
    }

    pub(super) fn service_trip(&mut self, generation: u32, reason: Reason, now: Instant) {
        let Some(breaker) = breaker_of(&self.config, BreakerScope::Service) else { return };
        if self.common.circuit.gate.generation() == generation {
            self.changed |= self.breaker.trip(reason, breaker, now);
        }
    }

    pub(super) fn service_tried(&mut self, generation: u32, Verdict { outcome, at }: Verdict) {
        let Some(breaker) = breaker_of(&self.config, BreakerScope::Service) else { return };
        if self.common.circuit.gate.generation() == generation {
            self.changed |= self.breaker.tried(!is_among(outcome, &breaker.failures), breaker, at);
        }
    }

    pub(super) fn probed(&mut self, id: u64, result: Result<(), String>, now: Instant) {
        let (Some(rules), slow_start) = (&self.config.health, self.config.slow_start) else { return };
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.member.id == id) else { return };
        let checks = &mut seat.standing.checks;
        let was = checks.unhealthy;
        match result {
            Ok(()) => {
                *checks = Checks { unhealthy: was, successes: checks.successes.saturating_add(1), ..Checks::default() };
                checks.unhealthy &= checks.successes < rules.rise.max(1);
            }
            Err(detail) => {
                let failures = checks.failures.saturating_add(1);
                *checks = Checks { unhealthy: was, successes: 0, failures, detail: Some(detail.into()) };
                checks.unhealthy |= failures >= rules.retries.max(1);
            }
        }
        let (failures, unhealthy) = (checks.failures, checks.unhealthy);
        seat.member.counters.failed(failures);
        self.changed |= was != unhealthy;
        if was && !unhealthy && seat.is_in_service() {
            seat.come_back(slow_start, now);
        }
    }

    pub(super) fn command(&mut self, authority: &str, command: Command, now: Instant) -> Result<(), NoSuchEndpoint> {
        let config = Arc::clone(&self.config);
        let mut found = Err(NoSuchEndpoint);
        for seat in self.seats.iter_mut().filter(|seat| *seat.member.endpoint.authority == *authority) {
            seat.obey(command, &config, now);
            found = Ok(());
        }
        self.changed |= found.is_ok();
        found
    }

    pub(super) fn command_service(&mut self, command: BreakerCommand) {
        self.breaker.command(command, breaker_of(&self.config, BreakerScope::Service));
        self.changed = true;
    }

    /// Sets the gate of the whole service, which begins a new generation, if it must let others pass than before.
    pub(super) fn set_service_gate(&mut self) {
        let mode = self.breaker.mode();
        if mode != self.service_mode {
            self.common.circuit.tally.clear();
            self.common.circuit.gate.set(mode);
            self.service_mode = mode;
        }
    }

    /// Whether and when latencies are judged, after a reload.
    pub(super) fn plan_judging(&mut self, now: Instant) {
        let judges = self.config.outliers.as_ref().is_some_and(|rules| rules.slow_factor.is_some());
        self.judging = judges.then_some(now);
    }
}
