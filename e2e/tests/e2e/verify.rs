//! Callers whom somebody else knows: a real nginx that is asked as its own `auth_request` would be, and services that go away, hang,
//! come back and are asked for tokens.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use e2e::backend::{Conn, ok};
use e2e::provider::Provider;
use e2e::tools::Nginx;
use e2e::wire::Message;
use e2e::{Backend, Gateway};

/// What a real service does: it knows Ann, refuses Bob, and sends nobody in particular to the login.
const NGINX: &str = r#"
location = /auth/verify {
    if ($http_authorization = "Bearer ann") { add_header X-User-Id ann; add_header X-User-Roles "admin, dev"; return 200; }
    if ($http_authorization = "Bearer bob") { return 403; }
    if ($http_authorization = "Bearer old") { return 302 https://login.test/?from=$http_x_forwarded_uri; }
    add_header WWW-Authenticate 'Bearer realm="nginx"' always;
    return 401;
}"#;

/// A gateway that asks `auth` about what is for `app`.
fn gateway(auth: &str, verify: &str, app: &Backend) -> Gateway {
    Gateway::run(&yaml(auth, verify, app))
}

fn yaml(auth: &str, verify: &str, app: &Backend) -> String {
    format!(
        "auth: {{ central: {{ verify: {{ service: auth, path: /auth/verify, {verify} }} }} }}
services: {{ auth: {{ url: \"{auth}\" }}, app: {{ url: \"{}\" }} }}
routes:
  - {{ match: {{ path_prefix: /admin }}, service: app, auth: central, require: {{ roles: [admin] }} }}
  - {{ match: {{ path_prefix: /open }}, service: app, auth: none }}
  - {{ match: {{ path_prefix: / }}, service: app, auth: central }}
",
        app.url()
    )
}

fn with(gateway: &Gateway, target: &str, token: &str) -> Message {
    gateway.connect().get_with(target, &format!("authorization: Bearer {token}\r\n"))
}

fn code(reply: &Message) -> (u16, String) {
    (reply.status(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn said(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Answers every request with 200 and these fields.
fn knows(fields: &'static str) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    move |conn| {
        while conn.request().is_some() && conn.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n")) {}
    }
}

#[test]
fn a_real_nginx_says_who_callers_are() {
    let (nginx, app) = (Nginx::run(NGINX), Backend::echo());
    let auth = format!("http://{}", nginx.address());
    let gateway = gateway(&auth, "redirects: on, headers_to_service: [x-user-id]", &app);
    let forged = "authorization: Bearer ann\r\nX-User-Id: root\r\nx_user_id: root\r\nConnection: x-user-id\r\n";
    let known = gateway.connect().get_with("/admin", forged);
    assert_eq!(known.status(), 200);
    let seen = &known.json()["fields"];
    assert!(seen.to_string().contains("[\"x-user-id\",\"ann\"]") && !seen.to_string().contains("root"), "{seen}");
    let open = gateway.connect().get_with("/open", forged).text();
    assert!(!open.contains("root") && !open.contains("x-user-id"), "{open}");

    let unknown = with(&gateway, "/", "eve");
    assert_eq!(code(&unknown), said(401, "credential_invalid"));
    assert_eq!(unknown.field("www-authenticate"), Some("Bearer realm=\"nginx\""));
    assert_eq!(code(&with(&gateway, "/", "bob")), said(403, "forbidden"));
    let missing = gateway.get("/");
    assert_eq!(code(&missing), said(401, "credential_missing"));
    assert_eq!(missing.field("www-authenticate"), Some("Bearer realm=\"central\""));
    let login = with(&gateway, "/a?b=c", "old");
    assert_eq!((login.status(), login.field("location")), (302, Some("https://login.test/?from=/a?b=c")));
    assert_eq!(app.requests().len(), 2);
}

#[test]
fn an_outage_of_the_auth_service_fails_closed_and_ends_when_it_comes_back() {
    let (nginx, app) = (Nginx::run(NGINX), Backend::echo());
    let auth = format!("http://{}", nginx.address());
    let gateway = gateway(&auth, "cache: 10m, tell: [uri]", &app);
    assert_eq!(with(&gateway, "/", "ann").status(), 200);
    nginx.kill();
    let down = with(&gateway, "/other", "ann");
    assert_eq!((code(&down), down.field("retry-after")), (said(503, "auth_unavailable"), Some("1")));
    assert!(!down.text().contains(&nginx.address().to_string()), "{}", down.text());
    assert_eq!(
        code(&with(&gateway, "/", "eve")),
        said(503, "auth_unavailable"),
        "nobody is known, and nobody is refuted"
    );
    assert_eq!(code(&gateway.get("/")), said(401, "credential_missing"), "who shows nothing is told so all the same");
    assert_eq!(with(&gateway, "/", "ann").status(), 200, "who is remembered does not notice");
    gateway.log_line("the outage", |line| line.contains("the service that knows callers does not answer"));
    assert_eq!(app.requests().len(), 2);

    let _revived = Backend::scripted_at(nginx.address(), knows("X-User-Id: ann\r\n"));
    let is_back = |_| with(&gateway, "/other", "ann").status() == 200;
    assert!((0..1000).any(is_back));
    gateway.log_line("the end of it", |line| line.contains("the service that knows callers answers again"));
    gateway.wait_metric("tidegate_auth_unavailable_total", &["way=\"central\""], |count| count >= 2);
    gateway.wait_metric("tidegate_auth_remembered_total", &["way=\"central\""], |count| count >= 1);
    gateway.wait_metric("tidegate_auth_asked_total", &["way=\"central\""], |count| count >= 4);
}

#[test]
fn an_outage_lets_callers_in_only_where_that_is_written_and_gives_them_no_role() {
    let (nowhere, app) = (Backend::echo(), Backend::echo());
    nowhere.kill();
    let gateway = gateway(&nowhere.url(), "on_unavailable: allow", &app);
    assert_eq!(with(&gateway, "/", "anybody").status(), 200);
    assert_eq!(code(&with(&gateway, "/admin", "anybody")), said(403, "forbidden"));
    assert_eq!(code(&gateway.get("/")), said(401, "credential_missing"));
    gateway.wait_metric("tidegate_auth_allowed_unverified_total", &["way=\"central\""], |count| count == 2);
}

#[test]
fn sub_requests_have_nothing_of_the_client_that_was_not_named() {
    let (auth, app) = (Backend::scripted(knows("")), Backend::echo());
    let gateway = gateway(&auth.url(), "headers: [accept-language]", &app);
    let mut client = gateway.connect();
    client.send(
        "POST /x/../a%20b?c=d HTTP/1.1\r\nHost: shop.example.com\r\nAuthorization: Bearer t\r\nContent-Length: 4\r\n\
         Accept-Language: de\r\nCookie: session=1\r\nX-Api-Key: k\r\nTE: trailers\r\nExpect: 100-continue\r\n\
         X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Uri: /forged\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Host: forged\r\n\
         X_Forwarded_Uri: /forged\r\nForwarded: for=1.1.1.1\r\nX-Original-Url: /forged\r\nUpgrade: h2c\r\n\
         Connection: authorization, upgrade, x-forwarded-uri\r\n\r\nbody",
    );
    client.head();
    let asked = auth.assert_well_formed("one question");
    let [asked] = &asked[..] else { panic!("one question: {asked:#?}") };
    let mut fields: Vec<String> =
        asked.head.fields.0.iter().map(|(name, value)| format!("{}: {value}", name.to_lowercase())).collect();
    fields.sort();
    assert_eq!((asked.head.method(), asked.head.target(), &asked.body[..]), ("GET", "/auth/verify", &b""[..]));
    assert_eq!(
        fields,
        [
            "accept-language: de".to_owned(),
            "authorization: Bearer t".to_owned(),
            format!("host: {}", auth.address()),
            "x-forwarded-for: 127.0.0.1".to_owned(),
            "x-forwarded-host: shop.example.com".to_owned(),
            "x-forwarded-method: POST".to_owned(),
            "x-forwarded-proto: http".to_owned(),
            "x-forwarded-uri: /a%20b?c=d".to_owned(),
        ]
    );
}

#[test]
fn the_auth_service_is_told_the_one_path_that_routes_are_found_by_and_not_what_is_made_of_it() {
    let (auth, app) = (Backend::scripted(knows("")), Backend::echo());
    let rewritten = yaml(&auth.url(), "", &app).replace(
        "/open }, service: app, auth: none",
        "/open }, service: app, auth: central, rewrite: { strip_prefix: /open }",
    );
    let gateway = Gateway::run(&rewritten);
    for asked in ["/admin/../open/%61?x=%61&token=t", "/open//./a?x=%61&token=t", "http://h.test/open/a?x=%61&token=t"]
    {
        let request =
            format!("HEAD {asked} HTTP/1.1\r\nHost: h.test\r\nAuthorization: Bearer t\r\nConnection: close\r\n\r\n");
        gateway.connect().send(&request).head();
    }
    let told = auth.requests();
    assert_eq!(told.len(), 3);
    for told in &told {
        let fields = ["x-forwarded-method", "x-forwarded-uri", "x-forwarded-host"].map(|name| told.field(name));
        assert_eq!(fields, [Some("HEAD"), Some("/open/a?x=%61&token=t"), Some("h.test")]);
    }
    let targets: Vec<String> = app.requests().iter().map(|request| request.head.target().to_owned()).collect();
    assert_eq!(targets, ["/a?x=%61&token=t"; 3]);
}

#[test]
fn redirects_of_the_auth_service_are_neither_followed_nor_passed_on() {
    let (elsewhere, app) = (Backend::scripted(knows("")), Backend::echo());
    let reply =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {}/\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    let auth = Backend::replying(reply);
    let gateway = gateway(&auth.url(), "", &app);
    let reply = with(&gateway, "/", "t");
    assert_eq!((code(&reply), reply.field("location")), (said(503, "auth_unavailable"), None));
    assert_eq!((elsewhere.connections(), app.connections()), (0, 0));
}

/// Answers when it may.
fn when_told(told: Receiver<()>, answer: String) -> impl Fn(&mut Conn) + Send + Sync + 'static {
    let told = Arc::new(Mutex::new(told));
    move |conn| {
        while conn.request().is_some() {
            // A test that has ended lets everybody go.
            drop(told.lock().map(|told| told.recv()));
            conn.send(&answer);
        }
    }
}

#[test]
fn all_who_ask_the_same_at_the_same_time_ask_once_on_all_workers_together() {
    let ((tell, told), app) = (channel(), Backend::echo());
    let auth = Backend::scripted(when_told(told, ok("")));
    let workers = "server: { host: 127.0.0.1, port: 0, workers: 2 }\n";
    let gateway = Gateway::run(&format!("{workers}{}", yaml(&auth.url(), "cache: 10m, timeout: 1m", &app)));
    let request = "GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n\r\n";
    let mut clients: Vec<_> = (0..40).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(request);
    }
    auth.wait_requests(1);
    assert!(app.requests().is_empty());
    drop(tell);
    assert!(clients.iter_mut().all(|client| client.reply().status() == 200));
    assert_eq!((auth.requests().len(), app.requests().len()), (1, 40));
}

#[test]
fn whoever_waits_is_served_when_the_client_that_asked_goes_away() {
    let ((tell, told), app) = (channel(), Backend::echo());
    let auth = Backend::scripted(when_told(told, ok("")));
    let gateway = gateway(&auth.url(), "cache: 10m, timeout: 1m", &app);
    let request = "GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n\r\n";
    let mut first = gateway.connect();
    first.send(request);
    auth.wait_requests(1);
    let mut second = gateway.connect();
    second.send(request);
    first.reset();
    auth.wait_requests(2);
    drop(tell);
    assert_eq!(second.reply().status(), 200);
}

#[test]
fn an_auth_service_that_hangs_makes_nobody_wait_for_longer_than_that_is_written() {
    let ((_tell, told), app) = (channel(), Backend::echo());
    let auth = Backend::scripted(when_told(told, ok("")));
    let strict = gateway(&auth.url(), "timeout: 300ms", &app);
    assert_eq!(code(&with(&strict, "/", "t")), said(503, "auth_unavailable"));
    assert!(app.requests().is_empty());
    let open = gateway(&auth.url(), "timeout: 300ms, on_unavailable: allow", &app);
    assert_eq!(with(&open, "/", "t").status(), 200, "that is an outage");
}

#[test]
fn a_refusal_that_is_too_long_or_breaks_off_lets_nobody_in() {
    let app = Backend::echo();
    let long = format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let cut = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 70\r\nConnection: close\r\n\r\nx".to_owned();
    for refusal in [long, cut] {
        let auth = Backend::scripted(move |conn| {
            conn.request();
            conn.send(&refusal);
        });
        let gateway = gateway(&auth.url(), "on_unavailable: allow", &app);
        assert_eq!(code(&with(&gateway, "/", "t")), said(503, "auth_unavailable"));
    }
    assert!(app.requests().is_empty());
}

#[test]
fn a_question_that_breaks_off_is_asked_again() {
    let app = Backend::echo();
    let auth = Backend::scripted(|conn| {
        if conn.index == 0 {
            conn.request();
            return conn.reset();
        }
        knows("X-User-Roles: admin\r\n")(conn);
    });
    let gateway = gateway(&auth.url(), "retry: { attempts: 3, backoff: { base: 1ms } }", &app);
    assert_eq!(with(&gateway, "/admin", "t").status(), 200);
    assert_eq!(auth.requests().len(), 2);
}

/// An issuer who knows the token `mary`, if the gateway proves who it is.
fn issuer(conn: &mut Conn) {
    while let Some(request) = conn.request() {
        // `gw` and `a secret`, both encoded as in forms (RFC 6749, 2.3.1).
        let is_gateway = request.field("authorization") == Some("Basic Z3c6YSUyMHNlY3JldA==");
        let (status, body) = match (is_gateway, request.text().as_str()) {
            (false, _) => ("401 Unauthorized", "{\"error\":\"invalid_client\"}"),
            (true, "token=mary&token_type_hint=access_token") => (
                "200 OK",
                "{\"active\":true,\"sub\":\"mary\",\"aud\":[\"api\"],\"scope\":\"read\",\"exp\":99999999999}",
            ),
            (true, _) => ("200 OK", "{\"active\":false}"),
        };
        conn.send(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }
}

#[test]
fn the_issuer_of_a_token_is_asked_once_and_its_outage_refuses_who_is_not_known() {
    let (idp, app) = (Backend::scripted(issuer), Backend::echo());
    let yaml = format!(
        "auth:
  opaque: {{ introspect: {{ service: idp, path: /introspect, client_id: gw, client_secret: a secret, audiences: api, cache: 10m }} }}
services: {{ idp: {{ url: \"{}\" }}, app: {{ url: \"{}\" }} }}
routes: [{{ match: {{ path_prefix: / }}, service: app, auth: opaque, require: {{ scopes: [read] }}, identity_headers: {{ user: x-user }} }}]
",
        idp.url(),
        app.url()
    );
    let gateway = Gateway::run(&yaml);
    for _ in 0..3 {
        let known = with(&gateway, "/", "mary");
        assert!(known.status() == 200 && known.text().contains("[\"x-user\",\"mary\"]"), "{}", known.text());
    }
    assert_eq!(idp.assert_well_formed("a question").len(), 1);
    let unknown = with(&gateway, "/", "eve");
    assert_eq!(code(&unknown), said(401, "credential_invalid"));
    assert_eq!(unknown.field("www-authenticate"), Some("Bearer realm=\"opaque\", error=\"invalid_token\""));
    idp.kill();
    assert_eq!(code(&with(&gateway, "/", "joe")), said(503, "auth_unavailable"));
    assert_eq!(with(&gateway, "/", "mary").status(), 200);
    let wrong = yaml.replace("a secret", "another");
    let idp = Backend::scripted_at(idp.address(), issuer);
    let gateway = Gateway::run(&wrong);
    assert_eq!(code(&with(&gateway, "/", "mary")), said(503, "auth_unavailable"));
    assert_eq!(idp.requests().len(), 1);
}

#[test]
fn a_token_of_a_real_provider_is_known_by_asking_it_and_remembered_when_it_is_gone() {
    let (mut idp, app) = (Provider::run(), Backend::echo());
    let gateway = Gateway::run(&format!(
        "auth:
  opaque: {{ introspect: {{ service: idp, path: /token/introspection, client_id: gateway, client_secret: a-secret-of-the-gateway, cache: 10m }} }}
services: {{ idp: {{ url: \"{}\" }}, app: {{ url: \"{}\" }} }}
routes: [{{ match: {{ path_prefix: / }}, service: app, auth: opaque, require: {{ scopes: [\"orders:read\"] }} }}]
",
        idp.issuer(),
        app.url()
    ));
    let token = idp.token();
    assert_eq!(with(&gateway, "/", &token).status(), 200);
    assert_eq!(code(&with(&gateway, "/", "a-token-that-nobody-has-issued")), said(401, "credential_invalid"));
    idp.kill();
    assert_eq!(with(&gateway, "/", &token).status(), 200);
    assert_eq!(code(&with(&gateway, "/", "another-token")), said(503, "auth_unavailable"));
}
