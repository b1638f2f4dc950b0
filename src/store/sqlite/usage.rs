//! How many objects of each kind a tenant has, as counters.

use claviger_provider::TenantId;
use sqlx::{SqliteConnection, query};

use super::SqliteStore;
use super::row::{Columns, bytes};
use crate::store::StoreError;
use crate::store::model::{Resource, Usage};

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

pub(super) async fn of(store: &SqliteStore, tenant: TenantId) -> Result<Usage, StoreError> {
    let rows = query("SELECT resource, number FROM usage WHERE tenant = ?1")
        .bind(bytes(&tenant))
        .fetch_all(&store.readers)
        .await?;
    let counters = rows.iter().map(|row| Ok((row.word("resource")?, row.number("number")?)));
    Ok(Usage(counters.collect::<Result<_, StoreError>>()?))
}
