//! What is counted of a store, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::failure::Unavailable;

/// What a store has done. All numbers only grow.
#[derive(Debug, Default)]
pub struct Tally {
    decisions: AtomicU64,
    unavailable: [AtomicU64; Unavailable::ALL.len()],
    asked: AtomicU64,
    micros: AtomicU64,
}

impl Tally {
    /// Decisions that were made.
    pub fn decisions(&self) -> u64 {
        self.decisions.load(Relaxed)
    }

    /// Decisions that could not be made, by reason.
    pub fn unavailable(&self) -> impl Iterator<Item = (Unavailable, u64)> {
        Unavailable::ALL.into_iter().zip(self.unavailable.iter().map(|count| count.load(Relaxed)))
    }

    /// Round trips to the server that were answered, and the time that all of them took together.
    pub fn round_trips(&self) -> (u64, Duration) {
        (self.asked.load(Relaxed), Duration::from_micros(self.micros.load(Relaxed)))
    }

    pub(super) fn decided<T>(&self, decision: &Result<T, Unavailable>) {
        match decision {
            Ok(_) => self.decisions.fetch_add(1, Relaxed),
            Err(why) => match Unavailable::ALL.iter().zip(&self.unavailable).find(|(known, _)| *known == why) {
                Some((_, count)) => count.fetch_add(1, Relaxed),
                None => 0,
            },
        };
    }

    pub(super) fn answered(&self, took: Duration) {
        self.asked.fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}
