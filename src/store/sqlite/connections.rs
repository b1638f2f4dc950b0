//! Connections.

use claviger_provider::{ConnectionId, SealedName, Secret, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqliteExecutor, query, query_scalar};

use super::SqliteStore;
use super::row::{self, Columns, bytes, integer};
use super::sealed::{self, Existing};
use super::transaction::Act;
use crate::store::model::{Connection, ConnectionPatch, Page};
use crate::store::{Change, StoreError};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT tenant, id, name, provider, settings, labels, timeouts, severed, epoch, managed_by, external_id, revision, created, \
             updated \
             FROM connections ",
            $rest
        )
    };
}

fn read(row: &SqliteRow) -> Result<Connection, StoreError> {
    Ok(Connection {
        id: row.id("id")?,
        tenant: row.id("tenant")?,
        name: row.value("name")?,
        provider: row.provider("provider")?,
        settings: row.value("settings")?,
        labels: row.json("labels")?,
        timeouts: row.json("timeouts")?,
        severed: row.value("severed")?,
        epoch: row.number("epoch")?,
        managed_by: row.value("managed_by")?,
        external_id: row.value("external_id")?,
        revision: row.number("revision")?,
        created: row.value("created")?,
        updated: row.value("updated")?,
    })
}

pub(super) async fn create(
    store: &SqliteStore,
    connection: &Connection,
    values: &[(SealedName, Secret)],
    change: &Change,
) -> Result<(), StoreError> {
    let mut act = Act::begin(store, connection.tenant, change).await?;
    query(
        "INSERT INTO connections (tenant, id, name, provider, settings, labels, severed, epoch, managed_by, external_id, revision, \
         created, updated, timeouts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )
    .bind(bytes(&connection.tenant))
    .bind(bytes(&connection.id))
    .bind(&connection.name)
    .bind(row::provider(connection.provider))
    .bind(&connection.settings)
    .bind(row::json(&connection.labels)?)
    .bind(connection.severed)
    .bind(integer(connection.epoch)?)
    .bind(&connection.managed_by)
    .bind(&connection.external_id)
    .bind(integer(connection.revision)?)
    .bind(connection.created)
    .bind(connection.updated)
    .bind(row::json(&connection.timeouts)?)
    .execute(act.connection())
    .await?;
    put_sealed(&mut act, store, connection.tenant, connection.id, values, Existing::Refuse).await?;
    act.commit().await
}

pub(super) async fn by_name(store: &SqliteStore, tenant: TenantId, name: &str) -> Result<Connection, StoreError> {
    read(
        &query(select!("WHERE tenant = ?1 AND name = ?2"))
            .bind(bytes(&tenant))
            .bind(name)
            .fetch_one(&store.readers)
            .await?,
    )
}

pub(super) async fn by_id(executor: impl SqliteExecutor<'_>, tenant: TenantId, id: ConnectionId) -> Result<Connection, StoreError> {
    read(
        &query(select!("WHERE tenant = ?1 AND id = ?2"))
            .bind(bytes(&tenant))
            .bind(bytes(&id))
            .fetch_one(executor)
            .await?,
    )
}

pub(super) async fn list(store: &SqliteStore, tenant: TenantId, page: &Page) -> Result<Vec<Connection>, StoreError> {
    query(select!("WHERE tenant = ?1 AND name > ?2 ORDER BY name LIMIT ?3"))
        .bind(bytes(&tenant))
        .bind(page.after.as_deref().unwrap_or_default())
        .bind(page.size)
        .fetch_all(&store.readers)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// A connection's values stand under its own id, and go with it.
async fn put_sealed(
    act: &mut Act,
    store: &SqliteStore,
    tenant: TenantId,
    id: ConnectionId,
    values: &[(SealedName, Secret)],
    existing: Existing,
) -> Result<(), StoreError> {
    let row = id.to_string();
    if values.iter().any(|(name, _)| name.tenant != tenant || name.row != row) {
        return Err(StoreError::NotFound);
    }
    sealed::put(act.connection(), &store.sealer, values, existing).await
}

/// Writes what can change.
async fn save(executor: &mut SqliteConnection, connection: &Connection) -> Result<(), StoreError> {
    query(
        "UPDATE connections SET labels = ?3, severed = ?4, epoch = ?5, revision = ?6, updated = ?7, timeouts = ?8 \
         WHERE tenant = ?1 AND id = ?2",
    )
    .bind(bytes(&connection.tenant))
    .bind(bytes(&connection.id))
    .bind(row::json(&connection.labels)?)
    .bind(connection.severed)
    .bind(integer(connection.epoch)?)
    .bind(integer(connection.revision)?)
    .bind(connection.updated)
    .bind(row::json(&connection.timeouts)?)
    .execute(executor)
    .await?;
    Ok(())
}

pub(super) async fn update(
    store: &SqliteStore,
    tenant: TenantId,
    id: ConnectionId,
    patch: &ConnectionPatch,
    values: &[(SealedName, Secret)],
    change: &Change,
) -> Result<Connection, StoreError> {
    let mut act = Act::begin(store, tenant, change).await?;
    let mut connection = by_id(act.connection(), tenant, id).await?;
    if connection.revision != patch.expected_revision {
        return Err(StoreError::Precondition);
    }
    if let Some(labels) = &patch.labels {
        connection.labels.clone_from(labels);
    }
    if let Some(timeouts) = patch.timeouts {
        connection.timeouts = timeouts;
    }
    connection.revision += 1;
    connection.updated = patch.at;
    save(act.connection(), &connection).await?;
    put_sealed(&mut act, store, tenant, id, values, Existing::Replace).await?;
    act.commit().await?;
    Ok(connection)
}

pub(super) async fn set_severed(
    store: &SqliteStore,
    tenant: TenantId,
    id: ConnectionId,
    severed: bool,
    at: i64,
    change: &Change,
) -> Result<Connection, StoreError> {
    let mut act = Act::begin(store, tenant, change).await?;
    let mut connection = by_id(act.connection(), tenant, id).await?;
    if connection.severed != severed {
        connection.severed = severed;
        connection.epoch += 1;
        connection.revision += 1;
        connection.updated = at;
        save(act.connection(), &connection).await?;
    }
    act.commit().await?;
    Ok(connection)
}

pub(super) async fn delete(store: &SqliteStore, tenant: TenantId, id: ConnectionId, change: &Change) -> Result<(), StoreError> {
    let mut act = Act::begin(store, tenant, change).await?;
    let used: bool = query_scalar("SELECT EXISTS (SELECT 1 FROM keys WHERE tenant = ?1 AND connection = ?2 AND detached = 0)")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .fetch_one(act.connection())
        .await?;
    if used {
        return Err(StoreError::InUse);
    }
    query("UPDATE keys SET connection = NULL WHERE tenant = ?1 AND connection = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .execute(act.connection())
        .await?;
    let deleted = query("DELETE FROM connections WHERE tenant = ?1 AND id = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .execute(act.connection())
        .await?;
    if deleted.rows_affected() == 0 {
        return Err(StoreError::NotFound);
    }
    sealed::remove(act.connection(), tenant, &id.to_string()).await?;
    act.commit().await
}
