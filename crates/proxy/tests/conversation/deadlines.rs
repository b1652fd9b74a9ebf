//! Every state of a connection ends: how, and when.

use std::sync::Arc;
use std::time::Duration;

use tidegate_config::config::{Certificate, ClientAuth, Config, FileText, ListenerTls, TlsVersion};
use tidegate_config::problem::Path;
use tidegate_core::policy::Shared;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{PLAIN, settle, tell, tell_with};

const GET: &str = "GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_head_must_be_whole_in_time_however_steadily_it_drips() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("GET / HTTP/1.1\r\nX: ").await;
        for _ in 0..9 {
            world.pass(seconds(1)).await;
            client.say("a").await;
        }
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        let reply = client.now().await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("header_timeout"), "{reply}");
        world.pass(seconds(3)).await;
        assert_eq!(client.now().await, None);
    });
}

#[test]
fn a_connection_without_a_request_is_let_go() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        world.pass(seconds(9)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        assert_eq!(client.now().await, None);
    });
}

#[test]
fn an_idle_connection_is_let_go_after_its_timeout() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 204 No Content\r\n\r\n").await;
        client.head().await;
        world.pass(seconds(59)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        assert_eq!(client.now().await, None);
    });
}

#[test]
fn a_body_that_stalls_ends_the_request() {
    let yaml = "
server: { limits: { min_rate: off } }
services: { one: { url: http://one.test:80, retry: off } }
routes: [{ match: { path_prefix: / }, service: one, timeout: off }]
";
    tell(yaml, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc").await;
        let mut endpoint = world.endpoint().await;
        endpoint.hear_until("\r\n\r\nabc").await;
        world.pass(seconds(29)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        let reply = client.now().await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
        assert_eq!(endpoint.rest().await, "");
    });
}

#[test]
fn a_body_below_the_minimum_rate_ends_the_request() {
    let yaml = "
services: { one: { url: http://one.test:80, retry: off } }
routes: [{ match: { path_prefix: / }, service: one, timeout: off }]
";
    tell(yaml, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        for _ in 0..9 {
            world.pass(seconds(1)).await;
            client.say("a").await;
        }
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(2)).await;
        let reply = client.now().await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("body_timeout"), "{reply}");
    });
}

#[test]
fn a_chunk_that_does_not_go_on_ends_the_request() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nabc").await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        // The grace of the minimum rate, which 3 bytes do not reach.
        world.pass(seconds(9)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        let reply = client.now().await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("body_timeout"), "{reply}");
        assert!(!endpoint.rest().await.contains("0\r\n\r\n"), "the request must not look complete");
    });
}

#[test]
fn a_client_that_takes_nothing_of_its_reply_is_let_go() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n").await;
        // More than all buffers on the way can hold.
        let endless = "x".repeat(64 * 1024);
        let mut flood = std::pin::pin!(async {
            for _ in 0..150 {
                endpoint.say(&endless).await;
            }
        });
        let mut pumped = 0;
        std::future::poll_fn(|cx| {
            pumped += 1;
            assert!(std::future::Future::poll(flood.as_mut(), cx).is_pending(), "nobody held it back");
            cx.waker().wake_by_ref();
            if pumped < 500 { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
        world.pass(seconds(29)).await;
        assert!(!world.metrics.render(&[], &Shared::default()).contains("reason=\"write_idle\"} 1"));
        world.pass(seconds(1)).await;
        assert!(
            world.metrics.render(&[], &Shared::default()).contains("reason=\"write_idle\"} 1"),
            "{}",
            world.metrics.render(&[], &Shared::default())
        );
        assert!(client.rest().await.len() < 10_000_000);
    });
}

#[test]
fn a_service_that_does_not_reply_within_the_routes_timeout_is_given_up() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        world.pass(seconds(29)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        let reply = client.now().await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 504 ") && reply.contains("request_timeout"), "{reply}");
        assert_eq!(endpoint.rest().await, "");
    });
}

#[test]
fn a_service_that_is_silent_for_its_read_timeout_is_given_up() {
    let yaml = "
services: { one: { url: http://one.test:80, retry: off, timeouts: { read: 5s } } }
routes: [{ match: { path_prefix: / }, service: one }]
";
    tell(yaml, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        world.pass(seconds(5)).await;
        let reply = client.now().await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 504 ") && reply.contains("upstream_read_timeout"), "{reply}");
    });
}

#[test]
fn the_routes_timeout_ends_with_the_replys_head() {
    let yaml = "
services: { one: { url: http://one.test:80, retry: off } }
routes: [{ match: { path_prefix: / }, service: one, timeout: 1s }]
";
    tell(yaml, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
        client.head().await;
        world.pass(seconds(20)).await;
        endpoint.say("cd").await;
        assert_eq!(client.hear_until("abcd").await, "abcd");
    });
}

#[test]
fn a_reply_that_stalls_never_looks_complete() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").await;
        client.head().await;
        world.pass(seconds(61)).await;
        assert_eq!(client.rest().await, "2\r\nab\r\n");
    });
}

#[test]
fn an_event_stream_may_be_silent_for_longer_than_every_short_timeout() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.head().await;
        world.pass(seconds(3000)).await;
        endpoint.say("8\r\ndata: 1\n\r\n").await;
        assert_eq!(client.hear_until("data: 1\n\r\n").await, "8\r\ndata: 1\n\r\n");
        world.pass(seconds(3600)).await;
        assert_eq!(client.now().await, None);
    });
}

#[test]
fn a_tunnel_lives_until_nothing_moves_for_the_stream_timeout() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        client.head().await;
        world.pass(seconds(3500)).await;
        client.say("x").await;
        assert_eq!(endpoint.hear_until("x").await, "x");
        world.pass(seconds(3599)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        assert_eq!(client.now().await, None);
    });
}

#[test]
fn a_service_that_still_takes_the_request_is_not_called_silent() {
    let yaml = "
server: { limits: { min_rate: off } }
services: { one: { url: http://one.test:80, retry: off, timeouts: { read: 5s } } }
routes: [{ match: { path_prefix: / }, service: one }]
";
    tell(yaml, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n").await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
        client.head().await;
        for _ in 0..10 {
            world.pass(seconds(4)).await;
            client.say("a").await;
            endpoint.hear_until("a").await;
        }
        endpoint.say("done").await;
        assert_eq!(client.hear_until("done").await, "done");
    });
}

const BEHIND_A_BALANCER: &str = "
server: { listeners: [{ name: default, port: 80, proxy_protocol: on }] }
routes: [{ match: { path_prefix: / }, respond: { status: 204 } }]
";

const PROXY: &str = "PROXY TCP4 192.0.2.1 198.51.100.2 4660 80\r\n";

#[test]
fn the_first_head_has_no_time_of_its_own_beside_what_comes_before_it() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        world.pass(seconds(8)).await;
        client.say("GET / HT").await;
        world.pass(seconds(1)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        assert!(client.now().await.unwrap().starts_with("HTTP/1.1 408 "));
    });
}

#[test]
fn a_proxy_header_and_the_first_head_have_one_time_together() {
    tell(BEHIND_A_BALANCER, |world| async move {
        let mut client = world.arrives_at("default");
        world.pass(seconds(6)).await;
        client.say(PROXY).await;
        world.pass(seconds(2)).await;
        client.say("GET / HTTP/1.1\r\nHost: x\r\n").await;
        world.pass(seconds(1)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        assert!(client.now().await.unwrap().starts_with("HTTP/1.1 408 "));
        // The next request on a connection begins with its first byte.
        let mut client = world.arrives_at("default");
        client.say(&format!("{PROXY}{GET}")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 204 "));
        world.pass(seconds(40)).await;
        client.say("GET / HTTP/1.1\r\n").await;
        world.pass(seconds(9)).await;
        client.say("Host: x\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 204 "));
    });
}

#[test]
fn a_proxy_header_that_drips_is_let_go() {
    tell(BEHIND_A_BALANCER, |world| async move {
        let mut client = world.arrives_at("default");
        for byte in PROXY.chars().take(9) {
            client.say(&byte.to_string()).await;
            world.pass(seconds(1)).await;
        }
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        assert_eq!(client.now().await, None);
        assert_eq!(
            world
                .metric(r#"tidegate_connections_refused_total{listener="default",reason="proxy_protocol"}"#)
                .as_deref(),
            Some("1")
        );
    });
}

#[test]
fn a_preface_of_http2_has_the_time_of_the_first_head() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("PRI * HTTP/2.0\r\n").await;
        world.pass(seconds(7)).await;
        client.say("\r\nSM\r\n").await;
        world.pass(seconds(2)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        assert_eq!(client.now().await, None);
        let let_go = r#"tidegate_connections_let_go_total{listener="default",reason="header"}"#;
        assert_eq!(world.metric(let_go).as_deref(), Some("1"));
    });
}

#[test]
fn a_tls_handshake_has_its_own_time_and_takes_none_of_the_first_head() {
    let (listener, client) = tls();
    let serve_tls = |config: &mut Config| config.server.listeners[0].tls = Some(Arc::new(listener));
    tell_with(BEHIND_A_BALANCER, serve_tls, |world| async move {
        let mut arriving = world.arrives_at("default");
        world.pass(seconds(4)).await;
        arriving.say(PROXY).await;
        // The handshake alone takes longer than what is left for the head, and less than its own ten seconds.
        world.pass(seconds(9)).await;
        let connector = tokio_rustls::TlsConnector::from(client);
        let mut stream = connector.connect("x.test".try_into().unwrap(), arriving.into_stream()).await.unwrap();
        settle().await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        world.pass(seconds(5)).await;
        stream.write_all(b"X: y\r\n").await.unwrap();
        world.pass(seconds(1)).await;
        let mut reply = vec![0; 4096];
        let length = stream.read(&mut reply).await.unwrap();
        assert!(reply[..length].starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&reply[..length]));
    });
}

#[test]
fn a_tls_handshake_that_does_not_end_is_let_go() {
    let (listener, _) = tls();
    let serve_tls = |config: &mut Config| config.server.listeners[0].tls = Some(Arc::new(listener));
    tell_with("server: { port: 80 }", serve_tls, |world| async move {
        let mut client = world.arrives_at("default");
        // The beginning of a record that is long in coming.
        client.say("\x16\x03\x01\x02\x00\x01").await;
        world.pass(seconds(9)).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(seconds(1)).await;
        assert_eq!(client.now().await, None);
        let failed = r#"tidegate_tls_handshakes_total{listener="default",result="failed"}"#;
        assert_eq!(world.metric(failed).as_deref(), Some("1"));
    });
}

/// A listener with a certificate for `x.test`, and a client that believes it.
fn tls() -> (ListenerTls, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["x.test".to_owned()]).unwrap();
    let file = |path: &str, text: &str| FileText { path: path.into(), bytes: text.as_bytes().into() };
    let certificate = Certificate {
        cert: file("x.pem", &made.cert.pem()),
        key: file("x.key", &made.signing_key.serialize_pem()),
        at: Path::root(),
    };
    let listener = ListenerTls {
        certificates: vec![certificate],
        min_version: TlsVersion::Tls12,
        client_ca: None,
        client_auth: ClientAuth::Off,
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (listener, Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}
