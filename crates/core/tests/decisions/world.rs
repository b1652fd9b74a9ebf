//! Requests, peers and routes in a few words.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use tidegate_config::config::{ClientCertMatch, FieldMatch, Match, PathRewrite, Rewrite, Route, Target, ValueMatch};
use tidegate_config::problem::Path;
use tidegate_config::value::PathPattern;
use tidegate_core::client::{ClientCert, Networks, Peer};
use tidegate_core::route::Head;
use tidegate_http1::{Fields, RequestHead, Version};

/// Fields from lines of `name: value`.
pub(crate) fn fields(lines: &[&str]) -> Fields {
    let mut fields = Fields::new();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("name: value");
        fields.append(name, value.as_bytes()).expect("a valid field");
    }
    fields
}

/// The lines of `fields`, lower-case names.
pub(crate) fn lines(fields: &Fields) -> Vec<String> {
    let line =
        |f: tidegate_http1::Field<'_>| format!("{}: {}", f.name.to_lowercase(), String::from_utf8_lossy(f.value));
    fields.iter().map(line).collect()
}

/// All values of a field, joined.
pub(crate) fn value(fields: &Fields, name: &str) -> String {
    let values: Vec<_> = fields.values(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    values.join(" | ")
}

pub(crate) fn head(method: &str, target: &str, lines: &[&str]) -> RequestHead {
    RequestHead {
        method: method.parse().expect("a method"),
        target: target.to_owned(),
        version: Version::Http11,
        fields: fields(lines),
    }
}

pub(crate) fn networks(texts: &[&str]) -> Networks {
    Networks::new(&texts.iter().map(|text| text.parse().expect("a network")).collect::<Vec<_>>())
}

/// A peer on a plain listener at port 8080; `trusted` are the proxies.
pub(crate) fn peer(address: &str, trusted: &[&str]) -> Peer {
    let socket = (address.parse::<IpAddr>().expect("an address"), 5555).into();
    Peer::new(socket, Arc::from("default"), 8080, &networks(trusted))
}

/// A request for routing: `GET http://host/path?query` and fields.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) fields: Fields,
    pub(crate) client_ip: IpAddr,
    pub(crate) listener: &'static str,
    pub(crate) cert: Option<ClientCert>,
}

pub(crate) fn ask(request: &str) -> Asked {
    let (method, url) = request.split_once(' ').expect("METHOD url");
    let (host, target) = match url.strip_prefix("http://") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", url),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Asked {
        method: method.parse().expect("a method"),
        host: host.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        fields: Fields::new(),
        client_ip: IpAddr::from([192, 0, 2, 1]),
        listener: "default",
        cert: None,
    }
}

impl Asked {
    pub(crate) fn with(mut self, lines: &[&str]) -> Self {
        self.fields = fields(lines);
        self
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            host: &self.host,
            path: &self.path,
            query: &self.query,
            method: &self.method,
            fields: &self.fields,
            client_ip: self.client_ip,
            listener: self.listener,
            cert: self.cert.as_ref(),
        }
    }
}

/// A route in one line: `name | /path | host=a.test | method=GET | priority=1 | header:x-a=1 | ...`. A path that ends in `**` is a
/// prefix.
pub(crate) fn route(line: &str) -> Arc<Route> {
    let mut parts = line.split(" | ").map(str::trim);
    let name = parts.next().expect("a name");
    let mut route = bare(name, parts.next().expect("a path"));
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "host" => route.matches.hosts.push(value.parse().expect("a host")),
            "method" => route.matches.methods.push(value.parse().expect("a method")),
            "priority" => route.priority = value.parse().expect("a number"),
            "ip" => route.matches.client_ip.push(value.parse().expect("a network")),
            "listener" => route.matches.listeners.push(value.into()),
            "subject" => {
                let cert = route.matches.client_cert.get_or_insert_with(ClientCertMatch::default);
                cert.subjects.push(value.into());
            }
            "strip" => route.rewrite.path = Some(PathRewrite::StripPrefix(value.into())),
            "path" => route.rewrite.path = Some(PathRewrite::Replace(value.parse().expect("a template"))),
            "to-host" => route.rewrite.host = Some(value.parse().expect("a template")),
            "drop" => route.rewrite.query_remove.push(value.into()),
            _ => condition(&mut route, key, value),
        }
    }
    Arc::new(route)
}

fn condition(route: &mut Route, key: &str, value: &str) {
    let (kind, name) = key.split_once(':').expect("kind:name");
    if kind == "set" {
        return route.rewrite.query_set.push((name.into(), value.parse().expect("a template")));
    }
    let is = match value {
        "present" => ValueMatch::Present,
        "absent" => ValueMatch::Absent,
        _ => match value.strip_prefix('~') {
            Some(regex) => ValueMatch::Regex(regex::Regex::new(regex).expect("a regex")),
            None => ValueMatch::Exact(value.into()),
        },
    };
    let list = match kind {
        "header" => &mut route.matches.headers,
        "query" => &mut route.matches.query,
        "cookie" => &mut route.matches.cookies,
        _ => panic!("no such condition: {key}"),
    };
    list.push(FieldMatch { name: name.into(), is });
}

fn bare(name: &str, path: &str) -> Route {
    let pattern = match path.strip_suffix("**") {
        Some("/") => Ok(PathPattern::everything()),
        Some(prefix) => PathPattern::prefix(prefix),
        None => PathPattern::exact(path),
    };
    Route {
        retry: tidegate_config::config::RouteRetry::OfService,
        mirror: None,
        fault: None,
        name: name.into(),
        priority: 0,
        matches: Match {
            hosts: Vec::new(),
            path: pattern.expect("a path"),
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            client_ip: Vec::new(),
            listeners: Vec::new(),
            client_cert: None,
        },
        target: Target::Service("service".into()),
        rewrite: Rewrite::default(),
        timeout: None,
        body_limit: None,
        policies: Vec::new(),
        shadow: Vec::new(),
        upgrade: Vec::new(),
        at: Path::root().join("routes").join(name),
    }
}
