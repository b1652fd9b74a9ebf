//! The beginning of time, for what counts in numbers.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tidegate_core::balance::Nanos;
use tidegate_core::limiter::{Algorithm, Limit, Now};
use tidegate_core::policy::{Shared, World};

/// The first moment at which somebody asked.
#[derive(Debug, Default)]
pub(crate) struct Origin(OnceLock<Instant>);

impl Origin {
    /// The one of the gateway: what counted before a reload counts on.
    pub(crate) fn of(shared: &Shared) -> Arc<Self> {
        shared.keep("origin", Self::default)
    }

    /// What a limit must know of the time: only quotas look at the wall clock, and to read a clock costs as much as a decision's arithmetic.
    pub(crate) fn now(&self, limit: &Limit, world: &dyn World) -> Now {
        let wall = match limit.algorithm() {
            Algorithm::FixedWindow => world.wall(),
            Algorithm::TokenBucket { .. } | Algorithm::SlidingWindow | Algorithm::SlidingLog => Duration::ZERO,
        };
        Now { mono: self.since(world.now()), wall }
    }

    /// The time since then.
    fn since(&self, now: Instant) -> Nanos {
        let origin = *self.0.get_or_init(|| now);
        Nanos(u64::try_from(now.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX))
    }
}
