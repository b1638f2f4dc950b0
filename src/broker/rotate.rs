//! Rotate: makes a new primary version; the old versions still unwrap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{Error, ErrorKind, KeyId, Rotation, TenantId};

use super::at_provider::turn_at_provider;
use super::described::{in_place, known_states, number_versions};
use super::idempotency::Begun;
use super::learn::Stored;
use super::lost_versions::obstacle;
use super::read::changed;
use super::rounds::{PATIENCE, ROUND, ROUND_OF_TENANT, check_all, is_own, later, passes};
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, NewPrimary, op};
use crate::audit::{self, Object, Verb};
use crate::keys::{KeyEntry, KeyView};
use crate::store::Change;
use crate::store::model::{Key, KeyVersion, ProviderState, Resource};

/// How long a rotation is waited for. AWS, the only provider that does not finish at once, names
/// minutes.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);
/// The same for a rotation whose response was lost, at a provider that finishes at once: a request that
/// is under way still can arrive so much later.
const LOST: Duration = Duration::from_secs(60);
/// The same at a provider that finishes later.
const LOST_AND_SLOW: Duration = Duration::from_secs(15 * 60);

impl Broker {
    /// Makes a new primary version. Where `new` names nothing, or what the primary version has
    /// already, the provider rotates its key in place. Otherwise the key moves
    /// ([`Broker::move_key`]).
    ///
    /// # Errors
    /// `unsupported` where keys cannot be rotated, `in_progress` while a rotation is under
    /// way, `quota_exceeded`, and what the provider reports.
    pub async fn rotate(
        &self,
        authorized: Authorized<op::Rotate>,
        new: NewPrimary<'_>,
        keep: Keep<Key>,
    ) -> Result<Guarded<Completed<Key>>, Failure> {
        let (cx, key) = (authorized.cx(), &authorized.object().key);
        let _one_at_a_time = turn_at_provider(cx, key).await?;
        match &authorized.object().to {
            None => {
                // Of the embedded provider, no call is traced.
                let mut confirmed = false;
                let rotated = self.rotate_in_place(&authorized, new, &keep, &mut confirmed).await;
                // The provider has the new version, or may have it, and the store has not.
                let is_unknown = |failure: &Failure| cx.provider_may_have_changed() || (confirmed && failure.outcome_unknown);
                if rotated.as_ref().is_err_and(is_unknown) && self.watch_rotation(key).await {
                    cx.set_noted();
                }
                rotated
            }
            Some(to) => self.move_key(&authorized, to, new, &keep).await,
        }
    }

    /// Has [`Broker::finish_rotations`] find out whether the provider carried out a rotation. Without
    /// effect where that rotation makes another provider key: a description of this one cannot show it. Returns
    /// whether the store has noted what there is to note.
    pub(super) async fn watch_rotation(&self, key: &Arc<KeyEntry>) -> bool {
        let watched = async {
            let _row = key.change().lock().await;
            let view = key.view()?;
            if view.key.rotating.is_some() {
                return Ok(());
            }
            if self.rotation_of(key, &view).await == Some(Rotation::NewKey) {
                let (tenant, id) = (key.tenant(), key.id());
                tracing::warn!(%tenant, key = %id, "a rotation was interrupted that makes a provider key: the provider may have one that nothing uses");
                return Ok(());
            }
            let (now, unannounced) = (self.now(), Change::unannounced());
            let row = self
                .store
                .set_key_rotating(key.tenant(), key.id(), Some(-now), now, &unannounced)
                .await?;
            key.put(row, None);
            Ok::<(), Failure>(())
        };
        if let Err(failure) = watched.await {
            let (tenant, id, code) = (key.tenant(), key.id(), failure.code.as_str());
            tracing::error!(%tenant, key = %id, code, "a rotation was interrupted: the provider may have a version that is not stored here");
            return false;
        }
        true
    }

    /// How the provider of a key's primary version rotates it, also through a severed connection. `None`
    /// where the connection cannot be loaded, too.
    async fn rotation_of(&self, key: &Arc<KeyEntry>, view: &KeyView) -> Option<Rotation> {
        let primary = &view.key.primary;
        let connection = self.directory().reach(key, primary).await.ok()??;
        connection.pipeline().capabilities().of(primary.spec)?.rotation
    }

    /// Makes a new version of the primary version's provider key. If the provider has not finished
    /// when it answers, [`Key::rotating`] holds the time of the request, and
    /// [`Broker::finish_rotations`] stores the version later. `confirmed` becomes true once the provider has
    /// rotated.
    async fn rotate_in_place(
        &self,
        authorized: &Authorized<op::Rotate>,
        new: NewPrimary<'_>,
        keep: &Keep<Key>,
        confirmed: &mut bool,
    ) -> Result<Guarded<Completed<Key>>, Failure> {
        let (cx, key) = (authorized.cx(), &authorized.object().key);
        // Ignore the stored state at the provider. Asking again would need the lock that is held
        // here, and the provider decides about the rotation anyway.
        let mut ready = self.ready_as_stored(key).await?;
        if new.differs_from(&ready.view.key.primary) {
            // The caller was authorized for a rotation in place, which needs fewer permissions than
            // a move.
            return Err(Failure::new(Code::InProgress, "The key was moved meanwhile.").advice("Repeat the request."));
        }
        let Some(rotation) = ready.can()?.rotation else {
            return Err(Failure::new(Code::Unsupported, "The connection's provider does not rotate keys."));
        };
        not_rotating(&ready.view.key)?;
        if ready.provider().reuses_names() || obstacle(&ready.view).is_some() {
            // Another key under the same name is not rotated, unless the right one is there again.
            self.take_versions(&cx.op_context(), key).await?;
            if let Some(failure) = obstacle(&key.view()?) {
                return Err(failure);
            }
            ready = self.ready_as_stored(key).await?;
        }
        let primary = ready.view.key.primary.number;
        if keep.rotated_from().is_some_and(|before| primary > before) || keep.drawn().is_some() {
            // What an earlier attempt of this request asked for is there: its answer was lost. If that was a
            // move, the gateway has finished it.
            let key = Key::clone(&ready.view.key);
            cx.note(|fields| fields.key_version = Some(primary));
            let kept = keep.row(Completion::Done, &key, Some(key.revision))?;
            self.store.mark_applied(cx.tenant(), &self.unannounced(cx).keeping(kept)).await?;
            return Ok(Guarded::free(changed(Completion::Done, key)));
        }
        self.has_room(cx, &[Resource::Versions], keep).await?;
        self.key_has_room(cx, &ready.view)?;
        self.keep_begun(cx, keep, Begun::RotateFrom(primary)).await?;
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Rotate, Object::Key, &key.id()).at_provider())
            .await?;
        let described = match ready.rotate(cx).await {
            Ok(described) => described,
            Err(error) => {
                self.forget_begun(cx, keep).await;
                return Err(error.into());
            }
        };
        *confirmed = true;
        let mut identities = ready.identify(cx, self, &described).await?;
        identities.note_rotation(&ready.view.versions, &described);
        if !identities.permit_versions() {
            self.take_versions(&cx.op_context(), key).await?;
            let refused = obstacle(&key.view()?);
            return Err(
                refused.unwrap_or_else(|| Failure::new(Code::InProgress, "The key changed meanwhile.").advice("Repeat the request."))
            );
        }
        let replaced = |versions: &[KeyVersion]| {
            let mut states = known_states(versions, &described, &identities, &ready.connection);
            states.retain(|seen| seen.state == ProviderState::Replaced);
            states
        };
        if !replaced(&ready.view.versions).is_empty() {
            // The new version may have the name of one that its owner lost: that one gives it up.
            let reach = self.reach(key, &ready.view.key.primary).await?;
            self.take(&cx.op_context(), key, &reach, replaced).await?;
        }
        let beside = match rotation {
            Rotation::InPlace | Rotation::InPlaceUnnamed => Vec::new(),
            // Without an answer, the store refuses what may be another key's.
            Rotation::NewKey => {
                let beside = self.keys_beside(cx, key, &ready.view.key.primary, &described.id).await;
                beside.unwrap_or_default()
            }
        };
        let changing = key.change().lock().await;
        // Read the row again, because a disable may have come during the provider call.
        let view = key.view()?;
        let now = self.now();
        let in_place = in_place(&view);
        let can_be = |version: &KeyVersion| in_place(version) && identities.can_be(version);
        let (new, primary) = number_versions(&view.versions, can_be, &described, &ready.connection, now)?;
        // The response that is stored for a repeated request must show the row as the transaction
        // will leave it.
        let under_way = new.is_empty() && primary == view.key.primary.number;
        match rotation {
            Rotation::InPlace | Rotation::InPlaceUnnamed => {}
            // If the response does not name the new provider key, the key would be lost.
            Rotation::NewKey if under_way => return Err(Error::new(ErrorKind::UpstreamProtocol, "a rotation without its new key").into()),
            Rotation::NewKey => {}
        }
        let mut after = Key::clone(&view.key);
        after.rotating = under_way.then_some(now);
        if let Some(version) = new.iter().chain(view.versions.iter()).find(|version| version.number == primary) {
            after.primary.clone_from(version);
        }
        after.revision += 1;
        after.updated = now;
        let completion = if under_way { Completion::Accepted } else { Completion::Done };
        let kept = keep.row(completion, &after, Some(after.revision))?;
        let (tenant, id) = (key.tenant(), key.id());
        let change = match rotation {
            // The provider has rotated: a credential that ended since gets no answer, but the version is stored.
            Rotation::InPlace | Rotation::InPlaceUnnamed => change.keeping(kept).already_effective(),
            // Nobody has to use another provider key, and one that an ended credential had made is not used.
            Rotation::NewKey => change.keeping(kept).within(None).beside(beside),
        };
        let row = if under_way {
            self.store.set_key_rotating(tenant, id, Some(now), now, &change).await?
        } else {
            cx.note(|fields| fields.key_version = Some(primary));
            let added = self.store.add_key_versions(tenant, id, &new, primary, now, &change).await;
            added.inspect_err(|error| {
                if rotation == Rotation::NewKey {
                    let provider_key = &described.id;
                    tracing::error!(%tenant, key = %id, provider_key, %error, "the provider has a key that a rotation made and that nothing uses: adopt it (`provider_key`), or delete it at the provider");
                }
            })?
        };
        let versions = view.versions.iter().cloned().chain(new).collect();
        key.put(row.clone(), Some(versions));
        drop(changing);
        if !under_way {
            Box::pin(self.keep_canary(cx, key)).await;
        }
        Ok(Guarded::free(changed(completion, row)))
    }

    /// Asks the providers once about each rotation that they have not finished, and adds the new
    /// versions. Those of a suspended tenant wait for its resume. A provider that fails is the tenant's own affair.
    /// Call it periodically.
    ///
    /// # Errors
    /// The code of a failure of the gateway's; each is logged.
    pub async fn finish_rotations(&self) -> Result<(), Code> {
        let checked = self.check_rotations().await;
        // For `/readyz`. A store that fails is told there, too.
        let _ = self.count_lost_rotations().await;
        checked
    }

    async fn check_rotations(&self) -> Result<(), Code> {
        let keys = self.store.rotating_keys(ROUND, ROUND_OF_TENANT).await.map_err(|error| {
            tracing::warn!(%error, "the store cannot list the rotations in progress");
            Failure::from(error).code
        })?;
        check_all(keys.into_iter().map(async |(tenant, id)| {
            self.finish_rotation(tenant, id).await.map_err(|failure| {
                tracing::warn!(%tenant, key = %id, code = failure.code.as_str(), "a rotation in progress could not be checked");
                failure.code
            })
        }))
        .await
    }

    async fn finish_rotation(&self, tenant: TenantId, id: KeyId) -> Result<(), Failure> {
        let Some(key) = self.directory().key(tenant, id).await? else {
            return Ok(());
        };
        let one_at_a_time = key.at_provider().lock().await;
        let view = key.view()?;
        let Some(since) = view.key.rotating else { return Ok(()) };
        let failed = match self.take_versions_in_background("rotation", &key, PATIENCE, None).await {
            Ok(true) => {
                tracing::info!(%tenant, key = %id, "the provider has finished a rotation");
                drop(one_at_a_time);
                self.keep_canary_in_background("rotation", &key, PATIENCE).await;
                return Ok(());
            }
            Ok(false) => None,
            // Asked about once the connection is restored, or the tenant resumed.
            Err(failure) if matches!(failure.code, Code::ConnectionSevered | Code::PermissionDenied) => return Ok(()),
            // Its owner may have deleted the key, or taken the right to read it away: no version of it ever appears.
            Err(failure) => Some(failure),
        };
        let now = self.now();
        if since.saturating_abs() > later(now, LOST) {
            // The clock was set back since: by it, the rotation would be waited for until it has caught up.
            let _row = key.change().lock().await;
            let unannounced = Change::unannounced();
            let row = self
                .store
                .set_key_rotating(tenant, id, Some(now * since.signum()), now, &unannounced)
                .await?;
            key.put(row, None);
            return Ok(());
        }
        let reach = self.reach(&key, &view.key.primary).await?;
        let believed = match (since < 0, self.rotation_of(&key, &view).await) {
            (false, _) => BELIEVED,
            (true, Some(Rotation::InPlace)) => LOST,
            (true, _) => LOST_AND_SLOW,
        };
        // A provider that does not answer may have made the version.
        let is_silent = failed.as_ref().is_some_and(|failure| passes(failure.code));
        let believed = if is_silent { believed.max(LOST_AND_SLOW) } else { believed };
        if u128::try_from(now.saturating_sub(since.saturating_abs())).unwrap_or(0) > believed.as_micros() {
            tracing::warn!(%tenant, key = %id, "the provider never finished a rotation; it is no longer waited for");
            let store = async |change: &Change| {
                let _row = key.change().lock().await;
                let row = self.store.set_key_rotating(tenant, id, None, now, change).await?;
                key.put(row, None);
                Ok(Stored::states())
            };
            self.learn(&key, &reach.row, Instant::now() + PATIENCE, store).await?;
            return Ok(());
        }
        match failed {
            Some(failure) if is_own(failure.code) => Err(failure),
            Some(failure) => {
                let code = failure.code.as_str();
                tracing::debug!(%tenant, key = %id, code, "the provider could not be asked about a rotation");
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Refuses a key while its provider carries out a rotation.
///
/// # Errors
/// `in_progress`.
pub(super) fn not_rotating(key: &Key) -> Result<(), Failure> {
    match key.rotating {
        None => Ok(()),
        Some(_) => Err(
            Failure::new(Code::InProgress, "The provider has not finished the last rotation of this key.")
                .advice("Wait until the key's rotation.state is idle."),
        ),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests;
