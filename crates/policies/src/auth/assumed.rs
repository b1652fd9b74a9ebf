//! Callers as somebody writes them down who asks what would become of their requests. Nobody has proved anything here: it is for
//! answers to such questions, and no request is served by it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use tidegate_config::Config;
use tidegate_config::config::Route;
use tidegate_config::value::RequestRate;
use tidegate_core::identity::Identity;
use tidegate_core::limiter::Limit;

use super::mapping::{Mapping, MappingFile};
use super::{Asked, Auth, Ways};
use crate::policy::Policy;

/// A caller who was written down.
#[derive(Debug)]
pub struct Assumed {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// How the text was read, in words.
    pub reading: Reading,
}

/// How a caller was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// As an identity.
    Identity,
    /// As the claims of a token, which this way maps; `None` is the mapping of a way that says nothing about it.
    Claims(Option<Arc<str>>),
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity => f.write_str("an identity"),
            Self::Claims(Some(way)) => write!(f, "claims, as `{way}` maps them"),
            Self::Claims(None) => f.write_str("claims, mapped as they are by default"),
        }
    }
}

/// An identity as written: all that a way can find out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    way: Option<String>,
    user: Option<String>,
    roles: Vec<Arc<str>>,
    permissions: Vec<Arc<str>>,
    scopes: Vec<Arc<str>>,
    tenant: Option<String>,
    /// In seconds since 1970.
    expires: Option<u64>,
    claims: Value,
    /// Such as `10/s`.
    rate: Option<String>,
}

const KEYS: [&str; 9] = ["way", "user", "roles", "permissions", "scopes", "tenant", "expires", "claims", "rate"];

/// The caller whom `object` describes, on this route. An object that has only the keys of an identity is one; any other one is the
/// claims of a token, as the first of the route's ways maps them that is shown claims.
///
/// # Errors
/// What is wrong with the object.
pub fn assumed(config: &Config, route: &Route, object: Map<String, Value>) -> Result<Assumed, String> {
    let names: Vec<&str> = Asked::of(route).into_iter().flat_map(Asked::names).collect();
    let first = names.first().copied().unwrap_or_default();
    if object.keys().all(|key| KEYS.contains(&&**key)) {
        let written: Written = serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())?;
        let identity = Arc::new(written.identity(first)?);
        return Ok(Assumed { identity, reading: Reading::Identity });
    }
    let written = config.policies.iter().find(|written| written.key == Auth::KEY);
    let ways: Vec<_> = written.and_then(|written| written.meaning::<Ways>()).into_iter().flatten().collect();
    let mapped = names.iter().find_map(|name| {
        let (name, _, meant) = ways.iter().find(|(known, ..)| **known == **name)?;
        Some((name, meant.mapping()?))
    });
    let expires = object.get("exp").and_then(Value::as_u64).map(Duration::from_secs);
    Ok(match mapped {
        Some((way, mapping)) => Assumed {
            identity: Arc::new(mapping.identity(way, object, expires)),
            reading: Reading::Claims(Some(Arc::clone(way))),
        },
        None => Assumed {
            identity: Arc::new(Mapping::from(MappingFile::default()).identity(&first.into(), object, expires)),
            reading: Reading::Claims(None),
        },
    })
}

impl Written {
    fn identity(self, way: &str) -> Result<Identity, String> {
        let rate = self.rate.as_deref().map(|rate| {
            let rate: RequestRate = rate.parse().map_err(|_| format!("`{rate}` is not a rate such as `10/s`"))?;
            Limit::bucket(rate, None).ok_or_else(|| "nobody counts to that rate".to_owned())
        });
        Ok(Identity {
            way: self.way.as_deref().unwrap_or(way).into(),
            user: self.user.map(Arc::from),
            roles: self.roles,
            permissions: self.permissions,
            scopes: self.scopes,
            tenant: self.tenant.map(Arc::from),
            expires: self.expires.map(Duration::from_secs),
            claims: self.claims,
            rate: rate.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Gateway;

    const YAML: &str = "auth:
  keys: { api_key: { inline: 'u:a-long-enough-key' } }
  main: { jwt: { secret: a-secret-of-at-least-32-characters, claims: { roles: realm.roles } } }
  other: { jwt: { secret: a-secret-of-at-least-32-characters } }
server: { host: 127.0.0.1 }
services: { s: { url: http://127.0.0.1:9001 } }
routes:
  - { match: { path: /a }, service: s, auth: [keys, main, other] }
  - { match: { path: /b }, service: s, auth: keys }
  - { match: { path: /c }, service: s }";

    fn assume(route: usize, object: Value) -> Result<Assumed, String> {
        let Value::Object(object) = object else { panic!("an object") };
        let config = Gateway::of(YAML).config;
        assumed(&config, &config.routes[route], object)
    }

    #[test]
    fn an_object_with_the_keys_of_an_identity_is_one() {
        let whole = json!({ "user": "ann", "roles": ["a"], "permissions": ["p"], "scopes": ["s"], "tenant": "t",
            "expires": 5, "claims": { "x": 1 }, "rate": "10/s" });
        let Assumed { identity, reading } = assume(0, whole).unwrap();
        assert_eq!(reading, Reading::Identity);
        assert_eq!((&*identity.way, identity.user.as_deref()), ("keys", Some("ann")));
        assert_eq!((&*identity.roles[0], &*identity.permissions[0], &*identity.scopes[0]), ("a", "p", "s"));
        assert_eq!((identity.tenant.as_deref(), identity.expires), (Some("t"), Some(Duration::from_secs(5))));
        assert_eq!((&identity.claims, identity.rate.is_some()), (&json!({ "x": 1 }), true));
        assert_eq!(*assume(2, json!({})).unwrap().identity, Identity::default());
        assert_eq!(&*assume(0, json!({ "way": "other" })).unwrap().identity.way, "other");
    }

    #[test]
    fn claims_are_mapped_by_the_first_way_that_is_shown_claims() {
        let claims = json!({ "sub": "ann", "roles": ["plain"], "realm": { "roles": ["mapped"] }, "exp": 7 });
        let Assumed { identity, reading } = assume(0, claims.clone()).unwrap();
        assert_eq!((reading, &*identity.way), (Reading::Claims(Some("main".into())), "main"));
        assert_eq!((identity.user.as_deref(), &*identity.roles), (Some("ann"), &["mapped".into()][..]));
        assert_eq!((identity.expires, &identity.claims), (Some(Duration::from_secs(7)), &claims));
        let Assumed { identity, reading } = assume(1, claims).unwrap();
        assert_eq!((reading, &*identity.way, &*identity.roles[0]), (Reading::Claims(None), "keys", "plain"));
    }

    #[test]
    fn what_is_no_identity_says_why() {
        for (object, why) in [
            (json!({ "roles": "admin" }), "expected a sequence"),
            (json!({ "user": 7 }), "expected a string"),
            (json!({ "rate": "ten" }), "`ten` is not a rate such as `10/s`"),
        ] {
            let error = assume(0, object).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
