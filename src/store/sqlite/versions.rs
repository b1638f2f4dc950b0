//! A key's versions, and the provider keys that they claim for it.

use claviger_provider::{KeyId, ProviderKind, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqliteExecutor, query};

use super::SqliteStore;
use super::row::{self, Columns, bytes};
use crate::store::StoreError;
use crate::store::model::{Key, KeyVersion};

fn read(row: &SqliteRow) -> Result<KeyVersion, StoreError> {
    Ok(KeyVersion {
        number: row.number("number")?,
        provider_key: row.value("provider_key")?,
        provider_version: row.value("provider_version")?,
        enabled: row.value("enabled")?,
        created: row.value("created")?,
    })
}

/// A version as the snapshot of its key selects it.
pub(super) fn read_joined(row: &SqliteRow) -> Result<KeyVersion, StoreError> {
    Ok(KeyVersion {
        number: row.number("version_number")?,
        provider_key: row.value("version_provider_key")?,
        provider_version: row.value("version_provider_version")?,
        enabled: row.value("version_enabled")?,
        created: row.value("version_created")?,
    })
}

pub(super) async fn list(executor: impl SqliteExecutor<'_>, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError> {
    query(
        "SELECT number, provider_key, provider_version, enabled, created FROM key_versions WHERE tenant = ?1 AND key = ?2 ORDER BY number",
    )
    .bind(bytes(&tenant))
    .bind(bytes(&key))
    .fetch_all(executor)
    .await?
    .iter()
    .map(read)
    .collect()
}

pub(super) async fn insert(connection: &mut SqliteConnection, key: &Key, version: &KeyVersion) -> Result<(), StoreError> {
    query(
        "INSERT INTO key_versions (tenant, key, number, provider_key, provider_version, enabled, created) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .bind(version.number)
    .bind(&version.provider_key)
    .bind(&version.provider_version)
    .bind(version.enabled)
    .bind(version.created)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes nothing when another key has the provider key.
pub(super) async fn claim(
    connection: &mut SqliteConnection,
    provider: ProviderKind,
    provider_key: &str,
    key: &Key,
) -> Result<bool, StoreError> {
    let claimed = query(
        "INSERT INTO provider_keys (provider, provider_key, tenant, key) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (provider, provider_key) DO UPDATE SET key = excluded.key \
         WHERE tenant = excluded.tenant AND key = excluded.key",
    )
    .bind(row::provider(provider))
    .bind(provider_key)
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .execute(connection)
    .await?;
    Ok(claimed.rows_affected() > 0)
}

pub(super) async fn provider_key_holder(
    store: &SqliteStore,
    tenant: TenantId,
    provider: ProviderKind,
    provider_key: &str,
) -> Result<Option<(KeyId, bool)>, StoreError> {
    let row = query(
        "SELECT k.id, k.detached FROM provider_keys p JOIN keys k ON k.tenant = p.tenant AND k.id = p.key \
         WHERE p.provider = ?1 AND p.provider_key = ?2 AND p.tenant = ?3",
    )
    .bind(row::provider(provider))
    .bind(provider_key)
    .bind(bytes(&tenant))
    .fetch_optional(&store.readers)
    .await?;
    row.map(|row| Ok((row.id("id")?, row.value("detached")?))).transpose()
}
