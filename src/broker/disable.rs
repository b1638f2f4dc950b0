//! Disable: no use of a key any more, at the next request, cache included.

use std::sync::Arc;

use tokio::sync::MutexGuard;

use super::wrapping::severed;
use super::{Broker, Code, Failure, Guarded, Keep, RequestContext};
use crate::access::{Permit, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::keys::KeyEntry;
use crate::store::model::Key;

impl Broker {
    /// Disables a key here. No answer that was under way is handed over after this
    /// returned: the gate is taken exclusively once the change is committed.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile.
    pub async fn disable(
        &self,
        cx: &RequestContext,
        permit: &Permit<op::Disable>,
        key: &Arc<KeyEntry>,
        keep: Keep<'_, Key>,
    ) -> Result<Guarded<Key>, Failure> {
        self.note_key(cx, key);
        cx.permitted(permit);
        let _one_at_a_time = key.change().lock().await;
        let before = key.view()?.key;
        let after = switched(&before, true, self.now());
        let revocation = EmergencyRevocation::Disable(key.id());
        let change = self.announce_revocation(cx, revocation).await.keeping(keep(&after)?);
        let committed = self
            .store
            .set_key_disabled(key.tenant(), key.id(), true, after.updated, &change)
            .await;
        // A store that cannot take it leaves the row as memory must have it all the same.
        let row = self.revocation_committed(cx, revocation, committed).await?.unwrap_or(after);
        key.revocations().count();
        key.put(row.clone(), None);
        self.cache().drop_key(key.id());
        Ok(Guarded::free(row))
    }

    /// Disables the key at the provider too, after [`Broker::disable`]: a part of its own
    /// in the log, since it waits for a healthy one and can fail while the first part holds.
    ///
    /// # Errors
    /// `unsupported`, and what the provider says.
    pub async fn disable_at_provider(
        &self,
        cx: &RequestContext,
        permit: Permit<op::Disable>,
        key: &Arc<KeyEntry>,
        keep: Keep<'_, Key>,
    ) -> Result<Guarded<Key>, Failure> {
        self.note_key(cx, key);
        cx.permitted(&permit);
        let _one_at_a_time = turn_at_provider(cx, key).await?;
        not_severed(key)?;
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Update, Object::Key, &key.id()).at_provider())
            .await?;
        let row = self.switch_at_provider(cx, key, false).await?;
        self.store.mark_applied(key.tenant(), &change.keeping(keep(&row)?)).await?;
        Ok(Guarded::free(row))
    }

    /// Switches a key at its provider, all provider keys that its versions stand on, and gives
    /// back its row. A failure ends it there: repeating it changes nothing at those before.
    pub(super) async fn switch_at_provider(&self, cx: &RequestContext, key: &KeyEntry, enabled: bool) -> Result<Key, Failure> {
        let view = key.view()?;
        let pipeline = key.connection().pipeline();
        if !pipeline.capabilities().set_state {
            return Err(
                Failure::new(Code::Unsupported, "The connection's provider does not enable or disable keys.")
                    .at("/at_provider", "false, or left out"),
            );
        }
        for kek in view.provider_keys() {
            pipeline.set_state(&cx.op_context(), &kek, enabled).await?;
        }
        Ok(Key::clone(&view.key))
    }

    pub(super) fn note_key(&self, cx: &RequestContext, key: &KeyEntry) {
        let connection = key.connection().view();
        cx.note(|fields| {
            fields.key = Some(key.id());
            fields.connection = Some(connection.id);
            fields.provider = Some(connection.provider);
        });
    }
}

/// Waits for the turn to change a key at its provider, no longer than the request may take.
/// The key's own lock is not held meanwhile, so that no provider can hold up a disable.
pub(super) async fn turn_at_provider<'k>(cx: &RequestContext, key: &'k KeyEntry) -> Result<MutexGuard<'k, ()>, Failure> {
    tokio::time::timeout_at(cx.info().deadline.into(), key.at_provider().lock())
        .await
        .map_err(|_| Failure::deadline())
}

/// Through a severed connection no call passes.
pub(super) fn not_severed(key: &KeyEntry) -> Result<(), Failure> {
    if key.connection().view().severed {
        return Err(severed());
    }
    Ok(())
}

/// The row as a switch leaves it.
pub(super) fn switched(before: &Key, disabled: bool, now: i64) -> Key {
    let moves = before.disabled != disabled;
    Key {
        disabled,
        epoch: before.epoch + u64::from(moves),
        revision: before.revision + u64::from(moves),
        updated: if moves { now } else { before.updated },
        ..before.clone()
    }
}
