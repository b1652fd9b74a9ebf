//! The same key leads to the same endpoint, few keys move when endpoints come and go, and none gets more than its share and a
//! quarter: consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam).

use super::field::Field;
use super::least_connections::in_flight;
use super::ring::Ring;
use super::{Balance, Candidate, Pick};

/// What an endpoint may have in flight, as a multiple of its share.
const BOUND: f64 = 1.25;
/// So many points of the ring are looked at. At most 4 of 5 endpoints can be at their bound, so that more are hardly ever needed.
const WALK: usize = 64;

/// A hash ring on which keys pass over endpoints that are busy. Requests without a key go where least is in flight.
#[derive(Debug, Clone)]
pub struct ConsistentHash {
    field: Field,
    ring: Ring,
    /// The most that one unit of weight may have in flight for each request in the service.
    bound: f64,
}

impl ConsistentHash {
    /// Among these.
    #[expect(clippy::cast_precision_loss, reason = "a bound may be off by one in 2^52")]
    pub fn new(candidates: &[Candidate]) -> Self {
        let field = Field::new(candidates);
        let bound = BOUND / field.weight() as f64;
        Self { field, ring: Ring::new(candidates), bound }
    }
}

impl Balance for ConsistentHash {
    #[expect(clippy::cast_precision_loss, reason = "a bound may be off by one in 2^52")]
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let Some(key) = pick.affinity else { return self.field.least(pick, in_flight) };
        let bound = self.bound * (pick.active + 1) as f64;
        let owners = self.ring.owners(key).take(WALK).filter_map(|position| self.field.at(position));
        let free = owners
            .filter(|owner| in_flight(&owner.load) < (bound * f64::from(owner.weight)).ceil())
            .find(|owner| pick.allows(owner.index));
        // If anybody is below the bound, then so is whoever has the least.
        free.map_or_else(|| self.field.least_of_all(pick, in_flight), |owner| Some(owner.index as usize))
    }
}
