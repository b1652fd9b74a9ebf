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
        // Any page has the origin `null` in a sandboxed frame.
        if origins.has_strangers() || origins.has(b"null") {
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

    fn describe(&self, _: &Exchange) -> String {
        let others = self.0.words();
        let others = if others.is_empty() { others } else { format!(", and of {others}") };
        format!("what changes something must come from pages of its own host{others}")
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
pub(crate) fn is_own(origin: &[u8], exchange: &Exchange) -> bool {
    let Some((scheme, host)) = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let is_known = scheme == "https" || (scheme == "http" && exchange.scheme == Scheme::Http);
    let Ok(Some(own)) = authority(&exchange.head) else { return false };
    let [host, own] = [host, own].map(|authority| without_default_port(scheme, authority));
    is_known && host.eq_ignore_ascii_case(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gateway, problems};

    fn yaml(csrf: &str) -> String {
        format!(
            "server: {{ trusted_proxies: [192.0.2.1] }}\n\
             services: {{ a: {{ url: http://127.0.0.1:9001 }} }}\n\
             routes: [{{ match: {{ path_prefix: / }}, service: a, csrf: {csrf} }}]"
        )
    }

    const FRIENDS: &str = "{ origins: [https://app.example.com, 'https://*.partner.example'] }";
    const REFUSED: &str = "403 csrf_refused: This request comes from a page that may not make it";

    #[test]
    fn pages_of_the_own_host_and_of_friends_may_change_something() {
        let gateway = Gateway::of(&yaml(FRIENDS));
        for lines in [
            "Origin: http://api.example.com",
            "Origin: https://api.example.com",
            "Origin: https://API.example.com\nHost: api.example.com:443",
            "Origin: http://api.example.com:8080\nHost: api.example.com:8080",
            "Origin: https://app.example.com\nSec-Fetch-Site: cross-site",
            "Origin: https://a.b.partner.example",
            "Sec-Fetch-Site: same-origin\nOrigin: null\nCookie: a=b",
            "Sec-Fetch-Site: none\nCookie: a=b",
            "Referer: https://app.example.com/page?a=https://evil.example/\nCookie: a=b",
            "Referer: http://api.example.com\nCookie: a=b",
            "Origin: https://api.example.com\nX-Forwarded-Proto: https",
        ] {
            assert_eq!(gateway.send(&format!("POST /\n{lines}")).said, "pass", "{lines}");
        }
    }

    #[test]
    fn pages_of_strangers_may_not() {
        let gateway = Gateway::of(&yaml(FRIENDS));
        for lines in [
            "Origin: https://evil.example",
            "Origin: https://evil.example\nCookie: a=b",
            "Origin: https://app.example.com.evil.example",
            "Origin: https://evilapp.example.com",
            "Origin: http://app.example.com",
            "Origin: https://partner.example",
            "Origin: https://evil.example?.partner.example",
            "Origin: https://evil.example/.partner.example",
            "Origin: null",
            "Origin: api.example.com",
            "Origin: ftp://api.example.com",
            "Origin: http://api.example.com:8080",
            "Origin: http://api.example.com\nX-Forwarded-Proto: https",
            "Origin: https://app.example.com\nOrigin: https://evil.example",
            "Origin: https://evil.example\nReferer: https://app.example.com/",
            "Referer: https://evil.example/https://app.example.com/",
            "Referer: https://app.example.com@evil.example/",
            "Referer: https://app.example.com\nReferer: https://evil.example/",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
            "Sec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site",
            "Cookie: a=b",
        ] {
            assert_eq!(gateway.send(&format!("POST /\n{lines}")).said, REFUSED, "{lines}");
        }
    }

    #[test]
    fn every_method_that_changes_something_is_looked_at() {
        let gateway = Gateway::of(&yaml("on"));
        for (method, said) in [
            ("GET", "pass"),
            ("HEAD", "pass"),
            ("OPTIONS", "pass"),
            ("PUT", REFUSED),
            ("PATCH", REFUSED),
            ("DELETE", REFUSED),
            ("PROPPATCH", REFUSED),
            ("get", REFUSED),
        ] {
            let request = format!("{method} /\nOrigin: https://evil.example\nCookie: a=b");
            assert_eq!(gateway.send(&request).said, said, "{method}");
        }
    }

    #[test]
    fn a_web_socket_of_a_stranger_is_refused() {
        let gateway = Gateway::of(&yaml("on"));
        let upgrade = "GET /\nConnection: upgrade\nUpgrade: WebSocket\nCookie: a=b\nOrigin:";
        assert_eq!(gateway.send(&format!("{upgrade} https://evil.example")).said, REFUSED);
        assert_eq!(gateway.send(&format!("{upgrade} http://api.example.com")).said, "pass");
    }

    #[test]
    fn what_no_browser_sends_passes() {
        let gateway = Gateway::of(&yaml("on"));
        assert_eq!(gateway.send("POST /\nAuthorization: Bearer x").said, "pass");
    }

    #[test]
    fn the_log_is_told_which_page_it_was() {
        let sent = Gateway::of(&yaml("on")).send("POST /\nOrigin: https://evil.example");
        assert_eq!(sent.cause.as_deref(), Some("it comes from a page of `https://evil.example`"));
    }

    #[test]
    fn a_list_that_lets_everybody_in_is_a_mistake() {
        for everybody in ["'*'", "'null'", "{ regex: .* }", "{ regex: 'https://.*' }"] {
            let said = problems(&yaml(&format!("{{ origins: [{everybody}] }}")));
            assert!(said.contains("so `csrf` refuses nobody"), "{everybody}: {said}");
        }
    }

    #[test]
    fn the_origin_of_a_url_ends_where_its_path_begins() {
        for (url, origin) in [
            ("https://a.example/b", "https://a.example"),
            ("https://a.example?b=/", "https://a.example"),
            ("https://a.example#b", "https://a.example"),
            ("https://a.example:8443", "https://a.example:8443"),
            ("/b", ""),
            ("", ""),
        ] {
            assert_eq!(origin_of(url.as_bytes()), origin.as_bytes(), "{url}");
        }
    }
}
