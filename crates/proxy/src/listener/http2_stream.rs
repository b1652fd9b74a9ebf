//! One stream of an HTTP/2 connection: its request made into an exchange, and the reply written to it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tidegate_core::body::{Body, BodyError, Frame, Stream};
use tidegate_core::clock::Clock;
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::forward;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_core::request_id::RequestId;
use tidegate_http1::{
    FieldLineError, Fields, Known, Limits, RequestError, RequestHead, ResponseHead, Version, decimal,
};

use super::Session;
use crate::alarm::Alarm;
use crate::http2::meter::Meter;
use crate::http2::{Intake, IntakeError, Pump, PumpError, Pumping, fields, header_map};
use crate::live::{self, Live, Unserved};
use crate::pace::{Pace, Patience};
use crate::serve::{self, Answer, Means};
use crate::telemetry::{End, RefusedStream};
use crate::upstream::attempt::SharedAlarm;
use crate::worker::Worker;

/// A client that gives a request up within this time has made work for nothing.
const TOO_EARLY: Duration = Duration::from_secs(1);

/// What a connection and its streams share.
pub(super) struct Shared {
    pub(super) worker: Rc<Worker>,
    pub(super) session: Rc<Session>,
    pub(super) meter: Rc<Meter>,
    /// Streams whose work has not ended.
    pub(super) streams: Cell<usize>,
    /// The connection's task.
    pub(super) waker: RefCell<Option<Waker>>,
}

/// A stream's hold on its connection.
pub(super) struct Hold(Rc<Shared>);

impl Shared {
    pub(super) fn hold(shared: &Rc<Self>) -> Hold {
        shared.streams.set(shared.streams.get() + 1);
        Hold(Rc::clone(shared))
    }

    /// Tells of a stream that became no exchange.
    pub(super) fn refuse(&self, why: RefusedStream, unserved: &Unserved<'_>) {
        self.session.cells.refuse_stream(why);
        live::unserved(&self.worker, &self.session.peer, unserved);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let left = self.0.streams.get() - 1;
        self.0.streams.set(left);
        if left == 0
            && let Some(waker) = &*self.0.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }
}

type Responder = Rc<RefCell<SendResponse<Bytes>>>;

/// Serves one stream.
pub(super) async fn serve(hold: Hold, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let worker = Rc::clone(&hold.0.worker);
    let started = worker.clock.now();
    let stream = OneStream {
        respond: Rc::new(RefCell::new(respond)),
        alarm: Rc::new(RefCell::new(Alarm::new(&worker.clock))),
        received: Rc::default(),
        started,
        hold,
        worker,
    };
    let (parts, body) = request.into_parts();
    let limits = stream.worker.local().snapshot.limits;
    match read_head(&parts, body.is_end_stream(), &limits) {
        Ok((head, length)) => stream.exchange(head, length, body).await,
        Err(rejection) => stream.refuse(&parts, &rejection).await,
    }
}

struct OneStream {
    worker: Rc<Worker>,
    hold: Hold,
    respond: Responder,
    alarm: SharedAlarm,
    /// Bytes of the request's body that were taken.
    received: Rc<Cell<u64>>,
    started: Instant,
}

/// How a reply ended.
enum Written {
    Whole,
    Broken(End),
    /// The client had left before its head.
    Nothing,
}

impl OneStream {
    async fn exchange(self, head: RequestHead, length: Option<u64>, body: RecvStream) {
        let is_head = head.method == Method::HEAD;
        let body = self.body(&head, length, body);
        let session = &self.hold.0.session;
        let mut exchange = Exchange::vacant(Rc::clone(&session.peer), self.started);
        let (mut live, opened) = serve::open(&self.worker, session, &mut exchange, (head, body), self.started);
        let Some(answer) = self.answer(&mut live, opened).await else { return self.note_abandoned() };
        let Answer { mut reply, tunnel, .. } = answer;
        if tunnel.is_some() {
            // HTTP/2 knows no upgrades, so none was asked for.
            reply = Reply::new(StatusCode::BAD_GATEWAY);
        }
        live.facts.status = reply.head.status.as_u16();
        let written = self.write(reply, is_head, &mut live.facts.sent).await;
        live.facts.received = self.received.get();
        live.facts.finished = Some(self.worker.clock.now_anew());
        match written {
            Written::Whole => {
                live.facts.end.get_or_insert(End::Complete);
                self.hold.0.meter.completed();
            }
            Written::Nothing => {
                live.facts.status = 0;
                live.facts.end = Some(End::ClientGone);
                self.note_abandoned();
            }
            Written::Broken(end) => {
                live.facts.end = Some(end);
                if end == End::ClientGone {
                    self.note_abandoned();
                }
            }
        }
    }

    fn note_abandoned(&self) {
        if self.worker.clock.now().saturating_duration_since(self.started) < TOO_EARLY {
            self.hold.0.meter.abandoned();
        }
    }

    fn body(&self, head: &RequestHead, length: Option<u64>, stream: RecvStream) -> Body {
        if stream.is_end_stream() {
            return Body::empty();
        }
        let local = self.worker.local();
        let server = &local.snapshot.config.server;
        Body::stream(Incoming {
            intake: Intake::new(stream, length, local.snapshot.limits.fields),
            respond: Rc::clone(&self.respond),
            expects_continue: head.fields.contains(Known::Expect),
            patience: if forward::is_grpc(&head.fields) {
                Patience { idle: server.timeouts.stream_idle, min_rate: None }
            } else {
                Patience { idle: server.timeouts.body_idle, min_rate: server.limits.min_rate }
            },
            pace: Pace::default(),
            limit: None,
            received: Rc::clone(&self.received),
            clock: self.worker.clock.clone(),
            alarm: Rc::clone(&self.alarm),
        })
    }

    /// The answer to a request, unless the client gives it up before there is one.
    async fn answer(&self, live: &mut Live<'_>, opened: serve::Opened) -> Option<Answer> {
        let interim = |head: ResponseHead| {
            let mut response = Response::new(());
            *response.status_mut() = head.status;
            *response.headers_mut() = header_map(&head.fields);
            // A stream that is gone needs none.
            self.respond.borrow_mut().send_informational(response).ok();
        };
        let mut serving = pin!(serve::serve(live, opened, Means { alarm: &self.alarm, interim: &interim }));
        poll_fn(|cx| match serving.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => self.respond.borrow_mut().poll_reset(cx).map(|_| None),
        })
        .await
    }

    /// Writes a reply. Tells all along how many bytes of its body were sent, for this may be cut off.
    async fn write(&self, reply: Reply, is_head: bool, told: &mut u64) -> Written {
        let Reply { head, body } = reply;
        let bodiless =
            is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || body.is_end();
        let patience = self.worker.write_patience(forward::is_stream(&head.fields));
        let response = response(&head, &body, is_head);
        let sent = self.respond.borrow_mut().send_response(response, bodiless);
        let Ok(stream) = sent else { return Written::Nothing };
        let mut pump = Pump::new(stream, body, bodiless);
        let mut pace = Pace::default();
        poll_fn(|cx| {
            let written = self.poll_write(&mut pump, &mut pace, patience, cx);
            *told = pump.sent;
            written
        })
        .await
    }

    fn poll_write(&self, pump: &mut Pump, pace: &mut Pace, patience: Patience, cx: &mut Context<'_>) -> Poll<Written> {
        let clock = &self.worker.clock;
        let before = pump.sent;
        let polled = pump.poll(cx);
        if pump.sent != before {
            pace.moved(usize::try_from(pump.sent - before).unwrap_or(usize::MAX), clock);
        }
        let (reason, end) = match polled {
            Ok(Pumping::Done) => return Poll::Ready(Written::Whole),
            Ok(Pumping::AwaitsBody) => return Poll::Pending,
            Ok(Pumping::AwaitsPeer) => match pace.poll_late(patience, clock, &mut self.alarm.borrow_mut(), cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => (Reason::CANCEL, End::Timeout("write idle")),
            },
            Err(PumpError::Unwanted) => return Poll::Ready(Written::Broken(End::ClientGone)),
            Err(PumpError::Body(error)) => (Reason::INTERNAL_ERROR, end(error)),
        };
        pump.reset(reason);
        Poll::Ready(Written::Broken(end))
    }

    /// Answers what is no request. Other streams go on: the frames themselves are sound.
    async fn refuse(&self, parts: &Parts, rejection: &Rejection) {
        let id = RequestId::new(self.worker.random());
        let (fields, body) = rejection.render(id.as_str(), None);
        let mut reply = Reply::new(rejection.status());
        reply.head.fields = fields;
        reply.head.fields.append(Known::Date, self.worker.date().as_bytes()).ok();
        reply.body = Body::full(body);
        let unread = Unserved::unread(Version::Http2, rejection.code, &rejection.detail);
        let status = rejection.status().as_u16();
        let unserved = Unserved { status, request_id: id.as_str(), ..unread.named(&parts.method, &parts.uri) };
        let too_large = rejection.status() == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let why = if too_large { RefusedStream::HeadersTooLarge } else { RefusedStream::Malformed };
        self.hold.0.refuse(why, &unserved);
        self.write(reply, false, &mut 0).await;
    }
}

fn end(error: BodyError) -> End {
    match error {
        BodyError::UpstreamTooSlow => End::Timeout("read idle"),
        BodyError::UpstreamAborted => End::UpstreamAborted,
        BodyError::ClientTooSlow => End::Timeout("body idle"),
        BodyError::ClientGone | BodyError::ClientMalformed | BodyError::TooLarge => End::ClientGone,
    }
}

/// The head of the reply. Its length is told where it is known; a reply to `HEAD` and a 304 keep what they say of a body
/// that is not sent.
fn response(head: &ResponseHead, body: &Body, is_head: bool) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    let mut fields = header_map(&head.fields);
    if !is_head && head.status != StatusCode::NOT_MODIFIED {
        fields.remove(http::header::CONTENT_LENGTH);
        if let Some(length) = body.length()
            && head.status != StatusCode::NO_CONTENT
            && let Ok(length) = HeaderValue::from_str(decimal(length).as_str())
        {
            fields.insert(http::header::CONTENT_LENGTH, length);
        }
    }
    *response.headers_mut() = fields;
    response
}

/// The request as every protocol's looks, judged by the rules that hold for every protocol, and the length that it announces.
fn read_head(parts: &Parts, bodiless: bool, limits: &Limits) -> Result<(RequestHead, Option<u64>), Rejection> {
    let target = target(parts, limits)?;
    let map = &parts.headers;
    let text: usize = map.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum();
    if map.len() > limits.fields {
        return Err(Rejection::from(RequestError::Field(FieldLineError::TooMany)));
    }
    if text + target.len() > limits.head_bytes {
        return Err(Rejection::from(RequestError::Field(FieldLineError::TooLarge)));
    }
    let mut fields = fields(map).map_err(|_| Rejection::from(RequestError::Field(FieldLineError::Value)))?;
    name_host(parts, &mut fields)?;
    let length = length(&fields, bodiless)?;
    if fields.tokens(Known::Expect).any(|expected| !expected.eq_ignore_ascii_case(b"100-continue")) {
        let detail = "Only `Expect: 100-continue` can be met";
        return Err(Rejection::new(RejectionKind::ExpectationFailed, "expectation_failed", detail));
    }
    Ok((RequestHead { method: parts.method.clone(), target, version: Version::Http2, fields }, length))
}

/// What a field takes in HTTP/1 beside its name and value: colon, space, CR and LF.
const FIELD_OVERHEAD: usize = 4;

/// `:path`, or for CONNECT `:authority` (RFC 9113, 8.5). `:scheme` says nothing that the connection does not.
fn target(parts: &Parts, limits: &Limits) -> Result<String, Rejection> {
    let uri = &parts.uri;
    let target = match uri.path_and_query() {
        Some(path) if parts.method != Method::CONNECT => path.as_str(),
        _ => uri.authority().map_or("", |authority| authority.as_str()),
    };
    if target.len() > limits.target_bytes {
        return Err(Rejection::from(RequestError::TargetTooLong));
    }
    let form = target.starts_with('/')
        || target == "*" && parts.method == Method::OPTIONS
        || !target.is_empty() && parts.method == Method::CONNECT;
    let known = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>`".contains(&byte);
    if !form || !target.bytes().all(known) {
        return Err(Rejection::from(RequestError::Target));
    }
    Ok(target.to_owned())
}

/// `:authority` becomes the Host field, which must say the same if it is there too (RFC 9113, 8.3.1).
fn name_host(parts: &Parts, fields: &mut Fields) -> Result<(), Rejection> {
    let host = fields.single(Known::Host).map_err(|_| Rejection::from(RequestError::HostRepeated))?;
    match (parts.uri.authority(), host) {
        (Some(authority), Some(host)) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host) => {
            Err(Rejection::from(RequestError::HostMismatch))
        }
        (Some(authority), None) => {
            fields.append(Known::Host, authority.as_str().as_bytes()).map_err(|_| Rejection::from(RequestError::Host))
        }
        (_, Some(_)) => Ok(()),
        (None, None) => Err(Rejection::from(RequestError::HostMissing)),
    }
}

/// `h2` compares the length with the frames; that there is only one is checked here.
fn length(fields: &Fields, bodiless: bool) -> Result<Option<u64>, Rejection> {
    let malformed = || Rejection::from(RequestError::ContentLength);
    let Some(length) = fields.single(Known::ContentLength).map_err(|_| malformed())? else { return Ok(None) };
    let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    let length = std::str::from_utf8(length).ok().filter(|_| digits).and_then(|length| length.parse().ok());
    match length {
        Some(length) if length > 0 && bodiless => Err(malformed()),
        Some(length) => Ok(Some(length)),
        None => Err(malformed()),
    }
}

/// The request's body, for those who send it on.
struct Incoming {
    intake: Intake,
    respond: Responder,
    /// `100 Continue` is owed once somebody wants the body (RFC 9110, 10.1.1).
    expects_continue: bool,
    patience: Patience,
    pace: Pace,
    limit: Option<u64>,
    received: Rc<Cell<u64>>,
    clock: Clock,
    alarm: SharedAlarm,
}

impl Stream for Incoming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if std::mem::take(&mut self.expects_continue) && !self.intake.is_end() {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::CONTINUE;
            // A stream that is gone needs none.
            self.respond.borrow_mut().send_informational(response).ok();
        }
        match self.intake.poll(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.count(frame))),
            Poll::Ready(Some(Err(IntakeError::Aborted))) => Poll::Ready(Some(Err(BodyError::ClientGone))),
            Poll::Ready(Some(Err(IntakeError::Malformed))) => Poll::Ready(Some(Err(BodyError::ClientMalformed))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let late = self.pace.poll_late(self.patience, &self.clock, &mut self.alarm.borrow_mut(), cx);
                late.map(|()| Some(Err(BodyError::ClientTooSlow)))
            }
        }
    }

    fn limit(&mut self, bytes: Option<u64>) {
        self.limit = bytes;
    }

    fn length(&self) -> Option<u64> {
        self.intake.length
    }

    fn is_end(&self) -> bool {
        self.intake.is_end()
    }
}

impl Incoming {
    fn count(&mut self, frame: Frame) -> Result<Frame, BodyError> {
        if let Frame::Data(data) = &frame {
            let received = self.received.get() + data.len() as u64;
            self.received.set(received);
            self.pace.moved(data.len(), &self.clock);
            if self.limit.is_some_and(|limit| received > limit) {
                return Err(BodyError::TooLarge);
            }
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: http::request::Builder) -> Result<(RequestHead, Option<u64>), &'static str> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let limits = Limits { head_bytes: 1024, fields: 5, target_bytes: 100 };
        read_head(&parts, false, &limits).map_err(|rejection| rejection.code)
    }

    fn get(uri: &str) -> http::request::Builder {
        Request::get(uri)
    }

    #[test]
    fn a_request_looks_as_if_it_had_come_over_http_1() {
        let request = Request::post("https://a.example:8443/b?c=d").header("x", "1").header("content-length", "7");
        let (head, length) = read(request).unwrap();
        assert_eq!((head.method, head.target.as_str(), head.version), (Method::POST, "/b?c=d", Version::Http2));
        assert_eq!(head.fields.value(Known::Host), Some(&b"a.example:8443"[..]));
        assert_eq!(head.fields.value("x"), Some(&b"1"[..]));
        assert_eq!(length, Some(7));
    }

    #[test]
    fn the_host_is_named_once_or_twice_the_same() {
        let (head, _) = read(get("http://a.example/").header("host", "A.example")).unwrap();
        assert_eq!(head.fields.values(Known::Host).count(), 1);
        let (head, _) = read(get("/").header("host", "a.example")).unwrap();
        assert_eq!(head.fields.value(Known::Host), Some(&b"a.example"[..]));
        assert_eq!(read(get("http://a.example/").header("host", "b.example")), Err("host_mismatch"));
        assert_eq!(read(get("/").header("host", "a").header("host", "a")), Err("repeated_host"));
        assert_eq!(read(get("/")), Err("missing_host"));
    }

    #[test]
    fn limits_are_those_of_http_1_and_every_crumb_counts() {
        let crumbs = |count| (0..count).fold(get("http://a/"), |request, _| request.header("cookie", "a=b"));
        assert!(read(crumbs(5)).is_ok());
        assert_eq!(read(crumbs(6)), Err("too_many_fields"));
        assert_eq!(read(get("http://a/").header("x", "y".repeat(1024))), Err("fields_too_large"));
        assert_eq!(read(get(&format!("http://a/{}", "b".repeat(100)))), Err("target_too_long"));
    }

    #[test]
    fn lengths_are_plain_numbers_and_alone() {
        for lengths in [&["5", "5"][..], &["+5"], &["5, 5"], &[""], &["18446744073709551616"]] {
            let request =
                lengths.iter().fold(get("http://a/"), |request, length| request.header("content-length", *length));
            assert!(read(request).is_err(), "{lengths:?}");
        }
    }

    #[test]
    fn a_body_that_is_announced_but_ends_with_the_head_is_refused() {
        let (parts, ()) = get("http://a/").header("content-length", "5").body(()).unwrap().into_parts();
        assert!(read_head(&parts, true, &Limits::default()).is_err());
        assert!(read_head(&parts, false, &Limits::default()).is_ok());
    }

    #[test]
    fn only_continue_can_be_expected() {
        assert!(read(get("http://a/").header("expect", "100-Continue")).is_ok());
        assert_eq!(read(get("http://a/").header("expect", "magic")), Err("expectation_failed"));
    }

    #[test]
    fn values_with_white_space_around_them_are_malformed() {
        for value in [" a", "a ", "\ta", "a\t"] {
            assert!(read(get("http://a/").header("x", value)).is_err(), "{value:?}");
        }
        assert!(read(get("http://a/").header("x", "a b")).is_ok());
    }

    #[test]
    fn the_length_of_a_reply_is_that_of_its_body() {
        let length = |status: u16, body: Body, is_head: bool| {
            let mut head = ResponseHead { status: StatusCode::from_u16(status).unwrap(), ..ResponseHead::default() };
            head.fields.append("content-length", b"99").unwrap();
            let response = response(&head, &body, is_head);
            response.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned())
        };
        assert_eq!(length(200, Body::full("hello"), false).as_deref(), Some("5"));
        assert_eq!(length(200, Body::empty(), false).as_deref(), Some("0"));
        assert_eq!(length(200, Body::empty(), true).as_deref(), Some("99"));
        assert_eq!(length(304, Body::empty(), false).as_deref(), Some("99"));
        assert_eq!(length(204, Body::empty(), false), None);
    }
}
