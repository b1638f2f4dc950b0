//! The nodes, and the positions of their logs whose effects were committed.

use claviger_provider::{Node, TenantId};
use sqlx::{SqliteConnection, SqliteExecutor, SqlitePool, query, query_scalar};

use super::SqliteStore;
use super::database::PRUNED;
use super::row::{Columns, bytes, integer};
use crate::store::transaction::Priority;
use crate::store::{KnownNode, LastRecord, LogBytes, StoreError};

/// Adds a node that is new here, and notes that its data folder has its name.
pub(super) async fn join(executor: impl SqliteExecutor<'_>, node: &Node) -> Result<(), StoreError> {
    query(
        "INSERT INTO nodes (tenant, name, named) VALUES (?1, ?2, 1) \
         ON CONFLICT (name) DO UPDATE SET named = 1 WHERE named = 0",
    )
    .bind(bytes(&TenantId::INSTALLATION))
    .bind(node.as_str())
    .execute(executor)
    .await?;
    Ok(())
}

pub(super) async fn nodes(pool: &SqlitePool) -> Result<Vec<KnownNode>, StoreError> {
    query("SELECT name, last, named FROM nodes ORDER BY name")
        .fetch_all(pool)
        .await?
        .iter()
        .map(|row| {
            let last = row.value::<Option<i64>>("last")?;
            Ok(KnownNode {
                name: row.word("name")?,
                last: last.map(u64::try_from).transpose().map_err(|_| StoreError::Damaged("a position"))?,
                named: row.value("named")?,
            })
        })
        .collect()
}

/// Of this node, in a store of this release's schema.
pub(super) async fn last_record(connection: &mut SqliteConnection, node: &Node) -> Result<Option<LastRecord>, StoreError> {
    let row = query("SELECT log_position, log_crc FROM nodes WHERE name = ?1 AND log_position IS NOT NULL")
        .bind(node.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        Ok(LastRecord {
            position: row.number("log_position")?,
            crc: row.number("log_crc")?,
        })
    })
    .transpose()
}

pub(super) async fn log_bytes(store: &SqliteStore) -> Result<Vec<(i64, TenantId, u64)>, StoreError> {
    query("SELECT day, tenant, bytes FROM log_bytes WHERE node = ?1")
        .bind(store.node.as_str())
        .fetch_all(&mut *store.own_reader().await?)
        .await?
        .iter()
        .map(|row| Ok((row.value("day")?, row.id("tenant")?, row.number("bytes")?)))
        .collect()
}

pub(super) async fn keep_last_record(store: &SqliteStore, last: Option<LastRecord>, of_day: &LogBytes) -> Result<(), StoreError> {
    let (_turn, mut transaction) = store.begin_writing(TenantId::INSTALLATION, Priority::Ordinary).await?;
    query("UPDATE nodes SET log_position = ?2, log_crc = ?3 WHERE name = ?1")
        .bind(store.node.as_str())
        .bind(last.map(|last| integer(last.position)).transpose()?)
        .bind(last.map(|last| i64::from(last.crc)))
        .execute(&mut *transaction)
        .await?;
    for (tenant, written) in &of_day.tenants {
        query(
            "INSERT INTO log_bytes (node, tenant, day, bytes) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (node, tenant) DO UPDATE SET day = ?3, bytes = ?4",
        )
        .bind(store.node.as_str())
        .bind(bytes(tenant))
        .bind(of_day.day)
        .bind(integer(*written)?)
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

pub(super) async fn insert(connection: &mut SqliteConnection, node: &Node, tenant: TenantId, position: u64) -> Result<(), StoreError> {
    query("INSERT INTO applied (node, position, tenant) VALUES (?1, ?2, ?3) ON CONFLICT (node, position) DO NOTHING")
        .bind(node.as_str())
        .bind(integer(position)?)
        .bind(bytes(&tenant))
        .execute(&mut *connection)
        .await?;
    query("UPDATE nodes SET last = ?2 WHERE name = ?1 AND (last IS NULL OR last < ?2)")
        .bind(node.as_str())
        .bind(integer(position)?)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn delete_after(connection: &mut SqliteConnection, node: &Node, position: Option<u64>) -> Result<(), StoreError> {
    let last = position.map(integer).transpose()?;
    query("DELETE FROM applied WHERE node = ?1 AND position > ?2")
        .bind(node.as_str())
        .bind(last.unwrap_or(-1))
        .execute(&mut *connection)
        .await?;
    query("UPDATE nodes SET last = ?2 WHERE name = ?1")
        .bind(node.as_str())
        .bind(last)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn prune(store: &SqliteStore, before: u64) -> Result<(), StoreError> {
    let before = integer(before)?;
    let statement = "DELETE FROM applied WHERE node = ?1 AND position IN (SELECT position FROM applied WHERE node = ?1 \
                     AND position < ?2 AND position < (SELECT last FROM nodes WHERE name = ?1) LIMIT ?3)";
    store
        .prune(|| query(statement).bind(store.node.as_str()).bind(before).bind(PRUNED))
        .await
}

pub(super) async fn is_applied(store: &SqliteStore, intent: u64) -> Result<bool, StoreError> {
    Ok(
        query_scalar("SELECT EXISTS (SELECT 1 FROM applied WHERE node = ?1 AND position = ?2)")
            .bind(store.node.as_str())
            .bind(integer(intent)?)
            .fetch_one(&mut *store.own_reader().await?)
            .await?,
    )
}

pub(super) async fn applied(store: &SqliteStore) -> Result<Vec<u64>, StoreError> {
    query("SELECT position FROM applied WHERE node = ?1 ORDER BY position")
        .bind(store.node.as_str())
        .fetch_all(&mut *store.own_reader().await?)
        .await?
        .iter()
        .map(|row| row.number("position"))
        .collect()
}

pub(super) async fn last_applied(connection: &mut SqliteConnection, node: &Node) -> Result<Option<u64>, StoreError> {
    let row = query("SELECT last FROM nodes WHERE name = ?1 AND last IS NOT NULL")
        .bind(node.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| row.number("last")).transpose()
}
