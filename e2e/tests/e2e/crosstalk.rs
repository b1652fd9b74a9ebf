//! Nobody ever reads what was meant for somebody else: many clients at once, some of which leave at the worst moment, over
//! services that end, stall and surplus at the worst moment. Every request has a token; every reply must carry its own.

use std::net::SocketAddr;

use e2e::backend::{chunk, ok};
use e2e::dice::rounds;
use e2e::frames::{END_HEADERS, END_STREAM, Frames, block, encode, kind};
use e2e::http2::{H2Backend, H2Client};
use e2e::{Backend, Client, Conn, Dice, Gateway, forward_with, server};

/// What happens to a request is written in its target: `/KIND/TOKEN`.
fn script(conn: &mut Conn) {
    while let Some(request) = conn.request() {
        let target = request.head.target().to_owned();
        let (kind, token) = target.trim_start_matches('/').split_once('/').unwrap_or_default();
        let head = request.head.method() == "HEAD";
        let goes_on = match kind {
            "surplus" => conn.send(ok(token) + &ok("poison")),
            "chunked" => {
                conn.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk(token)))
            }
            "cut" => {
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{token}"));
                false
            }
            "reset" => {
                conn.reset();
                false
            }
            "close" => {
                conn.send(ok(token).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
                false
            }
            "nothing" => conn.send(format!("HTTP/1.1 204 No Content\r\nX-Token: {token}\r\n\r\n")),
            "early" => conn.send(format!("HTTP/1.1 103 Early Hints\r\nX-Token: {token}\r\n\r\n{}", ok(token))),
            _ if head => conn.send(format!("HTTP/1.1 200 OK\r\nX-Token: {token}\r\nContent-Length: 7\r\n\r\n")),
            _ => conn.send(ok(token)),
        };
        if !goes_on {
            return;
        }
    }
}

/// Bytes that mean something somewhere in HTTP/1.
const ODD: &[u8] = b"\r\n\0 \t:;,+-0159afx/\\.%\x0b\x7f\x80\xff\"#";

const KINDS: [&str; 8] = ["plain", "surplus", "chunked", "cut", "reset", "close", "nothing", "early"];

#[test]
fn replies_never_reach_another_client_over_http1() {
    let backend = Backend::scripted(script);
    let gateway = Gateway::run(&(server("timeouts: {}") + &forward_with(backend.address(), "", "")));
    let address = gateway.address();
    let threads: Vec<_> = (0..6).map(|thread| std::thread::spawn(move || converse(address, thread))).collect();
    for thread in threads {
        thread.join().expect("every reply carried its own token");
    }
    backend.bytes().iter().for_each(|bytes| check_prefix(bytes));
    assert!(gateway.metric("tidegate_panics_total", &[]) == 0);
}

fn converse(address: SocketAddr, thread: usize) {
    let mut client = Client::connect(address);
    let mut dice = Dice::new(u64::try_from(thread).unwrap_or_default() * 7919);
    for n in 0..rounds(300) {
        let kind = KINDS[dice.roll(KINDS.len())];
        let token = format!("token-{thread}-{n}");
        let post = dice.roll(2) == 0;
        let body = if post { format!("Content-Length: {}\r\n\r\n{token}", token.len()) } else { "\r\n".to_owned() };
        let method = if post { "POST" } else { "GET" };
        let request = format!("{method} /{kind}/{token} HTTP/1.1\r\nHost: a\r\n{body}");
        match dice.roll(8) {
            // Leaves in the middle of its request, or before its reply.
            0 => {
                client.try_send(&request[..request.len() - 3]);
                std::mem::replace(&mut client, Client::connect(address)).reset();
            }
            1 => {
                client.try_send(&request);
                client = Client::connect(address);
            }
            _ => {
                if !client.try_send(&request) || !answered(&mut client, kind, &token) {
                    client = Client::connect(address);
                }
            }
        }
    }
}

/// Reads the reply to a request. False when the connection is over.
fn answered(client: &mut Client, kind: &str, token: &str) -> bool {
    loop {
        let Ok(reply) = client.try_reply_to("GET") else { return false };
        assert!(!reply.text().contains("poison"), "{kind} {token}: poison");
        match reply.status() {
            103 | 204 => assert_eq!(reply.field("x-token"), Some(token)),
            200 => assert_eq!(reply.text(), token, "{kind}"),
            502 | 504 => {
                assert!(["cut", "reset"].contains(&kind) || reply.status() == 502, "{kind} {token}: {reply:?}");
            }
            other => panic!("{kind} {token}: {other} {}", reply.text()),
        }
        if reply.status() >= 200 {
            return !e2e::wire::says_close(&reply.head);
        }
    }
}

#[test]
fn replies_never_reach_another_stream_over_http2() {
    let backend = Backend::scripted(script);
    let gateway = Gateway::run(&forward_with(backend.address(), "", ""));
    let client = H2Client::connect(gateway.address());
    for round in 0..10 {
        let mut streams = Vec::new();
        for n in 0..40 {
            let (kind, token) = (KINDS[(n + round) % KINDS.len()], format!("token-{round}-{n}"));
            let request = http::Request::get(format!("http://a.test/{kind}/{token}")).body(()).unwrap();
            let stream = client.send(request, true);
            if n % 7 == 3 {
                stream.reset(h2::Reason::CANCEL);
            } else {
                streams.push((kind, token, stream));
            }
        }
        for (kind, token, mut stream) in streams {
            let Ok(head) = stream.try_head() else { continue };
            match head.status().as_u16() {
                204 => assert_eq!(head.headers()["x-token"], token.as_str()),
                200 => match stream.rest() {
                    Ok((body, _)) => assert_eq!(body, token, "{kind}"),
                    Err(e) => assert!(e.is_reset() && kind == "cut", "{kind}: {e}"),
                },
                502 => {}
                other => panic!("{kind} {token}: {other}"),
            }
        }
    }
    backend.bytes().iter().for_each(|bytes| check_prefix(bytes));
}

#[test]
fn a_service_that_answers_before_it_has_read_the_body_does_not_get_the_rest_as_a_request() {
    let backend = Backend::scripted(|conn| {
        // It never reads bodies: what follows a head is taken for the next request.
        while let Some(head) = conn.head() {
            conn.send(ok(head.target()));
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "", ""));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for n in 0..20 {
        let mut client = gateway.connect();
        client.send(format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", smuggled.len()));
        let reply = client.reply();
        assert_eq!(reply.text(), format!("/{n}"));
        client.try_send(format!("{smuggled}GET /after HTTP/1.1\r\nHost: a\r\n\r\n"));
        if let Ok(after) = client.try_reply_to("GET") {
            assert_eq!(after.text(), "/after", "the body became a request, or its answer was mixed up");
        }
        assert_eq!(gateway.get(&format!("/other-{n}")).text(), format!("/other-{n}"));
    }
}

#[test]
fn mutated_requests_never_become_unsafe_ones() {
    let backend = Backend::echo();
    let gateway =
        Gateway::run(&(server("timeouts: { header: 1s, body_idle: 1s }") + &forward_with(backend.address(), "", "")));
    let seeds: [&[u8]; 4] = [
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let mut dice = Dice::new(0x7469_6465);
    for _ in 0..rounds(1500) {
        let mut bytes = seeds[dice.roll(seeds.len())].to_vec();
        dice.mutate(&mut bytes, ODD);
        let mut client = gateway.connect();
        client.try_send(&bytes);
        client.half_close().rest();
    }
    assert_eq!(gateway.get("/alive").status(), 200);
    for bytes in backend.bytes() {
        check_prefix(&bytes);
    }
    assert!(gateway.metric("tidegate_panics_total", &[]) == 0);
}

/// What a backend received is well-formed requests, of which the last may be cut off.
fn check_prefix(bytes: &[u8]) {
    match e2e::wire::parse_requests(bytes) {
        Ok(_) => {}
        Err(e) => assert!(e.starts_with("Truncated"), "{e}"),
    }
}

#[test]
fn mutated_replies_never_become_unsafe_ones() {
    let seeds: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
    ];
    let dice = std::sync::Mutex::new(Dice::new(0x7265_706c));
    let backend = Backend::scripted(move |conn| {
        while conn.request().is_some() {
            let mut dice = dice.lock().unwrap();
            let mut bytes = seeds[dice.roll(seeds.len())].to_vec();
            dice.mutate(&mut bytes, ODD);
            drop(dice);
            // Ends after each, so that a reply made longer than it is does not stall.
            conn.send(bytes);
            conn.close();
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "timeouts: { read: 2s }", ""));
    let mut client = gateway.connect();
    for n in 0..rounds(1500) {
        if !client.try_send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")) {
            client = gateway.connect();
            continue;
        }
        loop {
            match client.try_reply_to("GET") {
                Ok(reply) if reply.status() < 200 => {}
                Ok(reply) if e2e::wire::says_close(&reply.head) => {
                    client = gateway.connect();
                    break;
                }
                Ok(_) => break,
                Err(e2e::wire::WireError::Closed | e2e::wire::WireError::Truncated(_)) => {
                    client = gateway.connect();
                    break;
                }
                Err(e) => panic!("request {n}: {e:?}"),
            }
        }
    }
    assert!(gateway.metric("tidegate_panics_total", &[]) == 0);
}

#[test]
fn replies_of_an_http2_service_never_reach_another_stream() {
    let backend = H2Backend::serve(|request, mut respond| async move {
        let path = request.uri().path().to_owned();
        let (kind, token) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let (kind, token) = (kind.to_owned(), token.to_owned());
        e2e::http2::settle().await;
        if kind == "reset" {
            return respond.send_reset(h2::Reason::INTERNAL_ERROR);
        }
        let Ok(mut sender) = respond.send_response(http::Response::new(()), false) else { return };
        drop(sender.send_data(token.clone().into(), kind != "cut"));
        e2e::http2::settle().await;
        if kind == "cut" {
            sender.send_reset(h2::Reason::CANCEL);
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    let address = gateway.address();
    let threads: Vec<_> = (0..4).map(|thread| std::thread::spawn(move || ask_by_streams(address, thread))).collect();
    for thread in threads {
        thread.join().expect("every reply carried its own token");
    }
    assert!(gateway.metric("tidegate_panics_total", &[]) == 0);
}

fn ask_by_streams(address: SocketAddr, thread: usize) {
    let (mut plain, http2) = (Client::connect(address), H2Client::connect(address));
    for n in 0..100 {
        let (kind, token) =
            (["plain", "reset", "cut", "plain", "plain"][(n + thread) % 5], format!("token-{thread}-{n}"));
        let uri = format!("http://a.test/{kind}/{token}");
        let mut stream = http2.send(http::Request::get(&uri).body(()).unwrap(), true);
        if n % 6 == 5 {
            stream.reset(h2::Reason::CANCEL);
        } else if stream.try_head().is_ok_and(|head| head.status() == 200)
            && let Ok((body, _)) = stream.rest()
        {
            assert_eq!((body, kind), (token.clone().into(), "plain"));
        }
        if !plain.try_send(format!("GET /{kind}/{token} HTTP/1.1\r\nHost: a\r\n\r\n")) || n % 7 == 6 {
            plain = Client::connect(address);
            continue;
        }
        match plain.try_reply_to("GET") {
            Ok(reply) if reply.status() == 200 => assert_eq!((reply.text(), kind), (token, "plain")),
            Ok(reply) => assert_eq!(reply.status(), 502, "{kind}"),
            Err(_) => plain = Client::connect(address),
        }
    }
}

#[test]
fn mutated_frames_never_become_unsafe_requests() {
    let backend = Backend::echo();
    let timeouts = "timeouts: { header: 500ms, body_idle: 500ms, idle: 500ms, write_idle: 500ms }";
    let gateway = Gateway::run(&(server(timeouts) + &forward_with(backend.address(), "", "")));
    let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a.test"), (":path", "/a?b"), ("x-y", "z")];
    let seed = [
        encode(kind::HEADERS, END_HEADERS, 1, &block(&fields)),
        encode(kind::DATA, 0, 1, b"hello"),
        encode(kind::WINDOW_UPDATE, 0, 0, &100_u32.to_be_bytes()),
        encode(kind::HEADERS, END_HEADERS | END_STREAM, 1, &block(&[("x-sum", "1")])),
        encode(kind::HEADERS, END_HEADERS | END_STREAM, 3, &block(&fields[..4])),
    ]
    .concat();
    let any: Vec<u8> = (0..=255).collect();
    let mut dice = Dice::new(0x6832);
    for _ in 0..rounds(600) {
        let mut bytes = seed.clone();
        dice.mutate(&mut bytes, &any);
        let mut frames = Frames::connect(gateway.address());
        frames.raw(&bytes);
        frames.half_close();
        frames.until_closed();
    }
    assert_eq!(gateway.get("/alive").status(), 200);
    backend.bytes().iter().for_each(|bytes| check_prefix(bytes));
    assert!(gateway.metric("tidegate_panics_total", &[]) == 0);
}
