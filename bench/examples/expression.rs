//! `expression TEXT TURNS`: each turn asks whether an expression holds, for a request of the tenant `acme` by an editor of that tenant.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Method;
use tidegate_config::config::{AcceptRequestId, Match, RequestId, Rewrite, Route, Target};
use tidegate_config::problem::Path;
use tidegate_config::value::PathPattern;
use tidegate_core::body::Body;
use tidegate_core::client::{Networks, Peer};
use tidegate_core::clock::Clock;
use tidegate_core::exchange::{Exchange, Opening};
use tidegate_core::expression::{Expression, Scope};
use tidegate_core::identity::Identity;
use tidegate_core::route::{Head, Params, Router};
use tidegate_http1::{Fields, RequestHead, Version};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let text = arguments.next().context("usage: expression TEXT TURNS")?;
    let turns: usize = arguments.next().context("usage: expression TEXT TURNS")?.parse()?;
    let expression = Expression::parse(&text)?;
    let route = Arc::new(route()?);
    let exchange = exchange(&route)?;
    let scope = Scope { exchange: &exchange, pattern: &route.matches.path, now: Duration::from_secs(1_700_000_000) };
    for _ in 0..turns {
        ensure!(black_box(&expression).holds(black_box(&scope)), "`{text}` holds");
    }
    Ok(())
}

fn exchange(route: &Arc<Route>) -> Result<Exchange> {
    let mut fields = Fields::new();
    for (name, value) in
        [("host", "api.example.com"), ("user-agent", "curl/8.5.0"), ("x-channel", "web"), ("accept", "*/*")]
    {
        fields.append(name, value.as_bytes())?;
    }
    let target = "/tenants/acme/orders/1234?verbose=1".to_owned();
    let head = RequestHead { method: Method::GET, target, version: Version::Http11, fields };
    let nobody = Networks::default();
    let peer = Rc::new(Peer::new(([10, 0, 0, 1], 5555).into(), "default".into(), 8080, &nobody));
    let rule = RequestId { header: "x-request-id".into(), accept: AcceptRequestId::Never };
    let opening = Opening { trusted: &nobody, request_id: &rule, random: 1, now: Clock::System.now() };
    let (mut exchange, _) = Exchange::open(head, Body::empty(), peer, opening);
    let (router, _) = Router::build(std::slice::from_ref(route));
    let mut params = Params::new();
    router.find(&Head::of(&exchange), &mut params);
    exchange.params = params;
    exchange.identity = Some(Arc::new(Identity {
        user: Some("ann".into()),
        tenant: Some("acme".into()),
        roles: vec!["reader".into(), "editor".into()],
        ..Identity::default()
    }));
    Ok(exchange)
}

fn route() -> Result<Route> {
    let matches = Match {
        hosts: Vec::new(),
        path: PathPattern::exact("/tenants/{tenant}/orders/{id}")?,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_ip: Vec::new(),
        listeners: Vec::new(),
        client_cert: None,
    };
    Ok(Route {
        retry: tidegate_config::config::RouteRetry::OfService,
        mirror: None,
        fault: None,
        name: "orders".into(),
        priority: 0,
        matches,
        target: Target::Service("orders".into()),
        rewrite: Rewrite::default(),
        timeout: None,
        body_limit: None,
        policies: Vec::new(),
        shadow: Vec::new(),
        upgrade: Vec::new(),
        at: Path::root().join("routes").index(0),
    })
}
