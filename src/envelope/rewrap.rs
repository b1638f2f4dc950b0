//! Replaces the recipients of an envelope, under a newer version of its key.

use claviger_provider::{ProviderKind, Wrapped};

use super::cbor;
use super::errors::BuildError;
use super::parsed::{Envelope, Item};
use super::recipient::{self, Recipient};
use super::seal::SealKey;

impl Envelope {
    /// Returns the envelope with another wrapping of the same data key as its only recipient, and
    /// with a new seal. Header, commitment and payload stay. Callers must have opened the envelope
    /// or verified its seal.
    pub(super) fn with_recipient(&self, provider: ProviderKind, wrapped: &Wrapped, seal: &SealKey) -> Result<Self, BuildError> {
        let recipients = [Recipient::member(provider, wrapped, self.header.data_key_len())?];
        let encoded = cbor::to_vec(|e| recipient::encode_all(&recipients, e));
        let seal = seal.seal(self.header_bytes(), &self.commitment, &encoded, self.payload());
        Self::assemble(&Item {
            header: self.header_bytes(),
            commitment: &self.commitment,
            recipients: &recipients,
            payload: self.payload(),
            seal: Some(&seal),
        })
    }
}
