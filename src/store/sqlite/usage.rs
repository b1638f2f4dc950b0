//! How many objects of each kind a tenant has, as counters.

use std::collections::BTreeMap;

use claviger_provider::TenantId;
use sqlx::{SqliteConnection, query};

use super::SqliteStore;
use super::database::PRUNED;
use super::row::{Columns, bytes};
use crate::store::StoreError;
use crate::store::model::{Resource, Usage};
use crate::store::transaction::Priority;

/// Adds to a counter, or takes from it; returns the new number. A counter stays at 0, so that a wrong
/// one can never stop a deletion, which may be a revocation.
pub(super) async fn add(connection: &mut SqliteConnection, tenant: TenantId, resource: Resource, change: i64) -> Result<u64, StoreError> {
    let row = query(
        "INSERT INTO usage (tenant, resource, number) VALUES (?1, ?2, max(0, ?3)) \
         ON CONFLICT (tenant, resource) DO UPDATE SET number = max(0, number + ?3) RETURNING number",
    )
    .bind(bytes(&tenant))
    .bind(resource.as_str())
    .bind(change)
    .fetch_one(connection)
    .await?;
    row.number("number")
}

/// Deletes old rows, and takes them from their tenants' counters, a few in each transaction: other changes
/// wait meanwhile. The statement is bound to the time `before` and to the most rows, and returns the tenant of each
/// row that it deletes. Returns the number of rows.
pub(super) async fn prune(store: &SqliteStore, statement: &'static str, resource: Resource, before: i64) -> Result<u64, StoreError> {
    let mut all = 0;
    loop {
        let (_turn, mut transaction) = store.begin_writing(TenantId::INSTALLATION, Priority::Ordinary).await?;
        let deleted = query(statement).bind(before).bind(PRUNED).fetch_all(&mut *transaction).await?;
        let mut by_tenant = BTreeMap::<TenantId, i64>::new();
        for row in &deleted {
            *by_tenant.entry(row.id("tenant")?).or_default() += 1;
        }
        for (tenant, fewer) in by_tenant {
            add(&mut transaction, tenant, resource, -fewer).await?;
        }
        transaction.commit().await?;
        all += deleted.len() as u64;
        if deleted.len() < PRUNED as usize {
            return Ok(all);
        }
    }
}

pub(super) async fn of(store: &SqliteStore, tenant: TenantId) -> Result<Usage, StoreError> {
    let rows = query("SELECT resource, number FROM usage WHERE tenant = ?1")
        .bind(bytes(&tenant))
        .fetch_all(&mut *store.reader(tenant).await?)
        .await?;
    let counters = rows.iter().map(|row| Ok((row.word("resource")?, row.number("number")?)));
    Ok(Usage(counters.collect::<Result<_, StoreError>>()?))
}
