//! What is known of each key, in a space that is bounded: a key belongs to one small set, and in it has a slot of its own while it is
//! busy. Where that set is full it may have one in a set of a smaller table; where that is full too, keys share until one is free.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Slots of a set: with the lock, those of buckets fill two cache lines, which processors fetch together. A decision waits for
/// memory once.
const WAYS: usize = 5;

/// Slots for each key that the table is made for. As keys fall into sets by chance, one in forty of so many busy keys finds its set
/// full; of half as many, one in seven hundred.
const SLOTS_PER_KEY: usize = 2;

/// For those there is a table for so many times fewer keys. Of as many as it is made for, fifteen in a million must share.
const SPILL: usize = 16;

/// Sets whose memory is allocated at once, at the first use of one of them: 35 KB of buckets, some microseconds.
const CHUNK: usize = 256;

/// For so many keys that the table is made for, each limit may have one bucket that keys share.
const KEYS_PER_SHARED: usize = 128;

/// What a table keeps of a key. A new one is that of a key which has done nothing.
pub(super) trait State: Default {
    /// From when on it is as good as new, so that its slot may be given to another key.
    fn idle_at(&self) -> u64;

    /// What a key that has shared this state takes along into a slot of its own. `None` if it must stay.
    fn inherited(&self) -> Option<Self>;
}

/// Where the state of a key was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// In a slot of its own.
    Own,
    /// In one that other keys use too.
    Shared,
}

/// Keys by their hash. Two keys of the same hash are one key: with random keys of the hash, and a million of them in the table,
/// the odds that any two are is one in thirty million.
#[derive(Debug)]
pub(super) struct Table<S> {
    sets: usize,
    /// By how many bits hashes are turned, so that the two tables' sets depend on other bits of them.
    turned: u32,
    chunks: Box<[OnceLock<Chunk<S>>]>,
    /// For keys whose set is full.
    spill: Option<Box<Self>>,
}

/// Arrays, so that a number below their length needs no look at it.
#[derive(Debug)]
struct Chunk<S> {
    sets: Box<[Set<S>; CHUNK]>,
    /// By set: until then, what one of its keys has done may be written elsewhere. Changed under the set's lock. It does not stand
    /// beside the slots, because only keys without a slot ever look at it.
    spilled: Box<[AtomicU64; CHUNK]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set<S>(Mutex<[Slot<S>; WAYS]>);

/// The set of a key, until it is dropped.
pub(super) struct Locked<'a, S> {
    slots: MutexGuard<'a, [Slot<S>; WAYS]>,
    /// The key's.
    own: usize,
    /// See [`Chunk::spilled`].
    spilled: &'a AtomicU64,
    hash: u64,
}

/// One that nobody has had yet is like that of a key whose hash is 0 and that has done nothing.
#[derive(Debug, Default)]
struct Slot<S> {
    tag: u64,
    state: S,
}

/// The buckets that those keys of one limit share that have none of their own.
#[derive(Debug)]
pub(super) struct Shared<S> {
    count: usize,
    buckets: OnceLock<Box<[Mutex<S>]>>,
}

impl<S: State> Table<S> {
    /// For so many keys. Next to nothing is allocated yet.
    pub(super) fn new(keys: usize) -> Self {
        let spill = Self { turned: 32, ..Self::without_spill(keys / SPILL) };
        Self { spill: Some(Box::new(spill)), ..Self::without_spill(keys) }
    }

    fn without_spill(keys: usize) -> Self {
        let sets = keys.saturating_mul(SLOTS_PER_KEY).div_ceil(WAYS).max(1);
        Self { sets, turned: 0, chunks: (0..sets.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(), spill: None }
    }

    /// What the keys of a new limit may share.
    pub(super) fn shared(&self) -> Shared<S> {
        let keys = self.sets * WAYS / SLOTS_PER_KEY;
        Shared { count: keys.div_ceil(KEYS_PER_SHARED), buckets: OnceLock::new() }
    }

    /// Locks the set of a key, so that nobody else sees the key's state meanwhile.
    ///
    /// The upper bits of the hash choose the set, the lower ones that of the smaller table; the tag is the whole hash.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a product with a share below 1 is below the number of sets")]
    #[expect(clippy::cast_possible_truncation, reason = "it is below the number of sets, a usize")]
    pub(super) fn lock(&self, hash: u64) -> Locked<'_, S> {
        let set = ((u128::from(hash.rotate_left(self.turned)) * self.sets as u128) >> 64) as usize;
        let chunk = self.chunks[set / CHUNK].get_or_init(Chunk::new);
        let slots = lock(&chunk.sets[set % CHUNK].0);
        Locked { own: find(&slots, hash), slots, spilled: &chunk.spilled[set % CHUNK], hash }
    }

    /// Lets `act` see and change the state of a key that has no slot in its set, and tells it where that is. It says also when the key
    /// is idle.
    ///
    /// A key that gets a slot takes along what was written of it elsewhere, even if others have done that: nobody gains by it.
    #[inline(never)]
    pub(super) fn visit<R>(
        &self,
        Locked { mut slots, spilled, hash, .. }: Locked<'_, S>,
        now: u64,
        shared: &Shared<S>,
        act: impl FnOnce(&mut S, Home) -> R,
    ) -> (R, u64) {
        if let Some(slot) = slots.iter_mut().find(|slot| slot.state.idle_at() <= now)
            && let Some(state) = self.elsewhere(spilled, hash, now, shared)
        {
            *slot = Slot { tag: hash, state };
            return acted(&mut slot.state, Home::Own, act);
        }
        // Under the set's lock, so that no other worker finds a slot for this key meanwhile.
        let (result, idle_at) = match &self.spill {
            Some(spill) => {
                let mut set = spill.lock(hash);
                match set.own() {
                    Some(state) => acted(state, Home::Own, act),
                    None => spill.visit(set, now, shared, act),
                }
            }
            None => acted(&mut *shared.bucket(hash), Home::Shared, act),
        };
        spilled.fetch_max(idle_at, Relaxed);
        (result, idle_at)
    }

    /// What a key takes along into a slot of this table; `None` if it must stay where it is.
    fn elsewhere(&self, spilled: &AtomicU64, hash: u64, now: u64, shared: &Shared<S>) -> Option<S> {
        if spilled.load(Relaxed) <= now {
            return Some(S::default());
        }
        let Some(spill) = &self.spill else { return shared.bucket(hash).inherited() };
        let mut set = spill.lock(hash);
        match set.own() {
            Some(state) => state.inherited(),
            None => spill.elsewhere(set.spilled, hash, now, shared),
        }
    }

    /// Lets `act` see and change the state of a key where it was found before. It must not have become idle since.
    pub(super) fn revisit(&self, hash: u64, home: Home, shared: &Shared<S>, act: impl FnOnce(&mut S)) {
        if home == Home::Shared {
            return act(&mut shared.bucket(hash));
        }
        let mut set = self.lock(hash);
        if let Some(state) = set.own() {
            act(state);
        } else if let Some(spill) = &self.spill {
            spill.revisit(hash, home, shared, act);
        }
    }

    /// Bytes that are allocated by now.
    pub(super) fn memory(&self) -> usize {
        let chunks = self.chunks.iter().filter_map(OnceLock::get);
        let sizes = chunks.map(|chunk| size_of_val(&*chunk.sets) + size_of_val(&*chunk.spilled));
        let spill = self.spill.as_ref().map_or(0, |spill| spill.memory());
        size_of_val(&*self.chunks) + sizes.sum::<usize>() + spill
    }
}

impl<S> Locked<'_, S> {
    /// The state of the key, if it has a slot here.
    #[inline]
    pub(super) fn own(&mut self) -> Option<&mut S> {
        self.slots.get_mut(self.own).map(|slot| &mut slot.state)
    }
}

impl<S: State> Chunk<S> {
    fn new() -> Self {
        Self { sets: boxed(|| Set(Mutex::default())), spilled: boxed(|| AtomicU64::new(0)) }
    }
}

impl<S: State> Shared<S> {
    /// The bucket that keys of this hash share. The lower bits choose it, so that it depends on nothing that chose the set. None is
    /// allocated before one is needed.
    #[expect(clippy::indexing_slicing, reason = "a remainder")]
    #[expect(clippy::cast_possible_truncation, reason = "only the lower bits count")]
    fn bucket(&self, hash: u64) -> MutexGuard<'_, S> {
        let buckets = self.buckets.get_or_init(|| (0..self.count).map(|_| Mutex::default()).collect());
        lock(&buckets[hash as usize % buckets.len()])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which slot a key has, or [`WAYS`]. It looks at all: which it will be cannot be foretold, and a processor that bets on it loses time.
#[inline]
fn find<S>(slots: &[Slot<S>; WAYS], hash: u64) -> usize {
    let tags = slots.iter().enumerate().rev();
    tags.fold(WAYS, |found, (number, slot)| if slot.tag == hash { number } else { found })
}

/// Made where it stays: an array is made on the stack and copied.
fn boxed<T>(new: impl Fn() -> T) -> Box<[T; CHUNK]> {
    let all: Box<[T]> = (0..CHUNK).map(|_| new()).collect();
    // There are as many, so this is never needed.
    all.try_into().unwrap_or_else(|_| Box::new(array::from_fn(|_| new())))
}

#[inline(never)]
fn acted<S: State, R>(state: &mut S, home: Home, act: impl FnOnce(&mut S, Home) -> R) -> (R, u64) {
    (act(state, home), state.idle_at())
}
