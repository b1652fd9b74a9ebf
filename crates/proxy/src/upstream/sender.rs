//! Sending a request's head and body over HTTP/1 while its reply may already be arriving.

use std::io;
use std::task::{Context, Poll};

use tidegate_core::body::{Body, BodyError, Frame};
use tidegate_http1::{BodyWriter, Fields, Framing, WrongLength};

use crate::io::Io;
use crate::outbox::Outbox;

/// A request on its way out.
pub(crate) struct Sender {
    outbox: Outbox,
    body: Body,
    writer: BodyWriter,
    /// The last bytes of the request are in the outbox.
    ended: bool,
    /// No frame was asked for yet: the head waits for the first, so that both leave in one write.
    fresh: bool,
    /// Bytes that the connection took.
    pub(crate) sent: usize,
}

/// Why a request could not be sent to its end.
#[derive(Debug)]
pub(crate) enum SendError {
    Body(BodyError),
    Io(io::Error),
}

/// What a sender is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// The request's own body: the client's turn.
    AwaitsBody,
    /// The upstream takes no more for now.
    AwaitsUpstream,
    Done,
}

impl Sender {
    /// `head` holds the encoded head, framing and all.
    pub(crate) fn new(head: Vec<u8>, body: Body, framing: Framing) -> Self {
        let ended = body.is_end() && matches!(framing, Framing::None | Framing::Length(0));
        Self { outbox: Outbox::with_buffer(head), body, writer: BodyWriter::new(framing), ended, fresh: true, sent: 0 }
    }

    /// True once every byte was taken by the connection.
    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.outbox.is_empty()
    }

    /// The head's buffer, for reuse, once all is sent.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        self.outbox.take_buffer()
    }

    /// What is still to be sent; nothing is left here.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(Vec::new(), Body::empty(), Framing::None))
    }

    /// The body, if nothing of it was taken yet.
    pub(crate) fn into_untouched_body(self) -> Option<Body> {
        (self.fresh && !self.ended).then_some(self.body)
    }

    /// Sends what can be sent now. An error ends the sending for good.
    pub(crate) fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Result<Sending, SendError> {
        loop {
            let awaits_body = !self.ended && (self.fresh || self.outbox.is_empty()) && self.poll_body(cx)?.is_pending();
            match self.outbox.poll_flush(io, cx, &mut self.sent) {
                Poll::Ready(Ok(())) if self.ended => return Ok(Sending::Done),
                Poll::Ready(Ok(())) if awaits_body => return Ok(Sending::AwaitsBody),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(SendError::Io(error)),
                Poll::Pending => return Ok(Sending::AwaitsUpstream),
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, SendError> {
        self.fresh = false;
        match self.body.poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Some(Ok(Frame::Data(data)))) => drop(self.outbox.frame(&mut self.writer, data)?),
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.end(Some(&trailers))?,
            Poll::Ready(Some(Err(error))) => return Err(SendError::Body(error)),
            Poll::Ready(None) => self.end(None)?,
        }
        Ok(Poll::Ready(()))
    }

    fn end(&mut self, trailers: Option<&Fields>) -> Result<(), SendError> {
        self.ended = true;
        self.writer.finish(trailers, self.outbox.tail())?;
        Ok(())
    }
}

impl From<WrongLength> for SendError {
    /// A client that promised another length than it sent.
    fn from(_: WrongLength) -> Self {
        Self::Body(BodyError::ClientMalformed)
    }
}
