//! When a key ends, as people say it: after some time, at a moment, or never.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use tidegate_config::value;

use super::moment_of;

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Ends {
    /// After this time.
    In(Duration),
    /// Seconds after 1970 began.
    At(u64),
    #[default]
    Never,
}

impl Ends {
    /// The moment in seconds since 1970, said at `now`; `None` is never.
    pub(crate) fn at(self, now: Duration) -> Option<u64> {
        match self {
            Self::In(time) => Some((now + time).as_secs()),
            Self::At(moment) => Some(moment),
            Self::Never => None,
        }
    }
}

impl FromStr for Ends {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let time = || text.parse::<value::Duration>().ok().map(|time| Self::In(time.0));
        let ends = moment_of(text).map(Self::At).or_else(time);
        ends.ok_or_else(|| {
            format!("`{text}` is neither a time such as `90d`, nor a date such as `2027-01-31`, nor `never`")
        })
    }
}

impl TryFrom<String> for Ends {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_from_now_or_a_moment_or_none() {
        let at = |text: &str| text.parse::<Ends>().expect(text).at(Duration::from_secs(1_000));
        assert_eq!(at("90s"), Some(1_090));
        assert_eq!(at("1970-01-02"), Some(86_400));
        assert_eq!(at("never"), None);
        for wrong in ["", "90", "soon", "1970-13-01", "99999d"] {
            assert!(wrong.parse::<Ends>().is_err(), "{wrong}");
        }
    }
}
