//! Reading bodies as they arrive: data is split off the connection's buffer, never copied.

use bytes::{Buf, Bytes, BytesMut};

use crate::{BodyError, Fields, Framing, Known, Limits, chunked::Chunks};

/// Reads one body. Bytes behind its end stay in the buffer.
#[derive(Debug)]
pub struct BodyReader {
    state: State,
}

/// What came out of the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyEvent {
    /// Some of the body, never empty.
    Data(Bytes),
    /// The trailer fields that may be passed on; [`BodyEvent::End`] is next.
    Trailers(Fields),
    /// The body is complete.
    End,
    /// The buffer holds nothing more to take.
    NeedMore,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Chunked(Chunks),
    Close,
    Ended,
}

impl BodyReader {
    /// A reader for a body framed like this. Trailers may have 8 KiB and 32 fields unless said otherwise.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Ended,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunks::default()),
            Framing::Close => State::Close,
        };
        Self { state }
    }

    /// Sets how large trailers may be: `head_bytes` for the section and `fields`.
    #[must_use]
    pub fn with_trailer_limits(mut self, limits: Limits) -> Self {
        if let State::Chunked(chunks) = &mut self.state {
            chunks.limits = limits;
        }
        self
    }

    /// Takes the next event out of the buffer. Call it until it says [`BodyEvent::NeedMore`] or [`BodyEvent::End`];
    /// after the end it keeps saying so and takes nothing.
    pub fn read(&mut self, buffer: &mut BytesMut) -> Result<BodyEvent, BodyError> {
        match &mut self.state {
            State::Ended => Ok(BodyEvent::End),
            State::Close if buffer.is_empty() => Ok(BodyEvent::NeedMore),
            State::Close => Ok(BodyEvent::Data(buffer.split().freeze())),
            State::Length(left) => {
                let data = take(buffer, left);
                if *left == 0 {
                    self.state = State::Ended;
                }
                Ok(data.map_or(BodyEvent::NeedMore, BodyEvent::Data))
            }
            State::Chunked(chunks) => {
                let event = chunks.read(buffer)?;
                if chunks.is_end() {
                    self.state = State::Ended;
                }
                Ok(event)
            }
        }
    }

    /// The peer closed the connection: an error unless that is how the body ends, or it had ended before.
    pub fn finish(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Ended | State::Close => {
                self.state = State::Ended;
                Ok(())
            }
            State::Length(_) | State::Chunked(_) => Err(BodyError::Incomplete),
        }
    }

    /// Whether the body is complete. Its last event may still have been [`BodyEvent::Data`].
    pub fn is_end(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// How many bytes of data are certain to come: the rest of the length, or of the current chunk.
    pub fn remaining(&self) -> Option<u64> {
        match &self.state {
            State::Length(left) => Some(*left),
            State::Chunked(chunks) => chunks.remaining(),
            State::Ended => Some(0),
            State::Close => None,
        }
    }
}

/// Whether a trailer field may be passed on. Fields for framing, routing, request modifiers, authentication, content
/// and caching mean nothing in a trailer (RFC 9110 6.5.1), and names that the gateway vouches for must not come in by
/// this door, under whichever spelling (`x_forwarded_for`, `x.real.ip`).
pub fn trailer_allowed(name: &str) -> bool {
    const FAMILIES: &[&str] = &[
        "access-control-",
        "content-",
        "cookie",
        "if-",
        "proxy-",
        "sec-",
        "set-cookie",
        "x-forwarded-",
        "x-original-",
        "x-rewrite-",
    ];
    let spelled = |b: u8| if matches!(b, b'_' | b'.') { b'-' } else { b.to_ascii_lowercase() };
    let starts_with =
        |family: &&str| name.len() >= family.len() && family.bytes().eq(name.bytes().take(family.len()).map(spelled));
    if FAMILIES.iter().any(starts_with) {
        return false;
    }
    let mut plain = [0; 32];
    let Some(plain) = plain.get_mut(..name.len()) else { return true };
    plain.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = spelled(from));
    Known::from_bytes(plain).is_none_or(may_be_trailer)
}

/// The few known names that make sense after a body; whatever is unknown is the application's own.
fn may_be_trailer(known: Known) -> bool {
    matches!(
        known,
        Known::ETag
            | Known::GrpcMessage
            | Known::GrpcStatus
            | Known::Link
            | Known::ServerTiming
            | Known::Warning
            | Known::CacheStatus
            | Known::AuthenticationInfo
    )
}

/// Splits off as much of the data that is left as there is.
pub(crate) fn take(buffer: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.remaining());
    if length == 0 {
        return None;
    }
    *left -= length as u64;
    Some(buffer.split_to(length).freeze())
}
