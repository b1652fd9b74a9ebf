use super::*;

const OUT: &str = "POST /oauth2/logout\nSec-Fetch-Site: same-origin";

#[test]
fn who_logs_out_is_sent_to_the_provider_and_nothing_is_left_of_the_session() {
    let site = Site::new(&yaml("after_logout: /bye, keep: [notes]"));
    site.idp.borrow_mut().claims = json!({ "notes": "x".repeat(3000) });
    site.log_in();
    assert_eq!(site.names().len(), 3);
    let sent = site.send(&format!("{OUT}\n{PAGE}"));
    assert!(sent.said.starts_with("answer 303\n") && sent.said.ends_with("cache-control: no-store"), "{}", sent.said);
    let sent_to = location(&sent);
    assert!(sent_to.starts_with("https://idp.test/logout?from=web&client_id=web&"), "{sent_to}");
    let asked = Asked(sent_to);
    assert_eq!(asked.parameter("post_logout_redirect_uri"), "http://api.example.com/bye");
    assert_eq!(site.names(), Vec::<String>::new());
    assert_eq!(site.who(), "answer 302");
}

#[test]
fn the_provider_is_told_who_it_is() {
    let site = Site::new(&yaml(""));
    site.log_in();
    let asked = Asked(location(&site.send(&format!("{OUT}\n{PAGE}"))));
    let token = asked.parameter("id_token_hint");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&claims).unwrap()["sub"], "u1");
    assert_eq!(asked.parameter("post_logout_redirect_uri"), "");
}

#[test]
fn a_copy_of_the_cookie_is_worth_nothing_after_a_logout() {
    let site = Site::new(&yaml(""));
    site.log_in();
    let copy = site.with_cookies("GET /page");
    assert_eq!(who(&site.gateway.send(&copy)), "u1");
    site.send(OUT);
    assert!(site.gateway.send(&copy).said.starts_with("401"));
    let site = site.reload(&yaml("session: 2h"));
    assert!(site.gateway.send(&copy).said.starts_with("401"), "a reload changes nothing");
    site.log_in();
    assert_eq!(site.who(), "u1", "another session is another one");
}

#[test]
fn a_logout_holds_though_the_provider_is_asked_in_another_manner_now() {
    let site = Site::new(&yaml(""));
    site.log_in();
    let copy = site.with_cookies("GET /page");
    site.send(OUT);
    let site = site.reload(&yaml("timeout: 9s, algorithms: [ES256]"));
    assert!(site.gateway.send(&copy).said.starts_with("401"));
}

#[test]
fn a_renewal_that_is_under_way_at_a_logout_brings_nothing_back() {
    let site = Site::new(&yaml(""));
    let mut jobs = site.gateway.jobs();
    site.gateway.world.turn(&mut jobs);
    site.idp.borrow_mut().more = json!({ "refresh_token": "r1", "expires_in": 300 });
    site.log_in();
    site.advance(300);
    let late = site.with_cookies("GET /page");
    let mut waiting = vec![site.gateway.sending(&late)];
    site.gateway.world.turn(&mut waiting);
    assert_eq!(waiting.len(), 1);
    site.send(OUT);
    site.gateway.world.turn(&mut jobs);
    site.gateway.world.turn(&mut waiting);
    assert_eq!((waiting.len(), site.asked()), (0, 2));
    assert!(site.gateway.send(&late).said.starts_with("401") && site.names().is_empty());
}

#[test]
fn no_page_of_a_stranger_logs_anybody_out() {
    let site = Site::new(&yaml(""));
    site.log_in();
    for request in [
        "GET /oauth2/logout",
        "GET /oauth2/logout\nSec-Fetch-Site: cross-site",
        "GET /oauth2/logout\nSec-Fetch-Site: same-site",
        "GET /oauth2/logout\nReferer: http://api.example.com/",
        "POST /oauth2/logout\nSec-Fetch-Site: cross-site\nOrigin: http://api.example.com",
        "POST /oauth2/logout\nSec-Fetch-Site: same-site",
        "POST /oauth2/logout\nOrigin: https://evil.test",
        "POST /oauth2/logout\nOrigin: null",
        "POST /oauth2/logout\nOrigin: http://api.example.com\nOrigin: https://evil.test",
        "POST /oauth2/logout\nSec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site",
    ] {
        let sent = site.send(&format!("{request}\n{PAGE}"));
        assert!(sent.said.starts_with("403 logout_refused: Only a page of this host may log you out"), "{request}");
        assert!(sent.exchange.cookies.is_empty(), "{request}");
    }
    assert_eq!(site.who(), "u1");
}

#[test]
fn a_page_of_the_own_host_or_somebodys_own_hand_does() {
    for request in [
        "GET /oauth2/logout\nSec-Fetch-Site: same-origin",
        "GET /oauth2/logout\nSec-Fetch-Site: none",
        "POST /oauth2/logout\nOrigin: http://api.example.com",
        "POST /oauth2/logout",
    ] {
        let site = Site::new(&yaml(""));
        site.log_in();
        assert!(site.send(&format!("{request}\n{PAGE}")).said.starts_with("answer 303\n"), "{request}");
        assert!(site.names().is_empty(), "{request}");
    }
}

#[test]
fn a_script_is_not_sent_anywhere() {
    let site = Site::new(&yaml(""));
    site.log_in();
    assert_eq!(site.send(&format!("{OUT}\nSec-Fetch-Mode: cors")).said, "answer 204\ncache-control: no-store");
    assert!(site.names().is_empty());
}

#[test]
fn a_provider_without_a_logout_leaves_it_to_the_gateway() {
    for (more, said) in [
        ("", "answer 204\ncache-control: no-store"),
        ("after_logout: /bye", "answer 303\nlocation: /bye\ncache-control: no-store"),
    ] {
        let mut idp = Idp::new();
        idp.metadata["end_session_endpoint"] = Value::Null;
        let site = Site::down(&yaml(more), idp);
        site.idp.borrow_mut().down = false;
        site.gateway.world.turn(&mut site.gateway.jobs());
        site.log_in();
        assert_eq!(site.send(&format!("{OUT}\n{PAGE}")).said, said);
        assert!(site.names().is_empty());
    }
}
