//! The reads, each forwarded to the statements of its table.

use async_trait::async_trait;
use claviger_provider::{ConnectionId, InstallationId, KeyId, KeySpec, PrincipalId, ProviderKind, Secret, TenantId, TokenId};

use super::{
    SqliteStore, canaries, claims, connections, creations, declared, keys, positions, principals, sealed, tenants, tokens, transaction,
    usage, versions,
};
use crate::store::model::{
    Connection, ConnectionSnapshot, Creation, DeclaredRow, DetachedFilter, DetachedKey, Holder, IdempotencyKey, IdempotencyRecord, Key,
    KeyFilter, KeySelector, KeySnapshot, KeyVersion, Page, Principal, Rows, Tenant, Token, TokenSnapshot, Usage, VersionCanary,
};
use crate::store::{LastRecord, Reads, StoreError};

#[async_trait]
impl Reads for SqliteStore {
    fn has_its_files(&self) -> bool {
        self.files.check().is_ok()
    }

    async fn installation(&self) -> Result<InstallationId, StoreError> {
        Ok(self.installation)
    }

    async fn is_applied(&self, intent: u64) -> Result<bool, StoreError> {
        positions::is_applied(self, intent).await
    }

    async fn applied(&self) -> Result<Vec<u64>, StoreError> {
        positions::applied(self).await
    }

    async fn last_applied(&self) -> Result<Option<u64>, StoreError> {
        positions::last_applied(&mut *self.own_reader().await?, &self.node).await
    }

    async fn last_record(&self) -> Result<Option<LastRecord>, StoreError> {
        positions::last_record(&mut *self.own_reader().await?, &self.node).await
    }

    async fn log_bytes(&self) -> Result<Vec<(i64, TenantId, u64)>, StoreError> {
        positions::log_bytes(self).await
    }

    async fn idempotent(&self, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError> {
        transaction::idempotent(self, key).await
    }

    async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError> {
        usage::of(self, tenant).await
    }

    async fn sealed_row(&self, tenant: TenantId, row: &str) -> Result<Vec<(String, Secret)>, StoreError> {
        sealed::row(self, tenant, row).await
    }

    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError> {
        tenants::by_id(&mut *self.reader(id).await?, id).await
    }

    async fn tenant_by_name(&self, name: &str) -> Result<Tenant, StoreError> {
        tenants::by_name(self, name).await
    }

    async fn tenants(&self, page: &Page) -> Result<Vec<Tenant>, StoreError> {
        tenants::list(self, page).await
    }

    async fn suspended_tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        tenants::suspended(self).await
    }

    async fn principal_by_name(&self, tenant: TenantId, name: &str) -> Result<Principal, StoreError> {
        principals::by_name(self, tenant, name).await
    }

    async fn principal(&self, tenant: TenantId, id: PrincipalId) -> Result<Principal, StoreError> {
        principals::by_id(self, tenant, id).await
    }

    async fn was_principal_deleted(&self, tenant: TenantId, name: &str) -> Result<bool, StoreError> {
        principals::was_deleted(self, tenant, name).await
    }

    async fn principals(&self, tenant: TenantId, page: &Page) -> Result<Vec<Principal>, StoreError> {
        principals::list(self, tenant, page).await
    }

    async fn token_by_public_id(&self, public_id: &str) -> Result<TokenSnapshot, StoreError> {
        if !self.token_ids.may_exist(public_id) {
            return Err(StoreError::NotFound);
        }
        let found = tokens::by_public_id(&mut *self.credential_reader().await?, public_id).await;
        match &found {
            Ok(_) => self.token_ids.add(public_id),
            // Deleted with its principal. Nobody knows the id of one that is not committed yet.
            Err(StoreError::NotFound) => self.token_ids.remove(public_id),
            Err(_) => {}
        }
        found
    }

    async fn tokens(&self, tenant: TenantId, principal: PrincipalId, page: &Page) -> Result<Vec<Token>, StoreError> {
        tokens::list(self, tenant, principal, page).await
    }

    async fn token(&self, tenant: TenantId, id: TokenId) -> Result<Token, StoreError> {
        tokens::by_id(&mut *self.reader(tenant).await?, tenant, id).await
    }

    async fn token_family(&self, tenant: TenantId, id: TokenId) -> Result<Vec<String>, StoreError> {
        tokens::family(&mut *self.reader(tenant).await?, tenant, id).await
    }

    async fn connection_by_name(&self, tenant: TenantId, name: &str) -> Result<Connection, StoreError> {
        connections::by_name(self, tenant, name).await
    }

    async fn connection(&self, tenant: TenantId, id: ConnectionId) -> Result<Connection, StoreError> {
        connections::by_id(&mut *self.reader(tenant).await?, tenant, id).await
    }

    async fn connection_snapshot(&self, tenant: TenantId, id: ConnectionId) -> Result<ConnectionSnapshot, StoreError> {
        connections::snapshot(self, tenant, id).await
    }

    async fn canaries(&self, tenant: TenantId, connection: ConnectionId, most: u32) -> Result<Vec<VersionCanary>, StoreError> {
        canaries::through(self, tenant, connection, most).await
    }

    async fn declared(&self, most: u32) -> Result<Vec<DeclaredRow>, StoreError> {
        declared::list(self, most).await
    }

    async fn connections(&self, tenant: TenantId, page: &Page) -> Result<Vec<Connection>, StoreError> {
        connections::list(self, tenant, page).await
    }

    async fn key_by_name(&self, tenant: TenantId, name: &str) -> Result<Key, StoreError> {
        keys::by_name(&mut *self.reader(tenant).await?, tenant, name).await
    }

    async fn key(&self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError> {
        keys::by_id(&mut *self.reader(tenant).await?, tenant, id).await
    }

    async fn key_snapshot(&self, tenant: TenantId, key: KeySelector<'_>) -> Result<KeySnapshot, StoreError> {
        keys::snapshot(self, tenant, key).await
    }

    async fn claimant_of(&self, provider: ProviderKind, provider_key: &str, service: &str) -> Result<Option<TenantId>, StoreError> {
        claims::claimant_of(self, provider, provider_key, service).await
    }

    async fn provider_key_holders(
        &self,
        tenant: TenantId,
        provider: ProviderKind,
        provider_key: &str,
    ) -> Result<Vec<(KeyId, bool)>, StoreError> {
        claims::holders(self, tenant, provider, provider_key).await
    }

    async fn keys(&self, tenant: TenantId, filter: &KeyFilter, page: &Page) -> Result<Rows<Key>, StoreError> {
        keys::lists::attached(self, tenant, filter, page).await
    }

    async fn detached_keys(&self, tenant: TenantId, filter: &DetachedFilter, page: &Page) -> Result<Rows<DetachedKey>, StoreError> {
        keys::lists::detached(self, tenant, filter, page).await
    }

    async fn holder(&self, tenant: TenantId, id: KeyId) -> Result<Option<Holder>, StoreError> {
        keys::holder(&mut *self.reader(tenant).await?, tenant, id).await
    }

    async fn detached_key(&self, tenant: TenantId, id: KeyId) -> Result<DetachedKey, StoreError> {
        keys::detached_by_id(&mut *self.reader(tenant).await?, tenant, id).await
    }

    async fn key_versions(&self, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError> {
        let versions = versions::list(&mut *self.reader(tenant).await?, tenant, key).await?;
        // Every key has a version from the start: without one, the key does not exist.
        if versions.is_empty() {
            return Err(StoreError::NotFound);
        }
        Ok(versions)
    }

    async fn rotating_keys(&self, most: u32, for_each: u32) -> Result<Vec<(TenantId, KeyId)>, StoreError> {
        keys::rotating(self, most, for_each).await
    }

    async fn lost_rotations(&self) -> Result<u64, StoreError> {
        keys::lost_rotations(self).await
    }

    async fn creation(&self, tenant: TenantId, made_as: KeyId) -> Result<Creation, StoreError> {
        creations::one(self, tenant, made_as).await
    }

    async fn creation_of_key(&self, tenant: TenantId, name: &str, connection: ConnectionId, spec: KeySpec) -> Result<Creation, StoreError> {
        creations::of_key(self, tenant, name, connection, spec).await
    }

    async fn due_creations(&self, now: i64, most: u32, for_each: u32) -> Result<Vec<Creation>, StoreError> {
        creations::due(self, now, most, for_each).await
    }
}
