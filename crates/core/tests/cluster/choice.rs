use tidegate_config::config::{Endpoint, OutlierDetection, Service};
use tidegate_core::cluster::{BreakerCommand, Command, Refusal, State};

use crate::world::{ERROR, World, breaker, endpoint, health, millis, outliers, seconds, service};

fn placed(host: &str, priority: u32, zone: &str) -> Endpoint {
    Endpoint { priority, zone: Some(zone.into()), ..endpoint(host) }
}

fn down(world: &mut World, host: &str) {
    for _ in 0..3 {
        world.probe(host, false);
    }
}

fn up(world: &mut World, host: &str) {
    for _ in 0..2 {
        world.probe(host, true);
    }
}

#[test]
fn what_was_tried_is_passed_over_and_then_nothing_is_left() {
    let mut world = World::new(service("abc"));
    assert_eq!(world.try_choose(&[0, 2]).expect("one is left").index, 1);
    assert_eq!(world.try_choose(&[0, 1, 2]).expect_err("none is left"), Refusal::AllTried);
}

#[test]
fn a_service_without_endpoints_refuses() {
    let mut world = World::new(service(""));
    assert_eq!(world.try_choose(&[]).expect_err("there is none"), Refusal::NoEndpoint { retry_after: None });
}

#[test]
fn the_first_tier_with_an_endpoint_in_service_takes_it_all() {
    let endpoints = vec![placed("a", 5, "x"), placed("b", 0, "x"), placed("c", 0, "x"), placed("d", 9, "x")];
    let mut world = World::new(Service { endpoints, health: Some(health()), ..service("") });
    assert_eq!(world.turns(4), "b2 c2");
    down(&mut world, "b");
    assert_eq!(world.turns(4), "c4");
    assert_eq!(world.try_choose(&[2]).expect("the next tier").index, 0, "a tier that was tried is passed over");
    down(&mut world, "c");
    assert_eq!(world.turns(4), "a4");
    up(&mut world, "b");
    assert_eq!(world.turns(4), "b4");
}

#[test]
fn the_own_zone_goes_first_while_half_of_it_is_in_service() {
    let endpoints = vec![placed("a", 0, "x"), placed("b", 0, "x"), placed("c", 0, "y"), placed("d", 0, "y")];
    let config = Service { endpoints, health: Some(health()), ..service("") };
    let mut world = World::in_zone(config, Some("x"));
    assert_eq!(world.turns(4), "a2 b2");
    assert!(world.try_choose(&[0, 1]).expect("the other zone").index >= 2);
    down(&mut world, "a");
    assert_eq!(world.turns(4), "b4");
    down(&mut world, "b");
    assert_eq!(world.turns(4), "c2 d2");
}

#[test]
fn less_than_half_of_a_zone_shares_with_the_others() {
    let endpoints = vec![placed("a", 0, "x"), placed("b", 0, "x"), placed("c", 0, "x"), placed("d", 0, "y")];
    let config = Service { endpoints, health: Some(health()), ..service("") };
    let mut world = World::in_zone(config, Some("x"));
    down(&mut world, "a");
    down(&mut world, "b");
    assert_eq!(world.turns(4), "c2 d2");
}

#[test]
fn a_zone_of_nobody_changes_nothing() {
    let mut world = World::in_zone(service("ab"), Some("x"));
    assert_eq!(world.turns(4), "a2 b2");
}

#[test]
fn weights_are_shares_and_an_operator_may_change_them() {
    let mut world = World::new(service("ab"));
    world.cluster.command("a:80", Command::Weight(3), world.now).expect("it exists");
    assert_eq!(world.turns(8), "a6 b2");
    world.cluster.command("a:80", Command::Weight(0), world.now).expect("it exists");
    assert_eq!(world.turns(2), "b2");
    assert_eq!(world.state("a"), State::Draining);
}

#[test]
fn a_draining_endpoint_finishes_what_it_has_and_gets_nothing_new() {
    let mut world = World::new(service("ab"));
    let ticket = world.ticket("a").expect("it takes requests");
    world.cluster.command("a:80", Command::Drain, world.now).expect("it exists");
    assert_eq!((world.state("a"), world.report("a").in_flight), (State::Draining, 1));
    assert_eq!(world.turns(3), "b3");
    drop(ticket);
    world.cluster.command("a:80", Command::Resume, world.now).expect("it exists");
    assert_eq!(world.turns(2), "a1 b1");
    assert!(world.cluster.command("z:80", Command::Drain, world.now).is_err());
}

#[test]
fn checks_take_out_after_three_failures_and_bring_back_after_the_rise() {
    let mut world = World::new(Service { health: Some(health()), ..service("ab") });
    world.probe("a", false);
    world.probe("a", false);
    world.probe("a", true);
    world.probe("a", false);
    world.probe("a", false);
    assert_eq!(world.state("a"), State::Healthy);
    world.probe("a", false);
    let report = world.report("a");
    assert_eq!((report.state, report.failed_checks), (State::Unhealthy, 3));
    assert_eq!(report.detail.as_deref(), Some("no answer"));
    assert_eq!(world.turns(2), "b2");
    world.probe("a", true);
    assert_eq!(world.state("a"), State::Unhealthy);
    world.probe("a", true);
    assert_eq!(world.turns(2), "a1 b1");
}

#[test]
fn when_all_are_unhealthy_the_next_check_may_change_that() {
    let mut world = World::new(Service { health: Some(health()), ..service("a") });
    down(&mut world, "a");
    let refusal = world.try_choose(&[]).expect_err("none is healthy");
    assert_eq!(refusal, Refusal::NoEndpoint { retry_after: Some(seconds(30)) });
}

#[test]
fn a_slow_start_has_ten_steps() {
    let config = Service { health: Some(health()), slow_start: seconds(100), ..service("ab") };
    let mut world = World::new(config);
    down(&mut world, "a");
    up(&mut world, "a");
    assert_eq!(world.state("a"), State::Warming);
    assert_eq!(world.turns(22), "a2 b20");
    world.wait(seconds(40));
    assert_eq!(world.turns(30), "a10 b20");
    assert!((world.report("a").effective_weight - 0.5).abs() < 1e-9);
    world.wait(seconds(60));
    assert_eq!((world.state("a"), world.turns(4)), (State::Healthy, "a2 b2".into()));
}

#[test]
fn workers_see_each_step_without_a_tick() {
    let config = Service { health: Some(health()), slow_start: seconds(100), ..service("ab") };
    let mut world = World::new(config);
    down(&mut world, "a");
    up(&mut world, "a");
    for step in 1..=9 {
        world.now += seconds(10);
        let revision = world.cluster.revision();
        world.view();
        assert_eq!(world.cluster.revision(), revision + 1, "step {step}");
    }
}

#[test]
fn below_the_panic_threshold_the_unhealthy_and_ejected_help() {
    let rules = OutlierDetection { max_ejected: 0.3, ..outliers() };
    let config = Service {
        health: Some(health()),
        outliers: Some(rules),
        panic_threshold: Some(0.5),
        breaker: Some(breaker()),
        ..service("abcdef")
    };
    let mut world = World::new(config);
    world.cluster.command("f:80", Command::Drain, world.now).expect("it exists");
    let open = Command::Breaker(BreakerCommand::ForceOpen);
    world.cluster.command("e:80", open, world.now).expect("it exists");
    down(&mut world, "d");
    assert_eq!(world.turns(6), "a2 b2 c2");
    down(&mut world, "c");
    assert_eq!(world.turns(8), "a2 b2 c2 d2", "two of five are less than half; open and draining ones never help");
    up(&mut world, "c");
    assert_eq!(world.turns(6), "a2 b2 c2");
}

#[test]
fn in_panic_ejected_ones_are_used_without_leaving_their_state() {
    let config = Service { outliers: Some(outliers()), panic_threshold: Some(0.6), ..service("ab") };
    let mut world = World::new(config);
    world.requests("a", ERROR, 5);
    assert_eq!((world.state("a"), world.turns(4)), (State::Ejected, "a2 b2".into()));
}

#[test]
fn a_tier_in_panic_does_not_go_before_one_in_service() {
    let endpoints = vec![placed("a", 0, "x"), placed("b", 1, "x")];
    let config = Service { endpoints, health: Some(health()), panic_threshold: Some(0.9), ..service("") };
    let mut world = World::new(config);
    down(&mut world, "a");
    assert_eq!(world.turns(2), "b2");
    down(&mut world, "b");
    assert_eq!(world.turns(2), "a2");
}

#[test]
fn a_dropped_ticket_says_nothing_about_the_endpoint() {
    let mut world = World::new(Service { outliers: Some(outliers()), breaker: Some(breaker()), ..service("a") });
    for _ in 0..50 {
        drop(world.choose());
        world.wait(millis(200));
    }
    let report = world.report("a");
    assert_eq!((report.state, report.requests, report.in_flight), (State::Healthy, 0, 0));
}
