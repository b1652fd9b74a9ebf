//! One `EndpointSlice`, as `discovery.k8s.io/v1` defines it, and the endpoints in it.

use serde::Deserialize;
use tidegate_config::config::{self, KubernetesDiscovery};

use crate::upstream::discovery::endpoint;

#[derive(Deserialize)]
pub(super) struct Slice {
    pub(super) metadata: Meta,
    endpoints: Option<Vec<Member>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) resource_version: String,
}

#[derive(Deserialize)]
struct Member {
    /// Alternatives for one and the same member, by definition: the first is enough.
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    zone: Option<String>,
}

#[derive(Deserialize, Default)]
struct Conditions {
    /// Absent is ready.
    ready: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
}

impl Slice {
    /// The members that take new requests.
    pub(super) fn endpoints(&self, config: &KubernetesDiscovery, doubts: &mut Vec<String>) -> Vec<config::Endpoint> {
        let members = self.endpoints.as_deref().unwrap_or_default();
        if members.is_empty() {
            return Vec::new();
        }
        let Some(port) = self.port(config.port.as_deref()) else {
            let wanted = config.port.as_deref().unwrap_or("the only one");
            doubts.push(format!("slice `{}` is left out: it has no such port: {wanted}", self.metadata.name));
            return Vec::new();
        };
        let takes = |member: &&Member| {
            member.conditions.ready.unwrap_or(true) && !member.conditions.terminating.unwrap_or(false)
        };
        let found = members.iter().filter(takes).filter_map(|member| {
            let endpoint = endpoint(config.endpoint_tls, member.addresses.first()?, port)?;
            Some(config::Endpoint { zone: member.zone.as_deref().map(Into::into), ..endpoint })
        });
        found.collect()
    }

    fn port(&self, wanted: Option<&str>) -> Option<u16> {
        let ports = self.ports.as_deref().unwrap_or_default();
        let Some(wanted) = wanted else {
            let [only] = ports else { return None };
            return only.port;
        };
        let number = wanted.parse().ok();
        let is_wanted =
            |port: &&Port| port.name.as_deref() == Some(wanted) || (number.is_some() && port.port == number);
        ports.iter().find(is_wanted)?.port
    }
}
