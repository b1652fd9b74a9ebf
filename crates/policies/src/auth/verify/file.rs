//! `verify` as written, and what is meant by it.

use std::sync::Arc;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{KeyFile, MethodName, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::FieldName;
use tidegate_http1::Known;

use super::{Asking, Names, Tell, Verify};
use crate::auth::credential::Credential;
use crate::auth::elsewhere::{Terms, asking_file, elsewhere};
use crate::auth::way::{Kind, Meant, Way};
use crate::policy::Setup;

asking_file! {
    /// A service says who callers are. It is asked about each request, without its body: 2xx is a caller whom it knows, 401 and 403 are
    /// passed on, and anything else, or nothing, is 503.
    VerifyFile {
        /// The method. By default GET.
        method: Option<MethodName>,
        /// What callers show: `header:NAME`, `cookie:NAME` or `query:NAME`. By default `header:authorization`. The service gets all of it, and is not
        /// asked about a request that has none.
        #[serde(default, rename = "in")]
        places: Vec<KeyFile>,
        /// Further fields of the request that the service gets. `cookie` is all cookies.
        #[serde(default)]
        headers: Vec<FieldName>,
        /// What the service is told of the request, in fields that only the gateway can have written: by default `method`, `uri`, `host`, `scheme` and
        /// `client`. An answer is remembered for what was told: without `uri` and `method`, one answer holds for all that a caller does.
        tell: Option<Vec<TellFile>>,
        /// Asks about requests too that show nothing, instead of going on to the next way.
        #[serde(default)]
        anonymous: bool,
        /// Passes redirects on to clients, such as to a login page. By default they are no answer.
        #[serde(default)]
        redirects: bool,
        /// The fields of the answer that say who it is.
        identity: Option<IdentityFile>,
        /// Fields of the answer that clients get with a refusal or a redirect. By default `www-authenticate`.
        headers_to_client: Option<Vec<FieldName>>,
        /// Fields of the answer that the route's service gets. A client's own fields of these names are taken out of every request.
        #[serde(default)]
        headers_to_service: Vec<FieldName>,
        /// What becomes of a request when the service is gone: no connection, no answer in time, or 502 to 504. By default it is refused, as it always is
        /// when the service answers something else that says nothing.
        on_unavailable: Option<UnavailableFile>,
    }
}

/// What the service is told of the request.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum TellFile {
    /// `X-Forwarded-Method`.
    Method,
    /// `X-Forwarded-Uri`: path and query.
    Uri,
    /// `X-Forwarded-Uri` with the path alone.
    Path,
    /// `X-Forwarded-Host`.
    Host,
    /// `X-Forwarded-Proto`.
    Scheme,
    /// `X-Forwarded-For`: the client's address.
    Client,
}

/// What becomes of a request when there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum UnavailableFile {
    /// It is refused.
    Deny,
    /// It passes, and nobody knows who it is.
    Allow,
}

/// The fields of an answer that say who it is. Lists are separated by commas, scopes by spaces too.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    /// Who the caller is. By default `x-user-id`.
    user: Option<FieldName>,
    /// What they are. By default `x-user-roles`.
    roles: Option<FieldName>,
    /// What they may do. By default `x-user-permissions`.
    permissions: Option<FieldName>,
    /// What their token was issued for. By default `x-user-scopes`.
    scopes: Option<FieldName>,
    /// Whose customer they are. By default `x-tenant-id`.
    tenant: Option<FieldName>,
}

/// What is meant.
#[derive(Debug)]
struct Meaning {
    terms: Terms,
    asking: Asking,
    allows: bool,
}

impl Meant for Meaning {
    fn build(&self, name: &Arc<str>, at: &Path, setup: &mut Setup<'_>) -> Arc<dyn Way> {
        let asking = self.asking.clone();
        let guarded = asking.to_service.iter().filter(|name| Known::from_bytes(name.as_bytes()).is_none());
        setup.guarded.extend(guarded.map(ToString::to_string));
        let elsewhere = elsewhere((name, at), &self.terms, &format!("verify {asking:?}"), setup);
        Arc::new(Verify { name: Arc::clone(name), asking, allows: self.allows, elsewhere })
    }
}

impl Kind for VerifyFile {
    fn mean(mut self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>> {
        let terms = self.terms();
        let tell = self.tell.map_or_else(|| Tell::ALL.to_vec(), |tell| read_tell(&tell, &at.join("tell"), reading));
        let credentials = read_credentials(&self.places, &tell, at, reading);
        let shown: Vec<&str> = headers(&credentials).collect();
        let sent = fields(self.headers, &at.join("headers"), reading, |name| {
            let is_shown = shown.iter().any(|shown| shown.eq_ignore_ascii_case(name));
            refuse_to_send(name).or(is_shown.then_some("is sent already: it is what callers show, see `in`"))
        });
        let to_service = fields(self.headers_to_service, &at.join("headers_to_service"), reading, |name| {
            let is_own = Known::from_bytes(name.as_bytes()).is_some_and(|known| known != Known::Authorization);
            is_own.then_some("already means something else: take a name of your own, such as `x-user-id`")
        });
        check_overlap(&to_service, (&sent, &credentials), at, reading);
        let to_client = match self.headers_to_client {
            Some(names) => fields(names, &at.join("headers_to_client"), reading, refuse_to_client),
            None => vec!["www-authenticate".into()],
        };
        let method = self.method.map_or(Method::GET, |MethodName(method)| method);
        if method == Method::CONNECT {
            reading.error(&at.join("method"), "CONNECT asks nothing");
        }
        let allows = self.on_unavailable == Some(UnavailableFile::Allow);
        if allows {
            let problem = Problem::warning(at.join("on_unavailable"), "an outage of the service lets everybody in");
            reading.report(problem.help("write a `require` where only some callers may pass, or leave this out"));
        }
        let terms = terms.mean((name, "verify"), at, reading)?;
        let asking = Asking {
            method,
            target: terms.target.clone(),
            credentials,
            sent,
            tell,
            anonymous: self.anonymous,
            redirects: self.redirects,
            names: self.identity.unwrap_or_default().into(),
            to_client,
            to_service,
        };
        Some(Box::new(Meaning { terms, asking, allows }))
    }
}

fn read_tell(written: &[TellFile], at: &Path, reading: &mut Reading<'_, '_>) -> Vec<Tell> {
    let mut found: Vec<Tell> = Vec::with_capacity(written.len());
    for (position, tell) in written.iter().enumerate() {
        let tell = Tell::from(tell);
        let name = tell.field();
        if found.iter().any(|known| known.field() == name) {
            reading.error(&reading.item(at, position), format!("`{name}` is told twice"));
        }
        found.push(tell);
    }
    found
}

fn read_credentials(places: &[KeyFile], tell: &[Tell], at: &Path, reading: &mut Reading<'_, '_>) -> Vec<Credential> {
    if places.is_empty() {
        return vec![Credential::Header("authorization".into())];
    }
    let at = at.join("in");
    let credentials = Credential::read(places, &at, reading);
    for (position, credential) in credentials.iter().enumerate() {
        let text = match credential {
            Credential::Header(name) => refuse_to_send(name).map(|why| format!("`{name}` {why}")),
            Credential::Query(name) if !tell.contains(&Tell::Uri) => {
                Some(format!("the service would not see the query parameter `{name}`: `tell` has no `uri`"))
            }
            Credential::Query(_) | Credential::Cookie(_) => None,
        };
        if let Some(text) = text {
            reading.error(&reading.item(&at, position), text);
        }
    }
    credentials
}

/// The names of a list, of which none may be one that is refused.
fn fields(
    names: Vec<FieldName>,
    at: &Path,
    reading: &mut Reading<'_, '_>,
    refuse: impl Fn(&str) -> Option<&'static str>,
) -> Vec<Arc<str>> {
    let mut found: Vec<Arc<str>> = Vec::with_capacity(names.len());
    for (position, FieldName(name)) in names.into_iter().enumerate() {
        let item = reading.item(at, position);
        if let Some(why) = refuse(&name) {
            reading.error(&item, format!("`{name}` {why}"));
        } else if found.contains(&name) {
            reading.error(&item, format!("`{name}` is there twice"));
        }
        found.push(name);
    }
    found
}

/// What frames messages or holds for one connection (RFC 9110, 7.6.1).
const OF_MESSAGES: [Known; 12] = [
    Known::Connection,
    Known::ContentLength,
    Known::Expect,
    Known::Host,
    Known::Http2Settings,
    Known::KeepAlive,
    Known::ProxyAuthenticate,
    Known::ProxyConnection,
    Known::Te,
    Known::Trailer,
    Known::TransferEncoding,
    Known::Upgrade,
];

/// The fields that are credentials as a whole.
fn headers(credentials: &[Credential]) -> impl Iterator<Item = &str> {
    credentials.iter().filter_map(|credential| match credential {
        Credential::Header(name) => Some(&**name),
        Credential::Cookie(_) | Credential::Query(_) => None,
    })
}

fn refuse_to_send(name: &str) -> Option<&'static str> {
    let known = Known::from_bytes(name.as_bytes());
    if known.is_some_and(|known| OF_MESSAGES.contains(&known)) {
        return Some("belongs to a message, and the service gets one of its own");
    }
    let folded = name.to_ascii_lowercase().replace(['_', '.'], "-");
    let is_told = folded.starts_with("x-forwarded-") || ["forwarded", "x-real-ip"].contains(&&*folded);
    is_told.then_some("is what the gateway says itself, see `tell`")
}

fn refuse_to_client(name: &str) -> Option<&'static str> {
    let known = Known::from_bytes(name.as_bytes())?;
    let is_body = matches!(known, Known::ContentType | Known::ContentEncoding);
    (is_body || OF_MESSAGES.contains(&known)).then_some("belongs to a message, and the client gets one of its own")
}

/// What is taken out of every request cannot be sent.
fn check_overlap(
    to_service: &[Arc<str>],
    (sent, credentials): (&[Arc<str>], &[Credential]),
    at: &Path,
    reading: &mut Reading<'_, '_>,
) {
    let guarded = tidegate_core::policy::Guarded::new(to_service.iter().map(|name| &**name));
    let sent = sent.iter().map(|name| &**name).chain(headers(credentials));
    // `Authorization` is not taken out before this way has looked at it.
    for name in sent.filter(|name| guarded.has(name.as_bytes()) && *name != "authorization") {
        let text = format!("`{name}` is taken out of every request, so the service would never get it");
        let problem = Problem::error(at.join("headers_to_service"), text);
        reading.report(problem.help("let the answer name it otherwise"));
    }
}

impl From<&TellFile> for Tell {
    fn from(file: &TellFile) -> Self {
        match file {
            TellFile::Method => Self::Method,
            TellFile::Uri => Self::Uri,
            TellFile::Path => Self::Path,
            TellFile::Host => Self::Host,
            TellFile::Scheme => Self::Scheme,
            TellFile::Client => Self::Client,
        }
    }
}

impl From<IdentityFile> for Names {
    fn from(file: IdentityFile) -> Self {
        let or = |name: Option<FieldName>, usual: &str| name.map_or_else(|| usual.into(), |FieldName(name)| name);
        Self {
            user: or(file.user, "x-user-id"),
            roles: or(file.roles, "x-user-roles"),
            permissions: or(file.permissions, "x-user-permissions"),
            scopes: or(file.scopes, "x-user-scopes"),
            tenant: or(file.tenant, "x-tenant-id"),
        }
    }
}
