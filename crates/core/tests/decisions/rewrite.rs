use serde_json::json;
use tidegate_core::client::Scheme;
use tidegate_core::identity::Identity;
use tidegate_core::rejection::Rejection;
use tidegate_core::route::{Found, Params, Router};
use tidegate_core::template::{self, Facts};
use tidegate_core::{path, rewrite};

use crate::world::{Asked, ask, route};

/// Lets `look` see what a template may use when `request` takes the route that `line` describes.
fn on<T>(line: &str, request: &Asked, look: impl FnOnce(&tidegate_config::config::Route, &Facts<'_>) -> T) -> T {
    proved(line, request, None, look)
}

/// The same, when it is known who sent the request.
fn proved<T>(
    line: &str,
    request: &Asked,
    identity: Option<&Identity>,
    look: impl FnOnce(&tidegate_config::config::Route, &Facts<'_>) -> T,
) -> T {
    let route = route(line);
    let (router, _) = Router::build(std::slice::from_ref(&route));
    let mut params = Params::new();
    assert_eq!(router.find(&request.head(), &mut params), Found::Route(0), "{line}");
    let facts = Facts {
        head: request.head(),
        scheme: Scheme::Http,
        request_id: "id-1",
        pattern: &route.matches.path,
        params: &params,
        identity,
    };
    look(&route, &facts)
}

fn target(line: &str, request: &str) -> Result<String, Rejection> {
    let request = ask(request);
    let unchanged =
        if request.query.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, request.query) };
    on(line, &request, |route, facts| {
        let target = rewrite::target(&route.rewrite, facts)?;
        if let Some((target, length)) = &target {
            let mut again = target.clone();
            assert_eq!((path::canonicalize(&mut again), &again), (Ok(*length), target), "what is sent is canonical");
        }
        Ok(target.map_or(unchanged, |(target, _)| target))
    })
}

#[test]
fn a_prefix_is_stripped_by_segments() {
    for (path, expected) in [
        ("/api/orders", "/orders"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/apix/y", "/apix/y"),
        ("/other", "/other"),
        ("/api/a?b=/api", "/a?b=/api"),
        ("/api/api/x", "/api/x"),
    ] {
        assert_eq!(target("r | /** | strip=/api", &format!("GET {path}")).as_deref(), Ok(expected), "{path}");
    }
    assert_eq!(target("r | /** | strip=/", "GET /a/b").as_deref(), Ok("/a/b"));
}

#[test]
fn parameters_go_where_the_template_says() {
    for (line, request, expected) in [
        ("r | /users/{id} | path=/v2/u/{path.id}", "GET /users/42?x=1", "/v2/u/42?x=1"),
        ("r | /users/{id} | path=/v2/u/{path.id}?fixed=1", "GET /users/42?x=1", "/v2/u/42?fixed=1"),
        ("r | /f/{name}.json | path=/{path.name}", "GET /f/a%20b.json", "/a%20b"),
        ("r | /a/* | path=/b/{path.rest}", "GET /a/x/y/", "/b/x/y/"),
        ("r | /a/{all...} | path=/b/{path.all}", "GET /a/x/y", "/b/x/y"),
        ("r | /a** | path=/b/{path.rest}", "GET /a/x/y", "/b/x/y"),
        ("r | /a** | path=/b/{path.rest}", "GET /a", "/b/"),
        ("r | /a** | path=/v1{request.path}", "GET /a/x", "/v1/a/x"),
        ("r | /** | path=/s/{query.q}", "GET /x?q=a+b%2Bc", "/s/a%20b%2Bc?q=a+b%2Bc"),
        ("r | /** | path=/{client_ip}/{request.method}/{request_id}", "GET /x", "/192.0.2.1/GET/id-1"),
    ] {
        assert_eq!(target(line, request).as_deref(), Ok(expected), "{line} {request}");
    }
}

#[test]
fn a_value_never_becomes_a_part_of_the_url_that_it_is_not() {
    let line = "r | /** | path=/s/{query.q}/end";
    for (value, expected) in [("%3Fa%3D1", "/s/%3Fa%3D1/end"), ("%23x", "/s/%23x/end"), ("a%26b", "/s/a%26b/end")] {
        let target = target(line, &format!("GET /x?q={value}"));
        assert_eq!(target.as_deref().map(|target| target.split('?').next()), Ok(Some(expected)), "{value}");
    }
    for value in ["..", ".", "", "%2e%2e", "a%2Fb", "a%5Cb", "%00", "%0d%0aX:y", "%252e%252e", "..%3B"] {
        let refused = target(line, &format!("GET /x?q={value}")).expect_err(value);
        assert_eq!((refused.status().as_u16(), refused.code), (400, "rewrite_ambiguous"), "{value}");
        assert!(refused.cause.is_some());
    }
}

#[test]
fn the_query_is_changed_parameter_by_parameter() {
    for (line, query, expected) in [
        ("r | /** | drop=a", "a=1&b=2&a=3&%61=4", "/x?b=2"),
        ("r | /** | drop=a", "a=1", "/x"),
        ("r | /** | set:k=v", "", "/x?k=v"),
        ("r | /** | set:k=v", "a=1&k=old&b&k=older", "/x?a=1&k=v&b"),
        ("r | /** | set:k=v | drop=k", "k=old", "/x?k=v"),
        ("r | /** | set:k=a b&c={client_ip} | drop=z", "z=1", "/x?k=a%20b%26c%3D192.0.2.1"),
        ("r | /** | set:from={request.path}?{request.query}", "q=1", "/x?q=1&from=%2Fx%3Fq%3D1"),
        ("r | /** | set:q={query.q}", "q=%C3%A9+%26", "/x?q=%C3%A9%20%26"),
    ] {
        assert_eq!(target(line, &format!("GET /x?{query}")).as_deref(), Ok(expected), "{line} ?{query}");
    }
}

#[test]
fn nothing_to_do_is_nothing_done() {
    let request = ask("GET /a?b");
    assert_eq!(on("r | /**", &request, |route, facts| rewrite::target(&route.rewrite, facts)), Ok(None));
    assert_eq!(on("r | /**", &request, |route, facts| rewrite::host(&route.rewrite, facts)), Ok(None));
}

#[test]
fn a_rewritten_host_must_be_one() {
    let host = |line: &str, request: &Asked| on(line, request, |route, facts| rewrite::host(&route.rewrite, facts));
    let request = ask("GET http://shop.test/a?h=evil%0d%0aX:y").with(&["x-tenant: acme", "x-odd: a b", "x-at: u@h"]);
    let acme = host("r | /** | to-host={header.x-tenant}.internal:8080", &request);
    assert_eq!(acme, Ok(Some("acme.internal:8080".to_owned())));
    for template in ["{header.x-odd}", "{header.x-at}", "{header.x-none}", "{query.h}", "{request.path}"] {
        let refused = host(&format!("r | /** | to-host={template}"), &request).expect_err(template);
        assert_eq!(refused.status().as_u16(), 500, "{template}");
        assert!(!refused.detail.contains("evil"), "nothing of it is told");
    }
}

#[test]
fn a_redirect_keeps_the_query_unless_it_has_its_own() {
    let to = |template: &str, request: &str| {
        let template = template.parse().expect("a template");
        on("r | /old**", &ask(request), |_, facts| rewrite::location(&template, facts))
    };
    assert_eq!(to("/api/{path.rest}", "GET /old/x/y?a=1"), "/api/x/y?a=1");
    assert_eq!(to("/api/{path.rest}", "GET /old"), "/api/");
    assert_eq!(to("/docs/{path.rest}#part", "GET /old/x?a=1"), "/docs/x?a=1#part");
    assert_eq!(to("/api?was={request.path}", "GET /old/a%20b?x"), "/api?was=%2Fold%2Fa%2520b");
    assert_eq!(to("/api?{request.query}&new=1", "GET /old?a=1&b=2"), "/api?a=1&b=2&new=1");
    assert_eq!(to("https://{request.host}{request.path}", "GET http://shop.test/old/x?y"), "https://shop.test/old/x?y");
    assert_eq!(
        to("/{query.next}", "GET /old?next=//evil.test/%0d%0aX"),
        "/%2F%2Fevil.test%2F%0D%0AX?next=//evil.test/%0d%0aX"
    );
    assert_eq!(to("/é {{x}}", "GET /old"), "/%C3%A9%20{x}");
}

#[test]
fn a_text_holds_plain_values_and_no_line_breaks() {
    let request = ask("GET http://shop.test/a%20b?q=x+y").with(&["x-a: 1", "cookie: s=t; u=v"]);
    let text = |template: &str| {
        let template = template.parse().expect("a template");
        on("r | /{id}", &request, |_, facts| template::text(&template, facts).map_err(|error| error.to_string()))
    };
    assert_eq!(
        text("{path.id}|{query.q}|{header.x-a}|{cookie.u}|{header.none}|{query.none}"),
        Ok("a b|x y|1|v||".into())
    );
    assert_eq!(
        text(
            "{client_ip} {request_id} {request.method} {request.scheme} {request.host} {request.path} {request.query}"
        ),
        Ok("192.0.2.1 id-1 GET http shop.test /a%20b q=x+y".into())
    );
    let request = ask("GET /x?q=a%0d%0aSet-Cookie:+b&n=%00&u=%C2%85");
    for variable in ["{query.q}", "{query.n}", "{query.u}"] {
        let template = variable.parse().expect("a template");
        let refused = on("r | /**", &request, |_, facts| template::text(&template, facts)).expect_err(variable);
        assert_eq!(Rejection::from(refused).status().as_u16(), 500, "{variable}");
    }
}

#[test]
fn an_identity_is_written_like_everything_else_and_nobody_as_nothing() {
    let identity = Identity {
        user: Some("ann/../bob".into()),
        tenant: Some("acme".into()),
        claims: json!({ "id": 7, "in": { "x": "a&b" }, "https://a.test/t": "t", "list": ["a"], "gone": null, "bad": "a\r\nb" }),
        ..Identity::default()
    };
    let request = ask("GET /x");
    let text = |template: &str, identity| {
        let template = template.parse().expect("a template");
        proved("r | /**", &request, identity, |_, facts| template::text(&template, facts).map_err(|_| "refused"))
    };
    let all = "{identity.user}|{identity.tenant}|{claims.id}|{claims.in.x}|{claims[\"https://a.test/t\"]}|{claims.list}|{claims.gone}";
    assert_eq!(text(all, Some(&identity)), Ok("ann/../bob|acme|7|a&b|t|[\"a\"]|".into()));
    assert_eq!(text(all, None), Ok("||||||".into()));
    assert_eq!(text("{claims.bad}", Some(&identity)), Err("refused"));
    let location = |template: &str| {
        let template = template.parse().expect("a template");
        proved("r | /**", &request, Some(&identity), |_, facts| rewrite::location(&template, facts))
    };
    assert_eq!(location("/u/{identity.user}?x={claims.in.x}"), "/u/ann%2F..%2Fbob?x=a%26b");
}
