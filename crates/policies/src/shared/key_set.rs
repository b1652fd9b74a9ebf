//! The keys that a token may be signed with: few that are written, or a JWK set (RFC 7517, 5).

use serde_json::Value;

use super::json;
use super::signing_key::{Algorithm, SigningKey};

/// Keys of a set that are looked at; providers publish two or three.
const MOST_KEYS: usize = 100;

/// Bytes of a JWK set.
pub(crate) const MOST_BYTES: usize = 256 * 1024;

/// Keys, of which one may have signed a token.
pub(crate) struct KeySet {
    /// Another one for every other set of the same way: what was verified with other keys is verified again.
    pub(crate) version: u64,
    keys: Vec<SigningKey>,
}

impl KeySet {
    /// Keys that are written.
    pub(crate) fn new(keys: Vec<SigningKey>) -> Self {
        Self { version: 0, keys }
    }

    /// The keys of a JWK set that can be used. Others are passed over (RFC 7517, 5); an error is a set that has none.
    pub(crate) fn from_jwks(text: &[u8], allowed: &[Algorithm], version: u64) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("the key set is larger than {} KB", MOST_BYTES / 1024));
        }
        let set = json::object(text).map_err(|error| format!("the key set cannot be read: {error}"))?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or("the key set has no list `keys`")?;
        let mut keys = Vec::new();
        for (position, jwk) in listed.iter().take(MOST_KEYS).enumerate() {
            match jwk.as_object().ok_or("it is no object").and_then(|jwk| SigningKey::from_jwk(jwk, allowed)) {
                Ok(key) => keys.push(key),
                Err(reason) => tracing::debug!(position, reason, "a key of a key set is passed over"),
            }
        }
        if keys.is_empty() {
            return Err(format!("none of the {} keys of the key set can be used", listed.len()));
        }
        Ok(Self { version, keys })
    }

    /// The keys that may be the one named `id`.
    pub(crate) fn named<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a SigningKey> {
        self.keys.iter().filter(move |key| key.may_be(id))
    }
}
