//! TLS on both sides, certificates by name, client certificates, and the PROXY protocol.

use std::sync::Arc;

use http::Request;

use e2e::certs::{Authority, Identity, connect};
use e2e::http2::{H2Backend, H2Client, echo};
use e2e::stream::Stream;
use e2e::{Backend, Client, Gateway, Plan};

/// A gateway on one TLS listener with these certificates, and more keys for `tls`.
fn secured(plan: Plan, certificates: &[(&str, &Identity)], tls: &str, rest: &str) -> Gateway {
    let listed: Vec<String> = certificates
        .iter()
        .map(|(name, identity)| {
            identity.write(plan.folder(), name);
            format!("{{ cert: {name}.pem, key: {name}.key }}")
        })
        .collect();
    let listed = listed.join(", ");
    plan.run(&format!(
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  tls: {{ certificates: [{listed}], {tls} }}\n  \
         timeouts: {{ handshake: 1s }}\n{rest}"
    ))
}

const PONG: &str = "routes: [{ match: { path_prefix: / }, respond: { status: 200, body: pong } }]\n";

fn forward_to(url: &str) -> String {
    format!("services: {{ app: {{ url: \"{url}\" }} }}\nroutes: [{{ match: {{ path_prefix: / }}, service: app }}]\n")
}

#[test]
fn https_is_served_and_the_service_is_told() {
    let ca = Authority::new();
    let backend = Backend::echo();
    let gateway = secured(Plan::new(), &[("a", &ca.sign(&["a.test"]))], "", &forward_to(&backend.url()));
    let mut tls = connect(gateway.address(), &ca.client(&["http/1.1"], None), "a.test").expect("a handshake");
    assert_eq!(tls.alpn.as_deref(), Some("http/1.1"));
    let reply = tls.client.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").reply();
    assert_eq!(reply.status(), 200);
    let seen = backend.assert_well_formed("https");
    assert_eq!(seen[0].field("x-forwarded-proto"), Some("https"));
    assert!(seen[0].field("forwarded").unwrap_or_default().contains("proto=https"));
    let again = tls.client.send("GET /y HTTP/1.1\r\nHost: a.test\r\n\r\n").reply();
    assert_eq!(again.json()["target"], "/y", "keep-alive");
    // Without ALPN it is HTTP/1.1.
    let mut plain = connect(gateway.address(), &ca.client(&[], None), "a.test").expect("a handshake");
    assert_eq!(plain.client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").reply().status(), 200);
}

#[test]
fn http2_is_agreed_by_alpn() {
    let ca = Authority::new();
    let backend = Backend::echo();
    let gateway = secured(Plan::new(), &[("a", &ca.sign(&["a.test"]))], "", &forward_to(&backend.url()));
    let client = H2Client::connect_tls(gateway.address(), ca.client(&["h2", "http/1.1"], None), "a.test");
    let reply = client.call(Request::post("https://a.test/x").body(()).unwrap(), b"hello");
    assert_eq!((reply.status, &reply.json()["body"]), (200, &"hello".into()));
}

#[test]
fn certificates_are_chosen_by_name_exact_before_wildcard() {
    let ca = Authority::new();
    let (first, wild, exact) = (ca.sign(&["first.test"]), ca.sign(&["*.b.test"]), ca.sign(&["exact.b.test"]));
    let gateway = secured(Plan::new(), &[("first", &first), ("wild", &wild), ("exact", &exact)], "", PONG);
    let config = ca.client(&[], None);
    for (name, identity) in [("first.test", &first), ("x.b.test", &wild), ("exact.b.test", &exact)] {
        let tls = connect(gateway.address(), &config, name).expect("a handshake");
        assert_eq!(tls.certificate, identity.cert, "{name}");
    }
    // An unknown name gets the first certificate (which this client then refuses), never another's by chance.
    assert!(connect(gateway.address(), &config, "unknown.test").is_err());
    assert!(connect(gateway.address(), &config, "a.x.b.test").is_err(), "a wildcard is one label in TLS");
}

#[test]
fn an_older_version_than_the_least_is_refused() {
    let ca = Authority::new();
    let identity = ca.sign(&["a.test"]);
    let old = ca.client_with_versions(&[], None, &[&rustls::version::TLS12]);
    let gateway = secured(Plan::new(), &[("a", &identity)], "", PONG);
    assert!(connect(gateway.address(), &old, "a.test").is_ok(), "1.2 by default");
    let gateway = secured(Plan::new(), &[("a", &identity)], "min_version: \"1.3\"", PONG);
    assert!(connect(gateway.address(), &old, "a.test").is_err());
    assert!(connect(gateway.address(), &ca.client(&[], None), "a.test").is_ok());
}

#[test]
fn plain_text_and_silence_on_a_tls_listener_end_without_harm() {
    let ca = Authority::new();
    let gateway = secured(Plan::new(), &[("a", &ca.sign(&["a.test"]))], "", PONG);
    for bytes in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", "\u{16}\u{3}\u{1}"] {
        let mut client = gateway.connect();
        client.try_send(bytes);
        let said = client.rest();
        assert!(!said.starts_with(b"HTTP/1.1 200"), "served in plain text");
    }
    assert!(connect(gateway.address(), &ca.client(&[], None), "a.test").is_ok());
    assert!(gateway.metric("tidegate_tls_handshakes_total", &[]) >= 1);
}

#[test]
fn a_required_client_certificate_is_required() {
    let (ca, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let plan = Plan::new();
    plan.folder().write("clients.pem", clients.pem());
    let tls = "client_ca: clients.pem, client_auth: required";
    let gateway = secured(plan, &[("a", &ca.sign(&["a.test"]))], tls, PONG);
    // TLS 1.3 tells a client of a refusal only after its own side of the handshake: what counts is that nothing is served.
    let served = |identity: Option<&Identity>| {
        connect(gateway.address(), &ca.client(&[], identity), "a.test").is_ok_and(|mut tls| {
            tls.client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            tls.client.try_reply_to("GET").is_ok()
        })
    };
    assert!(!served(None));
    assert!(!served(Some(&others.sign(&["stranger"]))));
    assert!(served(Some(&clients.sign(&["friend"]))));
}

#[test]
fn facts_of_a_client_certificate_are_there_for_routes() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let plan = Plan::new();
    plan.folder().write("clients.pem", clients.pem());
    let routes = "routes:\n- { match: { path: /, client_cert: { subject: admin } }, respond: { status: 200, body: admin } }\n\
                  - { match: { path: /, client_cert: { san: robot.test } }, respond: { status: 200, body: robot } }\n\
                  - { match: { path: / }, respond: { status: 200, body: anybody } }\n";
    let tls = "client_ca: clients.pem, client_auth: optional";
    let gateway = secured(plan, &[("a", &ca.sign(&["a.test"]))], tls, routes);
    let ask = |identity: Option<&Identity>| {
        let mut tls = connect(gateway.address(), &ca.client(&[], identity), "a.test").expect("a handshake");
        tls.client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").reply().text()
    };
    assert_eq!(ask(None), "anybody");
    assert_eq!(ask(Some(&clients.sign(&["admin"]))), "admin");
    assert_eq!(ask(Some(&clients.sign(&["other", "robot.test"]))), "robot");
    assert_eq!(ask(Some(&clients.sign(&["guest"]))), "anybody");
}

#[test]
fn a_name_in_tls_and_another_in_host_is_421_where_certificates_count() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let plan = Plan::new();
    plan.folder().write("clients.pem", clients.pem());
    let tls = "client_ca: clients.pem, client_auth: required";
    let gateway = secured(plan, &[("a", &ca.sign(&["a.test", "b.test"]))], tls, PONG);
    let identity = clients.sign(&["friend"]);
    let mut tls = connect(gateway.address(), &ca.client(&[], Some(&identity)), "a.test").expect("a handshake");
    assert_eq!(tls.client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").reply().status(), 200);
    assert_eq!(tls.client.send("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n").reply().status(), 421);
}

#[test]
fn a_new_certificate_is_used_after_a_reload_and_old_connections_live_on() {
    let ca = Authority::new();
    let (old, new) = (ca.sign(&["a.test"]), ca.sign(&["a.test"]));
    let plan = Plan::new();
    let yaml =
        "server:\n  host: 127.0.0.1\n  port: 0\n  workers: 1\n  tls: { certificates: [{ cert: a.pem, key: a.key }] }\n";
    let yaml = format!("{yaml}{PONG}");
    old.write(plan.folder(), "a");
    let gateway = plan.run(&yaml);
    let config = ca.client(&[], None);
    let mut before = connect(gateway.address(), &config, "a.test").expect("a handshake");
    assert_eq!(before.certificate, old.cert);
    assert_eq!(before.client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").reply().text(), "pong");
    std::fs::write(gateway.folder().join("a.key"), &new.key_pem).unwrap();
    std::fs::write(gateway.folder().join("a.pem"), &new.cert_pem).unwrap();
    gateway.signal("HUP");
    gateway.wait_metric("tidegate_config_revision", &[], |n| n >= 2);
    let after = connect(gateway.address(), &config, "a.test").expect("a handshake");
    assert_eq!(after.certificate, new.cert);
    assert_eq!(before.client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").reply().text(), "pong");
}

#[test]
fn a_service_over_tls_is_verified() {
    let (ca, stranger) = (Authority::new(), Authority::new());
    let identity = ca.sign(&["internal.test"]);
    let backend = Backend::echo_tls(ca.server(&identity, &[], false));
    let run = |trusted: &Authority, name: &str| {
        let plan = Plan::new();
        plan.folder().write("ca.pem", trusted.pem());
        plan.run(&format!(
            "services:\n  app: {{ url: \"https://{}\", tls: {{ ca: ca.pem, server_name: {name} }} }}\n\
             routes: [{{ match: {{ path_prefix: / }}, service: app }}]\n",
            backend.address()
        ))
    };
    let good = run(&ca, "internal.test");
    let mut client = good.connect();
    for _ in 0..3 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert_eq!(backend.connections(), 1, "TLS connections are pooled");
    assert_eq!(backend.seen().connections[0].server_name.as_deref(), Some("internal.test"));
    for (gateway, what) in
        [(run(&ca, "other.test"), "the wrong name"), (run(&stranger, "internal.test"), "an unknown authority")]
    {
        let reply = gateway.get("/");
        assert_eq!(reply.status(), 502, "{what}");
        assert!(!reply.text().to_lowercase().contains("certificate"), "nothing of the inside: {}", reply.text());
    }
    assert_eq!(backend.requests().len(), 3, "not a byte of a request went to an unverified service");
}

#[test]
fn the_gateway_shows_its_certificate_to_a_service_that_asks() {
    let ca = Authority::new();
    let backend = Backend::echo_tls(ca.server(&ca.sign(&["internal.test"]), &[], true));
    let plan = Plan::new();
    plan.folder().write("ca.pem", ca.pem());
    ca.sign(&["gateway"]).write(plan.folder(), "gw");
    let gateway = plan.run(&format!(
        "services:\n  app:\n    url: \"https://{}\"\n    \
         tls: {{ ca: ca.pem, server_name: internal.test, client_cert: gw.pem, client_key: gw.key }}\n\
         routes: [{{ match: {{ path_prefix: / }}, service: app }}]\n",
        backend.address()
    ));
    assert_eq!(gateway.get("/").status(), 200);
    assert!(backend.seen().connections[0].client_certificate);
}

#[test]
fn http2_to_a_service_is_agreed_by_alpn() {
    let ca = Authority::new();
    let backend = H2Backend::serve_tls(ca.server(&ca.sign(&["internal.test"]), &["h2"], false), echo);
    let plan = Plan::new();
    plan.folder().write("ca.pem", ca.pem());
    let gateway = plan.run(&format!(
        "services:\n  app: {{ url: \"https://{}\", tls: {{ ca: ca.pem, server_name: internal.test }} }}\n\
         routes: [{{ match: {{ path_prefix: / }}, service: app }}]\n",
        backend.address()
    ));
    let reply = gateway.connect().post("/x", "hello");
    assert_eq!((reply.status(), &reply.json()["body"]), (200, &"hello".into()));
    assert_eq!(reply.json()["scheme"], "https");
}

#[test]
fn a_service_that_speaks_plain_text_before_the_handshake_is_502() {
    let backend = Backend::scripted(|conn| {
        // nginx CVE-2026-1642: what comes before TLS is nobody's answer.
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
        conn.wait_closed();
    });
    let ca = Authority::new();
    let plan = Plan::new();
    plan.folder().write("ca.pem", ca.pem());
    let gateway = plan.run(&format!(
        "services:\n  app: {{ url: \"https://{}\", tls: {{ ca: ca.pem, server_name: a.test }} }}\n\
         routes: [{{ match: {{ path_prefix: / }}, service: app }}]\n",
        backend.address()
    ));
    assert_eq!(gateway.get("/").status(), 502);
}

fn proxied(backend: &Backend) -> Gateway {
    Gateway::run(&format!(
        "server:\n  workers: 1\n  timeouts: {{ handshake: 500ms, header: 500ms }}\n  listeners:\n  \
         - {{ name: default, host: 127.0.0.1, port: 0, proxy_protocol: on }}\n{}",
        forward_to(&backend.url())
    ))
}

/// A PROXY header of version 2 with this command, family, addresses and TLVs.
fn version2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, rest].concat()
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let backend = Backend::echo();
    let gateway = proxied(&backend);
    let v4 = [&[192, 0, 2, 7, 10, 0, 0, 1][..], &4711_u16.to_be_bytes(), &80_u16.to_be_bytes()].concat();
    let v6: Vec<u8> = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0, 1, 0, 80]].concat();
    let with_tlv = [&v4[..], &[0xee, 0, 3, 1, 2, 3]].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN whatever may stand here\r\n".to_vec(), "127.0.0.1"),
        (version2(1, 0x11, &v4), "192.0.2.7"),
        (version2(1, 0x21, &v6), "2001:db8::7"),
        (version2(1, 0x11, &with_tlv), "192.0.2.7"),
        (version2(0, 0x00, &[]), "127.0.0.1"),
        (version2(0, 0x11, &v4), "127.0.0.1"),
    ];
    for (header, address) in &cases {
        // In one piece with the request, and in single bytes.
        let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let mut client = gateway.connect();
        assert_eq!(client.send([header.as_slice(), request].concat()).reply().status(), 200, "{header:?}");
        let mut client = gateway.connect();
        for byte in header.iter().chain(request) {
            client.send([*byte]);
        }
        assert_eq!(client.reply().status(), 200, "{header:?}");
        for seen in backend.requests().iter().rev().take(2) {
            assert_eq!(seen.field("x-real-ip"), Some(*address), "{header:?}");
            assert_eq!(seen.field("x-forwarded-for"), Some(*address), "{header:?}");
        }
    }
}

#[test]
fn a_connection_without_a_proper_proxy_header_is_closed() {
    let backend = Backend::echo();
    let gateway = proxied(&backend);
    let short = version2(1, 0x11, &[192, 0, 2, 7]);
    let mut future = version2(1, 0x11, &[0; 12]);
    future[12] = 0x31;
    let cases: Vec<&[u8]> = vec![
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"",
        b"PROXY",
        b"PROXY TCP4 192.0.2.7\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.777 10.0.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 99999 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP6 192.0.2.7 10.0.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"proxy TCP4 192.0.2.7 10.0.0.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIX\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &short,
        &future,
    ];
    for bytes in cases {
        let mut client = gateway.connect();
        client.try_send(bytes);
        let said = e2e::wire::latin1(&client.rest());
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{:?}: {said:?}", e2e::wire::latin1(bytes));
    }
    let endless = format!("PROXY TCP4 {}", "1".repeat(100_000));
    let mut client = gateway.connect();
    client.try_send(endless);
    client.rest();
    assert!(backend.requests().is_empty());
}

#[test]
fn tls_and_http2_follow_a_proxy_header() {
    let ca = Authority::new();
    let backend = Backend::echo();
    let plan = Plan::new();
    ca.sign(&["a.test"]).write(plan.folder(), "a");
    let gateway = plan.run(&format!(
        "server:\n  workers: 1\n  listeners:\n  - name: default\n    host: 127.0.0.1\n    port: 0\n    proxy_protocol: on\n    \
         tls: {{ certificates: [{{ cert: a.pem, key: a.key }}] }}\n  \
         - {{ name: plain, host: 127.0.0.1, port: 0, proxy_protocol: on }}\n{}",
        forward_to(&backend.url())
    ));
    let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n";
    let mut socket = std::net::TcpStream::connect(gateway.address()).unwrap();
    std::io::Write::write_all(&mut socket, header).unwrap();
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let tls = rustls::ClientConnection::new(Arc::clone(&ca.client(&[], None)), name).unwrap();
    let mut client =
        Client::over(Stream::TlsClient(Box::new(rustls::StreamOwned::new(tls, e2e::stream::guarded(socket)))));
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").reply().status(), 200);
    assert_eq!(backend.requests()[0].field("x-real-ip"), Some("192.0.2.7"));
    assert_eq!(backend.requests()[0].field("x-forwarded-proto"), Some("https"));
    let mut frames = e2e::frames::Frames::connect_after(gateway.listener("plain"), header);
    frames.settled();
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
    frames.headers(1, &get, true);
    assert_eq!(frames.outcome(1), e2e::frames::Outcome::Status(200));
    assert_eq!(backend.requests()[1].field("x-real-ip"), Some("192.0.2.7"));
}

#[test]
fn what_a_client_behind_the_proxy_protocol_says_about_itself_is_not_believed() {
    let backend = Backend::echo();
    // The balancer is trusted; the client that it names is not.
    let gateway = Gateway::run(&format!(
        "server:\n  workers: 1\n  trusted_proxies: [127.0.0.0/8]\n  listeners:\n  \
         - {{ name: default, host: 127.0.0.1, port: 0, proxy_protocol: on }}\n{}",
        forward_to(&backend.url())
    ));
    let mut client = gateway.connect();
    client.send("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n");
    let told =
        client.get_with("/", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Request-Id: forged\r\n").json();
    assert!(!told.to_string().contains("6.6.6.6") && !told.to_string().contains("forged"), "{told}");
    let seen = &backend.requests()[0];
    assert_eq!((seen.field("x-real-ip"), seen.field("x-forwarded-proto")), (Some("192.0.2.7"), Some("http")));
}

#[test]
fn the_share_of_one_address_counts_the_clients_behind_the_proxy_protocol() {
    let gateway = Gateway::run(&format!(
        "server:\n  workers: 1\n  limits: {{ connections_per_client: 2 }}\n  listeners:\n  \
         - {{ name: default, host: 127.0.0.1, port: 0, proxy_protocol: on }}\n{PONG}"
    ));
    let mut kept = Vec::new();
    for n in 1..=8 {
        let mut client = gateway.connect();
        client.send(format!("PROXY TCP4 192.0.2.{n} 10.0.0.1 4711 80\r\n"));
        assert_eq!(client.get("/").text(), "pong", "client {n} has a share of its own");
        kept.push(client);
    }
}

#[test]
fn a_name_in_tls_and_another_authority_is_421_over_http2() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let plan = Plan::new();
    plan.folder().write("clients.pem", clients.pem());
    let tls = "client_ca: clients.pem, client_auth: required";
    let gateway = secured(plan, &[("a", &ca.sign(&["a.test", "b.test"]))], tls, PONG);
    let identity = clients.sign(&["friend"]);
    let client = H2Client::connect_tls(gateway.address(), ca.client(&["h2"], Some(&identity)), "a.test");
    assert_eq!(client.get("https://a.test/").status, 200);
    assert_eq!(client.get("https://b.test/").status, 421);
    assert_eq!(client.get("https://a.test/").status, 200, "the connection lives on");
}
