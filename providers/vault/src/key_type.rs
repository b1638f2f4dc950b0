//! The types of Transit keys that the gateway uses.

use claviger_provider::KeySpec;
use serde::{Deserialize, Serialize};

/// The key type that a connection uses for the specification `aes-256`: an AEAD with a 256-bit key.
/// The connection's settings choose it; the default is AES.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Symmetric {
    #[default]
    #[serde(rename = "aes256-gcm96")]
    Aes256Gcm96,
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

impl Symmetric {
    pub(crate) const ALL: [Self; 2] = [Self::Aes256Gcm96, Self::ChaCha20Poly1305];

    /// Transit's name of it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm96 => "aes256-gcm96",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    pub(crate) const fn is_default(&self) -> bool {
        matches!(self, Self::Aes256Gcm96)
    }
}

/// The type of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    Symmetric(Symmetric),
    Rsa3072,
    Rsa4096,
}

impl KeyType {
    /// The type of keys of this specification in a connection.
    pub(crate) const fn of(spec: KeySpec, symmetric: Symmetric) -> Self {
        match spec {
            KeySpec::Aes256 => Self::Symmetric(symmetric),
            KeySpec::Rsa3072 => Self::Rsa3072,
            KeySpec::Rsa4096 => Self::Rsa4096,
        }
    }

    pub(crate) const fn spec(self) -> KeySpec {
        match self {
            Self::Symmetric(_) => KeySpec::Aes256,
            Self::Rsa3072 => KeySpec::Rsa3072,
            Self::Rsa4096 => KeySpec::Rsa4096,
        }
    }

    /// Transit's name of it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Symmetric(symmetric) => symmetric.as_str(),
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// Whether the server binds associated data. It refuses them for other types.
    pub(crate) const fn binds_context(self) -> bool {
        match self {
            Self::Symmetric(_) => true,
            Self::Rsa3072 | Self::Rsa4096 => false,
        }
    }

    /// The length of each ciphertext in bytes; `None` where it depends on the plaintext's.
    pub(crate) const fn ciphertext_length(self) -> Option<usize> {
        match self {
            Self::Symmetric(_) => None,
            Self::Rsa3072 => Some(384),
            Self::Rsa4096 => Some(512),
        }
    }

    /// The advice for a key that must be of this type and is of another.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Symmetric(Symmetric::Aes256Gcm96) => {
                "The Transit key has another type: for the specification aes-256 adopt a key of type aes256-gcm96 (of type chacha20-poly1305 \
                 only through a connection with that `symmetric_key_type`); for an RSA key name rsa-3072 or rsa-4096."
            }
            Self::Symmetric(Symmetric::ChaCha20Poly1305) => {
                "The Transit key has another type: the connection's setting `symmetric_key_type` requires chacha20-poly1305 for the \
                 specification aes-256."
            }
            Self::Rsa3072 => "The Transit key has another type: the specification rsa-3072 requires type rsa-3072.",
            Self::Rsa4096 => "The Transit key has another type: the specification rsa-4096 requires type rsa-4096.",
        }
    }
}
