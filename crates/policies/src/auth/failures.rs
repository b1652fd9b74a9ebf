//! `auth_failures`: how many credentials that prove nothing may come from one address. Whoever has tried too many is refused before anything
//! is looked up or computed for them. It is on wherever `auth` is used, unless it is `off`.

use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_config::policy::{Place, Reading};
use tidegate_config::problem::Path;
use tidegate_config::value::RequestRate;
use tidegate_core::limiter::{Keyed, Limit, Store};
use tidegate_core::policy::World;
use tidegate_core::rejection::{Rejection, RejectionKind};

use crate::policy::{Policy, Setup};
use crate::shared::moment::Origin;

/// The policy.
pub(crate) struct AuthFailures;

/// How many bad credentials may come from one address (IPv6: from one /64 network). Behind a proxy or load balancer this needs
/// `server.trusted_proxies`: without it all clients have its address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthFailuresFile {
    /// How many in the long run. By default 20/m.
    rate: Option<RequestRate>,
    /// How many at once. By default 20.
    burst: Option<u32>,
}

/// What may come from one address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meaning {
    rate: RequestRate,
    burst: u32,
}

const DEFAULT: Meaning = Meaning { rate: RequestRate { requests: 20, per: Duration::from_mins(1) }, burst: 20 };

impl Policy for AuthFailures {
    const KEY: &'static str = "auth_failures";
    const PLACE: Place = Place::Top;
    const SHORT: Option<&'static str> = Some("rate");
    const EXAMPLE: &'static str = "\
auth_failures: { rate: 10/m, burst: 5 }
auth:
  keys: { api_key: { inline: [{ key: a-key-of-the-build-machine, user: ci }] } }
services: { orders: { url: http://127.0.0.1:9001 } }
routes: [{ match: { path_prefix: /orders }, service: orders, auth: keys }]
";
    type File = AuthFailuresFile;
    type Meaning = Meaning;

    fn mean(file: AuthFailuresFile, reading: &mut Reading<'_, '_>) -> Option<Meaning> {
        let path = reading.path();
        for key in ["rate", "burst"] {
            if reading.is_off(&[key]) {
                reading.error(&path.join(key), "write `auth_failures: off` where any number may come");
            }
        }
        let meaning = Meaning { rate: file.rate.unwrap_or(DEFAULT.rate), burst: file.burst.unwrap_or(DEFAULT.burst) };
        if meaning.limit().is_none() {
            reading.error(
                &path.join("burst"),
                "nobody waits for so many, or nobody may try at all: write a number from 1 on",
            );
        }
        Some(meaning)
    }

    fn build(_: Option<&Meaning>, _: &Path, _: &mut Setup<'_>) {}
}

impl Meaning {
    fn limit(self) -> Option<Limit> {
        Limit::bucket(self.rate, Some(self.burst.into())).filter(|_| self.burst > 0)
    }
}

/// What counts failures in this configuration; `None` where that is off.
pub(super) fn failures(setup: &Setup<'_>) -> Option<Arc<Failures>> {
    let written = setup.config.policies.iter().find(|written| written.key == AuthFailures::KEY);
    if written.is_some_and(tidegate_config::policy::Written::is_off) {
        return None;
    }
    let meaning = written.and_then(|written| written.meaning()).copied().unwrap_or(DEFAULT);
    let limit = meaning.limit()?;
    let origin = Origin::of(setup.shared);
    let identity = format!("auth_failures {} {}", meaning.rate, meaning.burst);
    Some(setup.shared.keep(identity, || Failures::new(limit, meaning.burst, origin)))
}

/// Addresses that are counted at once.
const MOST_ADDRESSES: usize = 100_000;

/// Who has failed how often.
pub(super) struct Failures {
    counts: Keyed,
    /// One more may come after so long.
    interval: Duration,
    /// After so long without a failure of anybody, everybody may fail as often as at first.
    memory: Duration,
    origin: Arc<Origin>,
    /// When somebody failed last, in nanoseconds, and one more; 0 is never.
    latest: AtomicU64,
}

impl Failures {
    fn new(limit: Limit, burst: u32, origin: Arc<Origin>) -> Self {
        let nanos = limit.rate().period().as_nanos() / u128::from(limit.rate().amount());
        let interval = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Self {
            counts: Arc::new(Store::new(MOST_ADDRESSES, &RandomState::new())).keyed(limit),
            interval,
            memory: interval.saturating_mul(burst),
            origin,
            latest: AtomicU64::new(0),
        }
    }

    /// Counts a credential that proved nothing.
    pub(super) fn count(&self, client: IpAddr, world: &dyn World) {
        let now = self.origin.now(self.counts.limit(), world);
        self.latest.fetch_max(now.mono.0.saturating_add(1), Relaxed);
        self.counts.decide(&network(client), 1, now);
    }

    /// What is said to those who have tried too often.
    pub(super) fn refusal(&self, client: IpAddr, world: &dyn World) -> Option<Rejection> {
        let latest = self.latest.load(Relaxed).checked_sub(1)?;
        let now = self.origin.now(self.counts.limit(), world);
        if Duration::from_nanos(now.mono.0.saturating_sub(latest)) > self.memory {
            return None;
        }
        let outcome = self.counts.decide(&network(client), 0, now);
        if outcome.remaining.whole() > 0 {
            return None;
        }
        // All but one of the tokens need not be there.
        let wait = (outcome.reset_after.duration() + self.interval).saturating_sub(self.memory);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let detail = "Too many failed attempts";
        Some(Rejection::new(RejectionKind::TooManyRequests, "too_many_failures", detail).retry_after(seconds.max(1)))
    }
}

/// Whoever has an IPv6 address has a whole /64 of them.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Gateway, problems};

    use super::*;

    fn yaml(failures: &str) -> String {
        format!(
            "auth: {{ keys: {{ api_key: {{ inline: [{{ key: a-long-key-of-mary, user: mary }}] }} }} }}
{failures}
server: {{ host: 127.0.0.1, trusted_proxies: 192.0.2.9 }}
services: {{ s: {{ url: http://127.0.0.1:9001 }} }}
routes: [{{ match: {{ path_prefix: / }}, service: s, auth: keys }}]"
        )
    }

    fn said(gateway: &Gateway, request: &str) -> String {
        let said = gateway.send(request).said;
        said.strip_prefix("401 credential_invalid").map_or_else(|| said.clone(), |_| "bad".to_owned())
    }

    const BAD: &str = "GET /\nX-API-Key: wrong";
    const GOOD: &str = "GET /\nX-API-Key: a-long-key-of-mary";
    const REFUSED: &str = "429 too_many_failures: Too many failed attempts\nretry-after: ";

    #[test]
    fn whoever_has_failed_too_often_is_refused_even_with_the_right_key_until_time_has_passed() {
        let gateway = Gateway::of(&yaml("auth_failures: { rate: 1/m, burst: 3 }"));
        for _ in 0..3 {
            assert_eq!(said(&gateway, GOOD), "pass");
            assert_eq!(said(&gateway, BAD), "bad");
        }
        for request in [BAD, GOOD, "GET /"] {
            assert_eq!(said(&gateway, request), format!("{REFUSED}60"));
        }
        gateway.world.advance(Duration::from_secs(30));
        assert_eq!(said(&gateway, GOOD), format!("{REFUSED}30"));
        gateway.world.advance(Duration::from_secs(30));
        assert_eq!(said(&gateway, GOOD), "pass");
        assert_eq!(said(&gateway, BAD), "bad");
        assert_eq!(said(&gateway, BAD), format!("{REFUSED}60"));
        gateway.world.advance(Duration::from_hours(1));
        assert_eq!(said(&gateway, BAD), "bad");
        assert_eq!(said(&gateway, BAD), "bad");
    }

    #[test]
    fn it_is_on_unless_it_is_off() {
        let guess = |gateway: &Gateway| (0..100).filter(|_| said(gateway, BAD) == "bad").count();
        assert_eq!(guess(&Gateway::of(&yaml(""))), 20);
        assert_eq!(guess(&Gateway::of(&yaml("auth_failures: { burst: 5 }"))), 5);
        assert_eq!(guess(&Gateway::of(&yaml("auth_failures: 600/m"))), 20);
        assert_eq!(guess(&Gateway::of(&yaml("auth_failures: off"))), 100);
    }

    #[test]
    fn requests_that_show_nothing_do_not_count() {
        let gateway = Gateway::of(&yaml("auth_failures: { burst: 1 }"));
        for _ in 0..100 {
            assert!(said(&gateway, "GET /").starts_with("401 credential_missing"));
        }
        assert_eq!(said(&gateway, GOOD), "pass");
    }

    #[test]
    fn each_address_counts_by_itself_and_a_network_of_ipv6_is_one_address() {
        let mut gateway = Gateway::of(&yaml("auth_failures: { burst: 1 }"));
        for (client, expected) in [
            ("192.0.2.1", true),
            ("192.0.2.2", true),
            ("::ffff:192.0.2.2", false),
            ("2001:db8::1", true),
            ("2001:db8::ffff:1", false),
            ("2001:db8:0:1::1", true),
        ] {
            gateway.client = (client.parse::<IpAddr>().unwrap(), 1).into();
            assert_eq!(said(&gateway, BAD) == "bad", expected, "{client}");
        }
    }

    #[test]
    fn a_forwarded_address_is_believed_from_trusted_proxies_alone() {
        let mut gateway = Gateway::of(&yaml("auth_failures: { burst: 1 }"));
        let from = |address: &str| format!("{BAD}\nX-Forwarded-For: {address}");
        assert_eq!(said(&gateway, &from("203.0.113.1")), "bad");
        assert!(said(&gateway, &from("203.0.113.2")).starts_with("429"));
        gateway.client = ([192, 0, 2, 9], 1).into();
        assert_eq!(said(&gateway, &from("203.0.113.1")), "bad");
        assert!(said(&gateway, &from("203.0.113.1")).starts_with("429"));
        assert_eq!(said(&gateway, &from("203.0.113.2")), "bad");
    }

    #[test]
    fn a_reload_forgets_nothing() {
        let yaml = yaml("auth_failures: { burst: 1 }");
        let gateway = Gateway::of(&yaml);
        assert_eq!(said(&gateway, BAD), "bad");
        assert!(said(&gateway.reload(&yaml), GOOD).starts_with("429"));
    }

    #[test]
    fn a_limit_that_means_nothing_is_a_mistake() {
        for (failures, problem) in [
            ("auth_failures: { burst: 0 }", "auth_failures.burst: nobody waits"),
            ("auth_failures: { rate: 1/d, burst: 4000000000 }", "auth_failures.burst: nobody waits"),
            ("auth_failures: { rate: off }", "auth_failures.rate: write `auth_failures: off`"),
            ("auth_failures: { rate: 0/s }", "auth_failures.rate"),
        ] {
            let found = problems(&yaml(failures));
            assert!(found.contains(problem), "{failures}: {found}");
        }
    }
}
