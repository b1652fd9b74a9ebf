//! The token bucket, as the generic cell rate algorithm: all that is kept is the time at which the bucket will be full. Exact for
//! any rate, because the part of a nanosecond that is left over is kept too.

use std::time::Duration;

use super::division::Divisor;
use super::{Ask, Bucket, Now, Outcome, Rate, Rule, Span, Tokens, saturated};

/// Times are counted in parts of a nanosecond, as many as the rate's amount: then one token takes exactly the period to come.
/// [`Bucket::idle_at`] is rounded up to whole nanoseconds; [`Bucket::rest`] is by how many parts. Only what is missing now is ever
/// counted, never the time itself, so that numbers stay small.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenBucket {
    pub(super) rate: Rate,
    pub(super) burst: u64,
    narrow: Option<Narrow>,
}

impl TokenBucket {
    pub(super) fn new(rate: Rate, burst: u64) -> Self {
        Self { rate, burst, narrow: Narrow::of(rate, burst) }
    }

    fn parts(self, nanos: u64) -> u128 {
        u128::from(nanos) * u128::from(self.rate.amount)
    }

    /// To whole nanoseconds. `div_ceil` would divide twice.
    fn rounded_up(self, parts: u128) -> u64 {
        quotient(parts.saturating_add(u128::from(self.rate.amount - 1)), self.rate.amount)
    }

    /// How long it takes for so many tokens to come.
    fn cost(self, tokens: u64) -> u128 {
        u128::from(tokens) * u128::from(self.rate.period)
    }

    /// How long it takes until the bucket is full.
    fn missing(self, bucket: &Bucket, now: u64) -> u128 {
        self.parts(bucket.idle_at.saturating_sub(now)).saturating_sub(bucket.rest.into())
    }
}

impl Rule for TokenBucket {
    type State = Bucket;

    fn capacity(&self) -> u64 {
        self.burst
    }

    fn wait(&self, bucket: &Bucket, weight: u64, now: Now) -> Option<u64> {
        if weight > self.burst {
            return None;
        }
        let missing = self.missing(bucket, now.mono.0).saturating_add(self.cost(weight));
        match missing.saturating_sub(self.cost(self.burst)) {
            0 => Some(0),
            missing => Some(self.rounded_up(missing)),
        }
    }

    fn take(&self, bucket: &mut Bucket, weight: u64, now: Now) {
        let missing = self.missing(bucket, now.mono.0).saturating_add(self.cost(weight));
        let nanos = self.rounded_up(missing);
        bucket.idle_at = now.mono.0.saturating_add(nanos);
        bucket.rest = saturated(self.parts(nanos).saturating_sub(missing));
    }

    fn remaining(&self, bucket: &Bucket, now: Now) -> u64 {
        quotient(self.cost(self.burst).saturating_sub(self.missing(bucket, now.mono.0)), self.rate.period)
    }

    fn reset(&self, bucket: &Bucket, now: Now) -> u64 {
        bucket.idle_at.saturating_sub(now.mono.0)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to call it takes a fifth of its time")]
    fn settle(&self, bucket: &mut Bucket, ask: &Ask) -> Outcome {
        let Some((decision, narrow)) =
            self.narrow.as_ref().and_then(|narrow| Some((narrow.decide(bucket, ask)?, narrow)))
        else {
            return self.settle_widely(bucket, ask);
        };
        narrow.outcome(decision)
    }
}

impl TokenBucket {
    #[cold]
    fn settle_widely(&self, bucket: &mut Bucket, ask: &Ask) -> Outcome {
        super::settle(self, bucket, ask)
    }
}

/// The same arithmetic for the limits that nearly all are: all numbers fit into 64 bits, and nothing is divided or worked out twice. It
/// leaves to the other what is rare: who reserves and has to wait, who asks for more than the burst.
#[derive(Debug, Clone, Copy)]
struct Narrow {
    amount: Divisor,
    period: u64,
    burst: u64,
    /// What all tokens cost.
    full: u64,
}

impl Narrow {
    fn of(rate: Rate, burst: u64) -> Option<Self> {
        let full = burst.checked_mul(rate.period)?;
        Some(Self { amount: Divisor::new(rate.amount), period: rate.period, burst, full })
    }

    /// `None` if it cannot say; then nothing has been taken.
    #[inline]
    fn decide(&self, bucket: &mut Bucket, ask: &Ask) -> Option<Decision> {
        let now = ask.now.mono.0;
        let ahead = bucket.idle_at.saturating_sub(now);
        let missing = ahead.checked_mul(self.amount.number())?.saturating_sub(bucket.rest);
        let wanted = ask.weight.checked_mul(self.period)?.checked_add(missing)?;
        if wanted > self.full {
            let (wait, _) = self.amount.divide_up(wanted - self.full);
            let can_tell = ask.patience.is_none() && ask.weight <= self.burst;
            return can_tell.then_some(Decision { room: self.full.saturating_sub(missing), ahead, wait });
        }
        let (ahead, rest) = self.amount.divide_up(wanted);
        *bucket = Bucket { idle_at: now.checked_add(ahead)?, rest };
        Some(Decision { room: self.full - wanted, ahead, wait: 0 })
    }

    #[inline]
    fn outcome(&self, Decision { room, ahead, wait }: Decision) -> Outcome {
        let allowed = wait == 0;
        Outcome {
            allowed,
            wait: Duration::ZERO,
            limit: self.burst,
            remaining: Tokens { parts: room, token: self.period },
            reset_after: Span(ahead),
            retry_after: if allowed { None } else { Some(Duration::from_nanos(wait)) },
        }
    }
}

struct Decision {
    /// What is in the bucket after it, in parts.
    room: u64,
    /// The nanoseconds until it is full.
    ahead: u64,
    /// 0 if the request passes, and never 0 otherwise.
    wait: u64,
}

/// As far as `u64` goes. Nearly all numbers fit into 64 bits, and division by a processor's own instruction takes a third of the time.
fn quotient(number: u128, divisor: u64) -> u64 {
    match u64::try_from(number) {
        Ok(number) => number / divisor,
        Err(_) => saturated(number / u128::from(divisor)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::settle;
    use super::*;
    use crate::balance::Nanos;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;

    struct World {
        rule: TokenBucket,
        bucket: Bucket,
    }

    impl World {
        fn new(amount: u64, period: u64, burst: u64) -> Self {
            let rate = Rate::new(amount, Duration::from_nanos(period)).unwrap();
            Self { rule: TokenBucket::new(rate, burst), bucket: Bucket::default() }
        }

        fn ask(&mut self, weight: u64, now: u64, patience: Option<Duration>) -> Outcome {
            let now = Now { mono: Nanos(now), wall: Duration::ZERO };
            self.rule.settle(&mut self.bucket, &Ask { weight, now, patience })
        }

        fn decide(&mut self, weight: u64, now: u64) -> Outcome {
            self.ask(weight, now, None)
        }

        /// How many of many pass at once.
        fn pass(&mut self, now: u64) -> usize {
            (0..1000).filter(|_| self.decide(1, now).allowed).count()
        }
    }

    #[test]
    fn it_is_full_at_first_and_refills_evenly() {
        let mut world = World::new(10, SECOND, 20);
        assert_eq!(world.pass(5 * SECOND), 20);
        assert_eq!(world.pass(5 * SECOND + SECOND / 10 - 1), 0);
        assert_eq!(world.pass(5 * SECOND + SECOND / 10), 1);
        assert_eq!(world.pass(6 * SECOND), 9);
        assert_eq!(world.pass(100 * SECOND), 20);
    }

    #[test]
    fn parts_of_a_second_count_in_full() {
        // B33: `int(elapsed.Seconds()) * rate` credits nothing for 0.9 s, and 1 s for 1.9 s.
        let mut world = World::new(10, SECOND, 10);
        assert_eq!(world.pass(0), 10);
        assert_eq!(world.pass(9 * SECOND / 10), 9);
        assert_eq!(world.pass(28 * SECOND / 10), 10);
        let slow: usize = (0..100).map(|step| world.pass(28 * SECOND / 10 + step * SECOND / 100)).sum();
        assert_eq!(slow, 9, "looking often loses nothing");
    }

    #[test]
    fn one_a_day_is_one_a_day_to_the_nanosecond() {
        let mut world = World::new(1, DAY, 1);
        assert_eq!(world.pass(7), 1);
        assert_eq!(world.decide(1, 8).retry_after, Some(Duration::from_nanos(DAY - 1)));
        assert_eq!(world.pass(7 + DAY - 1), 0);
        assert_eq!(world.pass(7 + DAY), 1);
    }

    #[test]
    fn thirds_of_a_second_add_up_to_a_second() {
        let mut world = World::new(3, SECOND, 3);
        assert_eq!(world.pass(0), 3);
        assert_eq!(world.pass(333_333_333), 0);
        assert_eq!(world.pass(333_333_334), 1);
        assert_eq!(world.pass(SECOND - 1), 1);
        assert_eq!(world.pass(SECOND), 1);
        let later: usize = (1..=3000).map(|third: u64| world.pass(SECOND + (third * SECOND).div_ceil(3))).sum();
        assert_eq!(later, 3000);
    }

    #[test]
    fn rates_above_one_in_a_nanosecond_are_exact_too() {
        let mut world = World::new(2_500_000_000, SECOND, 100);
        assert!(world.decide(100, 0).allowed);
        assert!(!world.decide(3, 1).allowed);
        assert!(world.decide(2, 1).allowed);
        assert!(world.decide(3, 2).allowed);
        assert!(!world.decide(1, 2).allowed);
    }

    #[test]
    fn what_weighs_more_than_the_burst_never_passes_and_is_told_so() {
        let mut world = World::new(10, SECOND, 20);
        let outcome = world.decide(21, 0);
        assert_eq!((outcome.allowed, outcome.retry_after, outcome.remaining.whole()), (false, None, 20));
        assert!(world.decide(20, 0).allowed);
    }

    #[test]
    fn a_refusal_says_when_to_come_again_and_takes_nothing() {
        // B36: a refused client must know when to come back.
        let mut world = World::new(10, SECOND, 5);
        assert!(world.decide(4, 0).allowed);
        let refused = world.decide(3, 0);
        assert_eq!((refused.allowed, refused.remaining.whole()), (false, 1));
        assert_eq!(refused.retry_after, Some(Duration::from_millis(200)));
        assert_eq!(world.decide(3, 0), refused, "the same answer however often it is asked");
        assert!(!world.decide(3, SECOND / 5 - 1).allowed);
        assert!(world.decide(3, SECOND / 5).allowed);
    }

    #[test]
    fn an_outcome_holds_what_the_header_fields_need() {
        let mut world = World::new(10, SECOND, 20);
        let outcome = world.decide(1, 0);
        assert_eq!(
            (outcome.limit, outcome.remaining.whole(), outcome.reset_after.duration()),
            (20, 19, Duration::from_millis(100))
        );
        assert_eq!((outcome.retry_after, outcome.wait), (None, Duration::ZERO));
    }

    #[test]
    fn reserved_tokens_are_taken_now_and_waited_for() {
        let patience = Some(Duration::from_millis(250));
        let mut world = World::new(10, SECOND, 1);
        let mut waits = || {
            let outcome = world.ask(1, 0, patience);
            (outcome.allowed, outcome.wait.as_millis(), outcome.retry_after.map(|after| after.as_millis()))
        };
        assert_eq!(waits(), (true, 0, None));
        assert_eq!(waits(), (true, 100, None));
        assert_eq!(waits(), (true, 200, None));
        assert_eq!(waits(), (false, 0, Some(300)));
        assert_eq!(waits(), (false, 0, Some(300)));
        assert!(!world.decide(1, SECOND / 4).allowed);
        assert!(world.decide(1, SECOND * 3 / 10).allowed);
    }

    #[test]
    fn the_greatest_numbers_overflow_nothing() {
        let mut world = World::new(u64::MAX, 1, u64::MAX);
        assert!(world.decide(u64::MAX, u64::MAX).allowed);
        world.ask(u64::MAX, u64::MAX, Some(Duration::MAX));
        let mut world = World::new(1, 10 * 365 * DAY, 10);
        assert!(world.decide(10, u64::MAX / 2).allowed);
        assert!(!world.decide(1, u64::MAX / 2).allowed);
        world.ask(10, u64::MAX, Some(Duration::MAX));
        world.ask(10, 0, Some(Duration::MAX));
    }

    #[test]
    fn limits_that_are_usual_are_narrow() {
        for (amount, period, burst) in [(1, DAY, 1), (10, SECOND, 20), (1_000_000, 60 * SECOND, 1_000_000)] {
            let rule = TokenBucket::new(Rate::new(amount, Duration::from_nanos(period)).unwrap(), burst);
            let ask = |weight| Ask { weight, now: Now::default(), patience: None };
            let narrow = rule.narrow.expect("its numbers fit");
            assert!(narrow.decide(&mut Bucket::default(), &ask(1)).is_some_and(|decision| decision.wait == 0));
            let mut empty = Bucket { idle_at: period * burst / amount, rest: 0 };
            assert!(narrow.decide(&mut empty, &ask(1)).is_some_and(|decision| decision.wait > 0));
        }
    }

    /// A bucket of tokens, counted in parts of a token, as many as the period has nanoseconds: nothing is ever rounded.
    struct Model {
        parts: u128,
        seen: u64,
    }

    impl Model {
        fn decide(&mut self, rule: TokenBucket, weight: u64, now: u64) -> (bool, u64) {
            let period = u128::from(rule.rate.period);
            let full = u128::from(rule.burst) * period;
            self.parts = full.min(self.parts + u128::from(now - self.seen) * u128::from(rule.rate.amount));
            self.seen = now;
            let cost = u128::from(weight) * period;
            let allowed = cost <= self.parts;
            self.parts -= if allowed { cost } else { 0 };
            (allowed, saturated(self.parts / period))
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
        let pause = prop_oneof![0_u64..3, 0..2 * SECOND, 0..2 * DAY];
        prop::collection::vec((pause, 0_u64..5), 1..200)
    }

    /// Numbers of all sizes, and those where something ends.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0_u64..100,
            (0_u32..64, 0_u64..3).prop_map(|(bits, more)| (u64::MAX >> bits).wrapping_add(more)),
            any::<u64>(),
            0..100 * SECOND,
            (0..SECOND).prop_map(|less| u64::MAX - less),
        ]
    }

    proptest! {
        #[test]
        fn both_kinds_of_arithmetic_come_to_the_same(
            (amount, period, burst) in (number(), number(), number()),
            (idle_at, rest, now) in (number(), number(), number()),
            (weight, patience) in (prop_oneof![0_u64..5, number()], prop::option::of(number())),
            is_near in any::<bool>(),
        ) {
            let period = Duration::from_nanos(period).min(super::super::LONGEST_PERIOD);
            let Some(rate) = Rate::new(amount, period) else { return Ok(()) };
            let rule = TokenBucket::new(rate, burst);
            // As it is in use: not far ahead of now, and less than a nanosecond is left over.
            let (idle_at, rest) =
                if is_near { (now.saturating_add(idle_at % (10 * SECOND)), rest % amount) } else { (idle_at, rest) };
            let mut one = Bucket { idle_at, rest };
            let mut other = one;
            let now = Now { mono: Nanos(now), wall: Duration::ZERO };
            let ask = Ask { weight, now, patience: patience.map(Duration::from_nanos) };
            prop_assert_eq!(rule.settle(&mut one, &ask), settle(&rule, &mut other, &ask));
            prop_assert_eq!(one, other);
        }

        #[test]
        fn it_does_what_an_exact_bucket_of_tokens_does(
            amount in prop_oneof![1_u64..10, 1_u64..5_000_000_000],
            period in prop_oneof![1_u64..10, Just(SECOND), Just(60 * SECOND), 1..DAY, Just(DAY)],
            burst in 1_u64..10,
            steps in steps(),
        ) {
            let mut world = World::new(amount, period, burst);
            let mut model = Model { parts: u128::from(burst) * u128::from(period), seen: 0 };
            let mut now = 0;
            for (pause, weight) in steps {
                now += pause;
                let outcome = world.decide(weight, now);
                prop_assert_eq!((outcome.allowed, outcome.remaining.whole()), model.decide(world.rule, weight, now));
            }
        }

        #[test]
        fn the_same_request_passes_exactly_when_it_was_told_to_come_again(
            amount in 1_u64..100,
            period in 1..DAY,
            steps in steps(),
        ) {
            let mut world = World::new(amount, period, 4);
            let mut now = 0;
            for (pause, weight) in steps {
                now += pause;
                let Some(after) = world.decide(weight, now).retry_after else { continue };
                let after = saturated(after.as_nanos());
                prop_assert!(!world.decide(weight, now + after - 1).allowed);
                now += after;
                prop_assert!(world.decide(weight, now).allowed);
            }
        }
    }
}
