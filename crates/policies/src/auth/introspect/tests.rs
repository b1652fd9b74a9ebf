//! What issuers are asked about tokens, and what becomes of their answers.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};
use tidegate_core::policy::{Answer, Call, CallError, Local};
use tidegate_http1::Fields;

use crate::testing::{Gateway, WALL, problems};

/// A gateway that asks the way `opaque`, which is an `introspect` of this.
fn yaml(introspect: &str) -> String {
    format!(
        "auth_failures: off
auth: {{ opaque: {{ introspect: {{ service: idp, path: /introspect, client_id: 'the gateway', client_secret: 's:%', {introspect} }} }} }}
server: {{ host: 127.0.0.1 }}
services: {{ idp: {{ url: http://127.0.0.1:9002 }}, s: {{ url: http://127.0.0.1:9001 }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s, auth: opaque }}]"
    )
}

/// How often it was asked, and what last.
type Asked = Rc<RefCell<Vec<String>>>;

fn shown(call: &Call<'_>) -> String {
    let mut text = format!("{} {}", call.head.method, call.head.target);
    for field in &call.head.fields {
        text.extend(["\n", field.name, ": ", &String::from_utf8_lossy(field.value)]);
    }
    format!("{text}\n\n{}", String::from_utf8_lossy(&call.body))
}

fn answer(status: u16, body: impl Into<bytes::Bytes>) -> Answer {
    Answer { status: StatusCode::from_u16(status).unwrap(), fields: Fields::new(), body: body.into() }
}

/// A gateway whose issuer says this of every token, and what it was asked.
fn saying(introspect: &str, says: impl Fn() -> Result<Answer, CallError> + 'static) -> (Gateway, Asked) {
    let asked = Asked::default();
    let kept = Rc::clone(&asked);
    let gateway = Gateway::of(&yaml(&format!("audiences: api, {introspect}"))).answering(move |service, call| {
        assert_eq!(service, "idp");
        kept.borrow_mut().push(shown(call));
        says()
    });
    (gateway, asked)
}

/// The same, for an issuer who says this in JSON.
fn claiming(introspect: &str, claims: &Value) -> (Gateway, Asked) {
    let text = claims.to_string();
    saying(introspect, move || Ok(answer(200, text.clone())))
}

/// What is said of a token that is good for a minute.
fn active() -> Value {
    json!({ "active": true, "sub": "ann", "aud": "api", "exp": WALL.as_secs() + 60, "scope": "read write", "roles": ["admin"] })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = active();
    claims[name] = value;
    claims
}

const REQUEST: &str = "GET /\nAuthorization: Bearer opaque-token";
const REFUSED: &str =
    "401 credential_invalid: Invalid token\nwww-authenticate: Bearer realm=\"opaque\", error=\"invalid_token\"";
const DOWN: &str = "503 auth_unavailable: Authentication is not available now\nretry-after: 1";

/// `pass`, or why it was refused; clients are always told the same.
fn said(gateway: &Gateway) -> String {
    let sent = gateway.send(REQUEST);
    if sent.said == "pass" {
        return sent.said;
    }
    assert_eq!(sent.said, REFUSED);
    sent.cause.unwrap()
}

#[test]
fn the_issuer_is_asked_as_the_rfc_says() {
    let (gateway, asked) = claiming("", &active());
    assert_eq!(gateway.send("GET /\nAuthorization: Bearer a+/=&token_type_hint=x").said, "pass");
    let client = STANDARD.encode("the%20gateway:s%3A%25");
    assert_eq!(
        asked.borrow()[0],
        format!(
            "POST /introspect\nauthorization: Basic {client}\ncontent-type: application/x-www-form-urlencoded\naccept: application/json\n\n\
             token=a%2B%2F%3D%26token_type_hint%3Dx&token_type_hint=access_token"
        )
    );
}

#[test]
fn the_answer_says_who_it_is() {
    let (gateway, _) = claiming("claims: { roles: roles, user: sub }", &active());
    let identity = gateway.send(REQUEST).exchange.identity.unwrap();
    assert_eq!((&*identity.way, identity.user.as_deref()), ("opaque", Some("ann")));
    assert_eq!((identity.roles.join(" "), identity.scopes.join(" ")), ("admin".to_owned(), "read write".to_owned()));
    assert_eq!((identity.expires, &identity.claims["aud"]), (Some(WALL + Duration::from_mins(1)), &json!("api")));
}

#[test]
fn only_an_active_token_that_is_for_this_gateway_proves_anything() {
    let now = WALL.as_secs();
    let more = "issuer: 'https://idp.test/'";
    for (name, value, expected) in [
        ("active", json!(false), "the token is not active"),
        ("aud", json!("other"), "the token is for another audience"),
        ("aud", json!(["other", "api"]), "pass"),
        ("iss", json!("https://evil.test/"), "the token is of another issuer"),
        ("exp", json!(now - 31), "the token has ended"),
        ("exp", json!(now - 29), "pass"),
        ("exp", json!("soon"), "a date of the token is not a number"),
        ("nbf", json!(now + 31), "the token has not begun"),
        ("nbf", json!(now + 29), "pass"),
    ] {
        let mut claims = with("iss", json!("https://idp.test/"));
        claims[name] = value.clone();
        assert_eq!(said(&claiming(more, &claims).0), expected, "{name} {value}");
    }
    let mut endless = with("iss", json!("https://idp.test/"));
    endless.as_object_mut().unwrap().remove("exp");
    assert_eq!(said(&claiming(more, &endless).0), "pass");
    assert_eq!(said(&claiming("", &json!({ "active": true })).0), "the token is for another audience");
}

#[test]
fn what_is_no_proper_answer_proves_nothing_and_refutes_nothing() {
    for (status, body) in [
        (401, "{\"error\":\"invalid_client\"}"),
        (403, "{\"active\":true}"),
        (404, ""),
        (500, "{\"active\":true}"),
        (204, ""),
        (302, ""),
        (200, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, "{\"active\":\"true\"}"),
        (200, "{\"active\":1}"),
        (200, "{\"active\":null}"),
        (200, "[true]"),
        (200, "{\"active\":false,\"active\":true}"),
        (200, "{\"active\":true,\"aud\":\"api\"} {}"),
    ] {
        let (gateway, asked) = saying("cache: 1m", move || Ok(answer(status, body)));
        assert_eq!(gateway.send(REQUEST).said, DOWN, "{status} {body}");
        assert_eq!(gateway.send(REQUEST).said, DOWN);
        assert_eq!(asked.borrow().len(), 2, "it is not remembered");
    }
    let (gateway, _) = saying("", || Ok(answer(401, "")));
    let cause = gateway.send(REQUEST).cause;
    assert_eq!(cause.as_deref(), Some("`opaque` has no answer: `client_id` and `client_secret` are refused"));
    let (gateway, _) = saying("", || Err(CallError::Down("connection refused".to_owned())));
    assert_eq!(gateway.send(REQUEST).said, DOWN);
}

#[test]
fn a_request_without_a_proper_token_is_refused_and_nobody_is_asked() {
    let (gateway, asked) = claiming("", &active());
    let challenge = "www-authenticate: Bearer realm=\"opaque\"";
    let missing = format!("401 credential_missing: Missing authorization header\n{challenge}");
    for request in ["GET /", "GET /\nAuthorization: Basic YTpi", "GET /?access_token=t"] {
        assert_eq!(gateway.send(request).said, missing);
    }
    let malformed =
        format!("401 credential_invalid: Invalid authorization header format\n{challenge}, error=\"invalid_request\"");
    for request in [
        "GET /\nAuthorization: Bearer",
        "GET /\nAuthorization: Bearer a b",
        &format!("{REQUEST}\nAuthorization: Bearer x"),
    ] {
        assert_eq!(gateway.send(request).said, malformed);
    }
    let giant = gateway.send(&format!("GET /\nAuthorization: Bearer {}", "a".repeat(8193)));
    assert_eq!((&*giant.said, giant.cause.as_deref()), (REFUSED, Some("the token is larger than 8 KB")));
    assert!(asked.borrow().is_empty());
}

#[test]
fn a_token_is_looked_for_where_that_is_written_and_does_not_stay_in_a_url() {
    let (gateway, asked) = claiming("in: [cookie:session, query:access_token]", &active());
    assert_eq!(gateway.send("GET /\nCookie: session=c").said, "pass");
    let sent = gateway.send("GET /a?access_token=q&b=c");
    assert_eq!((&*sent.said, &*sent.exchange.head.target), ("pass", "/a?b=c"));
    let tokens: Vec<_> = asked.borrow().iter().map(|asked| asked.rsplit("\n\n").next().unwrap().to_owned()).collect();
    assert_eq!(tokens, ["token=c&token_type_hint=access_token", "token=q&token_type_hint=access_token"]);
}

#[test]
fn a_token_is_remembered_but_never_beyond_its_end() {
    let (gateway, asked) = claiming("cache: 2m, leeway: 0s", &active());
    let first = gateway.send(REQUEST).exchange.identity.unwrap();
    gateway.world.advance(Duration::from_millis(59_999));
    let second = gateway.send("POST /elsewhere\nAuthorization: bearer opaque-token").exchange.identity.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "whatever is done with it");
    assert_eq!(asked.borrow().len(), 1);
    assert_eq!(gateway.send("GET /\nAuthorization: Bearer opaque-tokem").said, "pass");
    assert_eq!(asked.borrow().len(), 2, "another token");
    gateway.world.advance(Duration::from_millis(1));
    assert_eq!(said(&gateway), "the token has ended");
    assert_eq!(asked.borrow().len(), 3);
}

#[test]
fn a_token_is_remembered_for_as_long_as_that_is_written_and_one_that_is_not_active_shortly() {
    for (claims, seconds) in [(with("exp", json!(WALL.as_secs() + 3600)), 60), (json!({ "active": false }), 5)] {
        let (gateway, asked) = claiming("cache: 1m", &claims);
        gateway.send(REQUEST);
        gateway.world.advance(Duration::from_millis(seconds * 1000 - 1));
        gateway.send(REQUEST);
        assert_eq!(asked.borrow().len(), 1, "{claims}");
        gateway.world.advance(Duration::from_millis(1));
        gateway.send(REQUEST);
        assert_eq!(asked.borrow().len(), 2, "{claims}");
    }
    let (gateway, asked) = claiming("", &active());
    gateway.send(REQUEST);
    gateway.send(REQUEST);
    assert_eq!(asked.borrow().len(), 2, "nothing is remembered unless that is written");
}

#[test]
fn a_hundred_requests_with_one_token_ask_once() {
    let (gateway, asked) = claiming("cache: 1m", &active());
    gateway.world.slow(true);
    let mut going: Vec<Local<'_, ()>> = (0..100).map(|_| gateway.sending(REQUEST)).collect();
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), gateway.world.called()), (100, 1));
    gateway.world.slow(false);
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), asked.borrow().len()), (0, 1));
}

#[test]
fn an_issuer_who_does_not_answer_makes_nobody_wait_for_long() {
    let (gateway, _) = claiming("cache: 1m, timeout: 1s", &active());
    gateway.world.slow(true);
    let mut going: Vec<Local<'_, ()>> = (0..10).map(|_| gateway.sending(REQUEST)).collect();
    gateway.world.turn(&mut going);
    gateway.world.advance(Duration::from_secs(1));
    gateway.world.turn(&mut going);
    assert!(going.is_empty());
    assert_eq!(gateway.world.called(), 1, "all are told of one failure");
    gateway.world.slow(false);
    assert_eq!(said(&gateway), "pass", "and it is not remembered");
}

#[test]
fn mistakes_are_told_where_they_stand() {
    for (introspect, expected) in [
        ("audiences: api, leeway: 61s", "error: i.leeway: clocks may not differ by more than 60s"),
        ("audiences: api, cache: 2h", "error: i.cache: `cache` is 1h at most"),
        ("audiences: api, timeout: 0s", "error: i.timeout: nobody answers at once"),
        (
            "audiences: api, in: [path:a]",
            "error: i.in[0]: that is no place for a credential | write `header:NAME`, `cookie:NAME` or `query:NAME`",
        ),
        (
            "cache: 1m",
            "warning: i: tokens that were issued for other services are taken too | write this gateway's `audiences`",
        ),
        ("audiences: api", ""),
    ] {
        assert_eq!(problems(&yaml(introspect)).replace("auth.opaque.introspect", "i"), expected, "{introspect}");
    }
    for (from, to, expected) in [
        ("client_id: 'the gateway',", "", "error: auth.opaque.introspect: `client_id` is missing"),
        ("client_secret: 's:%',", "", "error: auth.opaque.introspect: `client_secret` is missing"),
        (
            "client_secret: 's:%',",
            "client_secret: '',",
            "error: auth.opaque.introspect.client_secret: `client_secret` is empty",
        ),
        ("service: idp,", "", "error: auth.opaque.introspect: `service` is missing"),
        ("path: /introspect,", "", "error: auth.opaque.introspect: `path` is missing"),
    ] {
        let found = problems(&yaml("audiences: api").replace(from, to));
        assert!(found.contains(expected), "{to}: {found}");
        assert!(!found.contains("s:%"), "{found}");
    }
}
