//! The identifier that a request has in every log on its way. Randomness is an argument; nothing here decides where the id
//! is sent.

use tidegate_config::config::AcceptRequestId;
use tidegate_http1::{Fields, NameRef};

/// The longest identifier that is taken over from a client, in bytes.
pub const MAX_LENGTH: usize = 128;

/// A request's identifier: taken over, or made here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// Becomes the identifier in the field `name`, if the configuration accepts one from this peer and it is well formed and alone;
    /// else a new one from 128 random bits.
    pub fn choose<'n>(
        &mut self,
        (accept, trusted): (AcceptRequestId, bool),
        fields: &Fields,
        name: impl Into<NameRef<'n>>,
        random: u128,
    ) {
        let accepted = match accept {
            AcceptRequestId::Any => true,
            AcceptRequestId::Trusted => trusted,
            AcceptRequestId::Never => false,
        };
        let received = if accepted { fields.single(name).ok().flatten().and_then(well_formed) } else { None };
        self.0.clear();
        match received {
            Some(id) => self.0.push_str(id),
            None => self.push_new(random),
        }
    }

    /// A new one from 128 random bits.
    pub fn new(random: u128) -> Self {
        let mut id = Self::default();
        id.push_new(random);
        id
    }

    fn push_new(&mut self, random: u128) {
        // Always ASCII.
        self.0.push_str(std::str::from_utf8(&uuid(random)).unwrap_or_default());
    }

    /// The text, as it is sent and logged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of a well-formed identifier: 1 to 128 visible ASCII characters without quotes, backslash and the delimiters of
/// lists, so that it can stand in any log, field or JSON text as it is.
pub fn well_formed(value: &[u8]) -> Option<&str> {
    let allowed =
        |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`' | b'\\' | b',' | b'<' | b'>');
    let good = (1..=MAX_LENGTH).contains(&value.len()) && value.iter().all(allowed);
    if good { std::str::from_utf8(value).ok() } else { None }
}

/// The text of a random UUID (version 4, RFC 9562 5.4) of which `random` gives 122 bits.
pub fn uuid(random: u128) -> [u8; 36] {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    let value = random & !VERSION & !VARIANT | 4 << 76 | 0b10 << 62;
    let mut text = [b'-'; 36];
    let (groups, bytes) = ([0..8, 9..13, 14..18, 19..23, 24..36], value.to_be_bytes());
    let mut bytes = bytes.iter();
    for group in groups {
        let digits = text.get_mut(group).unwrap_or_default();
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(&mut bytes) {
            *pair = PAIRS.get(usize::from(*byte)).copied().unwrap_or_default();
        }
    }
    text
}

/// Every byte in two digits.
static PAIRS: [[u8; 2]; 256] = pairs();

#[expect(clippy::indexing_slicing, reason = "runs in the compiler only")]
const fn pairs() -> [[u8; 2]; 256] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
}
