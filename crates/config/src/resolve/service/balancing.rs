//! `load_balancing`: which endpoint takes the next request.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Balancing, Key, Route, Secret, Service, StickyCookie, Target};
use crate::file::{BalancingFile, KeyFile, StickyCookieFile, StrategyFile, TextOr};
use crate::problem::{Path, Problem};
use crate::resolve::Resolver;

impl Resolver<'_> {
    pub(super) fn balancing(&mut self, file: Option<TextOr<BalancingFile, StrategyFile>>, path: &Path) -> Balancing {
        let strategy = TextOr::Text(StrategyFile(Balancing::RoundRobin));
        let file = match self.required(path, file, strategy) {
            TextOr::Text(StrategyFile(strategy)) => return strategy,
            TextOr::Full(file) => file,
        };
        let keys =
            [("consistent_hash", file.consistent_hash.is_some()), ("sticky_cookie", file.sticky_cookie.is_some())];
        self.one_of(path, &keys, "a service has one strategy");
        match (file.consistent_hash, file.sticky_cookie) {
            (Some(hash), _) => {
                let path = path.join("consistent_hash");
                if hash.key.is_none() {
                    self.missing(
                        &path,
                        "key",
                        "write `key: \"header:x-user\"`, or `client_ip`, `cookie:`, `query:`, `path:`",
                    );
                }
                Balancing::ConsistentHash(hash.key.map_or(Key::ClientIp, |KeyFile(key)| key))
            }
            (None, Some(cookie)) => self.sticky_cookie(cookie, &path.join("sticky_cookie")),
            (None, None) => Balancing::RoundRobin,
        }
    }

    fn sticky_cookie(&mut self, file: StickyCookieFile, path: &Path) -> Balancing {
        if file.name.is_none() {
            self.missing(path, "name", "write `name: tg`");
        }
        let secret = file.secret.filter(|secret| !secret.is_empty()).map(|secret| Secret(secret.into()));
        if secret.is_none() && !self.is_excused(&path.join("secret")) {
            let problem = Problem::warning(
                path.clone(),
                "without a `secret`, clients are mixed anew after a restart, and on another gateway",
            );
            self.push(problem.on_key().help("write `secret: \"${STICKY_SECRET}\"`, the same for every gateway"));
        }
        let max_age = file.max_age.map(|age| self.needed(&path.join("max_age"), Some(age), 1));
        Balancing::StickyCookie(StickyCookie {
            name: file.name.map_or_else(|| "tg".into(), |name| name.0),
            secret,
            max_age,
        })
    }

    /// A key that no request of the service has balances nothing.
    pub(in crate::resolve) fn check_hash_keys(
        &mut self,
        services: &BTreeMap<Arc<str>, Arc<Service>>,
        routes: &[Arc<Route>],
    ) {
        for service in services.values() {
            let Balancing::ConsistentHash(Key::Path(name)) = &service.balancing else { continue };
            let mut leading = routes.iter().filter(|route| leads_to(route, &service.name)).peekable();
            if leading.peek().is_none() || leading.any(|route| route.matches.path.binds(name)) {
                continue;
            }
            let problem = Problem::warning(
                service.at.join("load_balancing").join("consistent_hash").join("key"),
                format!("no route to `{}` has a path with the parameter `{name}`", service.name),
            );
            self.push(problem.help(format!("write `{{{name}}}` into the path of a route")));
        }
    }
}

fn leads_to(route: &Route, service: &str) -> bool {
    match &route.target {
        Target::Service(name) => **name == *service,
        Target::Split(split) => split.parts.iter().any(|part| *part.service == *service),
        Target::Redirect(_) | Target::Respond(_) => false,
    }
}
