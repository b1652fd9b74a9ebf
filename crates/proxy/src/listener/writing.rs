//! Writing an HTTP/1 reply: head and frames leave in as few writes as the body allows, each as soon as it is there, and a
//! client that does not take them is let go.

use std::cell::RefCell;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tidegate_core::body::{Body, BodyError, Frame};
use tidegate_http1::{BodyWriter, Framing, Known, ResponseHead, decimal, encode};

use super::wire::Wire;
use crate::pace::{Pace, Patience};
use crate::telemetry::{End, LetGo};
use crate::worker::Worker;

/// How an exchange ends whose client stopped taking its reply.
const WRITE_IDLE: End = End::Timeout("write idle");

/// So much of a body is sent before others have their turn, in bytes.
const SENT_AT_ONCE: u64 = 1024 * 1024;

/// How a reply ended.
pub(crate) enum Written {
    Whole,
    /// Ended early, after some of it was sent; that must not look complete.
    Broken(End),
    /// Its body failed before anything was sent: there is still time for another answer.
    Unsent(BodyError),
}

/// A reply on its way out.
pub(crate) struct Writing {
    body: Body,
    writer: BodyWriter,
    ended: bool,
    /// The body was asked for its first frame, which leaves together with the head.
    asked: bool,
    /// Why the body broke off. Told when all that came before has left.
    failed: Option<BodyError>,
    /// Others go first, see [`crate::tasks::let_others_go_first`].
    makes_way: bool,
    pace: Pace,
    patience: Patience,
    /// Bytes of the body.
    pub(crate) sent: u64,
    /// What the connection had taken before any of this reply, unless what was then under way cannot be taken back.
    base: Option<u64>,
}

impl Writing {
    /// Of a body that follows a head with this framing; `bodiless` if none is sent, whatever there is.
    /// `base` is what [`base`] said before the head was written.
    pub(crate) fn new(body: Body, framing: (Framing, bool), patience: Patience, base: Option<u64>) -> Self {
        let (framing, bodiless) = framing;
        let makes_way = body.is_whole();
        Self {
            body,
            writer: BodyWriter::new(framing),
            ended: bodiless,
            asked: false,
            failed: None,
            makes_way,
            pace: Pace::default(),
            patience,
            sent: 0,
            base,
        }
    }

    /// Why the client was let go, if this ended because it took too long.
    pub(crate) fn too_slow(&self, written: &Written, worker: &Worker) -> Option<LetGo> {
        let below_rate = self.pace.is_below_rate(self.patience, &worker.clock);
        let why = if below_rate { LetGo::MinRate } else { LetGo::WriteIdle };
        matches!(written, Written::Broken(end) if *end == WRITE_IDLE).then_some(why)
    }

    /// Writes on. Ready once the whole reply was taken by the connection, or cannot be.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, wire: &RefCell<Wire>, worker: &Worker) -> Poll<Written> {
        let before = self.sent;
        loop {
            let awaits_body = match self.poll_body(cx, wire) {
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(written)) => return Poll::Ready(written),
                Poll::Pending => true,
            };
            // A whole one was copied by now, while it is in the processor's cache, so that the buffer that it was read into can serve
            // another connection. A stream is better sent on at once, for the same reason, but not for long.
            if std::mem::take(&mut self.makes_way) || self.sent - before >= SENT_AT_ONCE {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let flushed = poll_flush_in_time(&mut wire.borrow_mut(), &mut self.pace, self.patience, worker, cx);
            match flushed {
                Poll::Ready(Ok(())) if self.ended => return Poll::Ready(Written::Whole),
                Poll::Ready(Ok(())) if awaits_body => {
                    return wire.borrow_mut().poll_gone(cx).map(|()| Written::Broken(End::ClientGone));
                }
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(Written::Broken(end)),
                Poll::Pending => {
                    self.body.poll_progress(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>, wire: &RefCell<Wire>) -> Poll<Result<(), Written>> {
        // What the client does not take is not read from the service either.
        if self.ended || self.asked && !wire.borrow().outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = self.failed {
            return Poll::Ready(Err(Written::Broken(end_of(error))));
        }
        let before = self.sent;
        self.asked = true;
        // Small frames that are there leave in one write, the first ones together with the head.
        while !self.ended && wire.borrow().outbox.has_room() {
            match ready!(self.body.poll_frame(cx)) {
                Some(Err(error)) if self.sent > before => {
                    self.failed = Some(error);
                    break;
                }
                frame => self.take(frame, &mut wire.borrow_mut())?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, frame: Option<Result<Frame, BodyError>>, wire: &mut Wire) -> Result<(), Written> {
        let taken = match frame {
            Some(Ok(Frame::Data(data))) => {
                self.sent += data.len() as u64;
                let copied = wire.outbox.frame(&mut self.writer, data);
                copied.map(|copied| copied.into_iter().for_each(|data| wire.buffers.reclaim(data)))
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                self.ended = true;
                self.writer.finish(Some(&trailers), wire.outbox.tail())
            }
            None => {
                self.ended = true;
                self.writer.finish(None, wire.outbox.tail())
            }
            Some(Err(error)) if self.base == Some(wire.outbox.taken()) => return Err(Written::Unsent(error)),
            Some(Err(error)) => return Err(Written::Broken(end_of(error))),
        };
        // More or less than the upstream promised: the rest of the connection means nothing.
        taken.map_err(|_| Written::Broken(End::UpstreamAborted))?;
        if !self.ended && self.body.is_end() {
            self.ended = true;
            let finished = self.writer.finish(None, wire.outbox.tail());
            finished.map_err(|_| Written::Broken(End::UpstreamAborted))?;
        }
        Ok(())
    }
}

/// What the connection has taken so far; `None` if an interim reply is half written.
pub(crate) fn base(wire: &Wire) -> Option<u64> {
    wire.outbox.is_untouched().then(|| wire.outbox.taken())
}

fn end_of(error: BodyError) -> End {
    match error {
        BodyError::UpstreamTooSlow => End::Timeout("read idle"),
        BodyError::UpstreamAborted => End::UpstreamAborted,
        BodyError::ClientTooSlow => End::Timeout("body idle"),
        BodyError::ClientGone | BodyError::ClientMalformed | BodyError::TooLarge => End::ClientGone,
    }
}

/// Writes what waits, as long as the client takes it in time.
pub(crate) fn poll_flush_in_time(
    wire: &mut Wire,
    pace: &mut Pace,
    patience: Patience,
    worker: &Worker,
    cx: &mut Context<'_>,
) -> Poll<Result<(), End>> {
    let mut wrote = 0;
    let flushed = wire.poll_flush(cx, &mut wrote);
    if wrote > 0 {
        pace.moved(wrote, &worker.clock);
    }
    match flushed {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
        Poll::Ready(Err(_)) => Poll::Ready(Err(End::ClientGone)),
        Poll::Pending => {
            let late = pace.poll_late(patience, &worker.clock, &mut wire.alarm.borrow_mut(), cx);
            late.map(|()| Err(WRITE_IDLE))
        }
    }
}

/// What the reply says about the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connecting {
    Close,
    KeepAlive,
    /// The default of the version holds, or `head` says it itself.
    Unsaid,
}

/// Writes a reply's head. Framing is decided here alone; a `Content-Length` that says the same stays where it stood, and that
/// of a body which is not sent (HEAD, 304) stays as it is.
pub(crate) fn encode_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    framing: Framing,
    bodiless: bool,
    connecting: Connecting,
) {
    encode::status_line(out, head.status, &head.reason);
    let promised = match framing {
        Framing::Length(length) => Some(decimal(length)),
        Framing::None | Framing::Chunked | Framing::Close => None,
    };
    // Of several only one may stand (RFC 9112, 6.3), and none if it says something else than what is sent.
    let said = head.fields.single(Known::ContentLength);
    let framed = promised.as_ref().is_some_and(|length| said == Ok(Some(length)));
    let may_say_length = head.status != StatusCode::NO_CONTENT && !head.status.is_informational();
    encode::fields_where(out, &head.fields, |known| match known {
        Some(Known::ContentLength) => {
            if bodiless {
                may_say_length
            } else {
                framed
            }
        }
        Some(Known::TransferEncoding) => false,
        _ => true,
    });
    match (promised, framing) {
        (Some(length), _) if !framed => encode::field(out, "content-length", &length),
        (_, Framing::Chunked) => encode::field(out, "transfer-encoding", b"chunked"),
        _ => {}
    }
    match connecting {
        Connecting::Close => encode::field(out, "connection", b"close"),
        Connecting::KeepAlive => encode::field(out, "connection", b"keep-alive"),
        Connecting::Unsaid => {}
    }
    encode::end(out);
}
