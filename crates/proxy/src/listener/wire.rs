//! The client's half of an HTTP/1 connection, shared by those who read the request's body and those who write the reply: one
//! task polls them all, in turn.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tidegate_config::config::ServerTimeouts;
use tidegate_core::body::{BodyError, Frame, Stream};
use tidegate_core::clock::Clock;
use tidegate_http1::{BodyEvent, BodyReader, Framing, HeadReader, Limits, RequestError, RequestHead};

use tokio::io::AsyncWrite;

use crate::buffers::Buffers;
use crate::io::Io;
use crate::outbox::Outbox;
use crate::pace::{Pace, Patience};
use crate::read::{read_head, read_some};
use crate::telemetry::LetGo;
use crate::upstream::attempt::SharedAlarm;

/// Bytes of later requests that are read while a reply is awaited; a client that pipelines more waits.
const READ_AHEAD: usize = 16 * 1024;

/// The connection.
pub(crate) struct Wire {
    pub(crate) io: Io,
    pub(crate) inbox: BytesMut,
    pub(crate) outbox: Outbox,
    pub(crate) alarm: SharedAlarm,
    clock: Clock,
    pub(crate) buffers: Rc<Buffers>,
    body: RequestBody,
}

/// Where the current request's body stands.
struct RequestBody {
    reader: BodyReader,
    patience: Patience,
    pace: Pace,
    limit: Option<u64>,
    received: u64,
    /// `100 Continue` is owed once somebody wants the body (RFC 9110, 10.1.1).
    expects_continue: bool,
    failed: Option<BodyError>,
}

/// What came of waiting for a request.
pub(crate) enum Next {
    /// A head was read; its first byte came at this time.
    Request(Instant),
    Refused(RequestError),
    Closed,
    /// No request came for `idle`.
    Idle,
    /// The client began a head and did not end it in time.
    TooSlow,
}

/// Waiting for one request's head.
pub(crate) struct AwaitHead {
    pub(crate) reader: HeadReader,
    pub(crate) since: Instant,
    pub(crate) began: Option<Instant>,
    /// No request came over this connection yet.
    pub(crate) first: bool,
}

/// What holds for the heads of requests.
#[derive(Clone, Copy)]
pub(crate) struct HeadRules<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) timeouts: &'a ServerTimeouts,
    /// Where nothing of a request has come, the connection ends.
    pub(crate) leave: bool,
}

impl Wire {
    pub(crate) fn new(io: Io, inbox: BytesMut, alarm: SharedAlarm, clock: &Clock, buffers: &Rc<Buffers>) -> Self {
        Self {
            io,
            inbox,
            outbox: Outbox::default(),
            alarm,
            clock: clock.clone(),
            buffers: Rc::clone(buffers),
            body: RequestBody::none(),
        }
    }

    /// Reads until `head` is whole.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &mut AwaitHead,
        head: &mut RequestHead,
        rules: &HeadRules<'_>,
    ) -> Poll<Next> {
        loop {
            if let Some(next) = self.parse_head(waiting, head, rules.limits) {
                return Poll::Ready(next);
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if self.inbox.is_empty() && rules.leave => return Poll::Ready(Next::Closed),
                Poll::Pending => return self.poll_head_deadline(cx, waiting, rules.timeouts),
            }
        }
    }

    fn parse_head(&mut self, waiting: &mut AwaitHead, head: &mut RequestHead, limits: &Limits) -> Option<Next> {
        if self.inbox.is_empty() {
            return None;
        }
        let began = *waiting.began.get_or_insert_with(|| {
            *head = self.buffers.take_head();
            self.clock.now()
        });
        match waiting.reader.request(&self.inbox, limits, head) {
            Ok(Some(length)) => {
                self.inbox.advance(length);
                Some(Next::Request(began))
            }
            Ok(None) => None,
            Err(error) => Some(Next::Refused(error)),
        }
    }

    fn poll_head_deadline(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &AwaitHead,
        timeouts: &ServerTimeouts,
    ) -> Poll<Next> {
        let (deadline, late) = match waiting.began {
            // What came before the first head was part of the same time.
            Some(_) if waiting.first => (waiting.since + timeouts.header, Next::TooSlow),
            Some(began) => (began + timeouts.header, Next::TooSlow),
            None if waiting.first => (waiting.since + timeouts.header, Next::Idle),
            None => (waiting.since + timeouts.idle, Next::Idle),
        };
        self.alarm.borrow_mut().poll(cx, deadline).map(|()| late)
    }

    /// The next request's body is framed like this.
    pub(crate) fn begin_body(&mut self, framing: Framing, limits: Limits, expects_continue: bool, patience: Patience) {
        self.body = RequestBody {
            reader: BodyReader::new(framing).with_trailer_limits(limits),
            patience,
            pace: Pace::default(),
            limit: None,
            received: 0,
            expects_continue,
            failed: None,
        };
    }

    /// Bytes of the request's body that were read.
    pub(crate) fn received(&self) -> u64 {
        self.body.received
    }

    /// True once the current request was read to its end.
    pub(crate) fn request_is_over(&self) -> bool {
        self.body.reader.is_end()
    }

    /// True if the client was never told to send the body that it announced.
    pub(crate) fn holds_body_back(&self) -> bool {
        self.body.expects_continue && self.body.received == 0
    }

    /// Bytes of the request that are still to come, if that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        self.body.reader.remaining()
    }

    /// Why the client was let go while it sent its request, if it was.
    pub(crate) fn too_slow(&self) -> Option<LetGo> {
        let body = &self.body;
        let late = body.failed == Some(BodyError::ClientTooSlow);
        let below_rate = body.pace.is_below_rate(body.patience, &self.clock);
        late.then_some(if below_rate { LetGo::MinRate } else { LetGo::BodyIdle })
    }

    /// The client left before the end of its request: nobody is there to be answered.
    pub(crate) fn was_left(&self) -> bool {
        self.body.failed == Some(BodyError::ClientGone)
    }

    /// Watches for a client that leaves while its reply is awaited. What it sends meanwhile is kept for later.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.request_is_over() {
            return Poll::Pending;
        }
        loop {
            if self.inbox.len() >= READ_AHEAD {
                return Poll::Pending;
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        read_head(&mut self.io, &mut self.inbox, &self.buffers, cx)
    }

    /// Writes what waits to be written.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, wrote: &mut usize) -> Poll<io::Result<()>> {
        self.outbox.poll_flush(&mut self.io, cx, wrote)
    }

    /// Closes for writing.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            // Who is gone needs no farewell.
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.alarm.borrow_mut().poll(cx, until),
        }
    }

    /// Throws away what comes until the client closes, or until a time.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        loop {
            self.inbox.clear();
            match read_some(&mut self.io, &mut self.inbox, self.buffers.head(), cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return self.alarm.borrow_mut().poll(cx, until),
            }
        }
    }

    fn poll_body_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(error) = self.body.failed {
            return Poll::Ready(Some(Err(error)));
        }
        if self.body.expects_continue && !self.body.reader.is_end() {
            self.body.expects_continue = false;
            if self.inbox.is_empty() {
                self.outbox.tail().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
        if !self.outbox.is_empty() {
            let mut wrote = 0;
            if let Poll::Ready(Err(_)) = self.poll_flush(cx, &mut wrote) {
                return self.fail(BodyError::ClientGone);
            }
        }
        loop {
            match self.body.reader.read(&mut self.inbox) {
                Ok(BodyEvent::Data(data)) => return self.count(data),
                Ok(BodyEvent::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::Trailers(trailers)))),
                Ok(BodyEvent::End) => return Poll::Ready(None),
                Ok(BodyEvent::NeedMore) => {}
                Err(_) => return self.fail(BodyError::ClientMalformed),
            }
            // What a chunk announces counts before it comes.
            let announced = self.body.received.saturating_add(self.body.reader.remaining().unwrap_or(0));
            if self.body.limit.is_some_and(|limit| announced > limit) {
                return self.fail(BodyError::TooLarge);
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.fail(error),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn count(&mut self, data: Bytes) -> Poll<Option<Result<Frame, BodyError>>> {
        self.body.received += data.len() as u64;
        if self.body.limit.is_some_and(|limit| self.body.received > limit) {
            return self.fail(BodyError::TooLarge);
        }
        Poll::Ready(Some(Ok(Frame::Data(data))))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Self { io, inbox, body, alarm, clock, buffers, .. } = self;
        let room = buffers.body(body.reader.remaining());
        if inbox.capacity() == 0 && room <= buffers.head() {
            *inbox = buffers.take();
        }
        match read_some(io, inbox, room, cx) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(BodyError::ClientGone)),
            Poll::Ready(Ok(read)) => {
                body.pace.moved(read, clock);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                let late = body.pace.poll_late(body.patience, clock, &mut alarm.borrow_mut(), cx);
                late.map(|()| Err(BodyError::ClientTooSlow))
            }
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame, BodyError>>> {
        self.body.failed = Some(error);
        Poll::Ready(Some(Err(error)))
    }
}

impl RequestBody {
    fn none() -> Self {
        Self {
            reader: BodyReader::new(Framing::None),
            patience: Patience { idle: std::time::Duration::ZERO, min_rate: None },
            pace: Pace::default(),
            limit: None,
            received: 0,
            expects_continue: false,
            failed: None,
        }
    }
}

/// The current request's body, for those who send it on.
pub(crate) struct Incoming {
    pub(crate) wire: Rc<RefCell<Wire>>,
    /// What `Content-Length` says is still to come.
    pub(crate) length: Option<u64>,
}

impl Stream for Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.wire.borrow_mut().poll_body_frame(cx);
        if let Poll::Ready(Some(Ok(Frame::Data(data)))) = &polled {
            self.length = self.length.map(|length| length.saturating_sub(data.len() as u64));
        }
        polled
    }

    fn limit(&mut self, bytes: Option<u64>) {
        self.wire.borrow_mut().body.limit = bytes;
    }

    fn length(&self) -> Option<u64> {
        self.length
    }

    fn is_end(&self) -> bool {
        self.wire.borrow().body.reader.is_end()
    }
}
