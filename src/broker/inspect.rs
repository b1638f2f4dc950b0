//! Inspect: what an envelope says of itself, and how to open it without the gateway. No provider is
//! called and no secret is returned.

use std::sync::Arc;

use claviger_provider::{BoundContext, ContextBinding, KeySpec, ProviderKind};

use super::admit::InspectedKey;
use super::{Authorized, Broker, Failure, Guarded, op};
use crate::audit::Digest;
use crate::envelope::{Context, Envelope, SealStatus, Suite};
use crate::keys::KeyView;
use crate::store::model::DetachedKey;

/// What an envelope says of itself.
#[derive(Debug)]
pub struct Inspected {
    /// The key's name.
    pub key: String,
    /// The tenant's name.
    pub tenant: String,
    /// The name of the key's connection; `None` if the key is detached and the connection was deleted.
    pub connection: Option<String>,
    /// The kind of provider.
    pub provider: ProviderKind,
    /// What the key is made of.
    pub spec: KeySpec,
    /// The provider's name of the primary version's key; empty if there is none.
    pub provider_key: String,
    /// How the plaintext is held: directly, or sealed under a data key.
    pub suite: Suite,
    /// Whether the seal is this installation's. If not, nothing here is authenticated.
    pub sealed: bool,
    /// The context as it is given to providers.
    pub context: BoundContext,
    /// The recipients, in the envelope's order.
    pub recipients: Vec<InspectedRecipient>,
    /// The key's row, if it is detached: nothing opens the envelope here until it comes back.
    pub detached: Option<DetachedKey>,
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
    /// Its index in the envelope.
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
        let tenant = cx.tenant();
        let secrets = self.directory().secrets(tenant).await?;
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
        // Without an entry the key is detached, and its connection may be gone.
        let (view, connection, capabilities) = match key {
            InspectedKey::Attached(entry) => {
                let view = entry.view().map_err(|_| Failure::ciphertext_rejected())?;
                let capabilities = entry.connection().pipeline().capabilities().clone();
                (view, Some(entry.connection().view()), Some(capabilities))
            }
            InspectedKey::Detached(detached) => {
                let view = KeyView {
                    key: Arc::new(detached.key.clone()),
                    versions: self.store.key_versions(tenant, detached.key.id).await?.into(),
                };
                let connection = match detached.key.primary.connection_id() {
                    Some(id) => Some(Arc::new(self.store.connection(tenant, id).await?)),
                    None => None,
                };
                (view, connection, None)
            }
        };
        let settings = connection.as_ref().map(|connection| connection.settings.as_str());
        let tenant = self.store.tenant(tenant).await?;
        let recipients = envelope
            .recipients()
            .iter()
            .enumerate()
            .map(|(index, recipient)| {
                let factory = recipient.provider().and_then(|provider| self.directory().factories().get(provider));
                let version = recipient.provider().and_then(|provider| view.matching(provider, recipient.key()));
                // The key's connection reaches the key's own versions only.
                let commands = match (factory, version, recipient.wrapped(), settings) {
                    (Some(factory), Some(_), Some((_, wrapped)), Some(settings)) => {
                        factory.offline_decrypt(settings, view.key.primary.spec, &wrapped, &bound)
                    }
                    (_, _, _, _) => Vec::new(),
                };
                InspectedRecipient {
                    provider: recipient.provider(),
                    version: version.map(|version| version.number),
                    // Two connections to one kind of provider can bind the context differently.
                    binding: match (version, &capabilities) {
                        (Some(_), Some(capabilities)) => capabilities.of(view.key.primary.spec).map(|keys| keys.context),
                        (_, _) => factory.and_then(|factory| factory.capabilities().of(view.key.primary.spec).map(|keys| keys.context)),
                    },
                    commands,
                    index,
                }
            })
            .collect();
        let answer = Inspected {
            key: view.key.name.clone(),
            tenant: tenant.name,
            connection: connection.as_ref().map(|connection| connection.name.clone()),
            provider: view.key.primary.provider,
            spec: view.key.primary.spec,
            provider_key: view.primary().provider_key.clone(),
            suite: envelope.header().suite(),
            sealed,
            context: bound,
            recipients,
            detached: match key {
                InspectedKey::Attached(_) => None,
                InspectedKey::Detached(detached) => Some(DetachedKey::clone(detached)),
            },
        };
        Ok(Guarded::free(answer))
    }
}
