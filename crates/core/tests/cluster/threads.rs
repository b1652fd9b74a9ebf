use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tidegate_config::config::{CircuitBreaker, OutlierDetection, Service, Trip};
use tidegate_core::balance::Pick;
use tidegate_core::cluster::{Cluster, Command, EndpointReport, Refusal, State, Ticket};

use crate::world::{ERROR, OK, World, breaker, outliers, seconds, service};

const THREADS: usize = 4;
const REQUESTS: u64 = 20_000;

/// The requests of one worker, each at its time.
fn work(cluster: &Cluster, time: impl Fn(u64) -> Instant, request: impl Fn(u64, Result<Ticket, Refusal>)) {
    let (mut view, cursor) = (cluster.view(), Cell::new(0));
    for number in 0..REQUESTS {
        let now = time(number);
        cluster.renew(&mut view, now);
        request(number, view.choose(&Pick::new(&cursor), now));
    }
}

#[test]
fn counters_of_many_threads_add_up() {
    let patient = OutlierDetection { consecutive_errors: None, failure_ratio: None, ..outliers() };
    let breaker = CircuitBreaker { trip: Trip::Consecutive(1000), ..breaker() };
    let world = World::new(Service { outliers: Some(patient), breaker: Some(breaker), ..service("abc") });
    let now = world.now;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let cluster = Arc::clone(&world.cluster);
            let request = move |number, ticket: Result<Ticket, Refusal>| match number % 10 {
                0 => drop(ticket.expect("all are in service")),
                1 | 6 => ticket.expect("all are in service").head(ERROR, now),
                _ => ticket.expect("all are in service").head(OK, now),
            };
            scope.spawn(move || work(&cluster, |_| now, request));
        }
    });
    let report = world.cluster.report(now);
    assert!(report.endpoints.iter().all(|endpoint| endpoint.in_flight == 0 && endpoint.state == State::Healthy));
    let sum = |count: fn(&EndpointReport) -> u32| -> u64 {
        report.endpoints.iter().map(|endpoint| u64::from(count(endpoint))).sum()
    };
    let all = REQUESTS * THREADS as u64;
    assert_eq!(sum(|endpoint| endpoint.requests), all * 9 / 10);
    assert_eq!(sum(|endpoint| endpoint.failures), all / 5);
}

#[test]
fn many_threads_never_get_more_trials_than_there_are() {
    let mut world = World::new(Service { breaker: Some(breaker()), ..service("a") });
    for _ in 0..200 {
        world.requests("a", ERROR, 3);
        world.wait(seconds(30));
        let (view, now) = (world.view(), world.now);
        let choose = || view.choose(&Pick::new(&Cell::new(0)), now).ok();
        let tickets: Vec<Ticket> = thread::scope(|scope| {
            let threads = [(); THREADS].map(|()| scope.spawn(|| [choose(), choose(), choose()]));
            threads.into_iter().flat_map(|thread| thread.join().expect("it does not fail")).flatten().collect()
        });
        assert_eq!(tickets.len(), 3);
        for mut ticket in tickets {
            ticket.head(OK, now);
        }
        assert_eq!(world.state("a"), State::Healthy);
    }
}

/// Three hundred errors, then seven hundred good answers, and so on.
fn now_and_then_bad(number: u64, ticket: Result<Ticket, Refusal>, now: Instant) {
    match ticket {
        Ok(mut ticket) => ticket.head(if number % 1000 < 300 { ERROR } else { OK }, now),
        Err(refusal) => assert_ne!(refusal, Refusal::AllTried),
    }
}

#[test]
fn workers_go_on_while_everything_changes() {
    let world = World::new(Service { outliers: Some(outliers()), breaker: Some(breaker()), ..service("abcd") });
    let start = world.now;
    let time = move |number| start + seconds(number / 100);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let cluster = Arc::clone(&world.cluster);
            let request = move |number, ticket| now_and_then_bad(number, ticket, time(number));
            scope.spawn(move || work(&cluster, time, request));
        }
        for _ in 0..500 {
            world.cluster.command("a:80", Command::Drain, start).expect("it exists");
            world.cluster.command("a:80", Command::Resume, start).expect("it exists");
        }
    });
    assert!(world.cluster.report(start).endpoints.iter().all(|endpoint| endpoint.in_flight == 0));
}
