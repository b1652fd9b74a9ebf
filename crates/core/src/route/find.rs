//! What routing means, without regard to speed.

use std::cmp::Reverse;

use http::Method;

use super::Head;
use super::methods::Methods;
use super::rule::{Condition, Rule};

/// What the router has for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The number of the route, in the order written.
    Route(usize),
    /// Routes match but for their methods (405); this is the value of `Allow`.
    MethodNotAllowed(String),
    /// `OPTIONS` without a route of its own (204); this is the value of `Allow`.
    Options(String),
    /// No route matches (404).
    NotFound,
}

/// The greatest rank wins; among equals the one written first.
pub(super) fn find(rules: &[Rule], head: &Head<'_>) -> Found {
    let ranks = rules.iter().enumerate().filter_map(|(number, rule)| Some((rule.rank(head).ok()?, Reverse(number))));
    if let Some((_, Reverse(number))) = ranks.max() {
        return Found::Route(number);
    }
    let mut allowed = Methods::default();
    for rule in rules.iter().filter(|rule| rule.rank(head).is_err_and(|m| m.condition == Condition::Method)) {
        allowed.extend(&rule.methods);
    }
    without_route(head, &allowed)
}

/// What is answered when no route matches, but these methods would have one.
pub(super) fn without_route(head: &Head<'_>, allowed: &Methods) -> Found {
    match (allowed.is_empty(), *head.method == Method::OPTIONS) {
        // The gateway as a whole (RFC 9110 9.3.7): it depends on the routes.
        (true, true) if head.path == "*" => Found::Options(Methods::common().allow()),
        (true, _) => Found::NotFound,
        (false, true) => Found::Options(allowed.allow()),
        (false, false) => Found::MethodNotAllowed(allowed.allow()),
    }
}
