//! Numbers that mean something only with their unit.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, text_value};

/// A span of time, such as `250ms`, `30s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

/// A number of bytes, such as `16KB`, `10MB`, `1GB`; 1 KB is 1024 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Bytes per second, such as `240B/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

/// A part of the whole, such as `60%`: 0.0 to 1.0.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// A number of events per second, such as `3/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerSecond(pub u32);

/// A number of requests per time, such as `100/s` or `1/d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRate {
    /// How many; never zero.
    pub requests: u32,
    /// In how long: a second, a minute, an hour or a day.
    pub per: std::time::Duration,
}

/// Nothing that is configured lasts longer: far enough, and it can still be added to a point in time.
const LONGEST: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];

impl FromStr for Duration {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || expected("a duration such as `30s`", text);
        let (number, unit) = split_unit(text);
        if unit.is_empty() && !number.is_empty() {
            return Err(wrong().help(format!("write `{number}s` for seconds, `{number}ms` for milliseconds")));
        }
        let Some(factor) = unit_factor(unit, &TIME_UNITS) else {
            return Err(wrong().help("the units are ms, s, m, h and d"));
        };
        let millis = scale(number, factor).ok_or_else(wrong)?;
        if millis > LONGEST {
            return Err(Invalid::new(format!("`{text}` is longer than ten years"))
                .help("write `off` where there shall be no limit"));
        }
        Ok(Self(std::time::Duration::from_millis(millis)))
    }
}

impl FromStr for Size {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        parse_bytes(text, "a size such as `16KB` or `10MB`").map(Self)
    }
}

impl FromStr for Rate {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expecting = "a rate of bytes such as `240B/s`";
        let Some(bytes) = text.strip_suffix("/s") else {
            return Err(expected(expecting, text).help("say how many bytes per second, with `B/s` or `KB/s`"));
        };
        let bytes = parse_bytes(bytes, expecting)?;
        if bytes == 0 {
            return Err(Invalid::new("a rate of zero is no limit at all").help("write `off`"));
        }
        Ok(Self(bytes))
    }
}

impl FromStr for PerSecond {
    type Err = Invalid;

    /// A bare number is per second too.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expecting = "a number per second such as `3/s`";
        let (number, seconds) = number_per_seconds(text, expecting)?;
        if !number.is_multiple_of(seconds) {
            return Err(expected(expecting, text).help("it must come to a whole number per second"));
        }
        u32::try_from(number / seconds).map(Self).map_err(|_| expected(expecting, text))
    }
}

impl FromStr for RequestRate {
    type Err = Invalid;

    /// A bare number is per second.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let expecting = "a rate such as `100/s`";
        let (number, seconds) = number_per_seconds(text, expecting)?;
        if number == 0 {
            return Err(Invalid::new("a rate of zero lets no request through"));
        }
        let requests = u32::try_from(number).map_err(|_| expected(expecting, text))?;
        Ok(Self { requests, per: std::time::Duration::from_secs(seconds) })
    }
}

impl FromStr for Share {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || expected("a share such as `60%`", text);
        let Some(number) = text.strip_suffix('%') else {
            return Err(wrong().help("write it in percent, with the sign"));
        };
        let (digits, rest) = split_unit(number);
        let percent: f64 = digits.parse().map_err(|_| wrong())?;
        if !rest.is_empty() || !(0.0..=100.0).contains(&percent) {
            return Err(wrong().help("a share is between 0% and 100%"));
        }
        Ok(Self(percent / 100.0))
    }
}

/// `600/m` as 600 and 60.
fn number_per_seconds(text: &str, expecting: &str) -> Result<(u64, u64), Invalid> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let factor = unit_factor(unit, &TIME_UNITS).filter(|millis| *millis >= 1000);
    let seconds = factor.ok_or_else(|| expected(expecting, text).help("the units are /s, /m, /h and /d"))? / 1000;
    let number = number.trim().parse().map_err(|_| expected(expecting, text))?;
    Ok((number, seconds))
}

fn parse_bytes(text: &str, expecting: &str) -> Result<u64, Invalid> {
    let wrong = || expected(expecting, text);
    let (number, unit) = split_unit(text);
    if unit.is_empty() && !number.is_empty() {
        return Err(wrong().help(format!("write `{number}B` for bytes, `{number}KB` for kilobytes")));
    }
    let normal = unit.to_ascii_uppercase().replace("IB", "B");
    let long = if normal.ends_with('B') { normal } else { format!("{normal}B") };
    let factor = unit_factor(&long, &SIZE_UNITS)
        .ok_or_else(|| wrong().help("the units are B, KB, MB, GB and TB; 1 KB is 1024 bytes"))?;
    scale(number, factor).ok_or_else(wrong)
}

/// `found` in words: a number without its unit is what people write most.
fn expected(what: &str, found: &str) -> Invalid {
    let is_number = !found.is_empty() && split_unit(found).1.is_empty();
    let found = if is_number { format!("the number {found}") } else { format!("`{found}`") };
    Invalid::new(format!("expected {what}, found {found}"))
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn unit_factor(unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

/// `number * factor` in whole units of the smallest: `1.5` with 1000 is 1500. Exact, so no floating point.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    let parts = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
    if !fraction.is_multiple_of(u128::from(parts)) {
        return None;
    }
    whole.checked_add(u64::try_from(fraction / u128::from(parts)).ok()?)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_largest(f, self.0.as_millis(), &TIME_UNITS)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in_largest(f, u128::from(self.0), &SIZE_UNITS)
    }
}

impl fmt::Display for RequestRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = TIME_UNITS.iter().find(|(_, millis)| u128::from(*millis) == self.per.as_millis());
        write!(f, "{}/{}", self.requests, unit.map_or("s", |(name, _)| name))
    }
}

impl serde::Serialize for RequestRate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn write_in_largest(f: &mut fmt::Formatter<'_>, amount: u128, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |factor: u64| amount >= u128::from(factor) && amount.is_multiple_of(u128::from(factor));
    let (unit, factor) =
        units.iter().rev().find(|(_, factor)| fits(*factor)).or(units.first()).copied().unwrap_or(("", 1));
    write!(f, "{}{unit}", amount / u128::from(factor))
}

text_value!(Duration, "a duration such as `30s`", {
    "title": "duration",
    "type": "string",
    "description": "A span of time with its unit: ms, s, m, h or d.",
    "pattern": "^[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d)$|\\$\\{",
    "examples": ["250ms", "30s", "5m", "1h"]
});
text_value!(Size, "a size such as `10MB`", {
    "title": "size",
    "type": "string",
    "description": "A number of bytes with its unit: B, KB, MB, GB or TB. 1 KB is 1024 bytes.",
    "pattern": "^[0-9]+(\\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]?$|\\$\\{",
    "examples": ["16KB", "10MB", "1GB"]
});
text_value!(Rate, "a rate of bytes such as `240B/s`", {
    "title": "bytes per second",
    "type": "string",
    "description": "Bytes per second.",
    "pattern": "/s$|\\$\\{",
    "examples": ["240B/s"]
});
text_value!(PerSecond, "a number per second such as `3/s`", {
    "title": "number per second",
    "type": ["string", "integer"],
    "description": "A number per time: /s, /m, /h or /d. A bare number is per second.",
    "examples": ["3/s", "600/m"]
});
text_value!(RequestRate, "a rate such as `100/s`", {
    "title": "rate",
    "type": ["string", "integer"],
    "description": "Requests per time: /s, /m, /h or /d. A bare number is per second.",
    "examples": ["10/s", "600/m", "1000/h", "1/d"]
});
text_value!(Share, "a share such as `60%`", {
    "title": "share",
    "type": "string",
    "description": "A part of the whole, in percent.",
    "pattern": "^[0-9]+(\\.[0-9]+)?%$|\\$\\{",
    "examples": ["60%"]
});

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: FromStr<Err = Invalid> + fmt::Debug>(text: &str) -> String {
        let invalid = text.parse::<T>().expect_err(text);
        format!("{} | {}", invalid.message, invalid.help.unwrap_or_default())
    }

    #[test]
    fn durations_have_units() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("1.5s", 1500), ("0s", 0)]
        {
            assert_eq!(text.parse::<Duration>(), Ok(Duration(std::time::Duration::from_millis(millis))), "{text}");
        }
        assert_eq!(
            refused::<Duration>("30"),
            "expected a duration such as `30s`, found the number 30 | write `30s` for seconds, `30ms` for milliseconds"
        );
        for text in ["", "s", "-1s", "1.s", ".5s", "30 sec", "1e3s", "99999999999999999999s", "99999999h"] {
            refused::<Duration>(text);
        }
    }

    #[test]
    fn sizes_count_in_1024() {
        for (text, bytes) in
            [("16KB", 16 << 10), ("10MB", 10 << 20), ("1GB", 1 << 30), ("1GiB", 1 << 30), ("0B", 0), ("1.5k", 1536)]
        {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
        assert_eq!(
            refused::<Size>("10"),
            "expected a size such as `16KB` or `10MB`, found the number 10 | write `10B` for bytes, `10KB` for kilobytes"
        );
        for text in ["", "KB", "10 bytes", "-1KB", "99999999999TB", "1.0000000001KB"] {
            refused::<Size>(text);
        }
    }

    #[test]
    fn rates_and_shares_say_of_what() {
        assert_eq!("240B/s".parse::<Rate>(), Ok(Rate(240)));
        assert_eq!("60%".parse::<Share>(), Ok(Share(0.6)));
        for text in ["240", "240B", "0B/s", "x/s"] {
            refused::<Rate>(text);
        }
        for text in ["60", "0.6", "101%", "-1%", "%", "1.2.3%", "NaN%"] {
            refused::<Share>(text);
        }
    }

    #[test]
    fn numbers_of_events_are_whole_per_second() {
        for (text, number) in [("3/s", 3), ("3", 3), ("600/m", 10), ("0/s", 0), ("7200/h", 2)] {
            assert_eq!(text.parse::<PerSecond>(), Ok(PerSecond(number)), "{text}");
        }
        for text in ["", "/s", "3/ms", "1/m", "-1/s", "3/", "9999999999/s", "1.5/s"] {
            refused::<PerSecond>(text);
        }
    }

    #[test]
    fn a_rate_keeps_the_time_it_was_written_for() {
        for (text, requests, seconds) in
            [("10/s", 10, 1), ("600/m", 600, 60), ("1000/h", 1000, 3600), ("1/d", 1, 86_400)]
        {
            let rate = RequestRate { requests, per: std::time::Duration::from_secs(seconds) };
            assert_eq!(text.parse(), Ok(rate), "{text}");
            assert_eq!(rate.to_string(), text);
        }
        assert_eq!("7".parse::<RequestRate>().expect("per second").to_string(), "7/s");
        for text in ["", "/s", "0/s", "3/ms", "-1/s", "3/", "9999999999/s", "1.5/s", "3/5m"] {
            refused::<RequestRate>(text);
        }
    }

    #[test]
    fn a_value_prints_in_its_largest_whole_unit() {
        for text in ["250ms", "90s", "1h", "2d"] {
            assert_eq!(text.parse::<Duration>().expect(text).to_string(), text);
        }
        assert_eq!("60s".parse::<Duration>().expect("valid").to_string(), "1m");
        assert_eq!(Size(10 << 20).to_string(), "10MB");
        assert_eq!(Size(0).to_string(), "0B");
    }
}
