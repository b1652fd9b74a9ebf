//! Response heads and their framing: the upstream side of the threat list's framing section.

#![expect(clippy::expect_used, reason = "helpers of tests fail like tests")]

use http::{Method, StatusCode};
use tidegate_http1::{
    FieldLineError as Line, Framing, HeadReader, Limits, ResponseError as E, ResponseHead, Version, response_framing,
    response_keep_alive,
};

fn read(text: impl AsRef<[u8]>) -> Result<Option<(ResponseHead, usize)>, E> {
    let mut head = ResponseHead::default();
    let length = HeadReader::default().response(text.as_ref(), &Limits::default(), &mut head)?;
    Ok(length.map(|length| (head, length)))
}

fn framing(method: &Method, status: u16, lines: &str) -> Result<Framing, E> {
    let (head, _) = read(format!("HTTP/1.1 {status} X\r\n{lines}\r\n"))?.expect("a complete head");
    response_framing(method, &head)
}

#[test]
fn a_head_is_read() {
    let text = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\n\r\nrest";
    let (head, length) = read(text).unwrap().unwrap();
    assert_eq!(&text[length..], "rest");
    assert_eq!((head.status, head.reason.as_str(), head.version), (StatusCode::OK, "", Version::Http11));
    let cookies: Vec<_> = head.fields.values("Set-Cookie").collect();
    assert_eq!(cookies, [b"a=b", b"c=d"]);
}

#[test]
fn a_reason_is_kept_only_where_it_says_something_of_its_own() {
    for (line, reason) in [
        ("HTTP/1.1 404 Not Found", ""),
        ("HTTP/1.1 404 Gone Fishing", "Gone Fishing"),
        ("HTTP/1.1 404 ", ""),
        ("HTTP/1.1 404", ""),
        ("HTTP/1.1 299 Fine\tToo", "Fine\tToo"),
    ] {
        assert_eq!(read(format!("{line}\r\n\r\n")).unwrap().unwrap().0.reason, reason, "{line:?}");
    }
    assert_eq!(read(b"HTTP/1.1 200 \xfc\r\n\r\n").unwrap().unwrap().0.reason, "");
}

#[test]
fn malformed_status_lines_are_refused() {
    for (line, error) in [
        ("HTTP/1.1 20 OK", E::StatusLine),
        ("HTTP/1.1 2000 OK", E::StatusLine),
        ("HTTP/1.1  200 OK", E::StatusLine),
        ("HTTP/1.1 +20 OK", E::StatusLine),
        ("HTTP/1.1 2x0 OK", E::StatusLine),
        ("HTTP/1.1\t200 OK", E::StatusLine),
        ("HTTP/1.1 200OK", E::StatusLine),
        ("HTTP/1.1 200\tOK", E::StatusLine),
        ("HTTP/1.1 200 O\0K", E::StatusLine),
        ("HTTP/1.1 200 O\x7fK", E::StatusLine),
        ("HTTP/1.1", E::StatusLine),
        ("http/1.1 200 OK", E::StatusLine),
        ("ICY 200 OK", E::StatusLine),
        ("220 mail.example ESMTP", E::StatusLine),
        ("\r\nHTTP/1.1 200 OK", E::StatusLine),
        ("HTTP/1.1 000 OK", E::Status),
        ("HTTP/1.1 099 OK", E::Status),
        ("HTTP/1.1 600 OK", E::Status),
        ("HTTP/1.1 999 OK", E::Status),
        ("HTTP/0.9 200 OK", E::Version),
        ("HTTP/2.0 200 OK", E::Version),
        ("HTTP/1.2 200 OK", E::Version),
        ("HTTP/1.1 200 OK\rX: y", E::Field(Line::LineEnd)),
        ("HTTP/1.1 200 OK\nX: y", E::Field(Line::LineEnd)),
        ("HTTP/1.1 200 OK\r\nX : y", E::Field(Line::Name)),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z", E::Field(Line::Folded)),
        ("HTTP/1.1 200 OK\r\nX: y\nZ: z", E::Field(Line::LineEnd)),
    ] {
        assert_eq!(read(format!("{line}\r\n\r\n")), Err(error), "{line:?}");
    }
}

#[test]
fn what_cannot_become_a_response_is_refused_at_once() {
    for (start, error) in [
        (&b"\x15\x03\x01\x00\x02"[..], E::StatusLine),
        (b"<html>", E::StatusLine),
        (b"HTTP/2.0 ", E::Version),
        (b"HTTP/1.1 9x", E::StatusLine),
        (b"HTTP/1.1 200x", E::StatusLine),
    ] {
        assert_eq!(read(start), Err(error), "{}", start.escape_ascii());
    }
    for start in ["", "H", "HTTP/1.", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 200", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r"]
    {
        assert_eq!(read(start), Ok(None), "{start:?}");
    }
}

#[test]
fn framing_follows_the_request_method_the_status_and_the_fields() {
    let (get, head, connect) = (Method::GET, Method::HEAD, Method::CONNECT);
    for (method, status, lines, expected) in [
        (&get, 200, "Content-Length: 5\r\n", Framing::Length(5)),
        (&get, 200, "Transfer-Encoding: CHUNKED\r\n", Framing::Chunked),
        (&get, 200, "", Framing::Close),
        (&head, 200, "Content-Length: 5\r\n", Framing::None),
        (&head, 200, "Transfer-Encoding: chunked\r\n", Framing::None),
        (&get, 204, "", Framing::None),
        (&get, 204, "Content-Length: 0\r\n", Framing::None),
        (&get, 304, "Content-Length: 5\r\n", Framing::None),
        (&get, 100, "", Framing::None),
        (&get, 101, "Upgrade: websocket\r\n", Framing::None),
        (&get, 103, "Link: </a>\r\n", Framing::None),
        (&get, 205, "", Framing::Close),
        (&connect, 200, "", Framing::None),
        (&connect, 403, "Content-Length: 5\r\n", Framing::Length(5)),
    ] {
        assert_eq!(framing(method, status, lines), Ok(expected), "{method} {status} {lines:?}");
    }
}

#[test]
fn contradicting_framing_is_refused_even_where_there_is_no_body() {
    for (lines, error) in [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", E::ContentLength),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", E::ContentLength),
        ("Content-Length: 5, 5\r\n", E::ContentLength),
        ("Content-Length: +5\r\n", E::ContentLength),
        ("Content-Length:\r\n", E::ContentLength),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", E::LengthAndEncoding),
        ("Transfer-Encoding: gzip\r\n", E::TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", E::TransferEncoding),
        ("Transfer-Encoding: identity\r\n", E::TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", E::TransferEncoding),
    ] {
        assert_eq!(framing(&Method::GET, 200, lines), Err(error), "{lines:?}");
        assert_eq!(framing(&Method::HEAD, 200, lines), Err(error), "HEAD {lines:?}");
        assert_eq!(framing(&Method::GET, 304, lines), Err(error), "304 {lines:?}");
    }
    let (head, _) = read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
    assert_eq!(response_framing(&Method::GET, &head), Err(E::EncodingInHttp10));
}

#[test]
fn connections_are_kept_by_the_rules_of_their_version() {
    for (version, connection, framing, expected) in [
        ("1.1", "", Framing::Length(1), true),
        ("1.1", "", Framing::None, true),
        ("1.1", "", Framing::Close, false),
        ("1.1", "close", Framing::Length(1), false),
        ("1.0", "", Framing::Length(1), false),
        ("1.0", "keep-alive", Framing::Length(1), true),
        ("1.0", "keep-alive", Framing::Close, false),
    ] {
        let text = format!("HTTP/{version} 200 OK\r\nConnection: {connection}\r\n\r\n");
        let (head, _) = read(text).unwrap().unwrap();
        assert_eq!(response_keep_alive(&head, framing), expected, "{version} {connection:?} {framing:?}");
    }
}

#[test]
fn interim_responses_are_read_one_by_one() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let mut reader = HeadReader::default();
    let mut head = ResponseHead::default();
    let mut rest = text.as_bytes();
    let mut statuses = Vec::new();
    while let Some(length) = reader.response(rest, &Limits::default(), &mut head).unwrap() {
        statuses.push(head.status.as_u16());
        rest = &rest[length..];
    }
    assert_eq!((statuses, rest.len()), (vec![100, 103, 200], 0));
}
