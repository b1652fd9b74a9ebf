//! The cookie of `load_balancing: sticky_cookie`: it names an endpoint by its key, signed, so that no client can choose one.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use tidegate_config::config::StickyCookie;
use tidegate_core::affinity;
use tidegate_core::query;
use tidegate_http1::Fields;

const KEY: usize = 8;
/// HMAC-SHA256, cut off: 128 bits are more than can be guessed online.
const TAG: usize = 16;
const SIGNED: usize = KEY + TAG;
/// Four characters for three bytes, and nothing left over.
const TEXT: usize = SIGNED / 3 * 4;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Makes and reads a service's sticky cookie.
#[derive(Debug)]
pub struct Sticky {
    name: Arc<str>,
    max_age: Option<Duration>,
    secret: hmac::Key,
}

impl Sticky {
    /// `random` is asked for a secret where none is configured; then it must give the same to all workers.
    pub fn new(config: &StickyCookie, random: impl FnOnce() -> [u8; 32]) -> Self {
        let secret = match &config.secret {
            Some(secret) => hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_bytes()),
            None => hmac::Key::new(hmac::HMAC_SHA256, &random()),
        };
        Self { name: Arc::clone(&config.name), max_age: config.max_age, secret }
    }

    /// The endpoint's key that a client's cookie names; `None` without a cookie that was signed here.
    pub fn preferred(&self, fields: &Fields) -> Option<u64> {
        query::cookies(fields, &self.name).find_map(|value| self.verify(value))
    }

    /// The value of the `Set-Cookie` field that keeps a client with the endpoint of this key; `secure` keeps it to https.
    pub fn set_cookie(&self, key: u64, secure: bool) -> String {
        affinity::set_cookie(&self.name, &encode(&self.sign(key)), self.max_age, secure)
    }

    /// The key, and the tag of the cookie's name and the key: a cookie of another name is another cookie.
    fn sign(&self, key: u64) -> [u8; SIGNED] {
        let key = key.to_be_bytes();
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(self.name.as_bytes());
        context.update(&key);
        let tag = context.sign();
        let mut signed = [0; SIGNED];
        for (to, from) in signed.iter_mut().zip(key.iter().chain(tag.as_ref())) {
            *to = *from;
        }
        signed
    }

    fn verify(&self, value: &[u8]) -> Option<u64> {
        let signed = decode(value)?;
        let key = u64::from_be_bytes(*signed.first_chunk()?);
        constant_time::verify_slices_are_equal(&signed, &self.sign(key)).ok()?;
        Some(key)
    }
}

/// Base64 for URLs (RFC 4648 5).
fn encode(signed: &[u8; SIGNED]) -> String {
    let groups = signed.as_chunks().0.iter().map(|&[a, b, c]| u32::from_be_bytes([0, a, b, c]));
    let digits = groups.flat_map(|group| [18, 12, 6, 0].map(|shift| (group >> shift & 63) as usize));
    digits.filter_map(|digit| ALPHABET.get(digit)).map(|&byte| char::from(byte)).collect()
}

fn decode(text: &[u8]) -> Option<[u8; SIGNED]> {
    let text: &[u8; TEXT] = text.try_into().ok()?;
    let mut signed = [0; SIGNED];
    for (bytes, digits) in signed.as_chunks_mut().0.iter_mut().zip(text.as_chunks::<4>().0) {
        let mut group = 0;
        for &digit in digits {
            group = group << 6 | value(digit)?;
        }
        let [_, a, b, c] = group.to_be_bytes();
        *bytes = [a, b, c];
    }
    Some(signed)
}

fn value(digit: u8) -> Option<u32> {
    Some(match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use tidegate_config::config::Secret;

    use super::*;

    fn sticky(name: &str, secret: Option<&str>, random: u8) -> Sticky {
        let secret = secret.map(|secret| Secret(secret.into()));
        Sticky::new(&StickyCookie { name: name.into(), secret, max_age: None }, || [random; 32])
    }

    fn cookies(line: &str) -> Fields {
        let mut fields = Fields::new();
        fields.append("cookie", line.as_bytes()).unwrap();
        fields
    }

    /// `name=value` of the cookie that `sticky` sets.
    fn pair(sticky: &Sticky, key: u64) -> String {
        sticky.set_cookie(key, false).split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_cookie_that_was_set_names_its_endpoint() {
        let sticky = sticky("tg", Some("s3cret"), 0);
        for key in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let line = format!("a=1; {}; b=2", pair(&sticky, key));
            assert_eq!(sticky.preferred(&cookies(&line)), Some(key));
        }
        assert_eq!(sticky.preferred(&Fields::new()), None);
    }

    #[test]
    fn a_cookie_is_the_same_in_every_gateway_with_the_secret() {
        assert_eq!(pair(&sticky("tg", Some("s3cret"), 1), 7), "tg=AAAAAAAAAAfk43Pu1CZgBbsLTBL2W-Rb");
    }

    #[test]
    fn without_a_secret_only_those_with_the_same_random_number_agree() {
        let fields = cookies(&pair(&sticky("tg", None, 1), 7));
        assert_eq!(sticky("tg", None, 1).preferred(&fields), Some(7));
        assert_eq!(sticky("tg", None, 2).preferred(&fields), None);
    }

    #[test]
    fn a_cookie_of_another_name_or_secret_is_none() {
        let ours = sticky("tg", Some("s3cret"), 0);
        let foreign = pair(&sticky("tg", Some("other"), 0), 7);
        assert_eq!(ours.preferred(&cookies(&foreign)), None);
        let renamed = pair(&sticky("ab", Some("s3cret"), 0), 7).replace("ab=", "tg=");
        assert_eq!(ours.preferred(&cookies(&renamed)), None);
        assert_eq!(ours.preferred(&cookies(&format!("{foreign}; {}", pair(&ours, 7)))), Some(7));
    }

    #[test]
    fn a_cookie_with_any_character_changed_or_missing_is_none() {
        let sticky = sticky("tg", Some("s3cret"), 0);
        let good = pair(&sticky, 0x0123_4567_89ab_cdef).into_bytes();
        for at in 3..good.len() {
            for other in [b'A', b'z', b'9', b'-', b'_', b'=', b'+', b'/', b'.', b'\xc3'] {
                let mut bad = good.clone();
                bad[at] = other;
                let mut fields = Fields::new();
                fields.append("cookie", &bad).unwrap();
                assert_eq!(sticky.preferred(&fields).is_some(), bad == good, "{}", String::from_utf8_lossy(&bad));
            }
            let cut = String::from_utf8(good[..at].to_vec()).unwrap();
            assert_eq!(sticky.preferred(&cookies(&cut)), None, "{cut}");
            assert_eq!(sticky.preferred(&cookies(&format!("{cut}A"))).is_some(), format!("{cut}A").as_bytes() == good);
        }
    }

    #[test]
    fn a_cookie_is_kept_from_scripts_and_from_other_sites() {
        let config = StickyCookie { name: "tg".into(), secret: None, max_age: Some(Duration::from_hours(1)) };
        let sticky = Sticky::new(&config, || [0; 32]);
        let cookie = sticky.set_cookie(1, true);
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"), "{cookie}");
        assert!(!sticky.set_cookie(1, false).contains("Secure"));
    }
}
