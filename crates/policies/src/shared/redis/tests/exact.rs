use e2e::redis::Redis;

use super::*;

const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::TokenBucket { burst: 10 }, Algorithm::SlidingWindow, Algorithm::SlidingLog, Algorithm::FixedWindow];

#[test]
fn two_gateways_together_admit_exactly_the_limit() {
    let redis = Redis::run();
    run(async {
        let (one, other) = (exact(&redis.url()), exact(&redis.url()));
        let (here, there) = (Thread::new(), Thread::new());
        for algorithm in ALGORITHMS {
            // Ten years: no window ends while the test runs.
            let limit = limit(algorithm, 10, 10 * 365 * 86_400);
            let mut all = 0;
            for _ in 0..10 {
                all += passed(&one, &here, &limit, 1).await + passed(&other, &there, &limit, 2).await;
            }
            assert_eq!(all, 10, "{algorithm:?}");
            redis.cli(&["FLUSHALL"]);
        }
    });
}

#[test]
fn workers_that_ask_at_once_admit_exactly_the_limit() {
    let redis = Redis::run();
    let store = exact(&redis.url());
    let work = |worker| {
        let mut admitted = 0;
        run(async { admitted = passed(&store, &Thread::number(worker), &a_day(100), 50).await });
        admitted
    };
    let admitted: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                scope.spawn({
                    let work = &work;
                    move || work(worker)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(admitted, 100);
    assert_eq!(store.tally().decisions(), 200);
    assert_eq!(store.tally().round_trips().0, 200);
}

#[test]
fn a_decision_says_all_that_the_fields_of_a_reply_need() {
    let redis = Redis::run();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        let limit = limit(Algorithm::TokenBucket { burst: 3 }, 1, 3600);
        let outcome = store.decide(&*world, b"key", &limit, 2).await.unwrap();
        assert_eq!((outcome.allowed, outcome.limit, outcome.remaining.whole()), (true, 3, 1));
        assert_eq!((outcome.reset_after.duration(), outcome.retry_after), (Duration::from_hours(2), None));
        let outcome = store.decide(&*world, b"key", &limit, 2).await.unwrap();
        assert_eq!((outcome.allowed, outcome.remaining.whole()), (false, 1));
        let retry = outcome.retry_after.unwrap();
        assert!(retry <= Duration::from_hours(1) && retry > Duration::from_secs(3500), "{retry:?}");
        let outcome = store.decide(&*world, b"key", &limit, 4).await.unwrap();
        assert_eq!((outcome.allowed, outcome.retry_after), (false, None), "it weighs more than the burst");
    });
}

#[test]
fn keys_have_the_prefix_and_are_gone_when_nothing_needs_to_be_known() {
    let redis = Redis::run();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        for (key, algorithm) in ALGORITHMS.into_iter().enumerate() {
            let limit = limit(algorithm, 10, 3600);
            store.decide(&*world, key.to_string().as_bytes(), &limit, 1).await.unwrap();
        }
        let lasts = |key: usize| redis.cli(&["TTL", &format!("tidegate:{key}")]).parse::<u64>().unwrap();
        assert!((300..=360).contains(&lasts(0)), "a tenth of the bucket is missing: {}", lasts(0));
        assert!((3600..=7200).contains(&lasts(1)), "it slides out of the next window: {}", lasts(1));
        assert!((3500..=3600).contains(&lasts(2)), "{}", lasts(2));
        assert!(lasts(3) <= 3600, "{}", lasts(3));
        assert_eq!(redis.cli(&["DBSIZE"]), "4");
    });
}

#[test]
fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let redis = Redis::run();
    run(async {
        let (store, world) = (exact(&redis.url()), Thread::new());
        assert_eq!(said(&store, &world, &a_day(10)).await, "pass, 9 left");
        redis.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(said(&store, &world, &a_day(10)).await, "pass, 8 left");
        assert_eq!(said(&store, &world, &a_day(10)).await, "pass, 7 left");
        let calls = redis.cli(&["INFO", "commandstats"]);
        assert!(calls.contains("cmdstat_eval:calls=2"), "the text is only sent when it is missing: {calls}");
    });
}

#[test]
fn many_requests_share_one_connection_and_its_messages() {
    let redis = Redis::run();
    run(async {
        let (store, world) = (Rc::new(exact(&redis.url())), Thread::new());
        let open = Rc::new(std::cell::Cell::new(0));
        for _ in 0..500 {
            let (store, world, open) = (Rc::clone(&store), Rc::clone(&world), Rc::clone(&open));
            open.set(open.get() + 1);
            beside(async move {
                store.decide(&*world, b"key", &a_day(1000), 1).await.unwrap();
                open.set(open.get() - 1);
            });
        }
        until("all decisions", || open.get() == 0).await;
        assert_eq!(said(&store, &world, &a_day(1000)).await, "pass, 499 left");
        let clients = redis.cli(&["INFO", "stats"]);
        assert!(clients.contains("total_connections_received:2"), "one, and this one: {clients}");
    });
}

#[test]
fn passwords_are_given_and_never_shown() {
    let redis = Redis::with(&["--requirepass", "secret word"]);
    run(async {
        let world = Thread::new();
        let address = redis.address();
        let store = exact(&format!("redis://:secret%20word@{address}/3"));
        assert_eq!(said(&store, &world, &a_day(10)).await, "pass, 9 left");
        assert!(!format!("{store:?}").contains("secret"));
        let mut settings = settings(&redis.url(), Mode::Exact);
        settings.target = settings.target.with_credentials(None, Some("secret word"));
        assert_eq!(said(&RedisStore::new(settings), &world, &a_day(10)).await, "pass, 9 left", "another database");
        assert_eq!(said(&exact(&redis.url()), &world, &a_day(10)).await, "denied");
        assert_eq!(said(&exact(&format!("redis://:wrong@{address}")), &world, &a_day(10)).await, "denied");
    });
}

#[test]
fn a_url_that_is_none_is_refused_in_words_without_its_password() {
    for url in ["http://127.0.0.1:6379", "redis://:secret@", "redis://:secret@127.0.0.1/x", "secret"] {
        let refused = Target::of(url, || unreachable!("no TLS here")).unwrap_err();
        assert_eq!(refused, "it is no URL of a Redis server", "{url}");
    }
}
