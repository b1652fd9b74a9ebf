//! THE LIFE OF A REQUEST, whatever protocol it came in by: it is opened (one path, one host, one client), routed, limited,
//! rewritten and sent to its target; the reply passes the same stations backwards. Connections read requests and write
//! replies; everything between is here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};
use tidegate_config::config::{self, Route};
use tidegate_core::affinity;
use tidegate_core::body::{Body, GuardedBody};
use tidegate_core::client::Scheme;
use tidegate_core::exchange::{Exchange, Opening, Reply};
use tidegate_core::forward;
use tidegate_core::policy::{Chain, Stop};
use tidegate_core::rejection::Rejection;
use tidegate_core::rewrite;
use tidegate_core::route::{Found, Head, Methods};
use tidegate_core::shaping::{Choice, Split};
use tidegate_core::template::Facts;
use tidegate_http1::{Known, RequestHead, ResponseHead};

use crate::forwarding::forward_to;
use crate::listener::Session;
use crate::live::Live;
use crate::snapshot::Target;
use crate::telemetry::End;
use crate::upstream::attempt::{SharedAlarm, Tunnel};
use crate::worker::{Local, Worker};

/// What the connection lends to an exchange.
pub(crate) struct Means<'a> {
    pub(crate) alarm: &'a SharedAlarm,
    /// Told of interim replies (1xx).
    pub(crate) interim: &'a dyn Fn(ResponseHead),
}

/// What the connection has to send.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// With a 101: the upstream's half of the tunnel.
    pub(crate) tunnel: Option<Box<Tunnel>>,
    /// The connection must not carry another request.
    pub(crate) close: bool,
}

/// How the serving of a request begins.
pub(crate) struct Opened {
    local: Rc<Local>,
    settled: Result<(), Rejection>,
    /// The listener sends everything to https.
    redirects: bool,
}

/// Begins a request in a vacant exchange, on the worker's current snapshot, which it keeps until its reply's head.
pub(crate) fn open<'e>(
    worker: &'e Rc<Worker>,
    session: &Session,
    exchange: &'e mut Exchange,
    request: (RequestHead, Body),
    started: Instant,
) -> (Live<'e>, Opened) {
    let local = worker.local();
    let opening = Opening {
        trusted: &local.snapshot.trusted,
        request_id: &local.snapshot.config.server.request_id,
        random: worker.random(),
        now: started,
    };
    let settled = exchange.begin(request, Rc::clone(&session.peer), opening);
    let settled = settled.and_then(|()| session.admits(exchange));
    let redirects = session.redirects && exchange.scheme == Scheme::Http;
    (Live::new(worker, exchange), Opened { local, settled, redirects })
}

/// Serves an open exchange: returns as soon as the reply's head is known.
pub(crate) async fn serve(live: &mut Live<'_>, opened: Opened, means: Means<'_>) -> Answer {
    let Opened { local, settled, redirects } = opened;
    let answered = match settled {
        Ok(()) => {
            guard(live.exchange, &local);
            if redirects {
                let reply = to_https(live.exchange);
                by_router(live, &local, reply).await
            } else {
                route(live, &local, &means).await
            }
        }
        Err(rejection) => Err(rejection),
    };
    let mut answer = match answered {
        Ok(answer) => answer,
        Err(rejection) => refuse(live, &rejection),
    };
    finish_head(live, &mut answer);
    answer
}

/// A reply that says what was wrong.
pub(crate) fn refuse(live: &mut Live<'_>, rejection: &Rejection) -> Answer {
    live.refuse(rejection);
    live.facts.end = Some(End::Refused);
    let accept = live.exchange.head.fields.value(Known::Accept);
    let (fields, body) = rejection.render(live.exchange.request_id.as_str(), accept);
    let mut reply = Reply::new(rejection.status());
    reply.head.fields = fields;
    reply.body = Body::full(body);
    Answer { reply, tunnel: None, close: rejection.close }
}

/// Takes out what only the gateway may say to services, before anything is decided by it.
fn guard(exchange: &mut Exchange, local: &Local) {
    let guarded = &local.guarded;
    if guarded.is_empty() {
        return;
    }
    guarded.strip(&mut exchange.head.fields);
    if !exchange.body.is_whole() {
        exchange.body = Body::stream(GuardedBody::new(std::mem::take(&mut exchange.body), Rc::clone(guarded)));
    }
}

async fn route(live: &mut Live<'_>, local: &Local, means: &Means<'_>) -> Result<Answer, Rejection> {
    let snapshot = &local.snapshot;
    let by_router = match find(live, local) {
        Found::Route(index) => Ok(index),
        Found::NotFound => Err(Err(Rejection::no_route())),
        Found::MethodNotAllowed(allow) => Err(Err(Rejection::method_not_allowed(&allow))),
        Found::Options(allow) => Err(Ok(options(&allow))),
    };
    let index = match by_router {
        Ok(index) => index,
        Err(reply) => return self::by_router(live, local, reply).await,
    };
    let of_route = (snapshot.config.routes.get(index), snapshot.targets.get(index), local.routes.get(index));
    let (Some(route), Some(target), Some(series)) = of_route else {
        return Err(Rejection::internal(format!("route {index} is not in the snapshot")));
    };
    live.facts.route = Some(Rc::clone(&series.name));
    let chain = local.chains.get(index).filter(|chain| !chain.links().is_empty());
    // What they add to replies stands on those too that refuse before any of them is asked.
    live.chain = chain.cloned();
    live.exchange.limit_body(route.body_limit)?;
    if let Some(chain) = chain {
        live.facts.series = series.of(None).cloned();
        if let Some(answer) = ask(live, chain).await? {
            return Ok(answer);
        }
    }
    let service = match target {
        Target::Service(service) => Some(*service),
        Target::Split(split) => Some(part(live, split, route)?),
        Target::Answer => None,
    };
    live.facts.series = series.of(service).cloned();
    local.shaping.trouble(live, route).await?;
    match service {
        Some(service) if forward::may_go_on(&mut live.exchange.head) => {
            forward_to(live, local, route, service, means).await
        }
        Some(_) if live.exchange.head.method == Method::TRACE => Err(Rejection::no_trace()),
        Some(_) => Ok(options(&Methods::of_route(route).allow())),
        None => answer_itself(live.exchange, route),
    }
}

/// A reply that the router makes itself, unless the policies of the whole gateway are against it.
async fn by_router(live: &mut Live<'_>, local: &Local, reply: Result<Answer, Rejection>) -> Result<Answer, Rejection> {
    match ask(live, &local.router_chain).await? {
        Some(answer) => Ok(answer),
        None => reply,
    }
}

/// Asks the policies. `Some` is the answer of one of them.
async fn ask(live: &mut Live<'_>, chain: &Rc<Chain>) -> Result<Option<Answer>, Rejection> {
    if chain.links().is_empty() {
        return Ok(None);
    }
    live.chain = Some(Rc::clone(chain));
    match chain.check(live.exchange, &**live.worker).await {
        Ok(()) => Ok(None),
        Err(Stop::Answer(reply)) => Ok(Some(Answer { reply: *reply, tunnel: None, close: false })),
        Err(Stop::Refuse(rejection)) => Err(*rejection),
    }
}

/// The service of the part of a split that the request belongs to.
fn part(live: &mut Live<'_>, split: &Split, route: &Route) -> Result<usize, Rejection> {
    let exchange = &*live.exchange;
    let chosen = split.choose(exchange, &route.matches.path, live.worker.random());
    let Choice { service, cookie } =
        chosen.ok_or_else(|| Rejection::internal("no part of the split has a weight".to_owned()))?;
    if let Some((name, id)) = cookie {
        live.exchange.cookies.push(affinity::set_cookie(&name, &id, None, exchange.scheme == Scheme::Https));
    }
    Ok(service)
}

fn find(live: &mut Live<'_>, local: &Local) -> Found {
    let mut params = std::mem::take(&mut live.exchange.params);
    let answers = |index: usize| local.chains.get(index).is_some_and(|chain| chain.answers_preflights());
    let found = local.snapshot.router.find_or_preflight(&Head::of(live.exchange), &mut params, answers);
    live.exchange.params = params;
    found
}

fn options(allow: &str) -> Answer {
    let mut reply = Reply::new(StatusCode::NO_CONTENT);
    // Cannot fail: a list of methods is a field value.
    reply.head.fields.append(Known::Allow, allow.as_bytes()).ok();
    Answer { reply, tunnel: None, close: false }
}

fn answer_itself(exchange: &Exchange, route: &Route) -> Result<Answer, Rejection> {
    let reply = match &route.target {
        config::Target::Redirect(redirect) => {
            let to = rewrite::location(&redirect.to, &Facts::of(exchange, route));
            redirected(redirect.status, &to)?
        }
        config::Target::Respond(wanted) => return respond(wanted),
        config::Target::Service(_) | config::Target::Split(_) => {
            return Err(Rejection::internal("a route without a target of its own".to_owned()));
        }
    };
    Ok(Answer { reply, tunnel: None, close: false })
}

/// A fixed answer.
pub(crate) fn respond(wanted: &config::Respond) -> Result<Answer, Rejection> {
    let mut reply = Reply::new(wanted.status);
    for (name, value) in &wanted.headers {
        let appended = reply.head.fields.append(&**name, value.as_bytes());
        appended.map_err(|_| Rejection::internal(format!("`{name}` cannot be sent")))?;
    }
    reply.body = Body::full(bytes::Bytes::from_owner(Arc::clone(&wanted.body)));
    Ok(Answer { reply, tunnel: None, close: false })
}

fn to_https(exchange: &Exchange) -> Result<Answer, Rejection> {
    let to = rewrite::https_location(&exchange.host, &exchange.head.target);
    let reply = redirected(StatusCode::PERMANENT_REDIRECT, &to)?;
    Ok(Answer { reply, tunnel: None, close: false })
}

fn redirected(status: StatusCode, to: &str) -> Result<Reply, Rejection> {
    let mut reply = Reply::new(status);
    let located = reply.head.fields.append(Known::Location, to.as_bytes());
    located.map_err(|_| Rejection::internal("a redirect would have held control characters".to_owned()))?;
    Ok(reply)
}

/// What every reply has, wherever it came from.
pub(crate) fn finish_head(live: &Live<'_>, answer: &mut Answer) {
    let local = live.worker.local();
    let name = &local.snapshot.request_id;
    if let Some(chain) = &live.chain {
        chain.reply(live.exchange, &mut answer.reply.head);
    }
    let fields = &mut answer.reply.head.fields;
    if !fields.contains(name) {
        // Cannot fail: the name is checked by the configuration, the value by `request_id`.
        fields.append(name, live.exchange.request_id.as_str().as_bytes()).ok();
    }
    for cookie in &live.exchange.cookies {
        // Cannot fail: names are checked by the configuration, and the gateway makes the values.
        fields.append(Known::SetCookie, cookie.as_bytes()).ok();
    }
    if !fields.contains(Known::Date) {
        fields.append_text(Known::Date, &live.worker.date()).ok();
    }
}
