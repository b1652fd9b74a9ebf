//! `/services` of the admin listener: how services stand, commands to their endpoints and breakers, and registrations.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_config::{MAX_WEIGHT, one_endpoint};
use tidegate_core::cluster::{BreakerCommand, Command};
use tidegate_proxy::SteeringError;

use super::calls::{self, Call, Refusal, bad_body, object};
use super::routes::{Asked, Reply};
use super::show;
use crate::status::Status;

/// Answers what is asked of these segments below `/services`.
pub(super) fn answer(asked: &Asked<'_>, path: &[String], status: &Status) -> Reply {
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let read = || read(&segments, status);
    let write = |method: &Method| write(method, &segments, asked.body, status);
    calls::answer(asked, status, &Call { methods: methods(&segments), read: &read, write: &write })
}

/// What may be asked of a path; nothing if there is no such path.
fn methods(segments: &[&str]) -> &'static [Method] {
    match segments {
        [] | [_] => &[Method::GET],
        [_, "breaker"] | [_, "endpoints", _, "weight" | "breaker"] => &[Method::PUT],
        [_, "endpoints", _, "drain" | "resume" | "forgive"] => &[Method::POST],
        [_, "registrations"] => &[Method::GET, Method::POST],
        [_, "registrations", _] => &[Method::PUT, Method::DELETE],
        _ => &[],
    }
}

fn read(segments: &[&str], status: &Status) -> Result<(StatusCode, Value), Refusal> {
    let value = match segments {
        [service, "registrations"] => {
            let report = status.upstreams.report_of(service)?;
            let registrations = status.upstreams.registrations(service)?;
            show::registrations(&report, &registrations, status)
        }
        [service, ..] => show::service(&status.upstreams.report_of(service)?, status.now()),
        [] => show::services(&status.upstreams.report(), status.now()),
    };
    Ok((StatusCode::OK, value))
}

fn write(method: &Method, segments: &[&str], body: &[u8], status: &Status) -> Result<(StatusCode, Value), Refusal> {
    let upstreams = &status.upstreams;
    match segments {
        [service, "registrations", ..] => {
            return registration(method, service, (segments.get(2).copied(), body), status);
        }
        [service, "breaker"] => upstreams.breaker(service, breaker_command(body)?)?,
        [service, "endpoints", authority, verb] => upstreams.command(service, authority, command(verb, body)?)?,
        _ => {}
    }
    // What came of it is in the answer.
    let service = segments.first().copied().unwrap_or_default();
    Ok((StatusCode::OK, show::service(&upstreams.report_of(service)?, status.now())))
}

fn registration(
    method: &Method,
    service: &str,
    (authority, body): (Option<&str>, &[u8]),
    status: &Status,
) -> Result<(StatusCode, Value), Refusal> {
    let upstreams = &status.upstreams;
    let (code, authority, ttl) = match authority {
        None => {
            object(body)?;
            let text = String::from_utf8_lossy(body);
            let endpoint = one_endpoint(&text).map_err(bad_body)?;
            let authority = endpoint.authority.to_string();
            (StatusCode::CREATED, authority, upstreams.register(service, endpoint)?)
        }
        Some(authority) if *method == Method::DELETE => {
            upstreams.deregister(service, authority)?;
            status.registry.nudge();
            return Ok((StatusCode::OK, json!({ "id": authority })));
        }
        Some(authority) => (StatusCode::OK, authority.to_owned(), upstreams.renew(service, authority)?),
    };
    status.registry.nudge();
    Ok((code, json!({ "id": authority, "ttl_seconds": show::seconds(ttl) })))
}

fn command(verb: &str, body: &[u8]) -> Result<Command, Refusal> {
    match verb {
        "drain" => Ok(Command::Drain),
        "resume" => Ok(Command::Resume),
        "forgive" => Ok(Command::Forgive),
        "breaker" => breaker_command(body).map(Command::Breaker),
        _ => {
            let weight = only(body, "weight")?.as_u64().and_then(|weight| u32::try_from(weight).ok());
            let weight = weight.filter(|weight| *weight <= MAX_WEIGHT);
            weight.map(Command::Weight).ok_or_else(|| bad_body(format!("`weight` is a number from 0 to {MAX_WEIGHT}")))
        }
    }
}

fn breaker_command(body: &[u8]) -> Result<BreakerCommand, Refusal> {
    match only(body, "state")?.as_str() {
        Some("open") => Ok(BreakerCommand::ForceOpen),
        Some("closed") => Ok(BreakerCommand::ForceClosed),
        Some("auto") => Ok(BreakerCommand::Auto),
        _ => Err(bad_body("`state` is `open`, `closed` or `auto`")),
    }
}

/// The value of the only key that the body may have.
fn only(body: &[u8], key: &str) -> Result<Value, Refusal> {
    let mut object = object(body)?;
    match object.remove(key).filter(|_| object.is_empty()) {
        Some(value) => Ok(value),
        None => Err(bad_body(format!("expected an object with `{key}` and nothing else"))),
    }
}

impl From<SteeringError> for Refusal {
    fn from(error: SteeringError) -> Self {
        let (status, code, why) = match error {
            SteeringError::NoSuchService => {
                (StatusCode::NOT_FOUND, "no_such_service", "no service of that name is in use")
            }
            SteeringError::NoSuchEndpoint => (
                StatusCode::NOT_FOUND,
                "no_such_endpoint",
                "the service has no such endpoint; `GET /services/NAME` lists them",
            ),
            SteeringError::NotRegistered => (
                StatusCode::NOT_FOUND,
                "not_registered",
                "nothing is registered under this id (any more): register again",
            ),
            SteeringError::NotARegistry => (
                StatusCode::CONFLICT,
                "not_a_registry",
                "nobody can register: the service has no `discovery: { registry: {} }`",
            ),
            SteeringError::Full => (
                StatusCode::INSUFFICIENT_STORAGE,
                "registry_full",
                "the service has as many registrations as it may have",
            ),
        };
        Self(status, code, why.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tidegate_config::config::Secret;
    use tidegate_core::clock::{Clock, ManualClock};
    use tidegate_core::policy::{NoPolicies, Rules};
    use tidegate_proxy::Solo;
    use tidegate_proxy::net::Net;
    use tidegate_proxy::telemetry::{LogWriter, Metrics};

    use super::*;
    use crate::admin::calls::testing::{ask, refused};
    use crate::status::InUse;

    const SERVICES: &str = "\
services:
  app: { endpoints: [\"http://[::1]:81\", \"http://b.test:82\"], circuit_breaker: { per: service }, concurrency: { max: 5 } }
  open: { discovery: { registry: { ttl: 10s } } }
routes: [{ match: { path_prefix: / }, service: app }, { match: { path_prefix: /open }, service: open }]
";

    /// A gateway with these services, and its token.
    async fn tell(token: Option<&str>, story: impl AsyncFnOnce(&Status)) {
        let steps = async {
            let clock = Clock::Manual(ManualClock::new(Duration::from_secs(1_000)));
            let config = Arc::new(tidegate_config::from_yaml(SERVICES).expect("valid").config);
            let metrics = Metrics::new();
            let log = LogWriter::start(None, Arc::clone(metrics.log())).expect("a thread");
            let telemetry = (Arc::clone(&metrics), log.sender());
            let solo =
                Solo::new(&config, &Rules::new(&NoPolicies), clock.clone(), Net::System, telemetry).expect("a gateway");
            let status = Status::new(metrics, Arc::clone(solo.upstreams()), clock);
            status.use_now(InUse { token: token.map(|token| Secret(token.into())), ..InUse::default() });
            story(&status).await;
        };
        tokio::task::LocalSet::new().run_until(steps).await;
    }

    #[tokio::test]
    async fn a_service_is_shown_with_its_settings() {
        tell(None, async |status| {
            let (code, app) = ask(status, Method::GET, "/services/app", "").await;
            assert_eq!((code, &app["name"], &app["in_service"]), (200, &"app".into(), &2.into()));
            assert_eq!(app["breaker"]["settings"]["per"], "service");
            assert_eq!(app["concurrency"], json!({ "inside": 0, "waiting": 0, "max": 5, "queue": 0 }));
            assert_eq!(app["retries_left"], 3);
            assert_eq!(app["discovery"], Value::Null);
            assert_eq!(app["endpoints"][0]["authority"], "[::1]:81");
            let (_, all) = ask(status, Method::GET, "/services/", "").await;
            assert_eq!(all["services"].as_array().map(Vec::len), Some(2));
            assert_eq!(all["services"][0]["states"], json!({ "healthy": 2 }));
        })
        .await;
    }

    #[tokio::test]
    async fn without_a_token_in_the_configuration_nothing_is_changed_whatever_the_client_says() {
        tell(None, async |status| {
            let calls = [
                (Method::POST, "/services/app/endpoints/b.test:82/drain", ""),
                (Method::PUT, "/services/app/breaker", ""),
                (Method::POST, "/services/open/registrations", ""),
                (Method::DELETE, "/services/open/registrations/a", ""),
            ];
            refused(status, &calls, (403, "no_admin_token")).await;
        })
        .await;
    }

    #[tokio::test]
    async fn an_endpoint_in_brackets_is_named_with_or_without_percents() {
        tell(Some("t0ken"), async |status| {
            let path = "/services/app/endpoints/%5B::1%5D:81/weight";
            let (code, app) = ask(status, Method::PUT, path, r#"{"weight": 4}"#).await;
            assert_eq!((code, &app["endpoints"][0]["weight"]), (200, &4.into()));
        })
        .await;
    }

    #[tokio::test]
    async fn a_registration_is_an_endpoint_in_the_words_of_the_configuration() {
        tell(Some("t0ken"), async |status| {
            let path = "/services/open/registrations";
            let body = r#"{"url": "http://c.test:83", "weight": 2, "zone": "z", "priority": 1}"#;
            let (code, told) = ask(status, Method::POST, path, body).await;
            assert_eq!((code, told), (201, json!({ "id": "c.test:83", "ttl_seconds": 10.0 })));
            let (_, list) = ask(status, Method::GET, path, "").await;
            let expected = json!({
                "url": "http://c.test:83", "weight": 2, "zone": "z", "priority": 1, "id": "c.test:83", "expires_seconds": 10.0,
            });
            assert_eq!(list["registrations"], json!([expected]));
            let wrong = ["", "[]", "\"http://c.test\"", r#"{"url": "http://c.test/path"}"#, r#"{"ulr": "http://c.test"}"#];
            let calls = wrong.map(|body| (Method::POST, path, body));
            refused(status, &calls, (400, "bad_body")).await;
        })
        .await;
    }

    #[test]
    fn what_is_not_listed_cannot_be_asked() {
        assert!(methods(&["a", "endpoints", "b", "explode"]).is_empty());
    }
}
