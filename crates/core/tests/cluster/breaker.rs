use std::sync::Arc;

use tidegate_config::config::{BreakerScope, CircuitBreaker, Service, Trip};
use tidegate_core::balance::Pick;
use tidegate_core::cluster::{BreakerCommand, BreakerState, Command, Outcome, Reason, Refusal, State};

use crate::world::{ERROR, OK, World, breaker, millis, seconds, service};

fn world(endpoints: &str) -> World {
    World::new(Service { breaker: Some(breaker()), ..service(endpoints) })
}

fn per_service(endpoints: &str) -> World {
    let breaker = CircuitBreaker { per: BreakerScope::Service, ..breaker() };
    World::new(Service { breaker: Some(breaker), ..service(endpoints) })
}

#[test]
fn sixty_percent_of_at_least_three_open_it() {
    let mut world = world("ab");
    world.requests("a", ERROR, 2);
    assert_eq!(world.state("a"), State::Healthy);
    world.requests("a", OK, 2);
    world.request("a", ERROR);
    let report = world.report("a");
    assert_eq!((report.state, report.reason), (State::Open, Reason::FailureRatio));
    assert_eq!((report.breaker, report.until), (BreakerState::Open, Some(world.now + seconds(30))));
    assert_eq!(world.turns(5), "b5");
}

#[test]
fn failures_leave_the_window_with_time() {
    let mut world = world("a");
    world.requests("a", ERROR, 2);
    world.wait(seconds(60));
    world.requests("a", OK, 1);
    world.requests("a", ERROR, 1);
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn so_many_in_a_row_open_it_in_the_other_mode() {
    let rules = CircuitBreaker { trip: Trip::Consecutive(5), open: seconds(60), ..breaker() };
    let mut world = World::new(Service { breaker: Some(rules), ..service("a") });
    world.requests("a", ERROR, 4);
    world.request("a", OK);
    world.requests("a", ERROR, 4);
    assert_eq!(world.state("a"), State::Healthy);
    world.request("a", Outcome::Timeout);
    assert_eq!((world.state("a"), world.report("a").reason), (State::Open, Reason::ConsecutiveErrors));
}

#[test]
fn only_the_configured_failures_count() {
    let mut rules = breaker();
    rules.failures.connect = false;
    let mut world = World::new(Service { breaker: Some(rules), ..service("a") });
    world.requests("a", Outcome::Connect, 10);
    world.requests("a", Outcome::Status(404), 10);
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn while_it_is_open_the_refusal_says_for_how_long() {
    let mut world = world("a");
    world.requests("a", ERROR, 3);
    world.wait(seconds(10));
    assert_eq!(world.try_choose(&[]).expect_err("it is open"), Refusal::Open { retry_after: seconds(20) });
}

#[test]
fn half_open_lets_three_through_and_all_must_succeed() {
    let mut world = world("a");
    world.requests("a", ERROR, 3);
    world.wait(seconds(30));
    assert_eq!((world.state("a"), world.report("a").reason), (State::HalfOpen, Reason::Trials));
    let mut trials: Vec<_> = (0..3).map(|_| world.choose()).collect();
    assert_eq!(world.try_choose(&[]).expect_err("no fourth"), Refusal::Open { retry_after: seconds(1) });
    trials[0].head(OK, world.now);
    trials[1].head(OK, world.now);
    assert_eq!(world.state("a"), State::HalfOpen);
    assert!(world.try_choose(&[]).is_err(), "a trial that succeeded is not repeated");
    trials[2].head(OK, world.now);
    assert_eq!(world.state("a"), State::Healthy);
    world.requests("a", ERROR, 2);
    assert_eq!(world.state("a"), State::Healthy, "it starts from nothing");
}

#[test]
fn one_failed_trial_opens_it_again() {
    let mut world = world("a");
    world.requests("a", ERROR, 3);
    world.wait(seconds(30));
    world.request("a", OK);
    world.request("a", ERROR);
    let report = world.report("a");
    assert_eq!((report.state, report.reason, report.breaker_opened), (State::Open, Reason::TrialFailed, 2));
    assert_eq!(report.until, Some(world.now + seconds(30)));
}

#[test]
fn a_cancelled_trial_gives_its_permit_back() {
    let mut world = world("a");
    world.requests("a", ERROR, 3);
    world.wait(seconds(30));
    let trials: Vec<_> = (0..3).map(|_| world.choose()).collect();
    drop(trials);
    world.requests("a", OK, 3);
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn a_trial_whose_body_breaks_has_failed() {
    let mut world = world("a");
    world.requests("a", ERROR, 3);
    world.wait(seconds(30));
    let mut trial = world.choose();
    trial.head(OK, world.now);
    trial.broken(world.now);
    assert_eq!(world.state("a"), State::Open);
}

#[test]
fn late_results_of_an_older_generation_count_for_nothing() {
    let mut world = world("a");
    let mut late: Vec<_> = (0..9).map(|_| world.choose()).collect();
    world.requests("a", ERROR, 3);
    world.wait(seconds(30));
    for ticket in late.drain(..3) {
        drop(ticket);
    }
    let trials: Vec<_> = (0..9).map_while(|_| world.try_choose(&[]).ok()).collect();
    assert_eq!(trials.len(), 3, "they give no permits back");
    drop(trials);
    late[0].head(ERROR, world.now);
    late[1].head(OK, world.now);
    assert_eq!(world.state("a"), State::HalfOpen);
    world.requests("a", OK, 3);
    for ticket in &mut late[2..] {
        ticket.head(ERROR, world.now);
    }
    world.request("a", ERROR);
    assert_eq!(world.state("a"), State::Healthy, "one failure is all that is known");
}

#[test]
fn trials_do_not_wait_for_the_strategy() {
    let mut world = world("abc");
    world.requests("b", ERROR, 3);
    world.wait(seconds(30));
    assert_eq!(world.turns(3), "b3");
    assert_eq!(world.state("b"), State::Healthy);
}

#[test]
fn a_stale_view_does_not_lead_to_an_open_endpoint() {
    let mut world = world("ab");
    let stale = world.view();
    world.requests("a", ERROR, 3);
    for _ in 0..4 {
        let pick = Pick::new(&world.cursor);
        assert_eq!(stale.choose(&pick, world.now).expect("the other takes it").index, 1);
    }
}

#[test]
fn an_operator_may_open_and_close_it() {
    let mut world = world("a");
    let command = |world: &World, command| {
        world.cluster.command("a:80", Command::Breaker(command), world.now).expect("it exists");
    };
    command(&world, BreakerCommand::ForceOpen);
    world.wait(seconds(3600));
    assert_eq!((world.state("a"), world.report("a").reason), (State::Open, Reason::ForcedOpen));
    command(&world, BreakerCommand::Auto);
    assert_eq!(world.state("a"), State::HalfOpen);
    command(&world, BreakerCommand::ForceClosed);
    world.requests("a", ERROR, 20);
    assert_eq!(world.state("a"), State::Healthy);
    command(&world, BreakerCommand::Auto);
    world.request("a", ERROR);
    assert_eq!(world.state("a"), State::Open);
}

#[test]
fn what_was_forced_open_without_a_breaker_closes_by_itself() {
    let mut world = World::new(service("a"));
    let forced = Command::Breaker(BreakerCommand::ForceOpen);
    world.cluster.command("a:80", forced, world.now).expect("it exists");
    assert!(world.try_choose(&[]).is_err());
    world.cluster.command("a:80", Command::Breaker(BreakerCommand::Auto), world.now).expect("it exists");
    assert_eq!(world.turns(1), "a1");
}

#[test]
fn a_service_breaker_counts_all_endpoints_together() {
    let mut world = per_service("abc");
    for host in ["a", "b", "c"] {
        world.request(host, ERROR);
    }
    let report = world.cluster.report(world.now);
    assert_eq!((report.breaker, report.breaker_reason), (BreakerState::Open, Reason::FailureRatio));
    assert!(report.endpoints.iter().all(|endpoint| endpoint.state == State::Healthy));
    world.wait(seconds(12));
    assert_eq!(world.try_choose(&[]).expect_err("it is open"), Refusal::Open { retry_after: seconds(18) });
    world.wait(seconds(18));
    let trials: Vec<_> = (0..3).map(|_| world.choose()).collect();
    assert!(world.try_choose(&[]).is_err());
    drop(trials);
    assert_eq!(world.turns(5).len(), 8, "a1 b2 c2 in some order: it closed");
    assert_eq!(world.cluster.report(world.now).breaker, BreakerState::Closed);
}

#[test]
fn a_service_breaker_keeps_its_permits_when_no_endpoint_can_be_had() {
    let mut world = per_service("a");
    world.requests("a", ERROR, 3);
    world.wait(seconds(30));
    for _ in 0..9 {
        assert_eq!(world.try_choose(&[0]).expect_err("it is excluded"), Refusal::AllTried);
    }
    assert_eq!(world.turns(3), "a3");
}

#[test]
fn an_operator_may_open_a_whole_service() {
    let mut world = World::new(service("ab"));
    world.cluster.breaker(BreakerCommand::ForceOpen, world.now);
    assert!(matches!(world.try_choose(&[]), Err(Refusal::Open { .. })));
    world.cluster.breaker(BreakerCommand::Auto, world.now);
    assert_eq!(world.turns(2), "a1 b1");
    let steps: Vec<_> =
        world.cluster.events().into_iter().map(|event| (event.endpoint, event.from, event.to)).collect();
    assert_eq!(steps, [(None, State::Healthy, State::Open), (None, State::Open, State::Healthy)]);
}

#[test]
fn a_reload_without_a_breaker_closes_what_it_opened() {
    let mut world = world("a");
    world.requests("a", ERROR, 3);
    world.wait(millis(1));
    world.cluster.configure(Arc::new(service("a")), None, world.now);
    assert_eq!(world.turns(1), "a1");
}
