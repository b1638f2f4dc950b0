//! Tenants.

use claviger_provider::TenantId;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, SqliteExecutor, query};

use super::SqliteStore;
use super::row::{self, Columns, bytes, integer, one_row};
use crate::store::StoreError;
use crate::store::model::{Page, Tenant};

pub(super) fn read(row: &SqliteRow) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: row.id("tenant_id")?,
        name: row.value("tenant_name")?,
        suspended: row.value("tenant_suspended")?,
        lifts: row.number("tenant_lifts")?,
        created: row.value("tenant_created")?,
    })
}

pub(super) async fn insert(connection: &mut SqliteConnection, tenant: &Tenant) -> Result<(), StoreError> {
    query("INSERT INTO tenants (id, name, suspended, created, lifts) VALUES (?1, ?2, ?3, ?4, ?5)")
        .bind(bytes(&tenant.id))
        .bind(&tenant.name)
        .bind(tenant.suspended)
        .bind(tenant.created)
        .bind(integer(tenant.lifts)?)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn update(connection: &mut SqliteConnection, tenant: &Tenant) -> Result<(), StoreError> {
    let updated = query("UPDATE tenants SET suspended = ?2, lifts = ?3 WHERE id = ?1")
        .bind(bytes(&tenant.id))
        .bind(tenant.suspended)
        .bind(integer(tenant.lifts)?)
        .execute(connection)
        .await?;
    one_row(&updated)
}

pub(super) async fn by_id(executor: impl SqliteExecutor<'_>, id: TenantId) -> Result<Tenant, StoreError> {
    let statement = query(concat!("SELECT ", tenant_columns!(), " FROM tenants n WHERE n.id = ?1"));
    read(&statement.bind(bytes(&id)).fetch_one(executor).await?)
}

pub(super) async fn by_name(store: &SqliteStore, name: &str) -> Result<Tenant, StoreError> {
    let statement = query(concat!("SELECT ", tenant_columns!(), " FROM tenants n WHERE n.name = ?1"));
    read(&statement.bind(name).fetch_one(&mut *store.credential_reader().await?).await?)
}

pub(super) async fn list(store: &SqliteStore, page: &Page) -> Result<Vec<Tenant>, StoreError> {
    let statement = query(concat!(
        "SELECT ",
        tenant_columns!(),
        " FROM tenants n WHERE n.name > ?1 AND n.id <> ?2 ORDER BY n.name LIMIT ?3"
    ))
    .bind(page.after.as_deref().unwrap_or_default())
    .bind(bytes(&TenantId::INSTALLATION))
    .bind(page.size);
    row::page(statement.fetch(&mut *store.list_reader(TenantId::INSTALLATION).await?), read).await
}

pub(super) async fn suspended(store: &SqliteStore) -> Result<Vec<TenantId>, StoreError> {
    let statement = query("SELECT id FROM tenants WHERE suspended");
    let mut reader = store.list_reader(TenantId::INSTALLATION).await?;
    statement.fetch_all(&mut *reader).await?.iter().map(|row| row.id("id")).collect()
}
