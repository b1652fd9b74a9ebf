//! The beginning of time, for what counts in numbers.

use std::sync::OnceLock;
use std::time::Instant;

use tidegate_core::balance::Nanos;

/// The first moment at which somebody asked.
#[derive(Debug, Default)]
pub(crate) struct Origin(OnceLock<Instant>);

impl Origin {
    /// The time since then.
    pub(crate) fn since(&self, now: Instant) -> Nanos {
        let origin = *self.0.get_or_init(|| now);
        Nanos(u64::try_from(now.saturating_duration_since(origin).as_nanos()).unwrap_or(u64::MAX))
    }
}
