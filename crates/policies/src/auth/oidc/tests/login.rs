use std::time::Duration;

use super::*;

#[test]
fn a_browser_that_opens_a_page_is_sent_to_the_provider() {
    let site = Site::new(&yaml("scopes: [openid, profile], parameters: { prompt: 'log in' }"));
    let asked = site.open("/page");
    assert!(asked.0.starts_with("https://idp.test/authorize?response_type=code&client_id=web&"), "{}", asked.0);
    for (name, value) in [
        ("redirect_uri", "http://api.example.com/oauth2/callback"),
        ("scope", "openid profile"),
        ("code_challenge_method", "S256"),
        ("prompt", "log in"),
    ] {
        assert_eq!(asked.parameter(name), value, "{name}");
    }
    let again = site.open("/page");
    for name in ["state", "nonce", "code_challenge"] {
        assert_eq!(asked.parameter(name).len(), 43, "{name}");
        assert_ne!(asked.parameter(name), again.parameter(name), "{name}");
    }
}

#[test]
fn what_is_not_a_page_gets_401_and_never_a_redirect() {
    let site = Site::new(&yaml(""));
    let refused = "401 credential_missing: Not logged in\nwww-authenticate: Cookie realm=\"login\"";
    for request in [
        "GET /",
        "GET /\nAccept: */*",
        "GET /\nAccept: application/json",
        "GET /\nAccept: text/html;q=0",
        "GET /\nAccept: text/html\nSec-Fetch-Mode: cors",
        "GET /\nAccept: text/html\nSec-Fetch-Mode: no-cors",
        "GET /\nAccept: text/html\nSec-Fetch-Mode: websocket",
        "GET /\nAccept: text/html\nX-Requested-With: XMLHttpRequest",
        "GET /\nAccept: text/html\nSec-Fetch-Mode: navigate\nSec-Fetch-Mode: cors",
        "POST /\nAccept: text/html\nSec-Fetch-Mode: navigate",
        "OPTIONS /\nAccept: text/html",
    ] {
        let sent = site.send(request);
        assert_eq!(sent.said, refused, "{request}");
        assert!(sent.exchange.cookies.is_empty(), "{request}");
    }
    for request in [
        "GET /\nSec-Fetch-Mode: navigate\nAccept: */*",
        "HEAD /\nAccept: text/html",
        "GET /\nAccept: application/xml\nAccept: application/json, TEXT/HTML;q=0.5",
    ] {
        assert!(site.send(request).said.starts_with("answer 302\n"), "{request}");
    }
}

#[test]
fn who_comes_back_with_a_code_is_known_and_sees_what_they_asked_for() {
    let site = Site::new(&yaml("client_secret: 'a secret/with:signs'").replacen(
        "client_secret: a-secret-of-the-gateway, ",
        "",
        1,
    ));
    let asked = site.open("/page?a=b");
    let sent = site.come_back(&asked.parameter("state"));
    assert_eq!(sent.said, "answer 302\nlocation: /page?a=b\ncache-control: no-store");
    assert_eq!(site.names(), ["tg_login"], "nothing of the login is left");
    let cookie = sent.exchange.cookies.last().unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=28800"), "{cookie}");
    let question = site.idp.borrow().asked.join("\n");
    let verifier = query::values(&question, "code_verifier").next().unwrap().into_owned();
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    assert_eq!(challenge, asked.parameter("code_challenge"));
    let rest = "grant_type=authorization_code&code=c1&redirect_uri=http%3A%2F%2Fapi.example.com%2Foauth2%2Fcallback";
    // base64 of `web:a%20secret%2Fwith%3Asigns`
    let credential = "Basic d2ViOmElMjBzZWNyZXQlMkZ3aXRoJTNBc2lnbnM=";
    assert_eq!(question, format!("{credential} {rest}&code_verifier={verifier}"));
    let identity = site.send("GET /page").exchange.identity.unwrap();
    assert_eq!((&*identity.way, identity.user.as_deref()), ("login", Some("u1")));
    assert_eq!(
        (&*identity.roles, &identity.claims),
        (&["admin".into()][..], &json!({ "sub": "u1", "email": "ann@idp.test" }))
    );
    assert_eq!(identity.expires, Some(WALL + Duration::from_hours(8)));
}

#[test]
fn services_see_the_other_cookies_and_none_of_these() {
    let site = Site::new(&yaml(""));
    site.log_in();
    let cookies = "a=1; tg_login~1=x; __Host-tg_login=y; tg_login~abcdefgh=z; tg_login_not=2; tg_login; b";
    let sent = site.send(&format!("GET /\nCookie: {cookies}"));
    assert_eq!(who(&sent), "u1");
    assert_eq!(sent.exchange.head.fields.text(Known::Cookie), Some("a=1; tg_login_not=2; b"));
    let sent = site.gateway.send("GET /\nCookie: a=1; tg_login=bad");
    assert_eq!(sent.exchange.head.fields.text(Known::Cookie), Some("a=1"), "also of a request that is refused");
}

#[test]
fn services_of_other_routes_do_not_see_the_session_either() {
    let other =
        "{ match: { path: /open }, service: s, auth: none }, { match: { path: /keys }, service: s, auth: keys }";
    let site = Site::new(&yaml("").replace("routes: [", &format!("routes: [{other}, ")));
    site.log_in();
    for request in ["GET /open", "GET /keys\nX-API-Key: a-key-of-the-build-machine"] {
        let session = site.jar.borrow()["tg_login"].clone();
        let sent = site.gateway.send(&format!("{request}\nCookie: a=1; tg_login={session}; b=2"));
        assert_eq!(sent.said, "pass");
        assert_eq!(sent.exchange.head.fields.text(Known::Cookie), Some("a=1; b=2"), "{request}");
    }
}

#[test]
fn an_answer_that_was_not_asked_for_is_refused_before_anybody_is_asked() {
    let site = Site::new(&yaml(""));
    let state = site.open("/page").parameter("state");
    let (other, right) = (format!("{}{}", &state[..8], "A".repeat(35)), "&iss=https%3A%2F%2Fidp.test%2F");
    let not_begun = "this browser has begun no such login, or too long ago";
    for (query, cause) in [
        (format!("code=c1&state={other}{right}"), not_begun),
        (format!("code=c1&state={}{right}", &state[..20]), not_begun),
        (format!("code=c1{right}"), not_begun),
        (format!("code=c1&state={right}"), not_begun),
        (format!("code=c1&state=%3B%3D%0d%0a%00aaaaaaa{right}"), not_begun),
        (format!("code=c1&state={state}&state={state}{right}"), "the answer says something twice"),
    ] {
        let sent = site.send(&format!("GET /oauth2/callback?{query}\n{PAGE}"));
        assert_eq!(sent.said, "400 login_failed: The login could not be completed: begin again", "{query}");
        assert_eq!((sent.cause.as_deref(), site.asked()), (Some(cause), 0), "{query}");
    }
    let strange = "the answer is of another provider, or does not say of which";
    for (query, cause) in [
        ("code=c1&iss=https%3A%2F%2Fidp.test".to_owned(), strange),
        ("code=c1&iss=https%3A%2F%2Fevil.test%2F".to_owned(), strange),
        ("code=c1".to_owned(), strange),
        (format!("code=c1&code=c2{right}"), "the answer says something twice"),
        (format!("code=c1{right}{right}"), "the answer says something twice"),
        (format!("code={right}"), "the provider's answer has no code"),
        (format!("code={}{right}", "c".repeat(4097)), "the provider's answer has no code"),
        (right[1..].to_owned(), "the provider's answer has no code"),
    ] {
        let state = site.open("/page").parameter("state");
        let sent = site.send(&format!("GET /oauth2/callback?{query}&state={state}\n{PAGE}"));
        assert_eq!(
            sent.said.lines().next(),
            Some("400 login_failed: The login could not be completed: begin again"),
            "{query}"
        );
        assert_eq!((sent.cause.as_deref(), site.asked()), (Some(cause), 0), "{query}");
    }
}

#[test]
fn a_login_is_finished_by_the_browser_that_has_begun_it_where_it_has_begun_it() {
    let site = Site::new(&yaml(""));
    let state = site.open("/page").parameter("state");
    let callback = format!("GET /oauth2/callback?code=c1&state={state}&iss=https%3A%2F%2Fidp.test%2F\n{PAGE}");
    assert!(site.gateway.send(&callback).said.starts_with("400 login_failed"), "another browser");
    let elsewhere = site.gateway.send(&site.with_cookies(&format!("{callback}\nHost: other.example.com")));
    assert!(elsewhere.said.starts_with("400 login_failed"), "another host");
    let port = site.gateway.send(&site.with_cookies(&format!("{callback}\nHost: api.example.com:81")));
    assert_eq!(port.cause.as_deref(), Some("the browser did not come back to where it was sent"));
    assert_eq!(site.asked(), 0);
    assert_eq!(location(&site.send(&callback)), "/page");
}

#[test]
fn an_answer_is_good_once() {
    let site = Site::new(&yaml(""));
    let state = site.open("/page").parameter("state");
    assert_eq!(location(&site.come_back(&state)), "/page");
    assert!(site.come_back(&state).said.starts_with("400 login_failed"));
    assert_eq!(site.asked(), 1);
}

#[test]
fn a_login_that_takes_too_long_comes_to_nothing() {
    let site = Site::new(&yaml(""));
    let state = site.open("/page").parameter("state");
    site.advance(600);
    assert!(site.come_back(&state).said.starts_with("400 login_failed"));
}

#[test]
fn id_tokens_that_prove_nothing_begin_no_session() {
    let site = Site::new(&format!("auth_failures: off\n{}", yaml("")));
    let now = WALL.as_secs();
    for (claims, cause) in [
        (json!({ "nonce": "another" }), "the token belongs to another login"),
        (json!({ "nonce": null }), "the token belongs to another login"),
        (json!({ "iss": "https://evil.test/" }), "the token is of another issuer"),
        (json!({ "iss": "https://idp.test" }), "the token is of another issuer"),
        (json!({ "iss": null }), "the token is of another issuer"),
        (json!({ "aud": "other" }), "the token is for another audience"),
        (json!({ "aud": null }), "the token is for another audience"),
        (json!({ "aud": ["other", "web"] }), "the token is for several, and does not say for whom it was issued"),
        (json!({ "aud": ["other", "web"], "azp": "other" }), "the token was issued for another client"),
        (json!({ "azp": "other" }), "the token was issued for another client"),
        (json!({ "azp": 1 }), "the token was issued for another client"),
        (json!({ "exp": now - 31 }), "the token has ended"),
        (json!({ "exp": null }), "the token has no end"),
        (json!({ "iat": now + 31 }), "the token is issued in the future"),
        (json!({ "iat": null }), "the token lacks a claim"),
        (json!({ "nbf": now + 31 }), "the token has not begun"),
        (json!({ "sub": null }), "the token lacks a claim"),
        (json!({ "sub": "" }), "the token does not say whose it is"),
        (json!({ "sub": 7 }), "the token does not say whose it is"),
        (json!({ "at_hash": "another" }), "the token belongs to another access token"),
        (json!({ "at_hash": 1 }), "the token belongs to another access token"),
    ] {
        site.idp.borrow_mut().claims = claims.clone();
        let state = site.open("/page").parameter("state");
        let sent = site.come_back(&state);
        assert!(
            sent.said.starts_with("401 credential_invalid: The login could not be completed"),
            "{claims} {}",
            sent.said
        );
        assert_eq!(sent.cause.as_deref(), Some(cause), "{claims}");
        assert_eq!(site.names().len(), 0, "{claims}");
    }
    site.idp.borrow_mut().claims = json!({ "aud": ["other", "web"], "azp": "web", "at_hash": null });
    site.log_in();
}

#[test]
fn id_tokens_that_somebody_else_has_signed_begin_no_session() {
    let site = Site::new(&format!("auth_failures: off\n{}", yaml("")));
    let unsigned = |header: &str, claims: &Value| {
        format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
    };
    let with = |header: Value| -> Forge {
        let signer = Signer::new("ES256");
        Box::new(move |claims| signer.token_with(&header, claims))
    };
    let public = site.idp.borrow().signer.pem();
    let forged: Vec<(Forge, &str)> = vec![
        (Box::new(move |claims| unsigned("{\"alg\":\"none\"}", claims)), "a part of the token is not base64url"),
        (
            Box::new(move |claims| format!("{}AAAA", unsigned("{\"alg\":\"none\"}", claims))),
            "the token's algorithm is not known",
        ),
        (
            Box::new(|claims| Signer::secret("HS256", b"a-secret-of-the-gateway-as-a-key").token(claims)),
            "the token's algorithm is not allowed",
        ),
        (
            Box::new(move |claims| {
                Signer::secret("HS256", public.as_bytes()).token_with(&json!({ "kid": "a" }), claims)
            }),
            "the token's algorithm is not allowed",
        ),
        (with(json!({ "kid": "a" })), "the token's signature is wrong"),
        (with(json!({ "kid": "b" })), "the token's key is not known"),
        (with(json!({ "kid": "a", "typ": "at+jwt" })), "the token is of another type"),
        (with(json!({ "kid": "a", "crit": ["exp"] })), "the token has critical extensions"),
        (Box::new(|_| "x".repeat(9000)), "the token is larger than 8 KB"),
        (Box::new(|_| String::new()), "the token has not three parts"),
    ];
    for (forge, cause) in forged {
        site.idp.borrow_mut().forge = Some(forge);
        let state = site.open("/page").parameter("state");
        let mut jobs = site.gateway.jobs();
        let request = format!("GET /oauth2/callback?code=c1&state={state}&iss=https%3A%2F%2Fidp.test%2F\n{PAGE}");
        let sent = site.send_beside(&request, &mut jobs);
        assert_eq!((sent.said.split(':').next(), sent.cause.as_deref()), (Some("401 credential_invalid"), Some(cause)));
        assert_eq!(site.names().len(), 0, "{cause}");
    }
}

#[test]
fn nobody_is_led_to_another_host_after_a_login() {
    let site = Site::new(&yaml(""));
    let long = format!("/{}", "a".repeat(1023));
    let longer = format!("/?{}", "a".repeat(1023));
    for (target, end) in [
        ("/", "/"),
        ("/a/b?c=d&e=%2F", "/a/b?c=d&e=%2F"),
        ("//evil.test", "/evil.test"),
        ("///evil.test", "/evil.test"),
        ("/.//evil.test", "/evil.test"),
        ("/a/..//evil.test", "/evil.test"),
        ("/?next=https://evil.test", "/?next=https://evil.test"),
        ("http://api.example.com//evil.test", "/evil.test"),
        ("http://api.example.com/@evil.test", "/@evil.test"),
        (&long, &long),
        (&longer, "/"),
        ("/?a\\b", "/"),
    ] {
        let sent = site.send(&format!("GET {target}\n{PAGE}"));
        if sent.said.starts_with("400") {
            continue;
        }
        let asked = Asked(location(&sent));
        site.idp.borrow_mut().nonce = asked.parameter("nonce");
        assert_eq!(location(&site.come_back(&asked.parameter("state"))), end, "{target}");
        site.jar.borrow_mut().clear();
    }
}

#[test]
fn several_tabs_log_in_side_by_side_and_the_oldest_of_too_many_is_forgotten() {
    let site = Site::new(&yaml(""));
    let mut tabs = Vec::new();
    for number in 0..7 {
        let asked = site.open(&format!("/{number}"));
        tabs.push((asked.parameter("state"), asked.parameter("nonce")));
        assert_eq!(site.names().len(), 5.min(number + 1));
        site.advance(1);
    }
    for (number, (state, nonce)) in tabs.iter().enumerate() {
        site.idp.borrow_mut().nonce.clone_from(nonce);
        let sent = site.come_back(state);
        if number < 2 {
            assert!(sent.said.starts_with("400 login_failed"), "{number}");
        } else {
            assert_eq!(location(&sent), format!("/{number}"));
        }
    }
    assert_eq!(site.names(), ["tg_login"]);
}

#[test]
fn logins_that_are_too_old_or_not_of_the_gateway_make_room_first() {
    let site = Site::new(&yaml(""));
    site.open("/old");
    site.advance(601);
    site.jar.borrow_mut().insert("tg_login~forged00".to_owned(), "x".to_owned());
    site.open("/new");
    assert_eq!(site.names().len(), 1);
}

#[test]
fn no_more_logins_are_looked_at_than_a_browser_could_have() {
    let site = Site::new(&yaml(""));
    let forged = (0..500).map(|number| format!("tg_login~{number:08}=x")).collect::<Vec<_>>().join("; ");
    let sent = site.gateway.send(&format!("GET /\n{PAGE}\nCookie: {forged}"));
    assert!(sent.said.starts_with("answer 302\n"));
    assert_eq!(sent.exchange.cookies.len(), 20 + 1, "those that are forgotten, and the new one");
}

#[test]
fn nobody_comes_back_to_what_the_way_answers_by_itself() {
    let site = Site::new(&yaml(""));
    for target in ["/oauth2/callback?code=c1&state=s", "/oauth2/logout"] {
        let asked = Asked(location(&site.send(&format!("HEAD {target}\n{PAGE}"))));
        site.idp.borrow_mut().nonce = asked.parameter("nonce");
        assert_eq!(location(&site.come_back(&asked.parameter("state"))), "/", "{target}");
        site.jar.borrow_mut().clear();
    }
}

#[test]
fn while_the_provider_is_down_pages_get_503_and_logins_begin_as_soon_as_it_is_there() {
    let site = Site::down(&yaml(""), Idp::new());
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    let down = "503 auth_unavailable: Authentication is not available now\nretry-after: 1";
    assert_eq!(site.send(&format!("GET /\n{PAGE}")).said, down);
    assert!(site.send("GET /").said.starts_with("401 credential_missing"));
    for _ in 0..20 {
        site.advance(40);
        site.gateway.world.turn(&mut jobs);
    }
    site.idp.borrow_mut().down = false;
    assert_eq!(site.send(&format!("GET /\n{PAGE}")).said, down);
    // Somebody has asked, so the next attempt does not wait for its turn.
    site.advance(5);
    site.gateway.world.turn(&mut jobs);
    assert!(site.send(&format!("GET /\n{PAGE}")).said.starts_with("answer 302\n"));
    let state = site.open("/page").parameter("state");
    site.idp.borrow_mut().down = true;
    assert_eq!(site.come_back(&state).said, format!("{down}\ncache-control: no-store"));
}

#[test]
fn what_the_provider_says_of_itself_is_asked_again_and_a_bad_answer_changes_nothing() {
    let site = Site::new(&yaml(""));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    let mut after = |metadata: Value| {
        for (name, value) in metadata.as_object().unwrap() {
            site.idp.borrow_mut().metadata[name] = value.clone();
        }
        site.advance(4000);
        site.gateway.world.turn(&mut jobs);
        site.open("/").0.split('?').next().unwrap().to_owned()
    };
    assert_eq!(after(json!({ "authorization_endpoint": "https://idp.test/new" })), "https://idp.test/new");
    for bad in [
        json!({ "authorization_endpoint": "https://idp.test/bad", "issuer": "https://idp.test" }),
        json!({ "issuer": ISSUER, "token_endpoint": "https://elsewhere.test/token" }),
        json!({ "token_endpoint": "https://idp.test@evil.test/token" }),
        json!({ "token_endpoint": "https://idp.test/token", "jwks_uri": "http://idp.test/jwks" }),
        json!({ "jwks_uri": "https://idp.test/jwks", "authorization_endpoint": "javascript:alert(1)" }),
        json!({ "authorization_endpoint": "http://idp.test/bad" }),
        json!({ "authorization_endpoint": "https://idp.test/bad#x" }),
        json!({ "authorization_endpoint": 1 }),
    ] {
        assert_eq!(after(bad.clone()), "https://idp.test/new", "{bad}");
    }
    assert_eq!(after(json!({ "authorization_endpoint": "https://login.idp.test/x" })), "https://login.idp.test/x");
}

#[test]
fn a_refusal_of_the_provider_says_whose_fault_it_is() {
    let site = Site::new(&yaml(""));
    for (status, body, said, cause) in [
        (400, "{\"error\":\"invalid_grant\"}", "401 credential_invalid", "the provider answers 400 invalid_grant"),
        (401, "{\"error\":\"invalid_client\"}", "503 auth_unavailable", "the provider answers 401 invalid_client"),
        (400, "{\"error\":\"\\u001b[2Jx <y>\"}", "503 auth_unavailable", "the provider answers 400 2Jxy"),
        (500, "<html>", "503 auth_unavailable", "the provider answers 500 "),
        (200, "<html>", "503 auth_unavailable", "the answer cannot be read"),
        (200, "{\"token_type\":\"Bearer\"}", "503 auth_unavailable", "there is no access token"),
        (
            200,
            "{\"access_token\":\"a\",\"token_type\":\"mac\"}",
            "503 auth_unavailable",
            "the access token is of an unknown type",
        ),
        (
            200,
            "{\"access_token\":\"a\",\"token_type\":\"bearer\"}",
            "401 credential_invalid",
            "the provider gave no ID token",
        ),
    ] {
        site.idp.borrow_mut().refusal = Some((status, body));
        let state = site.open("/page").parameter("state");
        let sent = site.come_back(&state);
        assert_eq!(sent.said.split(':').next(), Some(said), "{body}");
        assert!(sent.cause.as_deref().unwrap().starts_with(cause), "{body}: {:?}", sent.cause);
    }
    for (error, said) in [
        ("access_denied", "403 login_refused: You could not log in"),
        ("invalid_scope", "403 login_refused: You could not log in"),
        ("temporarily_unavailable", "503 auth_unavailable: Authentication is not available now"),
    ] {
        let state = site.open("/page").parameter("state");
        let iss = "iss=https%3A%2F%2Fidp.test%2F";
        let sent = site.send(&format!("GET /oauth2/callback?error={error}&state={state}&{iss}\n{PAGE}"));
        assert_eq!(sent.said.lines().next(), Some(said));
        assert_eq!(sent.cause, Some(format!("the provider answers `{error}`")));
    }
    let forged = site.send(&format!("GET /oauth2/callback?error=access_denied&state=x\n{PAGE}"));
    assert!(forged.said.starts_with("400 login_failed"));
}

#[test]
fn a_client_shows_its_secret_in_the_body_or_has_none() {
    let site = Site::new(&yaml("client_auth: post"));
    site.log_in();
    let asked = site.idp.borrow().asked.join("");
    assert!(
        asked.starts_with("- grant_type=") && asked.ends_with("&client_id=web&client_secret=a-secret-of-the-gateway"),
        "{asked}"
    );
    let secret = "client_secret: a-secret-of-the-gateway";
    let site = Site::new(&yaml("").replace(secret, "cookie_secret: 0123456789abcdef0123456789abcdef"));
    site.log_in();
    let asked = site.idp.borrow().asked.join("");
    assert!(asked.starts_with("- grant_type=") && asked.ends_with("&client_id=web"), "{asked}");
}

#[test]
fn a_provider_that_does_not_say_who_it_is_with_each_answer_need_not() {
    let mut idp = Idp::new();
    idp.metadata["authorization_response_iss_parameter_supported"] = json!(false);
    let site = Site::down(&yaml(""), idp);
    site.idp.borrow_mut().down = false;
    site.gateway.world.turn(&mut site.gateway.jobs());
    let finish = |more: &str| {
        site.jar.borrow_mut().clear();
        let state = site.open("/page").parameter("state");
        site.send(&format!("GET /oauth2/callback?code=c1&state={state}{more}\n{PAGE}")).said
    };
    assert!(finish("").starts_with("answer 302"));
    assert!(finish("&iss=https%3A%2F%2Fevil.test%2F").starts_with("400 login_failed"));
}

#[test]
fn claims_that_the_id_token_lacks_are_asked_for_and_must_be_of_the_same_user() {
    let site = Site::new(&yaml("userinfo: on, keep: [sub, city], claims: { tenant: org }"));
    site.idp.borrow_mut().userinfo = json!({ "sub": "u1", "org": "t1", "city": "Oslo", "roles": ["root"] });
    site.log_in();
    let identity = site.send("GET /").exchange.identity.unwrap();
    assert_eq!((identity.tenant.as_deref(), &identity.claims), (Some("t1"), &json!({ "sub": "u1", "city": "Oslo" })));
    assert_eq!(identity.roles, ["admin".into()] as [Arc<str>; 1], "what is signed counts");
    site.idp.borrow_mut().userinfo = json!({ "sub": "u2" });
    site.jar.borrow_mut().clear();
    let state = site.open("/page").parameter("state");
    assert_eq!(site.come_back(&state).cause.as_deref(), Some("the user's claims are of somebody else"));
}

#[test]
fn other_ways_of_a_route_are_asked_too_and_what_they_refuse_is_no_invitation() {
    for ways in ["[keys, login]", "[login, keys]"] {
        let site = Site::new(&yaml_with("", &format!("auth: {ways}")));
        assert_eq!(who(&site.send(&format!("GET /\n{PAGE}\nX-API-Key: a-key-of-the-build-machine"))), "ci");
        assert!(
            site.send(&format!("GET /\n{PAGE}\nX-API-Key: another-key")).said.starts_with("401 credential_invalid")
        );
        assert!(site.send(&format!("GET /\n{PAGE}")).said.starts_with("answer 302\n"));
        assert!(site.send("GET /").said.contains("Cookie realm=\"login\""));
        site.log_in();
        assert_eq!(site.who(), "u1");
    }
}

#[test]
fn codes_that_are_worth_nothing_are_counted_like_other_bad_credentials() {
    let site = Site::new(&format!("auth_failures: {{ burst: 3 }}\n{}", yaml("")));
    site.idp.borrow_mut().refusal = Some((400, "{\"error\":\"invalid_grant\"}"));
    let said = |site: &Site| {
        let sent = site.send(&format!("GET /\n{PAGE}"));
        if !sent.said.starts_with("answer") {
            return sent.said.split(':').next().unwrap().to_owned();
        }
        site.come_back(&Asked(location(&sent)).parameter("state")).said.split(':').next().unwrap().to_owned()
    };
    for _ in 0..3 {
        assert_eq!(said(&site), "401 credential_invalid");
    }
    assert_eq!(said(&site), "429 too_many_failures");
}

#[test]
fn a_route_that_only_watches_sends_nobody_away() {
    let site = Site::new(&yaml_with("", "auth: login, shadow: [auth]"));
    assert_eq!(site.send(&format!("GET /page\n{PAGE}")).said, "pass");
}
