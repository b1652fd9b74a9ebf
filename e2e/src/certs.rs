//! Certificates made for one test: an authority, what it signs, and TLS configurations that trust it.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned, SupportedProtocolVersion};

use crate::client::Client;
use crate::folder::Folder;
use crate::stream::{PATIENCE, Stream, guarded};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Identity {
    /// The certificate.
    pub cert: CertificateDer<'static>,
    /// The certificate as PEM.
    pub cert_pem: String,
    /// The key as PEM.
    pub key_pem: String,
    key: Vec<u8>,
}

impl Authority {
    /// Makes one.
    ///
    /// # Panics
    /// If the keys cannot be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    /// The authority's certificate as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for these names (DNS names or addresses) with the first as its common name.
    ///
    /// # Panics
    /// If a name is none.
    pub fn sign(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params.distinguished_name.push(DnType::CommonName, names.first().cloned().unwrap_or_default());
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a signature");
        Identity {
            cert: cert.der().clone(),
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
        }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        Arc::new(roots)
    }

    /// A client's configuration that trusts this authority, offers these protocols and shows `identity` when asked.
    ///
    /// # Panics
    /// If the parts do not fit.
    pub fn client(&self, alpn: &[&str], identity: Option<&Identity>) -> Arc<ClientConfig> {
        self.client_with_versions(alpn, identity, rustls::ALL_VERSIONS)
    }

    /// As [`Authority::client`], for certain versions of TLS.
    ///
    /// # Panics
    /// If the parts do not fit.
    pub fn client_with_versions(
        &self,
        alpn: &[&str],
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(vec![identity.cert.clone()], identity.key())
                .expect("a client certificate"),
        };
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A backend's configuration: shows `identity`, offers these protocols, and when `ask` is set demands a certificate of this
    /// authority.
    ///
    /// # Panics
    /// If the parts do not fit.
    pub fn server(&self, identity: &Identity, alpn: &[&str], ask: bool) -> Arc<ServerConfig> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().expect("versions");
        let builder = if ask {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(self.roots(), provider()).build().expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_single_cert(vec![identity.cert.clone()], identity.key()).expect("a certificate");
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).expect("a private key")
    }

    /// Writes `NAME.pem` and `NAME.key` and gives their paths.
    pub fn write(&self, folder: &Folder, name: &str) -> (PathBuf, PathBuf) {
        (folder.write(&format!("{name}.pem"), &self.cert_pem), folder.write(&format!("{name}.key"), &self.key_pem))
    }
}

/// A TLS connection that has finished its handshake.
pub struct Secured {
    /// To send and read over it.
    pub client: Client,
    /// The certificate that the gateway showed.
    pub certificate: CertificateDer<'static>,
    /// What was agreed by ALPN.
    pub alpn: Option<String>,
}

/// Makes a TLS connection to the gateway, asking for `name`.
///
/// # Errors
/// Whatever the handshake failed with. With TLS 1.3 a refused client certificate is told only after it, by the first read.
///
/// # Panics
/// If nobody listens.
pub fn connect(address: std::net::SocketAddr, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Secured> {
    let socket = std::net::TcpStream::connect_timeout(&address, PATIENCE).unwrap_or_else(|e| panic!("connect: {e}"));
    let mut socket = guarded(socket);
    let name = ServerName::try_from(name.to_owned()).expect("a server name");
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    let certificate = tls.peer_certificates().and_then(|c| c.first()).cloned().expect("a certificate").into_owned();
    let alpn = tls.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned());
    let client = Client::over(Stream::TlsClient(Box::new(StreamOwned::new(tls, socket))));
    Ok(Secured { client, certificate, alpn })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
