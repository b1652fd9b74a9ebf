//! `ip`: who may call, by address. Ranges that are denied go before ranges that are allowed.

use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::Cidr;
use tidegate_core::exchange::Exchange;
use tidegate_core::policy::{Decision, Gate, Phase, World};
use tidegate_core::rejection::{Rejection, RejectionKind};

use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct Ip;

/// Who may call, by the client's address after trusted proxies were believed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IpFile {
    /// Only these may call. By default everybody may.
    allow: Option<Vec<Cidr>>,
    /// These may not, whatever `allow` says.
    #[serde(default)]
    deny: Vec<Cidr>,
}

/// Ranges of addresses, each list sorted and without overlap.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    allow: Vec<(IpAddr, IpAddr)>,
    deny: Vec<(IpAddr, IpAddr)>,
}

impl Policy for Ip {
    const KEY: &'static str = "ip";
    const PLACE: Place = Place::Route;
    const EXAMPLE: &'static str = "\
services: { orders: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: /orders }
    service: orders
    ip: { allow: [10.0.0.0/8], deny: [10.6.6.6] }
";
    type File = IpFile;
    type Meaning = Ranges;

    fn mean(file: IpFile, reading: &mut Reading<'_, '_>) -> Option<Ranges> {
        let path = reading.path();
        if file.allow.is_none() && file.deny.is_empty() && !reading.is_excused(&path) {
            let problem = Problem::error(path.clone(), "`ip` says nothing");
            reading.report(problem.help("write `allow`, `deny` or both, as ranges such as `10.0.0.0/8`"));
        }
        let allow = path.join("allow");
        if file.allow.as_ref().is_some_and(Vec::is_empty) && !reading.is_excused(&allow) {
            // Nobody, or everybody? Both have been taken for it.
            let problem = Problem::error(allow, "`allow` names nobody");
            reading.report(problem.help("write ranges such as `10.0.0.0/8`, or leave `allow` out to let everybody in"));
        }
        Some(Ranges { allow: ranges(&file.allow.unwrap_or_default()), deny: ranges(&file.deny) })
    }

    fn build(meaning: Option<&Ranges>, at: &Path, setup: &mut Setup<'_>) {
        if let Some(ranges) = meaning {
            setup.gate((Phase::Edge, Self::KEY), &"".into(), at, Arc::new(ranges.clone()));
        }
    }
}

impl Gate for Ranges {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn World) -> Decision<'a> {
        let client = exchange.client.to_canonical();
        let cause = if has(&self.deny, client) {
            "the address is in `deny`"
        } else if !(self.allow.is_empty() || has(&self.allow, client)) {
            "the address is not in `allow`"
        } else {
            return Decision::PASS;
        };
        let detail = "Your address is not allowed here";
        Decision::refuse(Rejection::new(RejectionKind::Forbidden, "ip_denied", detail).cause(cause))
    }

    fn describe(&self, _: &Exchange) -> String {
        let lists = [("only", &self.allow), ("not", &self.deny)];
        let lists = lists.into_iter().filter(|(_, ranges)| !ranges.is_empty());
        lists.map(|(word, ranges)| format!("{word} {}", shown(ranges))).collect::<Vec<_>>().join("; ")
    }
}

/// Sorted, with what overlaps made one. A range of IPv4-mapped addresses is one of IPv4 addresses, as clients with one are.
fn ranges(written: &[Cidr]) -> Vec<(IpAddr, IpAddr)> {
    let ends = |range: &Cidr| {
        let (first, last) = (range.0.network(), range.0.broadcast());
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (IpAddr::V4(first), IpAddr::V4(last)),
            _ => (first, last),
        }
    };
    let mut all: Vec<(IpAddr, IpAddr)> = written.iter().map(ends).collect();
    all.sort();
    let mut merged: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match merged.last_mut() {
            Some(before) if before.1.is_ipv4() == first.is_ipv4() && first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// `10.0.0.0-10.255.255.255, 192.0.2.1`
fn shown(ranges: &[(IpAddr, IpAddr)]) -> String {
    let shown =
        ranges.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    shown.collect::<Vec<_>>().join(", ")
}

fn has(ranges: &[(IpAddr, IpAddr)], address: IpAddr) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    let before = after.checked_sub(1).and_then(|at| ranges.get(at));
    before.is_some_and(|(_, last)| address <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gateway, problems};

    fn list(texts: &[&str]) -> Vec<(IpAddr, IpAddr)> {
        ranges(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cidr>>())
    }

    fn gateway(ip: &str) -> Gateway {
        Gateway::of(&format!(
            "server: {{ trusted_proxies: [192.0.2.1] }}\n\
             services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
             routes: [{{ match: {{ path_prefix: / }}, service: a, ip: {ip} }}]"
        ))
    }

    /// What is said to a client that a trusted proxy speaks for.
    fn said(gateway: &Gateway, client: &str) -> String {
        gateway.send(&format!("GET /\nX-Forwarded-For: {client}")).said
    }

    const DENIED: &str = "403 ip_denied: Your address is not allowed here";

    #[test]
    fn only_addresses_of_allow_may_call() {
        let gateway = gateway("{ allow: [10.0.0.0/8, 192.168.1.7, 2001:db8::/32] }");
        for client in ["10.0.0.0", "10.255.255.255", "192.168.1.7", "2001:db8::1", "::ffff:10.1.2.3"] {
            assert_eq!(said(&gateway, client), "pass", "{client}");
        }
        for client in ["9.255.255.255", "11.0.0.0", "192.168.1.6", "192.168.1.8", "2001:db9::", "::1"] {
            assert_eq!(said(&gateway, client), DENIED, "{client}");
        }
    }

    #[test]
    fn deny_goes_before_allow() {
        let gateway = gateway("{ allow: [10.0.0.0/8], deny: [10.6.6.6, 10.7.0.0/16] }");
        assert_eq!(said(&gateway, "10.6.6.5"), "pass");
        for client in ["10.6.6.6", "::ffff:10.6.6.6", "10.7.0.0", "10.7.255.255"] {
            assert_eq!(said(&gateway, client), DENIED, "{client}");
        }
    }

    #[test]
    fn what_is_not_denied_passes_where_nothing_is_allowed() {
        let gateway = gateway("{ deny: [10.0.0.0/8] }");
        assert_eq!(said(&gateway, "10.0.0.1"), DENIED);
        assert_eq!(said(&gateway, "192.0.2.77"), "pass");
    }

    #[test]
    fn a_range_of_mapped_addresses_is_one_of_ipv4_and_all_of_ipv6_is_not() {
        let mapped = gateway("{ deny: ['::ffff:10.0.0.0/104'] }");
        assert_eq!(said(&mapped, "10.1.2.3"), DENIED);
        assert_eq!(said(&mapped, "11.1.2.3"), "pass");
        let six = gateway("{ deny: ['::/0'] }");
        assert_eq!(said(&six, "2001:db8::1"), DENIED);
        assert_eq!(said(&six, "10.1.2.3"), "pass");
    }

    #[test]
    fn a_client_cannot_say_itself_where_it_is() {
        let mut gateway = gateway("{ allow: [10.0.0.0/8] }");
        gateway.client = "203.0.113.9:50000".parse().unwrap();
        assert_eq!(said(&gateway, "10.0.0.1"), DENIED);
    }

    #[test]
    fn a_list_that_says_nothing_is_a_mistake() {
        let yaml = |ip: &str| {
            problems(&format!(
                "services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\nroutes: [{{ service: a, ip: {ip} }}]"
            ))
        };
        assert!(yaml("{}").contains("`ip` says nothing"));
        assert!(yaml("{ allow: [], deny: [10.0.0.1] }").contains("`allow` names nobody"));
        assert_eq!(yaml("{ allow: off, deny: [10.0.0.1] }"), "");
        assert_eq!(yaml("{ allow: [10.0.0.1/8] }").matches("error").count(), 1);
    }

    #[test]
    fn an_address_is_found_in_the_range_that_has_it() {
        let ranges = list(&["10.0.0.0/8", "192.168.1.0/24", "10.1.0.0/16", "fd00::/8", "::1/128"]);
        for inside in ["10.0.0.0", "10.255.255.255", "192.168.1.7", "fdff::1", "::1"] {
            assert!(has(&ranges, inside.parse().unwrap()), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.168.2.0", "fe00::", "::2", "0.0.0.0"] {
            assert!(!has(&ranges, outside.parse().unwrap()), "{outside}");
        }
        assert!(!has(&[], "10.0.0.1".parse().unwrap()));
    }
}
