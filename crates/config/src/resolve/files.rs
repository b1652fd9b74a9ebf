//! Certificates and keys: read through the source, looked at just enough to tell one from the other.

use crate::config::{Certificate, FileText};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;

/// The largest file, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// What a PEM file shall hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pem {
    Certificate,
    Key,
}

impl Resolver<'_> {
    /// The content of the PEM file that the value at `path` names.
    pub(super) fn pem(&mut self, path: &Path, name: &str, what: Pem) -> Option<FileText> {
        let file = self.file(path, name)?;
        if let Some(problem) = wrong_pem(path, &file.path, &file.bytes, what) {
            self.push(problem);
            return None;
        }
        Some(file)
    }

    /// The content of the file that the value at `path` names. It is watched from now on, also where it cannot be read.
    pub(crate) fn file(&mut self, path: &Path, name: &str) -> Option<FileText> {
        let full = self.document.folder(path).join(name);
        if !self.files.contains(&full) {
            self.files.push(full.clone());
        }
        let bytes = match self.source.read(&full) {
            Ok(bytes) if bytes.len() <= MAX_BYTES => bytes,
            Ok(_) => {
                self.error(path, format!("{} is larger than 4 MB", full.display()));
                return None;
            }
            Err(error) => {
                let problem = Problem::error(
                    path.clone(),
                    format!("cannot read {}: {}", full.display(), crate::file_error(&error)),
                );
                self.push(problem.help("relative names start at the folder of the file that they are written in"));
                return None;
            }
        };
        Some(FileText { path: full, bytes: bytes.into() })
    }

    /// A certificate and its key, of which both are needed.
    pub(super) fn certificate(
        &mut self,
        at: &Path,
        cert: (&str, Option<&str>),
        key: (&str, Option<&str>),
    ) -> Option<Certificate> {
        for (name, value) in [cert, key] {
            if value.is_none() {
                self.missing(at, name, "a certificate and its key come together, as the names of two PEM files");
            }
        }
        let cert_file = self.pem(&at.join(cert.0), cert.1?, Pem::Certificate);
        let key_file = self.pem(&at.join(key.0), key.1?, Pem::Key);
        Some(Certificate { cert: cert_file?, key: key_file?, at: at.clone() })
    }
}

fn wrong_pem(path: &Path, file: &std::path::Path, bytes: &[u8], what: Pem) -> Option<Problem> {
    let has = |label: &str| bytes.windows(label.len()).any(|window| window == label.as_bytes());
    let (certificate, key) = (has("-----BEGIN CERTIFICATE-----"), has(" PRIVATE KEY-----"));
    let name = file.display();
    match what {
        Pem::Certificate if certificate => None,
        Pem::Key if has("ENCRYPTED") && key => Some(
            Problem::error(path.clone(), format!("the key in {name} is encrypted"))
                .help("decrypt it: `openssl pkey -in KEY -out PLAIN`"),
        ),
        Pem::Key if key => None,
        Pem::Certificate if key => {
            Some(Problem::error(path.clone(), format!("{name} holds a private key, not a certificate")))
        }
        Pem::Key if certificate => {
            Some(Problem::error(path.clone(), format!("{name} holds a certificate, not a private key")))
        }
        Pem::Certificate => Some(
            Problem::error(path.clone(), format!("{name} holds no certificate in PEM"))
                .help("PEM begins with `-----BEGIN CERTIFICATE-----`"),
        ),
        Pem::Key => Some(
            Problem::error(path.clone(), format!("{name} holds no private key in PEM"))
                .help("PEM begins with `-----BEGIN PRIVATE KEY-----`"),
        ),
    }
}
