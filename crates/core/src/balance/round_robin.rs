//! Round robin that honours weights: each endpoint takes its share, spread as evenly as it goes. With equal weights it is plain
//! round robin.

use super::{Balance, Candidate, Pick};

/// The longest sequence that is built. Weights with a longer one are scaled down; their shares stay right to one part in that many.
const MAX_SEQUENCE: u64 = 4096;

/// A turn for every unit of weight, in an order made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundRobin {
    /// Indexes of candidates.
    sequence: Vec<u32>,
}

impl RoundRobin {
    /// Among these. A weight of 0 takes no turn.
    pub fn new(candidates: &[Candidate]) -> Self {
        let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
        let weights = scaled(&weights);
        let total: i64 = weights.iter().sum();
        let mut credit = vec![0_i64; weights.len()];
        let turns = (0..total).filter_map(|_| candidates.get(next(&weights, &mut credit, total)?));
        Self { sequence: turns.map(|candidate| candidate.index).collect() }
    }
}

impl Balance for RoundRobin {
    /// The next endpoint whose turn it is and that is not excluded.
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let length = self.sequence.len();
        let start = pick.cursor.get().checked_rem(length)?;
        let (before, behind) = self.sequence.split_at(start);
        let turns = behind.iter().chain(before);
        let (passed, index) = turns.enumerate().find(|(_, index)| pick.allows(**index))?;
        pick.cursor.set((start + passed + 1) % length);
        Some(*index as usize)
    }
}

/// The smooth way (as nginx does it): everyone earns their weight, the richest takes the turn and pays for all.
fn next(weights: &[i64], credit: &mut [i64], total: i64) -> Option<usize> {
    for (credit, weight) in credit.iter_mut().zip(weights) {
        *credit += weight;
    }
    // The first of the richest, so that equal weights go in order.
    let richest = credit.iter_mut().enumerate().rev().max_by_key(|(_, credit)| **credit)?;
    *richest.1 -= total;
    Some(richest.0)
}

/// Divided by their greatest common divisor, and further if the sequence were too long; nobody with a weight loses all turns.
fn scaled(weights: &[u32]) -> Vec<i64> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let total: u64 = weights.iter().map(|&weight| u64::from(weight / divisor)).sum();
    let scale = |weight: u32| match u64::from(weight / divisor) {
        weight if total <= MAX_SEQUENCE || weight == 0 => weight,
        weight => (weight * MAX_SEQUENCE / total).max(1),
    };
    weights.iter().map(|&weight| i64::try_from(scale(weight)).unwrap_or(0)).collect()
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}
