//! The wrap algorithms, and the lengths of what they produce.

use azure_security_keyvault_keys::models::{EncryptionAlgorithm, Key, KeyOperation, KeyType};
use claviger_provider::kit::lengths;
use claviger_provider::{Algorithm, KeySpec, Secret, oaep};
use serde::{Deserialize, Serialize};

/// The most bytes of one wrap under an AES key: the longest data key that the gateway generates.
/// Azure does not document a limit.
const MAX_AES: usize = 64;
/// AES key wrap works on blocks of this many bytes, at least two (RFC 3394, section 2).
const KEY_WRAP_UNIT: usize = 8;
/// Number of bytes that AES key wrap adds.
pub(crate) const KEY_WRAP_OVERHEAD: usize = 8;
/// The length of AES-GCM's nonce, in bytes.
pub(crate) const GCM_IV: usize = 12;
/// The length of AES-GCM's tag, in bytes.
pub(crate) const GCM_TAG: usize = 16;
/// The length of data keys for which a Managed HSM was seen to add a byte under RSA.
pub(crate) const PADDED_LENGTH: usize = 32;

/// The most bytes of one wrap under a key of this specification.
pub(crate) const fn max_plaintext(spec: KeySpec) -> usize {
    lengths::max_plaintext(spec, MAX_AES)
}

/// The wrap algorithm of keys with the specification `aes-256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum AesAlgorithm {
    /// AES key wrap (RFC 3394). It has no nonce that could repeat, and needs the permissions to
    /// wrap and unwrap only.
    #[default]
    #[serde(rename = "A256KW")]
    KeyWrap,
    /// AES-GCM with the context as additional data. Its nonces are random, so one version of a key
    /// must not wrap more than 2^32 times.
    #[serde(rename = "A256GCM")]
    Gcm,
}

impl AesAlgorithm {
    pub(crate) const ALL: [Self; 2] = [Self::KeyWrap, Self::Gcm];

    /// Azure's name of it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::KeyWrap => "A256KW",
            Self::Gcm => "A256GCM",
        }
    }

    pub(crate) const fn is_default(&self) -> bool {
        matches!(self, Self::KeyWrap)
    }

    /// The permissions that wrap and unwrap require, named as in access policies.
    pub(crate) const fn permissions(self) -> [&'static str; 2] {
        match self {
            Self::KeyWrap => ["wrapKey", "unwrapKey"],
            Self::Gcm => ["encrypt", "decrypt"],
        }
    }
}

/// The operations that a key must permit.
pub(crate) const fn key_operations(spec: KeySpec, aes: AesAlgorithm) -> [KeyOperation; 2] {
    match (spec, aes) {
        (KeySpec::Aes256, AesAlgorithm::Gcm) => [KeyOperation::Encrypt, KeyOperation::Decrypt],
        (KeySpec::Aes256, AesAlgorithm::KeyWrap) | (KeySpec::Rsa3072 | KeySpec::Rsa4096, _) => {
            [KeyOperation::WrapKey, KeyOperation::UnwrapKey]
        }
    }
}

/// An algorithm that this provider wraps with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrapAlgorithm {
    RsaOaep256,
    KeyWrap,
    Gcm,
}

impl WrapAlgorithm {
    /// The algorithm of keys of this specification.
    pub(crate) const fn of(spec: KeySpec, aes: AesAlgorithm) -> Self {
        match (spec, aes) {
            (KeySpec::Rsa3072 | KeySpec::Rsa4096, _) => Self::RsaOaep256,
            (KeySpec::Aes256, AesAlgorithm::KeyWrap) => Self::KeyWrap,
            (KeySpec::Aes256, AesAlgorithm::Gcm) => Self::Gcm,
        }
    }

    /// The algorithm that an envelope names; `None` for one of other providers.
    pub(crate) const fn from_algorithm(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::RsaOaep256 => Some(Self::RsaOaep256),
            Algorithm::A256Kw => Some(Self::KeyWrap),
            Algorithm::Aes256Gcm => Some(Self::Gcm),
            Algorithm::ProviderOpaque | Algorithm::A256Kwp | Algorithm::Xaes256Gcm | Algorithm::CborGcm | Algorithm::RsaOaep1 => None,
        }
    }

    /// The algorithm's name in an envelope.
    pub(crate) const fn algorithm(self) -> Algorithm {
        match self {
            Self::RsaOaep256 => Algorithm::RsaOaep256,
            Self::KeyWrap => Algorithm::A256Kw,
            Self::Gcm => Algorithm::Aes256Gcm,
        }
    }

    /// The algorithm in the SDK's type.
    pub(crate) const fn azure(self) -> EncryptionAlgorithm {
        match self {
            Self::RsaOaep256 => EncryptionAlgorithm::RsaOaep256,
            Self::KeyWrap => EncryptionAlgorithm::A256Kw,
            Self::Gcm => EncryptionAlgorithm::A256Gcm,
        }
    }

    /// Whether a key could have wrapped with this algorithm, by its type and, for AES, by its
    /// permitted operations: a key of ours permits one of the two AES algorithms.
    pub(crate) fn fits(self, key: &Key) -> bool {
        let Some(key) = &key.key else { return true };
        let permits = |operation: &str| key.key_ops.iter().flatten().any(|permitted| permitted == operation);
        match (&key.kty, self) {
            (Some(KeyType::Rsa | KeyType::RsaHsm), algorithm) => algorithm == Self::RsaOaep256,
            (Some(KeyType::OctHsm), Self::RsaOaep256) => false,
            (Some(KeyType::OctHsm), Self::KeyWrap) => permits("unwrapKey") || !permits("decrypt"),
            (Some(KeyType::OctHsm), Self::Gcm) => permits("decrypt") || !permits("unwrapKey"),
            // The SDK's enum is non-exhaustive.
            (_, _) => true,
        }
    }

    /// The length of a wrapped data key of `len` bytes.
    pub(crate) fn wrapped_len(self, spec: KeySpec, len: usize) -> usize {
        match self {
            Self::RsaOaep256 => oaep::bits(spec).unwrap_or_default() / 8,
            Self::KeyWrap => len + KEY_WRAP_OVERHEAD,
            Self::Gcm => GCM_IV + len + GCM_TAG,
        }
    }
}

/// Whether AES key wrap accepts a data key of this length.
pub(crate) const fn key_wrap_accepts(len: usize) -> bool {
    len >= 2 * KEY_WRAP_UNIT && len.is_multiple_of(KEY_WRAP_UNIT)
}

/// Nonce, ciphertext and tag of an AES-GCM ciphertext as envelopes carry it.
pub(crate) fn split_gcm(ciphertext: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (iv, rest) = ciphertext.split_at_checked(GCM_IV)?;
    let (body, tag) = rest.split_at_checked(rest.len().checked_sub(GCM_TAG)?)?;
    (!body.is_empty()).then_some((iv, body, tag))
}

/// The data key if it has this length. One additional zero byte at the end is removed, because a
/// Managed HSM was seen to decode the padding of base64 as one.
pub(crate) fn of_length(dek: Secret, len: usize) -> Option<Secret> {
    match dek.expose().split_last() {
        Some((0, unpadded)) if unpadded.len() == len => Some(Secret::copy_from(unpadded)),
        Some(_) | None => (dek.len() == len).then_some(dek),
    }
}
