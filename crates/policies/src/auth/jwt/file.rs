//! `jwt` as written, and what is meant by it.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{KeyFile, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{self, Name};
use tidegate_core::policy::Job;

use super::cache::Cache;
use super::{Jwt, Tokens};
use crate::auth::bearer::Place;
use crate::auth::mapping::{Mapping, MappingFile};
use crate::auth::way::{Kind, Meant, Way};
use crate::policy::Setup;
use crate::shared::claims::Rules;
use crate::shared::jwks::{Keys, Source};
use crate::shared::jws::media_type;
use crate::shared::key_set::KeySet;
use crate::shared::signing_key::{Algorithm, SigningKey};

/// How far clocks may differ at most.
const MOST_LEEWAY: Duration = Duration::from_mins(1);

/// Tokens that may be kept for each worker.
const MOST_CACHED: u32 = 1_000_000;

/// Callers show a signed token (RFC 7519).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwtFile {
    /// Who may have issued a token: `iss` must be one of these, letter for letter. By default anybody may who has the key.
    #[serde(default)]
    issuer: Vec<String>,
    /// Whom a token may be for: `aud` must have one of these. By default it is not looked at.
    #[serde(default)]
    audiences: Vec<String>,
    /// What tokens may be signed with. By default `HS256` with a secret, and otherwise `RS256`, `ES256`, `EdDSA` and `Ed25519`.
    #[serde(default)]
    algorithms: Vec<Algorithm>,
    /// The secret that tokens are signed with, at least as long as the hash: 32 bytes for `HS256`. Several while it is changed.
    #[serde(default)]
    secret: Vec<String>,
    /// PEM files with the public keys that tokens are verified with. They are watched.
    #[serde(default)]
    public_key: Vec<String>,
    /// Where a provider publishes its keys (RFC 7517).
    jwks: Option<JwksFile>,
    /// Where a token may be: `header:NAME`, `cookie:NAME`, `query:NAME`; the first place that has one counts. In
    /// `header:authorization`, which is the default, it follows the word `Bearer`; elsewhere it stands alone.
    #[serde(default, rename = "in")]
    places: Vec<KeyFile>,
    /// How far clocks may differ: by default 30s, and 60s at most.
    leeway: Option<value::Duration>,
    /// Whether a token must say when it ends.
    #[serde(default = "yes")]
    require_exp: bool,
    /// Claims that a token must have, besides `exp`.
    #[serde(default)]
    required: Vec<String>,
    /// Types of tokens that are taken: `typ` of the header. A token without one is a `JWT`. By default `JWT` and `at+jwt`.
    #[serde(default)]
    types: Vec<String>,
    /// Which claim says what about the caller.
    claims: Option<MappingFile>,
    /// How many verified tokens each worker remembers, until they end: by default 10000, which takes about a kilobyte each.
    /// `off` verifies every token each time.
    cache: Option<u32>,
}

/// Where a provider publishes its keys: one of `url`, `service` and `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JwksFile {
    /// The URL of the key set.
    url: Option<String>,
    /// The service that has it, by name: with that service's checks, TLS and limits.
    service: Option<Name>,
    /// The path at the service.
    path: Option<String>,
    /// A file. It is watched.
    file: Option<String>,
    /// How often keys are fetched, a tenth more or less. By default 10m.
    refresh: Option<value::Duration>,
    /// How long that may take, and how long a request with an unknown key may wait for it. By default 5s.
    timeout: Option<value::Duration>,
    /// Requests with unknown keys cause no more than one fetch in this time. By default 10s.
    min_refresh: Option<value::Duration>,
}

fn yes() -> bool {
    true
}

/// What is meant.
struct Meaning {
    places: Vec<Place>,
    tokens: Tokens,
    keys: KeysMeant,
    cache: usize,
}

enum KeysMeant {
    Fixed(Arc<Keys>),
    Fetched(Source),
}

impl Meant for Meaning {
    fn build(&self, name: &Arc<str>, _: &Path, setup: &mut Setup<'_>) -> Arc<dyn Way> {
        let keys = match &self.keys {
            KeysMeant::Fixed(keys) => Arc::clone(keys),
            KeysMeant::Fetched(source) => {
                let shared = setup.shared;
                let keys = shared.keep(format!("{source:?}"), || Keys::fetched(source.clone(), shared.gauges()));
                let job: Arc<dyn Job> = Arc::<Keys>::clone(&keys);
                setup.job(job);
                keys
            }
        };
        let (places, tokens, cache) = (self.places.clone(), self.tokens.clone(), Cache::new(self.cache));
        Arc::new(Jwt { name: Arc::clone(name), places, tokens, keys, cache })
    }

    fn mapping(&self) -> Option<&Mapping> {
        Some(&self.tokens.mapping)
    }
}

impl Kind for JwtFile {
    fn mean(self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>> {
        let places = Place::read(&self.places, &at.join("in"), reading);
        let leeway = self.leeway.map_or(Duration::from_secs(30), |leeway| leeway.0);
        if leeway > MOST_LEEWAY {
            reading.error(&at.join("leeway"), "clocks may not differ by more than 60s");
        }
        let cache = match self.cache {
            None if reading.is_off(&[name, "jwt", "cache"]) => 0,
            cache => cache.unwrap_or(10_000),
        };
        if cache > MOST_CACHED {
            reading.error(&at.join("cache"), format!("a worker can remember {MOST_CACHED} tokens"));
        }
        let given = [
            ("secret", !self.secret.is_empty()),
            ("public_key", !self.public_key.is_empty()),
            ("jwks", self.jwks.is_some()),
        ];
        reading.one_of(at, &given, "tokens are verified with one of these");
        let algorithms = self.read_algorithms(at, reading);
        if self.audiences.is_empty() && (self.jwks.is_some() || !self.public_key.is_empty()) {
            let problem =
                Problem::warning(at.clone(), "tokens that were issued for other services are taken too").on_key();
            reading.report(problem.help("write this gateway's `audiences`"));
        }
        let keys = self.read_keys(name, at, &algorithms, reading)?;
        let types = if self.types.is_empty() { vec!["jwt".to_owned(), "at+jwt".to_owned()] } else { self.types };
        let rules = Rules {
            issuers: self.issuer,
            audiences: self.audiences,
            required: self.required,
            needs_end: self.require_exp,
            leeway,
        };
        let types = types.iter().map(|name| media_type(name)).collect();
        let tokens = Tokens { types, algorithms, rules, mapping: self.claims.unwrap_or_default().into() };
        Some(Box::new(Meaning { places, tokens, keys, cache: usize::try_from(cache).unwrap_or_default() }))
    }
}

impl JwtFile {
    fn read_algorithms(&self, at: &Path, reading: &mut Reading<'_, '_>) -> Vec<Algorithm> {
        let with_secret = !self.secret.is_empty();
        if self.algorithms.is_empty() {
            return if with_secret { vec![Algorithm::HS256] } else { Algorithm::USUAL.to_vec() };
        }
        let (needed, given) = if with_secret { ("a public key", "a secret") } else { ("a secret", "public keys") };
        let at = at.join("algorithms");
        let strange = |(_, algorithm): &(usize, &Algorithm)| algorithm.needs_secret() != with_secret;
        for (position, algorithm) in self.algorithms.iter().enumerate().filter(strange) {
            let at = reading.item(&at, position);
            reading.error(&at, format!("`{algorithm:?}` is verified with {needed}, not with {given}"));
        }
        self.algorithms.clone()
    }

    fn read_keys(
        &self,
        name: &Arc<str>,
        at: &Path,
        algorithms: &[Algorithm],
        reading: &mut Reading<'_, '_>,
    ) -> Option<KeysMeant> {
        if let Some(jwks) = &self.jwks {
            return jwks.read_keys(name, &at.join("jwks"), algorithms, reading);
        }
        let mut keys = Vec::new();
        for (position, secret) in self.secret.iter().enumerate() {
            match SigningKey::from_secret(secret.as_bytes(), algorithms) {
                Ok(key) => keys.push(key),
                Err(message) => {
                    let problem = Problem::error(reading.item(&at.join("secret"), position), message);
                    reading.report(problem.help("make one with `openssl rand -hex 64`"));
                }
            }
        }
        for (position, file) in self.public_key.iter().enumerate() {
            let at = reading.item(&at.join("public_key"), position);
            match SigningKey::from_pem(&reading.file(&at, file)?.bytes, algorithms) {
                Ok(found) => keys.extend(found),
                Err(message) => {
                    let problem = Problem::error(at, format!("{file} is of no use here: {message}"));
                    reading
                        .report(problem.help("`openssl pkey -in KEY -pubout` makes the public key of a private one"));
                }
            }
        }
        Some(KeysMeant::Fixed(Arc::new(Keys::fixed(KeySet::new(keys)))))
    }
}

impl JwksFile {
    fn read_keys(
        &self,
        name: &Arc<str>,
        at: &Path,
        algorithms: &[Algorithm],
        reading: &mut Reading<'_, '_>,
    ) -> Option<KeysMeant> {
        let given = [("url", self.url.is_some()), ("service", self.service.is_some()), ("file", self.file.is_some())];
        reading.one_of(at, &given, "a key set comes from one of these");
        if self.path.is_some() && self.service.is_none() {
            reading.report(Problem::error(at.join("path"), "`path` needs a `service` that is asked for it").on_key());
        }
        if let Some(file) = &self.file {
            let at = at.join("file");
            let set = KeySet::from_jwks(&reading.file(&at, file)?.bytes, algorithms, 0);
            let set = set.map_err(|message| reading.error(&at, message)).ok()?;
            return Some(KeysMeant::Fixed(Arc::new(Keys::fixed(set))));
        }
        let (address, service, target) = self.read_address(name, at, reading)?;
        let mut time = |key: &str, written: Option<value::Duration>, usual: u64| {
            let time = written.map_or(Duration::from_secs(usual), |written| written.0);
            if time < Duration::from_secs(1) {
                reading.error(&at.join(key), format!("`{key}` is at least 1s"));
            }
            time
        };
        Some(KeysMeant::Fetched(Source {
            way: Arc::clone(name),
            address,
            service,
            target,
            algorithms: algorithms.to_vec(),
            refresh: time("refresh", self.refresh, 600),
            timeout: time("timeout", self.timeout, 5),
            min_refresh: time("min_refresh", self.min_refresh, 10),
        }))
    }

    /// The address in words, the service that is asked, and for what.
    fn read_address(
        &self,
        name: &Arc<str>,
        at: &Path,
        reading: &mut Reading<'_, '_>,
    ) -> Option<(String, Arc<str>, String)> {
        if let Some(url) = &self.url {
            let at = at.join("url");
            if may_be_changed_on_its_way(url) {
                let text = "whoever can change what is fetched in clear can sign tokens";
                reading.report(Problem::warning(at.clone(), text).help("write an `https://` URL"));
            }
            let (service, target) = reading.own_service(&at, &format!("auth/{name}"), url)?;
            return Some((url.clone(), service, target));
        }
        let Name(service) = self.service.as_ref()?;
        let service = reading.service(&at.join("service"), service);
        let Some(path) = self.path.as_deref() else {
            reading.missing(at, "path", "write the path of the key set at the service, such as `/jwks.json`");
            return None;
        };
        if !path.starts_with('/') {
            reading.error(&at.join("path"), "a path begins with `/`");
        }
        Some((format!("{} {path}", service.as_deref()?), service?, path.to_owned()))
    }
}

/// Whether there is a network between the gateway and a URL without TLS.
pub(crate) fn may_be_changed_on_its_way(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !["localhost", "127.", "[::1]"].iter().any(|local| host.starts_with(local))
}
