//! The table of policies. Its order is total: it is the order of gates inside a phase.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tidegate_config::Config;
use tidegate_config::config::Route;
use tidegate_config::policy::Vocabulary;
use tidegate_config::problem::Problems;
use tidegate_core::policy::{Chain, Guarded, Policies, Shared, Table};

use crate::auth::{Auth, AuthFailures, RouteAuth};
use crate::bots::Bots;
use crate::cors::Cors;
use crate::csrf::Csrf;
use crate::identity_headers::IdentityHeaders;
use crate::ip::Ip;
use crate::policy::{Entry, Setup};
use crate::rate_limit::{GatewayLimits, LimitsMemory, LimitsStore, RouteLimits};
use crate::requests::Requests;
use crate::require::Require;
use crate::security_headers::SecurityHeaders;
use crate::tls::RequireTls;

/// The words of all policies, in the order in which their gates stand inside a phase.
pub static VOCABULARY: Vocabulary = Vocabulary::new(|| ENTRIES.iter().map(|entry| entry.word).collect());

const ENTRIES: &[Entry] = &[
    Entry::of::<Auth>(),
    Entry::of::<AuthFailures>(),
    Entry::of::<SecurityHeaders>(),
    Entry::of::<Ip>(),
    Entry::of::<RequireTls>(),
    Entry::of::<GatewayLimits>(),
    Entry::of::<LimitsMemory>(),
    Entry::of::<LimitsStore>(),
    Entry::of::<RouteLimits>(),
    Entry::of::<Bots>(),
    Entry::of::<Cors>(),
    Entry::of::<Csrf>(),
    Entry::of::<Requests>(),
    Entry::of::<RouteAuth>(),
    Entry::of::<Require>(),
    Entry::of::<IdentityHeaders>(),
];

/// A configuration for each policy that uses it, with the policy's key.
pub fn examples() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENTRIES.iter().map(|entry| (entry.word.key, entry.example))
}

/// All policies.
pub static TABLE: AllPolicies = AllPolicies;

/// Every policy of the table.
#[derive(Debug, Clone, Copy)]
pub struct AllPolicies;

impl Table for AllPolicies {
    fn build(&self, config: &Config, shared: &Arc<Shared>) -> (Policies, Problems) {
        let (mut problems, mut guarded, mut jobs, mut once) =
            (Problems::new(), BTreeSet::new(), Vec::new(), HashMap::new());
        let mut build = |route: Option<&Route>| {
            let (problems, guarded, jobs, once) = (&mut problems, &mut guarded, &mut jobs, &mut once);
            let mut setup = Setup { config, route, shared, problems, guarded, links: Vec::new(), jobs, once };
            for entry in ENTRIES {
                (entry.build)(&mut setup);
            }
            Arc::new(Chain::new(setup.links))
        };
        let chains = config.routes.iter().map(|route| build(Some(route))).collect();
        let router = build(None);
        let guarded = Guarded::new(guarded.iter().map(String::as_str));
        (Policies { routes: chains, router, guarded, jobs }, problems)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tidegate_config::{Inputs, Memory, load};

    use super::*;

    #[test]
    fn every_example_is_valid_and_uses_its_policy() {
        for (key, example) in examples() {
            let file = Path::new("gateway.yaml");
            let source = Memory::new().with(file, example);
            let loaded = load(&Inputs { file, source: &source, env: &[], vocabulary: &VOCABULARY });
            let config = loaded.unwrap_or_else(|failure| panic!("{key}: {failure}")).config;
            let words = config.policies.iter().chain(config.routes.iter().flat_map(|route| &route.policies));
            assert!(words.into_iter().any(|word| word.key == key), "{key} is not used");
            let (_, problems) = TABLE.build(&config, &Arc::default());
            assert!(!problems.has_errors(), "{key}: {problems:?}");
        }
    }
}
