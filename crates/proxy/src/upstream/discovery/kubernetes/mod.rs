//! `EndpointSlice` objects of a Kubernetes service: listed once, then watched from the version that was listed.

mod slice;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tidegate_config::config::{Endpoint, KubernetesDiscovery};
use tidegate_config::problem::{Path, Problem, Problems};

use self::slice::{Meta, Slice};
use super::{Context, Provider, Publisher};
use crate::upstream::client::{Answer, Client, ClientError, Target};

/// For a list.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a watch lasts before its server ends it and another one goes on from there, in seconds.
const WATCH: u64 = 120;

/// The longest silence of a watch: beyond its end by what its server may be late.
const SILENCE: Duration = Duration::from_secs(WATCH + 30);

/// Between two watches.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Kubernetes {
    config: KubernetesDiscovery,
    context: Context,
    client: Client,
    /// What a watch goes on from; `None` before the list.
    version: Option<String>,
    slices: BTreeMap<String, Slice>,
}

#[derive(Deserialize)]
struct List {
    metadata: Meta,
    items: Option<Vec<Slice>>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Value,
}

/// Why a list or a watch ended early.
enum Ended {
    /// The version is too old: the list must be read again.
    Gone,
    Failed(String),
}

impl Kubernetes {
    pub(super) fn new(config: &KubernetesDiscovery, context: &Context, at: &Path) -> Result<Self, Problems> {
        let Some(server) = &config.api_server else {
            return Err(Problem::error(at.join("api_server"), "the API server is not known").into());
        };
        let client = context.client(server, at)?;
        Ok(Self { config: config.clone(), context: context.clone(), client, version: None, slices: BTreeMap::new() })
    }

    async fn follow(&mut self, news: &Publisher) -> Result<(), Ended> {
        let target = self.target().await?;
        let version = match self.version.take() {
            Some(version) => version,
            None => self.list(&target, news).await?,
        };
        let target = target
            .parameter("watch", "true")
            .parameter("allowWatchBookmarks", "true")
            .parameter("timeoutSeconds", &WATCH.to_string())
            .parameter("resourceVersion", &version);
        let mut watch = self.get(&target, SILENCE).await?;
        let mut version = version;
        while let Some(line) = watch.line().await? {
            let event: Event = serde_json::from_slice(&line).map_err(ClientError::Json)?;
            if let Some(next) = self.apply(event, news)? {
                version = next;
            }
        }
        self.version = Some(version);
        Ok(())
    }

    async fn target(&self) -> Result<Target, Ended> {
        let namespace = match &self.config.namespace {
            Some(namespace) => namespace.to_string(),
            None => self.own("namespace").await?,
        };
        let selector = format!("kubernetes.io/service-name={}", self.config.service);
        Ok(Target::new("/apis/discovery.k8s.io/v1/namespaces")
            .segment(&namespace)
            .segment("endpointslices")
            .parameter("labelSelector", &selector))
    }

    /// A file of the service account, which lies beside its token.
    async fn own(&self, name: &str) -> Result<String, Ended> {
        let path = self.config.token_file.with_file_name(name);
        let read = self.context.read(&path).await;
        let bytes = read.map_err(|error| Ended::Failed(format!("{}: {error}", path.display())))?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The token is read for every question: it is replaced every hour.
    async fn get(&self, target: &Target, silence: Duration) -> Result<Answer, Ended> {
        let name = self.config.token_file.file_name().unwrap_or_default();
        let bearer = format!("Bearer {}", self.own(&name.to_string_lossy()).await?);
        let answer = self.client.get(target.as_str(), &[("authorization", &bearer)], silence).await?;
        if answer.head.status == StatusCode::GONE { Err(Ended::Gone) } else { Ok(answer.expect_ok().await?) }
    }

    async fn list(&mut self, target: &Target, news: &Publisher) -> Result<String, Ended> {
        let list: List = self.get(target, PATIENCE).await?.json().await?;
        let named = list.items.unwrap_or_default().into_iter().map(|slice| (slice.metadata.name.clone(), slice));
        self.slices = named.collect();
        self.publish(news);
        Ok(list.metadata.resource_version)
    }

    /// Takes a change in, and returns the version that it leads to.
    fn apply(&mut self, event: Event, news: &Publisher) -> Result<Option<String>, Ended> {
        if event.kind == "ERROR" {
            let code = event.object.get("code").and_then(Value::as_u64);
            let message = event.object.get("message").and_then(Value::as_str).unwrap_or("no reason");
            return Err(if code == Some(410) { Ended::Gone } else { Ended::Failed(format!("it said: {message}")) });
        }
        let slice: Slice = serde_json::from_value(event.object).map_err(ClientError::Json)?;
        let version = slice.metadata.resource_version.clone();
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => {
                self.slices.insert(slice.metadata.name.clone(), slice);
                self.publish(news);
            }
            "DELETED" => {
                self.slices.remove(&slice.metadata.name);
                self.publish(news);
            }
            // A bookmark tells of the version alone.
            _ => {}
        }
        Ok(Some(version).filter(|version| !version.is_empty()))
    }

    fn publish(&self, news: &Publisher) {
        let mut doubts = Vec::new();
        let slices = self.slices.values();
        let endpoints: Vec<Endpoint> = slices.flat_map(|slice| slice.endpoints(&self.config, &mut doubts)).collect();
        news.doubted(doubts);
        news.publish(endpoints);
    }
}

impl Provider for Kubernetes {
    async fn ask(&mut self, news: &Publisher) -> Result<Duration, String> {
        match self.follow(news).await {
            Ok(()) | Err(Ended::Gone) => Ok(PAUSE),
            Err(Ended::Failed(why)) => Err(format!("the API server at {}: {why}", self.client.server())),
        }
    }
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.to_string())
    }
}
