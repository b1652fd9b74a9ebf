//! The gates of a route, in the order in which they run.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidegate_config::problem::Path;
use tidegate_http1::ResponseHead;

use super::{Decision, Gate, Stop, Verdict, World};
use crate::exchange::Exchange;

/// When a gate runs. The order here is the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Before anything is known about the caller.
    Edge,
    /// Who is it?
    Authenticate,
    /// May they?
    Authorize,
    /// How much?
    Limit,
    /// What does the service see?
    Transform,
}

impl Phase {
    /// As documentation and `explain` call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Limit => "limit",
            Self::Transform => "transform",
        }
    }
}

/// What a gate did, in all snapshots that had it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that it refused.
    pub refused: AtomicU64,
    /// Requests that it would have refused, had it not been in shadow mode.
    pub shadowed: AtomicU64,
}

/// A gate in its place.
#[derive(Clone)]
pub struct Link {
    /// When it runs.
    pub phase: Phase,
    /// The policy's key in the configuration.
    pub policy: &'static str,
    /// Which of several of that policy: a limit's name; empty if there can be only one.
    pub name: Arc<str>,
    /// What decides.
    pub gate: Arc<dyn Gate>,
    /// It decides for the log alone.
    pub shadow: bool,
    /// What it did.
    pub tally: Arc<Tally>,
    /// Where it was written.
    pub at: Path,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("policy", &self.policy).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Link {
    /// What comes of a request that the gate has stopped.
    #[cold]
    fn stop(&self, stop: Stop, exchange: &mut Exchange) -> Verdict {
        match &stop {
            Stop::Refuse(rejection) if self.shadow => {
                self.tally.shadowed.fetch_add(1, Relaxed);
                exchange.trail.would_refuse(self.policy, &self.name, rejection.code);
                return Ok(());
            }
            Stop::Refuse(_) => {
                self.tally.refused.fetch_add(1, Relaxed);
                exchange.trail.decided(self.policy, &self.name);
            }
            Stop::Answer(_) => {}
        }
        Err(stop)
    }
}

/// The gates of a route.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    links: Vec<Link>,
}

impl Chain {
    /// `links` come in the order of the policy table; those of one phase stay in it.
    pub fn new(mut links: Vec<Link>) -> Self {
        links.sort_by_key(|link| link.phase);
        Self { links }
    }

    /// In the order in which they run.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Whether one of the gates answers preflights.
    pub fn answers_preflights(&self) -> bool {
        self.links.iter().any(|link| link.gate.answers_preflights())
    }

    /// Asks every gate, until one of them stops the request. `Ok` lets it go on.
    pub async fn check(&self, exchange: &mut Exchange, world: &dyn World) -> Verdict {
        for link in &self.links {
            let verdict = match link.gate.check(exchange, world) {
                Decision::Ready(verdict) => verdict,
                Decision::Wait(decided) => decided.await,
            };
            if let Err(stop) = verdict {
                link.stop(stop, exchange)?;
            }
        }
        Ok(())
    }

    /// Lets every gate add to the reply, the last one first.
    pub fn reply(&self, exchange: &Exchange, reply: &mut ResponseHead) {
        for link in self.links.iter().rev() {
            link.gate.reply(exchange, reply);
        }
    }
}
