//! A small HTTP/1 client for the gateway's own questions: one request on a connection of its own, over plain TCP or TLS. Traffic
//! does not come here; it goes through a service.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use tidegate_config::config::{self, ApiServer, ServiceTimeouts, UpstreamProtocol};
use tidegate_config::problem::{Path, Problems};
use tidegate_core::body::{Body, BodyError};
use tidegate_http1::{RequestHead, ResponseHead};

use super::attempt::{Attempt, Failure};
use super::connect::{self, How, Opened};
use super::endpoint::{Checkout, Endpoint};
use super::means::Means;
use super::tls::{self, SystemRoots};
use crate::alarm::{Alarm, until};
use crate::telemetry::PoolCells;

/// For a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// The longest stall of a server in taking a request.
const WRITE: Duration = Duration::from_secs(10);

/// The longest body that is kept in memory, in bytes.
const LONGEST_BODY: usize = 16 << 20;

/// How much of an error's text is told, in bytes.
const MOST_WORDS: usize = 200;

/// No connection is kept.
const NO_POOL: config::Pool = config::Pool {
    max_idle: 0,
    idle_timeout: Duration::ZERO,
    max_connections: 0,
    max_age: Duration::ZERO,
    max_requests: 0,
};

/// One server, to be asked as often as wanted.
pub(crate) struct Client {
    endpoint: Rc<Endpoint>,
    tls: Option<Arc<ClientConfig>>,
    server_name: Option<Arc<str>>,
    means: Means,
}

struct Question<'a> {
    method: Method,
    /// Path and query, see [`Target`].
    target: &'a str,
    fields: &'a [(&'a str, &'a str)],
    body: Bytes,
    silence: Duration,
}

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    body: Body,
    /// What came after the line that was read last.
    rest: BytesMut,
}

/// Why there is no answer, or not all of it.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// A field of the request cannot be sent: it has control characters.
    Field,
    /// There was no answer.
    Call(Failure),
    /// The body ended early.
    Body(BodyError),
    /// The body, or a line of it, is longer than 16 MB.
    TooLong,
    /// Another status than 200, and what was said about it.
    Status(StatusCode, String),
    /// The body is not the JSON that was expected.
    Json(serde_json::Error),
}

impl Client {
    /// A client of `server`.
    ///
    /// # Errors
    /// All problems of its TLS settings; `at` is where these stand.
    pub(crate) fn new(server: &ApiServer, roots: &SystemRoots, means: &Means, at: &Path) -> Result<Self, Problems> {
        let tls = server.endpoint.tls.then(|| tls::client_config(&server.tls, UpstreamProtocol::Http1, roots, at));
        Ok(Self {
            endpoint: Endpoint::new(server.endpoint.clone(), NO_POOL, &Arc::new(PoolCells::default())),
            tls: tls.transpose()?,
            server_name: server.tls.server_name.clone(),
            means: means.clone(),
        })
    }

    /// The server's name or address, for messages.
    pub(crate) fn server(&self) -> &str {
        self.endpoint.authority()
    }

    /// The answer to `POST target` with a body of JSON.
    ///
    /// # Errors
    /// There was none.
    pub(crate) async fn post(
        &self,
        target: &str,
        fields: &[(&str, &str)],
        body: Bytes,
        silence: Duration,
    ) -> Result<Answer, ClientError> {
        let fields = [&[("content-type", "application/json")], fields].concat();
        self.ask(Question { method: Method::POST, target, fields: &fields, body, silence }).await
    }

    /// The answer to `GET target`. `silence` is the longest one of the server, before its answer's head and inside its body.
    ///
    /// # Errors
    /// There was none.
    pub(crate) async fn get(
        &self,
        target: &str,
        fields: &[(&str, &str)],
        silence: Duration,
    ) -> Result<Answer, ClientError> {
        self.ask(Question { method: Method::GET, target, fields, body: Bytes::new(), silence }).await
    }

    async fn ask(&self, question: Question<'_>) -> Result<Answer, ClientError> {
        let head = head(&question)?;
        let clock = &self.means.clock;
        let connected = until(clock, clock.now() + CONNECT, self.connect()).await;
        let opened = connected.unwrap_or(Err(Failure::ConnectTimeout)).map_err(ClientError::Call)?;
        let alarm = Rc::new(RefCell::new(Alarm::new(clock)));
        let timeouts = ServiceTimeouts { connect: CONNECT, read: question.silence, write: WRITE };
        let mut attempt = Attempt::undriven(&head, Body::full(question.body), timeouts, (&self.means, &alarm));
        let reply = match opened {
            Opened::Http1(connection) => connection.exchange(&mut attempt).await,
            Opened::Http2(session) => session.exchange(&mut attempt).await,
        };
        let reply = reply.map_err(ClientError::Call)?;
        Ok(Answer { head: reply.head, body: reply.body, rest: BytesMut::new() })
    }

    async fn connect(&self) -> Result<Opened, Failure> {
        // There is no limit and nothing idle, so what comes is always a permit.
        let Checkout::Open(permit) = self.endpoint.checkout(&self.means.clock, true, false).await else {
            return Err(Failure::PoolExhausted);
        };
        let how = How {
            protocol: UpstreamProtocol::Http1,
            tls: self.tls.as_ref(),
            server_name: self.server_name.as_deref(),
            clock: &self.means.clock,
            net: &self.means.net,
        };
        connect::open(&self.endpoint, how, permit).await
    }
}

fn head(question: &Question<'_>) -> Result<RequestHead, ClientError> {
    let mut head =
        RequestHead { method: question.method.clone(), target: question.target.into(), ..Default::default() };
    let ours = [("user-agent", "tidegate"), ("accept", "application/json"), ("connection", "close")];
    for (name, value) in ours.iter().chain(question.fields) {
        head.fields.append(*name, value.as_bytes()).map_err(|_| ClientError::Field)?;
    }
    Ok(head)
}

impl Answer {
    /// The answer, if its status is 200.
    ///
    /// # Errors
    /// Another status, with the beginning of what the server says about it.
    pub(crate) async fn expect_ok(mut self) -> Result<Self, ClientError> {
        if self.head.status == StatusCode::OK {
            return Ok(self);
        }
        // Without words the status must do.
        let said = self.body.data().await.ok().flatten().unwrap_or_default();
        let words = String::from_utf8_lossy(said.get(..MOST_WORDS).unwrap_or(&said)).trim().to_owned();
        Err(ClientError::Status(self.head.status, words))
    }

    /// All that is left of the body, read as JSON.
    ///
    /// # Errors
    /// The body ended early, the server was silent for too long, there are more than 16 MB, or it is something else.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let body = self.body.collect(LONGEST_BODY).await.map_err(ClientError::Body)?.ok_or(ClientError::TooLong)?;
        serde_json::from_slice(&body).map_err(ClientError::Json)
    }

    /// The next line of the body, for answers that go on for as long as there is something to tell; `None` at its end.
    ///
    /// # Errors
    /// The body ended early, the server was silent for too long, or the line is longer than 16 MB.
    pub(crate) async fn line(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut searched = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', self.rest.get(searched..).unwrap_or_default()) {
                let line = self.rest.split_to(searched + end + 1).freeze();
                return Ok(Some(line));
            }
            searched = self.rest.len();
            if searched > LONGEST_BODY {
                return Err(ClientError::TooLong);
            }
            let Some(piece) = self.body.data().await.map_err(ClientError::Body)? else { return Ok(None) };
            self.rest.extend_from_slice(&piece);
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field => f.write_str("a field of the request has control characters"),
            Self::Call(failure) => failure.fmt(f),
            Self::Body(error) => error.fmt(f),
            Self::TooLong => f.write_str("the answer is longer than 16 MB"),
            Self::Status(status, words) if words.is_empty() => write!(f, "it answered with status {}", status.as_u16()),
            Self::Status(status, words) => write!(f, "it answered with status {}: {words}", status.as_u16()),
            Self::Json(error) => write!(f, "its answer is not understood: {error}"),
        }
    }
}

/// Path and query of a question. Values are encoded, so that none of them can become more than a value.
pub(crate) struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    /// Begins with a path that is fixed.
    pub(crate) fn new(path: &str) -> Self {
        Self { text: path.to_owned(), has_query: false }
    }

    /// Adds a segment to the path.
    #[must_use]
    pub(crate) fn segment(mut self, value: &str) -> Self {
        self.text.push('/');
        self.encode(value);
        self
    }

    /// Adds a parameter to the query.
    #[must_use]
    pub(crate) fn parameter(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        self.encode(value);
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// All but the unreserved characters of RFC 3986, 2.3.
    fn encode(&mut self, value: &str) {
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                self.text.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                write!(self.text, "%{byte:02X}").ok();
            }
        }
    }
}
