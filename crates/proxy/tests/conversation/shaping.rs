//! Parts of the traffic, mirrors and faults, as clients and services meet them.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tidegate_config::config::{
    Config, Fault, FieldMatch, Key, Mirror, Route, Split, SplitPart, Target, ValueMatch, When,
};

use crate::http2_parties::{Client, whole};
use crate::world::{Party, World, settle, tell_with};

const TWO: &str = "
services: { one: { url: http://one.test:81, retry: off }, two: { url: http://two.test:82 } }
routes: [{ name: r, match: { path_prefix: / }, service: one, rewrite: { strip_prefix: /api }, timeout: 10s }]
";
const ONE: &str = "one.test:81";
const OTHER: &str = "two.test:82";
const GET: &str = "GET /api/a?b=c HTTP/1.1\r\nHost: x.test\r\nX-A: 1\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Changes the only route.
fn route(change: impl FnOnce(&mut Route)) -> impl FnOnce(&mut Config) {
    |config| change(Arc::make_mut(&mut config.routes[0]))
}

fn present(name: &str) -> When {
    let header = FieldMatch { name: name.into(), is: ValueMatch::Present };
    When { headers: vec![header], cookies: Vec::new() }
}

/// A request as an endpoint heard it, answered.
async fn served(mut endpoint: Party) -> (Party, String) {
    let head = endpoint.head().await;
    endpoint.say(OK).await;
    (endpoint, head)
}

// Splits.

fn split(weights: (u32, u32), sticky: Option<Key>) -> impl FnOnce(&mut Config) {
    route(move |route| {
        let part = |service: &str, weight, when| SplitPart { service: service.into(), weight, when };
        let parts = vec![part("one", weights.0, None), part("two", weights.1, Some(present("x-canary")))];
        route.target = Target::Split(Split { parts, sticky });
    })
}

#[test]
fn a_condition_leads_to_a_part_that_has_no_weight() {
    tell_with(TWO, split((1, 0), None), |world| async move {
        let mut client = world.client();
        client.say("GET / HTTP/1.1\r\nHost: x\r\nX-Canary: 1\r\n\r\n").await;
        served(world.endpoint_of(OTHER).await.unwrap()).await;
        client.hear_until("\r\n\r\nok").await;
        for _ in 0..20 {
            let mut client = world.client();
            client.say("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            served(world.endpoint_of(ONE).await.unwrap()).await;
            assert!(!client.rest().await.contains("set-cookie"));
        }
    });
}

#[test]
fn a_client_without_the_cookie_gets_one_and_stays_with_its_part() {
    tell_with(TWO, split((1, 1), Some(Key::Cookie("ab".into()))), |world| async move {
        let mut parts = Vec::new();
        for _ in 0..12 {
            let mut client = world.client();
            client.say(GET).await;
            let (name, endpoint) = match world.endpoint_of(ONE).await {
                Some(endpoint) => (ONE, endpoint),
                None => (OTHER, world.endpoint_of(OTHER).await.unwrap()),
            };
            // A connection that ends is not pooled, so that every call is a new one.
            drop(served(endpoint).await);
            let reply = client.hear_until("\r\n\r\nok").await;
            let cookie = reply.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            assert!(pair.starts_with("ab=") && attributes == "Path=/; HttpOnly; SameSite=Lax", "{cookie}");
            client.say(&format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {pair}\r\n\r\n")).await;
            drop(served(world.endpoint_of(name).await.unwrap()).await);
            assert!(!client.hear_until("\r\n\r\nok").await.contains("set-cookie"));
            parts.push(name);
        }
        assert!(parts.contains(&ONE) && parts.contains(&OTHER), "{parts:?}");
    });
}

#[test]
fn an_error_tells_the_cookie_too_so_that_the_next_try_meets_the_same_part() {
    tell_with(TWO, split((1, 0), Some(Key::Cookie("ab".into()))), |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        drop(world.endpoint_of(ONE).await.unwrap());
        let reply = client.head().await;
        assert!(reply.starts_with("HTTP/1.1 502 ") && reply.contains("\r\nset-cookie: ab="), "{reply}");
    });
}

// Mirrors.

fn mirror(change: impl FnOnce(&mut Mirror)) -> impl FnOnce(&mut Config) {
    let mut mirror = Mirror { service: "two".into(), share: 1.0, max: 100, buffer: 8 };
    change(&mut mirror);
    route(|route| route.mirror = Some(mirror))
}

/// Copies by result: sent, failed, dropped.
fn copies(world: &World) -> [u64; 3] {
    ["sent", "failed", "dropped"].map(|result| {
        let series = format!(r#"tidegate_mirror_total{{route="r",service="two",result="{result}"}}"#);
        world.metric(&series).unwrap().parse().unwrap()
    })
}

/// A request whose original and copy have both arrived.
async fn both(world: &World, client: &mut Party, request: &str) -> (Party, Party) {
    client.say(request).await;
    (world.endpoint_of(ONE).await.unwrap(), world.endpoint_of(OTHER).await.unwrap())
}

#[test]
fn a_copy_is_what_the_service_gets_and_a_mark() {
    tell_with(TWO, mirror(|_| {}), |world| async move {
        let mut client = world.client();
        let (original, copy) = both(&world, &mut client, GET).await;
        let (_copy, copy) = served(copy).await;
        let (_original, original) = served(original).await;
        client.hear_until("\r\n\r\nok").await;
        assert!(original.starts_with("GET /a?b=c HTTP/1.1\r\n") && !original.contains("x-tidegate-mirror"));
        assert_eq!(copy, original.replace("\r\n\r\n", "\r\nx-tidegate-mirror: 1\r\n\r\n"));
        settle().await;
        assert_eq!(copies(&world), [1, 0, 0]);
    });
}

#[test]
fn an_original_neither_waits_for_its_copy_nor_fails_with_it() {
    tell_with(TWO, mirror(|_| {}), |world| async move {
        let mut client = world.client();
        let (original, copy) = both(&world, &mut client, GET).await;
        served(original).await;
        assert!(client.hear_until("\r\n\r\nok").await.starts_with("HTTP/1.1 200 "));
        drop(copy);
        settle().await;
        assert_eq!(copies(&world), [0, 1, 0]);
    });
}

#[test]
fn a_copy_outlives_the_client_of_its_original() {
    tell_with(TWO, mirror(|_| {}), |world| async move {
        let mut client = world.client();
        let (_, copy) = both(&world, &mut client, GET).await;
        drop(client);
        settle().await;
        served(copy).await;
        settle().await;
        assert_eq!(copies(&world), [1, 0, 0]);
    });
}

#[test]
fn a_copy_leaves_when_the_body_of_its_original_is_whole() {
    for (framing, first, last) in
        [("Content-Length: 4", "ab", "cd"), ("Transfer-Encoding: chunked", "2\r\nab\r\n", "2\r\ncd\r\n0\r\n\r\n")]
    {
        tell_with(TWO, mirror(|_| {}), |world| async move {
            let mut client = world.client();
            client.say(&format!("POST /api HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{first}")).await;
            let mut original = world.endpoint_of(ONE).await.unwrap();
            original.hear_until("ab").await;
            assert!(!world.was_called().await);
            client.say(last).await;
            original.hear_until("cd").await;
            let mut copy = world.endpoint_of(OTHER).await.unwrap();
            assert!(copy.hear_until("abcd").await.contains("content-length: 4\r\n"));
            copy.say(OK).await;
            original.say(OK).await;
            client.hear_until("\r\n\r\nok").await;
            settle().await;
            assert_eq!(copies(&world), [1, 0, 0]);
        });
    }
}

#[test]
fn a_body_that_is_longer_than_the_buffer_is_not_copied_and_passes_whole() {
    for (framing, body) in
        [("Content-Length: 9", "123456789"), ("Transfer-Encoding: chunked", "5\r\n12345\r\n4\r\n6789\r\n0\r\n\r\n")]
    {
        tell_with(TWO, mirror(|_| {}), |world| async move {
            let mut client = world.client();
            client.say(&format!("POST /api HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{body}")).await;
            let mut original = world.endpoint_of(ONE).await.unwrap();
            original.hear_until(body).await;
            original.say(OK).await;
            client.hear_until("\r\n\r\nok").await;
            assert!(!world.was_called().await);
            assert_eq!(copies(&world), [0, 0, 1]);
        });
    }
}

#[test]
fn a_request_that_its_client_does_not_finish_is_not_copied() {
    tell_with(TWO, mirror(|_| {}), |world| async move {
        let mut client = world.client();
        client.say("POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab").await;
        world.endpoint_of(ONE).await.unwrap().hear_until("ab").await;
        drop(client);
        assert!(!world.was_called().await);
        assert_eq!(copies(&world), [0, 0, 1]);
    });
}

#[test]
fn copies_beyond_the_limit_are_dropped_and_originals_are_not() {
    tell_with(TWO, mirror(|mirror| mirror.max = 1), |world| async move {
        let (mut first, mut second) = (world.client(), world.client());
        let (_, copy) = both(&world, &mut first, GET).await;
        second.say(GET).await;
        served(world.endpoint_of(ONE).await.unwrap()).await;
        second.hear_until("\r\n\r\nok").await;
        assert!(!world.was_called().await);
        assert_eq!(copies(&world), [0, 0, 1]);
        let _copy = served(copy).await;
        settle().await;
        let mut third = world.client();
        third.say(GET).await;
        settle().await;
        assert_eq!(copies(&world), [1, 0, 1], "there is room again");
    });
}

#[test]
fn a_mirror_that_is_silent_is_given_up() {
    tell_with(TWO, mirror(|_| {}), |world| async move {
        let mut client = world.client();
        let (original, mut copy) = both(&world, &mut client, GET).await;
        served(original).await;
        client.hear_until("\r\n\r\nok").await;
        copy.head().await;
        copy.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").await;
        world.pass(Duration::from_mins(1)).await;
        assert_eq!(copy.now().await, None);
        assert_eq!(copies(&world), [1, 0, 0]);
        let (_, mut copy) = both(&world, &mut world.client(), GET).await;
        copy.head().await;
        world.pass(Duration::from_mins(1)).await;
        assert_eq!(copy.now().await, None);
        assert_eq!(copies(&world), [1, 1, 0]);
    });
}

#[test]
fn an_upgrade_is_not_copied() {
    tell_with(TWO, mirror(|_| {}), |world| async move {
        let mut client = world.client();
        client.say("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        assert!(world.endpoint_of(ONE).await.is_some());
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_share_of_nothing_copies_nothing() {
    tell_with(TWO, mirror(|mirror| mirror.share = 0.0), |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        assert!(world.endpoint_of(ONE).await.is_some());
        assert!(!world.was_called().await);
        assert_eq!(copies(&world), [0, 0, 0]);
    });
}

#[test]
fn a_mark_of_a_client_ends_a_circle_of_mirrors_and_does_not_reach_the_service() {
    tell_with(TWO, mirror(|_| {}), |world| async move {
        let mut client = world.client();
        client.say("GET / HTTP/1.1\r\nHost: x\r\nX-Tidegate-Mirror: 1\r\nX_Tidegate_Mirror: 1\r\n\r\n").await;
        let (_, head) = served(world.endpoint_of(ONE).await.unwrap()).await;
        assert!(!head.to_lowercase().contains("mirror"), "{head}");
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_copy_of_a_stream_is_made_like_any_other() {
    tell_with(TWO, mirror(|_| {}), |world| async move {
        let mut client = Client::connect(&world).await;
        let (reply, mut body) = client.post().await;
        body.send_data("ab".into(), false).unwrap();
        let mut original = world.endpoint_of(ONE).await.unwrap();
        original.hear_until("2\r\nab\r\n").await;
        assert!(!world.was_called().await);
        body.send_data("cd".into(), true).unwrap();
        original.hear_until("0\r\n\r\n").await;
        let mut copy = world.endpoint_of(OTHER).await.unwrap();
        assert!(copy.hear_until("\r\n\r\nabcd").await.contains("content-length: 4\r\n"));
        original.say(OK).await;
        assert_eq!(whole(reply).await, (200, "ok".to_owned()));
        assert_eq!(copies(&world), [0, 0, 0], "nobody waits for the copy");
    });
}

// Faults.

fn fault(change: impl FnOnce(&mut Fault)) -> impl FnOnce(&mut Config) {
    let mut fault = Fault { delay: None, abort: None, share: 1.0, when: None };
    change(&mut fault);
    route(|route| route.fault = Some(fault))
}

/// Faults by kind: delay, abort.
fn faults(world: &World) -> [u64; 2] {
    ["delay", "abort"].map(|kind| {
        world.metric(&format!(r#"tidegate_faults_total{{route="r",kind="{kind}"}}"#)).unwrap().parse().unwrap()
    })
}

#[test]
fn a_delay_passes_before_the_service_is_asked() {
    tell_with(TWO, fault(|fault| fault.delay = Some(Duration::from_secs(2))), |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        world.pass(Duration::from_millis(1999)).await;
        assert!(!world.was_called().await);
        world.pass(Duration::from_millis(1)).await;
        served(world.endpoint_of(ONE).await.unwrap()).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(faults(&world), [1, 0]);
    });
}

#[test]
fn an_abort_comes_after_the_delay_with_the_status_that_was_written() {
    let change = fault(|fault| {
        fault.delay = Some(Duration::from_secs(2));
        fault.abort = Some(StatusCode::IM_A_TEAPOT);
    });
    tell_with(TWO, change, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        assert_eq!(client.now().await.as_deref(), Some(""));
        world.pass(Duration::from_secs(2)).await;
        let reply = client.hear_until("}").await;
        assert!(reply.starts_with("HTTP/1.1 418 ") && reply.contains(r#""code":"fault_injected""#), "{reply}");
        assert!(!world.was_called().await);
        assert_eq!(faults(&world), [1, 1]);
        assert_eq!(world.metric(r#"tidegate_rejections_total{code="fault_injected"}"#).as_deref(), Some("1"));
        client.say(GET).await;
        world.pass(Duration::from_secs(2)).await;
        assert!(client.head().await.starts_with("HTTP/1.1 418 "), "the connection goes on");
    });
}

#[test]
fn an_abort_with_a_status_that_has_no_body_has_none() {
    tell_with(TWO, fault(|fault| fault.abort = Some(StatusCode::NO_CONTENT)), |world| async move {
        let mut client = world.client();
        for _ in 0..2 {
            client.say(GET).await;
            let reply = client.head().await;
            assert!(reply.starts_with("HTTP/1.1 204 ") && !reply.contains("content-length"), "{reply}");
            assert_eq!(client.now().await.as_deref(), Some(""));
        }
    });
}

#[test]
fn a_delay_counts_within_the_timeout_of_its_route() {
    tell_with(TWO, fault(|fault| fault.delay = Some(Duration::from_secs(20))), |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        world.pass(Duration::from_secs(10)).await;
        let reply = client.hear_until("}").await;
        assert!(reply.starts_with("HTTP/1.1 504 ") && reply.contains("request_timeout"), "{reply}");
        assert!(!world.was_called().await);
    });
    tell_with(TWO, fault(|fault| fault.delay = Some(Duration::from_secs(6))), |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        world.pass(Duration::from_secs(6)).await;
        let mut endpoint = world.endpoint_of(ONE).await.unwrap();
        endpoint.head().await;
        world.pass(Duration::from_secs(4)).await;
        assert!(client.head().await.starts_with("HTTP/1.1 504 "));
    });
}

#[test]
fn a_delay_ends_when_its_client_leaves() {
    tell_with(TWO, fault(|fault| fault.delay = Some(Duration::from_secs(2))), |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        settle().await;
        drop(client);
        world.pass(Duration::from_secs(2)).await;
        assert!(!world.was_called().await);
        assert_eq!(world.metric("tidegate_requests_active").as_deref(), Some("0"));
    });
}

#[test]
fn trouble_comes_only_to_those_who_ask_for_it() {
    let change = fault(|fault| {
        fault.abort = Some(StatusCode::SERVICE_UNAVAILABLE);
        fault.when = Some(present("x-chaos"));
    });
    tell_with(TWO, change, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let _endpoint = served(world.endpoint_of(ONE).await.unwrap()).await;
        client.hear_until("\r\n\r\nok").await;
        client.say("GET / HTTP/1.1\r\nHost: x\r\nX-Chaos: please\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 503 "));
        assert_eq!(faults(&world), [0, 1]);
    });
}
