//! A key's versions.

use claviger_provider::{Exposure, KeyId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqliteExecutor, query};

use super::row::{self, Columns, bytes};
use crate::store::StoreError;
use crate::store::model::{ConnectionRef, Custody, Key, KeyState, KeyVersion, Material, ProviderState};

/// Versions that one statement writes. A provider can name a thousand; a statement for each would keep
/// the one writer ten times as long.
const PIECE: usize = 64;

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
        exposure: Exposure {
            exportable: row.value("exportable")?,
            plaintext_backup: row.value("plaintext_backup")?,
        },
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

/// Writes new versions, [`PIECE`] with a statement.
pub(super) async fn insert(connection: &mut SqliteConnection, key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError> {
    for piece in versions.chunks(PIECE) {
        let mut statement = QueryBuilder::<Sqlite>::new(
            "INSERT INTO key_versions (tenant, key, number, connection, provider, provider_key, provider_version, spec, custody, state, \
             provider_state, material, expires, compromised_since, exportable, plaintext_backup, created) ",
        );
        statement.push_values(piece, |mut row, version| {
            row.push_bind(bytes(&key.tenant).to_vec())
                .push_bind(bytes(&key.id).to_vec())
                .push_bind(version.number)
                .push_bind(version.connection_id().map(|id| bytes(&id).to_vec()))
                .push_bind(row::provider(version.provider))
                .push_bind(version.provider_key.clone())
                .push_bind(version.provider_version.clone())
                .push_bind(version.spec.as_str())
                .push_bind(version.custody.as_str())
                .push_bind(version.state.as_str())
                .push_bind(version.provider_state.as_str())
                .push_bind(version.material.as_str())
                .push_bind(version.expires)
                .push_bind(version.compromised_since)
                .push_bind(version.exposure.exportable)
                .push_bind(version.exposure.plaintext_backup)
                .push_bind(version.created);
        });
        statement.build().persistent(is_common(piece)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Writes the columns of versions that can change: their connections, their states, their times and how their
/// material can leave the provider.
pub(super) async fn update(connection: &mut SqliteConnection, key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError> {
    for piece in versions.chunks(PIECE) {
        let mut statement = QueryBuilder::<Sqlite>::new(
            "WITH given (number, connection, state, provider_state, expires, compromised_since, exportable, plaintext_backup, created) AS (",
        );
        statement.push_values(piece, |mut row, version| {
            row.push_bind(version.number)
                .push_bind(version.connection_id().map(|id| bytes(&id).to_vec()))
                .push_bind(version.state.as_str())
                .push_bind(version.provider_state.as_str())
                .push_bind(version.expires)
                .push_bind(version.compromised_since)
                .push_bind(version.exposure.exportable)
                .push_bind(version.exposure.plaintext_backup)
                .push_bind(version.created);
        });
        statement.push(
            ") UPDATE key_versions AS v SET connection = given.connection, state = given.state, provider_state = given.provider_state, \
             expires = given.expires, compromised_since = given.compromised_since, exportable = given.exportable, \
             plaintext_backup = given.plaintext_backup, created = given.created FROM given WHERE v.tenant = ",
        );
        statement.push_bind(bytes(&key.tenant).to_vec()).push(" AND v.key = ");
        statement.push_bind(bytes(&key.id).to_vec()).push(" AND v.number = given.number");
        let updated = statement.build().persistent(is_common(piece)).execute(&mut *connection).await?;
        if updated.rows_affected() != piece.len() as u64 {
            return Err(StoreError::NotFound);
        }
    }
    Ok(())
}

/// How many wraps of a version were reserved so far.
pub(super) async fn wraps_reserved(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    key: KeyId,
    version: u32,
) -> Result<u64, StoreError> {
    query("SELECT wraps_reserved FROM key_versions WHERE tenant = ?1 AND key = ?2 AND number = ?3")
        .bind(bytes(&tenant))
        .bind(bytes(&key))
        .bind(version)
        .fetch_optional(connection)
        .await?
        .ok_or(StoreError::NotFound)?
        .number("wraps_reserved")
}

/// Writes how many wraps of a version are reserved.
pub(super) async fn set_wraps_reserved(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    key: KeyId,
    version: u32,
    total: u64,
) -> Result<(), StoreError> {
    let total = i64::try_from(total).map_err(|_| StoreError::Damaged("a number beyond 2^63"))?;
    query("UPDATE key_versions SET wraps_reserved = ?4 WHERE tenant = ?1 AND key = ?2 AND number = ?3")
        .bind(bytes(&tenant))
        .bind(bytes(&key))
        .bind(version)
        .bind(total)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a statement for these is kept prepared: one for each number of rows would fill the cache
/// of statements.
const fn is_common(piece: &[KeyVersion]) -> bool {
    matches!(piece.len(), 1 | PIECE)
}
