//! What is tried again, where, when, and how often.

use std::time::Duration;

use crate::world::{Party, World, settle, tell};

const ONE: &str = "one.test";
const TWO: &str = "two.test";
const GET: &str = "GET / HTTP/1.1\r\nHost: x.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: x.test\r\nContent-Length: 2\r\n\r\nhi";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CLOSING: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
/// More than the longest wait between two tries.
const BACKOFF: Duration = Duration::from_millis(300);

/// Two endpoints, with these further lines of the service and of the route.
fn two(service: &str, route: &str) -> String {
    format!(
        "
services:
  s: {{ endpoints: [{{ url: http://one.test:80 }}, {{ url: http://two.test:80 }}], {service} }}
routes: [{{ match: {{ path_prefix: / }}, service: s, {route} }}]
"
    )
}

/// Who else than `first` there is.
fn other(first: &str) -> &'static str {
    if first == ONE { TWO } else { ONE }
}

/// A client that asked, and the endpoint that heard it.
async fn asked(world: &World, request: &str) -> (Party, String, Party) {
    let mut client = world.client();
    client.say(request).await;
    let (authority, mut endpoint) = world.called().await;
    endpoint.head().await;
    (client, authority, endpoint)
}

#[test]
fn a_refused_connection_leads_to_the_next_endpoint_at_once_whatever_the_method() {
    for request in [GET, POST] {
        tell(&two("", ""), |world| async move {
            world.refuse(ONE);
            for _ in 0..2 {
                let (client, authority, mut endpoint) = asked(&world, request).await;
                assert_eq!(authority, TWO);
                endpoint.say(OK).await;
                drop(endpoint);
                assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
            }
            assert_ne!(world.metric("tidegate_passed_over_total{service=\"s\"}").as_deref(), Some("0"));
            assert_eq!(world.metric("tidegate_retries_total{service=\"s\"}").as_deref(), Some("0"));
        });
    }
}

#[test]
fn a_get_that_was_reset_is_tried_elsewhere_and_a_post_is_not() {
    tell(&two("", ""), |world| async move {
        let (client, first, endpoint) = asked(&world, GET).await;
        drop(endpoint);
        world.pass(BACKOFF).await;
        let (second, mut endpoint) = world.called().await;
        assert_eq!(second, other(&first));
        endpoint.head().await;
        endpoint.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
        let (client, _, mut endpoint) = asked(&world, POST).await;
        endpoint.hear_until("hi").await;
        drop(endpoint);
        world.pass(BACKOFF).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 502 "));
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_wait_lies_between_tries_and_the_last_reply_is_passed_on_as_it_is() {
    tell(&two("retry: { backoff: { base: 200ms } }", ""), |world| async move {
        let (mut client, first, mut endpoint) = asked(&world, GET).await;
        endpoint.say(BUSY).await;
        settle().await;
        assert!(!world.was_called().await, "nobody waited");
        world.pass(BACKOFF).await;
        let (second, mut endpoint) = world.called().await;
        assert_eq!(second, other(&first));
        endpoint.head().await;
        endpoint.say("HTTP/1.1 503 Service Unavailable\r\nX-Mine: 1\r\nContent-Length: 4\r\n\r\nmine").await;
        let reply = client.hear_until("mine").await;
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.to_lowercase().contains("x-mine: 1"), "{reply}");
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_service_that_says_when_to_come_back_is_asked_then() {
    tell(&two("", ""), |world| async move {
        let (_client, _, mut endpoint) = asked(&world, GET).await;
        endpoint.say("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n").await;
        world.pass(Duration::from_millis(999)).await;
        assert!(!world.was_called().await);
        world.pass(BACKOFF).await;
        assert!(world.was_called().await);
    });
}

#[test]
fn tries_go_round_before_an_endpoint_is_asked_again() {
    tell(&two("retry: { attempts: 3 }", ""), |world| async move {
        let _client = world.asks("/").await;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (authority, mut endpoint) = world.called().await;
            endpoint.head().await;
            drop(endpoint);
            seen.push(authority);
            world.pass(BACKOFF).await;
        }
        assert_ne!(seen[0], seen[1]);
    });
}

/// Answers whoever calls now, and tells how many that were.
async fn all_are_busy(world: &World) -> u32 {
    let mut tries = 0;
    while world.was_called().await {
        let (_, mut endpoint) = world.called().await;
        endpoint.head().await;
        endpoint.say(BUSY).await;
        tries += 1;
    }
    tries
}

#[test]
fn retries_of_an_outage_stop_at_the_budget() {
    tell(&two("retry: { budget_floor: 1/s }, outlier_detection: off", ""), |world| async move {
        let mut tries = 0;
        for _ in 0..50 {
            let client = world.asks("/").await;
            for _ in 0..3 {
                tries += all_are_busy(&world).await;
                world.pass(Duration::from_millis(25)).await;
            }
            assert!(client.answer().await.starts_with("HTTP/1.1 503 "));
        }
        let retries: u32 = world.metric("tidegate_retries_total{service=\"s\"}").unwrap().parse().unwrap();
        let refused: u32 =
            world.metric("tidegate_retry_budget_exhausted_total{service=\"s\"}").unwrap().parse().unwrap();
        assert_eq!((tries, retries + refused), (50 + retries, 50));
        assert!((8..=13).contains(&retries), "{retries}");
    });
}

const PUT: &str = "PUT / HTTP/1.1\r\nHost: x.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n";

#[test]
fn a_streamed_body_within_the_buffer_is_sent_again_from_its_start() {
    tell(&two("", ""), |world| async move {
        let (mut client, first, mut endpoint) = asked(&world, PUT).await;
        endpoint.hear_until("abcd\r\n").await;
        drop(endpoint);
        world.pass(BACKOFF).await;
        let (second, mut endpoint) = world.called().await;
        assert_eq!(second, other(&first));
        endpoint.hear_until("4\r\nabcd\r\n").await;
        client.say("2\r\nef\r\n0\r\n\r\n").await;
        endpoint.hear_until("2\r\nef\r\n0\r\n\r\n").await;
        endpoint.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_streamed_body_beyond_the_buffer_is_sent_once() {
    tell(&two("retry: { buffer: 3B }", ""), |world| async move {
        let (client, _, mut endpoint) = asked(&world, PUT).await;
        endpoint.hear_until("abcd\r\n").await;
        drop(endpoint);
        world.pass(BACKOFF).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 502 "));
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_try_that_takes_too_long_is_given_up_for_another() {
    tell(&two("retry: { per_try_timeout: 1s }", ""), |world| async move {
        let (client, first, mut endpoint) = asked(&world, GET).await;
        world.pass(Duration::from_secs(1)).await;
        world.pass(BACKOFF).await;
        assert_eq!(endpoint.rest().await, "");
        let (second, mut endpoint) = world.called().await;
        assert_eq!(second, other(&first));
        endpoint.head().await;
        // The last try may use all the time that is left.
        world.pass(Duration::from_secs(5)).await;
        endpoint.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_post_and_a_slow_upload_have_all_the_time_of_the_route() {
    tell(&two("", "timeout: 20s"), |world| async move {
        let (client, _, mut endpoint) = asked(&world, POST).await;
        world.pass(Duration::from_secs(19)).await;
        assert!(!world.was_called().await);
        world.pass(Duration::from_secs(1)).await;
        let reply = client.answer().await;
        assert!(reply.starts_with("HTTP/1.1 504 ") && reply.contains("request_timeout"), "{reply}");
        endpoint.rest().await;
    });
    let patient = format!("server: {{ limits: {{ min_rate: off }} }}{}", two("", "timeout: 20s"));
    tell(&patient, |world| async move {
        let (mut client, _, mut endpoint) = asked(&world, PUT).await;
        world.pass(Duration::from_secs(6)).await;
        client.say("0\r\n\r\n").await;
        endpoint.hear_until("0\r\n\r\n").await;
        endpoint.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_route_may_have_no_retry_or_its_own() {
    tell(&two("", "retry: off"), |world| async move {
        let (client, _, mut endpoint) = asked(&world, GET).await;
        endpoint.say(BUSY).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 503 "));
        assert!(!world.was_called().await);
    });
    tell(&two("", "retry: { on: [500] }"), |world| async move {
        let (_client, _, mut endpoint) = asked(&world, GET).await;
        endpoint.say("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n").await;
        world.pass(BACKOFF).await;
        assert!(world.was_called().await);
    });
}

#[test]
fn a_drained_endpoint_is_not_asked_again_when_the_only_other_one_refuses() {
    let yaml = two("", "").replace("one.test:80 }", "one.test:80, weight: 0 }");
    tell(&yaml, |world| async move {
        world.refuse(TWO);
        let client = world.asks("/").await;
        world.pass(BACKOFF).await;
        world.pass(BACKOFF).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 502 "));
        assert_eq!(world.metric("tidegate_passed_over_total{service=\"s\"}").as_deref(), Some("0"));
    });
}

#[test]
fn the_service_is_told_how_long_a_try_may_take() {
    tell(&two("deadline_header: x-left, retry: { per_try_timeout: 2s }", "timeout: 3s"), |world| async move {
        let _client = world.asks("/").await;
        let (_, mut endpoint) = world.called().await;
        let head = endpoint.head().await;
        assert!(head.contains("x-left: 2000\r\n"), "{head}");
    });
}

#[test]
fn connections_of_a_service_that_grew_are_kept() {
    let (small, grown) =
        (two("", ""), two("", "").replace("two.test:80 }", "two.test:80 }, { url: http://three.test:80 }"));
    tell(&small, |world| async move {
        let mut held = Vec::new();
        for _ in 0..2 {
            let (mut client, _, mut endpoint) = asked(&world, GET).await;
            endpoint.say(OK).await;
            client.hear_until("ok").await;
            held.push(endpoint);
        }
        world.reload(&grown);
        for _ in 0..3 {
            let _client = world.asks("/").await;
            settle().await;
        }
        assert!(world.endpoint_of("three.test").await.is_some());
        assert!(!world.was_called().await);
        for endpoint in &mut held {
            endpoint.head().await;
        }
    });
}

#[test]
fn a_retry_that_does_not_cover_silence_never_cuts_a_request_short() {
    tell(&two("retry: { on: [connect], per_try_timeout: 1s }", ""), |world| async move {
        let (client, _, mut endpoint) = asked(&world, GET).await;
        world.pass(Duration::from_secs(9)).await;
        endpoint.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_full_pool_leads_to_the_next_endpoint_after_the_connect_timeout() {
    tell(&two("pool: { max_connections: 1 }, timeouts: { connect: 1s }", ""), |world| async move {
        let (_hanging, first, _endpoint) = asked(&world, GET).await;
        assert_eq!(world.exchange(CLOSING).await.0, other(&first));
        let client = world.asks("/").await;
        assert!(!world.was_called().await, "it is the full one's turn");
        world.pass(Duration::from_secs(1)).await;
        let (second, mut endpoint) = world.called().await;
        assert_eq!(second, other(&first));
        endpoint.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn who_has_waited_for_every_full_pool_does_not_wait_again() {
    tell(&two("pool: { max_connections: 1 }, timeouts: { connect: 1s }", ""), |world| async move {
        let (_one, first, _first_endpoint) = asked(&world, GET).await;
        let (_two, second, _second_endpoint) = asked(&world, GET).await;
        assert_eq!(second, other(&first));
        let client = world.asks("/").await;
        // One after the other: nobody else is there then.
        for _ in 0..2 {
            world.pass(Duration::from_secs(1)).await;
        }
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("upstream_pool_exhausted"), "{answer}");
        assert_eq!(world.metric("tidegate_retries_total{service=\"s\"}").as_deref(), Some("0"));
    });
}

#[test]
fn a_body_that_outgrew_the_buffer_has_more_time_than_one_try() {
    tell(&two("retry: { buffer: 3B, per_try_timeout: 1s }", ""), |world| async move {
        let (mut client, _, mut endpoint) = asked(&world, PUT).await;
        client.say("0\r\n\r\n").await;
        endpoint.hear_until("0\r\n\r\n").await;
        world.pass(Duration::from_secs(9)).await;
        endpoint.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
    });
}
