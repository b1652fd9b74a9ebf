//! The text of a key: `tg_`, its id, `_`, the secret in base64url, and a checksum that tells a typing error from a wrong key.
//! The checksum proves nothing: it only saves a look-up.

/// Random bytes that an id is made of.
pub const ID_BYTES: usize = 5;
/// Random bytes that a secret is made of.
pub const SECRET_BYTES: usize = 32;

const PREFIX: &[u8] = b"tg_";
/// Characters that an id has.
pub(super) const ID_CHARACTERS: usize = 8;
const SECRET_CHARACTERS: usize = 43;

/// RFC 4648, section 6, in lower case: an id can be read aloud, and never looks like an option.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// RFC 4648, section 5.
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It does not look like a key at all.
    Foreign,
    /// It looks like one, but the checksum is wrong: it was cut or mistyped.
    Mistyped,
}

/// An id of eight letters and digits.
pub fn id(random: [u8; ID_BYTES]) -> String {
    encode(&random, BASE32)
}

/// The key itself: shown once, kept nowhere.
pub fn text(id: &str, secret: &[u8; SECRET_BYTES]) -> String {
    let text = format!("tg_{id}_{}", encode(secret, BASE64URL));
    let checksum = checksum(text.as_bytes());
    text + &checksum
}

/// The id in a text that may be a key. Whether there is such a key is not known yet.
pub fn id_of(presented: &[u8]) -> Result<&str, Malformed> {
    let rest = presented.strip_prefix(PREFIX).ok_or(Malformed::Foreign)?;
    let (id, rest) = rest.split_at_checked(ID_CHARACTERS).ok_or(Malformed::Foreign)?;
    let rest = rest.strip_prefix(b"_").ok_or(Malformed::Foreign)?;
    let is_id = id.iter().all(u8::is_ascii_alphanumeric);
    let id = std::str::from_utf8(id).ok().filter(|_| is_id).ok_or(Malformed::Foreign)?;
    let Some((_, given)) = rest.split_at_checked(SECRET_CHARACTERS) else { return Err(Malformed::Mistyped) };
    let signed = presented.len() - given.len();
    let is_right = presented.get(..signed).is_some_and(|signed| checksum(signed).as_bytes() == given);
    if is_right { Ok(id) } else { Err(Malformed::Mistyped) }
}

/// Characters of as many bits as the alphabet has letters for, the most significant first, without padding.
fn encode(bytes: &[u8], alphabet: &[u8]) -> String {
    let bits = alphabet.len().ilog2();
    let (mut held, mut count) = (0_usize, 0);
    let mut text = String::new();
    let mut push = |value: usize| text.extend(alphabet.get(value % alphabet.len()).map(|letter| char::from(*letter)));
    for byte in bytes {
        held = (held << 8 | usize::from(*byte)) & 0xffff;
        count += 8;
        while count >= bits {
            count -= bits;
            push(held >> count);
        }
    }
    if count > 0 {
        push(held << (bits - count));
    }
    text
}

/// CRC-32 as Ethernet and zip have it, in eight hexadecimal digits.
fn checksum(bytes: &[u8]) -> String {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    format!("{:08x}", !crc)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encodings_and_checksum_are_the_well_known_ones() {
        assert_eq!(encode(b"fooba", BASE32), "mzxw6ytb");
        assert_eq!(encode(b"foob", BASE32), "mzxw6yq");
        assert_eq!(encode(b"foob", BASE64URL), "Zm9vYg");
        assert_eq!(encode(&[0xff; 3], BASE64URL), "____");
        assert_eq!(checksum(b"123456789"), "cbf43926");
    }

    #[test]
    fn a_key_has_63_characters_that_need_no_quotes_anywhere() {
        let key = text(&id([7; 5]), &[7; 32]);
        assert_eq!(key, "tg_a4dqobyh_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc46c7215a");
        assert_eq!(key.len(), 63);
    }

    #[test]
    fn what_is_no_key_is_told_from_what_was_mistyped() {
        let key = text("abcdefgh", &[1; 32]);
        assert_eq!(id_of(key.as_bytes()), Ok("abcdefgh"));
        for foreign in
            ["", "tg_", "tg_abcdefgh", "Bearer x", "sk_abcdefgh_", "tg_abcdefghx", "tg_abc\nefgh_", "tg_abcdéfg_"]
        {
            assert_eq!(id_of(foreign.as_bytes()), Err(Malformed::Foreign), "{foreign}");
        }
        let (cut, longer) = (&key[..62], format!("{key}0"));
        for mistyped in
            [cut, &key[..20], &longer, &key.replacen('E', "F", 1), &key.to_uppercase().replacen("TG", "tg", 1)]
        {
            assert_eq!(id_of(mistyped.as_bytes()), Err(Malformed::Mistyped), "{mistyped}");
        }
    }

    proptest! {
        #[test]
        fn every_key_is_recognised_and_no_single_error_passes(
            random in any::<[u8; 5]>(), secret in any::<[u8; 32]>(), at in 0_usize..63, bit in 0_u32..8,
        ) {
            let id = id(random);
            let key = text(&id, &secret);
            prop_assert_eq!(id_of(key.as_bytes()), Ok(&*id));
            let mut wrong = key.into_bytes();
            wrong[at] ^= 1 << bit;
            prop_assert!(id_of(&wrong).is_err());
        }

        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(id_of(&bytes).is_err());
        }
    }
}
