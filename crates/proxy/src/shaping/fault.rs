//! Trouble on purpose, so that people see how their clients take it: a delay, then a refusal or the service's own answer.

use std::sync::Arc;
use std::time::Duration;

use tidegate_config::config;
use tidegate_core::rejection::{Rejection, RejectionKind};
use tidegate_core::shaping;

use crate::alarm::pause;
use crate::live::Live;
use crate::telemetry::FaultCells;
use crate::upstream::attempt::Failure;

/// A route's fault on one worker.
pub(super) struct Fault {
    pub(super) config: config::Fault,
    pub(super) cells: Arc<FaultCells>,
}

impl Fault {
    /// Delays and refuses the request, if it is one of those. The delay counts within the route's `timeout`, and ends with
    /// this future when the client leaves.
    pub(super) async fn strike(&self, live: &Live<'_>, timeout: Option<Duration>) -> Result<(), Rejection> {
        let random = (live.worker.random() >> 64) as u64;
        if !shaping::is_faulty(&self.config, &live.exchange.head.fields, random) {
            return Ok(());
        }
        if let Some(delay) = self.config.delay {
            self.cells.delays.up();
            let clock = &live.worker.clock;
            let deadline = timeout.map(|timeout| live.exchange.started + timeout);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(clock.now()));
            pause(clock, left.map_or(delay, |left| left.min(delay))).await;
            if left.is_some_and(|left| left < delay) {
                return Err(Failure::DeadlinePassed { at_fault: false }.rejection());
            }
        }
        let Some(status) = self.config.abort else { return Ok(()) };
        self.cells.aborts.up();
        Err(Rejection::new(RejectionKind::Injected(status), "fault_injected", "Fault injected for testing"))
    }
}
