//! Circuit breakers, as clients meet them.

use std::time::Duration;

use crate::world::{World, tell};

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
const FAIL: &str = "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";

fn yaml(breaker: &str) -> String {
    format!(
        "
services: {{ s: {{ url: http://one.test:80, retry: off, outlier_detection: off, circuit_breaker: {breaker} }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s }}]
"
    )
}

async fn refused(world: &World) {
    let reply = world.asks("/").await.answer().await;
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("circuit_open"), "{reply}");
    assert!(reply.contains("retry-after: "), "{reply}");
    assert!(!world.was_called().await);
}

#[test]
fn it_opens_at_three_fifths_of_failures_lets_three_try_and_closes() {
    for breaker in ["{}", "{ per: service }"] {
        tell(&yaml(breaker), |world| async move {
            for reply in [OK, OK, FAIL, FAIL, FAIL] {
                world.exchange(reply).await;
            }
            refused(&world).await;
            world.pass(Duration::from_millis(29_900)).await;
            refused(&world).await;
            world.pass(Duration::from_millis(300)).await;
            let mut trials = Vec::new();
            for _ in 0..3 {
                let client = world.asks("/").await;
                let mut endpoint = world.endpoint().await;
                endpoint.head().await;
                trials.push((client, endpoint));
            }
            refused(&world).await;
            for (client, mut endpoint) in trials {
                endpoint.say(OK).await;
                assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
            }
            world.exchange(OK).await;
        });
    }
}

#[test]
fn two_failures_are_too_few_and_a_failed_trial_opens_it_again() {
    tell(&yaml("{}"), |world| async move {
        world.exchange(FAIL).await;
        world.exchange(FAIL).await;
        world.exchange(FAIL).await;
        refused(&world).await;
        world.pass(Duration::from_millis(30_200)).await;
        world.exchange(FAIL).await;
        refused(&world).await;
    });
}

#[test]
fn failures_in_a_row_open_it_and_a_success_ends_the_row() {
    tell(&yaml("{ consecutive_failures: 3, open: 10s }"), |world| async move {
        for reply in [FAIL, FAIL, OK, FAIL, FAIL, FAIL] {
            world.exchange(reply).await;
        }
        refused(&world).await;
        world.pass(Duration::from_millis(10_200)).await;
        world.exchange(OK).await;
    });
}

#[test]
fn what_was_asked_before_it_opened_decides_nothing_afterwards() {
    tell(&yaml("{}"), |world| async move {
        let late = world.asks("/").await;
        let mut slow = world.endpoint().await;
        slow.head().await;
        for _ in 0..3 {
            world.exchange(FAIL).await;
        }
        world.pass(Duration::from_secs(29)).await;
        world.pass(Duration::from_millis(900)).await;
        slow.say(OK).await;
        late.answer().await;
        refused(&world).await;
    });
}

#[test]
fn a_reply_that_is_cut_off_is_a_failure() {
    tell(&yaml("{}"), |world| async move {
        for _ in 0..3 {
            let mut client = world.asks("/").await;
            let mut endpoint = world.endpoint().await;
            endpoint.head().await;
            endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await;
            drop(endpoint);
            client.rest().await;
        }
        refused(&world).await;
    });
}
