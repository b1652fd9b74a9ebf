use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidegate_config::config::{self, AcceptRequestId, FieldMatch, Key, Mirror, SplitPart, ValueMatch, When};
use tidegate_config::value::PathPattern;
use tidegate_core::affinity;
use tidegate_core::body::Body;
use tidegate_core::clock::{Clock, ManualClock};
use tidegate_core::exchange::{Exchange, Opening};
use tidegate_core::route::{Found, Head, Params, Router};
use tidegate_core::shaping::{self, Choice, Split};

use crate::world::{fields, head, networks, peer, route};

/// An open exchange of a client at this address.
fn exchange(client: &str, target: &str, lines: &[&str]) -> Exchange {
    let nobody = networks(&[]);
    let rule = config::RequestId { header: "x-request-id".into(), accept: AcceptRequestId::Never };
    let now = Clock::Manual(ManualClock::new(Duration::ZERO)).now();
    let opening = Opening { trusted: &nobody, request_id: &rule, random: 1, now };
    let lines = [&["host: a.test"], lines].concat();
    let (exchange, opened) =
        Exchange::open(head("GET", target, &lines), Body::empty(), Rc::new(peer(client, &[])), opening);
    assert_eq!(opened, Ok(()));
    exchange
}

fn key_of(key: &Key, client: &str, target: &str, lines: &[&str]) -> Option<u64> {
    affinity::of(key, &exchange(client, target, lines), &PathPattern::everything())
}

#[test]
fn a_hash_never_changes() {
    assert_eq!(affinity::hash(b""), 0xc381_7c01_6ba4_ff30);
    assert_eq!(affinity::hash(b"a"), 0x5f29_c2aa_dd9b_8527);
    assert_eq!(affinity::hash(b"10.0.0.1:8080"), 0x617f_b5c9_4294_a1fd);
}

#[test]
fn a_client_is_the_same_in_either_family() {
    let of = |client| key_of(&Key::ClientIp, client, "/", &[]);
    assert_eq!(of("192.0.2.7"), of("::ffff:192.0.2.7"));
    assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    assert_ne!(of("2001:db8::1"), of("2001:db8::2"));
}

#[test]
fn a_key_is_the_first_value_of_what_it_names() {
    let hash = |text: &str| Some(affinity::hash(text.as_bytes()));
    let lines = ["x-user: ann", "x-user: bob", "cookie: a=1; tg=x", "cookie: tg=y", "x-empty: "];
    let of = |key: &Key| key_of(key, "192.0.2.7", "/a?q=%41+b&q=c&none", &lines);
    assert_eq!(of(&Key::Header("x-user".into())), hash("ann"));
    assert_eq!(of(&Key::Cookie("tg".into())), hash("x"));
    assert_eq!(of(&Key::Query("q".into())), hash("A b"));
    for absent in [
        Key::Header("x-other".into()),
        Key::Header("x-empty".into()),
        Key::Cookie("t".into()),
        Key::Query("none".into()),
        Key::Query("x".into()),
        Key::Path("id".into()),
    ] {
        assert_eq!(of(&absent), None, "{absent:?}");
    }
}

#[test]
fn a_parameter_of_the_path_is_a_key_even_after_the_path_was_rewritten() {
    let route = route("r | /users/{id}/x");
    let (router, _) = Router::build(std::slice::from_ref(&route));
    let mut exchange = exchange("192.0.2.7", "/users/4711/x?q=1", &[]);
    let mut params = Params::new();
    assert_eq!(router.find(&Head::of(&exchange), &mut params), Found::Route(0));
    exchange.params = params;
    exchange.rewrite("/elsewhere".to_owned(), 10);
    let of = |key: &Key| affinity::of(key, &exchange, &route.matches.path);
    assert_eq!(of(&Key::Path("id".into())), Some(affinity::hash(b"4711")));
    assert_eq!(of(&Key::Query("q".into())), Some(affinity::hash(b"1")));
}

fn part(service: &str, weight: u32, when: Option<When>) -> SplitPart {
    SplitPart { service: service.into(), weight, when }
}

fn split(weights: &[u32], sticky: Option<Key>) -> Split {
    let parts = weights.iter().zip(0..).map(|(&weight, number)| part(&number.to_string(), weight, None)).collect();
    Split::new(&config::Split { parts, sticky }, |name| name.parse().expect("a number"))
}

fn header(name: &str, is: ValueMatch) -> When {
    When { headers: vec![FieldMatch { name: name.into(), is }], cookies: Vec::new() }
}

fn cookie(name: &str, is: ValueMatch) -> When {
    When { headers: Vec::new(), cookies: vec![FieldMatch { name: name.into(), is }] }
}

fn chosen(split: &Split, lines: &[&str], random: u128) -> Option<Choice> {
    split.choose(&exchange("192.0.2.7", "/", lines), &PathPattern::everything(), random)
}

fn service(split: &Split, lines: &[&str], random: u128) -> Option<usize> {
    chosen(split, lines, random).map(|choice| choice.service)
}

#[test]
fn a_condition_that_holds_decides_before_any_weight_in_the_order_written() {
    let parts = vec![
        part("0", 100, None),
        part("1", 0, Some(header("x-canary", ValueMatch::Exact("1".into())))),
        part("2", 0, Some(cookie("beta", ValueMatch::Present))),
    ];
    let split = Split::new(&config::Split { parts, sticky: None }, |name| name.parse().expect("a number"));
    assert_eq!(service(&split, &["x-canary: 1"], 0), Some(1));
    assert_eq!(service(&split, &["cookie: beta="], 0), Some(2));
    assert_eq!(service(&split, &["x-canary: 1", "cookie: beta=1"], 0), Some(1));
    assert_eq!(service(&split, &["x-canary: 2"], 0), Some(0));
    for random in [0, 1 << 127, u128::MAX] {
        assert_eq!(service(&split, &[], random), Some(0), "a weight of nothing gets nothing");
    }
}

#[test]
fn every_part_of_a_condition_must_hold() {
    let when = When {
        headers: vec![FieldMatch { name: "x-a".into(), is: ValueMatch::Absent }],
        cookies: vec![FieldMatch { name: "b".into(), is: ValueMatch::Present }],
    };
    assert!(shaping::holds(&when, &fields(&["cookie: b=1"])));
    assert!(!shaping::holds(&when, &fields(&["cookie: b=1", "x-a: 1"])));
    assert!(!shaping::holds(&when, &fields(&[])));
}

#[test]
fn without_weights_only_conditions_lead_anywhere() {
    assert_eq!(chosen(&split(&[0, 0], None), &[], 7), None);
    assert_eq!(chosen(&split(&[0, 0], Some(Key::ClientIp)), &[], 7), None);
}

#[test]
fn a_new_client_gets_a_cookie_that_keeps_it_where_it_is() {
    let split = split(&[1, 1, 1], Some(Key::Cookie("ab".into())));
    let mut seen = [0; 3];
    for random in (0..300).map(|n| u128::from(affinity::mix(n))) {
        let first = chosen(&split, &[], random).expect("a choice");
        let (name, value) = first.cookie.expect("a cookie");
        assert_eq!(&*name, "ab");
        let again = chosen(&split, &[&format!("cookie: ab={value}")], !random);
        assert_eq!(again, Some(Choice { service: first.service, cookie: None }));
        seen[first.service] += 1;
    }
    assert!(seen.iter().all(|&count| count > 60), "{seen:?}");
}

#[test]
fn a_client_whose_condition_holds_needs_no_cookie() {
    let parts = vec![part("0", 1, None), part("1", 0, Some(header("x-canary", ValueMatch::Present)))];
    let sticky = Some(Key::Cookie("ab".into()));
    let split = Split::new(&config::Split { parts, sticky }, |name| name.parse().expect("a number"));
    assert_eq!(chosen(&split, &["x-canary: 1"], 0), Some(Choice { service: 1, cookie: None }));
}

#[test]
fn a_share_of_a_split_is_spread_over_all_hashes() {
    // Else the endpoints of a small part, chosen by the same key, would see a small range of the keys.
    let split = split(&[95, 5], Some(Key::Header("x-user".into())));
    let small = (0..20_000).filter_map(|user| {
        let user = format!("x-user: {user}");
        let hash = key_of(&Key::Header("x-user".into()), "192.0.2.7", "/", &[&user])?;
        (service(&split, &[&user], 0) == Some(1)).then_some(hash)
    });
    let mut quarters = [0_u32; 4];
    small.for_each(|hash| quarters[(hash >> 62) as usize] += 1);
    assert!(quarters.iter().all(|count| (190..=310).contains(count)), "{quarters:?}");
}

#[test]
fn all_and_nothing_are_shares_too() {
    let mirror = |share| Mirror { service: Arc::from("a"), share, max: 1, buffer: 1 };
    for random in [0, 1, u64::MAX / 2, u64::MAX] {
        assert!(shaping::is_mirrored(&mirror(1.0), &fields(&[]), random));
        assert!(!shaping::is_mirrored(&mirror(0.0), &fields(&[]), random));
    }
    assert!(shaping::is_mirrored(&mirror(0.5), &fields(&[]), u64::MAX / 2 - 2048));
    assert!(!shaping::is_mirrored(&mirror(0.5), &fields(&[]), u64::MAX / 2 + 1));
}

#[test]
fn a_copy_is_not_copied_again() {
    let mirror = Mirror { service: Arc::from("a"), share: 1.0, max: 1, buffer: 1 };
    assert!(!shaping::is_mirrored(&mirror, &fields(&["X-Tidegate-Mirror: 1"]), 0));
}

#[test]
fn trouble_comes_only_where_its_condition_holds() {
    let fault = |share, when| config::Fault { delay: None, abort: None, share, when };
    let chaos = || Some(header("x-chaos", ValueMatch::Present));
    assert!(shaping::is_faulty(&fault(1.0, None), &fields(&[]), 0));
    assert!(shaping::is_faulty(&fault(1.0, chaos()), &fields(&["x-chaos: 1"]), 0));
    assert!(!shaping::is_faulty(&fault(1.0, chaos()), &fields(&[]), 0));
    assert!(!shaping::is_faulty(&fault(0.1, chaos()), &fields(&["x-chaos: 1"]), u64::MAX));
}

/// How many of 4,000 numbered users are in each part.
fn parts_of(weights: &[u32]) -> Vec<usize> {
    let split = split(weights, Some(Key::Header("x-user".into())));
    (0..4_000).filter_map(|user| service(&split, &[&format!("x-user: {user}")], 0)).collect()
}

fn share_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("at most 4,000")) / 4_000.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn parts_get_their_share_of_requests_and_of_keys(weights in prop::collection::vec(0_u32..50, 1..5), seed: u64) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        let dice = split(&weights, None);
        let thrown = (0..4_000_u64).filter_map(|n| service(&dice, &[], u128::from(affinity::mix(seed ^ n)) << 64));
        for places in [thrown.collect(), parts_of(&weights)] {
            let places: Vec<usize> = places;
            prop_assert_eq!(places.len(), 4_000);
            for (part, &weight) in weights.iter().enumerate() {
                let share = share_of(places.iter().filter(|&&place| place == part).count());
                let expected = f64::from(weight) / f64::from(total);
                prop_assert!((share - expected).abs() < 0.04, "{weights:?}: part {part} got {share}, not {expected}");
            }
        }
    }

    #[test]
    fn weight_that_moves_takes_as_many_keys_with_it_and_no_more(from in 10_u32..90, moved in 0_u32..10) {
        let (before, after) = (parts_of(&[from, 100 - from]), parts_of(&[from - moved, 100 - from + moved]));
        let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        prop_assert!(changed.iter().all(|change| *change == (&0, &1)), "nobody goes the other way");
        let share = share_of(changed.len());
        prop_assert!((share - f64::from(moved) / 100.0).abs() < 0.03, "{share} of the keys moved with {moved} %");
    }
}
