use std::time::Duration;

use tidegate_config::config::{OutlierDetection, Service};
use tidegate_core::balance::Pick;
use tidegate_core::cluster::{Command, Outcome, Reason, State};

use crate::world::{ERROR, OK, World, millis, outliers, seconds, service};

fn world(endpoints: &str) -> World {
    World::new(Service { outliers: Some(outliers()), ..service(endpoints) })
}

/// Ends an ejection and passes probation.
fn recover(world: &mut World, host: &str) {
    world.requests(host, OK, 3);
}

#[test]
fn failures_in_a_row_eject_and_one_success_breaks_the_row() {
    let mut world = world("ab");
    world.requests("a", OK, 20);
    world.requests("a", ERROR, 4);
    world.request("a", OK);
    world.requests("a", Outcome::Connect, 4);
    assert_eq!(world.state("a"), State::Healthy);
    world.request("a", Outcome::Timeout);
    let report = world.report("a");
    assert_eq!((report.state, report.reason), (State::Ejected, Reason::ConsecutiveErrors));
    assert_eq!(report.until, Some(world.now + seconds(30)));
    assert_eq!(world.turns(4), "b4");
}

#[test]
fn half_of_the_latest_requests_failing_is_too_many() {
    let mut world = world("ab");
    for _ in 0..4 {
        world.request("a", ERROR);
        world.request("a", OK);
    }
    assert_eq!(world.state("a"), State::Healthy, "eight requests are not enough to judge");
    world.request("a", OK);
    world.request("a", ERROR);
    assert_eq!(world.report("a").reason, Reason::FailureRatio);
}

#[test]
fn failures_of_more_than_ten_seconds_ago_do_not_count_for_the_ratio() {
    let mut world = world("ab");
    for _ in 0..4 {
        world.request("a", ERROR);
        world.request("a", OK);
    }
    world.wait(seconds(11));
    world.requests("a", OK, 9);
    world.request("a", ERROR);
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn client_errors_are_not_the_endpoints_fault() {
    let mut world = world("ab");
    world.requests("a", Outcome::Status(404), 50);
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn bodies_that_break_are_failures_in_a_row_too() {
    let mut world = world("ab");
    for _ in 0..5 {
        let mut ticket = world.ticket("a").expect("it takes requests");
        ticket.head(OK, world.now);
        ticket.broken(world.now);
    }
    assert_eq!(world.state("a"), State::Ejected);
}

#[test]
fn a_body_that_breaks_after_an_error_counts_once() {
    let mut world = world("ab");
    for _ in 0..4 {
        let mut ticket = world.ticket("a").expect("it takes requests");
        ticket.head(ERROR, world.now);
        ticket.broken(world.now);
    }
    assert_eq!(world.report("a").failures, 4);
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn each_ejection_in_a_row_is_longer_up_to_a_limit() {
    let rules = OutlierDetection { max_eject: seconds(70), ..outliers() };
    let mut world = World::new(Service { outliers: Some(rules), ..service("ab") });
    for expected in [30, 60, 70] {
        world.requests("a", ERROR, 5);
        assert_eq!(world.report("a").until, Some(world.now + seconds(expected)));
        world.wait(seconds(expected));
        recover(&mut world, "a");
    }
    assert_eq!(world.report("a").ejections, 3);
}

#[test]
fn good_standing_is_forgiveness() {
    let mut world = world("ab");
    for length in [30, 60] {
        world.requests("a", ERROR, 5);
        world.wait(seconds(length));
        recover(&mut world, "a");
    }
    world.wait(seconds(30));
    assert_eq!(world.report("a").strikes, 1);
    world.requests("a", ERROR, 5);
    assert_eq!(world.report("a").until, Some(world.now + seconds(60)));
}

#[test]
fn after_an_ejection_three_requests_decide() {
    let mut world = world("ab");
    world.requests("a", ERROR, 5);
    world.wait(seconds(30));
    assert_eq!((world.state("a"), world.report("a").reason), (State::Warming, Reason::Probation));
    let mut trials: Vec<_> = (0..3).map(|_| world.choose()).collect();
    assert!(trials.iter().all(|ticket| ticket.index == 0), "trials go first");
    assert!(world.ticket("a").is_none());
    assert_eq!(world.turns(3), "b3");
    for trial in &mut trials {
        trial.head(OK, world.now);
    }
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn a_stale_view_does_not_lead_to_an_ejected_endpoint() {
    let mut world = world("ab");
    let stale = world.view();
    world.requests("a", ERROR, 5);
    for _ in 0..4 {
        let pick = Pick::new(&world.cursor);
        assert_eq!(stale.choose(&pick, world.now).expect("the other takes it").index, 1);
    }
}

#[test]
fn a_failure_on_probation_sends_it_back_for_longer() {
    let mut world = world("ab");
    world.requests("a", ERROR, 5);
    world.wait(seconds(30));
    world.requests("a", OK, 2);
    world.request("a", ERROR);
    let report = world.report("a");
    assert_eq!((report.state, report.reason), (State::Ejected, Reason::Probation));
    assert_eq!(report.until, Some(world.now + seconds(60)));
}

#[test]
fn a_trial_that_is_called_off_may_be_repeated() {
    let mut world = world("ab");
    world.requests("a", ERROR, 5);
    world.wait(seconds(30));
    for _ in 0..10 {
        drop(world.ticket("a").expect("the permit came back"));
    }
    recover(&mut world, "a");
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn never_more_than_their_share_is_ejected() {
    let mut world = world("abcde");
    for host in ["a", "b", "c"] {
        world.requests(host, ERROR, 5);
    }
    let states = ["a", "b", "c"].map(|host| world.state(host));
    assert_eq!(states, [State::Ejected, State::Ejected, State::Healthy]);
}

#[test]
fn one_of_two_may_go_and_never_the_only_one() {
    let rules = OutlierDetection { max_ejected: 0.1, ..outliers() };
    let mut two = World::new(Service { outliers: Some(rules.clone()), ..service("ab") });
    two.requests("a", ERROR, 5);
    two.requests("b", ERROR, 5);
    assert_eq!([two.state("a"), two.state("b")], [State::Ejected, State::Healthy]);
    let mut one = World::new(Service { outliers: Some(rules), ..service("a") });
    one.requests("a", ERROR, 50);
    assert_eq!(one.state("a"), State::Healthy);
}

#[test]
fn worse_offenders_take_the_place_of_milder_ones() {
    let mut world = world("abc");
    world.requests("a", Outcome::Connect, 5);
    world.requests("b", ERROR, 5);
    assert_eq!([world.state("a"), world.state("b")], [State::Healthy, State::Ejected]);
    world.requests("a", Outcome::Connect, 5);
    assert_eq!([world.state("a"), world.state("b")], [State::Healthy, State::Ejected], "a milder one takes no place");
}

#[test]
fn who_was_spared_goes_once_there_is_room() {
    let mut world = world("ab");
    world.requests("a", ERROR, 5);
    world.requests("b", ERROR, 5);
    world.wait(seconds(30));
    recover(&mut world, "a");
    world.request("b", ERROR);
    assert_eq!([world.state("a"), world.state("b")], [State::Healthy, State::Ejected]);
}

#[test]
fn where_endpoints_leave_the_mildest_comes_back() {
    let mut world = world("abcd");
    world.requests("a", ERROR, 5);
    world.requests("b", Outcome::Connect, 5);
    world.cluster.command("d:80", Command::Drain, world.now).expect("it exists");
    assert_eq!([world.state("a"), world.state("b")], [State::Ejected, State::Healthy]);
}

#[test]
fn one_much_slower_than_the_others_goes() {
    let mut world = world("abcd");
    for host in ["a", "b", "c"] {
        world.answers(host, millis(10), 10);
    }
    world.answers("d", millis(100), 9);
    world.wait(millis(900));
    assert_eq!(world.state("d"), State::Healthy, "nine answers are not enough to judge");
    world.answers("d", millis(100), 1);
    world.wait(millis(200));
    assert_eq!((world.state("d"), world.report("d").reason), (State::Ejected, Reason::Slow));
}

#[test]
fn small_differences_and_short_pauses_are_no_slowness() {
    let mut world = world("abcd");
    for host in ["a", "b", "c", "d"] {
        world.answers(host, millis(1), 200);
    }
    world.answers("c", millis(19), 200);
    world.answers("d", millis(400), 5);
    world.wait(millis(500));
    assert_eq!([world.state("c"), world.state("d")], [State::Healthy; 2]);
}

#[test]
fn with_fewer_than_three_nobody_is_slow() {
    let mut world = world("ab");
    world.answers("a", millis(1), 20);
    world.answers("b", millis(900), 20);
    world.wait(seconds(1));
    assert_eq!(world.state("b"), State::Healthy);
}

fn silent(world: &mut World, time: Duration) {
    for _ in 0..time.as_millis() / 100 {
        world.wait(millis(100));
        world.answers("b", millis(1), 2);
    }
}

#[test]
fn a_few_quick_answers_elsewhere_do_not_make_long_polls_an_offence() {
    let mut world = world("ab");
    let _polls: Vec<_> = (0..10).map(|_| world.ticket("a").expect("it takes requests")).collect();
    for _ in 0..20 {
        world.wait(seconds(2));
        world.answers("b", millis(1), 1);
    }
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn silence_while_another_answers_is_an_offence() {
    let mut world = world("ab");
    let tickets: Vec<_> = (0..10).map(|_| world.ticket("a").expect("it takes requests")).collect();
    silent(&mut world, millis(500));
    assert_eq!(world.state("a"), State::Healthy);
    silent(&mut world, millis(200));
    assert_eq!((world.state("a"), world.report("a").reason), (State::Ejected, Reason::Silent));
    assert_eq!(world.report("a").in_flight, 10, "what is under way may still end");
    drop(tickets);
    assert_eq!(world.report("a").in_flight, 0);
}

#[test]
fn silence_of_all_is_nobodys_offence() {
    let mut world = world("ab");
    let _tickets: Vec<_> = ["a", "b"].repeat(10).into_iter().map(|host| world.ticket(host)).collect();
    for _ in 0..50 {
        world.wait(millis(100));
    }
    assert_eq!([world.state("a"), world.state("b")], [State::Healthy; 2]);
}

#[test]
fn few_that_wait_are_no_silence() {
    let mut world = world("ab");
    let _tickets: Vec<_> = (0..9).map(|_| world.ticket("a")).collect();
    silent(&mut world, seconds(3));
    assert_eq!(world.state("a"), State::Healthy);
}

#[test]
fn an_operator_may_forgive() {
    let mut world = world("ab");
    world.requests("a", ERROR, 5);
    world.cluster.command("a:80", Command::Forgive, world.now).expect("it exists");
    assert_eq!((world.state("a"), world.report("a").strikes), (State::Healthy, 0));
    world.requests("a", ERROR, 5);
    assert_eq!(world.report("a").until, Some(world.now + seconds(30)));
}
