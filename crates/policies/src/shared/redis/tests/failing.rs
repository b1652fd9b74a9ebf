use std::io::{Read, Write};

use e2e::redis::{Redis, Valve};

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

/// Decides while the server does not answer: the clock is moved to the end of the time there is, once it has been asked.
async fn out_of_time(store: &RedisStore, world: &Thread) -> String {
    let limit = a_day(1000);
    let mut decision = std::pin::pin!(said(store, world, &limit));
    for _ in 0..100 {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(decision.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "nobody answers");
        tokio::task::yield_now().await;
    }
    world.advance(TIMEOUT);
    decision.await
}

/// Asks until it works again, as requests do. The clock goes on by a millisecond for each.
async fn recovered(store: &RedisStore, world: &Thread) -> usize {
    for asked in 1..200_000 {
        if said(store, world, &a_day(1000)).await.starts_with("pass") {
            return asked;
        }
        world.advance(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
    panic!("it never came back");
}

#[test]
fn a_server_that_is_not_there_costs_no_waiting() {
    let mut redis = Redis::run();
    redis.kill();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        for _ in 0..10 {
            assert_eq!(said(&store, &world, &a_day(1000)).await, "unreachable");
        }
        redis.start();
        assert_eq!(said(&store, &world, &a_day(1000)).await, "unreachable", "it is left alone for a while");
        recovered(&store, &world).await;
    });
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_used_again() {
    let mut redis = Redis::run();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 999 left");
        redis.kill();
        assert_eq!(said(&store, &world, &a_day(1000)).await, "unreachable");
        redis.start();
        recovered(&store, &world).await;
        let counts: Vec<_> = store.tally().unavailable().filter(|(_, count)| *count > 0).collect();
        assert!(matches!(counts[..], [(Unavailable::Unreachable, _)]), "{counts:?}");
    });
}

#[test]
fn a_server_that_restarts_between_requests_is_not_even_noticed() {
    let mut redis = Redis::run();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 999 left");
        redis.kill();
        redis.start();
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 999 left");
    });
}

#[test]
fn a_server_that_hangs_costs_one_timeout_and_then_no_waiting() {
    let redis = Redis::run();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 999 left");
        redis.pause();
        assert_eq!(out_of_time(&store, &world).await, "slow");
        let before = world.now();
        for _ in 0..100 {
            assert_eq!(said(&store, &world, &a_day(1000)).await, "slow");
        }
        assert_eq!(world.now(), before);
        // Every attempt hangs too, and nobody waits for it.
        for _ in 0..100 {
            world.advance(Duration::from_millis(500));
            assert_eq!(said(&store, &world, &a_day(1000)).await, "slow");
        }
        redis.resume();
        recovered(&store, &world).await;
    });
}

#[test]
fn a_first_connection_that_hangs_is_waited_for_once() {
    let redis = Redis::run();
    redis.pause();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        assert_eq!(out_of_time(&store, &world).await, "slow");
        assert_eq!(said(&store, &world, &a_day(1000)).await, "slow");
        redis.resume();
        recovered(&store, &world).await;
    });
}

#[test]
fn a_way_that_is_slow_is_one_failure_and_answers_that_come_late_harm_nobody() {
    let redis = Redis::run();
    let valve = Valve::before(redis.address());
    run(async {
        let (store, world) = (exact(&format!("redis://{}", valve.address())), Thread::new());
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 999 left");
        valve.hold();
        assert_eq!(out_of_time(&store, &world).await, "slow");
        assert_eq!(said(&store, &world, &a_day(1000)).await, "slow");
        valve.release();
        recovered(&store, &world).await;
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 996 left", "what was lost was counted");
    });
}

#[test]
fn one_request_at_a_time_finds_out_whether_it_works_again() {
    let redis = Redis::run();
    let valve = Valve::before(redis.address());
    run(async {
        let (store, world) = (exact(&format!("redis://{}", valve.address())), Thread::new());
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 999 left");
        valve.hold();
        assert_eq!(out_of_time(&store, &world).await, "slow");
        valve.release();
        // The next request after the pause has a connection made; the one after that is to try it.
        world.advance(Duration::from_millis(100));
        assert_eq!(said(&store, &world, &a_day(1000)).await, "slow");
        until("a connection", || redis.cli(&["CLIENT", "LIST"]).lines().count() >= 2).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        valve.hold();
        let limit = a_day(1000);
        let mut first = std::pin::pin!(said(&store, &world, &limit));
        until("the question", || {
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(first.as_mut().poll(&mut cx).is_pending());
            redis.cli(&["GET", "tidegate:key"]).starts_with("259")
        })
        .await;
        for _ in 0..100 {
            assert_eq!(said(&store, &world, &a_day(1000)).await, "slow", "the others do not wait for it");
        }
        valve.release();
        assert!(first.await.starts_with("pass"));
        assert!(said(&store, &world, &a_day(1000)).await.starts_with("pass"));
    });
}

#[test]
fn pauses_grow_to_five_seconds_and_are_not_the_same_for_all() {
    let pause = super::super::line::pause;
    assert_eq!(pause(1, 511), Duration::from_millis(100) * 1023 / 1024);
    assert_eq!(pause(1, 0), Duration::from_millis(50));
    assert_eq!(pause(3, 0), Duration::from_millis(200));
    assert_eq!(pause(100, 0), Duration::from_millis(2500));
    assert!(pause(u32::MAX, u128::MAX) < Duration::from_secs(5));
}

#[test]
fn a_replica_is_told_from_a_master_and_left_alone() {
    let (master, redis) = (Redis::run(), Redis::run());
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 999 left");
        redis.cli(&["REPLICAOF", "127.0.0.1", &master.address().port().to_string()]);
        assert_eq!(said(&store, &world, &a_day(1000)).await, "read_only");
        for _ in 0..20 {
            world.advance(Duration::from_secs(5));
            // Time enough to connect, and to ask.
            for _ in 0..200 {
                assert_eq!(said(&store, &world, &a_day(1000)).await, "read_only");
                tokio::task::yield_now().await;
            }
        }
        redis.cli(&["REPLICAOF", "NO", "ONE"]);
        recovered(&store, &world).await;
    });
}

#[test]
fn a_foreign_value_is_one_keys_trouble() {
    let redis = Redis::run();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        for algorithm in [Algorithm::TokenBucket { burst: 9 }, Algorithm::SlidingWindow, Algorithm::SlidingLog] {
            let limit = limit(algorithm, 10, 3600);
            for command in [&["RPUSH", "tidegate:key", "x"][..], &["SET", "tidegate:key", "not ours"]] {
                redis.cli(&["DEL", "tidegate:key"]);
                redis.cli(command);
                assert_eq!(said(&store, &world, &limit).await, "foreign_value", "{algorithm:?} {command:?}");
            }
            assert!(store.decide(&*world, b"another", &limit, 1).await.unwrap().allowed);
            redis.cli(&["FLUSHALL"]);
        }
    });
}

#[test]
fn a_server_without_memory_is_named() {
    let redis = Redis::run();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        assert_eq!(said(&store, &world, &a_day(1000)).await, "full");
        redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        world.advance(MINUTE);
        recovered(&store, &world).await;
    });
}

#[test]
fn permissions_that_are_missing_are_named() {
    let redis = Redis::run();
    run(async {
        redis.cli(&["ACL", "SETUSER", "gateway", "on", ">pass", "~other:*", "+@all"]);
        let store = exact(&format!("redis://gateway:pass@{}", redis.address()));
        assert_eq!(said(&store, &Thread::new(), &a_day(1000)).await, "denied");
    });
}

#[test]
fn a_server_that_is_loading_is_named() {
    // Not a real one: a real one loads a small file before anybody can ask it.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        while matches!(socket.read(&mut [0; 4096]), Ok(1..)) {
            socket.write_all(b"-LOADING Redis is loading the dataset in memory\r\n").unwrap();
        }
    });
    run(async {
        assert_eq!(said(&exact(&url), &Thread::new(), &a_day(1000)).await, "loading");
    });
}

#[test]
fn errors_of_scripts_are_known_by_their_text_too() {
    for (text, why) in [
        ("Error running script: @user_script:4: WRONGTYPE Operation against a key", Unavailable::Foreign),
        ("Error running script: -READONLY You can't write against a read only replica.", Unavailable::ReadOnly),
        ("@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.", Unavailable::Full),
        ("something else", Unavailable::Failed),
    ] {
        let error = redis::make_extension_error("ERR".into(), Some(text.into()));
        assert_eq!(Unavailable::of(&error), why, "{text}");
    }
}
