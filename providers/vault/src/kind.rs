//! The types of Transit keys that the gateway uses, and what each can take.

use claviger_provider::KeySpec;
use serde::{Deserialize, Serialize};

/// The type that stands behind the specification `aes-256` in a connection: a 256-bit key of
/// an AEAD. The connection's settings choose it, AES where they say nothing.
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

    /// Transit's own name of it.
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

/// A key's type.
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

    /// Transit's own name of it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Symmetric(symmetric) => symmetric.as_str(),
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// Whether the server binds associated data; it refuses them otherwise.
    pub(crate) const fn binds_context(self) -> bool {
        match self {
            Self::Symmetric(_) => true,
            Self::Rsa3072 | Self::Rsa4096 => false,
        }
    }

    /// What to do about a key that should be of this type and is of another.
    pub(crate) const fn advice(self) -> &'static str {
        match self {
            Self::Symmetric(Symmetric::Aes256Gcm96) => {
                "The Transit key has another type: for the specification aes-256 adopt one of type aes256-gcm96 (chacha20-poly1305 only \
                 through a connection whose setting `symmetric_key_type` says so), and name rsa-3072 or rsa-4096 for an RSA key."
            }
            Self::Symmetric(Symmetric::ChaCha20Poly1305) => {
                "The Transit key has another type: the connection's setting `symmetric_key_type` asks for chacha20-poly1305 behind the \
                 specification aes-256."
            }
            Self::Rsa3072 => "The Transit key has another type: the specification rsa-3072 asks for one of type rsa-3072.",
            Self::Rsa4096 => "The Transit key has another type: the specification rsa-4096 asks for one of type rsa-4096.",
        }
    }
}
