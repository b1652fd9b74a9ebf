//! Which route a request takes: `rule` says what conditions mean and how well they fit, `find` is the meaning of routing in a
//! few lines, `index` the fast way to the same answer, `explain` the same for people. Nothing here acts on a route.

mod explain;
mod find;
mod index;
mod methods;
mod params;
mod rule;
mod table;

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use tidegate_config::config::Route;
use tidegate_config::problem::{Problem, Problems};
use tidegate_http1::{Fields, Known};

use crate::client::ClientCert;
use crate::exchange::Exchange;

pub use explain::{Explained, Shadowed};
pub use find::Found;
pub use methods::Methods;
pub use params::Params;
pub use rule::{Condition, HostRank, Mismatch, PathRank, Rank};
pub(crate) use rule::{cookie_holds, header_holds};

use index::Index;
use rule::Rule;

/// The facts of a request that routing may look at.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Lower case, without a port; empty when the request names none.
    pub host: &'a str,
    /// Canonical (see [`crate::path::canonicalize`]).
    pub path: &'a str,
    /// Without the question mark; empty when there is none.
    pub query: &'a str,
    /// The method.
    pub method: &'a Method,
    /// All fields as the client sent them.
    pub fields: &'a Fields,
    /// The client's address, after trusted proxies were believed.
    pub client_ip: IpAddr,
    /// The listener's name.
    pub listener: &'a str,
    /// The client's certificate, if it sent a verified one.
    pub cert: Option<&'a ClientCert>,
}

impl<'a> Head<'a> {
    /// The facts of an open exchange.
    pub fn of(exchange: &'a Exchange) -> Self {
        Self {
            host: &exchange.host,
            path: exchange.path(),
            query: exchange.query(),
            method: &exchange.head.method,
            fields: &exchange.head.fields,
            client_ip: exchange.client,
            listener: &exchange.peer.listener,
            cert: exchange.peer.tls.as_ref().and_then(|tls| tls.client.as_ref()),
        }
    }

    /// The method that a preflight asks about (Fetch, 4.8); `None` for every other request.
    pub fn asked_about(&self) -> Option<Method> {
        if *self.method != Method::OPTIONS || !self.fields.contains(Known::Origin) {
            return None;
        }
        Method::from_bytes(self.fields.value(Known::AccessControlRequestMethod)?).ok()
    }
}

/// All routes, ready to be asked. Immutable; made once per configuration.
#[derive(Debug)]
pub struct Router {
    rules: Vec<Rule>,
    index: Index,
}

impl Router {
    /// Makes the router for these routes, in the order written. The problems name routes that can never match because one of
    /// the same rank, written earlier, matches everything that they do. (Routes behind one of higher priority are no error: a
    /// maintenance page hides everything on purpose. See [`Router::shadowed`].)
    pub fn build(routes: &[Arc<Route>]) -> (Self, Problems) {
        let rules = Rule::of_all(routes);
        let mut problems = Problems::default();
        for dead in explain::dead(&rules) {
            let message = format!(
                "`{}` can never match: `{}` matches everything that it does, earlier",
                dead.route.name, dead.by.name
            );
            problems.push(
                Problem::error(dead.route.at.join("match"), message)
                    .see(dead.by.at.join("match"), "this one is taken")
                    .help("remove one of them, change its `match`, or give it a `priority`"),
            );
        }
        let index = Index::of(&rules);
        (Self { rules, index }, problems)
    }

    /// The route for a request, and what its pattern finds in the path. Allocates nothing, unless a condition must look into an
    /// encoded query. The cost does not grow with the number of routes, but with the number of those that share one path.
    pub fn find(&self, head: &Head<'_>, params: &mut Params) -> Found {
        let found = self.index.find(&self.rules, head);
        self.capture(&found, head, params);
        found
    }

    /// The same, where routes may answer preflights: those are for the route that would take the request they ask about, if that one
    /// `answers` them.
    pub fn find_or_preflight(&self, head: &Head<'_>, params: &mut Params, answers: impl Fn(usize) -> bool) -> Found {
        if let Some(method) = head.asked_about() {
            let found = self.find(&Head { method: &method, ..*head }, params);
            if let Found::Route(number) = found
                && answers(number)
            {
                return found;
            }
        }
        self.find(head, params)
    }

    /// What [`Router::find`] means: the greatest rank of all rules that match. A test and a fuzz target demand that both agree.
    pub fn find_slow(&self, head: &Head<'_>, params: &mut Params) -> Found {
        let found = find::find(&self.rules, head);
        self.capture(&found, head, params);
        found
    }

    /// The route that [`Found::Route`] numbers.
    pub fn route(&self, number: usize) -> Option<&Arc<Route>> {
        self.rules.get(number).map(|rule| &rule.route)
    }

    /// What every route says to a request, in the order written.
    pub fn explain(&self, head: &Head<'_>) -> Vec<Explained<'_>> {
        explain::explain(&self.rules, head)
    }

    /// The routes that another one hides: none of their requests ever reaches them. Not quick: for people who ask.
    pub fn shadowed(&self) -> Vec<Shadowed<'_>> {
        let mut shadowed = explain::dead(&self.rules);
        shadowed.extend(explain::hidden(&self.rules));
        shadowed
    }

    fn capture(&self, found: &Found, head: &Head<'_>, params: &mut Params) {
        params.clear();
        if let Found::Route(number) = found
            && let Some(rule) = self.rules.get(*number)
            && rule.captures
        {
            params.capture(&rule.route.matches.path, head.path);
        }
    }
}
