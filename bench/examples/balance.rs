//! `balance STRATEGY ENDPOINTS TURNS`: each turn chooses one of so many endpoints. All of them are known and busy, and every
//! request has a key and a cookie of its own.

use std::{cell::Cell, hint::black_box, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tidegate_config::config::{Balancing, Key, StickyCookie};
use tidegate_core::affinity::hash;
use tidegate_core::balance::{Balance, Candidate, Load, Nanos, Pick, Strategy};

const USAGE: &str = "usage: balance STRATEGY ENDPOINTS TURNS";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [strategy, endpoints, turns] = arguments.as_slice() else { bail!(USAGE) };
    let (endpoints, turns): (u32, u64) = (endpoints.parse().context(USAGE)?, turns.parse().context(USAGE)?);
    let candidates: Vec<Candidate> = (0..endpoints).map(candidate).collect();
    let active = candidates.iter().map(|candidate| candidate.load.in_flight() as usize).sum();
    let keys: Vec<u64> = candidates.iter().map(|candidate| candidate.key).collect();
    let strategy = Strategy::new(&balancing(strategy)?, &candidates);
    let cursor = Cell::new(0);
    for (turn, key) in (0..turns).zip(keys.iter().cycle()) {
        let random = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (affinity, preferred, now) = (Some(random), Some(*key), Nanos(2_000_000_000 + turn * 1000));
        let pick = Pick { random, affinity, preferred, now, active, ..Pick::new(&cursor) };
        ensure!(strategy.pick(black_box(&pick)).is_some(), "somebody is chosen");
    }
    Ok(())
}

fn balancing(name: &str) -> Result<Balancing> {
    Ok(match name {
        "round_robin" => Balancing::RoundRobin,
        "least_connections" => Balancing::LeastConnections,
        "least_time" => Balancing::LeastTime,
        "p2c" => Balancing::PowerOfTwo,
        "random" => Balancing::Random,
        "ip_hash" => Balancing::IpHash,
        "consistent_hash" => Balancing::ConsistentHash(Key::ClientIp),
        "sticky_cookie" => Balancing::StickyCookie(StickyCookie { name: "tg".into(), secret: None, max_age: None }),
        other => bail!("there is no strategy `{other}`"),
    })
}

/// With one to five requests in flight and an answer in its past.
fn candidate(index: u32) -> Candidate {
    let key = hash(format!("endpoint-{index}:8080").as_bytes());
    let load = Arc::new(Load::default());
    (0..=key % 5).for_each(|_| load.start());
    load.answered(Duration::from_micros(500 + key % 1000), Nanos(1_000_000_000));
    Candidate { index, weight: 1, key, load }
}
