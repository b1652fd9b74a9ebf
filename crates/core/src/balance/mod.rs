//! Which endpoint of a service takes the next request. Strategies are pure: what differs from request to request (the worker's
//! position, random numbers, what was tried already) is an argument, and they know nothing of connections.

mod load;
mod round_robin;

use std::cell::Cell;
use std::sync::Arc;

use tidegate_config::config::Balancing;

pub use load::{Load, Nanos};
pub use round_robin::RoundRobin;

/// Chooses endpoints. Made anew when the endpoints of a service or their weights change.
pub trait Balance: std::fmt::Debug + Send + Sync {
    /// The number of an endpoint, in the order configured; `None` when every endpoint that takes requests is excluded.
    fn pick(&self, pick: &Pick<'_>) -> Option<usize>;
}

/// An endpoint that may be chosen.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What `pick` returns.
    pub index: u32,
    /// At least 1.
    pub weight: u32,
    /// A stable hash of its address.
    pub key: u64,
    /// What it has to do.
    pub load: Arc<Load>,
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
    /// The key of the endpoint that the client's cookie names.
    pub preferred: Option<u64>,
    /// When.
    pub now: Nanos,
    /// Requests under way in the whole service.
    pub active: usize,
}

impl<'a> Pick<'a> {
    /// A choice among all endpoints.
    pub fn new(cursor: &'a Cell<usize>) -> Self {
        Self { cursor, excluded: &[], random: 0, affinity: None, preferred: None, now: Nanos(0), active: 0 }
    }

    /// The same, without these endpoints.
    #[must_use]
    pub fn excluding(self, excluded: &'a [usize]) -> Self {
        Self { excluded, ..self }
    }
}

/// The strategy of a service, for one set of candidates.
#[derive(Debug)]
pub enum Strategy {
    /// In turn, by weight.
    RoundRobin(RoundRobin, Vec<u32>),
}

impl Strategy {
    /// For these candidates.
    pub fn new(_balancing: &Balancing, candidates: &[Candidate]) -> Self {
        let weights: Vec<u32> = candidates.iter().map(|candidate| candidate.weight).collect();
        Self::RoundRobin(RoundRobin::new(&weights), candidates.iter().map(|candidate| candidate.index).collect())
    }
}

impl Balance for Strategy {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        let Self::RoundRobin(turns, indexes) = self;
        let place = |index: &usize| indexes.iter().position(|&other| other as usize == *index);
        let excluded: Vec<usize> = pick.excluded.iter().filter_map(place).collect();
        turns.pick(pick.cursor, &excluded).and_then(|place| indexes.get(place)).map(|&index| index as usize)
    }
}
