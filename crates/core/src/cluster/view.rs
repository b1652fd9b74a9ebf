//! What workers choose from: the members as they stood when it was made. A new one is published whenever any standing changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_config::config;

use super::gate::Pass;
use super::member::{Common, Member};
use super::ticket::Ticket;
use crate::balance::{Balance, Candidate, Pick, Strategy};

/// A service's endpoints, and how one of them is chosen. Immutable.
#[derive(Debug)]
pub struct View {
    /// Rises with every view of a cluster.
    pub revision: u64,
    /// All endpoints, in service or not: configured ones first, then discovered ones.
    pub members: Vec<Arc<Member>>,
    /// When time alone will change something: call [`super::Cluster::settle`] then.
    pub next_change: Option<Instant>,
    pub(super) common: Arc<Common>,
    /// Places of endpoints that a few requests may try.
    pub(super) trials: Vec<usize>,
    /// Whom to ask, in this order: each tier's endpoints in the gateway's own zone, then the whole tier.
    pub(super) groups: Vec<Strategy>,
    pub(super) outlook: Outlook,
}

/// What is to be said when there is nothing to choose.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outlook {
    /// When the service's breaker will let trials through.
    pub(super) service: Option<Instant>,
    /// Whether any endpoint's breaker is not closed.
    pub(super) open: bool,
    /// The earliest time at which an endpoint may come back.
    pub(super) returns: Option<Instant>,
    /// How often endpoints are checked, where one is unhealthy.
    pub(super) checks: Option<Duration>,
}

/// Why there is no endpoint for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No endpoint takes requests.
    NoEndpoint {
        /// When that may change, if anything is known to.
        retry_after: Option<Duration>,
    },
    /// A circuit breaker is open, and no endpoint without one is left.
    Open {
        /// When that may change.
        retry_after: Duration,
    },
    /// All endpoints that take requests are excluded. Without exclusions there may be one.
    AllTried,
}

/// When trials are under way their results may come any moment.
const SOON: Duration = Duration::from_secs(1);

impl View {
    /// An endpoint for the request, and leave to use it. `pick.now` is set here.
    pub fn choose(&self, pick: &Pick<'_>, now: Instant) -> Result<Ticket, Refusal> {
        let gate = &self.common.circuit.gate;
        let service = gate.enter().ok_or_else(|| Refusal::Open { retry_after: after(self.outlook.service, now) })?;
        let pick = Pick { now: self.common.nanos(now), ..*pick };
        let Some((index, member, pass)) = self.trial(&pick).or_else(|| self.place(&pick)) else {
            gate.give_back(service);
            return Err(self.refusal(&pick, now));
        };
        Ok(Ticket::new(index, Arc::clone(member), (pass, service), now))
    }

    /// Trials go first, so that recovery does not depend on the strategy.
    #[inline]
    fn trial(&self, pick: &Pick<'_>) -> Option<(usize, &Arc<Member>, Pass)> {
        if self.trials.is_empty() || self.is_settled(pick) {
            return None;
        }
        let free = self.trials.iter().filter(|index| !pick.excluded.contains(index));
        free.copied().find_map(|index| self.enter(index))
    }

    /// Whether the request has an endpoint of its own that takes requests: no trial is worth a session.
    fn is_settled(&self, pick: &Pick<'_>) -> bool {
        let Some(key) = pick.preferred else { return false };
        let mut members = self.members.iter().enumerate().filter(|(index, _)| !self.trials.contains(index));
        members.any(|(_, member)| member.key == key && member.in_service())
    }

    /// Whom the strategies name, unless they may not be used any more since this view was made.
    fn place(&self, pick: &Pick<'_>) -> Option<(usize, &Arc<Member>, Pass)> {
        let mut denied = Vec::new();
        self.groups.iter().find_map(|group| self.place_in(group, pick, &mut denied))
    }

    /// `denied` is empty, or what is excluded and what could not be entered.
    fn place_in(
        &self,
        group: &Strategy,
        pick: &Pick<'_>,
        denied: &mut Vec<usize>,
    ) -> Option<(usize, &Arc<Member>, Pass)> {
        loop {
            let excluded = if denied.is_empty() { pick.excluded } else { denied.as_slice() };
            let index = group.pick(&Pick { excluded, ..*pick })?;
            let entered = self.enter(index);
            if entered.is_some() {
                return entered;
            }
            if denied.is_empty() {
                denied.extend_from_slice(pick.excluded);
            }
            denied.push(index);
        }
    }

    #[inline]
    fn enter(&self, index: usize) -> Option<(usize, &Arc<Member>, Pass)> {
        let member = self.members.get(index)?;
        Some((index, member, member.counters.circuit.gate.enter()?))
    }

    fn refusal(&self, pick: &Pick<'_>, now: Instant) -> Refusal {
        let tried = !pick.excluded.is_empty() && !self.groups.is_empty();
        let Outlook { open, returns, checks, .. } = self.outlook;
        match returns.map(|at| at.saturating_duration_since(now)).into_iter().chain(checks).min() {
            _ if tried => Refusal::AllTried,
            retry_after if open => Refusal::Open { retry_after: retry_after.unwrap_or(SOON) },
            retry_after => Refusal::NoEndpoint { retry_after },
        }
    }
}

fn after(at: Option<Instant>, now: Instant) -> Duration {
    at.map_or(SOON, |at| at.saturating_duration_since(now))
}

/// One member as the groups are made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// 0 is not to be used.
    pub(super) weight: u32,
    pub(super) in_service: bool,
    /// Out of service, but to be used when too many are.
    pub(super) last_resort: bool,
    /// Takes no part at all, by an operator's will.
    pub(super) withdrawn: bool,
}

/// A tier, as far as it can take requests.
struct Tier {
    priority: u32,
    /// Places of those that can be used.
    places: Vec<usize>,
    serves: bool,
    panics: bool,
}

/// Who may be used, tier by tier: those in service, and the others too where too few of a tier are. Tiers without any
/// endpoint in service come last.
fn tiers(members: &[Arc<Member>], shares: &[Share], threshold: Option<f64>) -> Vec<Tier> {
    let mut priorities: Vec<u32> = members.iter().map(|member| member.endpoint.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let tier = |priority: u32| {
        let of_tier =
            || (0..).zip(members).zip(shares).filter(move |((_, member), _)| member.endpoint.priority == priority);
        let serving = count(of_tier().filter(|(_, share)| share.in_service));
        let all = count(of_tier().filter(|(_, share)| !share.withdrawn));
        let panics = threshold.is_some_and(|threshold| serving < threshold * all);
        let usable = of_tier().filter(|(_, share)| share.in_service || panics && share.last_resort);
        let places = usable.map(|((place, _), _)| place).collect();
        Tier { priority, places, serves: serving > 0.0, panics }
    };
    let mut tiers: Vec<Tier> = priorities.into_iter().map(tier).collect();
    tiers.sort_by_key(|tier| (!tier.serves, tier.priority));
    tiers
}

/// As a number that shares can be taken of.
fn count(items: impl Iterator) -> f64 {
    u32::try_from(items.count()).map_or(f64::MAX, f64::from)
}

/// The strategies of all tiers in their order, and the tiers that use their last resort.
pub(super) fn groups(
    members: &[Arc<Member>],
    shares: &[Share],
    config: &config::Service,
    zone: Option<&str>,
) -> (Vec<Strategy>, Vec<u32>) {
    let mut groups = Vec::new();
    let mut panicking = Vec::new();
    for tier in tiers(members, shares, config.panic_threshold) {
        if tier.panics {
            panicking.push(tier.priority);
        }
        let near = zone.map(|zone| near(members, shares, (&tier, zone))).unwrap_or_default();
        for places in [near, tier.places] {
            let candidates: Vec<Candidate> = places
                .into_iter()
                .filter_map(|place| candidate(place, members.get(place)?, *shares.get(place)?))
                .collect();
            if !candidates.is_empty() {
                groups.push(Strategy::new(&config.balancing, &candidates));
            }
        }
    }
    (groups, panicking)
}

/// The places of the tier's endpoints in this zone, if at least half of them are in service, and if there are others.
fn near(members: &[Arc<Member>], shares: &[Share], (tier, zone): (&Tier, &str)) -> Vec<usize> {
    let is_near = |member: &Arc<Member>| member.endpoint.zone.as_deref() == Some(zone);
    let here = || {
        let of_tier =
            (0..).zip(members).zip(shares).filter(|((_, member), _)| member.endpoint.priority == tier.priority);
        of_tier.filter(|((_, member), share)| is_near(member) && !share.withdrawn)
    };
    let serving: Vec<usize> = here().filter(|(_, share)| share.in_service).map(|((place, _), _)| place).collect();
    let enough = serving.len() * 2 >= here().count() && serving.len() < tier.places.len();
    if enough { serving } else { Vec::new() }
}

fn candidate(place: usize, member: &Arc<Member>, share: Share) -> Option<Candidate> {
    let index = u32::try_from(place).ok()?;
    Some(Candidate { index, weight: share.weight.max(1), key: member.key, load: Arc::clone(&member.load) })
}
