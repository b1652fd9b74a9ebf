//! What is done to traffic besides sending it on: copies for mirrors, trouble on purpose. Which requests it is done to is decided
//! in the core.

mod fault;
mod mirror;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tidegate_config::config::Route;
use tidegate_core::rejection::Rejection;

use self::fault::Fault;
use self::mirror::Mirror;
use crate::live::Live;
use crate::snapshot::Snapshot;
use crate::telemetry::Shard;
use crate::upstream::service::Service;

/// The mirrors and faults of one worker, by the names of their routes.
pub(crate) struct Shaping {
    mirrors: BTreeMap<Arc<str>, Mirror>,
    faults: BTreeMap<Arc<str>, Fault>,
}

impl Shaping {
    /// `services` are the worker's own.
    pub(crate) fn new(snapshot: &Snapshot, services: &[Rc<Service>], shard: &Shard) -> Self {
        let routes = &snapshot.config.routes;
        let mirrors = routes.iter().filter_map(|route| {
            let config = route.mirror.clone()?;
            let service = services.iter().find(|service| service.plan.config.name == config.service)?;
            let cells = shard.mirror(&route.name, &config.service);
            Some((Arc::clone(&route.name), Mirror { config, service: Rc::clone(service), cells }))
        });
        let faults = routes.iter().filter_map(|route| {
            let config = route.fault.clone()?;
            Some((Arc::clone(&route.name), Fault { config, cells: shard.fault(&route.name) }))
        });
        Self { mirrors: mirrors.collect(), faults: faults.collect() }
    }

    /// Lets the route's fault, if it has one, delay or refuse the request.
    pub(crate) async fn trouble(&self, live: &Live<'_>, route: &Route) -> Result<(), Rejection> {
        if route.fault.is_none() {
            return Ok(());
        }
        match self.faults.get(&route.name) {
            Some(fault) => fault.strike(live, route.timeout).await,
            None => Ok(()),
        }
    }

    /// The route's mirror, if this request, with its client's fields, is one of those that are copied.
    pub(crate) fn mirror(&self, live: &Live<'_>, route: &Route) -> Option<&Mirror> {
        route.mirror.as_ref()?;
        self.mirrors.get(&route.name).filter(|mirror| mirror.takes(live))
    }
}
