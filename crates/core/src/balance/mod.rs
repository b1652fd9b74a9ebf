//! Which endpoint of a service takes the next request. Strategies are pure: what differs from request to request (the worker's
//! position, random numbers, what was tried already) is an argument, and they know nothing of connections.

mod round_robin;

use std::cell::Cell;

pub use round_robin::RoundRobin;

/// Chooses endpoints. Made anew when the endpoints of a service or their weights change.
pub trait Balance: std::fmt::Debug + Send + Sync {
    /// The number of an endpoint, in the order configured; `None` when every endpoint that takes requests is excluded.
    fn pick(&self, pick: &Pick<'_>) -> Option<usize>;
}

/// What a strategy may base its choice on.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    /// This worker's position, kept from one request to the next. It survives a change of endpoints.
    pub cursor: &'a Cell<usize>,
    /// Endpoints that must not be chosen: tried already by this request, or not in service.
    pub excluded: &'a [usize],
    /// Random bits for this choice.
    pub random: u64,
    /// A hash of what keeps a client with its endpoint, for strategies that do.
    pub affinity: Option<u64>,
}

impl<'a> Pick<'a> {
    /// A choice among all endpoints.
    pub fn new(cursor: &'a Cell<usize>) -> Self {
        Self { cursor, excluded: &[], random: 0, affinity: None }
    }

    /// The same, without these endpoints.
    #[must_use]
    pub fn excluding(self, excluded: &'a [usize]) -> Self {
        Self { excluded, ..self }
    }
}
