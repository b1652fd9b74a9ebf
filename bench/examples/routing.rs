//! `routing ROUTES TURNS`: each turn finds the route of a path without parameters and of one with two, among so many routes.

use std::{hint::black_box, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use http::Method;
use tidegate_config::{
    config::{Match, Rewrite, Route, Target},
    problem::Path,
    value::PathPattern,
};
use tidegate_core::route::{Found, Head, Params, Router};
use tidegate_http1::Fields;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let count = arguments.next().context("usage: routing ROUTES TURNS")??;
    let turns = arguments.next().context("usage: routing ROUTES TURNS")??;
    let (router, problems) = Router::build(&table(count)?);
    ensure!(problems.is_empty(), "{problems:?}");
    let (middle, fields) = (count / 4, Fields::new());
    let plain = format!("/v1/things{middle}/list");
    let named = format!("/v1/things{middle}/1234/parts/5678");
    let mut params = Params::new();
    for _ in 0..turns {
        for path in [&plain, &named] {
            let found = router.find(black_box(&head(path, &fields)), &mut params);
            ensure!(matches!(found, Found::Route(_)), "{path} is found");
        }
    }
    Ok(())
}

/// Half of the routes without parameters, half with two.
fn table(count: usize) -> Result<Vec<Arc<Route>>> {
    let paths = (0..count.div_ceil(2))
        .flat_map(|number| [format!("/v1/things{number}/list"), format!("/v1/things{number}/{{id}}/parts/{{part}}")]);
    paths.zip(1..).map(|(path, number)| route(&path, number)).collect()
}

fn route(path: &str, number: usize) -> Result<Arc<Route>> {
    let matches = Match {
        hosts: Vec::new(),
        path: PathPattern::exact(path)?,
        methods: vec![Method::GET],
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_ip: Vec::new(),
        listeners: Vec::new(),
        client_cert: None,
    };
    Ok(Arc::new(Route {
        retry: tidegate_config::config::RouteRetry::OfService,
        mirror: None,
        fault: None,
        name: format!("route-{number}").into(),
        priority: 0,
        matches,
        target: Target::Service("things".into()),
        rewrite: Rewrite::default(),
        timeout: Some(Duration::from_secs(30)),
        body_limit: None,
        policies: Vec::new(),
        shadow: Vec::new(),
        upgrade: Vec::new(),
        at: Path::root().join("routes").index(number),
    }))
}

fn head<'a>(path: &'a str, fields: &'a Fields) -> Head<'a> {
    Head {
        host: "api.example.com",
        path,
        query: "",
        method: &Method::GET,
        fields,
        client_ip: IpAddr::from([127, 0, 0, 1]),
        listener: "default",
        cert: None,
    }
}
