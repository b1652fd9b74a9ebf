//! `require`: what callers must be, may do or were given a token for. It is asked of the route that was found, never of a path.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{AnyText, Entries, Place, Reading};
use tidegate_config::problem::{Path, Problem};
use tidegate_config::value::PathPattern;
use tidegate_core::exchange::Exchange;
use tidegate_core::expression::{Expression, Scope, Variable};
use tidegate_core::identity::Identity;
use tidegate_core::policy::{Decision, Gate, Phase, World};
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_http1::Known;

use crate::auth::{Asked, Way, nothing_shown, ways};
use crate::policy::{Policy, Setup};

/// The policy.
pub(crate) struct Require;

/// What callers must have. All that is written must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequireFile {
    /// Any of these roles.
    #[serde(default)]
    roles: Vec<AnyText>,
    /// All of these roles.
    #[serde(default)]
    all_roles: Vec<AnyText>,
    /// Any of these permissions.
    #[serde(default)]
    permissions: Vec<AnyText>,
    /// All of these permissions.
    #[serde(default)]
    all_permissions: Vec<AnyText>,
    /// Any of these scopes.
    #[serde(default)]
    scopes: Vec<AnyText>,
    /// All of these scopes.
    #[serde(default)]
    all_scopes: Vec<AnyText>,
    /// A condition about the caller and the request, as in `identity.tenant == path.tenant`.
    when: Option<AnyText>,
    /// What single methods need besides, as in `POST: { roles: [editor] }`; `GET` is also `HEAD`, unless that is written. A method that is not
    /// named needs what stands beside `methods`; where nothing stands there, it is refused.
    methods: Option<Entries<String, MethodFile>>,
}

/// What a method needs besides. All that is written must hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MethodFile {
    /// Any of these roles.
    #[serde(default)]
    roles: Vec<AnyText>,
    /// All of these roles.
    #[serde(default)]
    all_roles: Vec<AnyText>,
    /// Any of these permissions.
    #[serde(default)]
    permissions: Vec<AnyText>,
    /// All of these permissions.
    #[serde(default)]
    all_permissions: Vec<AnyText>,
    /// Any of these scopes.
    #[serde(default)]
    scopes: Vec<AnyText>,
    /// All of these scopes.
    #[serde(default)]
    all_scopes: Vec<AnyText>,
    /// A condition about the caller and the request.
    when: Option<AnyText>,
}

/// What a route needs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    always: Vec<Need>,
    methods: Vec<(Method, Vec<Need>)>,
}

/// One condition.
#[derive(Debug, Clone)]
struct Need {
    /// The key under which it stands.
    key: &'static str,
    is: Condition,
}

#[derive(Debug, Clone)]
enum Condition {
    /// The caller has any of these values, or every one of them.
    Has { of: Grant, every: bool, values: Vec<Arc<str>> },
    /// This is true.
    Holds(Expression),
}

/// What an identity has several of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grant {
    Role,
    Permission,
    Scope,
}

impl Need {
    /// Why it does not hold.
    fn lack(&self, identity: &Identity) -> String {
        let Condition::Has { of, .. } = &self.is else { return format!("{self} does not hold") };
        match of.of(identity) {
            [] => format!("it needs {self}; the caller has none"),
            has => format!("it needs {self}; the caller has {}", Shown(has)),
        }
    }

    fn holds(&self, identity: &Identity, scope: &Scope<'_>) -> bool {
        let (of, every, values) = match &self.is {
            Condition::Has { of, every, values } => (of, every, values),
            Condition::Holds(expression) => return expression.holds(scope),
        };
        let has = of.of(identity);
        let mut values = values.iter();
        if *every { values.all(|value| has.contains(value)) } else { values.any(|value| has.contains(value)) }
    }
}

impl Policy for Require {
    const KEY: &'static str = "require";
    const PLACE: Place = Place::Route;
    const EXAMPLE: &'static str = "\
auth:
  keys: { api_key: { inline: [{ key: a-key-of-the-build-machine, user: ci, roles: [deploy] }] } }
services: { orders: { url: http://127.0.0.1:9001 } }
routes:
  - match: { path_prefix: /orders }
    service: orders
    auth: keys
    require: { roles: [deploy, support], methods: { DELETE: { roles: [deploy] } } }
";
    type File = RequireFile;
    type Meaning = Needs;

    fn mean(file: RequireFile, reading: &mut Reading<'_, '_>) -> Option<Needs> {
        let path = reading.path();
        let always = MethodFile {
            roles: file.roles,
            all_roles: file.all_roles,
            permissions: file.permissions,
            all_permissions: file.all_permissions,
            scopes: file.scopes,
            all_scopes: file.all_scopes,
            when: file.when,
        };
        let mut needs = Needs { always: always.mean(&path, reading), methods: Vec::new() };
        let at = path.join("methods");
        for (name, file) in file.methods.map_or_else(Vec::new, |methods| methods.0) {
            let at = at.join(&name);
            match Method::from_bytes(name.as_bytes()) {
                Ok(method) if name == name.to_ascii_uppercase() => {
                    needs.methods.push((method, file.mean(&at, reading)));
                }
                _ => reading.report(
                    Problem::error(at, format!("`{name}` is not a method"))
                        .on_key()
                        .help("methods are written in upper case, such as `GET` and `POST`"),
                ),
            }
        }
        if needs.always.is_empty() && needs.methods.is_empty() && !reading.is_excused(&path) {
            let problem = Problem::error(path, "`require` says nothing");
            reading.report(problem.help("write `roles`, `permissions`, `scopes`, `when` or `methods`"));
        }
        Some(needs)
    }

    fn build(meaning: Option<&Needs>, at: &Path, setup: &mut Setup<'_>) {
        let (Some(needs), Some(route)) = (meaning, setup.route) else { return };
        let built = ways(setup);
        let names = Asked::of(route).into_iter().flat_map(Asked::names);
        let asked: Vec<_> = names.filter_map(|name| Some((name, built.find(name)?))).collect();
        if Asked::of(route).is_none_or(|asked| asked.names().next().is_none()) {
            let problem =
                Problem::error(at.clone(), format!("nobody is known on `{}`, so nobody could call it", route.name));
            setup.report(problem.on_key().help("write `auth` too, with the names of ways to prove who one is"));
        }
        let ways: Vec<Arc<dyn Way>> = asked.iter().map(|(_, way)| Arc::clone(way)).collect();
        let bearer = |(name, way): (&str, &Arc<dyn Way>)| {
            let challenge = way.challenge().filter(|challenge| challenge.starts_with("Bearer"))?;
            Some((name.into(), challenge))
        };
        let bearers = asked.into_iter().filter_map(bearer).collect();
        let pattern = route.matches.path.clone();
        let gate = Authorize { needs: needs.clone(), pattern, bearers, nothing: nothing_shown(&ways) };
        setup.gate((Phase::Authorize, Self::KEY), &"".into(), at, Arc::new(gate));
    }
}

impl MethodFile {
    fn mean(self, at: &Path, reading: &mut Reading<'_, '_>) -> Vec<Need> {
        let lists = [
            ("roles", Grant::Role, false, self.roles),
            ("all_roles", Grant::Role, true, self.all_roles),
            ("permissions", Grant::Permission, false, self.permissions),
            ("all_permissions", Grant::Permission, true, self.all_permissions),
            ("scopes", Grant::Scope, false, self.scopes),
            ("all_scopes", Grant::Scope, true, self.all_scopes),
        ];
        let mut needs = Vec::new();
        for (key, of, every, values) in lists.into_iter().filter(|(.., values)| !values.is_empty()) {
            let values = grants((key, of), values, &at.join(key), reading);
            needs.push(Need { key, is: Condition::Has { of, every, values } });
        }
        if let Some(AnyText(text)) = self.when {
            let expression = expression(&text, &at.join("when"), reading);
            needs.extend(expression.map(|expression| Need { key: "when", is: Condition::Holds(expression) }));
        }
        needs
    }
}

fn grants((key, of): (&str, Grant), values: Vec<AnyText>, at: &Path, reading: &mut Reading<'_, '_>) -> Vec<Arc<str>> {
    for (position, AnyText(value)) in values.iter().enumerate() {
        if value.is_empty() || (of == Grant::Scope && !is_scope(value)) {
            let at = reading.item(at, position);
            reading.error(&at, format!("`{value}` can never be one of a caller's {key}"));
        }
    }
    values.into_iter().map(|AnyText(value)| value.into()).collect()
}

fn expression(text: &str, at: &Path, reading: &mut Reading<'_, '_>) -> Option<Expression> {
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => {
            reading.invalid(at, error.into());
            return None;
        }
    };
    for variable in expression.variables() {
        if let Variable::Path(name) = variable
            && !reading.pattern().binds(name)
        {
            let text = format!("the path `{}` of the route has no parameter `{name}`", reading.pattern());
            reading.error(at, text);
        }
    }
    Some(expression)
}

/// Whether a token can have this scope (RFC 6749, 3.3).
fn is_scope(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

/// Values that are shown of a list: callers may have a thousand roles.
const MOST_SHOWN: usize = 10;

/// The condition, in words for operators: `one of the roles admin, deploy`.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.is {
            Condition::Has { of, every, values } => {
                let quantity = match (values.len(), every) {
                    (1, _) => "the",
                    (_, true) => "all of the",
                    (_, false) => "one of the",
                };
                write!(f, "{quantity} {} {}", of.words(values.len()), Shown(values))
            }
            Condition::Holds(expression) => write!(f, "`{expression}`"),
        }
    }
}

/// The first of a list's values.
struct Shown<'a>(&'a [Arc<str>]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, value) in self.0.iter().take(MOST_SHOWN).enumerate() {
            write!(f, "{}{value}", if position == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Grant {
    fn words(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::Role, 1) => "role",
            (Self::Role, _) => "roles",
            (Self::Permission, 1) => "permission",
            (Self::Permission, _) => "permissions",
            (Self::Scope, 1) => "scope",
            (Self::Scope, _) => "scopes",
        }
    }

    fn of(self, identity: &Identity) -> &[Arc<str>] {
        match self {
            Self::Role => &identity.roles,
            Self::Permission => &identity.permissions,
            Self::Scope => &identity.scopes,
        }
    }
}

/// The gate of a route.
struct Authorize {
    needs: Needs,
    /// The route's path condition.
    pattern: PathPattern,
    /// The names of ways that are shown bearer tokens, with their challenges.
    bearers: Vec<(Arc<str>, String)>,
    /// For requests of which nobody has found out whose they are: `auth` may be in shadow mode.
    nothing: Rejection,
}

impl Gate for Authorize {
    fn check<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Decision<'a> {
        let Some(identity) = &exchange.identity else { return Decision::refuse(self.nothing.clone()) };
        let now = if self.needs.may_ask_the_time() { world.wall() } else { Duration::ZERO };
        let scope = Scope { exchange, pattern: &self.pattern, now };
        match self.needs.unmet(identity, &scope) {
            None => Decision::PASS,
            Some(unmet) => Decision::refuse(self.refusal(&unmet, identity)),
        }
    }

    fn describe(&self, exchange: &Exchange) -> String {
        let needs = self.needs.of(&exchange.head.method);
        let needs: Vec<_> = needs.into_iter().flatten().map(|(need, _)| need.to_string()).collect();
        if needs.is_empty() { "a method that `methods` names".to_owned() } else { needs.join("; ") }
    }
}

/// What a request lacks.
enum Unmet<'a> {
    /// This condition does not hold; the method is that under which it stands.
    Need(&'a Need, Option<&'a Method>),
    /// Nothing is said about its method.
    Method,
}

impl Needs {
    /// Whether something is written that may look at the clock.
    fn may_ask_the_time(&self) -> bool {
        let besides = self.methods.iter().flat_map(|(_, needs)| needs);
        self.always.iter().chain(besides).any(|need| matches!(need.is, Condition::Holds(_)))
    }

    /// The first condition that does not hold.
    fn unmet(&self, identity: &Identity, scope: &Scope<'_>) -> Option<Unmet<'_>> {
        let Some(mut needs) = self.of(&scope.exchange.head.method) else { return Some(Unmet::Method) };
        let unmet = needs.find(|(need, _)| !need.holds(identity, scope));
        unmet.map(|(need, method)| Unmet::Need(need, method))
    }

    /// What a request of this method needs, each with the method under which it stands; `None` if nothing is said about it.
    fn of(&self, method: &Method) -> Option<impl Iterator<Item = (&Need, Option<&Method>)>> {
        let of = |method: &Method| self.methods.iter().find(|(known, _)| known == method);
        let special = of(method).or_else(|| if *method == Method::HEAD { of(&Method::GET) } else { None });
        if special.is_none() && self.always.is_empty() {
            return None;
        }
        let always = self.always.iter().map(|need| (need, None));
        let besides =
            special.into_iter().flat_map(|(method, needs)| needs.iter().map(move |need| (need, Some(method))));
        Some(always.chain(besides))
    }
}

impl Authorize {
    /// The client is told nothing but that it may not; the log is told which condition does not hold.
    fn refusal(&self, unmet: &Unmet<'_>, identity: &Identity) -> Rejection {
        let mut rejection = Rejection::new(RejectionKind::Forbidden, "forbidden", "Insufficient permissions");
        let cause = match unmet {
            Unmet::Method => "`methods` does not name the request's".to_owned(),
            Unmet::Need(need, None) => format!("`{}`: {}", need.key, need.lack(identity)),
            Unmet::Need(need, Some(method)) => format!("`methods.{method}.{}`: {}", need.key, need.lack(identity)),
        };
        if let Unmet::Need(need, _) = unmet
            && let Condition::Has { of: Grant::Scope, values, .. } = &need.is
            && let Some((_, challenge)) = self.bearers.iter().find(|(way, _)| *way == identity.way)
        {
            let separator = if challenge.contains('=') { "," } else { "" };
            let scope = values.join(" ");
            let challenge = format!("{challenge}{separator} error=\"insufficient_scope\", scope=\"{scope}\"");
            // Cannot fail: scopes were checked to be ones.
            rejection.fields.append(Known::WwwAuthenticate, challenge.as_bytes()).ok();
        }
        rejection.cause(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gateway, problems};

    /// A route that requires this, and callers `a` (admin, editor), `b` (viewer; may read; scopes read and write), `c` (nothing).
    fn yaml(require: &str) -> String {
        format!(
            "auth: {{ keys: {{ api_key: {{ inline: [
  {{ key: the-long-key-of-a, user: a, roles: [admin, editor] }},
  {{ key: the-long-key-of-b, user: b, roles: viewer, permissions: ['orders:read'], scopes: [read, write] }},
  {{ key: the-long-key-of-c, user: c }}] }} }} }}
server: {{ host: 127.0.0.1 }}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s, auth: keys, require: {require} }}]"
        )
    }

    /// Who of `a`, `b` and `c` may.
    fn who(require: &str, method: &str) -> String {
        let gateway = Gateway::of(&yaml(require));
        let may = |who: &&str| gateway.send(&format!("{method} /x\nX-API-Key: the-long-key-of-{who}")).said == "pass";
        ["a", "b", "c"].into_iter().filter(may).collect()
    }

    #[test]
    fn any_and_all_are_different() {
        for (require, may) in [
            ("{ roles: [editor, viewer] }", "ab"),
            ("{ all_roles: [editor, viewer] }", ""),
            ("{ all_roles: [editor, admin] }", "a"),
            ("{ roles: viewer }", "b"),
            ("{ permissions: ['orders:read', 'orders:write'] }", "b"),
            ("{ all_permissions: ['orders:read', 'orders:write'] }", ""),
            ("{ scopes: [read] }", "b"),
            ("{ all_scopes: [read, write] }", "b"),
            ("{ all_scopes: [read, delete] }", ""),
            ("{ roles: [admin, viewer], scopes: [read] }", "b"),
            ("{ roles: [Admin] }", ""),
        ] {
            assert_eq!(who(require, "GET"), may, "{require}");
        }
    }

    #[test]
    fn a_method_may_need_more() {
        let require = "{ roles: [admin, viewer], methods: { POST: { roles: admin }, DELETE: { roles: root } } }";
        for (method, may) in [("GET", "ab"), ("POST", "a"), ("DELETE", ""), ("PATCH", "ab")] {
            assert_eq!(who(require, method), may, "{method}");
        }
    }

    #[test]
    fn a_method_of_which_nothing_is_said_is_refused() {
        let require = "{ methods: { GET: {}, POST: { roles: admin } } }";
        for (method, may) in [("GET", "abc"), ("POST", "a"), ("DELETE", ""), ("get", ""), ("OPTIONS", "")] {
            assert_eq!(who(require, method), may, "{method}");
        }
    }

    #[test]
    fn a_condition_may_bind_the_caller_to_the_request() {
        let bound =
            |when: &str| yaml(&format!("{{ when: \"{when}\" }}")).replace("path_prefix: /", "path: '/users/{id}'");
        let gateway = Gateway::of(&bound("identity.user == path.id || 'admin' in identity.roles"));
        for (who, target, said) in [
            ("b", "/users/b", "pass"),
            ("b", "/users/%62", "pass"),
            ("b", "/users/c", "403 forbidden: Insufficient permissions"),
            ("a", "/users/c", "pass"),
        ] {
            assert_eq!(
                gateway.send(&format!("GET {target}\nX-API-Key: the-long-key-of-{who}")).said,
                said,
                "{who} {target}"
            );
        }
        let sent = Gateway::of(&bound("identity.tenant == path.id")).send("GET /users/b\nX-API-Key: the-long-key-of-b");
        assert_eq!(sent.cause.as_deref(), Some("`when`: `identity.tenant == path.id` does not hold"));
    }

    #[test]
    fn head_is_no_way_around_what_get_needs() {
        assert_eq!(who("{ roles: [admin, viewer], methods: { GET: { roles: admin } } }", "HEAD"), "a");
        assert_eq!(who("{ methods: { GET: { roles: admin }, HEAD: {} } }", "HEAD"), "abc");
    }

    #[test]
    fn another_spelling_of_the_path_is_no_way_around() {
        let yaml = yaml("{ roles: root }").replace("path_prefix: /", "path_prefix: /admin");
        let gateway = Gateway::of(&yaml);
        for target in ["/admin/1", "/admin/", "//admin/1", "/x/../admin/1", "/%61dmin/1", "/admin//1", "/admin/./1"] {
            let said = gateway.send(&format!("GET {target}\nX-API-Key: the-long-key-of-a")).said;
            assert_eq!(said, "403 forbidden: Insufficient permissions", "{target}");
        }
    }

    #[test]
    fn the_client_is_told_nothing_and_the_log_which_condition_does_not_hold() {
        for (require, cause) in [
            (
                "{ roles: viewer, all_scopes: [read] }",
                "`roles`: it needs the role viewer; the caller has admin, editor",
            ),
            (
                "{ roles: admin, all_scopes: [read, x] }",
                "`all_scopes`: it needs all of the scopes read, x; the caller has none",
            ),
            (
                "{ roles: admin, methods: { GET: { permissions: [x, y] } } }",
                "`methods.GET.permissions`: it needs one of the permissions x, y; the caller has none",
            ),
            ("{ methods: { POST: {} } }", "`methods` does not name the request's"),
        ] {
            let sent = Gateway::of(&yaml(require)).send("GET /\nX-API-Key: the-long-key-of-a");
            assert_eq!(sent.said, "403 forbidden: Insufficient permissions", "{require}");
            assert_eq!(sent.cause.as_deref(), Some(cause));
            assert_eq!(sent.exchange.trail.decided_by().unwrap().to_string(), "require");
        }
    }

    #[test]
    fn of_a_long_list_the_log_is_told_the_first_few() {
        let roles: Vec<Arc<str>> = (0..1000).map(|number| number.to_string().into()).collect();
        let is = Condition::Has { of: Grant::Role, every: true, values: vec!["a".into()] };
        let identity = Identity { roles, ..Identity::default() };
        let lack = Need { key: "roles", is }.lack(&identity);
        assert_eq!(lack, "it needs the role a; the caller has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 990 more");
    }

    #[test]
    fn who_is_not_known_is_asked_to_prove_it() {
        let gateway = Gateway::of(&yaml("{ roles: admin }"));
        assert!(gateway.send("GET /").said.starts_with("401 credential_missing: Missing API key\nwww-authenticate: "));
    }

    #[test]
    fn a_bearer_of_a_token_is_told_which_scope_it_lacks() {
        let needs = Needs::default();
        let is = Condition::Has { of: Grant::Scope, every: false, values: vec!["a".into(), "b:c".into()] };
        let need = Need { key: "scopes", is };
        let nothing = Rejection::no_route();
        let identity = Identity { way: "main".into(), ..Identity::default() };
        for (challenge, told) in [
            ("Bearer", "Bearer error=\"insufficient_scope\", scope=\"a b:c\""),
            ("Bearer realm=\"x\"", "Bearer realm=\"x\", error=\"insufficient_scope\", scope=\"a b:c\""),
        ] {
            let bearers = vec![("main".into(), challenge.to_owned())];
            let gate = Authorize {
                needs: needs.clone(),
                pattern: PathPattern::everything(),
                bearers,
                nothing: nothing.clone(),
            };
            let rejection = gate.refusal(&Unmet::Need(&need, None), &identity);
            assert_eq!(rejection.fields.text(Known::WwwAuthenticate), Some(told));
            let other = Identity { way: "keys".into(), ..Identity::default() };
            assert!(gate.refusal(&Unmet::Need(&need, None), &other).fields.is_empty());
        }
    }

    #[test]
    fn what_cannot_be_required_is_a_mistake() {
        for (require, problem) in [
            ("{}", "routes[0].require: `require` says nothing"),
            ("{ scopes: ['a b'] }", "routes[0].require.scopes[0]: `a b` can never be one of a caller's scopes"),
            ("{ roles: ['', x] }", "routes[0].require.roles[0]: `` can never be one of a caller's roles"),
            ("{ methods: { get: {} } }", "routes[0].require.methods.get: `get` is not a method"),
            (
                "{ when: 'identity.user == path.id' }",
                "routes[0].require.when: the path `/` of the route has no parameter `id`",
            ),
            ("{ when: 'identity.usr == 1' }", "did you mean `identity.user`?"),
            ("{ role: x }", "did you mean `roles`?"),
        ] {
            let found = problems(&yaml(require));
            assert!(found.contains(problem), "{require}: {found}");
        }
        for auth in ["auth: none, ", ""] {
            let found = problems(&yaml("{ roles: admin }").replace("auth: keys, ", auth));
            assert!(
                found.contains("routes[0].require: nobody is known on `route-1`, so nobody could call it"),
                "{found}"
            );
        }
    }
}
