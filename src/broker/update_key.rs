//! Update: labels, cache rules and name of a key.

use super::connections::not_declared;
use super::create_key::being_made;
use super::external_custody::may_change_cache;
use super::read::changed;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, op};
use crate::audit::{self, Object, Verb};
use crate::keys::KeyView;
use crate::store::model::{Key, KeyPatch};

impl Broker {
    /// Changes what may be changed. `expected` is the revision the caller saw, `None` for any.
    ///
    /// # Errors
    /// `precondition_failed`, also if the key was renamed since it was admitted; `already_exists` for a name that is
    /// taken, and `in_progress` for one under which a key is being made.
    pub async fn update_key(
        &self,
        authorized: Authorized<op::UpdateKey>,
        expected: Option<u64>,
        mut patch: KeyPatch,
    ) -> Result<Guarded<Completed<Key>>, Failure> {
        let (cx, key, renames) = (authorized.cx(), &authorized.object().key, authorized.object().renames);
        // The operator of the gateway must not be able to take data keys out of the customer's
        // custody.
        if patch.allow_export == Some(true) && cx.caller().is_operator() {
            return Err(Failure::new(
                Code::PermissionDenied,
                "Only the tenant's own administrator allows export, never an operator.",
            )
            .at("/allow_export", "left out, or a credential of the tenant"));
        }
        let cache = patch.cache.unwrap_or_default();
        let may_cache = |view: &KeyView| may_change_cache(cx, cache, view.versions.iter().any(|version| version.custody.is_external()));
        let view = key.view()?;
        let before = &view.key;
        not_declared(before.managed_by.as_ref())?;
        may_cache(&view)?;
        let revision = before.revision;
        if expected.is_some_and(|expected| expected != revision) {
            return Err(crate::store::StoreError::Precondition.into());
        }
        // Held until the commit: a creation of that name would find it taken once the provider has made its key.
        let _reserved = match patch.name.as_deref().filter(|_| renames) {
            Some(name) => Some(self.directory().reserve_name(key.tenant(), name).ok_or_else(being_made)?),
            None => None,
        };
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Update, Object::Key, &key.id()))
            .await?;
        let _one_at_a_time = key.change().lock().await;
        let view = key.view()?;
        // It may have moved into external custody meanwhile.
        may_cache(&view)?;
        let now = &view.key;
        // A key that was renamed meanwhile would get its old name back, which was not decided as a rename.
        if !renames && patch.name.as_ref().is_some_and(|name| *name != now.name) {
            return Err(renamed());
        }
        // The transaction compares it, so nothing of the row is another one by then.
        patch.expected_revision = expected.unwrap_or(now.revision);
        patch.at = self.now();
        let row = self.store.update_key(key.tenant(), key.id(), &patch, &change).await?;
        key.put(row.clone(), None);
        if patch.cache.is_some() {
            self.cache().drop_key(key.tenant(), key.id());
        }
        Ok(Guarded::free(changed(Completion::Done, row)))
    }
}

fn renamed() -> Failure {
    Failure::new(Code::PreconditionFailed, "The key was renamed while the request was under way.")
        .advice("Read the key again and repeat the change.")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests;
