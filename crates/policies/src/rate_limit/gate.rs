//! A limit between a request and its target.

use std::sync::Arc;
use std::time::Instant;

use tidegate_config::value::{self, PathPattern};
use tidegate_core::exchange::Exchange;
use tidegate_core::limiter::{Cell, Keyed, Limit, Outcome, Slots, Standing};
use tidegate_core::policy::{Decision, Gate, Verdict, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::ResponseHead;

use super::file::{Definition, Exempt, ModeFile, What};
use super::key::Counted;
use super::shown;
use super::store::{self, OnUnavailable, SharedStore};
use crate::shared::moment::Origin;

/// What counts.
pub(super) enum Counter {
    /// All requests together.
    Together(Arc<Cell>),
    /// Each key by itself.
    Keyed(Arc<Keyed>),
    /// Requests of each key that are under way.
    AtOnce(Arc<Slots>),
}

/// Where a limit is counted that several gateways share.
pub(super) struct Elsewhere {
    pub(super) store: SharedStore,
    /// The limit's name there.
    pub(super) limit: String,
}

/// A limit.
pub(super) struct RateGate {
    limit: Arc<Definition>,
    counter: Counter,
    elsewhere: Option<Elsewhere>,
    pattern: PathPattern,
    origin: Arc<Origin>,
    /// The limit's name, and its policy as clients are told of it; `None` where they are told nothing.
    told: Option<(Arc<str>, Arc<str>)>,
}

impl RateGate {
    pub(super) fn new(
        name: &Arc<str>,
        limit: Arc<Definition>,
        (counter, elsewhere): (Counter, Option<Elsewhere>),
        (pattern, origin): (PathPattern, Arc<Origin>),
    ) -> Self {
        let told = match limit.what {
            What::Rate(rate) if limit.mode != ModeFile::Shadow => Some((Arc::clone(name), shown::policy(name, &rate))),
            What::Rate(_) | What::Concurrency(_) => None,
        };
        Self { limit, counter, elsewhere, pattern, origin, told }
    }

    fn ask(&self, exchange: &Exchange, world: &dyn World, counter: Rated<'_>) -> Outcome {
        let now = self.origin.now(counter.limit(), world);
        let weight = self.limit.weights.of(&exchange.head.method);
        let key = self.counted(exchange);
        match (counter, self.limit.mode) {
            (Rated::Together(cell), ModeFile::Delay) => cell.reserve(weight, self.limit.max_delay, now),
            (Rated::Together(cell), ModeFile::Enforce | ModeFile::Shadow) => cell.decide(weight, now),
            (Rated::Keyed(keyed), ModeFile::Delay) => keyed.reserve(&key, weight, self.limit.max_delay, now),
            (Rated::Keyed(keyed), ModeFile::Enforce | ModeFile::Shadow) => keyed.decide(&key, weight, now),
        }
    }

    /// Asks the store that gateways share; who waits for its turn asks again when that has come.
    async fn ask_elsewhere(
        &self,
        elsewhere: &Elsewhere,
        rated: Rated<'_>,
        exchange: &mut Exchange,
        world: &dyn World,
    ) -> Verdict {
        let What::Rate(limit) = self.limit.what else { return Ok(()) };
        let weight = self.limit.weights.of(&exchange.head.method);
        let key = store::key(&elsewhere.limit, &self.counted(exchange));
        let patience = world.now() + self.limit.max_delay;
        let outcome = loop {
            let outcome = match elsewhere.store.decide(world, &key, (&limit, weight)).await {
                Ok(outcome) => outcome,
                Err(why) => match elsewhere.store.on_unavailable {
                    OnUnavailable::Allow => return Ok(()),
                    OnUnavailable::Deny => return Err(unavailable(why.label()).into()),
                    OnUnavailable::Local => break self.ask(exchange, world, rated),
                },
            };
            let again = outcome.retry_after.map(|after| world.now() + after);
            let waits = |again: &Instant| self.limit.mode == ModeFile::Delay && *again <= patience;
            let Some(again) = again.filter(|again| !outcome.allowed && waits(again)) else { break outcome };
            world.sleep(again).await;
        };
        self.tell(exchange, outcome);
        if !outcome.wait.is_zero() {
            world.sleep(world.now() + outcome.wait).await;
        }
        if outcome.allowed { Ok(()) } else { Err(refusal(&outcome).into()) }
    }

    fn counted<'a>(&'a self, exchange: &'a Exchange) -> Counted<'a> {
        Counted { parts: &self.limit.parts, prefixes: self.limit.prefixes, exchange, pattern: &self.pattern }
    }

    fn tell(&self, exchange: &mut Exchange, outcome: Outcome) {
        if let Some((name, policy)) = &self.told {
            exchange.limits.push(Standing { name: Arc::clone(name), policy: Arc::clone(policy), outcome });
        }
    }
}

/// What counts towards a rate.
#[derive(Clone, Copy)]
enum Rated<'a> {
    Together(&'a Cell),
    Keyed(&'a Keyed),
}

impl Rated<'_> {
    fn limit(&self) -> &Limit {
        match self {
            Self::Together(cell) => cell.limit(),
            Self::Keyed(keyed) => keyed.limit(),
        }
    }
}

impl Gate for RateGate {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Decision<'a> {
        if is_exempt(&self.limit.exempt, exchange) {
            return Decision::PASS;
        }
        let rated = match &self.counter {
            Counter::Together(cell) => Rated::Together(cell),
            Counter::Keyed(keyed) => Rated::Keyed(keyed),
            Counter::AtOnce(slots) => {
                return Decision::Ready(enter(slots, &self.counted(exchange)).map(|place| {
                    exchange.held.push(place);
                }));
            }
        };
        if let Some(elsewhere) = &self.elsewhere {
            return Decision::Wait(Box::pin(self.ask_elsewhere(elsewhere, rated, exchange, world)));
        }
        let outcome = self.ask(exchange, world, rated);
        self.tell(exchange, outcome);
        if !outcome.allowed {
            return Decision::refuse(refusal(&outcome));
        }
        if outcome.wait.is_zero() {
            return Decision::PASS;
        }
        let until = world.now() + outcome.wait;
        Decision::Wait(Box::pin(async move {
            world.sleep(until).await;
            Ok(())
        }))
    }

    fn describe(&self, exchange: &Exchange) -> String {
        let limit = match self.limit.what {
            What::Rate(limit) => shown::words(&limit),
            What::Concurrency(most) => format!("{most} under way at once"),
        };
        let weight = match self.limit.weights.of(&exchange.head.method) {
            1 => String::new(),
            weight => format!("; this one counts {weight}"),
        };
        let delay = match self.limit.mode {
            ModeFile::Delay => format!("; waits for up to {}", value::Duration(self.limit.max_delay)),
            ModeFile::Enforce | ModeFile::Shadow => String::new(),
        };
        let elsewhere = self.elsewhere.as_ref().map(|elsewhere| format!("; {}", elsewhere.store.words()));
        let exempt = if is_exempt(&self.limit.exempt, exchange) { "; not for this one" } else { "" };
        let by = self.counted(exchange);
        format!("{limit}, {by}{weight}{delay}{}{exempt}", elsewhere.unwrap_or_default())
    }

    fn reply(&self, exchange: &Exchange, reply: &mut ResponseHead) {
        if let Some((name, _)) = &self.told {
            shown::tell_if_first(name, &exchange.limits, &mut reply.fields);
        }
    }
}

fn enter(slots: &Arc<Slots>, counted: &Counted<'_>) -> Result<Box<dyn std::any::Any>, tidegate_core::policy::Stop> {
    match slots.enter(counted) {
        Some(place) => Ok(Box::new(place)),
        None => Err(Rejection::new(RejectionKind::TooManyRequests, "too_many_at_once", "Too many requests at once")
            .retry_after(1)
            .into()),
    }
}

fn is_exempt(exempt: &Exempt, exchange: &Exchange) -> bool {
    let Exempt { client_ip, users, roles } = exempt;
    if !client_ip.is_empty() && client_ip.iter().any(|range| range.0.contains(&exchange.client.to_canonical())) {
        return true;
    }
    let Some(identity) = exchange.identity.as_ref().filter(|_| !users.is_empty() || !roles.is_empty()) else {
        return false;
    };
    identity.user.as_ref().is_some_and(|user| users.contains(user))
        || identity.roles.iter().any(|role| roles.contains(role))
}

fn unavailable(why: &str) -> Rejection {
    let rejection = Rejection::new(RejectionKind::Unavailable, "limits_unavailable", "Limits cannot be checked now");
    rejection.retry_after(1).cause(format!("the limits' store: {why}"))
}

/// Tells a client when to come back.
pub(super) fn refusal(outcome: &Outcome) -> Rejection {
    let rejection = Rejection::new(RejectionKind::TooManyRequests, "rate_limited", "Rate limit exceeded");
    match outcome.retry_after {
        Some(after) => rejection.retry_after(shown::seconds(after).max(1)),
        None => rejection,
    }
}
