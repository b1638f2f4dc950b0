//! Creations of provider keys that have begun.

use claviger_provider::{ConnectionId, KeyId, KeySpec, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::SqliteStore;
use super::row::{Columns, bytes, json};
use crate::store::StoreError;
use crate::store::model::{Creation, CredentialRef};

/// Writes a creation; of one that has begun, another time at which it is due and who asks for it now.
pub(super) async fn put(connection: &mut SqliteConnection, creation: &Creation) -> Result<(), StoreError> {
    query(
        "INSERT INTO creations (tenant, made_as, key, connection, spec, wanted, begun, due, token, acting) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (tenant, made_as) DO UPDATE SET due = excluded.due, token = excluded.token, acting = excluded.acting",
    )
    .bind(bytes(&creation.tenant))
    .bind(bytes(&creation.made_as))
    .bind(bytes(&creation.key))
    .bind(bytes(&creation.connection))
    .bind(creation.spec.as_str())
    .bind(json(&creation.wanted)?)
    .bind(creation.begun)
    .bind(creation.due)
    .bind(creation.asked_by.as_ref().map(|credential| credential.public_id.as_str()))
    .bind(
        creation
            .asked_by
            .as_ref()
            .and_then(|credential| credential.acting.as_ref())
            .map(bytes),
    )
    .execute(&mut *connection)
    .await?;
    query(
        "DELETE FROM creations WHERE tenant = ?1 AND made_as IN \
         (SELECT made_as FROM creations WHERE tenant = ?1 ORDER BY begun DESC LIMIT -1 OFFSET ?2)",
    )
    .bind(bytes(&creation.tenant))
    .bind(Creation::MOST)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn delete(connection: &mut SqliteConnection, tenant: TenantId, made_as: KeyId) -> Result<(), StoreError> {
    query("DELETE FROM creations WHERE tenant = ?1 AND made_as = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&made_as))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn one(store: &SqliteStore, tenant: TenantId, made_as: KeyId) -> Result<Creation, StoreError> {
    let row = query("SELECT * FROM creations WHERE tenant = ?1 AND made_as = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&made_as))
        .fetch_one(&mut *store.reader(tenant).await?)
        .await?;
    read(&row)
}

pub(super) async fn of_key(
    store: &SqliteStore,
    tenant: TenantId,
    name: &str,
    connection: ConnectionId,
    spec: KeySpec,
) -> Result<Creation, StoreError> {
    let row = query(
        "SELECT * FROM creations WHERE tenant = ?1 AND json_extract(wanted, '$.key.name') = ?2 AND connection = ?3 AND spec = ?4 \
         ORDER BY begun DESC LIMIT 1",
    )
    .bind(bytes(&tenant))
    .bind(name)
    .bind(bytes(&connection))
    .bind(spec.as_str())
    .fetch_one(&mut *store.reader(tenant).await?)
    .await?;
    read(&row)
}

pub(super) async fn due(store: &SqliteStore, now: i64, most: u32, for_each: u32) -> Result<Vec<Creation>, StoreError> {
    let rows = query(
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY due) AS turn FROM creations \
         WHERE (due <= ?1 OR due > ?4) AND NOT EXISTS (SELECT 1 FROM tenants t WHERE t.id = creations.tenant AND t.suspended)) \
         WHERE turn <= ?3 ORDER BY turn, random() LIMIT ?2",
    )
    .bind(now)
    .bind(most)
    .bind(for_each)
    .bind(now.saturating_add(Creation::LATEST))
    .fetch_all(&mut *store.reader(TenantId::INSTALLATION).await?)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<Creation, StoreError> {
    let token: Option<String> = row.value("token")?;
    let acting = row.optional_id("acting")?;
    Ok(Creation {
        tenant: row.id("tenant")?,
        made_as: row.id("made_as")?,
        key: row.id("key")?,
        connection: row.id("connection")?,
        spec: row.word("spec")?,
        wanted: row.json("wanted")?,
        asked_by: token.map(|public_id| CredentialRef { public_id, acting }),
        begun: row.value("begun")?,
        due: row.value("due")?,
    })
}
