//! `routes`: what they match and where they lead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::StatusCode;

use crate::config::{
    ClientAuth, ClientCertMatch, FieldMatch, Listener, Match, Redirect, Respond, Route, Target, ValueMatch,
};
use crate::file::{
    AnyText, BodyFile, ClientCertFile, Entries, MatchFile, RedirectFile, RespondFile, RouteFile, TextOr, ValueFile,
};
use crate::policy::{Around, Place};
use crate::problem::{Path, Problem};
use crate::resolve::{OWN_FIELDS, Resolver};
use crate::tree::{Node, Value};
use crate::value::{FieldName, FieldText, Name, PathPattern, Template, TemplatePart, Variable, closest};

/// What routes may refer to.
pub(super) struct Known<'a> {
    pub services: &'a BTreeSet<Arc<str>>,
    pub listeners: &'a [Listener],
    /// The server's.
    pub body_limit: Option<u64>,
}

impl Resolver<'_> {
    pub(super) fn routes(&mut self, tree: &Node, known: &Known<'_>) -> Vec<Arc<Route>> {
        let root = Path::root().join("routes");
        let nodes = match tree.get("routes").map(|node| &node.value) {
            Some(Value::List(nodes)) => nodes.as_slice(),
            None | Some(Value::Null) => &[],
            Some(Value::Map(_) | Value::Scalar(_)) => {
                self.push(Problem::error(root.clone(), "`routes` is a list").help("begin each route with `- `"));
                return Vec::new();
            }
        };
        if nodes.is_empty() && !self.is_excused(&root) {
            let problem = Problem::warning(root.clone(), "there are no routes: every request is answered with 404");
            self.push(problem.help("write `routes: [{ match: { path_prefix: / }, service: NAME }]`"));
        }
        let mut names: BTreeMap<Arc<str>, Path> = BTreeMap::new();
        let mut routes = Vec::with_capacity(nodes.len());
        for (position, node) in nodes.iter().enumerate() {
            let at = root.index(position);
            if self.is_full() {
                break;
            }
            let Some(route) = self.route(node, &at, known) else { continue };
            match names.get(&route.name) {
                Some(first) => {
                    let problem = Problem::error(at.join("name"), format!("two routes are called `{}`", route.name));
                    self.push(
                        problem
                            .help("names are for logs and metrics: give each route its own")
                            .see(first.clone(), "the first is here"),
                    );
                }
                None => {
                    names.insert(Arc::clone(&route.name), at.join("name"));
                }
            }
            routes.push(Arc::new(route));
        }
        routes
    }

    fn route(&mut self, node: &Node, at: &Path, known: &Known<'_>) -> Option<Route> {
        let file: RouteFile = self.read(node, at)?;
        let matches = self.matches(file.matches.as_ref(), &at.join("match"), known);
        let target = self.target(&file, at, &matches.path, known);
        let body_limit = match &file.limits {
            _ if node.get("limits").is_some_and(Node::is_off) => None,
            Some(limits) => limits.body.map_or_else(
                || if is_off(node, &["limits", "body"]) { None } else { known.body_limit },
                |size| Some(size.0),
            ),
            None => known.body_limit,
        };
        let timeout = file.timeout.map(|timeout| self.positive(&at.join("timeout"), Some(timeout)));
        let rewrite = file
            .rewrite
            .as_ref()
            .map(|rewrite| self.rewrite(rewrite, &at.join("rewrite"), &matches.path))
            .unwrap_or_default();
        let retry = self.route_retry(file.retry.as_ref(), node, &at.join("retry"));
        let mirror = file
            .mirror
            .as_ref()
            .and_then(|mirror| self.mirror(mirror, target.as_ref(), &at.join("mirror"), known.services));
        let fault = file.fault.as_ref().map(|fault| self.fault(fault, &at.join("fault")));
        let around = Around { services: known.services, pattern: &matches.path, is_shared: false };
        let policies = self.policies(at, Place::Route, around);
        Some(Route {
            policies,
            shadow: self.shadow(&file.shadow, &at.join("shadow")),
            name: file.name.map_or_else(|| "route".into(), |Name(name)| name),
            priority: file.priority.unwrap_or(0),
            matches,
            target: target?,
            rewrite,
            timeout,
            body_limit,
            retry,
            mirror,
            fault,
            upgrade: file.upgrade.iter().map(|protocol| protocol.0.to_ascii_lowercase().into()).collect(),
            at: at.clone(),
        })
    }

    fn matches(&mut self, file: Option<&MatchFile>, at: &Path, known: &Known<'_>) -> Match {
        let none = MatchFile::default();
        let file = file.unwrap_or(&none);
        self.refuse_empty_lists(at, &["host", "methods", "client_ip", "listener"]);
        if file.path.is_some() && file.path_prefix.is_some() {
            let problem =
                Problem::error(at.join("path_prefix"), "a route has a `path` or a `path_prefix`, not both").on_key();
            self.push(problem.see(at.join("path"), "the path is here"));
        }
        let path = match (&file.path, &file.path_prefix) {
            (Some(path), _) => path.0.clone(),
            (None, Some(prefix)) => prefix.0.clone(),
            (None, None) => PathPattern::everything(),
        };
        for (position, name) in file.listener.iter().enumerate() {
            let path = self.item(&at.join("listener"), position);
            self.check_listener(path, &name.0, known.listeners);
        }
        Match {
            hosts: file.host.clone(),
            path,
            methods: file.methods.iter().map(|method| method.0.clone()).collect(),
            headers: self.fields(file.headers.as_ref(), |name: &FieldName| Arc::clone(&name.0), &at.join("headers")),
            query: self.fields(file.query.as_ref(), |name: &String| name.as_str().into(), &at.join("query")),
            cookies: self.fields(file.cookies.as_ref(), |name: &String| name.as_str().into(), &at.join("cookies")),
            client_ip: file.client_ip.iter().map(|range| range.0).collect(),
            listeners: file.listener.iter().map(|name| Arc::clone(&name.0)).collect(),
            client_cert: file
                .client_cert
                .as_ref()
                .map(|cert| self.client_cert(cert, &at.join("client_cert"), known.listeners)),
        }
    }

    /// Of an empty list, nothing can be any. It would be taken for the condition's absence, and open a route to everybody.
    fn refuse_empty_lists(&mut self, at: &Path, keys: &[&str]) {
        for key in keys {
            let path = at.join(key);
            if self.document.tree.find(&path).and_then(Node::as_list).is_some_and(<[Node]>::is_empty) {
                let problem = Problem::error(path, format!("`{key}` is an empty list, which nothing can match"));
                self.push(problem.help("name at least one, or leave the key out, so that it is no condition"));
            }
        }
    }

    fn check_listener(&mut self, path: Path, name: &str, listeners: &[Listener]) {
        if listeners.is_empty() || listeners.iter().any(|listener| *listener.name == *name) {
            return;
        }
        let problem = Problem::error(path, format!("there is no listener `{name}`"));
        self.push(match closest(name, listeners.iter().map(|listener| &*listener.name)) {
            Some(close) => problem.help(format!("did you mean `{close}`?")),
            None => problem.help(format!("there {}", enumerate(listeners.iter().map(|listener| &*listener.name)))),
        });
    }

    fn client_cert(&mut self, file: &ClientCertFile, path: &Path, listeners: &[Listener]) -> ClientCertMatch {
        let asks = |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_auth != ClientAuth::Off);
        self.refuse_empty_lists(path, &["subject", "san"]);
        if file.subject.is_empty() && file.san.is_empty() && !self.is_excused(path) {
            self.push(
                Problem::error(path.clone(), "`client_cert` says nothing about the certificate")
                    .help("write `subject: NAME` or `san: NAME`"),
            );
        }
        // A listener whose TLS is broken may well ask for one.
        if !listeners.is_empty() && !listeners.iter().any(asks) && !self.problems.has_errors() {
            let problem =
                Problem::error(path.clone(), "no listener asks for client certificates, so this can never match")
                    .on_key();
            self.push(problem.help("write `client_ca` and `client_auth: optional` in the listener's `tls`"));
        }
        let texts = |texts: &[String]| texts.iter().map(|text| text.as_str().into()).collect();
        ClientCertMatch { subjects: texts(&file.subject), sans: texts(&file.san) }
    }

    pub(super) fn fields<N>(
        &mut self,
        fields: Option<&Entries<N, TextOr<ValueFile>>>,
        name_of: fn(&N) -> Arc<str>,
        at: &Path,
    ) -> Vec<FieldMatch> {
        let mut found: Vec<FieldMatch> = Vec::new();
        for (name, value) in fields.map(|fields| fields.0.as_slice()).unwrap_or_default() {
            let name = name_of(name);
            if found.iter().any(|field| field.name == name) {
                self.push(
                    Problem::error(at.clone(), format!("`{name}` is written twice"))
                        .help("upper and lower case are the same in header names"),
                );
            }
            if let Some(is) = self.value_match(value, &at.join(&name)) {
                found.push(FieldMatch { name, is });
            }
        }
        found
    }

    fn value_match(&mut self, value: &TextOr<ValueFile>, path: &Path) -> Option<ValueMatch> {
        match value {
            TextOr::Text(AnyText(text)) => match text.as_str() {
                "present" => Some(ValueMatch::Present),
                "absent" => Some(ValueMatch::Absent),
                text => Some(ValueMatch::Exact(text.into())),
            },
            TextOr::Full(ValueFile { exact: Some(text), regex: None }) => Some(ValueMatch::Exact(text.as_str().into())),
            TextOr::Full(ValueFile { exact: None, regex: Some(regex) }) => Some(ValueMatch::Regex(regex.0.clone())),
            TextOr::Full(_) => {
                if !self.is_excused(path) {
                    let problem = Problem::error(
                        path.clone(),
                        "a condition is a value, `present`, `absent`, or one of `exact` and `regex`",
                    );
                    self.push(problem.help("write `{ regex: \"^v[0-9]\" }`"));
                }
                None
            }
        }
    }

    fn target(&mut self, file: &RouteFile, at: &Path, path: &PathPattern, known: &Known<'_>) -> Option<Target> {
        let present = [
            ("service", file.service.is_some()),
            ("split", file.split.is_some()),
            ("redirect", file.redirect.is_some()),
            ("respond", file.respond.is_some()),
        ];
        let written: Vec<&str> = present.into_iter().filter(|(_, present)| *present).map(|(key, _)| key).collect();
        if let [first, second, ..] = written.as_slice() {
            let problem = Problem::error(
                at.join(second),
                format!("a route leads to one place, but there are `{first}` and `{second}`"),
            )
            .on_key();
            self.push(problem.help("make two routes, or take one of them out"));
        }
        if let Some(Name(service)) = &file.service {
            return self.service_name(&at.join("service"), service, known.services).map(Target::Service);
        }
        if let Some(parts) = &file.split {
            return Some(Target::Split(self.split(parts, &at.join("split"), path, known.services)));
        }
        if let Some(redirect) = &file.redirect {
            return self.redirect(redirect, &at.join("redirect"), path);
        }
        if let Some(respond) = &file.respond {
            return Some(Target::Respond(self.respond(respond, &at.join("respond"))));
        }
        let excused = present.iter().any(|(key, _)| self.is_excused(&at.join(key)));
        let later = self.document.tree.find(&at.join("aggregate")).is_some();
        if !excused && !later {
            let problem = Problem::error(at.clone(), "the route leads nowhere")
                .help("write `service: NAME`, or `split`, `redirect` or `respond`");
            self.push(problem);
        }
        None
    }

    pub(crate) fn service_name(
        &mut self,
        path: &Path,
        name: &Arc<str>,
        services: &BTreeSet<Arc<str>>,
    ) -> Option<Arc<str>> {
        if services.contains(name) {
            return Some(Arc::clone(name));
        }
        let problem = Problem::error(path.clone(), format!("there is no service `{name}`"));
        let names = || services.iter().map(|name| &**name);
        self.push(match closest(name, names()) {
            Some(close) => problem.help(format!("did you mean `{close}`?")),
            None if services.is_empty() => {
                problem.help(format!("write `services: {{ {name}: {{ url: \"http://127.0.0.1:9001\" }} }}`"))
            }
            None => problem.help(format!("there {}", enumerate(names()))),
        });
        None
    }

    fn redirect(&mut self, file: &RedirectFile, path: &Path, pattern: &PathPattern) -> Option<Target> {
        let status = file.status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.filter(|status| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308));
        if status.is_none() && !self.is_excused(&path.join("status")) {
            let problem = Problem::error(path.join("status"), "the status of a redirect is 301, 302, 303, 307 or 308");
            self.push(problem.help("308 is for good and keeps the method, 307 is for now"));
        }
        let Some(to) = &file.to else {
            self.missing(
                path,
                "to",
                "write a URL or a path: `redirect: { to: \"https://{request.host}{request.path}\" }`",
            );
            return None;
        };
        self.check_variables(&path.join("to"), to, pattern);
        let starts_well = match to.parts.first() {
            Some(TemplatePart::Literal(text)) => {
                text.starts_with('/') || text.starts_with("https://") || text.starts_with("http://")
            }
            Some(TemplatePart::Value(
                Variable::RequestPath | Variable::RequestScheme | Variable::Query(_) | Variable::Header(_),
            )) => true,
            Some(TemplatePart::Value(_)) | None => false,
        };
        if !starts_well {
            let problem = Problem::error(path.join("to"), format!("`{to}` is neither a URL nor a path"));
            self.push(problem.help(format!("write `https://...`, or `/{}`", to.source.trim_start_matches('/'))));
        }
        Some(Target::Redirect(Redirect { to: to.clone(), status: status.unwrap_or(StatusCode::PERMANENT_REDIRECT) }))
    }

    pub(super) fn respond(&mut self, file: &RespondFile, path: &Path) -> Respond {
        let status = file
            .status
            .and_then(|status| StatusCode::from_u16(status).ok())
            .filter(|status| (200..600).contains(&status.as_u16()));
        if status.is_none() && !self.is_excused(&path.join("status")) {
            self.error(&path.join("status"), "the status of an answer is 200 to 599");
        }
        let status = status.unwrap_or(StatusCode::OK);
        let (body, content_type) = match &file.body {
            None => (Vec::new(), None),
            Some(BodyFile::Text(text)) if is_json(text) => (text.clone().into_bytes(), Some("application/json")),
            Some(BodyFile::Text(text)) => (text.clone().into_bytes(), Some("text/plain; charset=utf-8")),
            Some(BodyFile::Json(json)) => (json.to_string().into_bytes(), Some("application/json")),
        };
        if !body.is_empty() && matches!(status.as_u16(), 204 | 205 | 304) {
            self.error(&path.join("body"), format!("an answer with the status {} has no body", status.as_u16()));
        }
        let mut headers = self.own_headers(file.headers.as_ref(), &path.join("headers"));
        let has_type = headers.iter().any(|(name, _)| **name == *"content-type");
        if let Some(content_type) = content_type.filter(|_| !has_type) {
            headers.push(("content-type".into(), content_type.into()));
        }
        Respond { status, body: body.into(), headers }
    }

    /// Fields that are written word for word.
    pub(super) fn own_headers(
        &mut self,
        written: Option<&Entries<FieldName, FieldText>>,
        path: &Path,
    ) -> Vec<(Arc<str>, Arc<str>)> {
        let mut headers: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for (name, value) in written.map(|headers| headers.0.as_slice()).unwrap_or_default() {
            if OWN_FIELDS.contains(&&*name.0) {
                let message = format!("`{}` is written by the gateway itself", name.0);
                self.push(Problem::error(path.join(&name.0), message).on_key().help("take it out"));
            }
            headers.push((Arc::clone(&name.0), Arc::clone(&value.0)));
        }
        headers
    }

    /// Templates may use the parameters of the route's own path.
    pub(super) fn check_variables(&mut self, path: &Path, template: &Template, pattern: &PathPattern) {
        for variable in template.variables() {
            let Variable::Path(name) = variable else { continue };
            if pattern.binds(name) {
                continue;
            }
            let problem = Problem::error(
                path.clone(),
                format!("`{variable}` has no value: the path `{pattern}` has no parameter `{name}`"),
            );
            let close = closest(name, pattern.params().map(|param| &**param));
            self.push(match close {
                Some(close) => problem.help(format!("did you mean `{{path.{close}}}`?")),
                None if **name == *"rest" => problem.help("`rest` is what follows a `path_prefix` or stands for a `*`"),
                None => problem.help(format!("write `{{{name}}}` into the path of the route")),
            });
        }
    }
}

fn is_off(node: &Node, keys: &[&str]) -> bool {
    keys.iter().try_fold(node, |node, key| node.get(key)).is_some_and(Node::is_off)
}

/// A text that looks like JSON is sent as JSON: `body: '{"error":"closed"}'`.
fn is_json(text: &str) -> bool {
    let looks = |open: char, close: char| text.trim_start().starts_with(open) && text.trim_end().ends_with(close);
    (looks('{', '}') || looks('[', ']')) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// "are `a`, `b` and `c`", for at most ten of them.
pub(super) fn enumerate<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.take(10).map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        [rest @ .., last] => format!("are {} and {last}", rest.join(", ")),
    }
}
