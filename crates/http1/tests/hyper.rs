//! The codec beside hyper's, on the same bytes: what both accept they read alike, and what hyper refuses is refused
//! here too. The reverse does not hold, on purpose; the last test lists where.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests fail like tests"
)]

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use bytes::BytesMut;
use http::Method;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::{collection::vec, prelude::*, sample::select};
use tidegate_http1::{
    BodyEvent, BodyReader, Fields, Framing, HeadReader, Known, Limits, RequestHead, ResponseHead, Target, Version,
    authority, request_framing, request_keep_alive, response_framing,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::LocalSet,
};

/// What a reader made of a message, in the terms that both have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    start: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

// The requests that a server sees.

fn requests_here(bytes: &[u8]) -> Vec<Message> {
    let mut buffer = BytesMut::from(bytes);
    let mut seen = Vec::new();
    while let Some((message, keep_alive)) = request_here(&mut buffer) {
        seen.push(message);
        if !keep_alive {
            break;
        }
    }
    seen
}

fn request_here(buffer: &mut BytesMut) -> Option<(Message, bool)> {
    let mut head = RequestHead::default();
    let length = HeadReader::default().request(buffer, &Limits::default(), &mut head).ok()??;
    authority(&head).ok()?;
    let framing = request_framing(&head).ok()?;
    drop(buffer.split_to(length));
    // hyper leaves the bytes after CONNECT to the tunnel.
    let body = if head.method == Method::CONNECT { Vec::new() } else { body_here(framing, buffer)? };
    let keep_alive = request_keep_alive(&head) && head.method != Method::CONNECT;
    let start = request_start(&head.method, &head.target, head.version == Version::Http11);
    Some((Message { start, fields: fields_here(&head.fields), body }, keep_alive))
}

async fn requests_by_hyper(bytes: &[u8]) -> Vec<Message> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let is_tunnel = head.method == Method::CONNECT;
            let body = if is_tunnel { Some(Vec::new()) } else { body_by_hyper(body).await };
            if let Some(body) = body {
                let start = request_start(&head.method, &head.uri.to_string(), head.version == http::Version::HTTP_11);
                seen.borrow_mut().push(Message { start, fields: fields_by_hyper(&head.headers), body });
            }
            Ok::<_, Infallible>(Response::new(Empty::<&[u8]>::new()))
        }
    });
    // However it ends, what the service saw by then is what hyper accepted.
    drop(
        hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service)
            .await,
    );
    seen.take()
}

/// Method, target and version. hyper's `Uri` writes an absolute target without a path with one, and scheme in
/// lower case.
fn request_start(method: &Method, target: &str, is_http11: bool) -> String {
    let parts = Target::of(target);
    let query = parts.query.map(|query| format!("?{query}")).unwrap_or_default();
    let target = match (parts.scheme, parts.authority) {
        (Some(scheme), Some(authority)) => {
            let path = if parts.path.is_empty() { "/" } else { parts.path };
            format!("{}://{authority}{path}{query}", scheme.to_lowercase())
        }
        _ => target.to_owned(),
    };
    format!("{method} {target} {is_http11}")
}

// The response that a client sees.

fn response_here(method: &Method, bytes: &[u8]) -> Option<Message> {
    let mut buffer = BytesMut::from(bytes);
    let mut head = ResponseHead::default();
    loop {
        let length = HeadReader::default().response(&buffer, &Limits::default(), &mut head).ok()??;
        let framing = response_framing(method, &head).ok()?;
        drop(buffer.split_to(length));
        let is_last = !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS;
        if is_last {
            let body = body_here(framing, &mut buffer)?;
            let start = format!("{} {}", head.status.as_u16(), head.version == Version::Http11);
            return Some(Message { start, fields: fields_here(&head.fields), body });
        }
    }
}

async fn response_by_hyper(method: &Method, bytes: &[u8]) -> Option<Message> {
    let (client, server) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.ok()?;
    let uri = if method == Method::CONNECT { "a:80" } else { "/" };
    let request = Request::builder().method(method).uri(uri).body(Empty::<&[u8]>::new()).unwrap();
    let both_ends = LocalSet::new();
    both_ends.spawn_local(connection.with_upgrades());
    both_ends.spawn_local(serve(server, bytes.to_vec()));
    let answer = async {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let is_tunnel = method == Method::CONNECT && head.status.is_success();
        let has_body = head.status != http::StatusCode::SWITCHING_PROTOCOLS && !is_tunnel;
        let body = if has_body { body_by_hyper(body).await? } else { Vec::new() };
        let start = format!("{} {}", head.status.as_u16(), head.version == http::Version::HTTP_11);
        Some(Message { start, fields: fields_by_hyper(&head.headers), body })
    };
    both_ends.run_until(answer).await
}

/// Waits for the request and then sends these bytes and closes.
async fn serve(mut server: DuplexStream, bytes: Vec<u8>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if server.read_buf(&mut request).await.unwrap_or_default() == 0 {
            return;
        }
    }
    server.write_all(&bytes).await.ok();
}

// What both have in common.

fn body_here(framing: Framing, buffer: &mut BytesMut) -> Option<Vec<u8>> {
    let mut reader = BodyReader::new(framing);
    let mut body = Vec::new();
    loop {
        match reader.read(buffer).ok()? {
            BodyEvent::Data(data) => body.extend_from_slice(&data),
            BodyEvent::Trailers(_) => {}
            BodyEvent::End => return Some(body),
            BodyEvent::NeedMore => return reader.finish().ok().map(|()| body),
        }
    }
}

async fn body_by_hyper(body: Incoming) -> Option<Vec<u8>> {
    Some(body.collect().await.ok()?.to_bytes().to_vec())
}

/// In lower case and sorted, because hyper groups fields by name.
fn fields_here(fields: &Fields) -> Vec<(String, Vec<u8>)> {
    sorted(fields.iter().map(|field| (field.name.to_lowercase(), field.value.to_vec())).collect())
}

fn fields_by_hyper(headers: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    sorted(headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect())
}

fn sorted(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

fn compare_requests(bytes: &[u8]) {
    let (here, there) = (requests_here(bytes), on_a_runtime(requests_by_hyper(bytes)));
    assert!(here.len() <= there.len(), "only accepted here: {:?}\n{}", here.get(there.len()), bytes.escape_ascii());
    assert_eq!(here, there[..here.len()], "{}", bytes.escape_ascii());
}

fn compare_responses(method: &Method, bytes: &[u8]) {
    if let Some(here) = response_here(method, bytes) {
        let there = on_a_runtime(response_by_hyper(method, bytes));
        assert_eq!(Some(here), there, "{method} {}", bytes.escape_ascii());
    }
}

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nPOST /p?q=`x HTTP/1.1\r\nhost: a:8080\r\nContent-Length: 3\r\nX-Two: \t two\t\r\nEmpty:\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.0\r\nConnection: keep-alive, x-two\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://[::1]:80/abs HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /5 HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT HTTP://A?x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\nB\r\n0123456789a\r\n0\r\nX-Sum: 1\r\n\r\nGET /6 HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    "GET /7 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /8 HTTP/1.1\r\nHost: a\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0 404 Nowhere\r\nServer: x\r\nset-cookie: a=b\r\nSet-Cookie: c=d\r\n\r\nuntil the end",
    "HTTP/1.1 101\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nframes",
    "HTTP/1.1 503 \r\nTransfer-Encoding: chunked\r\nRetry-After: 1\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: \"a\"\r\n\r\n",
];

/// The edits that have told parsers apart: bytes, and lines that contradict others.
fn edit() -> impl Strategy<Value = Vec<u8>> {
    const LINES: &[&str] = &[
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: +3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: Chunked\r\n",
        "Host: b\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Upgrade: h2c\r\n",
        "\r\n",
        "HTTP/1.0",
        " ",
        "0\r\n\r\n",
    ];
    let byte = select(&b"\r\n\0\t :;,/?#`\"[]@%+-_.\\^{|}~0159afAFGHT\x7f\x80\xff"[..]);
    prop_oneof![byte.prop_map(|byte| vec![byte]), select(LINES).prop_map(|line| line.as_bytes().to_vec())]
}

fn broken(seeds: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<prop::sample::Index>(), edit(), 0_usize..3), 0..4);
    (select(seeds), edits).prop_map(|(seed, edits)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (index, edit, removed) in edits {
            // At the start of a line as often as anywhere, so that whole lines make sense.
            let at = index.index(bytes.len());
            let line = bytes[..at].iter().rposition(|&b| b == b'\n').map_or(0, |lf| lf + 1);
            let (at, removed) = if edit.len() > 1 { (line, 0) } else { (at, removed.min(bytes.len() - at)) };
            bytes.splice(at..at + removed, edit);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_requests_are_read_alike_or_refused_here(bytes in broken(REQUESTS)) {
        compare_requests(&bytes);
    }

    #[test]
    fn generated_responses_are_read_alike_or_refused_here(
        bytes in broken(RESPONSES),
        method in select(&[Method::GET, Method::HEAD, Method::POST, Method::CONNECT][..]),
    ) {
        compare_responses(&method, &bytes);
    }
}

#[test]
fn well_formed_messages_are_accepted_by_both() {
    for (text, requests) in REQUESTS.iter().zip([2, 2, 2, 1, 2, 2, 1, 1]) {
        assert_eq!(requests_here(text.as_bytes()).len(), requests, "{text}");
        compare_requests(text.as_bytes());
    }
    for text in RESPONSES {
        assert!(response_here(&Method::GET, text.as_bytes()).is_some(), "{text}");
        compare_responses(&Method::GET, text.as_bytes());
    }
}

/// Where this codec is stricter on purpose. When hyper changes its mind, this says so.
#[test]
fn these_requests_are_accepted_by_hyper_and_refused_here() {
    for text in [
        // Framing that can be read in two ways.
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        // Chunks that others end elsewhere.
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\r\nx\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\nx\r\n0\r\n\r\n",
        // Lines that end in a bare LF, and empty ones before the request.
        "GET / HTTP/1.1\nHost: a\n\n",
        "\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        // Hosts that are missing, repeated, empty, no host, or not that of the target.
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        // Targets with a fragment or bytes that are no URI, or in a form that their method does not have.
        "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\" HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "THISMETHODHASMORETHAN24BYTES / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(requests_here(text.as_bytes()), [], "{text:?}");
        assert_eq!(on_a_runtime(requests_by_hyper(text.as_bytes())).len(), 1, "{text:?}");
    }
}

#[test]
fn these_responses_are_accepted_by_hyper_and_refused_here() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 700 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        assert_eq!(response_here(&Method::GET, text.as_bytes()), None, "{text:?}");
        assert!(on_a_runtime(response_by_hyper(&Method::GET, text.as_bytes())).is_some(), "{text:?}");
    }
}

#[test]
fn chunks_are_read_alike_whatever_their_sizes() {
    let data: Vec<u8> = (0..=255).cycle().take(3000).collect();
    for size in [1, 15, 16, 255, 256, 2999, 3000] {
        let mut text = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in data.chunks(size) {
            text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        compare_requests(&text);
        assert_eq!(requests_here(&text)[0].body, data);
    }
}

/// hyper's own output is a message that anyone should be able to read.
#[test]
fn what_hyper_writes_is_read_here() {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let written = on_a_runtime(async {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let service = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::builder().header("x-a", "b").body(Full::new(&b"hello"[..])).unwrap())
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service).await.unwrap();
        let mut written = Vec::new();
        client.read_to_end(&mut written).await.unwrap();
        written
    });
    let message = response_here(&Method::GET, &written).expect("a response");
    assert_eq!((message.start.as_str(), message.body.as_slice()), ("200 true", &b"hello"[..]));
    assert!(message.fields.contains(&("x-a".into(), b"b".to_vec())));
    assert!(message.fields.iter().any(|(name, _)| Known::from_bytes(name.as_bytes()) == Some(Known::Date)));
}
