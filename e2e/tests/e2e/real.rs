//! Real programs behind and in front of the gateway: nginx, Python's http.server, grpcio, websockets, curl.

use e2e::certs::Authority;
use e2e::tools::{Nginx, Process, curl};
use e2e::{Gateway, Plan, forward, forward_with};

const GRPC: &str = include_str!("python/grpc_echo.py");
const WEBSOCKET: &str = include_str!("python/websocket_echo.py");
const FILES: &str = include_str!("python/file_server.py");

#[test]
fn nginx_is_served_through_the_gateway() {
    let nginx = Nginx::run(
        "location = /hello { return 200 'from nginx: $host $http_x_forwarded_for $request_uri'; }\n\
         location /files/ { alias ./; }\n location = /gone { return 410; }",
    );
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    nginx.folder().write("large.bin", &large);
    let gateway = Gateway::run(&forward(nginx.address()));
    let mut client = gateway.connect();
    assert_eq!(client.get("/hello?x=1").text(), "from nginx: example.test 127.0.0.1 /hello?x=1");
    assert_eq!(client.get("/files/large.bin").body, large);
    let part = client.get_with("/files/large.bin", "Range: bytes=100-199\r\n");
    assert_eq!((part.status(), part.body.as_slice()), (206, &large[100..200]));
    let tag = client.get("/files/large.bin").field("etag").expect("a tag").to_owned();
    assert_eq!(client.get_with("/files/large.bin", &format!("If-None-Match: {tag}\r\n")).status(), 304);
    assert_eq!(client.get("/gone").status(), 410);
    let head = client.send("HEAD /files/large.bin HTTP/1.1\r\nHost: a\r\n\r\n").reply_to("HEAD");
    assert_eq!(head.field("content-length"), Some("3000000"));
    assert_eq!(client.get("/hello").status(), 200);
}

#[test]
fn a_killed_nginx_is_an_error_and_the_gateway_serves_on() {
    let nginx = Nginx::run("location / { return 200 'alive'; }");
    let gateway = Gateway::run(&forward(nginx.address()));
    let mut client = gateway.connect();
    assert_eq!(client.get("/").text(), "alive");
    nginx.kill();
    let mut last = 200;
    for _ in 0..1000 {
        last = client.get("/").status();
        if last != 200 {
            break;
        }
    }
    assert!([502, 503].contains(&last), "{last}");
    assert_eq!(gateway.get("/").status(), last);
}

#[test]
fn nginx_answers_413_while_the_upload_still_runs() {
    let nginx = Nginx::run("location / { client_max_body_size 1k; proxy_pass http://127.0.0.1:9; }");
    let gateway = Gateway::run(&forward_with(nginx.address(), "", "limits: { body: off }"));
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n");
    let part = vec![b'x'; 100_000];
    while client.is_quiet() && client.try_send(&part) {}
    assert_eq!(client.reply().status(), 413);
}

#[test]
fn pythons_http_server_is_served_through_the_gateway() {
    let mut python = Process::python(FILES, &[]);
    let gateway = Gateway::run(&forward(python.address()));
    let mut client = gateway.connect();
    for _ in 0..5 {
        // It speaks HTTP/1.0: every reply ends its connection.
        assert_eq!(client.get("/hello.txt").text(), "hello from python\n");
    }
    assert_eq!(client.get("/large.bin").body.len(), 256 * 20_000);
    assert_eq!(client.get("/none").status(), 404);
    assert_eq!(client.post("/hello.txt", "body").status(), 501, "its own answer to a POST");
}

#[test]
fn grpc_of_every_kind_passes_with_its_trailers() {
    let mut server = Process::python(GRPC, &["serve"]);
    let gateway = Gateway::run(&forward_with(server.address(), "protocol: http2", ""));
    let told = Process::python(GRPC, &["call", &gateway.address().to_string()]).finish();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["unary"], serde_json::json!(["echo hello", "unary"]));
    assert_eq!(told["server_streaming"], serde_json::json!(["part 0", "part 1", "part 2", "part 3", "part 4", "5"]));
    assert_eq!(told["client_streaming"], "a+b+c");
    assert_eq!(told["duplex"], serde_json::json!(["echo 0", "echo 1", "echo 2", "echo 3", "echo 4"]));
    assert_eq!(told["failing"], serde_json::json!(["FAILED_PRECONDITION", "not today: 100 %", "because"]));
    assert_eq!(told["large"], 3_000_005);
}

#[test]
fn a_real_websocket_client_and_server_talk_through_the_gateway() {
    let mut server = Process::python(WEBSOCKET, &["serve"]);
    let gateway = Gateway::run(&forward(server.address()));
    let told = Process::python(WEBSOCKET, &["call", &gateway.address().to_string()]).finish();
    assert_eq!(told.trim(), "echoed");
}

#[test]
fn curl_speaks_every_version_to_the_gateway() {
    let ca = Authority::new();
    let plan = Plan::new();
    ca.sign(&["localhost"]).write(plan.folder(), "a");
    let root = plan.folder().write("ca.pem", ca.pem()).display().to_string();
    let gateway = plan.run(
        "server:\n  workers: 1\n  listeners:\n  - { name: default, host: 127.0.0.1, port: 0 }\n  \
         - { name: tls, host: 127.0.0.1, port: 0, tls: { certificates: [{ cert: a.pem, key: a.key }] } }\n\
         routes: [{ match: { path: /ping }, respond: { status: 200, body: pong } }]\n",
    );
    let http = format!("http://{}/ping", gateway.address());
    let https = format!("https://localhost:{}/ping", gateway.listener("tls").port());
    let told = ["--write-out", " %{http_version} %{response_code}"];
    let with = |more: &[&str]| curl(&[&told, more].concat());
    assert_eq!(with(&[&http]), "pong 1.1 200");
    assert_eq!(with(&["--http1.0", &http]), "pong 1.1 200");
    assert_eq!(with(&["--http2-prior-knowledge", &http]), "pong 2 200");
    assert_eq!(with(&["--cacert", &root, &https]), "pong 2 200");
    assert_eq!(with(&["--http1.1", "--cacert", &root, &https]), "pong 1.1 200");
    // An upgrade to h2c is not taken up; the request is served as it is.
    assert_eq!(with(&["--http2", &http]), "pong 1.1 200");
    assert_eq!(with(&["--data", "some body", &http]), "pong 1.1 200");
}
