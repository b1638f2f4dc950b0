//! The seal: an HMAC under the tenant's seal key. It proves that this installation made an
//! envelope, before any provider call (`docs/format.md`, Seal).

use std::fmt;

use aws_lc_rs::hmac;
use claviger_provider::Secret;

use super::errors::ParseError;
use super::{cbor, crypto};

const NAME_LEN: usize = 8;
const KEY_LEN: usize = 32;
const LABEL: &[u8] = b"claviger/seal/v1";

/// One of a tenant's seal keys and its name, both random and drawn together.
pub struct SealKey {
    name: [u8; NAME_LEN],
    key: Secret,
    /// The same key, prepared for HMAC: every unwrap checks a seal.
    mac: hmac::Key,
}

/// Why stored bytes are not a seal key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a seal key is stored as 40 bytes")]
pub struct SealKeyError;

impl SealKey {
    /// Draws a new key and its name.
    pub fn generate() -> Self {
        let mut name = [0; NAME_LEN];
        name.copy_from_slice(Secret::random(NAME_LEN).expose());
        Self::from_parts(name, Secret::random(KEY_LEN))
    }

    /// Reads the output of [`SealKey::to_secret`].
    ///
    /// # Errors
    /// When it is not 40 bytes long.
    pub fn from_secret(stored: &Secret) -> Result<Self, SealKeyError> {
        let (name, key) = stored.expose().split_first_chunk().ok_or(SealKeyError)?;
        if key.len() != KEY_LEN {
            return Err(SealKeyError);
        }
        Ok(Self::from_parts(*name, Secret::copy_from(key)))
    }

    /// Name and key in 40 bytes, to be stored sealed.
    pub fn to_secret(&self) -> Secret {
        let mut bytes = Vec::with_capacity(NAME_LEN + KEY_LEN);
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(self.key.expose());
        Secret::new(bytes)
    }

    /// The key's name, which every seal of this key contains. Not secret.
    pub fn name(&self) -> [u8; NAME_LEN] {
        self.name
    }

    fn from_parts(name: [u8; NAME_LEN], key: Secret) -> Self {
        let mac = crypto::mac_key(key.expose());
        Self { name, key, mac }
    }

    /// Computes the seal over these parts. `recipients` is the encoded array.
    pub(super) fn seal(&self, header: &[u8], commitment: &[u8; 32], recipients: &[u8], payload: Option<&[u8]>) -> Seal {
        let parts = [header, commitment.as_slice(), recipients, payload.unwrap_or_default()];
        Seal {
            name: self.name,
            tag: crypto::framed_mac(&self.mac, LABEL, &parts),
        }
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", hex::encode(self.name))
    }
}

/// The encoded seal of an envelope: the key's name and the HMAC.
pub(super) struct Seal {
    pub(super) name: [u8; NAME_LEN],
    pub(super) tag: [u8; 32],
}

impl Seal {
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        let (name, tag) = bytes.split_first_chunk().ok_or(ParseError::Invalid)?;
        Ok(Self {
            name: *name,
            tag: *cbor::fixed(tag)?,
        })
    }

    pub(super) fn to_bytes(&self) -> [u8; NAME_LEN + 32] {
        let mut bytes = [0; NAME_LEN + 32];
        let (name, tag) = bytes.split_at_mut(NAME_LEN);
        name.copy_from_slice(&self.name);
        tag.copy_from_slice(&self.tag);
        bytes
    }
}
