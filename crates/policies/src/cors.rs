//! `cors`: which pages of other origins may call, as the Fetch standard has it. Preflights are answered here, and what the service says
//! about it is replaced. A browser obeys it; who is no browser is not held back.

use std::sync::Arc;

use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{MethodName, Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{Duration, FieldName};
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::policy::{Decision, Gate, Phase, Stop, World};
use tidegate_http1::{Fields, Known, NameRef, RequestHead, ResponseHead};

use crate::origins::{OriginFile, Origins};
use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct Cors;

/// Which pages of other origins may call, and what they may ask and read. The gateway answers preflights itself, and what the service
/// says about it is replaced.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CorsFile {
    /// Whose pages may call: `https://app.example.com`, `https://*.example.com` for every name below, `{ regex: ... }` for whole
    /// origins, `null` for pages without one, or `*` for everybody.
    #[serde(default)]
    origins: Vec<OriginFile>,
    /// The methods that they may use. `GET`, `HEAD` and `POST` need no permission of browsers.
    #[serde(default)]
    methods: Vec<MethodName>,
    /// The headers that they may send besides those that need no permission; `*` is whatever they ask for.
    #[serde(default)]
    headers: Vec<FieldName>,
    /// The headers of replies that they may read besides those that need no permission; `*` is all of them.
    #[serde(default)]
    expose: Vec<FieldName>,
    /// Browsers send cookies and client certificates along, so that pages act as whoever looks at them. Not together with `*`.
    #[serde(default)]
    credentials: bool,
    /// How long browsers may remember the answer to a preflight. `off` leaves it to them, which is five seconds.
    max_age: Option<Duration>,
    /// Pages of public sites may call although the gateway is in a private network.
    #[serde(default)]
    private_network: bool,
}

/// What is said to browsers.
#[derive(Debug, PartialEq)]
pub(crate) struct Rules {
    origins: Origins,
    credentials: bool,
    private_network: bool,
    /// Values of fields, which are left out where they are empty.
    methods: String,
    headers: String,
    expose: String,
    max_age: String,
    /// `headers` is `*`.
    any_header: bool,
}

/// What services say about it; the gateway knows better.
const OF_SERVICES: [Known; 6] = [
    Known::AccessControlAllowOrigin,
    Known::AccessControlAllowCredentials,
    Known::AccessControlAllowMethods,
    Known::AccessControlAllowHeaders,
    Known::AccessControlExposeHeaders,
    Known::AccessControlMaxAge,
];
const ALLOW_PRIVATE_NETWORK: &str = "access-control-allow-private-network";
const REQUEST_PRIVATE_NETWORK: &str = "access-control-request-private-network";

impl Policy for Cors {
    const KEY: &'static str = "cors";
    const PLACE: Place = Place::Route;
    const BUILT_IN: &'static str = "\
methods: [GET, HEAD, POST, PUT, PATCH, DELETE]
headers: [authorization, content-type]
credentials: off
max_age: 10m
private_network: off
";
    const EXAMPLE: &'static str = "\
services: { orders: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: /orders }
    service: orders
    cors: { origins: [https://app.example.com], credentials: on }
";
    type File = CorsFile;
    type Meaning = Arc<Rules>;

    fn mean(file: CorsFile, reading: &mut Reading<'_, '_>) -> Option<Arc<Rules>> {
        let path = reading.path();
        let list = path.join("origins");
        let origins = Origins::mean(&file.origins, &list, reading)?;
        if file.origins.is_empty() {
            reading.missing(
                &path,
                "origins",
                "name the origins whose pages may call: `origins: [https://app.example.com]`",
            );
        }
        if file.credentials {
            check_credentials(&file, &origins, reading);
        }
        let is_star = |name: &FieldName| *name.0 == *"*";
        Some(Arc::new(Rules {
            origins,
            credentials: file.credentials,
            private_network: file.private_network,
            methods: joined(file.methods.iter().map(|method| method.0.as_str())),
            headers: joined(file.headers.iter().map(|name| &*name.0)),
            expose: joined(file.expose.iter().map(|name| &*name.0)),
            max_age: file.max_age.map(|age| age.0.as_secs().to_string()).unwrap_or_default(),
            any_header: file.headers.iter().any(is_star),
        }))
    }

    fn build(meaning: Option<&Arc<Rules>>, at: &Path, setup: &mut Setup<'_>) {
        if let Some(rules) = meaning.or_else(|| common(setup)) {
            setup.gate((Phase::Edge, Self::KEY), &"".into(), at, Arc::<Rules>::clone(rules));
        }
    }
}

/// With credentials a page acts as its visitor, so it must be named.
fn check_credentials(file: &CorsFile, origins: &Origins, reading: &mut Reading<'_, '_>) {
    let path = reading.path();
    let at = path.join("credentials");
    if origins.has_strangers() {
        let problem =
            Problem::error(at, "with `credentials` the origins must be named: any page could act as its visitor");
        reading.report(
            problem
                .help("name them: `origins: [https://app.example.com]`")
                .see(path.join("origins"), "everybody is let in here"),
        );
    } else if origins.has(b"null") {
        let problem = Problem::warning(path.join("origins"), "`null` is the origin of sandboxed frames of any site");
        reading.report(problem.help("name the origins, or leave `credentials` off"));
    }
    if file.expose.iter().any(|name| *name.0 == *"*") {
        let problem =
            Problem::error(path.join("expose"), "with `credentials` browsers do not take `*` for all headers");
        reading.report(problem.help("name them: `expose: [x-request-id]`"));
    }
}

/// What all routes say that say something, for replies that no route makes.
fn common<'a>(setup: &Setup<'a>) -> Option<&'a Arc<Rules>> {
    let mut said = setup.said_by_routes::<Cors>()?;
    let first = said.next()?;
    said.all(|other| other == first).then_some(first)
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

impl Gate for Rules {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn World) -> Decision<'a> {
        if is_preflight(&exchange.head) {
            return Decision::Ready(Err(Stop::Answer(Box::new(Reply::new(StatusCode::NO_CONTENT)))));
        }
        Decision::PASS
    }

    fn answers_preflights(&self) -> bool {
        true
    }

    fn describe(&self, _: &Exchange) -> String {
        let credentials = if self.credentials { ", with credentials" } else { "" };
        format!("pages of {}{credentials}", self.origins.words())
    }

    fn reply(&self, exchange: &Exchange, reply: &mut ResponseHead) {
        let (asked, fields) = (&exchange.head, &mut reply.fields);
        for name in OF_SERVICES {
            fields.remove(name);
        }
        fields.remove(ALLOW_PRIVATE_NETWORK);
        let is_open = self.origins.has_any() && !self.credentials;
        if !is_open {
            vary(fields, "Origin");
        }
        let is_preflight = is_preflight(asked);
        if is_preflight {
            vary(fields, "Access-Control-Request-Method");
            vary(fields, "Access-Control-Request-Headers");
        }
        let origin = asked.fields.single(Known::Origin).ok().flatten();
        let allowed = match origin {
            _ if is_open => &b"*"[..],
            Some(origin) if self.origins.has(origin) => origin,
            _ => return,
        };
        set(fields, Known::AccessControlAllowOrigin, allowed);
        if self.credentials {
            set(fields, Known::AccessControlAllowCredentials, b"true");
        }
        if is_preflight {
            self.answer(asked, fields);
        } else {
            set(fields, Known::AccessControlExposeHeaders, self.expose.as_bytes());
        }
    }
}

impl Rules {
    /// What only the answer to a preflight says.
    fn answer(&self, asked: &RequestHead, fields: &mut Fields) {
        set(fields, Known::AccessControlAllowMethods, self.methods.as_bytes());
        set(fields, Known::AccessControlMaxAge, self.max_age.as_bytes());
        if self.any_header {
            // Not `*`: it does not take in `authorization`, and nothing at all with credentials.
            let wanted = asked.fields.tokens(Known::AccessControlRequestHeaders);
            let wanted = wanted.collect::<Vec<_>>().join(&b", "[..]);
            set(fields, Known::AccessControlAllowHeaders, &wanted);
        } else {
            set(fields, Known::AccessControlAllowHeaders, self.headers.as_bytes());
        }
        if self.private_network && asked.fields.value(REQUEST_PRIVATE_NETWORK) == Some(b"true") {
            set(fields, ALLOW_PRIVATE_NETWORK, b"true");
        }
    }
}

/// A question whether a request may be made (Fetch, 4.8).
fn is_preflight(head: &RequestHead) -> bool {
    head.method == Method::OPTIONS
        && head.fields.contains(Known::Origin)
        && head.fields.contains(Known::AccessControlRequestMethod)
}

/// Sets a field that has a value.
fn set<'n>(fields: &mut Fields, name: impl Into<NameRef<'n>>, value: &[u8]) {
    if !value.is_empty() {
        // Cannot fail: the values are the configuration's, or were values of the request's fields.
        fields.set(name, value).ok();
    }
}

/// Says that the reply depends on this field of the request, unless that is said already.
fn vary(fields: &mut Fields, name: &str) {
    let is_said = |said: &[u8]| said == b"*" || said.eq_ignore_ascii_case(name.as_bytes());
    if !fields.tokens(Known::Vary).any(is_said) {
        // Cannot fail: the names are constants.
        fields.append_text(Known::Vary, name).ok();
    }
}

#[cfg(test)]
mod tests;
