//! How much a client may do: limits, the ways to count towards them, and where the counts of all clients are kept. Pure: time is
//! an argument, and so are the hash's random keys.

mod cell;
mod division;
mod fixed_window;
mod hash;
mod sliding_log;
mod sliding_window;
mod slots;
mod store;
mod table;
mod token_bucket;

use std::sync::Arc;
use std::time::Duration;

use tidegate_config::value::RequestRate;

pub use cell::Cell;
pub use slots::{Place, Slots};
pub use store::{Keyed, Store};

use self::fixed_window::FixedWindow;
use self::sliding_log::SlidingLog;
use self::sliding_window::SlidingWindow;
use self::token_bucket::TokenBucket;
use crate::balance::Nanos;

/// No period is longer: ten years. Sums of periods and times stay far from where numbers end.
pub const LONGEST_PERIOD: Duration = Duration::from_hours(10 * 365 * 24);

/// No bucket takes longer to fill: a hundred years.
const LONGEST_REFILL: Duration = Duration::from_hours(100 * 365 * 24);

/// A time, by both clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Since an origin that is the same for all workers; what all but quotas count by.
    pub mono: Nanos,
    /// Since the Unix epoch: quotas begin anew with the hour and the day. It may jump.
    pub wall: Duration,
}

impl Now {
    fn after(self, nanos: u64) -> Self {
        let wall = self.wall.saturating_add(Duration::from_nanos(nanos));
        Self { mono: Nanos(self.mono.0.saturating_add(nanos)), wall }
    }

    fn no_earlier_than(self, mono: u64) -> Self {
        Self { mono: self.mono.max(Nanos(mono)), ..self }
    }
}

/// So many in a time: `100/s`, `1/d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    amount: u64,
    /// In nanoseconds.
    period: u64,
}

impl Rate {
    /// `amount` in each `period`. `None` if one of them is nothing, or the period longer than [`LONGEST_PERIOD`].
    pub fn new(amount: u64, period: Duration) -> Option<Self> {
        let fits = amount > 0 && !period.is_zero() && period <= LONGEST_PERIOD;
        fits.then(|| Self { amount, period: saturated(period.as_nanos()) })
    }

    /// How many.
    pub fn amount(self) -> u64 {
        self.amount
    }

    /// In which time.
    pub fn period(self) -> Duration {
        Duration::from_nanos(self.period)
    }

    fn in_time(self, time: Duration) -> u64 {
        saturated(time.as_nanos().saturating_mul(self.amount.into()) / u128::from(self.period))
    }
}

/// How requests are counted towards a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// A bucket that holds `burst` tokens, is full at first, and is refilled evenly at the rate.
    TokenBucket {
        /// What may come at once after a pause.
        burst: u64,
    },
    /// What came in this window, and of the last one the part that has not slid out, as if it had come evenly.
    SlidingWindow,
    /// Exactly the rate in any window: it remembers when each came.
    SlidingLog,
    /// What came since the hour, the day or whatever the period is began, in UTC.
    FixedWindow,
}

/// A rate, and how to count towards it. Limits are equal if they mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    algorithm: Algorithm,
    rate: Rate,
}

/// The algorithm cannot count so far: this is the most that the amount, or the burst of a token bucket, may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany(pub u64);

impl Limit {
    /// A limit, if it can be counted. That takes a bucket that is full again within a hundred years, a sliding window of no more
    /// than 2^32 - 1, a log of no more than 64, a fixed window of no more than 2^48 - 1.
    pub fn new(algorithm: Algorithm, rate: Rate) -> Result<Self, TooMany> {
        let (count, most) = match algorithm {
            Algorithm::TokenBucket { burst } => (burst, rate.in_time(LONGEST_REFILL)),
            Algorithm::SlidingWindow => (rate.amount, sliding_window::MOST),
            Algorithm::SlidingLog => (rate.amount, sliding_log::MOST),
            Algorithm::FixedWindow => (rate.amount, fixed_window::MOST),
        };
        if count > most { Err(TooMany(most)) } else { Ok(Self { algorithm, rate }) }
    }

    /// A token bucket of this rate, which holds as much as comes in the rate's time unless `burst` says otherwise; `None` if there is
    /// no such rate.
    pub fn bucket(written: RequestRate, burst: Option<u64>) -> Option<Self> {
        let amount = u64::from(written.requests);
        let algorithm = Algorithm::TokenBucket { burst: burst.unwrap_or(amount) };
        Self::new(algorithm, Rate::new(amount, written.per)?).ok()
    }

    /// How it counts.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What it counts towards.
    pub fn rate(&self) -> Rate {
        self.rate
    }
}

/// What a limit says of one request. A refused request takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it may pass.
    pub allowed: bool,
    /// How long it has to wait before it passes. Zero, but for what was reserved.
    pub wait: Duration,
    /// What [`Outcome::remaining`] is at most: the burst, or the rate's amount.
    pub limit: u64,
    /// What may come at once after this request.
    pub remaining: Tokens,
    /// When all of it is there again if nothing else comes.
    pub reset_after: Span,
    /// If it was refused: when the same request would pass. `None` if never, because it weighs more than the limit.
    pub retry_after: Option<Duration>,
}

/// How many may come. Token buckets know it in parts of a token, and only who wants to know has to divide: a decision does not.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    parts: u64,
    /// How many parts a token has, which is never 0.
    token: u64,
}

impl Tokens {
    /// How many whole ones.
    pub fn whole(self) -> u64 {
        self.parts / self.token
    }
}

impl From<u64> for Tokens {
    fn from(whole: u64) -> Self {
        Self { parts: whole, token: 1 }
    }
}

impl PartialEq for Tokens {
    /// What is not whole is told to nobody.
    fn eq(&self, other: &Self) -> bool {
        self.whole() == other.whole()
    }
}

impl Eq for Tokens {}

/// A time in nanoseconds, which becomes seconds only if somebody wants to know, because that divides too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(u64);

impl Span {
    /// So many nanoseconds.
    pub fn nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// As long as that.
    pub fn duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// How a request stands with a limit that its client is told of.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The limit's name.
    pub name: Arc<str>,
    /// What it is, as an item of `RateLimit-Policy`.
    pub policy: Arc<str>,
    /// What it said.
    pub outcome: Outcome,
}

/// What is asked of a limit.
#[derive(Debug, Clone, Copy)]
struct Ask {
    weight: u64,
    now: Now,
    /// How long the request would wait, if it may.
    patience: Option<Duration>,
}

/// The arithmetic of one algorithm: what a key has done, told from its state and the time. More that was taken, or was taken
/// later, never makes a wait shorter; so a state that others have added to gives nobody more.
trait Rule {
    type State;

    /// What is there at most.
    fn capacity(&self) -> u64;

    /// The nanoseconds until `weight` may be taken; `None` if never.
    fn wait(&self, state: &Self::State, weight: u64, now: Now) -> Option<u64>;

    /// Takes `weight` at a time when it may be taken.
    fn take(&self, state: &mut Self::State, weight: u64, now: Now);

    /// What may be taken at once.
    fn remaining(&self, state: &Self::State, now: Now) -> u64;

    /// The nanoseconds until all may be taken.
    fn reset(&self, state: &Self::State, now: Now) -> u64;

    /// When the window began that is counted in. That is ahead of `now` if another worker has read the clock later, or if
    /// the window was reserved in.
    fn since(&self, _: &Self::State) -> u64 {
        0
    }

    /// Decides, and takes what may pass. Whoever does it otherwise must come to the same.
    fn settle(&self, state: &mut Self::State, ask: &Ask) -> Outcome
    where
        Self: Sized,
    {
        settle(self, state, ask)
    }
}

fn settle<R: Rule>(rule: &R, state: &mut R::State, ask: &Ask) -> Outcome {
    let (now, patience) = match ask.patience {
        Some(patience) => (ask.now, patience),
        None => (ask.now.no_earlier_than(rule.since(state)), Duration::ZERO),
    };
    let wait = rule.wait(state, ask.weight, now);
    let allowed = wait.filter(|wait| Duration::from_nanos(*wait) <= patience);
    if let Some(wait) = allowed {
        rule.take(state, ask.weight, now.after(wait));
    }
    Outcome {
        allowed: allowed.is_some(),
        wait: Duration::from_nanos(allowed.unwrap_or(0)),
        limit: rule.capacity(),
        remaining: rule.remaining(state, now).into(),
        reset_after: Span(rule.reset(state, now)),
        retry_after: wait.filter(|_| allowed.is_none()).map(Duration::from_nanos),
    }
}

/// The state of all algorithms but the log: 16 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bucket {
    /// From this time on, in nanoseconds of [`Now::mono`], it is as good as new.
    idle_at: u64,
    /// What else its algorithm knows.
    rest: u64,
}

/// As far as `u64` goes: 584 years, if they are nanoseconds.
fn saturated(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_an_amount_and_a_period() {
        let rate = Rate::new(600, Duration::from_mins(1)).expect("it is one");
        assert_eq!((rate.amount(), rate.period()), (600, Duration::from_mins(1)));
        assert_eq!(Rate::new(0, Duration::from_secs(1)), None);
        assert_eq!(Rate::new(1, Duration::ZERO), None);
        assert_eq!(Rate::new(1, LONGEST_PERIOD + Duration::from_nanos(1)), None);
    }

    #[test]
    fn an_amount_that_cannot_be_counted_is_refused_with_the_most_that_can_be() {
        let most = |algorithm| Limit::new(algorithm, Rate::new(u64::MAX, Duration::from_secs(1)).unwrap()).map(drop);
        assert_eq!(most(Algorithm::TokenBucket { burst: u64::MAX }), Ok(()));
        assert_eq!(most(Algorithm::SlidingWindow), Err(TooMany((1 << 32) - 1)));
        assert_eq!(most(Algorithm::FixedWindow), Err(TooMany((1 << 48) - 1)));
        assert_eq!(most(Algorithm::SlidingLog), Err(TooMany(64)));
        let slow =
            Limit::new(Algorithm::TokenBucket { burst: 366 }, Rate::new(1, Duration::from_hours(100 * 24)).unwrap());
        assert_eq!(slow, Err(TooMany(365)), "a hundred years");
    }
}
