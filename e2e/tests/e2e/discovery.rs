//! Endpoints that others know about: a real dnsmasq, a real etcd, a file; and fakes of Consul and of Kubernetes' API server, which
//! speak what the documentation of these shows.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use e2e::fakes::{FakeConsul, FakeKubernetes};
use e2e::gateway::Plan;
use e2e::registries::{Dnsmasq, Etcd};
use e2e::{Backend, Client, Gateway};
use serde_json::{Value, json};

/// A service `app` whose endpoints are discovered like this, and one route that leads everything there.
fn discovering(how: &str) -> String {
    format!(
        "services:\n  app: {{ discovery: {{ {how} }} }}\n\
         routes:\n  - {{ name: all, match: {{ path_prefix: / }}, service: app }}\n"
    )
}

fn dns(server: SocketAddr, more: &str) -> String {
    discovering(&format!("dns: {{ servers: [\"{server}\"], min_ttl: 1s, {more} }}"))
}

/// A backend that answers with its name, at an address of its own.
fn at(address: &str, port: u16, label: &'static str) -> Backend {
    let address: IpAddr = address.parse().unwrap();
    Backend::scripted_at((address, port).into(), move |conn| {
        while conn.request().is_some() && conn.send(e2e::backend::ok(label)) {}
    })
}

/// Waits until the gateway has logged a set of that many endpoints.
fn discovered(gateway: &Gateway, endpoints: u64) {
    gateway.log_line(&format!("a set of {endpoints} endpoints"), |line| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let told = line.get("fields").unwrap_or(&line);
        told["message"] == "endpoints discovered" && told["endpoints"] == endpoints
    });
}

/// Asks until answers come from these backends, all of them and nobody else.
fn answered_by(gateway: &Gateway, labels: &[&str]) {
    let wanted: BTreeSet<String> = labels.iter().map(|&label| label.to_owned()).collect();
    let mut client = gateway.connect();
    let mut last = BTreeSet::new();
    for _ in 0..20_000 {
        last = (0..2 * labels.len()).map(|_| client.get("/").text()).collect();
        if last == wanted {
            return;
        }
    }
    panic!("answers never came from {wanted:?}: {last:?}");
}

#[test]
fn the_addresses_of_a_name_are_the_endpoints_and_follow_it() {
    let one = at("127.0.0.2", 0, "one");
    let port = one.address().port();
    let two = at("127.0.0.3", port, "two");
    let mut names = Dnsmasq::run(&["host-record=app.test,127.0.0.2,1"]);
    let gateway = Gateway::run(&dns(names.address(), &format!("name: app.test, port: {port}")));
    answered_by(&gateway, &["one"]);
    names.serve(&["host-record=app.test,127.0.0.2,1", "host-record=app.test,127.0.0.3,1"]);
    answered_by(&gateway, &["one", "two"]);
    names.serve(&["host-record=app.test,127.0.0.3,1"]);
    answered_by(&gateway, &["two"]);
    drop(two);
}

#[test]
fn a_name_that_cannot_be_resolved_neither_keeps_the_gateway_from_starting_nor_stops_it() {
    let backend = at("127.0.0.2", 0, "here");
    let port = backend.address().port();
    let mut names = Dnsmasq::run(&[]);
    let gateway = Gateway::run(&dns(names.address(), &format!("name: app.test, port: {port}, type: a")));
    gateway.log_line("the failure", |line| line.contains("app.test: there is no such name"));
    assert_eq!(gateway.get("/").status(), 503);
    names.serve(&["host-record=app.test,127.0.0.2,1"]);
    answered_by(&gateway, &["here"]);
    // First the name is gone, then the server.
    names.serve(&[]);
    gateway.log_line("the failure", |line| line.contains("kept\":1"));
    assert_eq!(gateway.get("/").text(), "here");
    names.stop();
    assert_eq!(gateway.get("/").text(), "here");
}

#[test]
fn the_priority_of_a_service_record_is_its_tier() {
    let (first, second) = (Backend::labelled("first"), Backend::labelled("second"));
    let record = |priority: u16, backend: &Backend| {
        format!("srv-host=_http._tcp.app.test,here.test,{},{priority},0", backend.address().port())
    };
    let names = Dnsmasq::run(&["host-record=here.test,127.0.0.1,60", &record(10, &first), &record(20, &second)]);
    let gateway = Gateway::run(&dns(names.address(), "name: _http._tcp.app.test, type: srv"));
    discovered(&gateway, 2);
    answered_by(&gateway, &["first"]);
    first.kill();
    answered_by(&gateway, &["second"]);
}

#[test]
fn an_answer_that_needs_tcp_is_whole() {
    let records: Vec<String> = (1..=200).map(|n| format!("host-record=app.test,127.1.0.{n},60")).collect();
    let names = Dnsmasq::run(&records.iter().map(String::as_str).collect::<Vec<_>>());
    let gateway = Gateway::run(&dns(names.address(), "name: app.test, port: 9, type: a"));
    discovered(&gateway, 200);
}

fn consul(address: SocketAddr) -> String {
    discovering(&format!("consul: {{ address: \"http://{address}\", service: app, token: consul-token }}"))
}

#[test]
fn consul_is_asked_once_however_many_requests_there_are_and_its_end_is_not_theirs() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let registry = FakeConsul::run();
    let instance = |backend: &Backend| ("127.0.0.1", "", backend.address().port(), json!({}));
    registry.set(&[instance(&one)]);
    let gateway = Gateway::run(&consul(registry.address()));
    answered_by(&gateway, &["one"]);
    registry.set(&[instance(&one), instance(&two)]);
    answered_by(&gateway, &["one", "two"]);
    let before = registry.questions();
    for _ in 0..200 {
        assert_eq!(gateway.get("/").status(), 200);
    }
    assert!(registry.questions() <= before + 1, "{before} questions became {}", registry.questions());
    registry.set_down(true);
    gateway.log_line("the failure", |line| line.contains("No cluster leader"));
    for _ in 0..20 {
        assert_eq!(gateway.get("/").status(), 200);
    }
    registry.set(&[instance(&two)]);
    registry.set_down(false);
    answered_by(&gateway, &["two"]);
}

#[test]
fn an_instance_without_an_address_is_at_its_node_and_a_bad_weight_is_one() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let registry = FakeConsul::run();
    registry.set(&[
        ("127.0.0.1", "", one.address().port(), json!({ "weight": "NaN" })),
        ("192.0.2.1", "127.0.0.1", two.address().port(), json!({ "weight": "-3" })),
    ]);
    let gateway = Gateway::run(&consul(registry.address()));
    answered_by(&gateway, &["one", "two"]);
    gateway.log_line("the doubt", |line| line.contains("gets weight 1: `NaN` is not a whole number from 1"));
}

fn etcd(address: SocketAddr, more: &str) -> String {
    discovering(&format!("etcd: {{ addresses: [\"http://{address}\"], prefix: /services/app/, {more} }}"))
}

#[test]
fn keys_in_etcd_are_followed_past_values_that_are_none_and_past_a_compaction() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let store = Etcd::run();
    store.put("/services/app/1", &one.url());
    store.put("/services/app/broken", "nonsense");
    store.put("/services/application", &two.url());
    let gateway = Gateway::run(&etcd(store.address(), ""));
    answered_by(&gateway, &["one"]);
    gateway.log_line("the doubt", |line| line.contains("/services/app/broken"));
    store.put("/services/app/2", &json!({ "url": two.url(), "weight": 1 }).to_string());
    answered_by(&gateway, &["one", "two"]);
    let revision = store.delete("/services/app/1");
    answered_by(&gateway, &["two"]);
    store.compact(revision);
    store.put("/services/app/1", &one.url());
    answered_by(&gateway, &["one", "two"]);
}

#[test]
fn etcd_may_want_a_user() {
    let backend = Backend::labelled("here");
    let store = Etcd::run();
    store.put("/services/app/1", &backend.url());
    store.authenticate("a password");
    let gateway =
        Plan::new().env("PASSWORD", "a password").run(&etcd(store.address(), "user: root, password: \"${PASSWORD}\""));
    answered_by(&gateway, &["here"]);
}

#[test]
fn a_file_of_endpoints_is_followed_and_a_bad_one_changes_nothing() {
    let (one, two) = (Backend::labelled("one"), Backend::labelled("two"));
    let plan = Plan::new();
    let file = plan.folder().write("endpoints.yaml", format!("- {}\n", one.url()));
    let gateway = plan.run(&discovering(&format!("file: {{ path: \"{}\" }}", file.display())));
    answered_by(&gateway, &["one"]);
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write(&format!("- {}\n- here\n", two.url()));
    gateway.log_line("the failure", |line| line.contains("line 2: `here` is not a URL"));
    answered_by(&gateway, &["one"]);
    write(&json!([{ "url": two.url(), "weight": 3, "zone": "a", "priority": 1 }]).to_string());
    answered_by(&gateway, &["two"]);
}

#[test]
fn slices_of_kubernetes_are_followed_past_a_version_that_is_gone() {
    let one = at("127.0.0.2", 0, "one");
    let port = one.address().port();
    let (two, three) = (at("127.0.0.3", port, "two"), at("127.0.0.4", port, "three"));
    let server = FakeKubernetes::run();
    server.set("app-1", port, &[("127.0.0.2", true), ("127.0.0.9", false)]);
    let plan = Plan::new();
    let token = plan.folder().write("token", "kubernetes-token\n");
    let gateway = plan.run(&discovering(&format!(
        "kubernetes: {{ namespace: shop, service: app, port: http, api_server: \"http://{}\", token_file: \"{}\" }}",
        server.address(),
        token.display()
    )));
    answered_by(&gateway, &["one"]);
    server.wait_watches(1);
    server.set("app-2", port, &[("127.0.0.3", true)]);
    answered_by(&gateway, &["one", "two"]);
    server.set("app-1", port, &[("127.0.0.2", false), ("127.0.0.4", true)]);
    answered_by(&gateway, &["two", "three"]);
    assert_eq!(server.lists(), 1);
    server.forget();
    server.wait_watches(2);
    server.remove("app-2");
    answered_by(&gateway, &["three"]);
    assert_eq!(server.lists(), 2);
    drop((two, three));
}

#[test]
fn the_fakes_answer_as_the_documentation_shows() {
    let consul = FakeConsul::run();
    consul.set(&[("10.0.0.1", "", 80, json!({}))]);
    let mut client = Client::connect(consul.address());
    let ask = |client: &mut Client, query: &str| {
        let token = "X-Consul-Token: consul-token\r\n";
        client.get_with(&format!("/v1/health/service/app?passing=true&{query}"), token)
    };
    let told = ask(&mut client, "index=0&wait=1s");
    assert_eq!((told.field("x-consul-index"), &told.json()[0]["Service"]["Port"]), (Some("2"), &json!(80)));
    assert_eq!(client.get("/v1/health/service/app?passing=true").status(), 403);
    consul.set_down(true);
    assert_eq!(ask(&mut client, "index=2&wait=1s").status(), 500);

    let kubernetes = FakeKubernetes::run();
    kubernetes.set("a", 80, &[("10.0.0.1", true)]);
    let path =
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dapp";
    let token = "Authorization: Bearer kubernetes-token\r\n";
    let list = Client::connect(kubernetes.address()).get_with(path, token).json();
    assert_eq!((&list["metadata"]["resourceVersion"], list["items"].as_array().map(Vec::len)), (&json!("2"), Some(1)));
    kubernetes.set("b", 80, &[]);
    let mut watch = Client::connect(kubernetes.address());
    watch.send(format!("GET {path}&watch=true&resourceVersion=2 HTTP/1.1\r\nHost: a\r\n{token}\r\n"));
    assert_eq!(watch.head().status(), 200);
    let mut event = || serde_json::from_slice::<Value>(&watch.chunk().unwrap_or_default()).unwrap();
    assert_eq!(event()["object"]["metadata"]["name"], "b");
    kubernetes.remove("a");
    assert_eq!(event()["type"], "DELETED");
    kubernetes.forget();
    assert_eq!(event()["object"]["code"], 410);
    assert_eq!(Client::connect(kubernetes.address()).get(path).status(), 401);
}

#[test]
fn the_real_registries_are_there() {
    let mut names = Dnsmasq::run(&["host-record=app.test,127.0.0.2"]);
    names.serve(&[]);
    let store = Etcd::run();
    assert!(store.put("a", "1") < store.delete("a"));
    store.compact(2);
    store.authenticate("secret");
}
