//! Writing heads and bodies. Always HTTP/1.1 in the first line (RFC 9110 2.5); what is written was checked before,
//! by [`Fields`] or by the reader.

use std::{fmt, ops::Deref};

use http::{Method, StatusCode};

use crate::{Fields, Framing, Known};

/// Writes `method target HTTP/1.1`. The target must be one that the reader accepts: no spaces, no control bytes.
pub fn request_line(out: &mut Vec<u8>, method: &Method, target: &str) {
    let method = method.as_str();
    out.reserve(method.len() + target.len() + 12);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes `HTTP/1.1 status reason`, with the standard reason if it is empty. A reason must hold no control bytes.
pub fn status_line(out: &mut Vec<u8>, status: StatusCode, reason: &str) {
    if status == StatusCode::OK && reason.is_empty() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    let reason = if reason.is_empty() { status.canonical_reason().unwrap_or_default() } else { reason };
    out.reserve(15 + reason.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes one field line. Name and value must come from [`Fields`] or from the program's text.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes all fields as they are.
#[inline]
pub fn fields(out: &mut Vec<u8>, fields: &Fields) {
    fields.write_lines(out, |_| true);
}

/// Writes the fields for which `keep` says so; it is told their known name, if they have one.
#[inline]
pub fn fields_where(out: &mut Vec<u8>, fields: &Fields, keep: impl FnMut(Option<Known>) -> bool) {
    fields.write_lines(out, keep);
}

/// Writes the empty line that ends a head.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes the framing of one body and sees to it that it has the length that was promised.
#[derive(Debug)]
pub struct BodyWriter {
    state: State,
}

/// A body is longer or shorter than its Content-Length: the message cannot be completed, the connection must close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

#[derive(Clone, Copy, Debug)]
enum State {
    Length(u64),
    Chunked,
    Close,
    Ended,
}

impl BodyWriter {
    /// A writer for a body framed like this.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked,
            Framing::Close => State::Close,
        };
        Self { state }
    }

    /// Counts data that is about to be written.
    pub fn write(&mut self, length: usize) -> Result<(), WrongLength> {
        match &mut self.state {
            State::Length(left) => *left = left.checked_sub(length as u64).ok_or(WrongLength)?,
            State::Ended if length > 0 => return Err(WrongLength),
            State::Chunked | State::Close | State::Ended => {}
        }
        Ok(())
    }

    /// Writes what stands before so much data: nothing if there is none, because an empty chunk would end the body.
    pub fn chunk_prefix(&self, length: usize, out: &mut Vec<u8>) {
        if matches!(self.state, State::Chunked) && length > 0 {
            let digits = Digits::hexadecimal(length as u64);
            out.extend_from_slice(&digits);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes what stands after so much data.
    pub fn chunk_suffix(&self, length: usize, out: &mut Vec<u8>) {
        if matches!(self.state, State::Chunked) && length > 0 {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Counts and writes data with what stands around it.
    pub fn data(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), WrongLength> {
        self.write(data.len())?;
        self.chunk_prefix(data.len(), out);
        out.extend_from_slice(data);
        self.chunk_suffix(data.len(), out);
        Ok(())
    }

    /// Ends the body without writing anything: right for every framing but chunked, whose end is
    /// [`BodyWriter::finish`].
    pub fn end(&mut self) -> Result<(), WrongLength> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Length(0) | State::Close | State::Ended => Ok(()),
            State::Length(_) | State::Chunked => Err(WrongLength),
        }
    }

    /// Ends the body; of a chunked one the last chunk and the trailers are written, once. Trailers have no place in
    /// other framings and are dropped there.
    pub fn finish(&mut self, trailers: Option<&Fields>, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        if !matches!(self.state, State::Chunked) {
            return self.end();
        }
        self.state = State::Ended;
        out.extend_from_slice(b"0\r\n");
        if let Some(trailers) = trailers {
            fields(out, trailers);
        }
        end(out);
        Ok(())
    }

    /// Whether the body was ended.
    pub fn is_end(&self) -> bool {
        matches!(self.state, State::Ended)
    }
}

/// A number in digits, on the stack. Dereferences to the digits.
#[derive(Clone, Copy)]
pub struct Decimal(Digits);

/// Formats a number, as for Content-Length, without the machinery of `fmt`.
pub fn decimal(number: u64) -> Decimal {
    Decimal(Digits::decimal(number))
}

impl Decimal {
    /// The digits as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Deref for Decimal {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Decimal {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Copy)]
struct Digits {
    buffer: [u8; 20],
    start: u8,
}

impl Digits {
    fn decimal(number: u64) -> Self {
        Self::format(number, 10)
    }

    fn hexadecimal(number: u64) -> Self {
        Self::format(number, 16)
    }

    #[inline]
    fn format(mut number: u64, base: u64) -> Self {
        let mut digits = Self { buffer: [0; 20], start: 20 };
        for place in digits.buffer.iter_mut().rev() {
            #[expect(clippy::cast_possible_truncation, reason = "a digit is below the base")]
            let digit = (number % base) as u8;
            *place = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
            digits.start -= 1;
            number /= base;
            if number == 0 {
                break;
            }
        }
        digits
    }
}

impl Deref for Digits {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(usize::from(self.start)..).unwrap_or_default()
    }
}

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body does not have the length its Content-Length promised")
    }
}

impl std::error::Error for WrongLength {}
