//! Reads and writes instants as RFC 3339 does.

use std::fmt;
use std::str::FromStr;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcDateTime};

use super::Timestamp;

/// The last second that four digits of a year can write: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;
/// Length of an instant in UTC, in whole seconds.
const TEXT_BYTES: usize = "1970-01-01T00:00:00Z".len();
/// Most digits of a fraction of a second that are accepted.
const MAX_FRACTION_DIGITS: usize = 18;

/// A text that is no instant since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an instant as RFC 3339 writes it, such as 2026-11-21T10:00:00Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// Returns date and time in UTC, in whole seconds; an instant after the year 9999 is that
    /// year's last second.
    pub fn utc(self) -> UtcDateTime {
        let seconds = i64::try_from(self.seconds().min(LAST_SECOND)).unwrap_or_default();
        UtcDateTime::from_unix_timestamp(seconds).unwrap_or(UtcDateTime::MAX)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, whole seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_BYTES];
        self.utc().format_into(&mut text.as_mut_slice(), &Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Reads a `date-time` of RFC 3339 §5.6, with any offset; digits beyond milliseconds are cut
    /// off.
    ///
    /// A leap second is refused: it is no instant of Unix time.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        if !is_strict(text.as_bytes()) {
            return Err(InvalidTimestamp);
        }
        let date_time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        if date_time.year() < 1970 {
            return Err(InvalidTimestamp);
        }
        let millis = date_time.unix_timestamp_nanos().div_euclid(1_000_000);
        u64::try_from(millis).map(Self::from_millis).map_err(|_| InvalidTimestamp)
    }
}

/// Whether a text has none of what `time` accepts and this gateway does not: any character between
/// date and time, a leap second, and a fraction of any length.
fn is_strict(text: &[u8]) -> bool {
    let has_separator = matches!(text.get(10), Some(b'T' | b't'));
    let is_leap_second = text.get(17..19) == Some(b"60".as_slice());
    let fraction = text.get(20..).unwrap_or_default();
    let fraction_digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    has_separator && !is_leap_second && fraction_digits <= MAX_FRACTION_DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_255_200_000, "2026-11-21T10:00:00Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59Z"),
        ] {
            let timestamp = Timestamp::from_millis(millis);

            assert_eq!(timestamp.to_string(), text);
            assert_eq!(text.parse(), Ok(timestamp), "{text}");
        }
    }

    #[test]
    fn what_is_after_the_year_9999_is_written_as_its_last_second() {
        for millis in [253_402_300_800_000, u64::MAX] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), "9999-12-31T23:59:59Z");
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_read_back() {
        for day in 0..146_097 {
            let timestamp = Timestamp::from_seconds(day * 86_400);

            assert_eq!(timestamp.to_string().parse(), Ok(timestamp), "{timestamp}");
        }
    }

    #[test]
    fn offsets_and_fractions_are_read() {
        let ten = Timestamp::from_seconds(1_795_255_200);
        for (text, expected) in [
            ("2026-11-21t10:00:00z", ten),
            ("2026-11-21T18:00:00+08:00", ten),
            ("2026-11-21T07:30:00-02:30", ten),
            ("2026-11-21T10:00:00-00:00", ten),
            ("2026-11-21T10:00:00.0Z", ten),
            ("2026-11-21T10:00:00.0019Z", Timestamp::from_millis(ten.millis() + 1)),
            ("2026-11-21T10:00:00.25Z", Timestamp::from_millis(ten.millis() + 250)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21T10:00:00",
            "2026-11-21 10:00:00Z",
            "2026-11-21T10:00Z",
            "2026-11-21T10:00:00+0800",
            "2026-11-21T10:00:00+08:00Z",
            "2026-11-21T10:00:00ZZ",
            "2026-11-21T10:00:00.Z",
            "2026-11-21T10:00:00.1234567890123456789Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:60:00Z",
            "2026-11-21T10:00:60Z",
            "2016-12-31T23:59:60Z",
            "2026-11-21T10:00:00+24:00",
            "2026-02-29T10:00:00Z",
            "2026-04-31T10:00:00Z",
            "2026-00-10T10:00:00Z",
            "2026-13-10T10:00:00Z",
            "2026-11-00T10:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "1970-01-01T00:59:59.9999+01:00",
            "1969-12-31T23:30:00-01:00",
            "2026-11-21-01T10:00:00Z",
            "2026-11-21T10:00:00:00Z",
            "+026-11-21T10:00:00Z",
            "12026-11-21T10:00:00Z",
            "２０２６-11-21T10:00:00Z",
            "1795255200",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }
}
