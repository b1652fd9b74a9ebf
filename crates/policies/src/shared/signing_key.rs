//! Keys that verify signatures. Each is bound to the algorithms that the configuration lets it verify, and parsed once for each of
//! them; a secret can never be taken for a public key, nor the other way round, because they are different types.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::json::Object;

/// An algorithm of RFC 7518, 3.1, RFC 8037 or RFC 9864. `none` is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub(crate) enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
    Ed25519,
}

/// What an algorithm computes, and with what kind of key.
enum Scheme {
    /// A secret that is at least as long as the hash (RFC 7518, 3.2), in bytes.
    Secret(hmac::Algorithm, usize),
    Rsa(&'static RsaParameters),
    /// The curve's name in a JWK, and the bytes of a coordinate.
    Curve(&'static EcdsaVerificationAlgorithm, &'static str, usize),
    Edwards,
}

impl Algorithm {
    /// Those that are verified with a public key.
    pub(crate) const PUBLIC: [Self; 11] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
        Self::Ed25519,
    ];

    /// Those of them that providers sign with, where nothing is written.
    pub(crate) const USUAL: [Self; 4] = [Self::RS256, Self::ES256, Self::EdDSA, Self::Ed25519];

    /// By its name in a token or a JWK.
    pub(crate) fn named(name: &Value) -> Option<Self> {
        Self::deserialize(name).ok()
    }

    /// Whether it is verified with a secret that its signers know too.
    pub(crate) fn needs_secret(self) -> bool {
        matches!(self.scheme(), Scheme::Secret(..))
    }

    fn scheme(self) -> Scheme {
        match self {
            Self::HS256 => Scheme::Secret(hmac::HMAC_SHA256, 32),
            Self::HS384 => Scheme::Secret(hmac::HMAC_SHA384, 48),
            Self::HS512 => Scheme::Secret(hmac::HMAC_SHA512, 64),
            Self::RS256 => Scheme::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::RS384 => Scheme::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::RS512 => Scheme::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::PS256 => Scheme::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::PS384 => Scheme::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::PS512 => Scheme::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::ES256 => Scheme::Curve(&signature::ECDSA_P256_SHA256_FIXED, "P-256", 32),
            Self::ES384 => Scheme::Curve(&signature::ECDSA_P384_SHA384_FIXED, "P-384", 48),
            Self::ES512 => Scheme::Curve(&signature::ECDSA_P521_SHA512_FIXED, "P-521", 66),
            Self::EdDSA | Self::Ed25519 => Scheme::Edwards,
        }
    }
}

/// A key, and what it verifies.
pub(crate) struct SigningKey {
    /// `kid`, where the key has one.
    id: Option<Box<str>>,
    bound: Vec<(Algorithm, Verifier)>,
}

enum Verifier {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl SigningKey {
    /// A secret. An error says what is wrong with it, and for which algorithm.
    pub(crate) fn from_secret(secret: &[u8], allowed: &[Algorithm]) -> Result<Self, String> {
        let mut bound = Vec::new();
        for &algorithm in allowed {
            let Scheme::Secret(hash, least) = algorithm.scheme() else { continue };
            if secret.len() < least {
                let length = secret.len();
                return Err(format!("the secret has {length} bytes, and {algorithm:?} needs {least} or more"));
            }
            bound.push((algorithm, Verifier::Secret(Box::new(hmac::Key::new(hash, secret)))));
        }
        Ok(Self { id: None, bound })
    }

    /// All public keys of a PEM file, which is at least one.
    pub(crate) fn from_pem(text: &[u8], allowed: &[Algorithm]) -> Result<Vec<Self>, String> {
        let text = String::from_utf8_lossy(text);
        let keys: Vec<Vec<u8>> = pem_blocks(&text).collect::<Option<_>>().ok_or("the PEM is damaged")?;
        if keys.is_empty() {
            let found = if text.contains("PRIVATE KEY-----") {
                "a private key, not a public one"
            } else {
                "no public key in PEM"
            };
            return Err(format!("there is {found}"));
        }
        keys.iter().map(|der| Self::from_der(der, allowed)).collect()
    }

    fn from_der(der: &[u8], allowed: &[Algorithm]) -> Result<Self, String> {
        let parsed = |algorithm: &Algorithm| {
            let key = match algorithm.scheme() {
                Scheme::Secret(..) => return None,
                Scheme::Rsa(parameters) => ParsedPublicKey::new(parameters, der),
                Scheme::Curve(curve, ..) => ParsedPublicKey::new(curve, der),
                Scheme::Edwards => ParsedPublicKey::new(&signature::ED25519, der),
            };
            Some((*algorithm, key.ok()?))
        };
        let keys: Vec<_> = allowed.iter().filter_map(parsed).collect();
        if keys.is_empty() {
            return Err(format!("a key is for none of the algorithms {allowed:?}"));
        }
        let is_weak =
            |(algorithm, key): &(Algorithm, _)| matches!(algorithm.scheme(), Scheme::Rsa(_)) && !is_strong(key);
        if keys.iter().any(is_weak) {
            return Err("an RSA key has less than 2048 bits, or more than 8192".to_owned());
        }
        let bound = keys.into_iter().map(|(algorithm, key)| (algorithm, Verifier::Public(key))).collect();
        Ok(Self { id: None, bound })
    }

    /// A public key as a JWK (RFC 7517, 4), or why it is passed over.
    pub(crate) fn from_jwk(jwk: &Object, allowed: &[Algorithm]) -> Result<Self, &'static str> {
        if jwk.get("use").is_some_and(|purpose| purpose != "sig") {
            return Err("it is not for signatures");
        }
        let verifies =
            |operations: &Value| operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"));
        if jwk.get("key_ops").is_some_and(|operations| !verifies(operations)) {
            return Err("it is not for verifying");
        }
        let own = match jwk.get("alg") {
            Some(name) => Some(Algorithm::named(name).ok_or("its algorithm is unknown")?),
            None => None,
        };
        let allowed = allowed.iter().filter(|&&algorithm| own.is_none_or(|own| own == algorithm));
        let parsed = |algorithm: &Algorithm| Some((*algorithm, Verifier::Public(public(*algorithm, jwk)?)));
        let bound: Vec<_> = allowed.filter_map(parsed).collect();
        if bound.is_empty() {
            return Err("it is broken, or for none of the allowed algorithms");
        }
        let id = jwk.get("kid").and_then(Value::as_str).map(Box::from);
        Ok(Self { id, bound })
    }

    /// Whether a token that names the key `id`, or none, may be signed with it. A key without a name may be any.
    pub(crate) fn may_be(&self, id: Option<&str>) -> bool {
        id.is_none() || self.id.is_none() || self.id.as_deref() == id
    }

    /// Whether it is bound to this algorithm.
    pub(crate) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.bound.iter().any(|(bound, _)| *bound == algorithm)
    }

    /// Whether `signature` is one of `message`. Never with an algorithm that the key is not bound to.
    pub(crate) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verifier = self.bound.iter().find(|(bound, _)| *bound == algorithm);
        verifier.is_some_and(|(_, verifier)| match verifier {
            Verifier::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
        })
    }
}

/// The key of a JWK for an algorithm, if it is one.
fn public(algorithm: Algorithm, jwk: &Object) -> Option<ParsedPublicKey> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let number = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    match (algorithm.scheme(), text("kty")?) {
        (Scheme::Rsa(parameters), "RSA") => {
            let (n, e) = (number("n")?, number("e")?);
            // Some write a zero before the first byte, which RFC 7518, 6.3.1.1 forbids and means nothing.
            let components = RsaPublicKeyComponents { n: without_zeros(&n), e: without_zeros(&e) };
            components.to_parsed_public_key(parameters).ok().filter(is_strong)
        }
        (Scheme::Curve(curve, name, bytes), "EC") if text("crv") == Some(name) => {
            let (x, y) = (number("x")?, number("y")?);
            let is_whole = x.len() == bytes && y.len() == bytes;
            is_whole.then(|| ParsedPublicKey::new(curve, [&[4], &*x, &*y].concat()).ok()).flatten()
        }
        (Scheme::Edwards, "OKP") if text("crv") == Some("Ed25519") => {
            let x = number("x").filter(|x| x.len() == signature::ED25519_PUBLIC_KEY_LEN)?;
            ParsedPublicKey::new(&signature::ED25519, x).ok()
        }
        _ => None,
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// Whether an RSA key has 2048 bits or more. The library looks only when it verifies, which is too late to tell anybody.
fn is_strong(key: &ParsedPublicKey) -> bool {
    let der: Option<PublicKeyX509Der<'_>> = key.as_der().ok();
    der.and_then(|der| rsa::PublicEncryptingKey::from_der(der.as_ref()).ok())
        .is_some_and(|key| (2048..=8192).contains(&key.key_size_bits()))
}

/// What is in the blocks of public keys (RFC 7468, 13), and in those of RSA's own older form; `None` for one that is damaged.
fn pem_blocks(text: &str) -> impl Iterator<Item = Option<Vec<u8>>> + '_ {
    let beginnings = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN RSA PUBLIC KEY-----"];
    beginnings.into_iter().flat_map(move |beginning| text.split(beginning).skip(1)).map(|rest| {
        let (inside, _) = rest.split_once("-----END ")?;
        STANDARD.decode(inside.split_ascii_whitespace().collect::<String>()).ok()
    })
}
