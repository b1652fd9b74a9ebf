//! Signed tokens in compact form (RFC 7515, 7.1), as RFC 8725 wants them verified. What the token's header says about keys is only
//! compared with the keys that are known; nothing in it is followed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::json::{self, Object};
use super::key_set::KeySet;
use super::signing_key::Algorithm;

/// Bytes of a token.
pub(crate) const MOST_BYTES: usize = 8 * 1024;

/// Bytes of a key's name.
const LONGEST_ID: usize = 256;

/// Signatures that are verified for one token, where several keys may have made it.
const MOST_TRIES: usize = 4;

/// Why a token proves nothing, for the log. It has nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flaw(pub(crate) &'static str);

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why a token is not verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unverified {
    /// It names a key that is not known; it may be known later.
    NoKey,
    /// It proves nothing.
    Flawed(Flaw),
}

impl From<Flaw> for Unverified {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

/// A token that may be verified: what can be refused without a key is refused.
pub(crate) struct Token<'a> {
    signed: &'a [u8],
    algorithm: Algorithm,
    id: Option<String>,
    /// `typ` in lower case and without `application/`.
    kind: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Takes a token apart. Its size and form are looked at before anything in it is.
    pub(crate) fn read(text: &'a [u8]) -> Result<Self, Flaw> {
        if text.len() > MOST_BYTES {
            return Err(Flaw("the token is larger than 8 KB"));
        }
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Flaw("the token has not three parts"));
        };
        let signed = text.get(..=header.len() + payload.len()).unwrap_or_default();
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header = json::object(&header).map_err(|_| Flaw("the token's header is not an object in proper JSON"))?;
        refuse_extensions(&header)?;
        let algorithm =
            header.get("alg").and_then(Algorithm::named).ok_or(Flaw("the token's algorithm is not known"))?;
        let id = text_of(&header, "kid")?;
        if id.is_some_and(|id| id.len() > LONGEST_ID) {
            return Err(Flaw("the name of the token's key is too long"));
        }
        let kind = text_of(&header, "typ")?.map(media_type);
        Ok(Self { signed, algorithm, id: id.map(str::to_owned), kind, payload, signature })
    }

    /// What the token is signed with, or says so.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What kind of token it says it is (RFC 8725, 3.11), in lower case.
    pub(crate) fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// What the token claims, if one of `keys` has signed it.
    pub(crate) fn verify(&self, keys: &KeySet) -> Result<Object, Unverified> {
        let id = self.id.as_deref();
        if keys.named(id).next().is_none() {
            return Err(Unverified::NoKey);
        }
        let mut fitting = keys.named(id).filter(|key| key.is_for(self.algorithm)).take(MOST_TRIES).peekable();
        if fitting.peek().is_none() {
            return Err(Flaw("the token's algorithm is not one of its key").into());
        }
        if !fitting.any(|key| key.verify(self.algorithm, self.signed, &self.signature)) {
            return Err(Flaw("the token's signature is wrong").into());
        }
        json::object(&self.payload).map_err(|_| Flaw("the token's claims are not an object in proper JSON").into())
    }
}

fn decode(part: &[u8]) -> Result<Vec<u8>, Flaw> {
    let decoded = URL_SAFE_NO_PAD.decode(part).ok().filter(|decoded| !decoded.is_empty());
    decoded.ok_or(Flaw("a part of the token is not base64url"))
}

/// Refuses what changes how a token is read. None of it is understood here, and what is not understood must not be passed over
/// (RFC 7515, 4.1.11).
fn refuse_extensions(header: &Object) -> Result<(), Flaw> {
    if header.contains_key("crit") {
        return Err(Flaw("the token has critical extensions"));
    }
    if header.contains_key("b64") {
        return Err(Flaw("the token's payload is not encoded as usual"));
    }
    if header.contains_key("enc") {
        return Err(Flaw("the token is encrypted"));
    }
    match text_of(header, "cty")?.map(media_type).as_deref() {
        Some("jwt") => Err(Flaw("there is a token inside the token")),
        _ => Ok(()),
    }
}

fn text_of<'a>(header: &'a Object, name: &str) -> Result<Option<&'a str>, Flaw> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Flaw("the token's header has something else where there should be text")),
    }
}

/// In lower case, and without the `application/` that may be left out (RFC 7515, 4.1.9).
pub(crate) fn media_type(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_prefix("application/").map(str::to_owned).unwrap_or(name)
}
