//! Disable: stops every use of a key from the next request on, cached data keys included.

use super::at_provider::{not_severed, turn_at_provider};
use super::read::NamedKey;
use super::revoke::Revoked;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, RequestContext, op};
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
        keep: Keep<NamedKey>,
    ) -> Result<Guarded<Completed<NamedKey>>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        if !at_provider {
            let row = self.disable_here(cx, key, &keep).await?;
            return Ok(Guarded::free(NamedKey::of(row, key).completed(Completion::Done)));
        }
        // A repetition gets the answer to both parts, so the first part keeps none.
        self.disable_here(cx, key, &Keep::nothing()).await?;
        let recorded = self.conclude(cx, Ok(Guarded::free(())), &|_, _| ()).await;
        recorded.map_err(|unrecorded| unrecorded.failure().clone())?.into_value();
        let row = self.disable_at_provider(cx, key, &keep).await?;
        Ok(Guarded::free(NamedKey::of(row, key).completed(Completion::Done)))
    }

    async fn disable_here(&self, cx: &RequestContext, key: &KeyEntry, keep: &Keep<NamedKey>) -> Result<Key, Failure> {
        let _one_at_a_time = key.change().lock().await;
        let mut after = Key::clone(&key.view()?.key);
        rules::set_disabled(&mut after, true, self.now());
        let after = NamedKey::of(after, key);
        let change = self
            .announce_revocation(cx, EmergencyRevocation::Disable(key.id()).at_lifts(after.key.lifts))
            .await
            .keeping(after.kept(keep, Completion::Done)?);
        match self.revoke(cx, Revoked::Key(after.key), &change).await? {
            Revoked::Key(row) => Ok(row),
            Revoked::Connection(_) | Revoked::Token(_) | Revoked::Tenant(_) => Err(Failure::internal(&"a disable left no key")),
        }
    }

    async fn disable_at_provider(&self, cx: &RequestContext, key: &KeyEntry, keep: &Keep<NamedKey>) -> Result<Key, Failure> {
        let _one_at_a_time = turn_at_provider(cx, key).await?;
        not_severed(key)?;
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Update, Object::Key, &key.id()).at_provider())
            .await?;
        let row = self.switch_at_provider(cx, key, false).await?;
        let kept = NamedKey::of(row.clone(), key).kept(keep, Completion::Done)?;
        self.store.mark_applied(key.tenant(), &change.keeping(kept)).await?;
        Ok(row)
    }

    /// Enables or disables all provider keys of a key's versions, and returns the key's row. Stops at
    /// the first failure; the call can be repeated.
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
}
