//! What an endpoint may do, and what becomes of it.

use crate::world::{PLAIN, World, settle, tell};

const GET: &str = "GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n";
const POST: &str = "POST /a HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\n\r\nhi";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One exchange, after which the endpoint's connection is in the pool.
async fn warmed(world: &World) -> (crate::world::Party, crate::world::Party) {
    let mut client = world.client();
    client.say(GET).await;
    let mut endpoint = world.endpoint().await;
    endpoint.head().await;
    endpoint.say(OK).await;
    client.head().await;
    client.hear_until("ok").await;
    (client, endpoint)
}

#[test]
fn a_pooled_connection_that_was_closed_is_replaced_without_notice() {
    tell(PLAIN, |world| async move {
        let (mut client, endpoint) = warmed(&world).await;
        drop(endpoint);
        client.say(POST).await;
        let mut second = world.endpoint().await;
        second.hear_until("hi").await;
        second.say(OK).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn a_pooled_connection_that_closes_on_a_get_is_replaced_once() {
    tell(PLAIN, |world| async move {
        let (mut client, mut endpoint) = warmed(&world).await;
        client.say(GET).await;
        endpoint.head().await;
        drop(endpoint);
        let mut second = world.endpoint().await;
        second.head().await;
        drop(second);
        assert!(client.head().await.starts_with("HTTP/1.1 502"));
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_post_that_was_sent_is_sent_once() {
    tell(PLAIN, |world| async move {
        let (mut client, mut endpoint) = warmed(&world).await;
        client.say(POST).await;
        endpoint.hear_until("hi").await;
        drop(endpoint);
        let reply = client.head().await;
        assert!(reply.starts_with("HTTP/1.1 502"), "{reply}");
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_fresh_connection_that_closes_is_not_tried_again() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        drop(endpoint);
        assert!(client.head().await.starts_with("HTTP/1.1 502"));
        assert!(!world.was_called().await);
    });
}

#[test]
fn bytes_after_a_reply_are_never_taken_for_the_next_one() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say(&format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")).await;
        client.hear_until("\r\n\r\nok").await;
        client.say(GET).await;
        let mut second = world.endpoint().await;
        second.head().await;
        second.say(OK).await;
        client.hear_until("\r\n\r\nok").await;
    });
}

#[test]
fn bytes_that_come_while_a_connection_is_idle_are_never_taken_for_a_reply() {
    tell(PLAIN, |world| async move {
        let (mut client, mut endpoint) = warmed(&world).await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
        settle().await;
        client.say(GET).await;
        let mut second = world.endpoint().await;
        second.head().await;
        second.say(OK).await;
        client.hear_until("\r\n\r\nok").await;
    });
}

#[test]
fn a_body_on_a_reply_that_has_none_ends_the_connection() {
    for reply in ["HTTP/1.1 204 No Content\r\n\r\nevil", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"] {
        tell(PLAIN, |world| async move {
            let mut client = world.client();
            client.say(GET).await;
            let mut endpoint = world.endpoint().await;
            endpoint.head().await;
            endpoint.say(reply).await;
            client.head().await;
            client.say(GET).await;
            world.endpoint().await.head().await;
        });
    }
}

#[test]
fn a_reply_with_two_framings_is_a_bad_gateway() {
    for fields in [
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Length: +2",
    ] {
        tell(PLAIN, |world| async move {
            let mut client = world.client();
            client.say(GET).await;
            let mut endpoint = world.endpoint().await;
            endpoint.head().await;
            endpoint.say(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok")).await;
            let reply = client.head().await;
            assert!(reply.starts_with("HTTP/1.1 502"), "{fields}: {reply}");
            assert_eq!(endpoint.rest().await, "");
        });
    }
}

#[test]
fn a_reply_that_breaks_off_never_looks_complete() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").await;
        client.head().await;
        drop(endpoint);
        assert_eq!(client.rest().await, "2\r\nab\r\n");
    });
}

#[test]
fn what_came_before_a_reply_broke_off_reaches_the_client() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        // All of it is there at once, and so is the end of the connection.
        endpoint.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n").await;
        drop(endpoint);
        let reply = client.rest().await;
        assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("2\r\nab\r\n3\r\ncde\r\n"), "{reply}");
    });
}

#[test]
fn a_reply_whose_body_fails_before_it_began_is_a_bad_gateway() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
        let reply = client.rest().await;
        assert!(reply.starts_with("HTTP/1.1 502"), "{reply}");
    });
}

#[test]
fn an_early_refusal_reaches_the_client_while_it_still_sends() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\nstart").await;
        let mut endpoint = world.endpoint().await;
        endpoint.hear_until("start").await;
        endpoint.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
        let reply = client.hear_until("big").await;
        assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    });
}

#[test]
fn a_body_larger_than_allowed_is_refused_before_the_service_is_asked() {
    let yaml = "
services: { one: { url: http://one.test:80, retry: off } }
routes: [{ match: { path_prefix: / }, service: one, limits: { body: 1KB } }]
";
    tell(yaml, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1025\r\n\r\n").await;
        let reply = client.head().await;
        assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains("connection: close"), "{reply}");
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_chunked_body_is_counted_while_it_streams() {
    let yaml = "
services: { one: { url: http://one.test:80, retry: off } }
routes: [{ match: { path_prefix: / }, service: one, limits: { body: 1KB } }]
";
    tell(yaml, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        client.say(&format!("300\r\n{}\r\n300\r\n{}\r\n", "a".repeat(0x300), "b".repeat(0x300))).await;
        let reply = client.head().await;
        assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
        let seen = endpoint.rest().await;
        assert!(!seen.contains("0\r\n\r\n"), "the request must not look complete");
    });
}

#[test]
fn what_a_reload_does_not_change_keeps_its_connections() {
    tell(PLAIN, |world| async move {
        let (mut client, mut endpoint) = warmed(&world).await;
        let changed = PLAIN.replace("path_prefix: /", "path_prefix: /a");
        let loaded = tidegate_config::from_yaml(&changed).map_err(|_| ()).unwrap();
        world.solo.reload(&std::sync::Arc::new(loaded.config)).unwrap();
        client.say(GET).await;
        endpoint.head().await;
        endpoint.say(OK).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        client.hear_until("ok").await;
        client.say("GET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 404"));
    });
}

#[test]
fn a_reply_whose_head_has_left_is_never_followed_by_another_head() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n0123456789").await;
        let mut endpoint = world.endpoint().await;
        endpoint.hear_until("\r\n\r\n0123456789").await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n").await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        drop(endpoint);
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_upload_ends_the_call_though_the_reply_has_begun() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc").await;
        let mut endpoint = world.endpoint().await;
        endpoint.hear_until("\r\n\r\nabc").await;
        endpoint.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
        client.hear_until("ok\r\n").await;
        drop(client);
        assert_eq!(endpoint.rest().await, "");
    });
}

#[test]
fn what_holds_for_one_hop_stays_there_in_interim_replies_too() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 103 Early Hints\r\nConnection: X-Mine\r\nX-Mine: 1\r\nLink: </a>\r\n\r\n").await;
        assert_eq!(client.head().await, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    });
}

#[test]
fn a_reply_with_trailers_leaves_its_connection_in_the_pool() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        let mut endpoint = None;
        for _ in 0..2 {
            client.say(GET).await;
            let mut used = match endpoint.take() {
                Some(used) => used,
                None => world.endpoint().await,
            };
            used.head().await;
            used.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n").await;
            client.hear_until("X-T: 1\r\n\r\n").await;
            endpoint = Some(used);
        }
        assert!(!world.was_called().await);
    });
}
