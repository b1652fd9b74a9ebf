//! People who log in at a real OpenID Connect provider, with curl for a browser.

use e2e::certs::Authority;
use e2e::provider::{Browser, Provider, Shown};
use e2e::{Backend, Gateway, Plan, forward_with};

const ROUTE: &str = "auth: login, identity_headers: { user: x-user, roles: x-roles, claims: { x-email: email } }";

/// A gateway whose routes ask for a login at this provider.
pub(crate) fn yaml(provider: &Provider, backend: &Backend, oidc: &str) -> String {
    let issuer = provider.issuer();
    format!(
        "auth:
  login:
    oidc:
      issuer: {issuer}
      client_id: web
      client_secret: 'a secret: of the gateway, 100% +/'
      scopes: [openid, email, roles]
      {oidc}
{}  - {{ match: {{ path: /bye }}, respond: {{ body: bye }} }}
",
        forward_with(backend.address(), "", ROUTE)
    )
}

/// Waits until the gateway knows its provider.
pub(crate) fn ready(gateway: Gateway) -> Gateway {
    let page = || gateway.connect().get_with("/", "Accept: text/html\r\n").status();
    assert!((0..20_000).any(|_| page() == 302), "{}", gateway.shown());
    gateway
}

pub(crate) fn url(gateway: &Gateway, target: &str) -> String {
    format!("http://{}{target}", gateway.address())
}

fn told(shown: &Shown, name: &str) -> Vec<String> {
    let echo: serde_json::Value = serde_json::from_str(&shown.body).unwrap_or_else(|e| panic!("{e}: {shown:?}"));
    let fields = echo["fields"].as_array().expect("fields").iter();
    let values = fields.filter(|field| field[0].as_str().is_some_and(|found| found.eq_ignore_ascii_case(name)));
    values.map(|field| field[1].as_str().unwrap_or_default().to_owned()).collect()
}

fn own_cookies(browser: &Browser) -> Vec<String> {
    browser.cookies("127.0.0.1").into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_browser_logs_in_and_comes_to_what_it_asked_for() {
    let (provider, backend, browser) = (Provider::run(), Backend::echo(), Browser::new());
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "")));
    let refused = browser.ask(&url(&gateway, "/page"), &[]);
    assert_eq!((refused.status, refused.sent_to()), (401, None), "a program is sent nowhere");
    let shown = browser.open(&url(&gateway, "/page?a=b"));
    assert_eq!((shown.status, &*shown.url), (200, &*url(&gateway, "/page?a=b")));
    assert_eq!(told(&shown, "x-user"), ["ann"]);
    assert_eq!(told(&shown, "x-roles"), ["admin,reader"]);
    assert_eq!(told(&shown, "x-email"), ["ann@example.test"]);
    assert_eq!(own_cookies(&browser), ["tg_login"]);
    let program = browser.ask(&url(&gateway, "/data"), &["--header", "X-User: root"]);
    assert_eq!((program.status, told(&program, "x-user")), (200, vec!["ann".to_owned()]));
    assert!(told(&program, "cookie").is_empty(), "the service does not see the session");
    let metrics = gateway.admin_get("/metrics").text();
    assert!(metrics.contains("\ntidegate_oidc_last_success_timestamp_seconds{way=\"login\"} 1"), "{metrics}");
    for seen in backend.requests() {
        assert!(["/page?a=b", "/data"].contains(&seen.head.target()), "{}", seen.head.target());
    }
}

#[test]
fn over_tls_and_http2_cookies_are_bound_to_their_host_and_a_client_without_a_secret_will_do() {
    let (provider, backend, plan) = (Provider::run(), Backend::echo(), Plan::new());
    let ca = Authority::new();
    let (cert, key) = ca.sign(&["app.test"]).write(plan.folder(), "app");
    let ca = plan.folder().write("ca.pem", ca.pem()).display().to_string();
    let tls = format!("tls: {{ certificates: [{{ cert: {}, key: {} }}] }}", cert.display(), key.display());
    let yaml = yaml(&provider, &backend, "cookie_secret: 0123456789abcdef0123456789abcdef")
        .replace("client_id: web", "client_id: spa")
        .replace("      client_secret: 'a secret: of the gateway, 100% +/'\n", "");
    let gateway = plan.run(&format!("{}{yaml}", e2e::server(&tls)));
    let port = gateway.address().port();
    let browser = Browser::with(&["--cacert", &ca, "--http2", "--resolve", &format!("app.test:{port}:127.0.0.1")]);
    let page = format!("https://app.test:{port}/page");
    let is_known = || browser.ask(&page, &["--header", "Accept: text/html"]).status == 302;
    assert!((0..1000).any(|_| is_known()), "{}", gateway.shown());
    let shown = browser.open(&page);
    assert_eq!((shown.status, &*shown.url, told(&shown, "x-user")), (200, &*page, vec!["ann".to_owned()]), "{shown:?}");
    assert!(shown.heads.contains("HTTP/2 200") && shown.heads.contains("; Secure"), "{}", shown.heads);
    let cookies: Vec<_> = browser.cookies("app.test").into_iter().map(|(name, _)| name).collect();
    assert!(cookies.contains(&"__Host-tg_login".to_owned()), "{cookies:?}");
}

#[test]
fn access_is_renewed_with_tokens_that_rotate_until_the_provider_has_forgotten_them() {
    let (mut provider, backend, browser) = (Provider::down(1), Backend::echo(), Browser::new());
    provider.start();
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "")));
    let page = url(&gateway, "/page");
    assert_eq!(browser.open(&page).status, 200);
    for _ in 0..3 {
        let before = browser.cookies("127.0.0.1");
        // A provider that is shown a refresh token twice ends the session: then there would be a 401.
        let renewed = (0..1000).any(|_| {
            assert_eq!(browser.ask(&page, &[]).status, 200);
            browser.cookies("127.0.0.1") != before
        });
        assert!(renewed);
    }
    provider.kill();
    assert!((0..1000).any(|_| browser.ask(&page, &[]).status == 503), "access has ended, and nobody can renew it");
    provider.start();
    assert!((0..1000).any(|_| browser.ask(&page, &[]).status == 401), "the provider knows nothing of it");
    assert!(own_cookies(&browser).is_empty());
    let shown = browser.open(&page);
    assert_eq!((shown.status, told(&shown, "x-user")), (200, vec!["ann".to_owned()]), "it takes another login");
}

#[test]
fn a_logout_ends_the_session_here_and_at_the_provider() {
    let (provider, backend, browser) = (Provider::run(), Backend::echo(), Browser::new());
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "after_logout: /bye")));
    assert_eq!(browser.open(&url(&gateway, "/page")).status, 200);
    let (out, page) = (url(&gateway, "/oauth2/logout"), ["--header", "Accept: text/html", "--request", "POST"]);
    let forged = browser.ask(&out, &[&page[..], &["--header", "Origin: http://evil.test"]].concat());
    assert_eq!((forged.status, own_cookies(&browser)), (403, vec!["tg_login".to_owned()]));
    let shown = browser.ask(&out, &page);
    assert_eq!((shown.status, own_cookies(&browser)), (303, Vec::new()));
    let asked = browser.open(shown.sent_to().expect("the provider"));
    let form =
        |name: &str| asked.body.split(name).nth(1).and_then(|rest| rest.split('"').next()).expect("a form").to_owned();
    let (to, token) = (form("action=\""), form("name=\"xsrf\" value=\""));
    let data = format!("xsrf={token}&logout=yes");
    let end = browser.ask(&to, &["--location", "--data", &data]);
    assert_eq!((&*end.body, &*end.url), ("bye", &*url(&gateway, "/bye")));
    assert_eq!(browser.ask(&url(&gateway, "/page"), &[]).status, 401);
}

#[test]
fn whoever_may_not_log_in_is_told_so() {
    let (provider, backend, browser) = (Provider::run(), Backend::echo(), Browser::new());
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "parameters: { login_hint: deny }")));
    let shown = browser.open(&url(&gateway, "/page"));
    assert_eq!(shown.status, 403);
    assert!(shown.body.contains("login_refused") && !shown.body.contains("somebody has said no"), "{}", shown.body);
    assert!(backend.requests().is_empty() && own_cookies(&browser).is_empty());
}

#[test]
fn a_code_that_was_given_to_another_browser_logs_nobody_in() {
    let (provider, backend) = (Provider::run(), Backend::echo());
    let gateway = ready(Gateway::run(&yaml(&provider, &backend, "")));
    let (attacker, victim) = (Browser::new(), Browser::new());
    // The attacker logs in up to the code, and keeps it.
    let page = ["--header", "Accept: text/html"];
    let mut next = attacker.ask(&url(&gateway, "/page"), &page).sent_to().expect("the provider").to_owned();
    while !next.contains("/oauth2/callback") {
        let to = attacker.ask(&next, &page).sent_to().expect("further").to_owned();
        next = if to.starts_with('/') { format!("{}{to}", provider.issuer()) } else { to };
    }
    assert_eq!(victim.ask(&next, &page).status, 400, "the victim has begun no login");
    let begun = victim.ask(&url(&gateway, "/page"), &page).sent_to().expect("the provider").to_owned();
    let state =
        |url: &str| url.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state").to_owned();
    let injected = next.replace(&state(&next), &state(&begun));
    let shown = victim.ask(&injected, &page);
    assert_eq!(shown.status, 401, "{shown:?}");
    assert!(own_cookies(&victim).is_empty() && backend.requests().is_empty());
}

#[test]
fn a_gateway_starts_without_its_provider_and_logs_in_as_soon_as_it_is_there() {
    let (mut provider, backend, browser) = (Provider::down(60), Backend::echo(), Browser::new());
    let gateway = Gateway::run(&yaml(&provider, &backend, ""));
    let page = url(&gateway, "/page");
    let down = browser.open(&page);
    assert_eq!(down.status, 503);
    assert!(down.body.contains("auth_unavailable"), "{}", down.body);
    assert_eq!(browser.ask(&page, &[]).status, 401);
    provider.start();
    let _gateway = ready(gateway);
    assert_eq!(told(&browser.open(&page), "x-user"), ["ann"]);
}
