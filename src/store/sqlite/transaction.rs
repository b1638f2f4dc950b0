//! The transaction of a change, and the answers that it keeps.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use claviger_provider::{ConnectionId, KeyId, Node, PrincipalId, SealedName, Secret, TenantId, TokenId};
use sqlx::{Sqlite, SqlitePool, query};

use super::commit::commit;
use super::files::Files;
use super::row::{Columns, bytes};
use super::token_ids::TokenIds;
use super::turns::Turn;
use super::{SqliteStore, claims, connections, creations, keys, positions, principals, sealed, tenants, tokens, usage, versions};
use crate::store::model::{
    Claim, Connection, Creation, Holder, IdempotencyKey, IdempotencyRecord, Key, KeyVersion, Principal, Resource, Tenant, Token,
    TokenSnapshot,
};
use crate::store::rules;
use crate::store::sealing::Sealer;
use crate::store::transaction::{Backend, Existing, Priority, TokenRoots, Transaction};
use crate::store::{LastRecord, LogBytes, StoreError};

/// A transaction of the one writer.
struct SqliteTransaction {
    transaction: sqlx::Transaction<'static, Sqlite>,
    sealer: Arc<Sealer>,
    node: Node,
    token_ids: Arc<TokenIds>,
    /// The public ids of the tokens that it creates.
    new_tokens: Vec<String>,
    writer: SqlitePool,
    files: Arc<Files>,
    priority: Priority,
    /// Ends after the transaction.
    _turn: Turn,
}

#[async_trait]
impl Backend for SqliteStore {
    async fn begin(&self, tenant: TenantId, priority: Priority) -> Result<Box<dyn Transaction>, StoreError> {
        let (turn, transaction) = self.begin_writing(tenant, priority).await?;
        Ok(Box::new(SqliteTransaction {
            transaction,
            sealer: Arc::clone(&self.sealer),
            node: self.node.clone(),
            token_ids: Arc::clone(&self.token_ids),
            new_tokens: Vec::new(),
            writer: self.writer.clone(),
            files: Arc::clone(&self.files),
            priority,
            _turn: turn,
        }))
    }

    async fn delete_answers(&self, before: i64) -> Result<u64, StoreError> {
        let statement =
            "DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM idempotency WHERE created < ?1 LIMIT ?2) RETURNING tenant";
        usage::prune(self, statement, Resource::IdempotencyKeys, before).await
    }

    async fn forget_deleted_principals(&self, before: i64) -> Result<(), StoreError> {
        principals::forget_deleted(self, before).await
    }

    async fn delete_ended_tokens(&self, before: i64) -> Result<u64, StoreError> {
        tokens::delete_ended(self, before).await
    }

    async fn write_last_record(&self, last: Option<LastRecord>, bytes: &LogBytes) -> Result<(), StoreError> {
        positions::keep_last_record(self, last, bytes).await
    }

    async fn delete_applied(&self, before: u64) -> Result<(), StoreError> {
        positions::prune(self, before).await
    }

    async fn close(&self) {
        // Where the files are not at their paths, the run is another store's there.
        let has_its_files = self.files.check().is_ok();
        self.files.forget();
        self.readers.close().await;
        self.writer.close().await;
        if has_its_files {
            self.run.close();
        }
    }
}

#[async_trait]
impl Transaction for SqliteTransaction {
    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let Self {
            transaction,
            token_ids,
            new_tokens,
            writer,
            files,
            priority,
            _turn,
            ..
        } = *self;
        // Before the commit, so that no lookup misses a token that exists.
        for id in &new_tokens {
            token_ids.add(id);
        }
        commit(&writer, &files, transaction, priority).await
    }

    async fn insert_applied(&mut self, tenant: TenantId, position: u64) -> Result<(), StoreError> {
        positions::insert(&mut self.transaction, &self.node, tenant, position).await
    }

    async fn delete_applied_after(&mut self, position: Option<u64>) -> Result<(), StoreError> {
        positions::delete_after(&mut self.transaction, &self.node, position).await
    }

    async fn delete_expired_answer(&mut self, key: &IdempotencyKey, expired: i64) -> Result<bool, StoreError> {
        let deleted = query(
            "DELETE FROM idempotency WHERE tenant = ?1 AND principal = ?2 AND route = ?3 AND key = ?4 AND (created <= ?5 OR status = ?6)",
        )
        .bind(bytes(&key.tenant))
        .bind(bytes(&key.principal))
        .bind(&key.route)
        .bind(&key.key)
        .bind(expired)
        .bind(IdempotencyRecord::BEGUN)
        .execute(&mut *self.transaction)
        .await?;
        Ok(deleted.rows_affected() > 0)
    }

    async fn insert_answer(&mut self, record: &IdempotencyRecord) -> Result<bool, StoreError> {
        let kept = query(
            "INSERT INTO idempotency (tenant, principal, route, key, body_hmac, status, body, etag, created) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (tenant, principal, route, key) DO NOTHING",
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
        .execute(&mut *self.transaction)
        .await?;
        Ok(kept.rows_affected() > 0)
    }

    async fn count(&mut self, tenant: TenantId, resource: Resource, change: i64) -> Result<u64, StoreError> {
        usage::add(&mut self.transaction, tenant, resource, change).await
    }

    async fn put_creation(&mut self, creation: &Creation) -> Result<(), StoreError> {
        creations::put(&mut self.transaction, creation).await
    }

    async fn delete_creation(&mut self, tenant: TenantId, made_as: KeyId) -> Result<(), StoreError> {
        creations::delete(&mut self.transaction, tenant, made_as).await
    }

    async fn put_sealed(&mut self, values: &[(SealedName, Secret)], existing: Existing) -> Result<(), StoreError> {
        sealed::put(&mut self.transaction, &self.sealer, values, existing).await
    }

    async fn delete_sealed(&mut self, tenant: TenantId, row: &str) -> Result<(), StoreError> {
        sealed::remove(&mut self.transaction, tenant, row).await
    }

    async fn insert_tenant(&mut self, tenant: &Tenant) -> Result<(), StoreError> {
        tenants::insert(&mut self.transaction, tenant).await
    }

    async fn tenant(&mut self, id: TenantId) -> Result<Tenant, StoreError> {
        tenants::by_id(&mut *self.transaction, id).await
    }

    async fn update_tenant(&mut self, tenant: &Tenant) -> Result<(), StoreError> {
        tenants::update(&mut self.transaction, tenant).await
    }

    async fn insert_principal(&mut self, principal: &Principal) -> Result<(), StoreError> {
        principals::insert(&mut self.transaction, principal).await
    }

    async fn delete_principal(&mut self, tenant: TenantId, id: PrincipalId, at: i64) -> Result<u64, StoreError> {
        principals::delete(&mut self.transaction, tenant, id, at).await
    }

    async fn insert_token(&mut self, token: &Token) -> Result<(), StoreError> {
        tokens::insert(&mut self.transaction, token).await?;
        self.new_tokens.push(token.public_id.clone());
        Ok(())
    }

    async fn token(&mut self, tenant: TenantId, id: TokenId) -> Result<Token, StoreError> {
        tokens::by_id(&mut *self.transaction, tenant, id).await
    }

    async fn token_snapshot(&mut self, public_id: &str) -> Result<TokenSnapshot, StoreError> {
        tokens::by_public_id(&mut *self.transaction, public_id).await
    }

    async fn parent_token(&mut self, tenant: TenantId, parent: TokenId) -> Result<Token, StoreError> {
        tokens::parent(&mut self.transaction, tenant, parent).await
    }

    async fn revoke_tokens(&mut self, roots: TokenRoots, at: i64) -> Result<Vec<String>, StoreError> {
        tokens::revoke(&mut self.transaction, roots, at).await
    }

    async fn insert_connection(&mut self, connection: &Connection) -> Result<(), StoreError> {
        connections::insert(&mut self.transaction, connection).await
    }

    async fn connection(&mut self, tenant: TenantId, id: ConnectionId) -> Result<Connection, StoreError> {
        connections::by_id(&mut *self.transaction, tenant, id).await
    }

    async fn update_connection(&mut self, connection: &Connection) -> Result<(), StoreError> {
        connections::update(&mut self.transaction, connection).await
    }

    async fn users(&mut self, tenant: TenantId, id: ConnectionId) -> Result<Vec<(KeyId, u32, bool)>, StoreError> {
        connections::users(&mut self.transaction, tenant, id).await
    }

    async fn connection_user(&mut self, tenant: TenantId, id: ConnectionId) -> Result<Option<String>, StoreError> {
        connections::first_user(&mut self.transaction, tenant, id).await
    }

    async fn delete_connection(&mut self, tenant: TenantId, id: ConnectionId) -> Result<(), StoreError> {
        connections::delete(&mut self.transaction, tenant, id).await
    }

    async fn key(&mut self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError> {
        keys::by_id(&mut *self.transaction, tenant, id).await
    }

    async fn holder(&mut self, tenant: TenantId, id: KeyId) -> Result<Option<Holder>, StoreError> {
        keys::holder(&mut *self.transaction, tenant, id).await
    }

    async fn versions(&mut self, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError> {
        versions::list(&mut *self.transaction, tenant, key).await
    }

    async fn insert_key(&mut self, key: &Key) -> Result<(), StoreError> {
        keys::insert(&mut self.transaction, key).await
    }

    async fn take_over_key(&mut self, key: &Key) -> Result<(), StoreError> {
        keys::take_over(&mut self.transaction, key).await
    }

    async fn update_key(&mut self, key: &Key) -> Result<(), StoreError> {
        keys::update(&mut self.transaction, key).await
    }

    async fn detach_key(&mut self, key: &Key) -> Result<(), StoreError> {
        keys::detach(&mut self.transaction, key).await
    }

    async fn detached_key(&mut self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError> {
        Ok(keys::detached_by_id(&mut *self.transaction, tenant, id).await?.key)
    }

    async fn detached_through(&mut self, tenant: TenantId, connection: ConnectionId) -> Result<Vec<Key>, StoreError> {
        keys::detached_through(&mut self.transaction, tenant, connection).await
    }

    async fn update_detached(&mut self, key: &Key) -> Result<(), StoreError> {
        keys::update_detached(&mut self.transaction, key).await
    }

    async fn replace_labels(&mut self, key: &Key) -> Result<(), StoreError> {
        keys::replace_labels(&mut self.transaction, key).await
    }

    async fn insert_versions(&mut self, key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError> {
        versions::insert(&mut self.transaction, key, versions).await
    }

    async fn update_versions(&mut self, key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError> {
        versions::update(&mut self.transaction, key, versions).await
    }

    async fn wraps_reserved(&mut self, tenant: TenantId, key: KeyId, version: u32) -> Result<u64, StoreError> {
        versions::wraps_reserved(&mut self.transaction, tenant, key, version).await
    }

    async fn set_wraps_reserved(&mut self, tenant: TenantId, key: KeyId, version: u32, total: u64) -> Result<(), StoreError> {
        versions::set_wraps_reserved(&mut self.transaction, tenant, key, version, total).await
    }

    async fn claim(&mut self, claim: &Claim, key: &Key) -> Result<Option<TenantId>, StoreError> {
        claims::insert(&mut self.transaction, claim, key).await
    }

    async fn holders(&mut self, claim: &Claim, tenant: TenantId) -> Result<Vec<(KeyId, bool)>, StoreError> {
        claims::holders_in(&mut self.transaction, tenant, claim.provider, &claim.provider_key).await
    }

    async fn drop_claims(&mut self, key: &Key) -> Result<(), StoreError> {
        claims::delete(&mut self.transaction, key).await
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
    .bind(rules::answers_expired_at(Utc::now()))
    .fetch_optional(&mut *store.reader(key.tenant).await?)
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
