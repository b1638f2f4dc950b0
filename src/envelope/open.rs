//! Opens an envelope: from the data key that a provider unwrapped to the plaintext. And rewraps.

use std::fmt;

use claviger_provider::{BoundContext, ProviderKind, Secret, Wrapped};

use super::commitment::Schedule;
use super::errors::BuildError;
use super::header::Suite;
use super::parsed::Envelope;
use super::seal::SealKey;

/// Data key, context, header and payload do not match. The error does not say which one differs,
/// because that would give an attacker an oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the wrapped key does not open")]
pub struct Rejected;

impl Envelope {
    /// Verifies the data key that a provider unwrapped from one of the recipients: first the commitment, in
    /// constant time, then the length or the payload.
    ///
    /// # Errors
    /// [`Rejected`] if one of the checks fails. The data key is zeroed then.
    pub fn open(&self, k: Secret, context: &BoundContext) -> Result<Opened<'_>, Rejected> {
        let schedule = Schedule::new(&k, self.header.dek_id);
        if !schedule.holds(&self.commitment, self.header_bytes(), context) || k.len() != self.header.data_key_len() {
            return Err(Rejected);
        }
        let payload = match (self.header.suite, self.payload()) {
            (Suite::Direct, None) => None,
            (Suite::Sealed, Some(payload)) => Some(schedule.open_payload(self.header_bytes(), payload).ok_or(Rejected)?),
            // The decoder refuses an envelope of suite 1 with a payload, and one of suite 2
            // without.
            (Suite::Direct, Some(_)) | (Suite::Sealed, None) => return Err(Rejected),
        };
        Ok(Opened {
            envelope: self,
            k,
            payload,
        })
    }
}

/// An opened envelope. Its commitment was verified, and in suite 2 its payload was decrypted.
pub struct Opened<'e> {
    envelope: &'e Envelope,
    k: Secret,
    payload: Option<Secret>,
}

impl Opened<'_> {
    /// What the caller wrapped: the data key, or in suite 2 the caller's bytes.
    pub fn plaintext(&self) -> &Secret {
        self.payload.as_ref().unwrap_or(&self.k)
    }

    /// Returns the bytes that the caller wrapped. Zeroes all other secrets.
    pub fn into_plaintext(self) -> Secret {
        self.payload.unwrap_or(self.k)
    }

    /// The data key, for a provider to wrap again. In suite 2 it differs from the caller's plaintext.
    pub fn data_key(&self) -> &Secret {
        &self.k
    }

    /// Replaces all recipients with this wrapping of [`Opened::data_key`], and seals the envelope again.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn rewrap(&self, provider: ProviderKind, wrapped: &Wrapped, seal: &SealKey) -> Result<Envelope, BuildError> {
        self.envelope.with_recipient(provider, wrapped, seal)
    }
}

impl fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opened").field(&self.envelope).finish()
    }
}
