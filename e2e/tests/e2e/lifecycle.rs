//! Starting, reloading under load, refusing bad files, draining, ending.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e::backend::ok;
use e2e::http2::{H2Client, H2Stream};
use e2e::wire::WireError;
use e2e::{Backend, Client, Gate, Gateway, Plan, forward, server};

fn answering(text: &str) -> String {
    format!("routes: [{{ match: {{ path_prefix: / }}, respond: {{ status: 200, body: {text} }} }}]\n")
}

#[test]
fn no_request_fails_while_the_configuration_is_reloaded_under_load() {
    let backend = Backend::labelled("service");
    let yaml = |version: usize| {
        format!(
            "{}services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n- {{ match: {{ path: /app }}, service: app }}\n\
             - {{ match: {{ path: /version }}, respond: {{ status: 200, body: version-{version} }} }}\n",
            server("timeouts: {}"),
            backend.url()
        )
    };
    let gateway = Gateway::run(&yaml(0));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let (stop, done, address) = (Arc::clone(&stop), Arc::clone(&done), gateway.address());
            std::thread::spawn(move || load(address, n % 2 == 0, &stop, &done))
        })
        .collect();
    let mut revision = gateway.metric("tidegate_config_revision", &[]);
    for version in 1..=10 {
        while done.load(Ordering::Relaxed) < version * 20 {
            assert_eq!(gateway.get("/app").text(), "service");
        }
        gateway.write_config(&yaml(version));
        gateway.signal("HUP");
        revision = gateway.wait_metric("tidegate_config_revision", &[], |n| n > revision);
        assert_eq!(gateway.get("/version").text(), format!("version-{version}"));
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("no request failed");
    }
    assert!(backend.connections() <= 6, "the pool outlived the reloads: {} connections", backend.connections());
}

/// Asks on and on, over one connection or over a new one each time. Every answer must be right.
fn load(address: SocketAddr, anew: bool, stop: &AtomicBool, done: &AtomicUsize) {
    let mut client = Client::connect(address);
    while !stop.load(Ordering::Relaxed) {
        client = if anew { Client::connect(address) } else { client };
        assert_eq!(client.get("/app").text(), "service");
        assert!(client.get("/version").text().starts_with("version-"));
        done.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_request_finishes_on_the_configuration_it_began_with() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        opened.wait();
        conn.send("half");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    gateway.write_config(&answering("new"));
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_revision", &[], |n| n >= 2);
    assert_eq!(gateway.get("/").text(), "new");
    gate.open();
    assert_eq!(client.exactly(8), b"halfhalf");
    assert_eq!(client.get("/").text(), "new", "the next one on the same connection is on the new one");
}

#[test]
fn a_bad_file_changes_nothing_and_everybody_is_told_why() {
    let gateway = Gateway::run(&answering("good"));
    let said = gateway.reload("routes: [{ match: { path: / }, servce: nothing }]\n");
    assert!(said.contains("servce"), "the log says what is wrong: {said}");
    assert_eq!(gateway.get("/").text(), "good");
    gateway.wait_metric("tidegate_config_last_reload_success", &[], |n| n == 0);
    assert!(gateway.metric("tidegate_config_reloads_total", &["result=\"refused\""]) >= 1);
    let ready = gateway.admin_get("/readyz?verbose=1");
    assert_eq!(ready.status(), 200, "the old configuration serves");
    assert!(ready.text().contains("servce") && ready.text().contains("gateway.yaml"), "{}", ready.text());
    gateway.write_config(&answering("better"));
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_last_reload_success", &[], |n| n == 1);
    assert_eq!(gateway.get("/").text(), "better");
    assert!(!gateway.admin_get("/readyz?verbose=1").text().contains("servce"));
}

#[test]
fn a_changed_file_is_noticed_however_it_was_changed() {
    let gateway = Gateway::run(&answering("first"));
    let wait = |revision: u64| gateway.wait_metric("tidegate_config_revision", &[], |n| n >= revision);
    // As editors do: a new file is renamed over the old one.
    gateway.write_config(&answering("renamed"));
    wait(2);
    assert_eq!(gateway.get("/").text(), "renamed");
    // In place, in two writes: the half is a bad file or none, never a bad state.
    let whole = std::fs::read_to_string(gateway.config()).unwrap().replace("renamed", "in-place");
    let (half, rest) = whole.split_at(whole.len() / 2);
    let mut file = std::fs::File::create(gateway.config()).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    file.flush().unwrap();
    assert_eq!(gateway.get("/").status(), 200);
    file.write_all(rest.as_bytes()).unwrap();
    drop(file);
    for _ in 0..100_000 {
        if gateway.get("/").text() == "in-place" {
            return;
        }
    }
    panic!("the change was never noticed");
}

#[test]
fn a_swapped_symlink_is_noticed() {
    // Kubernetes: gateway.yaml -> ..data/gateway.yaml, ..data -> ..1, and ..data is swapped.
    let plan = Plan::new();
    let folder = plan.folder().path().to_owned();
    let listen = "server: { host: 127.0.0.1, port: 0, workers: 1 }\nadmin: { host: 127.0.0.1, port: 0 }\n";
    for version in ["1", "2"] {
        let versioned = folder.join(format!("..{version}"));
        std::fs::create_dir(&versioned).unwrap();
        std::fs::write(
            versioned.join("routes.yaml"),
            format!("routes: [{{ match: {{ path: / }}, respond: {{ status: 200, body: v{version} }} }}]\n"),
        )
        .unwrap();
    }
    std::os::unix::fs::symlink("..1", folder.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/routes.yaml", folder.join("routes.yaml")).unwrap();
    let gateway = plan.run(&format!("{listen}include: [routes.yaml]\n"));
    assert_eq!(gateway.get("/").text(), "v1");
    std::os::unix::fs::symlink("..2", folder.join("..new")).unwrap();
    std::fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
    gateway.wait_metric("tidegate_config_revision", &[], |n| n >= 2);
    assert_eq!(gateway.get("/").text(), "v2");
}

#[test]
fn connections_survive_a_reload_and_listeners_come_and_go() {
    let two = "server:\n  workers: 1\n  listeners:\n  - { name: default, host: 127.0.0.1, port: 0 }\n  \
               - { name: extra, host: 127.0.0.1, port: 0 }\n";
    let one = "server:\n  workers: 1\n  listeners:\n  - { name: default, host: 127.0.0.1, port: 0 }\n";
    let gateway = Gateway::run(&format!("{one}{}", answering("one")));
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "one");
    gateway.write_config(&format!("{two}{}", answering("two")));
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_revision", &[], |n| n >= 2);
    assert_eq!(client.get("/").text(), "two", "the same connection");
    gateway.log_line("the new listener", |line| line.contains("\"extra\"") && line.contains("listening"));
    let mut extra = Client::connect(gateway.listener("extra"));
    assert_eq!(extra.get("/").text(), "two");
    gateway.write_config(&format!("{one}{}", answering("three")));
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_revision", &[], |n| n >= 3);
    assert_eq!(client.get("/").text(), "three");
    assert_eq!(gateway.get("/").text(), "three", "and the port is still the same");
    assert_eq!(extra.rest(), b"", "connections of the other one end");
}

#[test]
fn a_listener_moves_to_another_address_of_its_port() {
    let on = |host: &str, port: u16| {
        format!("server: {{ listeners: [{{ name: default, host: {host}, port: {port} }}] }}\n{}", answering(host))
    };
    let gateway = Gateway::run(&on("127.0.0.1", 0));
    let port = gateway.address().port();
    // Written out, the port that it was given is another address too.
    for host in ["0.0.0.0", "127.0.0.1"] {
        gateway.reload(&on(host, port));
        assert_eq!(gateway.get("/").text(), host);
    }
}

#[test]
fn connections_of_a_listener_that_has_changed_end_with_what_they_carry() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        opened.wait();
        conn.send(ok("late"));
    });
    let with = |more: &str| {
        let listener = format!("{{ name: default, host: 127.0.0.1, port: 0{more} }}");
        format!("server: {{ workers: 1, listeners: [{listener}] }}\n{}", forward(backend.address()))
    };
    let gateway = Gateway::run(&with(""));
    let (mut idle, mut busy) = (gateway.connect(), gateway.connect());
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_requests(1);
    gateway.reload(&with(", http_to_https: on"));
    assert_eq!(idle.rest(), b"");
    gate.open();
    let reply = busy.reply();
    assert_eq!((reply.text(), reply.field("connection")), ("late".to_owned(), Some("close")));
    assert_eq!(gateway.get("/").status(), 308);
}

#[test]
fn many_reloads_leave_memory_flat() {
    let gateway = Gateway::run(&answering("v0"));
    let mut revision = 1;
    let mut reload = |n: usize| {
        gateway.write_config(&answering(&format!("v{n}")));
        gateway.signal("HUP");
        revision = gateway.wait_metric("tidegate_config_revision", &[], |now| now > revision);
        assert_eq!(gateway.get("/").text(), format!("v{n}"));
    };
    (1..=10).for_each(&mut reload);
    let before = gateway.memory();
    (11..=60).for_each(&mut reload);
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "50 reloads took {grown} bytes");
}

#[test]
fn a_storm_of_reloads_does_no_harm() {
    let gateway = Gateway::run(&answering("v0"));
    let mut client = gateway.connect();
    for n in 1..=100 {
        gateway.write_config(&answering(&format!("v{n}")));
        gateway.signal("HUP");
        assert_eq!(client.get("/").status(), 200);
    }
    for _ in 0..100_000 {
        if client.get("/").text() == "v100" {
            return;
        }
    }
    panic!("the last configuration was never used");
}

#[test]
fn a_gateway_that_cannot_start_says_why_and_exits() {
    let mut bad = Plan::new().spawn("routes: [{ match: { path: / }, servce: nothing }]\n");
    assert_eq!(bad.exit().code(), Some(1));
    assert!(bad.shown().contains("servce") && bad.shown().contains("service"), "did you mean: {}", bad.shown());
    let taken = [0, 0].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
    let ports = taken.each_ref().map(|taken| taken.local_addr().unwrap().port());
    let listeners = ports.map(|port| format!("{{ host: 127.0.0.1, port: {port} }}")).join(", ");
    let mut busy = Plan::new().spawn(&format!("server: {{ listeners: [{listeners}] }}\n{}", answering("x")));
    assert_ne!(busy.exit().code(), Some(0));
    for port in ports {
        assert!(busy.shown().contains(&port.to_string()), "which addresses: {}", busy.shown());
    }
    let run = e2e::gateway::tidegate(&["run", "/nonexistent/gateway.yaml"], &[]);
    assert_eq!(run.code, 2);
    assert!(run.errors.contains("/nonexistent/gateway.yaml"));
}

#[test]
fn readiness_fails_first_then_the_listeners_close_and_what_is_under_way_is_finished() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        opened.wait();
        conn.send(ok("finished"));
        conn.wait_closed();
    });
    let mut gateway = Gateway::run(&format!(
        "{}services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n- {{ match: {{ path: /app }}, service: app }}\n\
         - {{ match: {{ path: /pong }}, respond: {{ status: 200, body: pong }} }}\n",
        server("timeouts: { drain_delay: 2s, drain: 20s }"),
        backend.url()
    ));
    assert_eq!(gateway.admin_get("/readyz").status(), 200);
    let (mut slow, mut idle, address) = (gateway.connect(), gateway.connect(), gateway.address());
    slow.send("GET /app HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_requests(1);
    assert_eq!(idle.get("/pong").text(), "pong");
    gateway.signal("TERM");
    let mut ready = 200;
    for _ in 0..20_000 {
        ready = gateway.admin_get("/readyz").status();
        if ready == 503 {
            break;
        }
    }
    assert_eq!(ready, 503, "readiness fails first");
    assert_eq!(gateway.admin_get("/healthz").status(), 200, "but it lives");
    assert_eq!(gateway.get("/pong").text(), "pong", "during the delay new connections are served");
    // The delay ends: idle connections are closed, and nobody listens any more.
    idle.rest();
    for _ in 0..100_000 {
        match std::net::TcpStream::connect(address) {
            Ok(_) => assert!(gateway.is_running()),
            Err(_) => break,
        }
    }
    assert!(std::net::TcpStream::connect(address).is_err(), "the listener is closed");
    gate.open();
    let reply = slow.reply();
    assert_eq!(reply.text(), "finished");
    assert!(e2e::wire::says_close(&reply.head), "Connection: close while draining: {:?}", reply.head);
    slow.assert_closed();
    assert_eq!(gateway.exit().code(), Some(0));
}

#[test]
fn what_does_not_finish_in_time_is_cut_off_and_the_exit_is_still_orderly() {
    let backend = Backend::scripted(|conn| {
        if conn.request().is_some_and(|request| request.head.start.contains("/half")) {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        }
        conn.wait_closed();
    });
    for (n, (signal, path, status, sent)) in [("TERM", "/", 0, 0), ("INT", "/half", 200, 4)].into_iter().enumerate() {
        let config = server("timeouts: { drain: 200ms }") + "log: { access: on }\n" + &forward(backend.address());
        let mut gateway = Gateway::run(&config);
        let mut client = gateway.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        backend.wait_requests(n + 1);
        if sent > 0 {
            client.head();
        }
        gateway.signal(signal);
        client.rest();
        assert_eq!(gateway.exit().code(), Some(0), "{signal}");
        backend.wait_all_closed();
        let line = gateway.access_line("the request", |line| line["path"] == path);
        assert_eq!(line["end"], "shutdown", "{line}");
        assert_eq!((&line["status"], &line["sent"]), (&status.into(), &sent.into()), "{line}");
    }
}

#[test]
fn a_second_signal_is_immediate() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let mut gateway = Gateway::run(&(server("timeouts: { drain: 1h }") + &forward(backend.address())));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_requests(1);
    gateway.signal("TERM");
    let mut ready = 200;
    while ready == 200 {
        ready = gateway.admin_get("/readyz").status();
    }
    assert!(gateway.is_running(), "it waits for the request");
    gateway.signal("TERM");
    let status = gateway.exit();
    assert_ne!(status.code(), Some(0), "work was thrown away: {status:?}");
    client.rest();
}

#[test]
fn a_client_of_http2_is_told_to_go_away_and_its_streams_finish() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        opened.wait();
        conn.send(ok("finished"));
        conn.wait_closed();
    });
    let mut gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let stream: H2Stream = client.send(http::Request::get("http://a.test/").body(()).unwrap(), true);
    backend.wait_requests(1);
    let mut frames = e2e::frames::Frames::connect(gateway.address());
    frames.settled();
    gateway.signal("TERM");
    assert_eq!(frames.until_closed(), Some(0), "an idle connection gets GOAWAY with NO_ERROR");
    gate.open();
    assert_eq!(stream.reply().body, "finished");
    drop(client.ended());
    assert_eq!(gateway.exit().code(), Some(0));
}

#[test]
fn an_idle_gateway_ends_at_once() {
    let mut gateway = Gateway::run(&answering("x"));
    let mut idle = gateway.connect();
    assert_eq!(idle.get("/").text(), "x");
    gateway.signal("INT");
    idle.assert_closed();
    assert_eq!(gateway.exit().code(), Some(0));
}

#[test]
fn the_environment_wins_over_the_file() {
    let backend = Backend::labelled("from the environment");
    let gateway = Plan::new()
        .env("SERVICES_AUTH_URL", &backend.url())
        .env("TIDEGATE_SERVER_HOST", "127.0.0.1")
        .env("SERVER_PORT", "tcp://10.0.0.1:80")
        .run("services: { auth: { url: http://127.0.0.1:9 } }\nroutes: [{ match: { path: / }, service: auth }]\n");
    assert_eq!(gateway.get("/").text(), "from the environment");
    let mut refused = Plan::new().env("TIDEGATE_CACHE_DEFAULT_TTL", "300").spawn(&answering("x"));
    assert_eq!(refused.exit().code(), Some(1));
    assert!(refused.shown().contains("not supported yet"), "{}", refused.shown());
    let mut unknown = Plan::new().env("TIDEGATE_SEVER_PORT", "1").spawn(&answering("x"));
    assert_eq!(unknown.exit().code(), Some(1));
    assert!(unknown.shown().contains("TIDEGATE_SEVER_PORT"), "{}", unknown.shown());
}

#[test]
fn a_new_endpoint_is_used_after_a_reload_and_the_old_one_is_left() {
    let (old, new) = (Backend::labelled("old"), Backend::labelled("new"));
    let gateway = Gateway::run(&forward(old.address()));
    let mut client = gateway.connect();
    let http2 = H2Client::connect(gateway.address());
    assert_eq!(client.get("/").text(), "old");
    assert_eq!(http2.get("http://a.test/").body, "old");
    gateway.write_config(&forward(new.address()));
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_revision", &[], |n| n >= 2);
    assert_eq!(client.get("/").text(), "new", "on the same connection");
    assert_eq!(http2.get("http://a.test/").body, "new", "on the same connection of HTTP/2");
    old.wait_all_closed();
}

#[test]
fn limits_change_with_a_reload() {
    let with = |body: &str| {
        format!("{}{}", server(&format!("limits: {{ body: {body} }}")), forward(([127, 0, 0, 1], 9).into()))
    };
    let gateway = Gateway::run(&with("1KB"));
    assert_eq!(
        gateway.connect().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n").reply().status(),
        413
    );
    gateway.write_config(&with("1MB"));
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_revision", &[], |n| n >= 2);
    assert_ne!(gateway.connect().post("/", "x".repeat(2000)).status(), 413);
}

#[test]
fn tunnels_are_cut_off_at_the_end_of_the_drain() {
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        while let Some(bytes) = conn.some() {
            conn.send(bytes);
        }
    });
    let config = server("timeouts: { drain: 500ms }") + "log: { access: on }\n" + &forward(backend.address());
    let mut gateway = Gateway::run(&config);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.head().status(), 101);
    gateway.signal("TERM");
    client.send("still here");
    assert_eq!(client.exactly(10), b"still here", "it may go on while others finish");
    client.rest();
    backend.wait_all_closed();
    assert_eq!(gateway.exit().code(), Some(0));
    let line = gateway.access_line("the tunnel", |line| line["status"] == 101);
    assert_eq!(
        (&line["end"], &line["received"], &line["sent"]),
        (&"shutdown".into(), &10.into(), &10.into()),
        "{line}"
    );
}

#[test]
fn an_interrupt_under_load_cuts_no_reply_in_half() {
    let backend = Backend::labelled("service");
    let mut gateway = Gateway::run(&forward(backend.address()));
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let address = gateway.address();
            std::thread::spawn(move || until_refused(address, n % 2 == 0))
        })
        .collect();
    backend.wait_requests(200);
    gateway.signal("INT");
    assert_eq!(gateway.exit().code(), Some(0));
    for thread in threads {
        assert!(thread.join().expect("every reply was whole") > 0);
    }
}

/// Asks on and on until nobody listens any more; gives the number of replies.
fn until_refused(address: SocketAddr, anew: bool) -> usize {
    let mut replies = 0;
    while let Ok(socket) = std::net::TcpStream::connect(address) {
        let mut client = Client::over(e2e::stream::Stream::Plain(e2e::stream::guarded(socket)));
        while whole_reply(&mut client).is_some_and(|open| {
            replies += 1;
            open && !anew
        }) {}
    }
    replies
}

/// Asks once. `None` when the connection ended before anything of a reply; else whether it stays open.
fn whole_reply(client: &mut Client) -> Option<bool> {
    if !client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") {
        return None;
    }
    match client.try_reply_to("GET") {
        Ok(reply) => {
            assert_eq!(reply.text(), "service");
            Some(!e2e::wire::says_close(&reply.head))
        }
        Err(WireError::Closed) => None,
        Err(WireError::Truncated(what)) => {
            assert!(what.ends_with("after \"\""), "a reply was cut in half: {what}");
            None
        }
        Err(e) => panic!("{e:?}"),
    }
}

#[test]
fn a_reload_that_cannot_bind_or_read_its_files_changes_nothing() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let gateway = Gateway::run(&answering("good"));
    let address = gateway.address();
    for bad in [
        format!("server: {{ host: 127.0.0.1, port: {port} }}\n{}", answering("bad")),
        format!("{}{}", server("tls: { certificates: [{ cert: none.pem, key: none.key }] }"), answering("bad")),
        "routes: {".to_owned(),
        "routes: [{ match: { path: / }, service: nobody }]\n".to_owned(),
    ] {
        let refused = gateway.metric("tidegate_config_reloads_total", &["result=\"refused\""]);
        gateway.write_config(&bad);
        gateway.signal("HUP");
        gateway.wait_metric("tidegate_config_reloads_total", &["result=\"refused\""], |n| n > refused);
        assert_eq!(Client::connect(address).get("/").text(), "good", "{bad:?}");
        assert_eq!(gateway.admin_get("/readyz").status(), 200);
    }
    // Truncated, as an editor does that writes in place.
    let (revision, refused) = (1, gateway.metric("tidegate_config_reloads_total", &["result=\"refused\""]));
    std::fs::write(gateway.config(), "").unwrap();
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_reloads_total", &["result=\"refused\""], |n| n > refused);
    assert_eq!(gateway.metric("tidegate_config_revision", &[]), revision);
    assert_eq!(Client::connect(address).get("/").text(), "good");
    gateway.write_config(&answering("better"));
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_revision", &[], |n| n > revision);
    assert_eq!(Client::connect(address).get("/").text(), "better");
}

#[test]
fn idle_connections_to_the_admin_listener_do_not_hold_the_end_up() {
    let mut gateway = Gateway::run(&answering("x"));
    let mut silent = Client::connect(gateway.admin());
    let mut idle = Client::connect(gateway.admin());
    let host = gateway.admin();
    assert_eq!(idle.send(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n")).reply().status(), 200);
    gateway.signal("TERM");
    assert_eq!(gateway.exit().code(), Some(0));
    silent.rest();
    idle.rest();
}
