//! `csrf`: no page of a stranger makes a browser change something. Who a request comes from is told by fields that pages cannot set;
//! requests that no browser makes by itself pass.

use std::sync::Arc;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_core::client::Scheme;
use tidegate_core::exchange::Exchange;
use tidegate_core::policy::{Decision, Gate, Phase, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::{Known, RequestHead, authority};

use crate::origins::{OriginFile, Origins, without_default_port};
use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct Csrf;

/// Requests that change something, and web sockets, must come from pages of the gateway's own host or of one of these origins. `on` is
/// the own host alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CsrfFile {
    /// Other origins whose pages may: `https://app.example.com`, `https://*.example.com` for every name below, or `{ regex: ... }`
    /// for whole origins.
    #[serde(default)]
    origins: Vec<OriginFile>,
}

/// Whose pages may, besides those of the own host.
#[derive(Debug)]
pub(crate) struct Friends(Origins);

impl Policy for Csrf {
    const KEY: &'static str = "csrf";
    const PLACE: Place = Place::Route;
    const EXAMPLE: &'static str = "\
services: { shop: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: / }
    service: shop
    csrf: { origins: [https://app.example.com] }
";
    type File = CsrfFile;
    type Meaning = Arc<Friends>;

    fn mean(file: CsrfFile, reading: &mut Reading<'_, '_>) -> Option<Arc<Friends>> {
        let list = reading.path().join("origins");
        let origins = Origins::mean(&file.origins, &list, reading)?;
        if origins.has_strangers() {
            let problem = Problem::error(list, "everybody is let in here, so `csrf` refuses nobody");
            reading.report(problem.help("name the origins, or take `csrf` out"));
        }
        Some(Arc::new(Friends(origins)))
    }

    fn build(meaning: Option<&Arc<Friends>>, at: &Path, setup: &mut Setup<'_>) {
        if let Some(friends) = meaning {
            setup.gate((Phase::Edge, Self::KEY), &"".into(), at, Arc::<Friends>::clone(friends));
        }
    }
}

impl Gate for Friends {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn World) -> Decision<'a> {
        match self.objection(exchange) {
            None => Decision::PASS,
            Some(cause) => Decision::refuse(
                Rejection::new(
                    RejectionKind::Forbidden,
                    "csrf_refused",
                    "This request comes from a page that may not make it",
                )
                .cause(cause),
            ),
        }
    }
}

impl Friends {
    /// Why the request may be one that a stranger's page made; `None` if it cannot be.
    fn objection(&self, exchange: &Exchange) -> Option<String> {
        let head = &exchange.head;
        if is_harmless(head) {
            return None;
        }
        let site = head.fields.single(Known::SecFetchSite);
        if matches!(site, Ok(Some(b"same-origin" | b"none"))) {
            return None;
        }
        let source = match (head.fields.single(Known::Origin), head.fields.single(Known::Referer)) {
            (Ok(Some(origin)), _) => origin,
            (Ok(None), Ok(Some(referer))) => origin_of(referer),
            (Ok(None), Ok(None)) if site == Ok(None) && !head.fields.contains(Known::Cookie) => return None,
            (Ok(None), Ok(None)) => {
                return Some("it has cookies, and does not say which page it comes from".to_owned());
            }
            _ => return Some("it says more than once which page it comes from".to_owned()),
        };
        if self.0.has(source) || is_own(source, exchange) {
            return None;
        }
        Some(format!("it comes from a page of `{}`", String::from_utf8_lossy(source)))
    }
}

/// Whether it changes nothing (RFC 9110, 9.2.1). A WebSocket does, although it begins with `GET`, and nothing else asks for it.
fn is_harmless(head: &RequestHead) -> bool {
    let is_safe = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    is_safe && !head.fields.tokens(Known::Upgrade).any(|wish| wish.eq_ignore_ascii_case(b"websocket"))
}

/// The origin of a URL: what stands before its path.
fn origin_of(url: &[u8]) -> &[u8] {
    let authority = url.windows(3).position(|window| window == b"://").map_or(0, |at| at + 3);
    let rest = url.get(authority..).unwrap_or_default();
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    url.get(..authority + length).unwrap_or_default()
}

/// Whether this is the origin that the request was sent to. A page that came by `http` may not act on what is asked by `https`; the
/// other way round it may, because there can be a proxy before the gateway that is not known to it.
fn is_own(origin: &[u8], exchange: &Exchange) -> bool {
    let Some((scheme, host)) = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let is_known = scheme == "https" || (scheme == "http" && exchange.scheme == Scheme::Http);
    let Ok(Some(own)) = authority(&exchange.head) else { return false };
    let [host, own] = [host, own].map(|authority| without_default_port(scheme, authority));
    is_known && host.eq_ignore_ascii_case(own)
}
