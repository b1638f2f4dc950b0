//! Connections.

use claviger_provider::{ClaimSpan, ConnectionId, KeyId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqliteExecutor, query, query_scalar};

use super::row::{self, Columns, bytes, integer, one_row};
use super::{SqliteStore, sealed};
use crate::store::StoreError;
use crate::store::model::{Connection, ConnectionSnapshot, Page, ProviderState};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT tenant, id, name, provider, settings, labels, timeouts, claimed_in, severed, epoch, lifts, managed_by, external_id, revision, \
             created, updated \
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
        claims: row
            .value::<Option<String>>("claimed_in")?
            .map_or(ClaimSpan::Tenant, |service| ClaimSpan::Installation { service }),
        severed: row.value("severed")?,
        epoch: row.number("epoch")?,
        lifts: row.number("lifts")?,
        managed_by: row.value("managed_by")?,
        external_id: row.value("external_id")?,
        revision: row.number("revision")?,
        created: row.value("created")?,
        updated: row.value("updated")?,
    })
}

fn claimed_in(connection: &Connection) -> Option<&str> {
    match &connection.claims {
        ClaimSpan::Tenant => None,
        ClaimSpan::Installation { service } => Some(service),
    }
}

pub(super) async fn insert(executor: &mut SqliteConnection, connection: &Connection) -> Result<(), StoreError> {
    query(
        "INSERT INTO connections (tenant, id, name, provider, settings, labels, severed, epoch, managed_by, external_id, revision, \
         created, updated, timeouts, lifts, claimed_in) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
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
    .bind(integer(connection.lifts)?)
    .bind(claimed_in(connection))
    .execute(executor)
    .await?;
    Ok(())
}

pub(super) async fn by_name(store: &SqliteStore, tenant: TenantId, name: &str) -> Result<Connection, StoreError> {
    read(
        &query(select!("WHERE tenant = ?1 AND name = ?2"))
            .bind(bytes(&tenant))
            .bind(name)
            .fetch_one(&mut *store.reader(tenant).await?)
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

/// One row for each secret; a connection without secrets is one row with NULLs.
pub(super) async fn snapshot(store: &SqliteStore, tenant: TenantId, id: ConnectionId) -> Result<ConnectionSnapshot, StoreError> {
    let row_id = id.to_string();
    let rows = query(
        "SELECT c.tenant, c.id, c.name, c.provider, c.settings, c.labels, c.timeouts, c.claimed_in, c.severed, c.epoch, c.lifts, c.managed_by, c.external_id, \
         c.revision, c.created, c.updated, s.column_name, s.value FROM connections c \
         LEFT JOIN sealed_values s ON s.tenant = c.tenant AND s.row_id = ?3 WHERE c.tenant = ?1 AND c.id = ?2 ORDER BY s.column_name",
    )
    .bind(bytes(&tenant))
    .bind(bytes(&id))
    .bind(&row_id)
    .fetch_all(&mut *store.reader(tenant).await?)
    .await?;
    let connection = read(rows.first().ok_or(StoreError::NotFound)?)?;
    let mut secrets = Vec::new();
    for row in &rows {
        let Some(column) = row.value::<Option<String>>("column_name")? else {
            continue;
        };
        let secret = sealed::open(store, tenant, &row_id, &column, row.value("value")?)?;
        secrets.push((column, secret));
    }
    Ok(ConnectionSnapshot { connection, secrets })
}

pub(super) async fn list(store: &SqliteStore, tenant: TenantId, page: &Page) -> Result<Vec<Connection>, StoreError> {
    let statement = query(select!("WHERE tenant = ?1 AND name > ?2 ORDER BY name LIMIT ?3"))
        .bind(bytes(&tenant))
        .bind(page.after.as_deref().unwrap_or_default())
        .bind(page.size);
    row::page(statement.fetch(&mut *store.list_reader(tenant).await?), read).await
}

/// Writes the columns of a connection that can change.
pub(super) async fn update(executor: &mut SqliteConnection, connection: &Connection) -> Result<(), StoreError> {
    let updated = query(
        "UPDATE connections SET labels = ?3, severed = ?4, epoch = ?5, revision = ?6, updated = ?7, timeouts = ?8, lifts = ?9, \
         settings = ?10, claimed_in = ?11, managed_by = ?12 WHERE tenant = ?1 AND id = ?2",
    )
    .bind(bytes(&connection.tenant))
    .bind(bytes(&connection.id))
    .bind(row::json(&connection.labels)?)
    .bind(connection.severed)
    .bind(integer(connection.epoch)?)
    .bind(integer(connection.revision)?)
    .bind(connection.updated)
    .bind(row::json(&connection.timeouts)?)
    .bind(integer(connection.lifts)?)
    .bind(&connection.settings)
    .bind(claimed_in(connection))
    .bind(&connection.managed_by)
    .execute(executor)
    .await?;
    one_row(&updated)
}

/// The versions of attached keys that use the connection, and whether each may wrap: a replaced one does not before its
/// canary opens again.
pub(super) async fn users(
    executor: &mut SqliteConnection,
    tenant: TenantId,
    id: ConnectionId,
) -> Result<Vec<(KeyId, u32, bool)>, StoreError> {
    query(
        "SELECT v.key, v.number, v.number = k.primary_version AND v.provider_state <> ?3 AS may_wrap FROM key_versions v \
         JOIN keys k ON k.tenant = v.tenant AND k.id = v.key \
         WHERE v.tenant = ?1 AND v.connection = ?2 AND k.detached IS NULL ORDER BY v.key, v.number",
    )
    .bind(bytes(&tenant))
    .bind(bytes(&id))
    .bind(ProviderState::Replaced.as_str())
    .fetch_all(executor)
    .await?
    .iter()
    .map(|row| Ok((row.id("key")?, row.number("number")?, row.value("may_wrap")?)))
    .collect()
}

/// The name of the first attached key of which a version uses the connection.
pub(super) async fn first_user(executor: &mut SqliteConnection, tenant: TenantId, id: ConnectionId) -> Result<Option<String>, StoreError> {
    let name = query_scalar(
        "SELECT k.name FROM key_versions v JOIN keys k ON k.tenant = v.tenant AND k.id = v.key \
         WHERE v.tenant = ?1 AND v.connection = ?2 AND k.detached IS NULL ORDER BY k.name LIMIT 1",
    )
    .bind(bytes(&tenant))
    .bind(bytes(&id))
    .fetch_optional(executor)
    .await?;
    Ok(name)
}

pub(super) async fn delete(executor: &mut SqliteConnection, tenant: TenantId, id: ConnectionId) -> Result<(), StoreError> {
    // Only detached keys can still refer to the connection: `InUse` protects it from attached ones.
    for statement in [
        "UPDATE keys SET primary_connection = NULL WHERE tenant = ?1 AND primary_connection = ?2 \
         AND id IN (SELECT key FROM key_versions WHERE tenant = ?1 AND connection = ?2)",
        "UPDATE key_versions SET connection = NULL WHERE tenant = ?1 AND connection = ?2",
    ] {
        query(statement)
            .bind(bytes(&tenant))
            .bind(bytes(&id))
            .execute(&mut *executor)
            .await?;
    }
    let deleted = query("DELETE FROM connections WHERE tenant = ?1 AND id = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .execute(executor)
        .await?;
    one_row(&deleted)
}
