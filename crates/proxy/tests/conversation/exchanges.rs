//! What a client sees of ordinary exchanges.

use crate::world::{PLAIN, World, tell};

const GET: &str = "GET /a HTTP/1.1\r\nHost: x.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn answered(world: &World, request: &str, reply: &str) -> (String, String) {
    let mut client = world.client();
    client.say(request).await;
    let mut endpoint = world.endpoint().await;
    let seen = endpoint.head().await;
    endpoint.say(reply).await;
    (seen, client.now().await.unwrap())
}

#[test]
fn a_request_and_its_reply_pass() {
    tell(PLAIN, |world| async move {
        let (seen, reply) = answered(&world, GET, OK).await;
        assert!(seen.starts_with("GET /a HTTP/1.1\r\nHost: x.test\r\n"), "{seen}");
        assert!(seen.contains("\r\nx-forwarded-for: 192.0.2.7\r\n"), "{seen}");
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), "{reply}");
        assert!(reply.ends_with("\r\n\r\nok"), "{reply}");
    });
}

#[test]
fn options_of_an_absolute_target_without_a_path_ask_about_the_whole_server() {
    let restricted = "services: { one: { url: http://one.test:80 } }\n\
                      routes: [{ match: { path: /, methods: [GET] }, service: one }]";
    tell(restricted, |world| async move {
        for (target, allowed) in [("http://x.test", "PUT"), ("http://x.test/", "GET, HEAD, OPTIONS\r\n")] {
            let mut client = world.client();
            client.say(&format!("OPTIONS {target} HTTP/1.1\r\nHost: x.test\r\n\r\n")).await;
            let reply = client.now().await.unwrap();
            assert!(reply.starts_with("HTTP/1.1 204 ") && reply.contains(allowed), "{target}: {reply}");
        }
    });
}

#[test]
fn options_and_trace_go_as_far_as_their_client_says_and_others_do_not_count() {
    let asks =
        |method: &str, left: &str| format!("{method} /a HTTP/1.1\r\nHost: x.test\r\nMax-Forwards: {left}\r\n\r\n");
    tell(PLAIN, |world| async move {
        for (method, left, told) in
            [("OPTIONS", "1", "0"), ("TRACE", "10", "9"), ("GET", "0", "0"), ("OPTIONS", "x", "x")]
        {
            let (seen, _) = answered(&world, &asks(method, left), OK).await;
            assert!(seen.contains(&format!("\r\nMax-Forwards: {told}\r\n")), "{seen}");
        }
        for (method, status) in [("OPTIONS", 204), ("TRACE", 501)] {
            let mut client = world.client();
            client.say(&asks(method, "0")).await;
            let reply = client.now().await.unwrap();
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{reply}");
            assert_eq!(reply.contains("\r\nallow: GET, HEAD, "), method == "OPTIONS", "{reply}");
            assert!(!world.was_called().await);
        }
    });
}

#[test]
fn connections_on_both_sides_are_used_again() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        for _ in 0..3 {
            endpoint.head().await;
            endpoint.say(OK).await;
            client.head().await;
            assert_eq!(client.hear_until("ok").await, "ok");
            client.say(GET).await;
        }
        assert!(!world.was_called().await);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut endpoint = world.endpoint().await;
        for number in 1..=2 {
            assert!(endpoint.head().await.starts_with(&format!("GET /{number} ")));
            endpoint.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}")).await;
            client.head().await;
            assert_eq!(client.hear_until(&number.to_string()).await, number.to_string());
        }
    });
}

#[test]
fn a_body_streams_through_in_both_framings() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        let mut endpoint = world.endpoint().await;
        let head = endpoint.head().await;
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert_eq!(endpoint.hear_until("abc\r\n").await, "3\r\nabc\r\n");
        client.say("2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n").await;
        assert_eq!(endpoint.hear_until("\r\n\r\n").await, "2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n");
        endpoint.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").await;
        client.head().await;
        assert_eq!(client.hear_until("hi\r\n").await, "2\r\nhi\r\n");
        endpoint.say("0\r\nX-T: 1\r\n\r\n").await;
        assert_eq!(client.hear_until("\r\n\r\n").await, "0\r\nX-T: 1\r\n\r\n");
    });
}

#[test]
fn the_client_is_told_to_continue_only_when_its_body_is_wanted() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
        assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.say("hi").await;
        let mut endpoint = world.endpoint().await;
        let seen = endpoint.hear_until("\r\n\r\nhi").await;
        assert!(!seen.contains("xpect"), "{seen}");
    });
}

#[test]
fn a_refused_request_is_never_told_to_continue_and_its_connection_closes() {
    tell("services: {}\nroutes: [{ match: { path: /x }, respond: { status: 200 } }]", |world| async move {
        let mut client = world.client();
        client.say("POST /none HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n").await;
        let reply = client.head().await;
        assert!(reply.starts_with("HTTP/1.1 404 Not Found\r\n"), "{reply}");
        assert!(reply.contains("connection: close"), "{reply}");
    });
}

#[test]
fn the_body_of_a_refused_request_is_read_so_that_the_next_request_is_found() {
    tell("services: {}\nroutes: [{ match: { path: /x }, respond: { status: 200, body: fine } }]", |world| async move {
        let mut client = world.client();
        client
            .say("POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 28\r\n\r\nGET /x HTTP/1.1\r\nHost: y\r\n\r\n")
            .await;
        assert!(client.head().await.starts_with("HTTP/1.1 404"));
        client.hear_until("}").await;
        client.say("GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        assert_eq!(client.hear_until("fine").await, "fine");
        assert_eq!(client.now().await.as_deref(), Some(""));
    });
}

#[test]
fn interim_replies_are_relayed() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
        assert_eq!(client.head().await, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        endpoint.say(OK).await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    });
}

#[test]
fn an_upgrade_becomes_a_tunnel_after_the_services_101() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
        let mut endpoint = world.endpoint().await;
        let seen = endpoint.head().await.to_ascii_lowercase();
        assert!(seen.contains("upgrade: websocket") && seen.contains("connection: upgrade"), "{seen}");
        endpoint
            .say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
            .await;
        let reply = client.head().await.to_ascii_lowercase();
        assert!(reply.starts_with("http/1.1 101 ") && reply.contains("upgrade: websocket"), "{reply}");
        assert_eq!(client.hear_until("hello").await, "hello");
        client.say("ping").await;
        assert_eq!(endpoint.hear_until("ping").await, "ping");
        drop(client);
        assert_eq!(endpoint.rest().await, "");
    });
}

#[test]
fn a_426_says_which_protocol_it_demands_if_the_route_allows_it() {
    tell(PLAIN, |world| async move {
        for (protocol, is_told) in [("WebSocket", true), ("h2c", false)] {
            let says = format!(
                "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nContent-Length: 0\r\n\r\n"
            );
            let (_, reply) = answered(&world, GET, &says).await;
            assert!(reply.starts_with("HTTP/1.1 426 "), "{reply}");
            assert_eq!(reply.contains("\r\nupgrade: websocket\r\nconnection: upgrade\r\n"), is_told, "{reply}");
            assert_eq!(reply.to_ascii_lowercase().contains("upgrade: "), is_told, "{reply}");
        }
    });
}

#[test]
fn an_unasked_101_is_a_bad_gateway() {
    tell(PLAIN, |world| async move {
        let (_, reply) = answered(&world, GET, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 502 "), "{reply}");
    });
}

#[test]
fn a_client_of_http_1_0_gets_a_body_that_ends_with_the_connection() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("GET / HTTP/1.0\r\n\r\n").await;
        let mut endpoint = world.endpoint().await;
        let seen = endpoint.head().await;
        assert!(seen.starts_with("GET / HTTP/1.1\r\n") && seen.contains("host: one.test"), "{seen}");
        endpoint.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").await;
        let reply = client.rest().await;
        assert!(reply.ends_with("\r\n\r\nhi") && !reply.contains("chunked"), "{reply}");
    });
}

#[test]
fn a_reply_to_head_keeps_the_length_of_what_it_does_not_carry() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await;
        let reply = client.head().await;
        assert!(reply.contains("Content-Length: 1234"), "{reply}");
        client.say(GET).await;
        assert!(endpoint.head().await.starts_with("GET "));
    });
}

#[test]
fn a_client_that_leaves_cancels_the_call() {
    tell(PLAIN, |world| async move {
        let mut client = world.client();
        client.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        drop(client);
        assert_eq!(endpoint.rest().await, "");
    });
}

#[test]
fn a_draining_worker_ends_idle_connections_and_says_so_on_others() {
    tell(PLAIN, |world| async move {
        let mut idle = world.client();
        idle.say(GET).await;
        let mut endpoint = world.endpoint().await;
        endpoint.head().await;
        endpoint.say(OK).await;
        idle.head().await;
        idle.hear_until("ok").await;
        let mut busy = world.client();
        busy.say(GET).await;
        endpoint.head().await;
        world.solo.drain();
        assert_eq!(idle.rest().await, "");
        endpoint.say(OK).await;
        let reply = busy.rest().await;
        assert!(reply.contains("connection: close") && reply.ends_with("ok"), "{reply}");
    });
}
