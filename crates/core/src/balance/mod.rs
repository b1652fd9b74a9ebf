//! Which endpoint of a service takes the next request. Strategies are pure: what differs from request to request (the worker's
//! position, random numbers, what was tried already) is an argument, and they know nothing of connections or health.

mod consistent_hash;
mod field;
mod hash;
mod ip_hash;
mod least_connections;
mod least_time;
mod load;
mod p2c;
mod random;
mod ring;
mod round_robin;
mod sticky_cookie;

use std::cell::Cell;
use std::sync::Arc;

use tidegate_config::config::Balancing;

pub use consistent_hash::ConsistentHash;
pub use ip_hash::IpHash;
pub use least_connections::LeastConnections;
pub use least_time::LeastTime;
pub use load::{Load, Nanos};
pub use p2c::PowerOfTwo;
pub use random::Random;
pub use round_robin::RoundRobin;
pub use sticky_cookie::StickyCookie;

/// Chooses endpoints. Made anew when the endpoints of a service or their weights change.
pub trait Balance: std::fmt::Debug + Send + Sync {
    /// The [`Candidate::index`] of an endpoint; `None` only when all candidates are excluded, or there are none.
    fn pick(&self, pick: &Pick<'_>) -> Option<usize>;
}

/// An endpoint that may be chosen.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What [`Balance::pick`] returns for it, and what [`Pick::excluded`] calls it.
    pub index: u32,
    /// Its share in relation to the others. 0 is never chosen.
    pub weight: u32,
    /// A hash of its address that is the same in every process: see [`crate::affinity::hash`].
    pub key: u64,
    /// What it has to do right now, as all workers count it.
    pub load: Arc<Load>,
}

/// What a strategy may base its choice on.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    /// This worker's position, kept from one request to the next. It survives a change of endpoints.
    pub cursor: &'a Cell<usize>,
    /// Endpoints that must not be chosen: tried already by this request, or not in service.
    pub excluded: &'a [usize],
    /// Random bits for this choice. The same bits and loads give the same choice.
    pub random: u64,
    /// A hash of what keeps a client with its endpoint, for strategies that do.
    pub affinity: Option<u64>,
    /// The [`Candidate::key`] that the client's cookie asks for.
    pub preferred: Option<u64>,
    /// The time, by the clock that [`Load::answered`] is told.
    pub now: Nanos,
    /// Requests in flight in the whole service, this one not counted.
    pub active: usize,
}

impl<'a> Pick<'a> {
    /// A choice among all endpoints, by what `cursor` remembers alone.
    pub fn new(cursor: &'a Cell<usize>) -> Self {
        Self { cursor, excluded: &[], random: 0, affinity: None, preferred: None, now: Nanos(0), active: 0 }
    }

    fn allows(&self, index: u32) -> bool {
        !self.excluded.contains(&(index as usize))
    }
}

/// How a service chooses: what `load_balancing` says, made for its endpoints.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// In turn, by weight.
    RoundRobin(RoundRobin),
    /// The fewest requests in flight.
    LeastConnections(LeastConnections),
    /// The soonest answer.
    LeastTime(LeastTime),
    /// The less busy of two.
    PowerOfTwo(PowerOfTwo),
    /// By lot.
    Random(Random),
    /// By the client's address.
    IpHash(IpHash),
    /// By a key of the request, with a bound on what one endpoint gets.
    ConsistentHash(ConsistentHash),
    /// By a cookie.
    StickyCookie(StickyCookie),
}

impl Strategy {
    /// What `balancing` asks for, among these.
    pub fn new(balancing: &Balancing, candidates: &[Candidate]) -> Self {
        match balancing {
            Balancing::RoundRobin => Self::RoundRobin(RoundRobin::new(candidates)),
            Balancing::LeastConnections => Self::LeastConnections(LeastConnections::new(candidates)),
            Balancing::LeastTime => Self::LeastTime(LeastTime::new(candidates)),
            Balancing::PowerOfTwo => Self::PowerOfTwo(PowerOfTwo::new(candidates)),
            Balancing::Random => Self::Random(Random::new(candidates)),
            Balancing::IpHash => Self::IpHash(IpHash::new(candidates)),
            Balancing::ConsistentHash(_) => Self::ConsistentHash(ConsistentHash::new(candidates)),
            Balancing::StickyCookie(_) => Self::StickyCookie(StickyCookie::new(candidates)),
        }
    }
}

impl Balance for Strategy {
    fn pick(&self, pick: &Pick<'_>) -> Option<usize> {
        match self {
            Self::RoundRobin(strategy) => strategy.pick(pick),
            Self::LeastConnections(strategy) => strategy.pick(pick),
            Self::LeastTime(strategy) => strategy.pick(pick),
            Self::PowerOfTwo(strategy) => strategy.pick(pick),
            Self::Random(strategy) => strategy.pick(pick),
            Self::IpHash(strategy) => strategy.pick(pick),
            Self::ConsistentHash(strategy) => strategy.pick(pick),
            Self::StickyCookie(strategy) => strategy.pick(pick),
        }
    }
}
