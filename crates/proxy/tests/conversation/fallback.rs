//! What answers when no endpoint can.

use crate::world::{World, tell};

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

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
        world.pass(std::time::Duration::from_millis(300)).await;
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
            world.pass(std::time::Duration::from_millis(300)).await;
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
