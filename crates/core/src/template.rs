//! Templates of the configuration, filled in from a request. Where the text goes decides how values are written: what a client
//! sent never becomes a separator of a URL or a line break of a field.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;
use tidegate_config::config::Route;
use tidegate_config::value::{PathPattern, Template, TemplatePart, Variable};

use crate::client::Scheme;
use crate::exchange::Exchange;
use crate::identity::Identity;
use crate::path::push_encoded;
use crate::query;
use crate::rejection::Rejection;
use crate::route::{Head, Params};

/// What templates may take from a request.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The request as it was routed.
    pub head: Head<'a>,
    /// The scheme that the client used.
    pub scheme: Scheme,
    /// The request's identifier.
    pub request_id: &'a str,
    /// The path condition of the route that was taken.
    pub pattern: &'a PathPattern,
    /// What it found in the path.
    pub params: &'a Params,
    /// Who sent the request, if they have proved it.
    pub identity: Option<&'a Identity>,
}

impl<'a> Facts<'a> {
    /// What an exchange that took this route has to say.
    pub fn of(exchange: &'a Exchange, route: &'a Route) -> Self {
        Self {
            head: Head::of(exchange),
            scheme: exchange.scheme,
            request_id: exchange.request_id.as_str(),
            pattern: &route.matches.path,
            params: &exchange.params,
            identity: exchange.identity.as_deref(),
        }
    }
}

/// The text of a filled-in template has a control character, which could end the field that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlCharacter {
    /// The template as written.
    pub template: String,
}

impl fmt::Display for ControlCharacter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the template `{}` would put a control character into a field", self.template)
    }
}

impl std::error::Error for ControlCharacter {}

/// Never sent, so the gateway has nothing to say: 500, and the log says why.
impl From<ControlCharacter> for Rejection {
    fn from(error: ControlCharacter) -> Self {
        Self::internal(error.to_string())
    }
}

/// The text for a field or a host: values are decoded, absent ones empty.
pub fn text(template: &Template, facts: &Facts<'_>) -> Result<String, ControlCharacter> {
    let mut out = String::with_capacity(template.source.len() + 32);
    for part in &template.parts {
        match part {
            TemplatePart::Literal(literal) => out.push_str(literal),
            TemplatePart::Value(variable) => out.push_str(&decoded(variable, facts)),
        }
    }
    if out.chars().any(char::is_control) {
        return Err(ControlCharacter { template: template.source.to_string() });
    }
    Ok(out)
}

/// The text for a URL or a part of one. Literals are copied. What already is a part of a URL (the path and what was found in it,
/// the query, the host) stays as it is where it belongs; every other value is percent-encoded as one component.
pub fn url(template: &Template, facts: &Facts<'_>) -> String {
    let mut out = String::with_capacity(template.source.len() + 64);
    let mut in_query = false;
    for part in &template.parts {
        match part {
            TemplatePart::Literal(literal) => {
                in_query |= literal.contains('?');
                push_literal(literal, &mut out);
            }
            TemplatePart::Value(variable) => push_value(variable, facts, in_query, &mut out),
        }
    }
    out
}

/// Characters that no URL may hold are percent-encoded; the others are what the operator meant.
fn push_literal(literal: &str, out: &mut String) {
    for byte in literal.bytes() {
        match byte {
            0x21..=0x7e => out.push(char::from(byte)),
            _ => push_encoded(byte, out),
        }
    }
}

fn push_value(variable: &Variable, facts: &Facts<'_>, in_query: bool, out: &mut String) {
    match (variable, in_query) {
        (Variable::Path(name), false) => out.push_str(param(name, facts)),
        (Variable::RequestPath, false) => out.push_str(facts.head.path),
        (Variable::RequestQuery, true) => out.push_str(facts.head.query),
        (Variable::RequestHost, _) => out.push_str(facts.head.host),
        (Variable::RequestScheme, _) => out.push_str(facts.scheme.as_str()),
        // Colons of IPv6 may stand in paths and queries.
        (Variable::ClientIp, _) => out.push_str(&facts.head.client_ip.to_string()),
        _ => query::encode(decoded(variable, facts).as_bytes(), out),
    }
}

/// A value as plain text; empty when the request does not have it.
fn decoded<'a>(variable: &Variable, facts: &Facts<'a>) -> Cow<'a, str> {
    let Facts { head, identity, .. } = facts;
    match variable {
        Variable::Path(name) => query::unescape(param(name, facts)),
        Variable::Query(name) => {
            let first = query::values(head.query, name).next();
            first.map_or(Cow::Borrowed(""), |value| value.into_owned().into())
        }
        Variable::Header(name) => String::from_utf8_lossy(head.fields.value(&**name).unwrap_or_default()),
        Variable::Cookie(name) => {
            let first = query::cookies(head.fields, name).next().map(String::from_utf8_lossy);
            first.map_or(Cow::Borrowed(""), |value| value.into_owned().into())
        }
        Variable::Claim(names) => {
            let claim = identity.and_then(|identity| identity.claim(names.iter().map(|name| &**name)));
            claim.map_or(Cow::Borrowed(""), claim_text)
        }
        Variable::User => identity.and_then(|identity| identity.user.as_deref()).unwrap_or_default().into(),
        Variable::Tenant => identity.and_then(|identity| identity.tenant.as_deref()).unwrap_or_default().into(),
        Variable::ClientIp => head.client_ip.to_string().into(),
        Variable::RequestId => facts.request_id.into(),
        Variable::RequestPath => head.path.into(),
        Variable::RequestHost => head.host.into(),
        Variable::RequestMethod => head.method.as_str().into(),
        Variable::RequestScheme => facts.scheme.as_str().into(),
        Variable::RequestQuery => head.query.into(),
    }
}

/// A text as it is, nothing for `null`, and all else as JSON.
fn claim_text(claim: &Value) -> Cow<'_, str> {
    match claim {
        Value::Null => "".into(),
        Value::String(text) => text.into(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => claim.to_string().into(),
    }
}

fn param<'a>(name: &str, facts: &Facts<'a>) -> &'a str {
    facts.params.value(facts.pattern, name, facts.head.path).unwrap_or_default()
}
