//! The ways to wrap, and what each makes of how many bytes.

use azure_security_keyvault_keys::models::{EncryptionAlgorithm, Key, KeyType};
use claviger_provider::{Algorithm, KeySpec, Secret, oaep};

use crate::settings::Symmetric;

/// The most bytes of one wrap under an AES key: the longest data key that the gateway makes. What
/// more a Managed HSM takes, Azure does not say.
const MAX_AES: usize = 64;
/// AES key wrap works on halves of a block, at least two (RFC 3394, section 2).
const KW_UNIT: usize = 8;
/// What it adds.
pub(crate) const KW_MORE: usize = 8;
/// The nonce and the tag of AES-GCM.
pub(crate) const IV: usize = 12;
pub(crate) const TAG: usize = 16;
/// The one length of a data key at which a Managed HSM was seen to add a byte under RSA.
pub(crate) const PADDED: usize = 32;

/// The most bytes of one wrap under a key of a specification.
pub(crate) fn max_plaintext(spec: KeySpec) -> usize {
    oaep::max_plaintext(spec).unwrap_or(MAX_AES)
}

/// How this provider wraps: what it writes, and so what it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    RsaOaep256,
    KeyWrap,
    Gcm,
}

impl Way {
    pub(crate) const fn of(spec: KeySpec, aes: Symmetric) -> Self {
        match (spec, aes) {
            (KeySpec::Rsa3072 | KeySpec::Rsa4096, _) => Self::RsaOaep256,
            (KeySpec::Aes256, Symmetric::KeyWrap) => Self::KeyWrap,
            (KeySpec::Aes256, Symmetric::Gcm) => Self::Gcm,
        }
    }

    pub(crate) const fn written(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::RsaOaep256 => Some(Self::RsaOaep256),
            Algorithm::A256Kw => Some(Self::KeyWrap),
            Algorithm::Aes256Gcm => Some(Self::Gcm),
            Algorithm::ProviderOpaque | Algorithm::A256Kwp | Algorithm::Xaes256Gcm | Algorithm::CborGcm | Algorithm::RsaOaep1 => None,
        }
    }

    pub(crate) const fn algorithm(self) -> Algorithm {
        match self {
            Self::RsaOaep256 => Algorithm::RsaOaep256,
            Self::KeyWrap => Algorithm::A256Kw,
            Self::Gcm => Algorithm::Aes256Gcm,
        }
    }

    pub(crate) const fn azure(self) -> EncryptionAlgorithm {
        match self {
            Self::RsaOaep256 => EncryptionAlgorithm::RsaOaep256,
            Self::KeyWrap => EncryptionAlgorithm::A256Kw,
            Self::Gcm => EncryptionAlgorithm::A256Gcm,
        }
    }

    /// Whether a key is one that could have wrapped so, by its type and, for AES, by what it may do:
    /// a key of ours may do one of the two.
    pub(crate) fn of_key(self, key: &Key) -> bool {
        let Some(key) = &key.key else { return true };
        let permits = |operation: &str| key.key_ops.iter().flatten().any(|permitted| permitted == operation);
        match (&key.kty, self) {
            (Some(KeyType::Rsa | KeyType::RsaHsm), way) => way == Self::RsaOaep256,
            (Some(KeyType::OctHsm), Self::RsaOaep256) => false,
            (Some(KeyType::OctHsm), Self::KeyWrap) => permits("unwrapKey") || !permits("decrypt"),
            (Some(KeyType::OctHsm), Self::Gcm) => permits("decrypt") || !permits("unwrapKey"),
            // The enum is open.
            (_, _) => true,
        }
    }

    /// How long what it makes of so many bytes is.
    pub(crate) fn wrapped_len(self, spec: KeySpec, len: usize) -> usize {
        match self {
            Self::RsaOaep256 => oaep::bits(spec).unwrap_or_default() / 8,
            Self::KeyWrap => len + KW_MORE,
            Self::Gcm => IV + len + TAG,
        }
    }
}

/// Whether AES key wrap takes a key of so many bytes.
pub(crate) const fn kw_fits(len: usize) -> bool {
    len >= 2 * KW_UNIT && len.is_multiple_of(KW_UNIT)
}

/// The parts of what AES-GCM made, as an envelope carries them.
pub(crate) fn split(ciphertext: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (iv, rest) = ciphertext.split_at_checked(IV)?;
    let (body, tag) = rest.split_at_checked(rest.len().checked_sub(TAG)?)?;
    (!body.is_empty()).then_some((iv, body, tag))
}

/// The data key in an answer of `len` bytes, where that is known. A Managed HSM was seen to take
/// the padding of base64 for a zero byte at the end: exactly that one is taken off.
pub(crate) fn exact(mut bytes: Vec<u8>, len: usize) -> Option<Secret> {
    if bytes.len() == len + 1 && bytes.last() == Some(&0) {
        bytes.truncate(len);
    }
    let dek = Secret::new(bytes);
    (dek.len() == len).then_some(dek)
}
