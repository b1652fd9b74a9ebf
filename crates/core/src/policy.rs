//! What policies are made of: gates that decide about requests on their way down, the world that a gate may ask, and the chain
//! of a route. A policy says in which phase its gates run; the order inside a phase is the policy table's, so it is total.

mod chain;
mod gauges;
mod shared;
mod table;
mod world;

use std::future::Future;
use std::pin::Pin;

use tidegate_http1::ResponseHead;

pub use self::chain::{Chain, Link, Phase, Tally};
pub use self::gauges::{Gauge, Gauges, Series};
pub use self::shared::{Shared, TallyKey};
pub use self::table::{Guarded, NoPolicies, Policies, Rules, Table};
pub use self::world::{Answer, Call, CallError, World};
use crate::exchange::{Exchange, Reply};
use crate::rejection::Rejection;

/// A future of one worker: it is polled where it was made.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Decides about requests on their way down. It is shared by all workers; what it keeps, it keeps without locks that are held
/// for long.
pub trait Gate: Send + Sync {
    /// What becomes of the request. Most gates never wait.
    fn check<'a>(&'a self, exchange: &'a mut Exchange, world: &'a dyn World) -> Decision<'a>;

    /// Whether it answers preflights (Fetch, 4.8): these are for the route that would take the request they ask about.
    fn answers_preflights(&self) -> bool {
        false
    }

    /// What it decides by, in a few words for operators who ask what becomes of this request: `10 in 1s, by client_ip 192.0.2.1`. Nobody else
    /// asks, and it may be empty.
    fn describe(&self, _: &Exchange) -> String {
        String::new()
    }

    /// Adds to the reply on its way up. Refusals pass here too, also those of gates before this one.
    fn reply(&self, _: &Exchange, _: &mut ResponseHead) {}
}

/// What a gate says of a request.
pub enum Decision<'a> {
    /// It is known.
    Ready(Verdict),
    /// Somebody must be asked.
    Wait(Local<'a, Verdict>),
}

impl Decision<'_> {
    /// The request goes on.
    pub const PASS: Self = Self::Ready(Ok(()));

    /// The request is refused.
    pub fn refuse(rejection: Rejection) -> Self {
        Self::Ready(Err(Stop::Refuse(Box::new(rejection))))
    }
}

/// `Ok` lets the request go on.
pub type Verdict = Result<(), Stop>;

/// Why a request does not go on.
#[derive(Debug)]
pub enum Stop {
    /// It is refused.
    Refuse(Box<Rejection>),
    /// The gate answers it.
    Answer(Box<Reply>),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Refuse(Box::new(rejection))
    }
}

/// Work that goes on beside requests for as long as a snapshot holds it: keys that are fetched again, files that are followed.
pub trait Job: Send + Sync {
    /// Goes on until it is dropped; it may also end.
    fn run<'a>(&'a self, world: &'a dyn World) -> Local<'a, ()>;
}
