//! A key's versions, and the provider keys that they claim for it.

use claviger_provider::{KeyId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

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

pub(super) async fn list(store: &SqliteStore, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError> {
    let rows = query(
        "SELECT number, provider_key, provider_version, enabled, created FROM key_versions WHERE tenant = ?1 AND key = ?2 ORDER BY number",
    )
    .bind(bytes(&tenant))
    .bind(bytes(&key))
    .fetch_all(&store.readers)
    .await?;
    // There is no key without a version.
    if rows.is_empty() {
        Err(StoreError::NotFound)
    } else {
        rows.iter().map(read).collect()
    }
}

/// Adds versions and claims their provider keys; whether there was a new one. One that is
/// there already stays as it is; a number that stands for another version is refused.
pub(super) async fn add(connection: &mut SqliteConnection, key: &Key, versions: &[KeyVersion]) -> Result<bool, StoreError> {
    let mut added = false;
    for version in versions {
        claim(connection, key, &version.provider_key).await?;
        let inserted = query(
            "INSERT INTO key_versions (tenant, key, number, provider_key, provider_version, enabled, created) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (tenant, key, number) DO NOTHING",
        )
        .bind(bytes(&key.tenant))
        .bind(bytes(&key.id))
        .bind(version.number)
        .bind(&version.provider_key)
        .bind(&version.provider_version)
        .bind(version.enabled)
        .bind(version.created)
        .execute(&mut *connection)
        .await?;
        if inserted.rows_affected() == 0 {
            same(connection, key, version).await?;
        } else {
            added = true;
        }
    }
    Ok(added)
}

async fn same(connection: &mut SqliteConnection, key: &Key, version: &KeyVersion) -> Result<(), StoreError> {
    query("SELECT 1 FROM key_versions WHERE tenant = ?1 AND key = ?2 AND number = ?3 AND provider_key = ?4 AND provider_version = ?5")
        .bind(bytes(&key.tenant))
        .bind(bytes(&key.id))
        .bind(version.number)
        .bind(&version.provider_key)
        .bind(&version.provider_version)
        .fetch_optional(connection)
        .await?
        .map(|_| ())
        .ok_or(StoreError::AlreadyExists)
}

/// Takes a provider key for this logical key, if no other one of the installation has it.
async fn claim(connection: &mut SqliteConnection, key: &Key, provider_key: &str) -> Result<(), StoreError> {
    let claimed = query(
        "INSERT INTO provider_keys (provider, provider_key, tenant, key) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (provider, provider_key) DO UPDATE SET key = excluded.key \
         WHERE tenant = excluded.tenant AND key = excluded.key",
    )
    .bind(row::provider(key.provider))
    .bind(provider_key)
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .execute(connection)
    .await?;
    if claimed.rows_affected() == 0 {
        Err(StoreError::ProviderKeyTaken)
    } else {
        Ok(())
    }
}
