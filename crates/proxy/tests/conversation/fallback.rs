//! What answers when no endpoint can.

use std::time::Duration;

use crate::world::{World, tell};

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
/// More than the longest wait between two tries.
const BACKOFF: Duration = Duration::from_millis(300);

fn yaml(fallback: &str) -> String {
    format!(
        "
services:
  s: {{ url: http://one.test:80, fallback: {fallback} }}
  spare: {{ url: http://spare.test:80 }}
routes: [{{ match: {{ path_prefix: / }}, service: s }}]
"
    )
}

fn used(world: &World) -> Option<String> {
    world.metric("tidegate_fallbacks_total{service=\"s\"}")
}

#[test]
fn a_fixed_answer_stands_in_for_a_service_that_is_gone() {
    tell(&yaml("{ respond: { status: 203, body: spare } }"), |world| async move {
        world.refuse("one.test");
        let client = world.asks("/").await;
        world.pass(BACKOFF).await;
        let reply = client.answer().await;
        assert!(reply.starts_with("HTTP/1.1 203 ") && reply.ends_with("spare"), "{reply}");
        assert_eq!(used(&world).as_deref(), Some("1"));
    });
}

#[test]
fn another_service_gets_the_request_with_its_body() {
    for (framing, body) in [("Content-Length: 2", "hi"), ("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n")] {
        tell(&yaml("{ service: spare }"), |world| async move {
            world.refuse("one.test");
            let mut client = world.client();
            client.say(&format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{body}")).await;
            world.pass(BACKOFF).await;
            let (authority, mut endpoint) = world.called().await;
            assert_eq!(authority, "spare.test");
            endpoint.hear_until(body).await;
            endpoint.say(OK).await;
            assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
        });
    }
}

#[test]
fn an_error_of_the_service_is_its_own_answer() {
    tell(&yaml("{ service: spare }"), |world| async move {
        let (_, reply) = world.exchange("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno").await;
        assert!(reply.starts_with("HTTP/1.1 500 "), "{reply}");
        assert_eq!(used(&world).as_deref(), Some("0"));
    });
}

#[test]
fn the_fallbacks_endpoint_is_no_session_of_the_service() {
    let sticky = "load_balancing: { sticky_cookie: { name: tg, secret: 0123456789abcdef0123456789abcdef } }";
    tell(&yaml(&format!("{{ service: spare }}, {sticky}")), |world| async move {
        assert!(world.exchange(OK).await.1.contains("set-cookie: tg="));
        world.refuse("one.test");
        let client = world.asks("/").await;
        world.pass(BACKOFF).await;
        let (authority, mut endpoint) = world.called().await;
        assert_eq!(authority, "spare.test");
        endpoint.say(OK).await;
        let reply = client.answer().await;
        assert!(reply.starts_with("HTTP/1.1 200 ") && !reply.contains("set-cookie"), "{reply}");
    });
}

#[test]
fn a_clients_own_word_about_the_time_left_passes_to_nobody() {
    let yaml = yaml("{ service: spare }, deadline_header: x-left");
    let yaml = yaml.replace("spare.test:80", "spare.test:80, deadline_header: x-remaining");
    tell(&yaml, |world| async move {
        let asks = "GET / HTTP/1.1\r\nHost: x\r\nX-Left: 987654\r\nX-Remaining: 987654\r\n\r\n";
        for (expected, field) in [("one.test", "x-left: "), ("spare.test", "x-remaining: ")] {
            let mut client = world.client();
            client.say(asks).await;
            world.pass(BACKOFF).await;
            let (authority, mut endpoint) = world.called().await;
            let head = endpoint.head().await.to_lowercase();
            assert_eq!(authority, expected);
            assert!(head.contains(field) && !head.contains("987654"), "{head}");
            drop((client, endpoint));
            world.refuse("one.test");
        }
    });
}
