//! The health API of Consul, by blocking queries: an answer comes when something changed, or when the longest wait is over.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidegate_config::config::{ConsulDiscovery, Endpoint};
use tidegate_config::problem::{Path, Problems};

use super::{Context, Provider, Publisher, endpoint};
use crate::upstream::client::{Client, ClientError, Target};

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

    async fn question(&self) -> Result<(u64, Vec<Entry>), ClientError> {
        let token = self.config.token.as_ref().map(|token| ("x-consul-token", &*token.0));
        let silence = self.config.cache + self.config.cache / 16 + GRACE;
        let mut answer = self.client.get(self.target().as_str(), token.as_slice(), silence).await?.expect_ok().await?;
        let index = answer.head.fields.text("x-consul-index").and_then(|index| index.parse().ok()).unwrap_or(0);
        Ok((index, answer.json().await?))
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
        // Without a state to wait from, an answer comes at once: then it is this side that waits.
        Ok(if index == 0 { self.config.cache.max(PAUSE) } else { PAUSE })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_config::config::{Discovery, Secret};

    use super::*;
    use crate::upstream::discovery::testing::{World, api, tell};

    fn config() -> ConsulDiscovery {
        ConsulDiscovery {
            address: api(),
            service: "my app".into(),
            tag: None,
            passing: true,
            weight_from: "weight".into(),
            cache: Duration::from_secs(30),
            token: None,
            datacenter: None,
            endpoint_tls: false,
        }
    }

    fn tell_consul<F: Future<Output = ()>>(story: impl FnOnce(World) -> F) {
        tell(&Discovery::Consul(config()), story);
    }

    /// An entry as the documentation of `/v1/health/service/:service` shows it, with what matters here to be filled in.
    fn entry(node: &str, address: &str, meta: &str) -> String {
        format!(
            r#"{{"Node":{{"ID":"40e4a748-2192-161a-0510-9bf59fe950b5","Node":"foobar","Address":"{node}","Datacenter":"dc1",
            "TaggedAddresses":{{"lan":"10.1.10.12","wan":"10.1.10.12"}},"Meta":{{"instance_type":"t2.medium"}}}},
            "Service":{{"ID":"redis","Service":"redis","Tags":["primary"],"Address":"{address}",
            "TaggedAddresses":{{"lan":{{"address":"10.1.10.12","port":8000}}}},"Meta":{meta},"Port":8000,
            "Weights":{{"Passing":10,"Warning":1}},"Namespace":"default"}},
            "Checks":[{{"Node":"foobar","CheckID":"service:redis","Name":"Service 'redis' check","Status":"passing",
            "Notes":"","Output":"","ServiceID":"redis","ServiceName":"redis","ServiceTags":["primary"]}}]}}"#
        )
    }

    fn list(entries: &[String]) -> String {
        format!("[{}]", entries.join(","))
    }

    async fn line(call: &mut crate::upstream::discovery::testing::Call) -> String {
        call.request().await.lines().next().unwrap().to_owned()
    }

    #[test]
    fn questions_block_from_the_state_that_is_known() {
        tell_consul(|world| async move {
            let mut call = world.call().await;
            let asked = "GET /v1/health/service/my%20app?passing=true&index=0&wait=30000ms HTTP/1.1";
            assert_eq!(line(&mut call).await, asked);
            let one = list(&[entry("10.1.10.12", "10.1.10.13", r#"{"weight":"3"}"#)]);
            call.answer(200, "x-consul-index: 17\r\n", &one).await;
            assert_eq!(world.endpoints().await, ["http://10.1.10.13:8000 3 - 0"]);
            // One question at a time: the next one waits for its answer, however long that takes.
            world.pass(PAUSE).await;
            let mut call = world.call().await;
            assert!(line(&mut call).await.contains("index=17&"));
            world.pass(Duration::from_secs(30)).await;
            assert!(!world.was_called().await);
            call.answer(200, "x-consul-index: 18\r\n", "[]").await;
            assert_eq!(world.endpoints().await, [""; 0]);
        });
    }

    #[test]
    fn when_consul_is_down_the_last_endpoints_stay_and_nobody_else_asks() {
        tell_consul(|world| async move {
            let mut call = world.call().await;
            call.request().await;
            call.answer(200, "x-consul-index: 17\r\n", &list(&[entry("10.0.0.1", "", "null")])).await;
            assert_eq!(world.endpoints().await.len(), 1);
            world.pass(PAUSE).await;
            drop(world.call().await);
            assert!(world.failure().await.starts_with("consul at api.test:8500: "));
            assert!(!world.was_called().await, "it waits before it asks again");
            world.pass(Duration::from_secs(1)).await;
            let mut call = world.call().await;
            assert!(line(&mut call).await.contains("index=0&"));
            call.answer(500, "", "no cluster leader").await;
            assert!(world.failure().await.ends_with("status 500: no cluster leader"));
            world.pass(Duration::from_secs(2)).await;
            let mut call = world.call().await;
            call.request().await;
            call.answer(200, "x-consul-index: 1\r\n", "{}").await;
            assert!(world.failure().await.contains("not understood"));
        });
    }

    #[test]
    fn an_instance_without_an_address_is_at_its_node() {
        tell_consul(|world| async move {
            let mut call = world.call().await;
            call.request().await;
            call.answer(200, "x-consul-index: 1\r\n", &list(&[entry("10.1.10.12", "", "{}")])).await;
            assert_eq!(world.endpoints().await, ["http://10.1.10.12:8000 1 - 0"]);
        });
    }

    #[test]
    fn a_weight_that_is_no_number_from_one_is_one() {
        tell_consul(|world| async move {
            let weights = ["NaN", "0", "-3", "1.5", "", "many", "99999999999", "7", "4000000000"];
            let entries: Vec<_> = weights
                .iter()
                .enumerate()
                .map(|(n, weight)| entry("10.0.0.1", &format!("10.0.0.{n}"), &format!(r#"{{"weight":"{weight}"}}"#)))
                .collect();
            let mut call = world.call().await;
            call.request().await;
            call.answer(200, "x-consul-index: 1\r\n", &list(&entries)).await;
            let told = world.endpoints().await;
            let weights: Vec<_> = told.iter().map(|endpoint| endpoint.split(' ').nth(1).unwrap()).collect();
            assert_eq!(weights, ["1", "1", "1", "1", "1", "1", "1", "7", "10000"]);
        });
    }

    #[test]
    fn an_address_that_is_none_is_left_out_and_the_others_are_used() {
        tell_consul(|world| async move {
            let hosts = ["10.0.0.1/../x", "a b", "user@host", "*.test", "fd00::1", "good.test"];
            let entries: Vec<_> = hosts.iter().map(|host| entry("", host, "null")).collect();
            let mut call = world.call().await;
            call.request().await;
            call.answer(200, "x-consul-index: 1\r\n", &list(&entries)).await;
            assert_eq!(world.endpoints().await, ["http://[fd00::1]:8000 1 - 0", "http://good.test:8000 1 - 0"]);
        });
    }

    #[test]
    fn an_index_that_goes_backwards_or_lacks_begins_anew() {
        tell_consul(|world| async move {
            let nearly = |wait: Duration| wait.saturating_sub(Duration::from_millis(1));
            for (known, told, wait) in [
                ("index=0&", "x-consul-index: 17\r\n", PAUSE),
                ("index=17&", "x-consul-index: 5\r\n", PAUSE),
                ("index=0&", "", Duration::from_secs(30)),
                ("index=0&", "x-consul-index: 0\r\n", Duration::from_secs(30)),
            ] {
                let mut call = world.call().await;
                assert!(line(&mut call).await.contains(known), "{told}");
                call.answer(200, told, "[]").await;
                world.pass(nearly(wait)).await;
                assert!(!world.was_called().await, "{told}");
                world.pass(Duration::from_millis(1)).await;
            }
        });
    }

    #[test]
    fn tag_datacenter_and_token_are_sent_and_encoded() {
        let config = ConsulDiscovery {
            tag: Some("a&b".into()),
            datacenter: Some("dc=1".into()),
            token: Some(Secret(Arc::from("tok"))),
            passing: false,
            ..config()
        };
        tell(&Discovery::Consul(config), |world| async move {
            let request = world.call().await.request().await;
            assert!(request.starts_with("GET /v1/health/service/my%20app?tag=a%26b&dc=dc%3D1&index=0&"), "{request}");
            assert!(request.contains("\r\nx-consul-token: tok\r\n"), "{request}");
            assert!(request.contains("\r\nhost: api.test:8500\r\n"), "{request}");
        });
    }

    #[test]
    fn a_server_that_is_silent_beyond_the_wait_is_given_up() {
        tell_consul(|world| async move {
            let mut call = world.call().await;
            call.request().await;
            world.pass(Duration::from_secs(30) + Duration::from_secs(30) / 16 + GRACE).await;
            assert!(world.failure().await.contains("silent for too long"));
        });
    }
}
