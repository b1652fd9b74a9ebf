//! `services`: addresses, pools, timeouts; what happens when an endpoint is slow, sick or gone is in the modules below.

mod balancing;
mod discovery;
mod health;
mod protection;
mod retry;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::url::parse_url;
use crate::config::{Endpoint, Pool, Service, ServiceTimeouts, UpstreamProtocol, UpstreamTls};
use crate::file::{
    AnyText, EndpointFile, PoolFile, ProtocolFile, ServiceFile, ServiceTimeoutsFile, TextOr, UpstreamTlsFile,
};
use crate::merge;
use crate::problem::{Path, Problem};
use crate::resolve::files::Pem;
use crate::resolve::{OWN_FIELDS, Resolver, Services};
use crate::tree::Node;
use crate::value::{self, FieldName, HostPattern};

/// What `deadline_header: on` means.
const DEADLINE_HEADER: &str = "x-request-timeout-ms";

/// The greatest weight of an endpoint: more would only cost memory.
pub const MAX_WEIGHT: u32 = 10_000;

impl Resolver<'_> {
    pub(super) fn services(&mut self, tree: &Node) -> Services {
        let root = Path::root().join("services");
        let mut services = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (name, node) in self.named(tree, "services") {
            names.insert(Arc::clone(&name));
            if self.is_full() {
                continue;
            }
            if let Some(service) = self.service(&name, node, &root.join(&name)) {
                services.insert(name, Arc::new(service));
            }
        }
        self.check_fallbacks(&services, &names);
        self.check_registries(&services);
        Services { services, names }
    }

    fn service(&mut self, name: &Arc<str>, node: &Node, at: &Path) -> Option<Service> {
        if let Some(text) = node.as_text() {
            let problem = Problem::error(at.clone(), format!("expected a mapping of keys to values, found `{text}`"));
            self.push(problem.help(format!("write `{name}: {{ url: {text} }}`")));
            return None;
        }
        let file: ServiceFile = self.read(node, at)?;
        if node.is_null() {
            self.endpoints(&file, at);
            return None;
        }
        let endpoints = self.endpoints(&file, at);
        let uses_tls = file.discovery.is_some() || endpoints.iter().any(|endpoint| endpoint.tls);
        if !uses_tls && file.tls.is_some() && !endpoints.is_empty() && !self.tls_is_inherited(at) {
            let problem =
                Problem::warning(at.join("tls"), "no endpoint of this service speaks TLS, so `tls` does nothing")
                    .on_key();
            self.push(problem.help("write `https://` in its URL"));
        }
        Some(Service {
            name: Arc::clone(name),
            endpoints,
            discovery: file.discovery.and_then(|file| self.discovery(file, name, &at.join("discovery"))),
            protocol: match file.protocol {
                Some(ProtocolFile::Http1) => UpstreamProtocol::Http1,
                Some(ProtocolFile::Http2) => UpstreamProtocol::Http2,
                Some(ProtocolFile::Auto) | None => UpstreamProtocol::Auto,
            },
            tls: self.upstream_tls(file.tls, &at.join("tls")),
            timeouts: self.service_timeouts(file.timeouts, node, &at.join("timeouts")),
            pool: self.pool(file.pool, &at.join("pool")),
            balancing: self.balancing(file.load_balancing, &at.join("load_balancing")),
            health: file.health.map(|file| self.health(file, &at.join("health"))),
            outliers: file.outlier_detection.map(|file| self.outliers(&file, &at.join("outlier_detection"))),
            slow_start: file.slow_start.map_or(Duration::ZERO, |duration| duration.0),
            panic_threshold: file.panic_threshold.map(|share| share.0),
            breaker: file.circuit_breaker.map(|file| self.breaker(&file, &at.join("circuit_breaker"))),
            retry: file.retry.map(|file| self.service_retry(&file, &at.join("retry"))),
            hedge: file.hedge.map(|file| self.hedge(&file, &at.join("hedge"))),
            concurrency: file.concurrency.map(|file| self.concurrency(&file, &at.join("concurrency"))),
            fallback: file.fallback.and_then(|file| self.fallback(&file, &at.join("fallback"))),
            deadline_header: file
                .deadline_header
                .map(|FieldName(header)| self.deadline_header(header, node, &at.join("deadline_header"))),
            at: at.clone(),
        })
    }

    /// A service for the address in `url`, with the defaults of all services, and the URL's path and query.
    pub(crate) fn own_service(&mut self, at: &Path, name: &str, url: &str) -> Option<(Arc<str>, String)> {
        let after_scheme = url.find("://").map_or(0, |at| at + "://".len());
        let end = url
            .get(after_scheme..)
            .and_then(|rest| rest.find(['/', '?', '#']))
            .map_or(url.len(), |at| after_scheme + at);
        let (base, target) = url.split_at(end);
        if let Err(invalid) = parse_url(base) {
            self.invalid(at, invalid);
            return None;
        }
        let name: Arc<str> = name.into();
        let node = merge::own_service(&self.document.tree, base);
        let service = self.service(&name, &node, at)?;
        self.own_services.push(Arc::new(service));
        let target = target.split('#').next().unwrap_or_default();
        Some((name, if target.starts_with('/') { target.to_owned() } else { format!("/{target}") }))
    }

    fn deadline_header(&mut self, header: Arc<str>, service: &Node, path: &Path) -> Arc<str> {
        if service.get("deadline_header").is_some_and(Node::is_on) {
            return DEADLINE_HEADER.into();
        }
        if OWN_FIELDS.contains(&&*header) || &*header == "host" {
            let problem = Problem::error(path.clone(), format!("`{header}` has a meaning of its own"));
            self.push(problem.help(format!("write `deadline_header: {DEADLINE_HEADER}`")));
        }
        header
    }

    /// Whether `tls` comes from `defaults.service` as a whole: then it is meant for other services too.
    fn tls_is_inherited(&self, at: &Path) -> bool {
        let default = Path::root().join("defaults").join("service").join("tls");
        let origin = |path: &Path| self.document.tree.find(path).map(|node| node.origin.clone());
        origin(&default).is_some_and(|default| origin(&at.join("tls")) == Some(default))
    }

    fn endpoints(&mut self, file: &ServiceFile, at: &Path) -> Vec<Endpoint> {
        if let Some(url) = &file.url {
            if file.endpoints.is_some() {
                self.push(
                    Problem::error(
                        at.join("url"),
                        "`url` is the short form of one endpoint, but there are `endpoints` too",
                    )
                    .on_key()
                    .help("keep one of them"),
                );
            }
            return self.endpoint(&at.join("url"), url, None).into_iter().collect();
        }
        let Some(written) = &file.endpoints else {
            let excused = ["endpoints", "discovery"].iter().any(|key| self.is_excused(&at.join(key)));
            if file.discovery.is_none() && !excused {
                self.missing(
                    at,
                    "url",
                    "a service needs an address: `url: http://127.0.0.1:9001`, several `endpoints`, or a `discovery`",
                );
            }
            return Vec::new();
        };
        if written.is_empty() && file.discovery.is_none() && !self.is_excused(&at.join("endpoints")) {
            self.error(&at.join("endpoints"), "a service needs at least one endpoint");
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for (position, written) in written.iter().enumerate() {
            let path = at.join("endpoints").index(position);
            endpoints.extend(self.listed_endpoint(written, &path));
        }
        endpoints
    }

    fn listed_endpoint(&mut self, written: &TextOr<EndpointFile>, path: &Path) -> Option<Endpoint> {
        let file = match written {
            TextOr::Text(AnyText(url)) => return self.endpoint(path, url, None),
            TextOr::Full(file) => file,
        };
        if file.weight.is_some_and(|weight| weight > MAX_WEIGHT) {
            self.error(&path.join("weight"), format!("a weight is at most {MAX_WEIGHT}"));
        }
        let Some(url) = &file.url else {
            self.missing(path, "url", "write `url: http://10.0.0.1:8080`");
            return None;
        };
        self.endpoint(&path.join("url"), url, Some(file))
    }

    fn endpoint(&mut self, path: &Path, url: &str, file: Option<&EndpointFile>) -> Option<Endpoint> {
        match parse_url(url) {
            Ok(endpoint) => Some(Endpoint {
                weight: file.and_then(|file| file.weight).unwrap_or(1),
                zone: file.and_then(|file| file.zone.as_ref()).map(|zone| Arc::clone(&zone.0)),
                priority: file.and_then(|file| file.priority).unwrap_or(0),
                ..endpoint
            }),
            Err(invalid) => {
                self.invalid(path, invalid);
                None
            }
        }
    }

    fn upstream_tls(&mut self, file: Option<UpstreamTlsFile>, path: &Path) -> UpstreamTls {
        let Some(file) = file else { return UpstreamTls::default() };
        let ca = file.ca.and_then(|name| self.pem(&path.join("ca"), &name, Pem::Certificate));
        let server_name = file.server_name.and_then(|name| {
            if let Ok(HostPattern::Exact(name)) = name.parse::<HostPattern>() {
                return Some(name);
            }
            let problem = Problem::error(path.join("server_name"), format!("`{name}` is not the name of a host"));
            self.push(problem.help("write it as it stands in the certificate"));
            None
        });
        let client = match (&file.client_cert, &file.client_key) {
            (None, None) => None,
            (cert, key) => self.certificate(path, ("client_cert", cert.as_deref()), ("client_key", key.as_deref())),
        };
        UpstreamTls { ca, server_name, client }
    }

    fn service_timeouts(&mut self, file: Option<ServiceTimeoutsFile>, service: &Node, path: &Path) -> ServiceTimeouts {
        let file = file.unwrap_or(ServiceTimeoutsFile { connect: None, read: None, write: None });
        let fallback = value::Duration(Duration::from_secs(5));
        let connect = if service.get("timeouts").is_some_and(Node::is_off) {
            fallback
        } else {
            self.required(&path.join("connect"), file.connect, fallback)
        };
        ServiceTimeouts {
            connect: self.positive(&path.join("connect"), Some(connect)),
            read: self.positive(&path.join("read"), file.read),
            write: self.positive(&path.join("write"), file.write),
        }
    }

    /// `pool: off` keeps no connection.
    fn pool(&mut self, file: Option<PoolFile>, path: &Path) -> Pool {
        let Some(file) = file else {
            return Pool {
                max_idle: 0,
                idle_timeout: Duration::from_secs(1),
                max_connections: 0,
                max_age: Duration::ZERO,
                max_requests: 0,
            };
        };
        Pool {
            max_idle: to_usize(file.max_idle.unwrap_or(0)),
            idle_timeout: self.positive(&path.join("idle_timeout"), file.idle_timeout),
            max_connections: to_usize(file.max_connections.unwrap_or(0)),
            max_age: file.max_age.map_or(Duration::ZERO, |age| age.0),
            max_requests: file.max_requests.unwrap_or(0),
        }
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
