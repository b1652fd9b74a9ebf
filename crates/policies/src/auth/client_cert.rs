//! `client_cert`: who one is by the certificate with which the connection was opened. Whether it is a good one was settled by the handshake.

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tidegate_config::config::ClientAuth;
use tidegate_config::policy::{AnyText, Entries, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_core::client::{ClientCert, SanKind};
use tidegate_core::exchange::Exchange;
use tidegate_core::identity::Identity;
use tidegate_core::policy::World;

use super::way::{Bad, Finding, Kind, Meant, Proof, Way};
use crate::policy::Setup;

/// Certificates of clients, for listeners with `client_auth`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientCertFile {
    /// What of the certificate is the user. By default `subject`.
    user: Option<Part>,
    /// What users are: `{ robot: [deploy] }`.
    roles: Option<Entries<String, Vec<AnyText>>>,
}

/// A part of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Part {
    /// The common name of its subject.
    Subject,
    /// Its first alternative name, of whatever kind.
    San,
    /// The first host among its alternative names.
    SanDns,
    /// The first URI among its alternative names, such as a SPIFFE identity.
    SanUri,
    /// The first mailbox among its alternative names.
    SanEmail,
    /// SHA-256 of the whole certificate, in hexadecimal, lower case.
    Fingerprint,
}

impl Part {
    fn of(self, certificate: &ClientCert) -> Option<&Arc<str>> {
        let san = |kind: Option<SanKind>| {
            let mut sans = certificate.sans.iter();
            sans.find(|san| kind.is_none_or(|kind| san.kind == kind)).map(|san| &san.name)
        };
        let part = match self {
            Self::Subject => Some(&certificate.subject),
            Self::San => san(None),
            Self::SanDns => san(Some(SanKind::Dns)),
            Self::SanUri => san(Some(SanKind::Uri)),
            Self::SanEmail => san(Some(SanKind::Email)),
            Self::Fingerprint => Some(&certificate.fingerprint),
        };
        part.filter(|part| !part.is_empty())
    }
}

type Roles = HashMap<String, Vec<Arc<str>>>;

struct Meaning {
    user: Part,
    roles: Arc<Roles>,
}

impl Kind for ClientCertFile {
    fn mean(self, _: &Arc<str>, _: &Path, _: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>> {
        let words = |words: Vec<AnyText>| words.into_iter().map(|AnyText(word)| word.into()).collect();
        let roles = self.roles.map_or_else(Vec::new, |roles| roles.0);
        let roles = Arc::new(roles.into_iter().map(|(user, roles)| (user, words(roles))).collect());
        Some(Box::new(Meaning { user: self.user.unwrap_or(Part::Subject), roles }))
    }
}

impl Meant for Meaning {
    fn build(&self, name: &Arc<str>, at: &Path, setup: &mut Setup<'_>) -> Arc<dyn Way> {
        let mut tls = setup.config.server.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        if !tls.any(|tls| tls.client_auth != ClientAuth::Off) {
            let problem = Problem::error(at.join("client_cert"), "no listener asks clients for certificates").on_key();
            setup.report(problem.help("write `client_auth: optional` and `client_ca` into the listener's `tls`"));
        }
        Arc::new(Certificates { name: Arc::clone(name), user: self.user, roles: Arc::clone(&self.roles) })
    }
}

/// The way.
struct Certificates {
    name: Arc<str>,
    user: Part,
    roles: Arc<Roles>,
}

impl Certificates {
    fn find(&self, exchange: &Exchange) -> Finding {
        let Some(certificate) = exchange.peer.tls.as_ref().and_then(|tls| tls.client.as_ref()) else {
            return Finding::Absent;
        };
        let Some(user) = self.user.of(certificate) else {
            let cause = "the certificate does not have the part that is the user".to_owned();
            return Finding::Bad(Bad { cause, detail: "Invalid client certificate", challenge: None });
        };
        let sans: Vec<&str> = certificate.sans.iter().map(|san| &*san.name).collect();
        let claims = json!({ "subject": certificate.subject, "sans": sans, "fingerprint": certificate.fingerprint });
        Finding::Known(Arc::new(Identity {
            way: Arc::clone(&self.name),
            user: Some(Arc::clone(user)),
            roles: self.roles.get(&**user).cloned().unwrap_or_default(),
            claims,
            ..Identity::default()
        }))
    }
}

impl Way for Certificates {
    fn prove<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn World) -> Proof<'a> {
        Proof::Ready(self.find(exchange))
    }

    /// There is no registered scheme for certificates, but every 401 has a challenge (RFC 9110, 15.5.2).
    fn challenge(&self) -> Option<String> {
        Some(format!("ClientCertificate realm=\"{}\"", self.name))
    }

    fn describe(&self) -> String {
        "a client certificate".to_owned()
    }

    fn missing(&self) -> &'static str {
        "Missing client certificate"
    }

    fn shows_secrets(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::Memory;
    use tidegate_core::client::{San, TlsFacts};

    use super::*;
    use crate::testing::{Gateway, problems};

    fn gateway(user: &str) -> Gateway {
        let yaml = format!(
            "auth: {{ machines: {{ client_cert: {{ user: {user}, roles: {{ robot: [deploy], 'robot@example.com': [mail] }} }} }} }}
server: {{ tls: {{ certificates: [{{ cert: c.pem, key: k.pem }}], client_auth: optional, client_ca: c.pem }} }}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s, auth: machines }}]"
        );
        let files = Memory::new()
            .with("c.pem", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
            .with("k.pem", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n");
        Gateway::with_files(&yaml, &files)
    }

    fn facts(client: Option<ClientCert>) -> Arc<TlsFacts> {
        Arc::new(TlsFacts { server_name: None, protocol: "TLSv1.3", client })
    }

    fn robot() -> ClientCert {
        let san = |kind, name: &str| San { kind, name: name.into() };
        ClientCert {
            subject: "robot".into(),
            sans: vec![
                san(SanKind::Email, "robot@example.com"),
                san(SanKind::Dns, "robot.example.com"),
                san(SanKind::Uri, "spiffe://example.com/robot"),
                san(SanKind::Dns, "other.example.com"),
            ],
            fingerprint: "ab12".into(),
        }
    }

    #[test]
    fn a_certificate_says_who_it_is_by_the_part_that_is_written() {
        for (user, expected, roles) in [
            ("subject", "robot", vec!["deploy".into()]),
            ("san", "robot@example.com", vec!["mail".into()]),
            ("san_dns", "robot.example.com", vec![]),
            ("san_uri", "spiffe://example.com/robot", vec![]),
            ("san_email", "robot@example.com", vec!["mail".into()]),
            ("fingerprint", "ab12", vec![]),
        ] {
            let gateway = gateway(user).over(Some(facts(Some(robot()))));
            let identity = gateway.send("GET /").exchange.identity.unwrap();
            assert_eq!((identity.user.as_deref(), &identity.roles), (Some(expected), &roles), "{user}");
            assert_eq!(identity.claim(["subject"]), Some(&json!("robot")));
        }
    }

    #[test]
    fn without_a_certificate_and_with_one_that_says_too_little_nobody_is_known() {
        let challenge = "\nwww-authenticate: ClientCertificate realm=\"machines\"";
        for (tls, said) in [
            (None, "401 credential_missing: Missing client certificate"),
            (Some(facts(None)), "401 credential_missing: Missing client certificate"),
            (
                Some(facts(Some(ClientCert { subject: "robot".into(), ..ClientCert::default() }))),
                "401 credential_invalid: Invalid client certificate",
            ),
        ] {
            let gateway = gateway("san_dns").over(tls);
            assert_eq!(gateway.send("GET /\nX-Client-Cert: robot").said, format!("{said}{challenge}"));
        }
    }

    #[test]
    fn a_way_that_can_never_prove_anything_is_a_mistake_and_one_in_clear_is_no_leak() {
        let found = problems(
            "auth: { machines: { client_cert: { user: san } } }
services: { s: { url: http://127.0.0.1:9001 } }
routes: [{ match: { path_prefix: / }, service: s, auth: machines }]",
        );
        assert_eq!(
            found,
            "error: auth.machines.client_cert: no listener asks clients for certificates | write `client_auth: optional` and `client_ca` into the listener's `tls`"
        );
    }
}
