//! Detach: removes a key here; the provider key stays as it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger_provider::{Id, TenantId};

use super::connections::not_declared;
use super::{Authorized, Broker, Failure, Guarded, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::keys::{ConnectionEntry, KeyEntry};
use crate::store::Change;
use crate::store::model::KeyVersion;

impl Broker {
    /// Detaches a key. Its id stays reserved, so that the provider key can be adopted again under
    /// it. A key that is disabled, or whose connection is severed, comes back disabled.
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
        self.store_revocations(key).await?;
        self.store.detach_key(key.tenant(), key.id(), self.now(), &change).await?;
        self.directory().detached(key);
        self.cache().drop_key(key.tenant(), key.id());
        cx.set_revoked(*key.id().bytes());
        Ok(Guarded::free(()))
    }

    /// Stores a disable of a key and a sever of its versions' connections that only memory and the
    /// kill file have, because the store could not take them. Once the key is detached, they would
    /// be lost.
    async fn store_revocations(&self, key: &Arc<KeyEntry>) -> Result<(), Failure> {
        let view = key.view()?;
        if view.key.state.is_disabled() {
            let change = Change::unannounced();
            self.store
                .set_key_disabled(key.tenant(), key.id(), true, self.now(), &change)
                .await?;
            self.stored(key.tenant(), EmergencyRevocation::Disable(key.id()));
        }
        self.store_severs(key.tenant(), &view.versions).await
    }

    /// Stores the severs of these versions' connections that only memory and the kill file have: a change that asks the
    /// store whether one of them is severed follows.
    pub(super) async fn store_severs(&self, tenant: TenantId, versions: &[KeyVersion]) -> Result<(), Failure> {
        let connections: BTreeSet<_> = versions.iter().filter_map(KeyVersion::connection_id).collect();
        for id in connections {
            match self.directory().connection(tenant, id).await {
                Ok(Some(connection)) => {
                    let _one_at_a_time = connection.change().lock().await;
                    self.store_sever(&connection).await?;
                }
                Err(error) if self.unstored.contains(tenant, EmergencyRevocation::Sever(id)) => return Err(error.into()),
                // What cannot be loaded is not in memory.
                Ok(None) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Stores a sever that only memory and the kill file have. The sever has its record. The caller holds
    /// the connection's `change` lock.
    pub(super) async fn store_sever(&self, connection: &ConnectionEntry) -> Result<(), Failure> {
        if connection.view().severed {
            let change = Change::unannounced();
            let (tenant, id) = (connection.tenant(), connection.id());
            let row = self.store.set_connection_severed(tenant, id, true, self.now(), &change).await?;
            connection.put(row);
            self.stored(tenant, EmergencyRevocation::Sever(id));
        }
        Ok(())
    }
}
