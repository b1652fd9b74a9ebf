//! What an expression may ask about: the names of all variables, and where their values come from.

use std::fmt;
use std::slice::from_ref;
use std::sync::Arc;

use serde_json::Number;
use tidegate_config::value::{FieldName, Invalid, closest};

use super::Scope;
use super::parse::is_name_byte;
use super::value::{List, Value};
use crate::identity::Identity;
use crate::query;

/// A variable of an expression. Those of an identity have no value while nobody has proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// `identity.user`.
    User,
    /// `identity.roles`: a list.
    Roles,
    /// `identity.permissions`: a list.
    Permissions,
    /// `identity.scopes`: a list.
    Scopes,
    /// `identity.tenant`.
    Tenant,
    /// `claims.NAME`, and what lies in it: `claims.NAME.NAME`.
    Claim(Vec<Arc<str>>),
    /// `path.NAME`: a parameter of the route's path, decoded; `rest` is also what follows a prefix or stands for its `*`.
    Path(Arc<str>),
    /// `query.NAME`: all parameters of that name, decoded.
    Query(Arc<str>),
    /// `header.NAME`, lower case: all fields of that name.
    Header(Arc<str>),
    /// `cookie.NAME`: all cookies of that name.
    Cookie(Arc<str>),
    /// `method`.
    Method,
    /// `host`: lower case, without a port.
    Host,
    /// `request.path`: the canonical path.
    RequestPath,
    /// `client_ip`: the client's address, after trusted proxies.
    ClientIp,
    /// `scheme`: `http` or `https`.
    Scheme,
    /// `now`: seconds since 1970.
    Now,
}

/// Every variable without a name of its own.
const FIXED: [(&str, Variable); 11] = [
    ("identity.user", Variable::User),
    ("identity.roles", Variable::Roles),
    ("identity.permissions", Variable::Permissions),
    ("identity.scopes", Variable::Scopes),
    ("identity.tenant", Variable::Tenant),
    ("method", Variable::Method),
    ("host", Variable::Host),
    ("request.path", Variable::RequestPath),
    ("client_ip", Variable::ClientIp),
    ("scheme", Variable::Scheme),
    ("now", Variable::Now),
];

const FAMILIES: [&str; 5] = ["claims", "path", "query", "header", "cookie"];

impl Variable {
    /// Whether it has a value only if somebody has proved who they are.
    pub fn needs_identity(&self) -> bool {
        matches!(self, Self::User | Self::Roles | Self::Permissions | Self::Scopes | Self::Tenant | Self::Claim(_))
    }

    /// The first word of a variable with names of its own, and the names.
    fn named(&self) -> (&'static str, &[Arc<str>]) {
        match self {
            Self::Claim(names) => ("claims", names),
            Self::Path(name) => ("path", from_ref(name)),
            Self::Query(name) => ("query", from_ref(name)),
            Self::Header(name) => ("header", from_ref(name)),
            Self::Cookie(name) => ("cookie", from_ref(name)),
            Self::User
            | Self::Roles
            | Self::Permissions
            | Self::Scopes
            | Self::Tenant
            | Self::Method
            | Self::Host
            | Self::RequestPath
            | Self::ClientIp
            | Self::Scheme
            | Self::Now => ("", &[]),
        }
    }

    /// The variable that is `written` so, of which `names` are what follows its first word.
    pub(super) fn of(written: &str, first: &str, mut names: Vec<Arc<str>>) -> Result<Self, Invalid> {
        if let Some((_, variable)) = FIXED.iter().find(|(name, _)| *name == written) {
            return Ok(variable.clone());
        }
        if first == "claims" && !names.is_empty() {
            return Ok(Self::Claim(names));
        }
        let Some(name) = names.pop().filter(|_| names.is_empty()) else { return Err(unknown(written)) };
        match first {
            "path" => Ok(Self::Path(name)),
            "query" => Ok(Self::Query(name)),
            "cookie" => Ok(Self::Cookie(name)),
            "header" => Ok(Self::Header(name.parse::<FieldName>()?.0)),
            _ => Err(unknown(written)),
        }
    }

    /// Its value, without an allocation unless something must be decoded or there are several.
    pub(super) fn read<'a>(&'a self, scope: &Scope<'a>) -> Value<'a> {
        let exchange = scope.exchange;
        let identity = exchange.identity.as_deref();
        let list = |pick: fn(&Identity) -> &[Arc<str>]| {
            identity.map_or(Value::Absent, |identity| Value::List(List::Texts(pick(identity))))
        };
        match self {
            Self::User => Value::optional(identity.and_then(|identity| identity.user.as_deref())),
            Self::Tenant => Value::optional(identity.and_then(|identity| identity.tenant.as_deref())),
            Self::Roles => list(|identity| &identity.roles),
            Self::Permissions => list(|identity| &identity.permissions),
            Self::Scopes => list(|identity| &identity.scopes),
            Self::Claim(names) => {
                let claim = identity.and_then(|identity| identity.claim(names.iter().map(|name| &**name)));
                claim.map_or(Value::Absent, Value::of)
            }
            Self::Path(name) => {
                let value = exchange.params.value(scope.pattern, name, exchange.asked_path());
                value.map_or(Value::Absent, |value| Value::Text(query::unescape(value)))
            }
            Self::Query(name) => Value::all(query::values(exchange.asked_query(), name)),
            Self::Header(name) => Value::all(exchange.head.fields.values(&**name).map(String::from_utf8_lossy)),
            Self::Cookie(name) => Value::all(query::cookies(&exchange.head.fields, name).map(String::from_utf8_lossy)),
            Self::Method => Value::text(exchange.head.method.as_str()),
            Self::Host => Value::text(&exchange.host),
            Self::RequestPath => Value::text(exchange.asked_path()),
            Self::ClientIp => Value::Address(exchange.client.to_canonical()),
            Self::Scheme => Value::text(exchange.scheme.as_str()),
            Self::Now => Value::Number(Number::from(scope.now.as_secs())),
        }
    }
}

fn unknown(written: &str) -> Invalid {
    let invalid = Invalid::new(format!("there is no variable `{written}`"));
    if FAMILIES.contains(&written) {
        return invalid.help(format!("write which one: `{written}.NAME`"));
    }
    if let Some((first, name)) = written.split_once('.')
        && let Some(family) = closest(first, FAMILIES)
    {
        let meant = if family == first { format!("{family}[\"{name}\"]") } else { format!("{family}.{name}") };
        return invalid.help(format!("did you mean `{meant}`?"));
    }
    let last = |name: &str| name.rsplit('.').next() == written.rsplit('.').next();
    let names = || FIXED.iter().map(|(name, _)| *name);
    match names().find(|name| last(name)).or_else(|| closest(written, names())) {
        Some(name) => invalid.help(format!("did you mean `{name}`?")),
        None => invalid.help(format!(
            "there are {}, and claims.NAME, path.NAME, query.NAME, header.NAME, cookie.NAME; texts stand in quotes",
            FIXED.map(|(name, _)| name).join(", ")
        )),
    }
}

/// As it is written.
impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = FIXED.iter().find(|(_, variable)| variable == self) {
            return f.write_str(name);
        }
        let (family, names) = self.named();
        f.write_str(family)?;
        for name in names {
            if !name.is_empty() && name.bytes().all(is_name_byte) {
                write!(f, ".{name}")?;
            } else {
                write!(f, "[\"{}\"]", name.replace('"', "\"\""))?;
            }
        }
        Ok(())
    }
}
