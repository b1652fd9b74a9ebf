//! The limits that callers bring along: an API key may have a rate of its own.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_core::exchange::Exchange;
use tidegate_core::limiter::{Keyed, Limit, Standing, Store};
use tidegate_core::policy::{Decision, Gate, Phase, World};
use tidegate_http1::ResponseHead;

use super::gate::refusal;
use super::shown;
use crate::policy::{Policy, Setup};
use crate::shared::moment::Origin;

/// What clients are told that it is called.
const NAME: &str = "own";

/// Counts every caller with a rate of their own, over all routes.
struct OwnLimits {
    store: Arc<Store>,
    origin: Arc<Origin>,
    name: Arc<str>,
    /// One for each different limit: there are as many as operators have thought of.
    known: ArcSwap<Vec<Known>>,
}

#[derive(Clone)]
struct Known {
    limit: Limit,
    keyed: Arc<Keyed>,
    policy: Arc<str>,
}

/// Adds the gate to routes where somebody can be known.
pub(super) fn add(setup: &mut Setup<'_>) {
    let Some(route) = setup.route else { return };
    let Some(auth) = route.policies.iter().find(|written| written.key == "auth") else { return };
    let at = auth.at.clone();
    let store = super::store(setup);
    let origin = Origin::of(setup.shared);
    let gate = setup.shared.keep("own limits", || OwnLimits {
        store: Arc::clone(&store),
        origin,
        name: NAME.into(),
        known: ArcSwap::default(),
    });
    setup.gate((Phase::Limit, super::RouteLimits::KEY), &NAME.into(), &at, gate);
}

impl OwnLimits {
    fn of(&self, limit: Limit) -> Known {
        if let Some(known) = self.known.load().iter().find(|known| known.limit == limit) {
            return known.clone();
        }
        let new = Known { limit, keyed: Arc::new(self.store.keyed(limit)), policy: shown::policy(NAME, &limit) };
        self.known.rcu(|known| {
            let mut all = Vec::clone(known);
            // Another worker may have met it at the same time.
            if !all.iter().any(|known| known.limit == limit) {
                all.push(new.clone());
            }
            all
        });
        self.known.load().iter().find(|known| known.limit == limit).cloned().unwrap_or(new)
    }
}

impl Gate for OwnLimits {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Decision<'a> {
        let Some(identity) = &exchange.identity else { return Decision::PASS };
        let Some(limit) = identity.rate else { return Decision::PASS };
        let known = self.of(limit);
        let now = self.origin.now(&limit, world);
        let outcome = known.keyed.decide(&(&identity.way, &identity.user), 1, now);
        exchange.limits.push(Standing { name: Arc::clone(&self.name), policy: known.policy, outcome });
        if outcome.allowed { Decision::PASS } else { Decision::refuse(refusal(&outcome)) }
    }

    fn describe(&self, exchange: &Exchange) -> String {
        match exchange.identity.as_ref().and_then(|identity| identity.rate) {
            Some(limit) => format!("{}, which the caller brings along", shown::words(&limit)),
            None => "a limit that the caller brings along, if there is one".to_owned(),
        }
    }

    fn reply(&self, exchange: &Exchange, reply: &mut ResponseHead) {
        shown::tell_if_first(&self.name, &exchange.limits, &mut reply.fields);
    }
}
