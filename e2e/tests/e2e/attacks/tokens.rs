//! Forged and odd tokens. Each is refused with the same words, whatever is wrong with it, and never reaches the service.

use std::fmt::Write as _;

use e2e::gate::Gate;
use e2e::tokens::{Signer, encode};
use e2e::{Backend, Gateway, Plan};
use serde_json::{Value, json};

use super::{code, seen};

const SECRET: &str = "a-secret-of-at-least-32-characters";
/// 2100-01-01.
const FAR: u64 = 4_102_444_800;

fn yaml(backend: &Backend, jwt: &str) -> String {
    let route = "auth: main, identity_headers: { user: x-user }";
    format!(
        "auth_failures: off\nauth: {{ main: {{ jwt: {{ audiences: [api], {jwt} }} }} }}\n{}",
        e2e::forward_with(backend.address(), "", route)
    )
}

fn with_secret(backend: &Backend) -> (Gateway, Signer) {
    (Gateway::run(&yaml(backend, &format!("secret: {SECRET}"))), Signer::Secret(SECRET.into()))
}

fn claims() -> Value {
    json!({ "sub": "ann", "aud": "api", "exp": FAR })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// Every token is refused as every other one is, and the service sees none.
fn refused(gateway: &Gateway, backend: &Backend, tokens: &[(&str, String)]) {
    let before = backend.requests().len();
    for (what, token) in tokens {
        let reply = gateway.connect().get_with("/", &format!("Authorization: Bearer {token}\r\n"));
        let told = (reply.status(), code(&reply), reply.field("www-authenticate"));
        let expected = "Bearer realm=\"main\", error=\"invalid_token\"";
        assert_eq!(told, (401, "credential_invalid".to_owned(), Some(expected)), "{what}: {}", reply.text());
        assert_eq!(reply.json()["error"], "Invalid token", "{what}");
    }
    assert_eq!(backend.requests().len(), before, "the service was asked");
}

/// The token is good, and the service is told so.
fn passes(gateway: &Gateway, token: &str) {
    let reply = gateway.connect().get_with("/", &format!("Authorization: Bearer {token}\r\n"));
    assert_eq!(reply.status(), 200, "{}", reply.text());
    assert_eq!(seen(&reply, "x-user"), ["ann"]);
}

#[test]
fn a_token_cannot_choose_how_it_is_verified() {
    let backend = Backend::echo();
    let (gateway, signer) = with_secret(&backend);
    let payload = claims().to_string();
    passes(&gateway, &signer.token(&claims()));
    let named = |name: &str| signer.sign(&json!({ "alg": name }).to_string(), &payload);
    let mut tokens = vec![("unsigned", format!("{}.{}.", encode("{\"alg\":\"none\"}"), encode(&payload)))];
    for name in ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS512", "RS256", "ES256", "EdDSA", "PS256"] {
        tokens.push((name, named(name)));
    }
    for header in
        ["{}", "{\"alg\":null}", "{\"alg\":1}", "{\"alg\":[\"HS256\"]}", "{\"alg\":\"none\",\"alg\":\"HS256\"}"]
    {
        tokens.push((header, signer.sign(header, &payload)));
    }
    refused(&gateway, &backend, &tokens);
    // The public key is no secret, whatever the token says it is.
    let provider = Signer::new();
    let plan = Plan::new();
    let pem = provider.pem();
    plan.folder().write("key.pem", &pem);
    let gateway = plan.run(&yaml(&backend, "public_key: key.pem, algorithms: ES256"));
    passes(&gateway, &provider.token(&claims()));
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut tokens = vec![("of another key", Signer::new().token(&claims()))];
    for public in [&pem, pem.trim_end(), &body] {
        let forger = Signer::Secret(public.into());
        tokens.push(("the public key as a secret", forger.token(&claims())));
        tokens.push(("the same, as ES256", forger.token_with(&json!({ "alg": "ES256" }), &claims())));
    }
    refused(&gateway, &backend, &tokens);
}

#[test]
fn a_token_cannot_bring_or_fetch_its_own_key() {
    let backend = Backend::echo();
    let lure = Backend::replying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let (provider, attacker) = (Signer::new(), Signer::new());
    let plan = Plan::new();
    plan.folder().write("keys.json", provider.key_set("a"));
    let gateway = plan.run(&yaml(&backend, "jwks: { file: keys.json }"));
    passes(&gateway, &provider.token_with(&json!({ "kid": "a" }), &claims()));
    let mut tokens = Vec::new();
    let set: Value = serde_json::from_str(&attacker.key_set("a")).expect("a key set");
    for header in [
        json!({ "kid": "a", "jwk": set["keys"][0] }),
        json!({ "kid": "b", "jwk": set["keys"][0] }),
        json!({ "jku": format!("{}/keys", lure.url()) }),
        json!({ "kid": "b", "jku": format!("{}/keys", lure.url()) }),
        json!({ "x5u": format!("{}/cert", lure.url()) }),
        json!({ "x5c": ["MIIB"] }),
    ] {
        tokens.push(("a key of its own", attacker.token_with(&header, &claims())));
    }
    let long = "a".repeat(300);
    for kid in ["b", "", "A", "a\0", "../../dev/null", "a' OR '1'='1", "/etc/passwd", "$(id)", &long] {
        tokens.push(("an odd name of a key", provider.token_with(&json!({ "kid": kid }), &claims())));
    }
    for kid in [json!(1), json!(null), json!(["a"]), json!({ "a": 1 })] {
        tokens.push(("a name that is no text", provider.token_with(&json!({ "kid": kid }), &claims())));
    }
    refused(&gateway, &backend, &tokens);
    assert_eq!(lure.connections(), 0, "nobody follows what a token says");
}

#[test]
fn tokens_with_unknown_keys_make_the_provider_be_asked_once_and_cannot_bend_the_question() {
    let backend = Backend::echo();
    let (provider, lure) = (Signer::new(), Backend::replying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
    let set = provider.key_set("a");
    let published = Backend::replying(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len()));
    let jwks = format!("jwks: {{ url: \"{}/keys\", min_refresh: 1h }}", published.url());
    let gateway = Gateway::run(&yaml(&backend, &jwks));
    published.wait_requests(1);
    passes(&gateway, &provider.token_with(&json!({ "kid": "a" }), &claims()));
    let mut tokens = Vec::new();
    for number in 0..50 {
        tokens.push(("an unknown key", Signer::new().token_with(&json!({ "kid": format!("k{number}") }), &claims())));
    }
    refused(&gateway, &backend, &tokens);
    let asked = published.requests();
    assert_eq!(asked.len(), 1, "once in `min_refresh`");
    assert_eq!(asked[0].head.target(), "/keys");
    for name in ["authorization", "cookie", "x-forwarded-for", "x-api-key"] {
        assert!(!asked[0].head.fields.has(name), "{name} of a client: {:?}", asked[0]);
    }
    // A provider that sends elsewhere is not followed.
    let away = format!("HTTP/1.1 302 Found\r\nLocation: {}/keys\r\nContent-Length: 0\r\n\r\n", lure.url());
    let elsewhere = Backend::replying(away);
    let gateway = Gateway::run(&yaml(&backend, &format!("jwks: {{ url: \"{}/keys\" }}", elsewhere.url())));
    elsewhere.wait_requests(1);
    gateway.wait_metric("tidegate_jwks_fetch_failures_total", &["way=\"main\""], |failures| failures > 0);
    assert_eq!(lure.connections(), 0, "redirects are not followed");
}

#[test]
fn a_token_holds_in_its_time_for_its_audience_and_of_its_issuer() {
    let backend = Backend::echo();
    let signer = Signer::Secret(SECRET.into());
    let gateway = Gateway::run(&yaml(&backend, &format!("secret: {SECRET}, issuer: \"https://idp.test/\"")));
    let good = with("iss", json!("https://idp.test/"));
    let mut tokens = Vec::new();
    for (name, value) in [
        ("exp", json!(1)),
        ("exp", json!(0)),
        ("exp", json!(-1)),
        ("exp", json!(1.5)),
        ("exp", json!(i64::MIN)),
        ("exp", json!("4102444800")),
        ("exp", json!(null)),
        ("exp", json!([FAR])),
        ("nbf", json!(FAR)),
        ("nbf", json!("1")),
        ("iat", json!(FAR)),
        ("iss", json!("https://idp.test")),
        ("iss", json!("HTTPS://idp.test/")),
        ("iss", json!("https://idp.test/ ")),
        ("iss", json!(["https://idp.test/"])),
        ("iss", json!(null)),
        ("aud", json!("API")),
        ("aud", json!("apis")),
        ("aud", json!(["web", 7])),
        ("aud", json!([])),
        ("aud", json!({ "api": true })),
        ("aud", json!(null)),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        tokens.push((name, signer.token(&claims)));
    }
    for name in ["exp", "iss", "aud"] {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(name);
        tokens.push(("without it", signer.token(&claims)));
    }
    for typ in ["logout+jwt", "dpop+jwt", "", "secevent+jwt"] {
        tokens.push((typ, signer.token_with(&json!({ "typ": typ }), &good)));
    }
    refused(&gateway, &backend, &tokens);
    for (name, value) in [
        ("exp", json!(1_u64 << 63)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(1e308)),
        ("nbf", json!(0)),
        ("aud", json!(["web", "api"])),
    ] {
        let mut claims = good.clone();
        claims[name] = value;
        passes(&gateway, &signer.token(&claims));
    }
}

#[test]
fn critical_extensions_and_tokens_in_tokens_are_refused() {
    let backend = Backend::echo();
    let (gateway, signer) = with_secret(&backend);
    let mut tokens = Vec::new();
    for header in [
        json!({ "crit": ["x"], "x": 1 }),
        json!({ "crit": ["exp"], "exp": FAR }),
        json!({ "crit": [] }),
        json!({ "crit": null }),
        json!({ "crit": "b64", "b64": false }),
        json!({ "b64": false }),
        json!({ "cty": "JWT" }),
        json!({ "cty": "application/jwt" }),
        json!({ "enc": "A128GCM" }),
        json!({ "alg": "dir", "enc": "A128GCM" }),
        json!({ "zip": "DEF", "enc": "A256GCM" }),
    ] {
        tokens.push(("a header", signer.token_with(&header, &claims())));
    }
    let inner = signer.token(&claims());
    tokens.push(("nested", signer.sign("{\"alg\":\"HS256\"}", &inner)));
    tokens
        .push(("unsigned inside", signer.sign("{\"alg\":\"HS256\"}", &format!("{}.{}.", encode("{}"), encode("{}")))));
    tokens.push(("five parts", format!("{inner}.e30.e30")));
    refused(&gateway, &backend, &tokens);
}

#[test]
fn giant_and_odd_tokens_are_refused_before_anything_is_made_of_them() {
    let backend = Backend::echo();
    let (gateway, signer) = with_secret(&backend);
    let token = signer.token(&claims());
    let deep = |open: &str, close: &str| format!("{{\"exp\":{FAR},\"x\":{}{}}}", open.repeat(2000), close.repeat(2000));
    let of = |payload: &str| signer.sign("{\"alg\":\"HS256\"}", payload);
    let last = token.chars().last().expect("a character");
    let mut loose = token.clone();
    loose.pop();
    // The last bits of the last character mean nothing, and are zero all the same.
    write!(loose, "{}", char::from(last as u8 + 1)).expect("written to memory");
    let cut = token.rfind('.').expect("a dot");
    refused(
        &gateway,
        &backend,
        &[
            ("one part", "a".to_owned()),
            ("two parts", "a.b".to_owned()),
            ("four parts", format!("{token}.x")),
            ("dots alone", "..".to_owned()),
            ("many dots", ".".repeat(5000)),
            ("no signature", token[..=cut].to_owned()),
            ("no dot", token[..cut].to_owned()),
            ("padded", format!("{token}=")),
            ("another spelling of the signature", loose),
            ("over 8 KB", signer.token(&with("x", "x".repeat(7000).into()))),
            ("over 16 KB", "e30.".to_owned() + &"A".repeat(16_000) + ".AAAA"),
            ("deep lists", of(&deep("[", "]"))),
            ("deep objects", of(&deep("{\"a\":", "}").replace(":}", ":1}"))),
            (
                "the same claim twice",
                of(&format!("{{\"sub\":\"ann\",\"sub\":\"root\",\"aud\":\"api\",\"exp\":{FAR}}}")),
            ),
            ("a list", of("[]")),
            ("a text", of("\"ann\"")),
            ("nothing", of("")),
            ("a number out of bounds", of("{\"sub\":\"ann\",\"aud\":\"api\",\"exp\":1e999}")),
            ("a control character", of(&format!("{{\"sub\":\"a\u{1}\",\"aud\":\"api\",\"exp\":{FAR}}}"))),
        ],
    );
    for (what, fields) in [
        ("two tokens", format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n")),
        ("two in one", format!("Authorization: Bearer {token} {token}\r\n")),
        ("a list", format!("Authorization: Bearer {token}, Bearer {token}\r\n")),
        ("another way first", format!("Authorization: Basic YTpi\r\nAuthorization: Bearer {token}\r\n")),
        ("no scheme", format!("Authorization: {token}\r\n")),
    ] {
        assert_eq!(code(&gateway.connect().get_with("/", &fields)), "credential_invalid", "{what}");
    }
    assert!(backend.requests().is_empty());
    passes(&gateway, &token);
}

#[test]
fn while_nobody_can_verify_tokens_nobody_passes() {
    let backend = Backend::echo();
    let gate = Gate::new();
    let silent = Backend::scripted({
        let gate = gate.clone();
        move |conn| {
            conn.request();
            gate.wait();
        }
    });
    let gone = Backend::replying("");
    gone.kill();
    let failing = Backend::replying("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let odd = Backend::replying("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"keys\":[]}");
    let token = Signer::new().token(&claims());
    for (what, provider) in [("gone", &gone), ("failing", &failing), ("without keys", &odd), ("silent", &silent)] {
        let jwks = format!("jwks: {{ url: \"http://{}/keys\", timeout: 1s }}", provider.address());
        let gateway = Gateway::run(&yaml(&backend, &jwks));
        let reply = gateway.connect().get_with("/", &format!("Authorization: Bearer {token}\r\n"));
        assert_eq!((reply.status(), &*code(&reply)), (503, "auth_unavailable"), "{what}: {}", reply.text());
        assert!(reply.field("retry-after").is_some() && !reply.text().contains("keys"), "{what}: {}", reply.text());
        assert_eq!(gateway.get("/").status(), 401, "{what}: who shows nothing is told so");
    }
    gate.open();
    assert!(backend.requests().is_empty());
}
