//! Small types that the bodies of several resources share. Decoding them checks the API's rules, so
//! handlers need no further checks of form.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::Secret;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use zeroize::Zeroizing;

use crate::broker::Failure;
use crate::duration;
use crate::envelope::{Context, ContextError, MAX_CONTEXT, MAX_CONTEXT_NAME, MAX_CONTEXT_PAIRS, MAX_CONTEXT_VALUE};
use crate::names::{MAX_NAME, is_name};
use crate::store::model::{CacheSettings, Labels, Timeouts};

/// A name: `[a-z0-9][a-z0-9._-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9._-]{0,62}$", max_length = 63, example = "orders")]
/// 1 to 63 characters: lower-case letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
pub struct Name(String);

impl Name {
    /// The text as a name; `None` if it is not a valid one.
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Converts to the text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("a name"))
    }
}

/// Secret bytes as standard base64 with padding. Never printed, zeroed when dropped.
pub struct Base64Secret(pub Secret);

impl<'de> Deserialize<'de> for Base64Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Base64Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("standard base64 with padding")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Base64Secret, E> {
                STANDARD
                    .decode(text)
                    .map(|bytes| Base64Secret(Secret::new(bytes)))
                    .map_err(|_| E::custom("base64"))
            }
        }
        d.deserialize_str(Text)
    }
}

impl Serialize for Base64Secret {
    /// Writes straight into the response, a piece at a time, so that no text of the whole secret
    /// exists.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&Base64(self.0.expose()))
    }
}

/// The bytes that [`Base64`] encodes at once: a multiple of 3, so that no piece but the last is padded.
const PIECE: usize = 48;

/// Bytes, written as standard base64 with padding.
struct Base64<'b>(&'b [u8]);

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Zeroizing::new([0; PIECE / 3 * 4]);
        for piece in self.0.chunks(PIECE) {
            let len = STANDARD.encode_slice(piece, text.as_mut_slice()).map_err(|_| fmt::Error)?;
            f.write_str(std::str::from_utf8(&text[..len]).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

/// The encryption context: at most 16 pairs of text and 2 KiB; names of 1 to 128 bytes that
/// do not begin with `claviger:`, values of 1 to 1024 bytes.
#[derive(Default)]
pub struct ContextPairs(Vec<(String, String)>);

impl PartialSchema for ContextPairs {
    fn schema() -> RefOr<Schema> {
        let text = "The encryption context: at most 16 pairs of text and 2 KiB; names of 1 to 128 bytes that\ndo not begin with \
                    `claviger:`, values of 1 to 1024 bytes.";
        let limits = json!({
            "name_bytes": MAX_CONTEXT_NAME,
            "value_bytes": MAX_CONTEXT_VALUE,
            "total_bytes": MAX_CONTEXT,
            "reserved_prefix": "claviger:",
        });
        let pairs = of_strings(text, limits).max_properties(Some(MAX_CONTEXT_PAIRS));
        pairs.examples([json!({"table": "orders"})]).into()
    }
}

impl ToSchema for ContextPairs {}

/// An object of strings. A schema counts characters, so limits in bytes are in `x-limits`.
fn of_strings(text: &str, limits: Value) -> ObjectBuilder {
    let strings = Object::builder().schema_type(Type::String);
    let limits = Extensions::builder().add("x-limits", limits).build();
    Object::builder()
        .schema_type(Type::Object)
        .description(Some(text))
        .additional_properties(Some(strings))
        .extensions(Some(limits))
}

impl ContextPairs {
    /// Checks the pairs against the limits.
    ///
    /// # Errors
    /// `invalid_request` at `/context`. The error contains no name or value of the context.
    pub fn check(self) -> Result<Context, Failure> {
        Context::from_pairs(self.0).map_err(|error| {
            let expected = match error {
                ContextError::TooManyPairs => "at most 16 pairs",
                ContextError::TooLong => "at most 2048 bytes in all names and values",
                ContextError::NameLength(_) => "names of 1 to 128 bytes",
                ContextError::ValueLength(_) => "values of 1 to 1024 bytes",
                ContextError::NameReserved(_) => "no name that begins with claviger:",
                ContextError::NameTwice(_) => "each name once",
            };
            Failure::invalid("/context", expected)
        })
    }
}

impl<'de> Deserialize<'de> for ContextPairs {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        pairs(d).map(Self)
    }
}

/// Decodes an object of strings as pairs, duplicate names included, so that the caller can refuse
/// them. Fails above 64 pairs, the largest limit of any caller.
fn pairs<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                if pairs.len() > MAX_LABELS {
                    return Err(A::Error::custom("fewer pairs"));
                }
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    d.deserialize_map(Pairs)
}

/// Labels: at most 64. Their names follow the rule for names; their values have at most 256 bytes.
#[derive(Debug, Clone, Default)]
pub struct LabelMap(pub Labels);

const MAX_LABELS: usize = 64;
const MAX_LABEL_VALUE: usize = 256;

impl PartialSchema for LabelMap {
    fn schema() -> RefOr<Schema> {
        let text = "Labels: at most 64. Their names follow the rule for names; their values have at most 256 bytes.";
        // Responses contain labels, too, and those of a later release may be more: a client must not check them.
        let limits = json!({"pairs": MAX_LABELS, "name_bytes": MAX_NAME, "value_bytes": MAX_LABEL_VALUE});
        of_strings(text, limits).examples([json!({"env": "prod"})]).into()
    }
}

impl ToSchema for LabelMap {}

impl<'de> Deserialize<'de> for LabelMap {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut labels = Labels::new();
        for (name, value) in pairs(d)? {
            if Name::parse(&name).is_none()
                || value.len() > MAX_LABEL_VALUE
                || labels.insert(name, value).is_some()
                || labels.len() > MAX_LABELS
            {
                return Err(D::Error::custom("labels"));
            }
        }
        Ok(Self(labels))
    }
}

/// A duration: a whole number and a unit (ms, s, m, h or d), such as `60s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9]+(ms|s|m|h|d)$", max_length = 20, example = "60s")]
pub struct DurationText(pub Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        duration::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&duration::text(self.0))
    }
}

/// A time, RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-23T15:04:05.000000Z")]
pub struct Timestamp(pub i64);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&crate::audit::Timestamp::from_micros(self.0))
    }
}

/// Rules for the key's entries in the data-key cache. The installation's defaults apply to rules that are
/// left out.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheRules {
    /// Whether unwrapped data keys are cached. For a key in external custody, `true` takes a credential of the tenant,
    /// and a reason in `Claviger-Justification`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Lifetime of an entry: whole seconds, 1 s to 300 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<DurationText>,
    /// Time after the last use at which an entry is dropped: whole seconds, 1 s to 300 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_idle: Option<DurationText>,
    /// Maximum number of uses of an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub max_uses: Option<u32>,
}

impl CacheRules {
    /// Checks the rules against their bounds.
    ///
    /// # Errors
    /// `invalid_request` at the member that is out of bounds.
    pub fn check(self) -> Result<CacheSettings, Failure> {
        let seconds = |member: &str, given: Option<DurationText>| match given {
            None => Ok(None),
            Some(DurationText(time)) => {
                let whole = u32::try_from(time.as_secs())
                    .ok()
                    .filter(|s| (1..=300).contains(s) && time.subsec_nanos() == 0);
                whole
                    .map(Some)
                    .ok_or_else(|| Failure::invalid(format!("/cache/{member}"), "whole seconds from 1s to 300s"))
            }
        };
        if self.max_uses == Some(0) {
            return Err(Failure::invalid("/cache/max_uses", "at least 1"));
        }
        Ok(CacheSettings {
            enabled: self.enabled,
            max_age_s: seconds("max_age", self.max_age)?,
            max_idle_s: seconds("max_idle", self.max_idle)?,
            max_uses: self.max_uses,
        })
    }
}

impl From<CacheSettings> for CacheRules {
    fn from(settings: CacheSettings) -> Self {
        let text = |s: u32| DurationText(Duration::from_secs(u64::from(s)));
        Self {
            enabled: settings.enabled,
            max_age: settings.max_age_s.map(text),
            max_idle: settings.max_idle_s.map(text),
            max_uses: settings.max_uses,
        }
    }
}

/// Timeouts of a connection. The installation's defaults apply to timeouts that are left out.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutRules {
    /// Timeout of one attempt of a call to the provider: 100 ms to 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<DurationText>,
}

impl TimeoutRules {
    /// Checks the timeouts against their bounds.
    ///
    /// # Errors
    /// `invalid_request` at the member that is out of bounds.
    pub fn check(self) -> Result<Timeouts, Failure> {
        let attempt_ms = match self.attempt {
            None => None,
            Some(DurationText(time)) => {
                let millis = u32::try_from(time.as_millis())
                    .ok()
                    .filter(|millis| (100..=10_000).contains(millis));
                Some(millis.ok_or_else(|| Failure::invalid("/timeouts/attempt", "100ms to 10s"))?)
            }
        };
        Ok(Timeouts { attempt_ms })
    }
}

impl From<Timeouts> for TimeoutRules {
    fn from(timeouts: Timeouts) -> Self {
        let text = |millis: u32| DurationText(Duration::from_millis(millis.into()));
        Self {
            attempt: timeouts.attempt_ms.map(text),
        }
    }
}

/// The body of a request without parameters: no bytes, or an empty object.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}
