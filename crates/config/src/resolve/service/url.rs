//! The address of an endpoint.

use std::sync::Arc;

use crate::config::Endpoint;
use crate::value::{HostPattern, Invalid};

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
