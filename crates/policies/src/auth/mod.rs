//! `auth` at the top: the ways to prove who one is, by name. Which of them a route asks is said in [`route`].

mod api_key;
mod assumed;
mod basic;
mod bearer;
mod client_cert;
pub(crate) mod credential;
mod elsewhere;
mod failures;
mod introspect;
mod jwt;
mod key_store;
pub(crate) mod mapping;
mod oidc;
mod route;
mod verify;
mod way;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::Config;
use tidegate_config::config::Route;
use tidegate_config::policy::{Entries, Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::Name;

use self::api_key::ApiKeyFile;
pub use self::assumed::{Assumed, assumed};
use self::basic::BasicFile;
use self::client_cert::ClientCertFile;
pub(crate) use self::failures::AuthFailures;
use self::introspect::IntrospectFile;
use self::jwt::JwtFile;
use self::oidc::OidcFile;
pub(crate) use self::route::{Asked, RouteAuth, nothing_shown};
use self::verify::VerifyFile;
pub(crate) use self::way::Way;
use self::way::{Kind, Meant};
use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct Auth;

/// A way to prove who one is: one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WayFile {
    /// By a key that the caller was given.
    api_key: Option<ApiKeyFile>,
    /// By a user name and a password.
    basic: Option<BasicFile>,
    /// By the certificate with which the connection was opened.
    client_cert: Option<ClientCertFile>,
    /// By a signed token.
    jwt: Option<JwtFile>,
    /// By what a service says of the request.
    verify: Option<VerifyFile>,
    /// By a token that its issuer is asked about.
    introspect: Option<IntrospectFile>,
    /// People who log in at an OpenID Connect provider with their browser.
    oidc: Option<OidcFile>,
}

impl WayFile {
    fn mean(self, name: &Arc<str>, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Box<dyn Meant>> {
        let mut kinds = Kinds { name, at, reading, written: Vec::new(), meant: None };
        kinds.add("api_key", self.api_key);
        kinds.add("basic", self.basic);
        kinds.add("client_cert", self.client_cert);
        kinds.add("jwt", self.jwt);
        kinds.add("verify", self.verify);
        kinds.add("introspect", self.introspect);
        kinds.add("oidc", self.oidc);
        let Kinds { written, meant, .. } = kinds;
        reading.one_of(at, &written, "a way is one of these");
        meant
    }
}

/// The kinds of way that there are, while it is found out which of them is written.
struct Kinds<'a, 'b, 'r> {
    name: &'a Arc<str>,
    at: &'a Path,
    reading: &'a mut Reading<'b, 'r>,
    written: Vec<(&'static str, bool)>,
    meant: Option<Box<dyn Meant>>,
}

impl Kinds<'_, '_, '_> {
    fn add(&mut self, key: &'static str, file: Option<impl Kind>) {
        self.written.push((key, file.is_some()));
        if let Some(file) = file {
            self.meant = file.mean(self.name, &self.at.join(key), self.reading);
        }
    }
}

/// The ways as meant, with their names and places, in the order written.
pub(crate) type Ways = Vec<(Arc<str>, Path, Box<dyn Meant>)>;

impl Policy for Auth {
    const KEY: &'static str = "auth";
    const PLACE: Place = Place::Top;
    const SECRETS: &'static [[&'static str; 2]] = &[
        ["api_key", "inline"],
        ["jwt", "secret"],
        ["introspect", "client_secret"],
        ["oidc", "client_secret"],
        ["oidc", "cookie_secret"],
    ];
    const EXAMPLE: &'static str = "\
auth:
  keys: { api_key: { inline: [{ key: a-key-of-the-build-machine, user: ci, roles: [deploy] }] } }
server: { host: 127.0.0.1 }
services: { orders: { url: http://127.0.0.1:9001 } }
routes: [{ match: { path_prefix: /orders }, service: orders, auth: keys }]
";
    type File = Entries<Name, WayFile>;
    type Meaning = Ways;

    fn mean(file: Self::File, reading: &mut Reading<'_, '_>) -> Option<Ways> {
        let path = reading.path();
        let mut ways = Ways::new();
        for (Name(name), way) in file.0 {
            let at = path.join(&name);
            if &*name == route::NOBODY {
                let problem = Problem::error(at.clone(), "no way can be called `none`").on_key();
                reading.report(problem.help("`auth: none` on a route says that it is public"));
            }
            let meant = way.mean(&name, &at, reading);
            ways.extend(meant.map(|meant| (name, at, meant)));
        }
        Some(ways)
    }

    fn build(meaning: Option<&Ways>, at: &Path, setup: &mut Setup<'_>) {
        if meaning.is_some() {
            let built = ways(setup);
            route::conceal_what_is_not_asked(&built, at, setup);
        }
    }
}

/// The files of keys that a configuration names, in the order written.
pub fn key_stores(config: &Config) -> Vec<PathBuf> {
    let written = config.policies.iter().find(|written| written.key == Auth::KEY);
    let ways = written.and_then(|written| written.meaning::<Ways>()).into_iter().flatten();
    let mut found: Vec<PathBuf> = Vec::new();
    for store in ways.filter_map(|(_, _, meant)| meant.key_store()) {
        if !found.iter().any(|known| known == store) {
            found.push(store.to_owned());
        }
    }
    found
}

/// The ways of a configuration, ready to be asked.
pub(crate) struct Built(HashMap<Arc<str>, Arc<dyn Way>>);

impl Built {
    /// The way of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<dyn Way>> {
        self.0.get(name)
    }

    /// All of them, with their names.
    fn all(&self) -> impl Iterator<Item = (&str, &Arc<dyn Way>)> {
        self.0.iter().map(|(name, way)| (&**name, way))
    }

    /// What they are called.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }
}

/// All ways of the configuration, each of them made once.
pub(crate) fn ways(setup: &mut Setup<'_>) -> Arc<Built> {
    setup.once(|setup| {
        let config = setup.config;
        let written = config.policies.iter().find(|written| written.key == Auth::KEY);
        let mut built = HashMap::new();
        for (name, at, meant) in written.and_then(|written| written.meaning::<Ways>()).into_iter().flatten() {
            let way = meant.build(name, at, setup);
            if way.shows_secrets()
                && let Some(problem) = in_clear(config, name, at)
            {
                setup.report(problem);
            }
            built.insert(Arc::clone(name), way);
        }
        Built(built)
    })
}

/// Whether what callers show for this way may travel in clear: one warning, however many routes there are.
fn in_clear(config: &Config, name: &str, at: &Path) -> Option<Problem> {
    let asks = |route: &&Arc<Route>| {
        let asked = Asked::of(route).is_some_and(|asked| asked.names().any(|asked| asked == name));
        asked && !route.policies.iter().any(|written| written.key == "require_tls")
    };
    let (route, listener) = config.routes.iter().filter(asks).find_map(|route| {
        let wanted = &route.matches.listeners;
        let open = config.server.listeners.iter().find(|listener| {
            let reached = wanted.is_empty() || wanted.contains(&listener.name);
            let local = listener.addresses.iter().map(std::net::SocketAddr::ip).all(|ip: IpAddr| ip.is_loopback());
            reached && listener.tls.is_none() && !listener.http_to_https && !local
        })?;
        Some((route, open))
    })?;
    let text = format!(
        "what callers show to `{name}` can be read on its way: `{}` takes it on the plain listener `{}`",
        route.name, listener.name
    );
    Some(Problem::warning(at.clone(), text).on_key().help(
        "give the listener `tls`, or the routes `require_tls: true`, which also holds behind a trusted proxy that speaks TLS",
    ))
}

#[cfg(test)]
mod tests {
    use crate::testing::problems;

    fn yaml(server: &str, route: &str) -> String {
        format!(
            "auth: {{ keys: {{ api_key: {{ inline: [{{ key: a-long-enough-key }}] }} }} }}
server: {server}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
routes:
  - {{ name: a, match: {{ path_prefix: /a }}, service: s, auth: keys, {route} }}
  - {{ name: b, match: {{ path_prefix: /b }}, service: s, auth: keys, {route} }}"
        )
    }

    #[test]
    fn keys_that_travel_in_clear_are_one_warning_however_many_routes_there_are() {
        let found = problems(&yaml("{ host: 0.0.0.0 }", ""));
        assert!(found.starts_with("warning: auth.keys: what callers show to `keys` can be read on its way: `a` takes it on the plain listener `default` | "), "{found}");
        assert_eq!(found.lines().count(), 1);
    }

    #[test]
    fn keys_that_stay_on_this_machine_or_are_taken_over_tls_alone_are_no_warning() {
        assert_eq!(problems(&yaml("{ host: 127.0.0.1 }", "")), "");
        let listeners = "{ listeners: [{ name: in, host: 127.0.0.1, port: 1 }, { name: out, port: 2 }] }";
        let inside = yaml(listeners, "").replace("path_prefix: ", "listener: in, path_prefix: ");
        assert_eq!(problems(&inside), "");
        let outside = inside.replacen("listener: in", "listener: out", 1);
        assert!(problems(&outside).contains("`a` takes it on the plain listener `out`"));
    }

    #[test]
    fn a_way_is_of_one_kind() {
        let found = problems("auth: { a: {}, none: { api_key: { inline: 'u:a-long-enough-key' } } }");
        assert!(found.contains("auth.a: a way is one of these, but there is none | write one of `api_key`"), "{found}");
        assert!(found.contains("auth.none: no way can be called `none`"), "{found}");
    }
}
