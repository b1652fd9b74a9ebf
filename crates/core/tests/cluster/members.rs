use std::sync::Arc;

use tidegate_config::config::{Endpoint, Service};
use tidegate_core::cluster::{Command, State};

use crate::world::{ERROR, World, breaker, endpoint, seconds, service};

fn names(world: &mut World) -> String {
    world.view().members.iter().map(|member| &*member.endpoint.host).collect()
}

#[test]
fn a_reload_keeps_the_state_of_those_who_stay() {
    let config = Service { breaker: Some(breaker()), ..service("abc") };
    let mut world = World::new(config.clone());
    world.requests("b", ERROR, 3);
    world.cluster.command("a:80", Command::Drain, world.now).expect("it exists");
    let (id, ticket) = (world.id("b"), world.ticket("c").expect("it takes requests"));
    let mut endpoints = service("dbca").endpoints;
    endpoints[1].weight = 7;
    world.cluster.configure(Arc::new(Service { endpoints, ..config }), None, world.now);
    assert_eq!(names(&mut world), "dbca");
    assert_eq!((world.id("b"), world.report("b").weight), (id, 7));
    assert_eq!([world.state("a"), world.state("b"), world.state("d")], [State::Draining, State::Open, State::Healthy]);
    assert_eq!(world.report("c").in_flight, 1);
    drop(ticket);
    assert_eq!(world.report("c").in_flight, 0);
}

#[test]
fn another_scheme_is_another_endpoint() {
    let mut world = World::new(service("a"));
    let id = world.id("a");
    let endpoints = vec![Endpoint { tls: true, ..endpoint("a") }];
    world.cluster.configure(Arc::new(Service { endpoints, ..service("") }), None, world.now);
    assert_ne!(world.id("a"), id);
}

#[test]
fn discovered_endpoints_join_those_that_are_written_and_duplicates_do_not() {
    let mut world = World::new(service("a"));
    let doubled = Endpoint { weight: 5, ..endpoint("b") };
    world.cluster.discovered(vec![endpoint("c"), endpoint("b"), doubled, endpoint("a")], world.now);
    assert_eq!(names(&mut world), "abc");
    assert_eq!(world.report("b").weight, 1);
    world.cluster.discovered(vec![endpoint("c")], world.now);
    assert_eq!(names(&mut world), "ac");
}

#[test]
fn the_same_set_in_another_order_changes_nothing() {
    let world = World::new(service("a"));
    world.cluster.discovered(vec![endpoint("b"), endpoint("c")], world.now);
    let revision = world.cluster.revision();
    world.cluster.discovered(vec![endpoint("c"), endpoint("b")], world.now);
    assert_eq!(world.cluster.revision(), revision);
}

#[test]
fn who_is_discovered_keeps_its_state_over_discoveries_and_reloads() {
    let config = Service { breaker: Some(breaker()), ..service("a") };
    let mut world = World::new(config.clone());
    world.cluster.discovered(vec![endpoint("b"), endpoint("c")], world.now);
    world.requests("c", ERROR, 3);
    world.cluster.discovered(vec![endpoint("c"), endpoint("d")], world.now);
    world.cluster.configure(Arc::new(config), None, world.now);
    assert_eq!((names(&mut world).as_str(), world.state("c")), ("acd", State::Open));
}

#[test]
fn who_joins_a_running_service_starts_slowly() {
    let mut world = World::new(Service { slow_start: seconds(10), ..service("a") });
    world.cluster.discovered(vec![endpoint("b")], world.now);
    assert_eq!([world.state("a"), world.state("b")], [State::Healthy, State::Warming]);
    assert_eq!(world.turns(11), "a10 b1");
}

#[test]
fn results_of_those_who_left_are_nobodys() {
    let mut world = World::new(Service { breaker: Some(breaker()), ..service("ab") });
    let mut tickets: Vec<_> = (0..5).filter_map(|_| world.ticket("b")).collect();
    let id = world.id("b");
    let config = Service { breaker: Some(breaker()), ..service("a") };
    world.cluster.configure(Arc::new(config), None, world.now);
    for ticket in &mut tickets {
        ticket.head(ERROR, world.now);
    }
    world.cluster.probed(id, Err("gone".into()), world.now);
    assert_eq!(names(&mut world), "a");
    drop(tickets);
}

#[test]
fn ids_are_never_given_twice_and_keys_are_the_same_everywhere() {
    let mut one = World::new(service("ab"));
    let mut other = World::new(service("ab"));
    assert_ne!(one.id("a"), other.id("a"));
    let keys = |world: &mut World| world.view().members.iter().map(|member| member.key).collect::<Vec<_>>();
    assert_eq!(keys(&mut one), keys(&mut other));
    assert_ne!(keys(&mut one)[0], keys(&mut one)[1]);
}

#[test]
fn every_transition_is_told_once_and_the_oldest_are_dropped() {
    let world = World::new(service("a"));
    for _ in 0..600 {
        world.cluster.command("a:80", Command::Drain, world.now).expect("it exists");
        world.cluster.command("a:80", Command::Drain, world.now).expect("it exists");
        world.cluster.command("a:80", Command::Resume, world.now).expect("it exists");
    }
    assert_eq!(world.cluster.report(world.now).events_lost, 1200 - 1024);
    let events = world.cluster.events();
    assert_eq!((events.len(), events[0].from, events[0].to), (1024, State::Healthy, State::Draining));
    assert!(world.cluster.events().is_empty());
}

#[test]
fn a_tick_with_nothing_due_makes_no_new_view() {
    let mut world = World::new(Service { breaker: Some(breaker()), ..service("ab") });
    let revision = world.cluster.revision();
    for _ in 0..100 {
        world.wait(seconds(1));
    }
    assert_eq!(world.cluster.revision(), revision);
}
