//! Message framing, replies: whatever an upstream sends, a client never reads two framings, somebody else's bytes, or half a
//! reply that looks whole.

use e2e::backend::{chunk, ok};
use e2e::wire::WireError;
use e2e::{Backend, Client, Gate, Gateway, forward, forward_with};

#[test]
fn a_malformed_reply_head_becomes_502() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(300_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: a\r\n".repeat(5000));
    let heads: &[&str] = &[
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "<html>no head at all</html>\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rY: b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        &huge,
        &many,
    ];
    for head in heads {
        let backend = Backend::replying(*head);
        let gateway = Gateway::run(&forward(backend.address()));
        let mut client = gateway.connect();
        let reply = client.get("/");
        let shown: String = head.chars().take(200).collect();
        assert_eq!(reply.status(), 502, "{shown:?} became {:?} {:?}", reply.head, reply.text());
        assert_eq!(reply.json()["error"], "Service error", "{shown:?}");
        backend.wait_all_closed();
    }
}

#[test]
fn surplus_bytes_after_a_reply_are_never_the_answer_to_the_next_request() {
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoisonHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\npoison",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst\r\n",
    ] {
        let backend = Backend::scripted(move |conn| {
            conn.request();
            if conn.index == 0 {
                conn.send(first);
                conn.wait_closed();
            } else {
                conn.send(ok("second"));
                conn.wait_closed();
            }
        });
        let gateway = Gateway::run(&forward(backend.address()));
        let mut client = gateway.connect();
        assert!([200, 204, 304].contains(&client.get("/1").status()));
        assert_eq!(client.get("/2").text(), "second", "{first:?}");
        assert_eq!(backend.connections(), 2, "the connection with the surplus was used again: {first:?}");
    }
}

#[test]
fn a_body_on_a_reply_to_head_is_not_the_next_reply() {
    let backend = Backend::scripted(|conn| {
        while let Some(request) = conn.request() {
            // A careless upstream: it sends the body of a HEAD, too.
            conn.send(ok(if request.head.target() == "/1" { "HTTP/1.1 200 OK\r\n\r\n" } else { "second" }));
        }
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    let head = client.send("HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n").reply_to("HEAD");
    assert_eq!(head.status(), 200);
    assert_eq!(client.get("/2").text(), "second");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn bytes_that_arrive_before_the_request_are_never_its_answer() {
    let (answered, spoken) = (Gate::new(), Gate::new());
    let (heard, done) = (answered.clone(), spoken.clone());
    let backend = Backend::scripted(move |conn| {
        conn.request();
        conn.send(ok(&format!("reply {}", conn.index)));
        if conn.index == 0 {
            heard.wait();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
            done.open();
        }
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    assert_eq!(client.get("/1").text(), "reply 0");
    answered.open();
    spoken.wait();
    assert_eq!(client.get("/2").text(), "reply 1");
    backend.wait("the end of the connection that spoke unasked", |seen| seen.connections[0].closed);
}

#[test]
fn a_body_on_204_and_304_is_not_passed_on() {
    for head in [
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let backend = Backend::replying(head);
        let gateway = Gateway::run(&forward(backend.address()));
        let mut client = gateway.connect();
        // The strict reader refuses a 204 with a framing of its own.
        let reply = client.get("/");
        assert!([204, 502].contains(&reply.status()), "{head:?}: {:?}", reply.head);
        if reply.status() == 204 {
            assert!(reply.body.is_empty());
        }
    }
}

#[test]
fn a_reply_that_switches_protocols_unasked_becomes_502() {
    let backend = Backend::replying("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    let gateway = Gateway::run(&forward(backend.address()));
    assert_eq!(gateway.get("/").status(), 502);
    backend.wait_all_closed();
}

#[test]
fn interim_replies_without_end_are_cut_off() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        while conn.send("HTTP/1.1 102 Processing\r\n\r\n".repeat(100)) {}
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "", "timeout: 2s"));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // Relayed or not, they end, with a 5xx or with the connection.
    let mut relayed = 0;
    while let Ok(reply) = client.try_reply_to("GET") {
        if reply.status() >= 200 {
            assert!([502, 504].contains(&reply.status()), "{:?}", reply.head);
            break;
        }
        relayed += 1;
        assert!(relayed < 1_000_000, "no bound on interim replies");
    }
    backend.wait_all_closed();
}

#[test]
fn a_reply_cut_off_in_its_length_never_looks_whole() {
    cut_off("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false);
    cut_off("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", true);
}

#[test]
fn a_reply_cut_off_in_its_chunks_never_looks_whole() {
    for reset in [false, true] {
        cut_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", reset);
        cut_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello", reset);
        cut_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", reset);
        cut_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: a\r\n", reset);
    }
}

#[test]
fn a_reply_whose_chunks_become_malformed_never_looks_whole() {
    for chunk in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "zz\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "fffffffffffffffff\r\n",
    ] {
        cut_off(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n{chunk}"), false);
    }
}

#[test]
fn a_reply_reset_before_its_end_of_connection_never_looks_whole() {
    cut_off("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", true);
}

/// The backend sends this much and ends. Its client must be able to tell: no whole message, and the connection closes.
fn cut_off(sent: &str, reset: bool) {
    let (bytes, gate) = (sent.to_owned(), Gate::new());
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        conn.send(&bytes);
        opened.wait();
        if reset {
            conn.reset();
        }
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head();
    gate.open();
    if head.status() == 502 {
        return; // It was seen before anything had been passed on.
    }
    assert_eq!(head.status(), 200, "{sent:?}");
    let chunked = head.fields.has("transfer-encoding");
    assert!(chunked || head.fields.has("content-length"), "{sent:?}: {head:?}");
    if chunked {
        loop {
            match client.try_chunk() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{sent:?}: a last chunk was made up"),
                Err(WireError::Closed | WireError::Truncated(_)) => break,
                Err(e) => panic!("{sent:?}: {e:?}"),
            }
        }
    } else {
        let length: usize = head.fields.value("content-length").unwrap().parse().unwrap();
        assert!(client.rest().len() < length, "{sent:?}: the missing bytes were made up");
    }
}

#[test]
fn a_reply_that_ends_with_the_connection_is_whole_and_its_connection_is_not_used_again() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end");
        conn.close();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "until the end");
    }
    assert_eq!(backend.connections(), 3);
}

#[test]
fn an_http_1_0_upstream_is_understood() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold");
        conn.close();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    let reply = client.get("/");
    assert_eq!(
        (reply.text().as_str(), reply.head.start.as_str()),
        ("old", "HTTP/1.1 200 OK"),
        "the gateway's own version"
    );
    assert_eq!(client.get("/").text(), "old");
    assert_eq!(backend.connections(), 2, "HTTP/1.0 without keep-alive is not used again");
}

#[test]
fn an_upstream_that_says_close_is_not_used_again() {
    let backend = Backend::replying("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    for _ in 0..3 {
        let reply = client.get("/");
        assert_eq!(reply.text(), "ok");
        assert!(!e2e::wire::says_close(&reply.head), "the upstream's close is not the client's");
    }
    assert_eq!(backend.connections(), 3);
}

#[test]
fn the_content_length_of_a_reply_to_head_is_kept() {
    let backend = Backend::scripted(|conn| {
        while conn.request().is_some() && conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n") {}
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    for _ in 0..2 {
        let reply = client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").reply_to("HEAD");
        assert_eq!((reply.status(), reply.field("content-length")), (200, Some("1234")));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_304_keeps_its_fields_and_the_connection() {
    let backend = Backend::scripted(|conn| {
        while conn.request().is_some()
            && conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n")
        {}
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    for _ in 0..2 {
        let reply = client.get_with("/", "If-None-Match: \"x\"\r\n");
        assert_eq!((reply.status(), reply.field("etag")), (304, Some("\"x\"")));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn trailers_of_a_reply_reach_the_client_but_not_its_framing() {
    let backend = Backend::replying(
        "HTTP/1.1 200 OK\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\
         X-Checksum: abc\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    let reply = client.get_with("/", "TE: trailers\r\n");
    assert_eq!(reply.text(), "hello");
    assert_eq!(reply.trailers.value("x-checksum"), Some("abc"));
    assert!(!reply.trailers.has("content-length") && !reply.trailers.has("transfer-encoding"), "{:?}", reply.trailers);
    assert_eq!(client.get("/").text(), "hello", "the connection is still in step");
}

#[test]
fn a_client_of_http_1_0_never_reads_chunks() {
    let parts = [chunk("hello "), chunk("world"), "0\r\n\r\n".to_owned()].concat();
    let backend = Backend::replying(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{parts}"));
    let gateway = Gateway::run(&forward(backend.address()));
    for connection in ["", "Connection: keep-alive\r\n"] {
        let mut client = gateway.connect();
        let reply = client.send(format!("GET / HTTP/1.0\r\nHost: a\r\n{connection}\r\n")).reply();
        assert!(!reply.head.fields.has("transfer-encoding"), "{:?}", reply.head);
        assert_eq!(reply.text(), "hello world");
        client.assert_closed();
    }
}

#[test]
fn a_client_of_http_1_0_is_closed_unless_it_asked_otherwise() {
    let backend = Backend::labelled("fine");
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    assert_eq!(client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").reply().text(), "fine");
    client.assert_closed();
    // With keep-alive asked for, the reply must say what happens.
    let mut client = gateway.connect();
    let reply = client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").reply();
    assert_eq!(reply.text(), "fine");
    if reply.field("connection").is_some_and(|c| c.eq_ignore_ascii_case("keep-alive")) {
        assert_eq!(client.get("/").text(), "fine");
    } else {
        client.assert_closed();
    }
    // HTTP/1.0 may lack a Host.
    let reply = gateway.connect().send("GET / HTTP/1.0\r\n\r\n").reply();
    assert!([200, 400].contains(&reply.status()));
    backend.assert_well_formed("HTTP/1.0");
}

#[test]
fn a_client_that_says_close_is_closed_after_its_reply() {
    let backend = Backend::labelled("last");
    let gateway = Gateway::run(&forward(backend.address()));
    for close in ["close", "Close", "keep-alive, close", "x, close"] {
        let mut client: Client = gateway.connect();
        let reply = client.get_with("/", &format!("Connection: {close}\r\n"));
        assert_eq!(reply.text(), "last");
        assert!(e2e::wire::says_close(&reply.head), "{close}: {:?}", reply.head);
        client.assert_closed();
    }
    assert_eq!(backend.connections(), 1, "which is no business of the upstream's connection");
}
