//! Everything that a configuration means to the workers, built whole before anyone uses it and never changed afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rustls::{ClientConfig, ServerConfig};
use tidegate_config::config::{self, Config};
use tidegate_config::problem::Problems;
use tidegate_core::client::TrustedProxies;
use tidegate_core::policy::{Policies, Rules};
use tidegate_core::retry::Budget;
use tidegate_core::route::Router;
use tidegate_core::shaping::Split;
use tidegate_http1::{FieldName, Limits};

use crate::listener::tls as server_tls;
use crate::upstream::discovery;
use crate::upstream::service::Plan;
use crate::upstream::shared::Shared;
use crate::upstream::sticky::Sticky;
use crate::upstream::tls::{self as client_tls, SystemRoots};
use crate::upstreams::Upstreams;

/// A configuration, ready to be run. Building it has no effects.
pub struct Snapshot {
    /// Counts up with every configuration that was put to use.
    pub revision: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    pub(crate) router: Router,
    pub(crate) targets: Vec<Target>,
    pub(crate) services: Vec<Arc<Plan>>,
    pub(crate) trusted: TrustedProxies,
    pub(crate) limits: Limits,
    /// The field of the request's identifier.
    pub(crate) request_id: FieldName,
    pub(crate) policies: Policies,
    /// By listener name.
    pub(crate) tls: BTreeMap<Arc<str>, Arc<ServerConfig>>,
}

/// Where a route's requests end.
pub(crate) enum Target {
    /// An index into `services`.
    Service(usize),
    Split(Split),
    /// Redirects and fixed answers need nothing but their configuration.
    Answer,
}

impl Snapshot {
    /// Builds all that `config` asks for by `rules`, reusing what did not change since `last`.
    ///
    /// # Errors
    /// All problems at once: routes that can never match, certificates that do not fit their keys, authorities that cannot
    /// be read.
    pub fn build(
        config: &Arc<Config>,
        last: Option<&Self>,
        rules: &Rules,
        now: Instant,
    ) -> Result<(Self, Problems), Problems> {
        let (router, mut problems) = Router::build(&config.routes);
        let (policies, found) = rules.table.build(config, &rules.shared);
        problems.extend(found);
        let mut tls = BTreeMap::new();
        for listener in &config.server.listeners {
            let Some(wanted) = &listener.tls else { continue };
            match last
                .and_then(|last| last.same_tls(wanted))
                .map_or_else(|| server_tls::server_config(wanted, &listener.at.join("tls")), Ok)
            {
                Ok(built) => {
                    tls.insert(Arc::clone(&listener.name), built);
                }
                Err(found) => problems.extend(found),
            }
        }
        let roots = SystemRoots::default();
        let mut services = Vec::with_capacity(config.services.len());
        for service in config.services.values() {
            match plan(service, config, last, (&roots, now)) {
                Ok(plan) => services.push(plan),
                Err(found) => problems.extend(found),
            }
        }
        let limits = &config.server.limits;
        let snapshot = Self {
            revision: last.map_or(1, |last| last.revision + 1),
            config: Arc::clone(config),
            router,
            targets: config.routes.iter().map(|route| target(&route.target, config)).collect(),
            services,
            trusted: TrustedProxies::new(&config.server.trusted_proxies),
            limits: Limits { head_bytes: limits.header_bytes, fields: limits.headers, target_bytes: limits.uri_bytes },
            request_id: FieldName::from(&*config.server.request_id.header),
            policies,
            tls,
        };
        problems.into_result(snapshot)
    }

    /// Puts it to use: what services share across snapshots is told what it means now.
    pub(crate) fn start(&self, upstreams: &Upstreams, now: Instant) {
        for plan in &self.services {
            plan.shared.configure(&plan.config, self.config.server.zone.clone(), now);
        }
        upstreams.adopt(&self.services, now);
    }

    /// What was made of the same TLS settings before: with it, sessions can still be resumed after a reload.
    fn same_tls(&self, wanted: &config::ListenerTls) -> Option<Arc<ServerConfig>> {
        let mut listeners = self.config.server.listeners.iter();
        let same = listeners.find(|listener| listener.tls.as_deref() == Some(wanted))?;
        self.tls.get(&same.name).map(Arc::clone)
    }

    /// The routing table.
    pub fn router(&self) -> &Router {
        &self.router
    }
}

fn plan(
    service: &Arc<config::Service>,
    config: &Config,
    last: Option<&Snapshot>,
    (roots, now): (&SystemRoots, Instant),
) -> Result<Arc<Plan>, Problems> {
    let last = last.and_then(|last| last.services.iter().find(|plan| plan.config.name == service.name));
    if let Some(unchanged) = last.filter(|plan| plan.config == *service) {
        return Ok(Arc::clone(unchanged));
    }
    let tls = client_tls(service, roots)?;
    if let Some(from) = &service.discovery {
        discovery::check(from, roots, &service.at)?;
    }
    let shared = match last {
        Some(last) => Arc::clone(&last.shared),
        None => Shared::new(service, config.server.zone.clone(), now),
    };
    let sticky = if let config::Balancing::StickyCookie(cookie) = &service.balancing {
        Some(Sticky::new(cookie, || shared.secret()))
    } else {
        None
    };
    let (share, floor) = service.retry.as_ref().map_or((0.2, 3), |retry| (retry.budget, retry.budget_floor));
    let budget = Budget::new(share, floor, now);
    Ok(Arc::new(Plan { config: Arc::clone(service), tls, shared, budget, sticky }))
}

/// What connections to the service's endpoints need, if any of them uses TLS, or may turn out to.
fn client_tls(service: &config::Service, roots: &SystemRoots) -> Result<Option<Arc<ClientConfig>>, Problems> {
    let built = || client_tls::client_config(&service.tls, service.protocol, roots, &service.at.join("tls"));
    if service.endpoints.iter().any(|endpoint| endpoint.tls) {
        return built().map(Some);
    }
    match &service.discovery {
        Some(discovery) => match discovery.endpoints_use_tls() {
            Some(false) => Ok(None),
            // Who has no authorities may still have endpoints without TLS; what was written must hold.
            None if service.tls == config::UpstreamTls::default() => Ok(built().ok()),
            Some(true) | None => built().map(Some),
        },
        None => Ok(None),
    }
}

fn target(target: &config::Target, config: &Config) -> Target {
    // The configuration was checked: every name is there.
    let index = |name: &Arc<str>| config.services.keys().position(|known| known == name).unwrap_or_default();
    match target {
        config::Target::Service(name) => Target::Service(index(name)),
        config::Target::Split(split) => Target::Split(Split::new(split, index)),
        config::Target::Redirect(_) | config::Target::Respond(_) => Target::Answer,
    }
}
