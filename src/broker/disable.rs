//! Disable: stops every use of a key from the next request on, cached data keys included.

use std::sync::Arc;

use super::at_provider::turn_at_provider;
use super::read::changed;
use super::revoke::Revoked;
use super::{Authorized, Broker, Completed, Completion, Failure, Guarded, RequestContext, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::keys::KeyEntry;
use crate::store::model::Key;
use crate::store::rules;

impl Broker {
    /// Disables a key here, and then, if asked to, at the provider. The two parts have a record
    /// each: the second waits for the log and for the provider, and can fail while the first part
    /// stays in force. A repeated request is carried out again, whatever its idempotency key.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile; for the part at the provider `unsupported`, and
    /// what the provider reports.
    pub async fn disable(&self, authorized: Authorized<op::Disable>, at_provider: bool) -> Result<Guarded<Completed<Key>>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        if !at_provider {
            let row = self.disable_here(cx, key).await?;
            return Ok(Guarded::free(changed(Completion::Done, row)));
        }
        self.disable_here(cx, key).await?;
        let recorded = self.conclude(cx, Ok(Guarded::free(())), &|_, _| ()).await;
        recorded.map_err(|unrecorded| unrecorded.failure().clone())?.into_value();
        let row = self.disable_at_provider(cx, key).await?;
        Ok(Guarded::free(changed(Completion::Done, row)))
    }

    async fn disable_here(&self, cx: &RequestContext, key: &KeyEntry) -> Result<Key, Failure> {
        let _one_at_a_time = key.change().lock().await;
        let mut after = Key::clone(&key.view()?.key);
        rules::set_disabled(&mut after, true, self.now());
        let change = self
            .announce_revocation(cx, EmergencyRevocation::Disable(key.id()).at_lifts(after.lifts))
            .await?;
        match self.revoke(cx, Revoked::Key(after), &change).await? {
            Revoked::Key(row) => Ok(row),
            Revoked::Connection(_) | Revoked::Token { .. } | Revoked::Tenant(_) | Revoked::Principal { .. } => {
                Err(Failure::internal(&"a disable left no key"))
            }
        }
    }

    async fn disable_at_provider(&self, cx: &RequestContext, key: &Arc<KeyEntry>) -> Result<Key, Failure> {
        let _one_at_a_time = turn_at_provider(cx, key).await?;
        let switches = self.switches(key).await?;
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Update, Object::Key, &key.id()).at_provider())
            .await?;
        self.switch(cx, &switches, false).await?;
        let row = Key::clone(&key.view()?.key);
        self.store.mark_applied(key.tenant(), &change.already_effective()).await?;
        Ok(row)
    }
}
