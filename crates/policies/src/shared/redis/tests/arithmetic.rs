//! The scripts in a real Redis, the limiter, and what is counted here between two reports: all three say the same.

use e2e::redis::Redis;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidegate_core::balance::Nanos;
use tidegate_core::limiter::{Now, Span, Store};

use super::super::counts::Counts;
use super::super::script::Script;
use super::*;

/// The time is an argument too.
const TOLD: &str = "\
local now = tonumber(ARGV[6])
local must = ARGV[1] == '1'
local longest = 3155760000000
";

struct Three {
    redis: Redis,
    scripts: [Script; 3],
}

impl Three {
    fn new() -> Self {
        let texts = [include_str!("../bucket.lua"), include_str!("../windows.lua"), include_str!("../log.lua")];
        // The server's own clock must not end a key that is still needed by the time that the script is told.
        let lasting = |text: &str| text.replace("'PX'", "'EX'").replace("PEXPIRE", "EXPIRE");
        Self { redis: Redis::run(), scripts: texts.map(|text| Script::new(TOLD, &lasting(text))) }
    }

    /// Each step is a pause in microseconds and a weight.
    async fn agree(&self, limit: Limit, start: u64, steps: &[(u64, u64)]) -> Result<(), TestCaseError> {
        let target = Target::of(&self.redis.url(), || unreachable!("no TLS here")).unwrap();
        let (mut connection, driver) = target.open().await.unwrap();
        beside(driver);
        let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
        let limiter = Arc::new(Store::new(1000, &std::hash::RandomState::new())).keyed(limit);
        let (meter, mut here) = (Meter::of(&limit), Counts::default());
        let script = match limit.algorithm() {
            Algorithm::TokenBucket { .. } => &self.scripts[0],
            Algorithm::SlidingWindow | Algorithm::FixedWindow => &self.scripts[1],
            Algorithm::SlidingLog => &self.scripts[2],
        };
        let mut now = start;
        for (pause, weight) in steps {
            now += pause;
            let mut arguments = meter.arguments(*weight, false).to_vec();
            arguments.push(now);
            let reply = script.call(&mut connection, b"key", &arguments).await.unwrap();
            let (allowed, there) = meter.answer(&reply).unwrap();
            let outcome = meter.outcome(allowed, &there, *weight);
            let time = Now { mono: Nanos(now * 1000), wall: Duration::from_micros(now) };
            let local = limiter.decide("key", *weight, time);
            prop_assert_eq!(outcome, in_micros(local), "weight {} at {}: {:?}", weight, now - start, there);
            if meter.can_be_counted_here() {
                meter.roll(&mut here, now);
                prop_assert_eq!(meter.wait(&here, *weight) == Some(0), allowed);
                meter.add(&mut here, weight * u64::from(allowed));
                prop_assert_eq!(here, there);
            }
        }
        Ok(())
    }
}

/// The server's clock has microseconds: what happens within one is told for its end.
fn in_micros(outcome: Outcome) -> Outcome {
    let up = |time: Duration| Duration::from_micros(u64::try_from(time.as_nanos().div_ceil(1000)).unwrap());
    let reset_after = Span::nanos(u64::try_from(up(outcome.reset_after.duration()).as_nanos()).unwrap());
    Outcome { reset_after, retry_after: outcome.retry_after.map(up), ..outcome }
}

fn limits() -> impl Strategy<Value = Limit> {
    let period = prop_oneof![Just(1_u64), Just(1000), Just(60_000), Just(86_400_000), 1_u64..5000];
    let algorithm = prop_oneof![
        (1_u64..20).prop_map(|burst| Algorithm::TokenBucket { burst }),
        Just(Algorithm::SlidingWindow),
        Just(Algorithm::SlidingLog),
        Just(Algorithm::FixedWindow),
    ];
    (algorithm, 1_u64..20, period).prop_map(|(algorithm, amount, period)| {
        Limit::new(algorithm, Rate::new(amount, Duration::from_millis(period)).unwrap()).unwrap()
    })
}

#[test]
fn the_scripts_count_as_the_limiter_does() {
    let three = Three::new();
    let pause = prop_oneof![Just(0_u64), 0_u64..1000, 0_u64..100_000, 0_u64..10_000_000];
    let steps = prop::collection::vec((pause, 1_u64..5), 1..40);
    let start = 1_795_219_200_000_000_u64..1_795_305_600_000_000;
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    runner
        .run(&(limits(), start, steps), |(limit, start, steps)| {
            let mut agreed = Ok(());
            run(async { agreed = three.agree(limit, start, &steps).await });
            agreed
        })
        .unwrap();
}

#[test]
fn limits_beyond_all_measure_count_too() {
    let three = Three::new();
    let most = Duration::from_hours(10 * 365 * 24);
    for (algorithm, amount, period) in [
        (Algorithm::TokenBucket { burst: 7 }, 1, most),
        (Algorithm::TokenBucket { burst: 1_000_000 }, 1_000_000, Duration::from_hours(30 * 24)),
        (Algorithm::TokenBucket { burst: 100 }, 3_000_000_000, Duration::from_secs(1)),
        (Algorithm::SlidingWindow, 1_000_000, Duration::from_hours(1)),
        (Algorithm::FixedWindow, 1_000_000_000, most),
    ] {
        let limit = Limit::new(algorithm, Rate::new(amount, period).unwrap()).unwrap();
        let steps = [(0, 1), (0, 1), (1, 1), (1_000_000, 5), (3_600_000_000, 1), (0, 1), (86_400_000_000, 1)];
        run(async { three.agree(limit, 1_795_219_200_123_456, &steps).await.unwrap() });
    }
}

#[test]
fn a_clock_that_is_set_back_gives_nobody_more_and_locks_nobody_out() {
    let three = Three::new();
    run(async {
        let target = Target::of(&three.redis.url(), || unreachable!("no TLS here")).unwrap();
        let (mut connection, driver) = target.open().await.unwrap();
        beside(driver);
        let hour = 3_600_000_000;
        let start = 500_000 * hour;
        let mut ask = async |limit: &Limit, script: &Script, now: u64| {
            let meter = Meter::of(limit);
            let mut arguments = meter.arguments(1, false).to_vec();
            arguments.push(now);
            meter.answer(&script.call(&mut connection, b"key", &arguments).await.unwrap()).unwrap().0
        };
        for (algorithm, script) in [
            (Algorithm::TokenBucket { burst: 1 }, &three.scripts[0]),
            (Algorithm::SlidingWindow, &three.scripts[1]),
            (Algorithm::FixedWindow, &three.scripts[1]),
        ] {
            let limit = limit(algorithm, 1, 3600);
            assert!(ask(&limit, script, start).await);
            assert!(!ask(&limit, script, start - 100 * hour).await, "{algorithm:?}");
            assert!(!ask(&limit, script, start - 100 * hour + 1).await, "{algorithm:?}");
            assert!(ask(&limit, script, start - 98 * hour).await, "{algorithm:?}");
            three.redis.cli(&["FLUSHALL"]);
        }
    });
}
