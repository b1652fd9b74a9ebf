//! `limits_store`: where limits are counted when several gateways share them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::RootCertStore;
use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Place, Reading};
use tidegate_config::problem::Path;
use tidegate_config::value;
use tidegate_core::limiter::{Limit, Outcome};
use tidegate_core::policy::{Gauge, Job, Local, World};

use super::LimitsMemory;
use super::key::Counted;
use crate::policy::{Policy, Setup};
use crate::shared::redis::{Mode, RedisStore, Settings, Target, Unavailable};

/// How often operators are told anew how it goes.
const TELL: Duration = Duration::from_secs(1);

/// The policy.
pub(crate) struct LimitsStore;

/// Where limits are counted. Without it, each gateway counts for itself, in memory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsStoreFile {
    /// A Redis or Valkey server, which all gateways that share their limits ask.
    redis: Option<RedisFile>,
}

/// A Redis or Valkey server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RedisFile {
    /// Where it is: `redis://host:6379/0`, `rediss://` for TLS, or `unix:///run/redis.sock`.
    url: Option<String>,
    /// Who the gateway is there, if the URL does not say.
    username: Option<String>,
    /// The password, if the URL does not say.
    password: Option<String>,
    /// How exact it is.
    mode: Option<ModeFile>,
    /// With `mode: async`: how often a gateway tells what it has admitted.
    sync: Option<value::Duration>,
    /// The longest time that a request waits for the server.
    timeout: Option<value::Duration>,
    /// What is done while the server does not answer.
    on_unavailable: Option<OnUnavailable>,
    /// What the names of all keys begin with.
    prefix: Option<String>,
}

/// How exact it is.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ModeFile {
    /// The server decides about each request.
    Exact,
    /// Each gateway decides by what it knows, and tells the server what it has admitted.
    Async,
}

/// What is done while the server does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnUnavailable {
    /// Each gateway counts for itself.
    Local,
    /// Requests are refused with 503.
    Deny,
    /// Requests pass.
    Allow,
}

/// A checked `limits_store`.
pub(crate) struct Meaning {
    settings: Settings,
    on_unavailable: OnUnavailable,
    /// All of it, the password too: whether it is the same after a reload.
    identity: String,
}

/// A store that gateways share, for one limit.
#[derive(Clone)]
pub(super) struct SharedStore {
    redis: Arc<RedisStore>,
    pub(super) on_unavailable: OnUnavailable,
}

impl Policy for LimitsStore {
    const KEY: &'static str = "limits_store";
    const PLACE: Place = Place::Top;
    const BUILT_IN: &'static str =
        "{ redis: { mode: exact, sync: 100ms, timeout: 20ms, on_unavailable: local, prefix: 'tidegate:' } }";
    const SECRETS: &'static [[&'static str; 2]] = &[["redis", "password"], ["redis", "url"]];
    const EXAMPLE: &'static str = "\
services: { orders: { url: http://127.0.0.1:9001 } }
limits_store: { redis: { url: \"redis://127.0.0.1:6379\", mode: exact, on_unavailable: local } }
rate_limit: { per_client: {} }
routes: [{ match: { path_prefix: / }, service: orders }]
";
    type File = LimitsStoreFile;
    type Meaning = Meaning;

    fn mean(file: LimitsStoreFile, reading: &mut Reading<'_, '_>) -> Option<Meaning> {
        let at = reading.path().join("redis");
        let Some(redis) = file.redis else {
            reading.missing(&reading.path(), "redis", "write `redis: { url: \"redis://127.0.0.1:6379\" }`");
            return None;
        };
        let Some(url) = &redis.url else {
            reading.missing(&at, "url", "write `url: \"redis://127.0.0.1:6379\"`");
            return None;
        };
        let target = match Target::of(url, authorities) {
            Ok(target) => target.with_credentials(redis.username.as_deref(), redis.password.as_deref()),
            Err(message) => {
                reading.error(&at.join("url"), message);
                return None;
            }
        };
        let time = |time: Option<value::Duration>, usual| time.map_or(Duration::from_millis(usual), |time| time.0);
        let (sync, timeout) = (time(redis.sync, 100), time(redis.timeout, 20));
        for (key, time) in [("sync", sync), ("timeout", timeout)] {
            if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&time) {
                reading.error(&at.join(key), format!("`{key}` is 1ms to 10s"));
            }
        }
        let mode = match redis.mode.unwrap_or(ModeFile::Exact) {
            ModeFile::Exact => Mode::Exact,
            ModeFile::Async => Mode::Async { sync, max_keys: super::DEFAULT_KEYS },
        };
        let identity = format!("{redis:?}");
        let prefix = redis.prefix.unwrap_or_else(|| "tidegate:".to_owned());
        let settings = Settings { target, mode, timeout, prefix };
        Some(Meaning { settings, on_unavailable: redis.on_unavailable.unwrap_or(OnUnavailable::Local), identity })
    }

    fn build(_: Option<&Meaning>, _: &Path, _: &mut Setup<'_>) {}
}

/// The authorities that the system trusts, for servers with TLS. Those that cannot be read are left out: then no server is trusted.
fn authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The store, if one is configured. It is kept over reloads, with what it knows and its connections.
pub(super) fn shared(setup: &mut Setup<'_>) -> Option<SharedStore> {
    let Meaning { settings, on_unavailable, identity } = setup.top::<LimitsStore>()?;
    let max_keys = setup.top::<LimitsMemory>().copied().unwrap_or(super::DEFAULT_KEYS);
    let mut settings = settings.clone();
    if let Mode::Async { max_keys: keys, .. } = &mut settings.mode {
        *keys = max_keys;
    }
    let on_unavailable = *on_unavailable;
    let redis = setup.shared.keep(format!("redis\n{max_keys}\n{identity}"), || RedisStore::new(settings));
    let shared = Arc::clone(setup.shared);
    let telling = setup.shared.keep(format!("telling\n{max_keys}\n{identity}"), || Telling::of(&redis, &shared));
    setup.job(Arc::<RedisStore>::clone(&redis));
    setup.job(telling);
    Some(SharedStore { redis, on_unavailable })
}

impl SharedStore {
    /// Where it counts, in words without a password.
    pub(super) fn words(&self) -> String {
        let otherwise = match self.on_unavailable {
            OnUnavailable::Local => "and here while it does not answer",
            OnUnavailable::Deny => "and all are refused while it does not answer",
            OnUnavailable::Allow => "and all pass while it does not answer",
        };
        format!("counted by {}, {otherwise}", self.redis.target())
    }

    /// Asks for one request. `scope` says which limit it is.
    pub(super) async fn decide(
        &self,
        world: &dyn World,
        key: &[u8],
        (limit, weight): (&Limit, u64),
    ) -> Result<Outcome, Unavailable> {
        self.redis.decide(world, key, limit, weight).await
    }
}

/// The name under which gateways count the same: of the limit, and of what a request is counted by. What clients send is not in it.
pub(super) fn key(limit: &str, counted: &Counted<'_>) -> Vec<u8> {
    let mut said = Said(Vec::with_capacity(64));
    counted.hash(&mut said);
    let mut key = limit.as_bytes().to_vec();
    key.push(b':');
    for byte in digest(&SHA256, &said.0).as_ref().iter().take(16) {
        key.extend(format!("{byte:02x}").into_bytes());
    }
    key
}

/// All that is said to a hasher.
struct Said(Vec<u8>);

impl Hasher for Said {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Tells operators how it goes.
struct Telling {
    redis: Arc<RedisStore>,
    decisions: Arc<Gauge>,
    unavailable: Arc<Gauge>,
}

impl Telling {
    fn of(redis: &Arc<RedisStore>, shared: &tidegate_core::policy::Shared) -> Self {
        Self {
            redis: Arc::clone(redis),
            decisions: shared.gauges().add("tidegate_limits_store_decisions_total", &[]),
            unavailable: shared.gauges().add("tidegate_limits_store_unavailable_total", &[]),
        }
    }
}

impl Job for Telling {
    fn run<'a>(&'a self, world: &'a dyn World) -> Local<'a, ()> {
        Box::pin(async move {
            loop {
                let tally = self.redis.tally();
                self.decisions.set(number(tally.decisions()));
                self.unavailable.set(number(tally.unavailable().map(|(_, count)| count).sum()));
                world.sleep(world.now() + TELL).await;
            }
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53 for a metric")]
fn number(count: u64) -> f64 {
    count as f64
}

impl fmt::Debug for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitsStore").field("settings", &self.settings).finish_non_exhaustive()
    }
}
