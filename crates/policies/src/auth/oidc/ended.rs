//! Sessions that were logged out before their time, for as long as a copy of their cookie could be shown: by somebody who kept one, or by a reply
//! that was on its way when its user logged out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_core::affinity::hash;

/// Shelves, of which a logout copies one.
const SHELVES: usize = 64;

/// Sessions that a shelf remembers; of more, the one that would end first is forgotten.
const MOST: usize = 160;

/// Sessions that were logged out. Requests read it without a lock.
pub(super) struct Ended {
    shelves: Vec<Shelf>,
    count: AtomicU64,
}

/// Sessions, each with its end.
type Shelf = ArcSwap<HashMap<Arc<str>, Duration>>;

impl Default for Ended {
    fn default() -> Self {
        Self { shelves: std::iter::repeat_with(Shelf::default).take(SHELVES).collect(), count: AtomicU64::new(0) }
    }
}

impl Ended {
    /// How many there ever were: whatever was found out before the last one is found out again.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Whether this one was logged out.
    pub(super) fn has(&self, session: &str) -> bool {
        self.shelf(session).is_some_and(|shelf| shelf.load().contains_key(session))
    }

    /// This one is logged out now; by itself it would end at `end`.
    pub(super) fn add(&self, session: &str, end: Duration, now: Duration) {
        let Some(kept) = self.shelf(session) else { return };
        kept.rcu(|known| {
            let alive = known.iter().filter(|(_, end)| now < **end);
            let mut all: HashMap<_, _> = alive.map(|(session, end)| (Arc::clone(session), *end)).collect();
            if all.len() >= MOST {
                let first = all.iter().min_by_key(|(_, end)| **end).map(|(session, _)| Arc::clone(session));
                first.and_then(|first| all.remove(&first));
            }
            all.insert(session.into(), end);
            all
        });
        self.count.fetch_add(1, Relaxed);
    }

    fn shelf(&self, session: &str) -> Option<&Shelf> {
        let shelves = u64::try_from(self.shelves.len()).ok()?;
        self.shelves.get(usize::try_from(hash(session.as_bytes()) % shelves).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_sessions_until_they_would_have_ended_and_no_more_than_it_may() {
        let (ended, second) = (Ended::default(), Duration::from_secs);
        ended.add("a", second(10), second(0));
        assert!(ended.has("a") && !ended.has("b"));
        for number in 0..20_000 {
            ended.add(&number.to_string(), second(20 + number), second(9));
        }
        assert!(!ended.has("a") && !ended.has("0") && ended.has("19999"));
        assert!(ended.shelves.iter().all(|shelf| shelf.load().len() == MOST));
        assert_eq!(ended.count(), 20_001);
        for number in 0..20_000 {
            ended.add(&format!("again-{number}"), second(40_001), second(40_000));
        }
        assert!(!ended.has("19999") && ended.has("again-19999"), "those that have ended make room");
    }
}
