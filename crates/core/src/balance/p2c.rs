//! The less busy of two endpoints that are drawn by weight: nearly as even as looking at all, at the same price for any number,
//! and workers that do not know of each other's latest choices do not all run to the same endpoint.

use super::field::Field;
use super::least_connections::in_flight;
use super::{Balance, Candidate, Pick};

/// The power of two choices.
#[derive(Debug, Clone)]
pub struct PowerOfTwo {
    field: Field,
}

impl PowerOfTwo {
    /// Among these.
    pub fn new(candidates: &[Candidate]) -> Self {
        Self { field: Field::new(candidates) }
    }
}

impl Balance for PowerOfTwo {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        self.field.least_of(2, pick, in_flight)
    }
}
