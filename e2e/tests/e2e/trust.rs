//! Identity, routing and trust: one canonical path, whose word counts about the client, and what never passes.

use serde_json::Value;

use e2e::{Backend, Gateway, forward, server};

/// The values of a field in an echoed request.
fn fields(told: &Value, name: &str) -> Vec<String> {
    let all = told["fields"].as_array().expect("fields");
    let named = all.iter().filter(|f| f[0].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)));
    named.filter_map(|f| f[1].as_str().map(str::to_owned)).collect()
}

#[test]
fn ambiguous_spellings_of_a_path_are_refused() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    for target in [
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%5Cb",
        "/a\\b",
        "/a%00",
        "/a%0",
        "/a%",
        "/a%zz",
        "/a%0d%0aX:%20y",
        "/a%0a",
        "/..",
        "/../a",
        "/a/../../b",
        "/%2e%2e/a",
        "/a/%2E%2e/%2e./b",
        "/a/..;/b",
        "/a/..;x=y/b",
        "/a/.;/b",
        "/a/%252e%252e/b",
        "/a/%252%45%25%32e/b",
        "/a%252fb",
    ] {
        let reply = gateway.get(target);
        let seen = backend.requests();
        // A double encoding is one segment with a percent sign in it; it may pass as exactly that, never decoded twice.
        if target.contains("%25") && reply.status() == 200 {
            assert_eq!(seen.last().expect("a request").head.target(), target);
            continue;
        }
        assert_eq!(reply.status(), 400, "{target}: {:?}", seen.last());
    }
}

#[test]
fn the_path_that_is_matched_is_the_path_that_is_forwarded() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path_prefix: /admin }}, respond: {{ status: 403, body: closed }} }}\n\
         - {{ match: {{ path_prefix: / }}, service: app }}\n",
        backend.url()
    ));
    for target in [
        "/admin",
        "/admin/",
        "//admin",
        "///admin/x",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin/",
        "/%61dmin",
        "/%61%64%6d%69%6e/x",
        "/admin/./x",
        "/admin//x",
    ] {
        assert_eq!(gateway.get(target).status(), 403, "{target}");
    }
    let reply =
        gateway.connect().send("GET http://example.test/%61dmin HTTP/1.1\r\nHost: example.test\r\n\r\n").reply();
    assert_eq!(reply.status(), 403, "absolute form");
    assert!(backend.requests().is_empty());
    for (sent, forwarded) in [
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a//b", "/a/b"),
        ("/%7Euser/%41", "/~user/A"),
        ("/a%c3%a9", "/a%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/a/", "/a/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/Admin", "/Admin"),
        ("/adminx", "/adminx"),
        ("/a?x=/../y", "/a?x=/../y"),
    ] {
        let reply = gateway.get(sent);
        assert_eq!(reply.status(), 200, "{sent}");
        assert_eq!(reply.json()["target"], forwarded, "{sent}");
    }
}

#[test]
fn hop_by_hop_fields_stop_here() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let told = gateway
        .connect()
        .get_with(
            "/",
            "Connection: keep-alive, X-Listed, x-other\r\nX-Listed: 1\r\nX-Other: 2\r\nX-Kept: 3\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nTE: gzip, trailers\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        )
        .json();
    for gone in
        ["x-listed", "x-other", "keep-alive", "proxy-connection", "proxy-authorization", "upgrade", "http2-settings"]
    {
        assert!(fields(&told, gone).is_empty(), "{gone} passed: {told}");
    }
    assert_eq!(fields(&told, "x-kept"), ["3"]);
    assert!(fields(&told, "te").iter().all(|te| te == "trailers"), "{told}");
}

#[test]
fn hop_by_hop_fields_of_a_reply_stop_here() {
    let backend = Backend::replying(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Listed\r\nX-Listed: 1\r\nX-Kept: 2\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = Gateway::run(&forward(backend.address()));
    let reply = gateway.get("/");
    for gone in ["x-listed", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(reply.field(gone).is_none(), "{gone} passed: {:?}", reply.head);
    }
    assert_eq!(reply.field("x-kept"), Some("2"));
}

#[test]
fn a_client_cannot_remove_what_the_gateway_says_by_listing_it() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let told = gateway
        .connect()
        .send(
            "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close, Host, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, \
             X-Real-IP, Forwarded, Via, X-Gateway, X-Request-Id, Content-Length\r\nContent-Length: 5\r\n\r\nhello",
        )
        .reply()
        .json();
    assert_eq!(told["body"], "hello");
    for kept in ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "via", "x-request-id"]
    {
        assert_eq!(fields(&told, kept).len(), 1, "{kept} was removed: {told}");
    }
}

#[test]
fn nobody_is_trusted_about_the_client_by_default() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let told = gateway
        .connect()
        .get_with(
            "/",
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
             X-Forwarded-Port: 666\r\nX-Forwarded-Prefix: /evil\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\
             X_Forwarded_For: 6.6.6.6\r\nX.Forwarded.For: 6.6.6.6\r\nX-Forwarded_Host: evil\r\nX_Real_IP: 6.6.6.6\r\n",
        )
        .json();
    let text = told.to_string();
    assert!(!text.contains("6.6.6.6") && !text.contains("7.7.7.7") && !text.contains("evil"), "{told}");
    assert_eq!(fields(&told, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(fields(&told, "x-real-ip"), ["127.0.0.1"]);
    assert_eq!(fields(&told, "x-forwarded-proto"), ["http"]);
    assert_eq!(fields(&told, "x-forwarded-host"), ["example.test"]);
    assert_eq!(fields(&told, "x-forwarded-port"), [gateway.address().port().to_string()]);
    assert_eq!(fields(&told, "x-gateway").len(), 1);
    assert!(fields(&told, "via")[0].starts_with("1.1 "), "{told}");
    let forwarded = fields(&told, "forwarded").join("").to_lowercase();
    assert!(forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=http"), "{forwarded}");
}

#[test]
fn trusted_proxies_are_walked_from_the_right() {
    let backend = Backend::echo();
    let trusting = server("trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]");
    let gateway = Gateway::run(&(trusting + &forward(backend.address())));
    let ask = |chain: &str| gateway.connect().get_with("/", &format!("{chain}X-Forwarded-Proto: https\r\n")).json();
    let told = ask("X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.7\r\n");
    assert_eq!(fields(&told, "x-real-ip"), ["1.2.3.4"], "the first that is not ours, from the right");
    assert_eq!(fields(&told, "x-forwarded-proto"), ["https"]);
    let chain = fields(&told, "x-forwarded-for").join(", ");
    assert!(chain.ends_with("127.0.0.1"), "the peer is appended: {chain}");
    let told = ask("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n");
    assert_eq!(fields(&told, "x-real-ip"), ["1.2.3.4"], "over several lines");
    let told = ask("X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n");
    assert_eq!(fields(&told, "x-real-ip"), ["10.0.0.1"], "all ours: the leftmost");
    let told = ask("X-Forwarded-For: 1.2.3.4, garbage, 10.0.0.2\r\n");
    assert_ne!(fields(&told, "x-real-ip"), ["1.2.3.4"], "what stands left of garbage is nobody's word");
    let told = ask("");
    assert_eq!(fields(&told, "x-real-ip"), ["127.0.0.1"]);
}

#[test]
fn a_reload_says_whom_to_trust_on_open_connections_too() {
    let backend = Backend::echo();
    let with =
        |trusted: &str| format!("server: {{ host: 127.0.0.1, port: 0{trusted} }}\n{}", forward(backend.address()));
    let (trusting, wary) = (with(", trusted_proxies: [127.0.0.0/8]"), with(""));
    let gateway = Gateway::run(&trusting);
    let mut client = gateway.connect();
    let mut told = || {
        let claims = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: told.example\r\n";
        let told = client.get_with("/", claims).json();
        ["x-forwarded-for", "x-real-ip", "x-forwarded-proto"].map(|name| fields(&told, name).join(""))
    };
    let (believed, overwritten) = (["6.6.6.6, 127.0.0.1", "6.6.6.6", "https"], ["127.0.0.1", "127.0.0.1", "http"]);
    assert_eq!(told(), believed);
    gateway.reload(&wary);
    assert_eq!(told(), overwritten);
    gateway.reload(&trusting);
    assert_eq!(told(), believed);
}

#[test]
fn a_request_id_is_made_and_echoed_to_both_sides() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let reply = client.get_with("/", "X-Request-Id: forged\r\n");
        let id = reply.field("x-request-id").expect("an id").to_owned();
        assert_eq!(fields(&reply.json(), "x-request-id"), std::slice::from_ref(&id));
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "a UUID: {id}");
        assert_eq!(&id[14..15], "4", "of version 4");
        seen.push(id);
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "each its own");
    let refusal = client.get("/%00");
    assert!(refusal.field("x-request-id").is_some(), "refusals too: {:?}", refusal.head);
}

#[test]
fn a_request_id_is_accepted_as_configured_and_only_when_well_formed() {
    let backend = Backend::echo();
    let any = server("request_id: { header: x-correlation-id, accept: any }");
    let gateway = Gateway::run(&(any + &forward(backend.address())));
    let mut client = gateway.connect();
    let reply = client.get_with("/", "X-Correlation-Id: abc-123\r\n");
    assert_eq!(reply.field("x-correlation-id"), Some("abc-123"));
    assert_eq!(fields(&reply.json(), "x-correlation-id"), ["abc-123"]);
    let long = "x".repeat(500);
    for bad in ["a b", "a\"b", "", &long, "a\u{1}b", "caf\u{e9}"] {
        let reply = gateway.connect().get_with("/", &format!("X-Correlation-Id: {bad}\r\n"));
        if reply.status() == 200 {
            assert_ne!(reply.field("x-correlation-id"), Some(bad), "{bad:?}");
        }
    }
    let twice = gateway.connect().get_with("/", "X-Correlation-Id: one\r\nX-Correlation-Id: two\r\n");
    assert_eq!(fields(&twice.json(), "x-correlation-id").len(), 1);
    let trusted = format!("{}{}", server("trusted_proxies: 127.0.0.1"), forward(backend.address()));
    let gateway = Gateway::run(&trusted);
    let reply = gateway.connect().get_with("/", "X-Request-Id: from-the-edge\r\n");
    assert_eq!(reply.field("x-request-id"), Some("from-the-edge"), "a trusted peer's is taken over");
}

#[test]
fn one_host_is_used_for_routing_and_forwarding() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ host: secret.test }}, respond: {{ status: 403, body: secret }} }}\n\
         - {{ match: {{ host: open.test }}, service: app }}\n",
        backend.url()
    ));
    let mut client = gateway.connect();
    let mut ask = |lines: &str| client.send(format!("{lines}\r\n\r\n")).reply();
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: SECRET.test").status(), 403, "names have no case");
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: secret.test:8080").status(), 403, "nor a port");
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: secret.test.").status() / 100, 4, "a last dot does not open the door");
    let told = ask("GET / HTTP/1.1\r\nHost: open.test\r\nX-Forwarded-Host: secret.test\r\nX-Host: secret.test").json();
    assert_eq!(fields(&told, "host"), ["open.test"]);
    assert_eq!(fields(&told, "x-forwarded-host"), ["open.test"]);
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: other.test").status(), 404);
    let status = ask("GET http://secret.test/ HTTP/1.1\r\nHost: open.test").status();
    assert!([400, 403].contains(&status), "{status}");
}

#[test]
fn headers_that_decide_are_compared_with_all_their_values() {
    let gateway = Gateway::run(
        "routes:\n\
         - { name: internal, match: { path: /, headers: { x-level: internal } }, respond: { status: 200, body: internal } }\n\
         - { name: no-debug, match: { path: /, headers: { x-debug: absent } }, respond: { status: 200, body: public } }\n",
    );
    let get = |fields: &str| gateway.connect().get_with("/", fields);
    assert_eq!(get("X-Level: internal\r\n").text(), "internal");
    assert_eq!(get("").text(), "public");
    assert_eq!(get("X-Debug: 1\r\n").status(), 404);
    assert_eq!(get("X-Debug:\r\n").status(), 404, "an empty one is there");
    let two = get("X-Level: other\r\nX-Level: internal\r\n").text();
    assert!(two == "internal" || two == "public", "{two}");
}

#[test]
fn the_admin_listener_answers_only_to_its_own_name() {
    let gateway = Gateway::run("routes: [{ match: { path: / }, respond: { status: 200, body: pong } }]\n");
    let address = gateway.admin();
    let ask = |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        e2e::Client::connect(address).send(request).reply().status()
    };
    assert_eq!(ask(&address.to_string()), 200);
    assert_eq!(ask(&format!("localhost:{}", address.port())), 200);
    for rebound in ["evil.test", "evil.test:9900", "127.0.0.1.evil.test"] {
        assert!([400, 403, 421].contains(&ask(rebound)), "{rebound}: DNS rebinding");
    }
    assert_eq!(gateway.get("/metrics").status(), 404, "and is not reachable through a route");
}

#[test]
fn values_from_the_client_that_are_put_into_a_rewrite_cannot_break_out() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path: /query }}, service: app, rewrite: {{ path: \"/x/{{query.q}}\" }} }}\n\
         - {{ match: {{ path: /header }}, service: app, rewrite: {{ path: \"/x/{{header.x-q}}\" }} }}\n\
         - {{ match: {{ path: /host }}, service: app, rewrite: {{ host: \"{{header.x-q}}\" }} }}\n\
         - {{ match: {{ path: /set }}, service: app, rewrite: {{ query: {{ set: {{ k: \"{{header.x-q}}\" }} }} }} }}\n",
        backend.url()
    ));
    let hostile = [
        "%0d%0aX-Evil:%201",
        "a HTTP/1.1",
        "..",
        "../..",
        "..%2f..%2fadmin",
        "a%2fb",
        "%00",
        "a#b",
        "a?b=c",
        "a&evil=1",
        "\u{e9}",
        "a,b c",
        "",
    ];
    for value in hostile {
        let mut replies = vec![];
        if value.is_ascii() && !value.contains([' ', '#', '&']) {
            replies.push(("/query", gateway.get(&format!("/query?q={value}"))));
        }
        for path in ["/header", "/host", "/set"] {
            replies.push((path, gateway.connect().get_with(path, &format!("X-Q: {value}\r\n"))));
        }
        for (path, reply) in replies {
            assert!([200, 400, 500].contains(&reply.status()), "{path} {value:?}: {:?}", reply.head);
        }
    }
    for seen in backend.assert_well_formed("hostile values in templates") {
        let target = seen.head.target();
        assert!(seen.field("x-evil").is_none(), "{seen:?}");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        assert!(!path.contains("..") && !path.contains("admin") && !target.contains('#'), "{target}");
        assert!(!query.contains("&evil"), "{target}");
        assert_eq!(seen.head.fields.values("host").len(), 1);
        assert!(!seen.field("host").unwrap_or_default().contains([' ', '/', '#', '?', ',', '@']), "{:?}", seen.head);
    }
}

#[test]
fn a_redirect_of_the_service_is_the_clients_to_follow() {
    let backend =
        Backend::replying("HTTP/1.1 302 Found\r\nLocation: http://internal.test/x\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::run(&forward(backend.address()));
    let reply = gateway.get("/");
    assert_eq!((reply.status(), reply.field("location")), (302, Some("http://internal.test/x")));
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn error_bodies_are_made_by_a_serializer_and_tell_nothing_of_the_inside() {
    let gateway = Gateway::run("routes: [{ match: { path: /known }, respond: { status: 200, body: x } }]\n");
    for target in ["/\"}],\"a\":{", "/<script>alert(1)</script>", "/%22%0b", "/a'b"] {
        let mut client = gateway.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let reply = client.reply();
        assert!([400, 404].contains(&reply.status()), "{target}");
        let body = reply.json();
        assert!(body["error"].is_string() && body["code"].is_string() && body["request_id"].is_string(), "{body}");
        assert!(!reply.text().contains("<script>"), "{body}");
        assert_eq!(reply.field("content-type"), Some("application/json"));
    }
}

#[test]
fn an_ipv6_client_is_named_as_one() {
    if std::net::TcpListener::bind(("::1", 0)).is_err() {
        return; // This machine has no IPv6.
    }
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!("server: {{ host: \"::1\", port: 0 }}\n{}", forward(backend.address())));
    let told = gateway.get("/").json();
    assert_eq!(fields(&told, "x-real-ip"), ["::1"]);
    assert_eq!(fields(&told, "x-forwarded-for"), ["::1"]);
    assert!(fields(&told, "forwarded")[0].contains("for=\"[::1]\""), "RFC 7239 section 6: {told}");
}

#[test]
fn a_dual_stack_listener_names_ipv4_clients_as_such() {
    if std::net::TcpListener::bind(("::1", 0)).is_err() {
        return; // This machine has no IPv6.
    }
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!("server: {{ host: \"::\", port: 0 }}\n{}", forward(backend.address())));
    let port = gateway.address().port();
    let told = e2e::Client::connect(([127, 0, 0, 1], port).into()).get("/").json();
    assert_eq!(fields(&told, "x-real-ip"), ["127.0.0.1"]);
    let told = e2e::Client::connect((std::net::Ipv6Addr::LOCALHOST, port).into()).get("/").json();
    assert_eq!(fields(&told, "x-real-ip"), ["::1"]);
}

#[test]
fn a_request_id_of_others_is_never_taken_over_when_configured_so() {
    let backend = Backend::echo();
    let never = server("trusted_proxies: 127.0.0.1, request_id: { header: x-request-id, accept: never }");
    let gateway = Gateway::run(&(never + &forward(backend.address())));
    let reply = gateway.connect().get_with("/", "X-Request-Id: from-the-edge\r\n");
    assert_ne!(reply.field("x-request-id"), Some("from-the-edge"));
    assert_eq!(fields(&reply.json(), "x-request-id").len(), 1);
}

#[test]
fn the_chain_of_trusted_proxies_is_understood_in_every_spelling() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&(server("trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]") + &forward(backend.address())));
    let client = |lines: &str| fields(&gateway.connect().get_with("/", lines).json(), "x-real-ip").join(" ");
    assert_eq!(client("X-Forwarded-For: 1.2.3.4:5678\r\n"), "1.2.3.4");
    assert_eq!(client("X-Forwarded-For: [2001:db8::1]:80, 10.0.0.1\r\n"), "2001:db8::1");
    assert_eq!(client("X-Forwarded-For: 2001:db8::1\r\n"), "2001:db8::1");
    assert_eq!(client("X-Forwarded-For: ::ffff:1.2.3.4\r\n"), "1.2.3.4");
    assert_eq!(client("X-Forwarded-For:  1.2.3.4 ,\t10.0.0.1 \r\n"), "1.2.3.4");
    assert_eq!(client("Forwarded: for=6.6.6.6, for=\"[2001:db8::1]:80\";proto=https\r\n"), "2001:db8::1");
    for odd in
        ["X-Forwarded-For: ,\r\n", "X-Forwarded-For:\r\n", "X-Forwarded-For: unknown\r\n", "Forwarded: for=_hidden\r\n"]
    {
        assert_eq!(client(odd), "127.0.0.1", "{odd:?}");
    }
}

#[test]
fn a_closed_path_stays_closed_over_http2_and_in_absolute_form() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path_prefix: /admin }}, respond: {{ status: 403, body: closed }} }}\n\
         - {{ match: {{ path_prefix: / }}, service: app }}\n",
        backend.url()
    ));
    let spellings = [
        "/admin",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/%61dmin/x",
        "/admin;x",
        "/admin/..;/admin",
    ];
    for path in spellings {
        let mut frames = e2e::frames::Frames::connect(gateway.address());
        frames.settled();
        frames.headers(1, &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)], true);
        let over_http2 = frames.outcome(1);
        let absolute =
            gateway.connect().send(format!("GET http://a{path} HTTP/1.1\r\nHost: a\r\n\r\n")).reply().status();
        // `;x` makes another segment, which belongs to the service; it is forwarded as it was matched.
        let refused = |status: u16| status == 403 || status == 400 || (path.contains(';') && status == 200);
        assert!(matches!(over_http2, e2e::frames::Outcome::Status(s) if refused(s)), "{path}: {over_http2:?}");
        assert!(refused(absolute), "{path}: {absolute}");
    }
    for seen in backend.requests() {
        assert_eq!(seen.head.target(), "/admin;x");
    }
}

#[test]
fn the_scheme_is_that_of_the_connection_whatever_the_client_writes() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&forward(backend.address()));
    let mut client = gateway.connect();
    let reply = client.send("GET https://example.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n").reply();
    if reply.status() == 200 {
        assert_eq!(fields(&reply.json(), "x-forwarded-proto"), ["http"]);
    }
    let mut frames = e2e::frames::Frames::connect(gateway.address());
    frames.settled();
    let secure = [(":method", "GET"), (":scheme", "https"), (":authority", "example.test"), (":path", "/")];
    frames.headers(1, &secure, true);
    frames.outcome(1);
    for seen in backend.requests() {
        assert_eq!(seen.field("x-forwarded-proto"), Some("http"));
        assert!(!seen.field("forwarded").unwrap_or_default().contains("https"), "{seen:?}");
    }
}

#[test]
fn routes_by_client_address_go_by_the_address_that_is_trusted() {
    let routes = "routes:\n- { match: { path: /, client_ip: 10.0.0.0/8 }, respond: { status: 200, body: inside } }\n\
                  - { match: { path: / }, respond: { status: 200, body: outside } }\n";
    let spoofed = "X-Forwarded-For: 10.1.2.3\r\nX-Real-IP: 10.1.2.3\r\nForwarded: for=10.1.2.3\r\n";
    let gateway = Gateway::run(routes);
    assert_eq!(gateway.connect().get_with("/", spoofed).text(), "outside");
    let gateway = Gateway::run(&(server("trusted_proxies: 127.0.0.1") + routes));
    assert_eq!(gateway.connect().get_with("/", "X-Forwarded-For: 10.1.2.3\r\n").text(), "inside");
    assert_eq!(gateway.connect().get_with("/", "X-Forwarded-For: 10.1.2.3, 6.6.6.6\r\n").text(), "outside");
}

#[test]
fn the_admin_listener_wants_its_token() {
    let gateway = Gateway::run(
        "admin: { host: 127.0.0.1, port: 0, token: sesame-open }\n\
         routes: [{ match: { path: / }, respond: { status: 200, body: pong } }]\n",
    );
    let address = gateway.admin();
    let ask = |fields: &str| {
        let request = format!("GET /config HTTP/1.1\r\nHost: {address}\r\n{fields}Connection: close\r\n\r\n");
        e2e::Client::connect(address).send(request).reply()
    };
    let refused = ask("");
    assert_eq!(refused.status(), 401);
    assert!(refused.field("www-authenticate").is_some(), "RFC 9110 section 11.6.1: {:?}", refused.head);
    assert_eq!(ask("Authorization: Bearer wrong\r\n").status(), 401);
    assert_eq!(ask("Authorization: Basic sesame-open\r\n").status(), 401);
    let shown = ask("Authorization: Bearer sesame-open\r\n");
    assert_eq!(shown.status(), 200);
    assert!(!shown.text().contains("sesame-open"), "a secret was shown");
    assert_eq!(ask("Authorization: bearer sesame-open\r\n").status(), 200, "schemes have no case");
}
