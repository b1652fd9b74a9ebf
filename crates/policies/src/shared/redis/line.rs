//! One worker's connection, and whether it may be used: a server that fails is left alone for a while, and is then tried by one
//! request at a time. No request waits for a server that is known to fail.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tidegate_core::policy::World;
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use super::failure::Unavailable;
use super::patience::{before, unless};
use super::target::Target;

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(1);
/// The shortest and the longest time for which a failing server is left alone.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(super) struct Line {
    target: Target,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    link: Link,
    /// Dropping this ends the connection, and the attempt to make one.
    life: Option<oneshot::Sender<()>>,
    /// Tells a connection from the one before.
    number: u64,
    /// Since it last worked.
    failures: u32,
    why: Unavailable,
    /// When it may be tried again. A failure that nobody was there to see has its pause begin with the next request.
    again: Option<Instant>,
    /// A request is on its way to find out whether it works again.
    trying: bool,
}

enum Link {
    None,
    Opening { since: Instant },
    Open(MultiplexedConnection),
}

/// A request's turn. It says what came of it; one that says nothing was given up by its client.
pub(super) struct Turn<'a> {
    pub(super) connection: MultiplexedConnection,
    line: &'a Line,
    number: u64,
    trying: bool,
}

enum Entry<'a> {
    Turn(Turn<'a>),
    /// A first connection is being made.
    Wait,
    No(Unavailable),
}

impl Line {
    pub(super) fn to(target: Target) -> Arc<Self> {
        let state = State {
            link: Link::None,
            life: None,
            number: 0,
            failures: 0,
            why: Unavailable::Unreachable,
            again: None,
            trying: false,
        };
        Arc::new(Self { target, state: Mutex::new(state), changed: Notify::new() })
    }

    /// A turn. A connection that was never made, or that ended well, is waited for; one that failed is not.
    pub(super) async fn enter(self: &Arc<Self>, world: &dyn World, deadline: Instant) -> Result<Turn<'_>, Unavailable> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.try_enter(world) {
                Entry::Turn(turn) => return Ok(turn),
                Entry::No(why) => return Err(why),
                Entry::Wait => {}
            }
            if before(world, deadline, changed).await.is_none() {
                self.overdue(world);
                return Err(Unavailable::Slow);
            }
        }
    }

    fn try_enter(self: &Arc<Self>, world: &dyn World) -> Entry<'_> {
        let now = world.now();
        let mut state = self.lock();
        if matches!(state.link, Link::Opening { since } if now >= since + CONNECT) {
            self.fail(&mut state, Unavailable::Slow, Some(world));
        }
        let failed = state.failures > 0;
        if failed && state.again.is_none() {
            state.again = Some(now + pause(state.failures, world.random()));
        }
        let early = failed && (state.trying || state.again.is_some_and(|again| now < again));
        match &state.link {
            Link::Open(_) | Link::None if early => Entry::No(state.why),
            Link::Open(connection) => {
                let connection = connection.clone();
                state.trying = failed;
                Entry::Turn(Turn { connection, line: self, number: state.number, trying: failed })
            }
            Link::Opening { .. } if failed => Entry::No(state.why),
            Link::Opening { .. } => Entry::Wait,
            Link::None => {
                self.open(&mut state, world);
                if failed { Entry::No(state.why) } else { Entry::Wait }
            }
        }
    }

    /// Begins to connect, beside all requests.
    fn open(self: &Arc<Self>, state: &mut State, world: &dyn World) {
        let (life, given_up) = oneshot::channel();
        state.number += 1;
        state.link = Link::Opening { since: world.now() };
        state.life = Some(life);
        let work = connect(self.target.clone(), Arc::downgrade(self), state.number);
        world.spawn(Box::pin(unless(given_up, work)));
    }

    /// A connection was made, or not.
    fn opened(&self, number: u64, opened: Result<MultiplexedConnection, Unavailable>) {
        let mut state = self.lock();
        if state.number == number {
            match opened {
                Ok(connection) => state.link = Link::Open(connection),
                Err(why) => self.fail(&mut state, why, None),
            }
            self.changed.notify_waiters();
        }
    }

    /// The first connection is not there in time. It may still come, but nobody waits for it any more.
    fn overdue(&self, world: &dyn World) {
        let mut state = self.lock();
        if state.failures == 0 && matches!(state.link, Link::Opening { .. }) {
            self.note(&mut state, Unavailable::Slow, Some(world));
        }
    }

    /// A connection ended.
    fn closed(&self, number: u64) {
        let mut state = self.lock();
        if state.number == number && matches!(state.link, Link::Open(_)) {
            state.link = Link::None;
        }
    }

    fn fail(&self, state: &mut State, why: Unavailable, world: Option<&dyn World>) {
        state.link = Link::None;
        state.life = None;
        state.number += 1;
        self.note(state, why, world);
    }

    fn note(&self, state: &mut State, why: Unavailable, world: Option<&dyn World>) {
        if state.failures == 0 {
            warn!("limits store {}: {why}; limits go on without it", self.target);
        }
        state.failures = state.failures.saturating_add(1);
        state.why = why;
        state.again = world.map(|world| world.now() + pause(state.failures, world.random()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The server answered.
    pub(super) fn worked(self) {
        if self.trying {
            let mut state = self.line.lock();
            if state.number == self.number {
                state.failures = 0;
                info!("limits store {}: it works again", self.line.target);
            }
        }
    }

    /// The server failed: its connection is not used again.
    pub(super) fn failed(self, why: Unavailable, world: &dyn World) {
        let mut state = self.line.lock();
        if state.number == self.number {
            self.line.fail(&mut state, why, Some(world));
        }
    }

    /// The connection broke off. Whether the server fails is found out by asking again, unless this turn was to find out.
    pub(super) fn broke(self, world: &dyn World) {
        if self.trying {
            self.failed(Unavailable::Closed, world);
        } else {
            self.line.closed(self.number);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.trying {
            self.line.lock().trying = false;
        }
    }
}

/// Connects, and lives as long as the connection does.
async fn connect(target: Target, line: Weak<Line>, number: u64) {
    let (opened, driver) = match target.open().await {
        Ok((connection, driver)) => (Ok(connection), Some(driver)),
        Err(error) => (Err(refused(&error)), None),
    };
    if let Some(line) = line.upgrade() {
        line.opened(number, opened);
    }
    if let Some(driver) = driver {
        driver.await;
        if let Some(line) = line.upgrade() {
            line.closed(number);
        }
    }
}

/// Why a connection could not be made.
fn refused(error: &RedisError) -> Unavailable {
    if error.is_io_error() { Unavailable::Unreachable } else { Unavailable::of(error) }
}

/// Twice as long after each failure, and between half of that and all of it, so that gateways do not come back together.
pub(super) fn pause(failures: u32, random: u128) -> Duration {
    let whole = PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE.1);
    let share = 512 + u32::try_from(random % 512).unwrap_or_default();
    whole * share / 1024
}
