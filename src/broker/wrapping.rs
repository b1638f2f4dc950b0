//! Wrapping a data key: what `wrap`, `data-keys` and `rewrap` to another key share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{
    BoundContext, Error, ErrorKind, Generated, Kek, KeyCapabilities, KeyDescription, OpContext, Pipeline, ProviderKeyRef, ProviderKind,
    Secret, Wrapped,
};

use super::at_provider::turn_at_provider;
use super::context::Behalf;
use super::identity::Identities;
use super::lost_versions::{forbidden_at_provider, obstacle, refused_as};
use super::reach::{may_wrap, permitted};
use super::young::WhileYoung;
use super::{Broker, Code, Failure, RequestContext};
use crate::audit::Digest;
use crate::envelope::{BuildError, Draft, Envelope, Origin, Scope};
use crate::keys::{ConnectionView, EpochGuard, KeyEntry, KeyView};
use crate::store::model::{KeyState, KeyVersion, ProviderState};

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
        may_wrap(&view)?;
        if !view.key.primary.provider_state.wraps() {
            // Boxed, since it is rare and would be part of every wrap's future.
            Box::pin(self.ask_anew(cx, entry, &view.key.primary)).await?;
            let now = entry.view()?;
            if !now.key.primary.provider_state.wraps() {
                return Err(forbidden_at_provider(&now.key.primary));
            }
        }
        self.ready_here(entry).await
    }

    /// As [`Broker::ready`], whatever is stored of the version's state at the provider.
    ///
    /// # Errors
    /// As [`Broker::ready`].
    pub(super) async fn ready_here(&self, entry: &Arc<KeyEntry>) -> Result<ReadyKey, Failure> {
        let ready = self.ready_as_stored(entry).await?;
        may_wrap(&ready.view)?;
        Ok(ready)
    }

    /// As [`Broker::ready`], whatever the version's states are: for a rotation, which takes a key to another version.
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

    /// Which of the key's versions a description of it is of.
    ///
    /// # Errors
    /// What the store fails with.
    pub(super) async fn identify(&self, cx: &RequestContext, broker: &Broker, described: &KeyDescription) -> Result<Identities, Failure> {
        let (op, key) = (cx.op_context(), (self.entry.tenant(), self.entry.id()));
        let through = (&*self.connection, &self.pipeline);
        broker.identify(&op, key, &self.view.versions, described, through).await
    }

    /// What a wrap under a version names: where the provider has a current version of its own, the provider's key
    /// alone.
    fn wrapping_kek(&self, version: &KeyVersion) -> Result<Kek, Failure> {
        Ok(match self.can()?.chooses_version {
            true => version.whole_kek(self.entry.id()),
            false => version.kek(self.entry.id()),
        })
    }

    /// [`Pipeline::wrap_key`] under the primary version.
    pub async fn wrap_key(&self, cx: &RequestContext, broker: &Broker, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Failure> {
        let op = &cx.op_context();
        let wrap = |kek: Kek| async move { self.pipeline.wrap_key(op, &kek, dek, context).await };
        self.followed(cx, broker, op, wrap).await
    }

    /// As [`ReadyKey::wrap_key`], without a look at what became of a key that is refused.
    pub(super) async fn wrap_key_once(
        &self,
        behalf: Behalf<'_>,
        broker: &Broker,
        op: &OpContext,
        dek: &Secret,
        context: &BoundContext,
    ) -> Result<Wrapped, Failure> {
        let primary = &self.view.key.primary;
        let kek = self.wrapping_kek(primary)?;
        let sends = || self.pipeline.wrap_key(op, &kek, dek, context);
        self.counted(behalf, broker, op, primary, sends).await
    }

    /// [`Pipeline::generate_data_key`] under the primary version.
    pub async fn generate_data_key(
        &self,
        cx: &RequestContext,
        broker: &Broker,
        bytes: usize,
        context: &BoundContext,
    ) -> Result<Generated, Failure> {
        let op = &cx.op_context();
        let generate = |kek: Kek| async move { self.pipeline.generate_data_key(op, &kek, bytes, context).await };
        self.followed(cx, broker, op, generate).await
    }

    /// [`Pipeline::rewrap_key`] under the primary version.
    pub async fn rewrap_key(
        &self,
        cx: &RequestContext,
        broker: &Broker,
        wrapped: &Wrapped,
        context: &BoundContext,
    ) -> Result<Wrapped, Failure> {
        let op = &cx.op_context();
        let rewrap = |kek: Kek| async move { self.pipeline.rewrap_key(op, wrapped, &kek, context).await };
        Ok(self.followed(cx, broker, op, rewrap).await?.wrapped)
    }

    /// Sends a wrap under the primary version. If it is refused for the state of key or version, sends it once
    /// more after a look at what became of them.
    async fn followed<T, F: Future<Output = Result<T, Error>>>(
        &self,
        cx: &RequestContext,
        broker: &Broker,
        op: &OpContext,
        wrap: impl Fn(Kek) -> F,
    ) -> Result<T, Failure> {
        broker
            .directory()
            .note_use(&self.entry, self.view.key.primary.provider, Instant::now());
        let primary = &self.view.key.primary;
        let kek = self.wrapping_kek(primary)?;
        match self.counted(Behalf::Request(cx), broker, op, primary, || wrap(kek.clone())).await {
            // Boxed, since it is rare and would be part of every wrap's future.
            Err(refused) if is_of_key(&refused, primary) => Box::pin(self.followed_again(cx, broker, op, refused, wrap)).await,
            sent => sent,
        }
    }

    /// Sends a wrap once more that was refused for the state of key or version, if the key was described since or
    /// has another primary version, and nothing is known to forbid it.
    async fn followed_again<T, F: Future<Output = Result<T, Error>>>(
        &self,
        cx: &RequestContext,
        broker: &Broker,
        op: &OpContext,
        refused: Failure,
        wrap: impl Fn(Kek) -> F,
    ) -> Result<T, Failure> {
        let before = &self.view.key.primary;
        let described = broker.look_into(cx, &self.entry, before).await;
        let view = self.entry.view()?;
        may_wrap(&view)?;
        let primary = &view.key.primary;
        // A key that was moved meanwhile is reached in another way.
        let is_here = primary.connection == before.connection && primary.spec == before.spec;
        let is_new = described || primary.number != before.number;
        if !(is_here && is_new && primary.provider_state.wraps()) {
            return Err(obstacle(&view).unwrap_or_else(|| refused_as(primary, refused)));
        }
        let kek = self.wrapping_kek(primary)?;
        self.counted(Behalf::Request(cx), broker, op, primary, || wrap(kek.clone())).await
    }

    /// Sends a wrap, after it was counted where the version's wraps are limited. Its retries, each
    /// with a nonce of its own, are counted after it.
    async fn counted<T, F: Future<Output = Result<T, Error>>>(
        &self,
        behalf: Behalf<'_>,
        broker: &Broker,
        op: &OpContext,
        version: &KeyVersion,
        sends: impl Fn() -> F,
    ) -> Result<T, Failure> {
        if !self.can()?.random_nonce_bound {
            return self.sent(behalf, broker, op, version, sends).await;
        }
        broker.count_wrap(op.deadline, &self.entry, version.number).await?;
        let before = op.trace().made();
        let sent = self.sent(behalf, broker, op, version, sends).await;
        let retries = op.trace().made().saturating_sub(before + 1);
        if retries > 0 {
            self.entry.wraps().take_retries(version.number, retries);
        }
        sent
    }

    /// Sends a wrap under a version, again while that may be too young for its provider to know it.
    async fn sent<T, F: Future<Output = Result<T, Error>>>(
        &self,
        behalf: Behalf<'_>,
        broker: &Broker,
        op: &OpContext,
        version: &KeyVersion,
        sends: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let mut young = WhileYoung::new();
        loop {
            match sends().await {
                Ok(sent) => return Ok(sent),
                // Boxed, since it is rare and would be part of every wrap's future.
                Err(error) => {
                    Box::pin(async {
                        young.wait(op.deadline, version, error).await?;
                        broker.still_permitted(behalf, &self.entry, KeyState::wraps)
                    })
                    .await?;
                }
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
    ///
    /// # Errors
    /// What looking the version up fails with, and `key_state` if the provider names new versions too fast.
    pub async fn version_of(&self, cx: &RequestContext, broker: &Broker, wrapped: &Wrapped) -> Result<u32, Failure> {
        let primary = self.view.key.primary.number;
        match self.number_in(&self.view, &wrapped.key) {
            Some(number) if number == primary => Ok(number),
            // An older one: its owner restored a backup, or another key has the name.
            Some(number) if number > primary || !self.provider().reuses_names() => {
                self.used_another(broker, number)?;
                Ok(number)
            }
            // Boxed, since it is rare and would be part of every wrap's future.
            Some(_) | None => Box::pin(self.learned_version(cx, broker, &wrapped.key)).await,
        }
    }

    /// The number of the version that a provider's answer names. Where names are reused, one that the provider did not
    /// describe any more may be another one since.
    fn number_in(&self, view: &KeyView, used: &ProviderKeyRef) -> Option<u32> {
        let version = view.matching_through(self.epoch_guard.connection(), self.pipeline.kind(), used)?;
        let is_missing = version.provider.reuses_names() && version.provider_state == ProviderState::Unknown;
        (!is_missing).then_some(version.number)
    }

    /// Notes a wrap that another version than the primary one of [`ReadyKey::view`] made.
    fn used_another(&self, broker: &Broker, number: u32) -> Result<(), Failure> {
        if self.can()?.random_nonce_bound {
            // Counted for the primary version so far.
            self.entry.wraps().take_retries(number, 1);
        }
        if self.entry.view()?.key.primary.number != number {
            // The provider's current version is an older one again.
            broker.directory().look_soon(&self.entry);
        }
        Ok(())
    }

    /// As [`ReadyKey::version_of`], of a version that was not known when the wrap began, or is older than the primary one.
    async fn learned_version(&self, cx: &RequestContext, broker: &Broker, used: &ProviderKeyRef) -> Result<u32, Failure> {
        let number = || self.number_in(&self.entry.view().ok()?, used);
        let one_at_a_time = turn_at_provider(cx, &self.entry).await?;
        // Another request may have stored it meanwhile.
        let primary = self.entry.view()?.key.primary.number;
        if let Some(number) = number().filter(|number| *number >= primary) {
            self.used_another(broker, number)?;
            return Ok(number);
        }
        if !self.entry.may_learn() {
            return Err(Failure {
                provider: Some(self.pipeline.kind()),
                retry_after: Some(Duration::from_secs(10)),
                ..Failure::new(
                    Code::KeyState,
                    "The provider names new versions of the key faster than the gateway takes them over.",
                )
            });
        }
        broker.take_versions(&cx.op_context(), &self.entry).await?;
        drop(one_at_a_time);
        // Detached meanwhile: there is no key whose version this could be.
        if let Some(failure) = obstacle(&self.entry.view()?) {
            return Err(failure);
        }
        broker.keep_canary(cx, &self.entry).await;
        self.entry.view()?;
        let number = number().ok_or_else(|| {
            Error::new(
                ErrorKind::UpstreamProtocol,
                "wrapped under a version that the key's description does not name",
            )
        })?;
        self.used_another(broker, number)?;
        Ok(number)
    }
}

/// Whether a refusal of a provider's may be for what became of a version's key. Where names are reused, a key of another
/// type makes the provider call the gateway's own request wrong.
fn is_of_key(refused: &Failure, version: &KeyVersion) -> bool {
    refused.code == Code::KeyState || (refused.code == Code::InvalidRequest && version.provider.reuses_names())
}

/// The failure for a provider's response that does not fit into an envelope.
pub fn unfit(error: BuildError) -> Failure {
    match error {
        BuildError::TooLarge => Failure::new(Code::TooLarge, "The wrapped key would be larger than 16 KiB."),
        BuildError::Recipient => Error::new(ErrorKind::UpstreamProtocol, "the answer does not fit a recipient").into(),
    }
}
