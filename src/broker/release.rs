//! Releases what the operator's configuration no longer declares: from then on the tenant manages it.

use super::{Authorized, Broker, Code, Failure, Guarded, UpdateNamed, op};
use crate::audit::{self, Object, Verb};
use crate::store::model::{DeclaredRow, Releasable};

/// An object to be released.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseNamed<'a> {
    /// Its kind.
    pub kind: Releasable,
    /// The name of its tenant.
    pub tenant: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Broker {
    /// Releases an object. Repeating it changes nothing.
    ///
    /// # Errors
    /// `managed_by_config` while it is declared, `not_found`, `unauthenticated` once the credential has ended.
    pub async fn release(&self, authorized: Authorized<op::ReleaseDeclared>, named: ReleaseNamed<'_>) -> Result<Guarded<()>, Failure> {
        let declaration = self.read_declaration().await?;
        self.in_force(authorized.cx())?;
        let row = DeclaredRow {
            kind: named.kind,
            tenant: named.tenant.to_owned(),
            name: named.name.to_owned(),
        };
        if declaration.rows().contains(&row) {
            return Err(
                Failure::new(Code::ManagedByConfig, "The operator's configuration still declares it.")
                    .advice("Remove it from the configuration first."),
            );
        }
        let tenant = self.declared_tenant(named.tenant).await?;
        let asker = Some(authorized.cx());
        match named.kind {
            Releasable::Connection => {
                self.carry_out::<op::UpdateConnection, _>(asker, tenant, named.name, async |authorized| {
                    self.release_connection(authorized).await
                })
                .await?;
            }
            Releasable::Key => {
                let key = UpdateNamed {
                    key: named.name,
                    new_name: None,
                    allows_export: false,
                };
                self.carry_out::<op::UpdateKey, _>(asker, tenant, key, async |authorized| self.release_key(authorized).await)
                    .await?;
            }
        }
        Ok(Guarded::free(()))
    }

    async fn release_connection(&self, authorized: Authorized<op::UpdateConnection>) -> Result<Guarded<()>, Failure> {
        let (cx, connection) = (authorized.cx(), authorized.object());
        let change = audit::StateChange::new(Verb::Update, Object::Connection, &connection.id());
        let change = self.announce(cx, change).await?;
        let changing = connection.change().lock().await;
        let (tenant, id) = (connection.tenant(), connection.id());
        let row = self.store.release_connection(tenant, id, self.now(), &change).await?;
        self.degraded.end(tenant, &row.name);
        self.directory().factories().note_declared(&row);
        connection.put(row);
        drop(changing);
        // The operator's files are not the tenant's: what was stored of them is used from now on.
        if self.directory().factories().read_secrets_from(id, None) {
            self.directory().reconnect(id).await?;
        }
        Ok(Guarded::free(()))
    }

    async fn release_key(&self, authorized: Authorized<op::UpdateKey>) -> Result<Guarded<()>, Failure> {
        let (cx, key) = (authorized.cx(), &authorized.object().key);
        let change = audit::StateChange::new(Verb::Update, Object::Key, &key.id());
        let change = self.announce(cx, change).await?;
        let _one_at_a_time = key.change().lock().await;
        let row = self.store.release_key(key.tenant(), key.id(), self.now(), &change).await?;
        key.put(row, None);
        Ok(Guarded::free(()))
    }
}

#[cfg(test)]
mod tests;
