//! Names: A, AAAA and SRV records, asked for again when their time is over.

mod message;
mod resolver;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tidegate_config::config::{DnsDiscovery, DnsRecords, Endpoint};

use self::message::Kind;
use self::resolver::Unanswered;
use super::{Context, Provider, Publisher, endpoint, usual_port};

/// No answer is used for longer, whatever its TTL: a mistake in a zone ends within the hour.
const LONGEST: Duration = Duration::from_hours(1);

/// No answer is used for a shorter time: one of TTL 0 must not become a question for every moment.
const SHORTEST: Duration = Duration::from_secs(1);

pub(super) struct Dns {
    config: DnsDiscovery,
    context: Context,
}

/// What a question needs to know.
struct Asking<'a> {
    dns: &'a Dns,
    servers: Vec<SocketAddr>,
    /// The machine's own table of names.
    hosts: Vec<u8>,
    doubts: Vec<String>,
    /// Seconds that everything holds that was learnt so far.
    ttl: u32,
}

impl Dns {
    pub(super) fn new(config: &DnsDiscovery, context: &Context) -> Self {
        Self { config: config.clone(), context: context.clone() }
    }

    /// Servers that are configured stand alone; without them the machine's own settings hold, with its table of names.
    async fn asking(&self) -> Result<Asking<'_>, String> {
        let mut asking = Asking {
            dns: self,
            servers: self.config.servers.clone(),
            hosts: Vec::new(),
            doubts: Vec::new(),
            ttl: u32::MAX,
        };
        if asking.servers.is_empty() {
            let settings = self.context.read(Path::new("/etc/resolv.conf")).await;
            asking.servers = name_servers(&settings.map_err(|error| format!("/etc/resolv.conf: {error}"))?);
            // A machine may have no such table.
            asking.hosts = self.context.read(Path::new("/etc/hosts")).await.unwrap_or_default();
        }
        Ok(asking)
    }
}

impl Provider for Dns {
    async fn ask(&mut self, news: &Publisher) -> Result<Duration, String> {
        let name = &*self.config.name;
        let mut asking = self.asking().await?;
        let found = match self.config.records {
            DnsRecords::Srv => asking.services(name).await,
            DnsRecords::Addresses => asking.endpoints(name, &[Kind::A, Kind::Aaaa]).await,
            DnsRecords::A => asking.endpoints(name, &[Kind::A]).await,
            DnsRecords::Aaaa => asking.endpoints(name, &[Kind::Aaaa]).await,
        };
        let endpoints = found.map_err(|why| format!("{name}: {why}"))?;
        news.doubted(std::mem::take(&mut asking.doubts));
        // A name that loses its last record was more likely broken than emptied.
        if endpoints.is_empty() {
            return Err(format!("{name}: the name has no records of the type that is wanted"));
        }
        news.publish(endpoints);
        let shortest = self.config.min_ttl.max(SHORTEST);
        Ok(Duration::from_secs(asking.ttl.into()).min(LONGEST).max(shortest))
    }
}

impl Asking<'_> {
    async fn endpoints(&mut self, name: &str, kinds: &[Kind]) -> Result<Vec<Endpoint>, Unanswered> {
        let tls = self.dns.config.tls;
        let port = self.dns.config.port.unwrap_or(usual_port(tls));
        let addresses = self.addresses(name, kinds).await?;
        Ok(addresses.iter().filter_map(|address| endpoint(tls, &address.to_string(), port)).collect())
    }

    async fn services(&mut self, name: &str) -> Result<Vec<Endpoint>, Unanswered> {
        let answer = self.ask(name, Kind::Srv).await?;
        let mut endpoints = Vec::new();
        for service in answer.services {
            let addresses = match service.addresses {
                along if !along.is_empty() => along,
                _ => self.target(&service.target).await?,
            };
            let found = addresses.iter().filter_map(|address| {
                let endpoint = endpoint(self.dns.config.tls, &address.to_string(), service.port)?;
                // RFC 2782: 0 is for targets that are hardly ever chosen, not for those that are never.
                let weight = u32::from(service.weight.max(1));
                Some(Endpoint { weight, priority: service.priority.into(), ..endpoint })
            });
            endpoints.extend(found);
        }
        Ok(endpoints)
    }

    /// The addresses of a target. One that does not exist must not keep the others from being used.
    async fn target(&mut self, target: &str) -> Result<Vec<IpAddr>, Unanswered> {
        let addresses = match self.addresses(target, &[Kind::A, Kind::Aaaa]).await {
            Err(Unanswered::NoSuchName) => Vec::new(),
            other => other?,
        };
        if addresses.is_empty() {
            self.doubts.push(format!("the target `{target}` of an SRV record has no address, it is left out"));
        }
        Ok(addresses)
    }

    /// All kinds must be answered: half of the addresses would look like the loss of the other half.
    async fn addresses(&mut self, name: &str, kinds: &[Kind]) -> Result<Vec<IpAddr>, Unanswered> {
        let own = addresses_in(&self.hosts, name);
        if !own.is_empty() {
            self.ttl = 0;
            return Ok(own.into_iter().filter(|address| kinds.contains(&kind_of(address))).collect());
        }
        let mut addresses = Vec::new();
        for kind in kinds {
            addresses.extend(self.ask(name, *kind).await?.addresses);
        }
        Ok(addresses)
    }

    async fn ask(&mut self, name: &str, kind: Kind) -> Result<message::Answer, Unanswered> {
        let answer = resolver::ask(&self.dns.context.means.clock, &self.servers, name, kind).await?;
        if !answer.addresses.is_empty() || !answer.services.is_empty() {
            self.ttl = self.ttl.min(answer.ttl);
        }
        Ok(answer)
    }
}

fn kind_of(address: &IpAddr) -> Kind {
    if address.is_ipv4() { Kind::A } else { Kind::Aaaa }
}

/// The servers that `/etc/resolv.conf` names.
fn name_servers(settings: &[u8]) -> Vec<SocketAddr> {
    let servers = words(settings).filter_map(|mut words| match (words.next(), words.next()) {
        (Some("nameserver"), Some(address)) => Some(SocketAddr::new(address.parse().ok()?, 53)),
        _ => None,
    });
    servers.collect()
}

/// The addresses that `/etc/hosts` gives a name.
fn addresses_in(hosts: &[u8], name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let found = words(hosts).filter_map(|mut words| {
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    });
    found.collect()
}

/// The words of each line, comments left out.
fn words(text: &[u8]) -> impl Iterator<Item = impl Iterator<Item = &str>> {
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.map(|line| line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace())
}
