//! What operators see: access log, metrics, health.

use serde_json::Value;

use e2e::http2::H2Client;
use e2e::{Backend, Gateway, forward, server};

fn logged(backend: &Backend) -> String {
    format!("log: {{ access: {{ format: json, to: stdout }} }}\n{}", forward(backend.address()))
}

#[test]
fn one_line_of_json_for_every_request() {
    let backend = Backend::labelled("hello");
    let gateway = Gateway::run(&logged(&backend));
    let reply =
        gateway.connect().send("POST /a/b?c=d HTTP/1.1\r\nHost: Shop.test\r\nContent-Length: 3\r\n\r\nxyz").reply();
    let id = reply.field("x-request-id").expect("an id").to_owned();
    let line = gateway.access_line("the request", |line| line["request_id"] == id.as_str());
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/a/b");
    assert_eq!(line["query"], "c=d");
    assert_eq!(line["status"], 200);
    assert_eq!(line["route"], "all");
    assert_eq!(line["service"], "app");
    assert_eq!(line["received"], 3);
    assert_eq!(line["sent"], 5);
    assert_eq!(line["client"], "127.0.0.1");
    assert!(line["host"].as_str().is_some_and(|h| h.eq_ignore_ascii_case("shop.test")), "{line}");
    assert!(line["duration_ms"].is_number() && line["upstream_ms"].is_number(), "{line}");
    assert_eq!(line["endpoint"], backend.address().to_string());
}

#[test]
fn refusals_are_logged_too_even_those_that_never_became_requests() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&logged(&backend));
    gateway.connect().send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n").reply();
    gateway.get("/%00");
    let by_status = |status: u64, times: usize| {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..times {
            let line =
                gateway.access_line("a refusal", |line| line["status"] == status && !seen.contains(&line.to_string()));
            assert!(line["code"].is_string(), "{line}");
            seen.insert(line.to_string());
        }
    };
    by_status(400, 2);
}

#[test]
fn a_client_that_left_is_logged_as_that() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&logged(&backend));
    let mut client = gateway.connect();
    client.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_requests(1);
    client.reset();
    let line = gateway.access_line("the request", |line| line["path"] == "/left");
    assert_ne!(line["status"], 200);
    assert!(line["end"].as_str().is_some_and(|end| end.contains("client")), "{line}");
}

#[test]
fn secrets_do_not_reach_the_log() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&format!(
        "log: {{ access: {{ headers: [authorization, cookie, x-api-key, x-seen] }} }}\n{}",
        forward(backend.address())
    ));
    gateway.connect().get_with(
        "/secrets?token=hunter2&access_token=hunter2&api_key=hunter2&password=hunter2&plain=shown",
        "Authorization: Bearer hunter2\r\nCookie: session=hunter2\r\nX-Api-Key: hunter2\r\nX-Seen: shown\r\n",
    );
    let line = gateway.access_line("the request", |line| line["path"] == "/secrets");
    assert!(!line.to_string().contains("hunter2"), "{line}");
    assert!(line["query"].as_str().is_some_and(|q| q.contains("plain=shown")), "{line}");
    assert!(!gateway.shown().contains("hunter2"), "anywhere");
}

#[test]
fn secrets_of_a_target_that_is_refused_do_not_reach_the_log() {
    let gateway = Gateway::run(&format!("log: {{ access: on }}\n{}", forward(Backend::labelled("fine").address())));
    for (target, path) in [
        ("/a%2fb?token=hunter2&n=1", "/a%2fb"),
        ("/a%zz?token=hunter2&n=2", "/a%zz"),
        ("/../../up?token=hunter2&n=3", "/../../up"),
        ("http://other/a%2fc?token=hunter2&n=4", "/a%2fc"),
        ("http://other?token=hunter2&n=5", ""),
    ] {
        gateway.connect().send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).reply();
        let number = target.split('=').next_back();
        let of_it = |line: &Value| line["query"].as_str().is_some_and(|query| query.split('=').next_back() == number);
        let line = gateway.access_line(target, of_it);
        assert_eq!((line["status"].as_u64(), line["path"].as_str()), (Some(400), Some(path)), "{line}");
    }
    assert!(!gateway.shown().contains("hunter2"), "{}", gateway.shown());
}

#[test]
fn what_is_no_request_is_found_in_the_log_by_the_id_that_the_client_got() {
    let gateway = Gateway::run(&format!("log: {{ access: on }}\n{}", forward(Backend::labelled("fine").address())));
    let reply = gateway.connect().send("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    let told = reply.json();
    let line = gateway.access_line("the refusal", |line| line["request_id"] == told["request_id"]);
    assert_eq!(reply.field("x-request-id"), told["request_id"].as_str());
    assert_eq!(
        (line["status"].as_u64(), line["sent"].as_u64()),
        (Some(400), Some(reply.text().len() as u64)),
        "{line}"
    );
}

#[test]
fn a_client_cannot_write_its_own_lines_into_the_log() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&format!(
        "log: {{ access: {{ headers: [user-agent, x-evil] }} }}\n{}",
        forward(backend.address())
    ));
    let evil = "\",\"status\":200}\u{9b}31m \\u0000 \u{feff} caf\u{e9}";
    gateway.connect().get_with("/inject?\"},{\"a\":\"b", &format!("User-Agent: {evil}\r\nX-Evil: {evil}\r\n"));
    let raw = b"GET /inject2 HTTP/1.1\r\nHost: a\r\nX-Evil: \xff\xfe\x80\r\n\r\n";
    gateway.connect().send(raw).reply();
    let is = |path: &'static str| move |line: &Value| line["path"] == path;
    gateway.access_line("valid UTF-8 and JSON whatever came", is("/inject2"));
    // The first may have been refused for the quotes in its query; either way it is one line, and whole.
    gateway.access_line("one line", |line| {
        line["path"].as_str().is_some_and(|p| p.starts_with("/inject")) && line["status"].is_number()
    });
}

#[test]
fn the_log_can_be_sampled_away_and_switched_off() {
    let backend = Backend::labelled("fine");
    let with = |log: &str| Gateway::run(&format!("log: {{ access: {log} }}\n{}", forward(backend.address())));
    for gateway in [with("{ sample: 0% }"), with("off")] {
        for _ in 0..50 {
            assert_eq!(gateway.get("/quiet").status(), 200);
        }
        gateway.wait_metric("tidegate_requests_total", &[], |n| n >= 50);
        assert!(!gateway.shown().contains("/quiet"));
    }
}

#[test]
fn a_log_file_is_opened_again_after_it_was_moved_away() {
    let plan = e2e::Plan::new();
    let (path, moved) = (plan.folder().path().join("access.log"), plan.folder().path().join("access.log.1"));
    let backend = Backend::labelled("fine");
    let gateway = plan.run(&format!("log: {{ access: {{ to: {} }} }}\n{}", path.display(), forward(backend.address())));
    gateway.get("/before");
    gateway.wait_metric("tidegate_log_lines_total", &[], |n| n >= 1);
    std::fs::rename(&path, &moved).unwrap();
    gateway.signal("HUP");
    for _ in 0..100_000 {
        gateway.get("/after");
        if std::fs::read_to_string(&path).unwrap_or_default().contains("/after") {
            break;
        }
    }
    assert!(std::fs::read_to_string(&moved).unwrap().contains("/before"));
    assert!(std::fs::read_to_string(&path).unwrap().contains("/after"));
}

#[test]
fn a_full_disk_costs_log_lines_but_no_request() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&format!("log: {{ access: {{ to: /dev/full }} }}\n{}", forward(backend.address())));
    let mut client = gateway.connect();
    for _ in 0..500 {
        assert_eq!(client.get("/").text(), "fine");
    }
    gateway.wait_metric("tidegate_log_dropped_total", &[], |n| n >= 1);
    assert_eq!(client.get("/").text(), "fine");
}

#[test]
fn requests_are_counted_by_what_the_configuration_names() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&forward(backend.address()));
    for n in 0..20 {
        gateway.get(&format!("/path-{n}?query-{n}"));
    }
    gateway.get("/%00");
    H2Client::connect(gateway.address()).get("http://evil-label.test/");
    let ok = ["route=\"all\"", "service=\"app\"", "code=\"2xx\""];
    gateway.wait_metric("tidegate_requests_total", &ok, |n| n == 21);
    gateway.wait_metric("tidegate_requests_total", &["code=\"4xx\""], |n| n == 1);
    gateway.wait_metric("tidegate_request_duration_seconds_count", &["route=\"all\""], |n| n >= 21);
    gateway.wait_metric("tidegate_upstream_duration_seconds_count", &["service=\"app\""], |n| n >= 21);
    assert!(gateway.metric("tidegate_pool_reuses_total", &["service=\"app\""]) >= 20);
    let text = gateway.admin_get("/metrics").text();
    assert!(!text.contains("path-") && !text.contains("query-") && !text.contains("evil-label"), "labels from clients");
    for line in text.lines() {
        let fine = line.starts_with("# HELP ")
            || line.starts_with("# TYPE ")
            || line.rsplit(' ').next().is_some_and(|v| v.parse::<f64>().is_ok());
        assert!(fine, "no metric line: {line:?}");
    }
}

#[test]
fn what_is_active_goes_back_to_nothing() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait_requests(1);
    gateway.wait_metric("tidegate_requests_active", &[], |n| n == 1);
    gateway.wait_metric("tidegate_connections_active", &["listener=\"default\""], |n| n == 1);
    gateway.wait_metric("tidegate_pool_connections", &["service=\"app\"", "state=\"active\""], |n| n == 1);
    client.reset();
    gateway.wait_metric("tidegate_requests_active", &[], |n| n == 0);
    gateway.wait_metric("tidegate_connections_active", &["listener=\"default\""], |n| n == 0);
    gateway.wait_metric("tidegate_pool_connections", &["service=\"app\""], |n| n == 0);
}

#[test]
fn counters_do_not_go_backwards_over_a_reload() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&forward(backend.address()));
    for _ in 0..10 {
        gateway.get("/");
    }
    gateway.wait_metric("tidegate_requests_total", &["route=\"all\""], |n| n == 10);
    gateway.write_config(&format!(
        "{}- {{ match: {{ path: /new }}, respond: {{ status: 200, body: new }} }}\n",
        forward(backend.address()).replace("  - {", "- {")
    ));
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_revision", &[], |n| n >= 2);
    gateway.get("/");
    gateway.wait_metric("tidegate_requests_total", &["route=\"all\""], |n| n == 11);
}

#[test]
fn the_status_listener_has_health_and_metrics_and_nothing_else() {
    let gateway = Gateway::run(&format!(
        "{}status: {{ host: 127.0.0.1, port: 0 }}\nroutes: [{{ match: {{ path: / }}, respond: {{ status: 200, body: pong }} }}]\n",
        server("timeouts: {}")
    ));
    let address = gateway.listener("status");
    let ask = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        e2e::Client::connect(address).send(request).reply_to(method).status()
    };
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask("GET", path), 200, "{path}");
    }
    for path in ["/", "/config", "/services", "/readyz/x", "/../config"] {
        assert!((400..500).contains(&ask("GET", path)), "{path}");
    }
    assert!((400..500).contains(&ask("POST", "/healthz")));
}

#[test]
fn a_log_pipe_that_nobody_reads_costs_lines_but_no_request() {
    let plan = e2e::Plan::new();
    let pipe = plan.folder().path().join("access.pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|s| s.success()));
    // Held open for both, so that opening it waits for nobody; never read.
    let _held = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let gateway = plan.run(&format!(
        "log: {{ access: {{ to: {} }} }}\nroutes: [{{ match: {{ path_prefix: / }}, respond: {{ status: 200, body: pong }} }}]\n",
        pipe.display()
    ));
    let (mut client, target) = (gateway.connect(), format!("/{}", "x".repeat(3000)));
    for _ in 0..200 {
        for _ in 0..100 {
            assert_eq!(client.get(&target).text(), "pong");
        }
        if gateway.metric("tidegate_log_dropped_total", &[]) > 0 {
            return;
        }
    }
    panic!("60 MB of lines went into a pipe that nobody reads");
}

#[test]
fn requests_that_http2_refuses_by_itself_are_logged() {
    let gateway = Gateway::run(
        "log: { access: { format: json, to: stdout } }\nroutes: [{ match: { path_prefix: / }, respond: { status: 200 } }]\n",
    );
    let client = H2Client::connect(gateway.address());
    let request = |field: usize| http::Request::get("http://a.test/x").header("x", "a".repeat(field));
    assert_eq!(
        client.send(request(40_000).body(()).unwrap(), true).try_head().map_or(431, |h| h.status().as_u16()),
        431
    );
    let line = gateway.access_line("the 431", |line| line["status"] == 431);
    assert_eq!((&line["code"], &line["protocol"]), (&"fields_too_large".into(), &"HTTP/2.0".into()), "{line}");
    let long = http::Request::get(format!("http://a.test/{}", "a".repeat(9_000))).body(()).unwrap();
    assert_eq!(client.send(long, true).head().status(), 414);
    let line = gateway.access_line("the 414", |line| line["status"] == 414);
    assert_eq!((&line["code"], &line["host"]), (&"target_too_long".into(), &"a.test".into()), "{line}");
    let mut frames = e2e::frames::Frames::connect(gateway.address());
    frames.settled();
    frames.headers(1, &[(":method", "GET"), (":scheme", "http"), (":authority", "a.test")], true);
    gateway.access_line("the stream", |line| line["code"] == "malformed_stream" && line["end"] == "refused");
}
