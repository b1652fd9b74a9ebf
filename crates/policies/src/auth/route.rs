//! `auth` of a route: which ways are asked who it is, in which order. Nothing but a way ever says who a caller is.

use std::ops::ControlFlow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::config::Route;
use tidegate_config::policy::{ListOr, Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::{Name, closest};
use tidegate_core::exchange::Exchange;
use tidegate_core::policy::{Decision, Gate, Phase, Stop, Verdict, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::{Known, ResponseHead};

use super::failures::{Failures, failures};
use super::way::{Bad, Finding, Proof, Way};
use super::{Built, ways};
use crate::policy::{Policy, Setup};

/// Instead of the names of ways: everybody may call.
pub(super) const NOBODY: &str = "none";

/// The policy.
pub(crate) struct RouteAuth;

/// Who is asked who the caller is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteAuthFile {
    /// Names of ways, in the order in which they are asked.
    ways: Vec<Name>,
    /// What becomes of a request whose credential proves nothing. By default it is refused.
    bad: Option<BadFile>,
}

/// What becomes of a request whose credential proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum BadFile {
    /// It is refused.
    Refuse,
    /// The next way is asked, as if there were no credential.
    Next,
}

/// Which ways a route asks.
pub(crate) struct Asked {
    /// With their places; none is a public route.
    ways: Vec<(Arc<str>, Path)>,
    bad: BadFile,
}

impl Asked {
    /// What `auth` of this route means; `None` where it is not written.
    pub(crate) fn of(route: &Route) -> Option<&Self> {
        route.policies.iter().find(|written| written.key == RouteAuth::KEY)?.meaning()
    }

    /// What they are called.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.ways.iter().map(|(name, _)| &**name)
    }
}

impl Policy for RouteAuth {
    const KEY: &'static str = "auth";
    const PLACE: Place = Place::Route;
    const EXAMPLE: &'static str = "\
auth:
  keys: { api_key: { inline: [{ key: a-key-of-the-build-machine, user: ci }] } }
services: { orders: { url: http://127.0.0.1:9001 } }
routes:
  - { match: { path_prefix: /orders }, service: orders, auth: [keys] }
  - { match: { path: /health }, respond: { body: ok }, auth: none }
";
    type File = ListOr<Name, RouteAuthFile>;
    type Meaning = Asked;

    fn mean(file: Self::File, reading: &mut Reading<'_, '_>) -> Option<Asked> {
        let path = reading.path();
        let (names, bad, list) = match file {
            ListOr::List(names) => (names, None, path),
            ListOr::Full(file) => (file.ways, file.bad, path.join("ways")),
        };
        let mut ways: Vec<(Arc<str>, Path)> = Vec::with_capacity(names.len());
        for (position, Name(name)) in names.into_iter().enumerate() {
            let at = reading.item(&list, position);
            if ways.iter().any(|(known, _)| *known == name) {
                reading.error(&at, format!("`{name}` is asked twice"));
            }
            ways.push((name, at));
        }
        if ways.is_empty() && !reading.is_excused(&list) {
            let problem = Problem::error(list, "`auth` names no way");
            reading.report(problem.help("write `auth: none` for a route that everybody may call"));
        } else if let ([_, _, ..], Some((_, at))) = (&*ways, ways.iter().find(|(name, _)| **name == *NOBODY)) {
            reading.error(at, "`none` stands alone: a route is public, or it is not");
        }
        ways.retain(|(name, _)| **name != *NOBODY);
        Some(Asked { ways, bad: bad.unwrap_or(BadFile::Refuse) })
    }

    fn build(meaning: Option<&Asked>, at: &Path, setup: &mut Setup<'_>) {
        let Some(asked) = meaning.filter(|asked| !asked.ways.is_empty()) else {
            if let Some(problem) =
                setup.route.filter(|_| setup.config.server.require_auth).and_then(|route| unsaid(meaning, route))
            {
                setup.report(problem);
            }
            return;
        };
        let built = ways(setup);
        let found = asked.ways.iter().filter_map(|(name, at)| {
            let way = built.find(name).cloned();
            if way.is_none() {
                setup.report(unknown(name, at, &built));
            }
            way
        });
        let found = found.collect();
        let names = asked.ways.iter().map(|(name, _)| Arc::clone(name)).collect();
        // Who only watches leads nobody away.
        let invites = !setup.route.is_some_and(|route| route.shadow.iter().any(|shadowed| **shadowed == *Self::KEY));
        let gate = Authenticate { names, failures: failures(setup), invites, ..Authenticate::new(found, asked.bad) };
        setup.gate((Phase::Authenticate, Self::KEY), &"".into(), at, Arc::new(gate));
    }
}

/// Has a route take away what callers show of ways that it does not ask, where they show it everywhere.
pub(super) fn conceal_what_is_not_asked(built: &Built, at: &Path, setup: &mut Setup<'_>) {
    let Some(route) = setup.route else { return };
    let asks = |name: &str| Asked::of(route).is_some_and(|asked| asked.names().any(|asked| asked == name));
    let others = built.all().filter(|(name, way)| way.is_shown_everywhere() && !asks(name));
    let others: Vec<_> = others.map(|(_, way)| Arc::clone(way)).collect();
    if !others.is_empty() {
        setup.gate((Phase::Authenticate, RouteAuth::KEY), &"".into(), at, Arc::new(Conceal(others)));
    }
}

/// The gate of a route that does not ask these.
struct Conceal(Vec<Arc<dyn Way>>);

impl Gate for Conceal {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, _: &'a dyn World) -> Decision<'a> {
        self.0.iter().for_each(|way| way.conceal(exchange));
        Decision::PASS
    }
}

/// Under `require_auth` a route says who may call, or that everybody may.
fn unsaid(meaning: Option<&Asked>, route: &Route) -> Option<Problem> {
    let text = format!("`{}` does not say who may call, and `server.require_auth` is on", route.name);
    let problem =
        Problem::error(route.at.clone(), text).see(Path::root().join("server").join("require_auth"), "this is on");
    meaning.is_none().then(|| problem.help("write `auth`, with names of ways, or `auth: none` for everybody"))
}

fn unknown(name: &str, at: &Path, built: &Built) -> Problem {
    let problem = Problem::error(at.clone(), format!("there is no way `{name}` to prove who one is"));
    match closest(name, built.names()) {
        Some(close) => problem.help(format!("did you mean `{close}`?")),
        None => problem.help("ways are defined at the top, under `auth`"),
    }
}

/// The gate of a route.
struct Authenticate {
    ways: Vec<Arc<dyn Way>>,
    /// What they are called.
    names: Vec<Arc<str>>,
    bad: BadFile,
    /// For requests that show nothing.
    nothing: Rejection,
    /// Whether browsers may be sent to a login.
    invites: bool,
    /// Who has shown too much that proved nothing.
    failures: Option<Arc<Failures>>,
}

impl Authenticate {
    fn new(ways: Vec<Arc<dyn Way>>, bad: BadFile) -> Self {
        let nothing = nothing_shown(&ways);
        Self { ways, names: Vec::new(), bad, nothing, invites: true, failures: None }
    }

    /// Asks the ways from this one on, of which any may have to wait.
    async fn ask(&self, mut asking: Asking, exchange: &mut Exchange, world: &dyn World) -> Verdict {
        for way in self.ways.iter().skip(asking.next) {
            let finding = match way.prove(exchange, world) {
                Proof::Ready(finding) => finding,
                Proof::Wait(finding) => finding.await,
            };
            if let ControlFlow::Break(verdict) = self.judge(&**way, finding, &mut asking, (exchange, world)) {
                return self.conclude(verdict, exchange);
            }
        }
        self.conclude(Err(self.nobody(asking, exchange, world)), exchange)
    }

    fn judge(
        &self,
        way: &dyn Way,
        finding: Finding,
        asking: &mut Asking,
        (exchange, world): (&mut Exchange, &dyn World),
    ) -> ControlFlow<Verdict> {
        asking.next += 1;
        match finding {
            Finding::Absent => ControlFlow::Continue(()),
            Finding::Known(identity) => {
                exchange.identity = Some(identity);
                ControlFlow::Break(Ok(()))
            }
            Finding::Bad(bad) => self.deny(refused(way, bad), asking, (exchange, world)),
            Finding::Denied(rejection) => self.deny(*rejection, asking, (exchange, world)),
            Finding::Answered(reply) => ControlFlow::Break(Err(Stop::Answer(reply))),
            Finding::Refused(rejection) => ControlFlow::Break(Err(Stop::Refuse(rejection))),
        }
    }

    /// What becomes of a request whose credential proves nothing.
    fn deny(
        &self,
        rejection: Rejection,
        asking: &mut Asking,
        (exchange, world): (&Exchange, &dyn World),
    ) -> ControlFlow<Verdict> {
        if let Some(failures) = &self.failures {
            failures.count(exchange.client, world);
        }
        asking.refused.get_or_insert(rejection);
        match self.bad {
            BadFile::Refuse => ControlFlow::Break(Err(self.refusal(std::mem::take(asking)))),
            BadFile::Next => ControlFlow::Continue(()),
        }
    }

    /// No way knows who it is.
    fn nobody(&self, asking: Asking, exchange: &mut Exchange, world: &dyn World) -> Stop {
        let may_log_in = self.invites && asking.refused.is_none();
        let invited = self.ways.iter().filter(|_| may_log_in).find_map(|way| way.invite(exchange, world));
        invited.unwrap_or_else(|| self.refusal(asking))
    }

    fn refusal(&self, asking: Asking) -> Stop {
        asking.refused.unwrap_or_else(|| self.nothing.clone()).into()
    }

    fn conclude(&self, verdict: Verdict, exchange: &mut Exchange) -> Verdict {
        self.ways.iter().for_each(|way| way.conceal(exchange));
        verdict
    }
}

/// How far the ways were asked.
#[derive(Default)]
struct Asking {
    next: usize,
    /// What is said of the first credential that proved nothing.
    refused: Option<Rejection>,
}

impl Gate for Authenticate {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Decision<'a> {
        if let Some(rejection) = self.failures.as_ref().and_then(|failures| failures.refusal(exchange.client, world)) {
            return Decision::Ready(self.conclude(Err(rejection.into()), exchange));
        }
        let mut asking = Asking::default();
        while let Some(way) = self.ways.get(asking.next) {
            // One that waits is asked again below, where there is room for it.
            let Proof::Ready(finding) = way.prove(exchange, world) else {
                return Decision::Wait(Box::pin(self.ask(asking, exchange, world)));
            };
            if let ControlFlow::Break(verdict) = self.judge(&**way, finding, &mut asking, (exchange, world)) {
                return Decision::Ready(self.conclude(verdict, exchange));
            }
        }
        Decision::Ready(self.conclude(Err(self.nobody(asking, exchange, world)), exchange))
    }

    fn reply(&self, exchange: &Exchange, reply: &mut ResponseHead) {
        self.ways.iter().for_each(|way| way.reply(exchange, reply));
    }

    fn describe(&self, _: &Exchange) -> String {
        let ways = self.names.iter().zip(&self.ways).map(|(name, way)| match &*way.describe() {
            "" => format!("`{name}`"),
            words => format!("`{name}` ({words})"),
        });
        let bad = match self.bad {
            BadFile::Refuse => "",
            BadFile::Next => "; what proves nothing is passed over",
        };
        format!("asks {}{bad}", ways.collect::<Vec<_>>().join(", then "))
    }
}

/// What a caller is told who has shown nothing to any of these ways.
pub(crate) fn nothing_shown(ways: &[Arc<dyn Way>]) -> Rejection {
    let detail = ways.first().map_or("", |way| way.missing());
    unauthorized("credential_missing", detail, ways.iter().filter_map(|way| way.challenge()))
}

fn refused(way: &dyn Way, bad: Bad) -> Rejection {
    let challenge = bad.challenge.or_else(|| way.challenge());
    unauthorized("credential_invalid", bad.detail, challenge).cause(bad.cause)
}

/// One field for each challenge: lists of them are hard to read for clients (RFC 9110, 11.6.1).
fn unauthorized(code: &'static str, detail: &'static str, challenges: impl IntoIterator<Item = String>) -> Rejection {
    let mut rejection = Rejection::new(RejectionKind::Unauthorized, code, detail);
    for challenge in challenges {
        // A challenge that is no field value is left out.
        rejection.fields.append(Known::WwwAuthenticate, challenge.as_bytes()).ok();
    }
    rejection
}

#[cfg(test)]
mod tests {
    use crate::testing::{Gateway, check, problems};

    const GOOD: &str = "X-First: a-long-key-of-the-first";
    const SECOND: &str = "X-Second: a-long-key-of-the-second";

    /// Two ways, and a route with this `auth`.
    fn yaml(auth: &str) -> String {
        format!(
            "auth:
  first: {{ api_key: {{ in: 'header:x-first', inline: [{{ key: a-long-key-of-the-first, user: one }}] }} }}
  second: {{ api_key: {{ in: 'header:x-second', inline: [{{ key: a-long-key-of-the-second, user: two }}] }} }}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
server: {{ host: 127.0.0.1 }}
routes:
  - {{ match: {{ path: /r }}, respond: {{ status: 200, body: hello }}, auth: {auth} }}
  - {{ match: {{ path_prefix: / }}, service: s, auth: {auth} }}
  - {{ match: {{ path: /open }}, service: s }}"
        )
    }

    fn user(yaml: &str, request: &str) -> String {
        let sent = Gateway::of(yaml).send(request);
        let user = sent.exchange.identity.as_ref().and_then(|identity| identity.user.as_deref());
        format!("{} {}", sent.said.lines().next().unwrap(), user.unwrap_or("-"))
    }

    #[test]
    fn ways_are_asked_in_the_order_written_and_the_first_that_knows_decides() {
        let yaml = yaml("[first, second]");
        assert_eq!(user(&yaml, &format!("GET /a\n{SECOND}")), "pass two");
        assert_eq!(user(&yaml, &format!("GET /a\n{SECOND}\n{GOOD}")), "pass one");
    }

    #[test]
    fn the_other_ways_credentials_do_not_reach_the_service_either() {
        let sent = Gateway::of(&yaml("[first, second]")).send(&format!("GET /a\n{SECOND}\n{GOOD}"));
        assert!(!sent.exchange.head.fields.contains("x-first") && !sent.exchange.head.fields.contains("x-second"));
    }

    #[test]
    fn a_request_that_shows_nothing_is_told_every_challenge_in_a_field_of_its_own() {
        assert_eq!(
            check(&yaml("[first, second]"), "GET /a"),
            "401 credential_missing: Missing API key\nwww-authenticate: ApiKey realm=\"first\"\nwww-authenticate: ApiKey realm=\"second\""
        );
    }

    #[test]
    fn a_bad_credential_is_refused_at_once_even_beside_a_good_one_of_another_way() {
        let request = format!("GET /a\nX-First: wrong\n{SECOND}");
        assert_eq!(user(&yaml("[first, second]"), &request), "401 credential_invalid: Invalid API key -");
        assert_eq!(
            user(&yaml("{ ways: [first, second], bad: refuse }"), &request),
            "401 credential_invalid: Invalid API key -"
        );
    }

    #[test]
    fn a_bad_credential_goes_to_the_next_way_where_that_is_written() {
        let yaml = yaml("{ ways: [first, second], bad: next }");
        assert_eq!(user(&yaml, &format!("GET /a\nX-First: wrong\n{SECOND}")), "pass two");
        let refused = check(&yaml, "GET /a\nX-First: wrong");
        assert_eq!(refused, "401 credential_invalid: Invalid API key\nwww-authenticate: ApiKey realm=\"first\"");
    }

    #[test]
    fn a_public_route_asks_nobody_and_knows_nobody() {
        for auth in ["none", "[none]", "off"] {
            assert_eq!(user(&yaml(auth), &format!("GET /a\n{GOOD}")), "pass -", "{auth}");
        }
        assert_eq!(user(&yaml("first"), &format!("GET /open\n{GOOD}")), "pass -");
    }

    #[test]
    fn a_route_that_the_gateway_answers_is_protected_too() {
        assert_eq!(user(&yaml("first"), "GET /r"), "401 credential_missing: Missing API key -");
        assert_eq!(user(&yaml("first"), &format!("GET /r\n{GOOD}")), "pass one");
    }

    #[test]
    fn whatever_the_client_says_about_itself_is_no_identity() {
        let request = "GET /a\nX-User: admin\nX-User-Context: {\"userId\":\"admin\"}\nAuthorization: Bearer admin";
        assert_eq!(user(&yaml("first"), request), "401 credential_missing: Missing API key -");
        assert_eq!(user(&yaml("none"), request), "pass -");
    }

    #[test]
    fn the_refusing_policy_is_known_to_the_log_and_so_is_the_reason() {
        let sent = Gateway::of(&yaml("first")).send("GET /a\nX-First: wrong");
        assert_eq!(sent.exchange.trail.decided_by().unwrap().to_string(), "auth");
        assert_eq!(sent.cause.as_deref(), Some("there is no such key"));
    }

    #[test]
    fn every_route_says_who_may_call_where_that_is_required() {
        let required = yaml("first").replace("server: {", "server: { require_auth: on,");
        let found = problems(&required);
        assert_eq!(
            found,
            "error: routes[2]: `route-3` does not say who may call, and `server.require_auth` is on | write `auth`, with names of ways, or `auth: none` for everybody"
        );
        assert_eq!(
            problems(&required.replace("path: /open }, service: s", "path: /open }, service: s, auth: none")),
            ""
        );
        assert!(
            problems(&required.replace("path: /open }, service: s", "path: /open }, service: s, auth: off"))
                .contains("routes[2]: ")
        );
    }

    #[test]
    fn ways_that_are_not_there_are_mistakes() {
        let found = problems(&yaml("[frist, third]"));
        assert_eq!(
            found.lines().take(2).collect::<Vec<_>>(),
            [
                "error: routes[0].auth[0]: there is no way `frist` to prove who one is | did you mean `first`?",
                "error: routes[0].auth[1]: there is no way `third` to prove who one is | ways are defined at the top, under `auth`"
            ]
        );
    }

    #[test]
    fn an_order_of_ways_that_means_nothing_is_a_mistake() {
        for (auth, problem) in [
            ("[]", "routes[0].auth: `auth` names no way"),
            ("{ ways: [] }", "routes[0].auth.ways: `auth` names no way"),
            ("[none, first]", "routes[0].auth[0]: `none` stands alone"),
            ("[first, first]", "routes[0].auth[1]: `first` is asked twice"),
            ("{ ways: first, bad: nxt }", "did you mean `next`?"),
        ] {
            let found = problems(&yaml(auth));
            assert!(found.contains(problem), "{auth}: {found}");
        }
    }
}
