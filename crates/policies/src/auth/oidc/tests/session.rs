use super::*;

/// Tokens that can be renewed.
fn renewable(site: &Site, life: u64) {
    site.idp.borrow_mut().more = json!({ "refresh_token": "r1", "expires_in": life });
}

#[test]
fn a_cookie_that_is_not_a_session_of_this_way_and_host_is_as_good_as_none() {
    let site = Site::new(&yaml(""));
    site.log_in();
    let good = site.jar.borrow()["tg_login"].clone();
    let mut changed = good.clone().into_bytes();
    let middle = changed.len() / 2;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    let other = Site::new(&yaml("").replace("client_id: web", "client_id: other"));
    other.idp.borrow_mut().claims = json!({ "aud": "other" });
    other.log_in();
    let of_other = other.jar.borrow()["tg_login"].clone();
    let begun = Site::new(&yaml(""));
    begun.open("/page");
    let of_login = begun.jar.borrow().values().next().unwrap().clone();
    for cookie in [
        String::from_utf8(changed).unwrap(),
        good[..good.len() - 1].to_owned(),
        good[1..].to_owned(),
        format!("2{}", &good[1..]),
        format!("9{}", &good[1..]),
        format!("0{}", &good[1..]),
        good[2..].to_owned(),
        of_other,
        format!("1.{of_login}"),
        String::new(),
        "1.".to_owned(),
        "1.AAAA".to_owned(),
        "x".repeat(20_000),
    ] {
        let shown = format!("Cookie: tg_login={cookie}");
        assert!(site.gateway.send(&format!("GET /\n{PAGE}\n{shown}")).said.starts_with("answer 302\n"), "{cookie}");
        let sent = site.gateway.send(&format!("GET /\n{shown}"));
        assert!(sent.said.starts_with("401 credential_missing: Not logged in"), "{cookie}");
    }
    let elsewhere = format!("GET /\nHost: other.example.com\nCookie: tg_login={good}");
    assert!(site.gateway.send(&elsewhere).said.starts_with("401"));
    assert_eq!(who(&site.gateway.send(&format!("GET /\nCookie: tg_login={good}"))), "u1");
}

#[test]
fn over_tls_cookies_are_of_their_host_alone_and_never_sent_in_clear() {
    let site = Site::new(&yaml("")).over_tls();
    let asked = site.open("/page");
    assert_eq!(asked.parameter("redirect_uri"), "https://api.example.com/oauth2/callback");
    assert!(site.names().iter().all(|name| name.starts_with("__Host-tg_login~")));
    let sent = site.come_back(&asked.parameter("state"));
    let cookie = sent.exchange.cookies.last().unwrap();
    assert!(cookie.starts_with("__Host-tg_login=1.") && cookie.ends_with("; Secure") && cookie.contains("; Path=/; "));
    assert_eq!(site.who(), "u1");
    let value = site.jar.borrow()["__Host-tg_login"].clone();
    let planted = format!("GET /\nCookie: tg_login={value}");
    assert!(site.gateway.send(&planted).said.starts_with("401"), "anybody on the network can have set this one");
}

#[test]
fn behind_a_trusted_proxy_that_speaks_tls_it_is_the_same() {
    let site = Site::new(
        &yaml("").replace("host: 127.0.0.1 }\nservices", "host: 127.0.0.1, trusted_proxies: 192.0.2.1 }\nservices"),
    );
    let asked = Asked(location(&site.send(&format!("GET /\n{PAGE}\nX-Forwarded-Proto: https"))));
    assert_eq!(asked.parameter("redirect_uri"), "https://api.example.com/oauth2/callback");
    assert!(site.names()[0].starts_with("__Host-tg_login~"));
    let site = Site::new(&yaml(""));
    let asked = Asked(location(&site.send(&format!("GET /\n{PAGE}\nX-Forwarded-Proto: https"))));
    assert_eq!(asked.parameter("redirect_uri"), "http://api.example.com/oauth2/callback", "nobody else is believed");
}

#[test]
fn a_session_ends_with_its_time_whatever_its_user_does() {
    let site = Site::new(&yaml("session: 10m"));
    let sent = site.log_in();
    assert!(sent.exchange.cookies.last().unwrap().contains("Max-Age=600"));
    for _ in 0..9 {
        site.advance(60);
        assert_eq!(site.who(), "u1");
    }
    site.advance(59);
    assert_eq!(site.who(), "u1");
    site.advance(1);
    assert_eq!(site.who(), "answer 302");
    assert!(site.send("GET /").said.starts_with("401"));
}

#[test]
fn a_session_ends_when_nothing_was_asked_for_too_long() {
    let site = Site::new(&yaml("idle: 10m, session: 1h"));
    site.log_in();
    for _ in 0..5 {
        site.advance(599);
        assert_eq!(site.who(), "u1");
    }
    site.advance(60);
    assert!(site.send("GET /").exchange.cookies.is_empty(), "not every request writes the cookie anew");
    site.advance(20);
    assert_eq!(site.send("GET /").exchange.cookies.len(), 1);
    site.advance(600);
    assert_eq!(site.who(), "answer 302");
}

#[test]
fn no_cache_may_keep_a_reply_that_has_a_session_in_it() {
    let site = Site::new(&yaml("idle: 10m"));
    site.log_in();
    assert_eq!(site.send("GET /").said, "pass", "other replies are the service's matter");
    site.advance(80);
    assert_eq!(site.send("GET /").said, "pass\ncache-control: no-store");
}

#[test]
fn a_large_session_takes_several_cookies_and_a_smaller_one_leaves_none_of_them() {
    let site = Site::new(&yaml("keep: [sub, notes]"));
    // It grows by a third twice: claims are in the ID token too.
    site.idp.borrow_mut().claims = json!({ "notes": "x".repeat(3000) });
    site.log_in();
    assert_eq!(site.names(), ["tg_login", "tg_login~1", "tg_login~2"]);
    let identity = site.send("GET /").exchange.identity.unwrap();
    assert_eq!(identity.claims["notes"].as_str().unwrap().len(), 3000);
    let parts = site.jar.borrow().clone();
    let without = |name: &str| {
        let rest = parts.iter().filter(|(part, _)| *part != name);
        let cookies = rest.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        site.gateway.send(&format!("GET /\nCookie: {cookies}")).said
    };
    for name in parts.keys() {
        assert!(without(name).starts_with("401"), "{name}");
    }
    site.idp.borrow_mut().claims = json!({});
    let state = Asked(location(&site.gateway.send(&format!("GET /\n{PAGE}"))));
    assert!(!state.parameter("state").is_empty());
    site.advance(8 * 3600);
    site.log_in();
    assert_eq!(site.names(), ["tg_login"]);
}

#[test]
fn a_session_that_does_not_fit_does_without_the_id_token_or_does_not_begin() {
    let site = Site::new(&yaml("keep: [sub, notes], userinfo: on"));
    site.idp.borrow_mut().userinfo = json!({ "sub": "u1", "notes": "x".repeat(10_900) });
    site.log_in();
    let sent = site.send(&format!("POST /oauth2/logout\nSec-Fetch-Site: same-origin\n{PAGE}"));
    assert!(!location(&sent).contains("id_token_hint"));
    site.idp.borrow_mut().userinfo = json!({ "sub": "u1", "notes": "x".repeat(12_000) });
    let state = site.open("/page").parameter("state");
    let sent = site.come_back(&state);
    assert!(sent.said.starts_with("500 internal"), "{}", sent.said);
    assert!(sent.cause.unwrap().contains("`keep` fewer claims"));
}

#[test]
fn a_new_secret_ends_no_session_while_the_old_one_is_there_too() {
    let (old, new) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let site = Site::new(&yaml(&format!("cookie_secret: {old}")));
    site.log_in();
    let site = site.reload(&yaml(&format!("cookie_secret: [{new}, {old}]")));
    assert_eq!(site.who(), "u1");
    let site = site.reload(&yaml(&format!("cookie_secret: {new}")));
    assert_eq!(site.who(), "answer 302");
}

#[test]
fn sessions_go_on_while_the_provider_is_down() {
    let site = Site::new(&yaml(""));
    site.log_in();
    site.idp.borrow_mut().down = true;
    site.advance(3600);
    assert_eq!(site.who(), "u1");
}

#[test]
fn an_opened_session_is_the_same_identity_again_until_something_is_to_be_done() {
    let site = Site::new(&yaml("idle: 8m, session: 1h"));
    site.log_in();
    let identity = || site.send("GET /").exchange.identity.unwrap();
    let first = identity();
    assert!(Arc::ptr_eq(&first, &identity()), "what is derived from it can be kept with it");
    let cookie = site.jar.borrow()["tg_login"].clone();
    let elsewhere = site.gateway.send(&format!("GET /\nHost: other.example.com\nCookie: tg_login={cookie}"));
    assert!(elsewhere.said.starts_with("401"), "not on another host");
    site.advance(60);
    assert!(!Arc::ptr_eq(&first, &identity()), "the browser was told that it was seen");
}

#[test]
fn access_is_renewed_once_before_it_ends_however_many_requests_there_are() {
    let site = Site::new(&yaml(""));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    renewable(&site, 300);
    site.log_in();
    site.advance(269);
    assert_eq!((site.who(), site.asked()), ("u1".to_owned(), 1));
    site.advance(1);
    {
        let mut idp = site.idp.borrow_mut();
        idp.more = json!({ "refresh_token": "r2", "expires_in": 300 });
        idp.claims = json!({ "roles": ["reader"], "nonce": null });
    }
    let old = site.with_cookies("GET /page");
    let mut waiting: Vec<_> = (0..100).map(|_| site.gateway.sending(&old)).collect();
    site.gateway.world.turn(&mut waiting);
    assert_eq!(waiting.len(), 100);
    site.gateway.world.turn(&mut jobs);
    site.gateway.world.turn(&mut waiting);
    assert_eq!((waiting.len(), site.asked()), (0, 2));
    assert!(site.idp.borrow().asked[1].ends_with("grant_type=refresh_token&refresh_token=r1"));
    // Sent before the browser had the new cookie.
    site.advance(59);
    let sent = site.send("GET /page");
    assert_eq!((who(&sent), site.asked(), sent.exchange.cookies.len()), ("u1".to_owned(), 2, 1));
    assert_eq!(sent.exchange.identity.unwrap().roles, ["reader".into()] as [Arc<str>; 1], "what the provider says now");
    site.advance(300);
    assert_eq!(who(&site.send_beside("GET /page", &mut jobs)), "u1");
    assert!(site.idp.borrow().asked[2].ends_with("refresh_token=r2"));
}

#[test]
fn access_is_not_renewed_for_browsers_that_went_away_before_it_began() {
    let site = Site::new(&yaml(""));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    renewable(&site, 300);
    site.log_in();
    site.advance(300);
    let page = site.with_cookies("GET /page");
    let mut waiting = vec![site.gateway.sending(&page)];
    site.gateway.world.turn(&mut waiting);
    drop(waiting);
    site.gateway.world.turn(&mut jobs);
    assert_eq!(site.asked(), 1, "the new token would be nobody's");
    assert_eq!((who(&site.send_beside("GET /page", &mut jobs)), site.asked()), ("u1".to_owned(), 2));
}

#[test]
fn a_provider_that_gives_no_new_refresh_token_is_shown_the_old_one_again() {
    let site = Site::new(&yaml(""));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    renewable(&site, 300);
    site.log_in();
    site.idp.borrow_mut().more = json!({ "expires_in": "300", "id_token": null });
    for asked in 2..4 {
        site.advance(300);
        assert_eq!((who(&site.send_beside("GET /page", &mut jobs)), site.asked()), ("u1".to_owned(), asked));
        assert!(site.idp.borrow().asked[asked - 1].ends_with("refresh_token=r1"));
    }
}

#[test]
fn when_the_provider_says_that_it_is_over_somebody_logs_in_again() {
    let site = Site::new(&yaml(""));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    renewable(&site, 300);
    site.log_in();
    site.idp.borrow_mut().refusal = Some((400, "{\"error\":\"invalid_grant\"}"));
    site.advance(300);
    let old = site.with_cookies("GET /page");
    let sent = site.send_beside(&format!("GET /page\n{PAGE}"), &mut jobs);
    assert!(sent.said.starts_with("answer 302\n"));
    assert!(!site.names().contains(&"tg_login".to_owned()), "the cookie is gone");
    assert!(site.gateway.send_beside(&old, &mut jobs).said.starts_with("401"), "also where it is shown again");
    assert_eq!(site.asked(), 2, "the provider was asked once");
}

#[test]
fn while_access_cannot_be_renewed_it_holds_until_it_ends_and_the_provider_is_not_asked_all_the_time() {
    let site = Site::new(&yaml(""));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    renewable(&site, 300);
    site.log_in();
    site.idp.borrow_mut().refusal = Some((503, ""));
    site.advance(280);
    for _ in 0..10 {
        assert_eq!(who(&site.send_beside("GET /page", &mut jobs)), "u1");
    }
    assert_eq!(site.asked(), 2);
    site.advance(20);
    let sent = site.send_beside("GET /page", &mut jobs);
    assert!(sent.said.starts_with("503 auth_unavailable"), "{}", sent.said);
    assert_eq!(site.names(), ["tg_login"], "it is not given up");
    site.idp.borrow_mut().refusal = None;
    site.advance(5);
    assert_eq!(who(&site.send_beside("GET /page", &mut jobs)), "u1");
}

#[test]
fn a_refresh_token_that_replaces_another_is_not_lost_when_the_users_claims_cannot_be_had() {
    let site = Site::new(&yaml("userinfo: on"));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    site.idp.borrow_mut().userinfo = json!({ "sub": "u1" });
    renewable(&site, 300);
    site.log_in();
    let gives = |token: &str| site.idp.borrow_mut().more = json!({ "refresh_token": token, "expires_in": 300 });
    gives("r2");
    site.idp.borrow_mut().userinfo = json!(["not an object"]);
    site.advance(280);
    let old = site.with_cookies("GET /page");
    for _ in 0..3 {
        assert_eq!(who(&site.send_beside("GET /page", &mut jobs)), "u1", "access has not ended");
        assert_eq!(who(&site.gateway.send_beside(&old, &mut jobs)), "u1", "also where the old cookie is shown again");
        assert_eq!(site.asked(), 2, "the provider has its rest");
    }
    gives("r3");
    site.advance(20);
    assert!(site.send_beside("GET /page", &mut jobs).said.starts_with("503 auth_unavailable"));
    assert!(site.idp.borrow().asked[2].ends_with("refresh_token=r2"), "a provider takes `r1` for stolen now");
    site.idp.borrow_mut().userinfo = json!({ "sub": "u1" });
    site.advance(5);
    assert_eq!((who(&site.send_beside("GET /page", &mut jobs)), site.asked()), ("u1".to_owned(), 4));
    assert!(site.idp.borrow().asked[3].ends_with("refresh_token=r3"));
}

#[test]
fn nobody_becomes_somebody_else_by_a_renewal() {
    let site = Site::new(&yaml(""));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    for claims in [json!({ "sub": "u2" }), json!({ "aud": "other" }), json!({ "iss": "https://evil.test/" })] {
        site.idp.borrow_mut().claims = json!({});
        renewable(&site, 300);
        site.log_in();
        site.idp.borrow_mut().claims = claims.clone();
        site.idp.borrow_mut().more = json!({ "refresh_token": format!("{claims}"), "expires_in": 300 });
        site.advance(300);
        assert!(site.send_beside("GET /page", &mut jobs).said.starts_with("401"), "{claims}");
        site.advance(61);
    }
}
