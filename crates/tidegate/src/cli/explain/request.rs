//! What happens to one request: the stations of `serve.rs` in the data plane, through the same functions, up to the point where
//! something would be sent.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, StatusCode};
use serde_json::{Map, Value};
use tidegate_config::Config;
use tidegate_config::config::{Listener, PathRewrite, Route, Target};
use tidegate_config::value::{Duration, Size};
use tidegate_core::body::{Body, BodyError, Frame, Stream};
use tidegate_core::client::{Peer, Scheme, TlsFacts, TrustedProxies};
use tidegate_core::clock::Clock;
use tidegate_core::exchange::{Exchange, Opening};
use tidegate_core::forward::{self, Told};
use tidegate_core::policy::{Chain, Guarded, Phase, Policies, Stop};
use tidegate_core::rejection::Rejection;
use tidegate_core::rewrite;
use tidegate_core::route::{Found, Head, Methods, Router};
use tidegate_core::template::Facts;
use tidegate_http1::{
    Fields, HeadReader, Known, Limits, RequestError, RequestHead, ResponseHead, Version, encode, request_framing,
};
use tidegate_policies::{Assumed, assumed};

use super::Args;
use super::policies::{Decided, Says, decide};
use super::shaping;

/// What is known of the gateway.
pub(super) struct Gateway<'a> {
    pub(super) config: &'a Config,
    pub(super) router: &'a Router,
    pub(super) policies: &'a Policies,
}

/// One request, and all that became of it.
pub(super) struct Explained {
    pub(super) request: Asked,
    /// In the order of the file; empty when the request is answered before routing.
    pub(super) lines: Vec<Line>,
    /// Who is taken to call.
    pub(super) caller: Option<Caller>,
    /// In the order in which they are asked.
    pub(super) policies: Vec<Decided>,
    pub(super) answer: Answer,
    /// What is done on the way, phase by phase.
    pub(super) phases: Vec<(&'static str, String)>,
}

/// The caller whom the question is about.
pub(super) struct Caller {
    pub(super) assumed: Assumed,
    /// Whether anybody on the way asks who calls.
    pub(super) is_asked: bool,
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
    /// One of these services gets it, as `head`; its reply is given the fields of `reply`.
    Forwarded { route: Arc<Route>, services: Vec<String>, head: Box<RequestHead>, reply: Fields },
    /// The gateway answers.
    Replied { by: String, status: u16, fields: Fields, bytes: usize },
    /// The gateway refuses.
    Refused(Box<Rejection>),
}

/// `None` when no request is asked about; `Err` says what is wrong with the arguments.
pub(super) fn explain(
    args: &Args,
    caller: Option<Map<String, Value>>,
    gateway: &Gateway<'_>,
) -> Result<Option<Explained>, String> {
    let (Some(method), Some(url)) = (&args.method, &args.url) else { return Ok(None) };
    let config = gateway.config;
    let parts = split(url)?;
    let listener = listener(config, args.listener.as_deref(), parts.https)?;
    let head = head(method, &parts, &args.headers)?;
    let asked = |(host, path): (&str, &str), client: IpAddr| Asked {
        method: method.clone(),
        url: url.clone(),
        host: host.to_owned(),
        path: path.to_owned(),
        client,
        listener: Arc::clone(&listener.name),
    };
    let head = match read(&head, config) {
        Ok(head) => head,
        Err(error) => {
            let host = head.fields.text(Known::Host).unwrap_or_default();
            return Ok(Some(refused(asked((host, &head.target), args.client_ip), error.into())));
        }
    };
    let trusted = TrustedProxies::new(&config.server.trusted_proxies);
    Ok(Some(match open(config, listener, head, args.client_ip, &trusted) {
        Ok(exchange) => {
            let request = asked((&exchange.host, exchange.path()), exchange.client);
            serve(gateway, listener, exchange, (request, caller))?
        }
        Err((exchange, rejection)) => refused(asked((&exchange.host, exchange.path()), exchange.client), rejection),
    }))
}

/// A request that does not come as far as to a route.
fn refused(request: Asked, rejection: Rejection) -> Explained {
    let answer = Answer::Refused(Box::new(rejection));
    Explained { request, lines: Vec::new(), caller: None, policies: Vec::new(), answer, phases: Vec::new() }
}

/// The head as the gateway reads it, after it was sent as HTTP/1.1: what is malformed, ambiguous or too large is refused.
fn read(head: &RequestHead, config: &Config) -> Result<RequestHead, RequestError> {
    let mut sent = Vec::new();
    encode::request_line(&mut sent, &head.method, &head.target);
    encode::fields(&mut sent, &head.fields);
    encode::end(&mut sent);
    let limits = &config.server.limits;
    let limits = Limits { head_bytes: limits.header_bytes, fields: limits.headers, target_bytes: limits.uri_bytes };
    let mut head = RequestHead::default();
    HeadReader::default().request(&sent, &limits, &mut head)?;
    request_framing(&head)?;
    Ok(head)
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
    let body = body(&head.fields);
    let (exchange, settled) = Exchange::open(head, body, Rc::new(peer), opening);
    match settled {
        Ok(()) => Ok(exchange),
        Err(rejection) => Err((Box::new(exchange), rejection)),
    }
}

/// The body that a request with these fields has: nothing of it is ever read.
fn body(fields: &Fields) -> Body {
    let length = fields.text(Known::ContentLength).and_then(|length| length.parse().ok());
    match length {
        None | Some(0) if !fields.contains(Known::TransferEncoding) => Body::empty(),
        length => Body::stream(Unread(length)),
    }
}

/// A body of this many bytes, if that is known.
struct Unread(Option<u64>);

impl Stream for Unread {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Pending
    }

    fn length(&self) -> Option<u64> {
        self.0
    }
}

fn serve(
    gateway: &Gateway<'_>,
    listener: &Listener,
    mut exchange: Exchange,
    (request, caller): (Asked, Option<Map<String, Value>>),
) -> Result<Explained, String> {
    gateway.policies.guarded.strip(&mut exchange.head.fields);
    let (lines, found) = if listener.http_to_https && exchange.scheme == Scheme::Http {
        (Vec::new(), None)
    } else {
        let found = find(gateway, &mut exchange);
        (lines(gateway.router, &exchange, &found), Some(found))
    };
    let route = match found {
        Some(Found::Route(number)) => gateway.router.route(number).map(|route| (number, route)),
        _ => None,
    };
    let chain = match route {
        Some((number, _)) => gateway.policies.routes.get(number),
        None => Some(&gateway.policies.router),
    };
    let chain = chain.map(Arc::clone).unwrap_or_default();
    let caller = match (caller, route) {
        (Some(object), Some((_, route))) => {
            let is_asked = chain.links().iter().any(|link| link.phase == Phase::Authenticate);
            let assumed = assumed(gateway.config, route, object).map_err(|why| format!("--as is no caller: {why}"))?;
            Some(Caller { assumed, is_asked })
        }
        _ => None,
    };
    let limited = route.map_or(Ok(()), |(_, route)| exchange.limit_body(route.body_limit));
    let identity = caller.as_ref().map(|caller| &caller.assumed.identity);
    let (policies, stop) = decide(&chain, &mut exchange, identity, limited.err().map(Stop::from));
    let mut shaped = Vec::new();
    let answer = match stop {
        Some(stop) => stopped(&policies, stop),
        None => match (route, found) {
            (Some((_, route)), _) => {
                shaped.extend(shaping(gateway.config, route, &exchange));
                target(gateway, route, &mut exchange)
            }
            (None, None) => to_https(listener, &exchange),
            (None, Some(found)) => by_router(found),
        },
    };
    let mut answer = answer.unwrap_or_else(|rejection| Answer::Refused(Box::new(rejection)));
    finish(&chain, &exchange, &mut answer);
    let mut phases = phases(gateway.config, &answer);
    phases.extend(shaped.into_iter().map(|what| ("target", what)));
    Ok(Explained { request, lines, caller, policies, answer, phases })
}

fn find(gateway: &Gateway<'_>, exchange: &mut Exchange) -> Found {
    let mut params = std::mem::take(&mut exchange.params);
    let answers = |number: usize| gateway.policies.routes.get(number).is_some_and(|chain| chain.answers_preflights());
    let found = gateway.router.find_or_preflight(&Head::of(exchange), &mut params, answers);
    exchange.params = params;
    found
}

/// What comes of a request that the last of these policies that was asked has stopped.
fn stopped(policies: &[Decided], stop: Stop) -> Result<Answer, Rejection> {
    match stop {
        Stop::Refuse(rejection) => Err(*rejection),
        Stop::Answer(reply) => {
            let answers = |decided: &&Decided| matches!(decided.says, Says::Answer(_));
            let by = policies.iter().find(answers).map_or("", |decided| decided.link.policy);
            let (by, status) = (format!("the policy `{by}`"), reply.head.status.as_u16());
            Ok(Answer::Replied { by, status, fields: reply.head.fields, bytes: 0 })
        }
    }
}

fn to_https(listener: &Listener, exchange: &Exchange) -> Result<Answer, Rejection> {
    let by = format!("the listener `{}` (http_to_https)", listener.name);
    let to = rewrite::https_location(&exchange.host, &exchange.head.target);
    Ok(Answer::Replied { by, status: 308, fields: field("location", &to)?, bytes: 0 })
}

fn by_router(found: Found) -> Result<Answer, Rejection> {
    match found {
        Found::Route(number) => Err(Rejection::internal(format!("route {number} is missing"))),
        Found::NotFound => Err(Rejection::no_route()),
        Found::MethodNotAllowed(allow) => Err(Rejection::method_not_allowed(&allow)),
        Found::Options(allow) => {
            let by = "the gateway, for all routes of this path".to_owned();
            Ok(Answer::Replied { by, status: 204, fields: field("allow", &allow)?, bytes: 0 })
        }
    }
}

fn field(name: &str, value: &str) -> Result<Fields, Rejection> {
    let mut fields = Fields::new();
    let appended = fields.append(name, value.as_bytes());
    appended.map_err(|_| Rejection::internal(format!("`{name}` would have held control characters")))?;
    Ok(fields)
}

/// What policies add to the reply.
fn finish(chain: &Chain, exchange: &Exchange, answer: &mut Answer) {
    let (status, fields) = match answer {
        Answer::Forwarded { reply, .. } => (StatusCode::OK, reply),
        Answer::Replied { status, fields, .. } => (StatusCode::from_u16(*status).unwrap_or_default(), fields),
        Answer::Refused(rejection) => (rejection.status(), &mut *rejection.fields),
    };
    let mut head = ResponseHead { status, fields: std::mem::take(fields), ..ResponseHead::default() };
    chain.reply(exchange, &mut head);
    *fields = head.fields;
}

fn lines(router: &Router, exchange: &Exchange, found: &Found) -> Vec<Line> {
    let head = Head::of(exchange);
    // A preflight may have gone to the route of the request that it asks about.
    let asked = head.asked_about().filter(|_| matches!(found, Found::Route(_)));
    let method = asked.as_ref().unwrap_or(head.method);
    let all = router.explain(&Head { method, ..head }).into_iter().enumerate();
    all.map(|(number, explained)| Line {
        route: Arc::clone(explained.route),
        taken: *found == Found::Route(number),
        verdict: explained.verdict.map(|rank| rank.to_string()).map_err(|mismatch| mismatch.to_string()),
    })
    .collect()
}

/// What happens to requests of the route besides being answered.
fn shaping(config: &Config, route: &Route, exchange: &Exchange) -> impl Iterator<Item = String> {
    let trouble = route.fault.as_ref().and_then(|fault| shaping::trouble(fault, exchange));
    let name = |name: &Arc<str>| service(config, name);
    let copies = route.mirror.as_ref().and_then(|mirror| shaping::copies(mirror, exchange, name));
    trouble.into_iter().chain(copies)
}

fn target(gateway: &Gateway<'_>, route: &Arc<Route>, exchange: &mut Exchange) -> Result<Answer, Rejection> {
    let by = format!("route `{}`", route.name);
    let config = gateway.config;
    if matches!(route.target, Target::Service(_) | Target::Split(_)) && !forward::may_go_on(&mut exchange.head) {
        if exchange.head.method == Method::TRACE {
            return Err(Rejection::no_trace());
        }
        let by = "the gateway, since `Max-Forwards` lets it go no further".to_owned();
        return Ok(Answer::Replied {
            by,
            status: 204,
            fields: field("allow", &Methods::of_route(route).allow())?,
            bytes: 0,
        });
    }
    match &route.target {
        Target::Service(name) => forwarded(gateway, route, vec![service(config, name)], exchange),
        Target::Split(split) => {
            let parts = shaping::parts(split, route, exchange, |name| service(config, name));
            forwarded(gateway, route, parts, exchange)
        }
        Target::Redirect(redirect) => {
            let to = rewrite::location(&redirect.to, &Facts::of(exchange, route));
            let fields = field("location", &to)?;
            Ok(Answer::Replied { by, status: redirect.status.as_u16(), fields, bytes: 0 })
        }
        Target::Respond(respond) => {
            let mut fields = Fields::new();
            for (name, value) in &respond.headers {
                let appended = fields.append(&**name, value.as_bytes());
                appended.map_err(|_| Rejection::internal(format!("`{name}` cannot be sent")))?;
            }
            Ok(Answer::Replied { by, status: respond.status.as_u16(), fields, bytes: respond.body.len() })
        }
    }
}

fn forwarded(
    gateway: &Gateway<'_>,
    route: &Arc<Route>,
    services: Vec<String>,
    exchange: &mut Exchange,
) -> Result<Answer, Rejection> {
    rewrite::outgoing(exchange, route, &*gateway.config.server.request_id.header, &Told::default())?;
    let mut head = exchange.head.clone();
    cover_signatures(&mut head.fields, &gateway.policies.guarded);
    Ok(Answer::Forwarded { route: Arc::clone(route), services, head: Box::new(head), reply: Fields::new() })
}

/// A token that the gateway has signed is worth something until it ends, and explanations are passed on.
fn cover_signatures(fields: &mut Fields, guarded: &Guarded) {
    let tokens: Vec<_> = fields
        .iter()
        .filter(|field| guarded.has(field.name.as_bytes()))
        .filter_map(|field| {
            let text = std::str::from_utf8(field.value).ok()?;
            let (signed, _) =
                text.rsplit_once('.').filter(|_| text.starts_with("ey") && text.matches('.').count() == 2)?;
            Some((field.name.to_owned(), format!("{signed}.(its signature)")))
        })
        .collect();
    for (name, covered) in tokens {
        // Cannot fail: the name is that of a field, and the value was one.
        fields.set(&*name, covered.as_bytes()).ok();
    }
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

fn split(url: &str) -> Result<Parts<'_>, String> {
    let url = url.split('#').next().unwrap_or_default();
    let (https, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        // What else stands in a request line is judged as the gateway judges it.
        (None, None) if url.starts_with('/') || url == "*" => {
            return Ok(Parts { https: None, authority: None, target: url.to_owned() });
        }
        (None, None) => {
            return Err(format!(
                "`{url}` is neither a path nor a URL: write `/{url}`, or `http://{url}` if it begins with a host"
            ));
        }
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    Ok(Parts { https: Some(https), authority: Some(authority), target })
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
