//! Logical keys and their labels. Their lists are in [`lists`], their versions in [`super::versions`].

use std::collections::BTreeSet;

use claviger_provider::{ConnectionId, KeyId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqliteExecutor, query, query_scalar};

use super::row::{self, Columns, bytes, integer, one_row};
use super::{SqliteStore, versions};
use crate::store::StoreError;
use crate::store::model::{DetachedKey, Holder, Key, KeySelector, KeySnapshot, KeyState};

/// The columns of a key with those of a version, and the tables that they are read from. `$from`
/// names `keys k`, and `$version` restricts the versions.
macro_rules! select_with {
    ($from:literal, $version:literal, $rest:literal) => {
        concat!(
            "SELECT k.tenant, k.id, k.name, k.state, k.compromised_since, k.needs_restore, k.allow_export, k.primary_version, k.rotating, \
             k.cache, k.managed_by, k.detached, k.epoch, k.lifts, k.revision, k.created, k.updated, \
             (SELECT json_group_object(l.label, l.value) FROM key_labels l WHERE l.tenant = k.tenant AND l.key = k.id) AS labels, ",
            version_columns!(),
            " FROM ",
            $from,
            " CROSS JOIN key_versions v ON v.tenant = k.tenant AND v.key = k.id ",
            $version,
            " LEFT JOIN connections c ON c.tenant = v.tenant AND c.id = v.connection ",
            $rest
        )
    };
}

/// Keys, each with its primary version.
macro_rules! select {
    ($from:literal, $rest:literal) => {
        select_with!($from, "AND v.number = k.primary_version", $rest)
    };
}

/// A key, one row for each of its versions.
macro_rules! select_snapshot {
    ($rest:literal) => {
        select_with!("keys k", "", $rest)
    };
}

pub(super) mod lists;

/// A key, from its row with the primary version.
fn read(row: &SqliteRow) -> Result<Key, StoreError> {
    Ok(Key {
        id: row.id("id")?,
        tenant: row.id("tenant")?,
        name: row.value("name")?,
        state: KeyState::parse(row.value("state")?),
        compromised_since: row.value("compromised_since")?,
        needs_restore: row.value("needs_restore")?,
        allow_export: row.value("allow_export")?,
        primary: versions::read(row)?,
        rotating: row.value("rotating")?,
        cache: row.json("cache")?,
        labels: row.json("labels")?,
        managed_by: row.value("managed_by")?,
        epoch: row.number("epoch")?,
        lifts: row.number("lifts")?,
        revision: row.number("revision")?,
        created: row.value("created")?,
        updated: row.value("updated")?,
    })
}

pub(super) async fn by_name(executor: impl SqliteExecutor<'_>, tenant: TenantId, name: &str) -> Result<Key, StoreError> {
    let statement = query(select!("keys k", "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached IS NULL"));
    read(&statement.bind(bytes(&tenant)).bind(name).fetch_one(executor).await?)
}

pub(super) async fn by_id(executor: impl SqliteExecutor<'_>, tenant: TenantId, id: KeyId) -> Result<Key, StoreError> {
    let statement = query(select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NULL"));
    read(&statement.bind(bytes(&tenant)).bind(bytes(&id)).fetch_one(executor).await?)
}

/// The ids of a filter: at most 256, so the rows that they are looked up to are sorted in memory.
fn push_only(statement: &mut QueryBuilder<Sqlite>, only: &BTreeSet<KeyId>) {
    statement.push(" AND k.id IN (");
    let mut ids = statement.separated(", ");
    for id in only {
        ids.push_bind(bytes(id).to_vec());
    }
    statement.push(")");
}

/// The signs keep SQLite from the index of names: it would read other keys.
fn among_statement(tenant: &TenantId, name: &str, only: &BTreeSet<KeyId>) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::<Sqlite>::new(select_snapshot!("WHERE +k.detached IS NULL AND k.tenant = "));
    statement.push_bind(bytes(tenant).to_vec());
    push_only(&mut statement, only);
    statement
        .push(" AND +k.name = ")
        .push_bind(name.to_owned())
        .push(" ORDER BY v.number");
    statement
}

pub(super) async fn snapshot(store: &SqliteStore, tenant: TenantId, key: KeySelector<'_>) -> Result<KeySnapshot, StoreError> {
    let mut reader = store.reader(tenant).await?;
    let rows = match key {
        KeySelector::Id(id) => {
            let statement = query(select_snapshot!(
                "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NULL ORDER BY v.number"
            ));
            statement.bind(bytes(&tenant)).bind(bytes(&id)).fetch_all(&mut *reader).await?
        }
        KeySelector::Name(name) => {
            let statement = query(select_snapshot!(
                "WHERE k.tenant = ?1 AND k.name = ?2 AND k.detached IS NULL ORDER BY v.number"
            ));
            statement.bind(bytes(&tenant)).bind(name).fetch_all(&mut *reader).await?
        }
        KeySelector::NameAmong(name, only) => {
            let mut statement = among_statement(&tenant, name, only);
            statement.build().persistent(false).fetch_all(&mut *reader).await?
        }
    };
    drop(reader);
    let primary: i64 = rows.first().ok_or(StoreError::NotFound)?.value("primary_version")?;
    let mut key = None;
    let mut versions = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.value::<i64>("number")? == primary {
            key = Some(read(row)?);
        }
        versions.push(versions::read(row)?);
    }
    Ok(KeySnapshot {
        key: key.ok_or(StoreError::Damaged("a key without its primary version"))?,
        versions,
    })
}

pub(super) async fn holder(executor: impl SqliteExecutor<'_>, tenant: TenantId, id: KeyId) -> Result<Option<Holder>, StoreError> {
    let row = query(
        "SELECT k.detached, k.state, k.compromised_since, k.needs_restore, k.cache, k.epoch, k.lifts, k.revision, \
         EXISTS (SELECT 1 FROM key_versions v JOIN connections c ON c.tenant = v.tenant AND c.id = v.connection \
         WHERE v.tenant = k.tenant AND v.key = k.id AND c.severed) AS severed \
         FROM keys k WHERE k.tenant = ?1 AND k.id = ?2",
    )
    .bind(bytes(&tenant))
    .bind(bytes(&id))
    .fetch_optional(executor)
    .await?;
    row.map(|row| {
        Ok(Holder {
            detached: row.value::<Option<i64>>("detached")?.is_some(),
            state: KeyState::parse(row.value("state")?),
            compromised_since: row.value("compromised_since")?,
            needs_restore: row.value("needs_restore")?,
            cache: row.json("cache")?,
            severed: row.value("severed")?,
            epoch: row.number("epoch")?,
            lifts: row.number("lifts")?,
            revision: row.number("revision")?,
        })
    })
    .transpose()
}

fn read_detached(row: &SqliteRow) -> Result<DetachedKey, StoreError> {
    Ok(DetachedKey {
        key: read(row)?,
        at: row.value("detached")?,
    })
}

pub(super) async fn detached_by_id(executor: impl SqliteExecutor<'_>, tenant: TenantId, id: KeyId) -> Result<DetachedKey, StoreError> {
    let statement = query(select!("keys k", "WHERE k.tenant = ?1 AND k.id = ?2 AND k.detached IS NOT NULL"));
    read_detached(&statement.bind(bytes(&tenant)).bind(bytes(&id)).fetch_one(executor).await?)
}

/// Writes every column of an attached key.
async fn write(connection: &mut SqliteConnection, statement: &'static str, key: &Key) -> Result<(), StoreError> {
    let primary_connection = key.primary.connection_id();
    let written = query(statement)
        .bind(bytes(&key.tenant))
        .bind(bytes(&key.id))
        .bind(&key.name)
        .bind(key.state.as_str())
        .bind(key.compromised_since)
        .bind(key.needs_restore)
        .bind(key.allow_export)
        .bind(key.primary.number)
        .bind(primary_connection.as_ref().map(bytes))
        .bind(key.rotating)
        .bind(row::json(&key.cache)?)
        .bind(&key.managed_by)
        .bind(integer(key.epoch)?)
        .bind(integer(key.lifts)?)
        .bind(integer(key.revision)?)
        .bind(key.created)
        .bind(key.updated)
        .execute(connection)
        .await?;
    one_row(&written)
}

pub(super) async fn insert(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    write(
        connection,
        "INSERT INTO keys (tenant, id, name, state, compromised_since, needs_restore, allow_export, primary_version, primary_connection, \
         rotating, cache, managed_by, epoch, lifts, revision, created, updated) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
        key,
    )
    .await
}

pub(super) async fn take_over(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    write(
        connection,
        "UPDATE keys SET name = ?3, state = ?4, compromised_since = ?5, needs_restore = ?6, allow_export = ?7, primary_version = ?8, \
         primary_connection = ?9, rotating = ?10, cache = ?11, managed_by = ?12, epoch = ?13, lifts = ?14, revision = ?15, \
         created = ?16, updated = ?17, detached = NULL WHERE tenant = ?1 AND id = ?2 AND detached IS NOT NULL",
        key,
    )
    .await
}

/// Writes every column of an attached key, without its labels.
pub(super) async fn update(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    write(
        connection,
        "UPDATE keys SET name = ?3, state = ?4, compromised_since = ?5, needs_restore = ?6, allow_export = ?7, primary_version = ?8, \
         primary_connection = ?9, rotating = ?10, cache = ?11, managed_by = ?12, epoch = ?13, lifts = ?14, revision = ?15, \
         created = ?16, updated = ?17 WHERE tenant = ?1 AND id = ?2 AND detached IS NULL",
        key,
    )
    .await
}

async fn clear_labels(connection: &mut SqliteConnection, tenant: TenantId, id: KeyId) -> Result<(), StoreError> {
    query("DELETE FROM key_labels WHERE tenant = ?1 AND key = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes a key's labels under its present name.
pub(super) async fn replace_labels(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    clear_labels(connection, key.tenant, key.id).await?;
    for (label, value) in &key.labels {
        query("INSERT INTO key_labels (tenant, key, label, value, key_name) VALUES (?1, ?2, ?3, ?4, ?5)")
            .bind(bytes(&key.tenant))
            .bind(bytes(&key.id))
            .bind(label)
            .bind(value)
            .bind(&key.name)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

pub(super) async fn rotating(store: &SqliteStore, most: u32, for_each: u32) -> Result<Vec<(TenantId, KeyId)>, StoreError> {
    query(
        "SELECT tenant, id FROM (SELECT tenant, id, row_number() OVER (PARTITION BY tenant ORDER BY random()) AS turn \
         FROM keys INDEXED BY keys_rotating WHERE rotating IS NOT NULL AND detached IS NULL \
         AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.id = keys.tenant AND t.suspended)) \
         WHERE turn <= ?2 ORDER BY turn LIMIT ?1",
    )
    .bind(most)
    .bind(for_each)
    .fetch_all(&mut *store.reader(TenantId::INSTALLATION).await?)
    .await?
    .iter()
    .map(|row| Ok((row.id("tenant")?, row.id("id")?)))
    .collect()
}

pub(super) async fn lost_rotations(store: &SqliteStore) -> Result<u64, StoreError> {
    let statement = "SELECT COUNT(*) FROM keys INDEXED BY keys_rotating WHERE rotating IS NOT NULL AND detached IS NULL AND rotating < 0";
    let number: i64 = query_scalar(statement)
        .fetch_one(&mut *store.reader(TenantId::INSTALLATION).await?)
        .await?;
    Ok(number.unsigned_abs())
}

pub(super) async fn detach(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    let detached = query(
        "UPDATE keys SET detached = ?5, epoch = ?3, revision = ?4, updated = ?5, state = ?6, needs_restore = ?7 \
             WHERE tenant = ?1 AND id = ?2 AND detached IS NULL",
    )
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .bind(integer(key.epoch)?)
    .bind(integer(key.revision)?)
    .bind(key.updated)
    .bind(key.state.as_str())
    .bind(key.needs_restore)
    .execute(&mut *connection)
    .await?;
    one_row(&detached)?;
    clear_labels(connection, key.tenant, key.id).await
}

pub(super) async fn detached_through(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    through: ConnectionId,
) -> Result<Vec<Key>, StoreError> {
    query(select!(
        "(SELECT DISTINCT key FROM key_versions WHERE tenant = ?1 AND connection = ?2) d CROSS JOIN keys k ON k.tenant = ?1 AND k.id = d.key",
        "WHERE k.detached IS NOT NULL"
    ))
    .bind(bytes(&tenant))
    .bind(bytes(&through))
    .fetch_all(connection)
    .await?
    .iter()
    .map(read)
    .collect()
}

pub(super) async fn update_detached(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    let updated = query(
        "UPDATE keys SET state = ?3, needs_restore = ?4, revision = ?5, lifts = ?6 \
         WHERE tenant = ?1 AND id = ?2 AND detached IS NOT NULL",
    )
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .bind(key.state.as_str())
    .bind(key.needs_restore)
    .bind(integer(key.revision)?)
    .bind(integer(key.lifts)?)
    .execute(connection)
    .await?;
    one_row(&updated)
}
