//! Round robin that honours weights: each endpoint takes its share, spread as evenly as it goes. With equal weights it is plain
//! round robin.

use std::cell::Cell;

use super::{Balance, Pick};

/// The longest sequence that is built. Weights with a longer one are scaled down; their shares stay right to one part in that many.
const MAX_SEQUENCE: u64 = 4096;

/// A turn for every unit of weight, in an order made once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundRobin {
    sequence: Vec<u32>,
}

impl RoundRobin {
    /// For endpoints of these weights, in their order. A weight of 0 takes no turn.
    pub fn new(weights: &[u32]) -> Self {
        let weights = scaled(weights);
        let total: i64 = weights.iter().sum();
        let mut credit = vec![0_i64; weights.len()];
        let turns = (0..total).filter_map(|_| next(&weights, &mut credit, total));
        Self { sequence: turns.collect() }
    }

    /// The next endpoint whose turn it is and that is not excluded. `cursor` is the worker's position.
    pub fn pick(&self, cursor: &Cell<usize>, excluded: &[usize]) -> Option<usize> {
        let length = self.sequence.len();
        let start = cursor.get().checked_rem(length)?;
        let turns = self.sequence.iter().cycle().skip(start).take(length).map(|&endpoint| endpoint as usize);
        let (passed, endpoint) = turns.enumerate().find(|(_, endpoint)| !excluded.contains(endpoint))?;
        cursor.set((start + passed + 1) % length);
        Some(endpoint)
    }
}

impl Balance for RoundRobin {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        self.pick(pick.cursor, pick.excluded)
    }
}

/// The smooth way (as nginx does it): everyone earns their weight, the richest takes the turn and pays for all.
fn next(weights: &[i64], credit: &mut [i64], total: i64) -> Option<u32> {
    for (credit, weight) in credit.iter_mut().zip(weights) {
        *credit += weight;
    }
    // The first of the richest, so that equal weights go in order.
    let richest = credit.iter_mut().enumerate().rev().max_by_key(|(_, credit)| **credit)?;
    *richest.1 -= total;
    u32::try_from(richest.0).ok()
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
