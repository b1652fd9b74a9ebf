//! Active checks, and what is said when no endpoint is left.

use std::time::Duration;

use crate::world::{World, tell};

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
const FAIL: &str = "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";

fn yaml(more: &str) -> String {
    format!(
        "
services:
  s:
    endpoints: [{{ url: http://one.test:80 }}, {{ url: http://two.test:80 }}]
    health: {{ interval: 10s }}
    {more}
routes: [{{ match: {{ path_prefix: / }}, service: s }}]
"
    )
}

/// Answers every check that is due: `sick` badly, the others well. Returns how many there were.
async fn checked(world: &World, sick: &[&str]) -> usize {
    let mut checks = 0;
    while world.was_called().await {
        let (authority, mut endpoint) = world.called().await;
        let head = endpoint.head().await;
        assert!(head.starts_with("GET /health "), "{head}");
        endpoint.say(if sick.contains(&&*authority) { FAIL } else { OK }).await;
        checks += 1;
    }
    checks
}

/// Three rounds of checks, which is what makes an endpoint unhealthy.
async fn rounds(world: &World, sick: &[&str]) {
    checked(world, sick).await;
    for _ in 0..60 {
        world.pass(Duration::from_millis(500)).await;
        checked(world, sick).await;
    }
}

#[test]
fn endpoints_are_checked_at_once_and_three_failures_take_one_out_until_it_is_well() {
    tell(&yaml(""), |world| async move {
        assert_eq!(checked(&world, &["one.test"]).await, 2);
        rounds(&world, &["one.test"]).await;
        for _ in 0..4 {
            assert_eq!(world.exchange(OK).await.0, "two.test");
        }
        for _ in 0..3 {
            rounds(&world, &[]).await;
        }
        let mut met = Vec::new();
        for _ in 0..4 {
            met.push(world.exchange(OK).await.0);
        }
        assert!(met.contains(&"one.test".to_owned()), "{met:?}");
    });
}

#[test]
fn a_service_without_healthy_endpoints_says_when_to_come_back() {
    tell(&yaml(""), |world| async move {
        rounds(&world, &["one.test", "two.test"]).await;
        let reply = world.asks("/").await.answer().await;
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("no_healthy_endpoints"), "{reply}");
        assert!(reply.contains("retry-after: "), "{reply}");
    });
}

#[test]
fn below_the_panic_threshold_sick_endpoints_are_used_too() {
    tell(&yaml("panic_threshold: 50%"), |world| async move {
        rounds(&world, &["one.test", "two.test"]).await;
        assert!(world.exchange(OK).await.1.starts_with("HTTP/1.1 200 "));
    });
}
