//! Who a request comes from is what was proved, whatever else it says: forged fields, fields named in `Connection`, several values, addresses
//! of others, and several credentials at once.

use http::{HeaderMap, HeaderName, HeaderValue, Request};

use e2e::http2::H2Client;
use e2e::{Backend, Gateway, server};

use super::{AUTH, KEY, code, seen, with_key};

/// `/known` tells its service who calls, `/open` asks nobody, `/quiet` asks and tells nothing.
fn telling(backend: &Backend) -> String {
    format!(
        "{AUTH}services: {{ app: {{ url: \"{}\" }} }}
routes:
  - match: {{ path: /known }}
    service: app
    auth: keys
    identity_headers: {{ context: x-user-context, user: x-user, tenant: x-tenant, jwt: {{}} }}
  - {{ match: {{ path: /quiet }}, service: app, auth: keys }}
  - {{ match: {{ path: /open }}, service: app, auth: none }}
",
        backend.url()
    )
}

#[test]
fn forged_identity_fields_pass_in_no_spelling_on_no_route() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&telling(&backend));
    let forged = [
        "X-User: forged",
        "x-user:forged",
        "X_User: forged",
        "x.user: forged",
        "X-USER_CONTEXT: forged",
        "x_user.context: forged",
        "X-Tenant: forged",
        "X_TENANT: forged",
        "X-Identity: forged",
        "x_identity: forged",
    ];
    let all = forged.join("\r\n");
    for fields in forged.into_iter().chain([&*all]) {
        for target in ["/known", "/quiet", "/open"] {
            let reply = with_key(&gateway, target, &format!("{fields}\r\n"));
            assert!(reply.status() == 200 && !reply.text().contains("forged"), "{target} {fields}: {}", reply.text());
        }
    }
    let told = with_key(&gateway, "/known", &format!("{all}\r\n"));
    assert_eq!((seen(&told, "x-user"), seen(&told, "x-tenant")), (vec!["ci".to_owned()], vec![]), "{}", told.text());
    assert_eq!((seen(&told, "x-user-context").len(), seen(&told, "x-identity").len()), (1, 1));
}

#[test]
fn forged_identity_fields_do_not_pass_as_trailers() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&telling(&backend));
    let names =
        ["x-user", "x_user", "x.user", "x-user-context", "x_user_context", "x-tenant", "x-identity", "x_identity"];
    let trailers: String = names.iter().map(|name| format!("{name}: forged\r\n")).collect();
    for target in ["/known", "/quiet", "/open"] {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nTransfer-Encoding: chunked\r\nTrailer: x-user, x-sum\r\n\r\n\
             2\r\nhi\r\n0\r\n{trailers}X-Sum: kept\r\n\r\n"
        );
        let told = gateway.connect().send(request).reply().json();
        assert!(!told["trailers"].to_string().contains("forged"), "{target}: {told}");
        assert!(told["trailers"].to_string().contains("kept"), "{target}: {told}");
        let client = H2Client::connect(gateway.address());
        let request = Request::post(format!("http://a{target}")).header("x-api-key", KEY).body(()).expect("a request");
        let mut stream = client.send(request, false);
        stream.data(b"hi", false);
        let mut fields = HeaderMap::new();
        for name in names {
            fields.insert(HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_static("forged"));
        }
        stream.trailers(fields);
        let reply = stream.reply();
        assert_eq!(reply.status, 200);
        assert!(!reply.json()["trailers"].to_string().contains("forged"), "{target}: {}", reply.json());
    }
}

#[test]
fn naming_fields_in_connection_removes_nothing_that_the_gateway_says_or_decides_by() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&telling(&backend));
    let named = "X-User, x-user-context, X-Tenant, x-identity, Host, X-Forwarded-For, X-Forwarded-Proto, X-Real-IP, Forwarded, Via, X-Request-Id";
    for connection in [
        format!("Connection: {named}\r\n"),
        format!("Connection: close\r\nConnection: {named}\r\n"),
        format!("connection: {}\r\n", named.to_uppercase()),
        format!("Proxy-Connection: {named}\r\nConnection: {named}\r\n"),
    ] {
        let told = with_key(&gateway, "/known", &connection);
        for kept in ["x-user", "x-user-context", "x-identity", "host", "x-forwarded-for", "x-real-ip", "x-request-id"] {
            assert_eq!(seen(&told, kept).len(), 1, "{kept} after {connection}: {}", told.text());
        }
    }
    let route = "csrf: on, bots: { deny: [crawler] }, auth: none, requests: { content_types: [application/json] }";
    let gateway = Gateway::run(&format!("{AUTH}{}", e2e::forward_with(backend.address(), "", route)));
    for (fields, refusal) in [
        ("Origin: https://evil.test\r\nConnection: Origin\r\n", "csrf_refused"),
        (
            "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.test\r\nConnection: sec-fetch-site, origin\r\n",
            "csrf_refused",
        ),
        ("Cookie: a=b\r\nConnection: cookie\r\n", "csrf_refused"),
        ("User-Agent: crawler\r\nConnection: user-agent\r\n", "bot_refused"),
        ("Content-Type: text/xml\r\nConnection: content-type\r\n", "content_type_refused"),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 2\r\n\r\n{{}}");
        assert_eq!(code(&gateway.connect().send(request).reply()), refusal, "{fields}");
    }
}

#[test]
fn addresses_that_clients_write_are_nobodys() {
    let backend = Backend::echo();
    let route = "auth: none, ip: { allow: [10.0.0.0/8], deny: [10.6.6.6] }";
    let gateway = Gateway::run(&format!("{AUTH}{}", e2e::forward_with(backend.address(), "", route)));
    let claims = [
        "X-Forwarded-For: 10.1.2.3\r\n",
        "X-Forwarded-For: 10.1.2.3, 10.1.2.4\r\n",
        "X_Forwarded_For: 10.1.2.3\r\n",
        "X-Real-IP: 10.1.2.3\r\n",
        "Forwarded: for=10.1.2.3\r\n",
        "True-Client-IP: 10.1.2.3\r\n",
        "CF-Connecting-IP: 10.1.2.3\r\n",
        "X-Client-IP: 10.1.2.3\r\n",
        "Client-IP: 10.1.2.3\r\n",
        "X-Forwarded-Host: 10.1.2.3\r\nHost2: 10.1.2.3\r\n",
    ];
    for claim in claims {
        assert_eq!(code(&gateway.connect().get_with("/", claim)), "ip_denied", "{claim}");
    }
    assert!(backend.requests().is_empty());
    // Behind a trusted proxy the word of the last one counts, and of nobody to its left.
    let trusting = server("trusted_proxies: [127.0.0.0/8]");
    let gateway = Gateway::run(&format!("{trusting}{AUTH}{}", e2e::forward_with(backend.address(), "", route)));
    for (claim, status) in [
        ("X-Forwarded-For: 10.1.2.3\r\n", 200),
        ("X-Forwarded-For: 10.1.2.3, 6.6.6.6\r\n", 403),
        ("X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-For: 6.6.6.6\r\n", 403),
        ("X-Forwarded-For: 6.6.6.6, 10.6.6.6\r\n", 403),
        ("X-Forwarded-For: ::ffff:10.6.6.6\r\n", 403),
        ("X-Forwarded-For: 10.1.2.3, junk\r\n", 403),
        ("X-Forwarded-For: 010.1.2.3\r\n", 403),
        ("X-Forwarded-For: 167837955\r\n", 403),
    ] {
        assert_eq!(gateway.connect().get_with("/", claim).status(), status, "{claim}");
    }
}

#[test]
fn what_is_sent_several_times_is_judged_by_every_value() {
    let backend = Backend::echo();
    let url = backend.url();
    let yaml = format!(
        "{AUTH}services: {{ app: {{ url: \"{url}\" }} }}
routes:
  - {{ match: {{ path: /when }}, service: app, auth: keys, require: {{ when: \"header.x-level == 'low'\" }} }}
  - {{ match: {{ path: /not }}, service: app, auth: keys, require: {{ when: \"!(header.x-level == 'high')\" }} }}
  - {{ match: {{ path: /query }}, service: app, auth: keys, require: {{ when: \"query.level == 'low'\" }} }}
  - {{ match: {{ path: /bots }}, service: app, auth: none, bots: {{ deny: [crawler] }} }}
  - {{ match: {{ path: /csrf }}, service: app, auth: none, csrf: on }}
  - {{ match: {{ path: /type }}, service: app, auth: none, requests: {{ content_types: [application/json] }} }}
"
    );
    let gateway = Gateway::run(&yaml);
    for (method, target, fields, status) in [
        ("GET", "/when", "X-Level: low\r\n", 200),
        ("GET", "/when", "X-Level: low\r\nX-Level: high\r\n", 403),
        ("GET", "/when", "X-Level: high\r\nX-Level: low\r\n", 403),
        ("GET", "/when", "X-Level: low, high\r\n", 403),
        ("GET", "/when", "X-Level: low\r\nx-level:\r\n", 403),
        ("GET", "/query?level=low", "", 200),
        ("GET", "/query?level=low&level=high", "", 403),
        ("GET", "/query?level=high&level=low", "", 403),
        ("GET", "/query?level=low&%6cevel=high", "", 403),
        ("GET", "/bots", "User-Agent: browser\r\nUser-Agent: crawler\r\n", 403),
        ("GET", "/bots", "User-Agent: crawler\r\nUser-Agent: browser\r\n", 403),
        ("POST", "/csrf", "Origin: http://a\r\nOrigin: https://evil.test\r\n", 403),
        ("POST", "/csrf", "Origin: https://evil.test\r\nOrigin: http://a\r\n", 403),
        ("POST", "/csrf", "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("POST", "/type", "Content-Type: application/json\r\nContent-Type: text/xml\r\n", 415),
        ("POST", "/type", "Content-Type: text/xml; a=application/json\r\n", 415),
    ] {
        let body = if method == "POST" { "Content-Length: 2\r\n\r\n{}" } else { "\r\n" };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\n{fields}{body}");
        let reply = gateway.connect().send(request).reply();
        assert_eq!(reply.status(), status, "{target} {fields}: {}", reply.text());
    }
    // A negation holds for several values only if it holds for each of them.
    for fields in ["X-Level: high\r\nX-Level: low\r\n", "X-Level: low\r\nX-Level: high\r\n", "X-Level: high\r\n"] {
        assert_eq!(with_key(&gateway, "/not", fields).status(), 403, "{fields}");
    }
    assert_eq!(with_key(&gateway, "/not", "X-Level: low\r\n").status(), 200);
}

#[test]
fn api_keys_are_one_in_their_place_and_nobody_else_sees_them() {
    let backend = Backend::echo();
    let logged = "log: { access: { headers: [x-api-key, authorization, cookie] } }\n";
    let gateway = Gateway::run(&format!("{logged}{AUTH}{}", e2e::forward_with(backend.address(), "", "auth: keys")));
    for (target, fields, refusal) in [
        ("/", String::new(), "credential_missing"),
        ("/", format!("X-API-Key: {KEY}x\r\n"), "credential_invalid"),
        ("/", format!("X-API-Key: {}\r\n", &KEY[..KEY.len() - 1]), "credential_invalid"),
        ("/", format!("X-API-Key: {}\r\n", KEY.to_uppercase()), "credential_invalid"),
        ("/", "X-API-Key:\r\n".to_owned(), "credential_invalid"),
        ("/", format!("X-API-Key: {KEY}, {KEY}\r\n"), "credential_invalid"),
        ("/", format!("X-API-Key: {KEY}\r\nX-API-Key: another\r\n"), "credential_invalid"),
        ("/", format!("X-API-Key: another\r\nX-API-Key: {KEY}\r\n"), "credential_invalid"),
        ("/", format!("X_API_Key: {KEY}\r\n"), "credential_missing"),
        ("/", format!("Authorization: Bearer {KEY}\r\n"), "credential_missing"),
        ("/", format!("Cookie: x-api-key={KEY}\r\n"), "credential_missing"),
        ("/?api_key=a-key-of-the-build-machine", String::new(), "credential_missing"),
        ("/?x-api-key=a-key-of-the-build-machine", String::new(), "credential_missing"),
    ] {
        assert_eq!(code(&gateway.connect().get_with(target, &fields)), refusal, "{target} {fields}");
    }
    assert!(backend.requests().is_empty());
    let told = with_key(&gateway, "/passed", "");
    assert!(told.status() == 200 && !told.text().contains(KEY), "{}", told.text());
    gateway.access_line("the request", |line| line["path"] == "/passed");
    assert!(!gateway.shown().contains(&format!("\"{KEY}\"")), "the key is in a log: {}", gateway.shown());
}

#[test]
fn what_one_request_has_proved_is_no_other_ones() {
    let backend = Backend::echo();
    let gateway = Gateway::run(&telling(&backend));
    let known = format!("GET /known HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\n\r\n");
    let nobody = "GET /known HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = gateway.connect();
    client.send([&*known, nobody, &known, nobody, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
    let statuses: Vec<_> = (0..4).map(|_| client.reply().status()).collect();
    assert_eq!(statuses, [200, 401, 200, 401], "pipelined on one connection");
    let open = client.reply();
    assert!(open.status() == 200 && seen(&open, "x-user").is_empty(), "{}", open.text());
    let over_http2 = H2Client::connect(gateway.address());
    let ask = |key: Option<&str>| {
        let mut request = Request::get("http://a/known");
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        over_http2.call(request.body(()).expect("a request"), b"").status
    };
    assert_eq!(
        [ask(Some(KEY)), ask(None), ask(Some(KEY)), ask(None)],
        [200, 401, 200, 401],
        "on one connection of HTTP/2"
    );
    // What asks for a tunnel, or waits to be asked for its body, is asked who it is all the same.
    for fields in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
        "X-HTTP-Method-Override: OPTIONS\r\n",
    ] {
        let reply = gateway.connect().get_with("/known", fields);
        assert_eq!((reply.status(), &*code(&reply)), (401, "credential_missing"), "{fields}");
    }
}
