//! Keys below a prefix in etcd, over its JSON gateway: read once, then watched from the revision that was read.

mod base64;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_config::config::EtcdDiscovery;
use tidegate_config::one_endpoint;
use tidegate_config::problem::{Path, Problems};
use tidegate_core::body::BodyError;

use super::{Context, Provider, Publisher};
use crate::upstream::client::{Client, ClientError};

/// For an answer that is not a watch.
const PATIENCE: Duration = Duration::from_secs(10);

/// A watch that tells nothing for so long may be a connection that is dead: everything is read anew.
const SILENCE: Duration = Duration::from_mins(1);

/// After a watch that the server ended.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Etcd {
    /// At least one; the first is the one that is asked.
    clients: Vec<Client>,
    config: EtcdDiscovery,
}

/// Keys and values as they are written, in base64.
type Pairs = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Header {
    /// A number, as text.
    revision: String,
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Watched {
    result: Option<Changes>,
}

#[derive(Deserialize)]
struct Changes {
    /// The watch is over, for instance because its revision was compacted.
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    /// Absent is `PUT`.
    #[serde(rename = "type", default)]
    kind: String,
    kv: Pair,
}

#[derive(Deserialize)]
struct Authenticated {
    token: String,
}

impl Etcd {
    pub(super) fn new(config: &EtcdDiscovery, context: &Context, at: &Path) -> Result<Self, Problems> {
        let clients = config.addresses.iter().map(|server| context.client(server, at)).collect::<Result<_, _>>()?;
        Ok(Self { clients, config: config.clone() })
    }

    /// Reads and watches until the watch ends.
    async fn follow(&self, client: &Client, news: &Publisher) -> Result<Duration, ClientError> {
        let token = self.token(client).await?;
        let token = token.as_deref().map(|token| ("authorization", token));
        let (key, end) = range(self.config.prefix.as_bytes());
        let reading = json!({ "key": key, "range_end": end });
        let range: Range = self.post(client, "/v3/kv/range", token.as_slice(), &reading).await?;
        let mut pairs: Pairs = range.kvs.into_iter().map(|pair| (pair.key, pair.value)).collect();
        publish(&pairs, news);
        let next = range.header.revision.parse::<u64>().unwrap_or(0) + 1;
        let watching =
            json!({ "create_request": { "key": key, "range_end": end, "start_revision": next.to_string() } });
        let body = Bytes::from(watching.to_string());
        let mut watch = client.post("/v3/watch", token.as_slice(), body, SILENCE).await?.expect_ok().await?;
        loop {
            let line = match watch.line().await {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(PAUSE),
                Err(ClientError::Body(BodyError::UpstreamTooSlow)) => return Ok(Duration::ZERO),
                Err(error) => return Err(error),
            };
            let watched: Watched = serde_json::from_slice(&line).map_err(ClientError::Json)?;
            let Some(changes) = watched.result.filter(|changes| !changes.canceled) else { return Ok(PAUSE) };
            if !changes.events.is_empty() {
                apply(changes.events, &mut pairs);
                publish(&pairs, news);
            }
        }
    }

    /// Asked for anew with every watch, since it runs out.
    async fn token(&self, client: &Client) -> Result<Option<String>, ClientError> {
        let Some((name, password)) = &self.config.user else { return Ok(None) };
        let user = json!({ "name": name, "password": password.0 });
        let known: Authenticated = self.post(client, "/v3/auth/authenticate", &[], &user).await?;
        Ok(Some(known.token))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
        fields: &[(&str, &str)],
        body: &Value,
    ) -> Result<T, ClientError> {
        let body = Bytes::from(body.to_string());
        client.post(path, fields, body, PATIENCE).await?.expect_ok().await?.json().await
    }
}

impl Provider for Etcd {
    async fn ask(&mut self, news: &Publisher) -> Result<Duration, String> {
        let Some(client) = self.clients.first() else { return Err("etcd: there is no address".to_owned()) };
        let followed = self.follow(client, news).await;
        let followed = followed.map_err(|error| format!("etcd at {}: {error}", client.server()));
        if followed.is_err() {
            self.clients.rotate_left(1);
        }
        followed
    }
}

/// The first key and the one after the last, in base64: all keys that begin with `prefix`.
fn range(prefix: &[u8]) -> (String, String) {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(after) = last.checked_add(1) {
            end.push(after);
            return (base64::encode(prefix), base64::encode(&end));
        }
    }
    // Nothing comes after; and a key has at least one byte.
    let first: &[u8] = if prefix.is_empty() { b"\0" } else { prefix };
    (base64::encode(first), base64::encode(b"\0"))
}

fn apply(events: Vec<Event>, pairs: &mut Pairs) {
    for Event { kind, kv } in events {
        if kind == "DELETE" {
            pairs.remove(&kv.key);
        } else {
            pairs.insert(kv.key, kv.value);
        }
    }
}

/// A value that is no endpoint must not keep the others from being used.
fn publish(pairs: &Pairs, news: &Publisher) {
    let mut doubts = Vec::new();
    let mut endpoints = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let text = base64::decode(value).and_then(|value| String::from_utf8(value).ok());
        match text.ok_or_else(|| "it is no text".to_owned()).and_then(|text| one_endpoint(&text)) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(why) => {
                let key = base64::decode(key).unwrap_or_default();
                doubts.push(format!("the value of `{}` is passed over: {why}", String::from_utf8_lossy(&key)));
            }
        }
    }
    news.doubted(doubts);
    news.publish(endpoints);
}
