//! A hash ring: every endpoint owns many points on a circle, a key belongs to the owner of the next point. When an endpoint
//! goes, only its own keys move, each to the owner of the point behind.

use super::Candidate;
use super::hash::Dice;
use crate::affinity::finish;

/// Points for each unit of weight: with equal weights, shares then differ by 6 % (standard deviation).
const POINTS: u64 = 256;
/// Points of a whole ring, about. Services whose weights would need more have half as many, or a quarter, and so on.
const MOST_POINTS: u64 = 1 << 16;

/// Positions of candidates, in the order of their points.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// Positions count candidates that have a weight.
    pub(super) fn new(candidates: &[Candidate]) -> Self {
        let weighted = candidates.iter().filter(|candidate| candidate.weight > 0);
        let total: u64 = weighted.clone().map(|candidate| u64::from(candidate.weight) * POINTS).sum();
        // By powers of two, so that one endpoint more or less hardly ever changes what the others own.
        let divisor = total.div_ceil(MOST_POINTS).next_power_of_two();
        let mut points = Vec::new();
        for (candidate, position) in weighted.zip(0..) {
            let count = (u64::from(candidate.weight) * POINTS / divisor).max(1);
            let mut dice = Dice(candidate.key);
            points.extend((0..count).map(|_| (dice.roll(), position)));
        }
        points.sort_unstable();
        Self { points }
    }

    /// The owner of `key`, then the owner of the next point and so on, once around; an owner comes once for each point.
    pub(super) fn owners(&self, key: u64) -> impl Iterator<Item = u32> {
        let key = finish(key);
        let (before, behind) = self.points.split_at(self.points.partition_point(|(at, _)| *at < key));
        behind.iter().chain(before).map(|(_, position)| *position)
    }
}
