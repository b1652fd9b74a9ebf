//! Sending a request's head and body over HTTP/1 while its reply may already be arriving.

use std::io;
use std::task::{Context, Poll};

use tidegate_core::body::{Body, BodyError, Frame};
use tidegate_http1::{BodyWriter, Fields, Framing, WrongLength};

use super::line::Line;
use crate::outbox::Outbox;

/// A request on its way out.
pub(crate) struct Sender {
    body: Body,
    writer: BodyWriter,
    /// The last bytes of the request are in the outbox.
    ended: bool,
    /// No frame was asked for yet: the head waits for the first, so that both leave in one write.
    fresh: bool,
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
    /// The head lies in the line's outbox already, framing and all.
    pub(crate) fn new(body: Body, framing: Framing) -> Self {
        let ended = body.is_end() && matches!(framing, Framing::None | Framing::Length(0));
        Self { body, writer: BodyWriter::new(framing), ended, fresh: true }
    }

    /// True once the last bytes of the request are in the line's outbox.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// True once every byte was taken by the connection.
    pub(crate) fn is_done(&self, line: &Line) -> bool {
        self.ended && line.outbox.is_empty()
    }

    /// What is still to be sent; nothing is left here.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(Body::empty(), Framing::None))
    }

    /// The body, if nothing of it was taken yet.
    pub(crate) fn into_untouched_body(self) -> Option<Body> {
        (self.fresh && !self.ended).then_some(self.body)
    }

    /// Sends what can be sent now. An error ends the sending for good.
    pub(crate) fn poll(&mut self, line: &mut Line, cx: &mut Context<'_>) -> Result<Sending, SendError> {
        loop {
            let next = !self.ended && (self.fresh || line.outbox.is_empty());
            let awaits_body = next && self.fill(&mut line.outbox, cx).map_err(SendError::Body)?.is_pending();
            match line.poll_flush(cx) {
                Poll::Ready(Ok(())) if self.ended => return Ok(Sending::Done),
                Poll::Ready(Ok(())) if awaits_body => return Ok(Sending::AwaitsBody),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(SendError::Io(error)),
                Poll::Pending => return Ok(Sending::AwaitsUpstream),
            }
        }
    }

    /// Takes frames of the body as long as there are some and they are small, so that they leave in one write, the first ones together
    /// with the head. Pending if the next one is awaited.
    ///
    /// # Errors
    /// The body failed, or is not as long as it was said to be.
    pub(crate) fn fill(&mut self, outbox: &mut Outbox, cx: &mut Context<'_>) -> Result<Poll<()>, BodyError> {
        while !self.ended && outbox.has_room() {
            if self.poll_body(outbox, cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
        }
        Ok(Poll::Ready(()))
    }

    fn poll_body(&mut self, outbox: &mut Outbox, cx: &mut Context<'_>) -> Result<Poll<()>, BodyError> {
        self.fresh = false;
        match self.body.poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Some(Ok(Frame::Data(data)))) => drop(outbox.frame(&mut self.writer, data).map_err(malformed)?),
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.end(Some(&trailers), outbox)?,
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(None) => self.end(None, outbox)?,
        }
        Ok(Poll::Ready(()))
    }

    fn end(&mut self, trailers: Option<&Fields>, outbox: &mut Outbox) -> Result<(), BodyError> {
        self.ended = true;
        self.writer.finish(trailers, outbox.tail()).map_err(malformed)
    }
}

/// A client that promised another length than it sent.
fn malformed(_: WrongLength) -> BodyError {
    BodyError::ClientMalformed
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use tidegate_core::body::Stream;

    use super::*;

    /// Frames that are there, and then more to come.
    struct Frames(VecDeque<Bytes>);

    impl Stream for Frames {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            self.0.pop_front().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::Data(data)))))
        }
    }

    fn filled(frames: &[Bytes], framing: Framing) -> (Outbox, bool, bool) {
        let body = Body::stream(Frames(frames.iter().cloned().collect()));
        let (mut sender, mut outbox) = (Sender::new(body, framing), Outbox::default());
        outbox.tail().extend_from_slice(b"head ");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let waits = sender.fill(&mut outbox, &mut cx).unwrap().is_pending();
        (outbox, waits, sender.has_ended())
    }

    #[test]
    fn small_frames_that_are_there_leave_with_the_head() {
        let frames = ["one ", "two ", "three"].map(Bytes::from);
        let (mut outbox, waits, _) = filled(&frames, Framing::Length(100));
        assert_eq!(outbox.tail(), b"head one two three");
        assert!(waits, "the rest of the body is awaited");
    }

    #[test]
    fn no_more_is_taken_than_is_worth_gathering() {
        let frame = Bytes::from(vec![b'x'; 6000]);
        let (mut outbox, waits, ended) = filled(&vec![frame; 9], Framing::Length(54_000));
        assert_eq!(outbox.tail().len(), "head ".len() + 3 * 6000);
        assert!(!waits && !ended);
        let large = Bytes::from(vec![b'x'; 60_000]);
        let (outbox, waits, _) = filled(&[large.clone(), large], Framing::Length(120_000));
        assert!(!outbox.has_room() && !waits, "a large one is not copied, and nothing follows it");
    }
}
