use http::StatusCode;
use tidegate_http1::ResponseHead;

use crate::testing::{Gateway, check, problems};

fn yaml(cors: &str) -> String {
    format!(
        "services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
         routes: [{{ match: {{ path_prefix: /a }}, service: a, cors: {cors}, bots: {{ deny: [bot] }} }}]"
    )
}

const APP: &str = "{ origins: [https://app.example.com], credentials: on, max_age: 1h, expose: [x-request-id, etag] }";
const VARY: &str = "vary: Origin\nvary: Access-Control-Request-Method\nvary: Access-Control-Request-Headers";

/// A preflight of this origin for `PUT`, with further lines.
fn preflight(origin: &str, lines: &str) -> String {
    format!("OPTIONS /a\nOrigin: {origin}\nAccess-Control-Request-Method: PUT\n{lines}")
}

#[test]
fn a_preflight_is_answered_with_what_is_allowed() {
    assert_eq!(
        check(&yaml(APP), &preflight("https://app.example.com", "Access-Control-Request-Headers: content-type")),
        format!(
            "answer 204\n{VARY}\n\
             access-control-allow-origin: https://app.example.com\n\
             access-control-allow-credentials: true\n\
             access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE\n\
             access-control-max-age: 3600\n\
             access-control-allow-headers: authorization, content-type"
        )
    );
}

#[test]
fn a_preflight_of_a_stranger_is_answered_with_nothing() {
    let gateway = Gateway::of(&yaml(APP));
    for origin in [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "https://app.example.comevil",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://APP.example.com",
        "null",
        "https://app.example.com, https://evil.example",
    ] {
        assert_eq!(gateway.send(&preflight(origin, "")).said, format!("answer 204\n{VARY}"), "{origin}");
    }
    let twice = preflight("https://app.example.com", "Origin: https://evil.example");
    assert_eq!(gateway.send(&twice).said, format!("answer 204\n{VARY}"));
}

#[test]
fn a_request_that_is_no_preflight_goes_to_the_service() {
    let gateway = Gateway::of(&yaml(APP));
    for request in ["OPTIONS /a\nOrigin: https://app.example.com", "OPTIONS /a\nAccess-Control-Request-Method: PUT"] {
        assert!(gateway.send(request).said.starts_with("pass\n"), "{request}");
    }
}

#[test]
fn pages_of_the_list_may_read_the_reply_and_others_may_not() {
    let gateway = Gateway::of(&yaml(APP));
    assert_eq!(
        gateway.send("GET /a\nOrigin: https://app.example.com").said,
        "pass\nvary: Origin\n\
         access-control-allow-origin: https://app.example.com\n\
         access-control-allow-credentials: true\n\
         access-control-expose-headers: x-request-id, etag"
    );
    assert_eq!(gateway.send("GET /a\nOrigin: https://evil.example").said, "pass\nvary: Origin");
    assert_eq!(gateway.send("GET /a").said, "pass\nvary: Origin", "a cache must not hand this to a page");
}

#[test]
fn refusals_can_be_read_too() {
    let said = check(&yaml(APP), "GET /a\nOrigin: https://app.example.com\nUser-Agent: bot");
    assert!(said.starts_with("403 bot_refused"), "{said}");
    assert!(said.contains("\naccess-control-allow-origin: https://app.example.com\n"), "{said}");
}

#[test]
fn replies_of_the_router_can_be_read_where_all_routes_say_the_same() {
    let lost = "GET /b\nOrigin: https://app.example.com";
    assert!(check(&yaml(APP), lost).contains("access-control-allow-origin: https://app.example.com"));
    let several = |second: &str| {
        format!(
            "services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
             routes:\n\
             - {{ match: {{ path_prefix: /a }}, service: a, cors: {{ origins: [https://app.example.com, {{ regex: x }}] }} }}\n\
             - {{ match: {{ path_prefix: /c }}, service: a{second} }}"
        )
    };
    let same = ", cors: { origins: [https://app.example.com, { regex: x }] }";
    assert!(check(&several(same), lost).contains("access-control-allow-origin: https://app.example.com"));
    assert!(check(&several(""), lost).contains("access-control-allow-origin: https://app.example.com"));
    assert_eq!(check(&several(", cors: { origins: [https://app.example.com, { regex: y }] }"), lost), "pass");
}

#[test]
fn everybody_is_told_the_same_where_everybody_may_call() {
    for written in ["{ origins: '*', max_age: off }", "{ origins: ['*', https://app.example.com], max_age: off }"] {
        let gateway = Gateway::of(&yaml(written));
        assert_eq!(gateway.send("GET /a").said, "pass\naccess-control-allow-origin: *");
        assert_eq!(gateway.send("GET /a\nOrigin: null").said, "pass\naccess-control-allow-origin: *");
        let said = gateway.send(&preflight("https://any.example", "")).said;
        assert!(said.contains("\naccess-control-allow-origin: *\n"), "{said}");
        assert!(!said.contains("credentials") && !said.contains("max-age") && !said.contains("vary: Origin"), "{said}");
    }
}

#[test]
fn wildcards_stand_for_names_below_and_expressions_for_whole_origins() {
    let gateway = Gateway::of(&yaml(
        "{ origins: ['https://*.example.com', { regex: 'https://pr-[0-9]+\\.example\\.dev' }, 'null'] }",
    ));
    let may = |origin: &str| gateway.send(&format!("GET /a\nOrigin: {origin}")).said.contains("allow-origin");
    for origin in ["https://a.example.com", "https://a.b.example.com", "https://pr-12.example.dev", "null"] {
        assert!(may(origin), "{origin}");
    }
    for origin in [
        "https://example.com",
        "https://.example.com",
        "https://evilexample.com",
        "https://a.example.com:444",
        "http://a.example.com",
        "https://a.example.com.evil",
        "https://evil.com/.example.com",
        "https://evil.com#.example.com",
        "https://user@a.example.com",
        "https://aXexample.com",
        "https://pr-12.example.dev.evil.com",
        "https://evil.com?https://pr-12.example.dev",
        "https://pr-12xexample.dev",
    ] {
        assert!(!may(origin), "{origin}");
    }
}

#[test]
fn headers_that_are_asked_for_are_allowed_by_name_where_all_are() {
    let gateway = Gateway::of(&yaml("{ origins: [https://app.example.com], headers: '*', credentials: on }"));
    let asked = preflight("https://app.example.com", "Access-Control-Request-Headers: x-a,authorization , x-b");
    let said = gateway.send(&asked).said;
    assert!(said.ends_with("\naccess-control-allow-headers: x-a, authorization, x-b"), "{said}");
    let said = gateway.send(&preflight("https://app.example.com", "")).said;
    assert!(!said.contains("access-control-allow-headers"), "{said}");
    let stranger = preflight("https://evil.example", "Access-Control-Request-Headers: x-a");
    assert!(!gateway.send(&stranger).said.contains("x-a"));
}

#[test]
fn private_networks_are_closed_unless_they_are_opened() {
    let asked = preflight("https://app.example.com", "Access-Control-Request-Private-Network: true");
    assert!(!check(&yaml(APP), &asked).contains("private-network"));
    let open = yaml("{ origins: [https://app.example.com], private_network: on }");
    assert!(check(&open, &asked).ends_with("\naccess-control-allow-private-network: true"));
    assert!(!check(&open, &preflight("https://app.example.com", "")).contains("private-network"));
}

#[test]
fn what_the_service_says_is_replaced_and_never_doubled() {
    let gateway = Gateway::of(&yaml(APP));
    for (origin, allowed) in [("https://app.example.com", 1), ("https://evil.example", 0)] {
        let sent = gateway.send(&format!("GET /a\nOrigin: {origin}"));
        let mut reply = ResponseHead { status: StatusCode::OK, ..ResponseHead::default() };
        for (name, value) in [
            ("Access-Control-Allow-Origin", "*"),
            ("access-control-allow-origin", "https://evil.example"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Private-Network", "true"),
            ("Access-Control-Allow-Methods", "DELETE"),
            ("Vary", "accept-encoding, ORIGIN"),
        ] {
            reply.fields.append(name, value.as_bytes()).unwrap();
        }
        gateway.policies.routes[0].reply(&sent.exchange, &mut reply);
        let values: Vec<_> = reply.fields.values("access-control-allow-origin").collect();
        assert_eq!(values, vec![origin.as_bytes(); allowed]);
        assert_eq!(reply.fields.values("access-control-allow-credentials").count(), allowed);
        assert!(!reply.fields.contains("access-control-allow-methods"));
        assert!(!reply.fields.contains("access-control-allow-private-network"));
        assert_eq!(reply.fields.values("vary").count(), 1, "it is said already");
    }
}

#[test]
fn credentials_for_everybody_are_a_mistake() {
    for origins in ["'*'", "['*', https://app.example.com]", "[{ regex: .* }]", "[{ regex: 'https://.*' }]"] {
        let said = problems(&yaml(&format!("{{ origins: {origins}, credentials: on }}")));
        assert!(said.contains("any page could act as its visitor"), "{origins}: {said}");
    }
    let said = problems(&yaml("{ origins: [https://app.example.com], credentials: on, expose: '*' }"));
    assert!(said.contains("browsers do not take `*` for all headers"), "{said}");
    let said = problems(&yaml("{ origins: ['null'], credentials: on }"));
    assert!(said.starts_with("warning") && said.contains("sandboxed frames"), "{said}");
}

#[test]
fn a_policy_without_origins_is_a_mistake() {
    assert!(problems(&yaml("{}")).contains("`origins` is missing"));
    assert_eq!(problems(&yaml("{ origins: [app] }")).matches("error").count(), 1);
}
