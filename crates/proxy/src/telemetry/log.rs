//! The access log of one worker: each finished request becomes one line of JSON, formatted straight into a buffer that is handed
//! to the writer in batches. It never waits and knows no files.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tidegate_config::config::AccessLog;
use tidegate_core::client::TlsFacts;
use tidegate_core::query;
use tidegate_core::trail::Trail;
use tidegate_http1::{Known, Version, decimal};

use super::completed::{Completed, End};
use super::escape;
use super::log_writer::{Batch, LogSender};
use super::timestamp::{Stamp, micros};

/// A batch is handed over at this size, or at the next `flush`: the fewer writes, the less each line costs the system.
const BATCH: usize = 256 * 1024;

/// Room for a batch and the line that makes it one.
const ROOM: usize = BATCH + 16 * 1024;

const HIDDEN: &[u8] = b"***";

/// One worker's lines that are not handed over yet.
#[derive(Debug)]
pub struct LogBuffer {
    sender: LogSender,
    /// Written batches come back, because fresh memory costs more than the lines in it.
    spare: Receiver<Vec<u8>>,
    home: SyncSender<Vec<u8>>,
    style: Option<Style>,
    bytes: Vec<u8>,
    lines: u64,
    stamp: Stamp,
    dice: fastrand::Rng,
}

impl LogBuffer {
    /// A buffer that logs nothing until it is configured. `seed` decides which requests a sample takes.
    pub fn new(sender: LogSender, seed: u64) -> Self {
        let (home, spare) = sync_channel(2);
        Self {
            sender,
            spare,
            home,
            style: None,
            bytes: Vec::new(),
            lines: 0,
            stamp: Stamp::default(),
            dice: fastrand::Rng::with_seed(seed),
        }
    }

    /// Logs as `access` says from now on; `None` is off.
    pub fn configure(&mut self, access: Option<&AccessLog>) {
        self.style = access.map(Style::new);
        if self.style.is_some() {
            self.bytes.reserve(ROOM.saturating_sub(self.bytes.len()));
        }
    }

    /// Writes the line of one finished request. `wall_at` tells the wall time of an instant, since the Unix epoch.
    pub fn write(&mut self, completed: &Completed<'_>, wall_at: impl FnOnce(Instant) -> Duration) {
        let Some(style) = &self.style else { return };
        if style.sample < 1.0 && self.dice.f64() >= style.sample {
            return;
        }
        self.bytes.extend_from_slice(b"{\"time\":\"");
        self.bytes.extend_from_slice(self.stamp.text(micros(wall_at(completed.started))));
        let mut line = Line(&mut self.bytes);
        line.request(completed);
        line.reply(completed);
        line.route(completed);
        line.headers(style, completed);
        line.raw(b"}\n");
        self.lines += 1;
        if self.bytes.len() >= BATCH {
            self.flush();
        }
    }

    /// Hands over what there is, if anything.
    pub fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let next = self.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(ROOM));
        let bytes = std::mem::replace(&mut self.bytes, next);
        self.sender.send(Batch { bytes, lines: std::mem::take(&mut self.lines), home: Some(self.home.clone()) });
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[derive(Debug)]
struct Style {
    sample: f64,
    user_agent: bool,
    headers: Vec<Header>,
}

#[derive(Debug)]
struct Header {
    name: Arc<str>,
    hidden: bool,
}

impl Style {
    fn new(access: &AccessLog) -> Self {
        let hidden = |name: &str| access.redact.iter().any(|redacted| **redacted == *name);
        let headers = access.headers.iter().map(|name| Header { name: Arc::clone(name), hidden: hidden(name) });
        Self { sample: access.sample, user_agent: !hidden("user-agent"), headers: headers.collect() }
    }
}

/// A line under way. Constants are given with all the punctuation around them, so that each costs one copy.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    /// Follows the time, whose string is still open.
    fn request(&mut self, completed: &Completed<'_>) {
        self.raw(b"\",\"request_id\":\"");
        // An identifier that was taken over is as harmless as our own, see `request_id::well_formed`.
        self.raw(completed.request_id.as_bytes());
        self.raw(b"\",\"client\":\"");
        let client = Text::address(completed.client);
        self.raw(client.bytes());
        self.raw(b"\",\"peer\":\"");
        let peer = completed.peer;
        self.socket(peer, if peer.ip() == completed.client { client } else { Text::address(peer.ip()) }.bytes());
        self.raw(b"\",\"listener\":\"");
        self.name(completed.listener);
        self.raw(match completed.version {
            Version::Http10 => b"\",\"protocol\":\"HTTP/1.0\",\"method\":\"",
            Version::Http11 => b"\",\"protocol\":\"HTTP/1.1\",\"method\":\"",
            Version::Http2 => b"\",\"protocol\":\"HTTP/2.0\",\"method\":\"",
        });
        // A method is a token (RFC 9110 section 9.1), and so needs no escaping.
        self.raw(completed.method.as_bytes());
        self.raw(b"\",\"scheme\":\"");
        self.raw(completed.scheme.as_bytes());
        self.raw(b"\",\"host\":\"");
        self.value(completed.host);
        self.raw(b"\",\"path\":\"");
        self.value(completed.path);
        if !completed.query.is_empty() {
            self.raw(b"\",\"query\":\"");
            self.query(completed.query);
        }
        if let Some(tls) = completed.tls {
            self.tls(tls);
        }
        self.raw(b"\"");
    }

    fn reply(&mut self, completed: &Completed<'_>) {
        self.number(b",\"status\":", u64::from(completed.status));
        self.number(b",\"received\":", completed.received);
        self.number(b",\"sent\":", completed.sent);
        self.milliseconds(b",\"duration_ms\":", completed.duration);
        self.raw(b",\"end\":\"");
        self.raw(completed.end.as_str().as_bytes());
        self.raw(b"\"");
        if let End::Timeout(which) = completed.end {
            self.text(b",\"timeout\":\"", which);
        }
        if let Some(code) = completed.code {
            self.text(b",\"code\":\"", code);
        }
        if let Some(cause) = completed.cause {
            self.text(b",\"cause\":\"", cause);
        }
        if let Some(user) = completed.user {
            self.text(b",\"user\":\"", user);
        }
        if let Some(trail) = completed.trail {
            self.trail(trail);
        }
    }

    #[cold]
    fn trail(&mut self, trail: &Trail) {
        if let Some(policy) = trail.decided_by() {
            self.text(b",\"decided_by\":\"", &policy.to_string());
        }
        let shadows = trail.shadows();
        if !shadows.is_empty() {
            self.text(b",\"would_refuse\":\"", &shadows);
        }
    }

    fn route(&mut self, completed: &Completed<'_>) {
        if !completed.route.is_empty() {
            self.text(b",\"route\":\"", completed.route);
        }
        if completed.service.is_empty() {
            return;
        }
        self.raw(b",\"service\":\"");
        self.name(completed.service);
        self.raw(b"\"");
        if let Some(endpoint) = completed.endpoint {
            self.text(b",\"endpoint\":\"", endpoint);
        }
        self.number(b",\"attempts\":", u64::from(completed.attempts));
        if let Some(upstream) = completed.upstream {
            self.milliseconds(b",\"upstream_ms\":", upstream);
        }
    }

    /// Leaves the last string open, as it found one.
    fn tls(&mut self, tls: &TlsFacts) {
        self.raw(b"\",\"tls\":\"");
        self.value(tls.protocol);
        if let Some(name) = &tls.server_name {
            self.raw(b"\",\"server_name\":\"");
            self.value(name);
        }
        if let Some(client) = &tls.client {
            self.raw(b"\",\"client_subject\":\"");
            self.value(&client.subject);
        }
    }

    fn headers(&mut self, style: &Style, completed: &Completed<'_>) {
        if style.user_agent
            && let Some(agent) = completed.fields.value(Known::UserAgent)
        {
            self.raw(b",\"user_agent\":\"");
            escape::bytes(self.0, agent);
            self.raw(b"\"");
        }
        let mut before: &[u8] = b",\"headers\":{\"";
        for header in &style.headers {
            if self.header(before, header, completed) {
                before = b",\"";
            }
        }
        if before == b",\"" {
            self.raw(b"}");
        }
    }

    /// Several fields of one name become one list, as RFC 9110 section 5.3 combines them.
    fn header(&mut self, before: &[u8], header: &Header, completed: &Completed<'_>) -> bool {
        let mut values = completed.fields.values(&*header.name);
        let Some(first) = values.next() else { return false };
        self.raw(before);
        self.value(&header.name);
        self.raw(b"\":\"");
        if header.hidden {
            self.raw(HIDDEN);
        } else if let Some(second) = values.next() {
            let mut all = [first, second].join(b", ".as_slice());
            // What comes after the limit is not logged anyway.
            for value in values.take(escape::MAX_VALUE / 2) {
                all.extend_from_slice(b", ");
                all.extend_from_slice(value);
            }
            self.header_value(&all);
        } else {
            self.header_value(first);
        }
        self.raw(b"\"");
        true
    }

    /// URLs in fields such as `Referer` carry credentials as well as the one that was asked for.
    fn header_value(&mut self, value: &[u8]) {
        match std::str::from_utf8(value).ok().and_then(|text| text.split_once('?')) {
            Some((before, query)) => {
                self.value(before);
                self.raw(b"?");
                self.query(query);
            }
            None => escape::bytes(self.0, value),
        }
    }

    fn query(&mut self, query: &str) {
        let (logged, cut) = query.split_at(query.floor_char_boundary(escape::MAX_VALUE));
        let mut parameters = logged.split('&');
        if let Some(first) = parameters.next() {
            self.parameter(first);
        }
        for parameter in parameters {
            self.raw(b"&");
            self.parameter(parameter);
        }
        if !cut.is_empty() {
            self.raw("…".as_bytes());
        }
    }

    fn parameter(&mut self, parameter: &str) {
        // Some services take a `;` for an `&`; for others it is a part of the value.
        for piece in parameter.split_inclusive(';') {
            match piece.split_once('=') {
                Some((name, value)) if !value.is_empty() && query::is_credential(name) => {
                    self.value(name);
                    self.raw(b"=");
                    return self.raw(HIDDEN);
                }
                _ => self.value(piece),
            }
        }
    }

    /// A whole string; `name` opens it.
    fn text(&mut self, name: &[u8], value: &str) {
        self.raw(name);
        self.value(value);
        self.raw(b"\"");
    }

    #[inline]
    fn number(&mut self, name: &[u8], value: u64) {
        self.raw(name);
        match u16::try_from(value) {
            Ok(small @ ..10) => self.0.push(digit(small)),
            Ok(small @ 100..1000) => self.raw(&three_digits(small)),
            _ => self.raw(&decimal(value)),
        }
    }

    /// Three decimals: whole microseconds.
    fn milliseconds(&mut self, name: &[u8], duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.number(name, micros / 1000);
        let [first, second, third] = three_digits(u16::try_from(micros % 1000).unwrap_or_default());
        self.raw(&[b'.', first, second, third]);
    }

    /// The address is that of the socket.
    fn socket(&mut self, socket: SocketAddr, address: &[u8]) {
        let (open, close): (&[u8], &[u8]) = if socket.is_ipv6() { (b"[", b"]:") } else { (b"", b":") };
        self.raw(open);
        self.raw(address);
        self.raw(close);
        self.raw(Text::decimal(socket.port()).bytes());
    }

    /// The configuration's names are letters, digits and `-`, `_`, `.`.
    #[inline]
    fn name(&mut self, name: &str) {
        self.raw(name.as_bytes());
    }

    #[inline]
    fn value(&mut self, text: &str) {
        escape::text(self.0, text);
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// An address or a number as text on the stack: the longest is `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255`.
struct Text {
    bytes: [u8; 45],
    length: usize,
}

impl Text {
    fn decimal(number: u16) -> Self {
        let mut text = Self { bytes: [0; 45], length: 0 };
        text.push_decimal(number);
        text
    }

    fn address(address: IpAddr) -> Self {
        let mut text = Self { bytes: [0; 45], length: 0 };
        text.push_address(address);
        text
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn push_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                self.push_decimal(first.into());
                for octet in rest {
                    self.push(b'.');
                    self.push_decimal(octet.into());
                }
            }
            IpAddr::V6(address) => address.to_string().bytes().for_each(|byte| self.push(byte)),
        }
    }

    fn push_decimal(&mut self, number: u16) {
        for place in [10_000, 1_000, 100, 10] {
            if number >= place {
                self.push(digit(number / place % 10));
            }
        }
        self.push(digit(number % 10));
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }
}

/// `number` is below a thousand.
#[inline]
fn three_digits(number: u16) -> [u8; 3] {
    [digit(number / 100), digit(number / 10 % 10), digit(number % 10)]
}

/// `number` is below ten.
fn digit(number: u16) -> u8 {
    b'0' + u8::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests;
