//! Bodies in both directions: lengths that must hold, and chunks of which nothing but the data may pass.

use bytes::BytesMut;
use tidegate_http1::{
    BodyError as E, BodyEvent, BodyReader, BodyWriter, FieldLineError as Line, Fields, Framing, Known, Limits,
    WrongLength, decimal, encode,
    fuzzing::{Body, Outcome, read_body},
    trailer_allowed,
};

fn chunked(text: &str) -> Body {
    read_body(Framing::Chunked, text.as_bytes(), &[])
}

#[test]
fn a_length_is_read_to_its_end_and_no_further() {
    let body = read_body(Framing::Length(5), b"helloGET /", &[2]);
    assert_eq!(
        (body.data.as_slice(), body.outcome, body.rest.as_slice()),
        (&b"hello"[..], Outcome::Ended, &b"GET /"[..])
    );
    let body = read_body(Framing::Length(5), b"hell", &[]);
    assert_eq!((body.data.as_slice(), body.outcome), (&b"hell"[..], Outcome::Unfinished));
}

#[test]
fn no_body_and_an_empty_one_end_at_once_and_take_nothing() {
    for framing in [Framing::None, Framing::Length(0)] {
        let body = read_body(framing, b"GET /", &[]);
        assert_eq!((body.data.len(), body.outcome, body.rest.as_slice()), (0, Outcome::Ended, &b"GET /"[..]));
        assert!(BodyReader::new(framing).is_end());
    }
}

#[test]
fn only_a_body_that_ends_by_closing_may_end_by_closing() {
    let mut buffer = BytesMut::from("data");
    let mut reader = BodyReader::new(Framing::Close);
    assert_eq!(reader.read(&mut buffer), Ok(BodyEvent::Data("data".into())));
    assert_eq!(reader.read(&mut buffer), Ok(BodyEvent::NeedMore));
    assert!(!reader.is_end());
    assert_eq!(reader.finish(), Ok(()));
    assert!(reader.is_end());
    assert_eq!(reader.read(&mut buffer), Ok(BodyEvent::End));

    for framing in [Framing::Length(5), Framing::Chunked] {
        assert_eq!(BodyReader::new(framing).finish(), Err(E::Incomplete), "{framing:?}");
    }
    let mut reader = BodyReader::new(Framing::Chunked);
    let mut buffer = BytesMut::from("0\r\n");
    assert_eq!(reader.read(&mut buffer), Ok(BodyEvent::NeedMore));
    assert_eq!(reader.finish(), Err(E::Incomplete), "the last chunk alone is not the end");
}

#[test]
fn what_remains_is_known_where_it_can_be() {
    let mut buffer = BytesMut::from("a\r\n012");
    let mut reader = BodyReader::new(Framing::Chunked);
    assert_eq!(reader.remaining(), None);
    assert_eq!(reader.read(&mut buffer), Ok(BodyEvent::Data("012".into())));
    assert_eq!(reader.remaining(), Some(7));
    assert_eq!(BodyReader::new(Framing::Length(9)).remaining(), Some(9));
    assert_eq!(BodyReader::new(Framing::None).remaining(), Some(0));
    assert_eq!(BodyReader::new(Framing::Close).remaining(), None);
}

#[test]
fn data_is_split_off_and_not_copied() {
    let mut buffer = BytesMut::from(&b"5\r\nhello\r\n"[..]);
    let place = buffer.as_ptr().wrapping_add(3);
    let Ok(BodyEvent::Data(data)) = BodyReader::new(Framing::Chunked).read(&mut buffer) else { panic!("no data") };
    assert_eq!((data.as_ptr(), &data[..]), (place, &b"hello"[..]));
}

#[test]
fn chunks_are_joined_and_what_follows_is_left() {
    let body = chunked("5\r\nhello\r\n00006\r\n world\r\nA\r\n0123456789\r\n0\r\n\r\nGET /");
    assert_eq!(body.outcome, Outcome::Ended);
    assert_eq!(body.data, b"hello world0123456789");
    assert_eq!(body.rest, b"GET /");
    assert!(body.trailers.is_empty());
}

#[test]
fn malformed_chunk_sizes_are_refused() {
    for size in ["", "+5", "-5", "0x5", " 5", "5 ", "5\t", "5_0", "g", "5,", "5.", "\"5\"", "\u{665}", "5 ;a"] {
        assert_eq!(chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")).error, Some(E::ChunkSize), "{size:?}");
    }
    for size in ["00000000000000005", "10000000000000000", "fffffffffffffffff"] {
        assert_eq!(chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n")).error, Some(E::ChunkSizeTooLong), "{size:?}");
    }
    let body = chunked("ffffffffffffffff\r\nhello");
    assert_eq!((body.outcome, body.data.as_slice()), (Outcome::Unfinished, &b"hello"[..]));
}

#[test]
fn nothing_but_crlf_ends_a_line_of_the_coding() {
    for (text, error) in [
        ("5\nhello\r\n0\r\n\r\n", E::ChunkSize),
        ("5\rhello\r\n0\r\n\r\n", E::ChunkEnd),
        ("5\r\r\nhello\r\n0\r\n\r\n", E::ChunkEnd),
        ("5;a\nhello\r\n0\r\n\r\n", E::ChunkExtension),
        ("5;a\rhello\r\n0\r\n\r\n", E::ChunkEnd),
        ("5\r\nhello0\r\n\r\n", E::ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", E::ChunkEnd),
        ("5\r\nhello\r0\r\n\r\n", E::ChunkEnd),
        ("5\r\nhello!\r\n0\r\n\r\n", E::ChunkEnd),
        ("0\r\n\n", E::Trailer(Line::LineEnd)),
        ("0\r\nX: y\n\r\n", E::Trailer(Line::LineEnd)),
        ("0\r\n\r\r\n", E::Trailer(Line::LineEnd)),
    ] {
        assert_eq!(chunked(text).error, Some(error), "{text:?}");
    }
}

#[test]
fn extensions_are_checked_bounded_and_dropped() {
    let body = chunked("5;a\r\nhello\r\n1;b=c;d=\"e; f\"\r\n!\r\n0;last\r\n\r\n");
    assert_eq!((body.outcome, body.data.as_slice()), (Outcome::Ended, &b"hello!"[..]));
    for extension in [";", ";;", "; a", ";=a", ";\"", ";a\0", ";a\x7f", ";a\u{e9}", ";\t"] {
        let text = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        assert_eq!(chunked(&text).error, Some(E::ChunkExtension), "{extension:?}");
    }
    let most = format!("1;{}\r\nx\r\n", "a".repeat(255));
    assert_eq!(chunked(&format!("{most}0\r\n\r\n")).outcome, Outcome::Ended);
    let more = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(256));
    assert_eq!(chunked(&more).error, Some(E::ChunkExtensionTooLong));
    assert_eq!(chunked(&format!("{}0\r\n\r\n", most.repeat(64))).outcome, Outcome::Ended);
    assert_eq!(chunked(&format!("{}0\r\n\r\n", most.repeat(65))).error, Some(E::ChunkExtensionTooLong));
}

#[test]
fn trailers_come_after_the_data_without_those_that_must_not_pass() {
    let body = chunked(
        "1\r\nx\r\n0\r\nGrpc-Status: 0\r\nX-Sum: 1\r\nContent-Length: 9\r\nX_Forwarded_For: 1\r\nAuthorization: b\r\n\r\n",
    );
    assert_eq!((body.outcome, body.data.as_slice()), (Outcome::Ended, &b"x"[..]));
    let names: Vec<_> = body.trailers.iter().map(|field| field.name).collect();
    assert_eq!(names, ["Grpc-Status", "X-Sum"]);
    let nothing_left = chunked("0\r\nHost: x\r\n\r\n");
    assert_eq!((nothing_left.outcome, nothing_left.trailers.len()), (Outcome::Ended, 0));
}

#[test]
fn trailers_are_as_strict_as_heads_and_bounded() {
    for (line, error) in [
        ("X : y", Line::Name),
        (": y", Line::Name),
        (" X: y", Line::Folded),
        ("X: y\r\n z", Line::Folded),
        ("X: \0", Line::Value),
    ] {
        assert_eq!(chunked(&format!("0\r\n{line}\r\n\r\n")).error, Some(E::Trailer(error)), "{line:?}");
    }
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(33));
    assert_eq!(chunked(&many).error, Some(E::Trailer(Line::TooMany)));
    let large = format!("0\r\nX: {}\r\n\r\n", "y".repeat(9000));
    let error = chunked(&large).error.unwrap();
    assert_eq!((error, error.status().as_u16()), (E::Trailer(Line::TooLarge), 431));

    let tight = Limits { head_bytes: 16, fields: 1, ..Limits::default() };
    let mut reader = BodyReader::new(Framing::Chunked).with_trailer_limits(tight);
    let mut buffer = BytesMut::from("0\r\nX-Long: 0123456789\r\n\r\n");
    assert_eq!(reader.read(&mut buffer), Err(E::Trailer(Line::TooLarge)));
}

#[test]
fn names_that_mean_something_before_the_body_are_no_trailers() {
    for name in [
        "host",
        "Content-Length",
        "transfer-encoding",
        "Trailer",
        "TE",
        "Connection",
        "authorization",
        "Cookie",
        "Set-Cookie",
        "content-type",
        "Content-Encoding",
        "X-Forwarded-For",
        "x_forwarded_for",
        "x.forwarded.proto",
        "X-Forwarded-Anything",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "x_real_ip",
        "X-Request-Id",
        "Cache-Control",
        "Vary",
        "Expect",
        "Range",
        "If-Match",
        "Proxy-Anything",
        "X-Api-Key",
        "Date",
        "Location",
        "Upgrade",
        "Keep-Alive",
        "X-Gateway",
        "x-original-url",
        "traceparent",
        "Server",
        "Max-Forwards",
        "Access-Control-Allow-Origin",
    ] {
        assert!(!trailer_allowed(name), "{name}");
    }
    for name in
        ["grpc-status", "Grpc-Message", "x-checksum", "Digest", "Server-Timing", "ETag", "grpc-status-details-bin"]
    {
        assert!(trailer_allowed(name), "{name}");
    }
}

#[test]
fn a_written_length_must_be_kept() {
    let mut out = Vec::new();
    let mut writer = BodyWriter::new(Framing::Length(5));
    assert_eq!(writer.data(b"hel", &mut out), Ok(()));
    assert_eq!(writer.data(b"lo!", &mut out), Err(WrongLength));
    assert_eq!(writer.data(b"lo", &mut out), Ok(()));
    assert_eq!(writer.finish(None, &mut out), Ok(()));
    assert_eq!(out, b"hello");
    assert_eq!(BodyWriter::new(Framing::Length(5)).end(), Err(WrongLength));
    assert_eq!(BodyWriter::new(Framing::None).write(1), Err(WrongLength));
    assert_eq!(BodyWriter::new(Framing::None).end(), Ok(()));
}

#[test]
fn chunks_are_written_so_that_empty_data_does_not_end_the_body() {
    let mut out = Vec::new();
    let mut trailers = Fields::new();
    trailers.append("grpc-status", b"0").unwrap();
    let mut writer = BodyWriter::new(Framing::Chunked);
    for data in [&b""[..], b"hello", b"", &[b'x'; 26]] {
        writer.data(data, &mut out).unwrap();
    }
    assert!(!writer.is_end());
    writer.finish(Some(&trailers), &mut out).unwrap();
    let expected = format!("5\r\nhello\r\n1a\r\n{}\r\n0\r\ngrpc-status: 0\r\n\r\n", "x".repeat(26));
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn a_chunked_body_is_ended_once_and_nothing_follows() {
    let mut out = Vec::new();
    let mut writer = BodyWriter::new(Framing::Chunked);
    writer.finish(None, &mut out).unwrap();
    writer.finish(None, &mut out).unwrap();
    assert_eq!(writer.data(b"late", &mut out), Err(WrongLength));
    assert_eq!(out, b"0\r\n\r\n");
    let mut unfinished = BodyWriter::new(Framing::Chunked);
    assert_eq!(unfinished.end(), Err(WrongLength), "without its last chunk it is not ended");
}

#[test]
fn heads_are_written_in_their_order_and_case() {
    let mut fields = Fields::new();
    fields.append("X-Own", b"1").unwrap();
    fields.append(Known::Host, b"a").unwrap();
    let mut out = Vec::new();
    encode::request_line(&mut out, &http::Method::PATCH, "/a?b");
    encode::fields(&mut out, &fields);
    encode::field(&mut out, "content-length", &decimal(10_240));
    encode::end(&mut out);
    assert_eq!(out, b"PATCH /a?b HTTP/1.1\r\nX-Own: 1\r\nhost: a\r\ncontent-length: 10240\r\n\r\n");
}

#[test]
fn status_lines_have_a_reason_where_there_is_one() {
    for (status, reason, line) in [
        (200, "", "HTTP/1.1 200 OK\r\n"),
        (200, "Fine", "HTTP/1.1 200 Fine\r\n"),
        (404, "", "HTTP/1.1 404 Not Found\r\n"),
        (599, "", "HTTP/1.1 599 \r\n"),
    ] {
        let mut out = Vec::new();
        encode::status_line(&mut out, http::StatusCode::from_u16(status).unwrap(), reason);
        assert_eq!(String::from_utf8(out).unwrap(), line);
    }
}

#[test]
fn numbers_are_written_in_full() {
    for number in [0, 1, 9, 10, 99, 100, 1023, 10_000, u64::MAX] {
        assert_eq!(decimal(number).as_str(), number.to_string());
        let mut out = Vec::new();
        BodyWriter::new(Framing::Chunked).chunk_prefix(usize::try_from(number).unwrap(), &mut out);
        let expected = if number == 0 { String::new() } else { format!("{number:x}\r\n") };
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
