//! What is known of each key, in a space that is bounded: a key belongs to one small set, and in it has a slot of its own while it is
//! busy. Where a set has no slot to give, keys share a bucket until one is free.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Slots of a set: with the lock, their tags fill two cache lines, which processors fetch together.
const WAYS: usize = 15;

/// Sets are made for so many keys each. As keys fall into sets by chance, of as many busy keys as the table is made for two in
/// a thousand find their set full.
const MEAN: usize = 8;

/// Sets whose memory is allocated at once, at the first use of one of them: some ten kilobytes, a few microseconds.
const CHUNK: usize = 64;

/// Shared buckets of one limit.
const CELLS: usize = 1024;

/// What a table keeps of a key. A new one is that of a key which has done nothing.
pub(super) trait State: Default {
    /// Whether it is as good as new, so that its slot may be given to another key.
    fn is_idle(&self, now: u64) -> bool;

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
/// the odds that any two are is one in a million.
#[derive(Debug)]
pub(super) struct Table<S> {
    sets: usize,
    chunks: Box<[Chunk<S>]>,
}

type Chunk<S> = OnceLock<Box<[Set<S>]>>;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set<S>(Mutex<Ways<S>>);

/// The tags stand first, so that they are in the lock's cache line and the next.
#[derive(Debug, Default)]
#[repr(C)]
struct Ways<S> {
    tags: [u64; WAYS],
    states: [S; WAYS],
}

/// The buckets that those keys of one limit share that have none of their own.
#[derive(Debug)]
pub(super) struct Shared<S>(OnceLock<Box<[Mutex<S>]>>);

impl<S: State> Table<S> {
    /// For so many keys. Next to nothing is allocated yet.
    pub(super) fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(MEAN).max(1);
        Self { sets, chunks: (0..sets.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect() }
    }

    /// Lets `act` see and change the state of a key. Nobody else does meanwhile.
    ///
    /// Keys that leave a shared bucket take what was done there along, whoever did it: nobody gains by a slot of their own.
    pub(super) fn visit<R>(&self, hash: u64, now: u64, shared: &Shared<S>, act: impl FnOnce(&mut S) -> R) -> (R, Home) {
        let mut ways = lock(&self.set(hash).0);
        if let Some(state) = ways.find(hash) {
            return (act(state), Home::Own);
        }
        if let Some((tag, state)) = ways.idle(now)
            && let Some(inherited) = shared.inherited(hash)
        {
            (*tag, *state) = (hash, inherited);
            return (act(state), Home::Own);
        }
        // Under the set's lock, so that no other worker finds a slot for this key meanwhile.
        (act(&mut shared.cell(hash)), Home::Shared)
    }

    /// Lets `act` see and change the state of a key if it has a slot of its own.
    pub(super) fn revisit(&self, hash: u64, act: impl FnOnce(&mut S)) {
        if let Some(state) = lock(&self.set(hash).0).find(hash) {
            act(state);
        }
    }

    /// Bytes that are allocated by now.
    pub(super) fn memory(&self) -> usize {
        let chunks = self.chunks.iter().filter_map(OnceLock::get);
        size_of_val(&*self.chunks) + chunks.map(|chunk| size_of_val(&**chunk)).sum::<usize>()
    }

    /// The upper bits choose the set; the tag is the whole hash.
    #[expect(clippy::indexing_slicing, reason = "a product with a share below 1 is below the number of sets")]
    #[expect(clippy::cast_possible_truncation, reason = "it is below the number of sets, a usize")]
    fn set(&self, hash: u64) -> &Set<S> {
        let set = ((u128::from(hash) * self.sets as u128) >> 64) as usize;
        let new_chunk = || (0..CHUNK).map(|_| Set(Mutex::default())).collect();
        &self.chunks[set / CHUNK].get_or_init(new_chunk)[set % CHUNK]
    }
}

impl<S: State> Ways<S> {
    /// A slot that nobody has had yet is like that of a key whose hash is 0 and that has done nothing.
    fn find(&mut self, hash: u64) -> Option<&mut S> {
        self.tags.iter().zip(&mut self.states).find(|(tag, _)| **tag == hash).map(|(_, state)| state)
    }

    fn idle(&mut self, now: u64) -> Option<(&mut u64, &mut S)> {
        self.tags.iter_mut().zip(&mut self.states).find(|(_, state)| state.is_idle(now))
    }
}

impl<S: State> Shared<S> {
    /// None is allocated before it is needed.
    pub(super) fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The bucket that keys of this hash share. The lower bits choose it, so that it depends on nothing that chose the set.
    #[expect(clippy::indexing_slicing, reason = "a remainder")]
    #[expect(clippy::cast_possible_truncation, reason = "only the lower bits count")]
    pub(super) fn cell(&self, hash: u64) -> MutexGuard<'_, S> {
        let cells = self.0.get_or_init(|| (0..CELLS).map(|_| Mutex::default()).collect());
        lock(&cells[hash as usize % CELLS])
    }

    fn inherited(&self, hash: u64) -> Option<S> {
        if self.0.get().is_some() { self.cell(hash).inherited() } else { Some(S::default()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
