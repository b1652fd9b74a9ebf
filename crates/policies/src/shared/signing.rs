//! What providers do, for tests: they make keys, publish them, and sign tokens.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Somebody who signs tokens.
pub(crate) struct Signer {
    algorithm: &'static str,
    key: Private,
}

enum Private {
    Secret(Box<hmac::Key>),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Curve(EcdsaKeyPair, &'static str),
    Edwards(Ed25519KeyPair),
}

impl Signer {
    /// With a secret.
    pub(crate) fn secret(algorithm: &'static str, secret: &[u8]) -> Self {
        let hash = match algorithm {
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        Self { algorithm, key: Private::Secret(Box::new(hmac::Key::new(hash, secret))) }
    }

    /// With a new private key.
    pub(crate) fn new(algorithm: &'static str) -> Self {
        let curve = |signing, name| Private::Curve(EcdsaKeyPair::generate(signing).unwrap(), name);
        let rsa = |encoding| Private::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), encoding);
        let key = match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_SHA512),
            "ES256" => curve(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            "ES384" => curve(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            "ES512" => curve(&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
            _ => Private::Edwards(Ed25519KeyPair::generate().unwrap()),
        };
        Self { algorithm, key }
    }

    /// A token with these claims, and with more in its header.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let mut full = json!({ "alg": self.algorithm });
        for (name, value) in header.as_object().unwrap() {
            full[name] = value.clone();
        }
        self.sign(&full.to_string(), &claims.to_string())
    }

    /// A token with these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({}), claims)
    }

    /// A token of any two texts.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Private::Secret(key) => hmac::sign(key, signed).as_ref().to_vec(),
            Private::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, signed, &mut signature).unwrap();
                signature
            }
            Private::Curve(key, _) => key.sign(&random, signed).unwrap().as_ref().to_vec(),
            Private::Edwards(key) => key.sign(signed).as_ref().to_vec(),
        }
    }

    /// The public key as a JWK of this name.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.key {
            Private::Secret(_) => panic!("a secret is not published"),
            Private::Rsa(key, _) => {
                let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
                json!({ "kty": "RSA", "n": text(n.big_endian_without_leading_zero()), "e": text(e.big_endian_without_leading_zero()) })
            }
            Private::Curve(key, name) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": name, "x": text(x), "y": text(y) })
            }
            Private::Edwards(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref()) }),
        };
        jwk["kid"] = id.into();
        jwk
    }

    /// The public key in PEM.
    pub(crate) fn pem(&self) -> String {
        let der = match &self.key {
            Private::Secret(_) => panic!("a secret is not published"),
            Private::Rsa(key, _) => key.public_key().as_der().unwrap().as_ref().to_vec(),
            Private::Curve(key, _) => key.public_key().as_der().unwrap().as_ref().to_vec(),
            Private::Edwards(key) => key.public_key().as_der().unwrap().as_ref().to_vec(),
        };
        let body = STANDARD.encode(der);
        let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}

/// A JWK set.
pub(crate) fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}
