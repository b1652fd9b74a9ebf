//! Services that misbehave over HTTP/2: no client ever reads a split head, a wrong length or half a reply as a whole one.

use e2e::frames::{ACK, END_HEADERS, END_STREAM, block, encode, kind};
use e2e::http2::H2Client;
use e2e::wire::WireError;
use e2e::{Backend, Conn, Gateway, forward_with};

/// A service that answers every request with what `answer` makes for its stream, frame by frame.
fn service(answer: impl Fn(usize, u32) -> Vec<u8> + Send + Sync + 'static) -> Backend {
    Backend::scripted(move |conn| {
        let mut requests = 0;
        if conn.exactly(24).is_none() || !conn.send(encode(kind::SETTINGS, 0, 0, &[])) {
            return;
        }
        while let Some((frame, flags, stream)) = next(conn) {
            match frame {
                kind::SETTINGS if flags & ACK == 0 => {
                    conn.send(encode(kind::SETTINGS, ACK, 0, &[]));
                }
                kind::HEADERS => {
                    conn.send(answer(requests, stream));
                    requests += 1;
                }
                _ => {}
            }
        }
    })
}

/// Reads a frame and gives its type, flags and stream.
fn next(conn: &mut Conn) -> Option<(u8, u8, u32)> {
    let head = conn.exactly(9)?;
    conn.exactly(u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize)?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}

fn headers(stream: u32, fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    encode(kind::HEADERS, END_HEADERS | flags, stream, &block(fields))
}

fn data(stream: u32, bytes: &str, flags: u8) -> Vec<u8> {
    encode(kind::DATA, flags, stream, bytes.as_bytes())
}

fn gateway(backend: &Backend) -> Gateway {
    Gateway::run(&forward_with(backend.address(), "protocol: http2", ""))
}

#[test]
fn a_whole_reply_is_passed_on() {
    let backend = service(|_, stream| {
        [
            headers(stream, &[(":status", "200"), ("x-kind", "h2")], 0),
            data(stream, "hel", 0),
            data(stream, "lo", END_STREAM),
        ]
        .concat()
    });
    let gateway = gateway(&backend);
    let mut client = gateway.connect();
    for _ in 0..3 {
        let reply = client.get("/");
        assert_eq!((reply.status(), reply.field("x-kind"), reply.text().as_str()), (200, Some("h2"), "hello"));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn heads_that_would_split_or_frame_an_http1_reply_become_502() {
    let heads: &[&[(&str, &str)]] = &[
        &[(":status", "200"), ("x", "a\r\nSet-Cookie: evil=1")],
        &[(":status", "200"), ("x", "a\nb")],
        &[(":status", "200"), ("x", "a\0b")],
        &[(":status", "200"), ("x\r\ny", "a")],
        &[(":status", "200"), ("x y", "a")],
        &[(":status", "200"), ("X-Upper", "a")],
        &[(":status", "200"), ("transfer-encoding", "chunked")],
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "200"), ("content-length", "+5")],
        &[(":status", "200"), ("content-length", "5"), ("content-length", "6")],
        &[(":status", "200"), ("content-length", "18446744073709551621")],
        &[(":status", "20")],
        &[(":status", "2000")],
        &[(":status", "abc")],
        &[(":status", "")],
        &[("x", "no status")],
        &[("x", "y"), (":status", "200")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "101"), ("upgrade", "websocket")],
    ];
    for head in heads {
        let fields: Vec<(String, String)> = head.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let backend = service(move |_, stream| {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            [headers(stream, &fields, 0), data(stream, "hello", END_STREAM)].concat()
        });
        let gateway = gateway(&backend);
        let reply = gateway.get("/");
        assert_eq!(reply.status(), 502, "{head:?}: {:?}", reply.head);
        assert_eq!(H2Client::connect(gateway.address()).get("http://a.test/").status, 502, "{head:?}");
    }
}

#[test]
fn a_length_that_disagrees_with_the_data_never_looks_whole() {
    for (length, body) in [("10", "hello"), ("3", "hello"), ("0", "hello")] {
        let backend = service(move |_, stream| {
            [headers(stream, &[(":status", "200"), ("content-length", length)], 0), data(stream, body, END_STREAM)]
                .concat()
        });
        let gateway = gateway(&backend);
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.try_reply_to("GET") {
            Ok(reply) => {
                assert!(reply.status() == 502 || length == "3" && reply.text() == "hel", "{length}: {reply:?}");
            }
            Err(WireError::Closed | WireError::Truncated(_)) => {}
            Err(e) => panic!("{length}: {e:?}"),
        }
        let rest = client.rest();
        assert!(!e2e::wire::latin1(&rest).contains("lo"), "the surplus was passed on: {rest:?}");
    }
}

#[test]
fn a_connection_that_ends_in_a_reply_never_looks_whole() {
    // GOAWAY of the kind that forgets this stream, a stream error, a protocol error.
    let ends: [fn(u32) -> Vec<u8>; 3] = [
        |_| encode(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2]),
        |stream| encode(kind::RST_STREAM, 0, stream, &2_u32.to_be_bytes()),
        |_| encode(kind::DATA, 0, 0, b"on stream zero"),
    ];
    for end in ends {
        let backend = service(move |_, stream| {
            [headers(stream, &[(":status", "200")], 0), data(stream, "half", 0), end(stream)].concat()
        });
        let gateway = gateway(&backend);
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.try_reply_to("GET") {
            Ok(reply) => assert_eq!(reply.status(), 502),
            Err(WireError::Closed | WireError::Truncated(_)) => {}
            Err(e) => panic!("{e:?}"),
        }
    }
}

#[test]
fn a_request_that_the_service_refused_to_begin_goes_again() {
    // REFUSED_STREAM says that nothing was done (RFC 9113 section 8.7): even a POST may be sent once more.
    let backend = service(|n, stream| {
        if n % 2 == 0 {
            return encode(kind::RST_STREAM, 0, stream, &7_u32.to_be_bytes());
        }
        [headers(stream, &[(":status", "200")], 0), data(stream, "second", END_STREAM)].concat()
    });
    let gateway = gateway(&backend);
    assert_eq!(gateway.get("/").text(), "second");
    assert_eq!(
        gateway.connect().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").reply().text(),
        "second"
    );
}

#[test]
fn a_request_that_came_after_the_services_goodbye_goes_again() {
    // Stream 1 is answered; the next request meets GOAWAY with 1 as the last stream that was looked at, as in a rolling restart.
    let backend = service(|n, stream| {
        if n == 0 {
            return [headers(stream, &[(":status", "200")], 0), data(stream, "fine", END_STREAM)].concat();
        }
        encode(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])
    });
    let gateway = gateway(&backend);
    let mut client = gateway.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "fine");
    }
}

#[test]
fn a_service_that_says_goodbye_gets_no_new_requests_on_that_connection() {
    let backend = service(|_, stream| {
        let last = stream.to_be_bytes();
        let goaway = encode(kind::GOAWAY, 0, 0, &[&last[..], &[0; 4]].concat());
        [headers(stream, &[(":status", "200")], 0), goaway, data(stream, "bye", END_STREAM)].concat()
    });
    let gateway = gateway(&backend);
    let mut client = gateway.connect();
    for n in 1..=3 {
        assert_eq!(client.get("/").text(), "bye");
        assert_eq!(backend.connections(), n);
    }
}

#[test]
fn interim_replies_and_trailers_of_a_service_arrive() {
    let backend = service(|_, stream| {
        [
            headers(stream, &[(":status", "103"), ("link", "</a.css>")], 0),
            headers(stream, &[(":status", "200")], 0),
            data(stream, "body", 0),
            headers(stream, &[("x-sum", "1"), ("x-forwarded-for", "6.6.6.6")], END_STREAM),
        ]
        .concat()
    });
    let gateway = gateway(&backend);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    let hints = client.head();
    assert_eq!((hints.status(), hints.fields.value("link")), (103, Some("</a.css>")));
    let reply = client.reply();
    assert_eq!((reply.text().as_str(), reply.trailers.value("x-sum")), ("body", Some("1")));
}

#[test]
fn a_service_that_speaks_http1_where_http2_was_agreed_is_502() {
    let backend = Backend::replying("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let gateway = gateway(&backend);
    assert_eq!(gateway.get("/").status(), 502);
    let deaf = Backend::scripted(Conn::wait_closed);
    let gateway = Gateway::run(&forward_with(deaf.address(), "protocol: http2, timeouts: { read: 200ms }", ""));
    let status = gateway.get("/").status();
    assert!([502, 504].contains(&status), "{status}");
}

#[test]
fn floods_of_a_service_are_bounded() {
    let backend = service(|_, _| Vec::new());
    let flood = Backend::scripted(|conn| {
        conn.exactly(24);
        conn.send(encode(kind::SETTINGS, 0, 0, &[]));
        let pings = encode(kind::PING, 0, 0, &[0; 8]).repeat(1000);
        for _ in 0..200 {
            if !conn.send(&pings) {
                return;
            }
        }
        conn.wait_closed();
    });
    let gateway = Gateway::run(&format!(
        "services:\n  app: {{ url: \"{}\", protocol: http2 }}\n  flood: {{ url: \"{}\", protocol: http2, timeouts: {{ read: 500ms }} }}\n\
         routes:\n- {{ match: {{ path: /flood }}, service: flood }}\n- {{ match: {{ path: / }}, respond: {{ status: 200, body: pong }} }}\n",
        backend.url(),
        flood.url()
    ));
    let before = gateway.memory();
    let status = gateway.get("/flood").status();
    assert!([502, 504].contains(&status), "{status}");
    assert_eq!(gateway.get("/").text(), "pong");
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
}
