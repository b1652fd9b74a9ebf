//! How many requests of each key are under way at once.

use std::hash::Hash;
use std::sync::Arc;

use super::hash::Start;
use super::store::Store;
use super::table::{Home, Shared, State};

/// Requests of one key that are under way.
#[derive(Debug, Default)]
pub(super) struct Count(u32);

impl Count {
    fn enter(&mut self, max: u32) -> bool {
        let enters = self.0 < max;
        self.0 += u32::from(enters);
        enters
    }

    fn leave(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

impl State for Count {
    fn idle_at(&self) -> u64 {
        if self.0 == 0 { 0 } else { u64::MAX }
    }

    /// Requests leave where they have entered, so a key goes on sharing until all are gone.
    fn inherited(&self) -> Option<Self> {
        (self.0 == 0).then(Self::default)
    }
}

/// A limit of how many requests of each key are under way at once. Keys that find the store full share a limit.
#[derive(Debug)]
pub struct Slots {
    store: Arc<Store>,
    start: Start,
    max: u32,
    shared: Shared<Count>,
}

impl Slots {
    pub(super) fn new(store: Arc<Store>, start: Start, max: u32) -> Self {
        let shared = store.counts.shared();
        Self { store, start, max, shared }
    }

    /// A place for one more request of this key; `None` if all are taken.
    pub fn enter<K: Hash + ?Sized>(self: &Arc<Self>, key: &K) -> Option<Place> {
        let hash = self.start.hash(key);
        let mut set = self.store.counts.lock(hash);
        let (enters, home) = match set.own() {
            Some(count) => (count.enter(self.max), Home::Own),
            None => self.store.counts.visit(set, 0, &self.shared, |count, home| (count.enter(self.max), home)).0,
        };
        self.store.note(home);
        enters.then(|| Place { slots: Arc::clone(self), hash, home })
    }
}

/// A place that a request has; dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping a place gives it back"]
pub struct Place {
    slots: Arc<Slots>,
    hash: u64,
    home: Home,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Slots { store, shared, .. } = &*self.slots;
        store.counts.revisit(self.hash, self.home, shared, Count::leave);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn slots(max_keys: usize, max: u32) -> Arc<Slots> {
        Arc::new(Arc::new(Store::new(max_keys, &RandomState::new())).slots(max))
    }

    #[test]
    fn each_key_has_so_many_places_and_gets_them_back() {
        let slots = slots(100, 2);
        let first = slots.enter("a");
        let second = slots.enter("a");
        assert!(first.is_some() && second.is_some());
        assert!(slots.enter("a").is_none());
        assert!(slots.enter("b").is_some());
        drop(first);
        assert!(slots.enter("a").is_some());
        drop(second);
    }

    #[test]
    fn a_place_may_be_given_back_by_another_thread() {
        let slots = slots(100, 1);
        let place = slots.enter("a");
        assert!(place.is_some() && slots.enter("a").is_none());
        thread::scope(|scope| drop(scope.spawn(move || drop(place))));
        assert!(slots.enter("a").is_some());
    }

    /// Holds places of many keys, and for moments that of one which all workers want.
    fn work(slots: &Arc<Slots>, inside: &AtomicU32, worker: u64) {
        let mut held = Vec::new();
        for turn in 0..2000 {
            held.push(slots.enter(&(worker * 100 + turn % 100)));
            let Some(place) = slots.enter("contended") else { continue };
            assert!(inside.fetch_add(1, SeqCst) < 2);
            inside.fetch_sub(1, SeqCst);
            drop(place);
        }
    }

    #[test]
    fn workers_that_meet_never_exceed_the_limit() {
        for max_keys in [1, 100_000] {
            let (slots, inside) = (&slots(max_keys, 2), &AtomicU32::new(0));
            thread::scope(|scope| (0..4).for_each(|worker| drop(scope.spawn(move || work(slots, inside, worker)))));
            let places = [slots.enter("contended"), slots.enter("contended"), slots.enter("contended")];
            assert_eq!(places.iter().flatten().count(), 2, "all are back");
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter(u8),
        Leave(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![3 => (0_u8..40).prop_map(Step::Enter), 2 => (0_usize..60).prop_map(Step::Leave)];
        prop::collection::vec(step, 0..500)
    }

    proptest! {
        #[test]
        fn no_key_ever_has_more_places_than_its_own_and_all_come_back(steps in steps(), room in any::<bool>()) {
            let slots = slots(if room { 100_000 } else { 1 }, 2);
            let mut inside: Vec<(u8, Place)> = Vec::new();
            for step in steps {
                match step {
                    Step::Enter(key) => {
                        let has = inside.iter().filter(|(other, _)| *other == key).count();
                        let place = slots.enter(&key);
                        prop_assert!(place.is_none() || has < 2);
                        prop_assert!(!room || place.is_some() == (has < 2));
                        inside.extend(place.map(|place| (key, place)));
                    }
                    Step::Leave(which) if which < inside.len() => drop(inside.swap_remove(which)),
                    Step::Leave(_) => {}
                }
            }
            inside.clear();
            for key in 0_u8..15 {
                let places = [slots.enter(&key), slots.enter(&key), slots.enter(&key)];
                prop_assert_eq!(places.iter().flatten().count(), 2);
            }
        }
    }
}
