//! Forwarding: what the client sent is what the service gets, and the other way round, as it comes, whole, within bounds.

use e2e::backend::{chunk, ok};
use e2e::wire::{Framing, WireError, latin1};
use e2e::{Backend, Client, Gate, Gateway, forward, forward_with, server};

#[test]
fn a_request_reaches_the_service_and_its_reply_comes_back() {
    let backend = Backend::replying("HTTP/1.1 201 Made It\r\nX-Kind: sample\r\nContent-Length: 4\r\n\r\nbody");
    let gateway = Gateway::run(&forward(backend.address()));
    let reply =
        gateway.connect().send("PUT /a/b?c=d&e HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\nxyz").reply();
    assert_eq!((reply.status(), reply.field("x-kind"), reply.text().as_str()), (201, Some("sample"), "body"));
    let seen = backend.assert_well_formed("a PUT");
    assert_eq!(seen[0].head.start, "PUT /a/b?c=d&e HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("shop.test"));
    assert_eq!((seen[0].framing, seen[0].body.as_slice()), (Framing::Length(3), &b"xyz"[..]));
}

#[test]
fn order_case_and_repeats_of_fields_survive_both_ways() {
    let backend = Backend::replying(
        "HTTP/1.1 200 OK\r\nX-Zebra: 1\r\nx-APPLE: 2\r\nSet-Cookie: a=1\r\nX-Zebra: 3\r\nSet-Cookie: b=2\r\nEmpty:\r\n\
         Content-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::run(&forward(backend.address()));
    let reply = gateway.connect().get_with("/", "X-Zebra: 1\r\nx-APPLE: caf\u{e9}\r\nX-Zebra: 2\r\nEmpty:\r\n");
    let pick = |fields: &[(String, String)]| -> Vec<String> {
        let known = ["x-zebra", "x-apple", "empty", "set-cookie"];
        fields
            .iter()
            .filter(|(n, _)| known.contains(&n.to_ascii_lowercase().as_str()))
            .map(|(n, v)| format!("{n}={v}"))
            .collect()
    };
    assert_eq!(
        pick(&reply.head.fields.0),
        ["X-Zebra=1", "x-APPLE=2", "Set-Cookie=a=1", "X-Zebra=3", "Set-Cookie=b=2", "Empty="]
    );
    let seen = backend.assert_well_formed("many fields");
    let apple = latin1("caf\u{e9}".as_bytes());
    assert_eq!(
        pick(&seen[0].head.fields.0),
        ["X-Zebra=1".into(), format!("x-APPLE={apple}"), "X-Zebra=2".into(), "Empty=".into()]
    );
}

#[test]
fn a_query_is_forwarded_as_it_was_written() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    for target in ["/?", "/?a=%2F&b=+&c", "/?a=b?c=/d//e/../f", "/?%41=%c3%a9&[]={}", "/?a;b", "/?x=http://y/z"] {
        let reply = gateway.get(target);
        assert_eq!(reply.status(), 200, "{target}");
        assert_eq!(reply.json()["target"], target);
    }
}

#[test]
fn a_chunked_request_stays_chunked_and_ends_once() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in ["one ", "two ", "three"] {
            client.send(chunk(part));
        }
        assert_eq!(client.send("0\r\n\r\n").reply().json()["body"], "one two three");
    }
    let seen = backend.assert_well_formed("chunks");
    assert!(seen.iter().all(|request| request.framing == Framing::Chunked));
    assert_eq!(backend.connections(), 1, "the pooled connection was used again");
}

#[test]
fn an_empty_chunked_body_and_a_length_of_zero_are_bodies_without_bytes() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    let empty = client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").reply();
    assert_eq!(empty.json()["body"], "");
    assert_eq!(client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").reply().json()["body"], "");
    assert_eq!(client.get("/").json()["body"], "");
    let seen = backend.assert_well_formed("empty bodies");
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1].framing, Framing::Length(0), "a POST keeps its Content-Length: 0");
    assert_eq!(seen[2].framing, Framing::None, "a GET gets none");
}

#[test]
fn trailers_of_a_request_reach_the_service() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n";
    let told = gateway.connect().send(request).reply().json();
    assert_eq!(told["trailers"], serde_json::json!([["X-Sum", "1"], ["X-Sum", "2"]]));
}

#[test]
fn a_continue_is_given_before_the_body_and_the_body_follows() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.head().status(), 100);
    assert_eq!(client.send("hello").reply().json()["body"], "hello");
    assert_eq!(client.get("/next").json()["target"], "/next", "the connection is in step");
}

#[test]
fn a_client_that_does_not_wait_for_the_continue_is_served_too() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    let mut reply = client.reply();
    if reply.status() == 100 {
        reply = client.reply();
    }
    assert_eq!(reply.json()["body"], "hello");
    assert_eq!(client.get("/next").json()["target"], "/next");
}

#[test]
fn a_refusal_before_the_body_leaves_no_stale_body() {
    let gateway = Gateway::run("routes: [{ match: { path: /second }, respond: { status: 200, body: second } }]\n");
    let mut client = gateway.connect();
    client.send("POST /none HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 37\r\n\r\n");
    let reply = client.reply();
    assert_eq!(reply.status(), 404, "a refusal needs no body");
    // The client does not know whether its body is wanted: what it sends next must not become another's body.
    client.try_send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.try_reply_to("GET") {
        Ok(second) => assert_eq!(second.text(), "second"),
        Err(WireError::Closed | WireError::Truncated(_)) => {}
        Err(e) => panic!("{e:?}"),
    }
}

#[test]
fn a_final_reply_of_the_service_before_the_body_reaches_the_client() {
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n");
    let mut reply = client.reply();
    if reply.status() == 100 {
        reply = client.reply();
    }
    assert_eq!((reply.status(), reply.text().as_str()), (401, "no"));
}

#[test]
fn interim_replies_are_relayed() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
            opened.wait();
            conn.send(ok("final"));
        }
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let hints = client.head();
    assert_eq!((hints.status(), hints.fields.value("link")), (103, Some("</style.css>; rel=preload")));
    gate.open();
    assert_eq!(client.reply().text(), "final");
    // HTTP/1.0 does not know interim replies.
    let reply = gateway.connect().send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").reply();
    assert_eq!(reply.text(), "final");
}

#[test]
fn an_answer_while_the_upload_still_runs_reaches_the_client() {
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large");
        conn.close();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "", "limits: { body: off }"));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n");
    let part = vec![b'x'; 64 * 1024];
    client.try_send(&part);
    // The reply is there before the upload ends, and is whole.
    let reply = client.reply();
    assert_eq!((reply.status(), reply.text().as_str()), (413, "too large"));
    // The rest of the upload is read within a bound of bytes or time; then the connection closes.
    let sent = (0..1_000_000).take_while(|_| client.try_send(&part)).count();
    assert!(sent < 1_000_000, "there is no end to it");
}

#[test]
fn both_directions_flow_at_the_same_time() {
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Ok(Some(part)) = conn.chunk() {
            conn.send(chunk(&format!("echo {}", latin1(&part))));
        }
        conn.send("0\r\n\r\n");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunk("0"));
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.chunk().unwrap(), b"echo 0");
    for n in 1..20 {
        client.send(chunk(&n.to_string()));
        assert_eq!(client.chunk().unwrap(), format!("echo {n}").as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk(), None);
}

#[test]
fn a_large_upload_is_forwarded_whole_in_little_memory() {
    let backend = Backend::scripted(|conn| {
        while let Some(head) = conn.head() {
            let total: usize = head.fields.value("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            let mut read = 0;
            while let Some(part) = if read < total { conn.some() } else { None } {
                assert!(part.iter().all(|b| *b == b'x'));
                read += part.len();
            }
            conn.send(ok(&read.to_string()));
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "", "limits: { body: 1GB }, timeout: off"));
    gateway.get("/warm");
    let before = gateway.memory();
    let (size, part) = (256 << 20, vec![b'x'; 1 << 20]);
    let mut client = gateway.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
    for _ in 0..size / part.len() {
        client.send(&part);
    }
    assert_eq!(client.reply().text(), size.to_string());
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
}

#[test]
fn a_large_reply_waits_for_a_slow_reader_in_little_memory() {
    let size = 64_usize << 20;
    let backend = Backend::scripted(move |conn| {
        conn.request();
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
        let part = vec![b'y'; 1 << 20];
        while conn.send(&part) {}
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut other = gateway.connect();
    let before = gateway.memory();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    // The backend writes as fast as it can while nobody reads; the gateway still answers others, and does not grow.
    for _ in 0..200 {
        assert_eq!(other.send("GET /.. HTTP/1.1\r\nHost: a\r\n\r\n").reply().status(), 400);
        other = gateway.connect();
    }
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "memory grew by {grown} bytes");
    assert!(client.exactly(size).iter().all(|b| *b == b'y'));
}

/// Bytes that tell where they belong.
fn numbered(length: usize) -> Vec<u8> {
    (0..length / 8).flat_map(|n| format!("{n:07}\n").into_bytes()).collect()
}

#[test]
fn large_replies_are_whole_however_they_are_cut_and_whoever_waits() {
    let body = numbered(2_000_000);
    let (plain, in_chunks) = (body.clone(), body.clone());
    let backend = Backend::scripted(move |conn| {
        while let Some(request) = conn.request() {
            if request.head.target() == "/length" {
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", plain.len()));
                conn.send(&plain);
                continue;
            }
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            // Ends of chunks come at every place of a read.
            let mut sizes = [1, 7, 4_093, 65_521, 131_071, 262_139].into_iter().cycle();
            let mut rest = in_chunks.as_slice();
            while !rest.is_empty() {
                let (part, left) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                conn.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
                rest = left;
            }
            conn.send("0\r\n\r\n");
        }
    });
    let gateway = Gateway::run(&forward(backend.address()));
    for target in ["/length", "/chunked"] {
        // More than there are wide buffers to read into: the first ones hold them all while nobody reads.
        let mut clients: Vec<_> = (0..20).map(|_| Client::connect_narrow(gateway.address())).collect();
        for client in &mut clients {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        for client in clients.iter_mut().rev() {
            let reply = client.reply();
            assert!(reply.status() == 200 && reply.body == body, "{target}: {} bytes", reply.body.len());
        }
    }
    assert!(backend.connections() <= 20, "connections are used again after large replies");
}

#[test]
fn a_client_that_leaves_cancels_the_work_upstream() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        opened.open();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.wait();
    client.reset();
    backend.wait_all_closed();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_reply_cancels_the_work_upstream() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while conn.send(chunk(&"z".repeat(10_000))) {}
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    client.chunk();
    drop(client);
    backend.wait_all_closed();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_upload_leaves_no_whole_request_behind() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!("log: {{ access: on }}\n{}", forward(backend.address())));
    let mut number = 0;
    for head in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        for reset in [false, true] {
            let before = backend.connections();
            let mut client = gateway.connect();
            number += 1;
            client.send(format!("POST /{number} HTTP/1.1\r\nHost: a\r\n{head}"));
            backend.wait_connections(before + 1);
            if reset {
                client.reset();
            } else {
                drop(client);
            }
            backend.wait_all_closed();
            let path = format!("/{number}");
            let line = gateway.access_line("the request", |line| line["path"] == path.as_str());
            assert_eq!((line["status"].as_u64(), line["end"].as_str()), (Some(0), Some("client_gone")), "{line}");
            assert!(line["received"] == 4 && line.get("code").is_none(), "{line}");
        }
    }
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
}

#[test]
fn connections_to_the_service_are_used_again() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&forward(backend.address()));
    for _ in 0..10 {
        // Another client connection each time: the pool belongs to the worker, not to the client.
        assert_eq!(gateway.get("/").text(), "fine");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn the_pool_keeps_to_its_limits() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&forward_with(backend.address(), "pool: { max_requests: 3 }", ""));
    let mut client = gateway.connect();
    for _ in 0..9 {
        assert_eq!(client.get("/").text(), "fine");
    }
    assert_eq!(backend.connections(), 3, "three requests each");
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&forward_with(backend.address(), "pool: { idle_timeout: 100ms }", ""));
    assert_eq!(gateway.get("/").text(), "fine");
    backend.wait_all_closed();
    assert_eq!(gateway.get("/").text(), "fine");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn no_more_connections_are_opened_than_the_pool_allows() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        while conn.request().is_some() {
            opened.wait();
            conn.send(ok("late"));
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "pool: { max_connections: 2 }", ""));
    let mut clients: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    backend.wait_requests(2);
    gate.open();
    // The others wait for a free connection, or are told that there is none; nobody gets a third one.
    for client in &mut clients {
        let status = client.reply().status();
        assert!([200, 503].contains(&status), "{status}");
    }
    assert!(backend.connections() <= 2, "{} connections", backend.connections());
}

#[test]
fn the_smallest_gateway_of_two_lines_works() {
    let backend = Backend::labelled("users");
    let gateway = Gateway::run(&format!(
        "{}services: {{ users: {{ url: {} }} }}\nroutes: [{{ match: {{ path_prefix: / }}, service: users }}]\n",
        server("timeouts: {}"),
        backend.url()
    ));
    assert_eq!(gateway.get("/anything").text(), "users");
}
