//! Wrapping a data key: what `wrap`, `data-keys` and `rewrap` to another key share.

use std::sync::Arc;

use claviger_provider::{
    BoundContext, Error, ErrorKind, Generated, Kek, KeyCapabilities, KeyDescription, OpContext, Pipeline, ProviderKind, Secret, Wrapped,
};

use super::at_provider::turn_at_provider;
use super::opening::forbidden_at_provider;
use super::reach::permitted;
use super::young::WhileYoung;
use super::{Broker, Code, Failure, RequestContext};
use crate::audit::Digest;
use crate::envelope::{BuildError, Draft, Envelope, Origin, Scope};
use crate::keys::{ConnectionView, EpochGuard, KeyEntry, KeyView};
use crate::store::model::KeyState;

/// A key that is ready to wrap: enabled, the connection of its primary version not severed.
pub struct ReadyKey {
    /// The key's entry.
    pub entry: Arc<KeyEntry>,
    /// The key's rows when it was taken.
    pub view: KeyView,
    /// The epochs of key and connection when it was taken.
    pub epoch_guard: EpochGuard,
    /// The row of the primary version's connection.
    pub connection: ConnectionView,
    /// The calls to the primary version's provider. Private, so that no wrap passes the count.
    pipeline: Pipeline,
}

impl Broker {
    /// Takes a key for use with its primary version.
    ///
    /// # Errors
    /// `not_found`, `key_disabled`, `key_state`, `connection_severed`.
    pub(super) async fn ready(&self, cx: &RequestContext, entry: &Arc<KeyEntry>) -> Result<ReadyKey, Failure> {
        let view = entry.view()?;
        permitted(&view, KeyState::wraps)?;
        if !view.key.primary.provider_state.permits() {
            // Boxed, since it is rare and would be part of every wrap's future.
            Box::pin(self.ask_anew(cx, entry, &view.key.primary)).await?;
            let now = entry.view()?;
            if !now.key.primary.provider_state.permits() {
                return Err(forbidden_at_provider(&now.key.primary));
            }
        }
        self.ready_as_stored(entry).await
    }

    /// As [`Broker::ready`], whatever is stored of the version's state at the provider.
    ///
    /// # Errors
    /// As [`Broker::ready`].
    pub(super) async fn ready_as_stored(&self, entry: &Arc<KeyEntry>) -> Result<ReadyKey, Failure> {
        let view = entry.view()?;
        permitted(&view, KeyState::wraps)?;
        let reach = self.reach(entry, &view.key.primary).await?;
        Ok(ReadyKey {
            entry: Arc::clone(entry),
            epoch_guard: reach.epoch_guard(entry, &view),
            view,
            connection: reach.row,
            pipeline: reach.pipeline,
        })
    }
}

/// A wrapped key and the version that wrapped it.
pub struct WrappedKey {
    /// The envelope.
    pub envelope: Envelope,
    /// The number of the key's version that wrapped.
    pub version: u32,
}

impl ReadyKey {
    /// The part of the header that is known before the data key.
    pub fn origin(&self, scope: Option<Scope>, now: i64) -> Origin {
        // Negative only with a broken clock.
        let created = u64::try_from(now / 1_000_000).unwrap_or(0);
        Origin {
            tenant: self.entry.tenant(),
            key: self.entry.id(),
            scope,
            created,
        }
    }

    /// The provider's key and version of the primary version.
    pub fn primary(&self) -> Kek {
        self.view.key.primary.kek(self.entry.id())
    }

    /// What the provider can do with keys of this one's specification.
    pub fn can(&self) -> Result<&KeyCapabilities, Failure> {
        let declared = self.pipeline.capabilities().of(self.view.key.primary.spec);
        declared.ok_or_else(|| Failure::new(Code::Unsupported, "The connection's provider has no keys of this specification."))
    }

    /// The kind of the primary version's provider.
    pub fn provider(&self) -> ProviderKind {
        self.pipeline.kind()
    }

    /// [`Pipeline::rotate`] of the primary version's key.
    pub async fn rotate(&self, cx: &RequestContext) -> Result<KeyDescription, Error> {
        self.pipeline.rotate(&cx.op_context(), &self.primary()).await
    }

    /// [`Pipeline::wrap_key`] under the primary version.
    pub async fn wrap_key(&self, cx: &RequestContext, broker: &Broker, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Failure> {
        let (call, primary) = (cx.op_context(), self.primary());
        let sends = || self.pipeline.wrap_key(&call, &primary, dek, context);
        self.counted(cx, broker, &call, sends).await
    }

    /// [`Pipeline::generate_data_key`] under the primary version.
    pub async fn generate_data_key(
        &self,
        cx: &RequestContext,
        broker: &Broker,
        bytes: usize,
        context: &BoundContext,
    ) -> Result<Generated, Failure> {
        let (call, primary) = (cx.op_context(), self.primary());
        let sends = || self.pipeline.generate_data_key(&call, &primary, bytes, context);
        self.counted(cx, broker, &call, sends).await
    }

    /// [`Pipeline::rewrap_key`] under the primary version.
    pub async fn rewrap_key(
        &self,
        cx: &RequestContext,
        broker: &Broker,
        wrapped: &Wrapped,
        context: &BoundContext,
    ) -> Result<Wrapped, Failure> {
        let (call, primary) = (cx.op_context(), self.primary());
        let sends = || self.pipeline.rewrap_key(&call, wrapped, &primary, context);
        Ok(self.counted(cx, broker, &call, sends).await?.wrapped)
    }

    /// Sends a wrap, after it was counted where the version's wraps are limited. Its retries, each
    /// with a nonce of its own, are counted after it.
    async fn counted<T, F>(&self, cx: &RequestContext, broker: &Broker, call: &OpContext, sends: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        if !self.can()?.random_nonce_bound {
            return self.sent(cx, sends).await;
        }
        let version = self.view.key.primary.number;
        broker.count_wrap(cx, &self.entry, version).await?;
        let before = call.trace().made();
        let sent = self.sent(cx, sends).await;
        let retries = call.trace().made().saturating_sub(before + 1);
        if retries > 0 {
            self.entry.wraps().take_retries(version, retries);
        }
        sent
    }

    /// Sends a wrap, again while the key may be too young for its provider to know it.
    async fn sent<T, F>(&self, cx: &RequestContext, sends: impl Fn() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut young = WhileYoung::new();
        loop {
            match sends().await {
                Ok(sent) => return Ok(sent),
                // Boxed, since it is rare and would be part of every wrap's future.
                Err(error) => Box::pin(young.wait(cx, Some(&self.view.key.primary), error)).await?,
            }
        }
    }

    /// Wraps the draft's data key at the provider and finishes the envelope.
    pub async fn wrap(&self, cx: &RequestContext, broker: &Broker, draft: &Draft) -> Result<WrappedKey, Failure> {
        let wrapped = self.wrap_key(cx, broker, draft.data_key(), draft.context()).await?;
        self.finish(cx, broker, draft, &wrapped).await
    }

    /// Finishes the envelope with the provider's ciphertext.
    pub async fn finish(&self, cx: &RequestContext, broker: &Broker, draft: &Draft, wrapped: &Wrapped) -> Result<WrappedKey, Failure> {
        let version = self.version_of(cx, broker, wrapped).await?;
        let secrets = broker.directory().secrets(self.entry.tenant()).await?;
        let envelope = draft.finish(self.pipeline.kind(), wrapped, secrets.seal_key()).map_err(unfit)?;
        cx.note(|fields| {
            fields.key_version = Some(version);
            fields.dek_id = Some(draft.dek_id());
            fields.provider_key_material.clone_from(&wrapped.key_material);
            fields.provider_request_id.clone_from(&wrapped.upstream_request_id);
            fields.context_hash = Some(secrets.hash_context(draft.context().bytes()));
            fields.wrapped_sha256 = Some(Digest(envelope.fingerprint()));
        });
        Ok(WrappedKey { envelope, version })
    }

    /// The number of the version that the provider used. A version without a row here (the key was
    /// rotated at the provider itself) gets one before the answer.
    pub async fn version_of(&self, cx: &RequestContext, broker: &Broker, wrapped: &Wrapped) -> Result<u32, Failure> {
        let (connection, provider) = (self.epoch_guard.connection(), self.pipeline.kind());
        let number_in = |view: &KeyView| {
            view.matching_through(connection, provider, &wrapped.key)
                .map(|version| version.number)
        };
        if let Some(number) = number_in(&self.view) {
            return Ok(number);
        }
        let number = || number_in(&self.entry.view().ok()?);
        let _one_at_a_time = turn_at_provider(cx, &self.entry).await?;
        // Another request may have stored it meanwhile.
        if let Some(number) = number() {
            return Ok(number);
        }
        Box::pin(broker.take_versions(&cx.op_context(), &self.entry)).await?;
        Box::pin(broker.keep_canary(cx, &self.entry)).await;
        // Detached meanwhile: there is no key whose version this could be.
        self.entry.view()?;
        number().ok_or_else(|| {
            Error::new(
                ErrorKind::UpstreamProtocol,
                "wrapped under a version that the key's description does not name",
            )
            .into()
        })
    }
}

/// The failure for a provider's response that does not fit into an envelope.
pub fn unfit(error: BuildError) -> Failure {
    match error {
        BuildError::TooLarge => Failure::new(Code::TooLarge, "The wrapped key would be larger than 16 KiB."),
        BuildError::Recipient => Error::new(ErrorKind::UpstreamProtocol, "the answer does not fit a recipient").into(),
    }
}
