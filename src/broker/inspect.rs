//! Inspect: what an envelope says of itself, and how to open it without the gateway. No provider is
//! called and no secret is returned.

use claviger_provider::{BoundContext, ContextBinding, KeySpec, ProviderKind};

use super::{Authorized, Broker, Failure, Guarded, op};
use crate::audit::Digest;
use crate::envelope::{Context, Envelope, SealStatus, Suite};

/// The content of an envelope's header, and what the store knows about its key.
#[derive(Debug)]
pub struct Inspected {
    /// The key's name.
    pub key: String,
    /// The tenant's name.
    pub tenant: String,
    /// The name of the key's connection.
    pub connection: String,
    /// The kind of provider.
    pub provider: ProviderKind,
    /// Algorithm and length of the key.
    pub spec: KeySpec,
    /// The provider key of the primary version, by its id at the provider; empty if there is none.
    pub provider_key: String,
    /// Whether the plaintext is the data key itself, or is encrypted under a data key.
    pub suite: Suite,
    /// Whether the seal is valid and from this installation. If not, none of these values are
    /// authenticated.
    pub sealed: bool,
    /// The context in the form that providers get.
    pub context: BoundContext,
    /// The recipients, in the envelope's order.
    pub recipients: Vec<InspectedRecipient>,
}

/// One recipient: a provider key that can open the envelope.
#[derive(Debug)]
pub struct InspectedRecipient {
    /// The kind of provider, if this release knows it.
    pub provider: Option<ProviderKind>,
    /// The number of the key's version, if the store has it.
    pub version: Option<u32>,
    /// How the provider binds the context, if this build has the provider.
    pub binding: Option<ContextBinding>,
    /// The commands of the provider's own tool that print the data key in base64, in order. Empty
    /// if there is no such tool, or the recipient belongs to no version of the key.
    pub commands: Vec<String>,
    /// The recipient's index in the envelope.
    pub index: usize,
}

impl Broker {
    /// Reads an envelope of a key that the caller may inspect.
    ///
    /// # Errors
    /// `ciphertext_rejected` when its seal is forged.
    pub async fn inspect(
        &self,
        authorized: Authorized<op::Inspect>,
        envelope: &Envelope,
        context: &Context,
    ) -> Result<Guarded<Inspected>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        let secrets = self.directory().secrets(key.tenant()).await?;
        let bound = context.bind(envelope.header());
        cx.note(|fields| {
            fields.dek_id = Some(envelope.header().dek_id());
            fields.context_hash = Some(secrets.hash_context(bound.bytes()));
            fields.wrapped_sha256 = Some(Digest(envelope.fingerprint()));
        });
        let sealed = match envelope.seal_status(secrets.seal_keys()) {
            SealStatus::Sealed(_) => true,
            SealStatus::Unsealed => false,
            SealStatus::Forged => return Err(Failure::ciphertext_rejected()),
        };
        let view = key.view().map_err(|_| Failure::ciphertext_rejected())?;
        let connection = key.connection().view();
        let tenant = self.store.tenant(key.tenant()).await?;
        let recipients = envelope
            .recipients()
            .iter()
            .enumerate()
            .map(|(index, recipient)| {
                let factory = recipient.provider().and_then(|provider| self.directory().factories().get(provider));
                let version = recipient.provider().and_then(|provider| view.matching(provider, recipient.key()));
                // The key's connection reaches the key's own versions only.
                let commands = match (factory, version, recipient.wrapped()) {
                    (Some(factory), Some(_), Some((_, wrapped))) => {
                        factory.offline_decrypt(&connection.settings, view.key.primary.spec, &wrapped, &bound)
                    }
                    (_, _, _) => Vec::new(),
                };
                InspectedRecipient {
                    provider: recipient.provider(),
                    version: version.map(|version| version.number),
                    // Two connections to one kind of provider can bind the context differently.
                    binding: match version {
                        Some(_) => key
                            .connection()
                            .pipeline()
                            .capabilities()
                            .of(view.key.primary.spec)
                            .map(|keys| keys.context),
                        None => factory.and_then(|factory| factory.capabilities().of(view.key.primary.spec).map(|keys| keys.context)),
                    },
                    commands,
                    index,
                }
            })
            .collect();
        let answer = Inspected {
            key: view.key.name.clone(),
            tenant: tenant.name,
            connection: connection.name.clone(),
            provider: connection.provider,
            spec: view.key.primary.spec,
            provider_key: view.primary().provider_key.clone(),
            suite: envelope.header().suite(),
            sealed,
            context: bound,
            recipients,
        };
        Ok(Guarded::free(answer))
    }
}
