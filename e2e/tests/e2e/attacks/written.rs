//! What others have sent is never written as something else: not into the heads that services get, not into logs, and nothing of the inside
//! into refusals.

use e2e::tokens::Signer;
use e2e::{Backend, Gateway};
use serde_json::{Value, json};

use super::{KEY, code, seen};

const SECRET: &str = "a-secret-of-at-least-32-characters";

fn token(claims: &Value) -> String {
    let mut all = json!({ "exp": 4_102_444_800_u64 });
    for (name, value) in claims.as_object().expect("an object") {
        all[name.as_str()] = value.clone();
    }
    format!("Authorization: Bearer {}\r\n", Signer::Secret(SECRET.into()).token(&all))
}

#[test]
fn what_a_token_says_cannot_become_another_field() {
    let backend = Backend::echo();
    let route = "auth: main, identity_headers: { context: x-context, user: x-user, roles: x-roles, tenant: x-tenant, claims: { x-note: note } }";
    let jwt = format!("auth: {{ main: {{ jwt: {{ secret: {SECRET} }} }} }}\n");
    let gateway = Gateway::run(&format!("{jwt}{}", e2e::forward_with(backend.address(), "", route)));
    for (claims, status) in [
        (json!({ "sub": "ann" }), 200),
        (json!({ "sub": "ann\r\nX-Role: root" }), 500),
        (json!({ "sub": "ann\nX-Role: root" }), 500),
        (json!({ "sub": "ann\rX-Role: root" }), 500),
        (json!({ "sub": "ann\u{0}" }), 500),
        (json!({ "sub": "ann\u{7f}" }), 500),
        (json!({ "sub": "ann\u{85}x" }), 500),
        (json!({ "sub": " ann" }), 500),
        (json!({ "sub": "ann", "roles": ["a,root"] }), 500),
        (json!({ "sub": "ann", "roles": ["a\r\nX-Role: root"] }), 500),
        (json!({ "sub": "ann", "tenant_id": "t\r\n\r\nGET /admin HTTP/1.1" }), 500),
        (json!({ "sub": "ann", "note": "x\r\nX-Role: root" }), 500),
        (json!({ "sub": "ann", "note": ["x", "y\nz"] }), 500),
        (json!({ "sub": "ann", "note": { "a": "\r\nX-Role: root" } }), 200),
        (json!({ "sub": "ann", "permissions": ["p\r\nX-Role: root"] }), 200),
        (json!({ "sub": "\u{e9}ve \u{1f600}" }), 200),
    ] {
        let reply = gateway.connect().get_with("/", &token(&claims));
        assert_eq!(reply.status(), status, "{claims}: {}", reply.text());
        match status {
            500 => assert!(code(&reply) == "internal" && !reply.text().contains("root"), "{claims}: {}", reply.text()),
            _ => assert!(seen(&reply, "x-role").is_empty(), "{claims}: {}", reply.text()),
        }
    }
    for request in backend.assert_well_formed("hostile claims") {
        assert!(request.head.target() == "/" && !request.head.fields.has("x-role"), "{request:?}");
    }
}

#[test]
fn what_requests_and_tokens_say_cannot_become_a_line_of_a_log() {
    let backend = Backend::echo();
    let auth = format!(
        "auth_failures: off\nauth: {{ main: {{ jwt: {{ secret: {SECRET} }} }}, keys: {{ api_key: {{ inline: [{{ key: {KEY}, user: ci }}] }} }} }}\n"
    );
    let logged = "log: { access: { headers: [user-agent, origin, referer] } }\n";
    let route = "auth: [main, keys], require: { roles: [admin] }, csrf: on";
    let gateway = Gateway::run(&format!("{logged}{auth}{}", e2e::forward_with(backend.address(), "", route)));
    let forged = "{\"status\":200,\"path\":\"/forged\"}";
    let signer = Signer::Secret(SECRET.into());
    let odd = format!("\n{forged}\n\u{1b}[31m\u{9b}31m\u{202e}");
    let kid = signer.token_with(&json!({ "kid": odd, "typ": odd }), &json!({ "sub": "ann", "exp": 1 }));
    let roles = token(&json!({ "sub": odd, "roles": [odd, "\u{0}"] }));
    for (n, fields) in [
        format!("Authorization: Bearer {kid}\r\n"),
        roles,
        format!("Authorization: Bearer {forged}\r\n"),
        format!("X-API-Key: {forged}\u{9b}31m\r\n"),
        format!("User-Agent: \",{forged}\u{9b}31m\r\nOrigin: \"}},{forged}\r\n"),
        format!("Referer: http://a/\"}}{forged}\u{9b}\r\nCookie: {forged}\r\n"),
        format!("Authorization: Basic {}\r\n", e2e::tokens::encode(&odd)),
    ]
    .into_iter()
    .enumerate()
    {
        let request =
            format!("POST /n{n} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n");
        let reply = gateway.connect().send(request).reply();
        assert!([400, 401, 403].contains(&reply.status()), "{n}: {}", reply.status());
        let line = gateway.access_line("its line", |line| line["path"] == format!("/n{n}"));
        assert_eq!(line["status"], reply.status(), "{line}");
    }
    let shown = gateway.shown();
    for line in shown.lines().filter(|line| !line.starts_with("----") && !line.is_empty()) {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_ne!(parsed["path"], "/forged", "{line}");
        assert!(!line.contains(|c: char| c.is_control()), "a control character: {line:?}");
    }
}

#[test]
fn a_refusal_says_nothing_of_the_inside() {
    let backend = Backend::echo();
    let (address, folder) = (backend.address(), e2e::Folder::new());
    // `U*U`, at the lowest cost.
    folder.write("users", "mary:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n");
    let users = folder.path().join("users");
    let yaml = format!(
        "auth_failures: off
auth:
  keys: {{ api_key: {{ inline: [{{ key: {KEY}, user: ci, roles: [deploy] }}] }} }}
  staff: {{ basic: {{ file: {} }} }}
services: {{ hidden-service: {{ url: \"http://{address}\" }} }}
routes:
  - {{ name: hidden-route, match: {{ path: /roles }}, service: hidden-service, auth: keys, require: {{ roles: [hidden-role], when: \"identity.user == 'hidden-user'\" }} }}
  - {{ match: {{ path: /ip }}, service: hidden-service, auth: none, ip: {{ allow: [10.11.12.0/24] }} }}
  - {{ match: {{ path: /bots }}, service: hidden-service, auth: none, bots: {{ deny: [hidden-pattern] }} }}
  - {{ match: {{ path: /staff }}, service: hidden-service, auth: staff }}
",
        users.display()
    );
    let gateway = Gateway::run(&yaml);
    let basic = |pair: &str| format!("Authorization: Basic {}\r\n", e2e::tokens::base64(pair));
    let mut told = Vec::new();
    for (target, fields, status) in [
        ("/roles", format!("X-API-Key: {KEY}\r\n"), 403),
        ("/roles", "X-API-Key: nobodys-key\r\n".to_owned(), 401),
        ("/ip", String::new(), 403),
        ("/bots", "User-Agent: hidden-pattern\r\n".to_owned(), 403),
        ("/staff", basic("mary:wrong"), 401),
        ("/staff", basic("nobody:U*U"), 401),
        ("/staff", basic("mary:"), 401),
    ] {
        for accept in ["", "Accept: application/problem+json\r\n"] {
            let reply = gateway.connect().get_with(target, &format!("{fields}{accept}"));
            assert_eq!(reply.status(), status, "{target}");
            let all = format!("{:?} {}", reply.head, reply.text());
            for inside in ["hidden", "10.11.12", &address.to_string(), "deploy", "tmp", "identity"] {
                assert!(!all.contains(inside), "{target} tells {inside}: {all}");
            }
            let mut body = reply.json();
            body.as_object_mut().expect("an object").remove("request_id");
            told.push((target, body));
        }
    }
    let staff: Vec<_> = told.iter().filter(|(target, _)| *target == "/staff").map(|(_, body)| body).collect();
    assert!(
        staff.chunks(2).all(|pair| pair == &staff[..2]),
        "who is unknown is told the same as who is wrong: {staff:?}"
    );
    assert!(backend.requests().is_empty());
}
