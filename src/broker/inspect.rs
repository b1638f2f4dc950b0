//! Inspect: what an envelope says of itself, and how to open it without the gateway. No provider is
//! called and no secret is returned.

use std::sync::Arc;

use claviger_provider::{BoundContext, ContextBinding, KeySpec, ProviderKind};

use super::admit::InspectedKey;
use super::{Authorized, Broker, Failure, Guarded, op};
use crate::audit::Digest;
use crate::envelope::{Context, Envelope, SealStatus, Suite};
use crate::keys::KeyView;
use crate::store::model::{DetachedKey, KeyVersion};

/// The content of an envelope's header, and what the store knows about its key.
#[derive(Debug)]
pub struct Inspected {
    /// The key's name.
    pub key: String,
    /// The tenant's name.
    pub tenant: String,
    /// Where the key's primary version is.
    pub primary: VersionPlace,
    /// Where the version is that opens the envelope, of the first recipient that belongs to one; `None`
    /// if no recipient does. Another place than the primary version's after a move.
    pub opens: Option<VersionPlace>,
    /// Whether the plaintext is the data key itself, or is encrypted under a data key.
    pub suite: Suite,
    /// Whether the seal is valid and from this installation. If not, none of these values are
    /// authenticated.
    pub sealed: bool,
    /// The context in the form that providers get.
    pub context: BoundContext,
    /// The recipients, in the envelope's order.
    pub recipients: Vec<InspectedRecipient>,
    /// The key's row, if the key is detached. The gateway cannot open the envelope until the key is
    /// adopted again.
    pub detached: Option<DetachedKey>,
}

/// Where a key version is: what another installation needs to adopt its provider key.
#[derive(Debug, PartialEq, Eq)]
pub struct VersionPlace {
    /// The connection's name; `None` if the key is detached and the connection was deleted.
    pub connection: Option<String>,
    /// The kind of provider.
    pub provider: ProviderKind,
    /// Algorithm and length of the provider key.
    pub spec: KeySpec,
    /// The provider key, by its id at the provider.
    pub provider_key: String,
}

impl VersionPlace {
    fn of(version: &KeyVersion) -> Self {
        Self {
            connection: version.connection.as_ref().map(|connection| connection.name.clone()),
            provider: version.provider,
            spec: version.spec,
            provider_key: version.provider_key.clone(),
        }
    }
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
        // Without an entry the key is detached, and its connections may be gone.
        let (entry, view) = match key {
            InspectedKey::Attached(entry) => (Some(entry), entry.view().map_err(|_| Failure::ciphertext_rejected())?),
            InspectedKey::Detached(detached) => {
                let view = KeyView {
                    key: Arc::new(detached.key.clone()),
                    versions: self.store.key_versions(tenant, detached.key.id).await?.into(),
                };
                (None, view)
            }
        };
        let tenant_row = self.store.tenant(tenant).await?;
        let mut recipients = Vec::with_capacity(envelope.recipients().len());
        let mut opens = None;
        for (index, recipient) in envelope.recipients().iter().enumerate() {
            let factory = recipient.provider().and_then(|provider| self.directory().factories().get(provider));
            let version = recipient.provider().and_then(|provider| view.matching(provider, recipient.key()));
            opens = opens.or_else(|| version.map(VersionPlace::of));
            // If a connection cannot be used, its version's details are left out, and the
            // inspection succeeds.
            let connection = match (version, entry) {
                (Some(version), Some(entry)) => self.directory().reach(entry, version).await.ok().flatten(),
                (Some(version), None) => match version.connection_id() {
                    Some(id) => self.directory().connection(tenant, id).await.ok().flatten(),
                    None => None,
                },
                (None, _) => None,
            };
            let spec = version.map_or(view.key.primary.spec, |version| version.spec);
            // Use the version's own connection, because another one may not reach the provider key.
            let commands = match (factory, &connection, recipient.wrapped()) {
                (Some(factory), Some(connection), Some((_, wrapped))) => {
                    factory.offline_decrypt(&connection.view().settings, spec, &wrapped, &bound)
                }
                (_, _, _) => Vec::new(),
            };
            recipients.push(InspectedRecipient {
                provider: recipient.provider(),
                version: version.map(|version| version.number),
                // Two connections to one kind of provider can bind the context differently.
                binding: match &connection {
                    Some(connection) => connection.pipeline().capabilities().of(spec).map(|keys| keys.context),
                    None => factory.and_then(|factory| factory.capabilities().of(spec).map(|keys| keys.context)),
                },
                commands,
                index,
            });
        }
        let answer = Inspected {
            key: view.key.name.clone(),
            tenant: tenant_row.name,
            primary: VersionPlace::of(view.primary()),
            opens,
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
