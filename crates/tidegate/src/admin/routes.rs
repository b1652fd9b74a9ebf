//! What the admin and status listeners answer: a request goes in, a reply comes out.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::calls::below;
use super::{keys, services};
use crate::process::Usage;
use crate::status::Status;

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// For operators: the state of everything.
    Admin,
    /// For probes and scrapers: alive, ready, numbers.
    Status,
}

impl Role {
    /// Its name as a listener.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Status => "status",
        }
    }
}

pub(super) type Reply = Response<Full<Bytes>>;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A request to one of the listeners.
pub(super) struct Asked<'a> {
    pub(super) role: Role,
    /// The listener's own address.
    pub(super) local: IpAddr,
    pub(super) peer: SocketAddr,
    pub(super) head: &'a Parts,
    /// Empty where the method has none.
    pub(super) body: &'a [u8],
}

/// Answers a request. Only what is below `/services` and `/keys` on the admin listener changes anything.
pub(super) fn answer(asked: &Asked<'_>, status: &Status) -> Reply {
    let Asked { role, local, head, .. } = *asked;
    if local.is_loopback() && !names_loopback(&head.headers) {
        // A web page whose name was bound to 127.0.0.1 after it was loaded (DNS rebinding) still sends its own name.
        return text(StatusCode::MISDIRECTED_REQUEST, "this listener answers to its own address only\n");
    }
    if role == Role::Admin {
        if let Some(path) = below("/services", head.uri.path()) {
            return services::answer(asked, &path, status);
        }
        if let Some(path) = below("/keys", head.uri.path()) {
            return keys::answer(asked, &path, status);
        }
    }
    if head.method != Method::GET && head.method != Method::HEAD {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    match (role, head.uri.path()) {
        (_, "/healthz") => text(StatusCode::OK, "alive\n"),
        (Role::Admin, "/readyz") if wants_details(head) => allowed(head, status, || details(status)),
        (_, "/readyz") => readiness(status),
        (Role::Status, "/metrics") => metrics(status),
        (Role::Admin, "/metrics") => allowed(head, status, || metrics(status)),
        (Role::Admin, "/config") => {
            allowed(head, status, || reply(StatusCode::OK, "application/yaml", status.shown().as_bytes().to_vec()))
        }
        // Public keys, for services that check what the gateway has signed.
        (Role::Admin, JWKS) => {
            let keys = tidegate_policies::identity_jwks(&status.rules.shared);
            reply(StatusCode::OK, "application/jwk-set+json", keys.into_bytes())
        }
        (Role::Admin, "/") => allowed(head, status, || text(StatusCode::OK, INDEX)),
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

const JWKS: &str = "/.well-known/jwks.json";

const INDEX: &str = "\
Tidegate

/healthz            alive?
/readyz             ready for traffic?
/readyz?verbose     the configuration in use, the last reload, the listeners
/metrics            for Prometheus
/config             every value in effect and where it came from
/services           the services and their endpoints
/services/NAME      everything about one
/keys               the API keys
/.well-known/jwks.json   what the tokens of `identity_headers` are verified with

With `admin.token`, endpoints can be drained and weighed, breakers opened and closed, endpoints register
themselves, and keys are made and revoked: see docs/admin.md.
";

fn readiness(status: &Status) -> Reply {
    let code = if status.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(code, format!("{}\n", status.word()))
}

fn details(status: &Status) -> Reply {
    let code = if status.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(code, &status.details())
}

fn metrics(status: &Status) -> Reply {
    reply(
        StatusCode::OK,
        PROMETHEUS,
        status.metrics.render(&status.upstreams.report(), &status.rules.shared)
            + &Usage::now().render(status.started()),
    )
}

/// `?verbose`, alone or with a value other than 0.
fn wants_details(head: &Parts) -> bool {
    let query = head.uri.query().unwrap_or_default();
    query.split('&').any(|parameter| match parameter.split_once('=') {
        None => parameter == "verbose",
        Some((name, value)) => name == "verbose" && value != "0",
    })
}

/// Without a token in the configuration everybody who can connect may read: that is this machine alone.
pub(super) fn allowed(head: &Parts, status: &Status, then: impl FnOnce() -> Reply) -> Reply {
    let Some(token) = status.token() else { return then() };
    if bearer(&head.headers).is_some_and(|given| is_equal(given, token.0.as_bytes())) {
        return then();
    }
    let mut reply = error(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is needed: that of `admin.token`");
    reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
    reply
}

/// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1). Two of them are none.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (only, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = only.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Takes as long for a nearly right token as for a wrong one of the same length.
fn is_equal(given: &[u8], expected: &[u8]) -> bool {
    let differences = given.iter().zip(expected).fold(0, |found, (a, b)| black_box(found | (a ^ b)));
    given.len() == expected.len() && differences == 0
}

/// A probe that speaks HTTP/1.0 may name no host at all; a browser always does.
fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => true,
        (Some(only), None) => is_loopback(only.to_str().unwrap_or_default()),
        (Some(_), Some(_)) => false,
    }
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What went wrong, for people and for programs.
pub(super) fn error(status: StatusCode, code: &str, error: &str) -> Reply {
    json(status, &json!({ "error": error, "code": code }))
}

pub(super) fn json(status: StatusCode, value: &Value) -> Reply {
    reply(status, JSON, format!("{value:#}\n"))
}

fn text(code: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(code, TEXT, body)
}

fn reply(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = code;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests;
