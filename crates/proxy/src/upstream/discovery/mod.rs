//! Endpoints that others know about: names, registries, files. A provider asks one kind of source and publishes whole sets; what
//! went wrong never takes away what was known before.

mod backoff;
mod consul;
mod dns;
mod etcd;
mod file;
mod kubernetes;
mod publisher;
#[cfg(test)]
mod testing;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_config::config::{self, Discovery, UpstreamProtocol};
use tidegate_config::problem::{self, Problems};
use tidegate_config::value::HostPattern;

use self::backoff::Backoff;
pub(crate) use self::publisher::{News, Publisher};
use super::client::Client;
use super::means::Means;
use super::tls::{self, SystemRoots};
use crate::alarm::pause;
use crate::tasks::{self, Task, spawn_local};

/// Reads a file; it may block.
pub(crate) type ReadFile = dyn Fn(&Path) -> io::Result<Vec<u8>> + Send + Sync;

/// What providers work with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) means: Means,
    pub(crate) roots: Rc<SystemRoots>,
    pub(crate) read: Arc<ReadFile>,
    /// Where the chance of waiting times begins.
    pub(crate) seed: u64,
}

/// A kind of source. The next one is a file that implements this, and a line in [`start`].
pub(crate) trait Provider {
    /// Asks, publishes what it learns as whole sets, and returns how long to wait before it is to be asked again. It may go on for
    /// as long as the source keeps telling of changes.
    ///
    /// # Errors
    /// Why the source could not be asked, in words for operators. It is asked again after a while that grows.
    async fn ask(&mut self, news: &Publisher) -> Result<Duration, String>;
}

/// Asks for the endpoints of `service` until the task is dropped. Nothing is waited for: what is known is told to `publish`.
pub(crate) fn start(
    discovery: &Discovery,
    service: &config::Service,
    context: &Context,
    publish: Rc<dyn Fn(News)>,
) -> Task {
    let news = Publisher::new(Arc::clone(&service.name), publish);
    let at = service.at.join("discovery");
    match discovery {
        Discovery::Dns(config) => spawn(Ok(dns::Dns::new(config, context)), news, context),
        Discovery::Consul(config) => spawn(consul::Consul::new(config, context, &at.join("consul")), news, context),
        Discovery::File(path) => spawn(Ok(file::File::new(path, context)), news, context),
        Discovery::Etcd(config) => spawn(etcd::Etcd::new(config, context, &at.join("etcd")), news, context),
        Discovery::Kubernetes(config) => {
            let kubernetes = kubernetes::Kubernetes::new(config, context, &at.join("kubernetes"));
            spawn(kubernetes, news, context)
        }
        // Those who register are heard by `Upstreams`.
        Discovery::Registry(_) => spawn_local(async {}),
    }
}

/// What would keep a discovery from being started: authorities and certificates that cannot be used.
///
/// # Errors
/// All of that; `at` is the path of the service.
pub(crate) fn check(discovery: &Discovery, roots: &SystemRoots, at: &problem::Path) -> Result<(), Problems> {
    let (key, servers) = match discovery {
        Discovery::Consul(config) => ("consul", std::slice::from_ref(&config.address)),
        Discovery::Etcd(config) => ("etcd", config.addresses.as_slice()),
        Discovery::Kubernetes(config) => ("kubernetes", config.api_server.as_slice()),
        Discovery::Dns(_) | Discovery::File(_) | Discovery::Registry(_) => return Ok(()),
    };
    let at = at.join("discovery").join(key).join("tls");
    let mut problems = Problems::new();
    for server in servers.iter().filter(|server| server.endpoint.tls) {
        if let Err(found) = tls::client_config(&server.tls, UpstreamProtocol::Http1, roots, &at) {
            problems.extend(found);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn spawn(provider: Result<impl Provider + 'static, Problems>, news: Publisher, context: &Context) -> Task {
    let clock = context.means.clock.clone();
    let mut backoff = Backoff::new(context.seed);
    spawn_local(async move {
        let mut provider = match provider {
            Ok(provider) => provider,
            // `check` has told them before; without trust there is nobody to ask.
            Err(problems) => return news.failed(problems.to_string()),
        };
        loop {
            let wait = match provider.ask(&news).await {
                Ok(wait) => {
                    news.answered();
                    wait
                }
                Err(why) => {
                    news.failed(why);
                    backoff.after(news.failures())
                }
            };
            pause(&clock, wait).await;
        }
    })
}

impl Context {
    async fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (read, path) = (Arc::clone(&self.read), path.to_owned());
        let gone = || Err(io::Error::other("the reading of the file was broken off"));
        tasks::blocking(move || read(&path)).await.unwrap_or_else(gone)
    }

    fn client(&self, server: &config::ApiServer, at: &problem::Path) -> Result<Client, Problems> {
        Client::new(server, &self.roots, &self.means, &at.join("tls"))
    }
}

/// An endpoint of weight 1 at a host and a port that somebody told; `None` if these cannot be connected to.
fn endpoint(tls: bool, host: &str, port: u16) -> Option<config::Endpoint> {
    let host: Arc<str> = match host.parse::<IpAddr>() {
        Ok(address) => address.to_string().into(),
        Err(_) => match host.parse::<HostPattern>() {
            Ok(HostPattern::Exact(name)) => name,
            Ok(HostPattern::Wildcard(_) | HostPattern::Any) | Err(_) => return None,
        },
    };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let authority = if port == usual_port(tls) { bracketed } else { format!("{bracketed}:{port}") };
    let authority = authority.into();
    (port > 0).then_some(config::Endpoint { tls, host, port, authority, weight: 1, zone: None, priority: 0 })
}

/// The port that goes without saying.
fn usual_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use tidegate_config::config::{ApiServer, EtcdDiscovery, FileText, UpstreamTls};

    use super::testing::tell;
    use super::*;

    #[test]
    fn what_others_tell_becomes_an_endpoint_only_if_it_can_be_connected_to() {
        let authority = |tls, host, port| endpoint(tls, host, port).map(|endpoint| endpoint.authority.to_string());
        for (told, authority) in [
            (authority(false, "10.0.0.1", 80), Some("10.0.0.1")),
            (authority(true, "10.0.0.1", 80), Some("10.0.0.1:80")),
            (authority(true, "10.0.0.1", 443), Some("10.0.0.1")),
            (authority(false, "fd00:0:0::1", 8080), Some("[fd00::1]:8080")),
            (authority(false, "a-b.test", 8080), Some("a-b.test:8080")),
            (authority(false, "10.0.0.1", 0), None),
            (authority(false, "", 80), None),
            (authority(false, "*", 80), None),
            (authority(false, "*.test", 80), None),
            (authority(false, "a.test:90", 80), None),
            (authority(false, "a.test/b", 80), None),
            (authority(false, "me@a.test", 80), None),
        ] {
            assert_eq!(told.as_deref(), authority);
        }
    }

    #[test]
    fn authorities_that_cannot_be_read_are_a_problem_before_anything_starts() {
        let ca = Some(FileText { path: "ca.pem".into(), bytes: b"nonsense".as_slice().into() });
        let server = ApiServer {
            endpoint: endpoint(true, "etcd.test", 2379).unwrap(),
            tls: UpstreamTls { ca, ..UpstreamTls::default() },
        };
        let etcd = EtcdDiscovery { addresses: vec![server], prefix: "/".into(), user: None };
        let at = problem::Path::root().join("services").join("one");
        let problems = check(&Discovery::Etcd(etcd.clone()), &SystemRoots::default(), &at).unwrap_err();
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.to_string()).collect();
        assert_eq!(paths, ["services.one.discovery.etcd.tls.ca"]);
        // Who starts it all the same is told, and nobody is asked without trust.
        tell(&Discovery::Etcd(etcd), |world| async move {
            assert!(world.failure().await.starts_with("services.one.discovery.etcd.tls.ca: "));
            assert!(!world.was_called().await);
        });
    }
}
