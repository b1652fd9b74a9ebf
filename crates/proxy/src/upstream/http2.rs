//! HTTP/2 connections to endpoints: many exchanges at a time over one connection, by prior knowledge or as TLS agreed. A
//! stream lives as long as the reply that comes out of it; dropping the reply resets it, and nothing else.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tidegate_config::config;
use tidegate_core::body::{Body, BodyError, Frame, Stream};
use tidegate_core::clock::Clock;
use tidegate_core::cluster::Outcome;
use tidegate_core::forward;
use tidegate_http1::{Known, ResponseHead, Version, decimal};

use super::attempt::{Attempt, Failure, Reply, SharedAlarm};
use super::endpoint::{Endpoint, Permit};
use super::sender::Sending;
use super::waiting::Waiting;
use crate::alarm::Alarm;
use crate::http2::wire::{End, Wire};
use crate::http2::{Intake, IntakeError, Pump, PumpError, Pumping, SEND_BUFFER, fields, header_map};
use crate::io::{Io, Rewind};
use crate::tasks::spawn_local;

/// Streams on one connection at most, whatever the endpoint allows: so many full windows fit into that of the connection,
/// and one reply that nobody takes cannot hold up the others.
const STREAMS: usize = 128;
const STREAM_WINDOW: u32 = 64 * 1024;
#[expect(clippy::cast_possible_truncation, reason = "128")]
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;

/// Bytes of a reply's head or trailers; a service is trusted more than a client, but not without bound.
const HEAD_BYTES: u32 = 256 * 1024;
const FIELDS: usize = 1000;

/// Interim replies (1xx) accepted before the final one.
const INTERIM_AT_MOST: u32 = 16;

/// An open connection.
pub(crate) struct Session {
    requests: SendRequest<Bytes>,
    state: Rc<State>,
    /// That of the connection, not of the client: strict endpoints compare it with what they see.
    scheme: Scheme,
    /// What `:authority` says where the request names no host.
    authority: Arc<str>,
    clock: Clock,
}

/// What the connection's task, its streams and its users share.
struct State {
    pool: config::Pool,
    born: Instant,
    /// New requests may come.
    open: Cell<bool>,
    streams: Cell<usize>,
    /// Exchanges it has carried.
    carried: Cell<u64>,
    idle_since: Cell<Instant>,
    driver: RefCell<Option<Waker>>,
    /// Whoever waits for the endpoint's settings.
    opener: RefCell<Option<Waker>>,
    /// Whoever waits for a connection there is told of every stream that ends.
    endpoint: Weak<Endpoint>,
}

impl Session {
    /// Begins to speak HTTP/2 on `io`. A task drives the connection until it ends or has been idle for too long.
    ///
    /// # Errors
    /// The connection broke, or what answered speaks something else.
    pub(crate) async fn open(io: Io, endpoint: Rc<Endpoint>, permit: Permit, clock: &Clock) -> io::Result<Rc<Self>> {
        let scheme = if matches!(io, Io::TlsClient(_)) { Scheme::HTTPS } else { Scheme::HTTP };
        let wire = Wire::new(Rewind::from(io), None);
        let (requests, connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // None before the endpoint has said how many.
            .initial_max_send_streams(0)
            .max_header_list_size(HEAD_BYTES)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(Wire::end(&wire))
            .await
            .map_err(into_io)?;
        let born = clock.now();
        let state = Rc::new(State {
            pool: endpoint.pool,
            born,
            open: Cell::new(true),
            streams: Cell::new(0),
            carried: Cell::new(0),
            idle_since: Cell::new(born),
            driver: RefCell::default(),
            opener: RefCell::default(),
            endpoint: Rc::downgrade(&endpoint),
        });
        let driver = Driver { connection, wire, state: Rc::clone(&state) };
        spawn_local(driver.run(clock.clone(), permit)).detach();
        let session = Rc::new(Self {
            requests,
            state,
            scheme,
            authority: Arc::clone(endpoint.authority()),
            clock: clock.clone(),
        });
        std::future::poll_fn(|cx| session.poll_settled(cx)).await?;
        Ok(session)
    }

    /// Waits for the endpoint's settings, which are the first that it sends (RFC 9113, 3.4): nobody is refused a stream
    /// because more were opened than it takes.
    fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.requests.current_max_send_streams() > 0 {
            return Poll::Ready(Ok(()));
        }
        if !self.state.open.get() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.state.opener.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// True while the connection takes requests, now or when others have ended.
    pub(crate) fn is_open(&self) -> bool {
        // A handle of its own does not wait for the streams of others: it tells of the connection alone.
        let ready = self.requests.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        self.state.open.get() && !matches!(ready, Poll::Ready(Err(_))) && !self.state.is_worn(self.clock.now())
    }

    /// True if one more request may be sent at once.
    pub(crate) fn has_room(&self) -> bool {
        self.state.streams.get() < self.requests.current_max_send_streams().min(STREAMS) && self.is_open()
    }

    /// Sends the request and returns the reply as soon as its head is there.
    pub(crate) async fn exchange(self: Rc<Self>, attempt: &mut Attempt<'_>) -> Result<Reply, Failure> {
        let request = request(attempt, &self.scheme, &self.authority)
            .ok_or_else(|| Failure::Malformed("its address is no HTTP/2 authority".into()))?;
        let body = std::mem::take(&mut attempt.body);
        let bodiless = body.is_end();
        let (response, stream) = match self.requests.clone().send_request(request, bodiless) {
            Ok(streams) => streams,
            Err(error) => {
                attempt.body = body;
                self.state.retire();
                return Err(Failure::Broken { error: into_io(error), sent: false });
            }
        };
        let hold = Hold::new(&self.state);
        let mut awaiting = Awaiting {
            response,
            pump: Some(Pump::new(stream, body, bodiless)),
            interim: 0,
            waiting: Waiting::default(),
        };
        match std::future::poll_fn(|cx| awaiting.poll(attempt, cx)).await {
            Ok(response) => self.reply(attempt, response, awaiting.pump, hold),
            Err(failure) => {
                if failure.outcome() == Some(Outcome::Timeout) {
                    // The endpoint may be gone without a word; others are not sent after this request.
                    self.state.retire();
                }
                if let Some(body) = awaiting.pump.and_then(Pump::into_untouched_body) {
                    attempt.body = body;
                }
                Err(failure)
            }
        }
    }

    fn reply(
        self: Rc<Self>,
        attempt: &Attempt<'_>,
        response: Response<RecvStream>,
        pump: Option<Pump>,
        hold: Hold,
    ) -> Result<Reply, Failure> {
        let (parts, stream) = response.into_parts();
        let at = attempt.clock.now();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Malformed("it switched protocols, which HTTP/2 does not know".into()));
        }
        if parts.headers.len() > FIELDS {
            return Err(Failure::Malformed("its reply has too many fields".into()));
        }
        let fields =
            fields(&parts.headers).map_err(|_| Failure::Malformed("its reply has a malformed field".into()))?;
        let head = ResponseHead { status: parts.status, reason: String::new(), version: Version::Http2, fields };
        if stream.is_end_stream() {
            return Ok(Reply { head, body: Body::empty(), tunnel: None, at });
        }
        let length = if attempt.head.method == Method::HEAD { None } else { length(&head) };
        let streaming = forward::is_stream(&head.fields);
        let body = Body::stream(ReplyBody {
            intake: Intake::new(stream, length, FIELDS),
            pump,
            request_failed: None,
            idle: if streaming { attempt.stream_idle } else { attempt.read },
            silent_since: None,
            clock: attempt.clock.clone(),
            alarm: Rc::clone(attempt.alarm),
            _hold: hold,
            _session: self,
        });
        Ok(Reply { head, body, tunnel: None, at })
    }
}

impl State {
    /// It has carried, or lived, as long as it may.
    fn is_worn(&self, now: Instant) -> bool {
        let carried = self.pool.max_requests != 0 && self.carried.get() >= self.pool.max_requests;
        carried || self.oldest().is_some_and(|until| now >= until)
    }

    fn oldest(&self) -> Option<Instant> {
        (!self.pool.max_age.is_zero()).then(|| self.born + self.pool.max_age)
    }

    /// Up to when it is kept without a stream.
    fn idle_until(&self) -> Instant {
        let until = self.idle_since.get() + self.pool.idle_timeout;
        self.oldest().map_or(until, |oldest| until.min(oldest))
    }

    /// No new requests; those under way go on.
    fn retire(&self) {
        self.open.set(false);
        self.wake_driver();
    }

    fn wake_opener(&self) {
        if let Some(waker) = self.opener.take() {
            waker.wake();
        }
    }

    fn wake_driver(&self) {
        if let Some(waker) = &*self.driver.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// One stream, counted until it is dropped.
struct Hold(Rc<State>);

impl Hold {
    fn new(state: &Rc<State>) -> Self {
        state.streams.set(state.streams.get() + 1);
        state.carried.set(state.carried.get() + 1);
        Self(Rc::clone(state))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0 {
            // The driver reads the clock when it wakes.
            self.0.wake_driver();
        }
        if let Some(endpoint) = self.0.endpoint.upgrade() {
            endpoint.wake_waiting();
        }
    }
}

/// Reads and writes for all streams of a connection.
struct Driver {
    connection: client::Connection<End, Bytes>,
    wire: Rc<Wire>,
    state: Rc<State>,
}

impl Driver {
    async fn run(mut self, clock: Clock, mut permit: Permit) {
        let mut alarm = Alarm::new(&clock);
        let mut was_busy = true;
        std::future::poll_fn(|cx| {
            let ended = Pin::new(&mut self.connection).poll(cx).is_ready();
            let broken = matches!(self.wire.poll_flush(cx), Poll::Ready(Err(_)));
            self.state.wake_opener();
            if ended || broken {
                return Poll::Ready(());
            }
            *self.state.driver.borrow_mut() = Some(cx.waker().clone());
            let is_busy = self.state.streams.get() > 0;
            match (std::mem::replace(&mut was_busy, is_busy), is_busy) {
                (false, true) => permit.work(),
                (true, false) => {
                    permit.rest();
                    self.state.idle_since.set(clock.now());
                }
                (true, true) | (false, false) => {}
            }
            if is_busy {
                return Poll::Pending;
            }
            if !self.state.open.get() || self.state.is_worn(clock.now()) {
                return Poll::Ready(());
            }
            alarm.poll(cx, self.state.idle_until())
        })
        .await;
        self.state.open.set(false);
        self.state.wake_opener();
        drop(self.connection);
        drop(permit);
    }
}

/// The request as `h2` takes it; `None` if `:authority` or `:path` cannot be made of it.
fn request(attempt: &Attempt<'_>, scheme: &Scheme, authority: &str) -> Option<Request<()>> {
    let head = attempt.head;
    let authority = head.fields.text(Known::Host).unwrap_or(authority);
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme.clone());
    uri.authority = Some(Authority::try_from(authority).ok()?);
    uri.path_and_query = Some(PathAndQuery::try_from(head.target.as_str()).ok()?);
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.headers_mut() = header_map(&head.fields);
    if let Some(length) = attempt.body.length()
        && (length > 0 || matches!(head.method, Method::POST | Method::PUT | Method::PATCH))
    {
        let value = HeaderValue::from_str(decimal(length).as_str()).ok()?;
        request.headers_mut().insert(http::header::CONTENT_LENGTH, value);
    }
    if let Some((name, left)) = attempt.time_left() {
        let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        request.headers_mut().insert(name, HeaderValue::from_str(decimal(left).as_str()).ok()?);
    }
    Some(request)
}

impl From<Pumping> for Sending {
    fn from(pumping: Pumping) -> Self {
        match pumping {
            Pumping::AwaitsBody => Self::AwaitsBody,
            Pumping::AwaitsPeer => Self::AwaitsUpstream,
            Pumping::Done => Self::Done,
        }
    }
}

fn length(head: &ResponseHead) -> Option<u64> {
    head.fields.text(Known::ContentLength)?.parse().ok()
}

/// A request that is being sent and whose reply's head is awaited.
struct Awaiting {
    response: ResponseFuture,
    /// `None` once nobody wants the rest.
    pump: Option<Pump>,
    interim: u32,
    waiting: Waiting,
}

impl Awaiting {
    fn poll(&mut self, attempt: &Attempt<'_>, cx: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Failure>> {
        let pumping = match self.poll_pump(cx) {
            Ok(pumping) => pumping,
            Err(failure) => return Poll::Ready(Err(failure)),
        };
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            self.waiting.reply_moved();
            if let Err(failure) = self.tell(interim, attempt) {
                return Poll::Ready(Err(failure));
            }
        }
        match Pin::new(&mut self.response).poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(failure(error))),
            Poll::Pending => self.waiting.poll(pumping.into(), attempt, cx).map(Err),
        }
    }

    /// The endpoint may stop the request and reply all the same (RFC 9113, 8.1).
    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Result<Pumping, Failure> {
        let Some(pump) = &mut self.pump else { return Ok(Pumping::Done) };
        let before = pump.sent;
        let pumping = match pump.poll(cx) {
            Ok(pumping) => pumping,
            Err(PumpError::Unwanted) => Pumping::Done,
            Err(PumpError::Body(error)) => {
                pump.reset(Reason::CANCEL);
                return Err(Failure::Request(error));
            }
        };
        if pump.sent != before {
            self.waiting.request_moved();
        }
        Ok(pumping)
    }

    fn tell(&mut self, interim: Response<()>, attempt: &Attempt<'_>) -> Result<(), Failure> {
        self.interim += 1;
        if self.interim > INTERIM_AT_MOST {
            return Err(Failure::Malformed("it sent too many interim replies".into()));
        }
        let (parts, ()) = interim.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Malformed("it switched protocols, which HTTP/2 does not know".into()));
        }
        if parts.status == StatusCode::CONTINUE {
            return Ok(());
        }
        let fields =
            fields(&parts.headers).map_err(|_| Failure::Malformed("an interim reply has a malformed field".into()))?;
        if let Some(interim) = attempt.interim {
            interim(ResponseHead { status: parts.status, reason: String::new(), version: Version::Http2, fields });
        }
        Ok(())
    }
}

fn failure(error: h2::Error) -> Failure {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    // Only streams that the endpoint has not looked at end with its GOAWAY (RFC 9113, 6.8); the others go on.
    let unseen = error.is_go_away() && error.is_remote();
    if error.is_library() {
        return Failure::Malformed(error.to_string().into());
    }
    Failure::Broken { error: into_io(error), sent: !(refused || unseen) }
}

fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() { error.into_io().unwrap_or_else(|| io::ErrorKind::Other.into()) } else { io::Error::other(error) }
}

/// The body of a reply: it owns its stream and the rest of the request that goes there.
struct ReplyBody {
    intake: Intake,
    /// What is not sent yet.
    pump: Option<Pump>,
    /// The request could not be sent to its end: the client's doing, so the reply's end is too.
    request_failed: Option<BodyError>,
    idle: Duration,
    silent_since: Option<Instant>,
    clock: Clock,
    alarm: SharedAlarm,
    _hold: Hold,
    /// Without it, the connection would end with its last stream.
    _session: Rc<Session>,
}

impl Stream for ReplyBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.poll_progress(cx);
        match self.intake.poll(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silent_since = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(IntakeError::Aborted | IntakeError::Malformed))) => {
                Poll::Ready(Some(Err(self.request_failed.unwrap_or(BodyError::UpstreamAborted))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let since = *self.silent_since.get_or_insert_with(|| self.clock.now());
                let silent = self.alarm.borrow_mut().poll(cx, since + self.idle);
                silent.map(|()| Some(Err(BodyError::UpstreamTooSlow)))
            }
        }
    }

    fn poll_progress(&mut self, cx: &mut Context<'_>) {
        let Some(pump) = &mut self.pump else { return };
        let before = pump.sent;
        let polled = pump.poll(cx);
        if pump.sent != before || matches!(polled, Ok(Pumping::AwaitsBody)) {
            // Who still takes the request, or waits for it, need not reply yet.
            self.silent_since = None;
        }
        match polled {
            Ok(Pumping::AwaitsBody | Pumping::AwaitsPeer) => {}
            // The stream must not end with its sending half: the reply may still come.
            Ok(Pumping::Done) | Err(PumpError::Unwanted) => self.pump = None,
            Err(PumpError::Body(error)) => {
                pump.reset(Reason::CANCEL);
                self.request_failed = Some(error);
                self.pump = None;
            }
        }
    }

    fn length(&self) -> Option<u64> {
        self.intake.length
    }

    fn is_end(&self) -> bool {
        self.intake.is_end()
    }
}
