//! What stays open: event streams, tunnels after an upgrade, and what they may not be used for.

use e2e::backend::{chunk, ok};
use e2e::{Backend, Client, Gate, Gateway, forward, forward_with, server};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Switches protocols and then sends back whatever comes.
fn switching(conn: &mut e2e::Conn) {
    if conn.head().is_some() && conn.send(SWITCHED) {
        while let Some(bytes) = conn.some() {
            conn.send(bytes);
        }
    }
}

#[test]
fn events_arrive_as_they_are_sent() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        conn.send(chunk("data: 1\n\n"));
        opened.wait();
        conn.send(chunk("data: 2\n\n"));
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    assert_eq!(client.head().fields.value("content-type"), Some("text/event-stream"));
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    gate.open();
    assert_eq!(client.chunk().unwrap(), b"data: 2\n\n");
}

#[test]
fn a_silent_event_stream_outlives_every_short_timeout() {
    let gate = Gate::new();
    let opened = gate.clone();
    let backend = Backend::scripted(move |conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: 1\n\n");
        opened.wait();
        conn.send("data: 2\n\n");
        conn.close();
    });
    let dumb = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&format!(
        "{}services:\n  app: {{ url: \"{}\", timeouts: {{ read: 400ms, write: 400ms }} }}\n  \
         dumb: {{ url: \"{}\", timeouts: {{ read: 1500ms }} }}\nroutes:\n\
         - {{ match: {{ path: /events }}, service: app, timeout: 400ms }}\n- {{ match: {{ path: /dumb }}, service: dumb }}\n",
        server("timeouts: { header: 400ms, body_idle: 400ms, write_idle: 400ms, idle: 400ms }"),
        backend.url(),
        dumb.url()
    ));
    let mut client = gateway.connect();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.chunk().unwrap(), b"data: 1\n\n");
    // Another exchange waits for its longer deadline: by then every short one has passed for the stream.
    assert_eq!(gateway.get("/dumb").status(), 504);
    assert!(client.is_quiet(), "the stream was cut off");
    gate.open();
    assert_eq!(client.chunk().unwrap(), b"data: 2\n\n");
    assert_eq!(client.chunk(), None);
}

#[test]
fn a_stream_without_a_sign_of_life_ends_at_its_own_timeout() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&(server("timeouts: { stream_idle: 200ms }") + &forward(backend.address())));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    client.rest();
    backend.wait_all_closed();
}

#[test]
fn a_websocket_is_a_tunnel_after_the_services_101() {
    let backend = Backend::scripted(switching);
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send(UPGRADE);
    let head = client.head();
    assert_eq!(head.status(), 101);
    assert_eq!(head.fields.value("upgrade"), Some("websocket"));
    assert!(head.fields.value("connection").is_some_and(|c| c.to_lowercase().contains("upgrade")));
    assert_eq!(head.fields.value("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for message in ["\u{1}frame", "GET / HTTP/1.1\r\nHost: evil\r\n\r\n", "\0\0\0"] {
        client.send(message);
        assert_eq!(client.exactly(message.len()), message.as_bytes(), "not looked at");
    }
    let seen = &backend.requests()[0];
    assert_eq!(seen.field("upgrade"), Some("websocket"));
    assert!(seen.field("connection").is_some_and(|c| c.to_lowercase().contains("upgrade")));
    assert_eq!(seen.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    drop(client);
    backend.wait_all_closed();
}

#[test]
fn the_bytes_that_come_with_the_switch_are_the_tunnels() {
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send(format!("{SWITCHED}hello from the service"));
        while let Some(bytes) = conn.some() {
            conn.send(bytes);
        }
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send(UPGRADE);
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.exactly(22), b"hello from the service");
    client.send("x");
    assert_eq!(client.exactly(1), b"x");
}

#[test]
fn bytes_after_an_upgrade_that_is_refused_are_the_next_request() {
    let backend = Backend::scripted(|conn| {
        while let Some(request) = conn.request() {
            conn.send(ok(request.head.target()));
        }
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send(format!("{UPGRADE}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.reply().text(), "/chat", "the service said 200, so nothing was switched");
    if let Ok(next) = client.try_reply_to("GET") {
        assert_eq!(next.text(), "/next");
    }
    for request in backend.assert_well_formed("a refused upgrade") {
        assert!(["/chat", "/next"].contains(&request.head.target()));
    }
}

#[test]
fn a_tunnel_that_is_silent_outlives_every_short_timeout() {
    let backend = Backend::scripted(switching);
    let dumb = Backend::scripted(|conn| {
        conn.request();
        conn.wait_closed();
    });
    let gateway = Gateway::run(&format!(
        "{}services:\n  app: {{ url: \"{}\", timeouts: {{ read: 400ms, write: 400ms }} }}\n  \
         dumb: {{ url: \"{}\", timeouts: {{ read: 1500ms }} }}\nroutes:\n\
         - {{ match: {{ path: /chat }}, service: app, timeout: 400ms }}\n- {{ match: {{ path: /dumb }}, service: dumb }}\n",
        server("timeouts: { header: 400ms, body_idle: 400ms, write_idle: 400ms, idle: 400ms }"),
        backend.url(),
        dumb.url()
    ));
    let mut client = gateway.connect();
    client.send(UPGRADE);
    assert_eq!(client.head().status(), 101);
    assert_eq!(gateway.get("/dumb").status(), 504);
    client.send("still here");
    assert_eq!(client.exactly(10), b"still here");
}

#[test]
fn each_half_of_a_tunnel_may_end_first() {
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send(SWITCHED);
        while conn.some().is_some() {}
        // The client's half has ended; ours has not.
        conn.send("last words");
        conn.close();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send(UPGRADE);
    assert_eq!(client.head().status(), 101);
    client.send("done").half_close();
    assert_eq!(client.rest(), b"last words");
}

#[test]
fn upgrades_that_are_not_allowed_are_not_passed_on() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n- {{ match: {{ path: /off }}, service: app, upgrade: off }}\n\
         - {{ match: {{ path: /other }}, service: app, upgrade: [other] }}\n\
         - {{ match: {{ path_prefix: / }}, service: app }}\n",
        backend.url()
    ));
    let ask = |path: &str, protocol: &str| {
        let mut client = gateway.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"));
        client.reply().status()
    };
    for (path, protocol) in
        [("/", "h2c"), ("/", "other"), ("/off", "websocket"), ("/other", "websocket"), ("/", "TLS/1.0")]
    {
        let status = ask(path, protocol);
        assert!([200, 403, 426, 501].contains(&status), "{path} {protocol}: {status}");
    }
    for seen in backend.requests() {
        assert!(seen.field("upgrade").is_none() && seen.field("http2-settings").is_none(), "{:?}", seen.head);
        assert!(!seen.field("connection").unwrap_or_default().to_lowercase().contains("upgrade"), "{:?}", seen.head);
    }
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
        while let Some(bytes) = conn.some() {
            conn.send(bytes);
        }
    });
    let gateway = Gateway::run(&forward_with(backend.address(), "", "upgrade: [other]"));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    assert_eq!(client.head().status(), 101, "what is on the list passes");
    client.send("x");
    assert_eq!(client.exactly(1), b"x");
}

#[test]
fn a_101_to_another_protocol_than_was_asked_for_is_502() {
    let backend = Backend::scripted(|conn| {
        conn.head();
        conn.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
        conn.wait_closed();
    });
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send(UPGRADE);
    assert_eq!(client.reply().status(), 502);
    backend.wait_all_closed();
}

#[test]
fn an_upgrade_with_a_body_does_not_smuggle() {
    let backend = Backend::scripted(switching);
    let gateway = Gateway::run(&forward(backend.address()));
    for body in [
        "Content-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n26\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n\r\n0\r\n\r\n",
    ] {
        let mut client: Client = gateway.connect();
        client.try_send(UPGRADE.replace("\r\n\r\n", &format!("\r\n{body}")));
        let reply = client.head();
        // Refused, or its framing is kept until the 101 and the connection is no client's afterwards.
        assert!([101, 200, 400, 501, 502].contains(&reply.status()), "{reply:?}");
    }
    for request in backend.requests() {
        assert_eq!(request.head.target(), "/chat");
    }
}

#[test]
fn a_websocket_over_http_1_0_is_none() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.reply();
    for seen in backend.requests() {
        assert!(seen.field("upgrade").is_none(), "RFC 9110 section 7.8: {:?}", seen.head);
    }
}

#[test]
fn an_upgrade_cannot_reach_a_service_of_http2() {
    let backend = e2e::http2::H2Backend::serve(e2e::http2::echo);
    let gateway = Gateway::run(&forward_with(backend.address(), "protocol: http2", ""));
    let mut client = gateway.connect();
    client.send(UPGRADE);
    let status = client.reply().status();
    assert!([200, 400, 426, 501, 502].contains(&status), "{status}");
    for head in backend.heads() {
        assert!(!head.headers().contains_key("upgrade") && !head.headers().contains_key("connection"), "{head:?}");
    }
}
