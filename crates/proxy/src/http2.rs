//! What both sides of HTTP/2 share: heads and trailers between the gateway's form and the `h2` crate's, a body on its way
//! into a stream, and one on its way out of it. Streams, connections and limits of either side are in `listener` and
//! `upstream`.

pub(crate) mod meter;
pub(crate) mod wire;

use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_core::body::{Body, BodyError, Frame};
use tidegate_http1::{Field, Fields, Known, trailer_allowed};

/// Bytes that one stream may have waiting inside `h2`, written to nobody yet.
pub(crate) const SEND_BUFFER: usize = 32 * 1024;

/// What the gateway itself adds to a head, about.
const ADDED_BYTES: usize = 512;
const ADDED_FIELDS: usize = 12;

/// A field that HTTP/2 does not allow (RFC 9113, 8.2.1 and 8.2.2). `h2` has refused upper case, connection-specific fields
/// and most malformed values already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedField;

/// Fields as the gateway holds them. The crumbs of a cookie become one field again (RFC 9113, 8.2.3).
pub(crate) fn fields(map: &HeaderMap) -> Result<Fields, MalformedField> {
    let bytes: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut fields = Fields::with_capacity(bytes + ADDED_BYTES, map.len() + ADDED_FIELDS);
    let mut cookies = map.get_all(http::header::COOKIE).iter();
    let several_cookies = cookies.next().is_some() && cookies.next().is_some();
    for (name, value) in map {
        let value = value.as_bytes();
        let padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if padded(value.first()) || padded(value.last()) {
            return Err(MalformedField);
        }
        if several_cookies && name == http::header::COOKIE {
            continue;
        }
        fields.append(name.as_str(), value).map_err(|_| MalformedField)?;
    }
    if several_cookies {
        let crumbs: Vec<&[u8]> = map.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        fields.append(Known::Cookie, &crumbs.join(&b"; "[..])).map_err(|_| MalformedField)?;
    }
    Ok(fields)
}

/// Fields as `h2` sends them, without those that only make sense on an HTTP/1 connection (RFC 9113, 8.2.2) and without
/// `Host`, which is `:authority` here.
pub(crate) fn header_map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len() + 2);
    // All values in one piece of memory, of which the map holds slices.
    let mut values = Vec::with_capacity(fields.bytes());
    for field in fields {
        values.extend_from_slice(field.value);
    }
    let mut values = Bytes::from(values);
    for field in fields {
        let value = values.split_to(field.value.len());
        if is_for_http1(field.known) {
            continue;
        }
        // Neither can fail for what `Fields` holds, but for names longer than 64 KiB.
        if let (Some(name), Ok(mut value)) = (name(field), HeaderValue::from_maybe_shared(value)) {
            // What never comes twice is of no use in the tables of HPACK.
            value.set_sensitive(matches!(field.known, Some(Known::XRequestId | Known::XCorrelationId)));
            map.append(name, value);
        }
    }
    map
}

fn name(field: Field<'_>) -> Option<HeaderName> {
    static KNOWN: LazyLock<Vec<HeaderName>> =
        LazyLock::new(|| Known::ALL.iter().map(|known| HeaderName::from_static(known.as_str())).collect());
    match field.known {
        Some(known) => KNOWN.get(known as usize).cloned(),
        None => HeaderName::from_bytes(field.name.as_bytes()).ok(),
    }
}

fn is_for_http1(known: Option<Known>) -> bool {
    matches!(
        known,
        Some(
            Known::Connection
                | Known::Host
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::TransferEncoding
                | Known::Upgrade
        )
    )
}

/// Why a body did not reach its stream.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The body itself failed.
    Body(BodyError),
    /// The peer reset the stream or the connection broke: nobody wants the rest.
    Unwanted,
}

/// What a pump that is not done waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumping {
    /// The body's next frame.
    AwaitsBody,
    /// The peer: its window or its socket is full.
    AwaitsPeer,
    Done,
}

/// A body on its way into a stream. It takes the next frame only when the last one is written, and never has more than
/// [`SEND_BUFFER`] bytes waiting in `h2`.
pub(crate) struct Pump {
    stream: SendStream<Bytes>,
    body: Body,
    /// The rest of the current frame.
    pending: Bytes,
    ended: bool,
    /// Some of the body was taken.
    begun: bool,
    /// Bytes of data handed to `h2`.
    pub(crate) sent: u64,
}

impl Pump {
    /// `ended`: the head said already that no body follows.
    pub(crate) fn new(stream: SendStream<Bytes>, body: Body, ended: bool) -> Self {
        Self { stream, body, pending: Bytes::new(), ended, begun: false, sent: 0 }
    }

    /// Moves what can be moved now. After an error it is not polled again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Result<Pumping, PumpError> {
        while !self.ended {
            let waiting = if self.pending.is_empty() { self.poll_body(cx)? } else { self.poll_send(cx)? };
            if let Some(waiting) = waiting {
                return Ok(waiting);
            }
        }
        Ok(Pumping::Done)
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Option<Pumping>, PumpError> {
        match self.body.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => self.take(frame)?,
            Poll::Ready(Some(Err(error))) => return Err(PumpError::Body(error)),
            Poll::Ready(None) => self.end(None)?,
            Poll::Pending if self.is_unwanted(cx) => return Err(PumpError::Unwanted),
            Poll::Pending => return Ok(Some(Pumping::AwaitsBody)),
        }
        Ok(None)
    }

    fn take(&mut self, frame: Frame) -> Result<(), PumpError> {
        self.begun = true;
        match frame {
            Frame::Data(data) => {
                self.pending = data;
                Ok(())
            }
            Frame::Trailers(trailers) => self.end(Some(&trailers)),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Option<Pumping>, PumpError> {
        self.stream.reserve_capacity(self.pending.len());
        let mut room = self.stream.capacity();
        if room == 0 {
            room = match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(room))) => room,
                Poll::Ready(Some(Err(_)) | None) => return Err(PumpError::Unwanted),
                Poll::Pending => {
                    self.body.poll_progress(cx);
                    return Ok(Some(Pumping::AwaitsPeer));
                }
            };
        }
        let data = self.pending.split_to(room.min(self.pending.len()));
        self.sent += data.len() as u64;
        self.ended = self.pending.is_empty() && self.body.is_end();
        self.stream.send_data(data, self.ended).map_err(|_| PumpError::Unwanted)?;
        Ok(None)
    }

    fn end(&mut self, trailers: Option<&Fields>) -> Result<(), PumpError> {
        self.ended = true;
        let sent = match trailers {
            Some(trailers) => self.stream.send_trailers(header_map(trailers)),
            None => self.stream.send_data(Bytes::new(), true),
        };
        sent.map_err(|_| PumpError::Unwanted)
    }

    fn is_unwanted(&mut self, cx: &mut Context<'_>) -> bool {
        self.stream.poll_reset(cx).is_ready()
    }

    /// Ends the stream so that nobody takes what was sent for the whole.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// The body, if nothing of it was taken yet.
    pub(crate) fn into_untouched_body(self) -> Option<Body> {
        (!self.begun).then_some(self.body)
    }
}

/// A body on its way out of a stream. The peer may send more only when what came before was taken: the window is given back
/// with the call after the one that yielded the data.
pub(crate) struct Intake {
    stream: RecvStream,
    owed: usize,
    /// What `Content-Length` says is still to come; `h2` enforces it.
    pub(crate) length: Option<u64>,
    /// Fields that trailers may have at most.
    most_trailers: usize,
}

/// Why a body did not come out of its stream.
#[derive(Debug)]
pub(crate) enum IntakeError {
    /// The peer reset the stream, or the connection ended before the stream did.
    Aborted,
    /// The peer broke the protocol.
    Malformed,
}

impl Intake {
    pub(crate) fn new(stream: RecvStream, length: Option<u64>, most_trailers: usize) -> Self {
        Self { stream, owed: 0, length, most_trailers }
    }

    /// The next frame; `None` at the end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, IntakeError>>> {
        self.release();
        loop {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    self.owed = data.len();
                    self.length = self.length.map(|length| length.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(IntakeError::of(&error)))),
                Poll::Ready(None) => return self.poll_trailers(cx),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, IntakeError>>> {
        match self.stream.poll_trailers(cx) {
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Ok(Some(trailers))) => Poll::Ready(self.trailers(&trailers).transpose()),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(IntakeError::of(&error)))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Fields that must not come behind a body are dropped (RFC 9110, 6.5.1).
    fn trailers(&self, trailers: &HeaderMap) -> Result<Option<Frame>, IntakeError> {
        if trailers.len() > self.most_trailers {
            return Err(IntakeError::Malformed);
        }
        let mut fields = fields(trailers).map_err(|MalformedField| IntakeError::Malformed)?;
        fields.retain(|field| trailer_allowed(field.name));
        Ok((!fields.is_empty()).then_some(Frame::Trailers(fields)))
    }

    fn release(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        if owed > 0 {
            // Fails only for bytes that were never received.
            self.stream.flow_control().release_capacity(owed).ok();
        }
    }

    /// True once the end was received and everything before it taken.
    pub(crate) fn is_end(&self) -> bool {
        self.stream.is_end_stream()
    }
}

impl IntakeError {
    fn of(error: &h2::Error) -> Self {
        if error.is_library() { Self::Malformed } else { Self::Aborted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_crumbs_of_a_cookie_become_one_field() {
        let crumbs = map(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]);
        let fields = fields(&crumbs).unwrap();
        assert_eq!(fields.values(Known::Cookie).collect::<Vec<_>>(), [b"a=1; b=2; c=3"]);
        assert_eq!(fields.value("x"), Some(&b"y"[..]));
        let one = super::fields(&map(&[("cookie", "a=1")])).unwrap();
        assert_eq!(one.value(Known::Cookie), Some(&b"a=1"[..]));
    }

    #[test]
    fn repeated_fields_keep_their_values_and_order() {
        let fields = fields(&map(&[("via", "a"), ("x", "1"), ("via", "b")])).unwrap();
        assert_eq!(fields.values(Known::Via).collect::<Vec<_>>(), [b"a", b"b"]);
    }

    #[test]
    fn fields_of_http_1_connections_are_not_sent() {
        let mut fields = Fields::new();
        for name in ["Connection", "Host", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "X-Kept"] {
            fields.append(name, b"v").unwrap();
        }
        let map = header_map(&fields);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn every_known_name_is_sent_as_itself() {
        for known in Known::ALL {
            let mut fields = Fields::new();
            fields.append(*known, b"v").unwrap();
            let map = header_map(&fields);
            assert!(map.is_empty() && is_for_http1(Some(*known)) || map.contains_key(known.as_str()), "{known:?}");
        }
    }

    #[test]
    fn values_beyond_ascii_pass_both_ways() {
        let mut fields = Fields::new();
        fields.append("x", b"caf\xe9").unwrap();
        let map = header_map(&fields);
        assert_eq!(super::fields(&map).unwrap(), fields);
    }
}
