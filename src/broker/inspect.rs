//! Inspect: what a wrapped key says of itself, and how to open it without us. No provider
//! is called and no secret is told.

use std::sync::Arc;

use claviger_provider::{BoundContext, ContextBinding, ProviderKind};

use super::{Broker, Cx, Failure, Guarded};
use crate::access::{Permit, op};
use crate::audit::Digest;
use crate::envelope::{Context, Envelope, SealStatus, Suite};
use crate::keys::KeyEntry;

/// What an envelope says of itself.
#[derive(Debug)]
pub struct Inspected {
    /// The key's name.
    pub key: String,
    /// 1 direct, 2 sealed.
    pub suite: Suite,
    /// Whether this installation's seal holds; nothing here is authenticated otherwise.
    pub sealed: bool,
    /// The context as providers see it.
    pub context: BoundContext,
    /// Who can open it.
    pub recipients: Vec<InspectedRecipient>,
}

/// One recipient.
#[derive(Debug)]
pub struct InspectedRecipient {
    /// The family, if this release knows it.
    pub provider: Option<ProviderKind>,
    /// Our number of the version, if it has a row here.
    pub version: Option<u32>,
    /// How the provider takes the context, if the family is known here.
    pub binding: Option<ContextBinding>,
    /// Its place in the envelope.
    pub index: usize,
}

impl Broker {
    /// Reads an envelope of a key that the caller may inspect.
    ///
    /// # Errors
    /// `ciphertext_rejected` when its seal is forged.
    pub async fn inspect(
        &self,
        cx: &Cx,
        permit: &Permit<op::Inspect>,
        key: &Arc<KeyEntry>,
        envelope: &Envelope,
        context: &Context,
    ) -> Result<Guarded<Inspected>, Failure> {
        self.note_key(cx, key);
        let secrets = self.directory().secrets(key.tenant()).await?;
        let bound = context.bind(envelope.header());
        cx.note(|facts| {
            facts.policy = Some(permit.policy().clone());
            facts.dek_id = Some(envelope.header().dek_id());
            facts.context_hash = Some(secrets.hash_context(bound.bytes()));
            facts.wrapped_sha256 = Some(Digest(envelope.fingerprint()));
        });
        let sealed = match envelope.seal_status(secrets.seal_keys()) {
            SealStatus::Sealed(_) => true,
            SealStatus::Unsealed => false,
            SealStatus::Forged => return Err(Failure::ciphertext_rejected()),
        };
        let view = key.view().map_err(|_| Failure::ciphertext_rejected())?;
        let recipients = envelope
            .recipients()
            .iter()
            .enumerate()
            .map(|(index, recipient)| InspectedRecipient {
                provider: recipient.provider(),
                version: recipient
                    .provider()
                    .and_then(|provider| view.matching(provider, recipient.key()))
                    .map(|version| version.number),
                binding: recipient
                    .provider()
                    .and_then(|provider| self.directory().factories().get(provider))
                    .and_then(|factory| factory.capabilities().of(view.key.spec).map(|keys| keys.context)),
                index,
            })
            .collect();
        let answer = Inspected {
            key: view.key.name.clone(),
            suite: envelope.header().suite(),
            sealed,
            context: bound,
            recipients,
        };
        Ok(Guarded::free(answer))
    }
}
