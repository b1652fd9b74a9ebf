//! `api_key`: who one is by a key that one was given. Only hashes of keys are kept.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{AnyText, KeyFile, Reading, TextOr};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::RequestRate;
use tidegate_core::exchange::Exchange;
use tidegate_core::identity::Identity;
use tidegate_core::limiter::Limit;
use tidegate_core::policy::World;

use super::credential::Credential;
use super::key_store::KeyStore;
use super::way::{Bad, Finding, Kind, Meant, Proof, Way};
use crate::policy::Setup;

/// Keys that callers were given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeyFile {
    /// Where requests show their key: `header:NAME`, `cookie:NAME` or `query:NAME`. By default `header:X-API-Key`. A key in a query ends up in
    /// browser histories and in the logs of others, so that is off unless written.
    #[serde(default, rename = "in")]
    places: Vec<KeyFile>,
    /// A file of keys, as `tidegate keys` makes it. What changes in it is in force within a second, without a reload.
    store: Option<String>,
    /// Keys that are written here, for small set-ups. A text such as `ci:KEY:deploy,read;mary:KEY` stands for the users, keys and roles of several
    /// of them, so that all fit into one environment variable.
    #[serde(default)]
    inline: Vec<TextOr<InlineKeyFile>>,
    /// Whether services see the key. By default they do not.
    forward: Option<bool>,
}

/// One key, and whom it stands for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InlineKeyFile {
    /// The key: a long random text, best as `${NAME}`.
    key: AnyText,
    /// Who it is.
    user: Option<AnyText>,
    /// What they are.
    #[serde(default)]
    roles: Vec<AnyText>,
    /// What they may do.
    #[serde(default)]
    permissions: Vec<AnyText>,
    /// What the key was issued for.
    #[serde(default)]
    scopes: Vec<AnyText>,
    /// Whose customer they are.
    tenant: Option<AnyText>,
    /// Their own rate limit, such as `100/s`, for limits that take it.
    rate: Option<RequestRate>,
}

/// A key that is shorter can be guessed.
const SHORTEST: usize = 16;

/// Keys by their hashes.
type Keys = HashMap<[u8; 32], Arc<Identity>>;

struct Meaning {
    places: Vec<Credential>,
    store: Option<PathBuf>,
    inline: Arc<Keys>,
    forward: bool,
}

impl Kind for ApiKeyFile {
    fn mean(self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>> {
        let mut places = Credential::read(&self.places, &at.join("in"), reading);
        if self.places.is_empty() {
            places.push(Credential::Header("x-api-key".into()));
        }
        if self.inline.is_empty() && self.store.is_none() {
            reading.missing(
                at,
                "store",
                "write the name of a file that `tidegate keys create` makes, or `inline` with a list of keys",
            );
        }
        let store = self.store.map(|store| reading.full_path(&at.join("store"), &store));
        let inline = Arc::new(inline(self.inline, name, &at.join("inline"), reading));
        Some(Box::new(Meaning { places, store, inline, forward: self.forward.unwrap_or(false) }))
    }
}

fn inline(entries: Vec<TextOr<InlineKeyFile>>, way: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Keys {
    let mut keys = Keys::new();
    for (position, entry) in entries.into_iter().enumerate() {
        let files = match entry {
            TextOr::Full(file) => vec![file],
            TextOr::Text(AnyText(text)) => {
                text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(short_form).collect()
            }
        };
        for file in files {
            if let Some(problem) = weakness(&file.key.0, position + 1, at) {
                reading.report(problem);
            }
            if keys.insert(hash(file.key.0.as_bytes()), Arc::new(file.identity(way))).is_some() {
                // Secrets are not shown, so it is the list's key that is underlined.
                reading.report(
                    Problem::error(at.clone(), format!("entry {} has the key of another one", position + 1)).on_key(),
                );
            }
        }
    }
    keys
}

/// What is to be said of a key that can be guessed.
fn weakness(key: &str, number: usize, at: &Path) -> Option<Problem> {
    let text = format!("the key of entry {number} has {} characters, so it can be guessed", key.len());
    let problem = match key.len() {
        0 => Problem::error(at.clone(), text),
        1..SHORTEST => Problem::warning(at.clone(), text),
        _ => return None,
    };
    Some(problem.on_key().help("make one with `openssl rand -hex 24`"))
}

/// `user:key` or `user:key:role,role`. Without a colon there is no key, and that is a mistake.
fn short_form(text: &str) -> InlineKeyFile {
    let mut parts = text.splitn(3, ':').map(str::trim);
    let (user, key, roles) = (parts.next(), parts.next(), parts.next());
    let roles = roles.unwrap_or_default().split(',').map(str::trim).filter(|role| !role.is_empty());
    InlineKeyFile {
        key: AnyText(key.unwrap_or_default().to_owned()),
        user: user.map(|user| AnyText(user.to_owned())),
        roles: roles.map(|role| AnyText(role.to_owned())).collect(),
        permissions: Vec::new(),
        scopes: Vec::new(),
        tenant: None,
        rate: None,
    }
}

impl InlineKeyFile {
    fn identity(self, way: &Arc<str>) -> Identity {
        let text = |AnyText(text): AnyText| -> Arc<str> { text.into() };
        let list = |texts: Vec<AnyText>| texts.into_iter().map(text).collect();
        Identity {
            way: Arc::clone(way),
            user: self.user.map(text),
            roles: list(self.roles),
            permissions: list(self.permissions),
            scopes: list(self.scopes),
            tenant: self.tenant.map(text),
            rate: self.rate.and_then(|rate| Limit::bucket(rate, None)),
            ..Identity::default()
        }
    }
}

fn hash(key: &[u8]) -> [u8; 32] {
    // Cannot fail: that is how long a SHA-256 is.
    digest(&SHA256, key).as_ref().try_into().unwrap_or_default()
}

impl Meant for Meaning {
    fn build(&self, name: &Arc<str>, at: &Path, setup: &mut Setup<'_>) -> Arc<dyn Way> {
        let Self { places, store, inline, forward } = self;
        let at = at.join("api_key").join("store");
        Arc::new(ApiKeys {
            name: Arc::clone(name),
            places: places.clone(),
            inline: Arc::clone(inline),
            store: store.as_ref().and_then(|path| KeyStore::follow(name, path, (&at, setup))),
            forward: *forward,
        })
    }

    fn key_store(&self) -> Option<&std::path::Path> {
        self.store.as_deref()
    }
}

/// The way.
struct ApiKeys {
    name: Arc<str>,
    places: Vec<Credential>,
    inline: Arc<Keys>,
    store: Option<Arc<KeyStore>>,
    forward: bool,
}

impl ApiKeys {
    fn find(&self, exchange: &Exchange, world: &dyn World) -> Finding {
        let (mut shown, mut differ) = (None, false);
        for place in &self.places {
            place.visit(exchange, |key| {
                let hash = hash(key);
                differ |= *shown.get_or_insert(hash) != hash;
            });
        }
        let known = match shown {
            None => return Finding::Absent,
            Some(_) if differ => Err("the request shows two different keys"),
            Some(hash) => self.whose(&hash, world),
        };
        match known {
            Ok(identity) => Finding::Known(identity),
            Err(cause) => Finding::Bad(Bad { cause: cause.to_owned(), detail: "Invalid API key", challenge: None }),
        }
    }

    fn whose(&self, hash: &[u8; 32], world: &dyn World) -> Result<Arc<Identity>, &'static str> {
        match (self.inline.get(hash), &self.store) {
            (Some(identity), _) => Ok(Arc::clone(identity)),
            (None, Some(store)) => store.find(hash, world.wall()),
            (None, None) => Err("there is no such key"),
        }
    }
}

impl Way for ApiKeys {
    fn prove<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Proof<'a> {
        Proof::Ready(self.find(exchange, world))
    }

    fn conceal(&self, exchange: &mut Exchange) {
        if !self.forward {
            self.places.iter().for_each(|place| place.remove(exchange));
        }
    }

    /// There is no registered scheme for keys, but every 401 has a challenge (RFC 9110, 15.5.2).
    fn challenge(&self) -> Option<String> {
        Some(format!("ApiKey realm=\"{}\"", self.name))
    }

    fn describe(&self) -> String {
        "an API key".to_owned()
    }

    fn missing(&self) -> &'static str {
        "Missing API key"
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::testing::{Gateway, check, problems};

    const MARY: &str = "the-key-that-mary-was-given";
    const CI: &str = "the-key-of-the-build-machine";

    /// A gateway with the keys of Mary and of the build machine, and this besides.
    fn yaml(besides: &str) -> String {
        format!(
            "auth: {{ keys: {{ api_key: {{ inline: [{{ key: {MARY}, user: mary, roles: [admin], tenant: t1 }}, 'ci:{CI}:deploy, read'], {besides} }} }} }}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s, auth: keys }}]"
        )
    }

    /// Who a request is from, and what the service sees of it.
    fn sent(yaml: &str, request: &str) -> String {
        let sent = Gateway::of(yaml).send(request);
        let identity = sent.exchange.identity.as_ref();
        let mut said = identity.and_then(|identity| identity.user.as_deref()).unwrap_or(&sent.said).to_owned();
        write!(said, " {}", sent.exchange.head.target).unwrap();
        for field in sent.exchange.head.fields.iter().filter(|field| !field.name.eq_ignore_ascii_case("host")) {
            write!(said, " {}={}", field.name, String::from_utf8_lossy(field.value)).unwrap();
        }
        said
    }

    #[test]
    fn a_key_says_who_it_is_and_does_not_reach_the_service() {
        let gateway = Gateway::of(&yaml(""));
        let sent = gateway.send(&format!("GET /a\nX-API-Key: {MARY}"));
        assert_eq!(sent.said, "pass");
        let identity = sent.exchange.identity.unwrap();
        assert_eq!(
            (&*identity.way, identity.user.as_deref(), identity.tenant.as_deref()),
            ("keys", Some("mary"), Some("t1"))
        );
        assert_eq!(identity.roles.iter().map(|role| &**role).collect::<Vec<_>>(), ["admin"]);
        assert!(!sent.exchange.head.fields.contains("x-api-key"));
        let sent = gateway.send(&format!("GET /a\nX-API-Key: {CI}"));
        let identity = sent.exchange.identity.unwrap();
        assert_eq!(identity.roles.iter().map(|role| &**role).collect::<Vec<_>>(), ["deploy", "read"]);
    }

    #[test]
    fn every_key_that_proves_nothing_is_answered_alike() {
        let invalid = "401 credential_invalid: Invalid API key\nwww-authenticate: ApiKey realm=\"keys\"";
        let almost = MARY.replace('m', "M");
        for key in ["", "x", "the-key-that-mary-was-giveN", &almost, "'", "\u{e9}"] {
            assert_eq!(check(&yaml(""), &format!("GET /a\nX-API-Key: {key}")), invalid, "{key}");
        }
        assert_eq!(
            check(&yaml(""), "GET /a"),
            "401 credential_missing: Missing API key\nwww-authenticate: ApiKey realm=\"keys\""
        );
    }

    #[test]
    fn two_keys_in_one_request_are_refused_whichever_of_them_is_right() {
        let yaml = yaml("in: [header:X-API-Key, query:api_key, cookie:key]");
        for request in [
            format!("GET /a\nX-API-Key: {MARY}\nX-API-Key: {CI}"),
            format!("GET /a?api_key={CI}\nX-API-Key: {MARY}"),
            format!("GET /a?api_key={MARY}&api_key=x"),
            format!("GET /a\nX-API-Key: {MARY}\nCookie: key=x"),
        ] {
            assert!(check(&yaml, &request).starts_with("401 credential_invalid"), "{request}");
        }
        assert!(check(&yaml, &format!("GET /a?api_key={MARY}\nX-API-Key: {MARY}")).starts_with("pass"));
    }

    #[test]
    fn a_key_in_a_query_counts_only_where_that_is_written() {
        let request = format!("GET /a?b=1&api_key={MARY}&c=%31");
        assert!(check(&yaml(""), &request).starts_with("401 credential_missing"));
        assert_eq!(sent(&yaml("in: query:api_key"), &request), "mary /a?b=1&c=%31");
    }

    #[test]
    fn what_showed_a_key_is_taken_away_and_all_else_stays() {
        let yaml = yaml("in: [header:x-key, query:key, cookie:key]");
        assert_eq!(sent(&yaml, &format!("GET /a?k%65y={MARY}\nX-Other: 1")), "mary /a X-Other=1");
        assert_eq!(sent(&yaml, &format!("GET /a?x=y\nCookie: a=b; key={MARY}; c=d")), "mary /a?x=y cookie=a=b; c=d");
        assert_eq!(sent(&yaml, &format!("GET /a\nCookie: key={MARY}")), "mary /a");
        assert_eq!(sent(&yaml, &format!("GET /a\nX-Key: {MARY}\nCookie: key; a")), "mary /a cookie=a");
    }

    #[test]
    fn a_key_is_forwarded_if_that_is_written() {
        assert_eq!(
            sent(&yaml("forward: true"), &format!("GET /a\nX-API-Key: {MARY}")),
            format!("mary /a X-API-Key={MARY}")
        );
    }

    #[test]
    fn mistakes_in_keys_are_told() {
        let found = problems(&yaml("in: [client_ip, 'query:session', 'header:x']"));
        assert_eq!(
            found.lines().map(|line| line.split(" | ").next().unwrap()).collect::<Vec<_>>(),
            [
                "error: auth.keys.api_key.in[0]: that is no place for a credential",
                "error: auth.keys.api_key.in[1]: logs would show the query parameter `session`"
            ]
        );
        let found = problems("auth: { a: { api_key: {} }, b: { api_key: { inline: [x, 'u:short', 'v:short'] } } }");
        for part in [
            "auth.a.api_key: `store` is missing",
            "inline: the key of entry 1 has 0 characters",
            "inline: the key of entry 2 has 5 characters",
            "inline: entry 3 has the key of another one",
        ] {
            assert!(found.contains(part), "{part} is not in:\n{found}");
        }
    }
}
