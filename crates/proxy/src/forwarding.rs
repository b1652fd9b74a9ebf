//! A request that goes to a service: what is sent, which endpoint it is kept with, what answers if the service cannot, and what
//! the client gets of the reply.

use std::rc::Rc;

use tidegate_config::config::{self, Balancing, Fallback, Retry, Route, RouteRetry};
use tidegate_core::affinity;
use tidegate_core::client::Scheme;
use tidegate_core::exchange::{Exchange, Reply};
use tidegate_core::forward::{self, Returning};
use tidegate_core::rejection::Rejection;
use tidegate_core::rewrite;
use tidegate_http1::ResponseHead;

use crate::live::Live;
use crate::serve::{self, Answer, Means};
use crate::upstream::attempt::{self, Attempt, Choice, Failure};
use crate::upstream::service::Service;
use crate::worker::Local;

/// Sends the exchange's request to a service, by its number in the snapshot.
pub(crate) async fn forward_to(
    live: &mut Live<'_>,
    local: &Local,
    route: &Route,
    service: usize,
    means: &Means<'_>,
) -> Result<Answer, Rejection> {
    let service = local.services.get(service).ok_or_else(|| Rejection::internal("a service is missing".to_owned()))?;
    live.facts.service = Some(Rc::clone(&service.name));
    let choice = choice(service, live.exchange, route);
    let mirror = local.shaping.mirror(live, route);
    remove_deadlines(live.exchange, local, &service.plan.config);
    let upgrade = rewrite::outgoing(live.exchange, route, &local.snapshot.request_id, &live.worker.told)?;
    if let (Some(mirror), None) = (mirror, upgrade) {
        mirror.copy(live.worker, live.exchange);
    }
    let exchange = &mut *live.exchange;
    let interim = |mut head: ResponseHead| {
        forward::interim(&mut head.fields);
        (means.interim)(head);
    };
    let config = &*service.plan.config;
    let mut attempt = Attempt {
        body: std::mem::take(&mut exchange.body),
        head: &exchange.head,
        upgrade,
        interim: Some(&interim),
        read: config.timeouts.read,
        stream_idle: local.snapshot.config.server.timeouts.stream_idle,
        write: config.timeouts.write,
        began: exchange.started,
        try_began: exchange.started,
        deadline: route.timeout.map(|timeout| exchange.started + timeout),
        try_limit: None,
        clock: &live.worker.clock,
        net: &live.worker.means.net,
        alarm: means.alarm,
        buffers: &live.worker.buffers,
        dice: &live.worker.means.dice,
        bursts: &live.worker.means.bursts,
        choice,
        retry: retry(route, config),
        moves_on: false,
        deadline_header: config.deadline_header.as_deref(),
        at: None,
    };
    let mut by_fallback = false;
    let mut called = service.call(&mut attempt, &mut live.facts.tried).await;
    if let (Err(failure), Some(fallback)) = (&called, &config.fallback)
        && failure.is_outage()
    {
        service.cells.fallbacks.up();
        live.facts.cause = Some(failure.to_string());
        match fallback {
            Fallback::Respond(respond) => return serve::respond(respond),
            Fallback::Service(name) => {
                let other = other(local, name)?;
                attempt.take_terms(&other.plan.config);
                called = other.call(&mut attempt, &mut live.facts.tried).await;
                by_fallback = true;
            }
        }
    }
    let reply = called.map_err(|failure: Failure| failure.rejection())?;
    let ended = live.facts.tried.ended;
    live.facts.upstream = ended.map(|ended| ended.saturating_duration_since(exchange.started));
    if !by_fallback {
        keep_with_endpoint(live, service, choice);
    }
    let switched = upgrade.filter(|_| reply.tunnel.is_some());
    let demanded = || forward::upgrade_demanded(&reply.head, live.exchange.head.version, &route.upgrade);
    let upgrade = switched.or_else(demanded);
    Ok(returned(live, local, reply, upgrade))
}

/// What may keep the request with one endpoint, told from what its client sent.
fn choice(service: &Service, exchange: &Exchange, route: &Route) -> Choice {
    let pattern = &route.matches.path;
    match &service.plan.config.balancing {
        Balancing::IpHash => {
            Choice { affinity: affinity::of(&config::Key::ClientIp, exchange, pattern), ..Choice::default() }
        }
        Balancing::ConsistentHash(key) => {
            Choice { affinity: affinity::of(key, exchange, pattern), ..Choice::default() }
        }
        Balancing::StickyCookie(_) => {
            let preferred = service.plan.sticky.as_ref().and_then(|sticky| sticky.preferred(&exchange.head.fields));
            Choice { preferred, ..Choice::default() }
        }
        Balancing::RoundRobin
        | Balancing::LeastConnections
        | Balancing::LeastTime
        | Balancing::PowerOfTwo
        | Balancing::Random => Choice::default(),
    }
}

/// Each try says itself how much time is left, to whichever service it goes: a client's own word about it never passes.
fn remove_deadlines(exchange: &mut Exchange, local: &Local, service: &config::Service) {
    let fallback = match &service.fallback {
        Some(Fallback::Service(name)) => other(local, name).ok(),
        Some(Fallback::Respond(_)) | None => None,
    };
    let names =
        [service.deadline_header.as_deref(), fallback.and_then(|other| other.plan.config.deadline_header.as_deref())];
    for name in names.into_iter().flatten() {
        exchange.head.fields.remove(name);
    }
}

fn retry<'a>(route: &'a Route, service: &'a config::Service) -> Option<&'a Retry> {
    match &route.retry {
        RouteRetry::OfService => service.retry.as_ref(),
        RouteRetry::Off => None,
        RouteRetry::Own(retry) => Some(retry),
    }
}

fn other<'a>(local: &'a Local, name: &str) -> Result<&'a Service, Rejection> {
    let found = local.services.iter().find(|service| &*service.plan.config.name == name);
    found.map(|service| &**service).ok_or_else(|| Rejection::internal(format!("the fallback `{name}` is missing")))
}

/// Sets the cookie of a client that has none, or whose endpoint is another one now.
fn keep_with_endpoint(live: &mut Live<'_>, service: &Service, choice: Choice) {
    let (Some(sticky), Some(endpoint)) = (&service.plan.sticky, &live.facts.tried.endpoint) else { return };
    let Some(key) = endpoint.member.as_ref().map(|member| member.key) else { return };
    if choice.preferred != Some(key) {
        live.exchange.cookies.push(sticky.set_cookie(key, live.exchange.scheme == Scheme::Https));
    }
}

fn returned(live: &Live<'_>, local: &Local, mut received: attempt::Reply, upgrade: Option<&str>) -> Answer {
    forward::reply(
        &mut received.head.fields,
        &Returning {
            version: received.head.version,
            request_id: ((&local.snapshot.request_id).into(), live.exchange.request_id.as_str()),
            upgrade,
        },
    );
    Answer { reply: Reply { head: received.head, body: received.body }, tunnel: received.tunnel, close: false }
}
