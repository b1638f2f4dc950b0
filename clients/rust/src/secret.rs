//! Data keys, plaintexts and tokens: bytes and text that do not print, and are overwritten when they are dropped.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use zeroize::Zeroizing;

/// Bytes that do not print: a data key, or an unwrapped plaintext.
///
/// They are overwritten when the value is dropped, are equal in constant time, and cannot be serialized.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A secret of these bytes. A `Vec` is taken, anything else is copied.
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(content.into()))
    }

    /// The bytes. Keep copies as briefly as you can, and do not log them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes standard base64; `None` if it is none.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        let mut content = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        let length = STANDARD.decode_slice(text, &mut content).ok()?;
        content.truncate(length);
        Some(Self(content))
    }
}

impl From<Vec<u8>> for Secret {
    fn from(content: Vec<u8>) -> Self {
        Self::new(content)
    }
}

impl From<&[u8]> for Secret {
    fn from(content: &[u8]) -> Self {
        Self::new(content)
    }
}

impl<const N: usize> From<[u8; N]> for Secret {
    fn from(content: [u8; N]) -> Self {
        Self::from(&*Zeroizing::new(content))
    }
}

impl<const N: usize> From<&[u8; N]> for Secret {
    fn from(content: &[u8; N]) -> Self {
        Self::new(&content[..])
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.expose(), other.expose()).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Base64;

        impl Visitor<'_> for Base64 {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("standard base64")
            }

            // Not `visit_string`: the text stays in the response's own buffer, which is overwritten.
            fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
                Secret::from_base64(text).ok_or_else(|| E::custom("not standard base64"))
            }
        }

        deserializer.deserialize_str(Base64)
    }
}

/// Text that does not print: a token, a password, a private key as PEM.
///
/// It is overwritten when the value is dropped, is equal in constant time, and cannot be serialized.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// A secret of this text. A `String` is taken, anything else is copied.
    pub fn new(content: impl Into<String>) -> Self {
        Self(Zeroizing::new(content.into()))
    }

    /// The text. Keep copies as briefly as you can, and do not log them.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(content: String) -> Self {
        Self::new(content)
    }
}

impl From<&str> for SecretText {
    fn from(content: &str) -> Self {
        Self::new(content)
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.expose().as_bytes(), other.expose().as_bytes()).is_ok()
    }
}

impl Eq for SecretText {}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(...)")
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText::new(text))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
