//! Verifies the seal: an envelope with a valid seal may be rewrapped without being opened.

use std::fmt;

use claviger_provider::{ProviderKind, Wrapped};

use super::crypto;
use super::errors::BuildError;
use super::parsed::Envelope;
use super::seal::SealKey;

/// The result of checking an envelope's seal.
#[derive(Debug)]
pub enum SealStatus<'e> {
    /// The seal is valid: this installation made the envelope, and nobody has changed it since.
    Sealed(Attested<'e>),
    /// No seal, or one of a key that is not among those given: opening it needs the
    /// permission `UnwrapUnsealed`.
    Unsealed,
    /// The seal names one of the given keys, but its HMAC is wrong. Refuse the envelope.
    Forged,
}

impl Envelope {
    /// Checks the seal against the tenant's seal keys, in constant time for each that has
    /// the seal's name.
    pub fn seal_status<'k>(&self, keys: impl IntoIterator<Item = &'k SealKey>) -> SealStatus<'_> {
        let Some(seal) = &self.seal else {
            return SealStatus::Unsealed;
        };
        let mut named = keys.into_iter().filter(|key| key.name() == seal.name).peekable();
        if named.peek().is_none() {
            return SealStatus::Unsealed;
        }
        let (header, recipients) = (self.header_bytes(), self.recipients_bytes());
        let expected = |key: &SealKey| key.seal(header, &self.commitment, recipients, self.payload());
        if named.any(|key| crypto::same(&expected(key).tag, &seal.tag)) {
            SealStatus::Sealed(Attested::new(self))
        } else {
            SealStatus::Forged
        }
    }

    /// Whether there is a seal at all, of whatever key.
    pub fn has_seal(&self) -> bool {
        self.seal.is_some()
    }
}

/// An envelope whose seal is valid, so that it may be rewrapped inside a provider, unopened.
#[derive(Clone, Copy)]
pub struct Attested<'e> {
    envelope: &'e Envelope,
}

impl<'e> Attested<'e> {
    pub(super) fn new(envelope: &'e Envelope) -> Self {
        Self { envelope }
    }

    /// Replaces all recipients with this wrapping of the same data key, and seals the envelope again.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn rewrap(&self, provider: ProviderKind, wrapped: &Wrapped, seal: &SealKey) -> Result<Envelope, BuildError> {
        self.envelope.with_recipient(provider, wrapped, seal)
    }
}

impl fmt::Debug for Attested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attested").field(&self.envelope).finish()
    }
}
