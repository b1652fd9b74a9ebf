//! `rate_limit`: how much may be asked for, by whom. Limits at the top hold for every route and are counted over all of them;
//! those of a route are its own.

mod file;
mod gate;
mod key;
mod own;
mod shown;
mod store;

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Place, Reading};
use tidegate_config::problem::Path;
use tidegate_core::limiter::{Cell, Store};
use tidegate_core::policy::Phase;

use self::file::{Definition, Limits, LimitsFile, ModeFile, What};
use self::gate::{Counter, Elsewhere, RateGate};
pub(crate) use self::store::LimitsStore;
use crate::policy::{Policy, Setup};
use crate::shared::moment::Origin;

/// What completes a limit where it is written.
const BUILT_IN: &str = "
global: { rate: 100/s, burst: 200 }
per_client: { rate: 10/s, burst: 20, key: client_ip }
'*': { mode: enforce, max_delay: 1s, ipv4_prefix: 32, ipv6_prefix: 64 }
";

/// The limits of the whole gateway.
pub(crate) struct GatewayLimits;

/// The limits of a route, and where all limits become gates.
pub(crate) struct RouteLimits;

/// How much memory limits may take.
pub(crate) struct LimitsMemory;

/// How much memory limits may take.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsMemoryFile {
    /// Keys that can be counted by themselves at the same time; each costs about 50 bytes. Beyond it, keys share their counts.
    max_keys: Option<usize>,
}

impl Policy for GatewayLimits {
    const KEY: &'static str = "rate_limit";
    const PLACE: Place = Place::Top;
    const BUILT_IN: &'static str = BUILT_IN;
    const SHORT: Option<&'static str> = Some("rate");
    const EXAMPLE: &'static str = "\
services: { orders: { url: http://127.0.0.1:9001 } }
rate_limit:
  global: { rate: 100/s, burst: 200 }
  per_client: { rate: 10/s, burst: 20, key: client_ip }
routes: [{ match: { path_prefix: / }, service: orders }]
";
    type File = LimitsFile;
    type Meaning = Limits;

    fn mean(file: LimitsFile, reading: &mut Reading<'_, '_>) -> Option<Limits> {
        Some(file::mean(file, reading))
    }

    /// Done by [`RouteLimits`]: a route may have a limit of the same name instead.
    fn build(_: Option<&Limits>, _: &Path, _: &mut Setup<'_>) {}
}

impl Policy for LimitsMemory {
    const KEY: &'static str = "limits_memory";
    const PLACE: Place = Place::Top;
    const BUILT_IN: &'static str = "{ max_keys: 1000000 }";
    const EXAMPLE: &'static str = "\
services: { orders: { url: http://127.0.0.1:9001 } }
rate_limit: { per_client: {} }
limits_memory: { max_keys: 100000 }
routes: [{ match: { path_prefix: / }, service: orders }]
";
    type File = LimitsMemoryFile;
    type Meaning = usize;

    fn mean(file: LimitsMemoryFile, reading: &mut Reading<'_, '_>) -> Option<usize> {
        let keys = file.max_keys.unwrap_or(DEFAULT_KEYS);
        if !(1000..=100_000_000).contains(&keys) {
            let at = reading.path().join("max_keys");
            reading.error(&at, "`max_keys` is 1000 to 100000000");
        }
        Some(keys)
    }

    fn build(_: Option<&usize>, _: &Path, _: &mut Setup<'_>) {}
}

const DEFAULT_KEYS: usize = 1_000_000;

impl Policy for RouteLimits {
    const KEY: &'static str = "rate_limit";
    const PLACE: Place = Place::Route;
    const BUILT_IN: &'static str = BUILT_IN;
    const SHORT: Option<&'static str> = Some("rate");
    const EXAMPLE: &'static str = "\
services: { orders: { url: http://127.0.0.1:9001 } }
rate_limit: { per_client: {} }
routes:
  - match: { path_prefix: /orders }
    service: orders
    rate_limit:
      per_client: off
      orders: { rate: 600/m, key: \"header:x-shop\", mode: shadow }
";
    type File = LimitsFile;
    type Meaning = Limits;

    fn mean(file: LimitsFile, reading: &mut Reading<'_, '_>) -> Option<Limits> {
        Some(file::mean(file, reading))
    }

    fn build(meaning: Option<&Limits>, _: &Path, setup: &mut Setup<'_>) {
        let mut limits = BTreeMap::new();
        let route = setup.route.map_or_else(|| Arc::from(""), |route| Arc::clone(&route.name));
        for (name, limit) in setup.top::<GatewayLimits>().into_iter().flatten() {
            limits.insert(Arc::clone(name), (Arc::from(""), limit.clone()));
        }
        for (name, limit) in meaning.into_iter().flatten() {
            limits.insert(Arc::clone(name), (Arc::clone(&route), limit.clone()));
        }
        for (name, (scope, limit)) in limits {
            if let Some(limit) = limit {
                add(&name, &scope, &limit, setup);
            }
        }
        own::add(setup);
    }
}

/// Adds the gate of one limit. `scope` is the route whose limit it is; empty for the whole gateway.
fn add(name: &Arc<str>, scope: &str, limit: &Arc<Definition>, setup: &mut Setup<'_>) {
    let phase = if limit.needs_identity() { Phase::Limit } else { Phase::Edge };
    // What the router answers itself has passed no authentication.
    let Some(pattern) = setup
        .route
        .map(|route| route.matches.path.clone())
        .or_else(|| (phase == Phase::Edge).then(tidegate_config::value::PathPattern::everything))
    else {
        return;
    };
    let store = store(setup);
    let identity = format!("{scope}\n{name}\n{}", limit.identity());
    let counter = match limit.what {
        What::Rate(rate) if limit.parts.is_empty() => {
            Counter::Together(setup.shared.keep(format!("cell\n{identity}"), || Cell::new(rate)))
        }
        What::Rate(rate) => Counter::Keyed(setup.shared.keep(format!("keyed\n{identity}"), || store.keyed(rate))),
        What::Concurrency(most) => {
            Counter::AtOnce(setup.shared.keep(format!("slots\n{identity}"), || store.slots(most)))
        }
    };
    let origin = Origin::of(setup.shared);
    let elsewhere = match limit.what {
        What::Rate(_) => store::shared(setup).map(|store| Elsewhere { store, limit: format!("{scope}/{name}") }),
        What::Concurrency(_) => None,
    };
    let gate = RateGate::new(name, Arc::clone(limit), (counter, elsewhere), (pattern, origin));
    let shadow = limit.mode == ModeFile::Shadow;
    setup.shadowed_gate((phase, RouteLimits::KEY), name, (&limit.at, shadow), Arc::new(gate));
}

/// Where the counts of all limits are kept.
fn store(setup: &Setup<'_>) -> Arc<Store> {
    let keys = setup.top::<LimitsMemory>().copied().unwrap_or(DEFAULT_KEYS);
    setup.shared.keep(format!("limits\n{keys}"), || Store::new(keys, &RandomState::new()))
}

#[cfg(test)]
mod tests;
