//! HTTP/2 frame by frame, for clients that misbehave. Knows as much HPACK as it takes to send any field and to read a status.

use std::net::{SocketAddr, TcpStream};

use crate::stream::{PATIENCE, Stream, guarded};
use crate::wire::{Wire, WireError};

/// Frame types of RFC 9113 section 6.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// PRIORITY.
    pub const PRIORITY: u8 = 2;
    /// `RST_STREAM`.
    pub const RST_STREAM: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// `WINDOW_UPDATE`.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// The flag of SETTINGS and PING that acknowledges.
pub const ACK: u8 = 1;
/// The flag of DATA and HEADERS that ends the stream.
pub const END_STREAM: u8 = 1;
/// The flag of HEADERS and CONTINUATION that ends the block.
pub const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// How a stream that was refused or answered ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A head with this status.
    Status(u16),
    /// `RST_STREAM` with this code.
    Reset(u32),
    /// GOAWAY with this code (0 is an orderly one).
    GoAway(u32),
    /// The connection closed without a word.
    Closed,
}

/// An HTTP/2 connection with prior knowledge.
pub struct Frames {
    wire: Wire,
}

impl Frames {
    /// Connects and sends the preface with empty SETTINGS, except that the gateway may index nothing (so that statuses can be
    /// read without a table).
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[])
    }

    /// As [`Frames::connect`], with these settings besides.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::start(address, b"", settings)
    }

    /// As [`Frames::connect`], after these bytes.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect_after(address: SocketAddr, before: &[u8]) -> Self {
        Self::start(address, before, &[])
    }

    fn start(address: SocketAddr, before: &[u8], settings: &[(u16, u32)]) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap_or_else(|e| panic!("connect: {e}"));
        let mut frames = Self { wire: Wire::new(Stream::Plain(guarded(socket))) };
        frames.raw(&[before, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].concat());
        let no_table = [(1_u16, 0_u32)];
        let payload: Vec<u8> = no_table
            .iter()
            .chain(settings)
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        frames.frame(kind::SETTINGS, 0, 0, &payload);
        frames
    }

    /// Sends bytes as they are; false when the gateway is gone.
    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        self.wire.write(bytes).is_ok()
    }

    /// Ends our half of the connection.
    pub fn half_close(&mut self) {
        self.wire.stream.shutdown_write();
    }

    /// Sends one frame; false when the gateway is gone.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.raw(&encode(kind, flags, stream, payload))
    }

    /// Sends HEADERS with these fields, in this order; false when the gateway is gone.
    pub fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) -> bool {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(kind::HEADERS, flags, stream, &block(fields))
    }

    /// The next frame, or `None` when the gateway is gone.
    ///
    /// # Panics
    /// If nothing comes.
    pub fn frame_in(&mut self) -> Option<Frame> {
        let head = match self.wire.exactly(9) {
            Ok(head) => head,
            Err(WireError::Silent) => panic!("no frame came"),
            Err(_) => return None,
        };
        let &[a, b, c, kind, flags, s1, s2, s3, s4] = head.as_slice() else { return None };
        let payload = self.wire.exactly(u32::from_be_bytes([0, a, b, c]) as usize).ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]), payload })
    }

    /// Reads on (acknowledging settings and pings) until the fate of `stream` is known, or the connection's.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some(frame) = self.frame_in() {
            match frame.kind {
                kind::SETTINGS if frame.flags & ACK == 0 => {
                    self.frame(kind::SETTINGS, ACK, 0, &[]);
                }
                kind::PING if frame.flags & ACK == 0 => {
                    self.frame(kind::PING, ACK, 0, &frame.payload);
                }
                kind::HEADERS if frame.stream == stream => return Outcome::Status(status(&frame.payload)),
                kind::RST_STREAM if frame.stream == stream => return Outcome::Reset(code(&frame.payload, 0)),
                kind::GOAWAY => return Outcome::GoAway(code(&frame.payload, 4)),
                _ => {}
            }
        }
        Outcome::Closed
    }

    /// Reads on until the gateway closes, and tells the code of the last GOAWAY, if there was one.
    pub fn until_closed(&mut self) -> Option<u32> {
        let mut last = None;
        while let Some(frame) = self.frame_in() {
            if frame.kind == kind::GOAWAY {
                last = Some(code(&frame.payload, 4));
            }
        }
        last
    }

    /// Waits for the gateway's SETTINGS, which come first, and acknowledges them.
    ///
    /// # Panics
    /// If something else comes.
    pub fn settled(&mut self) -> Vec<(u16, u32)> {
        let frame = self.frame_in().expect("SETTINGS");
        assert_eq!(frame.kind, kind::SETTINGS, "SETTINGS come first");
        self.frame(kind::SETTINGS, ACK, 0, &[]);
        let setting = |bytes: &[u8]| {
            let (id, value) = bytes.split_at_checked(2)?;
            Some((u16::from_be_bytes(id.try_into().ok()?), u32::from_be_bytes(value.try_into().ok()?)))
        };
        frame.payload.chunks_exact(6).filter_map(setting).collect()
    }
}

/// A frame as bytes.
///
/// # Panics
/// If the payload is longer than a frame can say.
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).ok().filter(|n| *n < 1 << 24).expect("a frame's length").to_be_bytes();
    let mut bytes = length.get(1..).unwrap_or_default().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block with every field as a literal that is not indexed, not compressed (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            integer(&mut out, text.len());
            out.extend(text.as_bytes());
        }
    }
    out
}

/// An integer with a seven bit prefix of which no flag is set (RFC 7541 section 5.1).
pub fn integer(out: &mut Vec<u8>, mut n: usize) {
    if n < 127 {
        out.extend(u8::try_from(n));
        return;
    }
    out.push(127);
    n -= 127;
    while n >= 128 {
        out.extend(u8::try_from(n % 128 + 128));
        n /= 128;
    }
    out.extend(u8::try_from(n));
}

fn code(payload: &[u8], at: usize) -> u32 {
    let bytes = payload.get(at..at + 4).and_then(|b| b.try_into().ok());
    u32::from_be_bytes(bytes.expect("an error code"))
}

/// The status at the beginning of a header block. Table size updates before it are skipped.
fn status(block: &[u8]) -> u16 {
    let skipped = block.iter().take_while(|b| *b & 0xe0 == 0x20).count();
    let block = block.get(skipped..).unwrap_or_default();
    match *block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        // A literal with the name at 8 to 14 of the static table, plain or in Huffman code.
        [first, 3, a, b, c, ..] if first & 0x0f <= 14 => digits(&[a, b, c].map(|d| d.wrapping_sub(b'0'))),
        [first, length, ..] if first & 0x0f <= 14 && length & 0x80 != 0 => {
            digits(&huffman(block.get(2..2 + usize::from(length & 0x7f)).unwrap_or_default()))
        }
        _ => panic!("no status in {block:?}"),
    }
}

fn digits(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |n, d| n * 10 + u16::from(*d))
}

/// Three digits: 0, 1, 2 have five bits, 3 to 9 six (RFC 7541 appendix B).
fn huffman(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| (b >> i) & 1)).collect();
    let number = |at: usize, n: usize| bits.iter().skip(at).take(n).fold(0_u8, |sum, bit| (sum << 1) | bit);
    let (mut at, mut digits) = (0, Vec::new());
    while digits.len() < 3 {
        let five = number(at, 5);
        let (digit, used) = if five <= 2 { (five, 5) } else { (number(at, 6).wrapping_sub(0x19 - 3), 6) };
        digits.push(digit);
        at += used;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_in_every_spelling() {
        assert_eq!(status(&[0x88]), 200);
        assert_eq!(status(&[0x20, 0x48, 3, b'4', b'3', b'1']), 431);
        // 302 in Huffman code, from RFC 7541 appendix C.6.1.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
    }

    #[test]
    fn long_texts_have_long_lengths() {
        let mut out = Vec::new();
        integer(&mut out, 1306 + 127);
        assert_eq!(out, [127, 154, 10]);
    }
}
