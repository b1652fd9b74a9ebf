//! Upstreams that refuse, reset, stall and die: who is told what, what is sent again, and what is never sent twice.

use std::net::{SocketAddr, TcpListener};

use e2e::backend::ok;
use e2e::http2::{H2Backend, echo};
use e2e::{Backend, Gate, Gateway, forward, forward_with};

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

#[test]
fn a_service_that_refuses_connections_is_502_or_503_at_once() {
    let gateway = Gateway::run(&forward(nobody()));
    let mut client = gateway.connect();
    for _ in 0..3 {
        let reply = client.get("/");
        assert!([502, 503].contains(&reply.status()), "{:?}", reply.head);
        let body = reply.json();
        assert!(body["code"].is_string() && body["request_id"].is_string(), "{body}");
        let text = reply.text();
        assert!(!text.contains("127.0.0.1") && !text.to_lowercase().contains("refused"), "leaks the inside: {text}");
    }
    // A body that was not wanted is no reason to lose step.
    let reply = client.post("/", "some body");
    assert!([502, 503].contains(&reply.status()));
}

#[test]
fn a_service_that_takes_no_connection_is_504_connect() {
    // TEST-NET-1 (RFC 5737) swallows packets, or the network says at once that there is no way: both are a failed connect.
    let gateway =
        Gateway::run(&forward_with("192.0.2.1:81".parse().expect("an address"), "timeouts: { connect: 150ms }", ""));
    let reply = gateway.get("/");
    assert!([502, 503, 504].contains(&reply.status()), "{:?}", reply.head);
    if reply.status() == 504 {
        assert!(reply.text().contains("connect"), "which deadline: {}", reply.text());
    }
}

#[test]
fn a_service_that_says_nothing_is_504_and_says_which_deadline() {
    let silent = || {
        Backend::scripted(|conn| {
            conn.request();
            conn.wait_closed();
        })
    };
    let backend = silent();
    let gateway = Gateway::run(&forward_with(backend.address(), "", "timeout: 150ms"));
    let reply = gateway.get("/");
    assert_eq!(reply.status(), 504);
    assert!(reply.json()["error"].is_string(), "{}", reply.text());
    backend.wait_all_closed();
    let route = reply.json()["error"].clone();

    let backend = silent();
    let gateway = Gateway::run(&forward_with(backend.address(), "timeouts: { read: 150ms }", ""));
    let reply = gateway.get("/");
    assert_eq!(reply.status(), 504);
    assert_ne!(reply.json()["error"], route, "the read deadline is another one than the route's");
    backend.wait_all_closed();
}

#[test]
fn a_service_that_sends_half_a_head_is_504() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nX-Half: ");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "", "timeout: 150ms"));
    assert_eq!(gateway.get("/").status(), 504);
    backend.wait_all_closed();
}

#[test]
fn a_service_that_stalls_in_its_body_is_cut_off_and_never_looks_whole() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "timeouts: { read: 150ms }", ""));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    assert!(client.rest().len() < 100);
    backend.wait_all_closed();
}

#[test]
fn a_route_timeout_ends_at_the_head_of_the_reply() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        opened.wait();
        conn.send("half");
        conn.wait_closed();
    });
    let other = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }}, never: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path: /app }}, service: app, timeout: 500ms }}\n\
         - {{ match: {{ path: /never }}, service: never, timeout: 1200ms }}\n",
        backend.url(),
        other.url()
    ));
    let mut client = gateway.connect();
    client.send("GET /app HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.exactly(4), b"half");
    // A longer deadline of another request passes first: the body's route timeout would have fired by then.
    assert_eq!(gateway.get("/never").status(), 504);
    gate.open();
    assert_eq!(client.exactly(4), b"half");
}

#[test]
fn a_service_that_closes_without_a_word_is_502() {
    for reset in [false, true] {
        let backend = Backend::scripted(move |conn| {
            conn.request();
            if reset {
                conn.reset();
            }
        });
        let gateway = Gateway::run(&forward(backend.address()));
        let reply = gateway.connect().post("/", "body");
        assert_eq!(reply.status(), 502, "reset {reset}");
        assert_eq!(reply.json()["error"], "Service error");
        assert_eq!(backend.requests().len(), 1, "a POST is sent once");
    }
}

#[test]
fn a_stale_pooled_connection_is_tried_again_once_for_a_get() {
    // The first connection answers once, then dies when the second request arrives on it.
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send(ok(&format!("reply {}", conn.index)));
        conn.request();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    assert_eq!(client.get("/1").text(), "reply 0");
    assert_eq!(client.get("/2").text(), "reply 1", "sent again over a new connection");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_post_that_reached_a_stale_connection_is_not_sent_twice() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send(ok(&format!("reply {}", conn.index)));
        conn.request();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    assert_eq!(client.get("/1").text(), "reply 0");
    assert_eq!(client.post("/2", "pay 100").status(), 502, "it may have been done: nobody can know");
    let posts = backend.requests().iter().filter(|r| r.head.method() == "POST").count();
    assert_eq!(posts, 1);
}

#[test]
fn a_pooled_connection_that_the_service_closed_is_not_used() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send(ok(&format!("reply {}", conn.index)));
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    for n in 0..5 {
        backend.wait_all_closed();
        // Even a POST: nothing was sent on the dead connection.
        let reply = client.post("/", "body");
        assert_eq!((reply.status(), reply.text()), (200, format!("reply {n}")));
    }
}

#[test]
fn a_get_that_fails_on_a_new_connection_is_not_tried_for_ever() {
    let backend = Backend::scripted(|conn| {
        conn.request();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    assert_eq!(gateway.get("/").status(), 502);
    assert!(backend.requests().len() <= 2, "{} tries", backend.requests().len());
}

#[test]
fn a_killed_service_is_502_until_it_is_back() {
    let backend = Backend::labelled("before");
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "before");
    backend.kill();
    backend.wait_all_closed();
    let status = client.get("/").status();
    assert!([502, 503].contains(&status), "{status}");
    let _again =
        Backend::scripted_at(backend.address(), |conn| while conn.request().is_some() && conn.send(ok("after")) {});
    assert_eq!(client.get("/").text(), "after");
}

#[test]
fn a_dead_endpoint_does_not_hide_the_living_one() {
    let backend = Backend::labelled("alive");
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ endpoints: [\"http://{}\", \"{}\"] }} }}\n\
         routes: [{{ match: {{ path_prefix: / }}, service: app }}]\n",
        nobody(),
        backend.url()
    ));
    let mut client = gateway.connect();
    for _ in 0..10 {
        // Nothing was sent to the dead one, so the other may be tried.
        assert_eq!(client.get("/").text(), "alive");
    }
    assert_eq!(client.post("/", "body").text(), "alive", "a POST too: not one byte went out");
}

#[test]
fn requests_go_round_the_endpoints_by_weight() {
    let backends = [Backend::labelled("a"), Backend::labelled("b"), Backend::labelled("c")];
    let gateway = Gateway::run(&format!(
        "services:\n  app:\n    endpoints:\n      - {{ url: \"{}\", weight: 3 }}\n      - {{ url: \"{}\", weight: 1 }}\n      \
         - {{ url: \"{}\", weight: 0 }}\nroutes: [{{ match: {{ path_prefix: / }}, service: app }}]\n",
        backends[0].url(),
        backends[1].url(),
        backends[2].url()
    ));
    let mut client = gateway.connect();
    let replies: Vec<String> = (0..40).map(|_| client.get("/").text()).collect();
    let count = |label: &str| replies.iter().filter(|r| *r == label).count();
    assert_eq!((count("a"), count("b"), count("c")), (30, 10, 0), "{replies:?}");
    assert!(replies.windows(4).all(|four| four.iter().any(|r| r == "b")), "smooth, not in blocks: {replies:?}");
}

#[test]
fn error_replies_are_json_or_problem_json_with_the_request_id() {
    let gateway = Gateway::run(&forward(nobody()));
    let mut client = gateway.connect();
    let plain = client.get("/");
    assert_eq!(plain.field("content-type"), Some("application/json"));
    assert_eq!(plain.json()["request_id"].as_str(), plain.field("x-request-id"));
    let problem = client.get_with("/", "Accept: application/problem+json\r\n");
    assert_eq!(problem.field("content-type"), Some("application/problem+json"));
    assert_eq!(problem.json()["status"], problem.status());
    // RFC 9110 section 9.3.2: the same head, no body.
    let head = client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").reply_to("HEAD");
    assert_eq!(head.status(), plain.status());
    assert!([502, 503].contains(&client.get("/").status()), "the connection is in step after a HEAD");
}

#[test]
fn a_name_that_does_not_resolve_is_an_error_of_the_service() {
    let gateway = Gateway::run(
        "services: { app: { url: \"http://nowhere.invalid:80\" } }\nroutes: [{ match: { path_prefix: / }, service: app }]\n",
    );
    let reply = gateway.get("/");
    assert!([502, 503, 504].contains(&reply.status()), "{:?}", reply.head);
    assert!(!reply.text().contains("nowhere.invalid"), "{}", reply.text());
}

#[test]
fn an_http2_service_that_restarts_is_reached_again() {
    let backend = H2Backend::serve(echo);
    let address = backend.address();
    let gateway = Gateway::run(&forward_with(address, "protocol: http2", ""));
    let mut client = gateway.connect();
    assert_eq!(client.get("/").status(), 200);
    drop(backend);
    let _again = H2Backend::serve_at(address, echo);
    // The old connection is known to be dead, or the request is sent again: a GET may be.
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(client.post("/", "body").status(), 200);
}

#[test]
fn several_workers_share_the_work_and_the_service() {
    let backend = Backend::echo();
    let gateway =
        Gateway::run(&format!("server: {{ host: 127.0.0.1, port: 0, workers: 3 }}\n{}", forward(backend.address())));
    for _ in 0..60 {
        assert_eq!(gateway.get("/").status(), 200);
    }
    assert!(backend.connections() <= 3, "one pooled connection a worker: {}", backend.connections());
    gateway.wait_metric("tidegate_requests_total", &["route=\"all\""], |n| n == 60);
}
