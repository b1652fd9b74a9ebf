//! An HTTP/1 connection to an endpoint: one exchange at a time, strict about what comes back, and reused only if nothing
//! surprising happened on it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode};
use tidegate_core::body::{Body, BodyError, Frame, Stream};
use tidegate_core::clock::Clock;
use tidegate_core::forward;
use tidegate_http1::{
    BodyEvent, BodyReader, Framing, HeadReader, Known, Limits, RequestHead, ResponseHead, decimal, encode,
    response_framing, response_keep_alive,
};

use super::attempt::{Attempt, Failure, Reply, SharedAlarm, Tunnel};
use super::endpoint::{Endpoint, Permit};
use super::line::{Line, Withdrawal};
use super::sender::{SendError, Sender, Sending};
use super::waiting::Waiting;
use crate::buffers::{Buffers, Wide};
use crate::io::Io;
use crate::read::{read_head, read_some};
use crate::tasks::let_others_go_first;

/// What a reply's head may be at most; a service is trusted more than a client, but not without bound.
const REPLY_LIMITS: Limits = Limits { head_bytes: 256 * 1024, fields: 1000, target_bytes: 0 };

/// Interim replies (1xx) accepted before the final one.
const INTERIM_AT_MOST: u32 = 16;

/// An open connection.
pub(crate) struct Connection {
    line: Rc<RefCell<Line>>,
    inbox: BytesMut,
    /// When it was opened.
    pub(crate) born: Instant,
    /// Exchanges it has carried.
    pub(crate) requests: u64,
    endpoint: Rc<Endpoint>,
    permit: Permit,
}

impl Connection {
    pub(crate) fn new(io: Io, endpoint: Rc<Endpoint>, permit: Permit, born: Instant) -> Self {
        let line = Rc::new(RefCell::new(Line::new(io)));
        Self { line, inbox: BytesMut::new(), born, requests: 0, endpoint, permit }
    }

    /// True if the peer neither closed the connection nor sent anything while it was idle: whatever it sent was not asked
    /// for, and would be taken for the reply to the next request (response queue poisoning).
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.line.borrow_mut().io.is_silent()
    }

    /// Sends the request and returns the reply as soon as its head is there.
    pub(crate) async fn exchange(mut self: Box<Self>, attempt: &mut Attempt<'_>) -> Result<Reply, Failure> {
        self.requests += 1;
        self.permit.work();
        let body = std::mem::take(&mut attempt.body);
        let framing = request_framing(attempt.head, &body);
        self.write_head(attempt, framing);
        let mut awaiting = Awaiting {
            sender: Sender::new(body, framing),
            send_error: None,
            reader: HeadReader::default(),
            head: None,
            interim: 0,
            waiting: Waiting::default(),
        };
        self.depart(&mut awaiting.sender, attempt).await?;
        let received = std::future::poll_fn(|cx| awaiting.poll(&mut self, attempt, cx)).await;
        match received {
            Ok(()) => self.reply(attempt, &mut awaiting),
            Err(failure) => {
                // A body of which nothing was taken goes back, for another try.
                attempt.body = awaiting.sender.into_untouched_body().unwrap_or_default();
                Err(failure)
            }
        }
    }

    /// Lets the request leave together with those of others, as far as it is here. One that is here as a whole is left to the burst.
    async fn depart(&self, sender: &mut Sender, attempt: &Attempt<'_>) -> Result<(), Failure> {
        let filling = std::future::poll_fn(|cx| {
            attempt.alarm.borrow_mut().attend(cx);
            Poll::Ready(sender.fill(&mut self.line.borrow_mut().outbox, cx))
        });
        _ = filling.await.map_err(Failure::Request)?;
        if !sender.has_ended() {
            let_others_go_first().await;
        } else if let Some(burst) = attempt.bursts.leave(&self.line, Rc::clone(attempt.alarm)) {
            // Cancelled meanwhile, the burst still sends for others, but not for its owner.
            let cancelled = Withdrawal::of(&self.line);
            let_others_go_first().await;
            cancelled.keep();
            drop(burst);
        }
        Ok(())
    }

    /// Writes the request's head into the outbox, which is empty.
    fn write_head(&self, attempt: &Attempt<'_>, framing: Framing) {
        let line = &mut *self.line.borrow_mut();
        line.sent = 0;
        if line.outbox.is_spare() {
            line.outbox.lend(attempt.buffers.take_out());
        }
        encode_head(line.outbox.tail(), attempt, framing, self.endpoint.authority());
    }

    fn reply(mut self: Box<Self>, attempt: &Attempt<'_>, awaiting: &mut Awaiting) -> Result<Reply, Failure> {
        let (head, sender) = (awaiting.head.take().unwrap_or_default(), &mut awaiting.sender);
        let now = attempt.clock.now();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return tunnel(*self, head, now);
        }
        let method = &attempt.head.method;
        let framing = response_framing(method, &head).map_err(|error| Failure::Malformed(error.to_string().into()))?;
        let reusable = response_keep_alive(&head, framing);
        let sent = sender.is_done(&self.line.borrow());
        if sent && let Some(body) = self.whole_body(framing) {
            if reusable {
                self.retire(now, attempt.buffers);
            }
            return Ok(Reply { head, body, tunnel: None, at: now });
        }
        let streaming = forward::is_stream(&head.fields);
        let body = Body::stream(ReplyBody {
            connection: Some(self),
            sender: (!sent).then(|| sender.take()),
            request_failed: None,
            length: match framing {
                Framing::Length(length) => Some(length),
                Framing::None => Some(0),
                Framing::Chunked | Framing::Close => None,
            },
            reader: BodyReader::new(framing),
            reusable,
            idle: if streaming { attempt.stream_idle } else { attempt.read },
            silent_since: None,
            clock: attempt.clock.clone(),
            alarm: Rc::clone(attempt.alarm),
            wide: None,
            buffers: Rc::clone(attempt.buffers),
        });
        Ok(Reply { head, body, tunnel: None, at: now })
    }

    /// The body, if all of it is here already: the common case of a small reply, which then needs no stream. It keeps the buffer,
    /// which goes back when the body was written (see [`Buffers::reclaim`]).
    fn whole_body(&mut self, framing: Framing) -> Option<Body> {
        match framing {
            Framing::None | Framing::Length(0) => Some(Body::empty()),
            Framing::Length(length) => {
                let length = usize::try_from(length).ok().filter(|length| *length <= self.inbox.len())?;
                // Splitting would make the memory shared, for nothing.
                let is_all = length == self.inbox.len();
                let data = if is_all { std::mem::take(&mut self.inbox) } else { self.inbox.split_to(length) };
                Some(Body::full(data.freeze()))
            }
            Framing::Chunked | Framing::Close => None,
        }
    }

    /// Back to the pool, unless the peer sent more than it should have (RFC 9112, 6.3), or not all of the request was sent: then the
    /// connection ends here.
    fn retire(mut self: Box<Self>, now: Instant, buffers: &Buffers) {
        if self.inbox.is_empty() && self.line.borrow().is_idle() {
            self.permit.rest();
            buffers.put(std::mem::take(&mut self.inbox));
            buffers.put_out(self.line.borrow_mut().outbox.take_buffer());
            let endpoint = Rc::clone(&self.endpoint);
            endpoint.give_back(self, now);
        }
    }
}

fn tunnel(connection: Connection, head: ResponseHead, at: Instant) -> Result<Reply, Failure> {
    let Connection { line, inbox, permit, .. } = connection;
    let Some(line) = Rc::into_inner(line) else {
        return Err(Failure::Malformed("it switched protocols before it got the request".into()));
    };
    let tunnel = Box::new(Tunnel { io: line.into_inner().io, early: inbox, hold: Box::new(permit) });
    Ok(Reply { head, body: Body::empty(), tunnel: Some(tunnel), at })
}

fn request_framing(head: &RequestHead, body: &Body) -> Framing {
    match body.length() {
        // A body-less request says so only where a body is expected (RFC 9110, 8.6).
        Some(0) if !matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

fn encode_head(out: &mut Vec<u8>, attempt: &Attempt<'_>, framing: Framing, authority: &str) {
    let head = attempt.head;
    encode::request_line(out, &head.method, &head.target);
    if !head.fields.contains(Known::Host) {
        // An HTTP/1.0 client need not name one; HTTP/1.1 must (RFC 9112, 3.2).
        encode::field(out, "host", authority.as_bytes());
    }
    encode::fields(out, &head.fields);
    if let Some((name, left)) = attempt.time_left() {
        encode::field(out, name, &decimal(left));
    }
    match framing {
        Framing::Length(length) => encode::field(out, "content-length", &decimal(length)),
        Framing::Chunked => encode::field(out, "transfer-encoding", b"chunked"),
        Framing::None | Framing::Close => {}
    }
    encode::end(out);
}

/// A request that is being sent and whose reply's head is awaited.
struct Awaiting {
    sender: Sender,
    send_error: Option<io::Error>,
    reader: HeadReader,
    /// Nobody holds one while nothing has come.
    head: Option<ResponseHead>,
    interim: u32,
    waiting: Waiting,
}

impl Awaiting {
    fn poll(
        &mut self,
        connection: &mut Connection,
        attempt: &Attempt<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let sending = match self.poll_send(connection, cx) {
            Ok(sending) => sending,
            Err(failure) => return Poll::Ready(Err(failure)),
        };
        loop {
            match self.parse(connection, attempt) {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => {}
                Err(failure) => return Poll::Ready(Err(failure)),
            }
            let read = read_head(&mut connection.line.borrow_mut().io, &mut connection.inbox, attempt.buffers, cx);
            let failed = match read {
                Poll::Ready(Ok(0)) => io::ErrorKind::UnexpectedEof.into(),
                Poll::Ready(Ok(_)) => {
                    self.waiting.reply_moved();
                    continue;
                }
                Poll::Ready(Err(error)) => error,
                Poll::Pending => {
                    return self.waiting.poll(sending, attempt, cx).map(Err);
                }
            };
            return Poll::Ready(Err(self.broken(failed, &connection.line.borrow())));
        }
    }

    /// A failure to send is not the end: the service may have replied before it closed (413 while the upload ran).
    fn poll_send(&mut self, connection: &mut Connection, cx: &mut Context<'_>) -> Result<Sending, Failure> {
        if self.send_error.is_some() {
            return Ok(Sending::Done);
        }
        let line = &mut *connection.line.borrow_mut();
        let before = line.sent;
        let sending = match self.sender.poll(line, cx) {
            Ok(sending) => sending,
            Err(SendError::Body(error)) => return Err(Failure::Request(error)),
            Err(SendError::Io(error)) => {
                self.send_error = Some(error);
                Sending::Done
            }
        };
        if line.sent != before {
            self.waiting.request_moved();
        }
        Ok(sending)
    }

    /// True once the final head is there.
    fn parse(&mut self, connection: &mut Connection, attempt: &Attempt<'_>) -> Result<bool, Failure> {
        loop {
            if connection.inbox.is_empty() {
                return Ok(false);
            }
            let head = self.head.get_or_insert_with(|| attempt.buffers.take_reply());
            let read = self
                .reader
                .response(&connection.inbox, &REPLY_LIMITS, head)
                .map_err(|error| Failure::Malformed(error.to_string().into()))?;
            let Some(length) = read else { return Ok(false) };
            connection.inbox.advance(length);
            self.reader = HeadReader::default();
            match head.status {
                StatusCode::SWITCHING_PROTOCOLS if was_asked_for(head, &self.sender, connection, attempt) => {
                    return Ok(true);
                }
                StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(Failure::Malformed("it switched to a protocol that nobody asked for".into()));
                }
                StatusCode::CONTINUE => {}
                status if status.is_informational() => self.relay(attempt),
                _ => return Ok(true),
            }
            self.interim += 1;
            if self.interim > INTERIM_AT_MOST {
                return Err(Failure::Malformed("it sent too many interim replies".into()));
            }
        }
    }

    fn relay(&mut self, attempt: &Attempt<'_>) {
        if let (Some(head), Some(interim)) = (self.head.take(), attempt.interim) {
            interim(head);
        }
    }

    fn broken(&mut self, error: io::Error, line: &Line) -> Failure {
        Failure::Broken { error: self.send_error.take().unwrap_or(error), sent: line.sent > 0 }
    }
}

/// Whether the reply switches to the protocol that was asked for, by a request that was sent.
fn was_asked_for(head: &ResponseHead, sender: &Sender, connection: &Connection, attempt: &Attempt<'_>) -> bool {
    let mut named = head.fields.tokens(Known::Upgrade);
    let (first, more) = (named.next(), named.next());
    let asked = attempt.upgrade.zip(first).is_some_and(|(wish, name)| name.eq_ignore_ascii_case(wish.as_bytes()));
    asked && more.is_none() && sender.is_done(&connection.line.borrow())
}

/// The body of a reply: it owns the connection that it comes from and the rest of the request that goes there.
struct ReplyBody {
    connection: Option<Box<Connection>>,
    /// What is not sent yet.
    sender: Option<Sender>,
    /// The request's body failed while the reply was already under way.
    request_failed: Option<BodyError>,
    reader: BodyReader,
    length: Option<u64>,
    reusable: bool,
    idle: std::time::Duration,
    silent_since: Option<Instant>,
    clock: Clock,
    alarm: SharedAlarm,
    /// Read into in the place of the connection's own buffer, which is empty then.
    wide: Option<Wide>,
    buffers: Rc<Buffers>,
}

impl Stream for ReplyBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.poll_progress(cx);
        if let Some(error) = self.request_failed {
            return self.fail(error);
        }
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            let inbox = self.wide.as_mut().map_or(&mut connection.inbox, |wide| &mut wide.bytes);
            match self.reader.read(inbox) {
                Ok(BodyEvent::Data(data)) => return Poll::Ready(Some(Ok(self.took(data)))),
                Ok(BodyEvent::Trailers(trailers)) => {
                    self.finish_if_over();
                    return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                }
                Ok(BodyEvent::End) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(BodyEvent::NeedMore) => {}
                Err(_) => return self.fail(BodyError::UpstreamAborted),
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) if self.reader.finish().is_ok() => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0) | Err(_)) => return self.fail(BodyError::UpstreamAborted),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return self.poll_silence(cx),
            }
        }
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) {
        let (Some(sender), Some(connection)) = (&mut self.sender, &mut self.connection) else { return };
        let mut line = connection.line.borrow_mut();
        let before = line.sent;
        let polled = sender.poll(&mut line, cx);
        let (moved, done) = (line.sent != before, sender.is_done(&line));
        drop(line);
        if moved || matches!(polled, Ok(Sending::AwaitsBody)) {
            // Who still takes the request, or waits for it, need not reply yet.
            self.silent_since = None;
        }
        match polled {
            Ok(Sending::Done) if done => self.sender = None,
            // It replied before it got the request, which a burst will send.
            Ok(Sending::Done | Sending::AwaitsBody | Sending::AwaitsUpstream) => {}
            // The reply may still be whole, but the connection has seen its last exchange.
            Err(SendError::Io(_)) => {
                self.sender = None;
                self.reusable = false;
            }
            Err(SendError::Body(error)) => {
                self.sender = None;
                self.request_failed = Some(error);
                self.connection = None;
                cx.waker().wake_by_ref();
            }
        }
    }

    fn length(&self) -> Option<u64> {
        self.length
    }

    fn is_end(&self) -> bool {
        self.connection.is_none() && self.request_failed.is_none()
    }
}

impl ReplyBody {
    /// Reads more. A body that waits for it holds no wide buffer.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.narrow();
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(0)) };
        let io = &mut connection.line.borrow_mut().io;
        let wide = if connection.inbox.is_empty() { self.buffers.widen(self.length) } else { None };
        let Some(mut wide) = wide else {
            return read_some(io, &mut connection.inbox, self.buffers.body(self.length), cx);
        };
        if connection.inbox.capacity() != 0 {
            self.buffers.put(std::mem::take(&mut connection.inbox));
        }
        let room = wide.bytes.capacity();
        let read = read_some(io, &mut wide.bytes, room, cx);
        self.wide = matches!(read, Poll::Ready(Ok(1..))).then_some(wide);
        read
    }

    /// Goes on with the connection's own buffer. What is left is little: the beginning of a chunk's head, or what was not asked for.
    fn narrow(&mut self) {
        if let (Some(wide), Some(connection)) = (self.wide.take(), &mut self.connection) {
            connection.inbox.extend_from_slice(&wide.bytes);
        }
    }

    fn took(&mut self, data: Bytes) -> Frame {
        self.length = self.length.map(|length| length.saturating_sub(data.len() as u64));
        self.silent_since = None;
        self.finish_if_over();
        Frame::Data(data)
    }

    fn finish_if_over(&mut self) {
        if self.reader.is_end() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.narrow();
        let Some(connection) = self.connection.take() else { return };
        if self.reusable && self.sender.is_none() {
            connection.retire(self.clock.now(), &self.buffers);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame, BodyError>>> {
        self.connection = None;
        Poll::Ready(Some(Err(error)))
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let since = *self.silent_since.get_or_insert_with(|| self.clock.now());
        let silent = self.alarm.borrow_mut().poll(cx, since + self.idle).is_ready();
        if silent { self.fail(BodyError::UpstreamTooSlow) } else { Poll::Pending }
    }
}
