//! Where the counts of all keys of all limits are kept, for all workers: bounded, without a lock that all of them take, and without
//! ever looking through all of it. What it promises: however many keys come, nobody gets more than their limit alone would give them.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::hash::{Keys, Start};
use super::sliding_log::Log;
use super::slots::{Count, Slots};
use super::table::{Home, Shared, State, Table};
use super::{Algorithm, Ask, Bucket, FixedWindow, Limit, Now, Outcome, Rule, SlidingLog, SlidingWindow, TokenBucket};

/// A key with a log costs up to 600 bytes, so there is room for fewer of them.
const KEYS_FOR_A_LOG: usize = 32;

/// Keys with requests under way are no more than requests are.
const KEYS_FOR_A_COUNT: usize = 16;

/// The counts of all keys.
///
/// Made for `max_keys` that are busy at once, it takes at most 59 bytes for each of them, 4 more if concurrency is limited by key,
/// and 38 more if logs are used, for which there is room for a 32nd of the keys. A limit with keys that share buckets takes at most
/// 200 bytes for each thousand of `max_keys` on top. Memory is allocated as it is needed, and an idle key's slot is given to the next.
#[derive(Debug)]
pub struct Store {
    keys: Keys,
    /// How many limits there have been, each of which has its number in the hash of its keys.
    limits: AtomicU64,
    shared: AtomicU64,
    buckets: Table<Bucket>,
    logs: Table<Log>,
    pub(super) counts: Table<Count>,
}

impl Store {
    /// For `max_keys` that are busy at once. `hasher` must have random keys, of which those of the
    /// store are made, or clients could choose with whom they share a slot.
    pub fn new(max_keys: usize, hasher: &impl BuildHasher) -> Self {
        Self {
            keys: Keys::of(hasher),
            limits: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            buckets: Table::new(max_keys),
            logs: Table::new(max_keys / KEYS_FOR_A_LOG),
            counts: Table::new(max_keys / KEYS_FOR_A_COUNT),
        }
    }

    /// A limit that counts each key by itself. Nobody has done anything yet.
    pub fn keyed(self: &Arc<Self>, limit: Limit) -> Keyed {
        let rules = Rules::of(&limit);
        let (buckets, logs) = (self.buckets.shared(), self.logs.shared());
        Keyed { store: Arc::clone(self), start: self.start(), limit, rules, buckets, logs }
    }

    /// A limit of `max` requests of each key that are under way at once.
    pub fn slots(self: &Arc<Self>, max: u32) -> Slots {
        Slots::new(Arc::clone(self), self.start(), max)
    }

    /// Bytes that the tables take by now. The times in logs come on top.
    pub fn memory(&self) -> usize {
        self.buckets.memory() + self.logs.memory() + self.counts.memory()
    }

    /// Decisions in buckets that keys had to share. If they are more than a few, `max_keys` is too small.
    pub fn shared(&self) -> u64 {
        self.shared.load(Relaxed)
    }

    pub(super) fn note(&self, home: Home) {
        if home == Home::Shared {
            self.shared.fetch_add(1, Relaxed);
        }
    }

    /// For a new limit.
    fn start(&self) -> Start {
        self.keys.limit(self.limits.fetch_add(1, Relaxed))
    }
}

impl State for Bucket {
    fn idle_at(&self) -> u64 {
        self.idle_at
    }

    fn inherited(&self) -> Option<Self> {
        Some(*self)
    }
}

/// A limit that counts each key by itself, from the first request on. Whoever keeps it keeps the counts; two that are made of the same
/// [`Limit`] do not count together.
#[derive(Debug)]
pub struct Keyed {
    store: Arc<Store>,
    start: Start,
    limit: Limit,
    rules: Rules,
    buckets: Shared<Bucket>,
    logs: Shared<Log>,
}

/// Token buckets are told apart from the others first, because nearly all limits are some.
#[derive(Debug)]
enum Rules {
    TokenBucket(TokenBucket),
    Other(Other),
}

#[derive(Debug)]
enum Other {
    SlidingWindow(SlidingWindow),
    SlidingLog(SlidingLog),
    FixedWindow(FixedWindow),
}

impl Rules {
    fn of(limit: &Limit) -> Self {
        let rate = limit.rate;
        match limit.algorithm {
            Algorithm::TokenBucket { burst } => Self::TokenBucket(TokenBucket::new(rate, burst)),
            Algorithm::SlidingWindow => Self::Other(Other::SlidingWindow(SlidingWindow(rate))),
            Algorithm::SlidingLog => Self::Other(Other::SlidingLog(SlidingLog(rate))),
            Algorithm::FixedWindow => Self::Other(Other::FixedWindow(FixedWindow(rate))),
        }
    }
}

impl Keyed {
    /// What limits each key.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Whether a request of this weight may pass now; if so, it is counted.
    pub fn decide<K: Hash + ?Sized>(&self, key: &K, weight: u64, now: Now) -> Outcome {
        self.settle(self.start.hash(key), &Ask { weight, now, patience: None })
    }

    /// The same for a request that would wait for `patience`; if it may pass in that time, it is counted, and told how long to wait.
    pub fn reserve<K: Hash + ?Sized>(&self, key: &K, weight: u64, patience: Duration, now: Now) -> Outcome {
        self.settle(self.start.hash(key), &Ask { weight, now, patience: Some(patience) })
    }

    #[inline]
    fn settle(&self, hash: u64, ask: &Ask) -> Outcome {
        match &self.rules {
            Rules::TokenBucket(rule) => self.bucket(rule, hash, ask),
            Rules::Other(rule) => self.other(rule, hash, ask),
        }
    }

    #[inline(never)]
    fn other(&self, rule: &Other, hash: u64, ask: &Ask) -> Outcome {
        match rule {
            Other::SlidingWindow(rule) => self.bucket(rule, hash, ask),
            Other::FixedWindow(rule) => self.bucket(rule, hash, ask),
            Other::SlidingLog(rule) => self.visit(rule, (&self.store.logs, &self.logs), hash, ask),
        }
    }

    #[inline(never)]
    fn bucket(&self, rule: &impl Rule<State = Bucket>, hash: u64, ask: &Ask) -> Outcome {
        self.visit(rule, (&self.store.buckets, &self.buckets), hash, ask)
    }

    #[inline]
    fn visit<R: Rule<State: State>>(
        &self,
        rule: &R,
        (table, shared): (&Table<R::State>, &Shared<R::State>),
        hash: u64,
        ask: &Ask,
    ) -> Outcome {
        let mut set = table.lock(hash);
        if let Some(state) = set.own() {
            return rule.settle(state, ask);
        }
        let (outcome, _) = table.visit(set, ask.now.mono.0, shared, |state, home| {
            self.store.note(home);
            rule.settle(state, ask)
        });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::{BuildHasherDefault, DefaultHasher};
    use std::thread;

    use proptest::prelude::*;

    use super::super::{Cell, Rate};
    use super::*;
    use crate::balance::Nanos;

    /// Not random, so that what is drawn means the same each time.
    type Fixed = BuildHasherDefault<DefaultHasher>;

    const SECOND: u64 = 1_000_000_000;

    fn store(max_keys: usize) -> Arc<Store> {
        Arc::new(Store::new(max_keys, &Fixed::default()))
    }

    fn limit(algorithm: Algorithm, amount: u64, period: Duration) -> Limit {
        Limit::new(algorithm, Rate::new(amount, period).unwrap()).unwrap()
    }

    /// Three at once, of ten a second.
    fn few() -> Limit {
        limit(Algorithm::TokenBucket { burst: 3 }, 10, Duration::from_secs(1))
    }

    fn algorithms() -> [Algorithm; 4] {
        let bucket = Algorithm::TokenBucket { burst: 3 };
        [bucket, Algorithm::SlidingWindow, Algorithm::SlidingLog, Algorithm::FixedWindow]
    }

    fn at(nanos: u64) -> Now {
        Now { mono: Nanos(nanos), wall: Duration::from_nanos(nanos) }
    }

    fn pass<K: Hash>(keyed: &Keyed, key: K, now: u64) -> usize {
        (0..100).filter(|_| keyed.decide(&key, 1, at(now)).allowed).count()
    }

    #[test]
    fn a_key_is_limited_from_its_first_request_on() {
        // B32: a key that nobody had registered was never limited.
        for algorithm in algorithms() {
            let keyed = store(1000).keyed(limit(algorithm, 3, Duration::from_mins(1)));
            assert_eq!(pass(&keyed, "never seen before", 0), 3, "{algorithm:?}");
            assert_eq!(pass(&keyed, "nor this one", 0), 3);
        }
    }

    #[test]
    fn limits_count_apart_though_the_store_is_one() {
        let store = store(1000);
        let (one, other) = (store.keyed(few()), store.keyed(few()));
        assert_eq!((pass(&one, "a", 0), pass(&other, "a", 0)), (3, 3));
        assert_eq!((pass(&one, "a", 0), pass(&other, "a", 0)), (0, 0));
    }

    #[test]
    fn who_keeps_the_limit_keeps_the_counts() {
        let store = store(1000);
        let first = Arc::new(store.keyed(few()));
        let kept = Arc::clone(&first);
        assert_eq!(pass(&first, "a", 0), 3);
        drop(first);
        assert_eq!(pass(&kept, "a", 0), 0);
        assert_eq!(*kept.limit(), few());
    }

    #[test]
    fn a_refused_client_learns_when_to_come_again() {
        // B36: a 429 without `Retry-After`.
        for algorithm in algorithms() {
            let keyed = store(10).keyed(limit(algorithm, 3, Duration::from_mins(1)));
            assert_eq!(pass(&keyed, "a", 0), 3);
            let after = keyed.decide("a", 1, at(0)).retry_after.expect("it passes some time");
            assert!(keyed.decide("a", 1, at(u64::try_from(after.as_nanos()).unwrap())).allowed, "{algorithm:?}");
        }
    }

    #[test]
    fn keys_of_several_parts_are_told_apart() {
        let keyed = store(1000).keyed(few());
        assert_eq!(pass(&keyed, ("ab", "c"), 0), 3);
        assert_eq!(pass(&keyed, ("a", "bc"), 0), 3);
    }

    #[test]
    fn a_flood_of_other_keys_gives_an_abuser_nothing_back() {
        let store = store(100);
        let keyed = store.keyed(limit(Algorithm::TokenBucket { burst: 3 }, 1, Duration::from_mins(1)));
        assert_eq!(pass(&keyed, "abuser", 0), 3);
        for other in 0..100_000_u64 {
            keyed.decide(&other, 1, at(other));
        }
        assert!(store.shared() > 99_000);
        assert_eq!(pass(&keyed, "abuser", SECOND), 0);
    }

    #[test]
    fn a_key_that_comes_when_all_is_taken_shares_and_takes_along_what_was_done() {
        let store = store(1);
        let keyed = store.keyed(few());
        assert!((0..10_u64).all(|key| keyed.decide(&key, 1, at(0)).allowed));
        assert_eq!(store.shared(), 0);
        assert_eq!(pass(&keyed, "late", 0), 3);
        assert_eq!(store.shared(), 100);
        assert_eq!(pass(&keyed, "late", SECOND / 10), 1, "the early ones are idle now, but it has done something");
        assert_eq!(store.shared(), 100, "and has a slot of its own");
        assert_eq!(pass(&keyed, "late", SECOND), 3);
    }

    #[test]
    fn one_limit_that_is_flooded_leaves_the_others_room() {
        let store = store(10);
        let (flooded, other) = (store.keyed(few()), store.keyed(few()));
        assert!((0..10_000_u64).any(|key| !flooded.decide(&key, 1, at(0)).allowed));
        assert_eq!(pass(&other, "a", 0), 3, "it shares only with keys of its own limit");
    }

    #[test]
    fn two_workers_that_meet_at_one_key_give_it_no_more_than_the_limit() {
        for algorithm in algorithms() {
            assert!(hammer(&store(1).keyed(limit(algorithm, 3, Duration::from_mins(1)))) <= 3, "{algorithm:?}");
            assert_eq!(hammer(&store(50_000).keyed(limit(algorithm, 3, Duration::from_mins(1)))), 3, "{algorithm:?}");
        }
    }

    /// What passes of one key that two workers use together, each with many keys of its own beside it.
    fn hammer(keyed: &Keyed) -> usize {
        let decide = |worker: u64, turn: u64| {
            keyed.decide(&(turn * 2 + worker), 1, at(turn));
            keyed.decide("contended", 1, at(turn)).allowed
        };
        let work = |worker: u64| (0..10_000).filter(|turn| decide(worker, *turn)).count();
        thread::scope(|scope| {
            let workers = [scope.spawn(move || work(0)), scope.spawn(move || work(1))];
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        })
    }

    /// Ten million keys in a store for one million; without optimisation, a fiftieth of both: 200,000 keys in a store for 20,000.
    /// Either way ten times as many keys as it is made for, and nothing of what is measured depends on the size.
    #[test]
    fn ten_times_as_many_keys_as_there_is_room_for_take_no_more_memory_than_was_said() {
        let max_keys = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
        let store = store(max_keys);
        let keyed = store.keyed(limit(Algorithm::TokenBucket { burst: 20 }, 1, Duration::from_hours(1)));
        assert!(store.memory() < max_keys / 10, "next to nothing at first");
        let mut passed = 0;
        for key in 0..10 * max_keys as u64 {
            passed += usize::from(keyed.decide(&key, 1, at(key)).allowed);
            if key == max_keys as u64 {
                assert!(
                    store.shared() < key / 400,
                    "of as many as it is made for, hardly any share: {}",
                    store.shared()
                );
            }
        }
        assert!(store.memory() <= 59 * max_keys + 80_000, "{} bytes", store.memory());
        assert!(passed > max_keys * 3 / 2, "nearly all slots are in use: {passed}");
    }

    #[test]
    fn idle_keys_make_way() {
        let store = store(1000);
        let keyed = store.keyed(few());
        for key in 0..100_000_u64 {
            assert!(keyed.decide(&key, 1, at(key * SECOND / 5000)).allowed);
        }
        assert_eq!(store.shared(), 0, "500 keys are busy at a time");
    }

    #[derive(Debug, Clone)]
    struct Step {
        key: u8,
        weight: u64,
        pause: u64,
    }

    fn steps(keys: u8) -> impl Strategy<Value = Vec<Step>> {
        let step = (0..keys, 0_u64..4, prop_oneof![0..SECOND / 20, 0..SECOND * 2]);
        prop::collection::vec(step.prop_map(|(key, weight, pause)| Step { key, weight, pause }), 1..400)
    }

    proptest! {
        #[test]
        fn with_room_for_all_it_does_what_a_map_does(which in 0_usize..4, steps in steps(40)) {
            let limit = limit(algorithms()[which], 3, Duration::from_secs(1));
            let store = store(3200);
            let keyed = store.keyed(limit);
            let (mut model, mut now) = (HashMap::new(), 5 * SECOND);
            for Step { key, weight, pause } in steps {
                now += pause;
                let alone: &Cell = model.entry(key).or_insert_with(|| Cell::new(limit));
                prop_assert_eq!(keyed.decide(&key, weight, at(now)), alone.decide(weight, at(now)));
            }
            prop_assert_eq!(store.shared(), 0);
        }

        #[test]
        fn with_room_for_few_nobody_gets_more_than_their_limit_alone_would_give(
            which in 0_usize..4,
            steps in steps(60),
        ) {
            let limit = limit(algorithms()[which], 3, Duration::from_secs(1));
            let store = store(1);
            let (keyed, other) = (store.keyed(limit), store.keyed(few()));
            let (mut model, mut now) = (HashMap::new(), 5 * SECOND);
            for Step { key, weight, pause } in steps {
                now += pause;
                other.decide(&key, 1, at(now));
                if keyed.decide(&key, weight, at(now)).allowed {
                    let alone: &Cell = model.entry(key).or_insert_with(|| Cell::new(limit));
                    prop_assert!(alone.decide(weight, at(now)).allowed, "{key} at {now}");
                }
            }
        }
    }
}
