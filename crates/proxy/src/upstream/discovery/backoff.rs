//! How long to leave a source alone that could not be asked.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Waiting times that double from 1 s to 30 s, each shortened by up to a half at random, so that many gateways do not come back
/// to a source at the same instant.
pub(super) struct Backoff(fastrand::Rng);

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The wait after so many failures in a row.
    pub(super) fn after(&mut self, failures: u32) -> Duration {
        let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(5));
        doubled.min(LONGEST).mul_f64(1.0 - self.0.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_one_second_to_thirty_less_some_chance() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(seed);
            for (failures, most) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 30), (7, 30), (u32::MAX, 30)] {
                let (most, wait) = (Duration::from_secs(most), backoff.after(failures));
                assert!(wait <= most && wait >= most / 2, "{failures}: {wait:?}");
            }
        }
    }
}
