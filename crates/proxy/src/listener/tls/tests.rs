//! Handshakes in memory, both sides our own: listeners' and services' configurations against each other.

use std::path::PathBuf;

use bytes::BytesMut;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tidegate_config::config::{Certificate, FileText, UpstreamProtocol, UpstreamTls};
use tidegate_core::client::SanKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::io::testing::block_on;
use crate::upstream::tls::{self as upstream, SystemRoots};

/// An authority and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn sign(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign_params(&CertificateParams::new(names).unwrap())
    }

    fn sign_params(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        certificate(&cert.pem(), &key.serialize_pem())
    }
}

fn certificate(cert: &str, key: &str) -> Certificate {
    Certificate { cert: file("api.pem", cert), key: file("api.key", key), at: Path::root().join("tls") }
}

fn file(path: &str, text: &str) -> FileText {
    FileText { path: PathBuf::from(path), bytes: text.as_bytes().into() }
}

fn listener(certificates: Vec<Certificate>) -> ListenerTls {
    ListenerTls { certificates, min_version: TlsVersion::Tls12, client_ca: None, client_auth: ClientAuth::Off }
}

fn asking(clients: &Authority, client_auth: ClientAuth, certificate: Certificate) -> ListenerTls {
    ListenerTls { client_ca: Some(file("clients.pem", &clients.pem)), client_auth, ..listener(vec![certificate]) }
}

fn trusting(authority: &Authority) -> UpstreamTls {
    UpstreamTls { ca: Some(file("ca.pem", &authority.pem)), ..UpstreamTls::default() }
}

fn client(tls: &UpstreamTls, protocol: UpstreamProtocol) -> Arc<rustls::ClientConfig> {
    upstream::client_config(tls, protocol, &SystemRoots::default(), &Path::root().join("tls")).unwrap()
}

fn server(tls: &ListenerTls) -> Arc<ServerConfig> {
    server_config(tls, &Path::root().join("tls")).unwrap()
}

/// What both sides say after shaking hands and sending a byte each way: a client learns only from the first read whether
/// its certificate was accepted.
fn shake(
    server: &Arc<ServerConfig>,
    client: &Arc<rustls::ClientConfig>,
    name: &str,
) -> (Result<(TlsFacts, Alpn), TlsError>, io::Result<Alpn>) {
    block_on(async {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let answer = async {
            let (mut io, facts, alpn) = accept(server, Rewind::from(Io::Memory(near))).await?;
            io.write_all(b"!").await.unwrap();
            io.shutdown().await.unwrap();
            Ok((facts, alpn))
        };
        let ask = async {
            let (mut io, alpn) = upstream::connect(client, name, Io::Memory(far)).await?;
            io.read_u8().await?;
            Ok(alpn)
        };
        tokio::join!(answer, ask)
    })
}

#[test]
fn both_sides_agree_on_http_2_when_both_know_it() {
    let authority = Authority::new();
    let server = server(&listener(vec![authority.sign(&["api.example.com"])]));
    for (protocol, expected) in [
        (UpstreamProtocol::Auto, Alpn::Http2),
        (UpstreamProtocol::Http2, Alpn::Http2),
        (UpstreamProtocol::Http1, Alpn::Http1),
    ] {
        let (accepted, connected) = shake(&server, &client(&trusting(&authority), protocol), "api.example.com");
        let (facts, alpn) = accepted.unwrap();
        assert_eq!((alpn, connected.unwrap()), (expected, expected), "{protocol:?}");
        assert_eq!(facts.server_name.as_deref(), Some("api.example.com"));
        assert_eq!(facts.protocol, "TLSv1.3");
        assert!(facts.client.is_none());
    }
}

#[test]
fn a_client_that_offers_no_protocol_gets_http_1() {
    let authority = Authority::new();
    let server = server(&listener(vec![authority.sign(&["api.example.com"])]));
    let mut silent = client(&trusting(&authority), UpstreamProtocol::Http1);
    Arc::make_mut(&mut silent).alpn_protocols.clear();
    let (accepted, _) = shake(&server, &silent, "api.example.com");
    assert_eq!(accepted.unwrap().1, Alpn::None);
}

#[test]
fn the_certificate_is_chosen_by_name_exact_before_wildcard() {
    // Only one authority is trusted at a time, so a handshake works only with the certificate that it signed.
    let [first, wildcard, exact] = [Authority::new(), Authority::new(), Authority::new()];
    let server = server(&listener(vec![
        first.sign(&["first.example.net"]),
        wildcard.sign(&["*.Example.com"]),
        exact.sign(&["API.example.com", "*.example.com"]),
    ]));
    let works = |authority: &Authority, name: &str, verify: &str| {
        let tls = UpstreamTls { server_name: Some(verify.into()), ..trusting(authority) };
        let (_, connected) = shake(&server, &client(&tls, UpstreamProtocol::Auto), name);
        connected.is_ok()
    };
    for (name, chosen) in [("api.example.com", &exact), ("www.example.com", &wildcard), ("first.example.net", &first)] {
        for authority in [&first, &wildcard, &exact] {
            assert_eq!(works(authority, name, name), std::ptr::eq(authority, chosen), "{name}");
        }
    }
}

#[test]
fn names_that_no_certificate_carries_get_the_first_one() {
    let authority = Authority::new();
    let certificates = [&["a.example"], &["*.example.com"]].map(|names| {
        let origin = Origin { cert: Path::root(), key: Path::root() };
        certs::certified_key(&authority.sign(names), &origin).unwrap()
    });
    let expected = certificates[0].cert.clone();
    let resolver = Certificates::new(certificates.into());
    for name in ["other.example", "example.com", "a.b.example.com", "localhost", ""] {
        assert_eq!(resolver.named(name)[0].cert, expected, "{name:?}");
    }
}

#[test]
fn a_required_client_certificate_must_be_there_and_signed_by_the_authority() {
    let [servers, clients] = [Authority::new(), Authority::new()];
    let server = server(&asking(&clients, ClientAuth::Required, servers.sign(&["api.example.com"])));
    let with = |certificate: Option<Certificate>| {
        let tls = UpstreamTls { client: certificate, ..trusting(&servers) };
        shake(&server, &client(&tls, UpstreamProtocol::Auto), "api.example.com")
    };
    let (accepted, connected) = with(None);
    assert_eq!(accepted.unwrap_err().code(), "client_certificate_missing");
    assert!(connected.is_err());

    let (accepted, connected) = with(Some(servers.sign(&["robot.example.com"])));
    assert_eq!(accepted.unwrap_err().code(), "client_certificate_invalid");
    assert!(connected.is_err());

    let (accepted, connected) = with(Some(clients.sign(&["robot.example.com"])));
    assert!(accepted.unwrap().0.client.is_some());
    assert!(connected.is_ok());
}

#[test]
fn an_optional_client_certificate_may_be_missing_but_not_foreign() {
    let [servers, clients] = [Authority::new(), Authority::new()];
    let server = server(&asking(&clients, ClientAuth::Optional, servers.sign(&["api.example.com"])));
    let with = |certificate: Option<Certificate>| {
        let tls = UpstreamTls { client: certificate, ..trusting(&servers) };
        shake(&server, &client(&tls, UpstreamProtocol::Auto), "api.example.com").0
    };
    assert!(with(None).unwrap().0.client.is_none());
    assert_eq!(with(Some(servers.sign(&["robot.example.com"]))).unwrap_err().code(), "client_certificate_invalid");
}

#[test]
fn the_facts_name_the_subject_and_all_alternatives_of_a_client() {
    let [servers, clients] = [Authority::new(), Authority::new()];
    let server = server(&asking(&clients, ClientAuth::Required, servers.sign(&["api.example.com"])));
    let mut params = CertificateParams::new(["robot.example.com".to_owned(), "192.0.2.7".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, "robot 7");
    params.subject_alt_names.push(SanType::Rfc822Name("robot@example.com".try_into().unwrap()));
    params.subject_alt_names.push(SanType::URI("spiffe://example.com/robot".try_into().unwrap()));
    let tls = UpstreamTls { client: Some(clients.sign_params(&params)), ..trusting(&servers) };
    let (accepted, _) = shake(&server, &client(&tls, UpstreamProtocol::Auto), "api.example.com");
    let client = accepted.unwrap().0.client.unwrap();
    assert_eq!(&*client.subject, "robot 7");
    let sans: Vec<(SanKind, &str)> = client.sans.iter().map(|san| (san.kind, &*san.name)).collect();
    assert_eq!(
        sans,
        [
            (SanKind::Dns, "robot.example.com"),
            (SanKind::Address, "192.0.2.7"),
            (SanKind::Email, "robot@example.com"),
            (SanKind::Uri, "spiffe://example.com/robot"),
        ]
    );
    assert_eq!(client.fingerprint.len(), 64);
}

#[test]
fn names_with_control_characters_are_no_names() {
    let authority = Authority::new();
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "admin\0.example.com");
    let origin = Origin { cert: Path::root(), key: Path::root() };
    let key = certs::certified_key(&authority.sign_params(&params), &origin).unwrap();
    assert_eq!(&*x509::client(&key.cert[0]).subject, "");
    assert!(x509::server_names(&key.cert[0]).is_empty());
}

#[test]
fn a_cut_certificate_yields_no_names_and_no_panic() {
    let origin = Origin { cert: Path::root(), key: Path::root() };
    let key = certs::certified_key(&Authority::new().sign(&["a.example"]), &origin).unwrap();
    let whole = &key.cert[0];
    assert_eq!(x509::server_names(whole), ["a.example"]);
    for length in 0..whole.len() {
        assert!(x509::client(&whole[..length]).sans.is_empty(), "{length} bytes");
    }
}

#[test]
fn a_listener_for_tls_1_3_refuses_older_clients() {
    let authority = Authority::new();
    let tls = ListenerTls { min_version: TlsVersion::Tls13, ..listener(vec![authority.sign(&["api.example.com"])]) };
    let old = |tls: &ListenerTls| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority_der(&authority)).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(certs::provider())
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        shake(&server(tls), &Arc::new(config), "api.example.com").0
    };
    assert_eq!(old(&tls).unwrap_err().code(), "refused");
    assert_eq!(old(&ListenerTls { min_version: TlsVersion::Tls12, ..tls }).unwrap().0.protocol, "TLSv1.2");
}

fn authority_der(authority: &Authority) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()
}

#[test]
fn plain_http_on_a_tls_port_is_told_from_a_failed_handshake() {
    let server = server(&listener(vec![Authority::new().sign(&["api.example.com"])]));
    block_on(async {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let error = accept(&server, Rewind::from(Io::Memory(near))).await.unwrap_err();
        assert_eq!(error.code(), "not_tls");
    });
}

#[test]
fn a_client_that_leaves_during_the_handshake_is_no_refusal() {
    let server = server(&listener(vec![Authority::new().sign(&["api.example.com"])]));
    block_on(async {
        let (near, far) = tokio::io::duplex(1024);
        drop(far);
        assert_eq!(accept(&server, Rewind::from(Io::Memory(near))).await.unwrap_err().code(), "closed");
    });
}

#[test]
fn bytes_behind_a_proxy_header_belong_to_the_handshake() {
    let authority = Authority::new();
    let server = server(&listener(vec![authority.sign(&["api.example.com"])]));
    let client = client(&trusting(&authority), UpstreamProtocol::Auto);
    block_on(async {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let answer = async {
            let mut early = BytesMut::zeroed(20);
            near.read_exact(&mut early).await.unwrap();
            accept(&server, Rewind::new(early, Io::Memory(near))).await
        };
        let (accepted, connected) =
            tokio::join!(answer, upstream::connect(&client, "api.example.com", Io::Memory(far)));
        assert!(accepted.is_ok());
        assert!(connected.is_ok());
    });
}

#[test]
fn an_endpoint_must_prove_the_name_that_was_asked_for() {
    let [authority, other] = [Authority::new(), Authority::new()];
    let server = server(&listener(vec![authority.sign(&["orders.internal", "127.0.0.1"])]));
    let connect = |authority: &Authority, name: &str| {
        shake(&server, &client(&trusting(authority), UpstreamProtocol::Auto), name).1.map_err(|error| error.kind())
    };
    assert!(connect(&authority, "orders.internal").is_ok());
    assert!(connect(&authority, "127.0.0.1").is_ok());
    assert_eq!(connect(&authority, "users.internal"), Err(io::ErrorKind::InvalidData));
    assert_eq!(connect(&other, "orders.internal"), Err(io::ErrorKind::InvalidData));
    assert_eq!(connect(&authority, "not a name"), Err(io::ErrorKind::InvalidInput));
}

#[test]
fn every_problem_with_the_files_of_a_listener_is_named_at_once() {
    let authority = Authority::new();
    let [one, two] = [authority.sign(&["a.example"]), authority.sign(&["b.example"])];
    let at = |index: usize| Path::root().join("certificates").index(index);
    let tls = ListenerTls {
        client_auth: ClientAuth::Required,
        client_ca: Some(file("clients.pem", "")),
        ..listener(vec![
            Certificate { key: two.key.clone(), at: at(0), ..one.clone() },
            Certificate { cert: file("empty.pem", "nothing here\n"), at: at(1), ..one.clone() },
            Certificate { key: one.cert.clone(), at: at(2), ..one.clone() },
            Certificate {
                key: file(
                    "secret.key",
                    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                ),
                at: at(3),
                ..one.clone()
            },
            Certificate { cert: file("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"), at: at(4), ..one },
        ])
    };
    let problems = server_config(&tls, &Path::root().join("tls")).unwrap_err();
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
    assert_eq!(
        lines,
        [
            "certificates[0].key: the key in api.key does not belong to the certificate in api.pem",
            "certificates[1].cert: there is no certificate in empty.pem",
            "certificates[2].key: there is no private key in api.pem",
            "certificates[3].key: the key in secret.key is encrypted with a passphrase",
            "certificates[4].cert: cut.pem is not a good PEM file: a section has no end line",
            "tls.client_ca: there is no certificate in clients.pem",
        ]
    );
}

#[test]
fn every_problem_with_the_files_of_a_service_is_named_at_once() {
    let authority = Authority::new();
    let [one, two] = [authority.sign(&["a.example"]), authority.sign(&["b.example"])];
    let tls = UpstreamTls {
        ca: Some(file("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
        server_name: Some("not a name".into()),
        client: Some(Certificate { key: two.key, ..one }),
    };
    let at = Path::root().join("tls");
    let problems = upstream::client_config(&tls, UpstreamProtocol::Auto, &SystemRoots::default(), &at).unwrap_err();
    let paths: Vec<String> = problems.iter().map(|problem| problem.path.to_string()).collect();
    assert_eq!(paths, ["tls.server_name", "tls.ca", "tls.client_key"]);
}

#[test]
fn a_session_is_resumed_with_the_same_configuration_and_not_with_a_new_one() {
    let authority = Authority::new();
    let tls = listener(vec![authority.sign(&["api.example.com"])]);
    let client = client(&trusting(&authority), UpstreamProtocol::Auto);
    let resumed = |server: &Arc<ServerConfig>| {
        block_on(async {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let (mut server, mut client) = {
                let (accepted, connected) = tokio::join!(
                    accept(server, Rewind::from(Io::Memory(near))),
                    upstream::connect(&client, "api.example.com", Io::Memory(far))
                );
                (accepted.unwrap().0, connected.unwrap().0)
            };
            server.write_all(b"!").await.unwrap();
            client.read_u8().await.unwrap();
            let Io::TlsClient(client) = client else { panic!("a client's connection") };
            client.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
        })
    };
    let [old, new] = [server(&tls), server(&tls)];
    assert!(!resumed(&old));
    assert!(resumed(&old));
    assert!(!resumed(&new));
}
