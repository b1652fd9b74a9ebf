//! What an endpoint has to do just now, and how long it took lately: counted by all workers without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Nanoseconds since some origin of the caller's: monotonic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Nanos(pub u64);

/// Live load of one endpoint, shared by all workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    in_flight: AtomicU32,
    latency: AtomicU64,
}

impl Load {
    /// A request goes to the endpoint.
    pub fn start(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// A request is over.
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// The head of a reply came after `latency`.
    pub fn answered(&self, latency: Duration, _now: Nanos) {
        self.latency.store(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1), Relaxed);
    }

    /// The latency as it stands; `None` if no reply was ever seen.
    pub fn latency(&self, _now: Nanos) -> Option<Duration> {
        Some(self.latency.load(Relaxed)).filter(|&nanos| nanos > 0).map(Duration::from_nanos)
    }
}
