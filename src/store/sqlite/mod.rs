//! The store in one SQLite file, for a single node. Made by `boot`; everything else knows
//! the traits only.
//!
//! One connection writes, a few read. The log is written ahead (WAL) and synced at each
//! commit. The schema is in `src/store/migrations`; the files beside this one follow its
//! tables, and the implementations of the traits here only name what they do.

#[macro_use]
mod columns;
mod connections;
mod keys;
mod open;
mod principals;
mod row;
mod sealed;
mod tenants;
mod tokens;
mod transaction;
mod versions;

use async_trait::async_trait;
use claviger_provider::{ConnectionId, Error, KeyId, PrincipalId, ProviderKind, SealedName, SealedStore, Secret, TenantId, TokenId};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::model::{
    Connection, ConnectionPatch, IdempotencyKey, IdempotencyRecord, Key, KeyFilter, KeyPatch, KeyVersion, Page, Principal, Tenant, Token,
};
use super::sealing::Sealer;
use super::{Change, Installation, Store, StoreError};

pub use open::OpenError;

/// SQLite's write lock is taken at once, not at the first write.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// A store in one SQLite file.
pub struct SqliteStore {
    /// One connection, so that changes queue here and not inside SQLite.
    writer: SqlitePool,
    /// Connections that cannot write.
    readers: SqlitePool,
    sealer: Sealer,
    installation: Installation,
}

impl SqliteStore {
    /// Takes the writer and SQLite's write lock at once, so that what is read inside the
    /// transaction stays true until its end.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        match self.writer.begin_with(BEGIN).await {
            // Where the disk is full or fails, SQLite ends a transaction by itself; sqlx goes
            // on counting it and would refuse every later one on this connection.
            Err(sqlx::Error::InvalidSavePointStatement | sqlx::Error::WorkerCrashed) => {
                tracing::warn!("the store's writing connection is opened anew after a failed change");
                if let Err(error) = self.writer.acquire().await?.close().await {
                    tracing::warn!(%error, "the old connection did not close in order");
                }
                Ok(self.writer.begin_with(BEGIN).await?)
            }
            begun => Ok(begun?),
        }
    }
}

#[async_trait]
impl SealedStore for SqliteStore {
    async fn get(&self, name: &SealedName) -> Result<Option<Secret>, Error> {
        sealed::get(self, name).await.map_err(sealed::provider_error)
    }

    async fn columns(&self, tenant: TenantId, row: &str) -> Result<Vec<String>, Error> {
        sealed::columns(self, tenant, row).await.map_err(sealed::provider_error)
    }

    async fn insert(&self, values: Vec<(SealedName, Secret)>) -> Result<(), Error> {
        sealed::insert(self, &values).await.map_err(sealed::provider_error)
    }

    async fn remove_row(&self, tenant: TenantId, row: &str) -> Result<(), Error> {
        sealed::remove_row(self, tenant, row).await.map_err(sealed::provider_error)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn installation(&self) -> Result<Installation, StoreError> {
        Ok(self.installation.clone())
    }

    async fn is_applied(&self, intent: u64) -> Result<bool, StoreError> {
        transaction::is_applied(self, intent).await
    }

    async fn mark_applied(&self, tenant: TenantId, change: &Change) -> Result<(), StoreError> {
        transaction::Act::begin(self, tenant, change).await?.commit().await
    }

    async fn last_applied(&self) -> Result<Option<u64>, StoreError> {
        transaction::last_applied(self).await
    }

    async fn prune_applied(&self, before: u64) -> Result<(), StoreError> {
        transaction::prune_applied(self, before).await
    }

    async fn rewind_applied(&self, last: Option<u64>) -> Result<(), StoreError> {
        transaction::rewind_applied(self, last).await
    }

    async fn idempotent(&self, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError> {
        transaction::idempotent(self, key).await
    }

    async fn prune_idempotency(&self, before: i64) -> Result<u64, StoreError> {
        transaction::prune_idempotency(self, before).await
    }

    async fn create_tenant(&self, tenant: &Tenant, sealed: Vec<(SealedName, Secret)>, change: &Change) -> Result<(), StoreError> {
        tenants::create(self, tenant, &sealed, change).await
    }

    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError> {
        tenants::by_id(self, id).await
    }

    async fn tenant_by_name(&self, name: &str) -> Result<Tenant, StoreError> {
        tenants::by_name(self, name).await
    }

    async fn tenants(&self, page: &Page) -> Result<Vec<Tenant>, StoreError> {
        tenants::list(self, page).await
    }

    async fn create_principal(&self, principal: &Principal, change: &Change) -> Result<(), StoreError> {
        principals::create(self, principal, change).await
    }

    async fn principal_by_name(&self, tenant: TenantId, name: &str) -> Result<Principal, StoreError> {
        principals::by_name(self, tenant, name).await
    }

    async fn principal(&self, tenant: TenantId, id: PrincipalId) -> Result<Principal, StoreError> {
        principals::by_id(self, tenant, id).await
    }

    async fn principals(&self, tenant: TenantId, page: &Page) -> Result<Vec<Principal>, StoreError> {
        principals::list(self, tenant, page).await
    }

    async fn delete_principal(&self, tenant: TenantId, id: PrincipalId, change: &Change) -> Result<(), StoreError> {
        principals::delete(self, tenant, id, change).await
    }

    async fn create_token(&self, token: &Token, change: &Change) -> Result<(), StoreError> {
        tokens::create(self, token, change).await
    }

    async fn token_by_public_id(&self, public_id: &str) -> Result<(Token, Principal, Tenant), StoreError> {
        tokens::by_public_id(self, public_id).await
    }

    async fn tokens(&self, tenant: TenantId, principal: PrincipalId, page: &Page) -> Result<Vec<Token>, StoreError> {
        tokens::list(self, tenant, principal, page).await
    }

    async fn token(&self, tenant: TenantId, id: TokenId) -> Result<Token, StoreError> {
        tokens::by_id(self, tenant, id).await
    }

    async fn revoke_token(&self, tenant: TenantId, id: TokenId, at: i64, change: &Change) -> Result<(), StoreError> {
        tokens::revoke(self, tenant, id, at, change).await
    }

    async fn create_connection(
        &self,
        connection: &Connection,
        sealed: Vec<(SealedName, Secret)>,
        change: &Change,
    ) -> Result<(), StoreError> {
        connections::create(self, connection, &sealed, change).await
    }

    async fn connection_by_name(&self, tenant: TenantId, name: &str) -> Result<Connection, StoreError> {
        connections::by_name(self, tenant, name).await
    }

    async fn connection(&self, tenant: TenantId, id: ConnectionId) -> Result<Connection, StoreError> {
        connections::by_id(&self.readers, tenant, id).await
    }

    async fn connections(&self, tenant: TenantId, page: &Page) -> Result<Vec<Connection>, StoreError> {
        connections::list(self, tenant, page).await
    }

    async fn update_connection(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        patch: &ConnectionPatch,
        sealed: Vec<(SealedName, Secret)>,
        change: &Change,
    ) -> Result<Connection, StoreError> {
        connections::update(self, tenant, id, patch, &sealed, change).await
    }

    async fn set_connection_severed(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        severed: bool,
        at: i64,
        change: &Change,
    ) -> Result<Connection, StoreError> {
        connections::set_severed(self, tenant, id, severed, at, change).await
    }

    async fn delete_connection(&self, tenant: TenantId, id: ConnectionId, change: &Change) -> Result<(), StoreError> {
        connections::delete(self, tenant, id, change).await
    }

    async fn create_key(&self, key: &Key, versions: &[KeyVersion], change: &Change) -> Result<Key, StoreError> {
        keys::create(self, key, versions, change).await
    }

    async fn key_by_name(&self, tenant: TenantId, name: &str) -> Result<Key, StoreError> {
        keys::by_name(self, tenant, name).await
    }

    async fn key(&self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError> {
        keys::by_id(&self.readers, tenant, id).await
    }

    async fn provider_key_holder(
        &self,
        tenant: TenantId,
        provider: ProviderKind,
        provider_key: &str,
    ) -> Result<Option<(KeyId, bool)>, StoreError> {
        keys::holder(self, tenant, provider, provider_key).await
    }

    async fn keys(&self, tenant: TenantId, filter: &KeyFilter, page: &Page) -> Result<Vec<Key>, StoreError> {
        keys::list(self, tenant, filter, page).await
    }

    async fn key_versions(&self, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError> {
        versions::list(self, tenant, key).await
    }

    async fn update_key(&self, tenant: TenantId, id: KeyId, patch: &KeyPatch, change: &Change) -> Result<Key, StoreError> {
        keys::update(self, tenant, id, patch, change).await
    }

    async fn set_key_disabled(&self, tenant: TenantId, id: KeyId, disabled: bool, at: i64, change: &Change) -> Result<Key, StoreError> {
        keys::set_disabled(self, tenant, id, disabled, at, change).await
    }

    async fn add_key_versions(
        &self,
        tenant: TenantId,
        id: KeyId,
        versions: &[KeyVersion],
        primary: u32,
        at: i64,
        change: &Change,
    ) -> Result<Key, StoreError> {
        keys::add_versions(self, tenant, id, versions, primary, at, change).await
    }

    async fn set_key_rotating(&self, tenant: TenantId, id: KeyId, since: Option<i64>, at: i64, change: &Change) -> Result<Key, StoreError> {
        keys::set_rotating(self, tenant, id, since, at, change).await
    }

    async fn rotating_keys(&self, most: u32) -> Result<Vec<(TenantId, KeyId)>, StoreError> {
        keys::rotating(self, most).await
    }

    async fn detach_key(&self, tenant: TenantId, id: KeyId, at: i64, change: &Change) -> Result<(), StoreError> {
        keys::detach(self, tenant, id, at, change).await
    }
}
