use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tidegate_config::config::Secret;
use tidegate_core::clock::{Clock, ManualClock};
use tidegate_proxy::Upstreams;
use tidegate_proxy::telemetry::Metrics;

use super::*;
use crate::status::InUse;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn status(token: Option<&str>) -> Arc<Status> {
    let clock = Clock::Manual(ManualClock::new(Duration::from_secs(1_000)));
    let status = Status::new(Metrics::new(), Upstreams::new(clock.clone()), clock);
    status.use_now(InUse {
        revision: 1,
        shown: "server: {}\n".into(),
        listeners: vec![("default".into(), ([127, 0, 0, 1], 8080).into())],
        token: token.map(|token| Secret(token.into())),
        ..InUse::default()
    });
    status
}

fn head(method: Method, target: &str, fields: &[(&str, &str)]) -> Parts {
    let request = Request::builder().method(method).uri(target);
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(()).expect("a request").into_parts().0
}

fn get(role: Role, target: &str, status: &Status) -> (u16, String) {
    told(ask(role, LOOPBACK, &head(Method::GET, target, &[("host", "localhost:9900")]), status))
}

fn ask(role: Role, local: IpAddr, head: &Parts, status: &Status) -> Reply {
    answer(&Asked { role, local, peer: ([127, 0, 0, 1], 4711).into(), head, body: b"" }, status)
}

fn told(reply: Reply) -> (u16, String) {
    let code = reply.status().as_u16();
    let mut body = reply.into_body();
    let frame = std::pin::pin!(body.frame());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Some(Ok(frame))) = frame.poll(&mut context) else {
        return (code, String::new());
    };
    (code, String::from_utf8_lossy(&frame.into_data().unwrap_or_default()).into_owned())
}

#[test]
fn the_status_listener_has_three_paths_and_nothing_else() {
    let status = status(None);
    assert_eq!(get(Role::Status, "/healthz", &status), (200, "alive\n".into()));
    assert_eq!(get(Role::Status, "/readyz", &status), (200, "ready\n".into()));
    assert_eq!(get(Role::Status, "/readyz?verbose", &status), (200, "ready\n".into()));
    assert_eq!(get(Role::Status, "/metrics", &status).0, 200);
    for path in ["/", "/config", "/metrics/", "/healthz/x"] {
        assert_eq!(get(Role::Status, path, &status).0, 404, "{path}");
    }
}

#[test]
fn readiness_fails_as_soon_as_the_drain_begins_while_the_process_is_alive() {
    let status = status(None);
    status.drain();
    assert_eq!(get(Role::Status, "/readyz", &status), (503, "draining\n".into()));
    assert_eq!(get(Role::Admin, "/readyz?verbose=1", &status).0, 503);
    assert_eq!(get(Role::Status, "/healthz", &status).0, 200);
}

#[test]
fn nothing_is_ready_before_the_first_configuration() {
    let status = Status::new(Metrics::new(), Upstreams::new(Clock::System), Clock::System);
    assert_eq!(get(Role::Status, "/readyz", &status), (503, "starting\n".into()));
}

#[test]
fn a_refused_reload_is_told_until_one_works() {
    let status = status(None);
    status.refuse("error: unknown key".into());
    let (code, body) = get(Role::Admin, "/readyz?verbose", &status);
    assert_eq!(code, 200, "the old configuration still serves");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["last_reload"]["result"], "refused");
    assert_eq!(body["last_reload"]["why"], "error: unknown key");
    assert_eq!(body["listeners"][0]["address"], "127.0.0.1:8080");
    status.use_now(InUse { revision: 2, ..InUse::default() });
    let (_, body) = get(Role::Admin, "/readyz?verbose=1", &status);
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&body["last_reload"]["result"], &body["revision"]), (&"ok".into(), &2.into()));
}

#[test]
fn a_token_guards_everything_but_the_probes() {
    let status = status(Some("s3cret"));
    let with = |path: &str, fields: &[(&str, &str)]| {
        let fields: Vec<_> = [("host", "127.0.0.1")].iter().chain(fields).copied().collect();
        ask(Role::Admin, LOOPBACK, &head(Method::GET, path, &fields), &status).status().as_u16()
    };
    for path in ["/", "/config", "/metrics", "/readyz?verbose"] {
        assert_eq!(with(path, &[]), 401, "{path}");
        assert_eq!(with(path, &[("authorization", "Bearer s3cres")]), 401, "{path}");
        assert_eq!(with(path, &[("authorization", "Bearer s3cret2")]), 401, "{path}");
        assert_eq!(with(path, &[("authorization", "Basic s3cret")]), 401, "{path}");
        assert_eq!(with(path, &[("authorization", "bearer s3cret"), ("authorization", "Bearer x")]), 401, "{path}");
        assert_eq!(with(path, &[("authorization", "bearer s3cret")]), 200, "{path}");
    }
    assert_eq!(with("/healthz", &[]), 200);
    assert_eq!(with("/readyz", &[]), 200);
}

#[test]
fn a_listener_on_loopback_answers_to_no_other_name() {
    let status = status(None);
    let code = |local: IpAddr, hosts: &[&str]| {
        let fields: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        ask(Role::Admin, local, &head(Method::GET, "/metrics", &fields), &status).status().as_u16()
    };
    for own in ["localhost", "LOCALHOST:9900", "127.0.0.1:9900", "127.8.8.8", "[::1]:9900"] {
        assert_eq!(code(LOOPBACK, &[own]), 200, "{own}");
    }
    for other in
        ["evil.example", "evil.example:9900", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.evil.example"]
    {
        assert_eq!(code(LOOPBACK, &[other]), 421, "{other}");
    }
    assert_eq!(code(LOOPBACK, &[]), 200, "a probe of HTTP/1.0");
    assert_eq!(code(LOOPBACK, &["localhost", "evil.example"]), 421);
    assert_eq!(code(IpAddr::from([10, 0, 0, 1]), &["gateway.internal"]), 200);
}

#[test]
fn nothing_can_be_changed_here() {
    let status = status(None);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let reply = ask(Role::Admin, LOOPBACK, &head(method, "/config", &[("host", "localhost")]), &status);
        assert_eq!(reply.status(), 405);
        assert_eq!(reply.headers()[ALLOW], "GET, HEAD");
    }
}

#[test]
fn the_configuration_in_use_is_shown_to_operators() {
    assert_eq!(get(Role::Admin, "/config", &status(None)), (200, "server: {}\n".into()));
}
