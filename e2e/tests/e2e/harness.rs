//! The harness against itself: a test that cannot fail proves nothing, so clients, backends and readers are tried first.

use http::Request;

use e2e::certs::{Authority, connect};
use e2e::frames::{Frames, Outcome};
use e2e::http2::{H2Backend, H2Client, echo};
use e2e::provider::Provider;
use e2e::tools::{Nginx, Process, curl};
use e2e::wire::{WireError, parse_requests};
use e2e::{Backend, Client};

#[test]
fn a_client_and_a_backend_understand_each_other() {
    let backend = Backend::echo();
    let mut client = Client::connect(backend.address());
    let told = client
        .send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: 1\r\n\r\n")
        .reply();
    assert_eq!((&told.json()["body"], &told.json()["trailers"][0][1]), (&"hi".into(), &"1".into()));
    assert_eq!(client.get("/again").json()["target"], "/again");
    assert_eq!(backend.connections(), 1);
    assert_eq!(backend.assert_well_formed("two requests").len(), 2);
    assert!(client.is_quiet());
    drop(client);
    backend.wait_all_closed();
}

#[test]
fn the_reader_forgives_nothing() {
    for bad in [
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx",
    ] {
        assert!(parse_requests(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert_eq!(
        parse_requests(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").map(|r| r.len()),
        Ok(2)
    );
}

#[test]
fn a_backend_can_end_in_order_and_by_reset() {
    let backend = Backend::scripted(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        if conn.index > 0 {
            conn.reset();
        }
    });
    for _ in 0..2 {
        let mut client = Client::connect(backend.address());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(matches!(client.try_reply_to("GET"), Err(WireError::Truncated(_) | WireError::Closed)));
    }
    backend.wait_all_closed();
    backend.kill();
    assert!(std::net::TcpStream::connect(backend.address()).is_err());
}

#[test]
fn http2_clients_and_backends_understand_each_other() {
    let backend = H2Backend::serve(echo);
    let client = H2Client::connect(backend.address());
    assert_eq!(client.call(Request::post("http://a.test/x").body(()).unwrap(), b"hello").json()["body"], "hello");
    let mut frames = Frames::connect(backend.address());
    frames.settled();
    frames.headers(1, &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")], true);
    assert_eq!(frames.outcome(1), Outcome::Status(200));
    frames.headers(3, &[(":method", "GET"), ("X-Upper", "a")], true);
    assert!(matches!(frames.outcome(3), Outcome::Reset(1) | Outcome::GoAway(1)));
    assert_eq!(backend.heads().len(), 2);
}

#[test]
fn tls_on_both_sides_understands_itself() {
    let ca = Authority::new();
    let backend = Backend::echo_tls(ca.server(&ca.sign(&["a.test"]), &[], true));
    let identity = ca.sign(&["client"]);
    let mut tls = connect(backend.address(), &ca.client(&[], Some(&identity)), "a.test").expect("a handshake");
    assert_eq!(tls.client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status(), 200);
    assert!(backend.seen().connections[0].client_certificate);
    assert!(connect(backend.address(), &ca.client(&[], None), "b.test").is_err(), "the wrong name");
    let backend = H2Backend::serve_tls(ca.server(&ca.sign(&["a.test"]), &["h2"], false), echo);
    let client = H2Client::connect_tls(backend.address(), ca.client(&["h2"], None), "a.test");
    assert_eq!(client.get("https://a.test/").status, 200);
}

#[test]
fn the_real_provider_gives_programs_tokens_and_tells_about_them() {
    let provider = Provider::run();
    let ask = |token: &str| {
        let url = format!("{}/token/introspection", provider.issuer());
        curl(&["--user", "gateway:a-secret-of-the-gateway", "--data", &format!("token={token}"), &url])
    };
    let told = ask(&provider.token());
    assert!(told.contains("\"active\":true") && told.contains("\"scope\":\"orders:read\""), "{told}");
    assert_eq!(ask("another"), "{\"active\":false}");
}

#[test]
fn the_real_programs_are_there() {
    let nginx = Nginx::run("location / { return 200 'nginx'; }");
    assert_eq!(Client::connect(nginx.address()).get("/").text(), "nginx");
    assert_eq!(curl(&[&format!("http://{}/", nginx.address())]), "nginx");
    nginx.kill();
    let mut files = Process::python(include_str!("python/file_server.py"), &[]);
    assert_eq!(Client::connect(files.address()).get("/hello.txt").text(), "hello from python\n");
    let mut grpc = Process::python(include_str!("python/grpc_echo.py"), &["serve"]);
    let told = Process::python(include_str!("python/grpc_echo.py"), &["call", &grpc.address().to_string()]).finish();
    assert!(told.contains("echo 4"), "{told}");
    let mut sockets = Process::python(include_str!("python/websocket_echo.py"), &["serve"]);
    let told =
        Process::python(include_str!("python/websocket_echo.py"), &["call", &sockets.address().to_string()]).finish();
    assert_eq!(told.trim(), "echoed");
}
