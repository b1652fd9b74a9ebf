//! What happens to one request: the stations of `serve.rs` in the data plane, through the same functions, up to the point where
//! something would be sent.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use http::Method;
use tidegate_config::Config;
use tidegate_config::config::{Listener, PathRewrite, Route, Target};
use tidegate_config::value::{Duration, Size};
use tidegate_core::body::Body;
use tidegate_core::client::{Peer, TlsFacts, TrustedProxies};
use tidegate_core::clock::Clock;
use tidegate_core::exchange::{Exchange, Opening};
use tidegate_core::rejection::Rejection;
use tidegate_core::rewrite;
use tidegate_core::route::{Found, Head, Router};
use tidegate_core::template::Facts;
use tidegate_http1::{Fields, RequestHead, Version};

use super::Args;

/// One request, and all that became of it.
pub(super) struct Explained {
    pub(super) request: Asked,
    /// In the order of the file; empty when the request is answered before routing.
    pub(super) lines: Vec<Line>,
    pub(super) answer: Answer,
    /// What is done on the way, phase by phase.
    pub(super) phases: Vec<(&'static str, String)>,
}

/// The request as the gateway understands it.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) client: IpAddr,
    pub(super) listener: Arc<str>,
}

/// One route, and what it says to the request.
pub(super) struct Line {
    pub(super) route: Arc<Route>,
    pub(super) taken: bool,
    /// The rank, or the one condition that is not met.
    pub(super) verdict: Result<String, String>,
}

/// How the request ends.
pub(super) enum Answer {
    /// One of these services gets it, as `head`.
    Forwarded { route: Arc<Route>, services: Vec<String>, head: Box<RequestHead> },
    /// The gateway answers.
    Replied { by: String, status: u16, fields: Vec<(String, String)>, bytes: usize },
    /// The gateway refuses.
    Refused(Box<Rejection>),
}

/// `None` when no request is asked about; `Err` says what is wrong with the arguments.
pub(super) fn explain(args: &Args, config: &Config, router: &Router) -> Result<Option<Explained>, String> {
    let (Some(method), Some(url)) = (&args.method, &args.url) else { return Ok(None) };
    let parts = split(url);
    let listener = listener(config, args.listener.as_deref(), parts.https)?;
    let head = head(method, &parts, &args.headers)?;
    let trusted = TrustedProxies::new(&config.server.trusted_proxies);
    let exchange = open(config, listener, head, args.client_ip, &trusted);
    let asked = |exchange: &Exchange| Asked {
        method: method.clone(),
        url: url.clone(),
        host: exchange.host.clone(),
        path: exchange.path().to_owned(),
        client: exchange.client,
        listener: Arc::clone(&listener.name),
    };
    Ok(Some(match exchange {
        Ok(exchange) => {
            let request = asked(&exchange);
            let (lines, answer) = answer(config, listener, router, exchange);
            let phases = phases(config, &answer);
            Explained { request, lines, answer, phases }
        }
        Err((exchange, rejection)) => {
            let answer = Answer::Refused(Box::new(rejection));
            Explained { request: asked(&exchange), lines: Vec::new(), answer, phases: Vec::new() }
        }
    }))
}

fn open(
    config: &Config,
    listener: &Listener,
    head: RequestHead,
    client: IpAddr,
    trusted: &TrustedProxies,
) -> Result<Exchange, (Box<Exchange>, Rejection)> {
    let port = listener.addresses.first().map_or(0, SocketAddr::port);
    let mut peer = Peer::new(SocketAddr::new(client, 50_000), Arc::clone(&listener.name), port, trusted);
    if listener.tls.is_some() {
        let server_name = head.fields.text("host").map(|host| host.split(':').next().unwrap_or_default().into());
        peer.tls = Some(Arc::new(TlsFacts { server_name, protocol: "TLSv1.3", client: None }));
    }
    let opening = Opening { trusted, request_id: &config.server.request_id, random: 0, now: Clock::System.now() };
    let (exchange, settled) = Exchange::open(head, Body::default(), Rc::new(peer), opening);
    match settled {
        Ok(()) => Ok(exchange),
        Err(rejection) => Err((Box::new(exchange), rejection)),
    }
}

fn answer(config: &Config, listener: &Listener, router: &Router, mut exchange: Exchange) -> (Vec<Line>, Answer) {
    if listener.http_to_https {
        let to = rewrite::https_location(&exchange.host, &exchange.head.target);
        let by = format!("the listener `{}` (http_to_https)", listener.name);
        return (Vec::new(), Answer::Replied { by, status: 308, fields: vec![("location".into(), to)], bytes: 0 });
    }
    let mut params = std::mem::take(&mut exchange.params);
    let found = router.find(&Head::of(&exchange), &mut params);
    exchange.params = params;
    let lines = lines(router, &exchange, &found);
    let answer = match found {
        Found::Route(number) => match router.route(number) {
            Some(route) => target(config, route, exchange),
            None => Err(Rejection::internal(format!("route {number} is missing"))),
        },
        Found::NotFound => Err(Rejection::no_route()),
        Found::MethodNotAllowed(allow) => Err(Rejection::method_not_allowed(&allow)),
        Found::Options(allow) => {
            let by = "the gateway, for all routes of this path".to_owned();
            Ok(Answer::Replied { by, status: 204, fields: vec![("allow".into(), allow)], bytes: 0 })
        }
    };
    (lines, answer.unwrap_or_else(|rejection| Answer::Refused(Box::new(rejection))))
}

fn lines(router: &Router, exchange: &Exchange, found: &Found) -> Vec<Line> {
    let all = router.explain(&Head::of(exchange)).into_iter().enumerate();
    all.map(|(number, explained)| Line {
        route: Arc::clone(explained.route),
        taken: *found == Found::Route(number),
        verdict: explained.verdict.map(|rank| rank.to_string()).map_err(|mismatch| mismatch.to_string()),
    })
    .collect()
}

fn target(config: &Config, route: &Arc<Route>, exchange: Exchange) -> Result<Answer, Rejection> {
    let by = format!("route `{}`", route.name);
    match &route.target {
        Target::Service(name) => forwarded(config, route, vec![service(config, name)], exchange),
        Target::Split(tidegate_config::config::Split { parts, .. }) => {
            let total: u64 = parts.iter().map(|part| u64::from(part.weight)).sum();
            let parts =
                parts.iter().map(|part| format!("{}, {} in {total}", service(config, &part.service), part.weight));
            forwarded(config, route, parts.collect(), exchange)
        }
        Target::Redirect(redirect) => {
            let to = rewrite::location(&redirect.to, &Facts::of(&exchange, route));
            let fields = vec![("location".to_owned(), to)];
            Ok(Answer::Replied { by, status: redirect.status.as_u16(), fields, bytes: 0 })
        }
        Target::Respond(respond) => {
            let fields = respond.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            Ok(Answer::Replied { by, status: respond.status.as_u16(), fields, bytes: respond.body.len() })
        }
    }
}

fn forwarded(
    config: &Config,
    route: &Arc<Route>,
    services: Vec<String>,
    mut exchange: Exchange,
) -> Result<Answer, Rejection> {
    rewrite::outgoing(&mut exchange, route, &config.server.request_id.header)?;
    Ok(Answer::Forwarded { route: Arc::clone(route), services, head: Box::new(exchange.head) })
}

/// `users (http://127.0.0.1:9001)`
fn service(config: &Config, name: &Arc<str>) -> String {
    let endpoints = config.services.get(name).map(|service| &service.endpoints[..]).unwrap_or_default();
    let urls = endpoints.iter().map(|endpoint| {
        let scheme = if endpoint.tls { "https" } else { "http" };
        format!("{scheme}://{}", endpoint.authority)
    });
    format!("{name} ({})", urls.collect::<Vec<_>>().join(", "))
}

/// What is done on the way to the answer. The order of the phases is the gateway's and cannot be configured.
fn phases(config: &Config, answer: &Answer) -> Vec<(&'static str, String)> {
    let limits = &config.server.limits;
    let edge = format!(
        "one canonical path; head up to {} and {} fields, target up to {}; request id in `{}`",
        Size(limits.header_bytes as u64),
        limits.headers,
        Size(limits.uri_bytes as u64),
        config.server.request_id.header
    );
    let mut phases = vec![("edge", edge)];
    if let Answer::Forwarded { route, .. } = answer {
        if let Some(limit) = route.body_limit {
            phases.push(("edge", format!("body up to {}", Size(limit))));
        }
        phases.extend(rewrites(route).into_iter().map(|what| ("transform", what)));
        let timeout =
            route.timeout.map_or_else(|| "no time limit".to_owned(), |timeout| format!("up to {}", Duration(timeout)));
        phases.push(("target", format!("forwarded, {timeout} to the reply's head")));
    }
    phases
}

fn rewrites(route: &Route) -> Vec<String> {
    let rules = &route.rewrite;
    let mut all = Vec::new();
    match &rules.path {
        Some(PathRewrite::StripPrefix(prefix)) => all.push(format!("path without the prefix {prefix}")),
        Some(PathRewrite::Replace(template)) => all.push(format!("path {}", template.source)),
        None => {}
    }
    all.extend(rules.host.iter().map(|host| format!("host {}", host.source)));
    all.extend(rules.query_set.iter().map(|(name, value)| format!("query parameter {name}={}", value.source)));
    all.extend(rules.query_remove.iter().map(|name| format!("no query parameter {name}")));
    all
}

/// The parts of a URL as far as they matter here.
struct Parts<'a> {
    /// `None` when only a path is given.
    https: Option<bool>,
    authority: Option<&'a str>,
    target: String,
}

fn split(url: &str) -> Parts<'_> {
    let url = url.split('#').next().unwrap_or_default();
    let (https, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Parts { https: None, authority: None, target: url.to_owned() },
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Parts { https: Some(https), authority: Some(authority), target }
}

fn listener<'c>(config: &'c Config, name: Option<&str>, https: Option<bool>) -> Result<&'c Listener, String> {
    let all = &config.server.listeners;
    let names = || all.iter().map(|listener| format!("`{}`", listener.name)).collect::<Vec<_>>().join(", ");
    let found = match (name, https) {
        (Some(name), _) => all.iter().find(|listener| *listener.name == *name),
        (None, Some(https)) => all.iter().find(|listener| listener.tls.is_some() == https),
        (None, None) => all.first(),
    };
    found.ok_or_else(|| match name {
        Some(name) => format!("there is no listener `{name}`; there are {}", names()),
        None => format!("no listener speaks the URL's scheme; say which one is meant by --listener: {}", names()),
    })
}

fn head(method: &str, parts: &Parts<'_>, headers: &[String]) -> Result<RequestHead, String> {
    let method: Method = method.parse().map_err(|_| format!("`{method}` is not a method"))?;
    let mut fields = Fields::new();
    let mut add = |name: &str, value: &str| {
        fields.append(name, value.as_bytes()).map_err(|error| format!("the header `{name}` cannot be sent: {error}"))
    };
    let mut has_host = false;
    for header in headers {
        let (name, value) = header.split_once(':').ok_or_else(|| format!("`{header}` is not `NAME: VALUE`"))?;
        has_host |= name.eq_ignore_ascii_case("host");
        add(name.trim_end(), value.trim())?;
    }
    if !has_host {
        add("Host", parts.authority.unwrap_or("localhost"))?;
    }
    Ok(RequestHead { method, target: parts.target.clone(), version: Version::Http11, fields })
}
