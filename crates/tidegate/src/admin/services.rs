//! `/services` of the admin listener: how services stand, commands to their endpoints and breakers, and registrations.

use http::header::{ALLOW, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tidegate_config::{MAX_WEIGHT, one_endpoint};
use tidegate_core::cluster::{BreakerCommand, Command};
use tidegate_proxy::SteeringError;

use super::routes::{Asked, Reply, allowed, error, json};
use super::show;
use crate::status::Status;

/// Why a request is refused.
struct Refusal(StatusCode, &'static str, String);

/// The segments below `/services`, decoded; `None` if the path is another.
pub(super) fn path(path: &str) -> Option<Vec<String>> {
    let below = path.strip_prefix("/services")?;
    match below.strip_prefix('/') {
        None => below.is_empty().then(Vec::new),
        Some("") => Some(Vec::new()),
        Some(segments) => Some(segments.split('/').map(decoded).collect()),
    }
}

/// Answers what is asked of these segments.
pub(super) fn answer(asked: &Asked<'_>, path: Vec<String>, status: &Status) -> Reply {
    let segments: Vec<&str> = path.iter().map(String::as_str).collect();
    let methods = methods(&segments);
    let method = if asked.head.method == Method::HEAD { &Method::GET } else { &asked.head.method };
    if methods.is_empty() {
        return error(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this path; docs/admin.md lists what there is",
        );
    }
    if !methods.contains(method) {
        let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &format!("{allow} only"));
        reply.headers_mut().extend(HeaderValue::try_from(allow).map(|allow| (ALLOW, allow)));
        return reply;
    }
    if *method == Method::GET {
        return allowed(asked.head, status, || replied(read(&segments, status)));
    }
    if status.token().is_none() {
        let advice =
            "nothing can be changed without a token: set `admin.token` and send it as `Authorization: Bearer ...`";
        return error(StatusCode::FORBIDDEN, "no_admin_token", advice);
    }
    allowed(asked.head, status, || {
        let reply = replied(write(method, &segments, asked.body, status));
        tell(asked, &reply);
        reply
    })
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

fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(bad_body("expected a JSON object")),
        Err(error) => Err(bad_body(format!("the body is not JSON: {error}"))),
    }
}

fn bad_body(why: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "bad_body", why.into())
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

fn replied(result: Result<(StatusCode, Value), Refusal>) -> Reply {
    match result {
        Ok((status, value)) => json(status, &value),
        Err(Refusal(status, code, why)) => error(status, code, &why),
    }
}

/// So much of a body is logged.
const TOLD: usize = 256;

/// Who changed what, for the operational log. Renewals are many and change nothing.
fn tell(asked: &Asked<'_>, reply: &Reply) {
    let (peer, method, path) = (asked.peer.to_string(), asked.head.method.as_str(), asked.head.uri.path());
    let status = reply.status().as_u16();
    if method == "PUT" && path.contains("/registrations/") {
        return tracing::debug!(peer, path, status, "renewal");
    }
    let body = String::from_utf8_lossy(asked.body.get(..TOLD).unwrap_or(asked.body));
    tracing::info!(peer, method, path, body = &*body, status, "admin request");
}

/// Percent-decoded; what is no triplet stays as it is.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        let triplet = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match triplet.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
