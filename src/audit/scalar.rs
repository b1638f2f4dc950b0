//! The basic types of a record's members: integer, text, digest, time, version. Each has one
//! written form, so that equal values are equal bytes.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An integer below 2^53, which every JSON reader represents exactly (RFC 8785, 3.2.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct Number(u64);

impl Number {
    /// The greatest value, 2^53 - 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The value, or [`Number::MAX`] if it is greater.
    pub const fn saturating(value: u64) -> Self {
        if value > Self::MAX.0 { Self::MAX } else { Self(value) }
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self(u64::from(value))
    }
}

impl From<Duration> for Number {
    /// Rounds down to whole microseconds.
    fn from(duration: Duration) -> Self {
        Self::saturating(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = u64::deserialize(d)?;
        if value > Self::MAX.0 {
            return Err(de::Error::custom("an integer below 2^53 was expected"));
        }
        Ok(Self(value))
    }
}

/// A text of at most 256 bytes. A longer one is truncated at a character boundary, so that
/// text from callers and providers cannot make a record too large to write. Clones share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Text(Bytes);

/// The bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not UTF-8")]
pub struct NotUtf8;

impl Text {
    /// The greatest length, in bytes.
    pub const MAX: usize = 256;

    /// The text, truncated to [`Text::MAX`] bytes.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let end = text.floor_char_boundary(Self::MAX);
        let mut bytes = match text {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => text.into(),
        };
        bytes.truncate(end);
        Self(bytes)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Made of UTF-8 alone.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text's UTF-8.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Bytes> for Text {
    type Error = NotUtf8;

    /// The text that these bytes are, truncated as in [`Text::new`]. It shares their memory.
    fn try_from(mut bytes: Bytes) -> Result<Self, NotUtf8> {
        let text = std::str::from_utf8(&bytes).map_err(|_| NotUtf8)?;
        let end = text.floor_char_boundary(Self::MAX);
        bytes.truncate(end);
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self::new)
    }
}

/// 32 bytes (SHA-256 or HMAC-SHA-256), written as 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(serde::ser::Error::custom)?;
        s.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(|_| de::Error::custom("64 hex digits were expected"))?;
        Ok(Self(bytes))
    }
}

/// A UTC time in microseconds, written as `2026-01-02T03:04:05.000006Z`: always six decimals
/// and `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The system clock's time. The clock may step back: only the sequence orders records.
    pub fn now() -> Self {
        Self::from_micros(Utc::now().timestamp_micros())
    }

    /// Microseconds since 1970-01-01T00:00:00Z. A value outside of chrono's range becomes 1970.
    pub fn from_micros(micros: i64) -> Self {
        Self(DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn micros(self) -> i64 {
        self.0.timestamp_micros()
    }

    /// Year, month, day, hour, minute, second and microsecond; `None` if the year has not four
    /// digits.
    pub(super) fn fields(self) -> Option<[u32; 7]> {
        let t = &self.0;
        let year = u32::try_from(t.year()).ok().filter(|year| *year <= 9999)?;
        // chrono counts a leap second as nanoseconds beyond one second.
        let micros = t.nanosecond().min(999_999_999) / 1_000;
        Some([year, t.month(), t.day(), t.hour(), t.minute(), t.second(), micros])
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.0;
        // chrono counts a leap second as nanoseconds beyond one second.
        let micros = t.nanosecond().min(999_999_999) / 1_000;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{micros:06}Z",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(|_| de::Error::custom("an RFC 3339 time was expected"))?;
        Ok(Self(time.with_timezone(&Utc)))
    }
}

/// The record's member `"v":1`. There is no other version yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version1;

impl Serialize for Version1 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for Version1 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match u64::deserialize(d)? {
            1 => Ok(Self),
            _ => Err(de::Error::custom("a record of version 1 was expected")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use bytes::Bytes;

    use super::{NotUtf8, Text};

    #[test]
    fn a_long_text_ends_after_a_whole_character() {
        for (given, bytes) in [("é".repeat(200), 256), (format!("x{}", "é".repeat(200)), 255), ("y".repeat(9), 9)] {
            let shared = Text::try_from(Bytes::from(given.clone())).unwrap();
            assert_eq!(shared.as_str(), &given[..bytes]);
            assert_eq!(Text::new(given), shared);
        }
        assert_eq!(Text::try_from(Bytes::from_static(b"\xff")), Err(NotUtf8));
    }
}
