//! Small types that several models and requests have.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::{Map, Value};
use zeroize::Zeroize;

/// What the headers of a response say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// The gateway's id of the request, which is in its audit record, too.
    pub request_id: Option<String>,
    /// The place of the request's record in the audit log; of a batch each item has its own.
    pub audit_index: Option<String>,
}

/// The members of an object that this release of the client does not know. Their values do not print: a later gateway may
/// add a secret.
#[derive(Clone, Default, PartialEq, serde::Deserialize)]
#[serde(transparent)]
pub struct Extra(BTreeMap<String, Value>);

impl Extra {
    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All members, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Value)> for Extra {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        Self(members.into_iter().collect())
    }
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What becomes of a setting that can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It gets this value.
    To(String),
    /// It is removed.
    Remove,
}

impl From<String> for Change {
    fn from(value: String) -> Self {
        Self::To(value)
    }
}

impl From<&str> for Change {
    fn from(value: &str) -> Self {
        Self::To(value.to_owned())
    }
}

/// A JSON object with secrets, such as `json!({"token": "hvs..."})`. It does not print, and its texts are overwritten when it
/// is dropped.
#[derive(Clone, Default, PartialEq)]
pub struct SecretJson(Value);

impl SecretJson {
    pub(crate) fn expose(&self) -> &Value {
        &self.0
    }
}

impl From<Map<String, Value>> for SecretJson {
    fn from(members: Map<String, Value>) -> Self {
        Self(Value::Object(members))
    }
}

impl From<Value> for SecretJson {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        overwrite(&mut self.0);
    }
}

fn overwrite(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(overwrite),
        Value::Object(members) => members.values_mut().for_each(overwrite),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl fmt::Debug for SecretJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretJson(...)")
    }
}

/// Durations of responses, such as `90d`.
pub(crate) mod duration {
    use std::time::Duration;

    use super::{Deserialize, Deserializer, Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("not a duration"))
    }

    /// For members that may be absent or null.
    pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let parsed = text.map(|text| parse(&text).ok_or_else(|| D::Error::custom("not a duration")));
        parsed.transpose()
    }

    fn parse(text: &str) -> Option<Duration> {
        let unit = text.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = text[..unit].parse().ok()?;
        let seconds = match &text[unit..] {
            "ms" => return Some(Duration::from_millis(count)),
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        // As long as a duration can be is for ever.
        Some(Duration::from_secs(count.saturating_mul(seconds)))
    }

    #[cfg(test)]
    #[test]
    fn durations_have_a_unit() {
        let cases = [
            ("250ms", 250),
            ("1s", 1_000),
            ("2m", 120_000),
            ("3h", 10_800_000),
            ("90d", 7_776_000_000),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(expected)));
        }
        assert_eq!(parse("18446744073709551615d"), Some(Duration::from_secs(u64::MAX)));
        for wrong in ["", "s", "1", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

/// Bytes of responses that are no secret, in standard base64.
pub(crate) mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::{Deserialize, Deserializer, Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(|_| D::Error::custom("not standard base64"))
    }
}
