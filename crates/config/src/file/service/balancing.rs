//! `load_balancing`, as written, and the keys that requests are told apart by.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{Balancing, Key};
use crate::value::{Duration, FieldName, Invalid, closest, text_value};

/// A strategy that needs more than its name. Exactly one key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BalancingFile {
    /// The same key goes to the same endpoint, and few keys move when endpoints come and go.
    pub consistent_hash: Option<ConsistentHashFile>,
    /// A signed cookie keeps a client with its endpoint.
    pub sticky_cookie: Option<StickyCookieFile>,
}

/// The same key goes to the same endpoint, and few keys move when endpoints come and go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsistentHashFile {
    /// What of a request is the key.
    pub key: Option<KeyFile>,
}

/// A signed cookie keeps a client with its endpoint.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StickyCookieFile {
    /// The cookie's name.
    pub name: Option<CookieName>,
    /// What the cookie is signed with: the same on every gateway, and after a restart. Without it each start makes its own.
    pub secret: Option<String>,
    /// How long browsers keep it. Without it, as long as they run.
    pub max_age: Option<Duration>,
}

/// A strategy that its name says all about.
#[derive(Debug, Clone)]
pub(crate) struct StrategyFile(pub Balancing);

/// What of a request tells it apart from others.
#[derive(Debug, Clone)]
pub struct KeyFile(pub Key);

/// The name of a cookie.
#[derive(Debug, Clone)]
pub(crate) struct CookieName(pub std::sync::Arc<str>);

const STRATEGIES: [(&str, Balancing); 7] = [
    ("round_robin", Balancing::RoundRobin),
    ("weighted", Balancing::RoundRobin),
    ("least_connections", Balancing::LeastConnections),
    ("least_time", Balancing::LeastTime),
    ("p2c", Balancing::PowerOfTwo),
    ("random", Balancing::Random),
    ("ip_hash", Balancing::IpHash),
];

impl FromStr for StrategyFile {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = STRATEGIES.into_iter().find(|(name, _)| *name == text);
        if let Some((_, strategy)) = found {
            return Ok(Self(strategy));
        }
        let invalid = Invalid::new(format!("there is no strategy `{text}`"));
        let names = || STRATEGIES.iter().map(|(name, _)| *name);
        Err(match closest(text, names().chain(["consistent_hash", "sticky_cookie"])) {
            Some("consistent_hash") => {
                invalid.help("write `load_balancing: { consistent_hash: { key: \"header:x-user\" } }`")
            }
            Some("sticky_cookie") => {
                invalid.help("write `load_balancing: { sticky_cookie: { secret: \"${SECRET}\" } }`")
            }
            Some(close) => invalid.help(format!("did you mean `{close}`?")),
            None => {
                let names: Vec<String> = names().map(|name| format!("`{name}`")).collect();
                invalid.help(format!(
                    "there are {}, and with keys of their own `consistent_hash` and `sticky_cookie`",
                    names.join(", ")
                ))
            }
        })
    }
}

impl FromStr for Key {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const SYNTAX: &str = "write `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME` or `path:PARAMETER`";
        if text == "client_ip" {
            return Ok(Self::ClientIp);
        }
        let wrong = || Invalid::new(format!("`{text}` is no part of a request that can be a key")).help(SYNTAX);
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        let name = name.trim();
        if name.is_empty() {
            return Err(Invalid::new(format!("`{text}` has no name after the colon")).help(SYNTAX));
        }
        match kind {
            "header" => Ok(Self::Header(name.parse::<FieldName>()?.0)),
            "cookie" => Ok(Self::Cookie(name.parse::<CookieName>()?.0)),
            "query" => Ok(Self::Query(name.into())),
            "path" => Ok(Self::Path(name.into())),
            _ => Err(match closest(kind, ["header", "cookie", "query", "path"]) {
                Some(close) => Invalid::new(format!("`{text}` is no part of a request that can be a key"))
                    .help(format!("did you mean `{close}:{name}`?")),
                None => wrong(),
            }),
        }
    }
}

impl FromStr for KeyFile {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Self)
    }
}

impl FromStr for CookieName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // The names of cookies and of fields are tokens both.
        match http::HeaderName::from_bytes(text.as_bytes()) {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => Err(Invalid::new(format!("`{text}` cannot be the name of a cookie"))
                .help("names of cookies are letters, digits, `-` and `_`")),
        }
    }
}

text_value!(StrategyFile, "a strategy such as `least_connections`", {
    "type": "string",
    "enum": ["round_robin", "weighted", "least_connections", "least_time", "p2c", "random", "ip_hash"]
});
text_value!(KeyFile, "a key such as `header:x-user`", {
    "title": "key",
    "type": "string",
    "description": "A part of the request: `client_ip`, `header:NAME`, `cookie:NAME`, `query:NAME` or `path:PARAMETER`.",
    "pattern": "^(client_ip|(header|cookie|query|path):.+)$|\\$\\{",
    "examples": ["client_ip", "header:x-user", "cookie:session", "query:tenant", "path:id"]
});
text_value!(CookieName, "the name of a cookie", { "title": "cookie name", "type": "string" });
