//! Limits that several gateways share, in Redis or Valkey: asked for each decision, or counted here and told in bulk. How a limit
//! counts is the limiter's arithmetic; what is done when the server is not there is for the limit to say.

mod counts;
mod failure;
mod ledger;
mod line;
mod patience;
mod script;
mod tally;
mod target;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tidegate_core::limiter::{Limit, Outcome};
use tidegate_core::policy::{Job, Local, World};

use self::counts::Meter;
pub use self::failure::Unavailable;
use self::ledger::{Ledger, Seen};
use self::line::Line;
use self::patience::before;
pub use self::tally::Tally;
pub use self::target::Target;

/// Threads with a connection of their own. If there are more, some share one.
const LINES: usize = 64;

/// How limits are shared.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server.
    pub target: Target,
    /// How exact it is.
    pub mode: Mode,
    /// The longest time that a decision may wait for the server.
    pub timeout: Duration,
    /// What all keys begin with.
    pub prefix: String,
}

/// How exact it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The server decides about each request: all gateways together admit exactly the limit.
    Exact,
    /// Each gateway decides by what it knows, and tells the server so often what it has admitted.
    Async {
        /// Time between two reports.
        sync: Duration,
        /// Keys that are known here at once. About what is more, the server decides.
        max_keys: usize,
    },
}

/// A store of limits in Redis. All workers share it, and each has its own connection, made when it first asks.
pub struct RedisStore {
    settings: Settings,
    lines: [OnceLock<Arc<Line>>; LINES],
    ledger: Option<Ledger>,
    tally: Tally,
}

impl RedisStore {
    /// A store that has not connected yet. In the mode `async` it is also a job, and somebody must run that.
    pub fn new(settings: Settings) -> Self {
        let ledger = match settings.mode {
            Mode::Exact => None,
            Mode::Async { max_keys, .. } => Some(Ledger::of(max_keys)),
        };
        Self { settings, lines: [const { OnceLock::new() }; LINES], ledger, tally: Tally::default() }
    }

    /// The server. It shows itself without a password.
    pub fn target(&self) -> &Target {
        &self.settings.target
    }

    /// What it has done.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether a request of this weight may pass; if so, it is counted. `key` says which limit it is and whose count: no two limits
    /// may have a key in common. In the mode `exact` the server is asked, in one round trip.
    pub fn decide<'a>(
        &'a self,
        world: &'a dyn World,
        key: &'a [u8],
        limit: &Limit,
        weight: u64,
    ) -> Local<'a, Result<Outcome, Unavailable>> {
        let meter = Meter::of(limit);
        let known = self.ledger.as_ref().and_then(|ledger| match ledger.decide(world, key, meter, weight) {
            Seen::Known(decision) => Some(decision),
            Seen::Unknown => None,
        });
        match known {
            Some(decision) => {
                self.tally.decided(&decision);
                Box::pin(std::future::ready(decision))
            }
            None => Box::pin(async move {
                let decision = self.ask(world, key, meter, weight).await;
                self.tally.decided(&decision);
                decision
            }),
        }
    }

    async fn ask(&self, world: &dyn World, key: &[u8], meter: Meter, weight: u64) -> Result<Outcome, Unavailable> {
        let (key, arguments) = (self.named(key), meter.arguments(weight, false));
        let (key, arguments) = (key.as_slice(), arguments.as_slice());
        let reply = self
            .on_the_line(world, async |mut connection| meter.script().call(&mut connection, key, arguments).await)
            .await?;
        let (allowed, counts) = meter.answer(&reply)?;
        Ok(meter.outcome(allowed, &counts, weight))
    }

    /// Does something with this thread's connection, within the time there is. What the connection's end cut off is asked once
    /// more: it may count twice then, but is never lost.
    async fn on_the_line<T>(
        &self,
        world: &dyn World,
        ask: impl AsyncFn(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, Unavailable> {
        let began = world.now();
        let deadline = began + self.settings.timeout;
        let line = self.line(world);
        let mut again = true;
        loop {
            let turn = line.enter(world, deadline).await?;
            let answer = before(world, deadline, ask(turn.connection.clone())).await;
            let why = match answer {
                Some(Ok(answer)) => {
                    turn.worked();
                    self.tally.answered(world.now().saturating_duration_since(began));
                    return Ok(answer);
                }
                Some(Err(error)) => Unavailable::of(&error),
                None => Unavailable::Slow,
            };
            if why == Unavailable::Closed && again {
                again = false;
                turn.broke(world);
                continue;
            }
            if why.is_of_server() {
                turn.failed(why, world);
            } else {
                turn.worked();
            }
            return Err(why);
        }
    }

    fn line(&self, world: &dyn World) -> &Arc<Line> {
        let [first, ..] = &self.lines;
        let line = self.lines.get(world.worker() % LINES).unwrap_or(first);
        line.get_or_init(|| Line::to(self.settings.target.clone()))
    }

    fn named(&self, key: &[u8]) -> Vec<u8> {
        [self.settings.prefix.as_bytes(), key].concat()
    }
}

impl Job for RedisStore {
    fn run<'a>(&'a self, world: &'a dyn World) -> Local<'a, ()> {
        Box::pin(async move {
            let (Some(ledger), Mode::Async { sync, .. }) = (&self.ledger, self.settings.mode) else { return };
            loop {
                world.sleep(world.now() + sync).await;
                ledger.report(world, self).await;
            }
        })
    }
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore")
            .field("settings", &self.settings)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}
