//! The candidates of a strategy, prepared for what most strategies do with them: draw one by weight, or find the one of the
//! least cost.

use std::sync::Arc;

use super::hash::Dice;
use super::{Candidate, Load, Pick};

/// Up to so many candidates are all looked at; of more, a few are drawn.
const ALL: usize = 32;
/// How many are drawn.
const FEW: usize = 8;
/// For each that is wanted, how often one is drawn before the excluded and the repeated are too many.
const DRAWS: usize = 4;

/// All that may be chosen.
#[derive(Debug, Clone)]
pub(super) struct Field {
    entrants: Box<[Entrant]>,
}

/// A candidate, and a column of an alias table: a column is as likely as any other, and in it `threshold` of 2^32 is the
/// candidate's own and the rest belongs to `other`.
#[derive(Debug, Clone)]
pub(super) struct Entrant {
    pub(super) load: Arc<Load>,
    pub(super) index: u32,
    pub(super) weight: u32,
    threshold: u32,
    other: u32,
}

/// The best so far.
struct Best {
    index: u32,
    cost: f64,
    weight: f64,
}

impl Field {
    /// Of those that have a weight; in the same order, so that positions are the same for all that is made of `candidates`.
    pub(super) fn new(candidates: &[Candidate]) -> Self {
        let weighted = candidates.iter().filter(|candidate| candidate.weight > 0);
        let mut entrants: Box<[Entrant]> = weighted.zip(0..).map(Entrant::alone).collect();
        share_columns(&mut entrants);
        Self { entrants }
    }

    /// The sum of all weights.
    pub(super) fn weight(&self) -> u64 {
        self.entrants.iter().map(|entrant| u64::from(entrant.weight)).sum()
    }

    pub(super) fn at(&self, position: u32) -> Option<&Entrant> {
        self.entrants.get(position as usize)
    }

    /// One by lot, as likely as its weight says. No bit of `random` counts twice.
    #[expect(clippy::cast_possible_truncation, reason = "the upper and the lower half are two lots")]
    pub(super) fn draw(&self, random: u64) -> Option<&Entrant> {
        let column = ((random >> 32) * self.entrants.len() as u64) >> 32;
        let entrant = self.entrants.get(column as usize)?;
        if random as u32 <= entrant.threshold { Some(entrant) } else { self.at(entrant.other) }
    }

    /// One by lot that is not excluded.
    pub(super) fn draw_allowed(&self, pick: &Pick<'_>) -> Option<usize> {
        let mut dice = Dice(pick.random);
        let drawn = (0..DRAWS).filter_map(|_| self.draw(dice.roll())).find(|entrant| pick.allows(entrant.index));
        drawn.map_or_else(|| self.least_of_all(pick, |_| 0.0), |entrant| Some(entrant.index as usize))
    }

    /// The one whose cost is the least in relation to its weight; of many candidates, the best of a few drawn ones. Among
    /// equals a lot decides, by weight.
    pub(super) fn least(&self, pick: &Pick<'_>, cost: impl Fn(&Load) -> f64) -> Option<usize> {
        if self.entrants.len() <= ALL { self.least_of_all(pick, cost) } else { self.least_of(FEW, pick, cost) }
    }

    /// The same, however many there are.
    pub(super) fn least_of_all(&self, pick: &Pick<'_>, cost: impl Fn(&Load) -> f64) -> Option<usize> {
        let mut dice = Dice(pick.random);
        let mut best: Option<Best> = None;
        let mut tied = 0.0;
        for entrant in self.entrants.iter().filter(|entrant| pick.allows(entrant.index)) {
            let this = entrant.at_cost(cost(&entrant.load));
            let (mine, others) = best.as_ref().map_or((0.0, 1.0), |best| this.against(best));
            if mine > others {
                continue;
            }
            tied = if mine < others { this.weight } else { tied + this.weight };
            if mine < others || dice.fraction() * tied < this.weight {
                best = Some(this);
            }
        }
        best.map(|best| best.index as usize)
    }

    /// The best of `wanted` that are drawn by weight. Among equals it is the first, because it was a lot already.
    pub(super) fn least_of(&self, wanted: usize, pick: &Pick<'_>, cost: impl Fn(&Load) -> f64) -> Option<usize> {
        let mut dice = Dice(pick.random);
        let mut best: Option<Best> = None;
        let mut seen = 0;
        for _ in 0..wanted * DRAWS {
            let entrant = self.draw(dice.roll())?;
            if best.as_ref().is_some_and(|best| best.index == entrant.index) || !pick.allows(entrant.index) {
                continue;
            }
            let this = entrant.at_cost(cost(&entrant.load));
            let (mine, others) = best.as_ref().map_or((0.0, 1.0), |best| this.against(best));
            best = if mine < others { Some(this) } else { best };
            seen += 1;
            if seen == wanted {
                break;
            }
        }
        best.map_or_else(|| self.least_of_all(pick, cost), |best| Some(best.index as usize))
    }
}

impl Entrant {
    fn alone((candidate, position): (&Candidate, u32)) -> Self {
        let Candidate { index, weight, load, .. } = candidate;
        Self { load: Arc::clone(load), index: *index, weight: *weight, threshold: u32::MAX, other: position }
    }

    fn at_cost(&self, cost: f64) -> Best {
        Best { index: self.index, cost, weight: f64::from(self.weight) }
    }
}

impl Best {
    /// Both costs for the same weight: multiplied rather than divided, so that equals are equal.
    fn against(&self, other: &Self) -> (f64, f64) {
        (self.cost * other.weight, other.cost * self.weight)
    }
}

/// Fills the columns of those who have less than the average with a part of those who have more (Vose's way).
fn share_columns(entrants: &mut [Entrant]) {
    let total: u128 = entrants.iter().map(|entrant| u128::from(entrant.weight)).sum();
    let count = entrants.len() as u128;
    let parts = (0..).zip(entrants.iter().map(|entrant| u128::from(entrant.weight) * count));
    let (mut poor, mut rich): (Vec<(u32, u128)>, Vec<_>) = parts.partition(|(_, part)| *part < total);
    while let (Some((position, part)), Some((other, surplus))) = (poor.pop(), rich.last_mut()) {
        if let Some(entrant) = entrants.get_mut(position as usize) {
            entrant.threshold = u32::try_from((part << 32) / total).unwrap_or(u32::MAX);
            entrant.other = *other;
        }
        *surplus -= total - part;
        if *surplus < total {
            poor.extend(rich.pop());
        }
    }
}
