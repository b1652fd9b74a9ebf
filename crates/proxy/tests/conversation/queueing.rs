//! How many requests a service takes at once, and who waits.

use std::time::Duration;

use crate::world::{Party, World, tell};

const LIMITED: &str = "
services: { s: { url: http://one.test:80, concurrency: { max: 1, queue: 1, queue_timeout: 2s } } }
routes: [{ match: { path_prefix: / }, service: s }]
";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn busy(world: &World) -> (Party, Party) {
    let client = world.asks("/1").await;
    let mut endpoint = world.endpoint().await;
    endpoint.head().await;
    (client, endpoint)
}

#[test]
fn the_second_waits_for_the_first_and_the_third_is_refused() {
    tell(LIMITED, |world| async move {
        let (first, mut endpoint) = busy(&world).await;
        let second = world.asks("/2").await;
        assert!(!world.was_called().await);
        let reply = world.asks("/3").await.answer().await;
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("concurrency_limit"), "{reply}");
        assert!(reply.contains("retry-after: 1\r\n"), "{reply}");
        endpoint.say(OK).await;
        assert!(first.answer().await.starts_with("HTTP/1.1 200 "));
        assert!(endpoint.head().await.starts_with("GET /2 "));
        endpoint.say(OK).await;
        assert!(second.answer().await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn nobody_waits_for_longer_than_the_queue_allows() {
    tell(LIMITED, |world| async move {
        let (_first, _endpoint) = busy(&world).await;
        let mut second = world.asks("/2").await;
        world.pass(Duration::from_millis(1999)).await;
        assert_eq!(second.now().await.as_deref(), Some(""));
        world.pass(Duration::from_millis(1)).await;
        assert!(second.answer().await.contains("concurrency_limit"));
    });
}

#[test]
fn a_place_is_free_when_its_client_leaves_and_not_before_the_body_has_ended() {
    tell(LIMITED, |world| async move {
        let (mut first, mut endpoint) = busy(&world).await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await;
        first.hear_until("ok").await;
        let _second = world.asks("/2").await;
        assert!(!world.was_called().await);
        drop(first);
        assert!(world.endpoint().await.head().await.starts_with("GET /2 "));
    });
}

#[test]
fn one_who_leaves_the_queue_makes_room_in_it() {
    tell(LIMITED, |world| async move {
        let (first, endpoint) = busy(&world).await;
        let second = world.asks("/2").await;
        assert!(!world.was_called().await);
        drop(second);
        let _third = world.asks("/3").await;
        assert!(!world.was_called().await);
        drop((first, endpoint));
        assert!(world.endpoint().await.head().await.starts_with("GET /3 "));
    });
}
