//! The mode `async`: requests are admitted by what is known here of their key, and what was admitted is told to the server in bulk,
//! whose answer is what is known from then on. How much too much all gateways can admit together is in
//! `docs/decisions/0015-limits-across-machines.md`.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};
use tidegate_core::limiter::Outcome;
use tidegate_core::policy::World;

use super::RedisStore;
use super::counts::{Counts, Meter};
use super::failure::Unavailable;
use super::script::{BUCKET, WINDOWS};

/// Parts of the table, each with a lock that is held for some nanoseconds.
const SHARDS: usize = 64;
/// Keys that one message to the server is about.
const MESSAGE: usize = 128;
/// Keys that are looked at to make room for another.
const LOOKS: usize = 8;

pub(super) struct Ledger {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// Keys in each shard.
    most: usize,
    time: ServerTime,
    /// The position of why reports fail, from one on; nothing while they do not.
    failing: AtomicU8,
}

#[derive(Default)]
struct Shard {
    views: HashMap<Arc<[u8]>, View>,
    /// All keys, those that were looked at last for room in the end.
    order: VecDeque<Arc<[u8]>>,
    /// Keys with something to report.
    changed: Vec<Arc<[u8]>>,
}

struct View {
    meter: Meter,
    /// What the server said, and what was admitted since.
    counts: Counts,
    /// Admitted, and not reported.
    pending: u64,
}

/// What a key's requests weighed since the last report.
struct Entry {
    key: Arc<[u8]>,
    meter: Meter,
    weight: u64,
}

/// What is known here of a key.
pub(super) enum Seen {
    Known(Result<Outcome, Unavailable>),
    /// Nothing: the server must be asked.
    Unknown,
}

impl Ledger {
    pub(super) fn of(max_keys: usize) -> Self {
        Self {
            shards: std::iter::repeat_with(Mutex::default).take(SHARDS).collect(),
            hasher: RandomState::new(),
            most: (max_keys / SHARDS).max(1),
            time: ServerTime::default(),
            failing: AtomicU8::new(0),
        }
    }

    pub(super) fn decide(&self, world: &dyn World, key: &[u8], meter: Meter, weight: u64) -> Seen {
        if !meter.can_be_counted_here() {
            return Seen::Unknown;
        }
        if let Some(why) = self.failing() {
            return Seen::Known(Err(why));
        }
        let now = self.time.now(world);
        let Some(mut shard) = self.shard(key) else { return Seen::Unknown };
        let Some((key, view)) = shard.view(key, meter, (now, self.most)) else { return Seen::Unknown };
        meter.roll(&mut view.counts, now);
        let allowed = meter.wait(&view.counts, weight) == Some(0);
        let outcome;
        if allowed {
            meter.add(&mut view.counts, weight);
            outcome = meter.outcome(allowed, &view.counts, weight);
            let is_news = view.pending == 0 && weight > 0;
            view.pending = view.pending.saturating_add(weight);
            if is_news {
                shard.changed.push(key);
            }
        } else {
            outcome = meter.outcome(allowed, &view.counts, weight);
        }
        Seen::Known(Ok(outcome))
    }

    /// Tells the server what was admitted, and learns what all have.
    pub(super) async fn report(&self, world: &dyn World, store: &RedisStore) {
        let news: Vec<Entry> = self.shards.iter().flat_map(|shard| lock(shard).news()).collect();
        for message in news.chunks(MESSAGE) {
            let told = store.on_the_line(world, async |connection| tell(connection, store, message).await).await;
            self.failing.store(told.as_ref().map_or_else(|why| why.number(), |_| 0), Relaxed);
            let replies = told.unwrap_or_default();
            for (at, entry) in message.iter().enumerate() {
                match replies.get(at) {
                    Some(reply) => self.learn(world, entry, reply.as_deref()),
                    None => self.restore(entry),
                }
            }
        }
    }

    /// Takes over what the server says of a key, and adds what was admitted in the meantime.
    fn learn(&self, world: &dyn World, entry: &Entry, reply: Option<&[u64]>) {
        // The server keeps nothing of a key with a foreign value: it is counted here alone.
        let Some(Ok((_, mut counts))) = reply.map(|reply| entry.meter.answer(reply)) else { return };
        self.time.learn(world, counts.at);
        if let Some(mut shard) = self.shard(&entry.key)
            && let Some(view) = shard.views.get_mut(&entry.key)
        {
            entry.meter.add(&mut counts, view.pending);
            view.counts = counts;
        }
    }

    /// Keeps what could not be told.
    fn restore(&self, entry: &Entry) {
        let Some(mut shard) = self.shard(&entry.key) else { return };
        if let Some(view) = shard.views.get_mut(&entry.key) {
            let was_quiet = view.pending == 0;
            view.pending = view.pending.saturating_add(entry.weight);
            if was_quiet {
                shard.changed.push(Arc::clone(&entry.key));
            }
        }
    }

    fn failing(&self) -> Option<Unavailable> {
        let number = self.failing.load(Relaxed);
        Unavailable::ALL.into_iter().find(|why| why.number() == number)
    }

    fn shard(&self, key: &[u8]) -> Option<MutexGuard<'_, Shard>> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).ok()?;
        self.shards.get(at).map(lock)
    }
}

impl Shard {
    /// What is known of a key, with room made for it if it is new. `None` if there is no room.
    fn view(&mut self, key: &[u8], meter: Meter, (now, most): (u64, usize)) -> Option<(Arc<[u8]>, &mut View)> {
        let key = match self.views.get_key_value(key) {
            Some((known, view)) if view.meter == meter => Arc::clone(known),
            Some(_) => return None,
            None => {
                if self.views.len() >= most {
                    self.make_room(now)?;
                }
                let key: Arc<[u8]> = key.into();
                self.order.push_back(Arc::clone(&key));
                self.views.insert(Arc::clone(&key), View { meter, counts: Counts::default(), pending: 0 });
                key
            }
        };
        let view = self.views.get_mut(&key)?;
        Some((key, view))
    }

    /// Forgets a key of which nothing needs to be known.
    fn make_room(&mut self, now: u64) -> Option<()> {
        for _ in 0..LOOKS {
            let key = self.order.pop_front()?;
            let view = self.views.get_mut(&key)?;
            view.meter.roll(&mut view.counts, now);
            if view.pending == 0 && view.meter.is_idle(&view.counts) {
                self.views.remove(&key);
                return Some(());
            }
            self.order.push_back(key);
        }
        None
    }

    fn news(&mut self) -> Vec<Entry> {
        let changed = std::mem::take(&mut self.changed);
        let entries = changed.into_iter().filter_map(|key| {
            let view = self.views.get_mut(&key)?;
            Some(Entry { meter: view.meter, weight: std::mem::take(&mut view.pending), key })
        });
        entries.collect()
    }
}

/// One message: the scripts, which costs less than to find out whether they are known, and a call for each key.
async fn tell(
    mut connection: MultiplexedConnection,
    store: &RedisStore,
    entries: &[Entry],
) -> RedisResult<Vec<Option<Vec<u64>>>> {
    let mut message = redis::pipe();
    for script in [&*BUCKET, &*WINDOWS] {
        message.add_command(script.load()).ignore();
    }
    for entry in entries {
        let arguments = entry.meter.arguments(entry.weight, true);
        message.add_command(entry.meter.script().call_by_hash(&store.named(&entry.key), &arguments));
    }
    let replies: Vec<Result<Vec<u64>, RedisError>> = message.ignore_errors().query_async(&mut connection).await?;
    let known = replies.into_iter().map(|reply| match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if Unavailable::of(&error).is_of_server() => Err(error),
        Err(_) => Ok(None),
    });
    known.collect()
}

/// The server's clock, as far as it is known here. It is never believed to be ahead of what it is.
#[derive(Default)]
struct ServerTime {
    origin: OnceLock<Instant>,
    /// What the server's clock showed at the origin, in microseconds since 1970.
    shown: AtomicU64,
}

impl ServerTime {
    fn now(&self, world: &dyn World) -> u64 {
        self.passed(world).saturating_add(self.shown.load(Relaxed))
    }

    /// The server's answer had this time in it.
    fn learn(&self, world: &dyn World, at: u64) {
        let passed = self.passed(world);
        self.shown.store(at.saturating_sub(passed), Relaxed);
    }

    /// Microseconds since the origin. Until the server has said otherwise, its clock is taken for the gateway's.
    fn passed(&self, world: &dyn World) -> u64 {
        let now = world.now();
        let origin = self.origin.get_or_init(|| {
            self.shown.store(micros(world.wall()), Relaxed);
            now
        });
        micros(now.saturating_duration_since(*origin))
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
