//! Enable: undoes a disable.

use std::sync::Arc;

use super::disable::{not_severed, switched, turn_at_provider};
use super::{Broker, Code, Failure, Guarded, Keep, RequestContext};
use crate::access::{Permit, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::keys::KeyEntry;
use crate::store::model::Key;

impl Broker {
    /// Enables a key, at the provider first if that is asked for, so that a refusal there
    /// changes nothing here.
    ///
    /// # Errors
    /// `unsupported`, and what the provider says.
    pub async fn enable(
        &self,
        cx: &RequestContext,
        permit: Permit<op::Enable>,
        key: &Arc<KeyEntry>,
        at_provider: bool,
        keep: Keep<'_, Key>,
    ) -> Result<Guarded<Key>, Failure> {
        self.note_key(cx, key);
        cx.permitted(&permit);
        let revocations = key.revocations().seen();
        let change = audit::StateChange::new(Verb::Enable, Object::Key, &key.id());
        let (_turn, change) = if at_provider {
            let turn = turn_at_provider(cx, key).await?;
            not_severed(key)?;
            let change = self.announce(cx, change.at_provider()).await?;
            self.switch_at_provider(cx, key, true).await?;
            (Some(turn), change)
        } else {
            (None, self.announce(cx, change).await?)
        };
        let _one_at_a_time = key.change().lock().await;
        // What was disabled after this request began stays so.
        if key.revocations().seen() != revocations {
            return Err(Failure::new(Code::KeyDisabled, "The key was disabled while it was being enabled."));
        }
        let before = key.view()?.key;
        self.lift_from_kill_file(EmergencyRevocation::Disable(key.id())).await?;
        let after = switched(&before, false, self.now());
        let change = change.keeping(keep(&after)?);
        let row = self
            .store
            .set_key_disabled(key.tenant(), key.id(), false, after.updated, &change)
            .await?;
        key.put(row.clone(), None);
        Ok(Guarded::free(row))
    }
}
