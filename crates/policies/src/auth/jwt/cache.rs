//! Tokens that were verified, so that a caller's next request costs no signature. A token is known by its SHA-256, so nobody can make
//! another one that is taken for it, and none is kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tidegate_core::identity::Identity;

/// Tokens that lie in the same place; the one that was not used for longest makes room.
const PLACES: usize = 8;

/// Workers that have a table of their own. Beyond that some share one.
const TABLES: usize = 64;

/// A token, as it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::auth) struct Print([u8; 32]);

impl Print {
    pub(in crate::auth) fn of(token: &[u8]) -> Self {
        let mut print = [0; 32];
        print.iter_mut().zip(digest(&SHA256, token).as_ref()).for_each(|(to, from)| *to = *from);
        Self(print)
    }

    fn number(&self) -> u64 {
        self.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// A table for each worker, so that none waits for another. The locks are free unless there are more workers than tables.
pub(in crate::auth) struct Cache {
    tables: Vec<Table>,
    sets: usize,
}

/// Filled when it is first used. Tables lie on different cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Table(Mutex<Vec<Vec<Entry>>>);

struct Entry {
    print: Print,
    identity: Arc<Identity>,
    /// Of the keys that the token was verified with.
    version: u64,
    /// Time since 1970.
    until: Duration,
}

impl Cache {
    /// Keeps so many tokens for each worker, or a few more; none if it is zero.
    pub(in crate::auth) fn new(tokens: usize) -> Self {
        let tables = if tokens == 0 { 0 } else { TABLES };
        Self { tables: std::iter::repeat_with(Table::default).take(tables).collect(), sets: tokens.div_ceil(PLACES) }
    }

    /// Who a token proved to be, if it was verified with these keys and has not ended at `now`.
    pub(in crate::auth) fn find(
        &self,
        worker: usize,
        print: &Print,
        version: u64,
        now: Duration,
    ) -> Option<Arc<Identity>> {
        self.with(worker, print, |set| {
            let at = set.iter().position(|entry| entry.print == *print)?;
            let is_good = |entry: &Entry| entry.version == version && now < entry.until;
            if !set.get(at).is_some_and(is_good) {
                set.remove(at);
                return None;
            }
            set.get_mut(..=at)?.rotate_right(1);
            set.first().map(|entry| Arc::clone(&entry.identity))
        })?
    }

    /// Keeps what a token proved, until it ends.
    pub(in crate::auth) fn keep(&self, worker: usize, print: Print, version: u64, identity: &Arc<Identity>) {
        self.keep_until(identity.expires.unwrap_or(Duration::MAX), (worker, print, version), identity);
    }

    /// The same, until then.
    pub(in crate::auth) fn keep_until(
        &self,
        until: Duration,
        (worker, print, version): (usize, Print, u64),
        identity: &Arc<Identity>,
    ) {
        let identity = Arc::clone(identity);
        self.with(worker, &print, |set| {
            set.retain(|entry| entry.print != print);
            set.truncate(PLACES - 1);
            set.insert(0, Entry { print, identity, version, until });
        });
    }

    fn with<T>(&self, worker: usize, print: &Print, work: impl FnOnce(&mut Vec<Entry>) -> T) -> Option<T> {
        let table = self.tables.get(worker % TABLES)?;
        let mut sets = table.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sets.is_empty() {
            sets.resize_with(self.sets, Vec::new);
        }
        let at = usize::try_from(print.number() % u64::try_from(sets.len()).ok()?).ok()?;
        sets.get_mut(at).map(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn user(name: &str, expires: Option<u64>) -> Arc<Identity> {
        let expires = expires.map(Duration::from_secs);
        Arc::new(Identity { user: Some(name.into()), expires, ..Identity::default() })
    }

    fn found(cache: &Cache, token: &str, version: u64, now: Duration) -> Option<Arc<Identity>> {
        cache.find(0, &Print::of(token.as_bytes()), version, now)
    }

    #[test]
    fn a_token_is_known_until_it_ends_and_not_with_other_keys() {
        let cache = Cache::new(100);
        let ann = user("ann", Some(1001));
        cache.keep(0, Print::of(b"a"), 1, &ann);
        assert_eq!(found(&cache, "a", 1, NOW), Some(Arc::clone(&ann)));
        assert_eq!(found(&cache, "b", 1, NOW), None);
        assert_eq!(cache.find(1, &Print::of(b"a"), 1, NOW), None, "another worker has verified nothing");
        assert_eq!(found(&cache, "a", 1, Duration::from_secs(1001)), None);
        assert_eq!(found(&cache, "a", 1, NOW), None, "what has ended is gone");
        cache.keep(0, Print::of(b"a"), 1, &ann);
        assert_eq!(found(&cache, "a", 2, NOW), None);
    }

    #[test]
    fn it_never_keeps_more_than_it_may_and_drops_what_was_not_used() {
        let cache = Cache::new(64);
        for number in 0..1000 {
            cache.keep(0, Print::of(b"used"), 0, &user("used", None));
            cache.keep(0, Print::of(format!("{number}").as_bytes()), 0, &user("other", None));
        }
        assert!(found(&cache, "used", 0, NOW).is_some());
        let known = (0..1000).filter(|number| found(&cache, &number.to_string(), 0, NOW).is_some()).count();
        assert_eq!(known + 1, 64);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let cache = Cache::new(0);
        cache.keep(0, Print::of(b"a"), 0, &user("ann", None));
        assert_eq!(found(&cache, "a", 0, NOW), None);
    }
}
