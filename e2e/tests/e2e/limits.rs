//! Resource exhaustion: everything a client can grow has a bound, every slow peer is let go, and others do not notice.

use e2e::backend::{chunk, ok};
use e2e::wire::WireError;
use e2e::{Backend, Client, Gateway, Plan, forward, forward_with, server};

#[test]
fn too_many_or_too_large_fields_are_431() {
    let backend = Backend::echo();
    let gateway = Gateway::run(
        &(server("limits: { header_bytes: 4KB, headers: 20, uri_bytes: 1KB }") + &forward(backend.address())),
    );
    let fits: String = (0..15).map(|i| format!("X-{i}: a\r\n")).collect();
    assert_eq!(gateway.connect().get_with("/", &fits).status(), 200);
    let many: String = (0..25).map(|i| format!("X-{i}: a\r\n")).collect();
    let large = format!("X: {}\r\n", "a".repeat(5000));
    let endless = format!("X: {}", "a".repeat(100_000));
    for fields in [many, large, "X: a\r\n".repeat(30_000), endless] {
        let mut client = gateway.connect();
        client.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(client.reply().status(), 431, "{} bytes", fields.len());
        client.assert_closed();
    }
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn the_defaults_bound_heads_too() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let ask = |fields: &str| {
        let mut client = gateway.connect();
        client.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client.reply().status()
    };
    assert_eq!(ask(&"X: a\r\n".repeat(90)), 200);
    assert_eq!(ask(&"X: a\r\n".repeat(120)), 431);
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(30_000))), 200);
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(40_000))), 431);
}

#[test]
fn too_long_a_target_is_414() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    assert_eq!(gateway.get(&format!("/{}", "a".repeat(8000))).status(), 200);
    for target in
        [format!("/{}", "a".repeat(9000)), format!("/?{}", "a".repeat(9000)), format!("/{}", "a".repeat(100_000))]
    {
        let mut client = gateway.connect();
        client.try_send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.reply().status(), 414);
        client.assert_closed();
    }
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_declared_body_over_the_limit_is_413_before_anything_is_forwarded() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&(server("limits: { body: 1KB }") + &forward(backend.address())));
    let mut client = gateway.connect();
    assert_eq!(client.post("/", "x".repeat(1024)).status(), 200, "exactly the limit");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n");
    assert_eq!(client.reply().status(), 413);
    client.assert_closed();
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9223372036854775807\r\n\r\n");
    assert_eq!(client.reply().status(), 413, "no continue for what is not wanted");
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_chunked_body_over_the_limit_is_413_while_it_streams_and_the_service_gets_no_whole_request() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&(server("limits: { body: 1KB }") + &forward(backend.address())));
    let mut client = gateway.connect();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = format!("{head}{}{}0\r\n\r\n", chunk(&"x".repeat(512)), chunk(&"x".repeat(512)));
    assert_eq!(client.send(whole).reply().status(), 200);
    client.send(head).send(chunk(&"x".repeat(512))).send(chunk(&"x".repeat(512)));
    client.try_send(chunk("x"));
    assert_eq!(client.reply().status(), 413);
    client.assert_closed();
    backend.wait_all_closed();
    assert_eq!(backend.requests().len(), 1);
    let mut client = gateway.connect();
    client.send(head).try_send("100000000\r\nx");
    assert_eq!(client.reply().status(), 413, "as soon as it is known");
}

#[test]
fn a_route_may_have_its_own_body_limit() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "{}services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path: /large }}, service: app, limits: {{ body: 100KB }} }}\n\
         - {{ match: {{ path: /none }}, service: app, limits: {{ body: off }} }}\n\
         - {{ match: {{ path_prefix: / }}, service: app }}\n",
        server("limits: { body: 1KB }"),
        backend.url()
    ));
    let body = "x".repeat(50_000);
    assert_eq!(gateway.connect().post("/large", &body).status(), 200);
    assert_eq!(gateway.connect().post("/none", &body).status(), 200);
    let mut client = gateway.connect();
    client.send(format!("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    assert_eq!(client.reply().status(), 413);
}

#[test]
fn a_head_that_does_not_come_to_its_end_is_let_go() {
    let gateway = Gateway::run(&(server("timeouts: { header: 150ms }") + PONG));
    for half in ["GET / HTTP/1.1\r\nHost: a\r\nX: ", "G", "GET / HTTP/1.1\r\n", "PRI * HT"] {
        let mut client = gateway.connect();
        client.send(half);
        let said = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{half:?}: {said:?}");
    }
}

#[test]
fn a_head_in_drops_is_let_go_by_its_total_time() {
    let gateway = Gateway::run(&(server("timeouts: { header: 200ms }") + PONG));
    let (mut slow, mut other) = (gateway.connect(), gateway.connect());
    slow.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    // Every byte comes soon after the one before; only the total can end this. The other requests are the clock.
    drip(&mut slow, || assert_eq!(other.get("/").text(), "pong"));
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let gateway = Gateway::run(&(server("timeouts: { idle: 500ms, header: 500ms, handshake: 500ms }") + PONG));
    let mut never = gateway.connect();
    never.assert_closed();
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "pong");
    client.assert_closed();
}

#[test]
fn a_body_that_stalls_is_let_go_and_the_service_gets_no_whole_request() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&(server("timeouts: { body_idle: 150ms }") + &forward(backend.address())));
    for half in [
        "Content-Length: 100\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "Content-Length: 1\r\n\r\n",
    ] {
        let mut client = gateway.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{half}"));
        match client.try_reply_to("POST") {
            Ok(reply) => assert_eq!(reply.status(), 408),
            Err(WireError::Closed | WireError::Truncated(_)) => {}
            Err(e) => panic!("{half:?}: {e:?}"),
        }
        client.assert_closed();
        backend.wait_all_closed();
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn a_client_that_does_not_read_is_let_go_and_so_is_the_work_upstream() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while conn.send(vec![b'x'; 100_000]) {}
    });
    let gateway = Gateway::run(&(server("timeouts: { write_idle: 200ms }") + &forward(backend.address())));
    let mut client = Client::connect_narrow(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_connections(1);
    backend.wait_all_closed();
    assert!(client.rest().len() < 100_000_000, "cut off");
}

#[test]
fn a_service_that_does_not_take_the_request_is_let_go() {
    let gate = e2e::Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.head();
        opened.wait();
    });
    let gateway = Gateway::run(&forward_with(
        backend.address(),
        "timeouts: { write: 200ms, read: 200ms }",
        "limits: { body: 1GB }",
    ));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000000\r\n\r\n");
    let part = vec![b'x'; 1 << 20];
    while client.try_send(&part) && client.is_quiet() {}
    match client.try_reply_to("POST") {
        Ok(reply) => assert!([502, 504].contains(&reply.status()), "{:?}", reply.head),
        Err(WireError::Closed | WireError::Truncated(_)) => {}
        Err(e) => panic!("{e:?}"),
    }
    gate.open();
}

#[test]
fn peers_slower_than_the_least_rate_are_let_go_after_the_grace() {
    let backend = Backend::scripted(|conn| {
        let Some(head) = conn.head() else { return };
        if head.method() == "POST" {
            conn.wait_closed();
            return;
        }
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        while conn.send(vec![b'x'; 100_000]) {}
    });
    let gateway = Gateway::run(&format!(
        "{}services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n- {{ match: {{ path: / }}, respond: {{ status: 200, body: pong }} }}\n\
         - {{ match: {{ path_prefix: /app }}, service: app }}\n",
        server("limits: { min_rate: 1GB/s }"),
        backend.url()
    ));
    let mut other = gateway.connect();
    let mut slow_reader = Client::connect_narrow(gateway.address());
    slow_reader.send("GET /app HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(slow_reader.head().status(), 200);
    let mut slow_sender = gateway.connect();
    slow_sender.send("POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    // Both make progress all the time, so that no idle timeout can be what ends them.
    let mut read = 0;
    drip(&mut slow_sender, || {
        assert_eq!(other.get("/").text(), "pong");
        read += slow_reader.some().map_or(0, |bytes| bytes.len());
    });
    read += slow_reader.rest().len();
    assert!(read < 1_000_000_000_000, "the slow reader got everything");
}

#[test]
fn no_more_connections_are_kept_than_allowed() {
    let gateway = Gateway::run(&(server("limits: { connections: 3 }") + PONG));
    let mut kept: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/").text(), "pong");
    }
    refused_connection(&mut gateway.connect());
    for client in &mut kept {
        assert_eq!(client.get("/").text(), "pong", "those that are there are not harmed");
    }
    drop(kept.pop());
    gateway.wait_metric("tidegate_connections_active", &["listener=\"default\""], |n| n < 3);
    assert_eq!(gateway.get("/").text(), "pong", "there is room again");
    assert!(gateway.metric("tidegate_connections_refused_total", &[]) >= 1);
}

#[test]
fn the_cap_holds_over_all_workers() {
    let gateway = Gateway::run(&format!(
        "server: {{ host: 127.0.0.1, port: 0, workers: 3, limits: {{ connections: 6 }} }}\n{PONG}"
    ));
    let mut kept: Vec<Client> = Vec::new();
    for _ in 0..30 {
        let mut client = gateway.connect();
        client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if client.try_reply_to("GET").is_ok_and(|reply| reply.text() == "pong") {
            kept.push(client);
        }
    }
    assert_eq!(kept.len(), 6, "neither more nor, by an uneven spread, fewer");
}

#[test]
fn one_address_cannot_take_all_connections() {
    let gateway = Gateway::run(&(server("limits: { connections_per_client: 2 }") + PONG));
    let mut kept: Vec<Client> = (0..2).map(|_| gateway.connect()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/").text(), "pong");
    }
    refused_connection(&mut gateway.connect());
    let mut other = Client::connect_from([127, 0, 0, 2].into(), gateway.address());
    assert_eq!(other.get("/").text(), "pong", "another address has its own share");
    drop(kept);
    gateway.wait_metric("tidegate_connections_active", &["listener=\"default\""], |n| n <= 1);
    assert_eq!(gateway.get("/").text(), "pong");
}

#[test]
fn trusted_proxies_are_exempt_from_the_share_of_one_address() {
    let gateway = Gateway::run(&(server("limits: { connections_per_client: 2 }, trusted_proxies: 127.0.0.1") + PONG));
    let mut kept: Vec<Client> = (0..10).map(|_| gateway.connect()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/").text(), "pong");
    }
}

#[test]
fn a_gateway_out_of_descriptors_keeps_serving_and_recovers() {
    let gateway = Plan::new().descriptors(64).run(PONG);
    let mut first = gateway.connect();
    assert_eq!(first.get("/").text(), "pong");
    // The kernel completes these in its backlog whether or not the gateway can accept them.
    let mut crowd: Vec<Client> = (0..100).map(|_| gateway.connect()).collect();
    for client in &mut crowd {
        client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in crowd.iter_mut().take(10) {
        assert_eq!(client.reply().text(), "pong", "those that were accepted are served");
    }
    for _ in 0..50 {
        assert_eq!(first.get("/").text(), "pong");
    }
    drop(crowd);
    assert_eq!(gateway.get("/").text(), "pong", "it has recovered");
    assert!(gateway.metric("tidegate_accept_pauses_total", &[]) >= 1, "and counted it");
}

#[test]
fn many_slow_peers_at_once_cost_little_and_are_all_let_go() {
    let backend = Backend::scripted(|conn| {
        while let Some(head) = conn.head() {
            if head.method() == "POST" {
                conn.wait_closed();
                return;
            }
            conn.send(ok("fine"));
        }
    });
    let timeouts = "timeouts: { header: 1500ms, body_idle: 1500ms, idle: 1500ms }, limits: { header_bytes: 32KB }";
    let gateway = Gateway::run(&(server(timeouts) + &forward(backend.address())));
    let mut other = gateway.connect();
    assert_eq!(other.get("/").text(), "fine");
    let before = gateway.memory();
    let mut slow: Vec<Client> = Vec::new();
    for n in 0..400 {
        let mut client = gateway.connect();
        client.send(match n % 4 {
            0 => format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(20_000)),
            1 => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhalf".to_owned(),
            2 => "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\nhalf".to_owned(),
            _ => String::new(),
        });
        slow.push(client);
    }
    for _ in 0..100 {
        assert_eq!(gateway.get("/").text(), "fine", "others are served");
    }
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "400 slow peers took {grown} bytes");
    for client in &mut slow {
        let said = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said:?}");
    }
    assert_eq!(gateway.get("/").text(), "fine");
}

#[test]
fn many_slow_readers_at_once_cost_little_and_are_all_let_go() {
    let part = vec![b'x'; 20_000];
    let backend = Backend::scripted(move |conn| {
        while let Some(request) = conn.request() {
            if request.head.target() == "/fine" {
                conn.send(ok("fine"));
                continue;
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while conn.send(&part) {}
        }
    });
    let gateway = Gateway::run(&(server("timeouts: { write_idle: 2s }") + &forward(backend.address())));
    assert_eq!(gateway.get("/fine").text(), "fine");
    let before = gateway.memory();
    let mut slow: Vec<Client> = (0..400).map(|_| Client::connect_narrow(gateway.address())).collect();
    for client in &mut slow {
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    backend.wait_requests(401);
    for _ in 0..100 {
        assert_eq!(gateway.get("/fine").text(), "fine", "others are served");
    }
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "400 slow readers took {grown} bytes");
    backend.wait("the end of all that nobody reads", |seen| seen.open() <= 1);
    for client in &mut slow {
        assert!(client.rest().len() < 100_000_000);
    }
}

#[test]
fn a_client_that_pipelines_and_never_reads_is_let_go() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&format!(
        "{}services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n- {{ match: {{ path: / }}, respond: {{ status: 200, body: pong }} }}\n\
         - {{ match: {{ path: /app }}, service: app }}\n",
        server("timeouts: { write_idle: 500ms }"),
        backend.url()
    ));
    assert_eq!(gateway.get("/app").text(), "fine");
    let before = gateway.memory();
    for (n, target) in ["/", "/app", "/none"].into_iter().enumerate() {
        let mut client = gateway.connect();
        let many = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(500);
        let sent = (0..100_000).take_while(|_| client.try_send(&many)).count();
        assert!(sent < 100_000, "{target}: there is no end to it");
        gateway
            .wait_metric("tidegate_connections_let_go_total", &["reason=\"write_idle\""], |let_go| let_go > n as u64);
        assert_eq!(gateway.get("/").text(), "pong");
    }
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
}

#[test]
fn odd_requests_do_not_end_the_process() {
    let backend = Backend::echo();
    let mut gateway = Gateway::run(&forward(backend.address()));
    let deep = format!("/{}", "a/".repeat(4000));
    let dots = format!("/{}", "x/../".repeat(1500));
    let percent = format!("/{}", "%41".repeat(2500));
    for target in [deep.as_str(), &dots, &percent, "/?", "/%F0%9F%92%A9", "//", "/.", "/;", "/:", "/@", "/[", "/*"] {
        let mut client = gateway.connect();
        client.try_send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.reply();
    }
    for method in ["X", "A-VERY-LONG-METHOD-NAME-THAT-NOBODY-USES", "!#$%&'*+-.^_`|~", "get"] {
        let mut client = gateway.connect();
        client.try_send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.reply();
    }
    let fields: String = (0..30_000).map(|i| format!("X-{i}: a\r\n")).collect();
    let mut client = gateway.connect();
    client.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    assert_eq!(client.reply().status(), 431);
    assert!(gateway.is_running());
    assert_eq!(gateway.get("/").status(), 200);
    assert!(gateway.metric("tidegate_panics_total", &[]) < 1);
    backend.assert_well_formed("odd requests");
}

const PONG: &str = "routes: [{ match: { path: / }, respond: { status: 200, body: pong } }]\n";

/// Sends a byte at a time, calling `tick` in between, until the gateway ends the connection.
fn drip(slow: &mut Client, mut tick: impl FnMut()) {
    for _ in 0..1_000_000 {
        tick();
        if !slow.is_quiet() || !slow.try_send("x") {
            return;
        }
    }
    panic!("still open");
}

/// The gateway closes a connection that is one too many, with 503 or without a word.
fn refused_connection(client: &mut Client) {
    client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.try_reply_to("GET") {
        Ok(reply) => assert_eq!(reply.status(), 503),
        Err(WireError::Closed | WireError::Truncated(_)) => {}
        Err(e) => panic!("neither served nor refused: {e:?}"),
    }
}
