//! A second try beside a slow first one.

use std::time::Duration;

use crate::world::tell;

const HEDGED: &str = "
services: { s: { endpoints: [{ url: http://one.test:80 }, { url: http://two.test:80 }], hedge: { after: 100ms } } }
routes: [{ match: { path_prefix: / }, service: s }]
";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const AFTER: Duration = Duration::from_millis(100);

#[test]
fn the_second_endpoint_answers_and_the_first_is_let_go() {
    tell(HEDGED, |world| async move {
        let client = world.asks("/").await;
        let (first, mut slow) = world.called().await;
        slow.head().await;
        world.pass(AFTER.saturating_sub(Duration::from_millis(1))).await;
        assert!(!world.was_called().await);
        world.pass(Duration::from_millis(1)).await;
        let (second, mut quick) = world.called().await;
        assert_ne!(first, second);
        quick.head().await;
        quick.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(slow.rest().await, "");
        assert_eq!(world.metric("tidegate_hedges_total{service=\"s\"}").as_deref(), Some("1"));
    });
}

#[test]
fn the_first_may_still_win() {
    tell(HEDGED, |world| async move {
        let client = world.asks("/").await;
        let (_, mut first) = world.called().await;
        first.head().await;
        world.pass(AFTER).await;
        let (_, mut second) = world.called().await;
        first.say(OK).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
        second.rest().await;
    });
}

#[test]
fn a_post_is_sent_once() {
    tell(HEDGED, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await;
        let (_, mut endpoint) = world.called().await;
        endpoint.hear_until("hi").await;
        world.pass(Duration::from_secs(2)).await;
        assert!(!world.was_called().await);
    });
}

#[test]
fn second_tries_stay_within_the_budget() {
    tell(&HEDGED.replace("hedge:", "retry: { budget_floor: 1/s, budget: 1% }, hedge:"), |world| async move {
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push((world.asks("/").await, world.called().await));
        }
        world.pass(AFTER).await;
        let _hedge = world.called().await;
        assert!(!world.was_called().await);
        let refused = world.metric("tidegate_retry_budget_exhausted_total{service=\"s\"}");
        assert_eq!(refused.as_deref(), Some("4"));
    });
}
