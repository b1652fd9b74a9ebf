//! One route as the router sees it: what each condition means, and how well a rule fits a request.

use std::fmt;
use std::sync::Arc;

use tidegate_config::config::{ClientCertMatch, FieldMatch, Match, Route, ValueMatch};
use tidegate_config::value::{HostPattern, Mixed, PathKind, PathPattern, Segment};
use tidegate_http1::Fields;

use super::Head;
use super::methods::Methods;
use crate::client::Networks;
use crate::query;

/// How well a rule fits. The greatest wins; the order of the fields is the precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// As written; 0 where it is not.
    pub priority: i32,
    /// How exactly the host is named.
    pub host: HostRank,
    /// How exactly the path is described.
    pub path: PathRank,
    /// Whether there is a condition on the method.
    pub method: bool,
    /// How many conditions on fields there are.
    pub headers: usize,
    /// How many conditions on the query and on cookies.
    pub query: usize,
    /// How many conditions on the client's address, its certificate and the listener.
    pub client: usize,
}

/// How exactly a host is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostRank {
    /// Not at all.
    Any,
    /// By `*.` and a suffix of this many bytes.
    Wildcard(usize),
    /// In full.
    Exact,
}

/// How exactly a path is described: the place among all paths of one router, from the least exact. Compared from left to right
/// a literal beats a literal with a parameter, that a regex, that `{x}`, that the rest; then the longer pattern wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathRank(usize);

/// The one condition of a route that a request does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Which one.
    pub condition: Condition,
    /// What the route asks for, in words.
    pub expected: String,
    /// What the request has, in words.
    pub found: String,
}

/// The conditions that a route may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `host`
    Host,
    /// `path` or `path_prefix`
    Path,
    /// `headers`, with the field's name
    Header(Arc<str>),
    /// `query`, with the parameter's name
    Query(Arc<str>),
    /// `cookies`, with the cookie's name
    Cookie(Arc<str>),
    /// `client_ip`
    ClientIp,
    /// `listener`
    Listener,
    /// `client_cert`
    ClientCert,
    /// `methods`: checked last, so that it is what differs only where everything else fits
    Method,
}

/// A route, prepared for questions.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) route: Arc<Route>,
    /// Empty is any.
    pub(super) methods: Methods,
    pub(super) client_ip: Networks,
    pub(super) path: PathRank,
    /// There is no condition but host, path and method.
    pub(super) plain: bool,
    /// Something of the path is worth keeping.
    pub(super) captures: bool,
}

impl Rule {
    pub(super) fn of_all(routes: &[Arc<Route>]) -> Vec<Self> {
        let mut shapes: Vec<_> = routes.iter().map(|route| shape(&route.matches.path)).collect();
        shapes.sort_unstable();
        shapes.dedup();
        let place = |pattern| shapes.binary_search(&shape(pattern)).unwrap_or_default();
        routes.iter().map(|route| Self::of(route, PathRank(place(&route.matches.path)))).collect()
    }

    fn of(route: &Arc<Route>, path: PathRank) -> Self {
        let Match { path: pattern, headers, query, cookies, client_ip, listeners, client_cert, .. } = &route.matches;
        let plain = headers.is_empty()
            && query.is_empty()
            && cookies.is_empty()
            && client_ip.is_empty()
            && listeners.is_empty()
            && client_cert.is_none();
        Self {
            methods: Methods::of(&route.matches.methods),
            client_ip: Networks::new(client_ip),
            path,
            plain,
            captures: pattern.params().next().is_some() || pattern.has_implied_rest(),
            route: Arc::clone(route),
        }
    }

    /// How well the rule fits this request, or why it does not.
    pub(super) fn rank(&self, head: &Head<'_>) -> Result<Rank, Mismatch> {
        let host = self.host_rank(head.host)?;
        self.check_path(head.path)?;
        self.check_conditions(head)?;
        if !self.takes(head) {
            let expected = self.methods.to_string();
            return Err(Mismatch { condition: Condition::Method, expected, found: head.method.to_string() });
        }
        Ok(self.rank_with(host))
    }

    /// The rank of every request that the rule matches by a host of this rank.
    pub(super) fn rank_with(&self, host: HostRank) -> Rank {
        let Match { headers, query, cookies, client_ip, listeners, client_cert, .. } = &self.route.matches;
        let client = [!client_ip.is_empty(), !listeners.is_empty(), client_cert.is_some()];
        Rank {
            priority: self.route.priority,
            host,
            path: self.path,
            method: !self.methods.is_empty(),
            headers: headers.len(),
            query: query.len() + cookies.len(),
            client: client.into_iter().filter(|&present| present).count(),
        }
    }

    #[inline]
    pub(super) fn takes(&self, head: &Head<'_>) -> bool {
        self.methods.is_empty() || self.methods.contains(head.method)
    }

    /// The hosts of the rule; no condition is any.
    pub(super) fn hosts(&self) -> &[HostPattern] {
        match self.route.matches.hosts.as_slice() {
            [] => &[HostPattern::Any],
            hosts => hosts,
        }
    }

    /// The first condition besides host, path and method that does not hold. Allocates nothing.
    pub(super) fn failing(&self, head: &Head<'_>) -> Option<Failing<'_>> {
        if self.plain {
            return None;
        }
        let Match { headers, query, cookies, client_ip, listeners, client_cert, .. } = &self.route.matches;
        let header = headers.iter().find(|wanted| !header_holds(wanted, head.fields));
        let parameter = |wanted: &&FieldMatch| !holds(&wanted.is, query::values(head.query, &wanted.name).map(Some));
        let cookie = |wanted: &&FieldMatch| !cookie_holds(wanted, head.fields);
        let failing = header.map(Failing::Header);
        let failing = failing.or_else(|| query.iter().find(parameter).map(Failing::Query));
        let failing = failing.or_else(|| cookies.iter().find(cookie).map(Failing::Cookie));
        if failing.is_some() {
            return failing;
        }
        if !client_ip.is_empty() && !self.client_ip.contains(head.client_ip) {
            return Some(Failing::ClientIp);
        }
        if !listeners.is_empty() && !listeners.iter().any(|name| **name == *head.listener) {
            return Some(Failing::Listener);
        }
        client_cert.as_ref().filter(|expected| !has_cert(expected, head)).map(Failing::ClientCert)
    }

    fn check_conditions(&self, head: &Head<'_>) -> Result<(), Mismatch> {
        let Some(failing) = self.failing(head) else { return Ok(()) };
        let Match { client_ip, listeners, .. } = &self.route.matches;
        Err(match failing {
            Failing::Header(header) => {
                let found = head.fields.values(&*header.name).map(to_text);
                Mismatch::of_value(Condition::Header, header, found)
            }
            Failing::Query(parameter) => {
                let found = query::values(head.query, &parameter.name).map(Some);
                Mismatch::of_value(Condition::Query, parameter, found)
            }
            Failing::Cookie(cookie) => {
                let found = query::cookies(head.fields, &cookie.name).map(to_text);
                Mismatch::of_value(Condition::Cookie, cookie, found)
            }
            Failing::ClientIp => Mismatch::new(Condition::ClientIp, list(client_ip), head.client_ip.to_string()),
            Failing::Listener => Mismatch::new(Condition::Listener, list(listeners), head.listener.to_owned()),
            Failing::ClientCert(expected) => Mismatch::of_cert(expected, head),
        })
    }

    fn host_rank(&self, host: &str) -> Result<HostRank, Mismatch> {
        let fitting = self.hosts().iter().filter(|pattern| pattern.matches(host));
        fitting.map(rank_of_host).max().ok_or_else(|| {
            let found = if host.is_empty() { "none".to_owned() } else { host.to_owned() };
            Mismatch::new(Condition::Host, list(self.hosts()), found)
        })
    }

    fn check_path(&self, path: &str) -> Result<(), Mismatch> {
        let pattern = &self.route.matches.path;
        if matches_path(pattern, path) {
            return Ok(());
        }
        let expected = match pattern.kind {
            PathKind::Exact => pattern.to_string(),
            PathKind::Prefix => format!("{pattern} or below"),
        };
        Err(Mismatch::new(Condition::Path, expected, path.to_owned()))
    }
}

/// The rank of a host pattern, whatever host it matches.
pub(super) fn rank_of_host(pattern: &HostPattern) -> HostRank {
    match pattern {
        HostPattern::Exact(_) => HostRank::Exact,
        HostPattern::Wildcard(suffix) => HostRank::Wildcard(suffix.len()),
        HostPattern::Any => HostRank::Any,
    }
}

fn matches_path(pattern: &PathPattern, path: &str) -> bool {
    let Some(mut left) = path.strip_prefix('/').map(Some) else { return false };
    for expected in &pattern.segments {
        let Some(text) = left else { return false };
        if matches!(expected, Segment::Rest(_)) {
            return !text.is_empty();
        }
        let (segment, after) = text.split_once('/').map_or((text, None), |(segment, after)| (segment, Some(after)));
        if !matches_segment(expected, segment) {
            return false;
        }
        left = after;
    }
    pattern.kind == PathKind::Prefix || left.is_none()
}

/// Whether one segment of a path is what the pattern says. A parameter is never empty; a regex sees the canonical,
/// percent-encoded text.
pub(super) fn matches_segment(expected: &Segment, segment: &str) -> bool {
    match expected {
        Segment::Literal(text) => **text == *segment,
        Segment::Param(_) | Segment::Rest(_) => !segment.is_empty(),
        Segment::Regex(_, regex) => !segment.is_empty() && regex.is_match(segment),
        Segment::Mixed(Mixed { prefix, regex, suffix, .. }) => {
            let inner = segment.strip_prefix(&**prefix).and_then(|rest| rest.strip_suffix(&**suffix));
            inner.is_some_and(|inner| !inner.is_empty() && regex.as_ref().is_none_or(|regex| regex.is_match(inner)))
        }
    }
}

/// How exact a pattern is, to be compared from left to right. Beyond the end of a prefix anything may stand, so ending exactly
/// is more.
fn shape(pattern: &PathPattern) -> Vec<(u8, usize)> {
    let segments = pattern.segments.iter().map(|segment| match segment {
        Segment::Literal(_) => (6, 0),
        Segment::Mixed(Mixed { prefix, suffix, .. }) => (5, prefix.len() + suffix.len()),
        Segment::Regex(..) => (4, 0),
        Segment::Param(_) => (3, 0),
        Segment::Rest(_) => (2, 0),
    });
    let end = (pattern.kind == PathKind::Exact).then_some((1, 0));
    segments.chain(end).collect()
}

/// A condition that does not hold.
pub(super) enum Failing<'r> {
    Header(&'r FieldMatch),
    Query(&'r FieldMatch),
    Cookie(&'r FieldMatch),
    ClientIp,
    Listener,
    ClientCert(&'r ClientCertMatch),
}

/// Whether a condition on a header holds.
pub(crate) fn header_holds(wanted: &FieldMatch, fields: &Fields) -> bool {
    holds(&wanted.is, fields.values(&*wanted.name).map(to_text))
}

/// Whether a condition on a cookie holds.
pub(crate) fn cookie_holds(wanted: &FieldMatch, fields: &Fields) -> bool {
    holds(&wanted.is, query::cookies(fields, &wanted.name).map(to_text))
}

/// A condition holds if one of the values meets it; `Absent` holds if there is none. A value that is not text is there, but
/// equals nothing.
fn holds<V: AsRef<str>>(expected: &ValueMatch, mut values: impl Iterator<Item = Option<V>>) -> bool {
    match expected {
        ValueMatch::Exact(text) => values.any(|value| value.is_some_and(|value| *value.as_ref() == **text)),
        ValueMatch::Regex(regex) => values.any(|value| value.is_some_and(|value| regex.is_match(value.as_ref()))),
        ValueMatch::Present => values.next().is_some(),
        ValueMatch::Absent => values.next().is_none(),
    }
}

fn has_cert(expected: &ClientCertMatch, head: &Head<'_>) -> bool {
    let ClientCertMatch { subjects, sans } = expected;
    head.cert.is_some_and(|cert| {
        (subjects.is_empty() || subjects.contains(&cert.subject))
            && (sans.is_empty() || cert.sans.iter().any(|san| sans.contains(&san.name)))
    })
}

fn to_text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Mismatch {
    fn new(condition: Condition, expected: String, found: String) -> Self {
        Self { condition, expected, found }
    }

    fn of_value<V: AsRef<str>>(
        condition: fn(Arc<str>) -> Condition,
        wanted: &FieldMatch,
        found: impl Iterator<Item = Option<V>>,
    ) -> Self {
        let expected = match &wanted.is {
            ValueMatch::Exact(text) => format!("`{text}`"),
            ValueMatch::Regex(regex) => format!("something like `{regex}`"),
            ValueMatch::Present => "present".to_owned(),
            ValueMatch::Absent => "absent".to_owned(),
        };
        let found: Vec<_> =
            found.map(|value| value.map_or("(not text)".to_owned(), |value| format!("`{}`", value.as_ref()))).collect();
        let found = if found.is_empty() { "absent".to_owned() } else { found.join(", ") };
        Self::new(condition(Arc::clone(&wanted.name)), expected, found)
    }

    fn of_cert(ClientCertMatch { subjects, sans }: &ClientCertMatch, head: &Head<'_>) -> Self {
        let expected: Vec<_> = subjects.iter().chain(sans).collect();
        let found = head.cert.map(|cert| format!("{} ({})", cert.subject, list(&cert.sans)));
        Self::new(Condition::ClientCert, list(&expected), found.unwrap_or_else(|| "none".to_owned()))
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.condition, self.expected, self.found)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Path => f.write_str("path"),
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Query(name) => write!(f, "query parameter `{name}`"),
            Self::Cookie(name) => write!(f, "cookie `{name}`"),
            Self::ClientIp => f.write_str("client address"),
            Self::Listener => f.write_str("listener"),
            Self::ClientCert => f.write_str("client certificate"),
            Self::Method => f.write_str("method"),
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.host {
            HostRank::Exact => "exact host",
            HostRank::Wildcard(_) => "wildcard host",
            HostRank::Any => "any host",
        };
        write!(f, "priority {}, {host}, path {}", self.priority, self.path)?;
        if self.method {
            f.write_str(", method")?;
        }
        for (count, what) in [(self.headers, "header"), (self.query, "query or cookie"), (self.client, "client")] {
            match count {
                0 => {}
                1 => write!(f, ", 1 {what} condition")?,
                count => write!(f, ", {count} {what} conditions")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for PathRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
