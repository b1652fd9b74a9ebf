//! Ways around the policies of a route: other spellings of its path, other hosts, routes that say nothing, and the admin listener.

use e2e::certs::{Authority, connect};
use e2e::frames::{Frames, Outcome};
use e2e::gateway::tidegate;
use e2e::{Backend, Client, Folder, Gateway, Plan};

use super::{AUTH, code, with_key};

/// `/admin` needs a role that nobody has, `/api` has its prefix taken away, and all else is open.
fn closed_admin(backend: &Backend) -> String {
    format!(
        "{AUTH}services: {{ app: {{ url: \"{}\" }} }}
routes:
  - {{ match: {{ path_prefix: /admin }}, service: app, auth: keys, require: {{ roles: [admin] }} }}
  - {{ match: {{ path_prefix: /api }}, service: app, rewrite: {{ strip_prefix: /api }}, auth: none }}
  - {{ match: {{ path_prefix: / }}, service: app, auth: none }}
",
        backend.url()
    )
}

#[test]
fn no_spelling_of_a_path_goes_around_its_policies() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&closed_admin(&backend));
    let ambiguous = [400];
    for (target, statuses) in [
        ("/admin", &[403][..]),
        ("/admin/", &[403]),
        ("/admin/1", &[403]),
        ("/admin?x=/open", &[403]),
        ("//admin/1", &[403]),
        ("///admin//1", &[403]),
        ("/./admin/1", &[403]),
        ("/x/../admin/1", &[403]),
        ("/x/%2e%2e/admin/1", &[403]),
        ("/x/.%2E/admin/1", &[403]),
        ("/%61dmin/1", &[403]),
        ("/%61%64%6d%69%6e", &[403]),
        ("/admin/.", &[403]),
        ("/admin/x/..", &[403]),
        ("/x%2f..%2fadmin", &ambiguous),
        ("/x/..%2fadmin", &ambiguous),
        ("/%2fadmin", &ambiguous),
        ("/x%5c..%5cadmin", &ambiguous),
        ("/x\\..\\admin", &ambiguous),
        ("/admin%00", &ambiguous),
        ("/%00/admin", &ambiguous),
        ("/x/..;/admin", &ambiguous),
        ("/x/..;a=b/admin", &ambiguous),
        ("/x/%252e%252e/admin", &ambiguous),
        ("/x/%c0%ae%c0%ae/admin", &ambiguous),
        ("/x/%25c0%25ae%25c0%25ae/admin", &ambiguous),
        ("/x/%2e%2e;/admin", &ambiguous),
        ("/../admin", &ambiguous),
        ("/admin%20", &[200]),
        ("/admin;x", &[200]),
        ("/Admin", &[200]),
        ("/administrator", &[200]),
    ] {
        let reply = with_key(&gateway, target, "");
        assert!(statuses.contains(&reply.status()), "{target}: {} {}", reply.status(), reply.text());
        let absolute = format!("GET http://example.test{target} HTTP/1.1\r\nHost: example.test\r\n\r\n");
        let status = gateway.connect().send(absolute).reply().status();
        assert!(status != 200 || statuses == [200], "{target} in absolute form: {status}");
        let mut frames = Frames::connect(gateway.address());
        frames.settled();
        frames.headers(1, &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", target)], true);
        let over_http2 = frames.outcome(1);
        assert!(over_http2 != Outcome::Status(200) || statuses == [200], "{target} over HTTP/2: {over_http2:?}");
    }
    // What nobody refused went on as exactly what was matched: no other name for the closed path.
    for request in backend.requests() {
        let path = request.head.target();
        assert!(["/admin%20", "/admin;x", "/Admin", "/administrator"].contains(&path), "{path}");
    }
}

#[test]
fn what_is_left_of_a_path_without_its_prefix_is_a_path() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&closed_admin(&backend));
    for (target, forwarded) in [
        ("/api", Some("/")),
        ("/api/x", Some("/x")),
        ("/api//evil.test/x", Some("/evil.test/x")),
        ("/api///evil.test", Some("/evil.test")),
        ("/api/http://evil.test/", Some("/http:/evil.test/")),
        ("/api/../admin", None),
        ("/api/%2e%2e/admin", None),
        ("/api/..%2fadmin", None),
        ("/api/..;/admin", None),
        ("/api%2fadmin", None),
    ] {
        let reply = gateway.get(target);
        match forwarded {
            Some(path) => assert_eq!(reply.json()["target"], path, "{target}"),
            None => assert!([400, 401, 403].contains(&reply.status()), "{target}: {}", reply.status()),
        }
    }
}

#[test]
fn other_spellings_of_a_path_count_towards_the_same_limit() {
    let backend = Backend::echo();
    let yaml = format!(
        "services: {{ app: {{ url: \"{}\" }} }}
routes: [{{ match: {{ path: \"/reset/{{user}}\" }}, service: app, rate_limit: {{ each: {{ rate: 1/h, key: \"path:user\" }} }} }}]
",
        backend.url()
    );
    let gateway = Gateway::run(&yaml);
    assert_eq!(gateway.get("/reset/ann").status(), 200);
    for again in
        ["/reset/ann", "/reset/%61nn", "/reset/%61%6E%6e", "//reset/ann", "/x/../reset/ann", "/reset/./ann?b=c"]
    {
        assert_eq!(gateway.get(again).status(), 429, "{again}");
    }
    assert_eq!(gateway.get("/reset/bob").status(), 200);
}

#[test]
fn a_route_that_says_nothing_is_no_open_door() {
    let folder = Folder::new();
    let services = "services: { app: { url: http://127.0.0.1:1 } }";
    for (server, route, problem) in [
        ("require_auth: true", "{ match: { path: /a }, service: app }", "does not say who may call"),
        ("require_auth: true", "{ match: { path: /a }, respond: { body: x } }", "does not say who may call"),
        ("", "{ match: { path: /a }, service: app, require: { roles: [admin] } }", "nobody is known"),
        ("", "{ match: { path: /a }, service: app, auth: none, require: { roles: [a] } }", "nobody is known"),
        ("", "{ match: { path: /a }, service: app, auth: kys }", "there is no way `kys`"),
        ("", "{ match: { path: /a }, service: app, auth: [] }", "names no way"),
        ("", "{ match: { path: /a }, service: app, auth: [none, keys] }", "`none` stands alone"),
        ("", "{ match: { path: /a }, service: app, auth: keys, require: {} }", "says nothing"),
        ("", "{ match: { path: /a }, service: app, auth: keys, require: { role: [a] } }", "unknown key `role`"),
        ("", "{ match: { path: /a }, service: app, atuh: keys }", "unknown key `atuh`"),
        ("", "{ match: { path: /a }, service: app, ip: { allow: [] } }", "names nobody"),
    ] {
        let yaml = format!("server: {{ host: 127.0.0.1, {server} }}\n{AUTH}{services}\nroutes: [{route}]\n");
        let file = folder.write("gateway.yaml", yaml);
        let checked = tidegate(&["check", file.to_str().expect("a plain path")], &[]);
        assert!(checked.code == 1 && checked.errors.contains(problem), "{route}: {}", checked.errors);
    }
    let backend = Backend::echo();
    let needs = "require: { methods: { POST: { roles: [deploy] } } }";
    let gateway =
        Gateway::run(&format!("{AUTH}{}", e2e::forward_with(backend.address(), "", &format!("auth: keys, {needs}"))));
    assert_eq!(with_key(&gateway, "/", "").status(), 403, "a method of which nothing is said");
    assert!(backend.requests().is_empty());
}

#[test]
fn one_host_decides_whose_policies_hold() {
    let backend = Backend::echo();
    let yaml = format!(
        "{AUTH}services: {{ app: {{ url: \"{}\" }} }}
routes:
  - {{ match: {{ host: secret.test }}, service: app, auth: keys }}
  - {{ match: {{ host: open.test }}, service: app, auth: none }}
",
        backend.url()
    );
    let gateway = Gateway::run(&yaml);
    for (lines, statuses) in [
        ("GET / HTTP/1.1\r\nHost: secret.test", &[401][..]),
        ("GET / HTTP/1.1\r\nHost: SECRET.TEST:8080", &[401]),
        ("GET / HTTP/1.1\r\nHost: secret.test.", &[401, 400, 404]),
        ("GET http://secret.test/ HTTP/1.1\r\nHost: open.test", &[401, 400]),
        ("GET http://open.test/ HTTP/1.1\r\nHost: secret.test", &[200, 400]),
        ("GET / HTTP/1.1\r\nHost: open.test\r\nHost: secret.test", &[400]),
        ("GET / HTTP/1.1\r\nHost: secret.test\r\nHost: open.test", &[400]),
        ("GET / HTTP/1.1\r\nHost: open.test, secret.test", &[400]),
        ("GET / HTTP/1.1\r\nHost: open.test@secret.test", &[400]),
        ("GET / HTTP/1.1\r\nHost: open.test/secret.test", &[400]),
        ("GET / HTTP/1.1\r\nHost:", &[400, 404]),
        ("GET / HTTP/1.1\r\nX-Forwarded-Host: open.test\r\nHost: secret.test", &[401]),
    ] {
        let reply = gateway.connect().send(format!("{lines}\r\nConnection: close\r\n\r\n")).reply();
        assert!(statuses.contains(&reply.status()), "{lines}: {}", reply.status());
    }
    let mut frames = Frames::connect(gateway.address());
    frames.settled();
    let two =
        [(":method", "GET"), (":scheme", "http"), (":authority", "open.test"), (":path", "/"), ("host", "secret.test")];
    frames.headers(1, &two, true);
    assert!(!matches!(frames.outcome(1), Outcome::Status(401)), "refused, or as `open.test`");
    // Whatever was let through was told the name that decided.
    for request in backend.requests() {
        assert_eq!(request.head.fields.values("host"), ["open.test"]);
    }
}

#[test]
fn a_certificate_for_one_host_opens_no_other() {
    let (ca, clients) = (Authority::new(), Authority::new());
    let plan = Plan::new();
    plan.folder().write("clients.pem", clients.pem());
    ca.sign(&["a.test", "b.test"]).write(plan.folder(), "gw");
    let gateway = plan.run(
        "server:
  host: 127.0.0.1
  port: 0
  workers: 1
  tls: { certificates: [{ cert: gw.pem, key: gw.key }], client_ca: clients.pem, client_auth: optional }
auth: { machines: { client_cert: { user: subject } } }
routes:
  - { match: { host: a.test }, auth: none, respond: { body: open } }
  - { match: { host: b.test }, auth: machines, respond: { body: closed } }
",
    );
    let robot = clients.sign(&["robot"]);
    for (identity, name, host, expected) in [
        (None, "a.test", "a.test", 200),
        (None, "b.test", "b.test", 401),
        (None, "a.test", "b.test", 421),
        (Some(&robot), "b.test", "b.test", 200),
        (Some(&robot), "a.test", "b.test", 421),
    ] {
        let mut tls = connect(gateway.address(), &ca.client(&[], identity), name).expect("a handshake");
        let status = tls.client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).reply().status();
        assert_eq!(status, expected, "{name} in TLS, {host} in HTTP");
    }
}

#[test]
fn the_admin_listener_is_reached_by_its_own_name_and_with_its_token_alone() {
    let backend = Backend::echo();
    let admin = "admin: { host: 127.0.0.1, port: 0, token: a-token-of-the-admins }\n";
    let gateway = Gateway::run(&format!("{admin}{AUTH}{}", e2e::forward_with(backend.address(), "", "auth: keys")));
    let address = gateway.admin();
    let ask = |line: &str, fields: &str| {
        let request = format!("{line} HTTP/1.1\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n");
        Client::connect(address).send(request).reply()
    };
    let host = format!("Host: {address}\r\n");
    for (line, fields, statuses) in [
        ("GET /config", host.clone(), &[401][..]),
        ("GET /keys", host.clone(), &[401, 404]),
        ("POST /reload", host.clone(), &[401, 404, 405]),
        ("GET /config", format!("{host}Authorization: Bearer a-token-of-the-admin\r\n"), &[401]),
        ("GET /config", format!("{host}Authorization: Bearer a-token-of-the-adminsx\r\n"), &[401]),
        ("GET /config?token=a-token-of-the-admins", host.clone(), &[401]),
        (
            "GET /config",
            "Host: evil.test\r\nAuthorization: Bearer a-token-of-the-admins\r\n".to_owned(),
            &[400, 403, 421],
        ),
        ("GET //config", host.clone(), &[401, 404]),
        ("GET /metrics/../config", host.clone(), &[400, 401, 404]),
        ("GET /metrics/%2e%2e/config", host.clone(), &[400, 401, 404]),
    ] {
        let reply = ask(line, &fields);
        assert!(statuses.contains(&reply.status()), "{line}: {} {}", reply.status(), reply.text());
    }
    let shown = ask("GET /config", &format!("{host}Authorization: Bearer a-token-of-the-admins\r\n"));
    assert_eq!(shown.status(), 200);
    for secret in ["a-token-of-the-admins", super::KEY] {
        assert!(!shown.text().contains(secret), "{secret} is shown");
    }
    for target in ["/config", "/metrics", "/healthz", "/keys"] {
        assert_eq!(code(&gateway.get(target)), "credential_missing", "{target} is one of the route's paths");
    }
    let absolute = format!("GET http://{address}/config HTTP/1.1\r\nHost: {address}\r\n\r\n");
    assert_eq!(code(&gateway.connect().send(absolute).reply()), "credential_missing");
    assert!(backend.requests().is_empty());
}
