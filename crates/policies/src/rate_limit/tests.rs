//! Limits through the whole chain of a route, on a clock that is moved by hand.

use std::time::Duration;

use crate::testing::{Gateway, problems};

fn yaml(top: &str, route: &str) -> String {
    let top = if top.is_empty() { String::new() } else { format!("rate_limit: {{ {top} }}") };
    format!(
        "services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
auth:
  keys:
    api_key:
      inline:
        - {{ key: key-of-mary-0123456789, user: mary, tenant: a, roles: [admin] }}
        - {{ key: key-of-john-0123456789, user: john, tenant: a, rate: 1/m }}
{top}
routes:
  - {{ name: one, match: {{ path: '/one/{{id}}' }}, service: s, {route} }}
  - {{ name: two, match: {{ path: /two }}, service: s }}
"
    )
}

/// The first line of what is said to each of `times` requests, in short.
fn said(gateway: &Gateway, request: &str, times: usize) -> Vec<String> {
    let first = |said: String| said.lines().next().unwrap_or_default().to_owned();
    (0..times).map(|_| first(gateway.send(request).said)).collect()
}

fn passed(gateway: &Gateway, request: &str, times: usize) -> usize {
    said(gateway, request, times).iter().filter(|said| *said == "pass").count()
}

const REFUSED: &str = "429 rate_limited: Rate limit exceeded";

#[test]
fn what_comes_beyond_the_burst_is_refused_and_told_when_to_come_back() {
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: { rate: 10/m, burst: 2 } }"));
    assert_eq!(said(&gateway, "GET /one/1", 3), ["pass", "pass", REFUSED]);
    let refused = gateway.send("GET /one/1").said;
    assert!(refused.contains("retry-after: 6"), "{refused}");
    assert!(refused.contains("ratelimit: \"mine\";r=0;t=12"), "{refused}");
    assert!(refused.contains("ratelimit-policy: \"mine\";q=2;w=12"), "{refused}");
    gateway.world.advance(Duration::from_secs(6));
    assert_eq!(said(&gateway, "GET /one/1", 2), ["pass", REFUSED]);
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    let gateway = Gateway::of(&yaml("per_client: {}", ""));
    assert_eq!(passed(&gateway, "GET /two", 30), 20);
    let gateway = Gateway::of(&yaml("global: {}", ""));
    assert_eq!(passed(&gateway, "GET /two", 300), 200);
}

#[test]
fn a_limit_of_the_gateway_counts_over_all_routes_and_one_of_a_route_by_itself() {
    let gateway = Gateway::of(&yaml("all: { rate: 2/m }", ""));
    assert_eq!(said(&gateway, "GET /one/1", 1), ["pass"]);
    assert_eq!(said(&gateway, "GET /two", 2), ["pass", REFUSED]);
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: 1/m }"));
    assert_eq!(said(&gateway, "GET /one/1", 2), ["pass", REFUSED]);
    assert_eq!(said(&gateway, "GET /two", 1), ["pass"]);
}

#[test]
fn limits_add_and_only_their_name_takes_one_away() {
    // What `mine` refuses has counted for `all`.
    let both = Gateway::of(&yaml("all: { rate: 3/m }", "rate_limit: { mine: 1/m }"));
    assert_eq!(said(&both, "GET /one/1", 2), ["pass", REFUSED]);
    assert_eq!(said(&both, "GET /two", 2), ["pass", REFUSED]);
    let without = Gateway::of(&yaml("all: { rate: 1/m }", "rate_limit: { all: off, mine: 3/m }"));
    assert_eq!(passed(&without, "GET /one/1", 5), 3);
    assert_eq!(passed(&without, "GET /two", 5), 1);
}

#[test]
fn all_limits_that_a_request_met_are_shown() {
    let gateway = Gateway::of(&yaml("all: { rate: 100/s, burst: 200 }", "rate_limit: { mine: 60/h }"));
    let said = gateway.send("GET /one/1").said;
    assert!(said.contains("ratelimit-policy: \"all\";q=200;w=2, \"mine\";q=60;w=3600"), "{said}");
    assert!(said.contains("ratelimit: \"all\";r=199;t=1, \"mine\";r=59;t=60"), "{said}");
}

#[test]
fn a_scalar_is_one_limit_of_that_rate() {
    let gateway = Gateway::of(&yaml("", "rate_limit: 3/h"));
    assert_eq!(passed(&gateway, "GET /one/1", 9), 3);
}

#[test]
fn clients_count_by_their_address_and_networks_of_ipv6_together() {
    let mut gateway = Gateway::of(&yaml("per_client: { rate: 1/m, burst: 1, key: client_ip }", ""));
    let mut one = |from: &str| {
        gateway.client = from.parse().unwrap();
        passed(&gateway, "GET /two", 1)
    };
    assert_eq!(one("192.0.2.1:1000"), 1);
    assert_eq!(one("192.0.2.1:2000"), 0);
    assert_eq!(one("192.0.2.2:1000"), 1);
    // An address in disguise is the same address.
    assert_eq!(one("[::ffff:192.0.2.2]:1000"), 0);
    assert_eq!(one("[2001:db8:1:1::1]:1000"), 1);
    assert_eq!(one("[2001:db8:1:1:ffff::9]:1000"), 0);
    assert_eq!(one("[2001:db8:1:2::1]:1000"), 1);
}

#[test]
fn keys_of_several_parts_tell_apart_by_all_of_them() {
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: { rate: 1/m, key: [header:x-shop, path:id] } }"));
    for (request, passes) in [
        ("GET /one/1\nx-shop: a", 1),
        ("GET /one/1\nx-shop: a", 0),
        ("GET /one/2\nx-shop: a", 1),
        ("GET /one/1\nx-shop: b", 1),
    ] {
        assert_eq!(passed(&gateway, request, 1), passes, "{request}");
    }
}

#[test]
fn who_lacks_the_key_counts_by_their_address() {
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: { rate: 1/m, key: 'header:x-shop' } }"));
    assert_eq!(passed(&gateway, "GET /one/1", 3), 1);
    assert_eq!(passed(&gateway, "GET /one/1\nx-shop:", 3), 0);
    assert_eq!(passed(&gateway, "GET /one/1\nx-shop: a", 3), 1);
}

#[test]
fn identities_count_by_themselves_and_after_they_are_known() {
    let gateway = Gateway::of(&yaml("", "auth: keys, rate_limit: { mine: { rate: 2/m, key: identity } }"));
    let mary = "GET /one/1\nx-api-key: key-of-mary-0123456789";
    assert_eq!(passed(&gateway, mary, 5), 2);
    assert!(said(&gateway, "GET /one/1", 1)[0].starts_with("401"));
    let tenants = Gateway::of(&yaml("", "auth: keys, rate_limit: { mine: { rate: 2/m, key: identity.tenant } }"));
    assert_eq!(passed(&tenants, mary, 1), 1);
    assert_eq!(passed(&tenants, "GET /one/1\nx-api-key: key-of-john-0123456789", 1), 1);
    assert_eq!(passed(&tenants, mary, 1), 0);
}

#[test]
fn a_key_with_a_rate_of_its_own_is_held_to_it_everywhere() {
    let gateway = Gateway::of(&yaml("", "auth: keys"));
    let john = "GET /one/1\nx-api-key: key-of-john-0123456789";
    assert_eq!(passed(&gateway, john, 3), 1);
    let refused = gateway.send(john).said;
    assert!(refused.contains("ratelimit-policy: \"own\";q=1;w=60"), "{refused}");
    assert_eq!(passed(&gateway, "GET /one/1\nx-api-key: key-of-mary-0123456789", 50), 50);
}

#[test]
fn some_are_exempt() {
    let exempt = "exempt: { client_ip: 10.0.0.0/8, roles: [admin] }";
    let mut gateway = Gateway::of(&yaml("", &format!("auth: keys, rate_limit: {{ mine: {{ rate: 1/m, {exempt} }} }}")));
    assert_eq!(passed(&gateway, "GET /one/1\nx-api-key: key-of-mary-0123456789", 5), 5);
    gateway.client = "10.1.2.3:1".parse().unwrap();
    let john = "GET /one/1\nx-api-key: key-of-john-0123456789";
    // His own limit holds all the same.
    assert_eq!(passed(&gateway, john, 5), 1);
}

#[test]
fn weights_count_for_more() {
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: { rate: 10/h, weight: { POST: 4 } } }"));
    assert_eq!(passed(&gateway, "POST /one/1", 5), 2);
    assert_eq!(passed(&gateway, "GET /one/1", 5), 2);
}

#[test]
fn a_limit_in_shadow_mode_refuses_nobody_and_tells_no_client() {
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: { rate: 1/m, mode: shadow } }"));
    assert_eq!(gateway.send("GET /one/1").said, "pass");
    let sent = gateway.send("GET /one/1");
    assert_eq!(sent.said, "pass");
    assert_eq!(sent.exchange.trail.shadows(), "rate_limit:mine=rate_limited");
}

#[test]
fn a_limit_that_delays_lets_requests_wait_but_not_for_longer_than_it_may() {
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: { rate: 1/s, burst: 1, mode: delay, max_delay: 2s } }"));
    assert_eq!(passed(&gateway, "GET /one/1", 1), 1);
    let mut waiting = vec![gateway.sending("GET /one/1"), gateway.sending("GET /one/1")];
    gateway.world.turn(&mut waiting);
    assert_eq!(waiting.len(), 2);
    assert_eq!(said(&gateway, "GET /one/1", 1), [REFUSED]);
    gateway.world.advance(Duration::from_secs(1));
    gateway.world.turn(&mut waiting);
    assert_eq!(waiting.len(), 1);
    gateway.world.advance(Duration::from_secs(1));
    gateway.world.turn(&mut waiting);
    assert!(waiting.is_empty());
}

#[test]
fn so_many_at_once_and_a_place_is_free_when_its_exchange_has_ended() {
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: { concurrency: 2, key: client_ip } }"));
    let (first, _second) = (gateway.send("GET /one/1"), gateway.send("GET /one/1"));
    assert_eq!(said(&gateway, "GET /one/1", 1), ["429 too_many_at_once: Too many requests at once"]);
    drop(first);
    assert_eq!(said(&gateway, "GET /one/1", 1), ["pass"]);
}

#[test]
fn a_quota_begins_anew_with_its_window() {
    // The clock begins at 08:00 UTC.
    let gateway = Gateway::of(&yaml("", "rate_limit: { mine: { rate: 3/d, algorithm: fixed_window } }"));
    assert_eq!(passed(&gateway, "GET /one/1", 5), 3);
    gateway.world.advance(Duration::from_hours(15));
    assert_eq!(passed(&gateway, "GET /one/1", 5), 0);
    gateway.world.advance(Duration::from_hours(1));
    assert_eq!(passed(&gateway, "GET /one/1", 5), 3);
}

#[test]
fn every_algorithm_lets_its_rate_pass() {
    for algorithm in ["token_bucket", "sliding_window", "sliding_log", "fixed_window"] {
        let limit = format!("rate_limit: {{ mine: {{ rate: 5/m, key: client_ip, algorithm: {algorithm} }} }}");
        let gateway = Gateway::of(&yaml("", &limit));
        assert_eq!(passed(&gateway, "GET /one/1", 9), 5, "{algorithm}");
    }
}

#[test]
fn a_reload_keeps_what_was_counted_where_the_limit_stays_the_same() {
    let gateway = Gateway::of(&yaml("all: { rate: 9/h }", "rate_limit: { mine: { rate: 2/h, key: client_ip } }"));
    assert_eq!(passed(&gateway, "GET /one/1", 5), 2);
    let gateway = gateway.reload(&yaml("all: { rate: 8/h }", "rate_limit: { mine: { rate: 2/h, key: client_ip } }"));
    assert_eq!(passed(&gateway, "GET /one/1", 5), 0);
    let gateway = gateway.reload(&yaml("all: { rate: 8/h }", "rate_limit: { mine: { rate: 3/h, key: client_ip } }"));
    assert_eq!(passed(&gateway, "GET /one/1", 5), 3);
}

#[test]
fn limits_by_address_hold_for_what_the_router_answers_too() {
    let gateway = Gateway::of(&yaml("per_client: { rate: 2/m, burst: 2, key: client_ip }", ""));
    assert_eq!(passed(&gateway, "GET /nowhere", 5), 2);
    assert_eq!(passed(&gateway, "GET /two", 5), 0);
}

#[test]
fn mistakes_are_told() {
    for (route, told) in [
        (
            "rate_limit: { mine: {} }",
            "routes[0].rate_limit.mine: a limit has a `rate` or a `concurrency`, but there is none",
        ),
        ("rate_limit: { mine: { rate: 1/s, concurrency: 2 } }", "but there are `rate` and `concurrency`"),
        ("rate_limit: { mine: { rate: 1/s, key: 'path:nr' } }", "the route's path has no `{nr}`"),
        ("rate_limit: { mine: { rate: 1/s, key: ip } }", "`ip` is no part of a request that can be a key"),
        ("rate_limit: { mine: { rate: 2/s, weight: 3 } }", "a request that counts 3 can never pass"),
        ("rate_limit: { mine: { rate: 2/s, weight: much } }", "a weight is a whole number from 1 on, not `much`"),
        ("rate_limit: { mine: { rate: 2/s, algorithm: fixed_window, burst: 9 } }", "only a `token_bucket` has a burst"),
        ("rate_limit: { mine: { concurrency: 2, mode: delay } }", "`concurrency` cannot delay"),
        ("rate_limit: { mine: { rate: 2/s, ipv6_prefix: 129 } }", "a prefix is 1 to 128 bits"),
        ("rate_limit: { mine: { rate: 100000/d, algorithm: sliding_log } }", "this algorithm counts to"),
    ] {
        let found = problems(&yaml("", route));
        assert!(found.contains(told), "{route}:\n{found}");
    }
}
