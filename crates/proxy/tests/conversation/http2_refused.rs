//! What the `h2` crate refuses by itself, and what clients take back: each is counted, and told as one finished request.

use bytes::Bytes;
use http::Request;
use tidegate_core::policy::Shared;

use crate::http2_parties::{Client, Endpoint, Frames, answer, whole};
use crate::world::{PLAIN, World, settle, tell};

const HTTP_2: &str = "
services: { one: { url: http://one.test:80, protocol: http2, retry: off } }
routes: [{ match: { path_prefix: / }, service: one, timeout: off }]
";

const PONG: &str = "routes: [{ match: { path_prefix: / }, respond: { status: 200, body: pong } }]";

/// As many streams as one.
const NARROW: &str = "
server: { limits: { streams: 1 } }
services: { one: { url: http://one.test:80, retry: off } }
routes: [{ match: { path_prefix: / }, service: one, timeout: off }]
";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
/// `END_STREAM` and `END_HEADERS`.
const WHOLE: u8 = 0x5;

/// `GET http://a/`, from HPACK's static table, and the same without `:path`.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
const PATHLESS: &[u8] = &[0x82, 0x86, 0x41, 0x01, b'a'];

fn refused(world: &World, reason: &str) -> String {
    let series = format!(r#"tidegate_http2_streams_refused_total{{listener="default",reason="{reason}"}}"#);
    world.metric(&series).unwrap()
}

fn let_go(world: &World, reason: &str) -> String {
    let series = format!(r#"tidegate_connections_let_go_total{{listener="default",reason="{reason}"}}"#);
    world.metric(&series).unwrap()
}

fn ended(world: &World, end: &str) -> String {
    world.metric(&format!(r#"tidegate_requests_ended_total{{end="{end}"}}"#)).unwrap()
}

fn rejected(world: &World, code: &str) -> Option<String> {
    world.metric(&format!(r#"tidegate_rejections_total{{code="{code}"}}"#))
}

#[test]
fn fields_beyond_the_limit_are_counted_as_a_431() {
    tell(PONG, |world| async move {
        let mut client = Client::connect(&world).await;
        let request = Request::get("http://x.test/a").header("x", "a".repeat(40_000)).body(()).unwrap();
        assert_eq!(client.ask(request, true).await.0.await.unwrap().status(), 431);
        assert_eq!(refused(&world, "headers_too_large"), "1");
        assert_eq!(rejected(&world, "fields_too_large").as_deref(), Some("1"));
        assert_eq!(world.metric(r#"tidegate_requests_total{route="",service="",code="4xx"}"#).as_deref(), Some("1"));
        assert_eq!(ended(&world, "refused"), "1");
        assert_eq!(whole(client.get().await).await.1, "pong");
        assert_eq!((refused(&world, "headers_too_large").as_str(), ended(&world, "complete").as_str()), ("1", "1"));
    });
}

#[test]
fn a_stream_that_is_no_request_is_counted() {
    tell(PONG, |world| async move {
        let mut frames = Frames::connect(&world).await;
        frames.say(HEADERS, WHOLE, 1, PATHLESS).await;
        let (heard, ended_too) = frames.heard().await;
        assert!(heard.iter().any(|(kind, stream, _)| (*kind, *stream) == (RST_STREAM, 1)) && !ended_too, "{heard:?}");
        assert_eq!(refused(&world, "malformed"), "1");
        assert_eq!(rejected(&world, "malformed_stream").as_deref(), Some("1"));
        assert_eq!(world.metric(r#"tidegate_requests_total{route="",service="",code="none"}"#).as_deref(), Some("1"));
        frames.say(HEADERS, WHOLE, 3, GET).await;
        frames.heard().await;
        assert_eq!((refused(&world, "malformed").as_str(), ended(&world, "complete").as_str()), ("1", "1"));
    });
}

#[test]
fn streams_beyond_the_limit_are_counted() {
    tell(NARROW, |world| async move {
        let mut frames = Frames::connect(&world).await;
        for stream in [1, 3, 5] {
            frames.say(HEADERS, WHOLE, stream, GET).await;
        }
        let (heard, _) = frames.heard().await;
        let resets: Vec<_> = heard.iter().filter(|(kind, ..)| *kind == RST_STREAM).map(|(_, id, _)| *id).collect();
        assert_eq!(resets, [3, 5]);
        assert_eq!(refused(&world, "streams"), "2");
        assert_eq!(rejected(&world, "too_many_streams").as_deref(), Some("2"));
    });
}

#[test]
fn a_stream_that_takes_the_place_of_one_just_given_up_is_counted_once() {
    tell(NARROW, |world| async move {
        let mut frames = Frames::connect(&world).await;
        // All of it is read at once, so that the work of the first has not ended when the second comes.
        frames.say(HEADERS, WHOLE, 1, GET).await;
        frames.say(RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;
        frames.say(HEADERS, WHOLE, 3, GET).await;
        frames.heard().await;
        assert_eq!((refused(&world, "streams").as_str(), ended(&world, "refused").as_str()), ("1", "1"));
        assert_eq!(ended(&world, "client_gone"), "1");
    });
}

#[test]
fn a_connection_that_breaks_the_rules_is_counted() {
    tell(PONG, |world| async move {
        let mut frames = Frames::connect(&world).await;
        frames.say(DATA, 0, 0, b"on no stream").await;
        let (heard, ended) = frames.heard().await;
        assert!(heard.iter().any(|(kind, ..)| *kind == GOAWAY) && ended, "{heard:?}");
        assert_eq!(let_go(&world, "http2_error"), "1");
        // Whoever just leaves, in order or not, is not counted.
        drop(Frames::connect(&world).await);
        let mut leaving = Frames::connect(&world).await;
        leaving.say(GOAWAY, 0, 0, &[0; 8]).await;
        drop(leaving);
        settle().await;
        assert_eq!((let_go(&world, "http2_error").as_str(), let_go(&world, "flood").as_str()), ("1", "0"));
    });
}

#[test]
fn resets_that_the_gateway_never_got_to_look_at_are_a_flood() {
    tell(PONG, |world| async move {
        let mut frames = Frames::connect(&world).await;
        let mut stream = 1;
        while !frames.heard().await.1 {
            for _ in 0..100 {
                frames.say(HEADERS, WHOLE, stream, PATHLESS).await;
                stream += 2;
            }
            assert!(stream < 10_000, "there is no end to it");
        }
        assert_eq!(let_go(&world, "flood"), "1");
        assert!(refused(&world, "malformed").parse::<u32>().unwrap() >= 100);
    });
}

#[test]
fn a_stream_that_its_client_resets_is_told_once_as_a_client_that_left() {
    tell(HTTP_2, |world| async move {
        let mut client = Client::connect(&world).await;
        let endpoint = {
            // Before there is a reply.
            let reply = client.get().await;
            let endpoint = Endpoint::accept(&world).await;
            let (_request, mut respond) = endpoint.asked().await;
            drop(reply);
            std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            endpoint
        };
        assert_eq!(ended(&world, "client_gone"), "1");
        {
            // Amid the reply.
            let reply = client.get().await;
            let (_request, mut respond) = endpoint.asked().await;
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"half"), false).unwrap();
            drop(reply.await.unwrap());
            std::future::poll_fn(|cx| body.poll_reset(cx)).await.unwrap();
        }
        assert_eq!(ended(&world, "client_gone"), "2");
        {
            // Amid the request.
            let (reply, mut upload) = client.post().await;
            upload.send_data(Bytes::from_static(b"half"), false).unwrap();
            let (_request, mut respond) = endpoint.asked().await;
            upload.send_reset(h2::Reason::CANCEL);
            drop(reply);
            std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
        }
        settle().await;
        assert_eq!(ended(&world, "client_gone"), "3");
        let good = client.get().await;
        answer(&mut endpoint.asked().await.1, "fine");
        assert_eq!(whole(good).await.1, "fine");
        assert_eq!((ended(&world, "client_gone").as_str(), ended(&world, "complete").as_str()), ("3", "1"));
        assert_eq!(ended(&world, "refused"), "0");
    });
}

#[test]
fn a_stream_that_is_reset_as_soon_as_it_is_opened_is_told_once() {
    tell(PONG, |world| async move {
        let mut frames = Frames::connect(&world).await;
        frames.heard().await;
        frames.say(HEADERS, WHOLE, 1, GET).await;
        frames.say(RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;
        frames.heard().await;
        assert_eq!((ended(&world, "client_gone").as_str(), ended(&world, "complete").as_str()), ("1", "0"));
        let text = world.metrics.render(&[], &Shared::default());
        assert!(text.contains("code=\"none\"} 1") && !text.contains("code=\"2xx\""), "{text}");
    });
}

#[test]
fn a_connection_that_breaks_off_takes_every_stream_with_it_once() {
    tell(PLAIN, |world| async move {
        let mut frames = Frames::connect(&world).await;
        for stream in [1, 3, 5] {
            frames.say(HEADERS, WHOLE, stream, GET).await;
        }
        let mut endpoints = Vec::new();
        for _ in 0..3 {
            let mut endpoint = world.endpoint().await;
            endpoint.head().await;
            endpoints.push(endpoint);
        }
        drop(frames);
        for endpoint in &mut endpoints {
            endpoint.rest().await;
        }
        assert_eq!(ended(&world, "client_gone"), "3");
    });
}
