//! Request heads: what is read, what is refused and with which answer. The table follows the framing section of the
//! project's threat list row by row.

#![expect(clippy::expect_used, reason = "helpers of tests fail like tests")]

use http::Method;
use tidegate_http1::{
    FieldLineError as Line, Framing, HeadReader, Known, Limits, RequestError as E, RequestHead, Version, authority,
    request_framing, request_keep_alive,
};

fn read(text: impl AsRef<[u8]>) -> Result<Option<(RequestHead, usize)>, E> {
    let mut head = RequestHead::default();
    let length = HeadReader::default().request(text.as_ref(), &Limits::default(), &mut head)?;
    Ok(length.map(|length| (head, length)))
}

fn head(text: impl AsRef<[u8]>) -> RequestHead {
    read(text).expect("a valid head").expect("a complete head").0
}

/// What a server does with a head: read it, find its host and its body's end.
fn judge(text: impl AsRef<[u8]>) -> Result<(Option<String>, Framing), E> {
    let (head, _) = read(text)?.expect("a complete head");
    let host = authority(&head)?.map(str::to_owned);
    Ok((host, request_framing(&head)?))
}

/// A POST with these field lines after Host.
fn with(lines: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

#[test]
fn a_head_is_read_with_order_case_and_ranges_intact() {
    let text = "GET /a?b=c HTTP/1.1\r\nHost: A.example:8080\r\nX-Own: \t 1\t2 \r\naccept:\r\nx-own:3\r\n\r\nrest";
    let (head, length) = read(text).unwrap().unwrap();
    assert_eq!(&text[length..], "rest");
    assert_eq!((&head.method, head.target.as_str(), head.version), (&Method::GET, "/a?b=c", Version::Http11));
    let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.known, field.value)).collect();
    assert_eq!(
        fields,
        [
            ("Host", Some(Known::Host), &b"A.example:8080"[..]),
            ("X-Own", None, b"1\t2"),
            ("accept", Some(Known::Accept), b""),
            ("x-own", None, b"3"),
        ]
    );
    assert_eq!(judge(text), Ok((Some("A.example:8080".into()), Framing::None)));
}

#[test]
fn a_reused_head_holds_nothing_of_the_one_before() {
    let mut head = head("POST /long/target HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\nX-A: \u{e9}\r\n\r\n");
    let mut reader = HeadReader::default();
    let text = b"GET / HTTP/1.1\r\nVia: b\r\n\r\n";
    assert_eq!(reader.request(text, &Limits::default(), &mut head), Ok(Some(text.len())));
    assert_eq!(head, self::head(text));
    assert!(!head.fields.contains(Known::ContentLength) && !head.fields.contains("x-a"));
}

#[test]
fn opaque_bytes_in_a_value_survive_and_leave_other_fields_alone() {
    let head = head(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: \xe9\xff\r\nX-B: \xc3\xa9\r\n\r\n");
    assert_eq!(head.fields.value("x-a"), Some(&b"\xe9\xff"[..]));
    assert_eq!(head.fields.text("x-a"), None);
    assert_eq!(head.fields.text("X-B"), Some("é"));
    assert_eq!(head.fields.text(Known::Host), Some("a"));
}

#[test]
fn content_length_beside_transfer_encoding_is_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "content-length: 5\r\nTRANSFER-ENCODING: xchunked\r\n",
    ] {
        assert_eq!(judge(with(lines)), Err(E::LengthAndEncoding), "{lines:?}");
    }
}

#[test]
fn transfer_encoding_is_exactly_one_chunked_or_refused() {
    for value in ["chunked", "Chunked", "CHUNKED", " \tchunked\t "] {
        let lines = format!("Transfer-Encoding:{value}\r\n");
        assert_eq!(judge(with(&lines)), Ok((Some("a".into()), Framing::Chunked)), "{value:?}");
    }
    for value in ["xchunked", "identity", "gzip", "gzip, deflate", "x-chunked"] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(judge(with(&lines)), Err(E::UnsupportedEncoding), "{value:?}");
    }
    for value in [
        "",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "\"chunked\"",
        "chunked;q=1",
        "chunked ;a",
        "chu nked",
        "chunked\tx",
        "'chunked",
        "chunked\u{a0}",
    ] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        let error = judge(with(&lines)).unwrap_err();
        assert!(matches!(error, E::TransferEncoding | E::UnsupportedEncoding), "{value:?}: {error:?}");
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\ntransfer-encoding: chunked\r\n",
    ] {
        assert_eq!(judge(with(lines)), Err(E::TransferEncoding), "{lines:?}");
    }
}

#[test]
fn obfuscated_transfer_encoding_names_are_refused_or_another_field() {
    for (line, error) in [
        ("Transfer-Encoding : chunked", Line::Name),
        ("Transfer-Encoding\t: chunked", Line::Name),
        (" Transfer-Encoding: chunked", Line::Folded),
        ("Transfer-Encoding: \0chunked", Line::Value),
        ("Transfer-Encoding: \x0bchunked", Line::Value),
        ("Transfer-Encoding: chunked\x0c", Line::Value),
        ("Transfer\u{ad}-Encoding: chunked", Line::Name),
        ("Transfer-Encoding\0: chunked", Line::Name),
        ("X: y\nTransfer-Encoding: chunked", Line::LineEnd),
        ("X: y\rTransfer-Encoding: chunked", Line::LineEnd),
        ("Transfer-Encoding\r\n : chunked", Line::Name),
        ("Transfer-Encoding:\n chunked", Line::LineEnd),
        ("Transfer-Encoding:\r\n chunked", Line::Folded),
    ] {
        assert_eq!(judge(with(&format!("{line}\r\n"))), Err(E::Field(error)), "{line:?}");
    }
    assert_eq!(judge(with("Transfer_Encoding: chunked\r\n")), Ok((Some("a".into()), Framing::None)));
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    let text = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(judge(text), Err(E::EncodingInHttp10));
}

#[test]
fn content_length_is_one_plain_number_or_refused() {
    for (value, length) in [("0", 0), ("5", 5), (" 10\t", 10), ("9223372036854775807", i64::MAX as u64)] {
        let lines = format!("Content-Length:{value}\r\n");
        assert_eq!(judge(with(&lines)), Ok((Some("a".into()), Framing::Length(length))), "{value:?}");
    }
    for value in [
        "",
        " ",
        "+5",
        "-1",
        "-0",
        "0x5",
        "1_0",
        "5, 5",
        "5,6",
        "5,",
        "5 5",
        "5;",
        "5.0",
        "1e3",
        "05",
        "00",
        "five",
        "\u{665}",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999",
    ] {
        let lines = format!("Content-Length: {value}\r\n");
        assert_eq!(judge(with(&lines)), Err(E::ContentLength), "{value:?}");
    }
}

#[test]
fn a_second_content_length_is_refused() {
    for (first, second) in [("5", "6"), ("5", "5"), ("5", ""), ("", "5")] {
        let lines = format!("Content-Length: {first}\r\nX: y\r\ncontent-length: {second}\r\n");
        assert_eq!(judge(with(&lines)), Err(E::ContentLength), "{first:?} {second:?}");
    }
}

#[test]
fn a_body_on_any_method_is_declared_to_the_caller() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "PURGE"] {
        let text = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(judge(text).unwrap().1, Framing::Length(5), "{method}");
    }
}

#[test]
fn malformed_field_lines_are_refused() {
    for (line, error) in [
        ("X-A: 1\nX-B: 2", Line::LineEnd),
        ("X-A: 1\rX-B: 2", Line::LineEnd),
        ("X-A: 1\r\r", Line::LineEnd),
        ("\n", Line::LineEnd),
        ("X-A: \0", Line::Value),
        ("X-A: \x1b[31m", Line::Value),
        ("X-A: \x7f", Line::Value),
        ("X-A: 1\r\n 2", Line::Folded),
        ("X-A: 1\r\n\t2", Line::Folded),
        (" X-A: 1", Line::Folded),
        ("X-A : 1", Line::Name),
        (": 1", Line::Name),
        ("X-A", Line::Name),
        ("X A: 1", Line::Name),
        ("X(A): 1", Line::Name),
        ("\"X-A\": 1", Line::Name),
        ("X/A: 1", Line::Name),
        ("X\u{e9}: 1", Line::Name),
        ("X@A: 1", Line::Name),
    ] {
        assert_eq!(read(with(&format!("{line}\r\n"))), Err(E::Field(error)), "{line:?}");
    }
}

#[test]
fn white_space_between_the_request_line_and_the_fields_is_refused() {
    assert_eq!(read("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), Err(E::Field(Line::Folded)));
}

#[test]
fn malformed_request_lines_are_refused_with_their_status() {
    for (line, error, status) in [
        ("GET  / HTTP/1.1", E::Target, 400),
        (" GET / HTTP/1.1", E::Method, 400),
        ("GET /  HTTP/1.1", E::RequestLine, 400),
        ("GET / HTTP/1.1 ", E::RequestLine, 400),
        ("GET\t/ HTTP/1.1", E::Method, 400),
        ("GET /\tHTTP/1.1", E::Target, 400),
        ("GET /a b HTTP/1.1", E::RequestLine, 400),
        ("GET /", E::RequestLine, 400),
        ("GET", E::RequestLine, 400),
        ("GET / ", E::RequestLine, 400),
        ("G(T / HTTP/1.1", E::Method, 400),
        ("GET\0 / HTTP/1.1", E::Method, 400),
        ("G\u{c9}T / HTTP/1.1", E::Method, 400),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1", E::MethodTooLong, 501),
        ("GET / http/1.1", E::RequestLine, 400),
        ("GET / HTTP/1", E::RequestLine, 400),
        ("GET / HTTP/1.10", E::RequestLine, 400),
        ("GET / HTTP/11", E::RequestLine, 400),
        ("GET / HTTPS/1.1", E::RequestLine, 400),
        ("GET / HTTP/0.9", E::Version, 505),
        ("GET / HTTP/1.2", E::Version, 505),
        ("GET / HTTP/2.0", E::Version, 505),
        ("PRI * HTTP/2.0", E::Version, 505),
        ("GET / HTTP/3.0", E::Version, 505),
        ("GET /a#b HTTP/1.1", E::Target, 400),
        ("GET /?a#b HTTP/1.1", E::Target, 400),
        ("GET /\u{e9} HTTP/1.1", E::Target, 400),
        ("GET /\x7f HTTP/1.1", E::Target, 400),
        ("GET /<script> HTTP/1.1", E::Target, 400),
        ("GET /` HTTP/1.1", E::Target, 400),
        ("GET * HTTP/1.1", E::Target, 400),
        ("OPTIONS ** HTTP/1.1", E::Target, 400),
        ("GET a HTTP/1.1", E::Target, 400),
        ("GET ?a HTTP/1.1", E::Target, 400),
        ("GET a.example:80 HTTP/1.1", E::Target, 400),
        ("GET http:/a HTTP/1.1", E::Target, 400),
        ("GET http:///a HTTP/1.1", E::Target, 400),
        ("GET ftp://a/ HTTP/1.1", E::Target, 400),
        ("GET javascript://a/ HTTP/1.1", E::Target, 400),
        ("GET http://u@a/ HTTP/1.1", E::Target, 400),
        ("GET http://a:b@c/ HTTP/1.1", E::Target, 400),
        ("GET http://a%2eb/ HTTP/1.1", E::Target, 400),
        ("GET http://a:99999/ HTTP/1.1", E::Target, 400),
        ("CONNECT / HTTP/1.1", E::Target, 400),
        ("CONNECT a HTTP/1.1", E::Target, 400),
        ("CONNECT http://a:80/ HTTP/1.1", E::Target, 400),
        ("CONNECT a:80/x HTTP/1.1", E::Target, 400),
    ] {
        let error_seen = read(format!("{line}\r\nHost: a\r\n\r\n")).unwrap_err();
        assert_eq!((error_seen, error_seen.status().as_u16()), (error, status), "{line:?}");
    }
}

#[test]
fn bare_line_feeds_and_carriage_returns_are_refused() {
    assert_eq!(read("GET / HTTP/1.1\nHost: a\n\n"), Err(E::Field(Line::LineEnd)));
    assert_eq!(read("GET / HTTP/1.1\rHost: a\r\n\r\n"), Err(E::Field(Line::LineEnd)));
    assert_eq!(read("GET / HTTP/1.1\r\nHost: a\r\n\n"), Err(E::Field(Line::LineEnd)));
    assert_eq!(read("GET / HTTP/1.1\r\nHost: a\n\r\n"), Err(E::Field(Line::LineEnd)));
    assert_eq!(read("GET / HTTP/1.1\r\nHost: a\r\n\rX"), Err(E::Field(Line::LineEnd)));
}

#[test]
fn one_empty_line_before_a_request_is_ignored_and_no_more() {
    let (head, length) = read("\r\nGET / HTTP/1.1\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.target.as_str(), length), ("/", 20));
    assert_eq!(read("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(E::RequestLine));
    assert_eq!(read("\nGET / HTTP/1.1\r\n\r\n"), Err(E::RequestLine));
    assert_eq!(read("\rGET / HTTP/1.1\r\n\r\n"), Err(E::RequestLine));
}

#[test]
fn garbage_is_refused_as_soon_as_it_can_be_told() {
    for (start, error) in [
        (&b"\x16"[..], E::Method),
        (b"\x16\x03\x01\x02\x00", E::Method),
        (b"\0", E::Method),
        (b"GET\n", E::RequestLine),
        (b"\n", E::RequestLine),
        (b"\r\r", E::RequestLine),
        (b"{\"json", E::Method),
        (b"GET / HTTP/2.0", E::Version),
        (b"GET / FTP", E::RequestLine),
        (b"GET / HTTP/1.1\n", E::Field(Line::LineEnd)),
        (b"GET / HTTP/1.1\r\n\n", E::Field(Line::LineEnd)),
        (b"GET / HTTP/1.1\r\nHost: a\n", E::Field(Line::LineEnd)),
        (b"GET / HTTP/1.1\r\nHo st", E::Field(Line::Name)),
        (b"GET / HTTP/1.1\r\nHost: \0", E::Field(Line::Value)),
    ] {
        assert_eq!(read(start), Err(error), "{}", start.escape_ascii());
    }
    // Neither is `HTTP/2`, which may still become a version that has an answer of its own.
    for start in [
        "",
        "\r",
        "\r\n",
        "G",
        "GET",
        "GET ",
        "GET /",
        "GET / ",
        "GET / H",
        "GET / HTTP/2",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r",
    ] {
        assert_eq!(read(start), Ok(None), "{start:?}");
    }
}

#[test]
fn a_head_passes_its_limits_exactly_or_not_at_all() {
    let text = "GET /abc HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n";
    let exact = Limits { head_bytes: text.len(), fields: 2, target_bytes: 4 };
    let read = |limits| HeadReader::default().request(text.as_bytes(), &limits, &mut RequestHead::default());
    assert_eq!(read(exact), Ok(Some(text.len())));
    assert_eq!(read(Limits { head_bytes: text.len() - 1, ..exact }), Err(E::Field(Line::TooLarge)));
    assert_eq!(read(Limits { fields: 1, ..exact }), Err(E::Field(Line::TooMany)));
    assert_eq!(read(Limits { target_bytes: 3, ..exact }), Err(E::TargetTooLong));
    assert_eq!(read(Limits { head_bytes: 0, ..exact }), Err(E::Field(Line::TooLarge)));
}

#[test]
fn limits_are_enforced_before_the_head_is_complete() {
    let mut reader = HeadReader::default();
    let mut head = RequestHead::default();
    let limits = Limits { head_bytes: 4096, fields: 3, target_bytes: 64 };
    let mut drip = |text: &str| {
        reader = HeadReader::default();
        (1..=text.len()).find_map(|cut| match reader.request(&text.as_bytes()[..cut], &limits, &mut head) {
            Ok(None) => None,
            Ok(Some(_)) => panic!("accepted"),
            Err(error) => Some((error, cut)),
        })
    };
    let (error, cut) = drip(&format!("GET /{}", "a".repeat(8000))).unwrap();
    assert_eq!((error, error.status().as_u16()), (E::TargetTooLong, 414));
    assert!(cut < 100, "{cut}");
    let (error, cut) = drip(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(8000))).unwrap();
    assert_eq!((error, error.status().as_u16()), (E::Field(Line::TooLarge), 431));
    assert_eq!(cut, 4096);
    let (error, cut) = drip(&format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(8))).unwrap();
    assert_eq!((error, error.status().as_u16()), (E::Field(Line::TooMany), 431));
    assert_eq!(cut, "GET / HTTP/1.1\r\n".len() + 3 * 6 + 1);
}

#[test]
fn a_dripping_client_costs_work_in_proportion_to_its_bytes() {
    // 64 KiB byte by byte: with a rescan for every byte this is four thousand million steps, and takes minutes.
    let limits = Limits { head_bytes: 1 << 20, fields: 1000, target_bytes: 1 << 20 };
    let text = format!("GET /{} HTTP/1.1\r\nX: \t{}\r\n\r\n", "a".repeat(65_536), "\t".repeat(65_536));
    let mut reader = HeadReader::default();
    let mut head = RequestHead::default();
    for cut in 1..text.len() {
        assert_eq!(reader.request(&text.as_bytes()[..cut], &limits, &mut head), Ok(None));
    }
    assert_eq!(reader.request(text.as_bytes(), &limits, &mut head), Ok(Some(text.len())));
    assert_eq!(head.target.len(), 65_537);
}

#[test]
fn a_reader_whose_bytes_were_taken_away_starts_anew() {
    let text = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut reader = HeadReader::default();
    let mut head = RequestHead::default();
    let longer = format!("POST /{}", "a".repeat(text.len()));
    assert_eq!(reader.request(longer.as_bytes(), &Limits::default(), &mut head), Ok(None));
    assert_eq!(reader.request(text.as_bytes(), &Limits::default(), &mut head), Ok(Some(text.len())));
    assert_eq!(head.target, "/1");
}

#[test]
fn http_1_1_needs_exactly_one_valid_host() {
    for (lines, expected) in [
        ("", Err(E::HostMissing)),
        ("Host: a\r\nHost: a\r\n", Err(E::HostRepeated)),
        ("Host: a\r\nhost: b\r\n", Err(E::HostRepeated)),
        ("Host:\r\n", Err(E::Host)),
        ("Host: a, b\r\n", Err(E::Host)),
        ("Host: a b\r\n", Err(E::Host)),
        ("Host: u@a\r\n", Err(E::Host)),
        ("Host: a/b\r\n", Err(E::Host)),
        ("Host: a?b\r\n", Err(E::Host)),
        ("Host: a%00b\r\n", Err(E::Host)),
        ("Host: \u{e9}\r\n", Err(E::Host)),
        ("Host: a:\r\n", Err(E::Host)),
        ("Host: :80\r\n", Err(E::Host)),
        ("Host: a:80:80\r\n", Err(E::Host)),
        ("Host: a:65536\r\n", Err(E::Host)),
        ("Host: a:+80\r\n", Err(E::Host)),
        ("Host: a:8o\r\n", Err(E::Host)),
        ("Host: [::1\r\n", Err(E::Host)),
        ("Host: ::1\r\n", Err(E::Host)),
        ("Host: [::1]x\r\n", Err(E::Host)),
        ("Host: [a]\r\n", Err(E::Host)),
        ("Host: [fe80::1%eth0]\r\n", Err(E::Host)),
        ("Host: http://a\r\n", Err(E::Host)),
        ("Host: a\r\n", Ok(Some("a"))),
        ("Host: my_service.local:8080\r\n", Ok(Some("my_service.local:8080"))),
        ("Host: 192.0.2.1:1\r\n", Ok(Some("192.0.2.1:1"))),
        ("Host: [2001:DB8::1]:443\r\n", Ok(Some("[2001:DB8::1]:443"))),
        ("Host: a.example.\r\n", Ok(Some("a.example."))),
    ] {
        let seen = judge(format!("GET / HTTP/1.1\r\n{lines}\r\n")).map(|(host, _)| host);
        assert_eq!(seen, expected.map(|host| host.map(str::to_owned)), "{lines:?}");
    }
}

#[test]
fn http_1_0_may_lack_a_host_but_not_have_a_bad_one() {
    assert_eq!(judge("GET / HTTP/1.0\r\n\r\n"), Ok((None, Framing::None)));
    assert_eq!(judge("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), Err(E::HostRepeated));
    assert_eq!(judge("GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"), Err(E::Host));
    assert_eq!(judge("GET http://A/ HTTP/1.0\r\n\r\n"), Ok((Some("A".into()), Framing::None)));
}

#[test]
fn an_absolute_target_and_host_must_name_the_same() {
    for (target, host, expected) in [
        ("http://a/x", "a", Ok("a")),
        ("http://a", "a", Ok("a")),
        ("http://a?x", "a", Ok("a")),
        ("HTTP://A:8080/", "a:8080", Ok("A:8080")),
        ("http://a:80/", "a", Ok("a:80")),
        ("https://a/", "a:443", Ok("a")),
        ("https://a/", "a:80", Err(E::HostMismatch)),
        ("http://a/", "b", Err(E::HostMismatch)),
        ("http://a:8080/", "a", Err(E::HostMismatch)),
        ("http://a/", "", Err(E::Host)),
    ] {
        let seen = judge(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(seen.map(|(host, _)| host), expected.map(|host| Some(host.to_owned())), "{target} {host}");
    }
    assert_eq!(judge("GET http://a/ HTTP/1.1\r\n\r\n"), Err(E::HostMissing));
    assert_eq!(judge("CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n"), Err(E::HostMismatch));
}

#[test]
fn connections_are_kept_by_the_rules_of_their_version() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "close", false),
        ("1.1", "Keep-Alive, CLOSE", false),
        ("1.1", "upgrade", true),
        ("1.1", "\"close\"", false),
        ("1.0", "keep-alive, \u{e9}", false),
        ("1.0", "", false),
        ("1.0", "keep-alive", true),
        ("1.0", "Keep-Alive, x", true),
        ("1.0", "keep-alive, close", false),
    ] {
        let head = head(format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: {connection}\r\n\r\n"));
        assert_eq!(request_keep_alive(&head), expected, "{version} {connection:?}");
    }
    let two_lines = head("GET / HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n");
    assert!(!request_keep_alive(&two_lines));
}

#[test]
fn pipelined_requests_are_read_one_by_one() {
    let text = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3";
    let mut reader = HeadReader::default();
    let mut head = RequestHead::default();
    let mut rest = text.as_bytes();
    let mut targets = Vec::new();
    while let Some(length) = reader.request(rest, &Limits::default(), &mut head).unwrap() {
        targets.push(head.target.clone());
        rest = &rest[length..];
    }
    assert_eq!((targets, rest), (vec!["/1".to_owned(), "/2".to_owned()], &b"GET /3"[..]));
}

#[test]
fn errors_have_stable_codes_and_quote_nothing() {
    let error = read("GET / HTTP/1.1\r\nX-Secret : hunter2\r\n\r\n").unwrap_err();
    assert_eq!(error.code(), "invalid_field_name");
    assert_eq!(error.to_string(), "a field name is not a token directly followed by a colon");
}
