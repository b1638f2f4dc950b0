//! Which key is based on a provider key: the claims of attached keys, and what detached ones remember.

use claviger_provider::{KeyId, ProviderKind, TenantId};
use sqlx::{SqliteConnection, query, query_scalar};

use super::SqliteStore;
use super::row::{self, Columns, bytes};
use crate::store::StoreError;
use crate::store::model::{Claim, Key};

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

/// Whether a detached key of the tenant, another one, is based on the provider key.
pub(super) async fn is_remembered(connection: &mut SqliteConnection, claim: &Claim, key: &Key) -> Result<bool, StoreError> {
    let remembered = query_scalar(
        "SELECT EXISTS (SELECT 1 FROM key_versions v INDEXED BY key_versions_by_provider_key \
         CROSS JOIN keys k ON k.tenant = v.tenant AND k.id = v.key \
         WHERE v.tenant = ?1 AND v.provider = ?2 AND v.provider_key = ?3 AND v.key <> ?4 AND k.detached IS NOT NULL)",
    )
    .bind(bytes(&key.tenant))
    .bind(row::provider(claim.provider))
    .bind(&claim.provider_key)
    .bind(bytes(&key.id))
    .fetch_one(connection)
    .await?;
    Ok(remembered)
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

/// The key of a tenant that is based on a provider key, and whether it is detached: the attached one
/// has the claim within the tenant; of several detached ones, any.
pub(super) async fn holder(
    store: &SqliteStore,
    tenant: TenantId,
    provider: ProviderKind,
    provider_key: &str,
) -> Result<Option<(KeyId, bool)>, StoreError> {
    let row = query(
        "SELECT key, 0 AS detached FROM claims WHERE provider = ?1 AND provider_key = ?2 AND span = ?3 AND service = '' \
         UNION ALL \
         SELECT * FROM (SELECT v.key, 1 FROM key_versions v INDEXED BY key_versions_by_provider_key \
         CROSS JOIN keys k ON k.tenant = v.tenant AND k.id = v.key \
         WHERE v.tenant = ?3 AND v.provider = ?1 AND v.provider_key = ?2 AND k.detached IS NOT NULL LIMIT 1) \
         LIMIT 1",
    )
    .bind(row::provider(provider))
    .bind(provider_key)
    .bind(bytes(&tenant))
    .fetch_optional(&mut *store.reader(tenant).await?)
    .await?;
    row.map(|row| Ok((row.id("key")?, row.value("detached")?))).transpose()
}
