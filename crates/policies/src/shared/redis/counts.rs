//! What a key has done, in the numbers that the scripts keep, and the limiter's arithmetic over them: in whole microseconds of the
//! server's clock, otherwise the same.

use std::time::Duration;

use tidegate_core::limiter::{Algorithm, Limit, Outcome, Span};

use super::failure::Unavailable;
use super::script::{BUCKET, LOG, Script, WINDOWS};

/// A limit, as the scripts understand it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meter {
    /// What may come at once at most.
    most: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `token` is how many parts a token has: so many that whole ones come back in a microsecond.
    Bucket { token: u64, comes: u64 },
    /// In microseconds.
    Windows { period: u64, slides: bool },
    /// In microseconds.
    Log { period: u64 },
}

/// What a key has done until a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// In microseconds since 1970, by the server's clock.
    pub(super) at: u64,
    /// Parts that are missing from a full bucket; when the window began; or how many are in the log.
    first: u64,
    /// What came in the window; or when the latest in the log came.
    current: u64,
    /// What came in the window before; or when that in the log came that must slide out first.
    previous: u64,
}

impl Meter {
    pub(super) fn of(limit: &Limit) -> Self {
        let (amount, period) = (limit.rate().amount(), limit.rate().period());
        let micros = whole(period.as_micros()).max(1);
        let (most, kind) = match limit.algorithm() {
            Algorithm::TokenBucket { burst } => {
                let (parts, nanos) = (u128::from(amount) * 1000, period.as_nanos());
                let common = common_divisor(parts, nanos);
                (burst, Kind::Bucket { token: whole(nanos / common), comes: whole(parts / common) })
            }
            Algorithm::SlidingWindow => (amount, Kind::Windows { period: micros, slides: true }),
            Algorithm::FixedWindow => (amount, Kind::Windows { period: micros, slides: false }),
            Algorithm::SlidingLog => (amount, Kind::Log { period: micros }),
        };
        Self { most, kind }
    }

    /// Whether its counts can be added to away from the server.
    pub(super) fn can_be_counted_here(&self) -> bool {
        !matches!(self.kind, Kind::Log { .. })
    }

    pub(super) fn script(&self) -> &'static Script {
        match self.kind {
            Kind::Bucket { .. } => &BUCKET,
            Kind::Windows { .. } => &WINDOWS,
            Kind::Log { .. } => &LOG,
        }
    }

    /// What the script is told. What `must` be counted is, whether there is room or not.
    pub(super) fn arguments(&self, weight: u64, must: bool) -> [u64; 5] {
        let must = u64::from(must);
        match self.kind {
            Kind::Bucket { token, comes } => {
                [must, weight.saturating_mul(token), self.most.saturating_mul(token), comes, 0]
            }
            Kind::Windows { period, slides } => [must, weight, self.most, period, u64::from(slides)],
            Kind::Log { period } => [must, weight, self.most, period, 0],
        }
    }

    /// What the script says: whether the request may pass, and the counts with it.
    pub(super) fn answer(&self, reply: &[u64]) -> Result<(bool, Counts), Unavailable> {
        let (allowed, at, first, current, previous) = match (self.kind, reply) {
            (Kind::Bucket { .. }, &[allowed, at, missing]) => (allowed, at, missing, 0, 0),
            (_, &[allowed, at, first, current, previous]) => (allowed, at, first, current, previous),
            _ => return Err(Unavailable::Failed),
        };
        Ok((allowed == 1, Counts { at, first, current, previous }))
    }

    /// What is said of a request after it was decided.
    pub(super) fn outcome(&self, allowed: bool, counts: &Counts, weight: u64) -> Outcome {
        let retry = self.wait(counts, weight).filter(|_| !allowed);
        Outcome {
            allowed,
            wait: Duration::ZERO,
            limit: self.most,
            remaining: self.remaining(counts).into(),
            reset_after: Span::nanos(self.reset(counts).saturating_mul(1000)),
            retry_after: retry.map(Duration::from_micros),
        }
    }

    /// Moves on in time.
    pub(super) fn roll(&self, counts: &mut Counts, now: u64) {
        let now = now.max(counts.at);
        match self.kind {
            Kind::Bucket { comes, .. } => {
                counts.first = counts.first.saturating_sub((now - counts.at).saturating_mul(comes));
            }
            Kind::Windows { period, slides } => {
                let start = now - now % period;
                let follows = slides && counts.first + period == start;
                if start > counts.first {
                    (counts.previous, counts.current) = (counts.current * u64::from(follows), 0);
                    counts.first = start;
                }
            }
            Kind::Log { .. } => {}
        }
        counts.at = now;
    }

    /// Counts a request that was let pass.
    pub(super) fn add(&self, counts: &mut Counts, weight: u64) {
        match self.kind {
            Kind::Bucket { token, .. } => counts.first = counts.first.saturating_add(weight.saturating_mul(token)),
            Kind::Windows { .. } | Kind::Log { .. } => counts.current = counts.current.saturating_add(weight),
        }
    }

    /// Whether nothing is known that a key without counts would not have.
    pub(super) fn is_idle(&self, counts: &Counts) -> bool {
        match self.kind {
            Kind::Bucket { .. } => counts.first == 0,
            Kind::Windows { .. } | Kind::Log { .. } => counts.current == 0 && counts.previous == 0,
        }
    }

    /// Microseconds until `weight` may pass; `None` if never.
    pub(super) fn wait(&self, counts: &Counts, weight: u64) -> Option<u64> {
        let room = self.most.checked_sub(weight)?;
        let ready_at = match self.kind {
            Kind::Bucket { token, comes } => {
                let missing = counts.first.saturating_sub(room.saturating_mul(token));
                counts.at.saturating_add(missing.div_ceil(comes))
            }
            Kind::Windows { period, slides } => {
                let end = counts.first.saturating_add(period);
                match room.checked_sub(counts.current) {
                    Some(room) => end - early(period, room, counts.previous),
                    None if slides => end.saturating_add(period) - early(period, room, counts.current),
                    None => end,
                }
            }
            // What is in the way is only told of a request that was refused.
            Kind::Log { period } => counts.previous.saturating_add(period),
        };
        Some(ready_at.saturating_sub(counts.at))
    }

    fn remaining(&self, counts: &Counts) -> u64 {
        match self.kind {
            Kind::Bucket { token, .. } => self.most.saturating_mul(token).saturating_sub(counts.first) / token,
            Kind::Windows { period, .. } => {
                let left = counts.first.saturating_add(period).saturating_sub(counts.at);
                let inside = (u128::from(counts.previous) * u128::from(left)).div_ceil(period.into());
                self.most.saturating_sub(counts.current).saturating_sub(whole(inside))
            }
            Kind::Log { .. } => self.most.saturating_sub(counts.first),
        }
    }

    /// Microseconds until all may come at once.
    fn reset(&self, counts: &Counts) -> u64 {
        let reset_at = match self.kind {
            Kind::Bucket { comes, .. } => return counts.first.div_ceil(comes),
            Kind::Windows { slides: true, .. } if self.is_idle(counts) => 0,
            Kind::Windows { period, slides } => {
                counts.first.saturating_add(if slides && counts.current > 0 { 2 * period } else { period })
            }
            Kind::Log { period } => counts.current.saturating_add(period),
        };
        reset_at.saturating_sub(counts.at)
    }
}

/// How long before the end of a window so little is left of the last one's `count` that there is `room` for it.
fn early(period: u64, room: u64, count: u64) -> u64 {
    if room >= count { period } else { whole(u128::from(room) * u128::from(period) / u128::from(count)) }
}

fn common_divisor(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

/// As far as a reply of the server goes.
fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
}
