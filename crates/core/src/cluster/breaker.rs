//! The circuit breaker: closed, open, half open. Its counting is atomic and free of locks; its transitions happen under the
//! cluster's lock.

use std::time::{Duration, Instant};

use tidegate_config::config::{CircuitBreaker, Conditions, Trip};

use super::gate::{Gate, Mode};
use super::state::Reason;
use super::window::Tally;
use crate::balance::Nanos;

/// What became of an attempt, as far as its endpoint is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A reply with this status.
    Status(u16),
    /// No connection.
    Connect,
    /// The connection broke, or the reply was malformed.
    Reset,
    /// Nothing came for too long.
    Timeout,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// None do.
    Open,
    /// A few trials do.
    HalfOpen,
}

impl BreakerState {
    /// As in metrics and the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What an operator may do to a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerCommand {
    /// Opens it until another command.
    ForceOpen,
    /// Closes it until another command.
    ForceClosed,
    /// Results decide again. What was forced open becomes half open, or closed where no breaker is configured.
    Auto,
}

/// Requests that must all succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trial {
    needed: u32,
    passed: u32,
}

impl Trial {
    pub(super) fn of(needed: u32) -> Self {
        Self { needed: needed.max(1), passed: 0 }
    }

    pub(super) fn needed(self) -> u32 {
        self.needed
    }

    /// Counts a success; whether it was the last that was needed.
    pub(super) fn pass(&mut self) -> bool {
        self.passed += 1;
        self.passed >= self.needed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Closed,
    /// Without an end when it was commanded.
    Open {
        until: Option<Instant>,
    },
    HalfOpen(Trial),
}

/// The part of a breaker that changes seldom.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    phase: Phase,
    reason: Option<Reason>,
    forced_closed: bool,
    /// How often it opened.
    opened: u64,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    pub(super) fn is_half_open(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen(_))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(super) fn reason(&self) -> Reason {
        match self.phase {
            Phase::Open { .. } => self.reason.unwrap_or(Reason::Fine),
            Phase::HalfOpen(_) => Reason::Trials,
            Phase::Closed => Reason::Fine,
        }
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen(_) => BreakerState::HalfOpen,
        }
    }

    /// When it will be half open.
    pub(super) fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Open { until } => until,
            Phase::Closed | Phase::HalfOpen(_) => None,
        }
    }

    /// What its gate should do.
    pub(super) fn mode(&self) -> Mode {
        match self.phase {
            Phase::Closed => Mode::Free,
            Phase::Open { .. } => Mode::Shut,
            Phase::HalfOpen(trial) => Mode::Trial(trial.needed()),
        }
    }

    /// Opens it, unless it is open already or forced to be closed; whether it did.
    pub(super) fn trip(&mut self, reason: Reason, config: &CircuitBreaker, now: Instant) -> bool {
        if self.forced_closed || self.is_open() {
            return false;
        }
        self.open(reason, Some(now + config.open));
        true
    }

    /// Half open once its time has come; whether it has.
    pub(super) fn settle(&mut self, config: Option<&CircuitBreaker>, now: Instant) -> bool {
        let Some(config) = config.filter(|_| self.until().is_some_and(|until| until <= now)) else { return false };
        self.half_open(config);
        true
    }

    /// The result of a trial; whether it changed the state.
    pub(super) fn tried(&mut self, succeeded: bool, config: &CircuitBreaker, now: Instant) -> bool {
        let Phase::HalfOpen(trial) = &mut self.phase else { return false };
        if !succeeded {
            self.open(Reason::TrialFailed, Some(now + config.open));
            return true;
        }
        let closed = trial.pass();
        if closed {
            self.phase = Phase::Closed;
        }
        closed
    }

    pub(super) fn command(&mut self, command: BreakerCommand, config: Option<&CircuitBreaker>) {
        self.forced_closed = command == BreakerCommand::ForceClosed;
        match command {
            BreakerCommand::ForceOpen => self.open(Reason::ForcedOpen, None),
            BreakerCommand::ForceClosed => self.phase = Phase::Closed,
            BreakerCommand::Auto if self.phase == (Phase::Open { until: None }) => match config {
                Some(config) => self.half_open(config),
                None => self.phase = Phase::Closed,
            },
            BreakerCommand::Auto => {}
        }
    }

    /// After a reload: a breaker that is not configured any more keeps only what was commanded. Whether it closed.
    pub(super) fn release(&mut self) -> bool {
        let kept = self.is_closed() || self.phase == (Phase::Open { until: None });
        if !kept {
            self.phase = Phase::Closed;
        }
        !kept
    }

    fn open(&mut self, reason: Reason, until: Option<Instant>) {
        self.opened += 1;
        self.reason = Some(reason);
        self.phase = Phase::Open { until };
    }

    fn half_open(&mut self, config: &CircuitBreaker) {
        self.phase = Phase::HalfOpen(Trial::of(config.half_open_requests));
    }
}

/// The part of a breaker that requests touch.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) gate: Gate,
    pub(super) tally: Tally,
}

impl Circuit {
    pub(super) fn new(config: Option<&CircuitBreaker>) -> Self {
        Self { gate: Gate::default(), tally: Tally::new(window(config)) }
    }

    pub(super) fn configure(&self, config: Option<&CircuitBreaker>) {
        self.tally.resize(window(config));
    }

    /// Why the breaker should open, if it should.
    pub(super) fn verdict(&self, config: &CircuitBreaker, now: Nanos) -> Option<Reason> {
        match config.trip {
            Trip::Ratio { share, min_requests, .. } => {
                self.tally.counts(now).reach(share, min_requests).then_some(Reason::FailureRatio)
            }
            Trip::Consecutive(limit) => (self.tally.streak() >= limit.max(1)).then_some(Reason::ConsecutiveErrors),
        }
    }
}

fn window(config: Option<&CircuitBreaker>) -> Duration {
    match config.map(|config| config.trip) {
        Some(Trip::Ratio { window, .. }) => window,
        Some(Trip::Consecutive(_)) | None => Duration::from_secs(10),
    }
}

/// Whether the outcome is one of the conditions.
#[inline]
pub(super) fn is_among(outcome: Outcome, conditions: &Conditions) -> bool {
    match outcome {
        Outcome::Status(status) => conditions.statuses.contains(status),
        Outcome::Connect => conditions.connect,
        Outcome::Reset => conditions.reset,
        Outcome::Timeout => conditions.timeout,
    }
}
