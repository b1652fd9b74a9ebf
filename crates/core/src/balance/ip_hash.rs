//! A client's address always leads to the same endpoint, as long as that is there.

use super::field::Field;
use super::ring::Ring;
use super::{Balance, Candidate, Pick};

/// A hash ring, without regard to load.
#[derive(Debug, Clone)]
pub struct IpHash {
    field: Field,
    ring: Ring,
}

impl IpHash {
    /// Among these.
    pub fn new(candidates: &[Candidate]) -> Self {
        Self { field: Field::new(candidates), ring: Ring::new(candidates) }
    }
}

impl Balance for IpHash {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let Some(client) = pick.affinity else { return self.field.draw_allowed(pick) };
        let owners = self.ring.owners(client).filter_map(|position| self.field.at(position));
        owners.map(|owner| owner.index).find(|index| pick.allows(*index)).map(|index| index as usize)
    }
}
