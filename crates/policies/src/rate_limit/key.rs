//! What a limit counts by: parts of a request, and of whoever sent it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tidegate_config::config::Key as RequestKey;
use tidegate_config::value::{Invalid, PathPattern};
use tidegate_core::affinity;
use tidegate_core::exchange::Exchange;
use tidegate_core::identity::Identity;

/// One part of what is counted by: `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path:PARAMETER`, `identity`,
/// `identity.tenant` or `claims.NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(crate) enum Part {
    /// A part of the request.
    Request(RequestKey),
    /// Whoever was authenticated: the way, and the user.
    Identity,
    /// Their tenant.
    Tenant,
    /// Something that their proof says, by the names on the way to it.
    Claim(Vec<Arc<str>>),
}

/// How many bits of an address tell clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefixes {
    pub(crate) v4: u8,
    pub(crate) v6: u8,
}

/// What one request is counted by. It hashes like every other request with the same parts.
pub(crate) struct Counted<'a> {
    pub(crate) parts: &'a [Part],
    pub(crate) prefixes: Prefixes,
    pub(crate) exchange: &'a Exchange,
    pub(crate) pattern: &'a PathPattern,
}

impl FromStr for Part {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "identity" | "identity.user" => return Ok(Self::Identity),
            "identity.tenant" => return Ok(Self::Tenant),
            _ => {}
        }
        if let Some(names) = text.strip_prefix("claims.") {
            let names: Vec<Arc<str>> = names.split('.').map(Arc::from).collect();
            if names.iter().any(|name| name.is_empty()) {
                return Err(Invalid::new(format!("`{text}` has an empty name")).help("write `claims.NAME`"));
            }
            return Ok(Self::Claim(names));
        }
        let wrong = |invalid: Invalid| {
            let also = "there are also `identity`, `identity.tenant` and `claims.NAME`";
            let help = invalid.help.map_or_else(|| also.to_owned(), |help| format!("{help}; {also}"));
            Invalid { message: invalid.message, help: Some(help) }
        };
        text.parse().map(Self::Request).map_err(wrong)
    }
}

impl TryFrom<String> for Part {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
            .map_err(|Invalid { message, help }| help.map_or(message.clone(), |help| format!("{message}: {help}")))
    }
}

impl Part {
    /// Whether it is known only once the caller is.
    pub(crate) fn needs_identity(&self) -> bool {
        !matches!(self, Self::Request(_))
    }

    /// What the request has, for people; what is not text is shown as well as it can be.
    fn value(&self, counted: &Counted<'_>) -> Option<String> {
        let identity = counted.exchange.identity.as_deref();
        match self {
            Self::Request(RequestKey::ClientIp) => Some(counted.network().to_string()),
            Self::Request(key) => affinity::with_value(key, counted.exchange, counted.pattern, |value| {
                String::from_utf8_lossy(value).into_owned()
            }),
            Self::Identity => {
                let identity = identity?;
                Some(format!("{} of `{}`", identity.user.as_ref()?, identity.way))
            }
            Self::Tenant => identity?.tenant.as_deref().map(str::to_owned),
            Self::Claim(names) => match claim(identity?, names)? {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    Some(other.to_string())
                }
            },
        }
    }

    fn hash_of<H: Hasher>(&self, counted: &Counted<'_>, state: &mut H) -> Option<()> {
        let mut write = |value: &[u8]| value.hash(state);
        match self {
            Self::Request(RequestKey::ClientIp) => {
                hash_address(counted, state);
                Some(())
            }
            Self::Request(key) => affinity::with_value(key, counted.exchange, counted.pattern, write),
            Self::Identity => {
                let identity = counted.exchange.identity.as_ref()?;
                let user = identity.user.as_ref()?;
                write(identity.way.as_bytes());
                write(user.as_bytes());
                Some(())
            }
            Self::Tenant => counted.exchange.identity.as_ref()?.tenant.as_ref().map(|tenant| write(tenant.as_bytes())),
            Self::Claim(names) => match claim(counted.exchange.identity.as_deref()?, names)? {
                Value::Null => None,
                Value::String(text) => {
                    write(text.as_bytes());
                    Some(())
                }
                other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                    write(other.to_string().as_bytes());
                    Some(())
                }
            },
        }
    }
}

/// What it is counted by, in words for operators: `by client_ip 192.0.2.1`.
impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return f.write_str("all together");
        }
        for (number, part) in self.parts.iter().enumerate() {
            write!(f, "{} {part}", if number == 0 { "by" } else { " and" })?;
            match part.value(self) {
                Some(value) => write!(f, " {value}")?,
                // Nobody has found out yet who it is.
                None if part.needs_identity() && self.exchange.identity.is_none() => {}
                None => write!(f, ", which is not there, so by address {}", self.network())?,
            }
        }
        Ok(())
    }
}

impl Counted<'_> {
    /// The client's address, as far as it tells clients apart.
    fn network(&self) -> IpAddr {
        let Prefixes { v4, v6 } = self.prefixes;
        match self.exchange.client.to_canonical() {
            IpAddr::V4(address) => {
                IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(32 - u32::from(v4)).unwrap_or(0)).into())
            }
            IpAddr::V6(address) => {
                IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(128 - u32::from(v6)).unwrap_or(0)).into())
            }
        }
    }
}

/// As it is written.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(RequestKey::ClientIp) => f.write_str("client_ip"),
            Self::Request(RequestKey::Header(name)) => write!(f, "header:{name}"),
            Self::Request(RequestKey::Cookie(name)) => write!(f, "cookie:{name}"),
            Self::Request(RequestKey::Query(name)) => write!(f, "query:{name}"),
            Self::Request(RequestKey::Path(name)) => write!(f, "path:{name}"),
            Self::Identity => f.write_str("identity"),
            Self::Tenant => f.write_str("identity.tenant"),
            Self::Claim(names) => write!(f, "claims.{}", names.join(".")),
        }
    }
}

impl Hash for Counted<'_> {
    /// Whoever has not what is counted by counts by their address: leaving a field out is no way around a limit.
    fn hash<H: Hasher>(&self, state: &mut H) {
        for (number, part) in self.parts.iter().enumerate() {
            state.write_usize(number);
            if part.hash_of(self, state).is_none() {
                state.write_u8(0);
                hash_address(self, state);
            }
        }
    }
}

fn claim<'i>(identity: &'i Identity, names: &[Arc<str>]) -> Option<&'i Value> {
    names.iter().try_fold(&identity.claims, |value, name| value.get(&**name))
}

/// A client with IPv6 has a whole network of addresses to choose from.
fn hash_address<H: Hasher>(counted: &Counted<'_>, state: &mut H) {
    match counted.network() {
        IpAddr::V4(address) => state.write_u32(address.to_bits()),
        IpAddr::V6(address) => state.write_u128(address.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read() {
        for (text, part) in [
            ("client_ip", Part::Request(RequestKey::ClientIp)),
            ("header:X-User", Part::Request(RequestKey::Header("x-user".into()))),
            ("identity", Part::Identity),
            ("identity.user", Part::Identity),
            ("identity.tenant", Part::Tenant),
            ("claims.org.id", Part::Claim(vec!["org".into(), "id".into()])),
        ] {
            assert_eq!(text.parse(), Ok(part), "{text}");
        }
        for text in ["", "ip", "claims.", "claims.a..b", "header:", "identity.roles"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }
}
