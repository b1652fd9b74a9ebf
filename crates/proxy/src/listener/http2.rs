//! An HTTP/2 connection from a client: every stream becomes an exchange of its own, served like any other. The frames are
//! the `h2` crate's; what a client may cost is decided here.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tidegate_config::config::ServerLimits;
use tidegate_core::client::Peer;
use tidegate_http1::{FieldLineError, RequestError, Version};

use super::Session;
use super::http2_stream::{self, Shared};
use super::sniff::PREFACE;
use crate::alarm::{Alarm, until};
use crate::http2::SEND_BUFFER;
use crate::http2::meter::{Meter, Refusal};
use crate::http2::wire::{End, Wire};
use crate::io::{Io, Rewind};
use crate::live::Unserved;
use crate::pace::Pace;
use crate::tasks::spawn_local;
use crate::telemetry::{LetGo, RefusedStream};
use crate::worker::Worker;

/// What one connection's request heads may take in all, in bytes: streams times the limit of one head.
const HEADS: usize = 4 * 1024 * 1024;

/// What a client may send of one body before somebody takes it, and of all bodies together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams that a client may reset before the gateway has looked at them.
const RESET_UNSEEN: usize = 50;
/// Streams that the gateway resets because the client broke the protocol on them; after so many, the connection ends.
const RESET_FOR_ERRORS: usize = 100;

/// How long a connection that was told to end may take to do so once it carries no stream.
const LINGER: Duration = Duration::from_secs(2);

/// The code of a stream that there is no place for.
const TOO_MANY: &str = "too_many_streams";

type H2 = server::Connection<End, Bytes>;

/// Serves a connection until it ends. `early` was read already, preface and all; `since` is from when the time for the client's
/// settings counts.
pub(crate) async fn serve(worker: Rc<Worker>, session: Rc<Session>, io: Io, early: BytesMut, since: Instant) {
    let limits = worker.local().snapshot.config.server.limits;
    let meter = Meter::new(PREFACE.len(), worker.clock.now());
    let wire = Wire::new(Rewind::new(early, io), Some(&meter));
    let mut handshake = pin!(builder(&limits).handshake(Wire::end(&wire)));
    let opened = std::future::poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(opened) => Poll::Ready(Some(opened)),
        // Who has said nothing yet is not waited for.
        Poll::Pending if session.is_leaving(&worker) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    match until(&worker.clock, since + worker.timeouts().header, opened).await {
        Some(Some(Ok(h2))) => {
            let shared =
                Rc::new(Shared { worker, session, meter, streams: Cell::default(), waker: RefCell::default() });
            let mut connection = Connection::new(h2, wire, shared, most_streams(&limits));
            std::future::poll_fn(|cx| connection.poll(cx)).await;
        }
        Some(Some(Err(error))) => note_end(&session, &error),
        Some(None) => {}
        None => session.cells.let_go(LetGo::Header),
    }
}

fn builder(limits: &ServerLimits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(most_streams(limits))
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(Some(RESET_FOR_ERRORS));
    builder
}

/// As configured, unless so many heads at their limit would be too much for one connection.
fn most_streams(limits: &ServerLimits) -> u32 {
    let affordable = (HEADS / limits.header_bytes.max(1)).max(1);
    limits.streams.min(u32::try_from(affordable).unwrap_or(u32::MAX)).max(1)
}

/// `h2` has ended the connection, or the client has. Whoever simply leaves is not worth a word.
fn note_end(session: &Session, error: &h2::Error) {
    let Some(reason) = error.reason().filter(|_| error.is_library()) else { return };
    let why = if reason == Reason::ENHANCE_YOUR_CALM { LetGo::Flood } else { LetGo::Http2Error };
    session.cells.let_go(why);
    let Peer { listener, address, .. } = &*session.peer;
    tracing::debug!(listener = &**listener, client = %address, "the client broke the rules of HTTP/2: {error}");
}

struct Connection {
    h2: H2,
    wire: Rc<Wire>,
    shared: Rc<Shared>,
    most_streams: usize,
    alarm: Alarm,
    idle_since: Instant,
    was_busy: bool,
    last: Last,
    /// When a header block began that has not ended since.
    block_since: Option<Instant>,
    /// The client was told that no more streams are served.
    leaving: bool,
    /// The client was told to calm down, and the connection ends.
    calmed: bool,
}

/// What no stream waits for any more: replies are written for their streams once `h2` has them, and it may hold them for long.
struct Last {
    alarm: Alarm,
    pace: Pace,
    taken: u64,
}

impl Connection {
    fn new(h2: H2, wire: Rc<Wire>, shared: Rc<Shared>, most_streams: u32) -> Self {
        Self {
            h2,
            wire,
            most_streams: most_streams as usize,
            alarm: Alarm::new(&shared.worker.clock),
            idle_since: shared.worker.clock.now(),
            was_busy: false,
            last: Last { alarm: Alarm::new(&shared.worker.clock), pace: Pace::default(), taken: 0 },
            block_since: None,
            leaving: false,
            calmed: false,
            shared,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.waker.replace(Some(cx.waker().clone()));
        if self.shared.session.is_leaving(&self.shared.worker) {
            self.leave();
        }
        if self.poll_h2(cx).is_ready() {
            return Poll::Ready(());
        }
        if !self.calmed && self.shared.meter.is_exhausted(&self.shared.worker.clock) {
            self.calmed = true;
            self.shared.session.cells.let_go(LetGo::Flood);
            self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            self.idle_since = self.shared.worker.clock.now();
            if self.poll_h2(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        self.poll_deadline(cx)
    }

    /// Reads and writes frames and begins what was asked for.
    fn poll_h2(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ended = loop {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                // Who was told to calm down is counted already.
                Poll::Ready(Some(Err(_))) if self.calmed => break true,
                Poll::Ready(Some(Err(error))) => {
                    note_end(&self.shared.session, &error);
                    break true;
                }
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        self.note_refused();
        match self.wire.poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending if ended => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Streams that `h2` refused by itself: of their requests, nothing is known here but what became of them.
    fn note_refused(&self) {
        for refusal in self.shared.meter.refused() {
            let (why, code, status, cause) = match refusal {
                Refusal::HeadersTooLarge => {
                    let error = RequestError::Field(FieldLineError::TooLarge);
                    (RefusedStream::HeadersTooLarge, error.code(), error.status().as_u16(), error.to_string())
                }
                Refusal::Reset(Reason::REFUSED_STREAM) => {
                    (RefusedStream::TooMany, TOO_MANY, 0, "more streams at once than were announced".to_owned())
                }
                Refusal::Reset(reason) => {
                    (RefusedStream::Malformed, "malformed_stream", 0, format!("the stream was reset: {reason}"))
                }
            };
            self.shared.refuse(why, &Unserved { status, ..Unserved::unread(Version::Http2, code, &cause) });
        }
    }

    fn begin(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        self.shared.meter.served(respond.stream_id().into());
        // Streams that were reset still count until their work has ended.
        if self.shared.streams.get() >= self.most_streams {
            self.shared.meter.abandoned();
            let cause = "the work of earlier streams has not ended";
            let unread = Unserved::unread(Version::Http2, TOO_MANY, cause);
            self.shared.refuse(RefusedStream::TooMany, &unread.named(request.method(), request.uri()));
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        // In a box, because tasks are moved about before they run, and this one is large.
        let stream = Box::pin(http2_stream::serve(Shared::hold(&self.shared), request, respond));
        spawn_local(stream).detach();
    }

    /// No more streams; those under way are served to their end (RFC 9113, 6.8).
    fn leave(&mut self) {
        if !self.leaving {
            self.leaving = true;
            self.idle_since = self.shared.worker.clock.now();
            self.h2.graceful_shutdown();
        }
    }

    /// Waits for a client that has to take the last replies: ready once it took too long.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Last { alarm, pace, taken } = &mut self.last;
        let worker = &self.shared.worker;
        let moved = self.wire.taken() - std::mem::replace(taken, self.wire.taken());
        if moved > 0 {
            pace.moved(usize::try_from(moved).unwrap_or(usize::MAX), &worker.clock);
        }
        pace.poll_late(worker.write_patience(false), &worker.clock, alarm, cx)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let served = self.shared.streams.get() == 0;
        let writes = served && self.wire.is_blocked();
        if !writes {
            self.last.pace = Pace::default();
        } else if !self.calmed && self.poll_last(cx).is_ready() {
            self.shared.session.cells.let_go(LetGo::WriteIdle);
            return Poll::Ready(());
        }
        let clock = &self.shared.worker.clock;
        let timeouts = self.shared.worker.timeouts();
        let busy = !served || writes;
        if self.was_busy && !busy {
            self.idle_since = clock.now();
        }
        self.was_busy = busy;
        if !self.shared.meter.is_in_header_block() {
            self.block_since = None;
        } else if self.block_since.is_none() {
            self.block_since = Some(clock.now());
        }
        let stuck = self.block_since.map(|since| (since + timeouts.header, LetGo::Header));
        let idle = match (busy, self.leaving || self.calmed) {
            _ if self.calmed => Some((self.idle_since + LINGER, LetGo::Flood)),
            (true, _) => None,
            (false, true) => Some((self.idle_since + LINGER, LetGo::Idle)),
            (false, false) => Some((self.idle_since + timeouts.idle, LetGo::Idle)),
        };
        let Some((at, why)) = stuck.into_iter().chain(idle).min_by_key(|(at, _)| *at) else { return Poll::Pending };
        if self.alarm.poll(cx, at).is_pending() {
            return Poll::Pending;
        }
        self.give_up(why, cx)
    }

    /// A deadline has passed.
    fn give_up(&mut self, why: LetGo, cx: &mut Context<'_>) -> Poll<()> {
        if why != LetGo::Idle || self.leaving {
            if !self.leaving && !self.calmed {
                self.shared.session.cells.let_go(why);
            }
            return Poll::Ready(());
        }
        self.shared.session.cells.let_go(LetGo::Idle);
        self.leave();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
