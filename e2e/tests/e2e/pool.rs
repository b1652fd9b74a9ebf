//! Connections to services: shared out, given back whatever happens, and never mixed up.

use e2e::backend::ok;
use e2e::frames::{ACK, END_HEADERS, END_STREAM, block, encode, kind};
use e2e::http2::{H2Backend, H2Client};
use e2e::{Backend, Gate, Gateway, forward_with};

#[test]
fn a_reply_that_comes_after_its_timeout_is_nobodys() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        while let Some(request) = conn.request() {
            if request.head.target() == "/late" {
                opened.wait();
            }
            conn.send(ok(request.head.target()));
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "", "timeout: 500ms"));
    let mut client = gateway.connect();
    assert_eq!(client.get("/before").text(), "/before");
    assert_eq!(client.get("/late").status(), 504);
    gate.open();
    for n in 0..20 {
        assert_eq!(gateway.get(&format!("/{n}")).text(), format!("/{n}"));
    }
}

#[test]
fn a_place_in_the_pool_is_given_back_whatever_becomes_of_the_request() {
    let backend = Backend::scripted(|conn| {
        while let Some(head) = conn.head() {
            let (reply, goes_on) = match head.target() {
                "/stall" => (String::new(), false),
                "/cut" => ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_owned(), false),
                "/bad" => ("nonsense\r\n\r\n".to_owned(), false),
                "/half" => ("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nhalf".to_owned(), false),
                target => (ok(target), true),
            };
            conn.send(reply);
            if head.target() == "/cut" {
                return;
            }
            if !goes_on {
                return conn.wait_closed();
            }
        }
    });
    let service = "pool: { max_connections: 1 }, timeouts: { read: 500ms }";
    let gateway = Gateway::run(&forward_with(backend.address(), service, ""));
    for round in 0..3 {
        for target in ["/stall", "/cut", "/bad", "/half", "/fine"] {
            let before = backend.requests().len();
            let mut first = gateway.connect();
            first.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            backend.wait_requests(before + 1);
            // This one waits for the place and gives up; it must not take the place with it.
            let mut waiting = gateway.connect();
            waiting.send("GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n");
            waiting.reset();
            if round == 1 {
                first.reset();
            } else if let Ok(reply) = first.try_reply_to("GET") {
                assert!([200, 502, 504].contains(&reply.status()), "{target}");
            }
            assert_eq!(gateway.get("/next").text(), "/next", "after {target}");
        }
    }
}

#[test]
fn a_service_of_http2_that_allows_one_stream_gets_one_at_a_time() {
    // SETTINGS_MAX_CONCURRENT_STREAMS (3) is 1; the service counts what is open on each connection.
    let backend = Backend::scripted(|conn| {
        conn.exactly(24);
        conn.send(encode(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]));
        let mut acknowledged = false;
        while let Some(head) = conn.exactly(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            conn.exactly(length);
            match head[3] {
                kind::SETTINGS if head[4] & ACK == 0 => {
                    conn.send(encode(kind::SETTINGS, ACK, 0, &[]));
                }
                kind::SETTINGS => acknowledged = true,
                kind::HEADERS if acknowledged || stream == 1 => {
                    conn.send(encode(kind::HEADERS, END_HEADERS, stream, &block(&[(":status", "200")])));
                    conn.send(encode(kind::DATA, END_STREAM, stream, b"one"));
                }
                // Before our settings were acknowledged more may come; they are refused, and may go again.
                kind::HEADERS => {
                    conn.send(encode(kind::RST_STREAM, 0, stream, &7_u32.to_be_bytes()));
                }
                _ => {}
            }
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    assert_eq!(gateway.get("/").text(), "one");
    let client = H2Client::connect(gateway.address());
    let many: Vec<_> =
        (0..20).map(|_| client.send(http::Request::get("http://a.test/").body(()).unwrap(), true)).collect();
    let replies: Vec<_> = many.into_iter().map(e2e::http2::H2Stream::reply).collect();
    let refused = replies.iter().filter(|reply| reply.body != "one").count();
    assert_eq!(refused, 0, "of {}, over {} connections", replies.len(), backend.connections());
}

#[test]
fn a_service_of_http2_with_small_windows_gets_the_whole_upload() {
    let backend = H2Backend::serve(e2e::http2::echo);
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    let body = "x".repeat(2_000_000);
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert_eq!(client.post("/", &body).json()["body"].as_str().map(str::len), Some(body.len()));
    }
    let reply = H2Client::connect(gateway.address());
    let request = http::Request::post("http://a.test/").body(()).unwrap();
    assert_eq!(reply.call(request, body.as_bytes()).json()["body"].as_str().map(str::len), Some(body.len()));
}

#[test]
fn endless_heads_trailers_and_extensions_of_a_service_are_bounded() {
    let endless: [(&str, &str); 5] = [
        ("", "a"),
        ("HTTP/1.1 200 ", "a"),
        ("HTTP/1.1 200 OK\r\nX: ", "a"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5;", "a"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "X: a\r\n"),
    ];
    for (start, part) in endless {
        let backend = Backend::scripted(move |conn| {
            conn.request();
            let parts = part.repeat(10_000);
            let _ = conn.send(start) && (0..100_000).all(|_| conn.send(&parts));
        });
        let gateway = Gateway::run(&forward_with(backend.address(), "timeouts: { read: 2s }", ""));
        let before = gateway.memory();
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let said = e2e::wire::latin1(&client.rest());
        assert!(said.starts_with("HTTP/1.1 502 ") || !said.ends_with("0\r\n\r\n"), "{start:?} looks whole: {said:?}");
        assert!(said.len() < 1_000_000, "{start:?}: {} bytes were passed on", said.len());
        backend.wait_all_closed();
        let grown = gateway.memory().saturating_sub(before);
        assert!(grown < 8 << 20, "{start:?}: {grown} bytes");
    }
}

#[test]
fn interim_replies_of_every_kind_do_no_harm() {
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nX: y\r\n\r\n",
        "HTTP/1.1 199 Odd\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n",
    ] {
        let backend = Backend::scripted(move |conn| {
            while conn.request().is_some() {
                conn.send(interim);
                conn.send(ok("final"));
            }
        });
        let gateway = Gateway::run(&forward_with(backend.address(), "", ""));
        let mut client = gateway.connect();
        for method in ["GET", "POST", "HEAD"] {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            let mut reply = client.reply_to(method);
            while reply.status() < 200 {
                reply = client.reply_to(method);
            }
            assert!([200, 502].contains(&reply.status()), "{interim:?} {method}: {:?}", reply.head);
            if e2e::wire::says_close(&reply.head) {
                client = gateway.connect();
            }
        }
    }
}

#[test]
fn transfer_encoding_of_an_http_1_0_service_is_faulty_framing() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "timeouts: { read: 500ms }", ""));
    // RFC 9112 section 6.1: faulty; and never used again.
    let reply = gateway.get("/");
    assert!(reply.status() == 502 || reply.text() == "hello", "{reply:?}");
    backend.wait_all_closed();
}

#[test]
fn large_heads_of_real_services_pass() {
    let cookies: String =
        (0..60).map(|n| format!("Set-Cookie: c{n}={}; Path=/; Secure\r\n", "v".repeat(200))).collect();
    let backend = Backend::replying(format!("HTTP/1.1 200 OK\r\n{cookies}Content-Length: 0\r\n\r\n"));
    let gateway = Gateway::run(&forward_with(backend.address(), "", ""));
    let reply = gateway.get("/");
    assert_eq!(reply.head.fields.values("set-cookie").len(), 60);
    let over_http2 = H2Client::connect(gateway.address()).get("http://a.test/");
    assert_eq!(over_http2.fields.get_all("set-cookie").iter().count(), 60);
}

#[test]
fn the_fields_of_a_service_are_not_replaced_by_the_gateways() {
    let backend = Backend::replying(
        "HTTP/1.1 200 OK\r\nServer: mine\r\nDate: Tue, 15 Nov 1994 08:12:31 GMT\r\nX-Obs: caf\u{e9}\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::run(&forward_with(backend.address(), "", ""));
    let reply = gateway.get("/");
    assert_eq!(reply.head.fields.values("server"), ["mine"]);
    assert_eq!(reply.head.fields.values("date"), ["Tue, 15 Nov 1994 08:12:31 GMT"]);
    assert_eq!(reply.field("x-obs"), Some(e2e::wire::latin1("caf\u{e9}".as_bytes()).as_str()));
    let silent = Backend::replying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::run(&forward_with(silent.address(), "", ""));
    assert!(
        gateway.get("/").field("date").is_some_and(|d| d.ends_with(" GMT")),
        "RFC 9110 section 6.6.1: a proxy adds it"
    );
}
