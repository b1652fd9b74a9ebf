//! What outlives snapshots: buckets, key sets, caches, counters. Whoever asks for the same thing again after a reload gets it
//! with all that is in it, as long as somebody still holds it.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Gauges, Tally};

/// Whose tally it is: the route's name (empty for the router's own chain), the policy, and which of several.
pub type TallyKey = (Arc<str>, &'static str, Arc<str>);

/// Things by their kind and identity. An identity says everything that must be the same for the thing to be kept: a name, and
/// a definition.
#[derive(Debug, Default)]
pub struct Shared {
    kept: Mutex<HashMap<(TypeId, String), Weak<dyn Any + Send + Sync>>>,
    tallies: Mutex<BTreeMap<TallyKey, Arc<Tally>>>,
    gauges: Gauges,
}

impl Shared {
    /// What operators see of it.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// The thing of this identity: the one that is in use, or a new one.
    pub fn keep<T: Any + Send + Sync>(&self, identity: impl Into<String>, make: impl FnOnce() -> T) -> Arc<T> {
        let key = (TypeId::of::<T>(), identity.into());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.get(&key).and_then(Weak::upgrade).and_then(|known| known.downcast().ok());
        known.unwrap_or_else(|| {
            let new = Arc::new(make());
            let any: Arc<dyn Any + Send + Sync> = Arc::<T>::clone(&new);
            kept.retain(|_, thing| thing.strong_count() > 0);
            kept.insert(key, Arc::downgrade(&any));
            new
        })
    }

    /// What the gate of this name has done so far.
    pub fn tally(&self, key: TallyKey) -> Arc<Tally> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(tallies.entry(key).or_default())
    }

    /// What all gates that are in use have done.
    pub fn tallies(&self) -> Vec<(TallyKey, Arc<Tally>)> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.retain(|_, tally| Arc::strong_count(tally) > 1);
        tallies
            .iter()
            .map(|((route, policy, name), tally)| ((Arc::clone(route), *policy, Arc::clone(name)), Arc::clone(tally)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_found_again_and_what_is_not_is_made_anew() {
        let shared = Shared::default();
        let first = shared.keep("a", || String::from("made"));
        assert!(Arc::ptr_eq(&first, &shared.keep("a", || String::from("made again"))));
        assert_eq!(*shared.keep("b", || String::from("another")), "another");
        drop(first);
        assert_eq!(*shared.keep("a", || String::from("made again")), "made again");
    }

    #[test]
    fn kinds_do_not_meet() {
        let shared = Shared::default();
        let _text = shared.keep("a", || String::from("text"));
        assert_eq!(*shared.keep("a", || 1_u32), 1);
    }

    #[test]
    fn a_thousand_identities_leave_nothing_behind() {
        let shared = Shared::default();
        for number in 0..1000 {
            shared.keep(number.to_string(), || number);
        }
        assert!(shared.kept.lock().unwrap().len() <= 1);
    }
}
