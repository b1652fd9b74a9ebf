//! `verify`: callers whom a service knows, which is asked about each request (like `auth_request` of nginx, `ForwardAuth` of Traefik, `ext_authz` of
//! Envoy). It is told what is written and nothing else of the client's, never a body, and only it says who it is.

mod file;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, StatusCode};
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::identity::Identity;
use tidegate_core::policy::{Answer, World};
use tidegate_core::query;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::{Fields, InvalidField, Known, RequestHead, ResponseHead};

pub(crate) use self::file::VerifyFile;
use super::bearer;
use super::credential::{Credential, Several};
use super::elsewhere::{Elsewhere, Judged, Question, Unavailable};
use super::way::{Finding, Proof, Way};
use crate::shared::json;

/// The way.
struct Verify {
    name: Arc<str>,
    asking: Asking,
    /// A request passes, known to nobody, when there is no answer.
    allows: bool,
    elsewhere: Arc<Elsewhere<Arc<Verdict>>>,
}

/// What is asked, and what becomes of answers.
#[derive(Debug, Clone)]
struct Asking {
    method: Method,
    target: String,
    credentials: Vec<Credential>,
    /// Fields of the request that are sent beside credentials.
    sent: Vec<Arc<str>>,
    tell: Vec<Tell>,
    /// Requests that show nothing are asked about too.
    anonymous: bool,
    redirects: bool,
    names: Names,
    to_client: Vec<Arc<str>>,
    to_service: Vec<Arc<str>>,
}

/// What the service is told of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    Method,
    Uri,
    Path,
    Host,
    Scheme,
    Client,
}

/// The fields of an answer that say who it is.
#[derive(Debug, Clone)]
struct Names {
    user: Arc<str>,
    roles: Arc<str>,
    permissions: Arc<str>,
    scopes: Arc<str>,
    tenant: Arc<str>,
}

/// A field and its value.
type Told = (Arc<str>, Vec<u8>);

/// What the service has said.
#[derive(Debug)]
enum Verdict {
    /// Who it is, and what the route's service is told.
    Known(Arc<Identity>, Vec<Told>),
    /// Nobody, with these fields for the client.
    Unknown(Fields),
    /// Somebody who may not do this.
    Forbidden(Fields),
    /// The client is sent elsewhere.
    Redirect(StatusCode, Fields),
}

impl Verify {
    /// What is found once the service has said this of the request.
    fn conclude(&self, verdict: &Verdict, exchange: &mut Exchange, shown: bool) -> Finding {
        match verdict {
            Verdict::Known(identity, told) => {
                exchange.told.extend(told.iter().cloned());
                Finding::Known(Arc::clone(identity))
            }
            Verdict::Unknown(fields) if shown => {
                let rejection = Rejection::new(RejectionKind::Unauthorized, "credential_invalid", "Invalid token");
                Finding::Denied(Box::new(self.told(rejection, fields)))
            }
            // Who has shown nothing has not failed.
            Verdict::Unknown(fields) => {
                let rejection = Rejection::new(RejectionKind::Unauthorized, "credential_missing", self.missing());
                Finding::Refused(Box::new(self.told(rejection, fields)))
            }
            Verdict::Forbidden(fields) => {
                let rejection = Rejection::new(RejectionKind::Forbidden, "forbidden", "Insufficient permissions");
                Finding::Refused(Box::new(self.told(rejection, fields)))
            }
            Verdict::Redirect(status, fields) => {
                let head = ResponseHead { status: *status, fields: fields.clone(), ..ResponseHead::default() };
                Finding::Answered(Box::new(Reply { head, ..Reply::new(*status) }))
            }
        }
    }

    /// With the fields that the service has for the client.
    fn told(&self, mut rejection: Rejection, fields: &Fields) -> Rejection {
        let status = rejection.status().as_u16();
        *rejection.fields = fields.clone();
        if rejection.kind == RejectionKind::Unauthorized && !fields.contains(Known::WwwAuthenticate) {
            let challenge = self.challenge().unwrap_or_default();
            let error = if rejection.code == "credential_invalid" { ", error=\"invalid_token\"" } else { "" };
            if !challenge.is_empty() {
                // Cannot fail: names of ways are plain.
                rejection.fields.append(Known::WwwAuthenticate, format!("{challenge}{error}").as_bytes()).ok();
            }
        }
        rejection.cause(format!("`{}` was answered with {status}", self.name))
    }

    fn unavailable(&self, unavailable: &Unavailable) -> Finding {
        // Only an outage opens the door: whoever wants in would otherwise only have to send enough, or something odd.
        if self.allows && !unavailable.may_be_well {
            self.elsewhere.allowed();
            let nobody = Identity { way: Arc::clone(&self.name), ..Identity::default() };
            return Finding::Known(Arc::new(nobody));
        }
        Finding::Refused(Box::new(unavailable.rejection(&self.name)))
    }
}

impl Way for Verify {
    fn prove<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Proof<'a> {
        let shown = self.asking.is_shown(exchange);
        if !shown && !self.asking.anonymous {
            return Proof::Ready(Finding::Absent);
        }
        let question = match self.asking.question(exchange) {
            Ok(question) => question,
            Err(Several) => return Proof::Ready(bearer::malformed(&self.name)),
        };
        // What is said of nobody in particular is for one request: it may hold what is for one browser alone.
        let print = if shown { self.elsewhere.print(&question) } else { None };
        if let Some(verdict) = print.and_then(|print| self.elsewhere.remembered(&print, world)) {
            return Proof::Ready(self.conclude(&verdict, exchange, shown));
        }
        Proof::Wait(Box::pin(async move {
            let ends = self.asking.ends(exchange);
            let judge = |answer: &Answer| self.asking.judge(&self.name, answer, ends);
            match self.elsewhere.ask(world, print, question, judge).await {
                Ok(verdict) => self.conclude(&verdict, exchange, shown),
                Err(unavailable) => self.unavailable(&unavailable),
            }
        }))
    }

    fn conceal(&self, exchange: &mut Exchange) {
        for credential in &self.asking.credentials {
            if matches!(credential, Credential::Query(_)) {
                credential.remove(exchange);
            }
        }
        // Told anew, or not at all.
        if self.asking.to_service.iter().any(|name| **name == *"authorization") {
            exchange.head.fields.remove(Known::Authorization);
        }
    }

    fn challenge(&self) -> Option<String> {
        self.asking.credentials.iter().any(is_authorization).then(|| bearer::challenge(&self.name))
    }

    fn describe(&self) -> String {
        format!("what {} says of the request", self.elsewhere.address())
    }

    fn missing(&self) -> &'static str {
        let has_bearer = self.asking.credentials.iter().any(is_authorization);
        if has_bearer { "Missing authorization header" } else { "Missing credential" }
    }
}

fn is_authorization(credential: &Credential) -> bool {
    matches!(credential, Credential::Header(name) if name.eq_ignore_ascii_case("authorization"))
}

impl Asking {
    fn is_shown(&self, exchange: &Exchange) -> bool {
        let mut shown = false;
        self.credentials.iter().for_each(|credential| credential.visit(exchange, |_| shown = true));
        shown
    }

    /// What is sent. All of it is what the question is known by.
    fn question(&self, exchange: &Exchange) -> Result<Question, Several> {
        let (from, mut fields) = (&exchange.head.fields, Fields::new());
        if self.single().any(|name| from.values(name).nth(1).is_some()) {
            return Err(Several);
        }
        let mut cookies = Vec::new();
        for credential in &self.credentials {
            match credential {
                Credential::Header(name) => copy(from, name, &mut fields),
                Credential::Cookie(name) => {
                    cookies.extend(query::cookies(from, name).map(|value| [name.as_bytes(), b"=", value].concat()));
                }
                // It is in the URI.
                Credential::Query(_) => {}
            }
        }
        if !cookies.is_empty() {
            // Cannot fail, here and below: all of these were values of fields, or are made of plain ASCII.
            fields.append(Known::Cookie, &cookies.join(&b"; "[..])).ok();
        }
        self.sent.iter().for_each(|name| copy(from, name, &mut fields));
        for tell in &self.tell {
            fields.append(tell.field(), tell.value(exchange).as_bytes()).ok();
        }
        let head =
            RequestHead { method: self.method.clone(), target: self.target.clone(), fields, ..RequestHead::default() };
        Ok(Question { head, body: Bytes::new() })
    }

    /// Fields that are sent and of which a request may have one: of two, the service may look at one and the route's service at the other.
    fn single(&self) -> impl Iterator<Item = &str> {
        let shown = self.credentials.iter().filter_map(|credential| match credential {
            // There may be several, of which each has other cookies (RFC 9113, 8.2.3), and browsers send those of one name for several paths.
            Credential::Header(name) if !name.eq_ignore_ascii_case("cookie") => Some(&**name),
            Credential::Header(_) | Credential::Cookie(_) | Credential::Query(_) => None,
        });
        shown.chain(self.sent.iter().map(|name| &**name).filter(|name| name.eq_ignore_ascii_case("authorization")))
    }

    /// When the first of the tokens ends that the request shows, if they say so. Nobody has verified them, so this only ever makes times shorter.
    fn ends(&self, exchange: &Exchange) -> Option<Duration> {
        let mut ends: Option<Duration> = None;
        for credential in &self.credentials {
            credential.visit(exchange, |value| {
                let end = end_of(value);
                ends = ends.into_iter().chain(end).min();
            });
        }
        ends
    }

    /// What the answer says of the caller.
    fn judge(&self, way: &Arc<str>, answer: &Answer, ends: Option<Duration>) -> Result<Judged<Arc<Verdict>>, String> {
        let status = answer.status;
        let verdict = match status.as_u16() {
            200..=299 => Verdict::Known(Arc::new(self.identity(way, answer, ends)?), self.told(answer)?),
            401 => Verdict::Unknown(self.for_client(answer).map_err(|error| error.to_string())?),
            403 => Verdict::Forbidden(self.for_client(answer).map_err(|error| error.to_string())?),
            301 | 302 | 303 | 307 | 308 if self.redirects => Verdict::Redirect(status, self.redirection(answer)?),
            status => return Err(format!("the answer is {status}")),
        };
        let (for_client, for_service) = match &verdict {
            Verdict::Known(_, told) => (None, &told[..]),
            Verdict::Unknown(fields) | Verdict::Forbidden(fields) | Verdict::Redirect(_, fields) => {
                (Some(fields), &[][..])
            }
        };
        // A token that was exchanged for another one may end before it.
        let ends = for_service.iter().filter_map(|(_, value)| end_of(value)).chain(ends).min();
        // A cookie is for one browser, and what a login begins with is for one login.
        let alone = matches!(verdict, Verdict::Redirect(..))
            || for_client.is_some_and(|fields| fields.contains(Known::SetCookie));
        let refused = for_client.is_some();
        Ok(Judged { said: Arc::new(verdict), alone, refused, ends })
    }

    fn identity(&self, way: &Arc<str>, answer: &Answer, ends: Option<Duration>) -> Result<Identity, String> {
        let one = |name: &Arc<str>| {
            let value = answer.fields.single(&**name).map_err(|_| format!("the answer says `{name}` twice"))?;
            let value = value.map(<[u8]>::trim_ascii).filter(|value| !value.is_empty());
            value.map(text).transpose().map_err(|()| format!("the answer's `{name}` is no text"))
        };
        let list = |name: &Arc<str>, separators: &[char]| {
            let mut all: Vec<Arc<str>> = Vec::new();
            for value in answer.fields.values(&**name) {
                let value = text(value).map_err(|()| format!("the answer's `{name}` is no text"))?;
                let items = value.split(|c| separators.contains(&c)).map(str::trim).filter(|item| !item.is_empty());
                all.extend(items.map(Arc::from));
            }
            Ok::<_, String>(all)
        };
        Ok(Identity {
            way: Arc::clone(way),
            user: one(&self.names.user)?,
            tenant: one(&self.names.tenant)?,
            roles: list(&self.names.roles, &[','])?,
            permissions: list(&self.names.permissions, &[','])?,
            scopes: list(&self.names.scopes, &[',', ' '])?,
            expires: ends,
            ..Identity::default()
        })
    }

    /// What the route's service is told: several values of one name as a list.
    fn told(&self, answer: &Answer) -> Result<Vec<Told>, String> {
        let mut told = Vec::with_capacity(self.to_service.len());
        for name in &self.to_service {
            let values: Vec<&[u8]> = answer.fields.values(&**name).collect();
            if values.len() > 1 && **name == *"authorization" {
                return Err(format!("the answer says `{name}` twice"));
            }
            if !values.is_empty() {
                told.push((Arc::clone(name), values.join(&b", "[..])));
            }
        }
        Ok(told)
    }

    fn for_client(&self, answer: &Answer) -> Result<Fields, InvalidField> {
        let mut fields = Fields::new();
        for name in &self.to_client {
            for value in answer.fields.values(&**name) {
                fields.append(&**name, value)?;
            }
        }
        Ok(fields)
    }

    fn redirection(&self, answer: &Answer) -> Result<Fields, String> {
        let mut fields = self.for_client(answer).map_err(|error| error.to_string())?;
        let location = answer.fields.single(Known::Location).ok().flatten();
        let location = location.ok_or("the answer sends the client elsewhere and does not say where")?;
        let set = fields.set(Known::Location, location).and_then(|()| fields.set(Known::CacheControl, b"no-store"));
        set.map_err(|error| error.to_string())?;
        Ok(fields)
    }
}

/// Every value of this name.
fn copy(from: &Fields, name: &str, to: &mut Fields) {
    for value in from.values(name) {
        // Cannot fail: it was a field before.
        to.append(name, value).ok();
    }
}

fn text(value: &[u8]) -> Result<Arc<str>, ()> {
    std::str::from_utf8(value).map(Arc::from).map_err(|_| ())
}

/// When a token ends that looks like a JWT (RFC 7519, 4.1.4), with or without a scheme before it.
fn end_of(value: &[u8]) -> Option<Duration> {
    let token = value.rsplit(|byte| *byte == b' ').next()?;
    let mut parts = token.split(|byte| *byte == b'.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let claims = json::object(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let seconds = claims.get("exp")?.as_f64()?;
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

impl Tell {
    const ALL: [Self; 5] = [Self::Method, Self::Uri, Self::Host, Self::Scheme, Self::Client];

    /// The field that tells it.
    fn field(self) -> &'static str {
        match self {
            Self::Method => "x-forwarded-method",
            Self::Uri | Self::Path => "x-forwarded-uri",
            Self::Host => "x-forwarded-host",
            Self::Scheme => "x-forwarded-proto",
            Self::Client => "x-forwarded-for",
        }
    }

    /// What is told. What proxies say counts if they are trusted, and what other clients say does not.
    fn value(self, exchange: &Exchange) -> Cow<'_, str> {
        match self {
            Self::Method => exchange.head.method.as_str().into(),
            Self::Uri => match exchange.asked_query() {
                "" => exchange.asked_path().into(),
                query => format!("{}?{query}", exchange.asked_path()).into(),
            },
            Self::Path => exchange.asked_path().into(),
            Self::Host => host(exchange).into(),
            Self::Scheme => exchange.scheme.as_str().into(),
            Self::Client => exchange.client.to_canonical().to_string().into(),
        }
    }
}

/// With the port. Of several that a trusted proxy has sent, the last is its own.
fn host(exchange: &Exchange) -> &str {
    let fields = &exchange.head.fields;
    let told = if exchange.peer.trusted { fields.tokens(Known::XForwardedHost).last() } else { None };
    let told = told.and_then(|host| std::str::from_utf8(host).ok());
    told.or_else(|| fields.text(Known::Host)).unwrap_or_default()
}
