//! What a configuration means, once it is checked.

mod words;

use std::ops::RangeInclusive;
use std::time::Duration;

use tidegate_config::config::{
    AccessLog, Balancing, BreakerScope, CircuitBreaker, ClientAuth, Concurrency, Conditions, Config, Discovery,
    DnsRecords, Endpoint, Fallback, HealthCheck, Hedge, HttpProbe, Key, LogTarget, Mirror, OutlierDetection,
    PathRewrite, Probe, Retry, RetryMethods, Route, RouteRetry, Secret, Service, Statuses, StickyCookie, Target,
    TlsVersion, Trip, ValueMatch,
};
use tidegate_config::policy::Vocabulary;
use tidegate_config::value::PathKind;
use tidegate_config::{Disk, Inputs, Memory, Path, from_yaml, load};

use words::WORDS;

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
    assert_eq!((server.buffers.head, server.buffers.body), (16 << 10, 48 << 10));
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
    let loaded = load(&Inputs { file: &folder.join("everything.yaml"), source: &Disk, env: &env, vocabulary: &WORDS });
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
fn every_value_of_a_route_says_where_it_comes_from() {
    let text = "\
services: { a: { url: http://a } }
defaults: { route: { timeout: 1s, upgrade: off } }
bundles:
  one: { timeout: 2s }
  two: { limits: { body: 1KB } }
routes:
  - { service: a, use: [one, two], upgrade: websocket }
  - { service: a, match: { path: /x } }
";
    let document = from_yaml(text).expect("valid").document;
    let routes = Path::root().join("routes");
    for (route, key, level) in [
        (0, "timeout", "bundle `one`"),
        (0, "limits", "bundle `two`"),
        (0, "upgrade", "route"),
        (1, "upgrade", "defaults"),
        (1, "timeout", "defaults"),
        (1, "match", "route"),
    ] {
        assert_eq!(document.level(&routes.index(route).join(key)), level, "{route} {key}");
    }
    let body = routes.index(0).join("limits").join("body");
    assert_eq!(
        (document.level(&body), document.level(&routes.index(1))),
        ("bundle `two`".to_owned(), "route".to_owned())
    );
    assert_eq!(document.level(&Path::root().join("services").join("a")), "gateway");
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
    let loaded = load(&Inputs {
        file: std::path::Path::new("etc/gateway.yaml"),
        source: &source,
        env: &[],
        vocabulary: Vocabulary::EMPTY,
    });
    assert!(loaded.is_ok_and(|loaded| loaded.config.files.contains(&"etc/teams/ca.pem".into())));
}

/// The upstreams of the contract, which a golden case has as users write them.
fn contract() -> Config {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let env = [
        ("KUBERNETES_SERVICE_HOST".to_owned(), "fd00::1".to_owned()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), "6443".to_owned()),
        ("STICKY_SECRET".to_owned(), "hunter2".to_owned()),
    ];
    let loaded = load(&Inputs {
        file: &folder.join("contract_upstreams.yaml"),
        source: &Disk,
        env: &env,
        vocabulary: Vocabulary::EMPTY,
    });
    loaded.unwrap_or_else(|failure| unreachable!("{failure}")).config
}

fn service<'c>(config: &'c Config, name: &str) -> &'c Service {
    config.services.get(name).unwrap_or_else(|| unreachable!("no service {name}"))
}

const FIVE_XX: RangeInclusive<u16> = 500..=599;

#[test]
fn retries_and_outlier_detection_are_on_and_the_rest_is_off_unless_written() {
    let config = contract();
    let users = service(&config, "users");
    let statuses = Statuses(vec![502..=502, 503..=503, 504..=504]);
    let retry = Retry {
        attempts: 2,
        on: Conditions { connect: true, reset: true, timeout: false, statuses },
        methods: RetryMethods::Idempotent,
        per_try_timeout: None,
        backoff_base: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
        budget: 0.2,
        budget_floor: 3,
        buffer: 64 << 10,
    };
    assert_eq!(users.retry, Some(retry.clone()));
    let outliers = OutlierDetection {
        consecutive_errors: Some(5),
        failure_ratio: Some(0.5),
        min_requests: 10,
        slow_factor: Some(5.0),
        eject: Duration::from_secs(30),
        max_eject: Duration::from_mins(5),
        max_ejected: 0.5,
    };
    assert_eq!(users.outliers, Some(outliers));
    assert!(users.health.is_none() && users.breaker.is_none() && users.hedge.is_none() && users.discovery.is_none());
    assert!(users.concurrency.is_none() && users.fallback.is_none() && users.deadline_header.is_none());
    assert_eq!((users.slow_start, users.panic_threshold), (Duration::ZERO, None));
    assert_eq!(users.balancing, Balancing::RoundRobin);
    let sticky = service(&config, "sticky");
    assert!(sticky.retry.is_none() && sticky.outliers.is_none());
    let [off, of_service, own] = config.routes.as_slice() else { unreachable!("three routes") };
    assert_eq!((&off.retry, &of_service.retry), (&RouteRetry::Off, &RouteRetry::OfService));
    assert_eq!(own.retry, RouteRetry::Own(Retry { attempts: 3, ..retry }));
}

#[test]
fn an_empty_mapping_switches_on_with_the_defaults() {
    let config = contract();
    let listed = service(&config, "listed");
    let health = HealthCheck {
        probe: Probe::Http(HttpProbe {
            path: "/health".into(),
            method: http::Method::GET,
            headers: Vec::new(),
            expect: Statuses(vec![200..=399]),
            body: None,
        }),
        port: None,
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        retries: 3,
        rise: 1,
        backoff_max: Duration::from_mins(5),
    };
    assert_eq!(listed.health, Some(health));
    let breaker = CircuitBreaker {
        trip: Trip::Ratio { share: 0.6, min_requests: 3, window: Duration::from_mins(1) },
        open: Duration::from_secs(30),
        half_open_requests: 3,
        per: BreakerScope::Endpoint,
        failures: Conditions { connect: true, reset: true, timeout: true, statuses: Statuses(vec![FIVE_XX]) },
    };
    assert_eq!(listed.breaker, Some(breaker));
    assert_eq!(listed.hedge, Some(Hedge::Percentile(0.95)));
}

#[test]
fn what_is_said_of_a_service_reaches_its_place() {
    let config = contract();
    assert_eq!(config.server.zone.as_deref(), Some("a"));
    let orders = service(&config, "orders");
    assert_eq!(orders.balancing, Balancing::LeastConnections);
    assert_eq!((orders.slow_start, orders.panic_threshold), (Duration::from_secs(30), Some(0.5)));
    let limit = Concurrency { max: 1000, queue: 100, queue_timeout: Duration::from_secs(1) };
    assert_eq!(orders.concurrency, Some(limit));
    assert!(matches!(&orders.fallback, Some(Fallback::Respond(respond)) if respond.status == 503));
    assert_eq!(orders.deadline_header.as_deref(), Some("x-request-timeout-ms"));
    let hashed = service(&config, "hashed");
    assert_eq!(hashed.balancing, Balancing::ConsistentHash(Key::Header("x-user".into())));
    assert_eq!(
        hashed.endpoints.first().map(|endpoint| (endpoint.zone.as_deref(), endpoint.priority)),
        Some((Some("b"), 1))
    );
    assert_eq!(
        hashed.breaker.as_ref().map(|breaker| (breaker.trip, breaker.per)),
        Some((Trip::Consecutive(5), BreakerScope::Service))
    );
    assert!(
        hashed
            .health
            .as_ref()
            .is_some_and(|health| health.probe == Probe::Grpc("".into()) && health.port == Some(9000))
    );
    assert!(
        hashed.outliers.as_ref().is_some_and(|found| found.consecutive_errors.is_none() && found.slow_factor.is_none())
    );
    let retry = hashed.retry.as_ref().expect("on");
    assert_eq!((retry.per_try_timeout, retry.backoff_base, retry.backoff_max), (None, Duration::ZERO, Duration::ZERO));
    assert_eq!((retry.budget_floor, retry.buffer, retry.on.timeout, retry.on.connect), (5, 1 << 20, true, false));
    assert_eq!(retry.on.statuses, Statuses(vec![FIVE_XX, 429..=429]));
    assert_eq!(hashed.hedge, Some(Hedge::After(Duration::from_millis(200))));
    assert_eq!(hashed.fallback, Some(Fallback::Service("users".into())));
    assert_eq!(hashed.deadline_header.as_deref(), Some("x-request-timeout-ms"));
    let cookie = StickyCookie {
        name: "tg".into(),
        secret: Some(Secret("hunter2".into())),
        max_age: Some(Duration::from_hours(1)),
    };
    assert_eq!(service(&config, "sticky").balancing, Balancing::StickyCookie(cookie));
    assert!(service(&config, "sticky").health.as_ref().is_some_and(|health| health.probe == Probe::Tcp));
    let enrolled = service(&config, "enrolled").health.as_ref().map(|health| &health.probe);
    let Some(Probe::Http(probe)) = enrolled else { unreachable!("a request") };
    assert_eq!(probe.expect, Statuses(vec![200..=200, 204..=204, 300..=399]));
    assert_eq!(
        (probe.headers.as_slice(), probe.body.as_deref()),
        (&[("host".into(), "up.internal".into())][..], Some("ok"))
    );
}

#[test]
fn every_kind_of_discovery_reaches_its_place() {
    let config = contract();
    let discovery = |name: &str| service(&config, name).discovery.clone().unwrap_or_else(|| unreachable!("{name}"));
    let Discovery::Dns(search) = discovery("search") else { unreachable!("dns") };
    assert_eq!((search.records, search.port, search.tls), (DnsRecords::Srv, None, false));
    let Discovery::Dns(resolved) = discovery("resolved") else { unreachable!("dns") };
    assert_eq!((&*resolved.name, resolved.port, resolved.tls), ("_http._tcp.resolved.internal.", Some(80), true));
    let servers: Vec<String> = resolved.servers.iter().map(ToString::to_string).collect();
    assert_eq!(
        (resolved.records, servers),
        (DnsRecords::Addresses, vec!["127.0.0.1:5353".to_owned(), "[::1]:53".to_owned()])
    );
    let Discovery::Consul(catalog) = discovery("catalog") else { unreachable!("consul") };
    assert_eq!(
        (&*catalog.address.endpoint.authority, &*catalog.service, &*catalog.weight_from),
        ("127.0.0.1:8500", "catalog", "weight")
    );
    assert!(catalog.passing && catalog.token.is_none() && catalog.cache == Duration::from_secs(30));
    let Discovery::Etcd(stored) = discovery("stored") else { unreachable!("etcd") };
    assert_eq!((stored.addresses.len(), &*stored.prefix), (1, "/services/stored/"));
    assert_eq!(stored.user, Some(("gateway".into(), Secret("hunter2".into()))));
    let Discovery::Kubernetes(payments) = discovery("payments") else { unreachable!("kubernetes") };
    let server = payments.api_server.expect("from the environment");
    assert_eq!((server.endpoint.tls, &*server.endpoint.authority), (true, "[fd00::1]:6443"));
    assert!(server.tls.ca.is_some());
    assert_eq!(
        (payments.namespace.as_deref(), &*payments.service, payments.port.as_deref()),
        (Some("shop"), "payments", Some("http"))
    );
    assert_eq!(payments.token_file, std::path::Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token"));
    let Discovery::Registry(enrolled) = discovery("enrolled") else { unreachable!("registry") };
    assert!(enrolled.file.ends_with("tests/cases/registry/enrolled.json") && enrolled.ttl == Duration::from_secs(30));
    let Discovery::File(file) = discovery("listed") else { unreachable!("file") };
    assert!(file.ends_with("tests/cases/endpoints.json"));
    assert_eq!(service(&config, "listed").endpoints.len(), 1, "those that are written are used too");
}

#[test]
fn what_a_route_does_to_traffic_reaches_its_place() {
    let config = contract();
    let [orders, canary, sticky] = config.routes.as_slice() else { unreachable!("three routes") };
    let mirror = Mirror { service: "search".into(), share: 0.05, max: 100, buffer: 64 << 10 };
    assert_eq!(orders.mirror, Some(mirror.clone()));
    assert_eq!(sticky.mirror, Some(Mirror { service: "users".into(), share: 1.0, ..mirror }));
    let fault = orders.fault.as_ref().expect("there");
    assert_eq!((fault.delay, fault.abort, fault.share), (Some(Duration::from_secs(2)), None, 0.1));
    assert!(fault.when.as_ref().is_some_and(|when| when.headers.len() == 1 && when.cookies.is_empty()));
    assert_eq!(sticky.fault.as_ref().and_then(|fault| fault.abort).map(|status| status.as_u16()), Some(503));
    let Target::Split(split) = &canary.target else { unreachable!("a split") };
    assert_eq!((split.parts.iter().map(|part| part.weight).collect::<Vec<_>>(), &split.sticky), (vec![95, 5], &None));
    let Target::Split(split) = &sticky.target else { unreachable!("a split") };
    assert_eq!(split.sticky, Some(Key::Cookie("ab".into())));
    assert_eq!(
        split.parts.iter().map(|part| part.weight).collect::<Vec<_>>(),
        [1, 0],
        "a condition alone has no share"
    );
    let when = split.parts.last().and_then(|part| part.when.as_ref()).expect("there");
    assert_eq!((when.headers.len(), when.cookies.len()), (3, 2));
}

#[test]
fn the_authorities_of_kubernetes_are_read_only_for_tls() {
    let load = |discovery: &str| {
        from_yaml(&format!(
            "services: {{ a: {{ discovery: {{ kubernetes: {{ service: a, {discovery} }} }} }} }}\nroutes: [{{ service: a }}]"
        ))
    };
    assert!(load("api_server: http://127.0.0.1:8001").is_ok());
    assert!(load("api_server: https://10.0.0.1, ca_file: off").is_ok());
    let failure = load("api_server: https://10.0.0.1").expect_err("the file of the pod is not there");
    assert!(failure.to_string().contains("serviceaccount/ca.crt"), "{failure}");
}
