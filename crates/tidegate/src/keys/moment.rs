//! Moments as people write them: RFC 3339 in UTC, to the second, or a day, which is its beginning.

use std::time::Duration;

use tidegate_proxy::telemetry::timestamp;

/// `seconds` since 1970 as `2027-01-31T12:00:00Z`.
pub(crate) fn moment(seconds: u64) -> String {
    let mut text = timestamp(Duration::from_secs(seconds));
    text.truncate("2027-01-31T12:00:00".len());
    text + "Z"
}

/// Seconds since 1970; `None` if this is no moment.
pub(crate) fn moment_of(text: &str) -> Option<u64> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    let (date, time) = whole.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let [hours, minutes, seconds] = numbers(time, ':')?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    // Years begin in March, so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let found = days.checked_sub(719_469)? * 86_400 + hours * 3600 + minutes * 60 + seconds;
    // The 30th of February would be another day, and 25 o'clock too.
    (moment(found) == whole).then_some(found)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(between).map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok().filter(|numbers: &[u64; 3]| numbers.iter().all(|number| *number < 10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_read_as_it_is_written() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_220_365, "2026-11-21T00:19:25Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!((moment(seconds), moment_of(text)), (text.into(), Some(seconds)));
        }
        for day in 0..60_000 {
            assert_eq!(moment_of(&moment(day * 86_400 + 7)), Some(day * 86_400 + 7));
        }
    }

    #[test]
    fn a_day_is_its_beginning() {
        assert_eq!(moment_of("2000-02-29"), Some(951_782_400));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2001-02-29",
            "2001-04-31",
            "2001-13-01",
            "2001-00-10",
            "2001-01-00",
            "1969-12-31",
            "10000-01-01",
            "2001-1-1",
            "+001-01-01",
            "2001-01-01T24:00:00Z",
            "2001-01-01T00:60:00Z",
            "2001-01-01T00:00:00",
            "2001-01-01T00:00:00+01:00",
            "2001-01-01T00:00:00.5Z",
            "99999999999999999999-01-01",
        ] {
            assert_eq!(moment_of(text), None, "{text}");
        }
    }
}
