use super::*;
use crate::testing::problems;

#[test]
fn the_shortest_form_is_enough_and_asks_nobody_when_it_is_loaded() {
    assert_eq!(problems(&yaml("")), "");
    assert_eq!(problems(&yaml("scopes: [openid, profile], cookie: session")), "");
}

#[test]
fn mistakes_come_with_advice() {
    for (oidc, problem) in [
        (
            "scopes: [profile]",
            "oidc.scopes: without the scope `openid` the provider does not say who somebody is | add `openid`",
        ),
        ("scopes: ['a b', openid]", "oidc.scopes[0]: a scope is one word"),
        ("leeway: 2m", "oidc.leeway: clocks may not differ by more than 60s"),
        ("algorithms: [ES256, HS256]", "oidc.algorithms[1]: ID tokens are verified with the provider's public keys"),
        ("algorithms: [none]", "oidc.algorithms"),
        ("parameters: { state: x }", "oidc.parameters.state: `state` is written by the gateway"),
        (
            "origins: [https://a.test/path]",
            "oidc.origins[0]: `https://a.test/path` is not an origin | write a scheme and a host",
        ),
        ("service: nobody", "oidc.service: there is no service `nobody`"),
        ("timeout: 2m", "oidc.timeout: an answer may take between 1s and 1m"),
        ("session: 30s", "oidc.session: a session lasts between 1m and 9600h"),
        ("session: off", "oidc.session: a session ends some time: write how long it lasts"),
        ("idle: 9h", "oidc.idle: a session cannot be idle for longer than it lasts"),
        ("cookie_secret: short", "oidc.cookie_secret: a secret for cookies has at least 32 characters | make one with"),
        ("cookie: 'a;b'", "oidc.cookie: `a;b` cannot be the name of a cookie here"),
        ("cookie: __Host-a", "oidc.cookie: `__Host-a` cannot be the name of a cookie here"),
        ("redirect_path: callback", "oidc.redirect_path: `callback` is not a path that a browser could ask for"),
        ("redirect_path: //a", "oidc.redirect_path: `//a` is not"),
        ("redirect_path: /a/../b", "oidc.redirect_path: `/a/../b` is not"),
        ("redirect_path: '/a?b'", "oidc.redirect_path: `/a?b` is not"),
        ("logout_path: /oauth2/callback", "oidc.logout_path: browsers come back from a login to this path"),
        ("after_logout: https://evil.test/", "oidc.after_logout: `https://evil.test/` is not a path"),
    ] {
        let found = problems(&yaml(oidc));
        assert!(found.contains(&format!("error: auth.login.{problem}")), "{oidc}: {found}");
    }
}

#[test]
fn what_must_be_there_is_asked_for() {
    let whole = yaml("");
    for (without, problem) in [
        ("issuer: 'https://idp.test/', ", "auth.login.oidc: `issuer` is missing | write the URL of the provider"),
        ("client_id: web, ", "auth.login.oidc: `client_id` is missing | write the name"),
        (
            "client_secret: a-secret-of-the-gateway, ",
            "auth.login.oidc: there is no secret to encrypt cookies with | write a `cookie_secret`",
        ),
    ] {
        let found = problems(&whole.replace(without, ""));
        assert!(found.contains(problem), "{without}: {found}");
    }
    for (instead, problem) in [
        (
            "client_secret: short",
            "auth.login.oidc.client_secret: the client's secret is too short to encrypt cookies with too",
        ),
        ("client_secret: ''", "auth.login.oidc.client_secret: the secret is empty"),
        (
            "client_auth: post, cookie_secret: 0123456789abcdef0123456789abcdef",
            "auth.login.oidc.client_auth: there is no `client_secret`",
        ),
    ] {
        let found = problems(&whole.replace("client_secret: a-secret-of-the-gateway", instead));
        assert!(found.contains(problem), "{instead}: {found}");
    }
    for issuer in ["idp.test", "ftp://idp.test/", "https://idp.test/?a", "https://idp.test/#a", "https://a@idp.test/"] {
        let found = problems(&whole.replace(ISSUER, issuer));
        assert!(found.contains("is not the URL of an issuer"), "{issuer}: {found}");
    }
}

#[test]
fn two_ways_do_not_share_a_cookie() {
    let other = "other: { oidc: { issuer: 'https://other.test', client_id: a, client_secret: another-secret-of-it, cookie: tg_login } }";
    let found = problems(&yaml("").replace("  keys: {", &format!("  {other}\n  keys: {{")));
    let problem = "error: auth.other.oidc.cookie: the cookies of `login` are called `tg_login` too | give each way";
    assert!(found.starts_with(problem), "{found}");
    assert_eq!(
        problems(&yaml("").replace("  keys: {", &format!("  {}\n  keys: {{", other.replace(", cookie: tg_login", "")))),
        ""
    );
}

#[test]
fn two_ways_of_a_route_do_not_answer_the_same_path() {
    let with = |more: &str, routes: &str| {
        let other = format!(
            "other: {{ oidc: {{ issuer: 'https://other.test', client_id: a, client_secret: another-secret-of-it{more} }} }}"
        );
        let whole = yaml("").replace("  keys: {", &format!("  {other}\n  keys: {{"));
        problems(&format!("{}routes: [{routes}]", whole.split("routes:").next().unwrap()))
    };
    let both = "{ name: both, match: { path_prefix: / }, service: s, auth: [login, other] }";
    let found = with("", both);
    let problem = "error: auth.other.oidc.redirect_path: `login` answers `/oauth2/callback` too, and `both` asks both | \
                   give each way paths of its own, such as `/oauth2/other`";
    assert!(found.starts_with(problem), "{found}");
    assert!(found.contains("\nerror: auth.other.oidc.logout_path: `login` answers `/oauth2/logout` too"), "{found}");
    assert_eq!(with(", redirect_path: /oauth2/other, logout_path: /oauth2/out", both), "");
    let crossed = with(", redirect_path: /oauth2/logout, logout_path: /oauth2/out", both);
    assert!(
        crossed.starts_with("error: auth.other.oidc.redirect_path: `login` answers `/oauth2/logout` too"),
        "{crossed}"
    );
    let apart = "{ match: { host: a.test, path_prefix: / }, service: s, auth: login }, \
                 { match: { host: b.test, path_prefix: / }, service: s, auth: other }";
    assert_eq!(with("", apart), "");
}

#[test]
fn after_a_logout_nobody_is_sent_to_what_the_way_answers_by_itself() {
    for path in ["/oauth2/callback", "/oauth2/logout"] {
        let found = problems(&yaml(&format!("after_logout: {path}")));
        assert!(
            found.starts_with("error: auth.login.oidc.after_logout: the way answers this path by itself | "),
            "{found}"
        );
    }
}

#[test]
fn what_can_be_changed_or_read_on_its_way_is_a_warning() {
    let found = problems(&yaml("origins: ['https://keys.test', 'http://oauth2.test']"));
    assert!(
        found
            .starts_with("warning: auth.login.oidc.origins[1]: whoever can change what is fetched in clear can log in"),
        "{found}"
    );
    let found = problems(&yaml("").replace("https://idp.test/", "http://idp.test/"));
    assert!(
        found.starts_with(
            "warning: auth.login.oidc.issuer: whoever can change what is fetched in clear can log in as anybody"
        ),
        "{found}"
    );
    assert_eq!(problems(&yaml("").replace("https://idp.test/", "http://127.0.0.1:3000/")), "");
    let found = problems(&yaml("").replace("127.0.0.1 }\nservices", "0.0.0.0 }\nservices"));
    assert!(found.starts_with("warning: auth.login: what callers show to `login` can be read on its way"), "{found}");
}

#[test]
fn on_every_host_some_route_must_let_browsers_come_back() {
    let with = |routes: &str| {
        let whole = yaml("");
        problems(&format!("{}routes: [{routes}]", whole.split("routes:").next().unwrap()))
    };
    let shop = "{ name: shop, match: { host: shop.test, path_prefix: /shop }, service: s, auth: login }";
    let found = with(shop);
    let problem = "error: auth.login.oidc.redirect_path: nobody can log in on `shop`: browsers come back to `/oauth2/callback`, and no route takes that | \
                   write `redirect_path` below a path of a route with `auth: login`, or add a route for it, such as \
                   `{ match: { path: /oauth2/callback }, respond: { status: 404 }, auth: login }`";
    assert_eq!(found, problem);
    let found = with(&format!("{shop}, {{ name: rest, match: {{ path_prefix: / }}, service: s }}"));
    assert!(found.contains("and `rest` takes that, which does not ask `login`"), "{found}");
    for other in [
        "{ match: { path_prefix: / }, service: s, auth: login }",
        "{ match: { path_prefix: /oauth2 }, respond: { status: 404 }, auth: [keys, login] }",
        "{ match: { host: '*.test', path: '/oauth2/{rest...}' }, service: s, auth: login }",
        "{ match: { path_prefix: /, methods: GET }, service: s, auth: login }",
        "{ match: { path_prefix: /, cookies: { a: b } }, service: s, auth: login }",
    ] {
        assert_eq!(with(&format!("{shop}, {other}")), "", "{other}");
    }
    for other in [
        "{ match: { host: other.test, path_prefix: / }, service: s, auth: login }",
        "{ match: { path_prefix: /, methods: POST }, service: s, auth: login }",
        "{ match: { path_prefix: / }, service: s, auth: keys }",
    ] {
        assert!(with(&format!("{shop}, {other}")).contains("nobody can log in on `shop`"), "{other}");
    }
    assert_eq!(with("{ match: { path_prefix: / }, service: s, auth: keys }"), "", "nobody asks this way");
}

#[test]
fn the_provider_can_be_asked_by_a_service_and_at_other_origins() {
    let mut idp = Idp::new();
    idp.metadata["token_endpoint"] = json!("https://tokens.idp.test:443/token");
    idp.metadata["jwks_uri"] = json!("https://KEYS.idp.test/jwks");
    let idp = Rc::new(RefCell::new(idp));
    let yaml = yaml("service: s, origins: ['https://tokens.idp.test', 'https://keys.idp.test/']");
    let (asked, services) = (Rc::clone(&idp), Rc::new(RefCell::new(Vec::new())));
    let seen = Rc::clone(&services);
    let gateway = Gateway::of(&yaml).answering(move |service, call| {
        seen.borrow_mut().push(format!("{service} {}", call.head.target));
        asked.borrow_mut().answer("auth/login", call)
    });
    let site = Site { gateway, idp, jar: RefCell::default() };
    site.gateway.world.turn(&mut site.gateway.jobs());
    site.log_in();
    let expected = ["s /.well-known/openid-configuration", "auth/login/2 /jwks", "auth/login/1 /token"];
    assert_eq!(*services.borrow(), expected);
}

#[test]
fn what_a_provider_says_is_below_the_path_of_its_issuer() {
    let issuer = "https://idp.test/realms/shop";
    let site = Site::down(&yaml("").replace(ISSUER, issuer), Idp::new());
    let asked = Rc::new(RefCell::new(String::new()));
    let target = Rc::clone(&asked);
    site.gateway.world.answering(move |_, call| {
        target.borrow_mut().clone_from(&call.head.target);
        Err(CallError::Down("it is down".to_owned()))
    });
    site.gateway.world.turn(&mut site.gateway.jobs());
    assert_eq!(*asked.borrow(), "/realms/shop/.well-known/openid-configuration");
}

#[test]
fn a_reload_asks_the_provider_nothing_new_and_a_job_goes_on() {
    let site = Site::new(&yaml(""));
    let job = Arc::clone(&site.gateway.policies.jobs[0]);
    let site = site.reload(&yaml("session: 1h"));
    assert!(Arc::ptr_eq(&job, &site.gateway.policies.jobs[0]));
    site.idp.borrow_mut().down = true;
    assert!(site.send(&format!("GET /\n{PAGE}")).said.starts_with("answer 302\n"));
}
