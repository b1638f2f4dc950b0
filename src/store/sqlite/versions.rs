//! A key's versions.

use claviger_provider::{KeyId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqliteExecutor, query};

use super::row::{self, Columns, bytes, one_row};
use crate::store::StoreError;
use crate::store::model::{ConnectionRef, Custody, Key, KeyState, KeyVersion, Material, ProviderState};

/// A version as `version_columns!` selects it.
pub(super) fn read(row: &SqliteRow) -> Result<KeyVersion, StoreError> {
    let connection = match row.value::<Option<String>>("connection_name")? {
        Some(name) => Some(ConnectionRef {
            id: row.id("connection")?,
            name,
        }),
        None => None,
    };
    Ok(KeyVersion {
        number: row.number("number")?,
        connection,
        provider: row.provider("provider")?,
        provider_key: row.value("provider_key")?,
        provider_version: row.value("provider_version")?,
        spec: row.word("spec")?,
        custody: Custody::parse(row.value("custody")?),
        state: KeyState::parse(row.value("version_state")?),
        provider_state: ProviderState::parse(row.value("provider_state")?),
        material: Material::parse(row.value("material")?),
        expires: row.value("expires")?,
        compromised_since: row.value("version_compromised_since")?,
        created: row.value("version_created")?,
    })
}

pub(super) async fn list(executor: impl SqliteExecutor<'_>, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError> {
    query(concat!(
        "SELECT ",
        version_columns!(),
        " FROM key_versions v LEFT JOIN connections c ON c.tenant = v.tenant AND c.id = v.connection \
         WHERE v.tenant = ?1 AND v.key = ?2 ORDER BY v.number"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&key))
    .fetch_all(executor)
    .await?
    .iter()
    .map(read)
    .collect()
}

pub(super) async fn insert(connection: &mut SqliteConnection, key: &Key, version: &KeyVersion) -> Result<(), StoreError> {
    let through = version.connection_id();
    query(
        "INSERT INTO key_versions (tenant, key, number, connection, provider, provider_key, provider_version, spec, custody, state, \
         provider_state, material, expires, compromised_since, created) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .bind(version.number)
    .bind(through.as_ref().map(bytes))
    .bind(row::provider(version.provider))
    .bind(&version.provider_key)
    .bind(&version.provider_version)
    .bind(version.spec.as_str())
    .bind(version.custody.as_str())
    .bind(version.state.as_str())
    .bind(version.provider_state.as_str())
    .bind(version.material.as_str())
    .bind(version.expires)
    .bind(version.compromised_since)
    .bind(version.created)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the columns of a version that can change: its connection, its states and its times.
pub(super) async fn update(connection: &mut SqliteConnection, key: &Key, version: &KeyVersion) -> Result<(), StoreError> {
    let through = version.connection_id();
    let updated = query(
        "UPDATE key_versions SET connection = ?4, state = ?5, provider_state = ?6, expires = ?7, compromised_since = ?8 \
         WHERE tenant = ?1 AND key = ?2 AND number = ?3",
    )
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .bind(version.number)
    .bind(through.as_ref().map(bytes))
    .bind(version.state.as_str())
    .bind(version.provider_state.as_str())
    .bind(version.expires)
    .bind(version.compromised_since)
    .execute(connection)
    .await?;
    one_row(&updated)
}
