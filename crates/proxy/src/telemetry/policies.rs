//! Metrics of policies, read when somebody asks.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidegate_core::policy::{Series, Tally};

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

/// What policies themselves want to be seen, by their own names. Names with `_total` at their end are counters.
pub(super) fn numbers(read: &[(Series, f64)]) -> String {
    let (mut text, mut last) = (String::new(), "");
    for ((name, labels), value) in read {
        if *name != last {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            // Writing to a String cannot fail, here and below.
            writeln!(text, "# TYPE {name} {kind}").ok();
            last = name;
        }
        text.push_str(name);
        for (number, (label, of)) in labels.iter().enumerate() {
            write!(text, "{}{label}=\"{of}\"", if number == 0 { '{' } else { ',' }).ok();
        }
        writeln!(text, "{} {value}", if labels.is_empty() { "" } else { "}" }).ok();
    }
    text
}

fn each(scrape: &Scrape<'_>, out: &mut Samples<'_>, count: fn(&Tally) -> &AtomicU64) {
    for ((route, policy, name), tally) in &scrape.tallies {
        out.value(&[route, policy, name], count(tally).load(Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_policies_are_written_by_name_and_labels() {
        let way = |way: &str| vec![("way", way.into()), ("kind", "jwks".into())];
        let read = [(("a_total", way("x")), 2.0), (("a_total", way("y")), 3.0), (("b", vec![]), 1.5)];
        let text = "# TYPE a_total counter\na_total{way=\"x\",kind=\"jwks\"} 2\na_total{way=\"y\",kind=\"jwks\"} 3\n# TYPE b gauge\nb 1.5\n";
        assert_eq!(numbers(&read), text);
    }
}
