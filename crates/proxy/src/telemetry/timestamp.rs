//! Wall time as text for logs: RFC 3339 in UTC. Made from microseconds since the Unix epoch; it reads no clock.

use std::time::Duration;

use tidegate_http1::decimal;

/// `wall` (since the Unix epoch) as `2026-11-21T02:19:25.123456Z`.
pub fn timestamp(wall: Duration) -> String {
    String::from_utf8_lossy(Stamp::default().text(micros(wall))).into_owned()
}

pub(super) fn micros(wall: Duration) -> u64 {
    u64::try_from(wall.as_micros()).unwrap_or(u64::MAX)
}

/// RFC 3339 with microseconds, in UTC. The part down to the second is made once a second.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    second: u64,
    text: Vec<u8>,
}

impl Stamp {
    /// `micros` since the Unix epoch.
    pub(crate) fn text(&mut self, micros: u64) -> &[u8] {
        let (second, rest) = (micros / 1_000_000, micros % 1_000_000);
        if second != self.second || self.text.is_empty() {
            self.second = second;
            let (year, month, day) = date(second / 86_400);
            let (hours, minutes, seconds) = (second / 3600 % 24, second / 60 % 60, second % 60);
            self.text = format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.000000Z").into();
        }
        let digits = decimal(1_000_000 + rest);
        let end = self.text.len() - 1;
        if let (Some(place), Some(digits)) = (self.text.get_mut(end - 6..end), digits.as_str().as_bytes().get(1..)) {
            place.copy_from_slice(digits);
        }
        &self.text
    }
}

/// Year, month and day of the day that is `days` after 1970-01-01. The method counts years from March, so that leap days come last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_with_microseconds() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_709_251_199_999_999, "2024-02-29T23:59:59.999999Z"),
            (1_735_689_600_500_000, "2025-01-01T00:00:00.500000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn a_stamp_follows_the_clock_in_both_directions() {
        let mut stamp = Stamp::default();
        for (micros, text) in [
            (60_000_001, "1970-01-01T00:01:00.000001Z"),
            (60_999_999, "1970-01-01T00:01:00.999999Z"),
            (59_000_000, "1970-01-01T00:00:59.000000Z"),
        ] {
            assert_eq!(String::from_utf8_lossy(stamp.text(micros)), text);
        }
    }
}
