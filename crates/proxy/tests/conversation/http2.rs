//! The same states over HTTP/2, on both sides: what ends a stream, what ends its connection, and what neither may do to others.

use std::time::Duration;
use tidegate_core::policy::Shared;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};

use crate::http2_parties::{Client, Endpoint, Frames, answer, split, text, whole};
use crate::world::{PLAIN, World, settle, tell};

const HTTP_2: &str = "
services: { one: { url: http://one.test:80, protocol: http2, retry: off } }
routes: [{ match: { path_prefix: / }, service: one, timeout: off }]
";

const PONG: &str = "routes: [{ match: { path_prefix: / }, respond: { status: 200, body: pong } }]";

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// `GET http://a/`, from HPACK's static table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn grpc() -> Request<()> {
    Request::post("http://x.test/s/m")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

#[test]
fn streams_share_connections_on_both_sides() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let first = client.get().await;
        let endpoint = Endpoint::accept(&world).await;
        let (_, mut slow) = endpoint.asked().await;
        let second = client.get().await;
        let (_, mut quick) = endpoint.asked().await;
        answer(&mut quick, "second");
        assert_eq!(whole(second).await, (200, "second".to_owned()));
        answer(&mut slow, "first");
        assert_eq!(whole(first).await, (200, "first".to_owned()));
        assert!(!world.was_called().await);
    });
}

#[test]
fn a_connection_without_streams_is_told_to_leave_after_the_idle_timeout_and_ends() {
    tell(PONG, |world| async move {
        let mut client = Client::connect(&world).await;
        assert_eq!(whole(client.get().await).await.1, "pong");
        world.pass(seconds(59)).await;
        assert!(!client.was_told_to_leave().await);
        world.pass(seconds(1)).await;
        assert!(client.was_told_to_leave().await);
        assert!(client.has_ended().await);
        assert!(world.metrics.render(&[], &Shared::default()).contains("reason=\"idle\"} 1"));
    });
}

#[test]
fn a_client_that_does_not_leave_when_told_to_is_cut_off() {
    tell(PONG, |world| async move {
        let mut frames = Frames::connect(&world).await;
        frames.heard().await;
        world.pass(seconds(60)).await;
        let (heard, ended) = frames.heard().await;
        assert!(heard.iter().any(|(kind, ..)| *kind == GOAWAY) && !ended, "{heard:?}");
        world.pass(seconds(2)).await;
        assert!(frames.heard().await.1);
    });
}

#[test]
fn a_header_block_that_does_not_end_in_time_ends_the_connection() {
    tell(PONG, |world| async move {
        let mut frames = Frames::connect(&world).await;
        frames.say(HEADERS, 0x1, 1, GET).await;
        for _ in 0..3 {
            world.pass(seconds(3)).await;
            frames.say(CONTINUATION, 0, 1, b"").await;
        }
        assert!(!frames.heard().await.1);
        world.pass(seconds(1)).await;
        assert!(frames.heard().await.1);
        assert!(world.metrics.render(&[], &Shared::default()).contains("reason=\"header\"} 1"));
    });
}

#[test]
fn a_body_that_stalls_ends_its_request_and_no_other() {
    let yaml = "
server: { limits: { min_rate: off } }
services: { one: { url: http://one.test:80, retry: off } }
routes:
  - { match: { path_prefix: / }, service: one, timeout: off }
  - { match: { path: /ping }, respond: { status: 200, body: pong } }
";
    tell(yaml, |world| async move {
        let mut client = Client::connect(&world).await;
        let (reply, mut upload) = client.post().await;
        upload.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let mut endpoint = world.endpoint().await;
        endpoint.hear_until("abc\r\n").await;
        world.pass(seconds(29)).await;
        let (ping, _) = client.ask(Request::get("http://x/ping").body(()).unwrap(), true).await;
        assert_eq!(whole(ping).await.1, "pong");
        world.pass(seconds(1)).await;
        assert_eq!(reply.await.unwrap().status(), 408);
        assert!(!endpoint.rest().await.contains("0\r\n\r\n"), "the request must not look complete");
        let (ping, _) = client.ask(Request::get("http://x/ping").body(()).unwrap(), true).await;
        assert_eq!(whole(ping).await.1, "pong");
    });
}

#[test]
fn a_client_that_takes_nothing_of_its_reply_loses_the_stream() {
    tell(PLAIN, |world| async move {
        let mut client = Client::with_window(&world, 0).await;
        let reply = client.get().await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        let mut body = reply.await.unwrap().into_body();
        world.pass(seconds(29)).await;
        assert!(!client.has_ended().await);
        world.pass(seconds(1)).await;
        assert_eq!(text(&mut body).await.unwrap_err().reason(), Some(Reason::CANCEL));
        assert!(!client.has_ended().await);
    });
}

#[test]
fn a_stream_of_grpc_may_be_silent_for_longer_than_every_short_timeout() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let (reply, mut upload) = client.ask(grpc(), false).await;
        let endpoint = Endpoint::accept(&world).await;
        let (request, mut respond) = endpoint.asked().await;
        let mut received = request.into_body();
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut sent = respond.send_response(head, false).unwrap();
        let mut reply = reply.await.unwrap().into_body();
        for part in ["one", "two"] {
            world.pass(seconds(3000)).await;
            upload.send_data(Bytes::from_static(part.as_bytes()), false).unwrap();
            assert_eq!(received.data().await.unwrap().unwrap(), part);
            sent.send_data(Bytes::from_static(part.as_bytes()), false).unwrap();
            assert_eq!(reply.data().await.unwrap().unwrap(), part);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        sent.send_trailers(trailers.clone()).unwrap();
        assert!(reply.data().await.is_none());
        assert_eq!(reply.trailers().await.unwrap(), Some(trailers));
    });
}

#[test]
fn what_nobody_takes_is_held_back_at_the_client() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let (_reply, mut upload) = client.post().await;
        let endpoint = Endpoint::accept(&world).await;
        // The endpoint reads nothing of it: its window of 64 KiB fills, then what the gateway keeps, then the client's.
        let (_request, _respond) = endpoint.asked().await;
        let mut sent = 0;
        loop {
            upload.reserve_capacity(16 * 1024);
            settle().await;
            let room = upload.capacity();
            if room == 0 {
                break;
            }
            upload.send_data(Bytes::from(vec![b'x'; room]), false).unwrap();
            sent += room;
            assert!(sent < 1024 * 1024, "nobody holds it back");
        }
        assert!(sent >= 64 * 1024, "{sent}");
    });
}

#[test]
fn draining_lets_streams_end_and_takes_no_more() {
    tell(PLAIN, |world| async move {
        let mut client = Client::connect(&world).await;
        let reply = client.get().await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        world.solo.drain();
        assert!(client.was_told_to_leave().await);
        assert!(!client.has_ended().await);
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await;
        assert_eq!(whole(reply).await.1, "last");
        assert!(client.has_ended().await);
    });
}

/// A client that asks for twenty replies of 30,000 bytes, has room for all of them, and reads nothing: they are more than a connection
/// takes, though each is little enough to wait inside `h2`.
async fn asks_for_much(world: &World) -> Frames {
    let mut frames = Frames::connect(world).await;
    frames.say(SETTINGS, 0, 0, &[0, 4, 0, 0x10, 0, 0]).await;
    frames.say(WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0]).await;
    for stream in 0..20 {
        frames.say(HEADERS, 0x5, 2 * stream + 1, GET).await;
    }
    settle().await;
    frames
}

fn much() -> String {
    format!("routes: [{{ match: {{ path_prefix: / }}, respond: {{ status: 200, body: {} }} }}]", "x".repeat(30_000))
}

#[test]
fn replies_that_wait_to_be_taken_outlive_the_drain_and_idle_timeouts() {
    for drains in [true, false] {
        tell(&much(), |world| async move {
            let mut frames = asks_for_much(&world).await;
            if drains {
                world.solo.drain();
            }
            let mut bytes = Vec::new();
            for _ in 0..4 {
                world.pass(seconds(20)).await;
                bytes.extend(frames.bytes().await.0);
            }
            let bodies: usize = split(&bytes).iter().filter(|(kind, ..)| *kind == 0).map(|frame| frame.2.len()).sum();
            assert_eq!(bodies, 20 * 30_000, "drains: {drains}");
        });
    }
}

#[test]
fn a_client_that_takes_nothing_of_its_last_replies_is_let_go() {
    tell(&much(), |world| async move {
        let mut frames = asks_for_much(&world).await;
        world.pass(seconds(30)).await;
        while !frames.bytes().await.1 {
            world.pass(seconds(1)).await;
        }
        assert!(world.metrics.render(&[], &Shared::default()).contains("reason=\"write_idle\"} 1"));
    });
}

#[test]
fn a_stream_that_the_client_gives_up_is_given_up_upstream() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let reply = client.get().await;
        let endpoint = Endpoint::accept(&world).await;
        let (_request, mut respond) = endpoint.asked().await;
        drop(reply);
        let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
        assert_eq!(reason, Reason::CANCEL);
        // The connection is as good as before.
        let again = client.get().await;
        answer(&mut endpoint.asked().await.1, "fine");
        assert_eq!(whole(again).await.1, "fine");
        assert!(!world.was_called().await);
    });
}

#[test]
fn requests_given_up_as_soon_as_they_are_made_end_the_connection_at_last() {
    tell(PLAIN, |world| async move {
        let mut client = Client::connect(&world).await;
        let mut given_up = 0;
        while !client.was_told_to_leave().await {
            drop(client.get().await);
            given_up += 1;
            assert!(given_up < 1000, "there is no end to it");
        }
        assert!(given_up >= 200, "{given_up} is a page that somebody left");
        assert!(world.metrics.render(&[], &Shared::default()).contains("reason=\"flood\"} 1"));
    });
}

#[test]
fn an_endpoint_that_leaves_finishes_what_it_has_and_is_asked_no_more() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let first = client.get().await;
        let leaving = Endpoint::accept(&world).await;
        let (_, mut respond) = leaving.asked().await;
        leaving.leave().await;
        let second = client.get().await;
        let next = Endpoint::accept(&world).await;
        answer(&mut next.asked().await.1, "second");
        assert_eq!(whole(second).await.1, "second");
        assert!(!leaving.was_asked().await);
        answer(&mut respond, "first");
        assert_eq!(whole(first).await.1, "first");
        assert!(leaving.has_ended().await);
    });
}

#[test]
fn a_stream_that_the_endpoint_refuses_is_tried_once_more() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let first = client.get().await;
        let endpoint = Endpoint::accept(&world).await;
        answer(&mut endpoint.asked().await.1, "first");
        whole(first).await;
        let (reply, mut upload) = client.post().await;
        endpoint.asked().await.1.send_reset(Reason::REFUSED_STREAM);
        let (request, mut respond) = endpoint.asked().await;
        upload.send_data(Bytes::from_static(b"body"), true).unwrap();
        assert_eq!(text(&mut request.into_body()).await.unwrap(), "body");
        answer(&mut respond, "second");
        assert_eq!(whole(reply).await, (200, "second".to_owned()));
        let reply = client.get().await;
        for _ in 0..2 {
            endpoint.asked().await.1.send_reset(Reason::REFUSED_STREAM);
        }
        assert_eq!(whole(reply).await.0, 502);
    });
}

#[test]
fn a_stream_that_is_refused_after_its_body_was_taken_is_tried_once_more_if_bodies_are_kept() {
    let keeps = HTTP_2.replace(", retry: off", "");
    for (yaml, again) in [(&keeps[..], true), (HTTP_2, false)] {
        tell(yaml, |world| async move {
            let mut client = Client::connect(&world).await;
            let first = client.get().await;
            let endpoint = Endpoint::accept(&world).await;
            answer(&mut endpoint.asked().await.1, "first");
            whole(first).await;
            let (reply, mut upload) = client.post().await;
            upload.send_data(Bytes::from_static(b"body"), true).unwrap();
            settle().await;
            endpoint.asked().await.1.send_reset(Reason::REFUSED_STREAM);
            assert_eq!(endpoint.was_asked().await, again);
            if again {
                let (request, mut respond) = endpoint.asked().await;
                assert_eq!(text(&mut request.into_body()).await.unwrap(), "body");
                answer(&mut respond, "second");
                assert_eq!(whole(reply).await, (200, "second".to_owned()));
            } else {
                assert_eq!(whole(reply).await.0, 502);
            }
        });
    }
}

#[test]
fn an_endpoint_that_falls_silent_is_given_up_and_its_connection_is_not_used_again() {
    let yaml = "
services: { one: { url: http://one.test:80, protocol: http2, retry: off, timeouts: { read: 5s } } }
routes: [{ match: { path_prefix: / }, service: one }]
";
    tell(yaml, |world| async move {
        let mut client = Client::connect(&world).await;
        let reply = client.get().await;
        let silent = Endpoint::accept(&world).await;
        let _unanswered = silent.asked().await;
        world.pass(seconds(5)).await;
        assert_eq!(reply.await.unwrap().status(), 504);
        let again = client.get().await;
        answer(&mut Endpoint::accept(&world).await.asked().await.1, "fine");
        assert_eq!(whole(again).await.1, "fine");
    });
}

#[test]
fn a_reply_that_an_endpoint_resets_never_looks_whole() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        tell(HTTP_2, |world| async move {
            let mut client = Client::connect(&world).await;
            let reply = client.get().await;
            let endpoint = Endpoint::accept(&world).await;
            let (_, mut respond) = endpoint.asked().await;
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"half"), false).unwrap();
            let mut body = reply.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "half");
            stream.send_reset(reason);
            let error = text(&mut body).await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{reason:?}");
        });
    }
}

#[test]
fn an_idle_connection_to_an_endpoint_is_closed_after_its_timeout() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let reply = client.get().await;
        let endpoint = Endpoint::accept(&world).await;
        // Time with a stream is no idle time.
        world.pass(seconds(50)).await;
        answer(&mut endpoint.asked().await.1, "late");
        whole(reply).await;
        world.pass(seconds(59)).await;
        assert!(!endpoint.has_ended().await);
        world.pass(seconds(1)).await;
        assert!(endpoint.has_ended().await);
    });
}

#[test]
fn a_connection_that_carries_nothing_is_told_as_idle() {
    tell(HTTP_2, |world| async move {
        let shows = |state: &str| {
            let gauge = format!("tidegate_pool_connections{{service=\"one\",state=\"{state}\"}}");
            assert_eq!(world.metric(&gauge).as_deref(), Some("1"), "{state}");
        };
        let mut client = Client::connect(&world).await;
        let mut reply = client.get().await;
        let endpoint = Endpoint::accept(&world).await;
        for _ in 0..2 {
            let (_, mut respond) = endpoint.asked().await;
            shows("active");
            answer(&mut respond, "done");
            whole(reply).await;
            settle().await;
            shows("idle");
            reply = client.get().await;
        }
    });
}

#[test]
fn a_connection_that_has_carried_enough_gives_its_place_at_once() {
    for limit in ["max_requests: 1", "max_age: 10s"] {
        let pool = format!("retry: off, pool: {{ max_connections: 1, {limit} }}");
        tell(&HTTP_2.replace("retry: off", &pool), |world| async move {
            let mut client = Client::connect(&world).await;
            for text in ["first", "second"] {
                let reply = client.get().await;
                let endpoint = Endpoint::accept(&world).await;
                let (_, mut respond) = endpoint.asked().await;
                world.pass(seconds(10)).await;
                answer(&mut respond, text);
                assert_eq!(whole(reply).await.1, text);
                assert!(endpoint.has_ended().await);
            }
        });
    }
}

#[test]
fn an_endpoint_says_how_many_streams_it_takes() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let first = client.get().await;
        let small = Endpoint::accept_with(&world, 1).await;
        let (_, mut respond) = small.asked().await;
        let second = client.get().await;
        let other = Endpoint::accept(&world).await;
        answer(&mut other.asked().await.1, "second");
        assert_eq!(whole(second).await.1, "second");
        answer(&mut respond, "first");
        assert_eq!(whole(first).await.1, "first");
    });
}

#[test]
fn an_endpoint_that_speaks_something_else_is_a_bad_gateway() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let reply = client.get().await;
        let mut endpoint = world.endpoint().await;
        endpoint.say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(reply.await.unwrap().status(), 502);
        let reply = client.get().await;
        drop(world.endpoint().await);
        assert_eq!(reply.await.unwrap().status(), 502);
    });
}

#[test]
fn an_endpoint_that_never_says_its_settings_is_given_up_after_the_connect_timeout() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let reply = client.get().await;
        let _silent = world.endpoint().await;
        world.pass(seconds(5)).await;
        assert_eq!(reply.await.unwrap().status(), 504);
    });
}

#[test]
fn a_request_waits_for_a_stream_where_no_more_connections_may_be_opened() {
    let yaml = "
services: { one: { url: http://one.test:80, protocol: http2, retry: off, pool: { max_connections: 1 } } }
routes: [{ match: { path_prefix: / }, service: one }]
";
    tell(yaml, |world| async move {
        let mut client = Client::connect(&world).await;
        let first = client.get().await;
        let small = Endpoint::accept_with(&world, 1).await;
        let (_, mut respond) = small.asked().await;
        let second = client.get().await;
        assert!(!small.was_asked().await && !world.was_called().await);
        answer(&mut respond, "first");
        assert_eq!(whole(first).await.1, "first");
        answer(&mut small.asked().await.1, "second");
        assert_eq!(whole(second).await.1, "second");
    });
}

#[test]
fn an_endpoint_that_still_takes_the_request_is_not_called_silent() {
    let yaml = "
server: { limits: { min_rate: off } }
services: { one: { url: http://one.test:80, protocol: http2, retry: off, timeouts: { read: 5s } } }
routes: [{ match: { path_prefix: / }, service: one }]
";
    tell(yaml, |world| async move {
        let mut client = Client::connect(&world).await;
        let (reply, mut upload) = client.post().await;
        let endpoint = Endpoint::accept(&world).await;
        let (request, mut respond) = endpoint.asked().await;
        let mut received = request.into_body();
        let mut sent = respond.send_response(Response::new(()), false).unwrap();
        let mut reply = reply.await.unwrap().into_body();
        for _ in 0..10 {
            world.pass(seconds(4)).await;
            upload.send_data(Bytes::from_static(b"a"), false).unwrap();
            assert_eq!(received.data().await.unwrap().unwrap(), "a");
        }
        sent.send_data(Bytes::from_static(b"done"), true).unwrap();
        assert_eq!(text(&mut reply).await.unwrap(), "done");
    });
}
