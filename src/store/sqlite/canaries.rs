//! The canaries of the versions that are reached through a connection.

use claviger_provider::{ConnectionId, KeyId, TenantId};
use sqlx::query;

use super::row::{Columns, bytes};
use super::{SqliteStore, sealed, versions};
use crate::store::model::VersionCanary;
use crate::store::{StoreError, canary_name};

pub(super) async fn through(
    store: &SqliteStore,
    tenant: TenantId,
    connection: ConnectionId,
    most: u32,
) -> Result<Vec<VersionCanary>, StoreError> {
    // The names are those of `canary_name`.
    let rows = query(concat!(
        "SELECT v.key AS key_id, k.name AS key_name, v.number = k.primary_version AS is_primary, s.value AS canary, ",
        version_columns!(),
        " FROM key_versions v JOIN keys k ON k.tenant = v.tenant AND k.id = v.key \
         JOIN connections c ON c.tenant = v.tenant AND c.id = v.connection \
         LEFT JOIN sealed_values s ON s.tenant = v.tenant AND s.row_id = 'canary/' || lower(hex(v.key)) \
         AND s.column_name = CAST(v.number AS TEXT) \
         WHERE v.tenant = ?1 AND v.connection = ?2 AND k.detached IS NULL ORDER BY k.name, v.number DESC LIMIT ?3"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&connection))
    .bind(most)
    .fetch_all(&mut *store.list_reader(tenant).await?)
    .await?;
    rows.iter()
        .map(|row| {
            let (key, version): (KeyId, _) = (row.id("key_id")?, versions::read(row)?);
            let canary = match row.value::<Option<&[u8]>>("canary")? {
                Some(value) => {
                    let name = canary_name(tenant, key, version.number);
                    Some(sealed::open(store, tenant, &name.row, &name.column, value)?)
                }
                None => None,
            };
            Ok(VersionCanary {
                key,
                name: row.value("key_name")?,
                is_primary: row.value("is_primary")?,
                version,
                canary,
            })
        })
        .collect()
}
