//! More than a client is worth: many keys, many names, many guesses, and patterns that others never finish.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use e2e::gateway::tidegate;
use e2e::{Backend, Client, Folder, Gateway, server};

use super::{AUTH, code};

/// Many requests on one connection, a few hundred under way at once, and how many were answered with this status.
fn flood(gateway: &Gateway, requests: &[String], status: u16) -> usize {
    let mut client = gateway.connect();
    let mut found = 0;
    for some in requests.chunks(200) {
        client.send(some.concat());
        found += some.iter().filter(|_| client.reply().status() == status).count();
    }
    found
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn a_flood_of_names_frees_nobody_and_takes_bounded_memory() {
    let gateway = Gateway::run(
        "limits_memory: { max_keys: 1000 }
routes:
  - match: { path: / }
    respond: { body: x }
    rate_limit: { each: { rate: 3/h, key: \"header:x-name\" } }
",
    );
    let abuser = get("X-Name: abuser\r\n");
    assert_eq!(flood(&gateway, &vec![abuser.clone(); 10], 200), 3);
    let names =
        |from: usize| (from..from + 10_000).map(|name| get(&format!("X-Name: n{name}\r\n"))).collect::<Vec<_>>();
    flood(&gateway, &names(0), 200);
    let before = gateway.memory();
    for round in 1..4 {
        flood(&gateway, &names(round * 10_000), 200);
        assert_eq!(flood(&gateway, std::slice::from_ref(&abuser), 429), 1, "after {round} times ten thousand names");
    }
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 4 << 20, "thirty thousand names took {grown} bytes");
}

#[test]
fn other_names_for_oneself_are_no_way_around_a_limit() {
    let backend = Backend::echo();
    let limited = "auth: none, rate_limit: { each: { rate: 5/h, key: client_ip } }";
    let count = |gateway: &Gateway, fields: &dyn Fn(usize) -> String| {
        (0..20).filter(|n| gateway.connect().get_with("/", &fields(*n)).status() == 200).count()
    };
    let yaml =
        |more: &str, route: &str| format!("{}{AUTH}{}", server(more), e2e::forward_with(backend.address(), "", route));
    let direct = Gateway::run(&yaml("", limited));
    let rotated =
        |n: usize| format!("X-Forwarded-For: 10.0.0.{n}\r\nX-Real-IP: 10.0.0.{n}\r\nForwarded: for=10.0.0.{n}\r\n");
    assert_eq!(count(&direct, &rotated), 5, "addresses that a client writes");
    let trusting = "trusted_proxies: [127.0.0.0/8]";
    for (what, admitted, fields) in [
        ("to the left of the client's own", 5, Box::new(|n| format!("X-Forwarded-For: 10.0.0.{n}, 192.0.2.1\r\n"))),
        ("one network of IPv6", 5, Box::new(|n| format!("X-Forwarded-For: 2001:db8:0:1:{n:x}::{n:x}\r\n"))),
        (
            "an address in other spellings",
            5,
            Box::new(|n| match n % 3 {
                0 => "X-Forwarded-For: 192.0.2.7\r\n".to_owned(),
                1 => "X-Forwarded-For: ::ffff:192.0.2.7\r\n".to_owned(),
                _ => format!("X-Forwarded-For: 192.0.2.7:{}\r\n", 1000 + n),
            }),
        ),
        ("different networks", 20, Box::new(|n| format!("X-Forwarded-For: 2001:db8:0:{n:x}::1\r\n"))),
    ] as [(&str, usize, Box<dyn Fn(usize) -> String>); 4]
    {
        assert_eq!(count(&Gateway::run(&yaml(trusting, limited)), &fields), admitted, "{what}");
    }
    // What is not there is not another name: who leaves it out is counted by the address.
    let keyed = "auth: none, rate_limit: { each: { rate: 5/h, key: \"header:x-api\" } }";
    assert_eq!(count(&Gateway::run(&yaml("", keyed)), &|_| String::new()), 5);
    assert_eq!(count(&Gateway::run(&yaml("", keyed)), &|_| "X-Api:\r\n".to_owned()), 5);
}

#[test]
fn what_no_route_takes_and_what_browsers_ask_first_is_limited_too() {
    let backend = Backend::echo();
    let limit = "rate_limit: { per_client: { rate: 5/h, burst: 5, key: client_ip } }\n";
    let route = "auth: keys, cors: { origins: [\"https://app.test\"] }";
    for (what, request) in [
        ("no route", "GET /absent HTTP/1.1\r\nHost: b\r\n\r\n"),
        ("another method", "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        ("options", "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "a preflight",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n\r\n",
        ),
        ("nobody", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let routes = e2e::forward_with(backend.address(), "", route)
            .replace("path_prefix: /", "host: a, path: /, methods: [GET]");
        let gateway = Gateway::run(&format!("{AUTH}{limit}{routes}"));
        let limited = (0..10).filter(|_| gateway.connect().send(request).reply().status() == 429).count();
        assert_eq!(limited, 5, "{what}");
    }
    assert!(backend.requests().is_empty());
}

#[test]
fn guesses_are_counted_by_the_address_that_they_come_from() {
    let backend = Backend::echo();
    let failures = "auth_failures: { rate: 10/h, burst: 10 }\n";
    let auth = AUTH.replacen("auth_failures: off\n", failures, 1);
    let gateway = Gateway::run(&format!("{auth}{}", e2e::forward_with(backend.address(), "", "auth: keys")));
    let from = |host: u8, key: &str, more: &str| {
        let mut client = Client::connect_from(Ipv4Addr::new(127, 0, 0, host), gateway.address());
        client.get_with("/", &format!("X-API-Key: {key}\r\n{more}"))
    };
    for n in 0..10 {
        let reply = from(2, &format!("guess-number-{n}-of-many"), &format!("X-Forwarded-For: 10.0.0.{n}\r\n"));
        assert_eq!(code(&reply), "credential_invalid", "{n}");
    }
    let reply = from(2, "guess-number-11-of-many", "X-Forwarded-For: 10.0.0.99\r\n");
    assert_eq!((reply.status(), &*code(&reply)), (429, "too_many_failures"));
    assert!(reply.field("retry-after").is_some());
    // Whoever guesses is not told when a guess is right; others are not held up.
    assert_eq!(code(&from(2, super::KEY, "")), "too_many_failures");
    assert_eq!(from(3, super::KEY, "").status(), 200);
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn no_pattern_takes_longer_than_its_text_is_long() {
    let backend = Backend::echo();
    let (bad, url) = ("(a+)+$", backend.url());
    let yaml = format!(
        "{AUTH}services: {{ app: {{ url: \"{url}\" }} }}
routes:
  - {{ match: {{ path: \"/path/{{id:(a|a)*b}}\" }}, service: app, auth: none }}
  - {{ match: {{ path: /header, headers: {{ x-a: {{ regex: \"^{bad}\" }} }} }}, service: app, auth: none }}
  - {{ match: {{ path: /bots }}, service: app, auth: none, bots: {{ deny: [\"^(([a-z])+.)+[A-Z]([a-z])+$\", \"{bad}\"] }} }}
  - {{ match: {{ path: /cors }}, service: app, auth: none, cors: {{ origins: [{{ regex: \"https://(a|aa)+\\\\.test\" }}] }} }}
  - {{ match: {{ path: /when }}, service: app, auth: keys, require: {{ when: \"header.x-a matches '^(a*)*b$'\" }} }}
"
    );
    let gateway = Gateway::run(&yaml);
    // Engines that go back take 2 to the power of the length for these: they would not come to an end.
    let long = "a".repeat(6000);
    for (target, fields, status) in [
        (format!("/path/{long}"), String::new(), 404),
        ("/header".to_owned(), format!("X-A: {long}!\r\n"), 404),
        ("/bots".to_owned(), format!("User-Agent: {long}!\r\n"), 200),
        ("/cors".to_owned(), format!("Origin: https://{long}!\r\n"), 200),
        ("/when".to_owned(), format!("X-API-Key: {}\r\nX-A: {long}!\r\n", super::KEY), 403),
    ] {
        assert_eq!(gateway.connect().get_with(&target, &fields).status(), status, "{}", &target[..5]);
    }
    // What could not be finished at all is refused when it is loaded.
    let folder = Folder::new();
    for huge in ["(?:a{1000}){1000}", "(?:(?:[a-z]{100}){100}){100}", "(?=a)", "(a)\\\\1"] {
        let route = format!("{{ match: {{ path: / }}, respond: {{ body: x }}, bots: {{ deny: [\"{huge}\"] }} }}");
        let file = folder.write("gateway.yaml", format!("routes: [{route}]\n"));
        let checked = tidegate(&["check", file.to_str().expect("a plain path")], &[]);
        assert_eq!(checked.code, 1, "{huge}: {}", checked.errors);
    }
}

#[test]
fn a_caller_with_a_thousand_roles_costs_no_more_than_a_token() {
    let backend = Backend::echo();
    let secret = "a-secret-of-at-least-32-characters";
    let route = "auth: main, require: { all_roles: [r1, r2, absent] }";
    let yaml =
        format!("auth_failures: off\nauth: {{ main: {{ jwt: {{ secret: {secret} }} }} }}\nlog: {{ access: on }}\n");
    let gateway = Gateway::run(&format!("{yaml}{}", e2e::forward_with(backend.address(), "", route)));
    let roles: Vec<_> = (0..900).map(|n| format!("r{n}")).collect();
    let claims = serde_json::json!({ "sub": "ann", "exp": 4_102_444_800_u64, "roles": roles.join(" ") });
    let token = e2e::tokens::Signer::Secret(secret.into()).token(&claims);
    let reply = gateway.connect().get_with("/roles", &format!("Authorization: Bearer {token}\r\n"));
    assert_eq!((reply.status(), &*code(&reply)), (403, "forbidden"));
    let line = gateway.access_line("the refusal", |line| line["path"] == "/roles");
    let mut cause = String::new();
    write!(cause, "{}", line["cause"]).expect("written to memory");
    assert!(cause.contains("absent") && cause.contains("more") && cause.len() < 300, "{cause}");
}
