//! Endpoints that fall silent, fail or are drained, and the requests that wait for them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::world::{Party, World, tell};

const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
const FAIL: &str = "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
const TWO: &str = "
services: { s: { endpoints: [{ url: http://one.test:80 }, { url: http://two.test:80 }], outlier_detection: { min_requests: 3 } } }
routes: [{ match: { path_prefix: / }, service: s }]
";
const TICK: Duration = Duration::from_millis(250);

async fn spread(world: &World, requests: usize, failing: &str) -> usize {
    let mut met = 0;
    for _ in 0..requests {
        let client = world.asks("/").await;
        let (authority, mut endpoint) = world.called().await;
        endpoint.head().await;
        endpoint.say(if authority == failing { FAIL } else { OK }).await;
        client.answer().await;
        met += usize::from(authority == failing);
    }
    met
}

#[test]
fn an_endpoint_that_fails_is_taken_out_and_comes_back_on_probation() {
    tell(TWO, |world| async move {
        assert!((3..=5).contains(&spread(&world, 12, "one.test").await));
        assert_eq!(spread(&world, 8, "one.test").await, 0);
        world.pass(Duration::from_secs(30)).await;
        world.pass(TICK).await;
        assert_eq!(spread(&world, 8, "one.test").await, 1, "one trial fails and ejects it again");
        world.pass(Duration::from_mins(1)).await;
        world.pass(TICK).await;
        spread(&world, 12, "nobody").await;
        let met = spread(&world, 4, "one.test").await;
        assert!((1..=3).contains(&met), "{met}");
    });
}

#[test]
fn no_more_are_taken_out_than_allowed() {
    tell(TWO, |world| async move {
        for _ in 0..20 {
            let (_, reply) = world.exchange(FAIL).await;
            assert!(reply.starts_with("HTTP/1.1 500 "), "{reply}");
        }
    });
}

/// Both endpoints get requests; those that went to `one.test` get no answer. Returns their clients.
async fn silence(world: &World, others: usize) -> Vec<(Party, Party)> {
    let mut waiting = Vec::new();
    for _ in 0..others {
        let client = world.asks("/").await;
        let (authority, mut endpoint) = world.called().await;
        endpoint.head().await;
        if authority == "one.test" {
            waiting.push((client, endpoint));
        } else {
            endpoint.say(OK).await;
            client.answer().await;
        }
    }
    waiting
}

#[test]
fn requests_that_wait_for_a_silent_endpoint_are_answered_by_another_within_two_seconds() {
    tell(TWO, |world| async move {
        let mut waiting = silence(&world, 8).await;
        assert!(waiting.len() >= 3, "{}", waiting.len());
        for _ in 0..8 {
            world.pass(TICK).await;
            // Another answers meanwhile.
            while world.was_called().await {
                let (authority, mut endpoint) = world.called().await;
                assert_eq!(authority, "two.test");
                endpoint.head().await;
                endpoint.say(OK).await;
            }
            waiting.extend(silence(&world, 1).await);
        }
        let (client, mut silent) = waiting.remove(0);
        assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(silent.rest().await, "");
    });
}

#[test]
fn an_endpoint_that_is_drained_answers_what_it_has() {
    tell(TWO, |world| async move {
        let waiting = silence(&world, 2).await;
        world.reload(&TWO.replace("one.test:80 }", "one.test:80, weight: 0 }"));
        for _ in 0..12 {
            world.pass(TICK).await;
        }
        assert!(!world.was_called().await);
        for (client, mut endpoint) in waiting {
            endpoint.say(OK).await;
            assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
        }
        for _ in 0..4 {
            assert_eq!(world.exchange(OK).await.0, "two.test");
        }
    });
}

#[test]
fn what_a_reload_keeps_stays_ejected() {
    tell(TWO, |world| async move {
        spread(&world, 12, "one.test").await;
        world.reload(
            &TWO.replace("{ url: http://two.test:80 }", "{ url: http://two.test:80 }, { url: http://three.test:80 }"),
        );
        assert_eq!(spread(&world, 12, "one.test").await, 0);
    });
}

#[test]
fn a_pooled_connection_that_was_closed_says_nothing_about_its_endpoint() {
    let yaml = TWO.replace("min_requests: 3", "consecutive_errors: 2, min_requests: 100");
    tell(&yaml, |world| async move {
        let pooled = OK.replace("Connection: close\r\n", "");
        for _ in 0..6 {
            let mut client = world.asks("/").await;
            let (_, mut endpoint) = world.called().await;
            endpoint.head().await;
            endpoint.say(&pooled).await;
            client.hear_until("ok").await;
            // The next request finds it closed.
            drop(endpoint);
        }
        let met: Vec<String> = [world.exchange(OK).await.0, world.exchange(OK).await.0].into();
        assert_ne!(met[0], met[1]);
    });
}

#[test]
fn an_endpoint_that_cuts_replies_off_is_taken_out() {
    tell(&TWO.replace("min_requests: 3", "consecutive_errors: 2"), |world| async move {
        let mut cut = 0;
        for _ in 0..12 {
            let mut client = world.asks("/").await;
            let (authority, mut endpoint) = world.called().await;
            endpoint.head().await;
            if authority == "one.test" {
                endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").await;
                cut += 1;
            } else {
                endpoint.say(OK).await;
            }
            client.hear_until("ok").await;
            drop(endpoint);
            client.now().await;
        }
        assert_eq!(cut, 2);
    });
}

#[test]
fn an_endpoint_that_is_much_slower_than_the_others_is_taken_out() {
    let yaml = TWO.replace("{ url: http://two.test:80 }", "{ url: http://two.test:80 }, { url: http://three.test:80 }");
    tell(&yaml, |world| async move {
        let mut slow = 0;
        for _ in 0..30 {
            let client = world.asks("/").await;
            let (authority, mut endpoint) = world.called().await;
            endpoint.head().await;
            let slows = authority == "one.test";
            slow += usize::from(slows);
            world.pass(Duration::from_millis(if slows { 300 } else { 10 })).await;
            endpoint.say(OK).await;
            client.answer().await;
        }
        assert!((3..=6).contains(&slow), "{slow}");
    });
}

/// What five requests do to `one.test` that end with the route's timeout of 10 s; who takes requests after that.
async fn after_five_deadlines(world: &World, drips: bool) -> BTreeSet<String> {
    let mut late = 0;
    while late < 5 {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await;
        let (authority, mut endpoint) = world.called().await;
        if authority != "one.test" || !drips {
            client.say("123456789").await;
            endpoint.hear_until("123456789").await;
        }
        if authority != "one.test" {
            endpoint.say(OK).await;
            client.answer().await;
            continue;
        }
        for _ in 0..9 {
            world.pass(Duration::from_secs(1)).await;
            if drips {
                client.say("x").await;
            }
        }
        world.pass(Duration::from_secs(1)).await;
        assert!(client.answer().await.starts_with("HTTP/1.1 504 "));
        late += 1;
    }
    let mut met = BTreeSet::new();
    for _ in 0..4 {
        met.insert(world.exchange(OK).await.0);
    }
    met
}

#[test]
fn a_deadline_is_blamed_on_an_endpoint_that_was_waited_for_and_not_on_a_dripping_client() {
    let yaml = TWO.replace("min_requests: 3", "consecutive_errors: 5, min_requests: 100");
    let yaml = format!(
        "server: {{ limits: {{ min_rate: off }} }}{}",
        yaml.replace("service: s }]", "service: s, timeout: 10s }]")
    );
    for (drips, takers) in [(true, 2), (false, 1)] {
        tell(&yaml, |world| async move {
            assert_eq!(after_five_deadlines(&world, drips).await.len(), takers, "drips: {drips}");
        });
    }
}

#[test]
fn a_request_that_cannot_be_sent_again_waits_for_its_endpoint_even_if_that_is_taken_out() {
    let yaml = TWO.replace("outlier_detection", "retry: { buffer: 3B }, outlier_detection");
    tell(&yaml, |world| async move {
        let mut waiting = Vec::new();
        while waiting.len() < 4 {
            let mut client = world.client();
            client.say("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n").await;
            let (authority, mut endpoint) = world.called().await;
            endpoint.hear_until("0\r\n\r\n").await;
            if authority == "one.test" {
                waiting.push((client, endpoint));
            } else {
                endpoint.say(OK).await;
                client.answer().await;
            }
        }
        for _ in 0..16 {
            world.pass(TICK).await;
            silence(&world, 1).await;
        }
        assert_eq!(spread(&world, 4, "one.test").await, 0, "it is taken out");
        for (client, mut endpoint) in waiting {
            endpoint.say(OK).await;
            assert!(client.answer().await.starts_with("HTTP/1.1 200 "));
        }
    });
}
