use std::net::IpAddr;
use std::sync::Arc;

use tidegate_config::config::Route;
use tidegate_core::client::{ClientCert, San, SanKind};
use tidegate_core::route::{Condition, Found, Params, Router};

use crate::world::{Asked, ask, route};

fn router(lines: &[&str]) -> Router {
    let written: Vec<_> = lines.iter().map(|line| route(line)).collect();
    let (router, problems) = Router::build(&written);
    assert!(problems.is_empty(), "{problems:?}");
    router
}

/// The name of the route for a request, or what is answered instead.
fn find(router: &Router, request: &Asked) -> String {
    let mut params = Params::new();
    let found = router.find(&request.head(), &mut params);
    assert_eq!(found, router.find_slow(&request.head(), &mut Params::new()));
    match found {
        Found::Route(number) => router.route(number).expect("a route").name.to_string(),
        Found::MethodNotAllowed(allow) => format!("405 {allow}"),
        Found::Options(allow) => format!("204 {allow}"),
        Found::NotFound => "404".to_owned(),
    }
}

fn check(lines: &[&str], expectations: &[(&str, &str)]) {
    let router = router(lines);
    for (request, expected) in expectations {
        assert_eq!(find(&router, &ask(request)), *expected, "{request}");
    }
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let mut lines = vec![
        "all | /**",
        "rest | /a/{x...}",
        "prefix | /a**",
        "param | /a/{x}",
        "regex | /a/{x:[0-9]+}",
        "mixed | /a/v{x}",
        "longer | /a/ver{x}",
        "literal | /a/v12",
        "deep | /a/{x}/c",
        "deeper | /a/{x}/{y}",
    ];
    for _ in 0..lines.len() {
        check(
            &lines,
            &[
                ("GET /a/v12", "literal"),
                ("GET /a/ver1", "longer"),
                ("GET /a/v1", "mixed"),
                ("GET /a/17", "regex"),
                ("GET /a/x", "param"),
                ("GET /a/x/c", "deep"),
                ("GET /a/x/d", "deeper"),
                ("GET /a/x/y/z", "rest"),
                ("GET /a", "prefix"),
                ("GET /a/", "prefix"),
                ("GET /ab", "all"),
                ("GET /", "all"),
            ],
        );
        lines.rotate_left(1);
    }
}

#[test]
fn a_literal_left_of_another_beats_one_further_right() {
    check(&["left | /a/{x}", "right | /{x}/b"], &[("GET /a/b", "left"), ("GET /c/b", "right")]);
    check(
        &["regexes | /{a:[0-9]+}/{b}", "literal | /{c:[0-9]*}/x"],
        &[("GET /1/x", "literal"), ("GET /1/y", "regexes")],
    );
}

#[test]
fn a_host_in_full_beats_a_wildcard_and_that_any_host() {
    let lines = [
        "any | /**",
        "wide | /** | host=*.test",
        "narrow | /** | host=*.a.test",
        "exact | /** | host=x.a.test",
        "ip | /** | host=[::1]",
    ];
    check(
        &lines,
        &[
            ("GET http://x.a.test/", "exact"),
            ("GET http://y.a.test/", "narrow"),
            ("GET http://z.y.a.test/", "narrow"),
            ("GET http://a.test/", "wide"),
            ("GET http://test/", "any"),
            ("GET http://xa.test/", "wide"),
            ("GET http://.test/", "any"),
            ("GET http://[::1]/", "ip"),
            ("GET /", "any"),
        ],
    );
}

#[test]
fn the_host_goes_before_the_path_and_falls_back() {
    let lines = ["precise | /a/b", "hosted | /a** | host=a.test"];
    check(
        &lines,
        &[("GET http://a.test/a/b", "hosted"), ("GET http://b.test/a/b", "precise"), ("GET http://a.test/b", "404")],
    );
}

#[test]
fn a_prefix_ends_at_a_segment() {
    check(
        &["api | /api**", "v | /v/{id}**"],
        &[
            ("GET /api", "api"),
            ("GET /api/", "api"),
            ("GET /api/x", "api"),
            ("GET /apix", "404"),
            ("GET /v/1/x", "v"),
            ("GET /v/1", "v"),
            ("GET /v/", "404"),
            ("GET /v", "404"),
        ],
    );
}

#[test]
fn a_star_is_what_lies_below() {
    check(&["below | /a/*"], &[("GET /a/b", "below"), ("GET /a/b/c/", "below"), ("GET /a", "404"), ("GET /a/", "404")]);
}

#[test]
fn a_trailing_slash_is_another_path() {
    check(&["bare | /a", "slash | /a/"], &[("GET /a", "bare"), ("GET /a/", "slash")]);
    check(&["bare | /a"], &[("GET /a/", "404")]);
}

#[test]
fn patterns_are_no_regular_expressions_in_disguise() {
    check(
        &["dot | /a.b", "user | /users/{id}"],
        &[
            ("GET /a.b", "dot"),
            ("GET /axb", "404"),
            ("GET /users/42", "user"),
            ("GET /users/id", "user"),
            ("GET /users/", "404"),
            ("GET /users/1/2", "404"),
        ],
    );
}

#[test]
fn conditions_fall_back_to_less_specific_routes() {
    let lines = [
        "all | /**",
        "any | /a/{x}",
        "web | /a/{x} | header:x-c=web",
        "beta | /a/{x} | header:x-c=web | header:x-b=~^v[0-9]",
        "query | /a/b | query:q=present",
        "cookie | /a/b | cookie:ab=b",
        "not | /n | header:x-old=absent",
    ];
    let router = router(&lines);
    for (request, fields, expected) in [
        ("GET /a/b", &[][..], "any"),
        ("GET /a/b", &["x-c: web"], "web"),
        ("GET /a/b", &["X-C: web", "x-b: v2"], "beta"),
        ("GET /a/b", &["x-c: web", "x-b: 2"], "web"),
        ("GET /a/b", &["x-c: Web"], "any"),
        ("GET /a/b?q", &[], "query"),
        ("GET /a/b?%71=1", &["x-c: web"], "query"),
        ("GET /a/b", &["cookie: a=1; ab=b"], "cookie"),
        ("GET /a/b", &["cookie: a=1", "cookie: ab=b"], "cookie"),
        ("GET /a/b", &["cookie: xab=b"], "any"),
        ("GET /n", &[], "not"),
        ("GET /n", &["x-old: 1"], "all"),
    ] {
        assert_eq!(find(&router, &ask(request).with(fields)), expected, "{request} {fields:?}");
    }
}

#[test]
fn a_condition_sees_every_value_of_a_field() {
    let router = router(&["a | /** | header:x-role=admin"]);
    assert_eq!(find(&router, &ask("GET /").with(&["x-role: user", "x-role: admin"])), "a");
    assert_eq!(find(&router, &ask("GET /").with(&["x-role: user, admin"])), "404");
}

#[test]
fn priority_goes_before_everything_else() {
    let lines = [
        "exact | /a/b | host=a.test | method=GET",
        "all | /** | priority=1",
        "low | /a/b/c | priority=-1",
        "rest | /a/b/*",
    ];
    check(&lines[..3], &[("GET http://a.test/a/b", "all"), ("GET /a/b/c", "all")]);
    check(&[lines[0], lines[2], lines[3]], &[("GET http://a.test/a/b", "exact"), ("GET /a/b/c", "rest")]);
}

#[test]
fn more_conditions_win_and_ties_go_by_order() {
    let lines = [
        "one | /a | header:x=1",
        "two | /a | header:y=1",
        "both | /a | header:x=1 | header:y=1",
        "query | /a | query:q=1",
    ];
    let router = router(&lines);
    assert_eq!(find(&router, &ask("GET /a").with(&["x: 1"])), "one");
    assert_eq!(find(&router, &ask("GET /a").with(&["x: 1", "y: 1"])), "both");
    assert_eq!(find(&router, &ask("GET /a?q=1").with(&["y: 1"])), "two");
    check(&["first | /{a}/x | query:a=1", "second | /{b}/x | query:b=1"], &[("GET /1/x?a=1&b=1", "first")]);
}

#[test]
fn head_follows_get_and_other_methods_are_told_what_is_allowed() {
    let lines = [
        "read | /a | method=GET",
        "write | /a | method=POST",
        "odd | /b | method=PROPFIND | method=OPTIONS",
        "any | /c",
    ];
    check(
        &lines,
        &[
            ("GET /a", "read"),
            ("HEAD /a", "read"),
            ("POST /a", "write"),
            ("DELETE /a", "405 GET, HEAD, POST, OPTIONS"),
            ("OPTIONS /a", "204 GET, HEAD, POST, OPTIONS"),
            ("PROPFIND /b", "odd"),
            ("OPTIONS /b", "odd"),
            ("MKCOL /b", "405 OPTIONS, PROPFIND"),
            ("OPTIONS /c", "any"),
            ("BREW /c", "any"),
            ("OPTIONS /d", "404"),
            ("DELETE /d", "404"),
            ("OPTIONS *", "204 GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ],
    );
}

#[test]
fn a_method_is_not_refused_where_another_route_takes_it() {
    check(&["read | /a | method=GET", "rest | /**"], &[("POST /a", "rest"), ("GET /a", "read")]);
    check(
        &["read | /a | method=GET | host=a.test"],
        &[("POST http://b.test/a", "404"), ("POST http://a.test/a", "405 GET, HEAD, OPTIONS")],
    );
    check(&["read | /a | method=GET | query:q=1"], &[("POST /a", "404"), ("POST /a?q=1", "405 GET, HEAD, OPTIONS")]);
}

#[test]
fn who_asks_and_where_may_decide() {
    let lines = [
        "inside | /** | ip=10.0.0.0/8",
        "tls | /** | listener=tls",
        "ops | /** | subject=ops | ip=10.0.0.0/8",
        "all | /**",
    ];
    let router = router(&lines);
    let mut request = ask("GET /");
    assert_eq!(find(&router, &request), "all");
    request.listener = "tls";
    assert_eq!(find(&router, &request), "tls");
    request.client_ip = IpAddr::from([10, 1, 1, 1]);
    assert_eq!(find(&router, &request), "inside");
    request.cert = Some(ClientCert {
        subject: "dev".into(),
        sans: vec![San { kind: SanKind::Dns, name: "ops".into() }],
        ..ClientCert::default()
    });
    assert_eq!(find(&router, &request), "inside");
    request.cert = Some(ClientCert { subject: "ops".into(), ..ClientCert::default() });
    assert_eq!(find(&router, &request), "ops");
}

#[test]
fn parameters_are_found_by_name() {
    let long = (0..10).fold(String::new(), |path, number| path + &format!("/{{p{number}}}"));
    let lines = [
        "long | ".to_owned() + &long,
        "mixed | /f/v{major:[0-9]+}.x/{name}.json".to_owned(),
        "rest | /r/{all...}".to_owned(),
    ];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let router = router(&lines);
    let value = |path: &str, name: &str| {
        let request = ask(&format!("GET {path}"));
        let mut params = Params::new();
        let Found::Route(number) = router.find(&request.head(), &mut params) else { return None };
        params.value(&router.route(number)?.matches.path, name, &request.path).map(str::to_owned)
    };
    for number in 0..10 {
        assert_eq!(value("/a0/a1/a2/a3/a4/a5/a6/a7/a8/a9", &format!("p{number}")), Some(format!("a{number}")));
    }
    assert_eq!(value("/f/v12.x/a.b.json", "major").as_deref(), Some("12"));
    assert_eq!(value("/f/v12.x/a.b.json", "name").as_deref(), Some("a.b"));
    assert_eq!(value("/r/x/y/", "all").as_deref(), Some("x/y/"));
    assert_eq!(value("/r/x/y/", "rest").as_deref(), Some("x/y/"));
    assert_eq!(value("/r/x/y/", "none"), None);
}

#[test]
fn a_route_that_can_never_match_is_a_problem_that_names_both() {
    let problem = |first: &str, second: &str| {
        let (_, problems) = Router::build(&[route(first), route(second)]);
        let messages: Vec<_> = problems.iter().map(ToString::to_string).collect();
        messages.join("; ")
    };
    let expected = "routes.b.match: `b` can never match: `a` matches everything that it does, earlier";
    for (first, second) in [
        ("a | /x", "b | /x"),
        ("a | /users/{id}", "b | /users/{name}"),
        ("a | /x | host=a.test | host=b.test", "b | /x | host=b.test"),
        ("a | /x | method=GET | method=POST", "b | /x | method=GET"),
        ("a | /x | method=GET", "b | /x | method=HEAD"),
        ("a | /x | header:h=present", "b | /x | header:h=1"),
        ("a | /x | header:h=~[0-9]", "b | /x | header:h=1"),
        ("a | /x | ip=10.0.0.0/8", "b | /x | ip=10.1.0.0/16"),
        ("a | /x | ip=10.0.0.0/9 | ip=10.128.0.0/9", "b | /x | ip=10.0.0.0/8"),
        ("a | /{x:[0-9]+}**", "b | /{y:[0-9]+}**"),
    ] {
        assert_eq!(problem(first, second), expected, "{first} / {second}");
    }
    for (first, second) in [
        ("a | /x", "b | /x | method=GET"),
        ("a | /x", "b | /x/"),
        ("a | /x**", "b | /x"),
        ("a | /x | host=*.test", "b | /x | host=a.test"),
        ("a | /x | host=a.test", "b | /x"),
        ("a | /x | host=a.test", "b | /x | host=a.test | host=b.test"),
        ("a | /x | method=GET", "b | /x | method=POST"),
        ("a | /x | header:h=1", "b | /x | header:h=present"),
        ("a | /x | header:h=1", "b | /x | header:i=1"),
        ("a | /x | header:h=absent", "b | /x | header:h=1"),
        ("a | /x | ip=10.1.0.0/16", "b | /x | ip=10.0.0.0/8"),
        ("a | /x | listener=l", "b | /x | listener=m"),
        ("a | /x | priority=-1", "b | /x"),
        ("a | /x | priority=1", "b | /x"),
    ] {
        assert_eq!(problem(first, second), "", "{first} / {second}");
    }
}

#[test]
fn routes_behind_one_of_higher_priority_are_told_on_request() {
    let router =
        router(&["page | /shop** | priority=9", "cart | /shop/cart", "any | /{x}", "item | /shop/{id} | method=GET"]);
    let names: Vec<_> =
        router.shadowed().iter().map(|hidden| (hidden.route.name.to_string(), hidden.by.name.to_string())).collect();
    assert_eq!(names, [("cart".to_owned(), "page".to_owned()), ("item".to_owned(), "page".to_owned())]);
}

#[test]
fn every_route_explains_itself() {
    let router = router(&[
        "wrong-host | /a | host=b.test",
        "wrong-path | /b/{id}",
        "wrong-header | /a | header:x-c=web",
        "wrong-query | /a | query:q=~^[0-9]+$",
        "wrong-cookie | /a | cookie:c=present",
        "wrong-address | /a | ip=10.0.0.0/8",
        "wrong-listener | /a | listener=tls",
        "wrong-cert | /a | subject=ops",
        "wrong-method | /a | method=POST",
        "prefix | /a** | header:x-c=absent",
        "winner | /a | host=*.test",
    ]);
    let request = ask("GET http://a.test/a?q=x");
    let explained: Vec<_> = router
        .explain(&request.head())
        .into_iter()
        .map(|explained| match explained.verdict {
            Ok(rank) => format!("{}: {rank}", explained.route.name),
            Err(mismatch) => format!("{}: {mismatch}", explained.route.name),
        })
        .collect();
    assert_eq!(
        explained,
        [
            "wrong-host: host: expected b.test, found a.test",
            "wrong-path: path: expected /b/{id}, found /a",
            "wrong-header: header `x-c`: expected `web`, found absent",
            "wrong-query: query parameter `q`: expected something like `^[0-9]+$`, found `x`",
            "wrong-cookie: cookie `c`: expected present, found absent",
            "wrong-address: client address: expected 10.0.0.0/8, found 192.0.2.1",
            "wrong-listener: listener: expected tls, found default",
            "wrong-cert: client certificate: expected ops, found none",
            "wrong-method: method: expected POST, found GET",
            "prefix: priority 0, any host, path 0, 1 header condition",
            "winner: priority 0, wildcard host, path 1",
        ]
    );
    let wrong: Vec<_> = router.explain(&request.head()).into_iter().filter_map(|e| e.verdict.err()).collect();
    assert_eq!(wrong[2].condition, Condition::Header("x-c".into()));
}

/// Every path of sixteen segments fits a thousand half-patterns here, and none of them to the end.
#[test]
fn backtracking_stays_within_the_tree() {
    let patterns = (0_u32..1024).map(|bits| {
        let segments = (0..10).map(|bit| if bits >> bit & 1 == 0 { "/a".to_owned() } else { format!("/{{p{bit}}}") });
        format!("r{bits} | {}/end", segments.collect::<String>())
    });
    let written: Vec<Arc<Route>> = patterns.map(|line| route(&line)).collect();
    let (router, problems) = Router::build(&written);
    assert!(problems.is_empty());
    let miss = ask(&format!("GET {}/miss", "/a".repeat(10)));
    let hit = ask(&format!("GET {}/end", "/a".repeat(10)));
    for _ in 0..200 {
        assert_eq!(router.find(&miss.head(), &mut Params::new()), Found::NotFound);
        assert_eq!(router.find(&hit.head(), &mut Params::new()), Found::Route(0));
    }
}

#[test]
fn ten_thousand_routes_are_told_apart() {
    let written: Vec<_> = (0..5000)
        .flat_map(|n| [route(&format!("s{n} | /v1/t{n}/list")), route(&format!("p{n} | /v1/t{n}/{{id}}/x"))])
        .collect();
    let (router, problems) = Router::build(&written);
    assert!(problems.is_empty());
    for n in (0..5000).step_by(7) {
        assert_eq!(find_fast(&router, &format!("GET /v1/t{n}/list")), Found::Route(2 * n));
        assert_eq!(find_fast(&router, &format!("GET /v1/t{n}/77/x")), Found::Route(2 * n + 1));
        assert_eq!(find_fast(&router, &format!("GET /v1/t{n}x/list")), Found::NotFound);
    }
}

fn find_fast(router: &Router, request: &str) -> Found {
    router.find(&ask(request).head(), &mut Params::new())
}
