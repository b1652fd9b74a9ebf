//! Ten endpoints, each with a few places and a queue, clients who do not wait for one another, and a balancer: a discrete-event
//! simulation whose time is a number.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "times are positive, and far below 2^52 ns"
)]

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use tidegate_config::config::Balancing;
use tidegate_core::affinity::hash;
use tidegate_core::balance::{Balance, Candidate, Load, Nanos, Pick, Strategy};

const ENDPOINTS: u32 = 10;
/// Which one may be slow, and how much.
const SLOW: usize = 9;
const SLOWER: f64 = 10.0;
/// Requests that an endpoint works on at once; others wait in its queue.
const PLACES: usize = 8;
/// Nanoseconds that a well endpoint works on a request, on average.
const WORK: f64 = 50e6;
/// How busy all endpoints are together.
const UTILISATION: f64 = 0.6;
/// For how long requests come, in nanoseconds. Every one of them is answered in the end.
const DURATION: u64 = 60_000_000_000;
/// Each with an address and a cookie.
const CLIENTS: usize = 2000;

/// What happened.
pub(crate) struct Run {
    /// Latencies of all requests, in nanoseconds, the shortest first.
    sorted: Vec<u64>,
    to_slow: usize,
}

/// Sends requests for a minute. If not `slow`, all endpoints are equally fast.
pub(crate) fn run(balancing: &Balancing, slow: bool) -> Result<Run> {
    let mut world = World::new(balancing, slow);
    let capacity: f64 = world.endpoints.iter().map(|endpoint| PLACES as f64 / endpoint.work).sum();
    let mut arrivals = Dice::new(1);
    let mut now = 0;
    while now <= DURATION {
        world.work_until(now)?;
        world.send(now)?;
        now += arrivals.exponential(1.0 / (capacity * UTILISATION));
    }
    world.work_until(u64::MAX)?;
    world.latencies.sort_unstable();
    Ok(Run { sorted: world.latencies, to_slow: world.to_slow })
}

impl Run {
    /// What this share of the requests stayed within, in milliseconds.
    pub(crate) fn within(&self, share: f64) -> Result<f64> {
        let found = self.sorted.get((self.sorted.len() as f64 * share) as usize);
        found.map(|nanos| *nanos as f64 / 1e6).context("there were requests")
    }

    /// The share of the requests that the slow endpoint got.
    pub(crate) fn to_slow(&self) -> f64 {
        self.to_slow as f64 / self.sorted.len() as f64
    }
}

struct World {
    strategy: Strategy,
    candidates: Vec<Candidate>,
    endpoints: Vec<Endpoint>,
    /// When which endpoint is done with a request that came when; the next first.
    work: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// The endpoint that each client's cookie names.
    cookies: Vec<Option<u64>>,
    cursor: Cell<usize>,
    clients: Dice,
    choices: Dice,
    durations: Dice,
    active: usize,
    latencies: Vec<u64>,
    to_slow: usize,
}

struct Endpoint {
    /// Nanoseconds that a request takes, on average.
    work: f64,
    busy: usize,
    /// When those came who wait.
    queue: VecDeque<u64>,
}

impl World {
    fn new(balancing: &Balancing, slow: bool) -> Self {
        let candidates: Vec<Candidate> = (0..ENDPOINTS).map(candidate).collect();
        let work = |index| if slow && index == SLOW { WORK * SLOWER } else { WORK };
        let endpoint = |index| Endpoint { work: work(index), busy: 0, queue: VecDeque::new() };
        Self {
            strategy: Strategy::new(balancing, &candidates),
            endpoints: (0..candidates.len()).map(endpoint).collect(),
            candidates,
            work: BinaryHeap::new(),
            cookies: vec![None; CLIENTS],
            cursor: Cell::new(0),
            clients: Dice::new(2),
            choices: Dice::new(3),
            durations: Dice::new(4),
            active: 0,
            latencies: Vec::new(),
            to_slow: 0,
        }
    }

    /// A client sends a request.
    fn send(&mut self, now: u64) -> Result<()> {
        let client = (self.clients.fraction() * CLIENTS as f64) as usize;
        let cookie = self.cookies.get_mut(client).context("a client")?;
        let pick = Pick {
            random: self.choices.roll(),
            affinity: Some(hash(&client.to_le_bytes())),
            preferred: *cookie,
            now: Nanos(now),
            active: self.active,
            ..Pick::new(&self.cursor)
        };
        let index = self.strategy.pick(&pick).context("somebody is chosen")?;
        let candidate = self.candidates.get(index).context("a candidate")?;
        *cookie = Some(candidate.key);
        candidate.load.start();
        self.active += 1;
        self.to_slow += usize::from(index == SLOW);
        let endpoint = self.endpoints.get_mut(index).context("an endpoint")?;
        endpoint.queue.push_back(now);
        self.begin(index, now)
    }

    /// All that endpoints finish up to this time.
    fn work_until(&mut self, now: u64) -> Result<()> {
        while let Some(Reverse((at, index, came))) = self.work.pop() {
            if at > now {
                self.work.push(Reverse((at, index, came)));
                break;
            }
            let load = &self.candidates.get(index).context("a candidate")?.load;
            load.answered(Duration::from_nanos(at - came), Nanos(at));
            load.end();
            self.active -= 1;
            self.latencies.push(at - came);
            self.endpoints.get_mut(index).context("an endpoint")?.busy -= 1;
            self.begin(index, at)?;
        }
        Ok(())
    }

    /// The endpoint takes the next request of its queue, if there is one and a place for it.
    fn begin(&mut self, index: usize, now: u64) -> Result<()> {
        let endpoint = self.endpoints.get_mut(index).context("an endpoint")?;
        if endpoint.busy < PLACES
            && let Some(came) = endpoint.queue.pop_front()
        {
            endpoint.busy += 1;
            self.work.push(Reverse((now + self.durations.exponential(endpoint.work), index, came)));
        }
        Ok(())
    }
}

fn candidate(index: u32) -> Candidate {
    let key = hash(format!("10.0.0.{index}:8080").as_bytes());
    Candidate { index, weight: 1, key, load: Arc::new(Load::default()) }
}

/// Random numbers that are the same on every run.
struct Dice {
    seed: u64,
    rolls: u64,
}

impl Dice {
    fn new(seed: u64) -> Self {
        Self { seed, rolls: 0 }
    }

    fn roll(&mut self) -> u64 {
        self.rolls += 1;
        hash(&(self.seed << 48 | self.rolls).to_le_bytes())
    }

    /// From 0 up to, but without, 1.
    fn fraction(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Nanoseconds until something happens that does not know how long it is due.
    fn exponential(&mut self, mean: f64) -> u64 {
        (-mean * (1.0 - self.fraction()).ln()) as u64
    }
}
