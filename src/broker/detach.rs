//! Detach: removes a key here; the provider key stays as it is.

use super::connections::not_declared;
use super::{Authorized, Broker, Failure, Guarded, op};
use crate::audit::{self, Object, Verb};

impl Broker {
    /// Detaches a key. Its id stays reserved, so that the provider key can be adopted again under it.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile.
    pub async fn detach(&self, authorized: Authorized<op::DeleteKey>) -> Result<Guarded<()>, Failure> {
        let (cx, key) = (authorized.cx(), authorized.object());
        not_declared(key.view()?.key.managed_by.as_ref())?;
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Detach, Object::Key, &key.id()))
            .await?;
        let _one_at_a_time = key.change().lock().await;
        self.store.detach_key(key.tenant(), key.id(), self.now(), &change).await?;
        self.directory().detached(key);
        self.cache().drop_key(key.id());
        Ok(Guarded::free(()))
    }
}
