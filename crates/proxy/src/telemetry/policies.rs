//! Metrics of policies, read when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidegate_core::policy::Tally;

use super::exposition::{Description, Kind, Samples};
use super::metrics::Scrape;

pub(super) const READ: &[Description] = &[
    Description {
        name: "tidegate_policy_refusals_total",
        kind: Kind::Counter,
        labels: &["route", "policy", "name"],
        help: "Requests that a policy refused. The route is empty for replies that the router makes itself, the name where a route can \
               have only one of the policy.",
        samples: |scrape, out| each(scrape, out, |tally| &tally.refused),
    },
    Description {
        name: "tidegate_policy_would_refuse_total",
        kind: Kind::Counter,
        labels: &["route", "policy", "name"],
        help: "Requests that a policy in shadow mode would have refused, and let pass.",
        samples: |scrape, out| each(scrape, out, |tally| &tally.shadowed),
    },
];

fn each(scrape: &Scrape<'_>, out: &mut Samples<'_>, count: fn(&Tally) -> &AtomicU64) {
    for ((route, policy, name), tally) in &scrape.tallies {
        out.value(&[route, policy, name], count(tally).load(Relaxed));
    }
}
