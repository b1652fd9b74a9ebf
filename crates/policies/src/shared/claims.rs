//! What a token must claim (RFC 7519, 4.1) to prove anything at this time.

use std::time::Duration;

use serde_json::Value;

use super::json::Object;
use super::jws::Flaw;

/// What is asked of claims.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// One of them must have issued the token; anybody may if there is none.
    pub(crate) issuers: Vec<String>,
    /// The token must be for one of them; for anybody if there is none.
    pub(crate) audiences: Vec<String>,
    /// Claims that must be there.
    pub(crate) required: Vec<String>,
    /// A token without an end is refused.
    pub(crate) needs_end: bool,
    /// How far clocks may differ.
    pub(crate) leeway: Duration,
}

impl Rules {
    /// Whether `claims` are good at `now`, a time since 1970. Gives the end that they name, to which no leeway is added.
    pub(crate) fn check(&self, claims: &Object, now: Duration) -> Result<Option<Duration>, Flaw> {
        let end = date(claims, "exp")?;
        if end.is_none() && self.needs_end {
            return Err(Flaw("the token has no end"));
        }
        if end.is_some_and(|end| now >= end.saturating_add(self.leeway)) {
            return Err(Flaw("the token has ended"));
        }
        let soon = now.saturating_add(self.leeway);
        if date(claims, "nbf")?.is_some_and(|beginning| beginning > soon) {
            return Err(Flaw("the token has not begun"));
        }
        if date(claims, "iat")?.is_some_and(|issued| issued > soon) {
            return Err(Flaw("the token is issued in the future"));
        }
        if !self.issuers.is_empty() && !is_one_of(claims.get("iss"), &self.issuers) {
            return Err(Flaw("the token is of another issuer"));
        }
        if !self.audiences.is_empty() && !is_for(claims.get("aud"), &self.audiences) {
            return Err(Flaw("the token is for another audience"));
        }
        if self.required.iter().any(|name| claims.get(name).is_none_or(Value::is_null)) {
            return Err(Flaw("the token lacks a claim"));
        }
        Ok(end)
    }
}

/// A `NumericDate` (RFC 7519, 2): any JSON number. What is before 1970 counts as then, and what is too far away as the end of time.
fn date(claims: &Object, name: &str) -> Result<Option<Duration>, Flaw> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(Duration::from_secs(seconds)));
    }
    let seconds = value.as_f64().ok_or(Flaw("a date of the token is not a number"))?;
    Ok(Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)))
}

/// Exactly, byte by byte.
fn is_one_of(value: Option<&Value>, known: &[String]) -> bool {
    value.and_then(Value::as_str).is_some_and(|text| known.iter().any(|known| known == text))
}

/// An audience is a text or a list of texts (RFC 7519, 4.1.3).
fn is_for(value: Option<&Value>, known: &[String]) -> bool {
    match value {
        Some(Value::Array(all)) => {
            all.iter().all(Value::is_string) && all.iter().any(|one| is_one_of(Some(one), known))
        }
        value => is_one_of(value, known),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn check(rules: &Rules, claims: Value) -> String {
        let Value::Object(claims) = claims else { panic!("an object") };
        match rules.check(&claims, Duration::from_secs(NOW)) {
            Ok(end) => end.map_or_else(
                || "no end".to_owned(),
                |end| format!("until {:+}", end.as_secs().wrapping_sub(NOW).cast_signed()),
            ),
            Err(flaw) => flaw.to_string(),
        }
    }

    fn rules() -> Rules {
        let leeway = Duration::from_secs(30);
        Rules { issuers: Vec::new(), audiences: Vec::new(), required: Vec::new(), needs_end: true, leeway }
    }

    #[test]
    fn a_token_ends_when_its_end_and_the_leeway_are_reached_and_not_a_moment_later() {
        let strict = Rules { leeway: Duration::ZERO, ..rules() };
        assert_eq!(check(&strict, json!({ "exp": NOW + 1 })), "until +1");
        assert_eq!(check(&strict, json!({ "exp": NOW })), "the token has ended");
        assert_eq!(check(&rules(), json!({ "exp": NOW - 29 })), "until -29");
        assert_eq!(check(&rules(), json!({ "exp": NOW - 30 })), "the token has ended");
    }

    #[test]
    fn a_token_without_an_end_is_refused_unless_that_is_wanted() {
        assert_eq!(check(&rules(), json!({})), "the token has no end");
        assert_eq!(check(&Rules { needs_end: false, ..rules() }, json!({})), "no end");
    }

    #[test]
    fn dates_are_any_number_and_nothing_else() {
        assert_eq!(check(&rules(), json!({ "exp": 1_700_000_001.5 })), "until +1");
        assert_eq!(check(&rules(), json!({ "exp": -1 })), "the token has ended");
        assert_eq!(check(&rules(), json!({ "exp": -1e300 })), "the token has ended");
        assert_eq!(check(&rules(), json!({ "exp": 0 })), "the token has ended");
        for far in [json!(u64::MAX), json!(1_u64 << 63), json!(9.3e18), json!(1e300)] {
            assert!(check(&rules(), json!({ "exp": far })).starts_with("until "), "{far}");
        }
        for odd in [json!("1800000000"), json!(null), json!(true), json!([NOW + 60]), json!({})] {
            for name in ["exp", "nbf", "iat"] {
                let mut claims = json!({ "exp": NOW + 60 });
                claims[name] = odd.clone();
                assert_eq!(check(&rules(), claims), "a date of the token is not a number", "{name} {odd}");
            }
        }
    }

    #[test]
    fn a_token_of_the_future_is_refused_beyond_the_leeway() {
        for (name, refusal) in [("nbf", "the token has not begun"), ("iat", "the token is issued in the future")] {
            assert_eq!(check(&rules(), json!({ "exp": NOW + 60, name: NOW + 30 })), "until +60");
            assert_eq!(check(&rules(), json!({ "exp": NOW + 60, name: NOW + 31 })), refusal);
            assert_eq!(check(&rules(), json!({ "exp": NOW + 60, name: 1e300 })), refusal);
            assert_eq!(check(&rules(), json!({ "exp": NOW + 60, name: -5 })), "until +60");
        }
    }

    #[test]
    fn the_issuer_is_compared_exactly() {
        let rules = Rules { issuers: vec!["https://idp.test/".to_owned()], ..rules() };
        assert_eq!(check(&rules, json!({ "exp": NOW + 60, "iss": "https://idp.test/" })), "until +60");
        for other in
            [json!("https://idp.test"), json!("HTTPS://idp.test/"), json!(["https://idp.test/"]), json!(1), json!("")]
        {
            assert_eq!(check(&rules, json!({ "exp": NOW + 60, "iss": other })), "the token is of another issuer");
        }
        assert_eq!(check(&rules, json!({ "exp": NOW + 60 })), "the token is of another issuer");
    }

    #[test]
    fn one_audience_of_the_token_is_enough_but_all_must_be_texts() {
        let rules = Rules { audiences: vec!["api".to_owned(), "web".to_owned()], ..rules() };
        for good in [json!("api"), json!("web"), json!(["other", "api"])] {
            assert_eq!(check(&rules, json!({ "exp": NOW + 60, "aud": good })), "until +60");
        }
        for bad in [
            json!("API"),
            json!([]),
            json!(["other"]),
            json!(["api", 1]),
            json!({ "api": 1 }),
            json!("api web"),
            json!(null),
        ] {
            assert_eq!(
                check(&rules, json!({ "exp": NOW + 60, "aud": bad })),
                "the token is for another audience",
                "{bad}"
            );
        }
    }

    #[test]
    fn claims_that_are_required_must_be_there_and_not_null() {
        let rules = Rules { required: vec!["sub".to_owned()], ..rules() };
        assert_eq!(check(&rules, json!({ "exp": NOW + 60, "sub": "a" })), "until +60");
        assert_eq!(check(&rules, json!({ "exp": NOW + 60, "sub": null })), "the token lacks a claim");
        assert_eq!(check(&rules, json!({ "exp": NOW + 60 })), "the token lacks a claim");
    }
}
