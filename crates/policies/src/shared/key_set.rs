//! The keys that a token may be signed with: few that are written, or a JWK set (RFC 7517, 5).

use serde_json::Value;

use super::json;
use super::signing_key::{Algorithm, SigningKey};

/// Keys of a set that are looked at; providers publish two or three.
const MOST_KEYS: usize = 100;

/// Bytes of a JWK set.
const MOST_BYTES: usize = 256 * 1024;

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::jws::{Token, Unverified};
    use super::super::signing::{Signer, key_set};
    use super::*;

    const WEAK_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC9MjITwTzKD7zS6D/4e8TYn2G3
bwH56jmCAcTnu5pmh7Tntgcxg0yUFUcruzUpEEN5oNt7QKJxovTibODEA/aEu6hn
pt5VbyRjQ5hRCM4ILTSTzsSjcGtR2myEq1P1M7EFp/sDqYmH2SCDAHxQRr4xTkro
cgHSHi8kT+plI8D/PwIDAQAB
-----END PUBLIC KEY-----
";
    const OTHER_CURVE: &str = "-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE+6B0f32Q4kYtk8tYxlh4KBHgU4eT3wyi
PoqbOTnYD770MsMdJ/2R6i5CIgbvgR9R5L8MoJqMsaWjmSpsuKPOqg==
-----END PUBLIC KEY-----
";

    fn said(token: &str, keys: &KeySet) -> String {
        match Token::read(token.as_bytes()).map_err(Unverified::from).and_then(|token| token.verify(keys)) {
            Ok(claims) => Value::Object(claims).to_string(),
            Err(Unverified::NoKey) => "no key".to_owned(),
            Err(Unverified::Flawed(flaw)) => flaw.to_string(),
        }
    }

    fn refused(jwk: &Value, allowed: &[Algorithm]) -> String {
        KeySet::from_jwks(key_set(std::slice::from_ref(jwk)).as_bytes(), allowed, 0).err().unwrap_or_default()
    }

    #[test]
    fn every_algorithm_is_verified_with_its_own_key_from_a_jwk_and_from_pem() {
        for name in
            ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
        {
            let (signer, other) = (Signer::new(name), Signer::new(name));
            let allowed = [Algorithm::named(&name.into()).unwrap()];
            let token = signer.token_with(&json!({ "kid": "a" }), &json!({ "sub": "ann" }));
            let published = KeySet::from_jwks(key_set(&[signer.jwk("a")]).as_bytes(), &allowed, 0).unwrap();
            let written = KeySet::new(SigningKey::from_pem(signer.pem().as_bytes(), &allowed).unwrap());
            let wrong = KeySet::new(SigningKey::from_pem(other.pem().as_bytes(), &allowed).unwrap());
            assert_eq!(said(&token, &published), "{\"sub\":\"ann\"}", "{name}");
            assert_eq!(said(&token, &written), "{\"sub\":\"ann\"}", "{name}");
            assert_eq!(said(&token, &wrong), "the token's signature is wrong", "{name}");
        }
    }

    #[test]
    fn every_secret_is_as_long_as_the_hash() {
        let secret = [7; 64];
        for (name, least) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
            let allowed = [Algorithm::named(&name.into()).unwrap()];
            let key = SigningKey::from_secret(&secret[..least], &allowed).unwrap();
            let token = Signer::secret(name, &secret[..least]).token(&json!({ "sub": "ann" }));
            assert_eq!(said(&token, &KeySet::new(vec![key])), "{\"sub\":\"ann\"}");
            let refused = SigningKey::from_secret(&secret[1..least], &allowed).err().unwrap();
            assert_eq!(refused, format!("the secret has {} bytes, and {name} needs {least} or more", least - 1));
        }
    }

    #[test]
    fn a_key_verifies_nothing_that_it_is_not_bound_to() {
        let signer = Signer::new("PS256");
        let keys = KeySet::new(SigningKey::from_pem(signer.pem().as_bytes(), &[Algorithm::RS256]).unwrap());
        assert_eq!(said(&signer.token(&json!({})), &keys), "the token's algorithm is not one of its key");
        let jwk = json!({ "alg": "RS256" });
        let mut key = signer.jwk("a");
        key["alg"] = jwk["alg"].clone();
        let keys = KeySet::from_jwks(key_set(&[key]).as_bytes(), &Algorithm::PUBLIC, 0).unwrap();
        assert_eq!(said(&signer.token(&json!({})), &keys), "the token's algorithm is not one of its key");
    }

    #[test]
    fn keys_in_pem_that_are_no_good_are_told_apart() {
        let refused = |text: &str, allowed: &[Algorithm]| SigningKey::from_pem(text.as_bytes(), allowed).err().unwrap();
        assert_eq!(refused(WEAK_RSA, &Algorithm::PUBLIC), "an RSA key has less than 2048 bits, or more than 8192");
        assert!(refused(OTHER_CURVE, &Algorithm::PUBLIC).starts_with("a key is for none of the algorithms [RS256, "));
        assert_eq!(
            refused(&Signer::new("ES384").pem(), &[Algorithm::ES256, Algorithm::RS256]),
            "a key is for none of the algorithms [ES256, RS256]"
        );
        assert_eq!(
            refused("-----BEGIN PRIVATE KEY-----\n", &Algorithm::PUBLIC),
            "there is a private key, not a public one"
        );
        assert_eq!(refused("hello", &Algorithm::PUBLIC), "there is no public key in PEM");
        assert_eq!(refused(&WEAK_RSA[..100], &Algorithm::PUBLIC), "the PEM is damaged");
        let both = format!("{}{}", Signer::new("ES256").pem(), Signer::new("EdDSA").pem());
        assert_eq!(SigningKey::from_pem(both.as_bytes(), &Algorithm::PUBLIC).unwrap().len(), 2);
    }

    #[test]
    fn keys_of_a_set_that_are_no_good_are_passed_over() {
        let (good, curve, edwards) = (Signer::new("ES256"), Signer::new("ES384"), Signer::new("EdDSA"));
        let with = |mut jwk: Value, name: &str, value: Value| {
            jwk[name] = value;
            jwk
        };
        let odd = [
            json!(1),
            json!({}),
            json!({ "kty": "oct", "k": "AAAA", "alg": "HS256", "kid": "a" }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "RSA", "n": "", "e": "" }),
            json!({ "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA" }),
            with(good.jwk("a"), "use", json!("enc")),
            with(good.jwk("a"), "use", json!(null)),
            with(good.jwk("a"), "key_ops", json!(["sign"])),
            with(good.jwk("a"), "alg", json!("none")),
            with(good.jwk("a"), "alg", json!("HS256")),
            with(good.jwk("a"), "alg", json!("ES384")),
            with(good.jwk("a"), "crv", json!("secp256k1")),
            with(good.jwk("a"), "crv", json!("P-384")),
            with(good.jwk("a"), "kty", json!("RSA")),
            with(good.jwk("a"), "x", good.jwk("a")["y"].clone()),
            with(curve.jwk("a"), "crv", json!("P-256")),
            with(edwards.jwk("a"), "crv", json!("X25519")),
            with(edwards.jwk("a"), "x", json!("AAAA")),
        ];
        let mut allowed = Algorithm::PUBLIC.to_vec();
        allowed.extend([Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]);
        for jwk in &odd {
            assert_eq!(refused(jwk, &allowed), "none of the 1 keys of the key set can be used", "{jwk}");
        }
        let mut all = odd.to_vec();
        all.push(with(with(good.jwk("a"), "use", json!("sig")), "key_ops", json!(["verify"])));
        let keys = KeySet::from_jwks(key_set(&all).as_bytes(), &Algorithm::PUBLIC, 0).unwrap();
        assert_eq!(keys.named(None).count(), 1);
        assert_eq!(said(&good.token_with(&json!({ "kid": "a" }), &json!({})), &keys), "{}");
    }

    #[test]
    fn a_token_is_verified_with_the_key_that_it_names_and_no_other() {
        let (a, b) = (Signer::new("ES256"), Signer::new("ES256"));
        let keys = KeySet::from_jwks(key_set(&[a.jwk("a"), b.jwk("b")]).as_bytes(), &Algorithm::PUBLIC, 0).unwrap();
        assert_eq!(said(&a.token_with(&json!({ "kid": "a" }), &json!({})), &keys), "{}");
        assert_eq!(said(&a.token_with(&json!({ "kid": "b" }), &json!({})), &keys), "the token's signature is wrong");
        assert_eq!(said(&b.token(&json!({})), &keys), "{}", "without a name any may be it");
        for other in ["c", "A", "", "a\0", "../a", "a' OR '1'='1"] {
            assert_eq!(said(&a.token_with(&json!({ "kid": other }), &json!({})), &keys), "no key", "{other}");
        }
    }

    #[test]
    fn a_token_without_a_name_costs_four_signatures_at_most() {
        let signers: Vec<_> = std::iter::repeat_with(|| Signer::new("ES256")).take(5).collect();
        let jwks: Vec<_> = signers.iter().map(|signer| signer.jwk("a")).collect();
        let keys = KeySet::from_jwks(key_set(&jwks).as_bytes(), &Algorithm::PUBLIC, 0).unwrap();
        assert_eq!(said(&signers[3].token(&json!({})), &keys), "{}");
        assert_eq!(said(&signers[4].token(&json!({})), &keys), "the token's signature is wrong");
    }

    #[test]
    fn a_set_has_limits() {
        let key = Signer::new("EdDSA").jwk("a");
        let many = KeySet::from_jwks(key_set(&vec![key.clone(); 500]).as_bytes(), &Algorithm::PUBLIC, 0).unwrap();
        assert_eq!(many.named(None).count(), MOST_KEYS);
        let large = format!("{{\"keys\":[{key}],\"x\":\"{}\"}}", "x".repeat(MOST_BYTES));
        for (text, reason) in [
            (large.as_str(), "the key set is larger than 256 KB"),
            ("", "the key set cannot be read: EOF while parsing a value at line 1 column 0"),
            ("{\"keys\":[],\"keys\":[]}", "the key set cannot be read: a name stands twice at line 1 column 21"),
            ("{}", "the key set has no list `keys`"),
            ("{\"keys\":{}}", "the key set has no list `keys`"),
            ("{\"keys\":[]}", "none of the 0 keys of the key set can be used"),
        ] {
            assert_eq!(KeySet::from_jwks(text.as_bytes(), &Algorithm::PUBLIC, 0).err().as_deref(), Some(reason));
        }
    }
}
