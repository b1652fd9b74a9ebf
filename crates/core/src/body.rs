//! A message body on its way through the gateway. A body owns its call: polling it drives whatever produces it (the
//! connection it is read from, the request that is still being sent), and dropping it cancels that.

mod guarded;
mod record;

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tidegate_http1::Fields;

pub use guarded::GuardedBody;
pub use record::Recording;

/// A piece of a body.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Never empty.
    Data(Bytes),
    /// The last frame, if it comes at all.
    Trailers(Fields),
}

/// Why a body ended early. It says whose fault it was, because that decides what the other side is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// The client closed or reset before the end.
    ClientGone,
    /// The client broke the protocol in the body (RFC 9112, section 7).
    ClientMalformed,
    /// The client sent nothing for `body_idle`, or less than the minimum rate.
    ClientTooSlow,
    /// The body is longer than the limit of its route.
    TooLarge,
    /// The service closed, reset or broke the protocol before the end.
    UpstreamAborted,
    /// The service sent nothing for its `read` timeout.
    UpstreamTooSlow,
}

impl BodyError {
    /// Stable, for logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::ClientMalformed => "body_malformed",
            Self::ClientTooSlow => "body_timeout",
            Self::TooLarge => "body_too_large",
            Self::UpstreamAborted => "upstream_aborted",
            Self::UpstreamTooSlow => "upstream_read_timeout",
        }
    }

    /// Whether the service is to blame (and not the client).
    pub fn is_upstream(self) -> bool {
        matches!(self, Self::UpstreamAborted | Self::UpstreamTooSlow)
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientGone => "the client left before the end of its request",
            Self::ClientMalformed => "the request's body is malformed",
            Self::ClientTooSlow => "the client sent its request too slowly",
            Self::TooLarge => "the request's body is larger than allowed",
            Self::UpstreamAborted => "the service broke its reply off",
            Self::UpstreamTooSlow => "the service stopped sending its reply",
        })
    }
}

impl std::error::Error for BodyError {}

/// What produces a body piece by piece.
pub trait Stream {
    /// The next frame; `None` at the end. After an error or `None` it is not polled again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;

    /// Moves on what does not yield frames: a request that is still being sent while its reply is already flowing. Called
    /// while the receiver of this body cannot take more.
    fn poll_progress(&mut self, _cx: &mut Context<'_>) {}

    /// Fails with [`BodyError::TooLarge`] once more than this many bytes came in all. Streams that are not read from a client
    /// need no limit.
    fn limit(&mut self, _bytes: Option<u64>) {}

    /// The exact number of bytes still to come, if it is known.
    fn length(&self) -> Option<u64> {
        None
    }

    /// True once the end was seen, so that nobody needs to poll to learn it.
    fn is_end(&self) -> bool {
        false
    }
}

/// A body: none, one piece, or a stream.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Box<dyn Stream>),
}

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// These bytes and no more.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self(Kind::Full(bytes)) }
    }

    /// What `stream` yields.
    pub fn stream(stream: impl Stream + 'static) -> Self {
        Self(Kind::Stream(Box::new(stream)))
    }

    /// The next frame; `None` at the end.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::Data(bytes))))
            }
            Kind::Stream(stream) => {
                let polled = stream.poll_frame(cx);
                if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
                    self.0 = Kind::Empty;
                }
                polled
            }
        }
    }

    /// The next piece of data; `None` at the end. Trailers are passed over.
    ///
    /// # Errors
    /// The body ended early.
    pub async fn data(&mut self) -> Result<Option<Bytes>, BodyError> {
        while let Some(frame) = poll_fn(|cx| self.poll_frame(cx)).await {
            if let Frame::Data(data) = frame? {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// All the data that is left; `None` if that is more than `most` bytes.
    ///
    /// # Errors
    /// The body ended early.
    pub async fn collect(&mut self, most: usize) -> Result<Option<Bytes>, BodyError> {
        let mut all = BytesMut::new();
        while let Some(data) = self.data().await? {
            if all.len() + data.len() > most {
                return Ok(None);
            }
            all.extend_from_slice(&data);
        }
        Ok(Some(all.freeze()))
    }

    /// See [`Stream::poll_progress`].
    pub fn poll_progress(&mut self, cx: &mut Context<'_>) {
        if let Kind::Stream(stream) = &mut self.0 {
            stream.poll_progress(cx);
        }
    }

    /// The exact number of bytes still to come, if it is known.
    pub fn length(&self) -> Option<u64> {
        match &self.0 {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Stream(stream) => stream.length(),
        }
    }

    /// See [`Stream::limit`].
    pub fn limit(&mut self, bytes: Option<u64>) {
        if let Kind::Stream(stream) = &mut self.0 {
            stream.limit(bytes);
        }
    }

    /// True when nothing is left to come.
    pub fn is_end(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(stream) => stream.is_end(),
        }
    }

    /// Whether all of it is in memory.
    #[inline]
    pub fn is_whole(&self) -> bool {
        !matches!(self.0, Kind::Stream(_))
    }

    /// The bytes of a body that is in memory as one piece, so that it may be sent more than once.
    pub fn replayable(&self) -> Option<Bytes> {
        match &self.0 {
            Kind::Empty => Some(Bytes::new()),
            Kind::Full(bytes) => Some(bytes.clone()),
            Kind::Stream(_) => None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Empty => f.write_str("Body::Empty"),
            Kind::Full(bytes) => write!(f, "Body::Full({} bytes)", bytes.len()),
            Kind::Stream(stream) => write!(f, "Body::Stream({:?} bytes)", stream.length()),
        }
    }
}
