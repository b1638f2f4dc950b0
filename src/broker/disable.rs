//! Disable: stops every use of a key from the next request on, cached data keys included.

use std::sync::Arc;

use super::at_provider::{AtProvider, Switched, turn_at_provider};
use super::revoke::Revoked;
use super::{Authorized, Broker, Completed, Completion, Failure, Guarded, RequestContext, op};
use crate::audit::{self, Object, Verb};
use crate::keys::KeyEntry;
use crate::store::model::Key;
use crate::store::rules;

impl Broker {
    /// Disables a key here, and then, if asked to, at the provider. The two parts have a record
    /// each: the second waits for the log and for the provider, and can fail while the first part
    /// stays in force. The second one does what it can at the provider of each version, and tells what it
    /// could not. A repeated request is carried out again, whatever its idempotency key.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile, and `audit_unavailable` for the part at the provider.
    pub async fn disable(&self, authorized: Authorized<op::Disable>, at_provider: bool) -> Result<Guarded<Completed<Switched>>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        let row = self.disable_here(cx, key).await?;
        if !at_provider {
            return Ok(Guarded::free(switched(row, None)));
        }
        let recorded = self.conclude(cx, Ok(Guarded::free(())), &|_, _| (), &mut |_| ()).await;
        recorded.map_err(|unrecorded| unrecorded.failure().clone())?.into_value();
        let at_provider = self.disable_at_provider(cx, key).await?;
        let row = Key::clone(&key.view()?.key);
        Ok(Guarded::free(switched(row, Some(at_provider))))
    }

    async fn disable_here(&self, cx: &RequestContext, key: &KeyEntry) -> Result<Key, Failure> {
        let _one_at_a_time = key.change().lock().await;
        let mut after = Key::clone(&key.view()?.key);
        let is_new = rules::set_disabled(&mut after, true, self.now());
        match self.revoke(cx, Revoked::Key(after), is_new).await? {
            Revoked::Key(row) => Ok(row),
            Revoked::Connection(_) | Revoked::Token { .. } | Revoked::Tenant(_) | Revoked::Principal { .. } => {
                Err(Failure::internal(&"a disable left no key"))
            }
        }
    }

    async fn disable_at_provider(&self, cx: &RequestContext, key: &Arc<KeyEntry>) -> Result<AtProvider, Failure> {
        let mut change = None;
        let announce = async || {
            let update = audit::StateChange::new(Verb::Update, Object::Key, &key.id()).at_provider();
            change = Some(self.announce(cx, update).await?);
            // A repeated request does it again.
            cx.set_noted();
            Ok(())
        };
        let (at_provider, failed) = match turn_at_provider(cx, key).await {
            Ok(_one_at_a_time) => self.disable_all(cx, key, announce).await?,
            Err(failure) => AtProvider::of(&[("-".to_owned(), failure)]),
        };
        match (failed, change) {
            (Some(code), _) => cx.set_unfinished(code),
            (None, Some(change)) => self.store.mark_applied(key.tenant(), &change.already_effective()).await?,
            (None, None) => {}
        }
        Ok(at_provider)
    }
}

/// A key that was disabled or enabled.
pub(super) fn switched(key: Key, at_provider: Option<AtProvider>) -> Completed<Switched> {
    Completed {
        completion: Completion::Done,
        revision: Some(key.revision),
        object: Switched { key, at_provider },
    }
}
