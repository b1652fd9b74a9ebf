//! TLS towards endpoints: whom to trust, what to show, which protocol to offer, and the handshake.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::{RootCertStore, sign::SingleCertAndKey};
use tidegate_config::config::{Certificate, UpstreamProtocol, UpstreamTls};
use tidegate_config::problem::{Path, Problem, Problems};
use tokio_rustls::TlsConnector;

use crate::io::{Alpn, HTTP_1, HTTP_2, Io, Rewind};
use crate::listener::certs::{self, Origin};

/// The authorities that the machine trusts: read once, when the first service needs them, and shared by all.
#[derive(Debug, Default)]
pub struct SystemRoots(OnceLock<Arc<RootCertStore>>);

impl SystemRoots {
    fn load(&self) -> Arc<RootCertStore> {
        let store = self.0.get_or_init(|| {
            let mut store = RootCertStore::empty();
            // A certificate that cannot be read or used leaves those that can: connections judge for themselves.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(store)
        });
        Arc::clone(store)
    }
}

/// What a service needs to shake hands with its endpoints.
///
/// # Errors
/// All problems of authorities, certificate and key at once. `at` is the path of the service's `tls`.
pub fn client_config(
    tls: &UpstreamTls,
    protocol: UpstreamProtocol,
    system: &SystemRoots,
    at: &Path,
) -> Result<Arc<ClientConfig>, Problems> {
    let mut problems = Problems::default();
    if let Some(name) = tls.server_name.as_deref()
        && ServerName::try_from(name).is_err()
    {
        problems
            .push(Problem::error(at.join("server_name"), format!("`{name}` is neither a host name nor an address")));
    }
    let roots = roots(tls, system, at).map_err(|more| problems.extend(more));
    let identity = tls.client.as_ref().map(|client| identity(client, at)).transpose();
    let identity = identity.map_err(|more| problems.extend(more));
    let (Ok(roots), Ok(identity)) = (roots, identity) else { return Err(problems) };
    if !problems.is_empty() {
        return Err(problems);
    }
    build(roots, identity, protocol).map_err(|error| {
        problems.push(Problem::error(at.clone(), format!("TLS cannot be set up: {error}")));
        problems
    })
}

fn roots(tls: &UpstreamTls, system: &SystemRoots, at: &Path) -> Result<Arc<RootCertStore>, Problems> {
    if let Some(file) = &tls.ca {
        return certs::authorities(file, &at.join("ca")).map(Arc::new);
    }
    let roots = system.load();
    if roots.is_empty() {
        let problem = Problem::error(at.clone(), "this machine has no trusted authorities");
        let help = "install them (on Debian the package `ca-certificates`), or name your own: `tls: { ca: file.pem }`";
        return Err(problem.help(help).into());
    }
    Ok(roots)
}

fn identity(client: &Certificate, at: &Path) -> Result<SingleCertAndKey, Problems> {
    let origin = Origin { cert: at.join("client_cert"), key: at.join("client_key") };
    certs::certified_key(client, &origin).map(SingleCertAndKey::from)
}

fn build(
    roots: Arc<RootCertStore>,
    identity: Option<SingleCertAndKey>,
    protocol: UpstreamProtocol,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(certs::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match protocol {
        UpstreamProtocol::Auto => vec![HTTP_2.to_vec(), HTTP_1.to_vec()],
        UpstreamProtocol::Http1 => vec![HTTP_1.to_vec()],
        UpstreamProtocol::Http2 => vec![HTTP_2.to_vec()],
    };
    Ok(Arc::new(config))
}

/// Shakes hands with an endpoint, which must prove to be `server_name`: a host name, or an address.
///
/// # Errors
/// The connection broke, or the endpoint's certificate is not good for that name ([`io::ErrorKind::InvalidData`]).
pub async fn connect(config: &Arc<ClientConfig>, server_name: &str, socket: impl Into<Io>) -> io::Result<(Io, Alpn)> {
    let name = ServerName::try_from(server_name)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?
        .to_owned();
    let tls = TlsConnector::from(Arc::clone(config)).connect(name, Rewind::from(socket.into())).await?;
    let alpn = Alpn::agreed(tls.get_ref().1.alpn_protocol());
    Ok((Io::TlsClient(Box::new(tls)), alpn))
}
