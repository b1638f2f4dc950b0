//! Creates an envelope, in the order that the format requires: the ids first, because the context
//! contains them; then the data key; then the commitment; then the provider's wrapping.

use claviger_provider::{BoundContext, DekId, ProviderKind, Secret, Wrapped};

use super::cbor;
use super::commitment::{self, Schedule};
use super::context::Context;
use super::errors::BuildError;
use super::header::{DataKeyLength, Header, Origin, SEALED_KEY_LEN, Suite};
use super::parsed::{Envelope, Item};
use super::recipient::{self, Recipient};
use super::seal::SealKey;

/// The length of the data key, or of the bytes to wrap, is not one that the format allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data key or plaintext has a length that the format does not allow")]
pub struct LengthError;

/// A suite 1 envelope without its data key. It has all that a provider needs to generate the key
/// itself.
#[derive(Debug)]
pub struct Pending {
    header: Header,
    context: BoundContext,
}

impl Pending {
    /// Draws the `dek_id` for a data key of `length` and binds the context.
    pub fn new(origin: Origin, length: DataKeyLength, context: &Context) -> Self {
        Self::with_id(DekId::random(), origin, length, context)
    }

    pub(super) fn with_id(dek_id: DekId, origin: Origin, length: DataKeyLength, context: &Context) -> Self {
        let header = Header::new(Suite::Direct, dek_id, length.bytes(), origin);
        let context = context.bind(&header);
        Self { header, context }
    }

    /// The context for the provider.
    pub fn context(&self) -> &BoundContext {
        &self.context
    }

    /// The data key's id, drawn at random.
    pub fn dek_id(&self) -> DekId {
        self.header.dek_id
    }

    /// Adds the commitment to the data key, which the gateway or the provider generated.
    ///
    /// # Errors
    /// [`LengthError`] if the data key does not have the requested length.
    pub fn commit(self, k: Secret) -> Result<Draft, LengthError> {
        if k.len() != self.header.plaintext_len {
            return Err(LengthError);
        }
        Ok(Draft::new(self.header, self.context, k, None))
    }
}

/// An envelope with its data key and commitment, before a provider has wrapped the data key.
pub struct Draft {
    dek_id: DekId,
    header: Vec<u8>,
    context: BoundContext,
    k: Secret,
    commitment: [u8; commitment::LEN],
    payload: Option<Vec<u8>>,
}

impl Draft {
    /// Suite 2: generates a `dek_id` and a data key of 32 bytes, and encrypts `plaintext` with it.
    ///
    /// # Errors
    /// [`LengthError`] when there are not 1 to 4096 bytes.
    pub fn sealed(origin: Origin, plaintext: &Secret, context: &Context) -> Result<Self, LengthError> {
        Self::sealed_with(DekId::random(), Secret::random(SEALED_KEY_LEN), origin, plaintext, context)
    }

    pub(super) fn sealed_with(
        dek_id: DekId,
        k: Secret,
        origin: Origin,
        plaintext: &Secret,
        context: &Context,
    ) -> Result<Self, LengthError> {
        if !Header::plaintext_len_allowed(Suite::Sealed, plaintext.len()) {
            return Err(LengthError);
        }
        let header = Header::new(Suite::Sealed, dek_id, plaintext.len(), origin);
        let context = context.bind(&header);
        Ok(Self::new(header, context, k, Some(plaintext)))
    }

    fn new(header: Header, context: BoundContext, k: Secret, plaintext: Option<&Secret>) -> Self {
        let dek_id = header.dek_id;
        let header = cbor::to_vec(|e| header.encode(e));
        let schedule = Schedule::new(&k, dek_id);
        Self {
            dek_id,
            commitment: schedule.commit(&header, &context),
            payload: plaintext.map(|plaintext| schedule.seal_payload(&header, plaintext)),
            header,
            context,
            k,
        }
    }

    /// The data key's id, drawn at random.
    pub fn dek_id(&self) -> DekId {
        self.dek_id
    }

    /// The data key, for a provider to wrap.
    pub fn data_key(&self) -> &Secret {
        &self.k
    }

    /// Returns the data key, after the envelope was finished.
    pub fn into_data_key(self) -> Secret {
        self.k
    }

    /// The context for the provider.
    pub fn context(&self) -> &BoundContext {
        &self.context
    }

    /// The envelope with this wrapping of [`Draft::data_key`] as its only recipient.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn finish(&self, provider: ProviderKind, wrapped: &Wrapped, seal: &SealKey) -> Result<Envelope, BuildError> {
        self.finish_with(&[Recipient::member(provider, wrapped, self.k.len())?], Some(seal))
    }

    /// As [`Draft::finish`], without a seal: for the wrapped root key, which exists before the seal
    /// keys can be opened. Through the API such an envelope needs `UnwrapUnsealed`.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn finish_unsealed(&self, provider: ProviderKind, wrapped: &Wrapped) -> Result<Envelope, BuildError> {
        self.finish_with(&[Recipient::member(provider, wrapped, self.k.len())?], None)
    }

    pub(super) fn finish_with(&self, recipients: &[Recipient], seal: Option<&SealKey>) -> Result<Envelope, BuildError> {
        let payload = self.payload.as_deref();
        let encoded = cbor::to_vec(|e| recipient::encode_all(recipients, e));
        let seal = seal.map(|key| key.seal(&self.header, &self.commitment, &encoded, payload));
        Envelope::assemble(&Item {
            header: &self.header,
            commitment: &self.commitment,
            recipients,
            payload,
            seal: seal.as_ref(),
        })
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("dek_id", &self.dek_id).finish_non_exhaustive()
    }
}
