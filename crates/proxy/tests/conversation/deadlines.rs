//! Every state of a connection ends: how, and when.

use std::time::Duration;
use tidegate_core::policy::Shared;

use crate::world::{PLAIN, tell};

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
