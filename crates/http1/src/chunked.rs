//! The chunked transfer coding, inbound (RFC 9112 7.1). Extensions are checked, bounded and dropped; nothing but
//! CRLF ends a line.

use bytes::{Buf, BytesMut};

use crate::{
    BodyError, Fields, HeadReader, Limits, ascii,
    body::{self, BodyEvent},
};

/// Bytes of extensions a chunk may carry: nobody uses them, and each is paid for without a byte of data.
const EXTENSION_BYTES: usize = 256;

/// Bytes of extensions that all chunks of a body may carry together.
const ALL_EXTENSION_BYTES: usize = 16 * 1024;

/// As many hexadecimal digits as fit into `u64`.
const SIZE_DIGITS: u8 = 16;

#[derive(Debug)]
pub(crate) struct Chunks {
    pub(crate) limits: Limits,
    state: State,
    /// Extension bytes of all chunks so far.
    extensions: usize,
    trailers: HeadReader,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64, length: usize },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers,
    Ended,
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            limits: Limits { head_bytes: 8 * 1024, fields: 32, target_bytes: 0 },
            state: State::SIZE,
            extensions: 0,
            trailers: HeadReader::default(),
        }
    }
}

impl State {
    const SIZE: Self = Self::Size { size: 0, digits: 0 };
}

impl Chunks {
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Data { left } => Some(left),
            State::Ended => Some(0),
            State::Size { .. }
            | State::Extension { .. }
            | State::SizeLf { .. }
            | State::DataCr
            | State::DataLf
            | State::Trailers => None,
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut BytesMut) -> Result<BodyEvent, BodyError> {
        if self.is_between() && !self.read_between(buffer)? {
            return Ok(BodyEvent::NeedMore);
        }
        match self.state {
            State::Data { left } => Ok(self.read_data(left, buffer)),
            State::Trailers => self.read_trailers(buffer),
            State::Ended => Ok(BodyEvent::End),
            State::Size { .. } | State::Extension { .. } | State::SizeLf { .. } | State::DataCr | State::DataLf => {
                Ok(BodyEvent::NeedMore)
            }
        }
    }

    fn is_between(&self) -> bool {
        !matches!(self.state, State::Data { .. } | State::Trailers | State::Ended)
    }

    fn read_data(&mut self, mut left: u64, buffer: &mut BytesMut) -> BodyEvent {
        let data = body::take(buffer, &mut left);
        self.state = if left == 0 { State::DataCr } else { State::Data { left } };
        data.map_or(BodyEvent::NeedMore, BodyEvent::Data)
    }

    /// Reads what stands between the data of two chunks, and says whether it got to the next.
    fn read_between(&mut self, buffer: &mut BytesMut) -> Result<bool, BodyError> {
        let mut taken = 0;
        while let Some(&byte) = buffer.get(taken)
            && self.is_between()
        {
            self.state = self.step(byte)?;
            taken += 1;
        }
        buffer.advance(taken);
        Ok(!self.is_between())
    }

    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == SIZE_DIGITS {
                    return Err(BodyError::ChunkSizeTooLong);
                }
                Ok(State::Size { size: size << 4 | hex(byte), digits: digits + 1 })
            }
            (State::Size { size, digits: 1.. } | State::Extension { size, length: 2.. }, b'\r') => {
                Ok(State::SizeLf { size })
            }
            (State::Size { size, digits: 1.. }, b';') => self.extension(size, 0),
            (State::Size { .. }, _) => Err(BodyError::ChunkSize),
            // RFC 9112 7.1.1: the name comes first. White space around it is refused though allowed (BWS).
            (State::Extension { size, length: 1 }, byte) if ascii::is_token_byte(byte) => self.extension(size, 1),
            (State::Extension { size, length: 2.. }, b'\t' | b' '..=b'~') => {
                let State::Extension { length, .. } = self.state else { return Err(BodyError::ChunkExtension) };
                self.extension(size, length)
            }
            (State::Extension { .. }, _) => Err(BodyError::ChunkExtension),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeLf { size }, b'\n') => Ok(State::Data { left: size }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SIZE),
            (
                State::SizeLf { .. }
                | State::DataCr
                | State::DataLf
                | State::Data { .. }
                | State::Trailers
                | State::Ended,
                _,
            ) => Err(BodyError::ChunkEnd),
        }
    }

    /// Counts one more byte of an extension, the semicolon included.
    fn extension(&mut self, size: u64, length: usize) -> Result<State, BodyError> {
        self.extensions += 1;
        if length >= EXTENSION_BYTES || self.extensions > ALL_EXTENSION_BYTES {
            return Err(BodyError::ChunkExtensionTooLong);
        }
        Ok(State::Extension { size, length: length + 1 })
    }

    fn read_trailers(&mut self, buffer: &mut BytesMut) -> Result<BodyEvent, BodyError> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.state = State::Ended;
            return Ok(BodyEvent::End);
        }
        let mut fields = Fields::new();
        let Some(length) = self.trailers.read(buffer, &self.limits, &mut fields)? else {
            return Ok(BodyEvent::NeedMore);
        };
        buffer.advance(length);
        self.state = State::Ended;
        fields.retain(|field| body::trailer_allowed(field.name));
        Ok(if fields.is_empty() { BodyEvent::End } else { BodyEvent::Trailers(fields) })
    }
}

fn hex(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    })
}
