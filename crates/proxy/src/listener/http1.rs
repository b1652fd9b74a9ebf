//! An HTTP/1 connection from a client: requests one after the other, each served on its own, each reply written before the next
//! request is looked at.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::BytesMut;
use http::{Method, StatusCode};
use tidegate_core::body::Body;
use tidegate_core::exchange::Exchange;
use tidegate_core::forward;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_core::request_id::RequestId;
use tidegate_http1::{
    Framing, HeadReader, Known, RequestError, RequestHead, ResponseHead, Version, decimal, request_framing,
    request_keep_alive,
};

use super::Session;
use super::wire::{AwaitHead, HeadRules, Incoming, Next, Wire};
use super::writing::{Connecting, Writing, Written, base, encode_head, poll_flush_in_time};
use crate::alarm::Alarm;
use crate::io::Io;
use crate::live::{self, Live};
use crate::pace::{Pace, Patience};
use crate::serve::{self, Answer, Means};
use crate::telemetry::{End, LetGo};
use crate::tunnel;
use crate::worker::Worker;

/// A rest of a request that is read and thrown away to keep the connection; with more left, the connection closes.
const DRAINED_AT_MOST: u64 = 256 * 1024;

/// How long a closing connection still listens, so that the client gets to read the reply instead of a reset.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);

/// A request as read from the connection.
pub(super) struct Request {
    head: RequestHead,
    framing: Framing,
    began: Instant,
    keep_alive: bool,
    expects_continue: bool,
}

/// Serves a connection until it ends. `since`: from when the time for the first head counts.
pub(crate) fn serve(
    worker: Rc<Worker>,
    session: Rc<Session>,
    io: Io,
    early: BytesMut,
    since: Instant,
) -> impl Future<Output = ()> {
    let alarm = Rc::new(RefCell::new(Alarm::new(&worker.clock)));
    let wire = Wire::new(io, early, alarm, &worker.clock, &worker.buffers);
    // Made here, so that the future, which idle connections are kept by, holds nothing twice.
    serve_all(Connection { wire: Rc::new(RefCell::new(wire)), since, first: true, worker, session })
}

async fn serve_all(mut connection: Connection) {
    while let Some(request) = connection.next().await {
        let worker = Rc::clone(&connection.worker);
        match worker.attendants.serve(connection, request).await {
            Some(goes_on) => connection = goes_on,
            None => return,
        }
    }
}

pub(super) struct Connection {
    worker: Rc<Worker>,
    session: Rc<Session>,
    wire: Rc<RefCell<Wire>>,
    /// When the last exchange ended; from when the time for the first head counts.
    since: Instant,
    first: bool,
}

impl Connection {
    /// The next request; `None` once there is nothing more to do on this connection.
    async fn next(&mut self) -> Option<Request> {
        // Empty until bytes come: an idle connection holds neither a head nor a buffer nor a snapshot.
        let mut head = RequestHead::default();
        let mut waiting =
            AwaitHead { reader: HeadReader::default(), since: self.since, began: None, first: self.first };
        let next = poll_fn(|cx| {
            let local = self.worker.local();
            let rules = HeadRules {
                limits: &local.snapshot.limits,
                timeouts: &local.snapshot.config.server.timeouts,
                leave: self.session.is_leaving(&self.worker),
            };
            self.wire.borrow_mut().poll_head(cx, &mut waiting, &mut head, &rules)
        });
        let next = next.await;
        self.first = false;
        let refused = match next {
            Next::Request(began) => match Request::judge(head, began) {
                Ok(request) => return Some(request),
                Err(error) => error.into(),
            },
            Next::Refused(error) => error.into(),
            Next::Closed => return None,
            Next::Idle => {
                self.session.cells.let_go(LetGo::Idle);
                return None;
            }
            Next::TooSlow => {
                self.session.cells.let_go(LetGo::Header);
                Rejection::new(RejectionKind::RequestTimeout, "header_timeout", "Request head was sent too slowly")
            }
        };
        // After what is no request, nobody can say where the next one begins.
        Box::pin(self.refuse(&refused)).await;
        None
    }

    /// Answers in the place of an exchange that never began.
    async fn refuse(&self, rejection: &Rejection) {
        let id = RequestId::new(self.worker.random());
        let (mut fields, body) = rejection.render(id.as_str(), None);
        // Cannot fail: the name is checked by the configuration, the value was just made.
        fields.append(&self.worker.local().snapshot.request_id, id.as_str().as_bytes()).ok();
        fields.append_text(Known::Date, &self.worker.date()).ok();
        let head = ResponseHead { status: rejection.status(), fields, ..ResponseHead::default() };
        {
            let mut wire = self.wire.borrow_mut();
            let out = wire.outbox.tail();
            encode_head(out, &head, Framing::Length(body.len() as u64), false, Connecting::Close);
            out.extend_from_slice(&body);
        }
        live::refused(&self.worker, &self.session.peer, rejection, (id.as_str(), &body));
        if self.flush().await {
            // Nobody knows what else the client sends.
            self.linger(true).await;
        }
    }

    /// An exchange for this connection's requests, and after them for those of others.
    pub(super) fn vacant(&self) -> Exchange {
        Exchange::vacant(Rc::clone(&self.session.peer), self.since)
    }

    /// Serves one request, in a vacant exchange. False ends the connection.
    pub(super) async fn exchange(&mut self, exchange: &mut Exchange, request: Request) -> bool {
        let Request { head, framing, began, keep_alive, expects_continue } = request;
        let body = self.body(framing, expects_continue);
        let (version, is_head) = (head.version, head.method == Method::HEAD);
        let (mut live, opened) = serve::open(&self.worker, &self.session, exchange, (head, body), began);
        let Some(mut answer) = self.answer(&mut live, opened, version).await else {
            live.leave(self.wire.borrow().received());
            return false;
        };
        if answer.tunnel.is_some() {
            self.switch(&mut live, answer).await;
            return false;
        }
        let keep_alive =
            keep_alive && !answer.close && !self.session.is_leaving(&self.worker) && !self.must_close(&answer);
        let mut written = self.write(&mut live, &mut answer, (version, is_head), keep_alive).await;
        if let Written::Unsent(error) = written.0 {
            self.wire.borrow_mut().outbox.clear();
            answer = serve::refuse(&mut live, &error.into());
            serve::finish_head(&live, &mut answer);
            written = self.write(&mut live, &mut answer, (version, is_head), false).await;
        }
        live.facts.received = self.wire.borrow().received();
        drop(answer);
        // A long body may have gone through since this turn began.
        let since = self.worker.clock.now_anew();
        live.facts.finished = Some(since);
        let (whole, closes) = match written {
            (Written::Whole, closes) => {
                live.facts.end.get_or_insert(End::Complete);
                (true, closes)
            }
            (Written::Broken(end), _) => {
                live.facts.end = Some(end);
                (false, true)
            }
            (Written::Unsent(_), _) => (false, true),
        };
        if let Some(why) = self.wire.borrow().too_slow() {
            self.session.cells.let_go(why);
        }
        drop(live);
        self.since = since;
        if !whole {
            return false;
        }
        if closes || !self.drain_request().await {
            self.linger(false).await;
            return false;
        }
        true
    }

    fn body(&self, framing: Framing, expects_continue: bool) -> Body {
        let local = self.worker.local();
        let server = &local.snapshot.config.server;
        // Whatever its media type says: gRPC, whose requests may be silent for long, does not exist over HTTP/1.
        let patience = Patience { idle: server.timeouts.body_idle, min_rate: server.limits.min_rate };
        let length = match framing {
            Framing::None | Framing::Length(0) => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::Close => None,
        };
        self.wire.borrow_mut().begin_body(framing, local.snapshot.limits, expects_continue, patience);
        if length == Some(0) { Body::empty() } else { Body::stream(Incoming { wire: Rc::clone(&self.wire), length }) }
    }

    /// The answer to a request, unless the client leaves before there is one.
    async fn answer(&self, live: &mut Live<'_>, opened: serve::Opened, version: Version) -> Option<Answer> {
        let alarm = Rc::clone(&self.wire.borrow().alarm);
        let interim = |head: ResponseHead| {
            if version == Version::Http11 {
                let mut wire = self.wire.borrow_mut();
                encode_head(wire.outbox.tail(), &head, Framing::None, true, Connecting::Unsaid);
            }
        };
        let mut serving = pin!(serve::serve(live, opened, Means { alarm: &alarm, interim: &interim }));
        poll_fn(|cx| match serving.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered).filter(|_| !self.wire.borrow().was_left())),
            Poll::Pending => {
                let mut wire = self.wire.borrow_mut();
                let mut wrote = 0;
                if !wire.outbox.is_empty() && matches!(wire.poll_flush(cx, &mut wrote), Poll::Ready(Err(_))) {
                    return Poll::Ready(None);
                }
                wire.poll_gone(cx).map(|()| None)
            }
        })
        .await
    }

    /// A request whose rest is not worth reading ends the connection; the reply had better say so. A reply that streams may
    /// yet read its request to the end.
    fn must_close(&self, answer: &Answer) -> bool {
        let wire = self.wire.borrow();
        let streams = !answer.reply.body.is_whole();
        !wire.request_is_over()
            && (wire.holds_body_back() || !streams && wire.remaining().is_some_and(|left| left > DRAINED_AT_MOST))
    }

    /// Writes a reply. Also tells whether the connection must close after it.
    async fn write(
        &self,
        live: &mut Live<'_>,
        answer: &mut Answer,
        (version, is_head): (Version, bool),
        keep_alive: bool,
    ) -> (Written, bool) {
        let reply = &mut answer.reply;
        let status = reply.head.status;
        let bodiless = is_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let length = reply.body.length();
        if let Some(length) = length.filter(|length| is_head && *length > 0) {
            // An answer of the gateway's own: what GET would carry (RFC 9110, 8.6).
            reply.head.fields.set(Known::ContentLength, &decimal(length)).ok();
        }
        let framing = match length {
            _ if bodiless => Framing::None,
            Some(length) => Framing::Length(length),
            None if version == Version::Http10 => Framing::Close,
            None => Framing::Chunked,
        };
        let closes = !keep_alive || framing == Framing::Close;
        let connecting = match version {
            _ if closes => Connecting::Close,
            Version::Http10 => Connecting::KeepAlive,
            Version::Http11 | Version::Http2 => Connecting::Unsaid,
        };
        let base = {
            let mut wire = self.wire.borrow_mut();
            let base = base(&wire);
            if wire.outbox.is_spare() {
                wire.outbox.lend(self.worker.buffers.take_out());
            }
            encode_head(wire.outbox.tail(), &reply.head, framing, bodiless, connecting);
            base
        };
        live.facts.status = status.as_u16();
        let is_small = reply.body.is_whole();
        let patience = self.worker.write_patience(!is_small && forward::is_stream(&reply.head.fields));
        self.worker.buffers.put_reply(std::mem::take(&mut reply.head));
        let mut writing = Writing::new(std::mem::take(&mut reply.body), (framing, bodiless), patience, base);
        // Told all along, for this may be cut off.
        let written = poll_fn(|cx| {
            let written = writing.poll(cx, &self.wire, &self.worker);
            live.facts.sent = writing.sent;
            written
        });
        let written = written.await;
        if matches!(written, Written::Broken(_)) && framing == Framing::Close {
            // The close is the framing: only a reset tells that this is not the end.
            self.wire.borrow().io.reset_on_close();
        }
        if let Some(why) = writing.too_slow(&written, &self.worker) {
            self.session.cells.let_go(why);
        }
        if matches!(written, Written::Whole) {
            let buffer = self.wire.borrow_mut().outbox.take_buffer();
            self.worker.buffers.put_out(buffer);
        }
        (written, closes)
    }

    /// Sends the 101 and becomes a tunnel.
    async fn switch(&self, live: &mut Live<'_>, answer: Answer) {
        let Answer { reply, tunnel, .. } = answer;
        let Some(tunnel) = tunnel else { return };
        encode_head(self.wire.borrow_mut().outbox.tail(), &reply.head, Framing::None, true, Connecting::Unsaid);
        let facts = &mut live.facts;
        facts.status = reply.head.status.as_u16();
        let idle = self.worker.timeouts().stream_idle;
        let told = |received, sent| (facts.received, facts.sent) = (received, sent);
        tunnel::run(&self.wire, tunnel, (&self.worker, idle), told).await;
        facts.end = Some(End::Upgraded);
    }

    async fn flush(&self) -> bool {
        let mut pace = Pace::default();
        let patience = self.worker.write_patience(false);
        poll_fn(|cx| {
            let mut wire = self.wire.borrow_mut();
            poll_flush_in_time(&mut wire, &mut pace, patience, &self.worker, cx)
        })
        .await
        .is_ok()
    }

    /// Reads what is left of the request, so that the next one can be found. False if it is too much, or broken.
    async fn drain_request(&self) -> bool {
        if self.wire.borrow().request_is_over() {
            return true;
        }
        let mut rest = Body::stream(Incoming { wire: Rc::clone(&self.wire), length: None });
        let mut read = 0;
        while read <= DRAINED_AT_MOST {
            match rest.data().await {
                Ok(Some(data)) => read += data.len() as u64,
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    /// Closes for writing and reads on for a moment: closing with unread bytes would reset the connection, and the reset may
    /// overtake the reply (RFC 9112, 9.6).
    async fn linger(&self, more: bool) {
        let until = self.worker.clock.now() + LINGER;
        poll_fn(|cx| self.wire.borrow_mut().poll_shutdown(cx, until)).await;
        let over = self.wire.borrow().request_is_over() && self.wire.borrow().inbox.is_empty();
        if more || !over {
            poll_fn(|cx| self.wire.borrow_mut().poll_discard(cx, until)).await;
        }
    }
}

impl Request {
    fn judge(head: RequestHead, began: Instant) -> Result<Self, RequestError> {
        let framing = request_framing(&head)?;
        let expects_continue = head.version == Version::Http11 && head.fields.contains(Known::Expect);
        Ok(Self { framing, began, keep_alive: request_keep_alive(&head), expects_continue, head })
    }
}
