//! Services whose endpoints reset, stall, fail and come back: what is tried again, who is left out, and who answers instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::backend::ok;
use e2e::tools::Process;
use e2e::wire::Message;
use e2e::{Backend, Client, Conn, Folder, Gate, Gateway, forward_with};

/// Retries as by default, but that no test depends on how fast it runs.
const RETRY: &str = "retry: { budget: 100%, budget_floor: 1000/s }, ";
/// Nothing but what a test is about.
const ALONE: &str = "retry: off, outlier_detection: off, ";

/// A service `shop` with these endpoints, and a route to it with more keys. More services may stand before it.
fn shop_beside(others: &str, endpoints: &[&Backend], service: &str, route: &str) -> String {
    let endpoints: String = endpoints.iter().map(|backend| format!("\"{}\", ", backend.url())).collect();
    format!(
        "services:\n{others}  shop: {{ endpoints: [{endpoints}], {service} }}\n\
         routes:\n  - {{ name: all, match: {{ path_prefix: / }}, service: shop, {route} }}\n"
    )
}

fn shop(endpoints: &[&Backend], service: &str) -> Gateway {
    Gateway::run(&shop_beside("", endpoints, service, ""))
}

/// Reads each request and resets the connection.
fn resetting() -> Backend {
    Backend::scripted(|conn| {
        conn.request();
        conn.reset();
    })
}

/// Reads a request and says nothing.
fn silent() -> Backend {
    Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    })
}

/// Answers with this status.
fn failing(status: &str) -> Backend {
    Backend::replying(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
}

/// Well or sick, as its switch says; `/health` tells the same.
fn switched(label: &'static str) -> (Backend, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&well);
    let backend = Backend::scripted(move |conn| {
        while conn.request().is_some() {
            let sick = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
            conn.send(if switch.load(Ordering::SeqCst) { ok(label) } else { sick.to_owned() });
        }
    });
    (backend, well)
}

fn serve(label: &'static str) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    move |conn| while conn.request().is_some() && conn.send(ok(label)) {}
}

/// Asks again until something holds of the reply. Bounded by a count, each of which waits for its reply.
fn until(client: &mut Client, what: &str, ready: impl Fn(&Message) -> bool) -> Message {
    let mut replies = (0..50_000).map(|_| client.get("/"));
    replies.find(ready).unwrap_or_else(|| panic!("never seen: {what}"))
}

/// Asks until twenty replies in a row have this text.
fn until_only(client: &mut Client, label: &str) {
    let mut in_a_row = 0;
    for _ in 0..50_000 {
        let reply = client.get("/");
        in_a_row = if reply.status() == 200 && reply.text() == label { in_a_row + 1 } else { 0 };
        if in_a_row == 20 {
            return;
        }
    }
    panic!("never {label} alone");
}

fn code(reply: &Message) -> String {
    reply.json()["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_get_that_meets_a_reset_is_tried_on_another_endpoint() {
    let (bad, good) = (resetting(), Backend::labelled("good"));
    let log = "log: { access: { format: json, to: stdout } }\n";
    let gateway = Gateway::run(&(log.to_owned() + &shop_beside("", &[&bad, &good], RETRY, "")));
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(!bad.requests().is_empty());
    gateway.access_line("a request that took two tries", |line| line["attempts"] == 2 && line["status"] == 200);
}

#[test]
fn a_post_is_sent_once_even_beside_a_healthy_endpoint() {
    let (bad, good) = (resetting(), Backend::labelled("good"));
    let gateway = shop(&[&bad, &good], &format!("{RETRY} outlier_detection: off"));
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..10).map(|n| client.post("/pay", format!("order {n}")).status()).collect();
    assert!(statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
    let mut orders: Vec<Vec<u8>> = [bad.requests(), good.requests()].concat().into_iter().map(|r| r.body).collect();
    orders.sort();
    let expected: Vec<Vec<u8>> = (0..10).map(|n| format!("order {n}").into_bytes()).collect();
    assert_eq!(orders, expected, "each order arrived once");
}

#[test]
fn a_put_is_tried_again_with_its_body() {
    let (bad, good) = (resetting(), Backend::echo());
    let gateway = shop(&[&bad, &good], RETRY);
    let mut client = gateway.connect();
    for _ in 0..4 {
        let reply = client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello again").reply();
        assert_eq!(reply.json()["body"], "hello again");
    }
    assert_eq!(bad.requests()[0].body, b"hello again");
}

#[test]
fn a_body_that_is_longer_than_the_buffer_is_not_sent_again() {
    let (bad, good) = (resetting(), Backend::labelled("good"));
    let gateway = shop(&[&bad, &good], "retry: { buffer: 1KB, budget_floor: 1000/s }, outlier_detection: off");
    let mut client = gateway.connect();
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n{}", "x".repeat(5000));
    let statuses: Vec<u16> = (0..4).map(|_| client.send(&put).reply().status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), bad.requests().len(), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&502), "{statuses:?}");
}

#[test]
fn a_route_may_turn_retries_off() {
    let (bad, good) = (resetting(), Backend::labelled("good"));
    let yaml = shop_beside("", &[&bad, &good], "outlier_detection: off", "retry: off");
    let gateway = Gateway::run(&yaml);
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..4).map(|_| client.get("/").status()).collect();
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
}

#[test]
fn a_killed_endpoint_costs_no_get() {
    let backends = [Backend::labelled("a"), Backend::labelled("b")];
    let gateway = shop(&[&backends[0], &backends[1]], RETRY);
    let mut client = gateway.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").status(), 200);
    }
    backends[0].kill();
    for _ in 0..40 {
        assert_eq!(client.get("/").text(), "b");
    }
}

#[test]
fn a_rolling_restart_loses_no_get() {
    let mut backends = [Backend::labelled("a"), Backend::labelled("b"), Backend::labelled("c")];
    let gateway = shop(&[&backends[0], &backends[1], &backends[2]], RETRY);
    let mut client = gateway.connect();
    for backend in &mut backends {
        backend.kill();
        for _ in 0..6 {
            assert_eq!(client.get("/").status(), 200, "while one is down");
        }
        *backend = Backend::scripted_at(backend.address(), serve("again"));
        for _ in 0..12 {
            assert_eq!(client.get("/").status(), 200, "after it is back");
        }
    }
    assert!(backends.iter().all(|backend| !backend.requests().is_empty()), "all take part again");
}

#[test]
fn a_full_outage_is_not_made_worse_by_retries() {
    let backends = [(); 3].map(|()| failing("503 Service Unavailable"));
    let gateway = shop(&[&backends[0], &backends[1], &backends[2]], "retry: { budget_floor: 1/s }");
    let mut client = gateway.connect();
    let asked = 300;
    for _ in 0..asked {
        assert_eq!(client.get("/").status(), 503);
    }
    let seen: usize = backends.iter().map(|backend| backend.requests().len()).sum();
    assert!(seen > asked, "a few are tried again");
    // A fifth, and one each second of the thirty that a test may take.
    assert!(seen <= asked + asked / 5 + 30, "{seen} requests at endpoints for {asked}");
    assert!(gateway.metric("tidegate_retry_budget_exhausted_total", &[]) > 0);
}

#[test]
fn a_silent_endpoint_costs_one_try() {
    let (bad, good) = (silent(), Backend::labelled("good"));
    let service = "retry: { per_try_timeout: 150ms, budget_floor: 1000/s }";
    let gateway = shop(&[&bad, &good], service);
    let mut client = gateway.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "good");
    }
    bad.wait_requests(1);
    bad.wait_all_closed();
}

#[test]
fn a_hedge_answers_when_the_first_try_is_slow() {
    let (bad, good) = (silent(), Backend::labelled("good"));
    let service =
        "retry: { per_try_timeout: off, budget_floor: 1000/s }, hedge: { after: 50ms }, outlier_detection: off";
    let gateway = shop(&[&bad, &good], service);
    let mut client = gateway.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "good");
    }
    bad.wait_requests(1);
    bad.wait_all_closed();
    gateway.wait_metric("tidegate_hedges_total", &[], |hedges| hedges > 0);
}

#[test]
fn a_post_is_never_hedged() {
    let gate = Gate::new();
    let opened = gate.clone();
    let slow = Backend::scripted(move |conn| {
        while conn.request().is_some() {
            opened.wait();
            conn.send(ok("slow"));
        }
    });
    let other = silent();
    let yaml = format!(
        "services:\n  shop: {{ endpoints: [\"{}\", {{ url: \"{}\", weight: 0 }}], hedge: {{ after: 1ms }} }}\n\
         \x20 slow: {{ url: \"{}\" }}\n\
         routes:\n  - {{ match: {{ path: /post }}, service: shop }}\n  - {{ match: {{ path: /wait }}, service: slow, timeout: 100ms }}\n",
        slow.url(),
        other.url(),
        other.url()
    );
    let gateway = Gateway::run(&yaml);
    let mut client = gateway.connect();
    client.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    slow.wait_requests(1);
    // A longer time than the hedge's passes.
    assert_eq!(gateway.get("/wait").status(), 504);
    gate.open();
    assert_eq!(client.reply().text(), "slow");
    assert_eq!(slow.requests().len(), 1);
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_ejected() {
    let (bad, good) = (failing("500 Internal Server Error"), Backend::labelled("good"));
    let gateway = shop(&[&bad, &good], "retry: off, outlier_detection: { consecutive_errors: 3, eject: 5m }");
    let mut client = gateway.connect();
    until_only(&mut client, "good");
    assert_eq!(bad.requests().len(), 3);
    let services = gateway.admin_get("/services").text();
    assert!(services.contains("\"ejected\"") && services.contains("\"healthy\""), "{services}");
}

#[test]
fn a_health_check_over_http_takes_an_endpoint_out_and_back() {
    let ((a, well), b) = (switched("a"), Backend::labelled("b"));
    let gateway =
        shop(&[&a, &b], &format!("{ALONE} health: {{ interval: 50ms, retries: 2, backoff: {{ max: 50ms }} }}"));
    let mut client = gateway.connect();
    until(&mut client, "a", |reply| reply.text() == "a");
    well.store(false, Ordering::SeqCst);
    until_only(&mut client, "b");
    well.store(true, Ordering::SeqCst);
    until(&mut client, "a again", |reply| reply.text() == "a");
    let checks = a.requests().into_iter().filter(|request| request.head.target() == "/health").count();
    assert!(checks >= 3, "two that failed and one that did not: {checks}");
}

#[test]
fn a_health_check_over_tcp_takes_an_endpoint_out_and_back() {
    let (a, b) = (Backend::labelled("a"), Backend::labelled("b"));
    let gateway = shop(
        &[&a, &b],
        &format!("{ALONE} health: {{ tcp: {{}}, interval: 50ms, retries: 2, backoff: {{ max: 50ms }} }}"),
    );
    let mut client = gateway.connect();
    until(&mut client, "a", |reply| reply.text() == "a");
    a.kill();
    until_only(&mut client, "b");
    let _again = Backend::scripted_at(a.address(), serve("again"));
    until(&mut client, "a again", |reply| reply.text() == "again");
}

#[test]
fn a_grpc_health_check_takes_an_endpoint_out_and_back() {
    let folder = Folder::new();
    let state = folder.write("state", "SERVING");
    let state = state.to_str().expect("a path in UTF-8");
    let mut server = Process::python(include_str!("python/grpc_health.py"), &[state]);
    let service = format!(
        "protocol: http2, {ALONE} health: {{ grpc: {{}}, interval: 50ms, retries: 2, backoff: {{ max: 50ms }} }}"
    );
    let gateway = Gateway::run(&forward_with(server.address(), &service, ""));
    let mut client = gateway.connect();
    let is_out = |reply: &Message| reply.status() == 503 && code(reply) == "no_healthy_endpoints";
    assert!(!is_out(&client.get("/")));
    folder.write("state", "NOT_SERVING");
    let reply = until(&mut client, "no endpoint", is_out);
    assert!(reply.field("retry-after").is_some());
    folder.write("state", "SERVING");
    until(&mut client, "an endpoint", |reply| !is_out(reply));
}

#[test]
fn an_open_breaker_keeps_requests_from_the_endpoint() {
    let backend = failing("500 Internal Server Error");
    let gateway = shop(&[&backend], &format!("{ALONE} circuit_breaker: {{ consecutive_failures: 2, open: 5m }}"));
    let mut client = gateway.connect();
    assert_eq!([client.get("/").status(), client.get("/").status()], [500, 500]);
    for _ in 0..10 {
        let reply = client.get("/");
        assert_eq!((reply.status(), code(&reply).as_str()), (503, "circuit_open"));
        let seconds: u64 = reply.field("retry-after").and_then(|v| v.parse().ok()).expect("Retry-After in seconds");
        assert!((1..=300).contains(&seconds), "{seconds}");
    }
    assert_eq!(backend.requests().len(), 2);
    let services = gateway.admin_get("/services").text();
    assert!(services.contains("\"open\""), "{services}");
}

#[test]
fn a_breaker_tries_half_open_and_closes_when_the_endpoint_is_well() {
    let (backend, well) = switched("well");
    well.store(false, Ordering::SeqCst);
    let breaker = "circuit_breaker: { consecutive_failures: 2, open: 100ms, half_open_requests: 1 }";
    let gateway = shop(&[&backend], &format!("{ALONE} {breaker}"));
    let mut client = gateway.connect();
    until(&mut client, "an open breaker", |reply| reply.status() == 503);
    until(&mut client, "a trial that failed", |reply| reply.status() == 500);
    well.store(true, Ordering::SeqCst);
    until(&mut client, "a trial that succeeded", |reply| reply.status() == 200);
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "well");
    }
}

#[test]
fn a_breaker_of_the_service_counts_all_its_endpoints() {
    let backends = [failing("500 Internal Server Error"), failing("500 Internal Server Error")];
    let breaker = "circuit_breaker: { consecutive_failures: 4, open: 5m, per: service }";
    let gateway = shop(&[&backends[0], &backends[1]], &format!("{ALONE} {breaker}"));
    let mut client = gateway.connect();
    let statuses: Vec<u16> = (0..8).map(|_| client.get("/").status()).collect();
    assert_eq!(statuses, [500, 500, 500, 500, 503, 503, 503, 503]);
}

#[test]
fn a_service_without_endpoints_falls_back_to_an_answer() {
    let backend = Backend::labelled("open");
    let fallback = "fallback: { respond: { status: 503, body: closed for today } }";
    let gateway = shop(&[&backend], &format!("{RETRY} {fallback}"));
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "open");
    backend.kill();
    let reply = until(&mut client, "the fallback", |reply| reply.text() == "closed for today");
    assert_eq!(reply.status(), 503);
    gateway.wait_metric("tidegate_fallbacks_total", &[], |fallbacks| fallbacks > 0);
}

#[test]
fn a_service_without_endpoints_falls_back_to_another() {
    let (backend, other) = (Backend::labelled("first"), Backend::labelled("second"));
    let others = format!("  other: {{ url: \"{}\" }}\n", other.url());
    let yaml = shop_beside(
        &others,
        &[&backend],
        "circuit_breaker: { consecutive_failures: 1 }, fallback: { service: other }",
        "",
    );
    let gateway = Gateway::run(&yaml);
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "first");
    backend.kill();
    until_only(&mut client, "second");
}

#[test]
fn requests_above_the_limit_are_refused_when_nobody_may_wait() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        while conn.request().is_some() {
            // The place is taken until the body ends.
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
            opened.wait();
            conn.send("half");
        }
    });
    let gateway = shop(&[&backend], "concurrency: { max: 1, queue: 0 }");
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(first.head().status(), 200);
    let reply = gateway.get("/");
    assert_eq!((reply.status(), code(&reply).as_str()), (503, "concurrency_limit"));
    assert!(reply.field("retry-after").is_some());
    gate.open();
    assert_eq!(first.exactly(8), b"halfhalf");
    until(&mut gateway.connect(), "a free place", |reply| reply.status() == 200);
}

#[test]
fn a_request_waits_in_the_queue_for_its_place() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        while conn.request().is_some() {
            opened.wait();
            conn.send(ok("served"));
        }
    });
    let gateway = shop(&[&backend], "concurrency: { max: 1, queue: 1, queue_timeout: 30s }");
    let mut clients = [gateway.connect(), gateway.connect()];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    backend.wait_requests(1);
    gate.open();
    assert!(clients.iter_mut().all(|client| client.reply().text() == "served"));
}

#[test]
fn a_request_that_waits_too_long_in_the_queue_is_refused() {
    let backend = silent();
    let gateway = shop(&[&backend], "concurrency: { max: 1, queue: 5, queue_timeout: 100ms }, retry: off");
    let mut first = gateway.connect();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_requests(1);
    assert_eq!(code(&gateway.get("/")), "concurrency_limit");
}

#[test]
fn the_service_is_told_how_much_time_is_left() {
    let backend = Backend::echo();
    let gateway = shop(&[&backend], "deadline_header: x-request-timeout-ms");
    // What a client says about it is not believed.
    gateway.connect().get_with("/", "X-Request-Timeout-Ms: 999999999\r\n");
    let request = &backend.requests()[0];
    let values = request.head.fields.values("x-request-timeout-ms");
    let left: u64 = values[0].parse().expect("milliseconds");
    assert_eq!(values.len(), 1);
    assert!((1..=30_000).contains(&left), "{left}");
}

#[test]
fn a_fault_hits_only_those_who_ask_for_it() {
    let backend = Backend::labelled("well");
    let fault = "fault: { delay: 1ms, abort: 418, when: { header: x-chaos } }";
    let gateway = Gateway::run(&forward_with(backend.address(), "", fault));
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "well");
    let reply = client.get_with("/", "X-Chaos: yes\r\n");
    assert_eq!((reply.status(), code(&reply).as_str()), (418, "fault_injected"));
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_mirror_gets_a_copy_and_its_trouble_is_nobodys() {
    let (backend, shadow) = (Backend::labelled("real"), resetting());
    let others = format!("  shadow: {{ url: \"{}\" }}\n", shadow.url());
    let gateway = Gateway::run(&shop_beside(&others, &[&backend], "", "mirror: shadow"));
    let mut client = gateway.connect();
    assert_eq!(client.post("/x?y=1", "a body").text(), "real");
    shadow.wait_requests(1);
    let copy = &shadow.requests()[0];
    assert_eq!((copy.head.method(), copy.head.target(), copy.body.as_slice()), ("POST", "/x?y=1", &b"a body"[..]));
    assert_eq!(copy.head.fields.value("x-tidegate-mirror"), Some("1"));
    assert!(!backend.requests()[0].head.fields.has("x-tidegate-mirror"));
    assert_eq!(client.get("/").text(), "real");
}

#[test]
fn a_canary_gets_those_who_ask_for_it() {
    let (stable, canary) = (Backend::labelled("stable"), Backend::labelled("canary"));
    let yaml = format!(
        "services: {{ stable: {{ url: \"{}\" }}, canary: {{ url: \"{}\" }} }}\n\
         routes:\n  - match: {{ path_prefix: / }}\n    split:\n      - {{ service: stable, weight: 1 }}\n      \
         - {{ service: canary, weight: 0, when: {{ header: x-canary }} }}\n",
        stable.url(),
        canary.url()
    );
    let gateway = Gateway::run(&yaml);
    let mut client = gateway.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "stable");
        assert_eq!(client.get_with("/", "X-Canary: 1\r\n").text(), "canary");
    }
}

#[test]
fn a_key_keeps_its_endpoint_and_loses_it_only_with_the_endpoint() {
    let backends = [Backend::labelled("a"), Backend::labelled("b"), Backend::labelled("c")];
    let service = format!("load_balancing: {{ consistent_hash: {{ key: \"header:x-user\" }} }}, {RETRY}");
    let gateway = shop(&[&backends[0], &backends[1], &backends[2]], &service);
    let mut client = gateway.connect();
    let mut of = |user: usize| client.get_with("/", &format!("X-User: user {user}\r\n")).text();
    let before: Vec<String> = (0..30).map(&mut of).collect();
    assert_eq!(before, (0..30).map(&mut of).collect::<Vec<_>>());
    backends[0].kill();
    let after: Vec<String> = (0..30).map(&mut of).collect();
    assert!(before.iter().zip(&after).all(|(before, after)| before == "a" || before == after), "{before:?} {after:?}");
    assert!(before.iter().any(|label| label == "a") && after.iter().all(|label| label != "a"));
}

#[test]
fn a_sticky_cookie_brings_its_client_back() {
    let backends = [Backend::labelled("a"), Backend::labelled("b")];
    let service = "load_balancing: { sticky_cookie: { name: tg, secret: not very secret but long enough } }";
    let gateway = shop(&[&backends[0], &backends[1]], service);
    let mut client = gateway.connect();
    let first = client.get("/");
    let cookie = first.field("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("tg=") && cookie.contains("HttpOnly"), "{cookie}");
    let pair = cookie.split(';').next().expect("a pair").to_owned();
    for _ in 0..10 {
        let reply = client.get_with("/", &format!("Cookie: {pair}\r\n"));
        assert_eq!(reply.text(), first.text());
        assert_eq!(reply.field("set-cookie"), None);
    }
}

#[test]
fn the_second_tier_takes_over_when_the_first_is_gone() {
    let (first, second) = (Backend::labelled("first"), Backend::labelled("second"));
    let yaml = format!(
        "services:\n  shop: {{ {RETRY} endpoints: [{{ url: \"{}\" }}, {{ url: \"{}\", priority: 1 }}], \
         outlier_detection: {{ consecutive_errors: 1, eject: 5m }} }}\n\
         routes: [{{ match: {{ path_prefix: / }}, service: shop }}]\n",
        first.url(),
        second.url()
    );
    let gateway = Gateway::run(&yaml);
    let mut client = gateway.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "first");
    }
    first.kill();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "second");
    }
}

#[test]
fn the_admin_listener_shows_every_endpoint_and_its_state() {
    let backends = [Backend::labelled("a"), Backend::labelled("b")];
    let gateway = shop(&[&backends[0], &backends[1]], "health: {}");
    assert_eq!(gateway.get("/").status(), 200);
    let services = gateway.admin_get("/services");
    assert_eq!(services.status(), 200);
    let text = services.text();
    for backend in &backends {
        assert!(text.contains(&backend.address().to_string()), "{text}");
    }
    assert!(text.contains("shop") && text.contains("\"healthy\""), "{text}");
}
