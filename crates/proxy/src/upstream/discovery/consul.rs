//! The health API of Consul, by blocking queries: an answer comes when something changed, or when the longest wait is over.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidegate_config::config::{ConsulDiscovery, Endpoint};
use tidegate_config::problem::{Path, Problems};

use super::{Context, Provider, Publisher, endpoint};
use crate::upstream::client::{Client, Target};

/// Between two questions, so that a service that changes all the time is not asked all the time.
const PAUSE: Duration = Duration::from_millis(250);

/// What a server may take beyond the wait that it was asked for. It adds up to a sixteenth of that by itself.
const GRACE: Duration = Duration::from_secs(10);

pub(super) struct Consul {
    config: ConsulDiscovery,
    client: Client,
    /// The state that the last answer told of; 0 is none.
    index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Instance,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(default)]
    address: String,
    port: u16,
    meta: Option<BTreeMap<String, String>>,
}

impl Consul {
    pub(super) fn new(config: &ConsulDiscovery, context: &Context, at: &Path) -> Result<Self, Problems> {
        Ok(Self { config: config.clone(), client: context.client(&config.address, at)?, index: 0 })
    }

    fn target(&self) -> Target {
        let config = &self.config;
        let wait = format!("{}ms", config.cache.as_millis());
        let mut target = Target::new("/v1/health/service").segment(&config.service);
        if config.passing {
            target = target.parameter("passing", "true");
        }
        for (name, value) in [("tag", &config.tag), ("dc", &config.datacenter)] {
            if let Some(value) = value {
                target = target.parameter(name, value);
            }
        }
        target.parameter("index", &self.index.to_string()).parameter("wait", &wait)
    }

    async fn question(&self) -> Result<(u64, Vec<Entry>), String> {
        let token = self.config.token.as_ref().map(|token| ("x-consul-token", &*token.0));
        let silence = self.config.cache + self.config.cache / 16 + GRACE;
        let asked = self.client.get(self.target().as_str(), token.as_slice(), silence).await;
        let mut answer = asked.map_err(|error| error.to_string())?;
        if !answer.is_ok() {
            return Err(format!("it answered with status {}", answer.head.status.as_u16()));
        }
        let index = answer.head.fields.text("x-consul-index").and_then(|index| index.parse().ok()).unwrap_or(0);
        let body = answer.collect().await.map_err(|error| error.to_string())?;
        let entries =
            serde_json::from_slice(&body).map_err(|error| format!("its answer is not understood: {error}"))?;
        Ok((index, entries))
    }

    /// An instance without an address of its own is at its node's.
    fn endpoint(&self, entry: &Entry, doubts: &mut Vec<String>) -> Option<Endpoint> {
        let Entry { node, service } = entry;
        let host = if service.address.is_empty() { &node.address } else { &service.address };
        let Some(endpoint) = endpoint(self.config.endpoint_tls, host, service.port) else {
            doubts.push(format!("instance `{}` is left out: `{host}:{}` is no address", service.id, service.port));
            return None;
        };
        let written = service.meta.as_ref().and_then(|meta| meta.get(&*self.config.weight_from));
        let weight = written.map_or(Some(1), |weight| weight.parse().ok().filter(|weight| *weight > 0));
        if weight.is_none() {
            let (id, written) = (&service.id, written.map_or("", String::as_str));
            doubts.push(format!("instance `{id}` gets weight 1: `{written}` is not a whole number from 1"));
        }
        Some(Endpoint { weight: weight.unwrap_or(1), ..endpoint })
    }
}

impl Provider for Consul {
    async fn ask(&mut self, news: &Publisher) -> Result<Duration, String> {
        let asked = self.question().await;
        let (index, entries) = asked.map_err(|why| {
            self.index = 0;
            format!("consul at {}: {why}", self.client.server())
        })?;
        let mut doubts = Vec::new();
        let endpoints = entries.iter().filter_map(|entry| self.endpoint(entry, &mut doubts)).collect();
        news.doubted(doubts);
        news.publish(endpoints);
        // One that goes backwards begins anew: its server was restored or replaced.
        self.index = if index < self.index { 0 } else { index };
        Ok(if index == 0 { self.config.cache } else { PAUSE })
    }
}
