//! TLS towards clients: the configuration of a listener turned into rustls', and the handshake. How long a handshake may last
//! is the caller's to say.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConnection, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use tidegate_config::config::{ClientAuth, ListenerTls, TlsVersion};
use tidegate_config::problem::{Path, Problem, Problems};
use tidegate_core::client::TlsFacts;
use tokio_rustls::TlsAcceptor;

use super::certs::{self, Certificates, Origin};
use super::x509;
pub use crate::io::Alpn;
use crate::io::{HTTP_1, HTTP_2, Io, Rewind};

/// What a listener needs to shake hands. Session tickets are encrypted with a key that lives and dies with it: whoever was
/// let in under older certificates or authorities shakes hands anew.
///
/// # Errors
/// All problems of the certificates, keys and authorities at once. `at` is the path of the listener's `tls`.
pub fn server_config(tls: &ListenerTls, at: &Path) -> Result<Arc<ServerConfig>, Problems> {
    let mut problems = Problems::default();
    let mut keys = Vec::with_capacity(tls.certificates.len());
    for certificate in &tls.certificates {
        let origin = Origin { cert: certificate.at.join("cert"), key: certificate.at.join("key") };
        match certs::certified_key(certificate, &origin) {
            Ok(key) => keys.push(key),
            Err(more) => problems.extend(more),
        }
    }
    let verifier = client_verifier(tls, at).map_err(|more| problems.extend(more));
    let Ok(verifier) = verifier else { return Err(problems) };
    if !problems.is_empty() {
        return Err(problems);
    }
    build(tls, verifier, Certificates::new(keys)).map_err(|error| {
        problems.push(Problem::error(at.clone(), format!("TLS cannot be set up: {error}")));
        problems
    })
}

fn client_verifier(tls: &ListenerTls, at: &Path) -> Result<Arc<dyn ClientCertVerifier>, Problems> {
    let at = at.join("client_ca");
    let file = match (tls.client_auth, &tls.client_ca) {
        (ClientAuth::Off, _) => return Ok(WebPkiClientVerifier::no_client_auth()),
        (ClientAuth::Optional | ClientAuth::Required, Some(file)) => file,
        (ClientAuth::Optional | ClientAuth::Required, None) => {
            let problem = Problem::error(at, "client certificates need the authorities that sign them");
            return Err(problem.help("write `client_ca: clients.pem`").into());
        }
    };
    let roots = Arc::new(certs::authorities(file, &at)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, certs::provider());
    if tls.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder
        .build()
        .map_err(|error| Problem::error(at, format!("the client authorities cannot be used: {error}")).into())
}

fn build(
    tls: &ListenerTls,
    verifier: Arc<dyn ClientCertVerifier>,
    certificates: Certificates,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let versions: &[_] = match tls.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(certs::provider())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    config.ticketer = Ticketer::new()?;
    // Tickets do without a store, and a store would be one lock for all workers.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Shakes hands with a client. There is no early data (RFC 8446 section 2.3): a request that can be replayed by anybody is
/// none that a gateway may forward.
///
/// # Errors
/// The client left, or spoke something else than TLS, or offered nothing that the listener accepts.
pub async fn accept(config: &Arc<ServerConfig>, socket: Rewind) -> Result<(Io, TlsFacts, Alpn), TlsError> {
    let tls = TlsAcceptor::from(Arc::clone(config)).accept(socket).await.map_err(TlsError::from_io)?;
    let session = tls.get_ref().1;
    let facts = facts(session);
    let alpn = Alpn::agreed(session.alpn_protocol());
    Ok((Io::Tls(Box::new(tls)), facts, alpn))
}

fn facts(session: &ServerConnection) -> TlsFacts {
    TlsFacts {
        server_name: session.server_name().map(|name| Arc::from(name.to_ascii_lowercase())),
        protocol: version(session.protocol_version()),
        client: session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| x509::client(leaf)),
    }
}

fn version(version: Option<rustls::ProtocolVersion>) -> &'static str {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    }
}

/// Why a handshake failed. Its [`code`](TlsError::code) is for metrics, its text for logs; the client gets a TLS alert.
#[derive(Debug)]
pub enum TlsError {
    /// The connection broke.
    Io(io::Error),
    /// The client spoke no TLS at all: most often plain HTTP to the wrong port.
    NotTls,
    /// The two sides could not agree, or the client's certificate was refused.
    Refused(rustls::Error),
}

impl TlsError {
    fn from_io(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => Self::NotTls,
            Some(refused) => Self::Refused(refused.clone()),
            None => Self::Io(error),
        }
    }

    /// Stable, for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "closed",
            Self::NotTls => "not_tls",
            Self::Refused(rustls::Error::NoCertificatesPresented) => "client_certificate_missing",
            Self::Refused(rustls::Error::InvalidCertificate(_)) => "client_certificate_invalid",
            Self::Refused(_) => "refused",
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection broke during the TLS handshake: {error}"),
            Self::NotTls => f.write_str("the client does not speak TLS"),
            Self::Refused(error) => write!(f, "the TLS handshake failed: {error}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Refused(error) => Some(error),
            Self::NotTls => None,
        }
    }
}

#[cfg(test)]
mod tests;
