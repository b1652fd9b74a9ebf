//! The table of policies. Its order is total: it is the order of gates inside a phase.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tidegate_config::Config;
use tidegate_config::config::Route;
use tidegate_config::policy::Vocabulary;
use tidegate_config::problem::Problems;
use tidegate_core::policy::{Chain, Guarded, Policies, Shared, Table};

use crate::auth::{Auth, RouteAuth};
use crate::ip::Ip;
use crate::policy::{Entry, Setup};
use crate::require::Require;

/// The words of all policies, in the order in which their gates stand inside a phase.
pub static VOCABULARY: Vocabulary = Vocabulary::new(|| ENTRIES.iter().map(|entry| entry.word).collect());

const ENTRIES: &[Entry] = &[Entry::of::<Auth>(), Entry::of::<Ip>(), Entry::of::<RouteAuth>(), Entry::of::<Require>()];

/// All policies.
pub static TABLE: AllPolicies = AllPolicies;

/// Every policy of the table.
#[derive(Debug, Clone, Copy)]
pub struct AllPolicies;

impl Table for AllPolicies {
    fn build(&self, config: &Config, shared: &Arc<Shared>) -> Result<(Policies, Problems), Problems> {
        let (mut problems, mut guarded, mut jobs, mut once) =
            (Problems::new(), BTreeSet::new(), Vec::new(), HashMap::new());
        let mut chain = |route: Option<&Route>| {
            let (problems, guarded, jobs, once) = (&mut problems, &mut guarded, &mut jobs, &mut once);
            let mut setup = Setup { config, route, shared, problems, guarded, links: Vec::new(), jobs, once };
            ENTRIES.iter().for_each(|entry| (entry.build)(&mut setup));
            Arc::new(Chain::new(setup.links))
        };
        let routes = config.routes.iter().map(|route| chain(Some(route))).collect();
        let router = chain(None);
        if problems.has_errors() {
            return Err(problems);
        }
        let guarded = Guarded::new(guarded.iter().map(String::as_str));
        Ok((Policies { routes, router, guarded, jobs }, problems))
    }
}
