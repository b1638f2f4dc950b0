//! Principals.

use claviger_provider::{PrincipalId, TenantId};
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query, query_scalar};

use super::SqliteStore;
use super::database::PRUNED;
use super::row::{self, Columns, bytes, one_row};
use crate::store::StoreError;
use crate::store::model::{Page, Principal};

pub(super) fn read(row: &SqliteRow) -> Result<Principal, StoreError> {
    Ok(Principal {
        id: row.id("principal_id")?,
        tenant: row.id("principal_tenant")?,
        name: row.value("principal_name")?,
        kind: row.word("principal_kind")?,
        created: row.value("principal_created")?,
    })
}

pub(super) async fn insert(connection: &mut SqliteConnection, principal: &Principal) -> Result<(), StoreError> {
    query("INSERT INTO principals (tenant, id, name, kind, created) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(bytes(&principal.tenant))
        .bind(bytes(&principal.id))
        .bind(&principal.name)
        .bind(principal.kind.as_str())
        .bind(principal.created)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn by_name(store: &SqliteStore, tenant: TenantId, name: &str) -> Result<Principal, StoreError> {
    let statement = query(concat!(
        "SELECT ",
        principal_columns!(),
        " FROM principals p WHERE p.tenant = ?1 AND p.name = ?2"
    ));
    read(
        &statement
            .bind(bytes(&tenant))
            .bind(name)
            .fetch_one(&mut *store.reader(tenant).await?)
            .await?,
    )
}

pub(super) async fn by_id(store: &SqliteStore, tenant: TenantId, id: PrincipalId) -> Result<Principal, StoreError> {
    let statement = query(concat!(
        "SELECT ",
        principal_columns!(),
        " FROM principals p WHERE p.tenant = ?1 AND p.id = ?2"
    ));
    read(
        &statement
            .bind(bytes(&tenant))
            .bind(bytes(&id))
            .fetch_one(&mut *store.reader(tenant).await?)
            .await?,
    )
}

pub(super) async fn list(store: &SqliteStore, tenant: TenantId, page: &Page) -> Result<Vec<Principal>, StoreError> {
    let statement = query(concat!(
        "SELECT ",
        principal_columns!(),
        " FROM principals p WHERE p.tenant = ?1 AND p.name > ?2 ORDER BY p.name LIMIT ?3"
    ))
    .bind(bytes(&tenant))
    .bind(page.after.as_deref().unwrap_or_default())
    .bind(page.size);
    row::page(statement.fetch(&mut *store.list_reader(tenant).await?), read).await
}

/// Returns the number of its tokens.
pub(super) async fn delete(connection: &mut SqliteConnection, tenant: TenantId, id: PrincipalId, at: i64) -> Result<u64, StoreError> {
    query(
        "INSERT INTO deleted_principals (tenant, name, deleted) \
         SELECT tenant, name, ?3 FROM principals WHERE tenant = ?1 AND id = ?2 \
         ON CONFLICT (tenant, name) DO UPDATE SET deleted = excluded.deleted",
    )
    .bind(bytes(&tenant))
    .bind(bytes(&id))
    .bind(at)
    .execute(&mut *connection)
    .await?;
    let tokens = query("DELETE FROM tokens WHERE tenant = ?1 AND principal = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .execute(&mut *connection)
        .await?;
    let deleted = query("DELETE FROM principals WHERE tenant = ?1 AND id = ?2")
        .bind(bytes(&tenant))
        .bind(bytes(&id))
        .execute(connection)
        .await?;
    one_row(&deleted)?;
    Ok(tokens.rows_affected())
}

pub(super) async fn was_deleted(store: &SqliteStore, tenant: TenantId, name: &str) -> Result<bool, StoreError> {
    Ok(
        query_scalar("SELECT EXISTS (SELECT 1 FROM deleted_principals WHERE tenant = ?1 AND name = ?2)")
            .bind(bytes(&tenant))
            .bind(name)
            .fetch_one(&mut *store.reader(tenant).await?)
            .await?,
    )
}

pub(super) async fn forget_deleted(store: &SqliteStore, before: i64) -> Result<(), StoreError> {
    let statement = "DELETE FROM deleted_principals WHERE (tenant, name) IN \
        (SELECT tenant, name FROM deleted_principals WHERE deleted < ?1 LIMIT ?2)";
    store.prune(|| query(statement).bind(before).bind(PRUNED)).await
}
