//! What the operator's configuration declares, or did, of all tenants.

use sqlx::query;

use super::SqliteStore;
use super::row::Columns;
use crate::store::StoreError;
use crate::store::model::{DeclaredRow, Releasable};

pub(super) async fn list(store: &SqliteStore, most: u32) -> Result<Vec<DeclaredRow>, StoreError> {
    query(
        "SELECT * FROM (SELECT t.name AS tenant_name, 0 AS is_key, c.name FROM connections c INDEXED BY connections_declared \
         JOIN tenants t ON t.id = c.tenant WHERE c.managed_by IS NOT NULL \
         UNION ALL \
         SELECT t.name, 1, k.name FROM keys k INDEXED BY keys_declared \
         JOIN tenants t ON t.id = k.tenant WHERE k.managed_by IS NOT NULL AND k.detached IS NULL) LIMIT ?1",
    )
    .bind(most)
    .fetch_all(&mut *store.own_reader().await?)
    .await?
    .iter()
    .map(|row| {
        Ok(DeclaredRow {
            kind: if row.value("is_key")? {
                Releasable::Key
            } else {
                Releasable::Connection
            },
            tenant: row.value("tenant_name")?,
            name: row.value("name")?,
        })
    })
    .collect()
}
