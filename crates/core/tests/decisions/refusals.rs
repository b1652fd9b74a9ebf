use http::StatusCode;
use tidegate_config::config::AcceptRequestId;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_core::request_id::{RequestId, uuid, well_formed};
use tidegate_http1::Known;

use crate::world::{fields, value};

fn render(rejection: &Rejection, accept: Option<&str>) -> (String, String) {
    let (fields, body) = rejection.render("id-1", accept.map(str::as_bytes));
    (value(&fields, "content-type"), String::from_utf8(body.to_vec()).expect("text"))
}

#[test]
fn a_refusal_is_json_that_programs_and_people_can_read() {
    let expected = r#"{"error":"No route matches this request","code":"no_route","request_id":"id-1"}"#;
    let (content_type, body) = render(&Rejection::no_route(), None);
    assert_eq!((content_type.as_str(), body.as_str()), ("application/json", expected));
}

#[test]
fn a_problem_document_is_sent_to_those_who_ask_for_it() {
    let expected = r#"{"title":"Not Found","status":404,"detail":"No route matches this request","code":"no_route","request_id":"id-1"}"#;
    let (content_type, body) = render(&Rejection::no_route(), Some("application/problem+json"));
    assert_eq!((content_type.as_str(), body.as_str()), ("application/problem+json", expected));
}

#[test]
fn accept_decides_between_the_two_shapes() {
    for (accept, problem) in [
        ("application/problem+json, */*", true),
        ("Application/Problem+JSON;q=0.5", true),
        ("application/json, application/problem+json", true),
        ("application/json;q=0.9, application/problem+json;q=0.8", false),
        ("application/problem+json;q=0", false),
        ("application/problem+json;q=junk", true),
        ("application/problem+json; charset=utf-8; q=0.1, application/json;q=0.2", false),
        ("*/*", false),
        ("application/*", false),
        ("text/html", false),
        ("", false),
    ] {
        let (content_type, _) = render(&Rejection::no_route(), Some(accept));
        assert_eq!(content_type == "application/problem+json", problem, "{accept}");
    }
}

#[test]
fn texts_are_escaped_and_causes_stay_inside() {
    let rejection = Rejection::new(RejectionKind::BadGateway, "upstream_closed", "a \"quote\"\n and more")
        .cause("10.0.0.1:8080 refused: secret");
    let (_, body) = render(&rejection, None);
    assert_eq!(body, r#"{"error":"a \"quote\"\n and more","code":"upstream_closed","request_id":"id-1"}"#);
    assert!(rejection.to_string().contains("secret"), "the log is told");
}

#[test]
fn a_refusal_brings_its_own_fields() {
    let rejection = Rejection::method_not_allowed("GET, HEAD, OPTIONS");
    assert_eq!(rejection.status(), StatusCode::METHOD_NOT_ALLOWED);
    let (fields, _) = rejection.render("id-1", None);
    assert_eq!(value(&fields, "allow"), "GET, HEAD, OPTIONS");
    let busy = Rejection::new(RejectionKind::Unavailable, "busy", "Service unavailable").field(Known::RetryAfter, b"1");
    assert_eq!(busy.map(|busy| value(&busy.fields, "retry-after")), Ok("1".to_owned()));
    assert!(Rejection::no_route().field("x-a", b"b\r\nx-c: d").is_err());
}

#[test]
fn the_codec_s_statuses_have_a_kind() {
    for status in [400, 413, 414, 417, 431, 501, 505] {
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(RejectionKind::of_malformed(status).status(), status);
    }
    assert_eq!(RejectionKind::of_malformed(StatusCode::OK), RejectionKind::BadRequest);
}

#[test]
fn an_id_is_taken_over_only_from_whom_the_configuration_says() {
    let sent = fields(&["x-request-id: abc-123"]);
    let choose = |accept, trusted| {
        let mut id = RequestId::new(1);
        id.choose((accept, trusted), &sent, "X-Request-ID", 0);
        id.as_str() == "abc-123"
    };
    assert!(choose(AcceptRequestId::Any, false));
    assert!(choose(AcceptRequestId::Trusted, true));
    assert!(!choose(AcceptRequestId::Trusted, false));
    assert!(!choose(AcceptRequestId::Never, true));
}

#[test]
fn an_id_that_is_malformed_or_repeated_is_replaced() {
    for sent in
        [fields(&["x-request-id: a b"]), fields(&["x-request-id: a", "x-request-id: b"]), fields(&["x-request-id: "])]
    {
        let mut id = RequestId::new(1);
        id.choose((AcceptRequestId::Any, true), &sent, "x-request-id", 7);
        assert_eq!(id, RequestId::new(7));
    }
    for (value, good) in [
        ("abc/def=+:;.~", true),
        ("a\"b", false),
        ("a'b", false),
        ("a\\b", false),
        ("a,b", false),
        ("<a>", false),
        ("\u{e9}", false),
        ("a\u{7f}", false),
        ("", false),
    ] {
        assert_eq!(well_formed(value.as_bytes()).is_some(), good, "{value}");
    }
    assert!(well_formed(&[b'a'; 128]).is_some() && well_formed(&[b'a'; 129]).is_none());
}

#[test]
fn a_made_id_is_a_random_uuid() {
    let text = |random| String::from_utf8(uuid(random).to_vec()).expect("ASCII");
    assert_eq!(text(0), "00000000-0000-4000-8000-000000000000");
    assert_eq!(text(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    assert_eq!(text(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), "01234567-89ab-4def-8123-456789abcdef");
}
