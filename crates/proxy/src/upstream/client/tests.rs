//! Questions to servers that the test plays, in memory and on a clock that it moves.

use crate::buffers::Buffers;
use crate::net::Net;
use std::path::PathBuf;
use tidegate_core::clock::Clock;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tidegate_config::config::{Certificate, ClientAuth, FileText, ListenerTls, TlsVersion, UpstreamTls};
use tidegate_core::clock::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::io::testing::block_on;
use crate::io::{Io, Rewind};
use crate::listener::tls as server;

const SILENCE: Duration = Duration::from_secs(10);

/// A client, the server's side of its connection, and its clock.
fn client(tls: Option<UpstreamTls>) -> (Client, DuplexStream, Arc<ManualClock>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let near = RefCell::new(Some(near));
    let clock = ManualClock::new(Duration::ZERO);
    let sizes = config::Buffers { head: 4096, body: 65536 };
    let means = Means {
        clock: Clock::Manual(Arc::clone(&clock)),
        net: Rc::new(Net::Memory(Box::new(move |_| Ok(near.borrow_mut().take().unwrap())))),
        buffers: Rc::new(Buffers::new(sizes)),
        dice: Rc::default(),
        bursts: Rc::default(),
    };
    let endpoint = config::Endpoint {
        tls: tls.is_some(),
        host: "api.test".into(),
        port: 80,
        authority: "api.test".into(),
        weight: 1,
        zone: None,
        priority: 0,
    };
    let api = ApiServer { endpoint, tls: tls.unwrap_or_default() };
    (Client::new(&api, &SystemRoots::default(), &means, &Path::root()).unwrap(), far, clock)
}

async fn answer(far: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), text: &str) {
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        heard.push(far.read_u8().await.unwrap());
    }
    far.write_all(text.as_bytes()).await.unwrap();
}

async fn get(client: &Client) -> Result<u64, ClientError> {
    client.get("/", &[], SILENCE).await?.expect_ok().await?.json().await
}

#[test]
fn a_value_in_a_target_can_only_be_a_value() {
    let target = Target::new("/v1").segment("../a b").parameter("x", "1&y=2").parameter("z", "\r\nä");
    assert_eq!(target.as_str(), "/v1/..%2Fa%20b?x=1%26y%3D2&z=%0D%0A%C3%A4");
}

#[test]
fn another_status_is_an_error_that_says_what_the_server_said() {
    block_on(async {
        let (client, mut far, _) = client(None);
        let ((), got) = tokio::join!(
            answer(&mut far, "HTTP/1.1 403 Forbidden\r\ncontent-length: 18\r\n\r\nPermission denied\n"),
            get(&client)
        );
        assert_eq!(got.unwrap_err().to_string(), "it answered with status 403: Permission denied");
    });
}

#[test]
fn a_field_with_control_characters_is_not_sent() {
    block_on(async {
        let (client, mut far, _) = client(None);
        let got = client.get("/", &[("x-token", "a\r\nb: c")], SILENCE).await;
        assert!(matches!(got, Err(ClientError::Field)));
        drop(client);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

/// An answer whose body goes on for as long as somebody takes it.
async fn flood(mut far: DuplexStream) {
    answer(&mut far, "HTTP/1.1 200 OK\r\n\r\n").await;
    let ones = vec![b'1'; 65536];
    while far.write_all(&ones).await.is_ok() {}
}

#[test]
fn an_answer_without_end_is_given_up() {
    block_on(async {
        let (client, far, _) = client(None);
        let ((), got) = tokio::join!(flood(far), get(&client));
        assert!(matches!(got, Err(ClientError::TooLong)), "{got:?}");
    });
}

#[test]
fn a_line_without_end_is_given_up() {
    block_on(async {
        let (client, far, _) = client(None);
        let ask = async { client.get("/", &[], SILENCE).await?.line().await };
        let ((), got) = tokio::join!(flood(far), ask);
        assert!(matches!(got, Err(ClientError::TooLong)), "{got:?}");
    });
}

/// Lets everything happen that needs no time, and then time pass.
async fn pass(clock: &ManualClock, time: Duration) {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
    clock.advance(time);
}

/// What becomes of a question when the server falls silent after it said this.
async fn silent_after(said: &str) -> ClientError {
    let (client, mut far, clock) = client(None);
    let silent = async {
        answer(&mut far, said).await;
        pass(&clock, SILENCE).await;
    };
    tokio::join!(silent, get(&client)).1.unwrap_err()
}

#[test]
fn silence_ends_a_question_at_any_point() {
    block_on(async {
        for said in ["", "HTTP/1.1 200 OK\r\n"] {
            assert!(matches!(silent_after(said).await, ClientError::Call(Failure::ReadTimeout)), "{said:?}");
        }
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1";
        assert!(matches!(silent_after(half).await, ClientError::Body(BodyError::UpstreamTooSlow)));
    });
}

/// An authority's certificate, and one that it signed for a name.
fn authority(name: &str) -> (FileText, Certificate) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let own = KeyPair::generate().unwrap();
    let signed = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&own, &Issuer::new(params, key));
    let file = |text: &str| FileText { path: PathBuf::from("api.pem"), bytes: text.as_bytes().into() };
    let certificate =
        Certificate { cert: file(&signed.unwrap().pem()), key: file(&own.serialize_pem()), at: Path::root() };
    (file(&ca), certificate)
}

/// Answers one question over TLS, if the client goes on after the handshake.
async fn answer_tls(certificate: Certificate, far: DuplexStream) {
    let tls = ListenerTls {
        certificates: vec![certificate],
        min_version: TlsVersion::Tls13,
        client_ca: None,
        client_auth: ClientAuth::Off,
    };
    let tls = server::server_config(&tls, &Path::root()).unwrap();
    let Ok((mut io, _, _)) = server::accept(&tls, Rewind::from(Io::Memory(far))).await else { return };
    answer(&mut io, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n42").await;
    io.flush().await.unwrap();
}

fn trusting(ca: FileText) -> UpstreamTls {
    UpstreamTls { ca: Some(ca), ..UpstreamTls::default() }
}

#[test]
fn over_tls_the_server_must_be_who_it_should() {
    let (ca, good) = authority("api.test");
    let (_, foreign) = authority("api.test");
    block_on(async {
        for (certificate, told) in [(good, Some(42)), (foreign, None)] {
            let (client, far, _) = client(Some(trusting(ca.clone())));
            let ((), got) = tokio::join!(answer_tls(certificate, far), get(&client));
            assert_eq!(got.ok(), told);
        }
    });
}

#[test]
fn a_server_that_never_shakes_hands_is_given_up() {
    block_on(async {
        let (client, _far, clock) = client(Some(trusting(authority("api.test").0)));
        let ((), got) = tokio::join!(pass(&clock, CONNECT), get(&client));
        assert!(matches!(got, Err(ClientError::Call(Failure::ConnectTimeout))));
    });
}
