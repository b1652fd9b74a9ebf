//! What is asked about callers, what becomes of answers, and what is told to operators.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tidegate_core::policy::{Answer, Call, CallError, Local};
use tidegate_http1::Fields;

use crate::shared::signing::Signer;
use crate::testing::{Gateway, Sent, WALL, problems};

/// A gateway that asks the way `central`, which is a `verify` of this.
fn yaml(verify: &str) -> String {
    format!(
        "auth_failures: off
auth: {{ central: {{ verify: {{ service: auth, path: /auth/verify, {verify} }} }} }}
server: {{ host: 127.0.0.1, trusted_proxies: 192.0.2.9 }}
services: {{ auth: {{ url: http://127.0.0.1:9002 }}, s: {{ url: http://127.0.0.1:9001 }} }}
routes:
  - {{ match: {{ path_prefix: / }}, service: s, auth: central }}
  - {{ match: {{ path_prefix: /open }}, service: s }}"
    )
}

/// A status, and fields as lines.
fn answer(status: u16, lines: &str) -> Answer {
    let mut fields = Fields::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        fields.append(name, value.as_bytes()).unwrap();
    }
    Answer { status: StatusCode::from_u16(status).unwrap(), fields, body: "".into() }
}

/// Everything that was asked, as text: the service, the request line and the fields.
type Asked = Rc<RefCell<Vec<String>>>;

fn shown(service: &str, call: &Call<'_>) -> String {
    let mut text = format!("{service}: {} {}", call.head.method, call.head.target);
    for field in &call.head.fields {
        text.extend(["\n", field.name, ": ", &String::from_utf8_lossy(field.value)]);
    }
    assert!(call.body.is_empty());
    text
}

/// A gateway whose service answers like this, and what it was asked.
fn asking(verify: &str, says: impl Fn(&str) -> Result<Answer, CallError> + 'static) -> (Gateway, Asked) {
    let asked = Asked::default();
    let kept = Rc::clone(&asked);
    let gateway = Gateway::of(&yaml(verify)).answering(move |service, call| {
        let text = shown(service, call);
        kept.borrow_mut().push(text.clone());
        says(&text)
    });
    (gateway, asked)
}

/// A service that knows the token `good` as Ann's.
fn service(verify: &str) -> (Gateway, Asked) {
    asking(verify, |asked| {
        let known = "x-user-id: ann\nx-user-roles: admin, dev\nx-user-permissions: a:read\nx-user-scopes: x y,z\nx-tenant-id: t1\nx-extra: e";
        let good = asked.contains("authorization: Bearer good");
        Ok(if good { answer(200, known) } else { answer(401, "www-authenticate: Bearer realm=\"theirs\"") })
    })
}

const GOOD: &str = "GET /a?b=c\nAuthorization: Bearer good";
const BAD: &str = "GET /a\nAuthorization: Bearer bad";

/// `pass` and who it is, or the first line of the refusal.
fn user(sent: &Sent) -> String {
    let user = sent.exchange.identity.as_ref().and_then(|identity| identity.user.as_deref());
    format!("{} {}", sent.said.lines().next().unwrap(), user.unwrap_or("-"))
}

fn down(_: &str) -> Result<Answer, CallError> {
    Err(CallError::Down("connection refused".to_owned()))
}

#[test]
fn the_service_is_told_what_is_written_and_nothing_else_of_the_clients() {
    let (gateway, asked) = service("headers: [accept-language]");
    let request = "POST /a/../b?c=d\nHost: api.example.com:8443\nContent-Length: 3\nAuthorization: Bearer good\nCookie: session=1\n\
                   Accept-Language: de\nX-Api-Key: k\nX-Forwarded-For: 1.1.1.1\nX-Forwarded-Uri: /forged\nX-Forwarded-Method: GET\n\
                   X-Forwarded-Host: forged\nX-Forwarded-Proto: https\nX-Original-Url: /forged\nConnection: authorization";
    assert_eq!(user(&gateway.send(request)), "pass ann");
    assert_eq!(
        *asked.borrow(),
        [
            "auth: GET /auth/verify\nauthorization: Bearer good\naccept-language: de\nx-forwarded-method: POST\nx-forwarded-uri: /b?c=d\n\
          x-forwarded-host: api.example.com:8443\nx-forwarded-proto: http\nx-forwarded-for: 192.0.2.1"
        ]
    );
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    let (mut gateway, asked) = service("tell: [host, scheme, client]");
    gateway.client = ([192, 0, 2, 9], 1).into();
    gateway.send(&format!(
        "{GOOD}\nX-Forwarded-For: 203.0.113.7\nX-Forwarded-Proto: https\nX-Forwarded-Host: shop.example.com"
    ));
    assert!(
        asked.borrow()[0]
            .ends_with("x-forwarded-host: shop.example.com\nx-forwarded-proto: https\nx-forwarded-for: 203.0.113.7"),
        "{asked:?}"
    );
    for forged in ["forged, shop.example.com", "forged\nX-Forwarded-Host: shop.example.com"] {
        gateway.send(&format!("{GOOD}\nX-Forwarded-Host: {forged}"));
        let last = asked.borrow().last().unwrap().clone();
        assert!(last.contains("x-forwarded-host: shop.example.com\n") && !last.contains("forged"), "{last}");
    }
}

#[test]
fn the_answer_says_who_it_is() {
    let (gateway, _) = service("");
    let identity = gateway.send(GOOD).exchange.identity.unwrap();
    let texts = |list: &[std::sync::Arc<str>]| list.join(" ");
    assert_eq!(
        (&*identity.way, identity.user.as_deref(), identity.tenant.as_deref()),
        ("central", Some("ann"), Some("t1"))
    );
    assert_eq!(
        [texts(&identity.roles), texts(&identity.permissions), texts(&identity.scopes)],
        ["admin dev", "a:read", "x y z"]
    );
    let (gateway, _) = service("identity: { user: x-extra, roles: x-none }");
    let identity = gateway.send(GOOD).exchange.identity.unwrap();
    assert_eq!((identity.user.as_deref(), identity.roles.len()), (Some("e"), 0));
}

#[test]
fn an_answer_that_says_twice_who_it_is_says_nothing() {
    let (gateway, _) = asking("", |_| Ok(answer(200, "x-user-id: ann\nx-user-id: root")));
    let sent = gateway.send(GOOD);
    assert_eq!(user(&sent), "503 auth_unavailable: Authentication is not available now -");
    assert_eq!(sent.cause.as_deref(), Some("`central` has no answer: the answer says `x-user-id` twice"));
}

#[test]
fn a_refusal_is_passed_on_with_the_fields_that_are_named() {
    let more = "headers_to_client: [www-authenticate, x-reason]";
    let says = |status, fields: &'static str| move |_: &str| Ok(answer(status, fields));
    let (gateway, _) = asking("", says(401, "www-authenticate: A\nwww-authenticate: B\nx-reason: r\nset-cookie: a=b"));
    let sent = gateway.send(BAD);
    assert_eq!(sent.said, "401 credential_invalid: Invalid token\nwww-authenticate: A\nwww-authenticate: B");
    assert_eq!(sent.cause.as_deref(), Some("`central` was answered with 401"));
    let (gateway, _) = asking(more, says(401, "x-reason: r"));
    assert_eq!(
        gateway.send(BAD).said,
        "401 credential_invalid: Invalid token\nx-reason: r\nwww-authenticate: Bearer realm=\"central\", error=\"invalid_token\""
    );
    let (gateway, _) = asking(more, says(403, "x-reason: r\nx-user-id: ann"));
    let sent = gateway.send(GOOD);
    assert_eq!((&*sent.said, sent.exchange.identity), ("403 forbidden: Insufficient permissions\nx-reason: r", None));
}

#[test]
fn whoever_is_refused_by_the_service_counts_as_failed() {
    let yaml = yaml("").replace("auth_failures: off", "auth_failures: { burst: 2 }");
    let gateway = Gateway::of(&yaml)
        .answering(|_, call| Ok(answer(if shown("", call).contains("may-not") { 403 } else { 401 }, "")));
    for _ in 0..5 {
        assert_eq!(
            user(&gateway.send("GET /\nAuthorization: Bearer may-not")),
            "403 forbidden: Insufficient permissions -"
        );
    }
    for expected in ["401", "401", "429"] {
        assert!(gateway.send(BAD).said.starts_with(expected));
    }
}

#[test]
fn anything_else_is_no_answer() {
    for status in [301, 302, 304, 307, 400, 404, 407, 429, 500, 503] {
        let (gateway, _) = asking("", move |_| Ok(answer(status, "x-user-id: ann\nlocation: /login")));
        let sent = gateway.send(GOOD);
        assert_eq!(sent.said, "503 auth_unavailable: Authentication is not available now\nretry-after: 1", "{status}");
        assert!(sent.cause.unwrap().starts_with(&format!("`central` has no answer: the answer is {status}")));
    }
    let (gateway, _) = asking("", down);
    let sent = gateway.send(GOOD);
    assert_eq!(sent.cause.as_deref(), Some("`central` has no answer: connection refused"));
}

#[test]
fn a_request_that_shows_nothing_goes_to_the_next_way_and_nobody_is_asked() {
    let (gateway, asked) = service("");
    let missing = "401 credential_missing: Missing authorization header\nwww-authenticate: Bearer realm=\"central\"";
    assert_eq!(gateway.send("GET /\nCookie: session=good").said, missing);
    assert!(asked.borrow().is_empty());
    let (gateway, _) = service("in: [cookie:session]");
    assert_eq!(gateway.send("GET /\nCookie: other=good").said, "401 credential_missing: Missing credential");
}

#[test]
fn what_the_service_refuses_goes_to_the_next_way_where_that_is_written() {
    let written = yaml("")
        .replace(
            "auth: { central:",
            "auth: { keys: { api_key: { inline: [{ key: a-key-of-the-machine, user: ci }] } }, central:",
        )
        .replace("auth: central", "auth: { ways: [central, keys], bad: next }");
    let gateway = Gateway::of(&written).answering(|_, _| Ok(answer(401, "www-authenticate: theirs")));
    assert_eq!(user(&gateway.send(&format!("{BAD}\nX-API-Key: a-key-of-the-machine"))), "pass ci");
    assert_eq!(gateway.send(BAD).said, "401 credential_invalid: Invalid token\nwww-authenticate: theirs");
}

#[test]
fn a_request_that_shows_nothing_is_asked_about_where_that_is_written_and_has_not_failed() {
    let (gateway, asked) = service("anonymous: on, cache: 1m");
    let said = "401 credential_missing: Missing authorization header\nwww-authenticate: Bearer realm=\"theirs\"";
    for times in 1..=30 {
        assert_eq!(gateway.send("GET /").said, said);
        assert_eq!(asked.borrow().len(), times, "what is said of nobody is for one request");
    }
    let (gateway, _) = asking("anonymous: on", |_| Ok(answer(200, "x-user-id: guest")));
    assert_eq!(user(&gateway.send("GET /")), "pass guest");
}

#[test]
fn credentials_are_looked_for_where_that_is_written_and_only_those_cookies_are_sent() {
    let (gateway, asked) = asking("in: [header:x-token, cookie:session, query:token]", |_| Ok(answer(200, "")));
    let sent = gateway.send("GET /a?token=q&b=c\nX-Token: t\nCookie: a=b; session=s; c=d\nAuthorization: Bearer other");
    assert_eq!((&*sent.said, &*sent.exchange.head.target), ("pass", "/a?b=c"));
    let asked = asked.borrow();
    assert!(asked[0].starts_with("auth: GET /auth/verify\nx-token: t\ncookie: session=s\nx-forwarded-method: GET\nx-forwarded-uri: /a?token=q&b=c\n"), "{asked:?}");
    assert!(!asked[0].contains("other"));
}

#[test]
fn several_authorization_fields_are_refused_before_anybody_is_asked() {
    let (gateway, asked) = service("");
    let sent = gateway.send(&format!("{GOOD}\nAuthorization: Bearer bad"));
    assert_eq!(user(&sent), "401 credential_invalid: Invalid authorization header format -");
    assert!(asked.borrow().is_empty());
    let (gateway, asked) = service("in: [header:x-token, 'header:cookie'], headers: [authorization, accept]");
    for twice in ["X-Token: a\nX-Token: b", "X-Token: a\nAuthorization: Bearer a\nAuthorization: Bearer b"] {
        assert!(gateway.send(&format!("GET /\n{twice}")).said.starts_with("401 credential_invalid"), "{twice}");
    }
    assert!(asked.borrow().is_empty());
    gateway.send("GET /\nCookie: a=b\nCookie: c=d\nAccept: e\nAccept: f");
    assert_eq!(asked.borrow().len(), 1, "these are lists");
}

/// What the route's service sees of this field.
fn seen(gateway: &Gateway, request: &str, name: &str) -> Vec<String> {
    let fields = gateway.forwarded(request);
    fields.values(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

#[test]
fn the_routes_service_is_told_what_the_answer_says_and_nothing_that_the_client_made_up() {
    let (gateway, _) = service("headers_to_service: [x-user-id, x-more], cache: 1m");
    let forged = "X-User-Id: root\nX_User_Id: root\nX.User-Id: root\nX-More: m\nConnection: x-user-id";
    for _ in 0..2 {
        assert_eq!(seen(&gateway, &format!("{GOOD}\n{forged}"), "x-user-id"), ["ann"]);
        assert_eq!(seen(&gateway, &format!("{GOOD}\n{forged}"), "x-more"), Vec::<String>::new());
    }
    for name in ["x-user-id", "x_user_id", "x.user-id", "x-more"] {
        assert_eq!(seen(&gateway, &format!("GET /open\n{forged}"), name), Vec::<String>::new(), "{name}");
    }
    let (gateway, _) = asking("headers_to_service: [x-list]", |_| Ok(answer(200, "x-list: a\nx-list: b")));
    assert_eq!(seen(&gateway, GOOD, "x-list"), ["a, b"]);
}

#[test]
fn a_token_may_be_exchanged_for_another_one() {
    let (gateway, _) = asking("headers_to_service: [authorization]", |asked| {
        Ok(answer(200, if asked.contains("good") { "authorization: Bearer inner" } else { "" }))
    });
    assert_eq!(seen(&gateway, GOOD, "authorization"), ["Bearer inner"]);
    assert_eq!(seen(&gateway, BAD, "authorization"), Vec::<String>::new(), "the client's own does not pass");
}

#[test]
fn a_token_from_the_service_is_not_told_beyond_its_end() {
    let inner = Signer::secret("HS256", &[7; 32]).token(&json!({ "exp": WALL.as_secs() + 10 }));
    let (gateway, asked) = asking("headers_to_service: [authorization], cache: 2m", move |_| {
        Ok(answer(200, &format!("authorization: Bearer {inner}")))
    });
    for (after, times) in [(0, 1), (9, 1), (1, 2)] {
        gateway.world.advance(Duration::from_secs(after));
        let sent = gateway.send(GOOD);
        assert_eq!((&*sent.said, asked.borrow().len()), ("pass", times));
        assert_eq!(sent.exchange.identity.unwrap().expires, None, "that is another token");
    }
}

#[test]
fn a_login_page_is_passed_on_where_that_is_written_and_never_shared() {
    let says = |_: &str| Ok(answer(302, "location: https://login.test/?state=1\nset-cookie: state=1\nx-user-id: root"));
    let (gateway, asked) = asking("redirects: on, headers_to_client: [set-cookie], cache: 1m", says);
    for times in 1..=3 {
        let sent = gateway.send(BAD);
        assert_eq!(
            sent.said,
            "answer 302\nset-cookie: state=1\nlocation: https://login.test/?state=1\ncache-control: no-store"
        );
        assert_eq!((sent.exchange.identity, asked.borrow().len()), (None, times));
    }
    let (gateway, _) = asking("redirects: on", |_| Ok(answer(302, "")));
    assert!(gateway.send(BAD).said.starts_with("503 auth_unavailable"));
}

#[test]
fn an_answer_with_a_cookie_for_the_client_is_not_remembered() {
    let more = "headers_to_client: [set-cookie], cache: 1m";
    let (gateway, asked) = asking(more, |_| Ok(answer(401, "set-cookie: a=b")));
    gateway.send(BAD);
    gateway.send(BAD);
    assert_eq!(asked.borrow().len(), 2);
}

#[test]
fn without_a_cache_every_request_is_asked_about() {
    let (gateway, asked) = service("");
    for times in 1..=3 {
        assert_eq!(user(&gateway.send(GOOD)), "pass ann");
        assert_eq!(asked.borrow().len(), times);
    }
}

#[test]
fn a_caller_is_remembered_for_exactly_what_was_asked() {
    let (gateway, asked) = service("cache: 2m, headers: [x-flavour]");
    let variants = [
        GOOD.to_owned(),
        GOOD.replace("GET", "HEAD"),
        GOOD.replace("/a?", "/b?"),
        GOOD.replace("b=c", "b=d"),
        GOOD.replace("good", "goods"),
        format!("{GOOD}\nHost: other.example.com"),
        format!("{GOOD}\nX-Flavour: sweet"),
        format!("{GOOD}\nX-Flavour:"),
    ];
    for (times, request) in variants.iter().enumerate() {
        for _ in 0..3 {
            gateway.send(request);
            gateway.send(&format!("{request}\nX-Other: o"));
        }
        assert_eq!(asked.borrow().len(), times + 1, "{request}");
    }
    let mut gateway = gateway;
    gateway.client = ([192, 0, 2, 2], 1).into();
    gateway.send(GOOD);
    assert_eq!(asked.borrow().len(), variants.len() + 1, "another client");
}

#[test]
fn what_the_service_is_not_told_makes_no_difference() {
    let (gateway, asked) = service("cache: 2m, tell: []");
    for request in [GOOD, "POST /x\nHost: h.test\nAuthorization: Bearer good"] {
        assert_eq!(user(&gateway.send(request)), "pass ann");
    }
    assert_eq!(*asked.borrow(), ["auth: GET /auth/verify\nauthorization: Bearer good"]);
    assert_eq!(user(&gateway.send(BAD)), "401 credential_invalid: Invalid token -", "but a credential always does");
    let (gateway, asked) = service("cache: 2m, tell: [path]");
    gateway.send("GET /a?b=1\nAuthorization: Bearer good");
    gateway.send("GET /a?b=2\nAuthorization: Bearer good");
    assert_eq!(*asked.borrow(), ["auth: GET /auth/verify\nauthorization: Bearer good\nx-forwarded-uri: /a"]);
}

#[test]
fn a_caller_is_remembered_for_as_long_as_that_is_written_and_a_refusal_shortly() {
    let (gateway, asked) = service("cache: 2m");
    let times = |request: &str| {
        gateway.send(request);
        asked.borrow().len()
    };
    assert_eq!([times(GOOD), times(BAD)], [1, 2]);
    gateway.world.advance(Duration::from_millis(4999));
    assert_eq!([times(GOOD), times(BAD)], [2, 2]);
    gateway.world.advance(Duration::from_millis(1));
    assert_eq!([times(GOOD), times(BAD)], [2, 3]);
    gateway.world.advance(Duration::from_millis(114_999));
    assert_eq!(times(GOOD), 3);
    gateway.world.advance(Duration::from_millis(1));
    assert_eq!(times(GOOD), 4);
    let (gateway, asked) = service("cache: 2m, cache_refused: off");
    gateway.send(BAD);
    gateway.send(BAD);
    assert_eq!(asked.borrow().len(), 2);
}

#[test]
fn a_caller_is_never_remembered_beyond_the_end_of_their_token() {
    let token = Signer::secret("HS256", &[7; 32]).token(&json!({ "sub": "ann", "exp": WALL.as_secs() + 30 }));
    for (place, request) in [
        ("in: ['header:authorization']", format!("GET /\nAuthorization: Bearer {token}")),
        ("in: ['header:x-token']", format!("GET /\nX-Token: {token}")),
        ("in: ['cookie:t']", format!("GET /\nCookie: t={token}")),
    ] {
        let (gateway, asked) = asking(&format!("cache: 2m, {place}"), |_| Ok(answer(200, "x-user-id: ann")));
        let sent = gateway.send(&request);
        assert_eq!(sent.exchange.identity.unwrap().expires, Some(WALL + Duration::from_secs(30)));
        gateway.world.advance(Duration::from_millis(29_999));
        gateway.send(&request);
        assert_eq!(asked.borrow().len(), 1, "{place}");
        gateway.world.advance(Duration::from_millis(1));
        for times in 2..=3 {
            gateway.send(&request);
            assert_eq!(asked.borrow().len(), times, "{place}");
        }
    }
}

#[test]
fn a_large_token_ends_too() {
    let claims = json!({ "exp": WALL.as_secs() + 1, "groups": "g".repeat(20_000) });
    let token = Signer::secret("HS256", &[7; 32]).token(&claims);
    let (gateway, asked) = asking("cache: 2m", |_| Ok(answer(200, "")));
    for times in 1..=2 {
        assert_eq!(gateway.send(&format!("GET /\nAuthorization: Bearer {token}")).said, "pass");
        assert_eq!(asked.borrow().len(), times);
        gateway.world.advance(Duration::from_secs(1));
    }
}

#[test]
fn what_a_token_says_of_its_end_makes_nothing_longer_and_does_no_harm() {
    let end = |exp: serde_json::Value| Signer::secret("HS256", &[7; 32]).token(&json!({ "exp": exp }));
    for token in
        [end(json!(1e300)), end(json!(-1e300)), end(json!("soon")), end(json!(null)), "a.b.c".into(), "..".into()]
    {
        let (gateway, asked) = asking("cache: 1m", |_| Ok(answer(200, "")));
        let request = format!("GET /\nAuthorization: Bearer {token}");
        gateway.send(&request);
        gateway.world.advance(Duration::from_mins(1));
        assert_eq!(gateway.send(&request).said, "pass");
        assert_eq!(asked.borrow().len(), 2, "{token}");
    }
}

#[test]
fn what_an_answer_forbids_to_caches_by_habit_is_for_others() {
    let (gateway, asked) = asking("cache: 1m", |_| Ok(answer(200, "cache-control: no-store\npragma: no-cache")));
    gateway.send(GOOD);
    gateway.send(GOOD);
    assert_eq!(asked.borrow().len(), 1);
}

#[test]
fn an_outage_is_never_remembered_and_callers_who_are_known_do_not_notice_it() {
    let is_down = Rc::new(std::cell::Cell::new(false));
    let going = Rc::clone(&is_down);
    let (gateway, _) =
        asking("cache: 1m", move |_| if going.get() { down("") } else { Ok(answer(200, "x-user-id: ann")) });
    assert_eq!(user(&gateway.send(GOOD)), "pass ann");
    is_down.set(true);
    assert_eq!(user(&gateway.send(GOOD)), "pass ann");
    assert!(gateway.send(BAD).said.starts_with("503 auth_unavailable"));
    is_down.set(false);
    assert_eq!(user(&gateway.send(BAD)), "pass ann");
}

#[test]
fn an_outage_lets_requests_pass_that_nobody_knows_where_that_is_written() {
    let written = yaml("on_unavailable: allow").replace(
        "auth: central }",
        "auth: central }\n  - { match: { path_prefix: /admin }, service: s, auth: central, require: { roles: [admin] } }",
    );
    let gateway = Gateway::of(&written).answering(|_, call| down(&shown("", call)));
    assert_eq!(
        gateway.warnings,
        "warning: auth.central.verify.on_unavailable: an outage of the service lets everybody in | write a `require` where only some callers may pass, or leave this out"
    );
    let sent = gateway.send(GOOD);
    assert_eq!((&*user(&sent), sent.exchange.identity.is_some()), ("pass -", true));
    assert!(gateway.send("GET /admin\nAuthorization: Bearer x").said.starts_with("403 forbidden"));
    assert_eq!(gateway.send("GET /").said.lines().next(), Some("401 credential_missing: Missing authorization header"));
    let mut jobs = gateway.jobs();
    gateway.world.turn(&mut jobs);
    assert_eq!(counts(&gateway), [2.0, 2.0, 0.0, 2.0]);
}

/// Allowed, asked, remembered and unavailable.
fn counts(gateway: &Gateway) -> Vec<f64> {
    gateway.shared().gauges().read().into_iter().map(|(_, value)| value).collect()
}

#[test]
fn operators_see_what_was_asked_and_what_was_not() {
    let (gateway, _) = asking("cache: 1m", |asked| if asked.contains("good") { Ok(answer(200, "")) } else { down("") });
    let mut jobs = gateway.jobs();
    for request in [GOOD, GOOD, GOOD, BAD] {
        gateway.send(request);
    }
    gateway.world.advance(Duration::from_secs(1));
    gateway.world.turn(&mut jobs);
    assert_eq!(counts(&gateway), [0.0, 2.0, 2.0, 1.0]);
}

#[test]
fn the_service_is_asked_no_more_often_than_that_is_written_and_nobody_slips_through() {
    for allow in ["", "on_unavailable: allow, "] {
        let (gateway, asked) = asking(&format!("{allow}max_rate: 2/s"), |_| Ok(answer(200, "x-user-id: ann")));
        for expected in ["pass", "pass", "503 auth_unavailable", "503 auth_unavailable"] {
            assert!(gateway.send(GOOD).said.starts_with(expected));
        }
        assert_eq!(asked.borrow().len(), 2);
        gateway.world.advance(Duration::from_millis(500));
        assert_eq!(gateway.send(GOOD).said, "pass");
    }
}

#[test]
fn a_thousand_requests_that_ask_the_same_ask_once() {
    let (gateway, asked) = service("cache: 1m");
    gateway.world.slow(true);
    let mut going: Vec<Local<'_, ()>> = (0..1001).map(|_| gateway.sending(GOOD)).collect();
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), gateway.world.called()), (1001, 1));
    let mut one_more = vec![gateway.sending(GOOD)];
    gateway.world.turn(&mut one_more);
    assert!(one_more.is_empty(), "more do not wait");
    gateway.world.slow(false);
    gateway.world.turn(&mut going);
    assert!(going.is_empty());
    assert_eq!((asked.borrow().len(), gateway.world.called()), (1, 1));
}

#[test]
fn whoever_waits_asks_when_the_one_who_asked_goes_away() {
    let (gateway, _) = service("cache: 1m");
    gateway.world.slow(true);
    let mut first = vec![gateway.sending(GOOD)];
    gateway.world.turn(&mut first);
    let mut others: Vec<Local<'_, ()>> = (0..10).map(|_| gateway.sending(GOOD)).collect();
    gateway.world.turn(&mut others);
    assert_eq!((others.len(), gateway.world.called()), (10, 1));
    drop(first);
    gateway.world.turn(&mut others);
    assert_eq!((others.len(), gateway.world.called()), (10, 2));
    gateway.world.slow(false);
    gateway.world.turn(&mut others);
    gateway.world.turn(&mut others);
    assert_eq!((others.len(), gateway.world.called()), (0, 2));
    assert_eq!(user(&gateway.send(GOOD)), "pass ann");
    assert_eq!(gateway.world.called(), 2);
}

#[test]
fn a_crowd_before_one_question_keeps_nobody_from_asking_another() {
    let (gateway, _) = service("cache: 1m");
    gateway.world.slow(true);
    let mut going: Vec<Local<'_, ()>> = (0..1001).map(|_| gateway.sending(BAD)).collect();
    going.push(gateway.sending(GOOD));
    going.push(gateway.sending(GOOD));
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), gateway.world.called()), (1003, 2));
}

#[test]
fn those_for_whom_an_answer_is_not_meant_need_not_wait_for_each_other() {
    let says = |_: &str| Ok(answer(302, "location: https://login.test/"));
    let (gateway, _) = asking("redirects: on, cache: 1m", says);
    gateway.world.slow(true);
    let mut going: Vec<Local<'_, ()>> = (0..10).map(|_| gateway.sending(BAD)).collect();
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), gateway.world.called()), (10, 1));
    gateway.world.slow(false);
    let mut first = vec![going.remove(0)];
    gateway.world.turn(&mut first);
    assert!(first.is_empty());
    gateway.world.slow(true);
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), gateway.world.called()), (9, 10), "all of them at once");
}

#[test]
fn without_a_cache_no_two_requests_share_an_answer() {
    let (gateway, _) = service("");
    gateway.world.slow(true);
    let mut going: Vec<Local<'_, ()>> = (0..10).map(|_| gateway.sending(GOOD)).collect();
    gateway.world.turn(&mut going);
    assert_eq!(gateway.world.called(), 10);
}

#[test]
fn few_questions_are_under_way_at_once_and_nobody_waits_longer_than_that_is_written() {
    let (gateway, _) = service("concurrency: 2, timeout: 1s");
    gateway.world.slow(true);
    let requests: Vec<String> = (0..5).map(|number| format!("{GOOD}{number}")).collect();
    let mut going: Vec<Local<'_, ()>> = requests.iter().map(|request| gateway.sending(request)).collect();
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), gateway.world.called()), (5, 2));
    gateway.world.advance(Duration::from_millis(999));
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), gateway.world.called()), (5, 2));
    gateway.world.advance(Duration::from_millis(1));
    gateway.world.turn(&mut going);
    assert!(going.is_empty());
}

#[test]
fn whoever_floods_a_service_that_is_well_does_not_slip_through() {
    let (gateway, _) = service("concurrency: 1, on_unavailable: allow");
    gateway.world.slow(true);
    let mut going: Vec<Local<'_, ()>> = (0..1001).map(|_| gateway.sending(BAD)).collect();
    gateway.world.turn(&mut going);
    assert_eq!((going.len(), gateway.world.called()), (1001, 1));
    let sent = gateway.send(BAD);
    assert_eq!(user(&sent), "503 auth_unavailable: Authentication is not available now -");
    assert_eq!(sent.cause.as_deref(), Some("`central` has no answer: too many requests wait for it"));
    gateway.world.advance(Duration::from_secs(2));
    gateway.world.turn(&mut going);
    assert!(going.is_empty());
    let mut one = vec![gateway.sending(BAD)];
    gateway.world.turn(&mut one);
    going.extend((0..1000).map(|_| gateway.sending(BAD)));
    gateway.world.turn(&mut going);
    assert_eq!(user(&gateway.send(BAD)), "pass -", "but now it is known not to answer");
}

#[test]
fn a_service_that_is_asked_too_late_to_answer_is_no_outage() {
    for (waits, expected) in [(1001, "503 auth_unavailable"), (1000, "pass")] {
        for cache in ["", "cache: 1m, "] {
            let (gateway, _) = service(&format!("{cache}concurrency: 1, on_unavailable: allow"));
            let said = Rc::new(RefCell::new(String::new()));
            gateway.world.slow(true);
            let mut first = vec![gateway.sending(BAD)];
            gateway.world.turn(&mut first);
            let kept = Rc::clone(&said);
            let mut second: Vec<Local<'_, ()>> = vec![Box::pin(async {
                let sent = gateway.exchange(BAD).await;
                *kept.borrow_mut() = sent.said;
            })];
            gateway.world.turn(&mut second);
            gateway.world.advance(Duration::from_millis(waits));
            drop(first);
            gateway.world.turn(&mut second);
            assert_eq!((second.len(), gateway.world.called()), (1, 2));
            gateway.world.advance(Duration::from_millis(2000 - waits));
            gateway.world.turn(&mut second);
            drop(second);
            assert!(said.borrow().starts_with(expected), "{waits} {cache}: {said:?}");
        }
    }
}

#[test]
fn an_odd_answer_is_no_outage() {
    for (status, expected) in
        [(400, "503"), (404, "503"), (429, "503"), (500, "503"), (502, "pass"), (503, "pass"), (504, "pass")]
    {
        let (gateway, _) = asking("on_unavailable: allow", move |_| Ok(answer(status, "")));
        assert!(gateway.send(BAD).said.starts_with(expected), "{status}");
    }
    let (gateway, _) = asking("on_unavailable: allow", |_| Ok(answer(200, "x-user-id: a\nx-user-id: b")));
    assert!(gateway.send(BAD).said.starts_with("503"));
    let (gateway, _) = asking("on_unavailable: allow", |_| Err(CallError::Odd("it is longer than that".to_owned())));
    assert!(gateway.send(BAD).said.starts_with("503"));
}

#[test]
fn a_service_that_has_no_room_is_an_outage_only_if_it_is_known_not_to_answer() {
    let (gateway, _) = asking("on_unavailable: allow", |asked| {
        let full = asked.contains("bad");
        Err(if full { CallError::Unasked("Service is busy".to_owned()) } else { CallError::Down("gone".to_owned()) })
    });
    for (request, expected) in [(BAD, "503 auth_unavailable"), (GOOD, "pass"), (BAD, "pass")] {
        assert!(gateway.send(request).said.starts_with(expected), "{request}");
    }
}

#[test]
fn a_question_is_asked_again_with_growing_waits_unless_that_is_off() {
    for (retry, expected) in [
        ("", Some((2, 25, 250))),
        ("retry: { attempts: 3, backoff: { base: 50ms } }", Some((3, 50, 250))),
        ("retry: { backoff: { base: 1s } }", Some((2, 1000, 1000))),
        ("retry: off", None),
    ] {
        let gateway = Gateway::of(&yaml(retry)).answering(move |_, call| {
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
            let found = call.retry.map(|retry| (retry.attempts, millis(retry.backoff_base), millis(retry.backoff_max)));
            assert_eq!(found, expected);
            Ok(answer(200, ""))
        });
        assert_eq!(gateway.send(GOOD).said, "pass");
    }
}

#[test]
fn a_reload_forgets_what_was_said_only_where_something_else_may_be_asked() {
    let (mut gateway, asked) = service("cache: 1m");
    gateway.send(GOOD);
    let same = yaml("cache: 1m");
    for (again, times) in [
        (same.replace("path_prefix: /open", "path_prefix: /shut"), 1),
        (same.replace("9002", "9003"), 2),
        (same.replace("/auth/verify", "/auth/check"), 3),
    ] {
        gateway = gateway.reload(&again);
        let kept = Rc::clone(&asked);
        gateway.world.answering(move |service, call| {
            kept.borrow_mut().push(shown(service, call));
            Ok(answer(200, "x-user-id: ann"))
        });
        assert_eq!(user(&gateway.send(GOOD)), "pass ann");
        assert_eq!(asked.borrow().len(), times);
    }
}

#[test]
fn tokens_that_travel_in_clear_to_the_service_are_a_warning() {
    let with = |url: &str| problems(&yaml("").replace("http://127.0.0.1:9002", url));
    let warning = "warning: auth.central: what callers show to `central` can be read on its way to `auth`, which is asked without TLS | give the service `https://` endpoints";
    for (url, expected) in [
        ("http://10.0.0.1:80", warning),
        ("http://auth.internal", warning),
        ("https://auth.internal", ""),
        ("http://localhost:1", ""),
        ("'http://[::1]:1'", ""),
    ] {
        assert_eq!(with(url), expected, "{url}");
    }
}

#[test]
fn mistakes_are_told_where_they_stand() {
    for (verify, expected) in [
        ("timeout: 0s", "error: v.timeout: nobody answers at once"),
        ("timeout: 2m", "error: v.timeout: `timeout` is 1m at most"),
        ("cache: 2h", "error: v.cache: `cache` is 1h at most"),
        ("cache: 5m, cache_refused: 2m", "error: v.cache_refused: `cache_refused` is 1m at most"),
        (
            "cache_refused: 5s",
            "error: v.cache_refused: `cache_refused` needs a `cache`: nothing is remembered | write for instance `cache: 2m`",
        ),
        (
            "max_cached: 5",
            "error: v.max_cached: `max_cached` needs a `cache`: nothing is remembered | write for instance `cache: 2m`",
        ),
        ("cache: 1m, max_cached: 0", "error: v.max_cached: `max_cached` is 1 to 1000000"),
        ("concurrency: 0", "error: v.concurrency: `concurrency` is 1 to 10000"),
        (
            "retry: { attempts: 0 }",
            "error: v.retry.attempts: `attempts` are tries in all, 1 to 10 | write `retry: off` to try once",
        ),
        (
            "retry: { backoff: { base: 1s, max: 10ms } }",
            "error: v.retry.backoff.max: the longest wait is shorter than the first",
        ),
        ("retry: { per_try_timeout: 0s }", "error: v.retry.per_try_timeout: nobody answers at once"),
        ("method: CONNECT", "error: v.method: CONNECT asks nothing"),
        (
            "in: [path:a]",
            "error: v.in[0]: that is no place for a credential | write `header:NAME`, `cookie:NAME` or `query:NAME`",
        ),
        (
            "in: ['header:x-forwarded-for']",
            "error: v.in[0]: `x-forwarded-for` is what the gateway says itself, see `tell`",
        ),
        (
            "in: ['query:token'], tell: [path]",
            "error: v.in[0]: the service would not see the query parameter `token`: `tell` has no `uri`",
        ),
        ("headers: [host]", "error: v.headers[0]: `host` belongs to a message, and the service gets one of its own"),
        (
            "headers: [x_forwarded_uri]",
            "error: v.headers[0]: `x_forwarded_uri` is what the gateway says itself, see `tell`",
        ),
        (
            "headers: [Authorization]",
            "error: v.headers[0]: `authorization` is sent already: it is what callers show, see `in`",
        ),
        ("in: ['cookie:a'], headers: [authorization]", ""),
        ("headers: [a, a]", "error: v.headers[1]: `a` is there twice"),
        ("tell: [uri, path]", "error: v.tell[1]: `x-forwarded-uri` is told twice"),
        (
            "headers_to_client: [content-type]",
            "error: v.headers_to_client[0]: `content-type` belongs to a message, and the client gets one of its own",
        ),
        (
            "headers_to_service: [cookie]",
            "error: v.headers_to_service[0]: `cookie` already means something else: take a name of your own, such as `x-user-id`",
        ),
        (
            "headers: [x-user], headers_to_service: [X-User]",
            "error: v.headers_to_service: `x-user` is taken out of every request, so the service would never get it | let the answer name it otherwise",
        ),
        ("in: [header:authorization], headers_to_service: [authorization]", ""),
        ("cache: off, retry: off", ""),
    ] {
        let found = problems(&yaml(verify)).replace("auth.central.verify", "v");
        assert_eq!(found, expected, "{verify}");
    }
}

#[test]
fn a_service_that_is_not_there_is_a_mistake() {
    for (from, to, expected) in [
        ("service: auth,", "", "error: auth.central.verify: `service` is missing"),
        (
            "service: auth,",
            "service: oauth,",
            "error: auth.central.verify.service: there is no service `oauth` | did you mean `auth`?",
        ),
        ("path: /auth/verify,", "", "error: auth.central.verify: `path` is missing"),
        ("path: /auth/verify,", "path: auth,", "error: auth.central.verify.path: a path begins with `/`"),
        ("path: /auth/verify,", "path: '/a b',", "error: auth.central.verify.path: a path is plain ASCII"),
        ("path: /auth/verify,", "pathh: /a,", "did you mean `path`?"),
    ] {
        let found = problems(&yaml("").replace(from, to));
        assert!(found.contains(expected), "{to}: {found}");
    }
}
