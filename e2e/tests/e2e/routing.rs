//! Routing as users write it: the most specific wins, methods, redirects, fixed answers, rewrites, splits.

use e2e::{Backend, Gateway};

/// A gateway whose routes answer with their own names: `(name, match)` pairs.
fn named(routes: &[(&str, &str)]) -> Gateway {
    let rows: String = routes
        .iter()
        .map(|(name, matches)| {
            format!("- {{ name: {name}, match: {{ {matches} }}, respond: {{ status: 200, body: {name} }} }}\n")
        })
        .collect();
    Gateway::run(&format!("routes:\n{rows}"))
}

#[test]
fn the_most_specific_route_wins_whatever_the_order() {
    let mut routes = vec![
        ("any", "path_prefix: /"),
        ("api", "path_prefix: /api"),
        ("rest", "path: \"/api/{rest...}\""),
        ("parameter", "path: \"/api/users/{id}\""),
        ("regex", "path: \"/api/users/{id:[0-9]+}\""),
        ("literal", "path: /api/users/me"),
        ("posted", "path: /api/users/me, methods: [POST]"),
        ("hosted", "host: api.test, path_prefix: /"),
        ("wild", "host: \"*.test\", path_prefix: /"),
        ("header", "path: /api/users/me, headers: { x-beta: present }"),
        ("query", "path: /api/users/me, query: { debug: present }"),
    ];
    for _ in 0..2 {
        let gateway = named(&routes);
        let ask = |method: &str, host: &str, target: &str, fields: &str| {
            gateway.connect().send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")).reply().text()
        };
        assert_eq!(ask("GET", "x", "/api/users/me", ""), "literal");
        assert_eq!(ask("POST", "x", "/api/users/me", ""), "posted");
        assert_eq!(ask("GET", "x", "/api/users/me", "X-Beta: 1\r\n"), "header");
        assert_eq!(ask("GET", "x", "/api/users/me?debug", ""), "query");
        assert_eq!(ask("GET", "x", "/api/users/42", ""), "regex");
        assert_eq!(ask("GET", "x", "/api/users/ann", ""), "parameter");
        assert_eq!(ask("GET", "x", "/apix", ""), "any", "a prefix goes by segments");
        assert_eq!(ask("GET", "x", "/other", ""), "any");
        assert_eq!(ask("GET", "api.test", "/api/users/me", ""), "hosted", "host goes before path");
        assert_eq!(ask("GET", "b.test", "/api/users/me", ""), "wild");
        assert_eq!(ask("GET", "a.b.test", "/x", ""), "wild");
        assert_eq!(ask("GET", "test", "/x", ""), "any", "the wildcard needs a label");
        routes.reverse();
    }
}

#[test]
fn priority_goes_before_everything() {
    let gateway = named(&[("exact", "path: /a"), ("first", "path_prefix: /")]);
    assert_eq!(gateway.get("/a").text(), "exact");
    let gateway = Gateway::run(
        "routes:\n- { match: { path: /a }, respond: { status: 200, body: exact } }\n\
         - { priority: 10, match: { path_prefix: / }, respond: { status: 200, body: first } }\n",
    );
    assert_eq!(gateway.get("/a").text(), "first");
}

#[test]
fn a_pattern_matches_whole_segments_and_literals_are_literal() {
    let gateway = named(&[
        ("user", "path: \"/users/{id}\""),
        ("file", "path: \"/files/{name}.json\""),
        ("below", "path: \"/below/*\""),
        ("dots", "path: /a.b"),
        ("paren", "path: \"/a(b)\""),
        ("slash", "path: /slash/"),
    ]);
    let ask = |target: &str| gateway.get(target);
    assert_eq!(ask("/users/1").text(), "user");
    assert_eq!(ask("/users/idx").text(), "user");
    for none in
        ["/users/", "/users", "/users/1/2", "/xusers/1", "/users/1x/", "/below", "/below/", "/axb", "/slash", "/ab"]
    {
        assert_eq!(ask(none).status(), 404, "{none}");
    }
    assert_eq!(ask("/files/x.json").text(), "file");
    assert_eq!(ask("/below/x/y").text(), "below");
    assert_eq!(ask("/a.b").text(), "dots");
    assert_eq!(ask("/a(b)").text(), "paren");
    assert_eq!(ask("/slash/").text(), "slash");
}

#[test]
fn methods_head_options_and_405() {
    let gateway = named(&[
        ("read", "path: /a, methods: [GET]"),
        ("write", "path: /a, methods: [PUT, DELETE]"),
        ("any", "path: /b"),
    ]);
    let mut client = gateway.connect();
    let mut ask =
        |method: &str, path: &str| client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")).reply_to(method);
    assert_eq!(ask("GET", "/a").text(), "read");
    let head = ask("HEAD", "/a");
    assert_eq!((head.status(), head.field("content-length")), (200, Some("4")), "HEAD follows GET");
    assert_eq!(ask("DELETE", "/a").text(), "write");
    let refused = ask("POST", "/a");
    assert_eq!(refused.status(), 405);
    let allow = refused.field("allow").expect("Allow").to_owned();
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        assert!(allow.split(", ").any(|m| m == method), "{allow}");
    }
    assert!(!allow.contains("POST"), "{allow}");
    let options = ask("OPTIONS", "/a");
    assert_eq!((options.status(), options.field("allow").is_some()), (204, true));
    assert_eq!(ask("BREW", "/b").text(), "any", "unknown methods are methods");
    assert_eq!(ask("GET", "/none").status(), 404);
    assert_eq!(ask("POST", "/none").status(), 404, "405 only where the path exists");
}

#[test]
fn the_server_as_a_whole_can_be_asked_for_its_options() {
    let gateway = named(&[("a", "path: /a")]);
    let reply = gateway.connect().send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").reply();
    assert!([200, 204, 404, 405].contains(&reply.status()), "{:?}", reply.head);
}

#[test]
fn redirects_say_where_to() {
    let gateway = Gateway::run(
        "routes:\n- { match: { path_prefix: /old }, redirect: { to: \"/api/{path.rest}\", status: 308 } }\n\
         - { match: { path: \"/u/{id}\" }, redirect: { to: \"https://{request.host}/users/{path.id}\", status: 301 } }\n\
         - { match: { path: /plain }, redirect: { to: /elsewhere } }\n",
    );
    let mut client = gateway.connect();
    let mut ask = |target: &str| {
        let reply = client.get(target);
        (reply.status(), reply.field("location").unwrap_or_default().to_owned())
    };
    assert_eq!(ask("/old/a/b"), (308, "/api/a/b".into()));
    assert_eq!(ask("/u/7"), (301, "https://example.test/users/7".into()));
    assert_eq!(ask("/plain"), (308, "/elsewhere".into()));
}

#[test]
fn a_redirect_cannot_be_bent_by_the_client() {
    let gateway = Gateway::run(
        "routes:\n- { match: { path_prefix: /old }, redirect: { to: \"/{path.rest}\" } }\n\
         - { match: { path: /q }, redirect: { to: \"/to?x={query.x}\" } }\n",
    );
    let mut client = gateway.connect();
    for target in
        ["/old//evil.test", "/old/%2f%2fevil.test", "/old/%0d%0aX-Evil:1", "/q?x=%0d%0aX-Evil:%201", "/q?x=a%0d%0a"]
    {
        let reply = client.get(target);
        assert!(reply.field("x-evil").is_none(), "{target}: {:?}", reply.head);
        let location = reply.field("location").unwrap_or_default();
        assert!(!location.starts_with("//"), "{target} leaves the site: {location}");
        if !(300..400).contains(&reply.status()) {
            assert!([400, 500].contains(&reply.status()), "{target}: {:?}", reply.head);
        }
    }
}

#[test]
fn fixed_answers_have_their_status_fields_and_type() {
    let gateway = Gateway::run(
        "routes:\n- { match: { path: /text }, respond: { status: 200, body: pong } }\n\
         - { match: { path: /json }, respond: { status: 503, body: '{\"error\":\"closed\"}', headers: { retry-after: \"5\" } } }\n\
         - { match: { path: /empty }, respond: { status: 204 } }\n",
    );
    let mut client = gateway.connect();
    let text = client.get("/text");
    assert!(text.field("content-type").is_some_and(|t| t.starts_with("text/plain")), "{:?}", text.head);
    let json = client.get("/json");
    assert_eq!(
        (json.status(), json.field("content-type"), json.field("retry-after")),
        (503, Some("application/json"), Some("5"))
    );
    assert_eq!(client.get("/empty").status(), 204);
    let head = client.send("HEAD /text HTTP/1.1\r\nHost: a\r\n\r\n").reply_to("HEAD");
    assert_eq!((head.status(), head.field("content-length")), (200, Some("4")));
    assert_eq!(client.get("/text").text(), "pong");
}

#[test]
fn rewrites_change_what_the_service_sees() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path_prefix: /api }}, service: app, rewrite: {{ strip_prefix: /api }} }}\n\
         - {{ match: {{ path: \"/u/{{id}}\" }}, service: app, rewrite: {{ path: \"/v2/users/{{path.id}}\", host: users.internal }} }}\n\
         - {{ match: {{ path_prefix: /q }}, service: app, rewrite: {{ query: {{ set: {{ added: \"{{request.host}}\" }}, remove: [secret] }} }} }}\n",
        backend.url()
    ));
    let mut client = gateway.connect();
    for (sent, seen) in [
        ("/api/orders?x=1", "/orders?x=1"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/u/7?x=1", "/v2/users/7?x=1"),
        ("/u/a%20b", "/v2/users/a%20b"),
        ("/q?secret=1&b=2&secret=3", "/q?b=2&added=example.test"),
        ("/q?added=no", "/q?added=example.test"),
    ] {
        let reply = client.get(sent);
        assert_eq!(reply.status(), 200, "{sent}: {}", reply.text());
        assert_eq!(reply.json()["target"], seen, "{sent}");
    }
    let told = client.get("/u/7").json();
    let hosts: Vec<_> =
        told["fields"].as_array().unwrap().iter().filter(|f| f[0] == "Host" || f[0] == "host").collect();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0][1], "users.internal");
    backend.assert_well_formed("rewrites");
}

#[test]
fn stripping_a_prefix_never_makes_another_authority() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&format!(
        "services: {{ app: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path_prefix: /api }}, service: app, rewrite: {{ strip_prefix: /api }} }}\n",
        backend.url()
    ));
    for target in ["/api//evil.test/x", "/api/%2e%2e/x", "/api/..%2f", "/api/.//evil.test", "/api/;/x"] {
        let reply = gateway.get(target);
        if reply.status() == 200 {
            let told = reply.json();
            let seen = told["target"].as_str().unwrap();
            assert!(seen.starts_with('/') && !seen.starts_with("//") && !seen.contains(".."), "{target} became {seen}");
        } else {
            assert!([400, 404].contains(&reply.status()), "{target}: {:?}", reply.head);
        }
    }
}

#[test]
fn a_split_goes_by_weight() {
    let backends = [Backend::labelled("a"), Backend::labelled("b")];
    let gateway = Gateway::run(&format!(
        "services: {{ a: {{ url: \"{}\" }}, b: {{ url: \"{}\" }} }}\nroutes:\n\
         - {{ match: {{ path_prefix: /most }}, split: [{{ service: a, weight: 75 }}, {{ service: b, weight: 25 }}] }}\n\
         - {{ match: {{ path_prefix: /all }}, split: [{{ service: a, weight: 0 }}, {{ service: b, weight: 1 }}] }}\n",
        backends[0].url(),
        backends[1].url()
    ));
    let mut client = gateway.connect();
    let first = (0..400).filter(|_| client.get("/most").text() == "a").count();
    assert!((200..400).contains(&first), "{first} of 400 went to the first");
    assert!((0..20).all(|_| client.get("/all").text() == "b"));
}

#[test]
fn conditions_on_cookies_addresses_and_listeners() {
    let gateway = Gateway::run(
        "server:\n  workers: 1\n  listeners:\n  - { name: default, host: 127.0.0.1, port: 0 }\n  \
         - { name: inner, host: 127.0.0.1, port: 0 }\nroutes:\n\
         - { match: { path: /, listener: inner }, respond: { status: 200, body: inner } }\n\
         - { match: { path: /, cookies: { ab: b } }, respond: { status: 200, body: cookie } }\n\
         - { match: { path: /ip, client_ip: 127.0.0.0/8 }, respond: { status: 200, body: local } }\n\
         - { match: { path: /far, client_ip: 10.0.0.0/8 }, respond: { status: 200, body: far } }\n",
    );
    assert_eq!(e2e::Client::connect(gateway.listener("inner")).get("/").text(), "inner");
    assert_eq!(gateway.connect().get_with("/", "Cookie: x=y; ab=b\r\n").text(), "cookie");
    assert_eq!(gateway.connect().get_with("/", "Cookie: ab=bb\r\n").status(), 404);
    assert_eq!(gateway.get("/ip").text(), "local");
    assert_eq!(gateway.get("/far").status(), 404);
}

#[test]
fn everything_on_a_plain_listener_can_be_sent_to_https() {
    let gateway = Gateway::run(
        "server:\n  workers: 1\n  listeners:\n  - { name: default, host: 127.0.0.1, port: 0, http_to_https: true }\n\
         routes: [{ match: { path_prefix: / }, respond: { status: 200, body: plain } }]\n",
    );
    let reply = gateway.get("/a/b?c=d");
    assert_eq!(reply.status(), 308);
    let location = reply.field("location").expect("Location");
    assert!(location.starts_with("https://example.test") && location.ends_with("/a/b?c=d"), "{location}");
}

#[test]
fn headers_and_queries_match_by_value_regex_presence_and_absence() {
    let gateway = named(&[
        ("exact", "path: /h, headers: { x-channel: web, x-beta: { regex: \"^v[0-9]$\" }, x-old: absent }"),
        ("query", "path: /q, query: { mode: full, page: { regex: \"^[0-9]+$\" }, debug: absent }"),
    ]);
    let ask = |target: &str, fields: &str| gateway.connect().get_with(target, fields).status();
    assert_eq!(ask("/h", "X-Channel: web\r\nX-Beta: v1\r\n"), 200);
    for miss in [
        "X-Channel: web\r\n",
        "X-Channel: Web\r\nX-Beta: v1\r\n",
        "X-Channel: web\r\nX-Beta: v12\r\n",
        "X-Channel: web\r\nX-Beta: xv1\r\n",
        "X-Channel: web\r\nX-Beta: v1\r\nX-Old: 1\r\n",
    ] {
        assert_eq!(ask("/h", miss), 404, "{miss:?}");
    }
    assert_eq!(ask("/q?mode=full&page=12", ""), 200);
    assert_eq!(ask("/q?page=1&x=y&mode=full", ""), 200, "in any order");
    for miss in [
        "/q",
        "/q?mode=full",
        "/q?mode=half&page=1",
        "/q?mode=full&page=a",
        "/q?mode=full&page=1&debug",
        "/q?xmode=full&page=1",
    ] {
        assert_eq!(ask(miss, ""), 404, "{miss}");
    }
}

#[test]
fn cookies_in_several_fields_of_http2_are_matched() {
    let gateway = Gateway::run(
        "routes:\n- { match: { path: /, cookies: { ab: b } }, respond: { status: 200, body: cookie } }\n\
         - { match: { path: / }, respond: { status: 200, body: none } }\n",
    );
    let client = e2e::http2::H2Client::connect(gateway.address());
    let ask = |crumbs: &[&str]| {
        let request = crumbs.iter().fold(http::Request::get("http://a.test/"), |r, crumb| r.header("cookie", *crumb));
        client.send(request.body(()).unwrap(), true).reply().body
    };
    assert_eq!(ask(&["x=y", "ab=b"]), "cookie");
    assert_eq!(ask(&["ab=c", "x=ab=b"]), "none");
}

#[test]
fn connect_is_never_answered_with_success() {
    let gateway = Gateway::run("routes: [{ match: { path_prefix: / }, respond: { status: 200, body: pong } }]\n");
    for target in ["a.test:443", "/", "/a"] {
        let reply = gateway.connect().send(format!("CONNECT {target} HTTP/1.1\r\nHost: a.test:443\r\n\r\n")).reply();
        assert!(reply.status() >= 400, "a client would take it for a tunnel: {:?}", reply.head);
    }
}

#[test]
fn refusals_of_head_have_no_body_and_leave_the_connection_in_step() {
    let gateway = named(&[("posted", "path: /posted, methods: [POST]"), ("pong", "path: /pong")]);
    let mut client = gateway.connect();
    for (path, status) in [("/none", 404), ("/posted", 405), ("/pong", 200)] {
        let reply = client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")).reply_to("HEAD");
        assert_eq!(reply.status(), status);
        assert_eq!(client.get("/pong").text(), "pong");
    }
}
