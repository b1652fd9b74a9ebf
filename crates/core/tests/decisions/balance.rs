use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use tidegate_config::config::{Balancing, Key, StickyCookie};
use tidegate_core::affinity::hash;
use tidegate_core::balance::{Balance, Candidate, Load, Nanos, Pick, RoundRobin, Strategy};

const SECOND: u64 = 1_000_000_000;

fn all() -> [Balancing; 8] {
    let cookie = StickyCookie { name: "tg".into(), secret: None, max_age: None };
    [
        Balancing::RoundRobin,
        Balancing::LeastConnections,
        Balancing::LeastTime,
        Balancing::PowerOfTwo,
        Balancing::Random,
        Balancing::IpHash,
        Balancing::ConsistentHash(Key::ClientIp),
        Balancing::StickyCookie(cookie),
    ]
}

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let numbered = weights.iter().zip(0..);
    let candidate = |(weight, index): (&u32, u32)| {
        let key = hash(format!("10.0.0.{index}:8080").as_bytes());
        Candidate { index, weight: *weight, key, load: Arc::new(Load::default()) }
    };
    numbered.map(candidate).collect()
}

fn turns(weights: &[u32], count: usize) -> Vec<usize> {
    let (balance, cursor) = (RoundRobin::new(&candidates(weights)), Cell::new(0));
    (0..count).filter_map(|_| balance.pick(&Pick::new(&cursor))).collect()
}

#[test]
fn equal_endpoints_take_turns_in_order() {
    assert_eq!(turns(&[1, 1, 1], 7), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(turns(&[5, 5], 3), [0, 1, 0]);
}

#[test]
fn weights_are_shares_and_turns_are_spread() {
    assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(turns(&[3, 2, 1], 6), [0, 1, 0, 2, 1, 0]);
}

#[test]
fn a_weight_of_nothing_gets_no_turn() {
    assert_eq!(turns(&[0, 2, 0, 2], 4), [1, 3, 1, 3]);
    assert_eq!(turns(&[0, 0], 3), [0; 0]);
    assert_eq!(turns(&[], 3), [0; 0]);
}

#[test]
fn what_was_tried_is_passed_over() {
    let (balance, cursor) = (RoundRobin::new(&candidates(&[1, 1, 1])), Cell::new(0));
    let pick = |excluded| balance.pick(&Pick { excluded, ..Pick::new(&cursor) });
    assert_eq!(pick(&[0]), Some(1));
    assert_eq!(pick(&[2]), Some(0));
    assert_eq!(pick(&[0, 1]), Some(2));
    assert_eq!(pick(&[0, 1, 2]), None);
    assert_eq!(pick(&[]), Some(0), "a choice of nobody costs nobody a turn");
}

#[test]
fn a_cursor_survives_a_change_of_endpoints() {
    let cursor = Cell::new(usize::MAX);
    let strategy: &dyn Balance = &RoundRobin::new(&candidates(&[1, 2]));
    assert!(strategy.pick(&Pick::new(&cursor)).is_some());
    assert_eq!(strategy.pick(&Pick { excluded: &[0], ..Pick::new(&cursor) }), Some(1));
}

#[test]
fn huge_and_tiny_weights_live_together() {
    let picked = turns(&[u32::MAX, 1, 0], 10_000);
    assert!(picked.contains(&1), "a weight of one is not none");
    assert!(picked.iter().filter(|&&endpoint| endpoint == 0).count() > 9_900);
    assert!(!picked.contains(&2));
}

/// How often each is chosen, with other dice and another key each time, while nothing is in flight.
fn counts(balancing: &Balancing, candidates: &[Candidate], picks: u64) -> Vec<u32> {
    let (strategy, cursor) = (Strategy::new(balancing, candidates), Cell::new(0));
    let mut counts = vec![0; candidates.len()];
    for number in 0..picks {
        let random = hash(&number.to_le_bytes());
        let pick = Pick { random, affinity: Some(random), ..Pick::new(&cursor) };
        counts[strategy.pick(&pick).expect("somebody is chosen")] += 1;
    }
    counts
}

/// The same choice for everybody, by these dice.
fn choose(strategy: &Strategy, random: u64) -> usize {
    strategy.pick(&Pick { random, ..Pick::new(&Cell::new(0)) }).expect("somebody is chosen")
}

fn busy(candidate: &Candidate, requests: u32) {
    (0..requests).for_each(|_| candidate.load.start());
}

fn answered(candidate: &Candidate, millis: u64, now: u64) {
    candidate.load.answered(Duration::from_millis(millis), Nanos(now));
}

#[test]
fn while_nothing_is_in_flight_shares_are_weights() {
    for balancing in all() {
        let counts = counts(&balancing, &candidates(&[1, 2, 0, 3, 4]), 10_000);
        for (count, expected) in counts.iter().zip([1000_u32, 2000, 0, 3000, 4000]) {
            assert!(count.abs_diff(expected) <= expected / 5, "{balancing:?}: {counts:?}");
        }
    }
}

#[test]
fn shares_are_weights_when_only_a_few_of_many_are_looked_at() {
    let weights = [1, 2, 3, 4].repeat(10);
    for balancing in [Balancing::LeastConnections, Balancing::LeastTime, Balancing::PowerOfTwo, Balancing::Random] {
        let counts = counts(&balancing, &candidates(&weights), 40_000);
        let of = |weight: usize| counts.iter().skip(weight - 1).step_by(4).sum::<u32>();
        let shares = [of(1), of(2), of(3), of(4)];
        let even = shares.iter().zip([4000, 8000, 12_000, 16_000]).all(|(count, share)| count.abs_diff(share) < 400);
        assert!(even, "{balancing:?}: {shares:?}");
    }
}

#[test]
fn equals_have_equal_chances_wherever_they_stand() {
    for balancing in [Balancing::LeastConnections, Balancing::LeastTime, Balancing::PowerOfTwo, Balancing::Random] {
        for size in [2, 10, 32, 33, 50] {
            let candidates = candidates(&vec![7; size]);
            let counts = counts(&balancing, &candidates, 1000 * size as u64);
            assert!(counts.iter().all(|count| count.abs_diff(1000) < 150), "{balancing:?}: {counts:?}");
        }
    }
}

#[test]
fn the_least_busy_is_chosen_in_relation_to_its_weight() {
    let candidates = candidates(&[1, 4, 2]);
    let strategy = Strategy::new(&Balancing::LeastConnections, &candidates);
    candidates.iter().zip([1, 3, 2]).for_each(|(candidate, requests)| busy(candidate, requests));
    assert!((0..100).all(|random| choose(&strategy, random) == 1));
    busy(&candidates[1], 1);
    let mut chosen: Vec<usize> = (0..100).map(|random| choose(&strategy, random)).collect();
    chosen.sort_unstable();
    chosen.dedup();
    assert_eq!(chosen, [0, 1, 2], "1 of 1, 4 of 4 and 2 of 2 are the same");
}

#[test]
fn of_two_the_power_of_two_choices_takes_the_less_busy() {
    let candidates = candidates(&[1, 1]);
    busy(&candidates[0], 1);
    let strategy = Strategy::new(&Balancing::PowerOfTwo, &candidates);
    assert!((0..1000).filter(|random| choose(&strategy, *random) == 1).count() >= 990, "both are hardly ever the same");
}

#[test]
fn of_many_a_few_are_looked_at_and_busy_ones_are_avoided() {
    for balancing in [Balancing::LeastConnections, Balancing::LeastTime] {
        let candidates = candidates(&[1; 1000]);
        for candidate in &candidates {
            answered(candidate, 10, SECOND);
        }
        candidates.iter().take(500).for_each(|candidate| busy(candidate, 5));
        let busy: u32 = counts(&balancing, &candidates, 10_000).iter().take(500).sum();
        assert!(busy < 100, "{balancing:?}: 1 of 2^8 choices sees nobody idle, {busy} of 10,000 did");
    }
}

#[test]
fn a_cold_endpoint_is_probed_first_and_with_one_request() {
    let candidates = candidates(&[1; 3]);
    answered(&candidates[0], 10, SECOND);
    answered(&candidates[1], 20, SECOND);
    let strategy = Strategy::new(&Balancing::LeastTime, &candidates);
    let cursor = Cell::new(0);
    let send = || {
        let index = strategy.pick(&Pick { now: Nanos(SECOND), ..Pick::new(&cursor) }).expect("somebody");
        candidates[index].load.start();
        index
    };
    assert_eq!([send(), send(), send(), send(), send()][..2], [2, 0]);
    assert_eq!(candidates[2].load.in_flight(), 1, "the second request waits for the answer to the first");
    answered(&candidates[2], 1, SECOND);
    assert_eq!(strategy.pick(&Pick { now: Nanos(SECOND), ..Pick::new(&cursor) }), Some(2));
}

#[test]
fn cold_endpoints_among_themselves_share_evenly() {
    let candidates = candidates(&[1; 5]);
    let strategy = Strategy::new(&Balancing::LeastTime, &candidates);
    (0..100).for_each(|random| candidates[choose(&strategy, random)].load.start());
    assert!(candidates.iter().all(|candidate| candidate.load.in_flight() == 20));
}

#[test]
fn a_slow_endpoint_is_asked_again_after_a_while() {
    let candidates = candidates(&[1; 2]);
    answered(&candidates[0], 1000, 0);
    let strategy = Strategy::new(&Balancing::LeastTime, &candidates);
    let cursor = Cell::new(0);
    let first_to_slow = (0..60).find(|second| {
        answered(&candidates[1], 10, second * SECOND);
        strategy.pick(&Pick { now: Nanos(second * SECOND), ..Pick::new(&cursor) }) == Some(0)
    });
    assert_eq!(first_to_slow, Some(35));
}

#[test]
fn a_cookie_is_followed_while_its_endpoint_is_there() {
    let candidates = candidates(&[1, 1, 1]);
    busy(&candidates[1], 50);
    busy(&candidates[0], 1);
    let strategy = Strategy::new(&all()[7], &candidates);
    let cursor = Cell::new(0);
    let of = |preferred, excluded| strategy.pick(&Pick { preferred, excluded, ..Pick::new(&cursor) });
    assert_eq!(of(Some(candidates[1].key), &[]), Some(1));
    assert_eq!(of(Some(candidates[1].key), &[1]), Some(2));
    assert_eq!(of(Some(1234), &[]), Some(2), "a key of nobody is no wish");
    assert_eq!(of(None, &[]), Some(2));
}

#[test]
fn a_busy_endpoint_hands_the_keys_beyond_its_bound_to_others() {
    let candidates = candidates(&[1; 10]);
    let strategy = Strategy::new(&Balancing::ConsistentHash(Key::ClientIp), &candidates);
    let cursor = Cell::new(0);
    for active in 0..100 {
        let index = strategy.pick(&Pick { affinity: Some(7), active, ..Pick::new(&cursor) }).expect("somebody");
        candidates[index].load.start();
    }
    let mut loads: Vec<u32> = candidates.iter().map(|candidate| candidate.load.in_flight()).collect();
    loads.sort_unstable();
    assert_eq!(loads, [0, 0, 12, 12, 12, 12, 13, 13, 13, 13], "13 is 1.25 times the average, rounded up");
}

#[test]
fn workers_on_many_threads_keep_one_count() {
    for balancing in all() {
        let candidates = candidates(&[1; 8]);
        let strategy = Strategy::new(&balancing, &candidates);
        thread::scope(|scope| {
            let (strategy, candidates) = (&strategy, &candidates);
            (0..4).for_each(|worker| drop(scope.spawn(move || work(strategy, candidates, worker))));
        });
        let loads: Vec<u32> = candidates.iter().map(|candidate| candidate.load.in_flight()).collect();
        assert_eq!(loads.iter().sum::<u32>(), 4 * 1000, "{balancing:?}: {loads:?}");
        if balancing == Balancing::LeastConnections {
            assert!(loads.iter().all(|load| load.abs_diff(500) <= 10), "{loads:?}");
        }
    }
}

/// Starts two requests and ends one, a thousand times.
fn work(strategy: &Strategy, candidates: &[Candidate], worker: u64) {
    let cursor = Cell::new(0);
    for turn in 0..1000_u64 {
        let random = hash(&(turn << 8 | worker).to_le_bytes());
        let pick = Pick { random, affinity: Some(random), ..Pick::new(&cursor) };
        let chosen = [(); 2].map(|()| strategy.pick(&pick).expect("somebody is chosen"));
        for index in chosen {
            candidates[index].load.start();
        }
        candidates[chosen[0]].load.end();
    }
}

/// Endpoints with weights, requests in flight and, some of them, a latency.
fn loaded(most: usize) -> impl proptest::strategy::Strategy<Value = Vec<Candidate>> {
    let endpoint = (0_u32..4, 0_u32..6, prop::option::of(1_u64..500));
    prop::collection::vec(endpoint, 1..most).prop_map(|endpoints| {
        let weights: Vec<u32> = endpoints.iter().map(|(weight, ..)| *weight).collect();
        let made = candidates(&weights);
        for (candidate, (_, requests, latency)) in made.iter().zip(&endpoints) {
            busy(candidate, *requests);
            if let Some(millis) = latency {
                answered(candidate, *millis, 0);
            }
        }
        made
    })
}

fn active(candidates: &[Candidate]) -> usize {
    candidates.iter().map(|candidate| candidate.load.in_flight() as usize).sum()
}

proptest! {
    #[test]
    fn over_one_round_everyone_gets_exactly_their_weight(weights in prop::collection::vec(0_u32..20, 1..8)) {
        let round: u32 = weights.iter().sum();
        let picked = turns(&weights, round as usize);
        for (endpoint, weight) in weights.iter().enumerate() {
            let count = picked.iter().filter(|&&other| other == endpoint).count();
            prop_assert_eq!(u32::try_from(count), Ok(*weight));
        }
    }

    #[test]
    fn at_any_time_everyone_had_their_turns_give_or_take_two(weights in prop::collection::vec(1_u32..20, 1..10)) {
        let round: u32 = weights.iter().sum();
        let mut counts = vec![0_u32; weights.len()];
        for (turn, endpoint) in (1..).zip(turns(&weights, round as usize)) {
            counts[endpoint] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!((count * round).abs_diff(turn * weight) < 2 * round, "{:?} after {}", counts, turn);
            }
        }
    }

}

proptest! {
    // Hash rings take a while to build.
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_excluded_is_chosen_and_nobody_else_is_forgotten(
        made in loaded(40), excluded in prop::collection::vec(0_usize..40, 0..60), random: u64, now in 0..40 * SECOND
    ) {
        let cursor = Cell::new(usize::try_from(random >> 16).expect("48 bits fit"));
        let pick = Pick {
            excluded: &excluded,
            random,
            affinity: (random % 3 > 0).then_some(random),
            preferred: made.first().map(|candidate| candidate.key),
            now: Nanos(now),
            active: active(&made),
            ..Pick::new(&cursor)
        };
        let allowed = |candidate: &Candidate| candidate.weight > 0 && !excluded.contains(&(candidate.index as usize));
        for balancing in all() {
            let chosen = Strategy::new(&balancing, &made).pick(&pick);
            prop_assert_eq!(chosen.is_some(), made.iter().any(allowed), "{:?}", balancing);
            prop_assert!(chosen.is_none_or(|index| allowed(&made[index])), "{:?}", balancing);
        }
    }

    #[test]
    fn the_same_dice_and_loads_give_the_same_choice(made in loaded(40), random: u64) {
        for balancing in all() {
            let choice = || {
                let cursor = Cell::new(3);
                Strategy::new(&balancing, &made).pick(&Pick { random, affinity: Some(random), ..Pick::new(&cursor) })
            };
            prop_assert_eq!(choice(), choice());
        }
    }

    #[test]
    fn what_is_returned_is_the_index_and_not_the_position(mut made in loaded(40), random: u64) {
        made.reverse();
        let cursor = Cell::new(0);
        for balancing in all() {
            let chosen = Strategy::new(&balancing, &made).pick(&Pick { random, affinity: Some(random), ..Pick::new(&cursor) });
            let weight = |index| made.iter().find(|candidate| candidate.index as usize == index).map(|one| one.weight);
            prop_assert!(chosen.is_none_or(|index| weight(index) > Some(0)));
        }
    }

    #[test]
    fn no_endpoint_goes_above_its_bound(
        weights in prop::collection::vec(1_u32..6, 1..40), steps in prop::collection::vec((0_u64..20, any::<bool>()), 1..300)
    ) {
        let made = candidates(&weights);
        let strategy = Strategy::new(&Balancing::ConsistentHash(Key::ClientIp), &made);
        let (cursor, total) = (Cell::new(0), weights.iter().sum::<u32>() as usize);
        let mut under_way = Vec::new();
        for (key, ends) in steps {
            let active = under_way.len();
            let pick = Pick { affinity: Some(key), random: key, active, ..Pick::new(&cursor) };
            let index = strategy.pick(&pick).expect("somebody is chosen");
            made[index].load.start();
            under_way.push(index);
            let bound = (5 * (active + 1) * made[index].weight as usize).div_ceil(4 * total);
            prop_assert!(made[index].load.in_flight() as usize <= bound, "{} of {}", index, active);
            if ends {
                let ended = under_way.swap_remove(usize::try_from(key).expect("small") % under_way.len());
                made[ended].load.end();
            }
        }
    }

    #[test]
    fn only_the_keys_of_an_endpoint_that_goes_move_and_to_where_an_exclusion_leads(
        weights in prop::collection::vec(1_u32..6, 2..20), gone: prop::sample::Index
    ) {
        let made = candidates(&weights);
        let gone = gone.index(made.len());
        let mut rest = made.clone();
        rest.remove(gone);
        let cursor = Cell::new(0);
        for balancing in [Balancing::IpHash, Balancing::ConsistentHash(Key::ClientIp)] {
            let (before, after) = (Strategy::new(&balancing, &made), Strategy::new(&balancing, &rest));
            for key in 0..300 {
                // Nothing is in flight in so busy a service: no bound is reached.
                let pick = Pick { affinity: Some(key), active: 1000, ..Pick::new(&cursor) };
                let excluding = Pick { excluded: &[gone], ..pick };
                prop_assert_eq!(before.pick(&excluding), after.pick(&pick));
                if before.pick(&pick) != Some(gone) {
                    prop_assert_eq!(before.pick(&pick), after.pick(&pick));
                }
            }
        }
    }
}

#[test]
fn of_the_keys_about_one_in_n_moves_when_one_of_n_goes() {
    for size in [2_usize, 10, 100, 1000] {
        let made = candidates(&vec![1; size]);
        let (before, after) = (Strategy::new(&Balancing::IpHash, &made), Strategy::new(&Balancing::IpHash, &made[1..]));
        let cursor = Cell::new(0);
        let of = |strategy: &Strategy, key| strategy.pick(&Pick { affinity: Some(key), ..Pick::new(&cursor) });
        let moved = (0..100_000).filter(|key| of(&before, *key) != of(&after, *key)).count();
        assert!(moved.abs_diff(100_000 / size) <= 25_000 / size, "{moved} of 100,000 with {size}");
    }
}
