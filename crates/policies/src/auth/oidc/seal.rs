//! Texts that browsers keep for the gateway: nobody else can read them or make one. Each is sealed with a key of its own, derived from a secret
//! and from what the text is for, so one that was made for something else, for another host or another client does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};

/// Random bytes before each text, from which its key comes. Two texts never have the same, so no nonce meets its key twice.
const SALT: usize = 24;

/// Bytes of a key of AES-256.
const KEY: usize = 32;

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody has logged in.
    Session,
    /// Somebody is about to.
    Login,
}

/// Seals texts with the first of some secrets, and opens those of all of them.
pub(super) struct Seal {
    keys: Vec<Prk>,
    /// The way and its client.
    context: String,
}

impl Seal {
    /// `secrets` are not empty; the first one seals.
    pub(super) fn new(secrets: &[String], context: String) -> Self {
        let salt = Salt::new(HKDF_SHA256, b"tidegate oidc");
        Self { keys: secrets.iter().map(|secret| salt.extract(secret.as_bytes())).collect(), context }
    }

    /// Seals a text for a host; `None` if the system gives no randomness.
    pub(super) fn seal(&self, purpose: Purpose, host: &str, text: &[u8]) -> Option<String> {
        let mut sealed = vec![0; SALT];
        rand::fill(&mut sealed).ok()?;
        let (key, nonce) = self.derive(self.keys.first()?, (purpose, host), &sealed)?;
        let mut body = text.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut body).ok()?;
        sealed.append(&mut body);
        Some(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What was sealed for this; `None` is anything else.
    pub(super) fn open(&self, purpose: Purpose, host: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (salt, body) = sealed.split_at_checked(SALT)?;
        self.keys.iter().find_map(|secret| {
            let (key, nonce) = self.derive(secret, (purpose, host), salt)?;
            let mut body = body.to_vec();
            let length = key.open_in_place(nonce, Aad::empty(), &mut body).ok()?.len();
            body.truncate(length);
            Some(body)
        })
    }

    fn derive(&self, secret: &Prk, (purpose, host): (Purpose, &str), salt: &[u8]) -> Option<(LessSafeKey, Nonce)> {
        // None of them can have a zero in it, and the salt is always as long.
        let purpose = format!("{purpose:?}\0{host}\0{}", self.context);
        let mut bytes = [0; KEY + NONCE_LEN];
        secret.expand(&[salt, purpose.as_bytes()], Length).ok()?.fill(&mut bytes).ok()?;
        let (key, nonce) = bytes.split_at_checked(KEY)?;
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        Some((LessSafeKey::new(key), Nonce::try_assume_unique_for_key(nonce).ok()?))
    }
}

/// How much is derived.
#[derive(Debug, Clone, Copy)]
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY + NONCE_LEN
    }
}

/// So many random bytes as base64url, good for secrets; `None` if the system gives none.
pub(super) fn random<const BYTES: usize>() -> Option<String> {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).ok()?;
    Some(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(secrets: &[&str], context: &str) -> Seal {
        let secrets: Vec<_> = secrets.iter().map(ToString::to_string).collect();
        Seal::new(&secrets, context.to_owned())
    }

    #[test]
    fn a_text_opens_for_what_it_was_sealed_and_for_nothing_else() {
        let ours = seal(&["a"], "login");
        let sealed = ours.seal(Purpose::Session, "a.test", b"secret").unwrap();
        let opened = |seal: &Seal, purpose, host| seal.open(purpose, host, sealed.as_bytes());
        assert_eq!(opened(&ours, Purpose::Session, "a.test").as_deref(), Some(&b"secret"[..]));
        assert_eq!(opened(&ours, Purpose::Login, "a.test"), None);
        assert_eq!(opened(&ours, Purpose::Session, "b.test"), None);
        assert_eq!(opened(&seal(&["a"], "other"), Purpose::Session, "a.test"), None);
        assert_eq!(opened(&seal(&["b"], "login"), Purpose::Session, "a.test"), None);
    }

    #[test]
    fn a_new_secret_opens_what_the_old_one_has_sealed_as_long_as_both_are_there() {
        let sealed = seal(&["old"], "").seal(Purpose::Session, "", b"x").unwrap();
        assert!(seal(&["new", "old"], "").open(Purpose::Session, "", sealed.as_bytes()).is_some());
        assert!(seal(&["new"], "").open(Purpose::Session, "", sealed.as_bytes()).is_none());
        let sealed = seal(&["new", "old"], "").seal(Purpose::Session, "", b"x").unwrap();
        assert!(seal(&["new"], "").open(Purpose::Session, "", sealed.as_bytes()).is_some());
    }

    #[test]
    fn nothing_that_was_changed_or_cut_opens_and_no_two_are_alike() {
        let seal = seal(&["a"], "");
        let sealed = seal.seal(Purpose::Session, "", b"text").unwrap();
        assert_ne!(Some(&sealed), seal.seal(Purpose::Session, "", b"text").as_ref());
        assert!(!sealed.contains("text"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = BASE64_URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(seal.open(Purpose::Session, "", changed.as_bytes()), None, "{at}");
            let cut = BASE64_URL_SAFE_NO_PAD.encode(&bytes[..at]);
            assert_eq!(seal.open(Purpose::Session, "", cut.as_bytes()), None, "{at}");
        }
        for odd in ["", "=", "%", "a b", "\u{e9}"] {
            assert_eq!(seal.open(Purpose::Session, "", odd.as_bytes()), None, "{odd}");
        }
    }
}
