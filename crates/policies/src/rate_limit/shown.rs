//! What clients are told of limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::limiter::{Algorithm, Limit, Standing};
use tidegate_http1::Fields;

/// A limit as an item of `RateLimit-Policy`: what may come at once, and in how many seconds it is there again.
pub(super) fn policy(name: &str, limit: &Limit) -> Arc<str> {
    let rate = limit.rate();
    let (quota, window) = match limit.algorithm() {
        Algorithm::TokenBucket { burst } => {
            let nanos = rate.period().as_nanos().saturating_mul(burst.into()) / u128::from(rate.amount().max(1));
            (burst, Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
        }
        Algorithm::SlidingWindow | Algorithm::SlidingLog | Algorithm::FixedWindow => (rate.amount(), rate.period()),
    };
    format!("\"{name}\";q={quota};w={}", seconds(window).max(1)).into()
}

/// Tells how a client stands with all limits that it met. What a service said about limits of its own is replaced.
pub(super) fn tell(standings: &[Standing], fields: &mut Fields) {
    let (mut policies, mut now) = (String::with_capacity(64), String::with_capacity(64));
    for Standing { name, policy, outcome } in standings {
        let comma = if policies.is_empty() { "" } else { ", " };
        policies.push_str(comma);
        policies.push_str(policy);
        let reset = seconds(outcome.reset_after);
        // Writing to a String cannot fail.
        write!(now, "{comma}\"{name}\";r={};t={reset}", outcome.remaining).ok();
    }
    // Cannot fail: names are letters, digits, `-` and `_`.
    fields.set("ratelimit-policy", policies.as_bytes()).ok();
    fields.set("ratelimit", now.as_bytes()).ok();
}

/// Whole seconds, rounded up: whoever waits for them has waited long enough.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use tidegate_core::limiter::Rate;

    use super::*;

    #[test]
    fn a_policy_says_what_may_come_at_once_and_when_it_is_there_again() {
        let ten = Rate::new(10, Duration::from_secs(1)).unwrap();
        let bucket = Limit::new(Algorithm::TokenBucket { burst: 25 }, ten).unwrap();
        assert_eq!(&*policy("a", &bucket), "\"a\";q=25;w=3");
        let quota = Limit::new(Algorithm::FixedWindow, Rate::new(1000, Duration::from_hours(24)).unwrap()).unwrap();
        assert_eq!(&*policy("b", &quota), "\"b\";q=1000;w=86400");
    }
}
