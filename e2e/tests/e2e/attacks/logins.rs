//! Browsers of people who log in, and what others would have them do.

use e2e::provider::{Browser, Provider};
use e2e::wire::Message;
use e2e::{Backend, Gateway};

use super::code;
use crate::login::{ready, url, yaml};

/// A page of this host, asked for with these cookies.
fn page(gateway: &Gateway, host: &str, cookies: &str) -> Message {
    let request = format!("GET /page HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nCookie: {cookies}\r\n\r\n");
    gateway.connect().send(request).reply()
}

#[test]
fn nobody_is_led_anywhere_but_to_the_provider_and_to_a_path_of_the_same_host() {
    let (provider, backend) = (Provider::run(), Backend::echo());
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "")));
    let (own, long) = (format!("http://{}/", gateway.address()), "a".repeat(4000));
    for target in [
        "//evil.test/",
        "///evil.test/",
        "/.//evil.test/",
        "/a/%2e%2e//evil.test/",
        "/@evil.test/",
        "/:80@evil.test/",
        "/?//evil.test/",
        "/?next=https://evil.test/",
        "/?a%0d%0aLocation:%20https://evil.test/",
        &format!("/?{long}"),
        &format!("//evil.test/?{long}"),
    ] {
        let browser = Browser::new();
        let follow = ["--location", "--max-redirs", "20", "--path-as-is", "--header", "Accept: text/html"];
        let shown = browser.ask(&format!("http://{}{target}", gateway.address()), &follow);
        assert_eq!(shown.status, 200, "{target}: {shown:?}");
        assert!(shown.url.starts_with(&own) && !shown.url.starts_with(&format!("{own}/")), "{target}: {}", shown.url);
        for line in shown.heads.lines().filter(|line| line.to_ascii_lowercase().starts_with("location:")) {
            let (_, to) = line.split_once(": ").expect("a value");
            let is_known = to.starts_with(&provider.issuer()) || to.starts_with(&own);
            assert!(is_known || (to.starts_with('/') && !to.starts_with("//")), "{target}: {line}");
        }
    }
    for target in ["/%2f%2fevil.test", "/%5c%5cevil.test", "/\\\\evil.test", "/%0d%0aLocation:%20https://evil.test"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
        let reply = gateway.connect().send(request).reply();
        assert_eq!((reply.status(), reply.field("location")), (400, None), "{target}");
    }
}

#[test]
fn a_cookie_is_worth_nothing_on_another_host_under_another_name_or_changed() {
    let (provider, backend, browser) = (Provider::run(), Backend::echo(), Browser::new());
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "")));
    let begun = browser.ask(&url(&gateway, "/page"), &["--header", "Accept: text/html"]);
    let (_, login) = browser.cookies("127.0.0.1").pop().expect("a login");
    assert_eq!(begun.status, 302);
    assert_eq!(browser.open(&url(&gateway, "/page")).status, 200);
    let session = browser.cookies("127.0.0.1").into_iter().find(|(name, _)| name == "tg_login").expect("a session").1;
    let (host, cut) = (gateway.address().to_string(), &session[..session.len() - 1]);
    let other = if session[40..].starts_with('A') { 'B' } else { 'A' };
    let (good, changed) = (format!("tg_login={session}"), format!("{}{other}{}", &session[..40], &session[41..]));
    assert_eq!(page(&gateway, &host, &good).status(), 200);
    assert_eq!(page(&gateway, &host, &format!("a=1;{good}; tg_login=1.x")).status(), 200);
    for (host, cookies) in [
        ("localhost", &*good),
        ("127.0.0.1.evil.test", &good),
        (&host, &format!("__Host-{good}")),
        (&host, &format!("TG_LOGIN={session}")),
        (&host, &format!("tg_login~1={session}")),
        (&host, &format!("tg_login=1.{login}")),
        (&host, &format!("tg_login=1.x; {good}")),
        (&host, &format!("tg_login=2.{}; tg_login~1=A", &session[2..])),
        (&host, &format!("tg_login=9{}", &session[1..])),
        (&host, &format!("tg_login={cut}")),
        (&host, &format!("tg_login={changed}")),
        (&host, &format!("tg_login=1.{}", "A".repeat(8000))),
    ] {
        let reply = page(&gateway, host, cookies);
        let to = reply.field("location").unwrap_or_default();
        assert_eq!(reply.status(), 302, "{host} {cookies:.60}");
        assert!(to.starts_with(&provider.issuer()), "{host} {cookies:.60}: {to}");
    }
    let seen: Vec<_> = backend.requests().iter().map(|seen| seen.head.fields.values("cookie").concat()).collect();
    assert_eq!(seen, ["", "", "a=1"], "services see the other cookies alone, and of who may pass");
}

#[test]
fn no_cache_gives_the_session_of_one_to_another() {
    let mut provider = Provider::down(1);
    provider.start();
    let backend = Backend::replying(
        "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=600\r\nCDN-Cache-Control: max-age=600\r\nContent-Length: 2\r\n\r\nok",
    );
    let browser = Browser::new();
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "")));
    let shown = browser.open(&url(&gateway, "/page"));
    for head in shown.heads.to_ascii_lowercase().split("\r\n\r\n").filter(|head| head.contains("set-cookie: tg_login"))
    {
        assert!(head.contains("cache-control: no-store"), "{head}");
    }
    // Access lasts a second: some reply of the service brings a new cookie.
    let renewed = (0..1000).find_map(|_| {
        let shown = browser.ask(&url(&gateway, "/page"), &[]);
        assert_eq!(shown.status, 200, "{shown:?}");
        let heads = shown.heads.to_ascii_lowercase();
        let is_new = heads.contains("set-cookie: tg_login");
        assert_eq!(heads.contains("cache-control: public"), !is_new, "{heads}");
        is_new.then_some(heads)
    });
    let heads = renewed.expect("a renewal");
    assert!(heads.contains("cache-control: no-store") && !heads.contains("max-age=600"), "{heads}");
    let out = browser.ask(&url(&gateway, "/oauth2/logout"), &["--request", "POST"]);
    assert!(out.status == 204 && out.heads.to_ascii_lowercase().contains("cache-control: no-store"), "{out:?}");
}

#[test]
fn a_flood_of_login_cookies_costs_no_more_than_those_of_one_browser() {
    let (provider, backend) = (Provider::run(), Backend::echo());
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "")));
    let flood = (0..1000).map(|number| format!("tg_login~{number:08}=x")).collect::<Vec<_>>().join("; ");
    let reply = page(&gateway, "a", &flood);
    assert_eq!((reply.status(), reply.head.fields.values("set-cookie").len()), (302, 21));
    let too_much = (0..2000).map(|number| format!("tg_login~{number:08}=x")).collect::<Vec<_>>().join("; ");
    assert_eq!(page(&gateway, "a", &too_much).status(), 431);
    let answer = "GET /oauth2/callback?code=a&state=00000000 HTTP/1.1";
    let refused = gateway.connect().send(format!("{answer}\r\nHost: a\r\nCookie: {flood}\r\n\r\n")).reply();
    assert_eq!((refused.status(), &*code(&refused)), (400, "login_failed"));
}
