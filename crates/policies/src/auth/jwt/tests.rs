//! What is said to callers with tokens, and to operators who write about them.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_config::Memory;
use tidegate_core::policy::Answer;
use tidegate_http1::Fields;

use crate::shared::signing::{Signer, key_set};
use crate::testing::{Gateway, WALL, problems};

const SECRET: &str = "a secret that is known to nobody";

/// A gateway that asks the way `main`, which is a `jwt` of these keys.
fn yaml(jwt: &str) -> String {
    format!(
        "auth: {{ main: {{ jwt: {{ {jwt} }} }} }}\n\
         services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
         routes: [{{ match: {{ path_prefix: / }}, service: a, auth: main }}]"
    )
}

fn gateway(jwt: &str) -> Gateway {
    Gateway::of(&yaml(jwt))
}

fn with_secret() -> Gateway {
    gateway(&format!("secret: {SECRET}"))
}

/// A gateway whose keys are in a file of a JWK set.
fn with_keys(keys: &[Value], jwt: &str) -> Gateway {
    let files = Memory::new().with("keys.json", key_set(keys));
    Gateway::with_files(&yaml(&format!("jwks: {{ file: keys.json }}, audiences: api, {jwt}")), &files)
}

/// Claims that are good for a minute.
fn claims() -> Value {
    json!({ "sub": "ann", "aud": "api", "exp": WALL.as_secs() + 60 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn signer() -> Signer {
    Signer::secret("HS256", SECRET.as_bytes())
}

/// `pass`, or why a bearer of this token is refused; clients are always told the same.
fn said(gateway: &Gateway, token: &str) -> String {
    let sent = gateway.send(&format!("GET /\nAuthorization: Bearer {token}"));
    if sent.said == "pass" {
        return sent.said;
    }
    let told =
        "401 credential_invalid: Invalid token\nwww-authenticate: Bearer realm=\"main\", error=\"invalid_token\"";
    assert_eq!(sent.said, told);
    sent.cause.unwrap()
}

#[test]
fn a_token_says_who_the_caller_is() {
    let gateway = gateway(&format!("secret: {SECRET}, claims: {{ roles: realm.roles }}"));
    let token = signer().token(&with("realm", json!({ "roles": ["admin"] })));
    let sent = gateway.send(&format!("GET /\nAuthorization: Bearer {token}"));
    let identity = sent.exchange.identity.unwrap();
    assert_eq!((&*identity.way, identity.user.as_deref()), ("main", Some("ann")));
    assert_eq!(identity.roles, [Arc::from("admin")]);
    assert_eq!(identity.expires, Some(WALL + Duration::from_mins(1)));
    assert_eq!(identity.claims["aud"], "api");
}

#[test]
fn the_scheme_is_known_in_any_case_and_its_form_is_strict() {
    let (gateway, token) = (with_secret(), signer().token(&claims()));
    let said = |fields: &str| gateway.send(&format!("GET /\n{fields}")).said;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR "] {
        assert_eq!(said(&format!("Authorization: {scheme} {token}")), "pass", "{scheme}");
    }
    let missing = "401 credential_missing: Missing authorization header\nwww-authenticate: Bearer realm=\"main\"";
    for fields in ["", "Authorization: Basic YTpi", "Authorization: Digest a b c", &format!("Cookie: token={token}")] {
        assert_eq!(said(fields), missing, "{fields}");
    }
    let malformed = "401 credential_invalid: Invalid authorization header format\n\
                     www-authenticate: Bearer realm=\"main\", error=\"invalid_request\"";
    for value in ["Bearer", "Bearer ", &token, &format!("Bearer {token} {token}"), "", &format!("Bearer\t{token}")] {
        assert_eq!(said(&format!("Authorization: {value}")), malformed, "{value}");
    }
    let twice = format!("Authorization: Bearer {token}\nAuthorization: Bearer {token}");
    assert_eq!(said(&twice), malformed);
    assert_eq!(said(&format!("Authorization: Basic YTpi\nAuthorization: Bearer {token}")), malformed);
}

#[test]
fn a_token_is_looked_for_where_that_is_written_and_does_not_stay_in_a_url() {
    let gateway = gateway(&format!("secret: {SECRET}, in: [header:x-token, cookie:session, query:access_token]"));
    let token = signer().token(&claims());
    let said = |request: &str| gateway.send(request).said;
    assert_eq!(said(&format!("GET /\nX-Token: {token}")), "pass");
    assert_eq!(said(&format!("GET /\nCookie: a=b; session={token}")), "pass");
    assert_eq!(
        said(&format!("GET /\nX-Token: Bearer {token}")).lines().next(),
        Some("401 credential_invalid: Invalid token")
    );
    assert_eq!(
        said(&format!("GET /\nX-Token: {token}\nX-Token: {token}")).split(':').next(),
        Some("401 credential_invalid")
    );
    assert_eq!(
        said(&format!("GET /?access_token={token}&access_token=x")).split(':').next(),
        Some("401 credential_invalid")
    );
    let missing = "401 credential_missing: Missing token\nwww-authenticate: Bearer realm=\"main\"";
    assert_eq!(said(&format!("GET /\nAuthorization: Bearer {token}")), missing);
    let sent = gateway.send(&format!("GET /a?b=c&access_token={token}"));
    assert_eq!((&*sent.said, &*sent.exchange.head.target), ("pass", "/a?b=c"));
    let both = gateway.send(&format!("GET /?access_token={token}\nX-Token: x.y.z"));
    assert_ne!(both.said, "pass", "the first place decides");
}

#[test]
fn jwt_alg_none_and_confusion_of_secrets_and_public_keys() {
    let gateway = with_secret();
    let payload = claims().to_string();
    for name in ["none", "None", "NONE", "nOnE", "", "HS255", "hs256", "HS256 "] {
        let token = signer().sign(&json!({ "alg": name }).to_string(), &payload);
        assert_eq!(said(&gateway, &token), "the token's algorithm is not known", "{name}");
    }
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let unsigned = format!("{}.{}.", part("{\"alg\":\"none\"}"), part(&payload));
    assert_eq!(said(&gateway, &unsigned), "a part of the token is not base64url");
    for header in ["{}", "{\"alg\":null}", "{\"alg\":1}", "{\"alg\":[\"HS256\"]}"] {
        assert_eq!(said(&gateway, &signer().sign(header, &payload)), "the token's algorithm is not known");
    }
    for other in ["RS256", "HS512", "ES256", "EdDSA"] {
        let token = signer().sign(&json!({ "alg": other }).to_string(), &payload);
        assert_eq!(said(&gateway, &token), "the token's algorithm is not allowed", "a right HMAC under another name");
    }
    let provider = Signer::new("RS256");
    let pem = provider.pem();
    let files = Memory::new().with("key.pem", &*pem);
    let written = "public_key: key.pem, audiences: api, algorithms: RS256";
    let gateway = Gateway::with_files(&yaml(written), &files);
    assert_eq!(said(&gateway, &provider.token(&claims())), "pass");
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(&body).unwrap();
    for public in [pem.as_bytes(), pem.trim_end().as_bytes(), body.as_bytes(), &der] {
        for name in ["HS256", "RS256"] {
            let forged = Signer::secret("HS256", public).token_with(&json!({ "alg": name }), &claims());
            assert_ne!(said(&gateway, &forged), "pass", "{name}");
        }
    }
}

#[test]
fn jwt_kid_is_only_a_name_and_jku_x5u_jwk_and_x5c_are_passed_over() {
    let (provider, attacker) = (Signer::new("ES256"), Signer::new("ES256"));
    let gateway = with_keys(&[provider.jwk("a")], "");
    assert_eq!(said(&gateway, &provider.token_with(&json!({ "kid": "a" }), &claims())), "pass");
    for kid in ["b", "", "../../dev/null", "a' OR 1=1 --", "http://evil.test/", "a\0", "A"] {
        let token = provider.token_with(&json!({ "kid": kid }), &claims());
        assert_eq!(said(&gateway, &token), "the token's key is not known", "{kid}");
    }
    let token = provider.token_with(&json!({ "kid": "a".repeat(257) }), &claims());
    assert_eq!(said(&gateway, &token), "the name of the token's key is too long");
    for kid in [json!(1), json!(null), json!(["a"]), json!({ "a": "a" })] {
        let token = provider.token_with(&json!({ "kid": kid }), &claims());
        assert_eq!(said(&gateway, &token), "the token's header has something else where there should be text");
    }
    let own =
        json!({ "jwk": attacker.jwk("a"), "jku": "http://evil.test/", "x5u": "http://evil.test/", "x5c": ["AAAA"] });
    assert_eq!(said(&gateway, &attacker.token_with(&own, &claims())), "the token's signature is wrong");
    assert_eq!(said(&gateway, &provider.token_with(&own, &claims())), "pass");
}

#[test]
fn jwt_dates_audiences_issuers_and_types() {
    let issuer = "https://idp.test/";
    let gateway = gateway(&format!("secret: {SECRET}, issuer: \"{issuer}\", audiences: [api, web], required: sub"));
    let now = WALL.as_secs();
    let good = || with("iss", json!(issuer));
    assert_eq!(said(&gateway, &signer().token(&good())), "pass");
    let cases = [
        ("exp", json!(null), "a date of the token is not a number"),
        ("exp", json!(now - 31), "the token has ended"),
        ("exp", json!(-1), "the token has ended"),
        ("exp", json!(1_799_999_968.5), "the token has ended"),
        ("exp", json!((now + 60).to_string()), "a date of the token is not a number"),
        ("exp", json!(1_u64 << 63), "pass"),
        ("exp", json!(u64::MAX), "pass"),
        ("exp", json!(1e308), "pass"),
        ("nbf", json!(now + 31), "the token has not begun"),
        ("nbf", json!(now + 30), "pass"),
        ("iat", json!(now + 31), "the token is issued in the future"),
        ("iss", json!("https://idp.test"), "the token is of another issuer"),
        ("iss", json!(null), "the token is of another issuer"),
        ("aud", json!("Api"), "the token is for another audience"),
        ("aud", json!(["x", "web"]), "pass"),
        ("sub", json!(null), "the token lacks a claim"),
    ];
    for (name, value, expected) in cases {
        let mut claims = good();
        claims[name] = value.clone();
        assert_eq!(said(&gateway, &signer().token(&claims)), expected, "{name} {value}");
    }
    for name in ["exp", "iss", "aud", "sub"] {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        assert_ne!(said(&gateway, &signer().token(&claims)), "pass", "without {name}");
    }
    for (typ, expected) in [
        ("JWT", "pass"),
        ("jwt", "pass"),
        ("at+jwt", "pass"),
        ("application/at+JWT", "pass"),
        ("dpop+jwt", "the token is of another type"),
        ("logout+jwt", "the token is of another type"),
        ("", "the token is of another type"),
    ] {
        assert_eq!(said(&gateway, &signer().token_with(&json!({ "typ": typ }), &good())), expected, "{typ}");
    }
    for payload in ["[]", "\"a\"", "", "{\"exp\":1e999}", "{\"sub\":\"a\",\"sub\":\"b\"}", "{\"a\":\u{1}}", "\u{fffd}"]
    {
        assert_ne!(said(&gateway, &signer().sign("{\"alg\":\"HS256\"}", payload)), "pass", "{payload}");
    }
}

#[test]
fn a_token_without_an_end_and_only_access_tokens_where_that_is_wanted() {
    let endless = gateway(&format!("secret: {SECRET}, require_exp: off"));
    assert_eq!(said(&endless, &signer().token(&json!({ "sub": "ann" }))), "pass");
    let access = gateway(&format!("secret: {SECRET}, types: at+jwt"));
    assert_eq!(said(&access, &signer().token(&claims())), "the token is of another type");
    assert_eq!(said(&access, &signer().token_with(&json!({ "typ": "at+jwt" }), &claims())), "pass");
}

#[test]
fn jwt_critical_extensions_nested_and_encrypted_tokens() {
    let gateway = with_secret();
    for (header, expected) in [
        (json!({ "crit": ["exp"], "exp": 1 }), "the token has critical extensions"),
        (json!({ "crit": [] }), "the token has critical extensions"),
        (json!({ "crit": null }), "the token has critical extensions"),
        (json!({ "crit": ["b64"], "b64": false }), "the token has critical extensions"),
        (json!({ "b64": false }), "the token's payload is not encoded as usual"),
        (json!({ "cty": "JWT" }), "there is a token inside the token"),
        (json!({ "cty": "application/jwt" }), "there is a token inside the token"),
        (json!({ "enc": "A128GCM" }), "the token is encrypted"),
        (json!({ "alg": "dir", "enc": "A128GCM" }), "the token is encrypted"),
        (json!({ "unknown": { "a": [1] } }), "pass"),
    ] {
        assert_eq!(said(&gateway, &signer().token_with(&header, &claims())), expected, "{header}");
    }
    let inner = signer().token(&claims());
    let nested = signer().sign("{\"alg\":\"HS256\"}", &inner);
    assert_eq!(said(&gateway, &nested), "the token's claims are not an object in proper JSON");
    assert_eq!(said(&gateway, &format!("{inner}.e30.e30")), "the token has not three parts");
}

#[test]
fn jwt_giant_and_odd_tokens() {
    let (gateway, token) = (with_secret(), signer().token(&claims()));
    let not_three = "the token has not three parts";
    for odd in ["a", "a.b", "....", "a.b.c.d", &token[..token.rfind('.').unwrap()], &format!("{token}.")] {
        assert_eq!(said(&gateway, odd), not_three, "{odd}");
    }
    let not_base64 = "a part of the token is not base64url";
    let padded = format!("{token}=");
    let standard = token.replacen('e', "+", 1);
    let loose = {
        // The last two bits of the last character mean nothing: only one spelling of them is taken.
        let last = token.chars().last().unwrap();
        let next = char::from(last as u8 + 1);
        format!("{}{next}", &token[..token.len() - 1])
    };
    for odd in ["..", "a..c", "a.b.", ".b.c", "\u{e9}.b.c", &padded, &standard, &loose] {
        assert_eq!(said(&gateway, odd), not_base64, "{odd}");
    }
    let large = signer().token(&with("x", "x".repeat(7000).into()));
    assert_eq!(said(&gateway, &large), "the token is larger than 8 KB");
    let just = signer().token(&with("x", "x".repeat(5900).into()));
    assert!(just.len() > 7900 && just.len() <= 8192);
    assert_eq!(said(&gateway, &just), "pass");
    let deep = format!("{{\"alg\":\"HS256\",\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let header = "the token's header is not an object in proper JSON";
    for text in [
        &*deep,
        "{\"alg\":\"none\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"x\":{\"a\":1,\"a\":1}}",
        "[]",
        "{",
        "\u{0}",
    ] {
        assert_eq!(said(&gateway, &signer().sign(text, &claims().to_string())), header, "{text}");
    }
    let deep = format!("{{\"exp\":1e10,\"x\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    let claims = "the token's claims are not an object in proper JSON";
    assert_eq!(said(&gateway, &signer().sign("{\"alg\":\"HS256\"}", &deep)), claims);
}

#[test]
fn every_byte_of_a_token_matters() {
    let (gateway, token) = (with_secret(), signer().token(&claims()));
    assert_eq!(said(&gateway, &token), "pass");
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_ne!(said(&gateway, &changed), "pass", "byte {at}");
    }
    assert_eq!(said(&gateway, &Signer::secret("HS256", &[1; 32]).token(&claims())), "the token's signature is wrong");
}

#[test]
fn a_verified_token_is_remembered_and_not_beyond_its_end() {
    let gateway = gateway(&format!("secret: {SECRET}, leeway: 0s"));
    let token = format!("GET /\nAuthorization: Bearer {}", signer().token(&claims()));
    let identity = || gateway.send(&token).exchange.identity;
    let first = identity().unwrap();
    assert!(Arc::ptr_eq(&first, &identity().unwrap()));
    gateway.world.advance(Duration::from_millis(59_999));
    assert!(Arc::ptr_eq(&first, &identity().unwrap()));
    gateway.world.advance(Duration::from_millis(1));
    assert!(identity().is_none());
}

#[test]
fn within_the_leeway_a_token_is_verified_each_time() {
    let gateway = with_secret();
    let token = signer().token(&claims());
    assert_eq!(said(&gateway, &token), "pass");
    gateway.world.advance(Duration::from_secs(89));
    assert_eq!(said(&gateway, &token), "pass");
    gateway.world.advance(Duration::from_secs(1));
    assert_eq!(said(&gateway, &token), "the token has ended");
}

#[test]
fn a_secret_and_a_key_can_be_changed_while_both_are_good() {
    let gateway = gateway(&format!("secret: [another secret of thirty-two byt, {SECRET}]"));
    assert_eq!(said(&gateway, &signer().token(&claims())), "pass");
    let (old, new) = (Signer::new("ES256"), Signer::new("ES256"));
    let files = Memory::new().with("old.pem", old.pem()).with("new.pem", new.pem());
    let gateway = Gateway::with_files(&yaml("public_key: [new.pem, old.pem], audiences: api"), &files);
    for signer in [old, new] {
        assert_eq!(said(&gateway, &signer.token_with(&json!({ "kid": "whatever" }), &claims())), "pass");
    }
}

/// A gateway whose provider publishes these keys, or is down; and how often it was asked. Its jobs go on while requests wait.
fn with_provider(publishes: &Rc<Cell<Option<&'static str>>>) -> (&'static Gateway, Rc<Cell<u32>>) {
    let (asked, publishes) = (Rc::new(Cell::new(0)), Rc::clone(publishes));
    let count = Rc::clone(&asked);
    let gateway =
        gateway("jwks: { url: \"https://idp.test/keys.json\" }, audiences: api").answering(move |service, call| {
            assert_eq!((service, &*call.head.target), ("auth/main", "/keys.json"));
            count.set(count.get() + 1);
            let down = Answer { status: StatusCode::BAD_GATEWAY, fields: Fields::new(), body: "".into() };
            let up = |keys: &'static str| Answer { status: StatusCode::OK, fields: Fields::new(), body: keys.into() };
            Ok(publishes.get().map_or(down, up))
        });
    let gateway: &'static Gateway = Box::leak(Box::new(gateway));
    for job in gateway.jobs() {
        tidegate_core::policy::World::spawn(&gateway.world, job);
    }
    (gateway, asked)
}

fn publish(keys: &[Value]) -> &'static str {
    key_set(keys).leak()
}

#[test]
fn a_request_with_a_new_key_waits_until_it_is_fetched() {
    let (old, new) = (Signer::new("ES256"), Signer::new("ES256"));
    let publishes = Rc::new(Cell::new(Some(publish(&[old.jwk("old")]))));
    let (gateway, asked) = with_provider(&publishes);
    let (old_token, new_token) =
        (old.token_with(&json!({ "kid": "old" }), &claims()), new.token_with(&json!({ "kid": "new" }), &claims()));
    assert_eq!(said(gateway, &old_token), "pass", "the very first request waits too");
    assert_eq!(said(gateway, &new_token), "the token's key is not known", "it was asked just now");
    gateway.world.advance(Duration::from_secs(10));
    publishes.set(Some(publish(&[new.jwk("new")])));
    assert_eq!(said(gateway, &old_token), "pass");
    assert_eq!(asked.get(), 1);
    assert_eq!(said(gateway, &new_token), "pass");
    assert_eq!(asked.get(), 2);
    assert_eq!(
        said(gateway, &old_token),
        "the token's key is not known",
        "what was verified with old keys is forgotten"
    );
}

#[test]
fn a_gateway_whose_provider_is_down_starts_and_says_so() {
    let publishes = Rc::new(Cell::new(None));
    let (gateway, asked) = with_provider(&publishes);
    let provider = Signer::new("ES256");
    let token = provider.token_with(&json!({ "kid": "a" }), &claims());
    let request = format!("GET /\nAuthorization: Bearer {token}");
    let down = "503 auth_unavailable: Authentication is not available now\nretry-after: 1";
    for _ in 0..10 {
        let sent = gateway.send(&request);
        assert_eq!((&*sent.said, sent.cause.as_deref()), (down, Some("the keys of `main` were never fetched")));
    }
    assert_eq!(asked.get(), 1);
    assert_eq!(
        said(gateway, "a.b.c"),
        "a part of the token is not base64url",
        "what is wrong anyhow is refused anyhow"
    );
    publishes.set(Some(publish(&[provider.jwk("a")])));
    gateway.world.advance(Duration::from_secs(2));
    gateway.world.turn(&mut Vec::new());
    assert_eq!(gateway.send(&request).said, "pass");
    publishes.set(None);
    gateway.world.advance(Duration::from_secs(50));
    assert_eq!(said(gateway, &provider.token_with(&json!({ "kid": "b" }), &claims())), "the token's key is not known");
    assert_eq!(said(gateway, &token), "pass", "old keys stay");
}

#[test]
fn a_reload_keeps_the_keys_that_were_fetched() {
    let provider = Signer::new("ES256");
    let keys = publish(&[provider.jwk("a")]);
    let jwt = "jwks: { url: \"https://idp.test/keys.json\" }, audiences: api";
    let gateway = gateway(jwt)
        .answering(move |_, _| Ok(Answer { status: StatusCode::OK, fields: Fields::new(), body: keys.into() }));
    let mut jobs = gateway.jobs();
    gateway.world.turn(&mut jobs);
    drop(jobs);
    let token = provider.token(&claims());
    assert_eq!(said(&gateway, &token), "pass");
    let again = gateway.reload(&yaml(&format!("{jwt}, leeway: 10s")));
    assert_eq!(said(&again, &token), "pass");
}

/// What is wrong with a `jwt`, but for the warning about plain listeners.
fn wrong(jwt: &str) -> String {
    let all = problems(&yaml(jwt));
    let others = all.lines().filter(|line| !line.contains("can be read on its way"));
    others.collect::<Vec<_>>().join("\n").replace("auth.main.jwt", "jwt")
}

#[test]
fn mistakes_are_told_where_they_stand() {
    for (jwt, expected) in [
        (
            "issuer: a",
            "error: jwt: tokens are verified with one of these, but there is none | write one of `secret`, `public_key`, `jwks`",
        ),
        (
            "secret: short",
            "error: jwt.secret: the secret has 5 bytes, and HS256 needs 32 or more | make one with `openssl rand -hex 64`",
        ),
        ("algorithms: [RS256]", "error: jwt.algorithms[0]: `RS256` is verified with a public key, not with a secret"),
        ("leeway: 61s", "error: jwt.leeway: clocks may not differ by more than 60s"),
        ("cache: 1000001", "error: jwt.cache: a worker can remember 1000000 tokens"),
        ("cache: off", ""),
        (
            "in: [path:a]",
            "error: jwt.in[0]: that is no place for a credential | write `header:NAME`, `cookie:NAME` or `query:NAME`",
        ),
    ] {
        let with = if jwt.contains("issuer") || jwt.contains("secret") {
            jwt.to_owned()
        } else {
            format!("secret: {SECRET}, {jwt}")
        };
        assert_eq!(wrong(&with), expected, "{jwt}");
    }
    assert!(wrong(&format!("secret: {SECRET}, algorithms: [none]")).contains("algorithms[0]"));
}

#[test]
fn mistakes_about_key_sets_are_told_where_they_stand() {
    for (jwks, expected) in [
        (
            "refresh: 1m",
            "error: jwt.jwks: a key set comes from one of these, but there is none | write one of `url`, `service`, `file`",
        ),
        ("service: b, path: /k", "error: jwt.jwks.service: there is no service `b`"),
        ("service: a, path: k", "error: jwt.jwks.path: a path begins with `/`"),
        ("url: \"https://a.test/k\", path: /k", "error: jwt.jwks.path: `path` needs a `service` that is asked for it"),
        ("url: \"https://a.test/k\", refresh: 0s", "error: jwt.jwks.refresh: `refresh` is at least 1s"),
        ("url: \"https://a.test/k\", min_refresh: 10ms", "error: jwt.jwks.min_refresh: `min_refresh` is at least 1s"),
        (
            "url: \"http://a.test/k\"",
            "warning: jwt.jwks.url: whoever can change what is fetched in clear can sign tokens | write an `https://` URL",
        ),
        ("url: \"http://127.0.0.1:1/k\"", ""),
        ("service: a, path: /k", ""),
    ] {
        let found = wrong(&format!("audiences: api, jwks: {{ {jwks} }}"));
        assert_eq!(found.split(" | there is").next(), Some(expected), "{jwks}");
    }
    assert_eq!(
        wrong("jwks: { service: a, path: /k }"),
        "warning: jwt: tokens that were issued for other services are taken too | write this gateway's `audiences`"
    );
    assert!(wrong("audiences: api, jwks: { service: a }").starts_with("error: jwt.jwks: `path` is missing"));
    assert!(
        wrong("audiences: api, jwks: { service: a, path: /k }, algorithms: [HS256]")
            .contains("is verified with a secret, not with public keys")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzzing::token(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_a_token_does_harm(
        header in "\\{\"alg\":\"(HS256|none|RS256)\"(,\"(kid|crit|typ|cty)\":(\"[a-zJWT+]{0,4}\"|1|\\[\\]))?\\}",
        payload in "\\{(\"(exp|nbf|iat|aud)\":(-?[0-9]{1,20}(\\.[0-9])?(e[0-9]{1,3})?|\"x\"|null|\\[\\])(,\"sub\":\"[a-z]\")?)?\\}",
    ) {
        crate::fuzzing::token(signer().sign(&header, &payload).as_bytes());
        crate::fuzzing::token(payload.as_bytes());
    }
}
