//! The endpoint that would answer soonest: its peak-sensitive latency times the requests that it would then have in flight.

use super::field::Field;
use super::{Balance, Candidate, Load, Nanos, Pick};

/// More than any latency in nanoseconds times any number of requests: endpoints that are being probed come last.
const PROBING: f64 = 1e30;

/// Looks at all endpoints, or at a few if there are more than 32.
#[derive(Debug, Clone)]
pub struct LeastTime {
    field: Field,
}

impl LeastTime {
    /// Among these.
    pub fn new(candidates: &[Candidate]) -> Self {
        Self { field: Field::new(candidates) }
    }
}

impl Balance for LeastTime {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        self.field.least(pick, |load| cost(load, pick.now))
    }
}

/// An endpoint of which nothing is known gets a request at once, but no second one before it has answered the first, unless
/// nothing is known of the others either.
fn cost(load: &Load, now: Nanos) -> f64 {
    let in_flight = f64::from(load.in_flight());
    match load.nanos(now) {
        Some(latency) => f64::from(latency) * (in_flight + 1.0),
        None => PROBING * in_flight,
    }
}
