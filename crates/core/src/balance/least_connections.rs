//! The endpoint with the fewest requests in flight, in relation to its weight.

use super::field::Field;
use super::{Balance, Candidate, Load, Pick};

/// Looks at all endpoints, or at a few if there are more than 32.
#[derive(Debug, Clone)]
pub struct LeastConnections {
    field: Field,
}

impl LeastConnections {
    /// Among these.
    pub fn new(candidates: &[Candidate]) -> Self {
        Self { field: Field::new(candidates) }
    }
}

impl Balance for LeastConnections {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        self.field.least(pick, in_flight)
    }
}

/// What an endpoint costs whose only merit is to be idle.
pub(super) fn in_flight(load: &Load) -> f64 {
    f64::from(load.in_flight())
}
