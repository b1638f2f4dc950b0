//! Which key is based on a provider key: the claims of attached keys, and what detached ones remember.

use claviger_provider::{KeyId, ProviderKind, TenantId};
use sqlx::{SqliteConnection, query};

use super::SqliteStore;
use super::row::{self, Columns, bytes};
use crate::store::StoreError;
use crate::store::model::{Claim, Key, MAX_HOLDERS};

/// Writes a claim. If another key has it, writes nothing and returns that key's tenant.
pub(super) async fn insert(connection: &mut SqliteConnection, claim: &Claim, key: &Key) -> Result<Option<TenantId>, StoreError> {
    query(
        "INSERT INTO claims (provider, provider_key, span, service, tenant, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (provider, provider_key, span, service) DO NOTHING",
    )
    .bind(row::provider(claim.provider))
    .bind(&claim.provider_key)
    .bind(bytes(&claim.span))
    .bind(&claim.service)
    .bind(bytes(&key.tenant))
    .bind(bytes(&key.id))
    .execute(&mut *connection)
    .await?;
    let row = query("SELECT tenant, key FROM claims WHERE provider = ?1 AND provider_key = ?2 AND span = ?3 AND service = ?4")
        .bind(row::provider(claim.provider))
        .bind(&claim.provider_key)
        .bind(bytes(&claim.span))
        .bind(&claim.service)
        .fetch_one(connection)
        .await?;
    let (tenant, id): (TenantId, KeyId) = (row.id("tenant")?, row.id("key")?);
    Ok((tenant != key.tenant || id != key.id).then_some(tenant))
}

pub(super) async fn delete(connection: &mut SqliteConnection, key: &Key) -> Result<(), StoreError> {
    query("DELETE FROM claims WHERE tenant = ?1 AND key = ?2")
        .bind(bytes(&key.tenant))
        .bind(bytes(&key.id))
        .execute(connection)
        .await?;
    Ok(())
}

/// The tenant whose key has claimed a provider key of a service for the installation.
pub(super) async fn claimant_of(
    store: &SqliteStore,
    provider: ProviderKind,
    provider_key: &str,
    service: &str,
) -> Result<Option<TenantId>, StoreError> {
    let row = query("SELECT tenant FROM claims WHERE provider = ?1 AND provider_key = ?2 AND span = ?3 AND service = ?4")
        .bind(row::provider(provider))
        .bind(provider_key)
        .bind(bytes(&TenantId::INSTALLATION))
        .bind(service)
        .fetch_optional(&mut *store.reader(TenantId::INSTALLATION).await?)
        .await?;
    row.map(|row| row.id("tenant")).transpose()
}

/// The keys of a tenant that are based on provider keys of an id, and whether each is detached; attached ones first.
pub(super) async fn holders(
    store: &SqliteStore,
    tenant: TenantId,
    provider: ProviderKind,
    provider_key: &str,
) -> Result<Vec<(KeyId, bool)>, StoreError> {
    holders_in(&mut *store.reader(tenant).await?, tenant, provider, provider_key).await
}

/// As [`holders`], in a transaction.
pub(super) async fn holders_in(
    connection: &mut SqliteConnection,
    tenant: TenantId,
    provider: ProviderKind,
    provider_key: &str,
) -> Result<Vec<(KeyId, bool)>, StoreError> {
    let rows = query(
        "SELECT DISTINCT v.key AS key, k.detached IS NOT NULL AS detached FROM key_versions v INDEXED BY key_versions_by_provider_key \
         CROSS JOIN keys k ON k.tenant = v.tenant AND k.id = v.key \
         WHERE v.tenant = ?1 AND v.provider = ?2 AND v.provider_key = ?3 ORDER BY 2, 1 LIMIT ?4",
    )
    .bind(bytes(&tenant))
    .bind(row::provider(provider))
    .bind(provider_key)
    .bind(MAX_HOLDERS)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.id("key")?, row.value("detached")?))).collect()
}
