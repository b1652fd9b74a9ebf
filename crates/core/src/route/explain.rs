//! Routing in words: what every route says to a request, and which routes no request can reach.

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;
use tidegate_config::config::{ClientCertMatch, FieldMatch, Match, Route, ValueMatch};
use tidegate_config::value::{HostPattern, Mixed, PathKind, PathPattern, Segment};

use super::Head;
use super::index::same_condition;
use super::rule::{Mismatch, Rank, Rule, matches_segment};

/// What one route says to a request.
#[derive(Debug, Clone)]
pub struct Explained<'r> {
    /// The route.
    pub route: &'r Arc<Route>,
    /// How well it fits, or the first condition that does not hold.
    pub verdict: Result<Rank, Mismatch>,
}

/// A route that no request reaches, and one that takes all of them.
#[derive(Debug, Clone)]
pub struct Shadowed<'r> {
    /// The route that is never taken.
    pub route: &'r Arc<Route>,
    /// The route that is taken instead.
    pub by: &'r Arc<Route>,
}

pub(super) fn explain<'r>(rules: &'r [Rule], head: &Head<'_>) -> Vec<Explained<'r>> {
    rules.iter().map(|rule| Explained { route: &rule.route, verdict: rule.rank(head) }).collect()
}

/// How many earlier rules of the same host, path and rank each rule is compared with.
const COMPARED: usize = 1000;

/// Rules of which one of the same rank, written earlier, matches all that they do.
///
/// Rules are compared with those that share a host and a path; more than [`COMPARED`] of them are not looked through.
pub(super) fn dead(rules: &[Rule]) -> Vec<Shadowed<'_>> {
    let mut earlier: HashMap<(&HostPattern, String), Vec<&Rule>> = HashMap::new();
    let mut dead = Vec::new();
    for rule in rules {
        let path = conditions_of_path(&rule.route.matches.path);
        let key = |host| (host, path.clone());
        let rivals = rule.hosts().first().and_then(|host| earlier.get(&key(host))).map_or(&[][..], Vec::as_slice);
        let by = rivals.iter().take(COMPARED).find(|rival| rival.ranks_like(rule) && rival.covers(rule));
        dead.extend(by.map(|by| Shadowed { route: &rule.route, by: &by.route }));
        for host in rule.hosts() {
            earlier.entry(key(host)).or_default().push(rule);
        }
    }
    dead
}

/// Rules of which one of higher priority matches all that they do.
pub(super) fn hidden(rules: &[Rule]) -> Vec<Shadowed<'_>> {
    let mut by_priority: Vec<_> = rules.iter().collect();
    by_priority.sort_by_key(|rule| std::cmp::Reverse(rule.route.priority));
    let hides = |rule: &Rule| {
        let higher = by_priority.iter().take_while(|other| other.route.priority > rule.route.priority);
        higher.copied().find(|other| other.covers(rule))
    };
    rules.iter().filter_map(|rule| Some(Shadowed { route: &rule.route, by: &hides(rule)?.route })).collect()
}

/// The same text for patterns that match the same paths, as far as can be told from how they are written.
fn conditions_of_path(pattern: &PathPattern) -> String {
    let mut text = format!("{:?} ", pattern.kind);
    for segment in &pattern.segments {
        text.push('/');
        match segment {
            Segment::Literal(literal) => text.push_str(literal),
            Segment::Param(_) => text.push_str("{}"),
            Segment::Regex(_, regex) => text.extend(["{:", regex.as_str(), "}"]),
            Segment::Mixed(Mixed { prefix, regex, suffix, .. }) => {
                text.extend([&**prefix, "{:", regex.as_ref().map_or("", Regex::as_str), "}", suffix]);
            }
            Segment::Rest(_) => text.push_str("{...}"),
        }
    }
    text
}

impl Rule {
    /// Whether both have the same rank for every request that both match.
    fn ranks_like(&self, other: &Self) -> bool {
        let host = super::HostRank::Any;
        let same_hosts = other.hosts().iter().all(|host| self.hosts().contains(host));
        same_hosts && self.rank_with(host) == other.rank_with(host)
    }

    /// Whether every request that `other` matches is matched by this rule too. `false` may also mean that it cannot be told.
    fn covers(&self, other: &Self) -> bool {
        let (wide, narrow) = (&self.route.matches, &other.route.matches);
        covers_path(&wide.path, &narrow.path)
            && other.hosts().iter().all(|host| self.hosts().iter().any(|wide| covers_host(wide, host)))
            && (self.methods.is_empty() || !other.methods.is_empty() && self.methods.covers(&other.methods))
            && covers_values(&wide.headers, &narrow.headers)
            && covers_values(&wide.query, &narrow.query)
            && covers_values(&wide.cookies, &narrow.cookies)
            && self.covers_client(other)
    }

    fn covers_client(&self, other: &Self) -> bool {
        let (wide, narrow): (&Match, &Match) = (&self.route.matches, &other.route.matches);
        let networks =
            wide.client_ip.is_empty() || !narrow.client_ip.is_empty() && self.client_ip.covers(&other.client_ip);
        let listeners = covers_names(&wide.listeners, &narrow.listeners);
        let cert = match (&wide.client_cert, &narrow.client_cert) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => covers_cert(wide, narrow),
        };
        networks && listeners && cert
    }
}

fn covers_host(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (wide, narrow) {
        (HostPattern::Any, _) => true,
        (HostPattern::Wildcard(wide), HostPattern::Wildcard(narrow)) => narrow.ends_with(&**wide),
        (wide, HostPattern::Exact(name)) => wide.matches(name),
        (HostPattern::Exact(_) | HostPattern::Wildcard(_), _) => false,
    }
}

fn covers_path(wide: &PathPattern, narrow: &PathPattern) -> bool {
    let mut segments = narrow.segments.iter();
    for expected in &wide.segments {
        let Some(segment) = segments.next() else { return false };
        if matches!(expected, Segment::Rest(_)) {
            return !matches!(segment, Segment::Literal(text) if text.is_empty());
        }
        if !covers_segment(expected, segment) {
            return false;
        }
    }
    wide.kind == PathKind::Prefix || narrow.kind == PathKind::Exact && segments.next().is_none()
}

fn covers_segment(wide: &Segment, narrow: &Segment) -> bool {
    match (wide, narrow) {
        (_, Segment::Literal(text)) => matches_segment(wide, text),
        (Segment::Param(_), Segment::Param(_) | Segment::Regex(..) | Segment::Mixed(_)) => true,
        (Segment::Literal(_) | Segment::Param(_) | Segment::Regex(..) | Segment::Mixed(_) | Segment::Rest(_), _) => {
            !matches!(narrow, Segment::Rest(_)) && same_condition(wide, narrow)
        }
    }
}

/// Whether the wider conditions hold wherever the narrower ones do.
fn covers_values(wide: &[FieldMatch], narrow: &[FieldMatch]) -> bool {
    wide.iter().all(|wide| narrow.iter().any(|narrow| wide.name == narrow.name && covers_value(&wide.is, &narrow.is)))
}

fn covers_value(wide: &ValueMatch, narrow: &ValueMatch) -> bool {
    match (wide, narrow) {
        (ValueMatch::Absent, ValueMatch::Absent) => true,
        (ValueMatch::Absent, _) | (_, ValueMatch::Absent) => false,
        (ValueMatch::Present, _) => true,
        (ValueMatch::Exact(wide), ValueMatch::Exact(narrow)) => wide == narrow,
        (ValueMatch::Regex(wide), ValueMatch::Exact(narrow)) => wide.is_match(narrow),
        (ValueMatch::Regex(wide), ValueMatch::Regex(narrow)) => wide.as_str() == narrow.as_str(),
        (ValueMatch::Exact(_) | ValueMatch::Regex(_), _) => false,
    }
}

fn covers_cert(wide: &ClientCertMatch, narrow: &ClientCertMatch) -> bool {
    covers_names(&wide.subjects, &narrow.subjects) && covers_names(&wide.sans, &narrow.sans)
}

/// Names of which any will do; none is no condition.
fn covers_names(wide: &[Arc<str>], narrow: &[Arc<str>]) -> bool {
    wide.is_empty() || !narrow.is_empty() && narrow.iter().all(|name| wide.contains(name))
}
