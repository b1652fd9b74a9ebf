//! What is counted of questions, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tidegate_core::policy::{Gauge, Gauges, World};

/// How often operators are told anew.
const TELL: Duration = Duration::from_secs(1);

/// Workers that count by themselves. Beyond that some share a count.
const COUNTS: usize = 64;

/// All counts.
pub(super) struct Tally {
    remembered: Vec<Count>,
    asked: AtomicU64,
    unavailable: AtomicU64,
    allowed: AtomicU64,
    told: [Arc<Gauge>; 4],
}

/// Counts lie on different cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

impl Tally {
    pub(super) fn new(way: &Arc<str>, gauges: &Gauges) -> Self {
        let labels = [("way", way)];
        let told = [
            "tidegate_auth_remembered_total",
            "tidegate_auth_asked_total",
            "tidegate_auth_unavailable_total",
            "tidegate_auth_allowed_unverified_total",
        ];
        Self {
            remembered: std::iter::repeat_with(Count::default).take(COUNTS).collect(),
            asked: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            told: told.map(|name| gauges.add(name, &labels)),
        }
    }

    pub(super) fn remembered(&self, worker: usize) {
        if let Some(Count(count)) = self.remembered.get(worker % COUNTS) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn asked(&self) {
        self.asked.fetch_add(1, Relaxed);
    }

    pub(super) fn unavailable(&self) {
        self.unavailable.fetch_add(1, Relaxed);
    }

    pub(super) fn allowed(&self) {
        self.allowed.fetch_add(1, Relaxed);
    }

    /// Tells operators again and again.
    pub(super) async fn tell(&self, world: &dyn World) {
        loop {
            let remembered = self.remembered.iter().map(|Count(count)| count.load(Relaxed)).sum();
            let others = [&self.asked, &self.unavailable, &self.allowed].map(|count| count.load(Relaxed));
            for (gauge, count) in self.told.iter().zip([remembered].into_iter().chain(others)) {
                gauge.set(number(count));
            }
            world.sleep(world.now() + TELL).await;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53 for a metric")]
fn number(count: u64) -> f64 {
    count as f64
}
