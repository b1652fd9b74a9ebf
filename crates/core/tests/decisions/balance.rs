use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_core::balance::{Balance, Candidate, Load, Pick, RoundRobin, stable_hash};

pub(crate) fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let numbered = weights.iter().zip(0..);
    let candidate = |(weight, index): (&u32, u32)| {
        let key = stable_hash(format!("10.0.0.{index}:8080").as_bytes());
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
}
