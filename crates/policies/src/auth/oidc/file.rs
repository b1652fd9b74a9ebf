//! `oidc` as written, and what is meant by it.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{AnyText, Entries, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{self, Name};
use tidegate_core::path::canonicalize;
use tidegate_core::policy::Job;

use super::browser::is_own_target;
use super::cookies::Cookies;
use super::ended::Ended;
use super::provider::{Client, ClientAuth, Place, Provider, split};
use super::reach::{Others, nobody_comes_back};
use super::seal::Seal;
use super::session::{Keeping, Lifetimes};
use super::tokens::Verifier;
use super::{Oidc, Paths, REMEMBERED};
use crate::auth::jwt::cache::Cache;
use crate::auth::jwt::may_be_changed_on_its_way;
use crate::auth::mapping::{Mapping, MappingFile};
use crate::auth::way::{Kind, Meant, Way};
use crate::policy::Setup;
use crate::shared::claims::Rules;
use crate::shared::signing_key::Algorithm;

/// How far clocks may differ at most.
const MOST_LEEWAY: Duration = Duration::from_mins(1);

/// Characters of a secret that encrypts cookies: whoever has a cookie can try secrets for as long as they like.
const LEAST_COOKIE_SECRET: usize = 32;

/// The same, of one that a provider has made.
const LEAST_CLIENT_SECRET: usize = 16;

/// Claims that sessions keep unless others are named.
const KEPT: [&str; 5] = ["sub", "name", "email", "email_verified", "preferred_username"];

/// What the gateway writes into the question by itself.
const OWN_PARAMETERS: [&str; 11] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
];

/// People log in at an OpenID Connect provider with their browser. A browser that opens a page without a session is sent to the provider and
/// comes back to `redirect_path`; any other request without one is refused with 401. Sessions are encrypted cookies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OidcFile {
    /// Who the provider is: a URL, letter for letter as the provider says it. What it says of itself is fetched from below it.
    issuer: Option<AnyText>,
    /// As what the provider knows this gateway.
    client_id: Option<AnyText>,
    /// The secret that goes with it. Without one the gateway is a public client.
    client_secret: Option<AnyText>,
    /// How the secret is shown to the provider: by default `basic`.
    client_auth: Option<ClientAuthFile>,
    /// What is asked for, `openid` among it, which is the default. For sessions that are renewed many providers want `offline_access`.
    #[serde(default)]
    scopes: Vec<String>,
    /// What else the provider is told with each login, as in `{ prompt: consent }`.
    parameters: Option<Entries<String, AnyText>>,
    /// The service by which the provider is asked, where its own address is none that the gateway can reach.
    service: Option<Name>,
    /// Other origins than the issuer's at which the provider may have itself asked for tokens, keys and claims, such as `https://oauth2.example.com`.
    #[serde(default)]
    origins: Vec<String>,
    /// What ID tokens may be signed with. By default `RS256`, `ES256`, `EdDSA` and `Ed25519`.
    #[serde(default)]
    algorithms: Vec<Algorithm>,
    /// How far clocks may differ: by default 30s, and 60s at most.
    leeway: Option<value::Duration>,
    /// How long an answer of the provider may take. By default 5s.
    timeout: Option<value::Duration>,
    /// Which claim says what about the user.
    claims: Option<MappingFile>,
    /// Claims that sessions keep besides, for conditions, templates and fields. By default `sub`, `name`, `email`, `email_verified` and
    /// `preferred_username`.
    keep: Option<Vec<String>>,
    /// Whether the provider is asked for claims that its ID tokens do not have.
    #[serde(default)]
    userinfo: bool,
    /// What cookies are called; over TLS `__Host-` stands before it. By default `tg_` and the way's name.
    cookie: Option<String>,
    /// What cookies are encrypted with: at least 32 characters. Several while it is changed: the first one encrypts. By default it is derived from
    /// `client_secret`.
    #[serde(default)]
    cookie_secret: Vec<String>,
    /// How long a session lasts, whatever its user does. By default 8h.
    session: Option<value::Duration>,
    /// How long it lasts without a request. By default that does not matter.
    idle: Option<value::Duration>,
    /// Where browsers come back to, on the host where they were: the provider must know it. By default `/oauth2/callback`.
    redirect_path: Option<String>,
    /// Where users log out. By default `/oauth2/logout`.
    logout_path: Option<String>,
    /// Where they are sent then: a path of the same host. The provider must know it. By default the provider decides.
    after_logout: Option<String>,
}

/// How a client shows its secret (RFC 6749, 2.3.1).
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ClientAuthFile {
    /// In the `Authorization` field.
    Basic,
    /// In the body.
    Post,
}

/// What is meant.
struct Meaning {
    place: Place,
    client: Client,
    algorithms: Vec<Algorithm>,
    leeway: Duration,
    scopes: String,
    parameters: Vec<(String, String)>,
    paths: Paths,
    cookie: String,
    secrets: Vec<String>,
    mapping: Mapping,
    keep: Vec<String>,
    lifetimes: Lifetimes,
}

impl Kind for OidcFile {
    fn mean(self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>> {
        let client = self.read_client(at, reading);
        let secrets = self.read_secrets(at, reading);
        let scopes = self.read_scopes(at, reading);
        let paths = self.read_paths(at, reading);
        let parameters = self.read_parameters(at, reading);
        let cookie = self.read_cookie(name, at, reading);
        let leeway = self.leeway.map_or(Duration::from_secs(30), |leeway| leeway.0);
        if leeway > MOST_LEEWAY {
            reading.error(&at.join("leeway"), "clocks may not differ by more than 60s");
        }
        if let Some(position) = self.algorithms.iter().position(|algorithm| algorithm.needs_secret()) {
            let at = reading.item(&at.join("algorithms"), position);
            reading.error(&at, "ID tokens are verified with the provider's public keys, not with a secret");
        }
        let algorithms = if self.algorithms.is_empty() { Algorithm::USUAL.to_vec() } else { self.algorithms.clone() };
        let lifetimes = self.read_lifetimes(at, reading);
        if reading.is_off(&[name, "oidc", "session"]) {
            reading.error(&at.join("session"), "a session ends some time: write how long it lasts");
        }
        let place = self.read_place(name, at, reading);
        let keep = self.keep.unwrap_or_else(|| KEPT.map(str::to_owned).to_vec());
        let mapping = self.claims.unwrap_or_default().into();
        Some(Box::new(Meaning {
            place: place?,
            client: client?,
            algorithms,
            leeway,
            scopes,
            parameters,
            paths,
            cookie,
            secrets,
            mapping,
            keep,
            lifetimes,
        }))
    }
}

impl Meant for Meaning {
    fn build(&self, name: &Arc<str>, at: &Path, setup: &mut Setup<'_>) -> Arc<dyn Way> {
        let at = at.join("oidc");
        let here = at.join("redirect_path");
        if let Some(problem) = nobody_comes_back(setup.config, name, &here, &self.paths.redirect) {
            setup.report(problem);
        }
        let others = setup.once(|_| Others::default());
        for problem in others.add(name, &at, (&*self.cookie, &self.paths), setup.config) {
            setup.report(problem);
        }
        let Self { place, client, .. } = self;
        let shared = setup.shared;
        let secret = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, client.secret.as_bytes()));
        let identity =
            format!("oidc {place:?} {} {secret} {:?} {:?} {:?}", client.id, client.auth, self.algorithms, self.leeway);
        let provider = shared.keep(identity, || Provider::new(place.clone(), client.clone(), self.verifier(), shared));
        let job: Arc<dyn Job> = Arc::<Provider>::clone(&provider);
        setup.job(job);
        Arc::new(Oidc {
            name: Arc::clone(name),
            provider,
            // Sessions outlast what is asked of the provider and how: so does their end.
            ended: shared.keep(format!("oidc ended {name} {} {}", place.issuer, client.id), Ended::default),
            scopes: self.scopes.clone(),
            parameters: self.parameters.clone(),
            paths: self.paths.clone(),
            cookies: Cookies::new(&self.cookie),
            seal: Seal::new(&self.secrets, format!("{name}\0{}\0{}", place.issuer, client.id)),
            keeping: Keeping { mapping: self.mapping.clone(), claims: self.keep.clone() },
            lifetimes: self.lifetimes,
            opened: Cache::new(REMEMBERED),
        })
    }
}

impl Meaning {
    fn verifier(&self) -> Verifier {
        let rules = Rules {
            issuers: vec![self.place.issuer.clone()],
            audiences: vec![self.client.id.clone()],
            required: ["sub", "iat"].map(str::to_owned).to_vec(),
            needs_end: true,
            leeway: self.leeway,
        };
        Verifier { algorithms: self.algorithms.clone(), rules, client_id: self.client.id.clone() }
    }
}

impl OidcFile {
    fn read_client(&self, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Client> {
        let Some(AnyText(id)) = self.client_id.as_ref().filter(|id| !id.0.is_empty()) else {
            reading.missing(at, "client_id", "write the name under which the provider knows this gateway");
            return None;
        };
        let secret = self.client_secret.as_ref().map(|AnyText(secret)| secret.clone());
        if secret.as_ref().is_some_and(String::is_empty) {
            let problem = Problem::error(at.join("client_secret"), "the secret is empty");
            reading.report(problem.help("leave `client_secret` out where the provider gave none"));
        }
        let auth = match (&secret, self.client_auth) {
            (Some(_), None | Some(ClientAuthFile::Basic)) => ClientAuth::Basic,
            (Some(_), Some(ClientAuthFile::Post)) => ClientAuth::Post,
            (None, auth) => {
                if auth.is_some() {
                    reading.error(&at.join("client_auth"), "there is no `client_secret` to be shown");
                }
                ClientAuth::Public
            }
        };
        Some(Client { id: id.clone(), secret: secret.unwrap_or_default(), auth })
    }

    fn read_secrets(&self, at: &Path, reading: &mut Reading<'_, '_>) -> Vec<String> {
        let help = "write a `cookie_secret`, made with `openssl rand -hex 32`";
        for (position, secret) in self.cookie_secret.iter().enumerate() {
            if secret.len() < LEAST_COOKIE_SECRET {
                let text = format!("a secret for cookies has at least {LEAST_COOKIE_SECRET} characters");
                let problem = Problem::error(reading.item(&at.join("cookie_secret"), position), text);
                reading.report(problem.help("make one with `openssl rand -hex 32`"));
            }
        }
        if !self.cookie_secret.is_empty() {
            return self.cookie_secret.clone();
        }
        match &self.client_secret {
            Some(AnyText(secret)) if secret.len() >= LEAST_CLIENT_SECRET || secret.is_empty() => vec![secret.clone()],
            Some(_) => {
                let text = "the client's secret is too short to encrypt cookies with too";
                reading.report(Problem::error(at.join("client_secret"), text).help(help));
                Vec::new()
            }
            None => {
                let problem = Problem::error(at.clone(), "there is no secret to encrypt cookies with").on_key();
                reading.report(problem.help(help));
                Vec::new()
            }
        }
    }

    fn read_scopes(&self, at: &Path, reading: &mut Reading<'_, '_>) -> String {
        if self.scopes.is_empty() {
            return "openid".to_owned();
        }
        let at = at.join("scopes");
        for (position, scope) in self.scopes.iter().enumerate() {
            if scope.is_empty() || !scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
                reading.error(&reading.item(&at, position), "a scope is one word (RFC 6749, 3.3)");
            }
        }
        if !self.scopes.iter().any(|scope| scope == "openid") && !reading.is_excused(&at) {
            let problem = Problem::error(at, "without the scope `openid` the provider does not say who somebody is");
            reading.report(problem.help("add `openid`"));
        }
        self.scopes.join(" ")
    }

    fn read_parameters(&self, at: &Path, reading: &mut Reading<'_, '_>) -> Vec<(String, String)> {
        let at = at.join("parameters");
        let written = self.parameters.as_ref().map_or(&[][..], |parameters| &parameters.0);
        for (name, _) in written.iter().filter(|(name, _)| OWN_PARAMETERS.contains(&&**name)) {
            reading.report(Problem::error(at.join(name), format!("`{name}` is written by the gateway")).on_key());
        }
        written.iter().map(|(name, AnyText(value))| (name.clone(), value.clone())).collect()
    }

    fn read_paths(&self, at: &Path, reading: &mut Reading<'_, '_>) -> Paths {
        let mut path = |key: &str, written: Option<&String>, usual: &str| {
            let path = written.map_or(usual, |path| path);
            let mut canonical = path.to_owned();
            let length = canonicalize(&mut canonical).unwrap_or_default();
            if !is_own_target(path) || canonical != path || length != path.len() {
                let problem =
                    Problem::error(at.join(key), format!("`{path}` is not a path that a browser could ask for"));
                reading.report(problem.help(format!("write it like `{usual}`")));
            }
            path.to_owned()
        };
        let redirect = path("redirect_path", self.redirect_path.as_ref(), "/oauth2/callback");
        let logout = path("logout_path", self.logout_path.as_ref(), "/oauth2/logout");
        let after_logout = self.after_logout.as_ref().map(|after| path("after_logout", Some(after), "/bye"));
        if redirect == logout {
            reading.error(&at.join("logout_path"), "browsers come back from a login to this path");
        }
        if after_logout.as_ref().is_some_and(|after| *after == redirect || *after == logout) {
            let problem = Problem::error(at.join("after_logout"), "the way answers this path by itself");
            reading.report(problem.help("write the path of a page that everybody may see"));
        }
        Paths { redirect, logout, after_logout }
    }

    fn read_cookie(&self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> String {
        let Some(cookie) = &self.cookie else { return format!("tg_{name}") };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if cookie.is_empty() || cookie.len() > 64 || !cookie.chars().all(fits) || cookie.starts_with("__") {
            let problem =
                Problem::error(at.join("cookie"), format!("`{cookie:.80}` cannot be the name of a cookie here"));
            reading.report(
                problem.help("write up to 64 letters, digits, `-`, `_` and `.`; `__Host-` is put before it over TLS"),
            );
        }
        cookie.clone()
    }

    fn read_lifetimes(&self, at: &Path, reading: &mut Reading<'_, '_>) -> Lifetimes {
        let session = self.session.map_or(Duration::from_hours(8), |session| session.0);
        let idle = self.idle.map(|idle| idle.0);
        for (key, time) in [("session", Some(session)), ("idle", idle)] {
            if time.is_some_and(|time| !(Duration::from_mins(1)..=Duration::from_hours(400 * 24)).contains(&time)) {
                reading.error(&at.join(key), "a session lasts between 1m and 9600h, which is what browsers keep");
            }
        }
        if idle.is_some_and(|idle| idle > session) {
            reading.error(&at.join("idle"), "a session cannot be idle for longer than it lasts");
        }
        Lifetimes { session, idle }
    }

    fn read_place(&self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Place> {
        let Some(AnyText(issuer)) = &self.issuer else {
            reading.missing(at, "issuer", "write the URL of the provider, such as `https://idp.example.com/`");
            return None;
        };
        let timeout = self.timeout.map_or(Duration::from_secs(5), |timeout| timeout.0);
        if !(Duration::from_secs(1)..=Duration::from_mins(1)).contains(&timeout) {
            reading.error(&at.join("timeout"), "an answer may take between 1s and 1m");
        }
        let here = at.join("issuer");
        let Some((origin, target)) = split(issuer).filter(|_| !issuer.contains(['?', '#'])) else {
            let problem = Problem::error(here, format!("`{issuer:.200}` is not the URL of an issuer"));
            reading.report(problem.help("write it as the provider says it, such as `https://idp.example.com/`"));
            return None;
        };
        if may_be_changed_on_its_way(issuer) {
            reading.report(in_clear(&here));
        }
        let service = match &self.service {
            Some(Name(service)) => reading.service(&at.join("service"), service),
            None => reading.own_service(&here, &format!("auth/{name}"), issuer).map(|(service, _)| service),
        };
        let mut origins = vec![(origin, service?)];
        for (position, other) in self.origins.iter().enumerate() {
            let here = reading.item(&at.join("origins"), position);
            let Some((origin, _)) = split(other).filter(|(_, target)| target == "/") else {
                let problem = Problem::error(here, format!("`{other:.200}` is not an origin"));
                reading.report(problem.help("write a scheme and a host, such as `https://oauth2.example.com`"));
                continue;
            };
            if may_be_changed_on_its_way(other) {
                reading.report(in_clear(&here));
            }
            let service = reading.own_service(&here, &format!("auth/{name}/{}", position + 1), &origin);
            origins.extend(service.map(|(service, _)| (origin, service)));
        }
        Some(Place {
            way: Arc::clone(name),
            issuer: issuer.clone(),
            // Below the issuer's own path (OpenID Connect Discovery 1.0, 4.1).
            target: format!("{}/.well-known/openid-configuration", target.trim_end_matches('/')),
            origins,
            timeout,
            userinfo: self.userinfo,
        })
    }
}

fn in_clear(at: &Path) -> Problem {
    let problem = Problem::warning(at.clone(), "whoever can change what is fetched in clear can log in as anybody");
    problem.help("write an `https://` URL")
}
