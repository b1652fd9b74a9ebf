//! The configuration as written, key by key: what serde reads, and what the JSON Schema and the reference are made from.
//! The comments here are the reference's text. What values mean together is decided in `resolve`.

mod route;
mod server;
mod service;
mod shapes;
mod shaping;

use schemars::JsonSchema;
use serde::Deserialize;

pub use route::MethodName;
pub(crate) use route::{
    BodyFile, ClientCertFile, MatchFile, PoliciesFile, PrefixPath, RedirectFile, RespondFile, RewriteFile, RouteFile,
    ValueFile,
};
pub(crate) use server::{
    AcceptFile, AccessFile, AdminFile, BuffersFile, ClientAuthFile, LevelFile, LimitsFile, ListenerFile, LogFile,
    RequestIdFile, ServerFile, StatusFile, TimeoutsFile, TlsFile, VersionFile, Workers,
};
pub use service::KeyFile;
pub(crate) use service::{
    AfterFile, BalancingFile, BreakerScopeFile, CircuitBreakerFile, ConcurrencyFile, ConditionFile, ConsulFile,
    DiscoveryFile, DnsFile, DnsRecordsFile, EndpointFile, EtcdFile, FallbackFile, HealthFile, HedgeFile, HttpProbeFile,
    KubernetesFile, OutlierDetectionFile, PoolFile, ProtocolFile, RegistryFile, RetryFile, RetryMethodsFile,
    ServiceFile, ServiceTimeoutsFile, StickyCookieFile, StrategyFile, UpstreamTlsFile,
};
pub use shapes::{AnyText, Entries, ListOr, TextOr};
pub(crate) use shaping::{FaultFile, MirrorFile, SplitFile, SplitPartFile, WhenFile};

use crate::value::Name;

/// The configuration of a Tidegate gateway. Keys that begin with `x-` are free, for YAML anchors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the parts are read one by one; this is the schema of the whole")]
pub(crate) struct File {
    /// The version of this format: 1.
    pub version: Option<u32>,
    /// Further files: their services, bundles and routes are added to those here, in the order written. One `*` may stand in
    /// a file's name, as in `conf.d/*.yaml`. Relative names start at this file's folder.
    #[serde(default)]
    pub include: Vec<String>,
    /// The side of the clients: where the gateway listens, and what it grants.
    pub server: Option<ServerFile>,
    /// The listener for operators: metrics and state. Off unless written.
    pub admin: Option<AdminFile>,
    /// The listener for probes and scrapers: `/healthz`, `/readyz`, `/metrics` and nothing else. Off unless written.
    pub status: Option<StatusFile>,
    /// What is logged.
    pub log: Option<LogFile>,
    /// What every service and every route starts from.
    pub defaults: Option<DefaultsFile>,
    /// Named sets of policies, which routes take over with `use`.
    pub bundles: Option<Entries<Name, PoliciesFile>>,
    /// Where requests may go, by name.
    pub services: Option<Entries<Name, ServiceFile>>,
    /// Which requests go where. The most specific match wins: by host, then path, then method, headers and query; `priority`
    /// goes before all, and the order written decides ties.
    #[serde(default)]
    pub routes: Vec<RouteFile>,
}

/// What every service and every route starts from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the parts are read one by one; this is the schema of the whole")]
pub(crate) struct DefaultsFile {
    /// For every service that does not say otherwise.
    pub service: Option<ServiceFile>,
    /// For every route that does not say otherwise.
    pub route: Option<PoliciesFile>,
}

/// The keys at the top.
pub(crate) const TOP_KEYS: [&str; 9] =
    ["version", "include", "server", "admin", "status", "log", "defaults", "bundles", "services"];
