//! The transaction of a change: effect, applied intent and kept answer, all or nothing.

use chrono::{TimeDelta, Utc};
use claviger_provider::TenantId;
use sqlx::{Sqlite, SqliteConnection, Transaction, query, query_scalar};

use super::SqliteStore;
use super::row::{Columns, bytes, integer};
use crate::store::model::{IdempotencyKey, IdempotencyRecord};
use crate::store::{Change, StoreError};

/// How long an answer is kept for its idempotency key.
const KEPT: TimeDelta = TimeDelta::hours(24);

/// An open change. Dropped without [`Act::commit`], nothing of it happened.
pub(super) struct Act(Transaction<'static, Sqlite>);

impl Act {
    /// Takes the writer, marks the intent applied and keeps the answer.
    pub(super) async fn begin(store: &SqliteStore, tenant: TenantId, change: &Change) -> Result<Self, StoreError> {
        let mut act = Self(store.begin().await?);
        if let Some(intent) = change.intent {
            query("INSERT INTO applied (position, tenant) VALUES (?1, ?2) ON CONFLICT (position) DO NOTHING")
                .bind(integer(intent)?)
                .bind(bytes(&tenant))
                .execute(act.connection())
                .await?;
        }
        if let Some(record) = &change.idempotency {
            keep(act.connection(), record).await?;
        }
        Ok(act)
    }

    /// Where the effect is written.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }

    /// Makes all of it durable.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

/// An older answer than [`KEPT`] counts as absent, here as in [`idempotent`].
async fn keep(connection: &mut SqliteConnection, record: &IdempotencyRecord) -> Result<(), StoreError> {
    let kept = query(
        "INSERT INTO idempotency (tenant, principal, route, key, body_hmac, status, body, etag, created) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (tenant, principal, route, key) DO UPDATE SET body_hmac = excluded.body_hmac, status = excluded.status, \
         body = excluded.body, etag = excluded.etag, created = excluded.created WHERE created <= ?10",
    )
    .bind(bytes(&record.key.tenant))
    .bind(bytes(&record.key.principal))
    .bind(&record.key.route)
    .bind(&record.key.key)
    .bind(record.body_hmac.as_slice())
    .bind(record.status)
    .bind(&record.body)
    .bind(&record.etag)
    .bind(record.created)
    .bind(oldest())
    .execute(connection)
    .await?;
    if kept.rows_affected() == 0 {
        Err(StoreError::IdempotencyTaken)
    } else {
        Ok(())
    }
}

pub(super) async fn idempotent(store: &SqliteStore, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError> {
    query(
        "SELECT body_hmac, status, body, etag, created FROM idempotency \
         WHERE tenant = ?1 AND principal = ?2 AND route = ?3 AND key = ?4 AND created > ?5",
    )
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.principal))
    .bind(&key.route)
    .bind(&key.key)
    .bind(oldest())
    .fetch_optional(&store.readers)
    .await?
    .map(|row| {
        Ok(IdempotencyRecord {
            key: key.clone(),
            body_hmac: row.hash("body_hmac")?,
            status: row.number("status")?,
            body: row.value("body")?,
            etag: row.value("etag")?,
            created: row.value("created")?,
        })
    })
    .transpose()
}

pub(super) async fn prune_idempotency(store: &SqliteStore, before: i64) -> Result<u64, StoreError> {
    Ok(query("DELETE FROM idempotency WHERE created < ?1")
        .bind(before)
        .execute(&store.writer)
        .await?
        .rows_affected())
}

pub(super) async fn is_applied(store: &SqliteStore, intent: u64) -> Result<bool, StoreError> {
    Ok(query_scalar("SELECT EXISTS (SELECT 1 FROM applied WHERE position = ?1)")
        .bind(integer(intent)?)
        .fetch_one(&store.readers)
        .await?)
}

pub(super) async fn last_applied(store: &SqliteStore) -> Result<Option<u64>, StoreError> {
    let row = query("SELECT position FROM applied ORDER BY position DESC LIMIT 1")
        .fetch_optional(&store.readers)
        .await?;
    row.map(|row| row.number("position")).transpose()
}

pub(super) async fn prune_applied(store: &SqliteStore, before: u64) -> Result<(), StoreError> {
    query("DELETE FROM applied WHERE position < ?1 AND position < (SELECT max(position) FROM applied)")
        .bind(integer(before)?)
        .execute(&store.writer)
        .await?;
    Ok(())
}

pub(super) async fn rewind_applied(store: &SqliteStore, last: Option<u64>) -> Result<(), StoreError> {
    let change = Change {
        intent: last,
        idempotency: None,
    };
    let mut act = Act::begin(store, TenantId::INSTALLATION, &change).await?;
    let largest = last.map(integer).transpose()?.unwrap_or(-1);
    query("DELETE FROM applied WHERE position > ?1")
        .bind(largest)
        .execute(act.connection())
        .await?;
    act.commit().await
}

fn oldest() -> i64 {
    (Utc::now() - KEPT).timestamp_micros()
}
