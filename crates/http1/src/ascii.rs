//! Byte classes of RFC 9110 5.6 and RFC 3986, and scans over them eight bytes at a time.

/// `tchar` of RFC 9110 5.6.2: what methods and field names are made of.
#[inline]
pub(crate) fn is_token_byte(byte: u8) -> bool {
    class(byte) & TOKEN != 0
}

/// At least one byte, all of them `tchar`.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token_byte(b))
}

/// The place of the first byte that may not stand in a request target: anything but visible ASCII, and `"`, `#`, `<`,
/// `>`. The grave accent is found too: browsers send it in queries only, and the caller lets it pass there.
#[inline]
pub(crate) fn find_target_end(bytes: &[u8]) -> Option<usize> {
    let from = skip_blocks(bytes, has_no_target_byte);
    let rest = bytes.get(from..)?;
    rest.iter().position(|&b| class(b) & TARGET == 0).map(|at| from + at)
}

/// What may stand in a host name: the unreserved characters of RFC 3986 2.3.
pub(crate) fn is_host_byte(byte: u8) -> bool {
    class(byte) & HOST != 0
}

/// The place of the first byte that no field value may contain: a control byte other than HTAB (RFC 9110 5.5).
#[inline]
pub(crate) fn find_control(bytes: &[u8]) -> Option<usize> {
    let at = find_control_or_tab(bytes)?;
    if bytes.get(at) == Some(&b'\t') { find_control_after_tab(bytes, at) } else { Some(at) }
}

#[cold]
fn find_control_after_tab(bytes: &[u8], mut tab: usize) -> Option<usize> {
    loop {
        let at = tab + 1 + find_control_or_tab(bytes.get(tab + 1..)?)?;
        if bytes.get(at) != Some(&b'\t') {
            return Some(at);
        }
        tab = at;
    }
}

/// The place of the first colon or byte up to and including SP: where a field name ends, rightly or wrongly.
#[inline]
pub(crate) fn find_name_end(bytes: &[u8]) -> Option<usize> {
    find(bytes, |x| zeros(x ^ each(b':')) | below(x, 0x21), |b| b == b':' || b <= b' ')
}

/// Without SP and HTAB at both ends (OWS, RFC 9110 5.6.3).
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[inline]
fn find_control_or_tab(bytes: &[u8]) -> Option<usize> {
    let (blocks, tail) = bytes.as_chunks();
    for (i, block) in blocks.iter().enumerate() {
        if has_control_or_tab(block) {
            return find_control_or_tab_in(block).map(|at| i * 16 + at);
        }
    }
    find_control_or_tab_in(tail).map(|at| blocks.len() * 16 + at)
}

#[inline]
fn find_control_or_tab_in(bytes: &[u8]) -> Option<usize> {
    find(bytes, |x| below(x, 0x20) | zeros(x ^ each(0x7f)), |b| b < 0x20 || b == 0x7f)
}

/// `word` marks the high bit of matching bytes, of which only the lowest is looked at; `byte` decides the tail.
#[inline]
fn find(bytes: &[u8], word: impl Fn(u64) -> u64, byte: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, chunk) in words.iter().enumerate() {
        let marks = word(u64::from_le_bytes(*chunk));
        if marks != 0 {
            return Some(i * 8 + (marks.trailing_zeros() / 8) as usize);
        }
    }
    tail.iter().position(|&b| byte(b)).map(|at| words.len() * 8 + at)
}

/// How many of the bytes lie in blocks of 16 before the first one that has what is looked for.
#[inline]
fn skip_blocks(bytes: &[u8], found: impl Fn(&[u8; 16]) -> bool) -> usize {
    let (blocks, _) = bytes.as_chunks();
    16 * blocks.iter().take_while(|block| !found(block)).count()
}

#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "without branches it becomes a handful of vector instructions")]
fn has_control_or_tab(block: &[u8; 16]) -> bool {
    block.iter().fold(false, |found, &b| found | (b < 0x20) | (b == 0x7f))
}

#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "without branches it becomes a few dozen vector instructions")]
fn has_no_target_byte(block: &[u8; 16]) -> bool {
    let invisible = block.iter().fold(false, |found, &b| found | (b.wrapping_sub(b'!') > b'~' - b'!'));
    let quotes = block.iter().fold(false, |found, &b| found | (b == b'"') | (b == b'#'));
    let brackets = block.iter().fold(false, |found, &b| found | (b == b'<') | (b == b'>') | (b == b'`'));
    invisible | quotes | brackets
}

const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// High bits of the bytes below `limit` (at most 0x80). Exact for the lowest mark; a borrow may set marks above it.
#[inline]
const fn below(x: u64, limit: u8) -> u64 {
    x.wrapping_sub(each(limit)) & !x & each(0x80)
}

/// High bits of the zero bytes, exact for the lowest mark.
#[inline]
const fn zeros(x: u64) -> u64 {
    below(x, 1)
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const HOST: u8 = 4;

#[inline]
fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte: u8 = 0x21;
    while byte < 0x7f {
        let mut class = 0;
        if byte.is_ascii_alphanumeric() || is_one_of(byte, b"!#$%&'*+-.^_`|~") {
            class |= TOKEN;
        }
        if !is_one_of(byte, b"\"#<>`") {
            class |= TARGET;
        }
        if byte.is_ascii_alphanumeric() || is_one_of(byte, b"-._~") {
            class |= HOST;
        }
        #[expect(clippy::indexing_slicing, reason = "a byte is below 256")]
        {
            classes[byte as usize] = class;
        }
        byte += 1;
    }
    classes
};

const fn is_one_of(byte: u8, mut set: &[u8]) -> bool {
    while let [first, rest @ ..] = set {
        if *first == byte {
            return true;
        }
        set = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of a word and of a tail, among bytes that do not match.
    fn places() -> impl Iterator<Item = (Vec<u8>, usize, u8)> {
        (0..44).flat_map(|at| {
            (0..=255).map(move |byte| {
                let mut bytes = vec![b'a'; 44];
                bytes[at] = byte;
                (bytes, at, byte)
            })
        })
    }

    #[test]
    fn controls_are_found_at_every_place_and_tabs_and_high_bytes_are_not() {
        for (bytes, at, byte) in places() {
            let expected = ((byte < 0x20 && byte != b'\t') || byte == 0x7f).then_some(at);
            assert_eq!(find_control(&bytes), expected, "{byte:#x} at {at}");
        }
        assert_eq!(find_control(b"\t\t\t\t\t\t\t\t\t\0"), Some(9));
    }

    #[test]
    fn the_end_of_a_target_is_found_at_every_place() {
        for (bytes, at, byte) in places() {
            let expected = (!byte.is_ascii_graphic() || b"\"#<>`".contains(&byte)).then_some(at);
            assert_eq!(find_target_end(&bytes), expected, "{byte:#x} at {at}");
        }
    }

    #[test]
    fn the_end_of_a_name_is_found_at_every_place() {
        for (bytes, at, byte) in places() {
            let expected = (byte <= b' ' || byte == b':').then_some(at);
            assert_eq!(find_name_end(&bytes), expected, "{byte:#x} at {at}");
        }
    }

    #[test]
    fn token_bytes_are_those_of_rfc_9110() {
        let tokens: Vec<u8> = (0..=255).filter(|&b| is_token_byte(b)).collect();
        let expected = b"!#$%&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~";
        assert_eq!(tokens, expected);
    }

    #[test]
    fn trimming_takes_spaces_and_tabs_only() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\x0ba\x0b"), b"\x0ba\x0b");
    }
}
