//! `discovery`, as written: where endpoints come from that are not in the file.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Deserialize;

use super::UpstreamTlsFile;
use crate::value::{Duration, Invalid, text_value};

/// Where endpoints come from, besides those that are written. Exactly one key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiscoveryFile {
    /// A name is looked up.
    pub dns: Option<DnsFile>,
    /// Consul is asked.
    pub consul: Option<ConsulFile>,
    /// etcd is asked.
    pub etcd: Option<EtcdFile>,
    /// A file lists them.
    pub file: Option<EndpointListFile>,
    /// Kubernetes is asked.
    pub kubernetes: Option<KubernetesFile>,
    /// They register themselves at the admin listener.
    pub registry: Option<RegistryFile>,
}

/// A name is looked up, and again when its time to live is over. The last good answer is kept while nobody answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DnsFile {
    /// The name.
    pub name: Option<String>,
    /// The endpoints' port. SRV records have their own, which counts.
    pub port: Option<u16>,
    /// Which records are asked for.
    #[serde(rename = "type")]
    pub records: Option<DnsRecordsFile>,
    /// An answer is used at least so long, whatever it says itself.
    pub min_ttl: Option<Duration>,
    /// Who is asked, instead of the servers in `/etc/resolv.conf`. Any of a list, each an address with or without a port.
    #[serde(default)]
    pub servers: Vec<DnsServer>,
    /// Whether the endpoints speak TLS.
    pub tls: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DnsRecordsFile {
    /// A and AAAA.
    Addresses,
    /// A.
    A,
    /// AAAA.
    Aaaa,
    /// SRV, with ports, weights and priorities.
    Srv,
}

/// Consul is asked for the healthy instances of a service, and waits with its answer until something changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsulFile {
    /// The agent.
    pub address: Option<String>,
    /// The service's name there.
    pub service: Option<String>,
    /// Only instances with this tag.
    pub tag: Option<String>,
    /// Only instances whose checks pass.
    pub passing: Option<bool>,
    /// The key of an instance's metadata that holds its weight. An instance without it has the weight 1.
    pub weight_from: Option<String>,
    /// The longest time between two questions.
    pub cache: Option<Duration>,
    /// The ACL token.
    pub token: Option<String>,
    /// The data centre, instead of the agent's own.
    pub datacenter: Option<String>,
    /// TLS towards an `https://` agent.
    pub tls: Option<UpstreamTlsFile>,
    /// Whether the endpoints speak TLS.
    pub endpoint_tls: Option<bool>,
}

/// Each value below a prefix in etcd is an endpoint: a URL, or `{"url": ..., "weight": ...}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EtcdFile {
    /// The servers. The next one is asked when one fails.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Where the keys begin.
    pub prefix: Option<String>,
    /// Who asks, where etcd wants to know.
    pub user: Option<String>,
    /// The password of `user`.
    pub password: Option<String>,
    /// TLS towards `https://` servers.
    pub tls: Option<UpstreamTlsFile>,
}

/// A JSON or YAML file with a list of endpoints, each as in `endpoints`. It is read again when it changes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointListFile {
    /// Where it is.
    pub path: Option<String>,
}

/// The endpoints of a Kubernetes service, by a watch on its `EndpointSlice` objects.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KubernetesFile {
    /// The namespace, instead of the pod's own.
    pub namespace: Option<String>,
    /// The service's name.
    pub service: Option<String>,
    /// The name or number of the port, where the service has several.
    pub port: Option<String>,
    /// The API server, instead of the one that Kubernetes names to its pods (`KUBERNETES_SERVICE_HOST`).
    pub api_server: Option<String>,
    /// The token of the service account. It is read again for every connection, because it changes.
    pub token_file: Option<String>,
    /// A PEM file with the authorities of an `https://` API server. `off` trusts the system's.
    pub ca_file: Option<String>,
    /// Whether the endpoints speak TLS.
    pub endpoint_tls: Option<bool>,
}

/// Endpoints register themselves at the admin listener, and renew that before it runs out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistryFile {
    /// An endpoint that does not renew within this time is dropped.
    pub ttl: Option<Duration>,
    /// Where registrations are kept across restarts. By default `registry/NAME.json` beside the configuration.
    pub file: Option<String>,
}

/// A name server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DnsServer(pub SocketAddr);

impl FromStr for DnsServer {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let with_port = text.parse::<SocketAddr>().ok();
        let bare = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53));
        with_port.or_else(bare).map(Self).ok_or_else(|| {
            Invalid::new(format!("`{text}` is not the address of a name server"))
                .help("write an address, such as `127.0.0.1:53`")
        })
    }
}

text_value!(DnsServer, "an address such as `127.0.0.1:53`", {
    "title": "address",
    "type": "string",
    "examples": ["127.0.0.1:53", "10.0.0.2"]
});
