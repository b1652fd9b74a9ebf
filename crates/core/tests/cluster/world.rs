//! A cluster, a clock that is moved by hand, and a worker that chooses.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::config::{
    Balancing, BreakerScope, CircuitBreaker, Conditions, Endpoint, HealthCheck, OutlierDetection, Pool, Probe, Service,
    ServiceTimeouts, Statuses, Trip, UpstreamProtocol, UpstreamTls,
};
use tidegate_config::problem::Path;
use tidegate_core::balance::Pick;
use tidegate_core::clock::Clock;
use tidegate_core::cluster::{Cluster, EndpointReport, Outcome, Refusal, State, Ticket, View};

pub(crate) const OK: Outcome = Outcome::Status(200);
pub(crate) const ERROR: Outcome = Outcome::Status(500);

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `a:80` with weight 1.
pub(crate) fn endpoint(host: &str) -> Endpoint {
    let authority = format!("{host}:80").into();
    Endpoint { tls: false, host: host.into(), port: 80, authority, weight: 1, zone: None, priority: 0 }
}

/// Endpoints `a`, `b` and so on, with every protection off.
pub(crate) fn service(endpoints: &str) -> Service {
    let second = seconds(1);
    Service {
        name: "s".into(),
        endpoints: endpoints.chars().map(|host| endpoint(&host.to_string())).collect(),
        discovery: None,
        protocol: UpstreamProtocol::Auto,
        tls: UpstreamTls::default(),
        timeouts: ServiceTimeouts { connect: second, read: second, write: second },
        pool: Pool { max_idle: 1, idle_timeout: second, max_connections: 0, max_age: second, max_requests: 0 },
        balancing: Balancing::RoundRobin,
        health: None,
        outliers: None,
        slow_start: Duration::ZERO,
        panic_threshold: None,
        breaker: None,
        retry: None,
        hedge: None,
        concurrency: None,
        fallback: None,
        deadline_header: None,
        at: Path::root(),
    }
}

pub(crate) fn outliers() -> OutlierDetection {
    OutlierDetection {
        consecutive_errors: Some(5),
        failure_ratio: Some(0.5),
        min_requests: 10,
        slow_factor: Some(5.0),
        eject: seconds(30),
        max_eject: seconds(300),
        max_ejected: 0.5,
    }
}

pub(crate) fn breaker() -> CircuitBreaker {
    let statuses = Statuses(vec![500..=599]);
    CircuitBreaker {
        trip: Trip::Ratio { share: 0.6, min_requests: 3, window: seconds(60) },
        open: seconds(30),
        half_open_requests: 3,
        per: BreakerScope::Endpoint,
        failures: Conditions { connect: true, reset: true, timeout: true, statuses },
    }
}

pub(crate) fn health() -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp,
        port: None,
        interval: seconds(30),
        timeout: seconds(5),
        retries: 3,
        rise: 2,
        backoff_max: seconds(300),
    }
}

/// A cluster and one worker.
pub(crate) struct World {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) now: Instant,
    pub(crate) cursor: Cell<usize>,
    view: Arc<View>,
}

impl World {
    pub(crate) fn new(config: Service) -> Self {
        Self::in_zone(config, None)
    }

    pub(crate) fn in_zone(config: Service, zone: Option<&str>) -> Self {
        let now = Clock::default().now();
        let cluster = Cluster::new(Arc::new(config), zone.map(Arc::from), now);
        let view = cluster.view();
        Self { cluster, now, cursor: Cell::new(0), view }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.cluster.settle(self.now);
    }

    pub(crate) fn view(&mut self) -> Arc<View> {
        self.cluster.renew(&mut self.view, self.now);
        Arc::clone(&self.view)
    }

    pub(crate) fn try_choose(&mut self, excluded: &[usize]) -> Result<Ticket, Refusal> {
        let view = self.view();
        view.choose(&Pick { excluded, ..Pick::new(&self.cursor) }, self.now)
    }

    pub(crate) fn choose(&mut self) -> Ticket {
        self.try_choose(&[]).expect("an endpoint takes requests")
    }

    /// A ticket for this endpoint, if it can be had.
    pub(crate) fn ticket(&mut self, host: &str) -> Option<Ticket> {
        let place = self.place(host);
        let others: Vec<usize> = (0..self.view().members.len()).filter(|&other| other != place).collect();
        self.try_choose(&others).ok()
    }

    /// One request to this endpoint, which must take it.
    pub(crate) fn request(&mut self, host: &str, outcome: Outcome) {
        self.ticket(host).expect("the endpoint takes requests").head(outcome, self.now);
    }

    pub(crate) fn requests(&mut self, host: &str, outcome: Outcome, count: u32) {
        for _ in 0..count {
            self.request(host, outcome);
        }
    }

    /// Requests that are answered after `latency`.
    pub(crate) fn answers(&mut self, host: &str, latency: Duration, count: u32) {
        for _ in 0..count {
            let mut ticket = self.ticket(host).expect("the endpoint takes requests");
            ticket.head(OK, self.now + latency);
        }
    }

    pub(crate) fn place(&mut self, host: &str) -> usize {
        let view = self.view();
        view.members.iter().position(|member| *member.endpoint.host == *host).expect("there is such an endpoint")
    }

    pub(crate) fn id(&mut self, host: &str) -> u64 {
        let place = self.place(host);
        self.view().members[place].id
    }

    pub(crate) fn report(&self, host: &str) -> EndpointReport {
        let report = self.cluster.report(self.now);
        let authority = format!("{host}:80");
        report.endpoints.into_iter().find(|endpoint| *endpoint.authority == *authority).expect("it is in the report")
    }

    pub(crate) fn state(&self, host: &str) -> State {
        self.report(host).state
    }

    pub(crate) fn probe(&mut self, host: &str, well: bool) {
        let id = self.id(host);
        self.cluster.probed(id, if well { Ok(()) } else { Err("no answer".into()) }, self.now);
    }

    /// Whom so many choices name, each finished well: `a` so often, and so on, as `a3 b1`.
    pub(crate) fn turns(&mut self, count: usize) -> String {
        let mut hosts: Vec<String> = Vec::new();
        for _ in 0..count {
            let mut ticket = self.choose();
            ticket.head(OK, self.now);
            hosts.push(ticket.member.endpoint.host.to_string());
        }
        hosts.sort();
        let turns = hosts.chunk_by(PartialEq::eq).map(|turns| format!("{}{}", turns[0], turns.len()));
        turns.collect::<Vec<_>>().join(" ")
    }
}
