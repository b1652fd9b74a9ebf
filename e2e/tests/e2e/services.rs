//! Seeing and steering services at the admin listener, and endpoints that register there.

use std::collections::BTreeMap;

use e2e::wire::Message;
use e2e::{Backend, Client, Folder, Gateway};
use serde_json::{Value, json};

const TOKEN: &str = "admin: { host: 127.0.0.1, port: 0, token: t0ken }\n";
const ROUTE: &str = "routes:\n  - { name: all, match: { path_prefix: / }, service: app }\n";

/// A service `app` with these endpoints, which may be steered.
fn steered(backends: &[&Backend]) -> Gateway {
    Gateway::run(&format!("{TOKEN}{}", app(backends)))
}

fn app(backends: &[&Backend]) -> String {
    let urls: Vec<String> = backends.iter().map(|backend| format!("\"http://{}\"", backend.address())).collect();
    format!("services:\n  app: {{ endpoints: [{}] }}\n{ROUTE}", urls.join(", "))
}

/// A service `app` whose endpoints register, and a file for them.
fn registry(ttl: &str, file: &str) -> String {
    let discovery = format!("discovery: {{ registry: {{ ttl: {ttl}, file: \"{file}\" }} }}");
    format!("{TOKEN}services:\n  app: {{ {discovery} }}\n{ROUTE}")
}

/// What the admin listener answers.
fn ask(gateway: &Gateway, call: &str, fields: &str, body: &str) -> Message {
    let (method, _) = call.split_once(' ').expect("a method and a path");
    let (address, length) = (gateway.admin(), body.len());
    let head =
        format!("{call} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}");
    Client::connect(address).send(format!("{head}\r\n{body}")).reply_to(method)
}

/// The same with the token, when it must work.
fn told(gateway: &Gateway, call: &str, body: &str) -> Value {
    let reply = ask(gateway, call, "Authorization: Bearer t0ken\r\n", body);
    assert!(matches!(reply.status(), 200 | 201), "{call}: {}", reply.text());
    reply.json()
}

/// The status and the code of a refusal.
fn refused(gateway: &Gateway, call: &str, body: &str) -> (u16, String) {
    let reply = ask(gateway, call, "Authorization: Bearer t0ken\r\n", body);
    let told = reply.json();
    assert!(told["error"].is_string(), "{told}");
    (reply.status(), told["code"].as_str().unwrap_or_default().to_owned())
}

fn endpoint(backend: &Backend, what: &str) -> String {
    format!("/services/app/endpoints/{}/{what}", backend.address())
}

/// Who answers so many requests, and how often.
fn answers(gateway: &Gateway, requests: usize) -> BTreeMap<String, usize> {
    let mut client = gateway.connect();
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(client.get("/").text()).or_insert(0) += 1;
    }
    counts
}

fn counted(counts: &[(&str, usize)]) -> BTreeMap<String, usize> {
    counts.iter().map(|(label, count)| ((*label).to_owned(), *count)).collect()
}

/// Asks again until it is so; every question waits for its answer.
fn until(what: &str, mut ready: impl FnMut() -> bool) {
    assert!((0..20_000).any(|_| ready()), "{what} never came");
}

fn register(gateway: &Gateway, backend: &Backend) -> Value {
    told(
        gateway,
        "POST /services/app/registrations",
        &json!({ "url": format!("http://{}", backend.address()) }).to_string(),
    )
}

#[test]
fn services_are_shown_with_their_endpoints() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let gateway = Gateway::run(&app(&[&one, &two]));
    gateway.get("/");
    let all = gateway.admin_get("/services").json();
    let (service, authority) = (&all["services"][0], one.address().to_string());
    assert_eq!(
        (&service["name"], &service["states"]["healthy"], &service["in_service"]),
        (&"app".into(), &2.into(), &2.into())
    );
    assert_eq!(
        (&service["endpoints"][0]["authority"], &service["endpoints"][0]["state"]),
        (&authority.clone().into(), &"healthy".into())
    );
    let app = gateway.admin_get("/services/app").json();
    assert_eq!((&app["strategy"], &app["breaker"]["state"]), (&"round_robin".into(), &"closed".into()));
    let requests: Vec<&Value> =
        app["endpoints"].as_array().unwrap().iter().map(|endpoint| &endpoint["requests"]).collect();
    assert_eq!(requests.iter().filter_map(|requests| requests.as_u64()).sum::<u64>(), 1, "{app}");
    assert_eq!(gateway.admin_get("/services/none").status(), 404);
    let label = format!("endpoint=\"{authority}\"");
    assert_eq!(gateway.metric("tidegate_endpoint_state", &[&label, "state=\"healthy\""]), 1);
    assert_eq!(gateway.metric("tidegate_endpoints_in_service", &["service=\"app\""]), 2);
    assert_eq!(gateway.metric("tidegate_endpoint_weight", &[&label]), 1);
}

#[test]
fn nothing_can_be_changed_without_the_token() {
    let backend = Backend::labelled("one");
    let drain = format!("POST {}", endpoint(&backend, "drain"));
    let open = Gateway::run(&app(&[&backend]));
    let reply = ask(&open, &drain, "", "");
    assert_eq!((reply.status(), &reply.json()["code"]), (403, &"no_admin_token".into()));
    let gateway = steered(&[&backend]);
    for fields in ["", "Authorization: Bearer other\r\n", "Authorization: Basic t0ken\r\n"] {
        assert_eq!(ask(&gateway, &drain, fields, "").status(), 401, "{fields}");
    }
    assert_eq!(gateway.admin_get("/services").status(), 401);
    assert_eq!(gateway.get("/").text(), "one");
    assert_eq!(open.get("/").text(), "one");
}

#[test]
fn a_drained_endpoint_gets_nothing_until_it_is_resumed() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let gateway = steered(&[&one, &two]);
    assert_eq!(answers(&gateway, 10), counted(&[("one", 5), ("two", 5)]));
    let after = told(&gateway, &format!("POST {}", endpoint(&one, "drain")), "");
    assert_eq!((&after["endpoints"][0]["state"], &after["in_service"]), (&"draining".into(), &1.into()));
    assert_eq!(answers(&gateway, 10), counted(&[("two", 10)]));
    told(&gateway, &format!("POST {}", endpoint(&one, "resume")), "");
    assert_eq!(answers(&gateway, 10), counted(&[("one", 5), ("two", 5)]));
    gateway.log_line("who drained it", |line| line.contains("127.0.0.1:") && line.contains("/drain\""));
}

#[test]
fn a_weight_holds_at_once() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let gateway = steered(&[&one, &two]);
    told(&gateway, &format!("PUT {}", endpoint(&one, "weight")), r#"{"weight": 3}"#);
    assert_eq!(answers(&gateway, 40), counted(&[("one", 30), ("two", 10)]));
    told(&gateway, &format!("PUT {}", endpoint(&one, "weight")), r#"{"weight": 0}"#);
    assert_eq!(answers(&gateway, 10), counted(&[("two", 10)]));
}

#[test]
fn a_forced_breaker_answers_at_once_and_says_when_to_come_again() {
    let backend = Backend::labelled("one");
    let gateway = steered(&[&backend]);
    for path in ["/services/app/breaker".to_owned(), endpoint(&backend, "breaker")] {
        told(&gateway, &format!("PUT {path}"), r#"{"state": "open"}"#);
        let reply = gateway.get("/");
        assert_eq!(reply.status(), 503, "{path}");
        assert!(reply.field("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{path}");
        told(&gateway, &format!("PUT {path}"), r#"{"state": "auto"}"#);
        assert_eq!(gateway.get("/").status(), 200, "{path}");
    }
    assert_eq!(backend.requests().len(), 2);
}

#[test]
fn mistakes_are_told_apart() {
    let backend = Backend::labelled("one");
    let gateway = steered(&[&backend]);
    let weight = format!("PUT {}", endpoint(&backend, "weight"));
    for (call, body, expected) in [
        ("POST /services/none/endpoints/a/drain", "", (404, "no_such_service")),
        ("POST /services/app/endpoints/a/drain", "", (404, "no_such_endpoint")),
        ("GET /services/app/endpoints", "", (404, "not_found")),
        ("GET /services/app/breaker", "", (405, "method_not_allowed")),
        ("PUT /services/app/breaker", r#"{"state": "ajar"}"#, (400, "bad_body")),
        ("POST /services/app/registrations", r#"{"url": "http://127.0.0.1:1"}"#, (409, "not_a_registry")),
        ("POST /services/app/registrations", r#"{"url": "127.0.0.1:1"}"#, (400, "bad_body")),
        (&weight, "3", (400, "bad_body")),
        (&weight, r#"{"weight": -1}"#, (400, "bad_body")),
        (&weight, r#"{"weight": 1, "more": 2}"#, (400, "bad_body")),
        (&weight, r#"{"weight": 1000000}"#, (400, "bad_body")),
        (&weight, &" ".repeat(70_000), (413, "body_too_large")),
    ] {
        assert_eq!(refused(&gateway, call, body), (expected.0, expected.1.to_owned()), "{call} {body:.40}");
    }
}

#[test]
fn endpoints_register_renew_and_leave() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let folder = Folder::new();
    let gateway = Gateway::run(&registry("60s", &folder.path().join("app.json").display().to_string()));
    assert_eq!(gateway.get("/").status(), 503, "nobody is there yet");
    let answer = register(&gateway, &one);
    assert_eq!(answer, json!({ "id": one.address().to_string(), "ttl_seconds": 60.0 }));
    register(&gateway, &two);
    assert_eq!(answers(&gateway, 10), counted(&[("one", 5), ("two", 5)]));
    let renewal = format!("PUT /services/app/registrations/{}", two.address());
    told(&gateway, &renewal, "");
    told(&gateway, &format!("DELETE /services/app/registrations/{}", two.address()), "");
    assert_eq!(refused(&gateway, &renewal, ""), (404, "not_registered".to_owned()));
    assert_eq!(answers(&gateway, 10), counted(&[("one", 10)]));
    let listed = told(&gateway, "GET /services/app/registrations", "");
    assert_eq!(listed["registrations"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["registrations"][0]["url"], one.url());
}

#[test]
fn who_does_not_renew_is_dropped() {
    let backend = Backend::labelled("one");
    let folder = Folder::new();
    let gateway = Gateway::run(&registry("1s", &folder.path().join("app.json").display().to_string()));
    register(&gateway, &backend);
    gateway.log_line("the end of the registration", |line| line.contains("registration expired"));
    until("the refusal", || gateway.get("/").status() == 503);
    let listed = told(&gateway, "GET /services/app/registrations", "");
    assert_eq!(listed["registrations"], json!([]));
}

#[test]
fn registrations_outlive_a_restart_even_a_hard_one() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let folder = Folder::new();
    let yaml = registry("60s", &folder.path().join("kept/app.json").display().to_string());
    let mut gateway = Gateway::run(&yaml);
    register(&gateway, &one);
    register(&gateway, &two);
    until("the file", || told(&gateway, "GET /services/app/registrations", "")["saved"] == true);
    gateway.signal("KILL");
    gateway.exit();
    let mut gateway = Gateway::run(&yaml);
    assert_eq!(answers(&gateway, 10), counted(&[("one", 5), ("two", 5)]), "from the first request on");
    told(&gateway, &format!("DELETE /services/app/registrations/{}", one.address()), "");
    gateway.signal("TERM");
    assert!(gateway.exit().success());
    let gateway = Gateway::run(&yaml);
    assert_eq!(answers(&gateway, 10), counted(&[("two", 10)]), "what was told last is saved at the end");
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_serves_all_the_same() {
    let backend = Backend::labelled("one");
    let folder = Folder::new();
    let in_the_way = folder.write("file", "");
    let gateway = Gateway::run(&registry("60s", &in_the_way.join("app.json").display().to_string()));
    register(&gateway, &backend);
    assert_eq!(gateway.get("/").text(), "one");
    gateway.log_line("the warning", |line| line.contains("registrations cannot be saved"));
    let listed = told(&gateway, "GET /services/app/registrations", "");
    assert!(listed["warning"].is_string() && listed["saved"] == false, "{listed}");
}

#[test]
fn registrations_outlive_reloads() {
    let backend = Backend::labelled("one");
    let folder = Folder::new();
    let file = folder.path().join("app.json").display().to_string();
    let gateway = Gateway::run(&registry("60s", &file));
    register(&gateway, &backend);
    gateway.reload(&registry("61s", &file));
    assert_eq!(gateway.get("/").text(), "one");
    assert_eq!(register(&gateway, &backend)["ttl_seconds"], 61.0);
}
