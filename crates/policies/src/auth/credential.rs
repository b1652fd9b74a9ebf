//! Where a request may show a credential, and how it is taken away again.

use std::sync::Arc;

use tidegate_config::config::Key;
use tidegate_config::policy::{KeyFile, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_core::exchange::Exchange;
use tidegate_core::query;
use tidegate_http1::Known;

/// A part of a request that may be a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A field of this name.
    Header(Arc<str>),
    /// A cookie of this name.
    Cookie(Arc<str>),
    /// A query parameter of this name, which no log shows.
    Query(Arc<str>),
}

impl Credential {
    /// What is meant by the list that stands at `at`.
    pub(crate) fn read(places: &[KeyFile], at: &Path, reading: &mut Reading<'_, '_>) -> Vec<Self> {
        let mut found = Vec::with_capacity(places.len());
        for (position, KeyFile(key)) in places.iter().enumerate() {
            let at = reading.item(at, position);
            match key {
                Key::Header(name) => found.push(Self::Header(Arc::clone(name))),
                Key::Cookie(name) => found.push(Self::Cookie(Arc::clone(name))),
                Key::Query(name) if query::is_credential(name) => found.push(Self::Query(Arc::clone(name))),
                Key::Query(name) => {
                    let problem = Problem::error(at, format!("logs would show the query parameter `{name}`"));
                    let known = query::CREDENTIALS.map(|name| format!("`{name}`")).join(", ");
                    reading.report(problem.help(format!("they hide {known}")));
                }
                Key::ClientIp | Key::Path(_) => {
                    let problem = Problem::error(at, "that is no place for a credential");
                    reading.report(problem.help("write `header:NAME`, `cookie:NAME` or `query:NAME`"));
                }
            }
        }
        found
    }

    /// Tells `each` all that the request shows here.
    pub(crate) fn visit(&self, exchange: &Exchange, mut each: impl FnMut(&[u8])) {
        let fields = &exchange.head.fields;
        match self {
            Self::Header(name) => fields.values(&**name).for_each(each),
            Self::Cookie(name) => query::cookies(fields, name).for_each(each),
            Self::Query(name) => query::values(exchange.query(), name).for_each(|value| each(value.as_bytes())),
        }
    }

    /// Takes it out of what the service will see.
    pub(crate) fn remove(&self, exchange: &mut Exchange) {
        match self {
            Self::Header(name) => {
                exchange.head.fields.remove(&**name);
            }
            Self::Cookie(name) => remove_cookies(exchange, |cookie| cookie == name.as_bytes()),
            Self::Query(name) => remove_parameter(exchange, name),
        }
    }
}

/// There is more than one `Authorization` field, so nobody knows which of them counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Several;

/// What follows this scheme in the `Authorization` field; `None` where there is another scheme. The scheme's case does not matter (RFC
/// 9110, 11.1).
pub(crate) fn authorization<'e>(exchange: &'e Exchange, scheme: &str) -> Result<Option<&'e [u8]>, Several> {
    let mut values = exchange.head.fields.values(Known::Authorization);
    let (Some(value), None) = (values.next(), values.next()) else {
        return if exchange.head.fields.contains(Known::Authorization) { Err(Several) } else { Ok(None) };
    };
    let mut parts = value.splitn(2, |byte| *byte == b' ');
    let is_meant = parts.next().is_some_and(|found| found.eq_ignore_ascii_case(scheme.as_bytes()));
    Ok(is_meant.then(|| parts.next().unwrap_or_default().trim_ascii()))
}

/// Takes all cookies out whose name is meant by `is_meant`. If there are none, nothing is changed.
pub(super) fn remove_cookies(exchange: &mut Exchange, is_meant: impl Fn(&[u8]) -> bool) {
    let fields = &mut exchange.head.fields;
    let is_meant = |pair: &&[u8]| is_meant(query::split_cookie(pair).0);
    if !query::cookie_pairs(fields).any(|pair| is_meant(&pair)) {
        return;
    }
    let kept = query::cookie_pairs(fields).filter(|pair| !is_meant(pair)).collect::<Vec<_>>().join(&b"; "[..]);
    fields.remove(Known::Cookie);
    if !kept.is_empty() {
        // Cannot fail: it is made of field values.
        fields.append(Known::Cookie, &kept).ok();
    }
}

fn remove_parameter(exchange: &mut Exchange, name: &str) {
    if query::values(exchange.query(), name).next().is_none() {
        return;
    }
    let is_other = |pair: &&str| query::decode(pair.split('=').next().unwrap_or_default()) != name;
    let kept = exchange.query().split('&').filter(is_other).collect::<Vec<_>>().join("&");
    let path = exchange.path();
    let (length, question) = (path.len(), if kept.is_empty() { "" } else { "?" });
    let target = format!("{path}{question}{kept}");
    exchange.rewrite(target, length);
}
