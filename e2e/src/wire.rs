//! HTTP/1 as the tests read it: strict, whole messages, written apart from the gateway's own codec so that both cannot share a
//! mistake. It does not forgive: whatever is malformed is an error that says what was wrong.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::stream::Stream;

/// Field lines in the order received, names in their original case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of that name, in any case.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).first().copied()
    }

    /// Every value of that name, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// Is there a field of that name?
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    fn lists(&self, name: &str, token: &str) -> bool {
        self.values(name).iter().any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
    }
}

/// A start line with its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// The first line without its CRLF.
    pub start: String,
    /// The field lines.
    pub fields: Fields,
}

impl Head {
    /// The status of a reply's head.
    ///
    /// # Panics
    /// If this is the head of a request.
    pub fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1).unwrap_or_default();
        code.parse().unwrap_or_else(|_| panic!("no status in {:?}", self.start))
    }

    /// The method of a request's head.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target of a request's head.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

/// How the end of a body was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// By `Content-Length`.
    Length(u64),
    /// By a last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its head.
    pub head: Head,
    /// How its body was delimited.
    pub framing: Framing,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// The trailer section of a chunked body.
    pub trailers: Fields,
}

impl Message {
    /// The status of a reply.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.fields.value(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {:?}", self.text()))
    }
}

/// Why a message could not be read.
#[derive(Debug)]
pub enum WireError {
    /// The peer closed before the first byte.
    Closed,
    /// The peer closed or reset in the middle.
    Truncated(String),
    /// The peer sent what HTTP/1.1 does not allow.
    Malformed(String),
    /// Nothing came in time.
    Silent,
}

type Result<T> = std::result::Result<T, WireError>;

/// A connection with what was read ahead.
pub struct Wire {
    pub(crate) stream: Stream,
    buffer: Vec<u8>,
    /// Every byte that arrived, for assertions.
    received: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    /// Reads from and writes to `stream`.
    pub fn new(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), received: Arc::default() }
    }

    /// Shares the record of every byte that arrives.
    pub fn received(&self) -> Arc<Mutex<Vec<u8>>> {
        Arc::clone(&self.received)
    }

    /// What was read and not yet consumed.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Writes everything.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// One head, with its empty line. 1xx heads are heads too.
    pub fn head(&mut self) -> Result<Head> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            self.more("a head")?;
        };
        let text: Vec<u8> = self.buffer.drain(..end + 4).collect();
        parse_head(text.get(..end).unwrap_or_default())
    }

    /// A whole request.
    pub fn request(&mut self) -> Result<Message> {
        let head = self.head()?;
        let framing = request_framing(&head)?;
        self.body(head, framing)
    }

    /// A whole final reply to a request with that method.
    pub fn reply(&mut self, method: &str) -> Result<Message> {
        let head = self.head()?;
        let framing = reply_framing(method, &head)?;
        self.body(head, framing)
    }

    fn body(&mut self, head: Head, framing: Framing) -> Result<Message> {
        let mut message = Message { head, framing, body: Vec::new(), trailers: Fields::default() };
        match framing {
            Framing::None => {}
            Framing::Length(n) => {
                let n = usize::try_from(n).map_err(|_| WireError::Malformed(format!("length {n}")))?;
                message.body = self.exactly(n)?;
            }
            Framing::Chunked => {
                while let Some(chunk) = self.chunk()? {
                    message.body.extend(chunk);
                }
                message.trailers = self.trailers()?;
            }
            Framing::Close => message.body = self.rest()?,
        }
        Ok(message)
    }

    /// Exactly that many bytes.
    pub fn exactly(&mut self, n: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < n {
            self.more(&format!("{n} bytes"))?;
        }
        Ok(self.buffer.drain(..n).collect())
    }

    /// The data of the next chunk, or `None` for the last one (its trailer section is not yet read).
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let digits = !line.is_empty() && line.len() <= 16 && line.bytes().all(|b| b.is_ascii_hexdigit());
        let size = if digits { usize::from_str_radix(&line, 16).ok() } else { None };
        let size = size.ok_or_else(|| WireError::Malformed(format!("chunk size {line:?}")))?;
        if size == 0 {
            return Ok(None);
        }
        let data = self.exactly(size)?;
        let end = self.exactly(2)?;
        if end != b"\r\n" {
            return Err(WireError::Malformed(format!("{end:?} after a chunk")));
        }
        Ok(Some(data))
    }

    /// The trailer section that follows the last chunk.
    pub fn trailers(&mut self) -> Result<Fields> {
        let mut fields = Fields::default();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            fields.0.push(parse_field(line.as_bytes())?);
        }
    }

    /// A line that ends with CRLF.
    pub fn line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(latin1(line.get(..at).unwrap_or_default()));
            }
            self.more("a line")?;
        }
    }

    /// Everything up to the peer's orderly close.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(0) => return Ok(std::mem::take(&mut self.buffer)),
                Ok(_) => {}
                Err(e) => return Err(self.lost(&e, "the end")),
            }
        }
    }

    /// Whatever comes next, at least one byte; `None` when the peer is gone.
    pub fn some(&mut self) -> Result<Option<Vec<u8>>> {
        if self.buffer.is_empty() {
            match self.fill() {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(e) if silent(&e) => return Err(WireError::Silent),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(std::mem::take(&mut self.buffer)))
    }

    fn more(&mut self, wanted: &str) -> Result<()> {
        let before = self.buffer.is_empty();
        match self.fill() {
            Ok(0) if before => Err(WireError::Closed),
            Ok(0) => Err(WireError::Truncated(format!("closed while waiting for {wanted} after {:?}", self.shown()))),
            Ok(_) => Ok(()),
            Err(e) => Err(self.lost(&e, wanted)),
        }
    }

    fn lost(&self, error: &io::Error, wanted: &str) -> WireError {
        if silent(error) {
            return WireError::Silent;
        }
        WireError::Truncated(format!("{error} while waiting for {wanted} after {:?}", self.shown()))
    }

    fn shown(&self) -> String {
        latin1(self.buffer.get(..self.buffer.len().min(400)).unwrap_or_default())
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut space = vec![0; 64 * 1024];
        let n = self.stream.read(&mut space)?;
        let new = space.get(..n).unwrap_or_default();
        self.buffer.extend_from_slice(new);
        self.received.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(new);
        Ok(n)
    }
}

/// Reads bytes as the requests they are, one after the other. What is left over or malformed is an error.
pub fn parse_requests(bytes: &[u8]) -> std::result::Result<Vec<Message>, String> {
    let mut wire = Wire::new(Stream::Bytes(io::Cursor::new(bytes.to_vec())));
    let mut requests = Vec::new();
    loop {
        match wire.request() {
            Ok(request) => requests.push(request),
            Err(WireError::Closed) => return Ok(requests),
            Err(e) => return Err(format!("{e:?} in {:?}", latin1(bytes))),
        }
    }
}

/// Bytes as characters, one to one.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// Where `needle` begins in `haystack`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn silent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn parse_head(text: &[u8]) -> Result<Head> {
    let mut lines = text.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    if text.iter().enumerate().any(|(i, &b)| b == b'\n' && (i == 0 || text.get(i - 1) != Some(&b'\r'))) {
        return Err(WireError::Malformed(format!("bare LF in {:?}", latin1(text))));
    }
    let start = latin1(lines.next().unwrap_or_default());
    if start.contains('\r') || start.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err(WireError::Malformed(format!("start line {start:?}")));
    }
    let fields = lines.map(parse_field).collect::<Result<Vec<_>>>()?;
    Ok(Head { start, fields: Fields(fields) })
}

fn parse_field(line: &[u8]) -> Result<(String, String)> {
    let bad = || WireError::Malformed(format!("field line {:?}", latin1(line)));
    let colon = line.iter().position(|&b| b == b':').ok_or_else(bad)?;
    let (name, value) = line.split_at(colon);
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if name.is_empty() || !name.iter().all(token) {
        return Err(bad());
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if value.iter().any(|&b| (b < 0x20 && b != b'\t') || b == 0x7f) {
        return Err(bad());
    }
    Ok((latin1(name), latin1(value)))
}

fn request_framing(head: &Head) -> Result<Framing> {
    let parts: Vec<&str> = head.start.split(' ').collect();
    if parts.len() != 3 || head.start.contains('\t') || !matches!(parts.last(), Some(&("HTTP/1.1" | "HTTP/1.0"))) {
        return Err(WireError::Malformed(format!("request line {:?}", head.start)));
    }
    if head.fields.values("host").len() != 1 {
        return Err(WireError::Malformed(format!("Host fields in {head:?}")));
    }
    Ok(declared(head)?.unwrap_or(Framing::None))
}

fn reply_framing(method: &str, head: &Head) -> Result<Framing> {
    let status = head.start.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|s| s.parse::<u16>().ok());
    let Some(status @ 100..=999) = status else {
        return Err(WireError::Malformed(format!("status line {:?}", head.start)));
    };
    let declared = declared(head)?;
    if status < 200 || status == 204 {
        return declared.map_or(Ok(Framing::None), |f| Err(WireError::Malformed(format!("{f:?} on {status}"))));
    }
    if method == "HEAD" || status == 304 {
        return Ok(Framing::None);
    }
    Ok(declared.unwrap_or(Framing::Close))
}

fn declared(head: &Head) -> Result<Option<Framing>> {
    let lengths = head.fields.values("content-length");
    let codings = head.fields.values("transfer-encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([one], []) if !one.is_empty() && one.bytes().all(|b| b.is_ascii_digit()) => one
            .parse()
            .map(|n| Some(Framing::Length(n)))
            .map_err(|e| WireError::Malformed(format!("length {one}: {e}"))),
        ([], [one]) if one.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        _ => Err(WireError::Malformed(format!("framing of {head:?}"))),
    }
}

/// Does the reply say that its connection ends here?
pub fn says_close(head: &Head) -> bool {
    head.fields.lists("connection", "close")
        || (head.start.starts_with("HTTP/1.0") && !head.fields.lists("connection", "keep-alive"))
}
