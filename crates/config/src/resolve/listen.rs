//! Addresses to listen on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::problem::{Path, Problem};
use crate::resolve::Resolver;

impl Resolver<'_> {
    /// What `host` and `port` of the object mean.
    pub(super) fn addresses(&mut self, object: &Path, host: Option<&str>, port: Option<u16>) -> Vec<SocketAddr> {
        let hosts = self.hosts(object, host);
        let Some(port) = port else {
            self.missing(object, "port", "write `port: 8080`, or `port: 0` for any free one");
            return Vec::new();
        };
        hosts.into_iter().map(|host| SocketAddr::new(host, port)).collect()
    }

    fn hosts(&mut self, object: &Path, host: Option<&str>) -> Vec<IpAddr> {
        let Some(host) = host else {
            self.missing(object, "host", "write `host: 0.0.0.0` for every address of this machine");
            return Vec::new();
        };
        hosts(host).unwrap_or_else(|| {
            let problem = Problem::error(object.join("host"), format!("`{host}` is not an address of this machine"));
            self.push(
                problem.help(
                    "write an IP address, `localhost`, `0.0.0.0` for every IPv4 address, or `::` for every address",
                ),
            );
            Vec::new()
        })
    }
}

/// Names are not looked up: that would make the meaning of a file depend on when it is read.
fn hosts(host: &str) -> Option<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok().map(|address| vec![address])
}

/// Whether two sockets get in each other's way: the same port, and one address contains the other.
pub fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    if a.port() != b.port() {
        return false;
    }
    let everything = |address: IpAddr| address == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let same_family = a.is_ipv4() == b.is_ipv4();
    a.ip() == b.ip()
        || everything(a.ip())
        || everything(b.ip())
        || (same_family && (a.ip().is_unspecified() || b.ip().is_unspecified()))
}
