//! Arbitrary histories. One endpoint's breaker must do exactly what a naive one does; a service with everything switched on
//! must never break a promise, and must always find back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidegate_config::config::{OutlierDetection, Service};
use tidegate_core::balance::Pick;
use tidegate_core::cluster::{BreakerCommand, BreakerState, Command, Outcome, State, Ticket, View};

use crate::world::{OK, World, breaker, endpoint, health, millis, outliers, seconds, service};

#[derive(Debug, Clone)]
enum Step {
    Choose,
    /// From a view that is out of date.
    ChooseStale,
    Head(usize, Outcome),
    Broken(usize),
    Drop(usize),
    Wait(Duration),
    Probe(usize, bool),
    Command(usize, Command),
    Discover(Vec<bool>),
    Reload,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(OK),
        2 => Just(Outcome::Status(500)),
        1 => Just(Outcome::Connect),
        1 => Just(Outcome::Reset),
        1 => Just(Outcome::Timeout),
    ]
}

/// Choices, results and the passing of time.
fn traffic() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Choose),
        8 => (0..4_usize, outcome()).prop_map(|(ticket, outcome)| Step::Head(ticket, outcome)),
        1 => (0..4_usize).prop_map(Step::Broken),
        3 => (0..4_usize).prop_map(Step::Drop),
        2 => (0..40_000_u64).prop_map(|time| Step::Wait(millis(time))),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Drain),
        Just(Command::Resume),
        (0..3_u32).prop_map(Command::Weight),
        Just(Command::Forgive),
        Just(Command::Breaker(BreakerCommand::ForceOpen)),
        Just(Command::Breaker(BreakerCommand::ForceClosed)),
        Just(Command::Breaker(BreakerCommand::Auto)),
    ]
}

fn anything() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => traffic(),
        2 => Just(Step::ChooseStale),
        3 => (0..5_usize, any::<bool>()).prop_map(|(host, well)| Step::Probe(host, well)),
        1 => (0..5_usize, command()).prop_map(|(host, command)| Step::Command(host, command)),
        1 => prop::collection::vec(any::<bool>(), 2).prop_map(Step::Discover),
        1 => Just(Step::Reload),
    ]
}

/// A breaker as one would write it without any haste: 60 % of at least 3 in 60 s, open for 30 s, 3 trials.
struct Naive {
    phase: Phase,
    generation: u32,
    now: Duration,
}

#[derive(Clone)]
enum Phase {
    /// When each result came, and when each failure.
    Closed(Vec<Duration>, Vec<Duration>),
    Open(Duration),
    HalfOpen {
        granted: u32,
        passed: u32,
    },
}

/// A ticket of the naive breaker: its generation, whether its success was noted, and how far it is.
#[derive(Clone, Copy)]
struct Note {
    generation: u32,
    success: bool,
    stage: u8,
}

impl Naive {
    fn wait(&mut self, time: Duration) {
        self.now += time;
        if let Phase::Open(until) = self.phase
            && until <= self.now
        {
            self.enter(Phase::HalfOpen { granted: 0, passed: 0 });
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }

    fn choose(&mut self) -> Option<Note> {
        match &mut self.phase {
            Phase::Open(_) => return None,
            Phase::HalfOpen { granted, .. } if *granted == 3 => return None,
            Phase::HalfOpen { granted, .. } => *granted += 1,
            Phase::Closed(..) => {}
        }
        Some(Note { generation: self.generation, success: false, stage: 0 })
    }

    fn head(&mut self, note: &mut Note, outcome: Outcome) {
        if note.stage > 0 {
            return;
        }
        note.stage = if matches!(outcome, Outcome::Status(_)) { 1 } else { 2 };
        if note.generation != self.generation {
            return;
        }
        if let Phase::Closed(results, failures) = &mut self.phase {
            results.push(self.now);
            note.success = outcome == OK;
            failures.extend((outcome != OK).then_some(self.now));
        }
        self.judge(outcome != OK);
    }

    fn broken(&mut self, note: &mut Note) {
        if note.stage != 1 {
            return;
        }
        note.stage = 2;
        if note.generation != self.generation {
            return;
        }
        match &mut self.phase {
            Phase::Closed(_, failures) if note.success => failures.push(self.now),
            Phase::Closed(..) => return,
            Phase::Open(_) | Phase::HalfOpen { .. } => {}
        }
        self.judge(true);
    }

    fn drop(&mut self, note: Note) {
        if let Phase::HalfOpen { granted, .. } = &mut self.phase
            && note.stage == 0
            && note.generation == self.generation
        {
            *granted -= 1;
        }
    }

    fn judge(&mut self, failed: bool) {
        let open = Phase::Open(self.now + seconds(30));
        match &mut self.phase {
            Phase::Closed(results, failures) => {
                let bucket = |time: Duration| time.as_secs() / 6;
                let recent =
                    |times: &[Duration]| times.iter().filter(|time| bucket(**time) + 10 > bucket(self.now)).count();
                let (results, failures) = (recent(results), recent(failures));
                if failed && results >= 3 && failures * 10 >= results * 6 {
                    self.enter(open);
                }
            }
            Phase::HalfOpen { .. } if failed => self.enter(open),
            Phase::HalfOpen { passed: 2, .. } => self.enter(Phase::Closed(Vec::new(), Vec::new())),
            Phase::HalfOpen { passed, .. } => *passed += 1,
            Phase::Open(_) => {}
        }
    }

    fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed(..) => BreakerState::Closed,
            Phase::Open(_) => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

/// Both breakers through one history.
fn compare(steps: Vec<Step>) {
    let mut world = World::new(Service { breaker: Some(breaker()), ..service("a") });
    let mut naive = Naive { phase: Phase::Closed(Vec::new(), Vec::new()), generation: 0, now: Duration::ZERO };
    let mut tickets: Vec<(Ticket, Note)> = Vec::new();
    for step in steps {
        match step {
            Step::Choose => match (world.try_choose(&[]), naive.choose()) {
                (Ok(ticket), Some(note)) => tickets.push((ticket, note)),
                (Err(_), None) => {}
                (real, model) => panic!("{real:?}, and the model {}", model.is_some()),
            },
            Step::Head(at, outcome) if at < tickets.len() => {
                let (ticket, note) = &mut tickets[at];
                ticket.head(outcome, world.now);
                naive.head(note, outcome);
            }
            Step::Broken(at) if at < tickets.len() => {
                let (ticket, note) = &mut tickets[at];
                ticket.broken(world.now);
                naive.broken(note);
            }
            Step::Drop(at) if at < tickets.len() => {
                let (ticket, note) = tickets.remove(at);
                drop(ticket);
                naive.drop(note);
            }
            Step::Wait(time) => {
                world.wait(time);
                naive.wait(time);
            }
            Step::Head(..) | Step::Broken(_) | Step::Drop(_) => {}
            Step::ChooseStale | Step::Probe(..) | Step::Command(..) | Step::Discover(_) | Step::Reload => {
                unreachable!("{step:?} is no traffic")
            }
        }
        assert_eq!(world.report("a").breaker, naive.state());
        assert_eq!(world.report("a").in_flight as usize, tickets.len());
    }
}

/// A service with everything switched on, and what must be true of it at any time.
struct Promises {
    world: World,
    config: Service,
    stale: Arc<View>,
    tickets: Vec<Held>,
    /// Trials that were granted and not called off.
    trials: BTreeMap<Opening, u32>,
    /// Operators and reloads may begin trials anew.
    interventions: u32,
}

/// A member's id, how often its breaker had opened, and how often someone had intervened.
type Opening = (u64, u64, u32);

struct Held {
    ticket: Ticket,
    trial: Option<Opening>,
}

const HOSTS: [&str; 5] = ["a", "b", "c", "d", "e"];

impl Promises {
    fn new(panic_threshold: Option<f64>, slow_start: Duration) -> Self {
        let rules = OutlierDetection { consecutive_errors: Some(2), min_requests: 4, max_ejected: 0.4, ..outliers() };
        let config = Service {
            breaker: Some(breaker()),
            outliers: Some(rules),
            health: Some(health()),
            panic_threshold,
            slow_start,
            ..service("abc")
        };
        let mut world = World::new(config.clone());
        let stale = world.view();
        Self { world, config, stale, tickets: Vec::new(), trials: BTreeMap::new(), interventions: 0 }
    }

    fn choose(&mut self, stale: bool) {
        let view = if stale { Arc::clone(&self.stale) } else { self.world.view() };
        let Ok(ticket) = view.choose(&Pick::new(&self.world.cursor), self.world.now) else { return };
        let report = self.world.cluster.report(self.world.now);
        let Some(endpoint) = report.endpoints.iter().find(|endpoint| endpoint.id == ticket.member.id) else {
            assert!(stale, "it is no member any more");
            return;
        };
        assert!(!matches!(endpoint.state, State::Open | State::Draining), "{:?}", endpoint.state);
        assert_ne!(endpoint.breaker, BreakerState::Open);
        let half_open = endpoint.breaker == BreakerState::HalfOpen;
        let trial = half_open.then_some((endpoint.id, endpoint.breaker_opened, self.interventions));
        if let Some(trial) = trial {
            let granted = self.trials.entry(trial).or_default();
            *granted += 1;
            assert!(*granted <= 3, "trials: {granted}");
        }
        self.tickets.push(Held { ticket, trial });
    }

    fn head(&mut self, at: usize, outcome: Outcome) {
        let Held { ticket, trial } = &mut self.tickets[at];
        ticket.head(outcome, self.world.now);
        *trial = None;
    }

    fn drop(&mut self, at: usize) {
        if let Some(trial) = self.tickets.remove(at).trial {
            *self.trials.entry(trial).or_default() -= 1;
        }
    }

    fn step(&mut self, step: Step) {
        let now = self.world.now;
        self.interventions += u32::from(matches!(step, Step::Command(..) | Step::Discover(_) | Step::Reload));
        match step {
            Step::Choose => self.choose(false),
            Step::ChooseStale => self.choose(true),
            Step::Head(at, outcome) if at < self.tickets.len() => self.head(at, outcome),
            Step::Broken(at) if at < self.tickets.len() => self.tickets[at].ticket.broken(now),
            Step::Drop(at) if at < self.tickets.len() => self.drop(at),
            Step::Wait(time) => {
                self.stale = self.world.view();
                self.world.wait(time);
            }
            Step::Probe(place, well) => self.probe(place, well),
            Step::Command(host, command) => self.command(HOSTS[host], command),
            Step::Discover(there) => {
                let found = ["d", "e"].into_iter().zip(there).filter(|(_, there)| *there);
                self.world.cluster.discovered(found.map(|(host, _)| endpoint(host)).collect(), now);
            }
            Step::Reload => self.world.cluster.configure(Arc::new(self.config.clone()), None, now),
            Step::Head(..) | Step::Broken(_) | Step::Drop(_) => {}
        }
        self.check();
    }

    fn probe(&mut self, place: usize, well: bool) {
        let view = self.world.view();
        if let Some(member) = view.members.get(place) {
            let result = if well { Ok(()) } else { Err("no answer".into()) };
            self.world.cluster.probed(member.id, result, self.world.now);
        }
    }

    /// Endpoints that are not there now are told nothing.
    fn command(&self, host: &str, command: Command) {
        self.world.cluster.command(&format!("{host}:80"), command, self.world.now).unwrap_or(());
    }

    fn check(&self) {
        let report = self.world.cluster.report(self.world.now);
        let offered = report.endpoints.iter().filter(|endpoint| endpoint.state != State::Draining).count();
        let ejected = report.endpoints.iter().filter(|endpoint| endpoint.state == State::Ejected).count();
        let cap = if offered < 2 { 0 } else { (offered * 4 / 10).max(1) };
        assert!(ejected <= cap, "{ejected} of {offered} are ejected");
        for endpoint in &report.endpoints {
            let held = self.tickets.iter().filter(|held| held.ticket.member.id == endpoint.id).count();
            assert_eq!(endpoint.in_flight as usize, held);
        }
    }

    /// Once nobody interferes, good results and time lead back to health, wherever the history ended.
    fn recover(&mut self) {
        self.tickets.clear();
        for host in HOSTS {
            for command in [Command::Resume, Command::Weight(1), Command::Breaker(BreakerCommand::Auto)] {
                self.command(host, command);
            }
        }
        for _ in 0..20 {
            self.world.wait(seconds(60));
            for place in 0..HOSTS.len() {
                self.probe(place, true);
                self.probe(place, true);
            }
            for _ in 0..4 * HOSTS.len() {
                self.world.choose().head(OK, self.world.now);
            }
        }
        let report = self.world.cluster.report(self.world.now);
        let states: Vec<State> = report.endpoints.iter().map(|endpoint| endpoint.state).collect();
        assert_eq!(states, vec![State::Healthy; states.len()]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_breaker_does_what_a_naive_one_does(steps in prop::collection::vec(traffic(), 1..150)) {
        compare(steps);
    }

    #[test]
    fn no_history_breaks_a_promise_and_all_lead_back_to_health(
        steps in prop::collection::vec(anything(), 1..150),
        panic_threshold in prop::option::of(0.3..1.0),
        slow_start in prop_oneof![Just(Duration::ZERO), Just(seconds(50))],
    ) {
        let mut promises = Promises::new(panic_threshold, slow_start);
        for step in steps {
            promises.step(step);
        }
        promises.recover();
    }
}
