//! Tokens as providers sign them, and as forgers would: any header and any payload, signed with any key.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Somebody who signs.
pub enum Signer {
    /// HMAC with SHA-256 and this secret.
    Secret(Vec<u8>),
    /// ECDSA on P-256.
    Curve(Box<EcdsaKeyPair>),
}

impl Signer {
    /// With a new private key on P-256.
    ///
    /// # Panics
    /// If there is no randomness.
    pub fn new() -> Self {
        Self::Curve(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key")))
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({}), claims)
    }

    /// A token with these claims, and more in its header.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let algorithm = match self {
            Self::Secret(_) => "HS256",
            Self::Curve(_) => "ES256",
        };
        let mut full = serde_json::Map::from_iter([("alg".to_owned(), json!(algorithm))]);
        full.extend(header.as_object().cloned().unwrap_or_default());
        self.sign(&Value::Object(full).to_string(), &claims.to_string())
    }

    /// Signs whatever these texts are.
    ///
    /// # Panics
    /// If there is no randomness.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = match self {
            Self::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes()).as_ref().to_vec()
            }
            Self::Curve(key) => key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed").as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The public key in PEM.
    ///
    /// # Panics
    /// If there is none.
    pub fn pem(&self) -> String {
        let Self::Curve(key) = self else { panic!("a secret is not published") };
        let der = key.public_key().as_der().expect("a public key");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    /// A key set with the public key under this name (RFC 7517).
    ///
    /// # Panics
    /// If there is none.
    pub fn key_set(&self, id: &str) -> String {
        let Self::Curve(key) = self else { panic!("a secret is not published") };
        let point = key.public_key().as_ref().get(1..).expect("an uncompressed point");
        let (x, y) = point.split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": id, "x": x, "y": y }] }).to_string()
    }
}

impl Default for Signer {
    fn default() -> Self {
        Self::new()
    }
}

/// A user and a password, as `Basic` has them.
pub fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// One part of a token.
pub fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}
