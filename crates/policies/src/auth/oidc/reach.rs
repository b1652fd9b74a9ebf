//! Whether browsers can come back from a login: on every host where a way is asked, some route must take the way's own path and ask it too. And
//! nothing else may answer in its place.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use http::Method;
use tidegate_config::Config;
use tidegate_config::config::{Match, Route};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::HostPattern;
use tidegate_core::route::{Condition, Found, Head, Params, Router};
use tidegate_http1::Fields;

use super::Paths;
use crate::auth::Asked;

/// The first route of `way` from whose hosts nobody comes back to `path`, as a problem.
pub(super) fn nobody_comes_back(config: &Config, way: &str, at: &Path, path: &str) -> Option<Problem> {
    let asks = |route: &Arc<Route>| Asked::of(route).is_some_and(|asked| asked.names().any(|name| name == way));
    let mut asking = config.routes.iter().filter(|route| asks(route)).peekable();
    asking.peek()?;
    let router = Router::build(&config.routes).0;
    let fields = Fields::new();
    let (route, taken_by) = asking.find_map(|route| {
        samples(&route.matches, config).into_iter().find_map(|(host, listener)| {
            let client_ip = route.matches.client_ip.first().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), ipnet::IpNet::addr);
            let method = &Method::GET;
            let head = Head {
                host: &host,
                path,
                query: "",
                method,
                fields: &fields,
                client_ip,
                listener: &listener,
                cert: None,
            };
            let found = match router.find(&head, &mut Params::new()) {
                Found::Route(number) => config.routes.get(number),
                Found::NotFound | Found::MethodNotAllowed(_) | Found::Options(_) => None,
            };
            let comes_back = found.is_some_and(&asks) || may_come_back(&router, &head, asks);
            (!comes_back).then_some((route, found))
        })
    })?;
    let text = format!(
        "nobody can log in on `{}`: browsers come back to `{path}`, and {}",
        route.name,
        taken_by.map_or("no route takes that".to_owned(), |other| format!(
            "`{}` takes that, which does not ask `{way}`",
            other.name
        ))
    );
    let help = format!(
        "write `redirect_path` below a path of a route with `auth: {way}`, or add a route for it, such as \
         `{{ match: {{ path: {path} }}, respond: {{ status: 404 }}, auth: {way} }}`"
    );
    Some(Problem::error(at.clone(), text).see(route.at.clone(), "this route asks for it").help(help))
}

/// A route may ask for more than is known here: a header or a cookie.
fn may_come_back(router: &Router, head: &Head<'_>, asks: impl Fn(&Arc<Route>) -> bool) -> bool {
    router.explain(head).into_iter().filter(|explained| asks(explained.route)).any(|explained| {
        explained.verdict.is_err_and(|mismatch| {
            matches!(
                mismatch.condition,
                Condition::Header(_)
                    | Condition::Query(_)
                    | Condition::Cookie(_)
                    | Condition::ClientIp
                    | Condition::ClientCert
            )
        })
    })
}

/// A host for each that the route names, with a listener that it is for.
fn samples(matches: &Match, config: &Config) -> Vec<(String, Arc<str>)> {
    let listener = matches.listeners.first().or_else(|| config.server.listeners.first().map(|listener| &listener.name));
    let listener = listener.map_or_else(|| "".into(), Arc::clone);
    let host = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Wildcard(suffix) => format!("some{suffix}"),
        HostPattern::Any => "some.invalid".to_owned(),
    };
    let any = [HostPattern::Any];
    let hosts = if matches.hosts.is_empty() { &any[..] } else { &matches.hosts };
    hosts.iter().map(|pattern| (host(pattern), Arc::clone(&listener))).collect()
}

/// Ways like this one, with what each must have for itself: the name of its cookies, and its paths.
#[derive(Default)]
pub(super) struct Others(Mutex<Vec<(Arc<str>, String, Paths)>>);

impl Others {
    /// Adds a way, which is written at `at`, and tells what it shares with those before it.
    pub(super) fn add(
        &self,
        way: &Arc<str>,
        at: &Path,
        (cookie, paths): (&str, &Paths),
        config: &Config,
    ) -> Vec<Problem> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut problems = Vec::new();
        for (other, theirs, their_paths) in &*known {
            if cookie == theirs {
                let text = format!("the cookies of `{other}` are called `{cookie}` too");
                problems.push(Problem::error(at.join("cookie"), text).help("give each way cookies of its own"));
            }
            if let Some(route) = asking_both(config, way, other) {
                problems.extend(shared_paths((way, paths), (other, their_paths), at, route));
            }
        }
        known.push((Arc::clone(way), cookie.to_owned(), paths.clone()));
        problems
    }
}

fn asking_both<'c>(config: &'c Config, way: &str, other: &str) -> Option<&'c Arc<Route>> {
    config.routes.iter().find(|route| {
        let asks = |way: &str| Asked::of(route).is_some_and(|asked| asked.names().any(|name| name == way));
        asks(way) && asks(other)
    })
}

/// Paths that both ways answer: the first of them that a route asks would take what is meant for the second.
fn shared_paths((way, own): (&str, &Paths), (other, theirs): (&str, &Paths), at: &Path, route: &Route) -> Vec<Problem> {
    let paths = [("redirect_path", &own.redirect), ("logout_path", &own.logout)];
    let shared = paths.into_iter().filter(|(_, path)| [&theirs.redirect, &theirs.logout].contains(path));
    let told = shared.map(|(key, path)| {
        let text = format!("`{other}` answers `{path}` too, and `{}` asks both", route.name);
        let problem = Problem::error(at.join(key), text).see(route.at.clone(), "this route asks both");
        problem.help(format!("give each way paths of its own, such as `/oauth2/{way}`"))
    });
    told.collect()
}
