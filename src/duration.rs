//! Durations as text, such as `"60s"`: the same format in the API, its headers, the configuration
//! and the command line.

use std::time::Duration;

/// Units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The text is not a duration. Contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a whole number and one of ms, s, m, h, d, such as \"60s\"")]
pub struct DurationError;

/// Parses `"800ms"`, `"60s"`, `"15m"`, `"2h"` or `"90d"`: decimal digits and one unit, without
/// sign, space, fraction or second part.
///
/// # Errors
/// If the text has another format, or exceeds 64 bits of milliseconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    // ASCII digits end at a character boundary.
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(DurationError)?;
    let number: u64 = number.parse().map_err(|_| DurationError)?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or(DurationError)
}

/// Formats a duration in the largest unit that divides it; [`parse`] reads it back. Drops fractions
/// of a millisecond.
pub fn text(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, factor) = UNITS
        .into_iter()
        .find(|(_, factor)| millis > 0 && millis.is_multiple_of(u128::from(*factor)))
        .unwrap_or(("s", 1_000));
    format!("{}{unit}", millis / u128::from(factor))
}

/// Rounds an estimate down to whole units of which it has two or more, for [`text`].
pub fn rough(duration: Duration) -> Duration {
    let millis = duration.as_millis();
    let (_, factor) = UNITS
        .into_iter()
        .find(|(name, factor)| *name == "s" || millis >= 2 * u128::from(*factor))
        .unwrap_or(UNITS[3]);
    let factor = u128::from(factor);
    Duration::from_millis(u64::try_from(millis / factor * factor).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{DurationError, parse, rough, text};
    use std::time::Duration;

    #[test]
    fn every_unit_is_read() {
        for (given, millis) in [
            ("800ms", 800),
            ("60s", 60_000),
            ("15m", 900_000),
            ("2h", 7_200_000),
            ("90d", 7_776_000_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(given), Ok(Duration::from_millis(millis)), "{given}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for given in [
            "",
            "s",
            "60",
            "60 s",
            " 60s",
            "-1s",
            "+1s",
            "1.5s",
            "1h30m",
            "60S",
            "60sec",
            "٣s",
            "18446744073709551615d",
            "1e3s",
        ] {
            assert_eq!(parse(given), Err(DurationError), "{given}");
        }
    }

    #[test]
    fn writing_takes_the_largest_unit() {
        for given in ["800ms", "61s", "15m", "2h", "90d", "0s"] {
            assert_eq!(text(parse(given).unwrap()), given);
        }
        assert_eq!(text(Duration::from_secs(60)), "1m");
    }

    #[test]
    fn an_estimate_has_few_digits() {
        for (given, shown) in [
            ("21541534m", "14959d"),
            ("26s", "26s"),
            ("119s", "119s"),
            ("121s", "2m"),
            ("1500ms", "1s"),
            ("47h", "47h"),
            ("0s", "0s"),
        ] {
            assert_eq!(text(rough(parse(given).unwrap())), shown, "{given}");
        }
    }
}
