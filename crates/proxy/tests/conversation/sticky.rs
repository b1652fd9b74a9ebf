//! Which endpoint takes which request, and what keeps a client with one.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::world::{Party, World, tell};

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
const FAIL: &str = "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";

fn yaml(endpoints: &str, more: &str) -> String {
    format!(
        "
server: {{ zone: a }}
services: {{ s: {{ endpoints: [{endpoints}], {more} }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s }}]
"
    )
}

const TWO: &str = "{ url: http://one.test:80 }, { url: http://two.test:80 }";

const STICKY: &str = "load_balancing: { sticky_cookie: { name: tg, secret: 0123456789abcdef0123456789abcdef } }";

/// Who takes a request with this field, and the reply.
async fn taken(world: &World, field: &str) -> (String, String) {
    let mut client = world.client();
    client.say(&format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n")).await;
    let (authority, mut endpoint) = world.called().await;
    endpoint.head().await;
    endpoint.say(OK).await;
    (authority, client.answer().await)
}

async fn all(world: &World, requests: usize) -> Vec<String> {
    let mut met = Vec::new();
    for _ in 0..requests {
        met.push(world.exchange(OK).await.0);
    }
    met
}

fn cookie(reply: &str) -> Option<&str> {
    reply.lines().find_map(|line| line.strip_prefix("set-cookie: "))?.split(';').next()
}

#[test]
fn a_cookie_keeps_a_client_with_its_endpoint_until_that_is_drained() {
    tell(&yaml(TWO, STICKY), |world| async move {
        let (first, reply) = taken(&world, "X-A: 1").await;
        let field = format!("Cookie: {}", cookie(&reply).unwrap());
        for _ in 0..4 {
            let (authority, reply) = taken(&world, &field).await;
            assert_eq!((&authority, cookie(&reply)), (&first, None));
        }
        let drained = yaml(TWO, STICKY).replace(&format!("{first}:80 }}"), &format!("{first}:80, weight: 0 }}"));
        world.reload(&drained);
        let (authority, reply) = taken(&world, &field).await;
        assert!(authority != first && cookie(&reply).is_some(), "{reply}");
    });
}

#[test]
fn a_key_stays_with_one_endpoint_and_keys_are_spread() {
    tell(&yaml(TWO, "load_balancing: { consistent_hash: { key: \"header:x-user\" } }"), |world| async move {
        let mut met = BTreeSet::new();
        for user in 0..16 {
            let field = format!("X-User: {user}");
            let (authority, _) = taken(&world, &field).await;
            assert_eq!(taken(&world, &field).await.0, authority);
            met.insert(authority);
        }
        assert_eq!(met.len(), 2);
    });
}

#[test]
fn the_one_with_fewer_requests_is_asked() {
    tell(&yaml(TWO, "load_balancing: least_connections"), |world| async move {
        let held: (Party, (String, Party)) = (world.asks("/").await, world.called().await);
        for authority in all(&world, 6).await {
            assert_ne!(authority, held.1.0);
        }
    });
}

#[test]
fn requests_are_spread_by_weight() {
    let weighted = TWO.replace("one.test:80", "one.test:80, weight: 3");
    tell(&yaml(&weighted, "slow_start: 0s"), |world| async move {
        let met = all(&world, 8).await;
        assert_eq!(met.iter().filter(|met| *met == "one.test").count(), 6, "{met:?}");
    });
}

#[test]
fn the_own_zone_goes_first_and_then_the_others() {
    let zoned = TWO.replace("one.test:80", "one.test:80, zone: a").replace("two.test:80", "two.test:80, zone: b");
    tell(&yaml(&zoned, "retry: { attempts: 2 }"), |world| async move {
        assert!(all(&world, 4).await.iter().all(|met| met == "one.test"));
        world.refuse("one.test");
        assert!(all(&world, 4).await.iter().all(|met| met == "two.test"));
    });
}

#[test]
fn the_next_tier_takes_over_and_gives_back() {
    let tiers = TWO.replace("two.test:80", "two.test:80, priority: 1");
    tell(&yaml(&tiers, "retry: { attempts: 2 }"), |world| async move {
        assert!(all(&world, 4).await.iter().all(|met| met == "one.test"));
        world.refuse("one.test");
        assert!(all(&world, 2).await.iter().all(|met| met == "two.test"));
        world.accept("one.test");
        assert!(all(&world, 2).await.iter().all(|met| met == "one.test"));
    });
}

#[test]
fn a_client_stays_with_its_endpoint_while_another_is_on_trial() {
    tell(&yaml(TWO, &format!("{STICKY}, outlier_detection: {{ consecutive_errors: 2 }}")), |world| async move {
        let (own, reply) = taken(&world, "X-A: 1").await;
        let field = format!("Cookie: {}", cookie(&reply).unwrap());
        let mut failures = 0;
        while failures < 2 {
            let client = world.asks("/").await;
            let (authority, mut endpoint) = world.called().await;
            endpoint.head().await;
            endpoint.say(if authority == own { OK } else { FAIL }).await;
            client.answer().await;
            failures += usize::from(authority != own);
        }
        assert!(all(&world, 4).await.iter().all(|met| *met == own), "the other is ejected");
        world.pass(Duration::from_secs(30)).await;
        world.pass(Duration::from_millis(250)).await;
        assert_eq!(taken(&world, &field).await.0, own);
        assert_ne!(taken(&world, "X-A: 1").await.0, own, "there is a trial for those without a session");
    });
}
