//! Certificates and keys: from PEM to what a TLS handshake needs, and the choice among several by the name that the client
//! asks for. Pure functions on bytes, so that `check` refuses what `run` would.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use tidegate_config::config::{Certificate, FileText};
use tidegate_config::problem::{Path, Problem, Problems};

use super::x509;

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Where a chain and its key were written, for problems with either.
pub(crate) struct Origin {
    pub(crate) cert: Path,
    pub(crate) key: Path,
}

/// A chain and its key, which are known to belong together.
///
/// # Errors
/// What the operator must change, and where: no PEM, no certificate, an encrypted or foreign key.
pub(crate) fn certified_key(certificate: &Certificate, origin: &Origin) -> Result<CertifiedKey, Problems> {
    let chain = certificates(&certificate.cert, &origin.cert)?;
    let key = private_key(&certificate.key, &origin.key)?;
    let mismatch = InconsistentKeys::KeyMismatch;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
        let [cert_file, key_file] = [&certificate.cert, &certificate.key].map(|file| file.path.display());
        let problem = if error == mismatch.into() {
            let message = format!("the key in {key_file} does not belong to the certificate in {cert_file}");
            Problem::error(origin.key.clone(), message)
                .help("the first certificate of the file must be the server's own, its issuers follow")
        } else if let rustls::Error::InvalidCertificate(reason) = error {
            Problem::error(origin.cert.clone(), format!("the certificate in {cert_file} cannot be used: {reason}"))
        } else {
            Problem::error(origin.key.clone(), format!("the key in {key_file} cannot be used: {error}"))
                .help("RSA from 2048 bits, ECDSA on P-256, P-384 or P-521, and Ed25519 keys work")
        };
        problem.into()
    })
}

/// The authorities in a PEM file.
///
/// # Errors
/// The file holds no certificate, or one that cannot be an authority.
pub(crate) fn authorities(file: &FileText, at: &Path) -> Result<RootCertStore, Problems> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file, at)? {
        store.add(certificate).map_err(|error| {
            Problem::error(at.clone(), format!("a certificate in {} is no authority: {error}", file.path.display()))
        })?;
    }
    Ok(store)
}

fn certificates(file: &FileText, at: &Path) -> Result<Vec<CertificateDer<'static>>, Problems> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&file.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(file, at, &error))?;
    if chain.is_empty() {
        let problem = Problem::error(at.clone(), format!("there is no certificate in {}", file.path.display()));
        return Err(problem.help("a certificate begins with the line `-----BEGIN CERTIFICATE-----`").into());
    }
    Ok(chain)
}

fn private_key(file: &FileText, at: &Path) -> Result<PrivateKeyDer<'static>, Problems> {
    PrivateKeyDer::from_pem_slice(&file.bytes).map_err(|error| {
        let path = file.path.display();
        if !matches!(error, pem::Error::NoItemsFound) {
            return not_pem(file, at, &error);
        }
        let problem = if file.bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
            Problem::error(at.clone(), format!("the key in {path} is encrypted with a passphrase"))
                .help("`openssl pkey -in encrypted.key -out plain.key` removes it; protect the file by its permissions")
        } else {
            Problem::error(at.clone(), format!("there is no private key in {path}"))
                .help("a private key begins with the line `-----BEGIN PRIVATE KEY-----`")
        };
        problem.into()
    })
}

const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";

fn not_pem(file: &FileText, at: &Path, error: &pem::Error) -> Problems {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a section's first line is malformed".to_owned(),
        pem::Error::Base64Decode(reason) => format!("its base64 is malformed: {reason}"),
        pem::Error::Io(_) | pem::Error::NoItemsFound | pem::Error::SectionTooLarge | _ => error.to_string(),
    };
    Problem::error(at.clone(), format!("{} is not a good PEM file: {reason}", file.path.display())).into()
}

/// Chooses a certificate by the name that the client asks for (SNI): exact names before wildcards, else the first one.
/// Where several carry the same name, the first whose key the client can verify.
#[derive(Debug)]
pub(crate) struct Certificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the star: `.example.com`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    all: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// In the order written: the first one answers names that none carries, and clients that send no name.
    pub(crate) fn new(keys: Vec<CertifiedKey>) -> Self {
        let mut this = Self { exact: HashMap::new(), wildcard: HashMap::new(), all: Vec::new() };
        for key in keys {
            let key = Arc::new(key);
            let names = key.cert.first().map(|leaf| x509::server_names(leaf)).unwrap_or_default();
            for name in names {
                let slot = match name.strip_prefix('*') {
                    Some(suffix) => this.wildcard.entry(suffix.to_owned()),
                    None => this.exact.entry(name),
                };
                slot.or_default().push(Arc::clone(&key));
            }
            this.all.push(key);
        }
        this
    }

    /// The certificates for `name`, which is lower case, best first.
    pub(super) fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        // A star stands for exactly one label, RFC 9525 section 6.3.
        let wildcard = || name.find('.').and_then(|dot| self.wildcard.get(name.get(dot..)?));
        self.exact.get(name).or_else(wildcard).unwrap_or(&self.all)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = match hello.server_name() {
            Some(name) => self.named(&name.to_ascii_lowercase()),
            None => &self.all,
        };
        let offered = hello.signature_schemes();
        candidates
            .iter()
            .find(|candidate| candidate.key.choose_scheme(offered).is_some())
            .or_else(|| candidates.first())
            .map(Arc::clone)
    }
}
