//! What must hold for any input. The fuzz targets call these functions, and so do ordinary tests over seeds and generated
//! bytes. They panic when something does not hold.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::Method;
use regex::Regex;
use tidegate_config::config::{AcceptRequestId, FieldMatch, Match, RequestId, Rewrite, Route, Target, ValueMatch};
use tidegate_config::problem::Path;
use tidegate_config::value::{HostPattern, PathPattern};
use tidegate_http1::{Fields, RequestHead, Version};

use crate::body::Body;
use crate::client::{ClientCert, Networks, Peer};
use crate::clock::{Clock, ManualClock};
use crate::exchange::{Exchange, Opening};
use crate::expression::{Expression, Scope};
use crate::identity::Identity;
use crate::keys::{Digest, Entry, Journal, KeyError, id_of};
use crate::path::canonicalize;
use crate::route::{Found, Head, Params, Router};

/// A canonical path has one spelling, which hides nothing; a refused target is left alone.
pub fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut target = text.to_owned();
    let Ok(length) = canonicalize(&mut target) else {
        assert_eq!(target, text, "a refused target is changed");
        return;
    };
    let mut again = target.clone();
    assert_eq!((canonicalize(&mut again), &again), (Ok(length), &target), "canonical twice is not canonical once");
    if target == "*" {
        return;
    }
    let (path, query) = target.split_at(length);
    let asked = text.split_once('?').map(|(_, query)| query);
    assert_eq!(query.strip_prefix('?'), asked, "the query is changed");
    assert!(path.starts_with('/') && !path.contains("//"), "{path}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\')), "{path}");
    assert!(path.split('/').all(|segment| !is_dotted(segment)), "{path}");
    let lower = path.to_ascii_lowercase();
    for hidden in [
        "%2e",
        "%2f",
        "%5c",
        "%00",
        "%0d",
        "%0a",
        "%7f",
        "%252e",
        "%252f",
        "%255c",
        "%2500",
        "%25252e",
        "%c0%ae",
        "%25c0%ae",
        "%c0%25ae",
        "%25c0%25ae",
    ] {
        assert!(!lower.contains(hidden), "{path}");
    }
}

/// A text is a key or not; a file of keys means the same after it was written anew, line by line or as a whole.
pub fn keys(bytes: &[u8]) {
    if let Ok(id) = id_of(bytes) {
        assert!(bytes.len() == 63 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
    }
    let mut journal = Journal::default();
    let mut secrets = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        journal.read(line);
        let Ok(entry) = Entry::parse(line) else { continue };
        let written = entry.to_line().unwrap_or_default();
        assert!(!written.trim_ascii_end().contains(&b'\n'), "a line is not one line");
        if let Entry::Record(record) = &entry {
            secrets.extend([Some(record.hash), record.former.as_ref().map(|former| former.hash)].into_iter().flatten());
        }
        assert_eq!(Entry::parse(&written), Ok(entry), "a line changes its meaning");
    }
    let mut condensed = Journal::default();
    for entry in journal.condensed() {
        condensed.read(&entry.to_line().unwrap_or_default());
    }
    let mut living = journal.index().records();
    living.retain(|record| record.revoked.is_none());
    assert_eq!(condensed.index().records(), living, "a file changes its meaning");
    for Digest(secret) in secrets {
        for second in [0, 15, 1_800_000_000, u64::MAX] {
            let now = Duration::from_secs(second);
            let found = journal.index().find(&secret, now);
            // Revoked keys are forgotten.
            let expected = if found == Err(KeyError::Revoked) { Err(KeyError::Unknown) } else { found };
            assert_eq!(condensed.index().find(&secret, now), expected, "a secret changes its meaning");
        }
    }
}

fn is_dotted(segment: &str) -> bool {
    matches!(segment, "." | "..") || segment.starts_with(".;") || segment.starts_with("..;")
}

/// The index finds what routing means, for routes and a request that are made from the bytes.
pub fn router(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let count = choices.below(24) + 1;
    let written: Vec<_> = (0..count).filter_map(|number| choices.route(number)).collect();
    let (router, problems) = Router::build(&written);
    for problem in &problems {
        assert!(problem.message.contains("can never match"), "{problem}");
    }
    let shadowed = router.shadowed();
    let explained_names: Vec<_> = shadowed.iter().map(|shadowed| &shadowed.route.name).collect();
    for _ in 0..8 {
        let request = choices.request();
        let found = assert_found_alike(&router, &request.head());
        if let Found::Route(number) = found {
            let name = router.route(number).map(|route| &route.name);
            assert!(!explained_names.iter().any(|hidden| Some(*hidden) == name), "{name:?} is called unreachable");
        }
    }
}

fn assert_found_alike(router: &Router, head: &Head<'_>) -> Found {
    let (mut params, mut slow_params) = (Params::new(), Params::new());
    let found = router.find(head, &mut params);
    assert_eq!(found, router.find_slow(head, &mut slow_params), "{head:?}");
    assert_eq!(params, slow_params);
    let winner = router.explain(head).into_iter().filter_map(|explained| explained.verdict.ok()).max();
    assert_eq!(winner.is_some(), matches!(found, Found::Route(_)), "explain disagrees for {head:?}");
    if let Found::Route(number) = found {
        let pattern = router.route(number).map(|route| &route.matches.path);
        for (pattern, name) in pattern.iter().flat_map(|pattern| pattern.params().map(move |name| (pattern, name))) {
            let value = params.value(pattern, name, head.path);
            assert!(value.is_some_and(|value| !value.is_empty()), "`{name}` of {pattern} in {}", head.path);
        }
    }
    found
}

/// Parsing says where it stops, and what was parsed keeps the laws of logic for any request, with and without an identity.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parsed = match Expression::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(text.is_char_boundary(error.at), "{error}");
            return;
        }
    };
    for variable in parsed.variables() {
        let again = Expression::parse(&format!("has({variable})"));
        assert!(
            again.is_ok_and(|again| again.variables() == [variable]),
            "{variable} is another one when it is written"
        );
    }
    let pattern = PathPattern::exact("/{p}/{t...}").unwrap_or_else(|_| PathPattern::everything());
    let [mut by_somebody, mut by_nobody] = [proved(), proved()];
    by_nobody.identity = None;
    for exchange in [&mut by_somebody, &mut by_nobody] {
        exchange.params.capture(&pattern, "/a/b");
    }
    let scope = |exchange| Scope { exchange, pattern: &pattern, now: Duration::from_secs(7) };
    assert_logic(text, &parsed, [scope(&by_somebody), scope(&by_nobody)]);
}

fn assert_logic(text: &str, parsed: &Expression, scopes: [Scope<'_>; 2]) {
    let holds = holds_for(parsed, scopes);
    // `None` is longer than an expression may be, or too deep.
    let also = |text: String| Expression::parse(&text).ok().map(|expression| holds_for(&expression, scopes));
    for same in [
        format!(" ( {text} ) "),
        format!("!!({text})"),
        format!("({text})&&({text})"),
        format!("({text})||({text})"),
        format!("({text})&&!has(claims.z)"),
        format!("({text})||has(claims.z)"),
    ] {
        assert!(also(same).is_none_or(|also| also == holds), "{text}");
    }
    let Some(fails) = also(format!("!({text})")) else { return };
    assert!(fails.iter().zip(holds).all(|(fails, holds)| !(*fails && holds)), "{text}");
    for same in [format!("!(({text})||has(claims.z))"), format!("!(({text})&&!has(claims.z))")] {
        assert!(also(same).is_none_or(|also| also == fails), "{text}");
    }
}

fn holds_for(parsed: &Expression, scopes: [Scope<'_>; 2]) -> [bool; 2] {
    scopes.map(|scope| parsed.holds(&scope))
}

/// A request with something for most variables.
fn proved() -> Exchange {
    let mut fields = Fields::new();
    for (name, value) in [("x-a", "1"), ("x-b", "a"), ("x-b", "b"), ("cookie", "c=1; d=\"; c=2")] {
        assert_eq!(fields.append(name, value.as_bytes()), Ok(()));
    }
    let target = "/a/b?q=1&r=a&r=b".to_owned();
    let head = RequestHead { method: Method::GET, target, version: Version::Http11, fields };
    let nobody = Networks::default();
    let peer = Rc::new(Peer::new(([10, 0, 0, 1], 1).into(), "default".into(), 80, &nobody));
    let rule = RequestId { header: "x-request-id".into(), accept: AcceptRequestId::Never };
    let now = Clock::Manual(ManualClock::new(Duration::ZERO)).now();
    let opening = Opening { trusted: &nobody, request_id: &rule, random: 1, now };
    let (mut exchange, _) = Exchange::open(head, Body::empty(), peer, opening);
    exchange.identity = Some(Arc::new(Identity {
        user: Some("a".into()),
        roles: vec!["a".into(), "b".into()],
        claims: serde_json::json!({ "a": 1, "b": "a", "c": ["a", 1], "d": true, "e": { "a": 1.5 }, "f": null }),
        ..Identity::default()
    }));
    exchange
}

const HOSTS: [&str; 8] = ["a.test", "b.test", "x.a.test", "*.test", "*.a.test", "*.b.test", "*", "[::1]"];
const ASKED_HOSTS: [&str; 8] = ["a.test", "b.test", "x.a.test", "y.x.a.test", "c.test", "", "[::1]", ".test"];
const SEGMENTS: [&str; 14] =
    ["a", "b", "ab", "c", "", "{p}", "{q:[ab]+}", "{q:.*}", "a{r}", "{r}b", "a{r:b+}", "v{s}.x", "*", "{t...}"];
const ASKED_SEGMENTS: [&str; 12] = ["a", "b", "ab", "abb", "c", "", "v1.x", "zz", "a%20b", "%C3%A9", "..a", "ba"];
const METHODS: [&str; 6] = ["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PROPFIND"];
const VALUES: [&str; 4] = ["1", "2", "ab", ""];

thread_local! {
    /// Patterns that were made before, a few thousand at most: of all that a run does, making regular expressions took nearly all time.
    static PATTERNS: RefCell<HashMap<(bool, String), Option<PathPattern>>> = RefCell::default();
}

static EXPRESSIONS: LazyLock<Vec<Regex>> =
    LazyLock::new(|| ["^[0-9]$", "a", ""].into_iter().filter_map(|text| Regex::new(text).ok()).collect());

/// Makes small routes and requests that often meet. When the bytes are used up, the first of everything is chosen.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, count: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first) % count.max(1)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts.get(self.below(texts.len())).copied().unwrap_or_default()
    }

    /// `None` for a pattern that configurations refuse.
    fn route(&mut self, number: usize) -> Option<Arc<Route>> {
        let matches = Match {
            path: self.pattern()?,
            hosts: self.some(2, |choices| choices.of(&HOSTS).parse::<HostPattern>().ok()),
            methods: self.some(2, |choices| choices.of(&METHODS).parse().ok()),
            headers: self.some(4, |choices| choices.condition(&["x-a", "x-b"])),
            query: self.some(4, |choices| choices.condition(&["q", "r"])),
            cookies: self.some(5, |choices| choices.condition(&["c"])),
            client_ip: self.some(5, |choices| choices.of(&["10.0.0.0/8", "10.1.0.0/16", "::1/128"]).parse().ok()),
            listeners: self.some(5, |choices| Some(choices.of(&["plain", "tls"]).into())),
            client_cert: None,
        };
        let priority = if self.one_in(4) { i32::from(self.one_in(2)) * 2 - 1 } else { 0 };
        Some(Arc::new(Route {
            name: format!("r{number}").into(),
            priority,
            matches,
            target: Target::Service("s".into()),
            retry: tidegate_config::config::RouteRetry::OfService,
            mirror: None,
            fault: None,
            rewrite: Rewrite::default(),
            timeout: None,
            body_limit: None,
            policies: Vec::new(),
            shadow: Vec::new(),
            upgrade: Vec::new(),
            at: Path::root().join("routes").index(number),
        }))
    }

    fn pattern(&mut self) -> Option<PathPattern> {
        let prefix = self.one_in(3);
        let length = self.below(4);
        let segments: Vec<_> = (0..length).map(|_| self.of(&SEGMENTS)).collect();
        let text = format!("/{}", segments.join("/"));
        let parse = if prefix { PathPattern::prefix } else { PathPattern::exact };
        PATTERNS.with_borrow_mut(|known| {
            known.entry((prefix, text)).or_insert_with_key(|(_, text)| parse(text).ok()).clone()
        })
    }

    /// None in most cases, else one or two.
    fn some<T>(&mut self, one_in: usize, mut make: impl FnMut(&mut Self) -> Option<T>) -> Vec<T> {
        let count = if self.one_in(one_in) { self.below(2) + 1 } else { 0 };
        (0..count).filter_map(|_| make(self)).collect()
    }

    fn condition(&mut self, names: &[&str]) -> Option<FieldMatch> {
        let name = self.of(names).into();
        let is = match self.below(4) {
            0 => ValueMatch::Exact(self.of(&VALUES).into()),
            1 => ValueMatch::Regex(EXPRESSIONS.get(self.below(EXPRESSIONS.len()))?.clone()),
            2 => ValueMatch::Present,
            _ => ValueMatch::Absent,
        };
        Some(FieldMatch { name, is })
    }

    fn request(&mut self) -> Request {
        let mut fields = Fields::new();
        for (name, before) in [("x-a", ""), ("x-b", ""), ("cookie", "d=9; c=")] {
            for _ in 0..self.below(3) {
                let value = format!("{before}{}", self.of(&VALUES));
                assert_eq!(fields.append(name, value.as_bytes()), Ok(()));
            }
        }
        let segments: Vec<_> = (0..=self.below(5)).map(|_| self.of(&ASKED_SEGMENTS)).collect();
        let mut path = format!("/{}", segments.join("/"));
        let path = canonicalize(&mut path).map_or_else(|_| "/".to_owned(), |_| path);
        Request {
            host: self.of(&ASKED_HOSTS).to_owned(),
            path,
            query: self.of(&["", "q=1", "q=2&r", "r=ab&q=%31", "%71=1&q=2", "r=+"]).to_owned(),
            method: self.of(&METHODS).parse().unwrap_or_default(),
            fields,
            client_ip: self
                .of(&["10.1.2.3", "10.9.9.9", "::1", "::ffff:10.1.2.3"])
                .parse()
                .unwrap_or(IpAddr::from([1; 4])),
            listener: if self.one_in(2) { "tls" } else { "plain" },
            cert: self.one_in(3).then(ClientCert::default),
        }
    }
}

struct Request {
    host: String,
    path: String,
    query: String,
    method: Method,
    fields: Fields,
    client_ip: IpAddr,
    listener: &'static str,
    cert: Option<ClientCert>,
}

impl Request {
    fn head(&self) -> Head<'_> {
        Head {
            host: &self.host,
            path: &self.path,
            query: &self.query,
            method: &self.method,
            fields: &self.fields,
            client_ip: self.client_ip,
            listener: self.listener,
            cert: self.cert.as_ref(),
        }
    }
}
