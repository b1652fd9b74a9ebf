//! By lot, as likely as weights say.

use super::field::Field;
use super::{Balance, Candidate, Pick};

/// Knows nothing of load, and needs to remember nothing.
#[derive(Debug, Clone)]
pub struct Random {
    field: Field,
}

impl Random {
    /// Among these.
    pub fn new(candidates: &[Candidate]) -> Self {
        Self { field: Field::new(candidates) }
    }
}

impl Balance for Random {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        self.field.draw_allowed(pick)
    }
}
