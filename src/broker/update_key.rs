//! Update: labels, cache rules and name of a key.

use super::connections::not_declared;
use super::read::changed;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, op};
use crate::audit::{self, Object, Verb};
use crate::store::model::{Key, KeyPatch};

impl Broker {
    /// Changes what may be changed. `expected` is the revision the caller saw, `None` for any.
    ///
    /// # Errors
    /// `precondition_failed`, `already_exists` for a name that is taken.
    pub async fn update_key(
        &self,
        authorized: Authorized<op::UpdateKey>,
        expected: Option<u64>,
        mut patch: KeyPatch,
    ) -> Result<Guarded<Completed<Key>>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        // The operator of the gateway must not be able to take data keys out of the customer's
        // custody.
        if patch.allow_export == Some(true) && cx.caller().is_operator() {
            return Err(Failure::new(
                Code::PermissionDenied,
                "Only the tenant's own administrator allows export, never an operator.",
            )
            .at("/allow_export", "left out, or a credential of the tenant"));
        }
        let before = key.view()?.key;
        not_declared(before.managed_by.as_ref())?;
        let revision = before.revision;
        if expected.is_some_and(|expected| expected != revision) {
            return Err(crate::store::StoreError::Precondition.into());
        }
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Update, Object::Key, &key.id()))
            .await?;
        let _one_at_a_time = key.change().lock().await;
        patch.expected_revision = match expected {
            Some(expected) => expected,
            None => key.view()?.key.revision,
        };
        patch.at = self.now();
        let row = self.store.update_key(key.tenant(), key.id(), &patch, &change).await?;
        key.put(row.clone(), None);
        if patch.cache.is_some() {
            self.cache().drop_key(key.id());
        }
        Ok(Guarded::free(changed(Completion::Done, row)))
    }
}
