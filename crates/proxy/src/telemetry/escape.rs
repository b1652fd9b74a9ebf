//! JSON strings written straight into bytes. Whatever a client sent comes out as valid JSON that is harmless on a terminal and
//! in a log viewer: no control characters, no direction overrides, no invalid UTF-8, no endless values.

/// Values longer than this many bytes are cut, and end with `…`.
pub(crate) const MAX_VALUE: usize = 4096;

/// Writes the inside of a string.
#[inline]
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    if text.len() <= MAX_VALUE {
        return escape(out, text.as_bytes());
    }
    let end = text.floor_char_boundary(MAX_VALUE);
    escape(out, text.get(..end).unwrap_or_default().as_bytes());
    out.extend_from_slice("…".as_bytes());
}

/// Writes the inside of a string; what is not UTF-8 becomes U+FFFD.
pub(crate) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    let (value, cut) = value.split_at_checked(MAX_VALUE).unwrap_or((value, &[]));
    if cut.is_empty() && is_plain(value) {
        return out.extend_from_slice(value);
    }
    for chunk in value.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if !cut.is_empty() {
        out.extend_from_slice("…".as_bytes());
    }
}

/// `text` is UTF-8.
#[inline]
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        out.extend_from_slice(text);
    } else {
        escape_special(out, text);
    }
}

#[cold]
fn escape_special(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.iter().take_while(|byte| !is_special(**byte)).count();
        let (done, special) = rest.split_at(plain);
        out.extend_from_slice(done);
        rest = special.get(escape_one(out, special)..).unwrap_or_default();
    }
}

/// Nothing to escape and no letter beyond ASCII: nearly every value. Eight bytes at a time, of which the last may have been looked
/// at before.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let words = words.iter().fold(0, |found, word| found | odd(u64::from_le_bytes(*word)));
    let rest = match (text.last_chunk::<8>(), rest) {
        (_, []) => 0,
        (Some(last), _) => odd(u64::from_le_bytes(*last)),
        (None, short) => odd(short_word(short)),
    };
    (words | rest) & HIGH == 0
}

/// Up to seven bytes as a word, among plain ones.
#[inline]
fn short_word(text: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    text.iter().fold(PLAIN, |word, byte| word << 8 | u64::from(*byte))
}

const EVERY: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * EVERY;
/// Eight plain bytes.
const PLAIN: u64 = 0x61 * EVERY;

/// The high bit of a byte is set where the byte is a control, a quote, a backslash, DEL or beyond ASCII. A borrow or carry out of
/// a byte happens only where that byte itself is one of these, so it never makes a plain word look odd.
#[inline]
fn odd(word: u64) -> u64 {
    let control = word.wrapping_sub(0x20 * EVERY);
    let quote = (word ^ (u64::from(b'"') * EVERY)).wrapping_sub(EVERY);
    let backslash = (word ^ (u64::from(b'\\') * EVERY)).wrapping_sub(EVERY);
    let delete = word.wrapping_add(EVERY);
    word | control | quote | backslash | delete
}

/// Controls, quotes and the first bytes of the characters that `escape_one` knows.
fn is_special(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | 0x7f | 0xc2 | 0xe2 | 0xef)
}

/// Writes the character that `text` begins with, escaped if it must be, and tells its length.
fn escape_one(out: &mut Vec<u8>, text: &[u8]) -> usize {
    match *text {
        [quote @ (b'"' | b'\\'), ..] => out.extend_from_slice(&[b'\\', quote]),
        [b'\n', ..] => out.extend_from_slice(b"\\n"),
        [b'\r', ..] => out.extend_from_slice(b"\\r"),
        [b'\t', ..] => out.extend_from_slice(b"\\t"),
        // U+0080 to U+009F: C1 controls, which some terminals obey.
        [0xc2, low @ 0x80..=0x9f, ..] => return escape_char(out, u32::from(low), 2),
        // U+200B to U+200F, U+2028 to U+202E, U+2066 to U+2069: invisible, line ends and direction overrides.
        [0xe2, 0x80, low @ (0x8b..=0x8f | 0xa8..=0xae), ..] => {
            return escape_char(out, 0x2000 | u32::from(low & 0x3f), 3);
        }
        [0xe2, 0x81, low @ 0xa6..=0xa9, ..] => return escape_char(out, 0x2040 | u32::from(low & 0x3f), 3),
        // U+FEFF, the byte order mark.
        [0xef, 0xbb, 0xbf, ..] => return escape_char(out, 0xfeff, 3),
        [control @ (..0x20 | 0x7f), ..] => return escape_char(out, u32::from(control), 1),
        [other, ..] => out.push(other),
        [] => return 0,
    }
    1
}

fn escape_char(out: &mut Vec<u8>, code: u32, length: usize) -> usize {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        let digit = (code >> shift) & 0xf;
        out.push(char::from_digit(digit, 16).map_or(b'0', |digit| u8::try_from(digit).unwrap_or(b'0')));
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &[u8]) -> String {
        let mut out = vec![b'"'];
        bytes(&mut out, value);
        out.push(b'"');
        let text = String::from_utf8(out).expect("a log line is UTF-8");
        serde_json::from_str::<String>(&text).expect("a log line is JSON");
        text
    }

    #[test]
    fn quotes_and_controls_are_escaped() {
        assert_eq!(written(b"a\"b\\c\nd\re\tf\0g\x1b[31mh\x7f"), r#""a\"b\\c\nd\re\tf\u0000g\u001b[31mh\u007f""#);
    }

    #[test]
    fn c1_controls_and_direction_overrides_are_escaped_but_letters_are_not() {
        assert_eq!(
            written("\u{9b}31m \u{202e}gpj \u{2066} \u{200b} \u{feff} \u{2028}".as_bytes()),
            r#""\u009b31m \u202egpj \u2066 \u200b \ufeff \u2028""#
        );
        assert_eq!(written("é ü € … 日本 ﷽ 🦀 \u{2013}".as_bytes()), "\"é ü € … 日本 ﷽ 🦀 \u{2013}\"");
    }

    #[test]
    fn every_byte_is_told_apart_at_every_place_of_a_word() {
        for byte in 0..=255 {
            let plain = (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
            for (length, place) in (0..18).flat_map(|length| (0..length).map(move |place| (length, place))) {
                let mut text = vec![b'a'; length];
                text[place] = byte;
                assert_eq!(is_plain(&text), plain, "{byte:#x} at {place} of {length}");
            }
        }
    }

    #[test]
    fn what_is_not_utf8_becomes_the_replacement_character() {
        assert_eq!(written(b"a\xffb\xc2"), "\"a\u{fffd}b\u{fffd}\"");
        assert_eq!(written(b"\xe2\x80"), "\"\u{fffd}\"");
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let long = "é".repeat(MAX_VALUE);
        let mut out = Vec::new();
        text(&mut out, &format!("x{long}"));
        let cut = String::from_utf8(out).expect("cut between characters");
        assert_eq!(cut.len(), MAX_VALUE - 1 + "…".len());
        assert!(cut.ends_with("é…"));
        assert!(written(&vec![b'a'; 2 * MAX_VALUE]).ends_with("a…\""));
    }
}
