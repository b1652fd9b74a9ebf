//! Whether a request that failed is tried again and when, and the budget that keeps retries from doubling an outage.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::Method;
use tidegate_config::config::{Retry, RetryMethods};

/// The longest `Retry-After` that is waited for. Who asks for more is not asked again: the client, who is told, can wait at less
/// cost than a gateway that holds its connection.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no connection: refused, unreachable, unresolved, not in time.
    Connect,
    /// The connection broke, or the reply was malformed.
    Reset {
        /// Whether the endpoint may have seen the request.
        sent: bool,
    },
    /// The endpoint was silent for too long, or took longer than `per_try_timeout`.
    Timeout,
    /// It replied with this status.
    Status(u16),
}

/// A try that is over.
#[derive(Debug, Clone, Copy)]
pub struct Tried<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// The request's method.
    pub method: &'a Method,
    /// Whether the request's body can be sent once more; true if it has none.
    pub replayable: bool,
    /// Tries so far, with this one.
    pub tries: u32,
    /// Until the deadline of the whole request; `None` if it has none.
    pub left: Option<Duration>,
    /// What the reply said; see [`retry_after`].
    pub retry_after: Option<Duration>,
}

/// What to do about a try that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Its outcome is the request's.
    Stop,
    /// Another try after this time, if the budget has one to give.
    After(Duration),
}

/// Decides about a try. `random` are random bits for the wait.
///
/// What the endpoint cannot have seen (no connection, nothing sent) may be tried again whatever the method. The wait is a random
/// part of `backoff_base`, doubled with every try up to `backoff_max`. A `Retry-After` comes on top of it, so that those
/// who were told the same do not come back together; above [`LONGEST_RETRY_AFTER`] it means no retry. So does a wait that
/// ends at the deadline or later.
pub fn decide(retry: &Retry, tried: &Tried<'_>, random: u64) -> Decision {
    if tried.tries >= retry.attempts || !tried.replayable || !is_covered(retry, tried) {
        return Decision::Stop;
    }
    let asked = tried.retry_after.unwrap_or_default();
    if asked > LONGEST_RETRY_AFTER {
        return Decision::Stop;
    }
    let wait = asked + part(backoff(retry, tried.tries), random);
    if tried.left.is_some_and(|left| wait >= left) { Decision::Stop } else { Decision::After(wait) }
}

fn is_covered(retry: &Retry, tried: &Tried<'_>) -> bool {
    let on = &retry.on;
    let may_repeat = retry.methods == RetryMethods::All || tried.method.is_idempotent();
    match tried.outcome {
        Outcome::Connect => on.connect,
        Outcome::Reset { sent } => on.reset && (!sent || may_repeat),
        // Without a retry the client would get a 504.
        Outcome::Timeout => (on.timeout || on.statuses.contains(504)) && may_repeat,
        Outcome::Status(status) => on.statuses.contains(status) && may_repeat,
    }
}

fn backoff(retry: &Retry, tries: u32) -> Duration {
    let factor = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    retry.backoff_base.saturating_mul(factor).min(retry.backoff_max)
}

/// A random part of `whole`: from nothing to just less than all of it.
pub(crate) fn part(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos().min(u128::from(u64::MAX)) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How long a `Retry-After` field asks to wait (RFC 9110, 10.2.3): seconds, or until a date. `wall` is the time since the Unix
/// epoch. `None` if it is neither; a date that has passed is no wait.
pub fn retry_after(value: &[u8], wall: Duration) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(wall))
}

/// Seconds that count: this one and those before it.
const WINDOW: usize = 10;

/// How many retries and hedges all workers together may add: a share of the requests of the last ten seconds, or a few each second
/// if that is more. Lock-free.
///
/// Over any time there are at most `share` times the requests, plus `floor` for every second that began.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    floor: u32,
    start: Instant,
    requests: Seconds,
    retries: Seconds,
}

impl Budget {
    /// `share` of the requests, and `floor` each second in any case.
    pub fn new(share: f64, floor: u32, start: Instant) -> Self {
        Self { share, floor, start, requests: Seconds::default(), retries: Seconds::default() }
    }

    /// Counts a request, once however often it is tried.
    #[inline]
    pub fn request(&self, now: Instant) {
        self.requests.add(self.second(now));
    }

    /// Takes a retry out of the budget, if there is one. It is taken even if the retry does not happen in the end.
    pub fn try_take(&self, now: Instant) -> bool {
        let second = self.second(now);
        // First taken and then judged, so that of workers that come together none is overlooked.
        let taken_now = self.retries.add(second);
        let earned = f64::from(self.requests.sum(second)) * self.share;
        let granted = taken_now <= self.floor || f64::from(self.retries.sum(second)) <= earned;
        if !granted {
            self.retries.take_back(second);
        }
        granted
    }

    /// How many could be taken at this moment.
    pub fn left(&self, now: Instant) -> u32 {
        let second = self.second(now);
        let earned = f64::from(self.requests.sum(second)) * self.share - f64::from(self.retries.sum(second));
        let promised = self.floor.saturating_sub(self.retries.at(second));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is not negative, and saturates"
        )]
        let earned = earned.max(0.0) as u32;
        promised.max(earned)
    }

    /// Counted from 1, because 0 marks a second that never was.
    fn second(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.start).as_secs()).unwrap_or(u32::MAX - 1) + 1
    }
}

/// Events in each of the last seconds: which second it is in the upper half of a word, how many in the lower half.
/// In cache lines of their own: every request writes here.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Seconds([AtomicU64; WINDOW]);

impl Seconds {
    /// Counts an event and says which one of its second it is.
    #[inline]
    fn add(&self, second: u32) -> u32 {
        let Some(slot) = self.0.get(second as usize % WINDOW) else { return 0 };
        if second_of(slot.load(Relaxed)) == second {
            // In the meantime the slot changes hands only if this thread slept for ten seconds.
            return count_of(slot.fetch_add(1, Relaxed)) + 1;
        }
        let fresh = u64::from(second) << 32 | 1;
        let next = |word| if second_of(word) == second { word + 1 } else { fresh };
        let before = slot.fetch_update(Relaxed, Relaxed, |word| Some(next(word))).unwrap_or_default();
        count_of(next(before))
    }

    fn take_back(&self, second: u32) {
        let Some(slot) = self.0.get(second as usize % WINDOW) else { return };
        let less = |word| (second_of(word) == second && count_of(word) > 0).then(|| word - 1);
        // A slot that belongs to another second by now has forgotten the event.
        slot.fetch_update(Relaxed, Relaxed, less).ok();
    }

    fn at(&self, second: u32) -> u32 {
        let word = self.0.get(second as usize % WINDOW).map_or(0, |slot| slot.load(Relaxed));
        if second_of(word) == second { count_of(word) } else { 0 }
    }

    fn sum(&self, second: u32) -> u32 {
        let words = self.0.iter().map(|slot| slot.load(Relaxed));
        let recent = words.filter(|&word| (second.saturating_sub(second_of(word)) as usize) < WINDOW);
        recent.map(count_of).fold(0, u32::saturating_add)
    }
}

fn second_of(word: u64) -> u32 {
    (word >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn count_of(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_config::config::{Conditions, Statuses};

    use super::*;
    use crate::clock::{Clock, ManualClock};

    fn start() -> Instant {
        Clock::Manual(ManualClock::new(Duration::ZERO)).now()
    }

    fn retry() -> Retry {
        Retry {
            attempts: 3,
            on: Conditions {
                connect: true,
                reset: true,
                timeout: false,
                statuses: Statuses(vec![502..=502, 503..=503, 504..=504]),
            },
            methods: RetryMethods::Idempotent,
            per_try_timeout: None,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget: 0.2,
            budget_floor: 3,
            buffer: 65_536,
        }
    }

    fn tried(outcome: Outcome, method: &Method) -> Tried<'_> {
        Tried { outcome, method, replayable: true, tries: 1, left: None, retry_after: None }
    }

    #[test]
    fn what_is_left_is_what_can_be_taken() {
        let now = start();
        let budget = Budget::new(0.5, 2, now);
        assert_eq!(budget.left(now), 2);
        (0..10).for_each(|_| budget.request(now));
        for left in (0..5).rev() {
            assert!(budget.try_take(now));
            assert_eq!(budget.left(now), left);
        }
        assert!(!budget.try_take(now));
    }

    fn retries(retry: &Retry, tried: &Tried<'_>) -> bool {
        decide(retry, tried, 0) != Decision::Stop
    }

    #[test]
    fn what_was_not_sent_is_tried_again_whatever_the_method() {
        for outcome in [Outcome::Connect, Outcome::Reset { sent: false }] {
            assert!(retries(&retry(), &tried(outcome, &Method::POST)));
        }
    }

    #[test]
    fn what_may_have_been_seen_is_tried_again_only_if_it_may_happen_twice() {
        for outcome in [Outcome::Reset { sent: true }, Outcome::Timeout, Outcome::Status(503)] {
            assert!(retries(&retry(), &tried(outcome, &Method::PUT)));
            assert!(!retries(&retry(), &tried(outcome, &Method::POST)));
            let all = Retry { methods: RetryMethods::All, ..retry() };
            assert!(retries(&all, &tried(outcome, &Method::POST)));
        }
    }

    #[test]
    fn only_what_is_configured_is_tried_again() {
        let none = Retry { on: Conditions::default(), ..retry() };
        let outcomes = [Outcome::Connect, Outcome::Reset { sent: false }, Outcome::Timeout, Outcome::Status(503)];
        for outcome in outcomes {
            assert!(!retries(&none, &tried(outcome, &Method::GET)));
        }
        assert!(!retries(&retry(), &tried(Outcome::Status(500), &Method::GET)));
        let timeout = Retry { on: Conditions { timeout: true, ..Conditions::default() }, ..retry() };
        assert!(retries(&timeout, &tried(Outcome::Timeout, &Method::GET)));
    }

    #[test]
    fn tries_bodies_and_deadlines_run_out() {
        let once = tried(Outcome::Connect, &Method::GET);
        assert!(retries(&retry(), &Tried { tries: 2, ..once }));
        assert!(!retries(&retry(), &Tried { tries: 3, ..once }));
        assert!(!retries(&retry(), &Tried { replayable: false, ..once }));
        assert!(!retries(&retry(), &Tried { left: Some(Duration::ZERO), ..once }));
    }

    #[test]
    fn no_base_is_no_wait_however_many_tries_there_were() {
        let retry = Retry { attempts: 100, backoff_base: Duration::ZERO, ..retry() };
        let tried = Tried { tries: 33, ..tried(Outcome::Status(503), &Method::GET) };
        assert_eq!(decide(&retry, &tried, u64::MAX), Decision::After(Duration::ZERO));
    }

    #[test]
    fn a_wait_that_the_service_asks_for_is_the_least_wait_and_bounded() {
        let asked = |seconds| Tried {
            retry_after: Some(Duration::from_secs(seconds)),
            left: Some(Duration::from_secs(8)),
            ..tried(Outcome::Status(503), &Method::GET)
        };
        assert_eq!(decide(&retry(), &asked(2), 0), Decision::After(Duration::from_secs(2)));
        let half = decide(&retry(), &asked(2), 1 << 63);
        assert_eq!(half, Decision::After(Duration::from_micros(2_012_500)));
        assert_eq!(decide(&retry(), &asked(8), 0), Decision::Stop);
        assert_eq!(decide(&retry(), &Tried { left: None, ..asked(11) }, 0), Decision::Stop);
        assert_eq!(decide(&retry(), &Tried { left: None, ..asked(u64::MAX) }, u64::MAX), Decision::Stop);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wall = Duration::from_secs(784_111_777);
        let seconds = |value: &str| retry_after(value.as_bytes(), wall).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:49:47 GMT"), Some(10));
        assert_eq!(seconds("Sun Nov  6 08:49:47 1994"), Some(10));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:27 GMT"), Some(0));
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        for value in ["", "-1", "+1", "1.5", "soon"] {
            assert_eq!(seconds(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn waits_grow_to_their_limit_and_never_reach_the_deadline(
            tries in 1_u32..80,
            base in 0_u64..10_000,
            max in 0_u64..10_000,
            left in proptest::option::of(0_u64..20_000),
            asked in proptest::option::of(0_u64..20),
            random: u64,
        ) {
            let millis = Duration::from_millis;
            let retry = Retry { attempts: 100, backoff_base: millis(base), backoff_max: millis(max), ..retry() };
            let tried = Tried {
                tries,
                left: left.map(millis),
                retry_after: asked.map(Duration::from_secs),
                ..tried(Outcome::Status(503), &Method::GET)
            };
            let Decision::After(wait) = decide(&retry, &tried, random) else { return Ok(()) };
            let asked = tried.retry_after.unwrap_or_default();
            prop_assert!(wait >= asked);
            let most = u128::from(base).saturating_mul(1 << (tries - 1).min(60)).min(u128::from(max));
            prop_assert!(wait.saturating_sub(asked).as_millis() <= most);
            prop_assert!(tried.left.is_none_or(|left| wait < left));
        }

        #[test]
        fn retries_never_exceed_the_budget_over_any_schedule(
            share in 0.0_f64..1.0,
            floor in 0_u32..5,
            steps in prop::collection::vec((0_u64..3_000, 0_u32..30, 0_u32..30), 1..200),
        ) {
            let start = start();
            let budget = Budget::new(share, floor, start);
            let (mut now, mut requests, mut taken) = (start, 0_u32, 0_u32);
            for (millis, new, wanted) in steps {
                now += Duration::from_millis(millis);
                (0..new).for_each(|_| budget.request(now));
                requests += new;
                taken += (0..wanted).map(|_| u32::from(budget.try_take(now))).sum::<u32>();
                let seconds = (now - start).as_secs_f64() + 1.0;
                prop_assert!(f64::from(taken) <= share * f64::from(requests) + f64::from(floor) * seconds);
            }
        }
    }

    #[test]
    fn a_full_outage_adds_a_fifth() {
        let (budget, mut now) = (Budget::new(0.2, 3, start()), start());
        let (requests, mut taken) = (60_000, 0);
        for _ in 0..requests {
            now += Duration::from_micros(500);
            budget.request(now);
            taken += i32::from(budget.try_take(now));
        }
        assert!((12_000 - 30..=12_000 + 3).contains(&taken), "{taken} retries of {requests} requests");
    }

    #[test]
    fn a_few_retries_a_second_are_always_allowed() {
        let (budget, now) = (Budget::new(0.2, 3, start()), start());
        let take = |now| (0..10).filter(|_| budget.try_take(now)).count();
        assert_eq!(take(now), 3);
        assert_eq!(take(now + Duration::from_millis(999)), 0);
        assert_eq!(take(now + Duration::from_secs(1)), 3);
    }

    #[test]
    fn requests_of_long_ago_earn_nothing() {
        let (budget, now) = (Budget::new(0.5, 0, start()), start());
        (0..100).for_each(|_| budget.request(now));
        assert!(budget.try_take(now + Duration::from_millis(9_999)));
        assert!(!budget.try_take(now + Duration::from_secs(10)));
    }

    #[test]
    fn workers_together_stay_within_the_budget() {
        let now = start();
        let budget = Budget::new(0.2, 0, now);
        let take = || {
            (0..10_000)
                .filter(|_| {
                    budget.request(now);
                    budget.try_take(now)
                })
                .count()
        };
        let taken: usize = std::thread::scope(|scope| {
            let workers = [scope.spawn(take), scope.spawn(take), scope.spawn(take)];
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert!((5_000..=6_000).contains(&taken), "{taken}");
    }
}
