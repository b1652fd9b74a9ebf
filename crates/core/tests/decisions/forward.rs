use std::sync::Arc;

use tidegate_core::client::{Peer, Scheme, client_address, client_scheme};
use tidegate_core::forward::{self, Forwarding, Returning, Told};
use tidegate_http1::{Fields, RequestHead, Version};

use crate::world::{fields, head, lines, networks, peer, value};

const ID: (&str, &str) = ("x-request-id", "id-1");
const PROXIES: [&str; 1] = ["10.0.0.0/8"];

/// The fields that a service gets when `peer` sends `lines` to a plain listener.
fn forwarded(peer: &Peer, lines: &[&str]) -> Fields {
    let mut head = head("GET", "/", lines);
    pass_on(&mut head, peer, None, None);
    head.fields
}

fn pass_on(head: &mut RequestHead, peer: &Peer, host: Option<&str>, upgrade: Option<&str>) {
    let client = client_address(peer.address, &networks(&PROXIES), &head.fields);
    let scheme = client_scheme(peer, &head.fields);
    forward::request(
        head,
        &Forwarding { peer, client, scheme, host, request_id: (ID.0.into(), ID.1), upgrade, told: &Told::default() },
    );
}

fn stranger() -> Peer {
    peer("192.0.2.7", &PROXIES)
}

fn proxy() -> Peer {
    peer("10.0.0.1", &PROXIES)
}

#[test]
fn a_service_is_told_who_asks() {
    let fields = forwarded(&stranger(), &["Host: Example.com:8080", "Accept: */*"]);
    assert_eq!(
        lines(&fields),
        [
            "host: Example.com:8080",
            "accept: */*",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-proto: http",
            "x-forwarded-host: Example.com:8080",
            "x-forwarded-port: 8080",
            "x-real-ip: 192.0.2.7",
            "forwarded: for=192.0.2.7;host=\"Example.com:8080\";proto=http",
            "via: 1.1 tidegate",
            "x-gateway: tidegate",
            "x-request-id: id-1",
        ]
    );
}

#[test]
fn an_ipv6_client_stands_in_brackets_where_it_must() {
    let fields = forwarded(&peer("2001:db8::7", &[]), &["Host: a.test"]);
    assert_eq!(value(&fields, "x-forwarded-for"), "2001:db8::7");
    assert_eq!(value(&fields, "x-real-ip"), "2001:db8::7");
    assert_eq!(value(&fields, "forwarded"), "for=\"[2001:db8::7]\";host=a.test;proto=http");
}

#[test]
fn a_request_without_a_host_says_nothing_about_one() {
    let fields = forwarded(&stranger(), &[]);
    assert!(!fields.contains("x-forwarded-host"));
    assert_eq!(value(&fields, "forwarded"), "for=192.0.2.7;proto=http");
}

#[test]
fn order_and_repetitions_survive() {
    let fields = forwarded(&stranger(), &["X-B: 1", "Host: a", "x-a: 2", "X-B: 3", "Cookie: c", "x-empty: "]);
    assert_eq!(lines(&fields)[..6], ["x-b: 1", "host: a", "x-a: 2", "x-b: 3", "cookie: c", "x-empty: "]);
}

#[test]
fn hop_by_hop_fields_and_what_connection_names_are_dropped() {
    let fields = forwarded(
        &stranger(),
        &[
            "Host: a",
            "Connection: close, X-Secret, x-other",
            "connection: X-Third , ,\"",
            "X-Secret: 1",
            "X-Other: 2",
            "X-THIRD: 3",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic eA==",
            "Proxy-Authenticate: Basic",
            "TE: gzip",
            "Transfer-Encoding: chunked",
            "Content-Length: 5",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABk",
            "Expect: 100-continue",
            "Trailer: x-checksum",
            "X-Kept: yes",
        ],
    );
    assert_eq!(lines(&fields)[..3], ["host: a", "trailer: x-checksum", "x-kept: yes"]);
    assert!(!fields.contains("connection") && !fields.contains("upgrade") && !fields.contains("content-length"));
}

#[test]
fn a_client_cannot_drop_what_the_gateway_says_by_naming_it() {
    let names = "Host, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-Port, X-Real-IP, Forwarded, \
                 X-Gateway, X-Request-Id, Via, Connection, Content-Length";
    let fields = forwarded(&stranger(), &["Host: a.test", &format!("Connection: {names}"), "Via: 1.0 fred"]);
    for (name, expected) in [
        ("host", "a.test"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.test"),
        ("x-forwarded-port", "8080"),
        ("x-real-ip", "192.0.2.7"),
        ("forwarded", "for=192.0.2.7;host=a.test;proto=http"),
        ("via", "1.1 tidegate"),
        ("x-gateway", "tidegate"),
        ("x-request-id", "id-1"),
    ] {
        assert_eq!(value(&fields, name), expected, "{name}");
    }
}

#[test]
fn a_stranger_cannot_speak_for_others_in_any_spelling() {
    let spoofed = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Server",
        "X-Forwarded-User",
        "X-Forwarded-Ssl",
        "X-Real-IP",
        "Forwarded",
        "X-Gateway",
        "X-Request-Id",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X_Forwarded_For",
        "X.Forwarded.For",
        "x_forwarded-proto",
        "X-Forwarded_User",
        "X_Real_IP",
        "X.Real.IP",
        "X_Gateway",
        "x_request_id",
        "X.Request.Id",
        "X_Original_URL",
        "Transfer_Encoding",
        "Content_Length",
        "Connection",
        "Proxy_Connection",
        "host_",
        "Host_",
    ];
    let sent: Vec<_> = spoofed.iter().map(|name| format!("{name}: spoofed")).collect();
    let mut sent: Vec<_> =
        sent.iter().map(String::as_str).filter(|line| !line.to_lowercase().starts_with("host_")).collect();
    sent.push("Host: a.test");
    let fields = forwarded(&stranger(), &sent);
    let passed: Vec<_> = lines(&fields).into_iter().filter(|line| line.contains("spoofed")).collect();
    assert_eq!(passed, [""; 0], "{passed:?}");
}

#[test]
fn names_that_only_look_alike_are_the_clients_own() {
    let own =
        ["x_api_version: 1", "x.custom: 2", "user_id: 3", "x-forwarded: 4", "x-real-ipx: 5", "x-my-forwarded-for: 6"];
    let fields = forwarded(&stranger(), &own);
    assert_eq!(lines(&fields)[..6], own);
}

#[test]
fn aliases_are_dropped_from_trusted_peers_too() {
    let fields = forwarded(&proxy(), &["X_Forwarded_For: 6.6.6.6", "x_real_ip: 6.6.6.6", "X-Forwarded-Prefix: /p"]);
    assert!(!fields.contains("x_forwarded_for") && !fields.contains("x_real_ip"));
    assert_eq!(value(&fields, "x-forwarded-prefix"), "/p");
}

#[test]
fn a_trusted_chain_is_carried_on() {
    let fields = forwarded(
        &proxy(),
        &[
            "Host: inner:80",
            "X-Forwarded-For: 6.6.6.6, 203.0.113.7",
            "X-Forwarded-For: 10.0.0.9",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: shop.test",
            "X-Real-IP: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
        ],
    );
    assert_eq!(value(&fields, "x-forwarded-for"), "6.6.6.6, 203.0.113.7, 10.0.0.9, 10.0.0.1");
    assert_eq!(value(&fields, "x-real-ip"), "203.0.113.7");
    assert_eq!(value(&fields, "x-forwarded-proto"), "https");
    assert_eq!(value(&fields, "x-forwarded-host"), "shop.test");
    assert_eq!(value(&fields, "x-forwarded-port"), "443");
    assert_eq!(value(&fields, "forwarded"), "for=203.0.113.7;host=\"inner:80\";proto=https, for=10.0.0.1");
}

#[test]
fn the_standard_dialect_of_a_trusted_peer_is_translated() {
    let fields = forwarded(&proxy(), &["Host: a", "Forwarded: for=\"[2001:db8::9]:443\";proto=https"]);
    assert_eq!(value(&fields, "x-forwarded-for"), "2001:db8::9, 10.0.0.1");
    assert_eq!(value(&fields, "forwarded"), "for=\"[2001:db8::9]\";host=a;proto=https, for=10.0.0.1");
}

#[test]
fn the_service_sees_the_rewritten_host_and_is_told_the_clients() {
    let mut head = head("GET", "/", &["Host: shop.test", "Accept: */*"]);
    pass_on(&mut head, &stranger(), Some("orders.internal:8080"), None);
    assert_eq!(lines(&head.fields)[0], "host: orders.internal:8080");
    assert_eq!(value(&head.fields, "host"), "orders.internal:8080");
    assert_eq!(value(&head.fields, "x-forwarded-host"), "shop.test");
}

#[test]
fn via_names_the_version_that_was_received_after_those_before() {
    for (version, expected) in [
        (Version::Http10, "1.0 fred | 1.0 tidegate"),
        (Version::Http11, "1.0 fred | 1.1 tidegate"),
        (Version::Http2, "1.0 fred | 2.0 tidegate"),
    ] {
        let mut head = RequestHead { version, ..head("GET", "/", &["Via: 1.0 fred"]) };
        pass_on(&mut head, &stranger(), None, None);
        assert_eq!(value(&head.fields, "via"), expected);
    }
}

#[test]
fn the_wish_for_trailers_survives_and_no_other_coding_does() {
    let fields = forwarded(&stranger(), &["TE: deflate, Trailers;q=0.5, trailers", "Connection: te"]);
    assert_eq!((value(&fields, "te"), value(&fields, "connection")), ("trailers".into(), "te".into()));
    assert!(!forwarded(&stranger(), &["TE: deflate"]).contains("te"));
}

#[test]
fn an_upgrade_is_passed_on_only_when_it_is_allowed() {
    let allowed: [Arc<str>; 1] = ["websocket".into()];
    let wish = ["Host: a", "Connection: keep-alive, Upgrade", "Upgrade: h2c, WebSocket", "Sec-WebSocket-Key: k"];
    let mut asked = head("GET", "/", &wish);
    let upgrade = forward::upgrade_requested(&asked, &allowed);
    assert_eq!(upgrade, Some("websocket"));
    pass_on(&mut asked, &stranger(), None, upgrade);
    assert_eq!(value(&asked.fields, "upgrade"), "websocket");
    assert_eq!(value(&asked.fields, "connection"), "upgrade");
    assert_eq!(value(&asked.fields, "sec-websocket-key"), "k");
    assert_eq!(forward::upgrade_requested(&head("GET", "/", &wish), &[]), None);
}

#[test]
fn a_request_that_cannot_be_upgraded_is_not() {
    let allowed: [Arc<str>; 1] = ["websocket".into()];
    let wish = ["Connection: upgrade", "Upgrade: websocket"];
    let refused = |head: &RequestHead| forward::upgrade_requested(head, &allowed).is_none();
    assert!(refused(&head("POST", "/", &wish)));
    assert!(refused(&RequestHead { version: Version::Http10, ..head("GET", "/", &wish) }));
    assert!(refused(&RequestHead { version: Version::Http2, ..head("GET", "/", &wish) }));
    assert!(refused(&head("GET", "/", &["Upgrade: websocket"])));
    assert!(refused(&head("GET", "/", &["Connection: upgrade"])));
    assert!(refused(&head("GET", "/", &["Connection: upgrade", "Upgrade: h2c"])));
    assert!(refused(&head("GET", "/", &["Connection: upgrade", "Upgrade: websocket", "Content-Length: 5"])));
    assert!(refused(&head("GET", "/", &["Connection: upgrade", "Upgrade: websocket", "Transfer-Encoding: chunked"])));
    assert!(!refused(&head("GET", "/", &["Connection: upgrade", "Upgrade: websocket", "Content-Length: 0"])));
}

fn returned(lines: &[&str], upgrade: Option<&str>) -> Fields {
    let mut fields = fields(lines);
    forward::reply(&mut fields, &Returning { version: Version::Http11, request_id: (ID.0.into(), ID.1), upgrade });
    fields
}

#[test]
fn a_reply_loses_hop_by_hop_fields_and_nothing_else() {
    let fields = returned(
        &[
            "Date: today",
            "Set-Cookie: a=1",
            "Connection: keep-alive, X-Internal, Content-Length, Date",
            "X-Internal: secret",
            "Keep-Alive: timeout=5",
            "Transfer-Encoding: chunked",
            "Proxy-Authenticate: Basic",
            "Upgrade: h2c",
            "Set-Cookie: b=2",
            "Content-Length: 5",
            "X-Request-Id: theirs",
        ],
        None,
    );
    assert_eq!(
        lines(&fields),
        [
            "date: today",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "content-length: 5",
            "x-request-id: id-1",
            "via: 1.1 tidegate"
        ]
    );
}

#[test]
fn a_switch_of_protocols_is_told_to_the_client() {
    let fields = returned(&["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: s"], Some("websocket"));
    assert_eq!(value(&fields, "upgrade"), "websocket");
    assert_eq!(value(&fields, "connection"), "upgrade");
    assert_eq!(value(&fields, "sec-websocket-accept"), "s");
}

#[test]
fn streams_are_told_by_their_media_type() {
    for (content_type, grpc, events) in [
        ("application/grpc", true, false),
        ("application/grpc+proto", true, false),
        ("Application/GRPC;x=1", true, false),
        ("application/grpc-web", false, false),
        ("text/event-stream", false, true),
        ("text/event-stream; charset=utf-8", false, true),
        ("text/event-streams", false, false),
        ("text/plain", false, false),
    ] {
        let fields = fields(&[&format!("content-type: {content_type}")]);
        assert_eq!((forward::is_grpc(&fields), forward::is_event_stream(&fields)), (grpc, events), "{content_type}");
    }
    assert!(!forward::is_grpc(&Fields::new()));
}

#[test]
fn hundreds_of_fields_named_by_connection_are_dropped_in_passing() {
    let mut head = head("GET", "/", &["Host: a", "Accept: */*"]);
    let names: Vec<_> = (0..300).map(|number| format!("x-{number}")).collect();
    head.fields.append("connection", names.join(",").as_bytes()).expect("valid");
    for name in &names {
        head.fields.append(name.as_str(), b"1").expect("valid");
    }
    pass_on(&mut head, &stranger(), None, None);
    assert_eq!(lines(&head.fields)[..2], ["host: a", "accept: */*"]);
    assert_eq!(head.fields.len(), 11);
}

#[test]
fn what_is_remembered_of_one_client_is_told_of_no_other() {
    let before = Told::default();
    let told = |before: &Told, peer: &Peer, version, lines: &[&str]| {
        let mut head = RequestHead { version, ..head("GET", "/", lines) };
        let (client, scheme) = (client_address(peer.address, &networks(&PROXIES), &head.fields), Scheme::Http);
        let request_id = (ID.0.into(), ID.1);
        forward::request(
            &mut head,
            &Forwarding { peer, client, scheme, host: None, request_id, upgrade: None, told: before },
        );
        head.fields.iter().map(|field| format!("{field:?}")).collect::<Vec<_>>()
    };
    // More clients than are remembered, so that some take the places of others; each asks twice, and then in other ways.
    let clients =
        (0..200).map(|number| format!("192.0.2.{number}")).chain((0..50).map(|number| format!("2001:db8::{number:x}")));
    for address in clients {
        let client = peer(&address, &[]);
        let mut other_port = client.clone();
        other_port.listener_port = 8443;
        let proxy = peer("10.0.0.2", &PROXIES);
        let forwarded_for = format!("x-forwarded-for: {address}");
        let asked = [
            (&client, Version::Http11, vec!["host: a.example"]),
            (&client, Version::Http11, vec!["host: a.example"]),
            (&client, Version::Http11, vec!["host: b.example"]),
            (&client, Version::Http2, vec!["host: b.example"]),
            (&client, Version::Http10, vec![]),
            (&other_port, Version::Http11, vec!["host: a.example"]),
            (&client, Version::Http11, vec!["host: a.example", "x-forwarded-host: forged"]),
            (&proxy, Version::Http11, vec!["host: a.example", &*forwarded_for]),
            (
                &proxy,
                Version::Http11,
                vec!["host: a.example", "x-forwarded-for: 203.0.113.9", "x-forwarded-host: c.example"],
            ),
        ];
        for (peer, version, lines) in asked {
            let anew = told(&Told::default(), peer, version, &lines);
            assert_eq!(told(&before, peer, version, &lines), anew, "{address} {version} {lines:?}");
        }
    }
}

#[test]
fn a_trusted_proxy_may_say_it_in_the_words_of_rfc_7239() {
    let told = "Forwarded: for=203.0.113.7;host=\"api.example.com\";proto=https";
    let told_to = |peer: &Peer, lines: &[&str]| {
        let fields = forwarded(peer, lines);
        let names = ["for", "proto", "host", "port"].map(|name| format!("x-forwarded-{name}"));
        names.map(|name| value(&fields, &name)).join(" | ")
    };
    assert_eq!(told_to(&proxy(), &["Host: a", told]), "203.0.113.7, 10.0.0.1 | https | api.example.com | 443");
    assert_eq!(told_to(&stranger(), &["Host: a", told]), "192.0.2.7 | http | a | 8080");
    let both = ["Host: a", told, "X-Forwarded-For: 203.0.113.8"];
    assert_eq!(told_to(&proxy(), &both), "203.0.113.8, 10.0.0.1 | http | a | 8080", "what it passes on says nothing");
    assert_eq!(told_to(&proxy(), &["Host: a", "Forwarded: host=\"b, c\""]), "10.0.0.1 | http | a | 8080");
}
