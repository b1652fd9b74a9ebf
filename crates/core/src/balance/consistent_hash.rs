//! The same key leads to the same endpoint, few keys move when endpoints come and go, and none gets more than its share and a
//! quarter: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam).

use super::field::{Entrant, Field};
use super::least_connections::in_flight;
use super::ring::Ring;
use super::{Balance, Candidate, Pick};

/// What an endpoint may have in flight, as a multiple of its share: 5 / 4.
const BOUND: (u128, u128) = (5, 4);
/// So many points of the ring are looked at. At most 4 of 5 endpoints can be at their bound, so that more are hardly ever needed.
const WALK: usize = 64;

/// A hash ring on which keys pass over endpoints that are busy. Requests without a key go where least is in flight.
#[derive(Debug, Clone)]
pub struct ConsistentHash {
    field: Field,
    ring: Ring,
    /// The sum of all weights.
    weight: u128,
}

impl ConsistentHash {
    /// Among these.
    pub fn new(candidates: &[Candidate]) -> Self {
        let field = Field::new(candidates);
        Self { weight: field.weight().into(), field, ring: Ring::new(candidates) }
    }

    /// Whether one more request leaves the endpoint within its bound, rounded up, when the service has `total`.
    fn has_room(&self, endpoint: &Entrant, total: u128) -> bool {
        let (above, below) = BOUND;
        u128::from(endpoint.load.in_flight()) * below * self.weight < total * above * u128::from(endpoint.weight)
    }
}

impl Balance for ConsistentHash {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let Some(key) = pick.affinity else { return self.field.least(pick, in_flight) };
        let total = pick.active as u128 + 1;
        let owners = self.ring.owners(key).take(WALK).filter_map(|position| self.field.at(position));
        let free = owners.filter(|owner| self.has_room(owner, total)).find(|owner| pick.allows(owner.index));
        // If anybody is below the bound, then so is whoever has the least.
        free.map_or_else(|| self.field.least_of_all(pick, in_flight), |owner| Some(owner.index as usize))
    }
}
