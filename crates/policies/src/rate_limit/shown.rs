//! What clients are told of limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tidegate_config::value;
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

/// A limit in words for operators: `10 in 1s, up to 20 at once`.
pub(super) fn words(limit: &Limit) -> String {
    let rate = limit.rate();
    let counted = match limit.algorithm() {
        Algorithm::TokenBucket { burst } => format!(", up to {burst} at once"),
        Algorithm::SlidingWindow => " of a sliding window".to_owned(),
        Algorithm::SlidingLog => " of a sliding log".to_owned(),
        Algorithm::FixedWindow => " of a fixed window".to_owned(),
    };
    format!("{} in {}{counted}", rate.amount(), value::Duration(rate.period()))
}

/// Tells how a client stands with all limits that it met, if the one of this name is the first of them: it tells for all. What a
/// service said about limits of its own is replaced.
pub(super) fn tell_if_first(name: &Arc<str>, standings: &[Standing], fields: &mut Fields) {
    if !standings.first().is_some_and(|first| Arc::ptr_eq(&first.name, name)) {
        return;
    }
    let (mut policies, mut now) = (String::with_capacity(64), String::with_capacity(64));
    for Standing { name, policy, outcome } in standings {
        let comma = if policies.is_empty() { "" } else { ", " };
        policies.push_str(comma);
        policies.push_str(policy);
        let reset = seconds(outcome.reset_after.duration());
        // Writing to a String cannot fail.
        write!(now, "{comma}\"{name}\";r={};t={reset}", outcome.remaining.whole()).ok();
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
