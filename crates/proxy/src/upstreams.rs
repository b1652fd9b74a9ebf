//! The services in use as operators see and steer them, and as their endpoints register with them. It belongs to the control
//! side: requests never come here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tidegate_config::config::{Discovery, Endpoint, RegistryDiscovery, Service};
use tidegate_core::clock::Clock;
use tidegate_core::cluster::{BreakerCommand, Command, Report};

use crate::upstream::service::Plan;

/// So many endpoints may be registered with one service.
const MOST: usize = 1_000;

/// The services of the snapshot in use. Empty until a gateway that was given it starts.
pub struct Upstreams {
    clock: Clock,
    plans: ArcSwap<Vec<Arc<Plan>>>,
    /// By the service's name. What the cluster knows of registrations is changed while this is held, so it is always the latest.
    registries: Mutex<BTreeMap<Arc<str>, Registry>>,
}

/// How a service stands.
#[derive(Debug, Clone)]
pub struct ServiceReport {
    /// What it is configured to be.
    pub config: Arc<Service>,
    /// Its endpoints and its breaker.
    pub cluster: Report,
    /// Requests under way and requests that wait for a place, where `concurrency` limits them.
    pub concurrency: Option<(usize, usize)>,
    /// Retries and hedges that the budget would allow at this moment.
    pub retries_left: u32,
    /// How its discovery fares; `None` where there is none, and for a registry, which asks nobody.
    pub discovery: Option<DiscoveryReport>,
}

/// How a discovery fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiscoveryReport {
    /// How often the source could not be asked.
    pub failures: u64,
    /// When it last answered, since the Unix epoch.
    pub last_success: Option<Duration>,
}

/// An endpoint that registered itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// As it said.
    pub endpoint: Endpoint,
    /// When it is dropped unless it renews before.
    pub expires: Instant,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SteeringError {
    /// No service of that name is in use.
    NoSuchService,
    /// The service has no endpoint of that authority.
    NoSuchEndpoint,
    /// The service's `discovery` is not `registry`.
    NotARegistry,
    /// Nothing is registered under that authority, or not any more.
    NotRegistered,
    /// The service has as many registrations as it may have.
    Full,
}

/// The registrations of one service.
#[derive(Default)]
struct Registry {
    ttl: Duration,
    /// By authority.
    registered: BTreeMap<Arc<str>, Registration>,
    /// Grows with every change of what is registered; renewals are none.
    revision: u64,
    /// Not before this do registrations expire.
    in_use: bool,
}

impl Registry {
    /// Whatever was restored has just registered.
    fn adopt(&mut self, config: &RegistryDiscovery, now: Instant) {
        self.ttl = config.ttl;
        if !std::mem::replace(&mut self.in_use, true) {
            self.registered.values_mut().for_each(|registration| registration.expires = now + config.ttl);
        }
    }

    fn expire(&mut self, service: &str, now: Instant) -> bool {
        let before = self.registered.len();
        self.registered.retain(|authority, registration| {
            let stays = registration.expires > now;
            if !stays {
                tracing::info!(service, endpoint = &**authority, "registration expired");
            }
            stays
        });
        let changed = self.registered.len() < before;
        self.revision += u64::from(changed);
        changed
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        self.registered.values().map(|registration| registration.endpoint.clone()).collect()
    }
}

impl Upstreams {
    /// Nothing in use yet.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, plans: ArcSwap::default(), registries: Mutex::default() })
    }

    /// These services, and no others, from now on. They are configured already.
    pub(crate) fn adopt(&self, plans: &[Arc<Plan>], now: Instant) {
        self.plans.store(Arc::new(plans.to_vec()));
        let mut registries = self.registries();
        registries.retain(|name, _| plans.iter().any(|plan| plan.config.name == *name && registry_of(plan).is_some()));
        for plan in plans {
            let Some(config) = registry_of(plan) else { continue };
            let registry = registries.entry(Arc::clone(&plan.config.name)).or_default();
            registry.adopt(config, now);
            plan.shared.cluster.discovered(registry.endpoints(), now);
        }
    }

    /// How all services stand, by name.
    pub fn report(&self) -> Vec<ServiceReport> {
        let now = self.clock.now();
        self.plans.load().iter().map(|plan| report(plan, now)).collect()
    }

    /// How one service stands.
    ///
    /// # Errors
    /// `NoSuchService`.
    pub fn report_of(&self, service: &str) -> Result<ServiceReport, SteeringError> {
        Ok(report(&*self.plan(service)?, self.clock.now()))
    }

    /// Does what an operator wants done to an endpoint.
    ///
    /// # Errors
    /// `NoSuchService`, `NoSuchEndpoint`.
    pub fn command(&self, service: &str, authority: &str, command: Command) -> Result<(), SteeringError> {
        let plan = self.plan(service)?;
        let done = plan.shared.cluster.command(authority, command, self.clock.now());
        done.map_err(|_| SteeringError::NoSuchEndpoint)
    }

    /// Does what an operator wants done to a service's own breaker.
    ///
    /// # Errors
    /// `NoSuchService`.
    pub fn breaker(&self, service: &str, command: BreakerCommand) -> Result<(), SteeringError> {
        self.plan(service)?.shared.cluster.breaker(command, self.clock.now());
        Ok(())
    }

    /// Registers an endpoint, or replaces what it registered before. It is dropped after the time given unless it renews.
    ///
    /// # Errors
    /// `NoSuchService`, `NotARegistry`, `Full`.
    pub fn register(&self, service: &str, endpoint: Endpoint) -> Result<Duration, SteeringError> {
        self.change(service, |registry, now| {
            let authority = Arc::clone(&endpoint.authority);
            if registry.registered.len() >= MOST && !registry.registered.contains_key(&authority) {
                return Err(SteeringError::Full);
            }
            let registration = Registration { endpoint, expires: now + registry.ttl };
            let before = registry.registered.insert(authority, registration.clone());
            registry.revision += u64::from(before.is_none_or(|before| before.endpoint != registration.endpoint));
            Ok(registry.ttl)
        })
    }

    /// Keeps a registration for another while, which is given.
    ///
    /// # Errors
    /// `NoSuchService`, `NotARegistry`, `NotRegistered`: then the endpoint should register again.
    pub fn renew(&self, service: &str, authority: &str) -> Result<Duration, SteeringError> {
        self.change(service, |registry, now| {
            let ttl = registry.ttl;
            let registration = registry.registered.get_mut(authority).ok_or(SteeringError::NotRegistered)?;
            registration.expires = now + ttl;
            Ok(ttl)
        })
    }

    /// Drops a registration.
    ///
    /// # Errors
    /// `NoSuchService`, `NotARegistry`, `NotRegistered`.
    pub fn deregister(&self, service: &str, authority: &str) -> Result<(), SteeringError> {
        self.change(service, |registry, _| {
            registry.registered.remove(authority).ok_or(SteeringError::NotRegistered)?;
            registry.revision += 1;
            Ok(())
        })
    }

    /// What is registered with a service, by authority.
    ///
    /// # Errors
    /// `NoSuchService`, `NotARegistry`.
    pub fn registrations(&self, service: &str) -> Result<Vec<Registration>, SteeringError> {
        self.change(service, |registry, _| Ok(registry.registered.values().cloned().collect()))
    }

    /// What a registry should begin with when it is put to use, as if all had registered then. Changes nothing where there is a
    /// registry already.
    pub fn restore(&self, service: &Arc<str>, endpoints: Vec<Endpoint>) {
        let expires = self.clock.now();
        let entry = |endpoint: Endpoint| (Arc::clone(&endpoint.authority), Registration { endpoint, expires });
        let mut registries = self.registries();
        registries.entry(Arc::clone(service)).or_insert_with(|| Registry {
            registered: endpoints.into_iter().take(MOST).map(entry).collect(),
            ..Registry::default()
        });
    }

    /// Whether a service has a registry that is in use, or was restored.
    pub fn has_registry(&self, service: &str) -> bool {
        self.registries().contains_key(service)
    }

    /// All registries in use, for whoever keeps them: the service, the configuration, and how often what is registered has changed.
    pub fn registries_in_use(&self) -> Vec<(Arc<str>, RegistryDiscovery, u64)> {
        let registries = self.registries();
        let plans = self.plans.load();
        let of_plan = |plan: &Arc<Plan>| {
            let registry = registries.get(&plan.config.name)?;
            Some((Arc::clone(&plan.config.name), registry_of(plan)?.clone(), registry.revision))
        };
        plans.iter().filter_map(of_plan).collect()
    }

    /// Drops registrations whose time is over.
    pub(crate) fn expire(&self, now: Instant) {
        let mut registries = self.registries();
        let plans = self.plans.load();
        for plan in plans.iter() {
            let Some(registry) = registries.get_mut(&plan.config.name).filter(|registry| registry.in_use) else {
                continue;
            };
            if registry.expire(&plan.config.name, now) {
                plan.shared.cluster.discovered(registry.endpoints(), now);
            }
        }
    }

    /// Does something to a registry and tells the cluster what came of it.
    fn change<T>(
        &self,
        service: &str,
        change: impl FnOnce(&mut Registry, Instant) -> Result<T, SteeringError>,
    ) -> Result<T, SteeringError> {
        let mut registries = self.registries();
        let plan = self.plan(service)?;
        let registry = registries.get_mut(service).filter(|registry| registry.in_use);
        let registry = registry.ok_or(SteeringError::NotARegistry)?;
        let now = self.clock.now();
        registry.expire(service, now);
        let done = change(registry, now);
        plan.shared.cluster.discovered(registry.endpoints(), now);
        done
    }

    fn plan(&self, service: &str) -> Result<Arc<Plan>, SteeringError> {
        let plans = self.plans.load();
        let plan = plans.iter().find(|plan| *plan.config.name == *service);
        plan.map(Arc::clone).ok_or(SteeringError::NoSuchService)
    }

    fn registries(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Registry>> {
        self.registries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn registry_of(plan: &Plan) -> Option<&RegistryDiscovery> {
    match &plan.config.discovery {
        Some(Discovery::Registry(config)) => Some(config),
        _ => None,
    }
}

fn report(plan: &Plan, now: Instant) -> ServiceReport {
    let Plan { config, shared, budget, .. } = plan;
    let asks = config.discovery.is_some() && registry_of(plan).is_none();
    ServiceReport {
        config: Arc::clone(config),
        cluster: shared.cluster.report(now),
        concurrency: config.concurrency.as_ref().map(|_| (shared.limit.inside(), shared.limit.waiting())),
        retries_left: budget.left(now),
        discovery: asks.then(|| DiscoveryReport {
            failures: shared.source.failures(),
            last_success: shared.source.last_success(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::config::Config;
    use tidegate_config::one_endpoint;
    use tidegate_core::clock::ManualClock;
    use tidegate_core::cluster::State;
    use tidegate_core::policy::{NoPolicies, Rules};

    use super::*;
    use crate::Solo;
    use crate::io::testing::block_on;
    use crate::net::Net;
    use crate::telemetry::{LogWriter, Metrics};

    const TTL: Duration = Duration::from_secs(10);

    fn config(service: &str) -> Arc<Config> {
        let yaml = format!(
            "services: {{ app: {{ {service} }}, other: {{ url: http://o.test }} }}\n\
             routes: [{{ match: {{ path_prefix: / }}, service: app }}]"
        );
        Arc::new(tidegate_config::from_yaml(&yaml).map_err(|_| "a valid configuration").unwrap().config)
    }

    fn registry() -> Arc<Config> {
        config("discovery: { registry: { ttl: 10s } }")
    }

    fn tell(config: &Arc<Config>, story: impl FnOnce(&Solo, &Upstreams, &ManualClock)) {
        block_on(async {
            let clock = ManualClock::new(Duration::from_secs(1_000));
            let metrics = Metrics::new();
            let log = LogWriter::start(None, Arc::clone(metrics.log())).unwrap();
            let manual = Clock::Manual(Arc::clone(&clock));
            let solo =
                Solo::new(config, &Rules::new(&NoPolicies), manual, Net::System, (metrics, log.sender())).unwrap();
            story(&solo, solo.upstreams(), &clock);
        });
    }

    fn at(url: &str) -> Endpoint {
        one_endpoint(url).unwrap()
    }

    fn authorities(upstreams: &Upstreams) -> Vec<String> {
        let report = upstreams.report_of("app").unwrap();
        report.cluster.endpoints.iter().map(|endpoint| endpoint.authority.to_string()).collect()
    }

    #[test]
    fn who_registers_is_an_endpoint_until_it_stops_renewing() {
        tell(&registry(), |_, upstreams, clock| {
            assert_eq!(upstreams.register("app", at("http://a.test:81")), Ok(TTL));
            assert_eq!(upstreams.register("app", at("http://b.test:81")), Ok(TTL));
            assert_eq!(authorities(upstreams), ["a.test:81", "b.test:81"]);
            clock.advance(Duration::from_secs(9));
            assert_eq!(upstreams.renew("app", "b.test:81"), Ok(TTL));
            clock.advance(Duration::from_secs(1));
            upstreams.expire(upstreams.clock.now());
            assert_eq!(authorities(upstreams), ["b.test:81"]);
            assert_eq!(upstreams.renew("app", "a.test:81"), Err(SteeringError::NotRegistered));
            assert_eq!(upstreams.deregister("app", "b.test:81"), Ok(()));
            assert_eq!(authorities(upstreams), [""; 0]);
        });
    }

    #[test]
    fn a_renewal_that_comes_too_late_is_told_so_even_before_the_next_look() {
        tell(&registry(), |_, upstreams, clock| {
            upstreams.register("app", at("http://a.test:81")).unwrap();
            clock.advance(TTL);
            assert_eq!(upstreams.renew("app", "a.test:81"), Err(SteeringError::NotRegistered));
            assert_eq!(authorities(upstreams), [""; 0]);
        });
    }

    #[test]
    fn an_endpoint_that_registers_again_has_its_new_weight_and_the_revision_tells() {
        tell(&registry(), |_, upstreams, _| {
            let revision = || upstreams.registries_in_use()[0].2;
            upstreams.register("app", at("http://a.test:81")).unwrap();
            assert_eq!(revision(), 1);
            upstreams.register("app", at("http://a.test:81")).unwrap();
            assert_eq!(revision(), 1, "nothing to save");
            upstreams.register("app", Endpoint { weight: 7, ..at("http://a.test:81") }).unwrap();
            assert_eq!(revision(), 2);
            assert_eq!(upstreams.report_of("app").unwrap().cluster.endpoints[0].weight, 7);
        });
    }

    #[test]
    fn registrations_are_no_more_than_a_thousand() {
        tell(&registry(), |_, upstreams, _| {
            for number in 0..MOST {
                upstreams.register("app", at(&format!("http://a{number}.test"))).unwrap();
            }
            assert_eq!(upstreams.register("app", at("http://b.test")), Err(SteeringError::Full));
            assert_eq!(upstreams.register("app", at("http://a7.test")), Ok(TTL), "it is one of them");
        });
    }

    #[test]
    fn what_was_restored_counts_from_when_it_is_put_to_use() {
        tell(&config("url: http://a.test"), |solo, upstreams, clock| {
            upstreams.restore(&"app".into(), vec![at("http://b.test")]);
            assert_eq!(upstreams.registrations("app"), Err(SteeringError::NotARegistry), "not yet");
            clock.advance(TTL * 2);
            upstreams.expire(upstreams.clock.now());
            solo.reload(&registry()).unwrap();
            assert_eq!(authorities(upstreams), ["b.test"]);
            clock.advance(TTL);
            upstreams.expire(upstreams.clock.now());
            assert_eq!(authorities(upstreams), [""; 0]);
        });
    }

    #[test]
    fn a_service_that_is_no_registry_any_more_forgets_who_registered() {
        tell(&registry(), |solo, upstreams, _| {
            upstreams.register("app", at("http://b.test")).unwrap();
            solo.reload(&config("url: http://a.test")).unwrap();
            assert_eq!(authorities(upstreams), ["a.test"]);
            assert!(!upstreams.has_registry("app"));
            solo.reload(&registry()).unwrap();
            assert_eq!(authorities(upstreams), [""; 0]);
        });
    }

    #[test]
    fn commands_reach_the_endpoint_and_mistakes_are_named() {
        tell(&config("url: http://a.test"), |_, upstreams, _| {
            assert_eq!(upstreams.command("app", "a.test", Command::Drain), Ok(()));
            let report = upstreams.report();
            let states: Vec<_> = report.iter().map(|service| service.cluster.endpoints[0].state).collect();
            assert_eq!(states, [State::Draining, State::Healthy], "by name: app, other");
            assert_eq!(upstreams.command("app", "b.test", Command::Drain), Err(SteeringError::NoSuchEndpoint));
            assert_eq!(upstreams.breaker("none", BreakerCommand::ForceOpen), Err(SteeringError::NoSuchService));
            assert_eq!(upstreams.register("app", at("http://b.test")), Err(SteeringError::NotARegistry));
        });
    }
}
