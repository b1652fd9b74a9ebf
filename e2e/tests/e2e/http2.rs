//! HTTP/2 on both sides: streams, trailers, cancellation; what must not come down to HTTP/1; floods.

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request, Response};

use e2e::backend::{chunk, ok};
use e2e::frames::{ACK, END_HEADERS, END_STREAM, Frames, Outcome, block, encode, integer, kind};
use e2e::http2::{H2Backend, H2Client, echo, whole};
use e2e::wire::Framing;
use e2e::{Backend, Gate, Gateway, forward, forward_with, server};

const PONG: &str = "routes: [{ match: { path: / }, respond: { status: 200, body: pong } }]\n";
const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];

fn url(path: &str) -> String {
    format!("http://a.test{path}")
}

#[test]
fn a_request_over_http2_reaches_an_http1_service() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let request = Request::post(url("/a?b=c")).header("x-kept", "1").header("cookie", "a=1").header("cookie", "b=2");
    let reply = client.call(request.body(()).unwrap(), b"hello");
    assert_eq!(reply.status, 200);
    let told = reply.json();
    assert_eq!((&told["method"], &told["target"], &told["body"]), (&"POST".into(), &"/a?b=c".into(), &"hello".into()));
    let seen = backend.assert_well_formed("HTTP/2");
    assert_eq!(seen[0].head.fields.values("host"), ["a.test"]);
    assert_eq!(seen[0].head.fields.values("cookie"), ["a=1; b=2"], "crumbs are one field in HTTP/1 (RFC 9113 8.2.3)");
    assert_eq!(seen[0].field("x-forwarded-proto"), Some("http"));
    assert!(seen[0].head.fields.0.iter().all(|(name, _)| !name.starts_with(':')));
    assert!(reply.fields.get("connection").is_none() && reply.fields.get("transfer-encoding").is_none());
}

#[test]
fn bodies_of_every_kind_cross_from_http2_to_http1_and_back() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let mut stream = client.send(Request::post(url("/")).body(()).unwrap(), false);
    // An empty DATA frame is not the end of a chunked body.
    for (part, end) in [("", false), ("one ", false), ("", false), ("two", false), ("", true)] {
        stream.data(part.as_bytes(), end);
    }
    assert_eq!(stream.reply().json()["body"], "one two");
    let large = "x".repeat(3_000_000);
    assert_eq!(client.call(Request::post(url("/")).body(()).unwrap(), large.as_bytes()).json()["body"], large);
    let request = Request::post(url("/")).header("content-length", "5").body(()).unwrap();
    assert_eq!(client.call(request, b"hello").json()["body"], "hello");
    let head = client.send(Request::head(url("/")).body(()).unwrap(), true).reply();
    assert_eq!((head.status, head.body.len(), head.field("content-length").is_some()), (200, 0, true));
    let seen = backend.assert_well_formed("bodies over HTTP/2");
    assert_eq!(seen[2].field("content-length"), Some("5"));
    assert_eq!(seen[3].head.method(), "HEAD");
}

#[test]
fn trailers_cross_between_http2_and_http1_both_ways() {
    let backend = Backend::scripted(|conn| {
        while let Some(request) = conn.request() {
            let sum = request.trailers.value("x-sum").unwrap_or("none").to_owned();
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum-Was: {sum}\r\n\r\n"
            ));
        }
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let mut stream = client.send(Request::post(url("/")).header("te", "trailers").body(()).unwrap(), false);
    stream.data(b"body", false);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    stream.trailers(trailers);
    let reply = stream.reply();
    assert_eq!(reply.body, "hi");
    assert_eq!(reply.trailers.expect("trailers")["x-sum-was"], "42");
}

#[test]
fn interim_replies_reach_a_client_of_http2() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        conn.send(ok("final"));
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let mut stream = client.send(Request::get(url("/")).body(()).unwrap(), true);
    let hints = stream.informational().expect("a 103");
    assert_eq!((hints.status().as_u16(), hints.headers()["link"].to_str().unwrap()), (103, "</a.css>"));
    assert_eq!(stream.reply().body, "final");
}

#[test]
fn streams_do_not_wait_for_each_other() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        while let Some(request) = conn.request() {
            if request.head.target() == "/slow" {
                opened.wait();
            }
            conn.send(ok(request.head.target()));
        }
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let slow = client.send(Request::get(url("/slow")).body(()).unwrap(), true);
    let many: Vec<_> =
        (0..50).map(|n| client.send(Request::get(url(&format!("/{n}"))).body(()).unwrap(), true)).collect();
    for (n, stream) in many.into_iter().enumerate() {
        assert_eq!(stream.reply().body, format!("/{n}"));
    }
    gate.open();
    assert_eq!(slow.reply().body, "/slow");
}

#[test]
fn both_directions_of_a_stream_flow_at_the_same_time() {
    let backend = H2Backend::serve(full_duplex);
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    let client = H2Client::connect(gateway.address());
    let request = Request::post(url("/")).header("content-type", "application/grpc").header("te", "trailers");
    let mut stream = client.send(request.body(()).unwrap(), false);
    stream.data(b"0", false);
    assert_eq!(stream.head().status(), 200);
    assert_eq!(stream.chunk().unwrap().unwrap(), "echo 0");
    for n in 1..20 {
        stream.data(n.to_string().as_bytes(), n == 19);
        assert_eq!(stream.chunk().unwrap().unwrap(), format!("echo {n}"));
    }
    let (rest, trailers) = stream.rest().expect("a whole reply");
    assert!(rest.is_empty());
    assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
    assert_eq!(backend.heads()[0].headers()["te"], "trailers");
}

/// Answers every part at once and ends with a gRPC status.
async fn full_duplex(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let mut incoming = request.into_body();
    let Ok(mut sender) = respond.send_response(Response::new(()), false) else { return };
    while let Some(Ok(part)) = incoming.data().await {
        drop(incoming.flow_control().release_capacity(part.len()));
        let echoed = format!("echo {}", String::from_utf8_lossy(&part));
        if sender.send_data(echoed.into(), false).is_err() {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    drop(sender.send_trailers(trailers));
}

#[test]
fn an_http1_client_reaches_an_http2_service() {
    let backend = H2Backend::serve(echo);
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    let mut client = gateway.connect();
    let reply = client.post("/a?b", "hello");
    assert_eq!((reply.status(), &reply.json()["body"]), (200, &"hello".into()));
    assert_eq!(reply.json()["authority"], "example.test");
    assert_eq!(reply.json()["target"], "/a?b");
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n";
    let reply = client.send(chunked).reply();
    assert_eq!(reply.json()["body"], "hi");
    assert_eq!(reply.trailers.value("x-sum"), Some("1"));
    for _ in 0..10 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(backend.connections(), 1, "streams share a connection");
    for head in backend.heads() {
        for gone in ["connection", "transfer-encoding", "keep-alive", "upgrade", "host"] {
            assert!(!head.headers().contains_key(gone) || gone == "host", "{gone}: {head:?}");
        }
    }
}

#[test]
fn a_service_that_resets_its_stream_never_looks_whole() {
    let backend = H2Backend::serve(|_request, mut respond: h2::server::SendResponse<Bytes>| async move {
        let Ok(mut sender) = respond.send_response(Response::new(()), false) else { return };
        drop(sender.send_data("half".into(), false));
        e2e::http2::settle().await;
        sender.send_reset(Reason::INTERNAL_ERROR);
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    let client = H2Client::connect(gateway.address());
    let mut stream = client.send(Request::get(url("/")).body(()).unwrap(), true);
    if stream.try_head().is_ok() {
        assert!(stream.rest().is_err(), "the stream ended as if it were whole");
    }
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    if head.status() == 200 {
        while let Ok(part) = client.try_chunk() {
            assert!(part.is_some(), "a last chunk was made up");
        }
    } else {
        assert_eq!(head.status(), 502);
    }
}

#[test]
fn an_http1_service_that_dies_in_its_body_resets_the_stream() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let backend = Backend::scripted(move |conn| {
            conn.request();
            conn.send(bytes);
        });
        let gateway = Gateway::run(&forward(backend.address()));
        let client = H2Client::connect(gateway.address());
        let mut stream = client.send(Request::get(url("/")).body(()).unwrap(), true);
        let error = match stream.try_head() {
            Ok(head) => {
                assert_eq!(head.status(), 200);
                stream.rest().expect_err("cut off, not ended")
            }
            Err(e) => e,
        };
        assert!(error.is_reset() && error.reason() != Some(Reason::NO_ERROR), "{bytes:?}: {error}");
        // The connection and its other streams live on.
        let mut again = client.send(Request::get(url("/")).body(()).unwrap(), true);
        drop(again.try_head());
    }
}

#[test]
fn a_stream_that_is_given_up_cancels_the_work_upstream() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let stream = client.send(Request::get(url("/")).body(()).unwrap(), true);
    backend.wait_requests(1);
    stream.reset(Reason::CANCEL);
    backend.wait_all_closed();
    // The same towards a service of HTTP/2: its stream is reset, its connection stays.
    let backend = H2Backend::serve(|_request, mut respond: h2::server::SendResponse<Bytes>| async move {
        drop(std::future::poll_fn(|cx| respond.poll_reset(cx)).await);
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    let client = H2Client::connect(gateway.address());
    let stream = client.send(Request::get(url("/")).body(()).unwrap(), true);
    backend.wait("the request", |seen| seen.heads.len() == 1);
    stream.reset(Reason::CANCEL);
    backend.wait("the reset", |seen| seen.finished == 1);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    backend.wait("the second request", |seen| seen.heads.len() == 2);
    client.reset();
    backend.wait("the second reset", |seen| seen.finished == 2);
}

#[test]
fn an_early_answer_reaches_a_client_of_http2_while_it_uploads() {
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        conn.close();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "", "limits: { body: 1GB }"));
    let client = H2Client::connect(gateway.address());
    let mut stream = client.send(Request::post(url("/")).body(()).unwrap(), false);
    stream.data(&[b'x'; 10_000], false);
    assert_eq!(stream.head().status(), 413);
    let mut body = Vec::new();
    while let Some(Ok(part)) = stream.chunk() {
        body.extend(part);
    }
    assert_eq!(body, b"big");
}

#[test]
fn a_hundred_streams_at_once_reach_a_service_of_http2() {
    let backend = H2Backend::serve(|request, mut respond: h2::server::SendResponse<Bytes>| async move {
        drop(whole(&mut request.into_body()).await);
        if let Ok(mut sender) = respond.send_response(Response::new(()), false) {
            drop(sender.send_data("fine".into(), true));
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    let client = H2Client::connect(gateway.address());
    for _ in 0..5 {
        let streams: Vec<_> = (0..100).map(|_| client.send(Request::get(url("/")).body(()).unwrap(), true)).collect();
        for stream in streams {
            assert_eq!(stream.reply().body, "fine");
        }
    }
}

/// A head that must not pass: it ends with a reset or a refusal, and no backend sees anything.
fn never_passes(attacks: &[(&str, Vec<(&str, &str)>)]) {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    for (what, fields) in attacks {
        let mut frames = Frames::connect(gateway.address());
        frames.settled();
        frames.headers(1, fields, true);
        match frames.outcome(1) {
            Outcome::Status(status) => assert!((400..=505).contains(&status) && status != 404, "{what}: {status}"),
            Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed => {}
        }
        let seen = backend.bytes();
        assert!(
            seen.is_empty(),
            "{what}: the backend saw {:?}",
            seen.iter().map(|b| e2e::wire::latin1(b)).collect::<Vec<_>>()
        );
    }
    assert_eq!(H2Client::connect(gateway.address()).get(&url("/")).status, 200, "the gateway still works");
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    GET.iter().chain(more).copied().collect()
}

fn instead<'a>(name: &str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    GET.iter().map(|(n, v)| if *n == name { (*n, value) } else { (*n, *v) }).collect()
}

#[test]
fn field_names_and_values_that_would_split_an_http1_head_never_pass() {
    never_passes(&[
        ("CRLF in a value", with(&[("x", "a\r\nHost: evil")])),
        ("LF in a value", with(&[("x", "a\nTransfer-Encoding: chunked")])),
        ("CR in a value", with(&[("x", "a\rb")])),
        ("NUL in a value", with(&[("x", "a\0b")])),
        ("CRLF in a name", with(&[("x\r\ny", "a")])),
        ("colon in a name", with(&[("x: y", "a")])),
        ("colon at the end of a name", with(&[("transfer-encoding:", "chunked")])),
        ("space in a name", with(&[("x y", "a")])),
        ("upper case", with(&[("X-Upper", "a")])),
        ("empty name", with(&[("", "a")])),
        ("control in a name", with(&[("x\u{1}", "a")])),
        ("CRLF in a cookie", with(&[("cookie", "a\r\nX: y")])),
    ]);
}

#[test]
fn connection_fields_of_http1_never_pass_over_http2() {
    never_passes(&[
        ("connection", with(&[("connection", "keep-alive")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", with(&[("proxy-connection", "keep-alive")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te other than trailers", with(&[("te", "gzip")])),
    ]);
}

#[test]
fn pseudo_fields_that_are_odd_never_pass() {
    never_passes(&[
        ("CRLF in :path", instead(":path", "/a HTTP/1.1\r\nHost: evil\r\nX: ")),
        ("space in :path", instead(":path", "/a b")),
        ("no slash", instead(":path", "a")),
        ("empty :path", instead(":path", "")),
        ("absolute :path", instead(":path", "http://evil/")),
        ("asterisk", instead(":path", "*")),
        ("NUL in :path", instead(":path", "/\0")),
        ("dots above the root", instead(":path", "/../x")),
        ("space in :method", instead(":method", "GET /x HTTP/1.1\r\nX: ")),
        ("empty :method", instead(":method", "")),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "a.test:443")]),
        ("CONNECT with a path", instead(":method", "CONNECT")),
        ("CRLF in :authority", instead(":authority", "a\r\nX: y")),
        ("space in :authority", instead(":authority", "a b")),
        ("userinfo in :authority", instead(":authority", "user@a.test")),
        ("path in :authority", instead(":authority", "a.test/x")),
        ("empty :authority", instead(":authority", "")),
        ("another host", with(&[("host", "evil.test")])),
        ("two hosts", with(&[("host", "a.test"), ("host", "a.test")])),
        ("no :path", vec![(":method", "GET"), (":scheme", "http"), (":authority", "a")]),
        ("no :method", vec![(":scheme", "http"), (":authority", "a"), (":path", "/")]),
        ("no :scheme", vec![(":method", "GET"), (":authority", "a"), (":path", "/")]),
        ("no authority at all", vec![(":method", "GET"), (":scheme", "http"), (":path", "/")]),
        ("two :path", with(&[(":path", "/other")])),
        ("two :method", with(&[(":method", "POST")])),
        (
            "a pseudo field after a field",
            vec![(":method", "GET"), (":scheme", "http"), ("x", "y"), (":authority", "a"), (":path", "/")],
        ),
        ("an unknown pseudo field", with(&[(":evil", "x")])),
        ("a pseudo field of replies", with(&[(":status", "200")])),
    ]);
}

#[test]
fn a_fragment_never_reaches_a_service() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.headers(1, &instead(":path", "/a#/../b"), true);
    frames.outcome(1);
    for seen in backend.assert_well_formed("a fragment") {
        assert_eq!(seen.head.target(), "/a");
    }
}

#[test]
fn a_content_length_that_disagrees_with_the_data_never_makes_a_whole_request() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let cases: &[(&str, &[(&str, &str)], &[&str])] = &[
        ("short", &[("content-length", "10")], &["hello"]),
        ("long", &[("content-length", "3")], &["hello"]),
        ("long later", &[("content-length", "7")], &["hello", "hello"]),
        ("zero with data", &[("content-length", "0")], &["GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"]),
        ("two lengths", &[("content-length", "5"), ("content-length", "5")], &["hello"]),
        ("two different lengths", &[("content-length", "5"), ("content-length", "6")], &["hello"]),
        ("no number", &[("content-length", "+5")], &["hello"]),
        ("overflow", &[("content-length", "18446744073709551621")], &["hello"]),
        ("no data at all", &[("content-length", "5")], &[""]),
    ];
    for (what, fields, parts) in cases {
        let mut frames = Frames::connect(gateway.address());
        frames.settled();
        let head: Vec<_> = instead(":method", "POST").into_iter().chain(fields.iter().copied()).collect();
        frames.headers(1, &head, false);
        for (n, part) in parts.iter().enumerate() {
            let end = if n + 1 == parts.len() { END_STREAM } else { 0 };
            frames.frame(kind::DATA, end, 1, part.as_bytes());
        }
        match frames.outcome(1) {
            Outcome::Status(status) => assert_eq!(status, 400, "{what}"),
            Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed => {}
        }
    }
    // A request that ends with its head has no body to declare.
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.headers(1, &with(&[("content-length", "5")]), true);
    assert_ne!(frames.outcome(1), Outcome::Status(200));
    // Who declares nothing may have been taken at their word, if that came alone: as a request without a body.
    for seen in backend.requests() {
        assert!(seen.body.is_empty() && seen.framing == Framing::Length(0), "{seen:?}");
    }
    for bytes in backend.bytes() {
        assert!(!e2e::wire::latin1(&bytes).contains("smuggled"));
    }
}

#[test]
fn identity_fields_in_trailers_over_http2_do_not_pass() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let mut stream = client.send(Request::post(url("/")).body(()).unwrap(), false);
    stream.data(b"body", false);
    let mut trailers = HeaderMap::new();
    for name in ["x-sum", "authorization", "host", "content-length", "x-forwarded-for", "x-real-ip", "cookie"] {
        trailers.insert(name, HeaderValue::from_static("1"));
    }
    stream.trailers(trailers);
    assert_eq!(stream.reply().status, 200);
    let seen = backend.assert_well_formed("trailers over HTTP/2");
    let names: Vec<_> = seen[0].trailers.0.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["x-sum"]);
}

#[test]
fn limits_hold_over_http2_too() {
    let backend = Backend::echo();
    let limits = server("limits: { header_bytes: 4KB, headers: 20, uri_bytes: 1KB, body: 1KB }");
    let gateway = Gateway::run(&(limits + &forward(backend.address())));
    let client = H2Client::connect(gateway.address());
    let refused = |request: Request<()>, body: &[u8]| {
        let mut stream = client.send(request, body.is_empty());
        if !body.is_empty() {
            drop(stream.try_data(body, true));
        }
        stream.try_head().map(|head| head.status().as_u16())
    };
    let many = (0..25).fold(Request::get(url("/")), |r, n| r.header(format!("x-{n}"), "a"));
    assert_eq!(refused(many.body(()).unwrap(), b"").unwrap_or(431), 431);
    let crumbs = (0..40).fold(Request::get(url("/")), |r, n| r.header("cookie", format!("c{n}=a")));
    assert_eq!(refused(crumbs.body(()).unwrap(), b"").unwrap_or(431), 431, "every crumb counts");
    let large = Request::get(url("/")).header("x", "a".repeat(6000)).body(()).unwrap();
    assert_eq!(refused(large, b"").unwrap_or(431), 431);
    let long = Request::get(url(&format!("/{}", "a".repeat(2000)))).body(()).unwrap();
    assert_eq!(refused(long, b"").unwrap(), 414);
    let declared = Request::post(url("/")).header("content-length", "2000").body(()).unwrap();
    assert_eq!(refused(declared, &[b'x'; 2000]).unwrap(), 413);
    assert_eq!(refused(Request::post(url("/")).body(()).unwrap(), &[b'x'; 5000]).unwrap(), 413);
    assert!(backend.requests().is_empty());
    assert_eq!(H2Client::connect(gateway.address()).get(&url("/")).status, 200);
}

#[test]
fn the_number_of_streams_is_announced_and_enforced() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&(server("limits: { streams: 5 }") + &forward(backend.address())));
    let mut frames = Frames::connect(gateway.address());
    let settings = frames.settled();
    assert!(settings.contains(&(3, 5)), "SETTINGS_MAX_CONCURRENT_STREAMS: {settings:?}");
    for n in 0..20 {
        frames.headers(1 + 2 * n, &GET, true);
    }
    // REFUSED_STREAM (7), or the whole connection with an error.
    match frames.outcome(11) {
        Outcome::Reset(code) => assert_eq!(code, 7),
        Outcome::GoAway(code) => assert_ne!(code, 0),
        Outcome::Closed => {}
        Outcome::Status(status) => panic!("status {status}"),
    }
    assert!(backend.connections() <= 5);
}

#[test]
fn a_block_of_fields_without_end_is_cut_off() {
    let gateway = Gateway::run(PONG);
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.frame(kind::HEADERS, END_STREAM, 1, &block(&GET));
    let junk = block(&[("x", &"a".repeat(8000))]);
    let mut sent = 0;
    while sent < 100_000 && frames.frame(kind::CONTINUATION, 0, 1, &junk) {
        sent += 1;
    }
    assert!(sent < 100_000, "no end to CONTINUATION");
    assert_eq!(gateway.get("/").text(), "pong");
    // Empty ones cost nothing but are no better.
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.frame(kind::HEADERS, END_STREAM, 1, &block(&GET));
    flood(&mut frames, &encode(kind::CONTINUATION, 0, 1, &[]));
    assert_eq!(gateway.get("/").text(), "pong");
}

#[test]
fn rapid_resets_end_the_connection_and_do_not_reach_the_service_for_ever() {
    let backend = Backend::scripted(|conn| while conn.request().is_some() && conn.send(ok("fine")) {});
    let gateway = Gateway::run(&forward(backend.address()));
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    let mut sent = 0_u32;
    while sent < 100_000 {
        let stream = 1 + 2 * sent;
        let pair = [
            encode(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block(&GET)),
            encode(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ];
        if !frames.raw(&pair.concat()) {
            break;
        }
        sent += 1;
    }
    assert!(sent < 100_000, "no bound on resets");
    let connections = backend.connections();
    assert!(connections < 2_000, "{connections} connections upstream for {sent} resets");
    assert_eq!(gateway.get("/").text(), "fine", "others are served");
}

#[test]
fn streams_that_make_the_gateway_reset_end_the_connection_too() {
    let gateway = Gateway::run(PONG);
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    let mut sent = 0_u32;
    while sent < 100_000 {
        // A WINDOW_UPDATE of zero is a stream error: it is the gateway that resets (MadeYouReset).
        let stream = 1 + 2 * sent;
        let pair = [
            encode(kind::HEADERS, END_HEADERS, stream, &block(&GET)),
            encode(kind::WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()),
        ];
        if !frames.raw(&pair.concat()) {
            break;
        }
        sent += 1;
    }
    assert!(sent < 100_000, "no bound on provoked resets");
    assert_eq!(gateway.get("/").text(), "pong");
}

/// Sends the same frame until the gateway ends the connection, which must happen.
fn flood(frames: &mut Frames, frame: &[u8]) {
    let many = frame.repeat(100);
    for _ in 0..20_000 {
        if !frames.raw(&many) {
            return;
        }
    }
    panic!("no bound on {frame:?}");
}

#[test]
fn floods_of_pings_settings_and_empty_data_are_bounded() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&(server("timeouts: { write_idle: 500ms }") + &forward(backend.address())));
    let before = gateway.memory();
    // The answers are not read: they must not pile up either.
    let ping = encode(kind::PING, 0, 0, &[0; 8]);
    let settings = encode(kind::SETTINGS, 0, 0, &[]);
    for frame in [ping, settings] {
        let mut frames = Frames::connect(gateway.address());
        frames.settled();
        flood(&mut frames, &frame);
    }
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.headers(1, &instead(":method", "POST"), false);
    flood(&mut frames, &encode(kind::DATA, 0, 1, &[]));
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "floods took {grown} bytes");
}

#[test]
fn frames_that_ask_for_nothing_do_not_keep_a_connection_busy_for_ever() {
    let gateway = Gateway::run(PONG);
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    let unknown = encode(0xfa, 0, 0, &[0; 16]);
    let priority = encode(kind::PRIORITY, 0, 3, &[0, 0, 0, 1, 1]);
    for frame in [unknown, priority] {
        // These have no cost that lasts: they may be taken, as long as others do not notice.
        frames.raw(&frame.repeat(10_000));
        assert_eq!(gateway.get("/").text(), "pong");
    }
}

#[test]
fn one_byte_references_to_a_large_field_do_not_blow_up() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let before = gateway.memory();
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    for stream in (1..200).step_by(2) {
        // One large indexed field, then thousands of references to it: 0x80 | 62 (RFC 7541 section 6.1).
        let mut fields = block(&GET);
        if stream == 1 {
            fields.push(0x40);
            integer(&mut fields, 1);
            fields.push(b'x');
            integer(&mut fields, 4000);
            fields.extend([b'a'; 4000]);
        }
        fields.extend([0xbe; 10_000]);
        if !frames.frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &fields) {
            break;
        }
    }
    match frames.outcome(1) {
        Outcome::Status(status) => assert_eq!(status, 431),
        Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed => {}
    }
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "it took {grown} bytes");
    assert!(backend.requests().is_empty());
}

#[test]
fn replies_held_back_by_a_closed_window_are_let_go() {
    let backend = Backend::scripted(|conn| while conn.request().is_some() && conn.send(ok(&"x".repeat(1_000_000))) {});
    let gateway = Gateway::run(&(server("timeouts: { write_idle: 200ms }") + &forward(backend.address())));
    let before = gateway.memory();
    // SETTINGS_INITIAL_WINDOW_SIZE 0: the client will never take a byte of a body.
    let mut frames = Frames::connect_with(gateway.address(), &[(4, 0)]);
    frames.settled();
    for n in 0..100 {
        frames.headers(1 + 2 * n, &GET, true);
    }
    assert_eq!(frames.outcome(1), Outcome::Status(200));
    match frames.outcome(1) {
        Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed => {}
        Outcome::Status(status) => panic!("a second head with {status}"),
    }
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "held back replies took {grown} bytes");
}

#[test]
fn an_idle_connection_of_http2_is_closed() {
    let gateway = Gateway::run(&(server("timeouts: { idle: 500ms }") + PONG));
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    let last = frames.until_closed();
    assert!(last.is_none_or(|code| code == 0), "an orderly end: {last:?}");
    let client = H2Client::connect(gateway.address());
    assert_eq!(client.get(&url("/")).body, "pong");
    drop(client.ended());
}

#[test]
fn a_stalled_upload_over_http2_is_let_go_and_its_neighbours_are_not() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&(server("timeouts: { body_idle: 200ms }") + &forward(backend.address())));
    let client = H2Client::connect(gateway.address());
    let mut stream = client.send(Request::post(url("/")).body(()).unwrap(), false);
    stream.data(b"half", false);
    match stream.try_head() {
        Ok(head) => assert_eq!(head.status(), 408),
        Err(e) => assert!(e.is_reset(), "{e}"),
    }
    assert_eq!(client.get(&url("/")).status, 200);
    backend.wait("the aborted upload", |seen| seen.connections[0].closed);
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_preface_that_goes_wrong_is_refused() {
    let gateway = Gateway::run(PONG);
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = gateway.connect();
        client.try_send(bytes);
        client.rest();
    }
    assert_eq!(gateway.get("/").text(), "pong");
}

#[test]
fn frames_that_break_the_protocol_end_the_connection_not_the_gateway() {
    let gateway = Gateway::run(PONG);
    let stray: [Vec<u8>; 7] = [
        encode(kind::DATA, 0, 0, b"x"),
        encode(kind::HEADERS, END_HEADERS, 2, &block(&GET)),
        encode(kind::HEADERS, END_HEADERS, 0, &block(&GET)),
        encode(kind::SETTINGS, ACK, 0, &[0; 6]),
        encode(kind::WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes()),
        encode(kind::DATA, 0, 1, &vec![0; 20_000]),
        encode(kind::HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 50]),
    ];
    for frame in stray {
        let mut frames = Frames::connect(gateway.address());
        frames.settled();
        frames.raw(&frame);
        let code = frames.until_closed();
        assert!(code.is_some_and(|code| code != 0), "{:?}: {code:?}", &frame[..9]);
    }
    assert_eq!(gateway.get("/").text(), "pong");
}

#[test]
fn a_chunk_of_an_http1_reply_arrives_at_once_over_http2() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        conn.send(chunk("first"));
        opened.wait();
        conn.send(chunk("second") + "0\r\n\r\n");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let mut stream = client.send(Request::get(url("/")).body(()).unwrap(), true);
    stream.head();
    assert_eq!(stream.chunk().unwrap().unwrap(), "first");
    gate.open();
    assert_eq!(stream.rest().unwrap().0, "second");
}

#[test]
fn a_block_of_fields_that_stalls_is_let_go() {
    let gateway = Gateway::run(&(server("timeouts: { header: 200ms, idle: 300ms }") + PONG));
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.frame(kind::HEADERS, END_STREAM, 1, &block(&GET[..2]));
    frames.until_closed();
    // Half a frame is no better.
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.raw(&encode(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block(&GET))[..12]);
    frames.until_closed();
    // Nor is a preface after which nothing comes.
    let mut client = gateway.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.rest();
}

#[test]
fn padding_priorities_and_continuations_are_understood() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let fields = block(&instead(":method", "POST"));
    let (first, rest) = fields.split_at(5);
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    // PADDED and PRIORITY on HEADERS, the block over three frames, PADDED on DATA.
    let padded = [&[3, 0, 0, 0, 0, 15][..], first, &[0; 3]].concat();
    frames.frame(kind::HEADERS, 0x8 | 0x20, 1, &padded);
    frames.frame(kind::CONTINUATION, 0, 1, &rest[..7]);
    frames.frame(kind::CONTINUATION, END_HEADERS, 1, &rest[7..]);
    frames.frame(kind::DATA, 0x8 | END_STREAM, 1, b"\x05hello\0\0\0\0\0");
    assert_eq!(frames.outcome(1), Outcome::Status(200));
    assert_eq!(backend.assert_well_formed("padding")[0].body, b"hello");
}

#[test]
fn a_host_instead_of_an_authority_is_the_host() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.headers(1, &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a.test")], true);
    match frames.outcome(1) {
        Outcome::Status(200) => assert_eq!(backend.requests()[0].head.fields.values("host"), ["a.test"]),
        Outcome::Status(400) | Outcome::Reset(_) => assert!(backend.bytes().is_empty()),
        Outcome::Status(status) => panic!("{status}"),
        Outcome::GoAway(_) | Outcome::Closed => panic!("the connection ended"),
    }
}

#[test]
fn trailers_that_are_odd_never_end_a_request_well() {
    let odd: [&[(&str, &str)]; 5] = [
        &[(":path", "/other")],
        &[("x", "a\r\nb")],
        &[("X-Upper", "a")],
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
    ];
    for trailers in odd {
        let backend = Backend::echo();
        let gateway = Gateway::run(&forward(backend.address()));
        let mut frames = Frames::connect(gateway.address());
        frames.settled();
        frames.headers(1, &instead(":method", "POST"), false);
        frames.frame(kind::DATA, 0, 1, b"body");
        frames.headers(1, trailers, true);
        match frames.outcome(1) {
            Outcome::Status(200) => {
                // Dropped, then, and nothing else changed.
                let seen = backend.assert_well_formed("odd trailers");
                assert!(seen[0].trailers.0.is_empty() && seen[0].head.target() == "/", "{trailers:?}: {seen:?}");
            }
            Outcome::Status(status) => assert_eq!(status, 400, "{trailers:?}"),
            Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed => {}
        }
    }
}

#[test]
fn data_after_the_end_of_a_stream_is_not_the_next_request() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    frames.headers(1, &GET, true);
    frames.frame(kind::DATA, END_STREAM, 1, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    frames.outcome(1);
    frames.headers(3, &GET, true);
    frames.outcome(3);
    for seen in backend.assert_well_formed("data after the end") {
        assert_eq!(seen.head.target(), "/");
    }
}

#[test]
fn an_extended_connect_is_refused() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/chat"),
    ];
    frames.headers(1, &connect, false);
    match frames.outcome(1) {
        Outcome::Status(status) => assert!((400..=501).contains(&status), "{status}"),
        Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed => {}
    }
    assert!(backend.bytes().is_empty());
}

#[test]
fn a_continue_over_http2_is_given_and_other_expectations_are_not() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let client = H2Client::connect(gateway.address());
    let request = Request::post(url("/")).header("expect", "100-continue").body(()).unwrap();
    let mut stream = client.send(request, false);
    assert_eq!(stream.informational().expect("a 100").status().as_u16(), 100);
    stream.data(b"hello", true);
    assert_eq!(stream.reply().json()["body"], "hello");
    let request = Request::post(url("/")).header("expect", "something").body(()).unwrap();
    assert_eq!(client.call(request, b"").status, 417);
}
