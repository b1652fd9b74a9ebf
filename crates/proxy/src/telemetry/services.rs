//! Metrics that are not counted but read when somebody asks: how services and their endpoints stand.

use std::collections::BTreeSet;

use tidegate_core::cluster::{BreakerState, EndpointReport};

use super::exposition::{Description, Kind, Samples};
use super::metrics::Scrape;

pub(super) const READ: &[Description] = &[
    Description {
        name: "tidegate_endpoint_state",
        kind: Kind::Gauge,
        labels: &["service", "endpoint", "state", "reason"],
        help: "1 for the state that an endpoint is in: `healthy`, `unhealthy`, `ejected`, `open`, `half_open`, `draining` or \
               `warming`, and why, such as `checks`, `consecutive_errors`, `slow`, `silent` or `drained`.",
        samples: |scrape, out| {
            for (service, endpoint) in endpoints(scrape) {
                let (state, reason) = (endpoint.state.as_str(), endpoint.reason.as_str());
                out.value(&[service, &endpoint.authority, state, reason], 1);
            }
        },
    },
    Description {
        name: "tidegate_endpoint_in_flight",
        kind: Kind::Gauge,
        labels: &["service", "endpoint"],
        help: "Requests under way at an endpoint.",
        samples: |scrape, out| each(scrape, out, |endpoint| u64::from(endpoint.in_flight)),
    },
    Description {
        name: "tidegate_endpoint_weight",
        kind: Kind::Gauge,
        labels: &["service", "endpoint"],
        help: "The weight that counts now: less than configured while the endpoint warms up, 0 when it is not in service.",
        samples: |scrape, out| {
            for (service, endpoint) in endpoints(scrape) {
                out.value(&[service, &endpoint.authority], endpoint.effective_weight);
            }
        },
    },
    Description {
        name: "tidegate_endpoint_ejections_total",
        kind: Kind::Counter,
        labels: &["service", "endpoint"],
        help: "How often outlier detection took an endpoint out for a while.",
        samples: |scrape, out| each(scrape, out, |endpoint| endpoint.ejections),
    },
    Description {
        name: "tidegate_endpoint_checks_failed",
        kind: Kind::Gauge,
        labels: &["service", "endpoint"],
        help: "Active checks of an endpoint that failed in a row.",
        samples: |scrape, out| each(scrape, out, |endpoint| u64::from(endpoint.failed_checks)),
    },
    Description {
        name: "tidegate_breaker_state",
        kind: Kind::Gauge,
        labels: &["service", "endpoint"],
        help: "Circuit breakers: 0 is closed, 1 half open, 2 open. The endpoint is empty for the service's own.",
        samples: |scrape, out| breakers(scrape, out, |(state, _)| number(state)),
    },
    Description {
        name: "tidegate_breaker_opened_total",
        kind: Kind::Counter,
        labels: &["service", "endpoint"],
        help: "How often a circuit breaker opened. The endpoint is empty for the service's own.",
        samples: |scrape, out| breakers(scrape, out, |(_, opened)| opened),
    },
    Description {
        name: "tidegate_endpoints_in_service",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Endpoints that take requests.",
        samples: |scrape, out| {
            for service in scrape.services {
                out.value(&[&service.config.name], service.cluster.in_service);
            }
        },
    },
    Description {
        name: "tidegate_concurrency_inside",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Requests under way, where `concurrency` limits them.",
        samples: |scrape, out| places(scrape, out, |(inside, _)| inside),
    },
    Description {
        name: "tidegate_concurrency_waiting",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "Requests that wait for a place, where `concurrency` limits them.",
        samples: |scrape, out| places(scrape, out, |(_, waiting)| waiting),
    },
    Description {
        name: "tidegate_discovery_failures_total",
        kind: Kind::Counter,
        labels: &["service"],
        help: "How often the source of a service's endpoints could not be asked.",
        samples: |scrape, out| {
            for service in scrape.services {
                if let Some(discovery) = service.discovery {
                    out.value(&[&service.config.name], discovery.failures);
                }
            }
        },
    },
    Description {
        name: "tidegate_discovery_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["service"],
        help: "When the source of a service's endpoints last answered, in seconds since the Unix epoch; absent until it does.",
        samples: |scrape, out| {
            for service in scrape.services {
                if let Some(at) = service.discovery.and_then(|discovery| discovery.last_success) {
                    out.value(&[&service.config.name], at.as_secs());
                }
            }
        },
    },
];

fn endpoints<'a>(scrape: &Scrape<'a>) -> impl Iterator<Item = (&'a str, &'a EndpointReport)> {
    scrape.services.iter().flat_map(|service| {
        // An authority that is written twice, as `http` and as `https`, would make a series twice, which spoils a whole scrape.
        let mut seen = BTreeSet::new();
        let once = service.cluster.endpoints.iter().filter(move |endpoint| seen.insert(&*endpoint.authority));
        once.map(|endpoint| (&*service.config.name, endpoint))
    })
}

fn each(scrape: &Scrape<'_>, out: &mut Samples<'_>, value: fn(&EndpointReport) -> u64) {
    for (service, endpoint) in endpoints(scrape) {
        out.value(&[service, &endpoint.authority], value(endpoint));
    }
}

fn breakers(scrape: &Scrape<'_>, out: &mut Samples<'_>, value: fn((BreakerState, u64)) -> u64) {
    for service in scrape.services {
        out.value(&[&service.config.name, ""], value((service.cluster.breaker, service.cluster.breaker_opened)));
    }
    for (service, endpoint) in endpoints(scrape) {
        out.value(&[service, &endpoint.authority], value((endpoint.breaker, endpoint.breaker_opened)));
    }
}

fn number(state: BreakerState) -> u64 {
    match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
}

fn places(scrape: &Scrape<'_>, out: &mut Samples<'_>, value: fn((usize, usize)) -> usize) {
    for service in scrape.services {
        if let Some(places) = service.concurrency {
            out.value(&[&service.config.name], value(places));
        }
    }
}
