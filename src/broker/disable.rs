//! Disable: stops every use of a key from the next request on, cached data keys included.

use std::sync::Arc;

use super::at_provider::turn_at_provider;
use super::read::changed;
use super::revoke::Revoked;
use super::{Authorized, Broker, Completed, Completion, Failure, Guarded, Keep, RequestContext, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::keys::KeyEntry;
use crate::store::model::Key;
use crate::store::rules;

impl Broker {
    /// Disables a key here, and then, if asked to, at the provider. The two parts have a record
    /// each: the second waits for the log and for the provider, and can fail while the first part
    /// stays in force.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile; for the part at the provider `unsupported`, and
    /// what the provider reports.
    pub async fn disable(
        &self,
        authorized: Authorized<op::Disable>,
        at_provider: bool,
        keep: Keep<Key>,
    ) -> Result<Guarded<Completed<Key>>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        if !at_provider {
            let row = self.disable_here(cx, key, &keep).await?;
            return Ok(Guarded::free(changed(Completion::Done, row)));
        }
        // A repetition gets the answer to both parts, so the first part keeps none.
        self.disable_here(cx, key, &Keep::nothing()).await?;
        let recorded = self.conclude(cx, Ok(Guarded::free(())), &|_, _| ()).await;
        recorded.map_err(|unrecorded| unrecorded.failure().clone())?.into_value();
        let row = self.disable_at_provider(cx, key, &keep).await?;
        Ok(Guarded::free(changed(Completion::Done, row)))
    }

    async fn disable_here(&self, cx: &RequestContext, key: &KeyEntry, keep: &Keep<Key>) -> Result<Key, Failure> {
        let _one_at_a_time = key.change().lock().await;
        let mut after = Key::clone(&key.view()?.key);
        rules::set_disabled(&mut after, true, self.now());
        let change = self
            .announce_revocation(cx, EmergencyRevocation::Disable(key.id()))
            .await
            .keeping(keep.row(Completion::Done, &after, Some(after.revision))?);
        match self.revoke(cx, Revoked::Key(after), &change).await? {
            Revoked::Key(row) => Ok(row),
            Revoked::Connection(_) | Revoked::Token(_) | Revoked::Tenant(_) => Err(Failure::internal(&"a disable left no key")),
        }
    }

    async fn disable_at_provider(&self, cx: &RequestContext, key: &Arc<KeyEntry>, keep: &Keep<Key>) -> Result<Key, Failure> {
        let _one_at_a_time = turn_at_provider(cx, key).await?;
        let switches = self.switches(key).await?;
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Update, Object::Key, &key.id()).at_provider())
            .await?;
        self.switch(cx, &switches, false).await?;
        let row = Key::clone(&key.view()?.key);
        let kept = keep.row(Completion::Done, &row, Some(row.revision))?;
        self.store.mark_applied(key.tenant(), &change.keeping(kept)).await?;
        Ok(row)
    }
}
