//! Reads instants in the format of RFC 3339.

use std::str::FromStr;

use super::{Timestamp, civil_date};

const SECONDS_PER_DAY: u64 = 86_400;

/// A text that is not an RFC 3339 instant since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an instant as RFC 3339 writes it, such as 2026-11-21T10:00:00Z")]
pub struct InvalidTimestamp;

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Reads a `date-time` of RFC 3339 §5.6, with any offset; digits beyond milliseconds are cut off.
    ///
    /// A leap second is refused, since Unix time does not have it.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let (date, time) = text.split_once(['T', 't']).ok_or(InvalidTimestamp)?;
        let at = time.find(['Z', 'z', '+', '-']).ok_or(InvalidTimestamp)?;
        let (time, offset) = time.split_at_checked(at).ok_or(InvalidTimestamp)?;
        let local = days(date)? * SECONDS_PER_DAY * 1000 + time_of_day(time)?;
        let (is_east, offset) = offset_millis(offset)?;
        let millis = if is_east { local.checked_sub(offset) } else { local.checked_add(offset) };
        millis.map(Self::from_millis).ok_or(InvalidTimestamp)
    }
}

fn days(date: &str) -> Result<u64, InvalidTimestamp> {
    let mut parts = date.split('-');
    let mut next = |width| number(parts.next(), width);
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    if parts.next().is_some() || year < 1970 || !(1..=12).contains(&month) {
        return Err(InvalidTimestamp);
    }
    let days = day.checked_sub(1).and_then(|day| days_until(year, month).checked_add(day));
    // A day that the month does not have falls into another month when it is converted back.
    days.filter(|days| civil_date(*days) == (year, month, day)).ok_or(InvalidTimestamp)
}

/// Milliseconds since midnight.
fn time_of_day(time: &str) -> Result<u64, InvalidTimestamp> {
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, rest)| (time, Some(rest)));
    let mut parts = time.split(':');
    let mut next = || number(parts.next(), 2);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return Err(InvalidTimestamp);
    }
    Ok((hour * 3600 + minute * 60 + second) * 1000 + fraction.map_or(Ok(0), millis)?)
}

fn millis(fraction: &str) -> Result<u64, InvalidTimestamp> {
    number(Some(fraction), fraction.len())?;
    let padded = fraction.chars().chain("000".chars()).take(3).collect::<String>();
    number(Some(&padded), 3)
}

/// Whether the offset is east of UTC, and how many milliseconds it is.
fn offset_millis(offset: &str) -> Result<(bool, u64), InvalidTimestamp> {
    if offset.eq_ignore_ascii_case("z") {
        return Ok((true, 0));
    }
    let (is_east, rest) = match (offset.strip_prefix('+'), offset.strip_prefix('-')) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err(InvalidTimestamp),
    };
    let (hour, minute) = rest.split_once(':').ok_or(InvalidTimestamp)?;
    let (hour, minute) = (number(Some(hour), 2)?, number(Some(minute), 2)?);
    if hour > 23 || minute > 59 {
        return Err(InvalidTimestamp);
    }
    Ok((is_east, (hour * 60 + minute) * 60_000))
}

/// Reads exactly `width` digits and nothing else.
fn number(text: Option<&str>, width: usize) -> Result<u64, InvalidTimestamp> {
    let is_digits = |text: &&str| text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    // At most 18 digits fit for sure.
    let text = text.filter(is_digits).filter(|text| text.len() <= 18).ok_or(InvalidTimestamp)?;
    text.parse().map_err(|_| InvalidTimestamp)
}

/// Days from 1970-01-01 until the first of a month: the inverse of [`civil_date`].
const fn days_until(year: u64, month: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
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
    fn every_day_of_four_centuries_is_read_back() {
        for day in 0..146_097 {
            let timestamp = Timestamp::from_seconds(day * SECONDS_PER_DAY);

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
            "2026-11-21T10:00:00+24:00",
            "2026-02-29T10:00:00Z",
            "2026-04-31T10:00:00Z",
            "2026-00-10T10:00:00Z",
            "2026-13-10T10:00:00Z",
            "2026-11-00T10:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
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
