//! Who belongs to a cluster, after reloads and discoveries, and the view that is made of it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Instant;

use tidegate_config::config::{self, BreakerScope};

use super::breaker::BreakerState;
use super::machine::{Machine, Seat};
use super::member::{self, Counters, Member, breaker_of};
use super::state::{Course, STEPS, State};
use super::view::{self, Outlook, Share, View};
use crate::balance::Load;

/// The next member's id, in the whole process.
static IDS: AtomicU64 = AtomicU64::new(1);

impl Machine {
    pub(super) fn configure(&mut self, config: Arc<config::Service>, zone: Option<Arc<str>>, now: Instant) {
        if Arc::ptr_eq(&self.config, &config) && self.zone == zone {
            return;
        }
        self.zone = zone;
        let breaker = breaker_of(&config, BreakerScope::Service);
        self.common.circuit.configure(breaker);
        if breaker.is_none() {
            self.breaker.release();
        }
        for seat in &mut self.seats {
            seat.adapt(&config, now);
        }
        self.config = config;
        self.enlist(now);
    }

    pub(super) fn discovered(&mut self, mut endpoints: Vec<config::Endpoint>, now: Instant) {
        // Providers give the same set in any order. The sort is stable, so that the first of duplicates stays the first.
        endpoints.sort_by(|one, other| one.authority.cmp(&other.authority));
        endpoints.dedup_by(|later, first| later.authority == first.authority);
        if self.discovered.iter().map(AsRef::as_ref).eq(&endpoints) {
            return;
        }
        self.discovered = endpoints.into_iter().map(Arc::new).collect();
        self.enlist(now);
    }

    /// Seats whoever is configured or discovered now; who was seated before keeps what is known of it.
    pub(super) fn enlist(&mut self, now: Instant) {
        let mut before = std::mem::take(&mut self.seats);
        let joins = !before.is_empty();
        let configured: Vec<_> = self.config.endpoints.iter().cloned().map(Arc::new).collect();
        let is_new =
            |endpoint: &&Arc<config::Endpoint>| configured.iter().all(|other| other.authority != endpoint.authority);
        for endpoint in configured.iter().chain(self.discovered.iter().filter(is_new)) {
            let known =
                before.iter().position(|seat| seat.member.is_at(endpoint)).map(|place| before.swap_remove(place));
            let seat = match known {
                Some(seat) => self.reseat(seat, endpoint),
                None => self.seat(endpoint, joins, now),
            };
            self.seats.push(seat);
        }
        self.plan_judging(now);
        self.changed = true;
    }

    fn seat(&self, endpoint: &Arc<config::Endpoint>, joins: bool, now: Instant) -> Seat {
        let member = Member {
            id: IDS.fetch_add(1, Relaxed),
            key: member::key(endpoint),
            endpoint: Arc::clone(endpoint),
            load: Arc::new(Load::default()),
            config: Arc::clone(&self.config),
            counters: Arc::new(Counters::new(breaker_of(&self.config, BreakerScope::Endpoint))),
            common: Arc::clone(&self.common),
            cluster: Weak::clone(&self.cluster),
        };
        let warms = joins && !self.config.slow_start.is_zero();
        Seat::new(Arc::new(member), if warms { Course::Warming { since: now } } else { Course::Serving }, now)
    }

    /// With the weight, zone and tier of today, and the rules of today.
    fn reseat(&self, mut seat: Seat, endpoint: &Arc<config::Endpoint>) -> Seat {
        if seat.member.endpoint != *endpoint || !Arc::ptr_eq(&seat.member.config, &self.config) {
            seat.member = Arc::new(Member {
                id: seat.member.id,
                key: seat.member.key,
                endpoint: Arc::clone(endpoint),
                load: Arc::clone(&seat.member.load),
                config: Arc::clone(&self.config),
                counters: Arc::clone(&seat.member.counters),
                common: Arc::clone(&self.common),
                cluster: Weak::clone(&self.cluster),
            });
        }
        seat
    }

    /// Settles who stands where, sets the gates and notes what changed.
    pub(super) fn publish(&mut self, revision: u64, now: Instant) -> View {
        self.relieve(now);
        self.changed = false;
        let members: Vec<_> = self.seats.iter().map(|seat| Arc::clone(&seat.member)).collect();
        let (groups, panicking) = view::groups(&members, &self.shares(now), &self.config, self.zone.as_deref());
        let panics = |seat: &Seat| panicking.contains(&seat.member.endpoint.priority);
        for seat in &mut self.seats {
            seat.set_gate(panics(seat));
            seat.next_change = seat.upcoming(self.config.slow_start, now);
            let (state, reason) = seat.standing.state(seat.weight());
            if (state, reason) != (seat.state, seat.reason) {
                self.journal.note(now, Some(&seat.member.endpoint.authority), (seat.state, state), reason);
                (seat.state, seat.reason, seat.since) = (state, reason, now);
            }
        }
        self.set_service_gate();
        let service = state_of(self.breaker.state());
        if service != self.service_state {
            self.journal.note(now, None, (self.service_state, service), self.breaker.reason());
            (self.service_state, self.service_since) = (service, now);
        }
        let trials = (0..).zip(&self.seats).filter(|(_, seat)| seat.takes_trials(panics(seat))).map(|(place, _)| place);
        let trials = trials.collect();
        let (next_change, outlook) = (self.next_change(), self.outlook());
        View { revision, members, next_change, common: Arc::clone(&self.common), trials, groups, outlook }
    }

    fn shares(&self, now: Instant) -> Vec<Share> {
        let slow_start = self.config.slow_start;
        let tenths = |seat: &Seat| seat.tenths(slow_start, now);
        let warming = self.seats.iter().any(|seat| seat.is_in_service() && tenths(seat) < STEPS);
        let share = |seat: &Seat| Share {
            weight: seat.weight().saturating_mul(if warming { tenths(seat) } else { 1 }),
            in_service: seat.is_in_service(),
            last_resort: seat.is_last_resort(),
            withdrawn: !seat.is_offered(),
        };
        self.seats.iter().map(share).collect()
    }

    fn outlook(&self) -> Outlook {
        let offered = || self.seats.iter().filter(|seat| seat.is_offered());
        let returning = offered().filter(|seat| !seat.is_in_service());
        let unhealthy = offered().any(|seat| seat.standing.checks.unhealthy);
        Outlook {
            service: self.breaker.until(),
            open: offered().any(|seat| !seat.standing.breaker.is_closed()),
            returns: returning.filter_map(|seat| seat.next_change).min(),
            checks: self.config.health.as_ref().filter(|_| unhealthy).map(|health| health.interval),
        }
    }
}

/// A service's breaker speaks of the same states as its endpoints.
fn state_of(breaker: BreakerState) -> State {
    match breaker {
        BreakerState::Closed => State::Healthy,
        BreakerState::Open => State::Open,
        BreakerState::HalfOpen => State::HalfOpen,
    }
}
