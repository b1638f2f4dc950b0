//! Move: a new primary version on another provider key, mostly through another connection. Old
//! wrapped keys open through the old versions' connections.

use std::sync::Arc;

use claviger_provider::{KeyDescription, KeyId, KeyRequest, OpContext};

use super::connections::not_declared;
use super::create_key::{can_be_made, left_there, made};
use super::described::number_versions;
use super::export::{Destination, may_leave};
use super::external_custody::may_cache;
use super::reach::{Reach, permitted, severed};
use super::read::changed;
use super::rotate::not_rotating;
use super::rounds::PATIENCE;
use super::{Authorized, Broker, Completed, Completion, Failure, Guarded, Keep, NewPrimary, RequestContext, op};
use crate::audit::{self, Object, Verb};
use crate::keys::{ConnectionEntry, KeyEntry};
use crate::store::model::{Custody, Key, KeyState, KeyVersion, Resource, Wanted};
use crate::store::{Change, StoreError};

/// Whether a key comes into external custody: in it, its cache was decided on already.
const fn comes_into(custody: Custody, from: &KeyVersion) -> bool {
    custody.is_external() && !from.custody.is_external()
}

impl Broker {
    /// Moves a key. The caller holds the key's lock for changes at providers (`turn_at_provider`).
    ///
    /// # Errors
    /// `connection_severed` for the old connection and the new one, `managed_by_config` for a key
    /// that the configuration declares, `permission_denied` if the key would leave external custody
    /// and does not allow export, those of [`may_cache`] if it comes into it, `provider_key_taken` if a key uses the provider key already (this
    /// key included), and those of [`Broker::create_key`].
    pub(super) async fn move_key(
        &self,
        authorized: &Authorized<op::Rotate>,
        to: &Arc<ConnectionEntry>,
        new: NewPrimary<'_>,
        keep: &Keep<Key>,
    ) -> Result<Guarded<Completed<Key>>, Failure> {
        let (cx, key) = (authorized.cx(), &authorized.object().key);
        let view = key.view()?;
        let from = &view.key.primary;
        permitted(&view, KeyState::wraps)?;
        not_declared(view.key.managed_by.as_ref())?;
        not_rotating(&view.key)?;
        self.not_severed(key, from).await?;
        let reach = Reach::through(Arc::clone(to))?;
        let custody = Custody::of(reach.row.provider);
        may_leave(&view.key, from, Destination::SameKey(custody))?;
        may_cache(cx, view.key.cache, comes_into(custody, from))?;
        let spec = new.spec.unwrap_or(from.spec);
        can_be_made(&reach, spec, new.provider_key)?;
        if let Some(name) = new.provider_key {
            let holders = self.store.provider_key_holders(key.tenant(), reach.row.provider, name).await?;
            let beside = self
                .keys_elsewhere(&cx.op_context(), (key.tenant(), key.id()), name, &reach)
                .await?;
            if holders.iter().any(|(held, _)| !beside.contains(held)) {
                return Err(StoreError::ProviderKeyTaken.into());
            }
        }
        self.has_room(cx, &[Resource::Versions], keep).await?;
        self.key_has_room(cx, &view)?;

        // A provider key that was made for this key before may still have the name with the key's id.
        let made_as = keep.drawn().unwrap_or_else(KeyId::random);
        // Record the verb `move` and not `rotate`. After a crash, recovery can finish a rotation
        // from the provider's description, but not a move.
        let change = audit::StateChange::new(Verb::Move, Object::Key, &key.id()).at_provider();
        let change = match new.provider_key {
            Some(_) => change,
            // The log names the provider key, because after a crash or a refusal nothing else does.
            None => change.making(&made_as),
        };
        let request = KeyRequest {
            key_id: key.id(),
            made_as,
            repeated: new.provider_key.is_none() && keep.drawn().is_some(),
            spec,
            adopt: new.provider_key.map(str::to_owned),
            taken: false,
        };
        let wanted = Wanted::VersionAfter(from.number);
        let (change, described) = self.create_at_provider(cx, keep, &reach, &request, wanted, change, None).await?;
        let described = made(described, spec)?;
        if request.repeated
            && let Some(there) = described.kek(key.id())
            && view
                .versions
                .iter()
                .any(|version| version.is(reach.row.provider, &there.key.id, &there.key.version))
        {
            // The gateway has finished what an earlier attempt of this request began.
            let row = Key::clone(&view.key);
            cx.note(|fields| fields.key_version = Some(row.primary.number));
            let kept = keep.row(Completion::Done, &row, Some(row.revision))?;
            self.store.mark_applied(cx.tenant(), &change.keeping(kept)).await?;
            Box::pin(self.keep_canary(cx, key)).await;
            return Ok(Guarded::free(changed(Completion::Done, row)));
        }
        let complete = |after: &Key| {
            authorized.names(&after.primary);
            cx.note(|fields| fields.key_version = Some(after.primary.number));
            Ok(change.keeping(keep.row(Completion::Done, after, Some(after.revision))?))
        };
        let stored = self.store_moved(cx, key, to, &described, complete).await;
        let row = stored.map_err(|failure| left_there(&request, &described.id, failure))?;
        Box::pin(self.keep_canary(cx, key)).await;
        Ok(Guarded::free(changed(Completion::Done, row)))
    }

    /// Gives a key a new primary version through this connection. `complete` makes the change to commit of the
    /// row as the transaction will leave it. `asker` is the request, if there still is one. The caller holds the turn
    /// at the provider.
    ///
    /// # Errors
    /// Those of [`Broker::move_key`] that may have come while the provider made the key.
    pub(super) async fn store_moved<'a>(
        &self,
        asker: impl Into<Option<&'a RequestContext>>,
        key: &Arc<KeyEntry>,
        to: &Arc<ConnectionEntry>,
        described: &KeyDescription,
        complete: impl FnOnce(&Key) -> Result<Change, Failure>,
    ) -> Result<Key, Failure> {
        let asker: Option<&RequestContext> = asker.into();
        let background = self.background.operation("creation", key.tenant(), to.id(), PATIENCE);
        let asked = asker.map(RequestContext::op_context);
        let op: &OpContext = asked.as_ref().unwrap_or(&background);
        let before = Reach::through(Arc::clone(to))?;
        let beside = self.keys_elsewhere(op, (key.tenant(), key.id()), &described.id, &before).await?;
        let _row = key.change().lock().await;
        // All of this may have changed while the provider made the key.
        let view = key.view()?;
        self.not_severed(key, &view.key.primary).await?;
        let reach = Reach::through(Arc::clone(to))?;
        let custody = Custody::of(reach.row.provider);
        may_leave(&view.key, &view.key.primary, Destination::SameKey(custody))?;
        may_cache(asker, view.key.cache, comes_into(custody, &view.key.primary))?;
        let now = self.now();
        // Give every version a new number. None can be a known version, because the store refuses a
        // move to a provider version that the key has.
        let (versions, primary) = number_versions(&view.versions, |_| false, described, &reach.row, now)?;
        let mut after = Key::clone(&view.key);
        if let Some(version) = versions.iter().find(|version| version.number == primary) {
            after.primary.clone_from(version);
        }
        after.revision += 1;
        after.updated = now;
        let change = complete(&after)?.beside(beside);
        let row = self
            .store
            .move_key(key.tenant(), key.id(), &versions, primary, now, &change)
            .await
            .map_err(|error| self.refused_claim(&reach.row, error))?;
        key.put(row.clone(), Some(view.versions.iter().cloned().chain(versions).collect()));
        Ok(row)
    }

    /// Refuses to move away from a severed connection, because the tenant ended the use of its
    /// keys. If the connection cannot be loaded, its row decides, so that a key can still move away
    /// from a broken connection.
    async fn not_severed(&self, key: &Arc<KeyEntry>, from: &KeyVersion) -> Result<(), Failure> {
        let is_severed = match (self.directory().reach(key, from).await, from.connection_id()) {
            (Ok(Some(connection)), _) => connection.view().severed,
            (Ok(None), _) | (Err(_), None) => false,
            (Err(_), Some(id)) => self.store.connection(key.tenant(), id).await?.severed,
        };
        if is_severed { Err(severed()) } else { Ok(()) }
    }
}
