//! `tidegate demo`: three small services and a gateway in front of them, all in this process and on loopback. It shows; it is not
//! meant to serve anything else.

mod services;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use tidegate_config::Memory;

pub(crate) use services::Services;

use crate::reload::Origin;

/// How many ports after the wanted one are tried.
const PORTS: u16 = 100;

/// The configuration, with the places that depend on this machine filled in.
pub(crate) struct Demo {
    pub(crate) yaml: String,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Demo {
    /// Finds ports for the gateway; the services have theirs.
    pub(crate) fn prepare(services: &Services, port: u16) -> io::Result<Self> {
        let address = free_from(port)?;
        let admin = free_from(if address.port() < 9900 { 9900 } else { address.port().saturating_add(1) })?;
        let yaml = include_str!("gateway.yaml")
            .replace("PORT-OF-GATEWAY", &address.port().to_string())
            .replace("PORT-OF-ADMIN", &admin.port().to_string())
            .replace("PORT-OF-USERS", &services.users.port().to_string())
            .replace("PORT-OF-ORDERS", &services.orders.port().to_string())
            .replace("PORT-OF-ECHO", &services.echo.port().to_string());
        Ok(Self { yaml, address, admin })
    }

    pub(crate) fn origin(&self) -> Origin {
        let file = PathBuf::from("demo.yaml");
        let source = Memory::new().with(&file, self.yaml.as_str());
        Origin { file, environment: Vec::new(), source: Box::new(source) }
    }

    /// What a newcomer should try, one line each.
    pub(crate) fn to_try(&self) -> [(String, &'static str); 5] {
        let Self { address, admin, .. } = self;
        [
            (format!("curl -i http://{address}/users/7"), "routed by its path: /users/{id}"),
            (format!("curl -H 'x-debug: 1' http://{address}/orders"), "by a header: what the service would get"),
            (format!("curl -N http://{address}/events"), "a stream, every event at once (Ctrl-C)"),
            (format!("curl 'http://{address}/api/v1/things?x=1'"), "a rewritten path"),
            (format!("curl -s http://{admin}/metrics | grep requests_total"), "what has happened so far"),
        ]
    }
}

/// The first free port from `wanted` on.
fn free_from(wanted: u16) -> io::Result<SocketAddr> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in wanted..=wanted.saturating_add(PORTS) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(socket) => return socket.local_addr(),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_demo_s_configuration_is_valid() {
        let services = Services::start().expect("three ports");
        let demo = Demo::prepare(&services, 20_080).expect("two ports");
        let (loaded, _) = demo.origin().load();
        let checked = loaded.map_err(|refused| refused.document.render(&refused.problems, false)).expect("valid");
        assert!(checked.warnings.is_empty());
        assert!(!demo.yaml.contains("PORT-OF"), "{}", demo.yaml);
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let Ok(found) = free_from(port) else { return };
        assert_ne!(found.port(), port);
    }
}
