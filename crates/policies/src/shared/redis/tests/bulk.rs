use e2e::redis::Redis;
use proptest::prelude::*;

use super::super::counts::Counts;
use super::*;

async fn report(store: &RedisStore, world: &Thread) {
    store.ledger.as_ref().unwrap().report(world, store).await;
}

#[test]
fn the_overshoot_is_as_documented_and_happens_once() {
    let redis = Redis::run();
    run(async {
        let (one, other) = (counting_here(&redis.url()), counting_here(&redis.url()));
        let (here, there) = (Thread::new(), Thread::new());
        // The rate is next to nothing, so what counts is the burst: (2 - 1) * 100 too much.
        assert_eq!(passed(&one, &here, &a_day(100), 150).await, 100);
        assert_eq!(passed(&other, &there, &a_day(100), 150).await, 100);
        report(&one, &here).await;
        report(&other, &there).await;
        report(&one, &here).await;
        for _ in 0..10 {
            assert_eq!(passed(&one, &here, &a_day(100), 10).await, 0);
            assert_eq!(passed(&other, &there, &a_day(100), 10).await, 0);
            report(&one, &here).await;
            report(&other, &there).await;
        }
        let kept = redis.cli(&["GET", "tidegate:key"]);
        assert!(kept.starts_with("17279"), "200 of 86,400,000,000 parts are missing: {kept}");
    });
}

#[test]
fn what_others_admitted_is_known_after_the_next_report() {
    let redis = Redis::run();
    run(async {
        let (one, other) = (counting_here(&redis.url()), counting_here(&redis.url()));
        let (here, there) = (Thread::new(), Thread::new());
        let mut all = 0;
        for _ in 0..100 {
            all += passed(&one, &here, &a_day(100), 3).await;
            report(&one, &here).await;
            all += passed(&other, &there, &a_day(100), 3).await;
            report(&other, &there).await;
        }
        assert!((100..=103).contains(&all), "at most what came between two reports: {all}");
    });
}

#[test]
fn the_job_reports_every_hundred_milliseconds() {
    let redis = Redis::run();
    run(async {
        let (store, world) = (counting_here(&redis.url()), Thread::new());
        let job = (Arc::clone(&store), Rc::clone(&world));
        beside(async move { job.0.run(&*job.1).await });
        for round in 1..4 {
            assert_eq!(passed(&store, &world, &a_day(100), 10).await, 10);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(store.tally().round_trips().0, round - 1, "no request waits for the server");
            world.advance(SYNC);
            until("the report", || store.tally().round_trips().0 == round).await;
        }
        assert_eq!(said(&store, &world, &a_day(100)).await, "pass, 69 left");
    });
}

#[test]
fn while_reports_fail_there_are_no_decisions_and_nothing_is_forgotten() {
    let mut redis = Redis::run();
    run(async {
        let (store, world) = (counting_here(&redis.url()), Thread::new());
        redis.kill();
        assert_eq!(passed(&store, &world, &a_day(100), 30).await, 30, "nobody knows yet");
        report(&store, &world).await;
        assert_eq!(said(&store, &world, &a_day(100)).await, "unreachable");
        redis.start();
        for _ in 0..100 {
            world.advance(SYNC);
            report(&store, &world).await;
            // Time enough to connect.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(said(&store, &world, &a_day(100)).await, "pass, 69 left");
        let other = exact(&redis.url());
        assert_eq!(said(&other, &world, &a_day(100)).await, "pass, 69 left", "30 were told after all");
    });
}

#[test]
fn a_foreign_value_is_counted_here_alone() {
    let redis = Redis::run();
    redis.cli(&["RPUSH", "tidegate:key", "x"]);
    run(async {
        let (store, world) = (counting_here(&redis.url()), Thread::new());
        assert_eq!(passed(&store, &world, &a_day(100), 30).await, 30);
        report(&store, &world).await;
        assert_eq!(passed(&store, &world, &a_day(100), 100).await, 70);
        assert!(store.decide(&*world, b"another", &a_day(100), 1).await.unwrap().allowed);
    });
}

#[test]
fn about_keys_that_there_is_no_room_for_the_server_decides() {
    let redis = Redis::run();
    run(async {
        let settings = settings(&redis.url(), Mode::Async { sync: SYNC, max_keys: 64 });
        let (store, world) = (Arc::new(RedisStore::new(settings)), Thread::new());
        for number in 0..500 {
            let key = number.to_string();
            assert!(store.decide(&*world, key.as_bytes(), &a_day(1), 1).await.unwrap().allowed);
            assert!(!store.decide(&*world, key.as_bytes(), &a_day(1), 1).await.unwrap().allowed);
        }
        let asked = store.tally().round_trips().0;
        assert!(asked >= 2 * (500 - 64), "{asked}");
        // Buckets that are full again make room.
        report(&store, &world).await;
        world.advance(Duration::from_hours(48));
        assert!(store.decide(&*world, b"new", &a_day(1), 1).await.unwrap().allowed);
        assert_eq!(store.tally().round_trips().0, asked + 1, "the report, and nothing else");
    });
}

#[test]
fn logs_are_always_asked_for() {
    let redis = Redis::run();
    run(async {
        let (one, other) = (counting_here(&redis.url()), counting_here(&redis.url()));
        let limit = limit(Algorithm::SlidingLog, 10, 3600);
        let world = Thread::new();
        assert_eq!(passed(&one, &world, &limit, 7).await + passed(&other, &world, &limit, 7).await, 10);
    });
}

/// One gateway of the model: what it believes, and what it has not told since when.
#[derive(Default, Clone, Copy)]
struct Gateway {
    view: Counts,
    pending: u64,
    since: u64,
}

proptest! {
    /// The arithmetic is the real one; the server is its counts, and time is a number. `late` is the time between an
    /// admission and its report.
    #[test]
    fn any_number_of_gateways_admits_no_more_than_the_documented_overshoot(
        gateways in 1_usize..5,
        burst in 1_u64..20,
        amount in 1_u64..50,
        late in 1_u64..400_000,
        steps in prop::collection::vec((0_usize..5, 0_u64..200_000, 1_usize..25, any::<bool>()), 1..400),
    ) {
        let meter = Meter::of(&limit(Algorithm::TokenBucket { burst }, amount, 1));
        let mut all = vec![Gateway::default(); gateways];
        let (mut server, mut now, mut admitted) = (Counts::default(), 0, Vec::new());
        for (which, pause, requests, is_reported) in steps {
            now += pause;
            for (number, gateway) in all.iter_mut().enumerate() {
                let is_due = gateway.pending > 0 && gateway.since + late <= now;
                if is_due || (is_reported && number == which) {
                    meter.roll(&mut server, now.min(gateway.since + late));
                    meter.add(&mut server, gateway.pending);
                    *gateway = Gateway { view: server, ..Gateway::default() };
                }
            }
            let gateway = &mut all[which % gateways];
            meter.roll(&mut gateway.view, now);
            for _ in 0..requests {
                if meter.wait(&gateway.view, 1) == Some(0) {
                    meter.add(&mut gateway.view, 1);
                    gateway.since = if gateway.pending == 0 { now } else { gateway.since };
                    gateway.pending += 1;
                    admitted.push(now);
                }
            }
        }
        let (all, rate) = (gateways as u128, u128::from(amount));
        let extra = all * (u128::from(burst) * 1_000_000 + 2 * rate * u128::from(late));
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let count = (last - first + 1) as u128 * 1_000_000;
                prop_assert!(count <= extra + rate * u128::from(to - from), "{count} from {from} to {to}");
            }
        }
    }
}
