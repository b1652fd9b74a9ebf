//! What requests say about the browser that they come from: whether somebody has opened a page, which page it was, and how the gateway is
//! called from there.

use http::Method;
use tidegate_core::exchange::Exchange;
use tidegate_http1::{Known, authority};

use crate::csrf::is_own;
use crate::origins::without_default_port;

/// Whether somebody wants to see a page, who can be led elsewhere.
pub(super) fn is_navigation(exchange: &Exchange) -> bool {
    matches!(exchange.head.method, Method::GET | Method::HEAD) && is_for_eyes(exchange)
}

/// Whether somebody looks at what is answered. What scripts ask for is never meant: a redirect to a provider would do them no good (Fetch, 4.4).
pub(super) fn is_for_eyes(exchange: &Exchange) -> bool {
    let fields = &exchange.head.fields;
    match fields.single(Known::SecFetchMode) {
        _ if fields.contains("x-requested-with") => false,
        Ok(Some(mode)) => mode == b"navigate",
        Ok(None) => fields.values(Known::Accept).any(takes_pages),
        Err(_) => false,
    }
}

/// Whether `Accept` names HTML. Wildcards do not: that is what programs send.
fn takes_pages(accept: &[u8]) -> bool {
    accept.split(|&byte| byte == b',').any(|range| {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"));
        is_html && !parts.any(|part| matches!(part, b"q=0" | b"Q=0" | b"q=0.0"))
    })
}

/// Whether the request was made by a page of this host or by somebody's own hand. A page of a stranger can make a browser send one too, but
/// not without saying so.
pub(super) fn is_own_wish(exchange: &Exchange) -> bool {
    let fields = &exchange.head.fields;
    match (fields.single(Known::SecFetchSite), fields.single(Known::Origin)) {
        (Ok(Some(site)), Ok(_)) => matches!(site, b"same-origin" | b"none"),
        (Ok(None), Ok(Some(origin))) => is_own(origin, exchange),
        // Old browsers and programs. A `POST` of a stranger would say its origin; a picture would not.
        (Ok(None), Ok(None)) => exchange.head.method == Method::POST,
        _ => false,
    }
}

/// How the browser calls the gateway: `https://app.example.com`; `None` where it does not.
pub(super) fn own_origin(exchange: &Exchange) -> Option<String> {
    let scheme = exchange.scheme.as_str();
    let authority = authority(&exchange.head).ok()??.to_ascii_lowercase();
    Some(format!("{scheme}://{}", without_default_port(scheme, &authority)))
}

/// Bytes of a path and query to which somebody comes back.
const MOST_TARGET: usize = 1024;

/// Where somebody comes back to: what was asked for, if it is a path of this host that is not too long, and otherwise `/`.
pub(super) fn own_target(exchange: &Exchange) -> String {
    let (path, query) = (exchange.asked_path(), exchange.asked_query());
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    if is_own_target(&target) { target } else { "/".to_owned() }
}

/// Whether a browser takes it for a path of the same host, whatever it makes of slashes (URL, 4.4).
pub(super) fn is_own_target(target: &str) -> bool {
    let leads_away = target.starts_with("//") || target.contains('\\');
    target.len() <= MOST_TARGET
        && target.starts_with('/')
        && !leads_away
        && target.bytes().all(|byte| byte.is_ascii_graphic())
}
