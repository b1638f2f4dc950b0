//! Inspect: what a wrapped key says of itself, and how to open it without us. No provider
//! is called and no secret is told.

use claviger_provider::{BoundContext, ContextBinding, KeySpec, ProviderKind};

use super::{Authorized, Broker, Failure, Guarded, op};
use crate::audit::Digest;
use crate::envelope::{Context, Envelope, SealStatus, Suite};

/// What an envelope says of itself.
#[derive(Debug)]
pub struct Inspected {
    /// The key's name.
    pub key: String,
    /// The tenant's name.
    pub tenant: String,
    /// The name of the key's connection.
    pub connection: String,
    /// The connection's family.
    pub provider: ProviderKind,
    /// What the key is made of.
    pub spec: KeySpec,
    /// The provider's name of the key, of its primary version; empty if it has none.
    pub provider_key: String,
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
    /// The commands of the provider's own tool that print K in base64, in order; empty
    /// where there is no such tool, and for a recipient that is of no version of the key.
    pub commands: Vec<String>,
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
                // The connection of the key leads to the key's versions and to nothing else.
                let commands = match (factory, version, recipient.wrapped()) {
                    (Some(factory), Some(_), Some((_, wrapped))) => {
                        factory.offline_decrypt(&connection.settings, view.key.spec, &wrapped, &bound)
                    }
                    (_, _, _) => Vec::new(),
                };
                InspectedRecipient {
                    provider: recipient.provider(),
                    version: version.map(|version| version.number),
                    // Of two connections to one family one may bind what the other does not.
                    binding: match version {
                        Some(_) => key
                            .connection()
                            .pipeline()
                            .capabilities()
                            .of(view.key.spec)
                            .map(|keys| keys.context),
                        None => factory.and_then(|factory| factory.capabilities().of(view.key.spec).map(|keys| keys.context)),
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
            spec: view.key.spec,
            provider_key: view.primary().map(|version| version.provider_key.clone()).unwrap_or_default(),
            suite: envelope.header().suite(),
            sealed,
            context: bound,
            recipients,
        };
        Ok(Guarded::free(answer))
    }
}
