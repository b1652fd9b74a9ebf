//! Checks over memory, under a clock that the tests move.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::clock::{Clock, ManualClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::buffers::Buffers;
use crate::io::testing::block_on;
use crate::listener::certs;
use crate::net::Net;
use crate::tasks::{Task, spawn_local};

type Results = Rc<RefCell<Vec<Result<(), String>>>>;

/// An endpoint under watch, and the time.
struct World {
    clock: Arc<ManualClock>,
    calls: Rc<RefCell<VecDeque<(String, DuplexStream)>>>,
    results: Results,
    _watching: Task,
}

fn http() -> HttpProbe {
    HttpProbe {
        path: "/health?deep=1".into(),
        method: Method::GET,
        headers: Vec::new(),
        expect: config::Statuses(vec![200..=399]),
        body: None,
    }
}

fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        probe,
        port: None,
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        retries: 3,
        rise: 1,
        backoff_max: Duration::from_mins(5),
    }
}

fn tell<F: Future<Output = ()>>(check: HealthCheck, story: impl FnOnce(World) -> F) {
    tell_at("http://one.test:81", None, check, story);
}

fn tell_at<F: Future<Output = ()>>(
    url: &str,
    tls: Option<Arc<ClientConfig>>,
    check: HealthCheck,
    story: impl FnOnce(World) -> F,
) {
    let yaml = format!("services: {{ one: {{ url: '{url}' }} }}\nroutes: [{{ match: {{ path: / }}, service: one }}]");
    let loaded = tidegate_config::from_yaml(&yaml).map_err(|_| "a valid configuration").unwrap();
    let service = loaded.config.services.values().next().cloned().unwrap();
    block_on(async {
        let clock = ManualClock::new(Duration::from_secs(1_700_000_000));
        let calls: Rc<RefCell<VecDeque<_>>> = Rc::default();
        let received = Rc::clone(&calls);
        let net = Net::Memory(Box::new(move |authority| {
            let (near, far) = tokio::io::duplex(256 * 1024);
            received.borrow_mut().push_back((authority.to_owned(), far));
            Ok(near)
        }));
        let results = Results::default();
        let (told, time) = (Rc::clone(&results), Clock::Manual(Arc::clone(&clock)));
        let buffers = Rc::new(Buffers::new(loaded.config.server.buffers));
        let watching = spawn_local(async move {
            let means = Means { clock: time, net: Rc::new(net), buffers, dice: Rc::default(), bursts: Rc::default() };
            let means = Context { service: &service, tls: tls.as_ref(), means: &means };
            let endpoint = service.endpoints.first().unwrap();
            watch(&check, endpoint, means, 1, |result| told.borrow_mut().push(result)).await;
        });
        story(World { clock, calls, results, _watching: watching }).await;
    });
}

impl World {
    /// The endpoint's side of the next connection.
    async fn endpoint(&self) -> DuplexStream {
        settle().await;
        self.calls.borrow_mut().pop_front().expect("a connection").1
    }

    /// Where the next connection wants to go.
    async fn called(&self) -> String {
        settle().await;
        self.calls.borrow().front().expect("a connection").0.clone()
    }

    /// The next result, which must have come by now.
    async fn result(&self) -> Result<(), String> {
        settle().await;
        let mut results = self.results.borrow_mut();
        assert_eq!(results.len(), 1, "{results:?}");
        results.remove(0)
    }

    async fn pass(&self, time: Duration) {
        settle().await;
        self.clock.advance(time);
        settle().await;
    }
}

async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

async fn head(endpoint: &mut DuplexStream) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(endpoint.read_u8().await.unwrap());
    }
    String::from_utf8(heard).unwrap()
}

async fn say(endpoint: &mut DuplexStream, text: &str) {
    endpoint.write_all(text.as_bytes()).await.unwrap();
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn the_first_check_comes_at_once_and_the_next_after_the_interval() {
    tell(check(Probe::Http(http())), |world| async move {
        let mut endpoint = world.endpoint().await;
        let asked = head(&mut endpoint).await.to_ascii_lowercase();
        assert_eq!(asked, "get /health?deep=1 http/1.1\r\nhost: one.test:81\r\nuser-agent: tidegate-health\r\n\r\n");
        say(&mut endpoint, OK).await;
        assert_eq!(world.result().await, Ok(()));
        assert_eq!(endpoint.read(&mut [0]).await.unwrap(), 0, "a connection serves one check");
        world.pass(Duration::from_secs(26)).await;
        assert!(world.calls.borrow().is_empty());
        world.pass(Duration::from_secs(7)).await;
        assert_eq!(world.calls.borrow().len(), 1);
        world.pass(Duration::from_secs(4)).await;
        assert_eq!(world.calls.borrow().len(), 1, "one is under way at a time");
    });
}

#[test]
fn a_check_that_takes_too_long_has_failed() {
    tell(check(Probe::Http(http())), |world| async move {
        let mut endpoint = world.endpoint().await;
        head(&mut endpoint).await;
        world.pass(Duration::from_secs(5)).await;
        assert_eq!(world.result().await, Err("no answer within 5s".to_owned()));
        assert_eq!(endpoint.read(&mut [0]).await.unwrap(), 0);
    });
}

#[test]
fn a_body_that_does_not_end_in_time_has_failed() {
    tell(check(Probe::Http(http())), |world| async move {
        let mut endpoint = world.endpoint().await;
        head(&mut endpoint).await;
        say(&mut endpoint, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok").await;
        world.pass(Duration::from_secs(5)).await;
        assert!(world.result().await.is_err());
    });
}

#[test]
fn a_reply_is_judged_by_its_status_and_its_text() {
    let expecting = |text: &str| HttpProbe { body: Some(text.into()), ..http() };
    for (probe, reply, well) in [
        (http(), "HTTP/1.1 204 No Content\r\n\r\n", true),
        (http(), "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", true),
        (http(), "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false),
        (http(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", false),
        (expecting("up"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n u\r\n2\r\np \r\n0\r\n\r\n", true),
        (expecting("up"), OK, false),
    ] {
        tell(check(Probe::Http(probe)), |world| async move {
            let mut endpoint = world.endpoint().await;
            head(&mut endpoint).await;
            say(&mut endpoint, reply).await;
            let result = world.result().await;
            assert_eq!(result.is_ok(), well, "{result:?} for {reply}");
            assert!(world.calls.borrow().is_empty(), "redirects are not followed");
        });
    }
}

#[test]
fn text_is_looked_for_in_the_first_64_kilobytes_of_any_body() {
    for (before, well) in [(BODY - 2, true), (BODY - 1, false)] {
        let probe = HttpProbe { body: Some("up".into()), ..http() };
        tell(check(Probe::Http(probe)), |world| async move {
            let mut endpoint = world.endpoint().await;
            head(&mut endpoint).await;
            let body = format!("{}up{}", " ".repeat(before), " ".repeat(1000));
            say(&mut endpoint, &format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{body}")).await;
            assert_eq!(world.result().await.is_ok(), well);
        });
    }
}

#[test]
fn fields_method_and_port_are_those_of_the_check() {
    let headers = vec![("host".into(), "inner.test".into()), ("x-check".into(), "1".into())];
    let probe = HttpProbe { method: Method::HEAD, headers, ..http() };
    tell(HealthCheck { port: Some(9000), ..check(Probe::Http(probe)) }, |world| async move {
        assert_eq!(world.called().await, "one.test:9000");
        let mut endpoint = world.endpoint().await;
        let asked = head(&mut endpoint).await.to_ascii_lowercase();
        assert!(asked.starts_with("head /health?deep=1 http/1.1\r\nhost: inner.test\r\nx-check: 1\r\n"), "{asked}");
        say(&mut endpoint, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").await;
        assert_eq!(world.result().await, Ok(()));
    });
}

#[test]
fn another_port_of_an_ipv6_address_is_bracketed() {
    let health = HealthCheck { port: Some(9000), ..check(Probe::Tcp) };
    tell_at("http://[::1]:81", None, health, |world| async move {
        assert_eq!(world.called().await, "[::1]:9000");
    });
}

#[test]
fn an_endpoint_that_hangs_up_has_failed() {
    tell(check(Probe::Http(http())), |world| async move {
        drop(world.endpoint().await);
        assert!(world.result().await.is_err());
    });
}

#[test]
fn a_tcp_check_sends_nothing() {
    tell(check(Probe::Tcp), |world| async move {
        let mut endpoint = world.endpoint().await;
        assert_eq!(world.result().await, Ok(()));
        assert_eq!(endpoint.read(&mut [0]).await.unwrap(), 0);
    });
}

/// A server's TLS and that of a client who trusts it.
fn tls() -> (TlsAcceptor, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["one.test".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), Arc::new(client))
}

#[test]
fn a_tcp_check_of_a_tls_endpoint_shakes_hands() {
    for (url, well) in [("https://one.test", true), ("https://other.test", false)] {
        let (server, client) = tls();
        tell_at(url, Some(client), check(Probe::Tcp), |world| async move {
            let endpoint = world.endpoint().await;
            assert!(world.results.borrow().is_empty(), "a connection alone is not enough");
            // Whether the client liked the certificate shows in its result.
            server.accept(endpoint).await.ok();
            assert_eq!(world.result().await.is_ok(), well);
        });
    }
}

/// Answers one call as a gRPC server; a status that is `None` is said in the head, with no message.
async fn answer_grpc(endpoint: DuplexStream, status: &'static str, message: Option<&'static [u8]>) -> String {
    let mut connection = h2::server::Builder::new().handshake::<_, Bytes>(endpoint).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    let driving = spawn_local(async move { while connection.accept().await.is_some() {} });
    let mut asked = format!("{} {} ", request.method(), request.uri());
    let mut body = request.into_body();
    while let Some(part) = body.data().await {
        asked += &String::from_utf8_lossy(&part.unwrap());
    }
    let mut response = http::Response::new(());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    let status = http::HeaderValue::from_static(status);
    let Some(message) = message else {
        response.headers_mut().insert("grpc-status", status);
        respond.send_response(response, true).unwrap();
        driving.detach();
        return asked;
    };
    let mut stream = respond.send_response(response, false).unwrap();
    stream.send_data(Bytes::from_static(message), false).unwrap();
    stream.send_trailers(std::iter::once((http::HeaderName::from_static("grpc-status"), status)).collect()).unwrap();
    driving.detach();
    asked
}

#[test]
fn a_grpc_check_believes_the_service_alone() {
    const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
    for (status, message, expected) in [
        ("0", Some(SERVING), Ok(())),
        ("0", Some(&b"\0\0\0\0\x02\x08\x02"[..]), Err("it is not serving")),
        ("13", Some(SERVING), Err("the call ended with grpc-status 13")),
        ("12", None, Err("it does not offer grpc.health.v1.Health")),
    ] {
        tell(check(Probe::Grpc("shop".into())), |world| async move {
            let asked = answer_grpc(world.endpoint().await, status, message).await;
            assert_eq!(asked, "POST http://one.test:81/grpc.health.v1.Health/Check \0\0\0\0\x06\n\x04shop");
            assert_eq!(world.result().await, expected.map_err(str::to_owned));
        });
    }
}

#[test]
fn an_endpoint_that_is_down_is_asked_less_and_less_and_may_return() {
    tell(check(Probe::Http(http())), |world| async move {
        for wait in [33, 33, 33, 66, 132] {
            drop(world.endpoint().await);
            assert!(world.result().await.is_err());
            world.pass(Duration::from_secs(wait)).await;
        }
        let mut endpoint = world.endpoint().await;
        head(&mut endpoint).await;
        say(&mut endpoint, OK).await;
        assert_eq!(world.result().await, Ok(()));
        world.pass(Duration::from_secs(33)).await;
        assert_eq!(world.calls.borrow().len(), 1, "the interval is back");
    });
}

#[test]
fn an_endpoint_that_nobody_watches_any_more_is_left_alone() {
    tell(check(Probe::Http(http())), |world| async move {
        let mut endpoint = world.endpoint().await;
        head(&mut endpoint).await;
        let World { _watching: watching, .. } = world;
        drop(watching);
        settle().await;
        assert_eq!(endpoint.read(&mut [0]).await.unwrap(), 0);
    });
}
