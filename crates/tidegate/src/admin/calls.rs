//! What all calls below a path of the admin listener have in common: who may make them, how they are refused, what is logged.

use http::header::{ALLOW, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Map, Value};
use tidegate_core::keys::{Malformed, id_of};

use super::routes::{Asked, Reply, allowed, error, json};
use crate::status::Status;

/// What may be asked of a path, and how it is done.
pub(super) struct Call<'a> {
    /// Nothing if there is no such path.
    pub(super) methods: &'a [Method],
    /// Answers GET and HEAD.
    pub(super) read: &'a dyn Fn() -> Answer,
    /// Does what another method asks for.
    pub(super) write: &'a dyn Fn(&Method) -> Answer,
}

pub(super) type Answer = Result<(StatusCode, Value), Refusal>;

/// Why a request is refused: the code is for programs, the text for people.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str, pub(super) String);

/// The segments below `top`, decoded; `None` if the path is another.
pub(super) fn below(top: &str, path: &str) -> Option<Vec<String>> {
    let below = path.strip_prefix(top)?;
    match below.strip_prefix('/') {
        None => below.is_empty().then(Vec::new),
        Some("") => Some(Vec::new()),
        Some(segments) => Some(segments.split('/').map(decoded).collect()),
    }
}

/// Answers a call. Without a token in the configuration nobody may change anything.
pub(super) fn answer(asked: &Asked<'_>, status: &Status, call: &Call<'_>) -> Reply {
    let method = if asked.head.method == Method::HEAD { &Method::GET } else { &asked.head.method };
    if call.methods.is_empty() {
        return error(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this path; docs/admin.md lists what there is",
        );
    }
    if !call.methods.contains(method) {
        let allow = call.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &format!("{allow} only"));
        reply.headers_mut().extend(HeaderValue::try_from(allow).map(|allow| (ALLOW, allow)));
        return reply;
    }
    if *method == Method::GET {
        return allowed(asked.head, status, || replied((call.read)()));
    }
    if status.token().is_none() {
        let advice =
            "nothing can be changed without a token: set `admin.token` and send it as `Authorization: Bearer ...`";
        return error(StatusCode::FORBIDDEN, "no_admin_token", advice);
    }
    allowed(asked.head, status, || {
        let reply = replied((call.write)(method));
        tell(asked, &reply);
        reply
    })
}

/// The body, which must be an object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(bad_body("expected a JSON object")),
        Err(error) => Err(bad_body(format!("the body is not JSON: {error}"))),
    }
}

/// The body is not what the call takes.
pub(super) fn bad_body(why: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "bad_body", why.into())
}

fn replied(answer: Answer) -> Reply {
    match answer {
        Ok((status, value)) => json(status, &value),
        Err(Refusal(status, code, why)) => error(status, code, &why),
    }
}

/// So much of a body is logged.
const TOLD: usize = 256;

/// Who changed what, for the operational log. Renewals are many and change nothing.
fn tell(asked: &Asked<'_>, reply: &Reply) {
    let (peer, method, path) = (asked.peer.to_string(), asked.head.method.as_str(), loggable(asked.head.uri.path()));
    let status = reply.status().as_u16();
    if method == "PUT" && path.contains("/registrations/") {
        return tracing::debug!(peer, path, status, "renewal");
    }
    let body = String::from_utf8_lossy(asked.body.get(..TOLD).unwrap_or(asked.body));
    tracing::info!(peer, method, path, body = &*body, status, "admin request");
}

/// Who takes a whole key for its id has not sent it to the log.
fn loggable(path: &str) -> String {
    let is_key = |segment: &str| id_of(segment.as_bytes()) != Err(Malformed::Foreign);
    let shown = path.split('/').map(|segment| if is_key(segment) { "tg_..." } else { segment });
    shown.collect::<Vec<_>>().join("/")
}

/// Percent-decoded; what is no triplet stays as it is.
pub(super) fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        let triplet = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = triplet.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Calls of the admin listener, as a test makes them: with the token `t0ken`, from this machine.
#[cfg(test)]
pub(super) mod testing {
    use http::{Method, Request};
    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::Asked;
    use crate::admin::routes::{self, Role};
    use crate::status::Status;

    /// The status of the reply, and what it says.
    pub(in crate::admin) async fn ask(status: &Status, method: Method, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("authorization", "Bearer t0ken").body(()).expect("a request");
        let (head, ()) = request.into_parts();
        let (local, peer) = ([127, 0, 0, 1].into(), ([127, 0, 0, 1], 4711).into());
        let asked = Asked { role: Role::Admin, local, peer, head: &head, body: body.as_bytes() };
        let reply = routes::answer(&asked, status);
        let code = reply.status().as_u16();
        let body = reply.into_body().collect().await.expect("a body").to_bytes();
        (code, serde_json::from_slice(&body).expect("JSON"))
    }

    /// Makes these calls, each of which must be answered with this status and code.
    pub(in crate::admin) async fn refused(
        status: &Status,
        calls: &[(Method, &str, &str)],
        (expected, code): (u16, &str),
    ) {
        for (method, path, body) in calls {
            let (status, told) = ask(status, method.clone(), path, body).await;
            assert_eq!((status, told["code"].as_str()), (expected, Some(code)), "{path} {body}: {told}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_a_path_is_read_as_that() {
        assert_eq!(below("/services", "/services"), Some(vec![]));
        assert_eq!(below("/services", "/services/a%2Fb/x"), Some(vec!["a/b".to_owned(), "x".to_owned()]));
        assert_eq!(below("/services", "/servicesX"), None);
        assert_eq!(below("/services", "/config"), None);
    }

    #[test]
    fn a_key_that_was_taken_for_an_id_is_not_logged() {
        let key = tidegate_core::keys::text("abcdefgh", &[1; 32]);
        assert_eq!(loggable(&format!("/keys/{key}/rotate")), "/keys/tg_.../rotate");
        assert_eq!(loggable(&format!("/keys/{}", &key[..40])), "/keys/tg_...");
        assert_eq!(loggable("/keys/abcdefgh"), "/keys/abcdefgh");
    }

    #[test]
    fn a_segment_may_be_written_with_or_without_percents() {
        assert_eq!(decoded("[::1]:81"), decoded("%5b::1%5D%3a81"));
        assert_eq!(decoded("100%"), "100%");
    }
}
