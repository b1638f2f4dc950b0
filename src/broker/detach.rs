//! Detach: the key is let go of here; nothing happens at the provider.

use std::sync::Arc;

use super::connections::not_declared;
use super::{Broker, Failure, Guarded, RequestContext};
use crate::access::{Permit, op};
use crate::audit::{self, Object, Verb};
use crate::keys::KeyEntry;

impl Broker {
    /// Detaches a key. Its id is kept, so that the provider key can be adopted again under it.
    ///
    /// # Errors
    /// `not_found` when it was detached meanwhile.
    pub async fn detach(&self, cx: &RequestContext, permit: Permit<op::DeleteKey>, key: &Arc<KeyEntry>) -> Result<Guarded<()>, Failure> {
        self.note_key(cx, key);
        cx.permitted(&permit);
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
