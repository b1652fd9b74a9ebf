use std::cell::Cell;
use std::sync::Arc;
use std::thread;

use tidegate_config::config::Service;
use tidegate_core::balance::Pick;
use tidegate_core::cluster::{Command, Refusal, State};

use crate::world::{ERROR, OK, World, breaker, outliers, seconds, service};

const THREADS: usize = 4;
const REQUESTS: usize = 20_000;

#[test]
fn counters_of_many_threads_add_up() {
    let world = World::new(Service { outliers: Some(outliers()), breaker: Some(breaker()), ..service("abc") });
    let now = world.now;
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let cluster = Arc::clone(&world.cluster);
            scope.spawn(move || {
                let (mut view, cursor) = (cluster.view(), Cell::new(worker));
                for request in 0..REQUESTS {
                    cluster.renew(&mut view, now);
                    let mut ticket = view.choose(&Pick::new(&cursor), now).expect("one of three is in service");
                    if request % 10 != 0 {
                        ticket.head(if request % 5 == 1 { ERROR } else { OK }, now);
                    }
                }
            });
        }
    });
    let report = world.cluster.report(now);
    assert!(report.endpoints.iter().all(|endpoint| endpoint.in_flight == 0 && endpoint.state == State::Healthy));
    let requests: u32 = report.endpoints.iter().map(|endpoint| endpoint.requests).sum();
    let failures: u32 = report.endpoints.iter().map(|endpoint| endpoint.failures).sum();
    assert_eq!((requests as usize, failures as usize), (THREADS * REQUESTS * 9 / 10, THREADS * REQUESTS / 5));
}

#[test]
fn many_threads_never_get_more_trials_than_there_are() {
    let mut world = World::new(Service { breaker: Some(breaker()), ..service("a") });
    for _ in 0..200 {
        world.requests("a", ERROR, 3);
        world.wait(seconds(30));
        let (view, now) = (world.view(), world.now);
        let tickets: Vec<_> = thread::scope(|scope| {
            let choose = || (0..3).filter_map(|_| view.choose(&Pick::new(&Cell::new(0)), now).ok()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(choose)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("it does not fail")).collect()
        });
        assert_eq!(tickets.len(), 3);
        for mut ticket in tickets {
            ticket.head(OK, now);
        }
        assert_eq!(world.state("a"), State::Healthy);
    }
}

#[test]
fn workers_go_on_while_everything_changes() {
    let world = World::new(Service { outliers: Some(outliers()), breaker: Some(breaker()), ..service("abcd") });
    let start = world.now;
    thread::scope(|scope| {
        for worker in 0..THREADS {
            let cluster = Arc::clone(&world.cluster);
            scope.spawn(move || {
                let (mut view, cursor) = (cluster.view(), Cell::new(worker));
                for request in 0..REQUESTS as u64 {
                    let now = start + seconds(request / 100);
                    cluster.renew(&mut view, now);
                    match view.choose(&Pick::new(&cursor), now) {
                        Ok(mut ticket) => ticket.head(if request % 1000 < 300 { ERROR } else { OK }, now),
                        Err(refusal) => assert!(!matches!(refusal, Refusal::AllTried)),
                    }
                }
            });
        }
        for _ in 0..500 {
            world.cluster.command("a:80", Command::Drain, start).expect("it exists");
            world.cluster.command("a:80", Command::Resume, start).expect("it exists");
        }
    });
    assert!(world.cluster.report(start).endpoints.iter().all(|endpoint| endpoint.in_flight == 0));
}
