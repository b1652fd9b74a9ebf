//! `introspect` as written, and what is meant by it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidegate_config::policy::{AnyText, KeyFile, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value;
use tidegate_core::query;

use super::{Asking, Introspect};
use crate::auth::bearer::Place;
use crate::auth::elsewhere::{Terms, asking_file, elsewhere};
use crate::auth::mapping::MappingFile;
use crate::auth::way::{Kind, Meant, Way};
use crate::policy::Setup;
use crate::shared::claims::Rules;

/// How far clocks may differ at most.
const MOST_LEEWAY: Duration = Duration::from_mins(1);

asking_file! {
    /// Callers show a token that its issuer is asked about (RFC 7662): its introspection endpoint is at `path`, and a token that is not active is
    /// refused.
    IntrospectFile {
        /// Who the gateway is to the issuer.
        client_id: Option<AnyText>,
        /// The gateway's secret, with which it proves that to the issuer (`client_secret_basic`).
        client_secret: Option<AnyText>,
        /// Where a token may be: `header:NAME`, `cookie:NAME`, `query:NAME`; the first place that has one counts. In
        /// `header:authorization`, which is the default, it follows the word `Bearer`; elsewhere it stands alone.
        #[serde(default, rename = "in")]
        places: Vec<KeyFile>,
        /// Who may have issued a token: `iss` must be one of these. By default it is not looked at.
        #[serde(default)]
        issuer: Vec<String>,
        /// Whom a token may be for: `aud` must have one of these. By default it is not looked at.
        #[serde(default)]
        audiences: Vec<String>,
        /// How far clocks may differ: by default 30s, and 60s at most.
        leeway: Option<value::Duration>,
        /// Which claim of the answer says what about the caller.
        claims: Option<MappingFile>,
    }
}

/// What is meant.
struct Meaning {
    terms: Terms,
    places: Vec<Place>,
    asking: Asking,
}

impl Meant for Meaning {
    fn build(&self, name: &Arc<str>, at: &Path, setup: &mut Setup<'_>) -> Arc<dyn Way> {
        let asking = self.asking.clone();
        let elsewhere = elsewhere((name, at), &self.terms, &format!("introspect {asking:?}"), setup);
        Arc::new(Introspect { name: Arc::clone(name), places: self.places.clone(), asking, elsewhere })
    }
}

impl Kind for IntrospectFile {
    fn mean(mut self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>> {
        let terms = self.terms();
        let places = Place::read(&self.places, &at.join("in"), reading);
        let leeway = self.leeway.map_or(Duration::from_secs(30), |leeway| leeway.0);
        if leeway > MOST_LEEWAY {
            reading.error(&at.join("leeway"), "clocks may not differ by more than 60s");
        }
        if self.audiences.is_empty() {
            let problem =
                Problem::warning(at.clone(), "tokens that were issued for other services are taken too").on_key();
            reading.report(problem.help("write this gateway's `audiences`"));
        }
        let (id, secret) = (self.client_id.as_ref(), self.client_secret.as_ref());
        for (key, written) in [("client_id", id), ("client_secret", secret)] {
            match written {
                None => reading.missing(at, key, "the issuer tells nobody about tokens who has not proved who it is"),
                Some(AnyText(text)) if text.is_empty() => reading.error(&at.join(key), format!("`{key}` is empty")),
                Some(_) => {}
            }
        }
        let terms = terms.mean((name, "introspect"), at, reading)?;
        let (AnyText(id), AnyText(secret)) = (id?, secret?);
        let rules =
            Rules { issuers: self.issuer, audiences: self.audiences, required: Vec::new(), needs_end: false, leeway };
        let mapping = self.claims.unwrap_or_default().into();
        let asking = Asking { target: terms.target.clone(), client: basic(id, secret).into(), rules, mapping };
        Some(Box::new(Meaning { terms, places, asking }))
    }
}

/// The gateway's own credential: both parts are encoded as in forms first (RFC 6749, 2.3.1).
fn basic(id: &str, secret: &str) -> String {
    let mut pair = String::new();
    query::encode(id.as_bytes(), &mut pair);
    pair.push(':');
    query::encode(secret.as_bytes(), &mut pair);
    format!("Basic {}", STANDARD.encode(pair))
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, client, rules, mapping } = self;
        // What tells two secrets apart, and shows neither.
        let client = STANDARD.encode(digest(&SHA256, client.as_bytes()));
        f.debug_struct("Asking")
            .field("target", target)
            .field("client", &client)
            .field("rules", rules)
            .field("mapping", mapping)
            .finish()
    }
}
