//! What a configuration means, once it is checked.

use std::time::Duration;

use tidegate_config::config::{
    AccessLog, ClientAuth, Config, Endpoint, LogTarget, PathRewrite, Route, Target, TlsVersion, ValueMatch,
};
use tidegate_config::value::PathKind;
use tidegate_config::{Disk, Inputs, Memory, Path, from_yaml, load};

fn config(text: &str) -> Config {
    from_yaml(text).unwrap_or_else(|failure| unreachable!("{failure}")).config
}

/// The one route of a file with a service `a`.
fn route(text: &str) -> Route {
    let config = config(&format!("services: {{ a: {{ url: http://127.0.0.1:1 }} }}\nroutes: [{text}]"));
    config.routes.first().map_or_else(|| unreachable!("no route"), |route| Route::clone(route))
}

fn endpoint(url: &str) -> Endpoint {
    let config = config(&format!("services: {{ a: {{ url: \"{url}\" }} }}\nroutes: [{{ service: a }}]"));
    let endpoint = config.services.get("a").and_then(|service| service.endpoints.first().cloned());
    endpoint.unwrap_or_else(|| unreachable!("no endpoint"))
}

#[test]
fn the_smallest_gateway_has_every_default() {
    let config = config(
        "services: { users: { url: http://127.0.0.1:9001 } }\nroutes: [{ match: { path_prefix: / }, service: users }]",
    );
    let server = &config.server;
    let listener = server.listeners.first().expect("one");
    assert_eq!(
        (&*listener.name, listener.addresses.as_slice()),
        ("default", &["0.0.0.0:8080".parse().expect("address")][..])
    );
    assert!(listener.tls.is_none() && !listener.proxy_protocol && !listener.http_to_https);
    assert_eq!(server.timeouts.header, Duration::from_secs(10));
    assert_eq!(server.timeouts.stream_idle, Duration::from_hours(1));
    assert_eq!(server.timeouts.drain_delay, Duration::ZERO);
    let limits = server.limits;
    assert_eq!((limits.header_bytes, limits.headers, limits.uri_bytes), (32 << 10, 100, 8 << 10));
    assert_eq!((limits.body, limits.min_rate, limits.streams), (Some(10 << 20), Some(240), 128));
    assert_eq!((limits.connections, limits.connections_per_client), (20_000, 1000));
    assert_eq!((server.buffers.head, server.buffers.body), (16 << 10, 32 << 10));
    assert!(server.workers.is_none() && server.trusted_proxies.is_empty());
    assert_eq!(&*server.request_id.header, "x-request-id");
    assert!(config.admin.is_none() && config.status.is_none() && config.log.access.is_none());
    let service = config.services.get("users").expect("there");
    assert_eq!((service.timeouts.connect, service.timeouts.read), (Duration::from_secs(5), Duration::from_mins(1)));
    assert_eq!((service.pool.max_idle, service.pool.max_connections, service.pool.max_requests), (32, 1024, 0));
    let route = config.routes.first().expect("one");
    assert_eq!((&*route.name, route.priority, route.body_limit), ("route-1", 0, Some(10 << 20)));
    assert_eq!(route.timeout, Some(Duration::from_secs(30)));
    assert_eq!(route.upgrade.iter().map(|name| &**name).collect::<Vec<_>>(), ["websocket"]);
    assert_eq!((route.matches.path.kind, route.matches.path.segments.len()), (PathKind::Prefix, 0));
    assert_eq!(route.at, Path::root().join("routes").index(0));
}

#[test]
fn every_key_reaches_its_place() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let env = [("TIDEGATE_ADMIN_TOKEN".to_owned(), "hunter2".to_owned())];
    let loaded = load(&Inputs { file: &folder.join("everything.yaml"), source: &Disk, env: &env });
    let config = loaded.unwrap_or_else(|failure| unreachable!("{failure}")).config;
    let [plain, secure] = config.server.listeners.as_slice() else { unreachable!("two listeners") };
    assert!(plain.http_to_https && plain.tls.is_none() && secure.proxy_protocol);
    assert_eq!(secure.addresses, ["[::]:443".parse().expect("address")]);
    let tls = secure.tls.as_ref().expect("there");
    assert_eq!(
        (tls.min_version, tls.client_auth, tls.certificates.len()),
        (TlsVersion::Tls13, ClientAuth::Optional, 1)
    );
    assert!(tls.client_ca.as_ref().is_some_and(|file| file.path == folder.join("files/server.pem")));
    assert!(config.server.timeouts.idle > Duration::from_hours(24 * 365), "off is no limit");
    assert_eq!((config.server.limits.body, config.server.limits.connections), (None, usize::MAX));
    let admin = config.admin.as_ref().expect("there");
    assert_eq!(admin.token.as_ref().map(|token| &*token.0), Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let Some(AccessLog { to, sample, redact, headers, .. }) = &config.log.access else { unreachable!("an access log") };
    assert_eq!((to, *sample), (&LogTarget::File(folder.join("access.log")), 0.125));
    assert_eq!((redact.len(), headers.len()), (3, 1));
    let orders = config.services.get("orders").expect("there");
    assert_eq!(orders.endpoints.iter().map(|endpoint| endpoint.weight).collect::<Vec<_>>(), [3, 1]);
    assert!(orders.tls.ca.is_some() && orders.tls.client.is_some());
    let [user, split, old, ping, json] = config.routes.as_slice() else { unreachable!("five routes") };
    assert_eq!((user.priority, user.timeout, user.body_limit), (-1, None, Some(1 << 20)));
    assert_eq!((user.matches.headers.len(), user.matches.query.len(), user.matches.cookies.len()), (4, 2, 1));
    assert!(
        matches!(user.matches.query.last().map(|field| &field.is), Some(ValueMatch::Exact(text)) if **text == *"1.10")
    );
    assert!(matches!(user.rewrite.path, Some(PathRewrite::Replace(_))));
    assert!(matches!(&split.target, Target::Split(split) if split.parts.len() == 2) && split.upgrade.is_empty());
    assert!(matches!(&old.target, Target::Redirect(redirect) if redirect.status == 308));
    assert!(matches!(&ping.target, Target::Respond(respond) if &*respond.body == b"pong"));
    let Target::Respond(respond) = &json.target else { unreachable!("an answer") };
    assert_eq!(&*respond.body, br#"{"error":"closed","tries":3}"#);
    let headers: Vec<_> = respond.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(headers, [("retry-after", "10"), ("content-type", "application/json")]);
}

#[test]
fn an_endpoint_is_told_its_host_as_its_url_has_it() {
    for (url, tls, host, port, authority) in [
        ("http://users", false, "users", 80, "users"),
        ("http://users:80/", false, "users", 80, "users"),
        ("http://Users:9001", false, "users", 9001, "users:9001"),
        ("https://10.0.0.1", true, "10.0.0.1", 443, "10.0.0.1"),
        ("https://[::1]", true, "::1", 443, "[::1]"),
        ("HTTP://[::1]:81", false, "::1", 81, "[::1]:81"),
    ] {
        let found = endpoint(url);
        assert_eq!((found.tls, &*found.host, found.port, &*found.authority), (tls, host, port, authority), "{url}");
    }
}

#[test]
fn the_limit_of_a_body_is_the_routes_own_or_the_servers() {
    for (text, expected) in [
        ("{ service: a }", Some(10 << 20)),
        ("{ service: a, limits: {} }", Some(10 << 20)),
        ("{ service: a, limits: { body: 1KB } }", Some(1 << 10)),
        ("{ service: a, limits: { body: off } }", None),
        ("{ service: a, limits: off }", None),
    ] {
        assert_eq!(route(text).body_limit, expected, "{text}");
    }
}

#[test]
fn a_text_that_is_json_is_answered_as_json() {
    for (body, content_type) in [
        ("'{\"error\":\"closed\"}'", "application/json"),
        ("[1, 2]", "application/json"),
        ("'{closed'", "text/plain; charset=utf-8"),
    ] {
        let Target::Respond(respond) = route(&format!("{{ respond: {{ body: {body} }} }}")).target else {
            unreachable!("an answer")
        };
        let found = respond.headers.iter().find(|(name, _)| **name == *"content-type").map(|(_, value)| &**value);
        assert_eq!(found, Some(content_type), "{body}");
    }
}

#[test]
fn localhost_is_both_of_its_addresses() {
    let config =
        config("server: { host: localhost, port: 0 }\nservices: { a: { url: http://a } }\nroutes: [{ service: a }]");
    let addresses = config.server.listeners.first().map(|listener| listener.addresses.clone());
    assert_eq!(addresses, Some(vec!["127.0.0.1:0".parse().expect("address"), "[::1]:0".parse().expect("address")]));
}

#[test]
fn places_are_found_for_every_object() {
    let text =
        "services:\n  a: { url: http://a }\nroutes:\n  - { service: a }\n  - service: a\n    match: { path: /x }\n";
    let document = from_yaml(text).expect("valid").document;
    let line =
        |path: &Path| document.locate(path).map(|location| (location.line, location.column, location.to_string()));
    let routes = Path::root().join("routes");
    assert_eq!(line(&routes.index(0)), Some((4, 5, "gateway.yaml:4".to_owned())));
    assert_eq!(line(&routes.index(1).join("match").join("path")), Some((6, 20, "gateway.yaml:6".to_owned())));
    assert_eq!(line(&Path::root().join("services").join("a")), Some((2, 3, "gateway.yaml:2".to_owned())));
    assert_eq!(line(&Path::root().join("log").join("level")), None, "built in");
}

#[test]
fn problems_are_there_for_programs_too() {
    let failure = from_yaml("server: { prot: 1 }\nservices: { a: { url: http://a } }\nroutes: [{ service: a }]")
        .expect_err("misspelt");
    let expected = serde_json::json!([{
        "severity": "error",
        "path": "server.prot",
        "message": "unknown key `prot`, did you mean `port`?",
        "help": null,
        "file": "gateway.yaml",
        "line": 1,
        "column": 11,
        "environment": null,
    }]);
    assert_eq!(failure.document.problems_json(&failure.problems), expected);
}

#[test]
fn relative_names_start_at_the_file_that_they_are_written_in() {
    let pem = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n";
    let source = Memory::new()
        .with("etc/gateway.yaml", "include: teams/a.yaml\nroutes: [{ service: a }]")
        .with("etc/teams/a.yaml", "services: { a: { url: https://a, tls: { ca: ca.pem } } }")
        .with("etc/teams/ca.pem", pem);
    let loaded = load(&Inputs { file: std::path::Path::new("etc/gateway.yaml"), source: &source, env: &[] });
    assert!(loaded.is_ok_and(|loaded| loaded.config.files.contains(&"etc/teams/ca.pem".into())));
}
