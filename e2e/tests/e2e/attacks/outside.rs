//! Those outside on whom a decision depends, and what is decided while they are away.

use std::net::TcpListener;

use e2e::redis::{Redis, Valve};
use e2e::{Backend, Gateway};

use super::code;

fn yaml(backend: &Backend, url: &str, on_unavailable: &str) -> String {
    let store = format!("limits_store: {{ redis: {{ url: \"{url}\", on_unavailable: {on_unavailable} }} }}\n");
    let limit = "rate_limit: { each: { rate: 3/h, key: client_ip } }";
    format!("{store}{}", e2e::forward_with(backend.address(), "", limit))
}

/// The statuses of ten requests, without repetition, and how many were 200.
fn ten(gateway: &Gateway) -> (Vec<u16>, usize) {
    let mut statuses: Vec<_> = (0..10).map(|_| gateway.get("/").status()).collect();
    let passed = statuses.iter().filter(|status| **status == 200).count();
    statuses.sort_unstable();
    statuses.dedup();
    (statuses, passed)
}

#[test]
fn a_store_of_limits_that_is_away_decides_nothing_but_what_is_written() {
    let backend = Backend::echo();
    // Nobody is there; somebody is there and says nothing; somebody is there and is no store.
    let gone = {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.local_addr().expect("its port")
    };
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let silent_at = silent.local_addr().expect("its port");
    let odd = Backend::replying("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    for (what, address) in [("gone", gone), ("silent", silent_at), ("no store", odd.address())] {
        let url = format!("redis://{address}");
        let local = Gateway::run(&yaml(&backend, &url, "local"));
        assert_eq!(ten(&local), (vec![200, 429], 3), "{what}: counted here");
        let allow = Gateway::run(&yaml(&backend, &url, "allow"));
        assert_eq!(ten(&allow), (vec![200], 10), "{what}: allowed by name");
        let deny = Gateway::run(&yaml(&backend, &url, "deny"));
        let refused = deny.get("/");
        assert_eq!((refused.status(), &*code(&refused)), (503, "limits_unavailable"), "{what}");
        assert!(!refused.text().contains("edis") && refused.field("retry-after").is_some(), "{}", refused.text());
        assert_eq!(ten(&deny), (vec![503], 0), "{what}: denied by name");
        local.wait_metric("tidegate_limits_store_unavailable_total", &[], |n| n >= 10);
    }
    drop(silent);
}

#[test]
fn a_store_of_limits_that_hangs_and_comes_back_is_not_run_over() {
    let backend = Backend::echo();
    let redis = Redis::run();
    let valve = Valve::before(redis.address());
    let gateway = Gateway::run(&yaml(&backend, &format!("redis://{}", valve.address()), "local"));
    assert_eq!(gateway.get("/").status(), 200);
    valve.hold();
    let (_, passed) = ten(&gateway);
    assert_eq!(passed, 3, "counted here while it hangs");
    valve.release();
    // It is found again, by few that try: what it had counted still holds.
    let counted = |gateway: &Gateway| gateway.metric("tidegate_limits_store_decisions_total", &[]);
    let before = counted(&gateway);
    let mut statuses = Vec::new();
    let found = (0..20_000).any(|_| {
        statuses.push(gateway.get("/").status());
        counted(&gateway) > before + 3
    });
    assert!(found, "it is never asked again");
    assert!(statuses.iter().filter(|status| **status == 200).count() <= 2, "what it had counted is forgotten");
    let connections = redis.cli(&["info", "clients"]);
    let connected = connections.lines().find_map(|line| line.strip_prefix("connected_clients:"));
    let connected: usize = connected.and_then(|n| n.trim().parse().ok()).expect("a number");
    assert!(connected <= 4, "{connections}");
}
