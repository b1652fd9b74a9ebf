//! Tokens that the gateway signs for services: who calls, for how long that is true, and nothing that a caller could have written. The keys
//! outlive configurations, and services find the public ones in a key set (RFC 7517).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_config::policy::{AnyText, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{self, FieldName};
use tidegate_core::identity::Identity;
use tidegate_core::policy::{Shared, World};

use crate::policy::Setup;

/// A token for services: a JWT, signed with ES256.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenFile {
    /// The field for it. By default `x-identity`.
    header: Option<FieldName>,
    /// What its `iss` says. By default `tidegate`.
    issuer: Option<AnyText>,
    /// What its `aud` says; a service should accept no token that is not for it.
    audience: Option<AnyText>,
    /// How long it holds, from 2s to 1h. By default 60s. A token is used again for half that time.
    ttl: Option<value::Duration>,
    /// A PEM file with the private key: P-256, as PKCS #8 or SEC 1. By default a key is made when the gateway starts, so services must fetch
    /// the key set again when they meet an unknown `kid`.
    key: Option<String>,
}

/// A token as meant.
pub(crate) struct TokenMeaning {
    pub(crate) header: Arc<str>,
    issuer: Arc<str>,
    audience: Option<Arc<str>>,
    ttl: Duration,
    /// `None` is the key of this process.
    signer: Option<Arc<Signer>>,
}

const TTL: Duration = Duration::from_mins(1);

impl TokenFile {
    pub(crate) fn mean(self, at: &Path, reading: &mut Reading<'_, '_>) -> Option<TokenMeaning> {
        let text = |text: AnyText| -> Arc<str> { text.0.into() };
        let ttl = self.ttl.map_or(TTL, |value::Duration(ttl)| ttl);
        if !(Duration::from_secs(2)..=Duration::from_hours(1)).contains(&ttl) {
            reading.error(&at.join("ttl"), "a token holds for 2s to 1h");
        }
        let signer = match &self.key {
            Some(name) => Some(Arc::new(from_file(name, &at.join("key"), reading)?)),
            None => None,
        };
        let header = self.header.map_or_else(|| "x-identity".into(), |FieldName(name)| name);
        let issuer = self.issuer.map_or_else(|| "tidegate".into(), text);
        Some(TokenMeaning { header, issuer, audience: self.audience.map(text), ttl, signer })
    }
}

/// The key in a file.
fn from_file(name: &str, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Signer> {
    let file = reading.file(at, name)?;
    let signer = pem(&file.bytes).and_then(|der| Signer::from_der(&der));
    if signer.is_none() {
        let text = format!("{} holds no private key for ES256 in PEM", file.path.display());
        let help = "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";
        reading.report(Problem::error(at.clone(), text).help(help));
    }
    signer
}

/// What stands in the first private key of a PEM file (RFC 7468).
fn pem(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----"))?;
    let body: String = lines.take_while(|line| !line.starts_with("-----")).collect();
    BASE64_STANDARD.decode(body).ok()
}

impl TokenMeaning {
    /// What makes the tokens of a route; `None` if no key could be made, which is reported.
    pub(crate) fn build(&self, at: &Path, setup: &mut Setup<'_>) -> Option<Tokens> {
        let keys = keys(setup.shared);
        let Some(signer) = self.signer.clone().or_else(|| keys.own()) else {
            setup.report(Problem::error(at.clone(), "no key could be made: the system has no randomness"));
            return None;
        };
        keys.publish(&signer);
        Some(Tokens {
            header: Arc::clone(&self.header),
            issuer: Arc::clone(&self.issuer),
            audience: self.audience.clone(),
            ttl: self.ttl,
            signer,
            _keys: keys,
            made: std::array::from_fn(|_| Mutex::default()),
        })
    }
}

/// The public keys of all tokens that services are sent now, as a key set in JSON (RFC 7517).
pub fn identity_jwks(shared: &Shared) -> String {
    keys(shared).public()
}

/// A key that signs tokens.
struct Signer {
    key: EcdsaKeyPair,
    /// What the key set says of it (RFC 7518, 6.2.1).
    public: Value,
    /// The key's thumbprint (RFC 7638).
    kid: String,
}

impl Signer {
    /// A new key.
    fn new() -> Option<Self> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok().and_then(Self::of)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok().and_then(Self::of)
    }

    fn of(key: EcdsaKeyPair) -> Option<Self> {
        // The uncompressed form: 4, x, y.
        let (x, y) = key.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(x), BASE64_URL_SAFE_NO_PAD.encode(y));
        let canonical = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}");
        let kid = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        let public = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256" });
        Some(Self { key, public, kid })
    }

    /// A compact JWS of these claims (RFC 7515, 7.1).
    fn sign(&self, claims: &Value) -> Result<String, String> {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.kid });
        let [header, claims] = [header, claims.clone()].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let mut token = format!("{header}.{claims}");
        let signed = self.key.sign(&SystemRandom::new(), token.as_bytes());
        let signature = signed.map_err(|_| "the token cannot be signed".to_owned())?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// The keys that are in use.
#[derive(Default)]
struct Keys {
    /// The one of this process, once it is needed; `None` in it if none could be made.
    own: OnceLock<Option<Arc<Signer>>>,
    published: Mutex<Vec<Weak<Signer>>>,
}

fn keys(shared: &Shared) -> Arc<Keys> {
    shared.keep("keys of identity tokens", Keys::default)
}

impl Keys {
    fn own(&self) -> Option<Arc<Signer>> {
        self.own.get_or_init(|| Signer::new().map(Arc::new)).clone()
    }

    fn publish(&self, signer: &Arc<Signer>) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.retain(|key| key.strong_count() > 0);
        published.push(Arc::downgrade(signer));
    }

    fn public(&self) -> String {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        // Several routes may have the same key.
        let known: BTreeMap<String, Value> =
            published.iter().filter_map(Weak::upgrade).map(|key| (key.kid.clone(), key.public.clone())).collect();
        json!({ "keys": known.into_values().collect::<Vec<_>>() }).to_string()
    }
}

/// How many workers keep tokens for themselves; further ones share.
const SHELVES: usize = 64;

/// How many tokens a worker keeps.
const KEPT: usize = 1000;

/// Makes the tokens of a route, and keeps them for a while: signing costs more than everything else in a request.
pub(super) struct Tokens {
    pub(super) header: Arc<str>,
    issuer: Arc<str>,
    audience: Option<Arc<str>>,
    ttl: Duration,
    signer: Arc<Signer>,
    /// Held so that they outlive the configuration.
    _keys: Arc<Keys>,
    /// By the identity's address; the identity is held, so that no other can have it.
    made: [Mutex<HashMap<usize, Made>>; SHELVES],
}

struct Made {
    _identity: Arc<Identity>,
    token: Arc<str>,
    /// Not used again from then on.
    until: Instant,
}

impl Tokens {
    /// The token for this caller.
    pub(super) fn of(&self, identity: &Arc<Identity>, world: &dyn World) -> Result<Arc<str>, String> {
        let (now, address) = (world.now(), Arc::as_ptr(identity).addr());
        let mine = self.made.get(world.worker() % SHELVES).ok_or("there is no shelf")?;
        let mut made = mine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&address).filter(|known| now < known.until) {
            return Ok(Arc::clone(&known.token));
        }
        let token: Arc<str> = self.signer.sign(&self.claims(identity, world.wall()))?.into();
        if made.len() >= KEPT {
            made.retain(|_, made| now < made.until);
        }
        if made.len() >= KEPT {
            made.clear();
        }
        let new = Made { _identity: Arc::clone(identity), token: Arc::clone(&token), until: now + self.ttl / 2 };
        made.insert(address, new);
        Ok(token)
    }

    /// It never holds for longer than what the caller showed.
    fn claims(&self, identity: &Identity, wall: Duration) -> Value {
        let until = identity.expires.map_or(wall + self.ttl, |expires| expires.min(wall + self.ttl));
        let mut claims = json!({
            "iss": self.issuer,
            "iat": wall.as_secs(),
            "exp": until.as_secs(),
            "roles": identity.roles,
            "permissions": identity.permissions,
            "scope": identity.scopes.join(" "),
        });
        for (name, value) in [("aud", &self.audience), ("sub", &identity.user), ("tenant", &identity.tenant)] {
            if let (Some(value), Some(claims)) = (value, claims.as_object_mut()) {
                claims.insert(name.to_owned(), json!(value));
            }
        }
        claims
    }
}
