//! The JSON mapping of protocol buffers: enums as names or numbers, bytes as base64, 64-bit
//! integers as strings, field names in camel case or snake case.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Map, Value};

use crate::refusal::Refusal;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The form of enum values in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnumStyle {
    Names,
    Numbers,
}

macro_rules! enumeration {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $number:literal $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($variant),* }

        impl $name {
            pub(crate) fn to_json(self, style: EnumStyle) -> Value {
                match (style, self) {
                    $((EnumStyle::Names, Self::$variant) => $text.into(),
                      (EnumStyle::Numbers, Self::$variant) => $number.into(),)*
                }
            }

            fn parse(value: &Value) -> Option<Self> {
                match (value.as_str(), value.as_i64()) {
                    $((Some($text), _) | (_, Some($number)) => Some(Self::$variant),)*
                    (Some(_) | None, _) => None,
                }
            }
        }

        impl Enumeration for $name {
            fn of(value: &Value) -> Option<Self> {
                Self::parse(value)
            }
        }
    };
}

/// An enum that [`Body::choice`] can parse.
pub(crate) trait Enumeration: Sized {
    fn of(value: &Value) -> Option<Self>;
}

enumeration! {
    /// The protection level of a version.
    Level { Software = 1 "SOFTWARE", Hsm = 2 "HSM", External = 3 "EXTERNAL", ExternalVpc = 4 "EXTERNAL_VPC" }
}

enumeration! {
    /// The purpose of a key.
    Purpose {
        EncryptDecrypt = 1 "ENCRYPT_DECRYPT", AsymmetricSign = 5 "ASYMMETRIC_SIGN", AsymmetricDecrypt = 6 "ASYMMETRIC_DECRYPT",
        Mac = 9 "MAC",
    }
}

enumeration! {
    /// The algorithm of a version.
    Algorithm {
        Symmetric = 1 "GOOGLE_SYMMETRIC_ENCRYPTION",
        Oaep2048Sha256 = 8 "RSA_DECRYPT_OAEP_2048_SHA256",
        Oaep3072Sha256 = 9 "RSA_DECRYPT_OAEP_3072_SHA256",
        Oaep4096Sha256 = 10 "RSA_DECRYPT_OAEP_4096_SHA256",
        EcSignP256 = 12 "EC_SIGN_P256_SHA256",
        Oaep4096Sha512 = 17 "RSA_DECRYPT_OAEP_4096_SHA512",
        ExternalSymmetric = 18 "EXTERNAL_SYMMETRIC_ENCRYPTION",
        HmacSha256 = 32 "HMAC_SHA256",
        Oaep2048Sha1 = 37 "RSA_DECRYPT_OAEP_2048_SHA1",
        Oaep3072Sha1 = 38 "RSA_DECRYPT_OAEP_3072_SHA1",
        Oaep4096Sha1 = 39 "RSA_DECRYPT_OAEP_4096_SHA1",
    }
}

enumeration! {
    /// The state of a version.
    State {
        Enabled = 1 "ENABLED", Disabled = 2 "DISABLED", Destroyed = 3 "DESTROYED", DestroyScheduled = 4 "DESTROY_SCHEDULED",
        PendingGeneration = 5 "PENDING_GENERATION", PendingImport = 6 "PENDING_IMPORT",
    }
}

enumeration! {
    /// The algorithm that wraps imported material.
    ImportMethod {
        Oaep3072Sha256Aes256 = 3 "RSA_OAEP_3072_SHA256_AES_256", Oaep4096Sha256Aes256 = 4 "RSA_OAEP_4096_SHA256_AES_256",
        Oaep3072Sha256 = 5 "RSA_OAEP_3072_SHA256", Oaep4096Sha256 = 6 "RSA_OAEP_4096_SHA256",
    }
}

enumeration! {
    /// The state of an import job.
    JobState { Active = 2 "ACTIVE", Expired = 3 "EXPIRED" }
}

/// Encodes bytes for a response.
pub(crate) fn base64(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

/// The CRC-32C of bytes in a response, where a 64-bit integer is a string.
pub(crate) fn crc32c(bytes: &[u8]) -> Value {
    crc32c::crc32c(bytes).to_string().into()
}

/// A time in a response (RFC 3339), from Unix seconds.
pub(crate) fn time(seconds: i64) -> Value {
    let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Secs, true).into()
}

/// The fields of a request's body, named in lower camel case.
pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// Parses a body; an empty one is an empty object.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for malformed JSON or a field that is not in `allowed`.
    pub(crate) fn parse(bytes: &[u8], allowed: &[&str]) -> Result<Self, Refusal> {
        if bytes.is_empty() {
            return Ok(Self(Map::new()));
        }
        let value = serde_json::from_slice(bytes).map_err(|_| Refusal::invalid("Invalid JSON payload received."))?;
        Self::from_value(value, allowed)
    }

    fn from_value(value: Value, allowed: &[&str]) -> Result<Self, Refusal> {
        let Value::Object(given) = value else {
            return Err(Refusal::invalid("Invalid JSON payload received. Root element must be a message."));
        };
        let mut fields = Map::new();
        for (name, value) in given {
            let camel = camel_case(&name);
            if !allowed.contains(&camel.as_str()) {
                return Err(Refusal::invalid(format!(
                    "Invalid JSON payload received. Unknown name \"{name}\": Cannot find field."
                )));
            }
            if !value.is_null() {
                fields.insert(camel, value);
            }
        }
        Ok(Self(fields))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.0
            .get(name)
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(name)))
            .transpose()
    }

    pub(crate) fn switch(&self, name: &str) -> Result<bool, Refusal> {
        self.0
            .get(name)
            .map_or(Ok(false), |value| value.as_bool().ok_or_else(|| wrong(name)))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let read = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
        self.0.get(name).map(|value| read(value).ok_or_else(|| wrong(name))).transpose()
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<Vec<u8>, Refusal> {
        let Some(text) = self.text(name)? else {
            return Ok(Vec::new());
        };
        let decoded = STANDARD.decode(&text).or_else(|_| URL_SAFE.decode(&text));
        decoded.map_err(|_| wrong(name))
    }

    /// Bytes, and whether their checksum was sent.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a checksum that does not match.
    pub(crate) fn checked(&self, name: &str) -> Result<(Vec<u8>, bool), Refusal> {
        let bytes = self.bytes(name)?;
        let checksum = format!("{name}Crc32c");
        match self.number(&checksum)? {
            Some(given) if given == i64::from(crc32c::crc32c(&bytes)) => Ok((bytes, true)),
            Some(_) => Err(Refusal::checksum(&snake_case(&checksum), &snake_case(name))),
            None => Ok((bytes, false)),
        }
    }

    pub(crate) fn choice<T: Enumeration>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let unspecified = |value: &&Value| value.as_i64() != Some(0) && !value.as_str().is_some_and(|text| text.ends_with("_UNSPECIFIED"));
        let given = self.0.get(name).filter(unspecified);
        given.map(|value| T::of(value).ok_or_else(|| wrong(name))).transpose()
    }

    pub(crate) fn object(&self, name: &str, allowed: &[&str]) -> Result<Self, Refusal> {
        match self.0.get(name) {
            Some(value) => Self::from_value(value.clone(), allowed),
            None => Ok(Self(Map::new())),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Refusal> {
        let Some(value) = self.0.get(name) else {
            return Ok(Vec::new());
        };
        let all = value.as_array().ok_or_else(|| wrong(name))?;
        all.iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong(name)))
            .collect()
    }

    /// A map of strings, such as labels.
    pub(crate) fn map(&self, name: &str) -> Result<std::collections::BTreeMap<String, String>, Refusal> {
        let Some(value) = self.0.get(name) else {
            return Ok(std::collections::BTreeMap::new());
        };
        let object = value.as_object().ok_or_else(|| wrong(name))?;
        let entry = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        object.iter().map(|field| entry(field).ok_or_else(|| wrong(name))).collect()
    }
}

fn wrong(name: &str) -> Refusal {
    Refusal::invalid(format!("Invalid value at '{}'.", snake_case(name)))
}

pub(crate) fn camel_case(name: &str) -> String {
    let mut out = String::new();
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.extend(c.to_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use super::{Body, EnumStyle, Level, camel_case, crc32c};

    #[test]
    fn enums_are_names_or_numbers() {
        for (given, expected) in [(r#"{"x": 2}"#, Level::Hsm), (r#"{"x": "EXTERNAL_VPC"}"#, Level::ExternalVpc)] {
            let body = Body::parse(given.as_bytes(), &["x"]).unwrap();
            assert_eq!(body.choice::<Level>("x").unwrap(), Some(expected));
        }
        let none = Body::parse(br#"{"x": "PROTECTION_LEVEL_UNSPECIFIED"}"#, &["x"]).unwrap();
        assert_eq!(none.choice::<Level>("x").unwrap(), None);
        assert!(Body::parse(br#"{"x": 77}"#, &["x"]).unwrap().choice::<Level>("x").is_err());
        assert_eq!(Level::Hsm.to_json(EnumStyle::Numbers), 2);
        assert_eq!(Level::Hsm.to_json(EnumStyle::Names), "HSM");
    }

    #[test]
    fn both_spellings_and_both_alphabets_are_read() {
        let body = Body::parse(br#"{"aad_field": "-_8", "aadFieldCrc32c": "1"}"#, &["aadField", "aadFieldCrc32c"]).unwrap();
        assert_eq!(body.bytes("aadField").unwrap(), [0xfb, 0xff]);
        assert!(body.checked("aadField").is_err());
        assert!(Body::parse(br#"{"other": 1}"#, &["x"]).is_err());
        assert_eq!(camel_case("plaintext_crc32c"), "plaintextCrc32c");
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789"), "3808858755");
    }
}
