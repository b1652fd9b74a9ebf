use serde_json::{Value, json};
use tidegate_config::config::{AccessFormat, LogTarget};
use tidegate_core::client::ClientCert;
use tidegate_core::clock::Clock;
use tidegate_http1::Fields;

use super::super::log_writer::{LogCounters, Message};
use super::*;

/// When all requests began.
const WALL: Duration = Duration::from_micros(1_795_227_565_123_456);

fn access() -> AccessLog {
    AccessLog {
        format: AccessFormat::Json,
        to: LogTarget::Stdout,
        sample: 1.0,
        redact: vec!["authorization".into(), "cookie".into()],
        headers: Vec::new(),
    }
}

fn fields(all: &[(&str, &[u8])]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in all {
        fields.append(*name, value).expect("a valid field");
    }
    fields
}

fn completed(fields: &Fields) -> Completed<'_> {
    Completed {
        series: None,
        route: "user",
        service: "users",
        endpoint: Some("10.0.0.1:9001"),
        listener: "default",
        method: "GET",
        scheme: "http",
        host: "api.example.com",
        path: "/users/1",
        query: "",
        version: Version::Http11,
        fields,
        client: IpAddr::from([203, 0, 113, 9]),
        peer: SocketAddr::from(([10, 0, 0, 7], 50_123)),
        request_id: "8c1f",
        status: 200,
        received: 0,
        sent: 1024,
        started: Clock::System.now(),
        duration: Duration::from_micros(1_234),
        upstream: Some(Duration::from_micros(987)),
        attempts: 1,
        end: End::Complete,
        code: None,
        cause: None,
        trail: None,
        user: None,
        tls: None,
    }
}

fn buffer(access: &AccessLog) -> (LogBuffer, Receiver<Message>, Arc<LogCounters>) {
    let (sender, messages, counters) = LogSender::for_test(4);
    let mut buffer = LogBuffer::new(sender, 7);
    buffer.configure(Some(access));
    (buffer, messages, counters)
}

/// The lines that come out for these requests, as they are.
fn lines(access: &AccessLog, all: &[Completed<'_>]) -> String {
    let (mut buffer, messages, _) = buffer(access);
    for completed in all {
        buffer.write(completed, |_| WALL);
    }
    drop(buffer);
    let batches = messages.try_iter().filter_map(|message| match message {
        Message::Batch(batch) => Some(batch.bytes),
        Message::Wake => None,
    });
    String::from_utf8(batches.flatten().collect()).expect("a log is UTF-8")
}

fn line(access: &AccessLog, completed: Completed<'_>) -> Value {
    let text = lines(access, &[completed]);
    assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
    serde_json::from_str(&text).expect("a line is JSON")
}

#[test]
fn a_request_is_one_line_of_json_with_all_its_facts() {
    let fields = fields(&[("User-Agent", b"curl/8"), ("Cookie", b"a=b")]);
    assert_eq!(
        lines(&access(), &[completed(&fields)]),
        concat!(
            r#"{"time":"2026-11-21T02:19:25.123456Z","request_id":"8c1f","client":"203.0.113.9","peer":"10.0.0.7:50123","#,
            r#""listener":"default","protocol":"HTTP/1.1","method":"GET","scheme":"http","host":"api.example.com","#,
            r#""path":"/users/1","status":200,"received":0,"sent":1024,"duration_ms":1.234,"end":"complete","#,
            r#""route":"user","service":"users","endpoint":"10.0.0.1:9001","attempts":1,"upstream_ms":0.987,"#,
            r#""user_agent":"curl/8"}"#,
            "\n"
        )
    );
}

#[test]
fn a_refusal_says_its_code_and_its_cause() {
    let none = Fields::new();
    let refused = Completed {
        route: "",
        service: "",
        endpoint: None,
        status: 400,
        upstream: None,
        end: End::Refused,
        code: Some("bad_path"),
        cause: Some("the path has %2f"),
        peer: "[2001:db8::1]:443".parse().expect("an address"),
        client: "2001:db8::1".parse().expect("an address"),
        ..completed(&none)
    };
    let line = line(&access(), refused);
    assert_eq!(line["code"], "bad_path");
    assert_eq!(line["cause"], "the path has %2f");
    assert_eq!(line["client"], "2001:db8::1");
    assert_eq!(line["peer"], "[2001:db8::1]:443");
    for absent in ["route", "service", "endpoint", "attempts", "upstream_ms", "query", "tls", "user_agent", "headers"] {
        assert_eq!(line.get(absent), None, "{absent}");
    }
}

#[test]
fn a_timeout_says_which_and_tls_says_who() {
    let none = Fields::new();
    let tls = TlsFacts {
        server_name: Some("api.example.com".into()),
        protocol: "TLSv1.3",
        client: Some(ClientCert { subject: "gateway".into(), ..ClientCert::default() }),
    };
    let line = line(&access(), Completed { end: End::Timeout("write idle"), tls: Some(&tls), ..completed(&none) });
    assert_eq!(line["end"], "timeout");
    assert_eq!(line["timeout"], "write idle");
    assert_eq!(line["tls"], "TLSv1.3");
    assert_eq!(line["server_name"], "api.example.com");
    assert_eq!(line["client_subject"], "gateway");
}

#[test]
fn credentials_in_a_query_are_hidden_however_they_are_spelt() {
    let none = Fields::new();
    for (query, logged) in [
        ("a=1&token=abc&b=2", "a=1&token=***&b=2"),
        ("Access_Token=abc", "Access_Token=***"),
        ("%74oken=abc&api%5Fkey=x", "%74oken=***&api%5Fkey=***"),
        ("tokens=abc&key=", "tokens=abc&key="),
        ("password=a=b&secret", "password=***&secret"),
        ("a=1;token=abc;b=2&c=3;d", "a=1;token=***&c=3;d"),
        ("plain", "plain"),
        ("%zz=1&%7=2&%=3", "%zz=1&%7=2&%=3"),
    ] {
        assert_eq!(line(&access(), Completed { query, ..completed(&none) })["query"], logged);
    }
}

#[test]
fn wanted_headers_are_logged_and_secret_ones_are_not() {
    let fields = fields(&[
        ("X-Tenant", b"a"),
        ("Authorization", b"Bearer abc"),
        ("x-tenant", b"b"),
        ("X-Tenant", b"c"),
        ("X-Binary", b"\xff"),
    ]);
    let wanted = ["x-absent", "x-tenant", "authorization", "x-binary"].map(Arc::from).to_vec();
    let line = line(&AccessLog { headers: wanted, ..access() }, completed(&fields));
    assert_eq!(line["headers"], json!({"x-tenant": "a, b, c", "authorization": "***", "x-binary": "\u{fffd}"}));
}

#[test]
fn credentials_in_a_url_that_a_header_carries_are_hidden_too() {
    let fields = fields(&[("Referer", b"https://app.example.com/cb?code=abc&state=1#top")]);
    let line = line(&AccessLog { headers: vec!["referer".into()], ..access() }, completed(&fields));
    assert_eq!(line["headers"]["referer"], "https://app.example.com/cb?code=***&state=1#top");
}

#[test]
fn every_field_of_a_line_and_every_hidden_parameter_is_documented() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let page = std::fs::read_to_string(page).expect("docs/operations.md");
    let fields = fields(&[("User-Agent", b"curl/8"), ("X-A", b"1")]);
    let tls = TlsFacts {
        server_name: Some("api.example.com".into()),
        protocol: "TLSv1.3",
        client: Some(ClientCert { subject: "gateway".into(), ..ClientCert::default() }),
    };
    let whole = Completed {
        query: "a=1",
        end: End::Timeout("read idle"),
        code: Some("x"),
        cause: Some("y"),
        tls: Some(&tls),
        ..completed(&fields)
    };
    let line = line(&AccessLog { headers: vec!["x-a".into()], ..access() }, whole);
    let keys = line.as_object().expect("an object").keys().map(String::as_str);
    let hidden = tidegate_core::query::CREDENTIALS.iter().copied();
    for word in keys.chain(hidden) {
        assert!(page.contains(&format!("`{word}`")), "docs/operations.md does not say what `{word}` is");
    }
}

#[test]
fn no_headers_object_is_written_when_none_of_the_wanted_ones_came() {
    let none = Fields::new();
    let wanted = vec![Arc::from("x-absent")];
    assert_eq!(line(&AccessLog { headers: wanted, ..access() }, completed(&none)).get("headers"), None);
}

#[test]
fn a_redacted_user_agent_is_left_out() {
    let fields = fields(&[("User-Agent", b"curl/8")]);
    let line = line(&AccessLog { redact: vec!["user-agent".into()], ..access() }, completed(&fields));
    assert_eq!(line.get("user_agent"), None);
}

#[test]
fn a_sample_takes_its_share() {
    let none = Fields::new();
    let (mut buffer, messages, _) = buffer(&AccessLog { sample: 0.25, ..access() });
    for _ in 0..400 {
        buffer.write(&completed(&none), |_| WALL);
    }
    drop(buffer);
    let taken: u64 = messages
        .try_iter()
        .map(|message| match message {
            Message::Batch(batch) => batch.lines,
            Message::Wake => 0,
        })
        .sum();
    assert!((70..130).contains(&taken), "{taken} of 400");
}

#[test]
fn nothing_is_logged_while_the_log_is_off() {
    let none = Fields::new();
    let (mut buffer, messages, _) = buffer(&access());
    buffer.configure(None);
    buffer.write(&completed(&none), |_| WALL);
    drop(buffer);
    assert!(messages.try_recv().is_err());
}

#[test]
fn lines_wait_for_a_full_batch_or_a_flush() {
    let none = Fields::new();
    let (mut buffer, messages, counters) = buffer(&access());
    buffer.write(&completed(&none), |_| WALL);
    assert!(messages.try_recv().is_err());
    buffer.flush();
    buffer.flush();
    assert!(matches!(messages.try_recv(), Ok(Message::Batch(batch)) if batch.lines == 1));
    assert!(messages.try_recv().is_err());
    for _ in 0..800 {
        buffer.write(&completed(&none), |_| WALL);
    }
    let batch = messages.try_recv().expect("a full batch");
    assert!(matches!(batch, Message::Batch(batch) if batch.lines > 500 && batch.bytes.len() < ROOM));
    assert_eq!(counters.dropped(), 0);
}

#[test]
fn endless_values_are_cut() {
    let path = format!("/{}", "a".repeat(100_000));
    let fields = fields(&[("User-Agent", &vec![b'x'; 20_000])]);
    let query = "q=é&".repeat(10_000);
    let text = lines(&access(), &[Completed { path: &path, query: &query, ..completed(&fields) }]);
    assert!(text.len() < 4 * escape::MAX_VALUE, "{}", text.len());
    serde_json::from_str::<Value>(&text).expect("still JSON");
}
