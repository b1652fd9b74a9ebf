//! Message framing, requests: hostile bytes are refused, the connection closes, and no backend ever sees an unsafe byte.

use e2e::{Backend, Gateway, forward};

/// What a hostile request must be answered with; nothing of it may reach the backend.
struct Attack {
    what: &'static str,
    bytes: &'static [u8],
    statuses: &'static [u16],
}

const fn attack(what: &'static str, bytes: &'static [u8], statuses: &'static [u16]) -> Attack {
    Attack { what, bytes, statuses }
}

/// Every attack is refused on a connection of its own, which closes; afterwards the backend has seen nothing at all.
fn refused(attacks: &[Attack]) {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    for Attack { what, bytes, statuses } in attacks {
        let mut client = gateway.connect();
        client.try_send(bytes);
        let reply = client.try_reply_to("GET").unwrap_or_else(|e| panic!("{what}: no reply: {e:?}"));
        assert!(statuses.contains(&reply.status()), "{what}: {:?} {:?}", reply.head.start, reply.text());
        let more = client.rest();
        assert!(more.is_empty(), "{what}: more after the refusal: {:?}", e2e::wire::latin1(&more));
        let seen = backend.assert_well_formed(what);
        assert!(seen.is_empty(), "{what}: the backend saw {seen:#?}");
    }
    assert_eq!(gateway.get("/alive").status(), 200, "the gateway still works");
}

const BAD: &[u16] = &[400];
const BAD_OR_UNKNOWN: &[u16] = &[400, 501];
const BAD_OR_VERSION: &[u16] = &[400, 505];

#[test]
fn content_length_beside_transfer_encoding_is_refused() {
    refused(&[
        attack(
            "CL.TE",
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
            BAD,
        ),
        attack(
            "TE.CL",
            b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nA\r\n0\r\n\r\n",
            BAD,
        ),
        attack(
            "TE with CL 0",
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n\
              23\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
            BAD,
        ),
        attack(
            "identity with CL",
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: identity\r\n\r\nA",
            BAD_OR_UNKNOWN,
        ),
    ]);
}

#[test]
fn any_transfer_encoding_but_one_chunked_is_refused() {
    macro_rules! te {
        ($what:literal, $lines:literal) => {
            attack(
                $what,
                concat!("POST /a HTTP/1.1\r\nHost: a\r\n", $lines, "\r\n\r\n0\r\n\r\n").as_bytes(),
                BAD_OR_UNKNOWN,
            )
        };
    }
    refused(&[
        te!("list", "Transfer-Encoding: chunked, chunked"),
        te!("identity in a list", "Transfer-Encoding: chunked, identity"),
        te!("gzip before chunked", "Transfer-Encoding: gzip, chunked"),
        te!("chunked before gzip", "Transfer-Encoding: chunked, gzip"),
        te!("repeated", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        te!("repeated with another", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
        te!("xchunked", "Transfer-Encoding: xchunked"),
        te!("chunkedx", "Transfer-Encoding: chunkedx"),
        te!("parameter", "Transfer-Encoding: chunked;q=1"),
        te!("quoted", "Transfer-Encoding: \"chunked\""),
        te!("single quotes", "Transfer-Encoding: 'chunked'"),
        te!("vertical tab", "Transfer-Encoding: \x0bchunked"),
        te!("form feed", "Transfer-Encoding: chunked\x0c"),
        te!("NUL", "Transfer-Encoding: chunked\0"),
        te!("empty", "Transfer-Encoding:"),
        te!("comma", "Transfer-Encoding: ,chunked"),
        te!("identity", "Transfer-Encoding: identity"),
        te!("space before the colon", "Transfer-Encoding : chunked"),
        te!("tab before the colon", "Transfer-Encoding\t: chunked"),
        te!("folded", "Transfer-Encoding:\r\n chunked"),
        te!("folded below another", "X: a\r\n Transfer-Encoding: chunked"),
        te!("after a bare LF", "X: a\nTransfer-Encoding: chunked"),
        te!("after a bare CR", "X: a\rTransfer-Encoding: chunked"),
    ]);
}

#[test]
fn chunked_in_any_case_is_chunked() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    for spelling in ["chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked\t"] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:{spelling}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let reply = gateway.connect().send(request).reply();
        assert_eq!(reply.status(), 200, "{spelling:?}");
        assert_eq!(reply.json()["body"], "hello", "{spelling:?}");
    }
    backend.assert_well_formed("spellings of chunked");
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    refused(&[attack(
        "TE in 1.0",
        b"POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        BAD,
    )]);
}

#[test]
fn a_content_length_that_is_not_one_number_is_refused() {
    macro_rules! cl {
        ($lines:literal) => {
            attack($lines, concat!("POST /a HTTP/1.1\r\nHost: a\r\n", $lines, "\r\n\r\nhello").as_bytes(), BAD)
        };
    }
    refused(&[
        cl!("Content-Length: 5\r\nContent-Length: 6"),
        cl!("Content-Length: 5\r\nContent-Length: 5"),
        cl!("Content-Length: 5\r\ncontent-length: 0"),
        cl!("Content-Length: 5, 5"),
        cl!("Content-Length: 5,"),
        cl!("Content-Length: +5"),
        cl!("Content-Length: -1"),
        cl!("Content-Length: -0"),
        cl!("Content-Length: 0x5"),
        cl!("Content-Length: 1_0"),
        cl!("Content-Length: 5\x0b"),
        cl!("Content-Length: 5 5"),
        cl!("Content-Length: 5.0"),
        cl!("Content-Length: 5e0"),
        cl!("Content-Length: \"5\""),
        cl!("Content-Length: five"),
        cl!("Content-Length:"),
        cl!("Content-Length: \r\nX: a"),
        cl!("Content-Length: 18446744073709551616"),
        cl!("Content-Length: 18446744073709551621"),
        cl!("Content-Length: 99999999999999999999999999999999999999"),
        cl!("Content-Length : 5"),
        cl!("Content-Length\r\n: 5"),
        cl!("Content-Length:\r\n 5"),
    ]);
}

#[test]
fn leading_zeros_of_a_length_never_mean_something_else_to_the_backend() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let reply = gateway.connect().send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\n\r\nhello").reply();
    let seen = backend.assert_well_formed("leading zeros");
    match reply.status() {
        400 => assert!(seen.is_empty()),
        200 => {
            assert_eq!(seen[0].body, b"hello");
            assert_eq!(seen[0].field("content-length"), Some("5"), "re-made, not copied");
        }
        other => panic!("status {other}"),
    }
}

#[test]
fn malformed_field_lines_are_refused() {
    macro_rules! line {
        ($line:literal) => {
            attack($line, concat!("GET /a HTTP/1.1\r\nHost: a\r\n", $line, "\r\n\r\n").as_bytes(), BAD)
        };
    }
    refused(&[
        line!("X: a\nY: b"),
        line!("X: a\n\nGET /smuggled HTTP/1.1\r\nHost: a"),
        line!("X: a\rY: b"),
        line!("X: a\r\r\nY: b"),
        line!("X: a\0b"),
        line!("X\0: a"),
        line!("X: a\x01"),
        line!("X: \x7f"),
        line!("X: a\x1b[2J"),
        line!("X: a\r\n folded"),
        line!("X: a\r\n\tfolded"),
        line!("X : a"),
        line!("X\t: a"),
        line!(": a"),
        line!(":"),
        line!("X"),
        line!("X a"),
        line!("X Y: a"),
        line!("X@Y: a"),
        line!("X(Y): a"),
        line!("X/Y: a"),
        line!("X\u{e9}: a"),
        line!("\"X\": a"),
        line!("[X]: a"),
    ]);
    refused(&[
        attack("leading space before the first field", b"GET /a HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", BAD),
        attack("every line ends with LF", b"GET /a HTTP/1.1\nHost: a\n\n", BAD),
        attack("the empty line is LF", b"GET /a HTTP/1.1\r\nHost: a\r\n\nX", BAD),
        attack("the request line ends with LF", b"GET /a HTTP/1.1\nHost: a\r\n\r\n", BAD),
        attack("the request line ends with CR CR LF", b"GET /a HTTP/1.1\r\r\nHost: a\r\n\r\n", BAD),
    ]);
}

#[test]
fn malformed_request_lines_are_refused() {
    macro_rules! line {
        ($line:literal) => {
            line!($line, BAD)
        };
        ($line:literal, $statuses:expr) => {
            attack($line, concat!($line, "\r\nHost: a\r\n\r\n").as_bytes(), $statuses)
        };
    }
    refused(&[
        line!("GET  /a HTTP/1.1"),
        line!("GET /a  HTTP/1.1"),
        line!("GET /a b HTTP/1.1"),
        line!(" GET /a HTTP/1.1"),
        line!("GET /a HTTP/1.1 "),
        line!("GET\t/a\tHTTP/1.1"),
        line!("GET /a\tb HTTP/1.1"),
        line!("GET /a", BAD_OR_VERSION),
        line!("GET"),
        line!("GET /a HTTP/0.9", BAD_OR_VERSION),
        line!("GET /a HTTP/2.0", BAD_OR_VERSION),
        line!("GET /a HTTP/3.0", BAD_OR_VERSION),
        line!("GET /a HTTP/11.1", BAD_OR_VERSION),
        line!("GET /a HTTP/1.11", BAD_OR_VERSION),
        line!("GET /a HTTP/1", BAD_OR_VERSION),
        line!("GET /a HTTP/1.", BAD_OR_VERSION),
        line!("GET /a HTTP 1.1", BAD_OR_VERSION),
        line!("GET /a http/1.1", BAD_OR_VERSION),
        line!("GET /a XTTP/1.1", BAD_OR_VERSION),
        line!("GET /a#b HTTP/1.1"),
        line!("GET #/../b HTTP/1.1"),
        line!("GET * HTTP/1.1"),
        line!("GET a HTTP/1.1"),
        line!("GET ?a HTTP/1.1"),
        line!("GET a:80 HTTP/1.1"),
        line!("GET ftp://a/ HTTP/1.1"),
        line!("GET http:// HTTP/1.1"),
        line!("GET http:///a HTTP/1.1"),
        line!("GET /a\x7f HTTP/1.1"),
        line!("GET /a\0 HTTP/1.1"),
        line!("GET /\u{e9} HTTP/1.1"),
        line!("GET /a\r HTTP/1.1"),
        line!("G(T /a HTTP/1.1"),
        line!("G\u{e9}T /a HTTP/1.1"),
        line!("G:T /a HTTP/1.1"),
        line!("G\0T /a HTTP/1.1"),
    ]);
}

#[test]
fn bytes_that_are_no_http_are_refused_without_waiting_for_the_header_deadline() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    // None of these ends a head: a codec that waits for its end would wait for the deadline, and say 408.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\0",
        b"GET /a HTTP/1.1\nHost: a\n",
        b"GET /a HTTP/9.9\r\n",
        b"{\"json\": true}\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"\n\n\n",
    ] {
        let mut client = gateway.connect();
        client.try_send(bytes);
        let reply = client.reply();
        assert!([400, 505].contains(&reply.status()), "{:?}: {:?}", e2e::wire::latin1(bytes), reply.head.start);
        client.assert_closed();
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn one_empty_line_before_a_request_is_ignored() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    // RFC 9112 section 2.2: clients of old send one after a body.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nA\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply().text(), "fine");
    assert_eq!(client.reply().text(), "fine");
}

#[test]
fn a_host_that_is_missing_repeated_or_malformed_is_refused() {
    macro_rules! host {
        ($lines:literal) => {
            attack($lines, concat!("GET /a HTTP/1.1\r\nX: y\r\n", $lines, "\r\n\r\n").as_bytes(), BAD)
        };
    }
    refused(&[
        host!("No-Host: a"),
        host!("Host: a\r\nHost: b"),
        host!("Host: a\r\nHost: a"),
        host!("Host: a\r\nhost: a"),
        host!("Host:"),
        host!("Host: a b"),
        host!("Host: a, b"),
        host!("Host: a/b"),
        host!("Host: a?b"),
        host!("Host: a#b"),
        host!("Host: a\\b"),
        host!("Host: user@a"),
        host!("Host: a:b"),
        host!("Host: a:80:80"),
        host!("Host: a:99999"),
        host!("Host: a:-1"),
        host!("Host: :80"),
        host!("Host: [::1"),
        host!("Host: ::1"),
        host!("Host: [zz]"),
        host!("Host: http://a"),
        host!("Host: a\u{e9}"),
        host!("Host: a<script>"),
        host!("Host : a"),
    ]);
}

#[test]
fn an_absolute_target_and_a_host_that_differ_never_reach_a_backend_as_two_names() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let reply = gateway.connect().send("GET http://one.test/a HTTP/1.1\r\nHost: two.test\r\n\r\n").reply();
    let seen = backend.assert_well_formed("absolute form against Host");
    match reply.status() {
        400 => assert!(seen.is_empty()),
        200 => assert_eq!(seen[0].head.fields.values("host"), ["one.test"], "the absolute form wins"),
        other => panic!("status {other}"),
    }
    let reply = gateway.connect().send("GET http://one.test/a?b HTTP/1.1\r\nHost: one.test\r\n\r\n").reply();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.json()["target"], "/a?b", "forwarded in origin form");
    for target in ["http://user@one.test/", "http://user:pw@one.test/", "http://one.test@two.test/"] {
        let reply = gateway.connect().send(format!("GET {target} HTTP/1.1\r\nHost: one.test\r\n\r\n")).reply();
        assert_eq!(reply.status(), 400, "{target}");
    }
}

#[test]
fn malformed_chunks_are_refused_and_never_end_the_backends_request() {
    let giant = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1000));
    let bodies: &[&str] = &[
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX\r\n0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\nbad name: x\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\r\n folded\r\n\r\n",
        "5\r\nhello\r\n0\r\n: x\r\n\r\n",
        &giant,
    ];
    let backend = Backend::scripted(|conn| while conn.request().is_some() && conn.send(e2e::backend::ok("whole")) {});
    let gateway = Gateway::run(&forward(backend.address()));
    for body in bodies {
        let mut client = gateway.connect();
        client.try_send(format!("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        let reply = client.reply();
        assert_eq!(reply.status(), 400, "{body:?}: {:?}", reply.text());
        client.assert_closed();
        assert!(backend.requests().is_empty(), "{body:?} became a whole request: {:?}", backend.requests());
    }
    backend.wait_all_closed();
    for bytes in backend.bytes() {
        let end = e2e::wire::find(&bytes, b"\r\n0\r\n\r\n");
        assert_eq!(end, None, "an end was made up: {:?}", e2e::wire::latin1(&bytes));
    }
}

#[test]
fn a_chunk_size_that_overflows_is_refused() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    for size in ["ffffffffffffffff", "7fffffffffffffff", "fffffffffffffffe"] {
        let mut client = gateway.connect();
        client.try_send(format!(
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n{size}\r\nhello\r\n0\r\n\r\n"
        ));
        let status = client.reply().status();
        assert!([400, 413].contains(&status), "{size}: {status}");
        client.assert_closed();
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn chunk_extensions_are_dropped() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let request = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;name=value;other=\"quoted\"\r\nhello\r\n0;last\r\n\r\n";
    let reply = gateway.connect().send(request).reply();
    assert_eq!(reply.json()["body"], "hello");
    for bytes in backend.bytes() {
        assert!(!e2e::wire::latin1(&bytes).contains("name=value"), "the extension was forwarded");
    }
    backend.assert_well_formed("chunk extensions");
}

#[test]
fn trailers_never_carry_framing_routing_authority_or_identity() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let request = "POST /a HTTP/1.1\r\nHost: a\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\nX-Checksum: abc\r\nHost: evil\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\
                   Authorization: Bearer stolen\r\nCookie: a=b\r\nX-Forwarded-For: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\n\
                   X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nConnection: close\r\nX-Request-Id: evil\r\n\r\n";
    let reply = gateway.connect().send(request).reply();
    assert_eq!(reply.status(), 200);
    let seen = backend.assert_well_formed("hostile trailers");
    let names: Vec<String> = seen[0].trailers.0.iter().map(|(n, _)| n.to_ascii_lowercase()).collect();
    assert_eq!(names, ["x-checksum"], "only the harmless one");
    assert!(!seen[0].head.fields.has("x-checksum"), "not merged into the head");
    assert!(!seen[0].head.fields.has("authorization"));
    assert_eq!(seen[0].head.fields.values("host"), ["a"]);
}

#[test]
fn trailers_are_bounded() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let many: String = (0..2000).map(|i| format!("X-{i}: a\r\n")).collect();
    let large = format!("X: {}\r\n", "a".repeat(200_000));
    for trailers in [many, large] {
        let mut client = gateway.connect();
        client.try_send("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n");
        client.try_send(format!("{trailers}\r\n"));
        let status = client.reply().status();
        assert!([400, 431].contains(&status), "{status}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn a_body_nobody_asked_for_is_never_read_as_the_next_request() {
    let backend = Backend::labelled("service");
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path: /service }}, service: app }}\n\
         - {{ match: {{ path: /respond }}, respond: {{ status: 200, body: pong }} }}\n\
         - {{ match: {{ path: /redirect }}, redirect: {{ to: /elsewhere }} }}\n\
         - {{ match: {{ path: /post-only, methods: [POST] }}, respond: {{ status: 200, body: posted }} }}\n\
         - {{ match: {{ path: /smuggled }}, respond: {{ status: 418, body: smuggled }} }}\n\
         - {{ match: {{ path: /second }}, respond: {{ status: 200, body: second }} }}\n",
        backend.url()
    ));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = format!("Content-Length: {}\r\n\r\n{smuggled}", smuggled.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    for (method, path) in [
        ("GET", "/service"),
        ("GET", "/respond"),
        ("HEAD", "/respond"),
        ("GET", "/redirect"),
        ("GET", "/nothing-here"),
        ("GET", "/post-only"),
        ("OPTIONS", "/respond"),
        ("DELETE", "/post-only"),
    ] {
        for body in [&length, &chunked] {
            let mut client = gateway.connect();
            client
                .send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{body}GET /second HTTP/1.1\r\nHost: a\r\n\r\n"));
            let first = client.reply_to(method);
            assert_ne!(first.status(), 418, "{method} {path}");
            // Either the body was read to its end and the second request is answered, or the connection closes.
            if let Ok(second) = client.try_reply_to("GET") {
                assert_eq!(second.text(), "second", "{method} {path} {body:?}");
            }
        }
    }
    for request in backend.assert_well_formed("bodies on bodiless methods") {
        assert_eq!(request.head.target(), "/service");
    }
}

#[test]
fn a_refused_request_with_a_body_that_never_comes_does_not_hold_the_connection() {
    let gateway = Gateway::run(&format!(
        "{}routes: [{{ match: {{ path: / }}, respond: {{ status: 200, body: pong }} }}]\n",
        e2e::server("timeouts: { body_idle: 200ms }")
    ));
    let mut client = gateway.connect();
    client.send("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nfirst");
    assert_eq!(client.reply().status(), 404);
    client.assert_closed();
}

#[test]
fn connect_is_refused() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    for target in ["a.test:443", "/a", "a", "http://a.test/", "*", "127.0.0.1:22"] {
        let mut client = gateway.connect();
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: a.test:443\r\n\r\n"));
        let status = client.reply().status();
        assert!([400, 403, 404, 405, 501].contains(&status), "{target}: {status}");
    }
    assert!(backend.bytes().is_empty());
}

#[test]
fn an_expectation_other_than_100_continue_is_refused_with_417() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    for expect in ["200-ok", "100-continue, x", "something"] {
        let mut client = gateway.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: {expect}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(client.reply().status(), 417, "{expect}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn pipelined_requests_are_answered_alone_and_in_order() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path_prefix: /app }}, service: app }}\n\
         - {{ match: {{ path: /pong }}, respond: {{ status: 200, body: pong }} }}\n",
        backend.url()
    ));
    let mut client = gateway.connect();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let post = "POST /app/2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned();
    let chunked =
        "POST /app/4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_owned();
    client.send([get("/app/1"), post, get("/pong"), chunked, get("/none"), get("/app/5")].concat());
    assert_eq!(client.reply().json()["target"], "/app/1");
    let second = client.reply().json();
    assert_eq!((&second["target"], &second["body"]), (&"/app/2".into(), &"hello".into()));
    assert_eq!(client.reply().text(), "pong");
    assert_eq!(client.reply().json()["body"], "hi");
    assert_eq!(client.reply().status(), 404);
    assert_eq!(client.reply().json()["target"], "/app/5");
    for request in backend.assert_well_formed("pipelining") {
        assert!(request.field("x-request-id").is_some(), "every one passed the whole chain: {request:?}");
    }
}

#[test]
fn a_refusal_in_a_pipeline_comes_after_the_replies_before_it_and_ends_it() {
    let backend = Backend::labelled("first");
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nA\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.reply().text(), "first");
    assert_eq!(client.reply().status(), 400);
    client.assert_closed();
    assert_eq!(backend.assert_well_formed("a broken pipeline").len(), 1);
}

#[test]
fn a_request_in_single_bytes_is_the_same_request() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    for byte in
        b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
    {
        client.send([*byte]);
    }
    let told = client.reply().json();
    assert_eq!((&told["target"], &told["body"]), (&"/a?b=c".into(), &"hello".into()));
}
