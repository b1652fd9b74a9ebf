//! `services`: addresses, pools, timeouts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Endpoint, Pool, Service, ServiceTimeouts, UpstreamProtocol, UpstreamTls};
use crate::file::{EndpointFile, PoolFile, ProtocolFile, ServiceFile, ServiceTimeoutsFile, TextOr, UpstreamTlsFile};
use crate::problem::{Path, Problem};
use crate::resolve::files::Pem;
use crate::resolve::{Resolver, Services};
use crate::tree::Node;
use crate::value::{self, HostPattern, Invalid};

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
        Services { services, names }
    }

    fn service(&mut self, name: &Arc<str>, node: &Node, at: &Path) -> Option<Service> {
        if let Some(text) = node.as_text() {
            let problem = Problem::error(at.clone(), format!("expected a mapping of keys to values, found `{text}`"));
            self.push(problem.help(format!("write `{name}: {{ url: {text} }}`")));
            return None;
        }
        let file: ServiceFile = self.read(node, at)?;
        let endpoints = self.endpoints(&file, at);
        let uses_tls = endpoints.iter().any(|endpoint| endpoint.tls);
        if !uses_tls && file.tls.is_some() && !endpoints.is_empty() && !self.tls_is_inherited(at) {
            let problem =
                Problem::warning(at.join("tls"), "no endpoint of this service speaks TLS, so `tls` does nothing")
                    .on_key();
            self.push(problem.help("write `https://` in its URL"));
        }
        Some(Service {
            name: Arc::clone(name),
            endpoints,
            protocol: match file.protocol {
                Some(ProtocolFile::Http1) => UpstreamProtocol::Http1,
                Some(ProtocolFile::Http2) => UpstreamProtocol::Http2,
                Some(ProtocolFile::Auto) | None => UpstreamProtocol::Auto,
            },
            tls: self.upstream_tls(file.tls, &at.join("tls")),
            timeouts: self.service_timeouts(file.timeouts, node, &at.join("timeouts")),
            pool: self.pool(file.pool, &at.join("pool")),
            discovery: None,
            balancing: crate::config::Balancing::RoundRobin,
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
            at: at.clone(),
        })
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
            return self.endpoint(&at.join("url"), url, 1, None).into_iter().collect();
        }
        let Some(written) = &file.endpoints else {
            let is_discovered = self.document.tree.find(&at.join("discovery")).is_some();
            if !is_discovered && !self.is_excused(&at.join("endpoints")) {
                self.missing(
                    at,
                    "url",
                    "a service needs an address: `url: http://127.0.0.1:9001`, or several `endpoints`",
                );
            }
            return Vec::new();
        };
        if written.is_empty() && !self.is_excused(&at.join("endpoints")) {
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
            TextOr::Text(url) => return self.endpoint(path, url, 1, None),
            TextOr::Full(file) => file,
        };
        let weight = file.weight.unwrap_or(1);
        if weight > MAX_WEIGHT {
            self.error(&path.join("weight"), format!("a weight is at most {MAX_WEIGHT}"));
        }
        let Some(url) = &file.url else {
            self.missing(path, "url", "write `url: http://10.0.0.1:8080`");
            return None;
        };
        self.endpoint(&path.join("url"), url, weight, file.zone.as_ref().map(|zone| Arc::clone(&zone.0)))
    }

    fn endpoint(&mut self, path: &Path, url: &str, weight: u32, zone: Option<Arc<str>>) -> Option<Endpoint> {
        match parse_url(url) {
            Ok(endpoint) => Some(Endpoint { weight, zone, ..endpoint }),
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

/// `http://host:port` or `https://host:port`, and nothing more.
pub(crate) fn parse_url(url: &str) -> Result<Endpoint, Invalid> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(Invalid::new(format!("`{}` is not a URL", without_userinfo(url)))
            .help(format!("write `http://{}`", without_userinfo(url))));
    };
    let tls = match &*scheme.to_ascii_lowercase() {
        "http" => false,
        "https" => true,
        "h2c" | "grpc" => {
            return Err(Invalid::new(format!("`{scheme}` is not a scheme of URLs here"))
                .help("write `http://`, and `protocol: http2` in the service"));
        }
        "grpcs" | "h2" => {
            return Err(Invalid::new(format!("`{scheme}` is not a scheme of URLs here"))
                .help("write `https://`, and `protocol: http2` in the service"));
        }
        "ws" | "wss" => {
            return Err(Invalid::new(format!("`{scheme}` is not a scheme of URLs here"))
                .help("write `http://` or `https://`: WebSockets begin as HTTP"));
        }
        _ => {
            return Err(
                Invalid::new(format!("`{scheme}` is not a scheme of URLs here")).help("write `http://` or `https://`")
            );
        }
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Invalid::new("a URL of a service has no user or password")
            .help("leave it out: what services are told about users comes from the request"));
    }
    let scheme = if tls { "https" } else { "http" };
    if !matches!(after, "" | "/") {
        let help = match after.split(['?', '#']).next() {
            Some("" | "/") | None => format!("write `{scheme}://{authority}`"),
            Some(path) => format!(
                "write `{scheme}://{authority}`, and in the route `rewrite: {{ path: \"{}/{{path.rest}}\" }}`",
                path.trim_end_matches('/')
            ),
        };
        return Err(
            Invalid::new(format!("a service is a host and a port, but this URL goes on with `{after}`")).help(help)
        );
    }
    let (host, port) = host_and_port(authority)?;
    let port = port.unwrap_or(if tls { 443 } else { 80 });
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let is_usual = port == if tls { 443 } else { 80 };
    let authority = if is_usual { bracketed } else { format!("{bracketed}:{port}") };
    Ok(Endpoint { tls, host, port, authority: authority.into(), weight: 1, zone: None, priority: 0 })
}

fn without_userinfo(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

/// The host without brackets, and the port where one is written.
fn host_and_port(authority: &str) -> Result<(Arc<str>, Option<u16>), Invalid> {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = authority.get(after_bracket..).and_then(|rest| rest.find(':')).map(|at| at + after_bracket);
    let (host, port) = match colon.and_then(|at| authority.split_at_checked(at)) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => (authority, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => {
            return Err(Invalid::new(format!("`{}` is not a port", port.unwrap_or_default()))
                .help("ports are numbers from 1 to 65535"));
        }
    };
    if host.is_empty() {
        return Err(Invalid::new("the URL has no host").help("write `http://host:port`"));
    }
    match host.parse::<HostPattern>()? {
        HostPattern::Exact(name) => Ok((name.trim_start_matches('[').trim_end_matches(']').into(), port)),
        HostPattern::Wildcard(_) | HostPattern::Any => {
            Err(Invalid::new(format!("`{host}` is not the name of one host")))
        }
    }
}
