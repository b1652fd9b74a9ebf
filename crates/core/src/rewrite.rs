//! What the service sees instead of what the client asked for, and where redirects lead. The outcome is checked like a client's
//! own request: a rewritten path that would have another canonical spelling is refused, never repaired.

use std::sync::Arc;

use tidegate_config::config::{PathRewrite, Rewrite, Route};
use tidegate_config::value::Template;
use tidegate_http1::{NameRef, is_authority};

use crate::exchange::Exchange;
use crate::forward::{self, Forwarding, Told};
use crate::path::canonicalize;
use crate::query;
use crate::rejection::{Rejection, RejectionKind};
use crate::template::{self, Facts};

/// Makes the head that a client sent the one that the route's service gets: rewritten, and with what the gateway says itself.
/// `request_id` names the field of the request's identifier; `told` is of what services were told before. Returns the upgrade that is asked for, if the route allows it.
///
/// # Errors
/// What [`apply`] refuses, and what the gateway would tell the service and cannot be sent.
pub fn outgoing<'a, 'n>(
    exchange: &mut Exchange,
    route: &'a Route,
    request_id: impl Into<NameRef<'n>>,
    told: &Told,
) -> Result<Option<&'a str>, Rejection> {
    let upgrade = forward::upgrade_requested(&exchange.head, &route.upgrade);
    let host = apply(exchange, route)?;
    forward::request(
        &mut exchange.head,
        &Forwarding {
            peer: &exchange.peer,
            client: exchange.client,
            scheme: exchange.scheme,
            host: host.as_deref(),
            request_id: (request_id.into(), exchange.request_id.as_str()),
            upgrade,
            told,
        },
    );
    // Last of all, so that no `Connection` field of the client's can name them.
    for (name, value) in std::mem::take(&mut exchange.told) {
        let told = exchange.head.fields.set(&*name, &value);
        told.map_err(|_| Rejection::internal(format!("`{name}` would have held control characters")))?;
    }
    Ok(upgrade)
}

/// Rewrites an exchange's target by its route's rules, and gives the host that the service sees instead of the client's, for
/// [`crate::forward::Forwarding::host`].
pub fn apply(exchange: &mut Exchange, route: &Route) -> Result<Option<String>, Rejection> {
    let facts = Facts::of(exchange, route);
    let host = host(&route.rewrite, &facts)?;
    if let Some((target, path_length)) = target(&route.rewrite, &facts)? {
        exchange.rewrite(target, path_length);
    }
    Ok(host)
}

/// The rewritten target and the length of its path; `None` where the rules leave it as it is.
pub fn target(rules: &Rewrite, facts: &Facts<'_>) -> Result<Option<(String, usize)>, Rejection> {
    if rules.path.is_none() && rules.query_set.is_empty() && rules.query_remove.is_empty() {
        return Ok(None);
    }
    let path = rules.path.as_ref().map_or_else(|| facts.head.path.to_owned(), |rule| path(rule, facts));
    let (path, own_query) = path.split_once('?').map_or((&*path, None), |(path, query)| (path, Some(query)));
    let query = rewrite_query(rules, own_query.unwrap_or(facts.head.query), facts)?;
    let written = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut target = written.clone();
    match canonicalize(&mut target) {
        Ok(length) if target == written => Ok(Some((target, length))),
        Ok(_) => Err(ambiguous(&written, "it has another canonical spelling")),
        Err(problem) => Err(ambiguous(&written, &problem.to_string())),
    }
}

/// The host that the service sees; `None` keeps the client's.
pub fn host(rules: &Rewrite, facts: &Facts<'_>) -> Result<Option<String>, Rejection> {
    let Some(rule) = &rules.host else { return Ok(None) };
    let host = template::text(rule, facts)?;
    if !is_authority(&host) {
        return Err(Rejection::internal(format!("the rewrite of the host gave {host:?}, which is no host")));
    }
    Ok(Some(host))
}

/// Where a redirect leads: the value of `Location`. The client's query is kept unless the template has one of its own; a fragment comes
/// last (RFC 3986, 3.5).
pub fn location(to: &Template, facts: &Facts<'_>) -> String {
    let mut location = template::url(to, facts);
    if !facts.head.query.is_empty() && !to.source.contains('?') {
        let end = location.find('#').unwrap_or(location.len());
        location.insert_str(end, facts.head.query);
        location.insert(end, '?');
    }
    location
}

/// Where a request on a listener with `http_to_https` is sent: the same host and target on the standard port.
pub fn https_location(host: &str, target: &str) -> String {
    format!("https://{host}{target}")
}

/// A path, with a query if the template has one.
fn path(rule: &PathRewrite, facts: &Facts<'_>) -> String {
    match rule {
        PathRewrite::StripPrefix(prefix) => strip_prefix(facts.head.path, prefix).to_owned(),
        PathRewrite::Replace(template) => template::url(template, facts),
    }
}

/// What follows the prefix, by segments; a path that does not begin with it stays as it is.
fn strip_prefix<'p>(path: &'p str, prefix: &str) -> &'p str {
    match path.strip_prefix(prefix.trim_end_matches('/')) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) | None => path,
    }
}

/// Parameters that are set replace the first of their name, in its place; new ones follow.
fn rewrite_query(rules: &Rewrite, query: &str, facts: &Facts<'_>) -> Result<String, Rejection> {
    if rules.query_set.is_empty() && rules.query_remove.is_empty() {
        return Ok(query.to_owned());
    }
    let mut new = String::with_capacity(query.len() + 64);
    let mut written = vec![false; rules.query_set.len()];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = query::decode(pair.split_once('=').map_or(pair, |(name, _)| name));
        let set = rules.query_set.iter().position(|(other, _)| **other == *name);
        match set.and_then(|at| Some((rules.query_set.get(at)?, written.get_mut(at)?))) {
            Some((parameter, written)) => {
                if !std::mem::replace(written, true) {
                    push_parameter(parameter, facts, &mut new)?;
                }
            }
            None if rules.query_remove.iter().any(|removed| **removed == *name) => {}
            None => push_pair(pair, &mut new),
        }
    }
    for (parameter, _) in rules.query_set.iter().zip(written).filter(|(_, written)| !written) {
        push_parameter(parameter, facts, &mut new)?;
    }
    Ok(new)
}

fn push_parameter(
    (name, value): &(Arc<str>, Template),
    facts: &Facts<'_>,
    query: &mut String,
) -> Result<(), Rejection> {
    let value = template::text(value, facts)?;
    push_pair("", query);
    query::encode(name.as_bytes(), query);
    query.push('=');
    query::encode(value.as_bytes(), query);
    Ok(())
}

fn push_pair(pair: &str, query: &mut String) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(pair);
}

fn ambiguous(written: &str, why: &str) -> Rejection {
    let text = "The request cannot be rewritten to an unambiguous path";
    Rejection::new(RejectionKind::BadRequest, "rewrite_ambiguous", text).cause(format!("{written:?}: {why}"))
}
