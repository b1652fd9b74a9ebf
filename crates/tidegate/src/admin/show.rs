//! Reports of services as JSON. Moments are told as seconds from now, so that nobody has to compare clocks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_config::config::{Balancing, BreakerScope, CircuitBreaker, Discovery, Service, Trip};
use tidegate_core::cluster::EndpointReport;
use tidegate_proxy::telemetry::timestamp;
use tidegate_proxy::{Registration, ServiceReport};

use crate::registry::written;
use crate::status::Status;

/// All services in short.
pub(super) fn services(reports: &[ServiceReport], now: Instant) -> Value {
    let service = |report: &ServiceReport| {
        let mut states = BTreeMap::new();
        for endpoint in &report.cluster.endpoints {
            *states.entry(endpoint.state.as_str()).or_insert(0_u32) += 1;
        }
        json!({
            "name": &*report.config.name,
            "strategy": strategy(&report.config),
            "in_service": report.cluster.in_service,
            "states": states,
            "breaker": report.cluster.breaker.as_str(),
            "endpoints": report.cluster.endpoints.iter().map(|endpoint| short(endpoint, now)).collect::<Vec<_>>(),
        })
    };
    json!({ "services": reports.iter().map(service).collect::<Vec<_>>() })
}

/// One service with all that is known.
pub(super) fn service(report: &ServiceReport, now: Instant) -> Value {
    let ServiceReport { config, cluster, .. } = report;
    json!({
        "name": &*config.name,
        "strategy": strategy(config),
        "in_service": cluster.in_service,
        "breaker": {
            "state": cluster.breaker.as_str(),
            "reason": cluster.breaker_reason.as_str(),
            "since_seconds": since(cluster.breaker_since, now),
            "until_seconds": cluster.breaker_until.map(|at| until(at, now)),
            "opened": cluster.breaker_opened,
            "settings": config.breaker.as_ref().map(breaker),
        },
        "retries_left": report.retries_left,
        "concurrency": report.concurrency.map(|(inside, waiting)| json!({
            "inside": inside,
            "waiting": waiting,
            "max": config.concurrency.map(|limit| limit.max),
            "queue": config.concurrency.map(|limit| limit.queue),
        })),
        "discovery": discovery(report),
        "events_lost": cluster.events_lost,
        "endpoints": cluster.endpoints.iter().map(|one| endpoint(one, now)).collect::<Vec<_>>(),
    })
}

/// What is registered with a service, and how its file fares.
pub(super) fn registrations(report: &ServiceReport, registrations: &[Registration], status: &Status) -> Value {
    let Some(Discovery::Registry(registry)) = &report.config.discovery else { return Value::Null };
    let now = status.now();
    let one = |registration: &Registration| {
        let mut words = written(&registration.endpoint);
        words.insert("id".into(), (&*registration.endpoint.authority).into());
        words.insert("expires_seconds".into(), until(registration.expires, now).into());
        Value::Object(words)
    };
    json!({
        "ttl_seconds": seconds(registry.ttl),
        "file": registry.file.display().to_string(),
        "warning": status.registry.kept(&registry.file).trouble,
        "saved": status.registry.is_saved(&report.config.name),
        "registrations": registrations.iter().map(one).collect::<Vec<_>>(),
    })
}

fn short(endpoint: &EndpointReport, now: Instant) -> Value {
    json!({
        "authority": &*endpoint.authority,
        "state": endpoint.state.as_str(),
        "reason": endpoint.reason.as_str(),
        "since_seconds": since(endpoint.since, now),
        "weight": endpoint.weight,
        "in_flight": endpoint.in_flight,
    })
}

fn endpoint(endpoint: &EndpointReport, now: Instant) -> Value {
    json!({
        "authority": &*endpoint.authority,
        "state": endpoint.state.as_str(),
        "reason": endpoint.reason.as_str(),
        "detail": endpoint.detail.as_deref(),
        "since_seconds": since(endpoint.since, now),
        "until_seconds": endpoint.until.map(|at| until(at, now)),
        "in_flight": endpoint.in_flight,
        "weight": endpoint.weight,
        "effective_weight": endpoint.effective_weight,
        "zone": endpoint.zone.as_deref(),
        "priority": endpoint.priority,
        "latency_seconds": endpoint.latency.map(|latency| latency.as_secs_f64()),
        "ejections": endpoint.ejections,
        "strikes": endpoint.strikes,
        "requests": endpoint.requests,
        "failures": endpoint.failures,
        "failed_checks": endpoint.failed_checks,
        "breaker": { "state": endpoint.breaker.as_str(), "opened": endpoint.breaker_opened },
    })
}

fn breaker(settings: &CircuitBreaker) -> Value {
    let per = match settings.per {
        BreakerScope::Endpoint => "endpoint",
        BreakerScope::Service => "service",
    };
    let trip = match settings.trip {
        Trip::Consecutive(failures) => json!({ "consecutive_failures": failures }),
        Trip::Ratio { share, min_requests, window } => {
            json!({ "failure_ratio": share, "min_requests": min_requests, "window_seconds": seconds(window) })
        }
    };
    json!({
        "per": per,
        "trip": trip,
        "open_seconds": seconds(settings.open),
        "half_open_requests": settings.half_open_requests,
    })
}

fn discovery(report: &ServiceReport) -> Value {
    let kind = match report.config.discovery {
        None => return Value::Null,
        Some(Discovery::Dns(_)) => "dns",
        Some(Discovery::Consul(_)) => "consul",
        Some(Discovery::Etcd(_)) => "etcd",
        Some(Discovery::File(_)) => "file",
        Some(Discovery::Kubernetes(_)) => "kubernetes",
        Some(Discovery::Registry(_)) => "registry",
    };
    match report.discovery {
        None => json!({ "kind": kind }),
        Some(fares) => json!({
            "kind": kind,
            "failures": fares.failures,
            "last_success": fares.last_success.map(timestamp),
        }),
    }
}

fn strategy(config: &Service) -> &'static str {
    match config.balancing {
        Balancing::RoundRobin => "round_robin",
        Balancing::LeastConnections => "least_connections",
        Balancing::LeastTime => "least_time",
        Balancing::PowerOfTwo => "p2c",
        Balancing::Random => "random",
        Balancing::IpHash => "ip_hash",
        Balancing::ConsistentHash(_) => "consistent_hash",
        Balancing::StickyCookie(_) => "sticky_cookie",
    }
}

fn since(at: Instant, now: Instant) -> f64 {
    seconds(now.saturating_duration_since(at))
}

fn until(at: Instant, now: Instant) -> f64 {
    seconds(at.saturating_duration_since(now))
}

/// To the millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000.0).round() / 1_000.0
}
