use std::net::{IpAddr, SocketAddr};
use tidegate_core::clock::Clock;

use tidegate_core::policy;
use tidegate_http1::{Fields, Version};

use super::*;

fn completed<'a>(fields: &'a Fields, series: &'a Series) -> Completed<'a> {
    Completed {
        series: Some(series),
        route: "user",
        service: "users",
        endpoint: None,
        listener: "default",
        method: "GET",
        scheme: "http",
        host: "",
        path: "/",
        query: "",
        version: Version::Http11,
        fields,
        client: IpAddr::from([127, 0, 0, 1]),
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        request_id: "",
        status: 200,
        received: 3,
        sent: 5,
        started: Clock::System.now(),
        duration: Duration::from_micros(700),
        upstream: Some(Duration::from_micros(400)),
        attempts: 1,
        end: End::Complete,
        code: None,
        cause: None,
        trail: None,
        user: None,
        tls: None,
    }
}

/// The value of a series in the text.
fn value(metrics: &Metrics, series: &str) -> Option<String> {
    let text = metrics.render(&[], &policy::Shared::default());
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
}

fn names(routes: &[&str], services: &[&str]) -> Names {
    let set = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
    Names { routes: set(routes), services: set(services), listeners: set(&["default"]) }
}

#[test]
fn the_shards_of_all_workers_add_up() {
    let metrics = Metrics::new();
    let none = Fields::new();
    for _ in 0..3 {
        let shard = metrics.shard();
        let series = shard.series(&"user".into(), &"users".into());
        shard.record(&completed(&none, &series));
        shard.record(&Completed {
            status: 503,
            end: End::Refused,
            code: Some("no_endpoint"),
            ..completed(&none, &series)
        });
    }
    for (series, expected) in [
        (r#"tidegate_requests_total{route="user",service="users",code="2xx"}"#, "3"),
        (r#"tidegate_requests_total{route="user",service="users",code="5xx"}"#, "3"),
        (r#"tidegate_request_duration_seconds_bucket{route="user",service="users",le="0.0005"}"#, "0"),
        (r#"tidegate_request_duration_seconds_bucket{route="user",service="users",le="0.001"}"#, "6"),
        (r#"tidegate_request_duration_seconds_bucket{route="user",service="users",le="+Inf"}"#, "6"),
        (r#"tidegate_request_duration_seconds_sum{route="user",service="users"}"#, "0.004200"),
        (r#"tidegate_request_duration_seconds_count{route="user",service="users"}"#, "6"),
        (r#"tidegate_upstream_duration_seconds_bucket{route="user",service="users",le="0.0005"}"#, "6"),
        (r#"tidegate_request_body_bytes_total{route="user",service="users"}"#, "18"),
        (r#"tidegate_response_body_bytes_total{route="user",service="users"}"#, "30"),
        (r#"tidegate_requests_ended_total{end="complete"}"#, "3"),
        (r#"tidegate_requests_ended_total{end="refused"}"#, "3"),
        (r#"tidegate_rejections_total{code="no_endpoint"}"#, "3"),
    ] {
        assert_eq!(value(&metrics, series).as_deref(), Some(expected), "{series}");
    }
}

#[test]
fn a_request_without_a_route_has_empty_names() {
    let metrics = Metrics::new();
    let shard = metrics.shard();
    let none = Fields::new();
    let series = shard.series(&"user".into(), &"users".into());
    shard.record(&Completed { series: None, status: 0, ..completed(&none, &series) });
    assert_eq!(value(&metrics, r#"tidegate_requests_total{route="",service="",code="none"}"#).as_deref(), Some("1"));
    assert_eq!(value(&metrics, r#"tidegate_requests_total{route="user",service="users",code="2xx"}"#), None);
}

#[test]
fn counts_go_on_over_a_reload_that_keeps_the_name() {
    let metrics = Metrics::new();
    let shard = metrics.shard();
    let none = Fields::new();
    let requests = r#"tidegate_requests_total{route="user",service="users",code="2xx"}"#;
    for count in 1..4 {
        let series = shard.series(&"user".into(), &"users".into());
        metrics.retain(names(&["user"], &["users"]));
        shard.record(&completed(&none, &series));
        assert_eq!(value(&metrics, requests), Some(count.to_string()));
    }
}

#[test]
fn a_route_that_is_gone_is_shown_until_its_last_request_has_ended() {
    let metrics = Metrics::new();
    let shard = metrics.shard();
    let none = Fields::new();
    let requests = r#"tidegate_requests_total{route="user",service="users",code="2xx"}"#;
    let series = shard.series(&"user".into(), &"users".into());
    shard.record(&completed(&none, &series));
    metrics.retain(names(&["other"], &["users"]));
    assert_eq!(value(&metrics, requests).as_deref(), Some("1"));
    shard.record(&completed(&none, &series));
    assert_eq!(value(&metrics, requests).as_deref(), Some("2"));
    drop(series);
    assert_eq!(value(&metrics, requests), None);
}

#[test]
fn gauges_follow_what_is_held() {
    let metrics = Metrics::new();
    let (one, two) = (metrics.shard(), metrics.shard());
    let first = one.listener(&"default".into()).open();
    let second = two.listener(&"default".into()).open();
    let idle = Held::new(&one.pool(&"users".into()), PoolCells::idle);
    assert_eq!(value(&metrics, r#"tidegate_connections_active{listener="default"}"#).as_deref(), Some("2"));
    assert_eq!(value(&metrics, r#"tidegate_pool_connections{service="users",state="idle"}"#).as_deref(), Some("1"));
    drop((first, second, idle));
    assert_eq!(value(&metrics, r#"tidegate_connections_active{listener="default"}"#).as_deref(), Some("0"));
    assert_eq!(value(&metrics, r#"tidegate_connections_total{listener="default"}"#).as_deref(), Some("2"));
    assert_eq!(value(&metrics, r#"tidegate_pool_connections{service="users",state="idle"}"#).as_deref(), Some("0"));
}

#[test]
fn reasons_are_counted_under_their_names() {
    let metrics = Metrics::new();
    let shard = metrics.shard();
    let listener = shard.listener(&"default".into());
    for (index, (why, _)) in Refused::ALL.into_iter().enumerate() {
        assert_eq!(why as usize, index);
        listener.refuse(why);
    }
    for (index, (why, _)) in LetGo::ALL.into_iter().enumerate() {
        assert_eq!(why as usize, index);
        listener.let_go(why);
    }
    for (index, (why, _)) in RefusedStream::ALL.into_iter().enumerate() {
        assert_eq!(why as usize, index);
        listener.refuse_stream(why);
    }
    for (_, name) in RefusedStream::ALL {
        let series = format!(r#"tidegate_http2_streams_refused_total{{listener="default",reason="{name}"}}"#);
        assert_eq!(value(&metrics, &series).as_deref(), Some("1"), "{series}");
    }
    for (_, name) in Refused::ALL {
        let series = format!(r#"tidegate_connections_refused_total{{listener="default",reason="{name}"}}"#);
        assert_eq!(value(&metrics, &series).as_deref(), Some("1"), "{series}");
    }
    for (_, name) in LetGo::ALL {
        let series = format!(r#"tidegate_connections_let_go_total{{listener="default",reason="{name}"}}"#);
        assert_eq!(value(&metrics, &series).as_deref(), Some("1"), "{series}");
    }
}

#[test]
fn a_refused_reload_shows_until_one_works() {
    let metrics = Metrics::new();
    metrics.reloaded(1, Duration::from_secs(1_000));
    assert_eq!(value(&metrics, "tidegate_config_last_reload_success").as_deref(), Some("1"));
    metrics.reload_failed();
    assert_eq!(value(&metrics, "tidegate_config_last_reload_success").as_deref(), Some("0"));
    assert_eq!(value(&metrics, "tidegate_config_revision").as_deref(), Some("1"));
    metrics.reloaded(2, Duration::from_secs(2_000));
    for (series, expected) in [
        ("tidegate_config_last_reload_success", "1"),
        ("tidegate_config_last_reload_success_timestamp_seconds", "2000"),
        ("tidegate_config_revision", "2"),
        (r#"tidegate_config_reloads_total{result="ok"}"#, "1"),
        (r#"tidegate_config_reloads_total{result="refused"}"#, "1"),
    ] {
        assert_eq!(value(&metrics, series).as_deref(), Some(expected), "{series}");
    }
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let metrics = Metrics::new();
    let shard = metrics.shard();
    let none = Fields::new();
    let series = shard.series(&"a \"b\"\\\n".into(), &"s".into());
    shard.record(&completed(&none, &series));
    let _listener = shard.listener(&"default".into());
    let _pool = shard.pool(&"s".into());
    let text = metrics.render(&[], &policy::Shared::default());
    assert!(text.ends_with('\n'));
    let mut current = "";
    for line in text.lines() {
        if let Some(type_line) = line.strip_prefix("# TYPE ") {
            current = type_line.split(' ').next().expect("a name");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            assert!(name.starts_with(current), "{line} is below its TYPE");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(text.contains(r#"route="a \"b\"\\\n",service="s""#), "{text}");
}
