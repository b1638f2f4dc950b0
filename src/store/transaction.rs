//! What a database has to do for a store: reads, and the writes of a transaction, row by row. The
//! rules of a change are above ([`super::changes`]); a backend is SQL alone.

use async_trait::async_trait;
use claviger_provider::{ConnectionId, KeyId, PrincipalId, SealedName, SealedStore, Secret, TenantId, TokenId};

use super::model::{
    Claim, Connection, Creation, Holder, IdempotencyKey, IdempotencyRecord, Key, KeyVersion, Principal, Resource, Tenant, Token,
    TokenSnapshot,
};
use super::{LastRecord, LogBytes, Reads, StoreError};

/// A database that a store runs on.
#[async_trait]
pub trait Backend: Reads + SealedStore {
    /// Begins a transaction for this tenant, when it is its turn. Rows that it reads do not change until it ends: it holds the
    /// database's write lock, or locks each row that it reads.
    async fn begin(&self, tenant: TenantId, priority: Priority) -> Result<Box<dyn Transaction>, StoreError>;
    /// Deletes answers made before this time (Unix microseconds), which then no longer count; returns how many.
    async fn delete_answers(&self, before: i64) -> Result<u64, StoreError>;
    /// Forgets the names of principals that were deleted before this time (Unix microseconds).
    async fn forget_deleted_principals(&self, before: i64) -> Result<(), StoreError>;
    /// Deletes tokens that ended before this time (Unix microseconds), which then no longer count. At most so
    /// many that other changes do not wait long; returns how many.
    async fn delete_ended_tokens(&self, before: i64) -> Result<u64, StoreError>;
    /// Keeps the last record of this node's log, or that none is known, and how many bytes these tenants' records have.
    async fn write_last_record(&self, last: Option<LastRecord>, bytes: &LogBytes) -> Result<(), StoreError>;
    /// Deletes this node's applied positions below `before`, except the last one.
    async fn delete_applied(&self, before: u64) -> Result<(), StoreError>;
    /// Finishes what is under way and closes the database. Later calls fail.
    async fn close(&self);
}

/// Who takes the next turn at a database connection that several calls wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Before all others.
    Revocation,
    /// After revocations.
    Ordinary,
}

/// What happens to a sealed value whose name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one is refused with `AlreadyExists`.
    Refuse,
    /// The new one replaces it.
    Replace,
}

/// The tokens that a revocation begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRoots {
    /// This token.
    One(TenantId, TokenId),
    /// Every token of this principal.
    Of(TenantId, PrincipalId),
}

/// An open transaction. Dropped without [`Transaction::commit`], it changes nothing.
///
/// Each method is one row or one statement; of many versions, a few statements. Errors: `NotFound` for a row that does not exist or
/// that a reference needs, `AlreadyExists` for a name or an id that is taken.
#[async_trait]
pub trait Transaction: Send {
    /// Makes everything durable.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;

    /// Marks the position of this node's intent as applied, and keeps the largest as the node's
    /// last one. Repeating it is no error.
    async fn insert_applied(&mut self, tenant: TenantId, position: u64) -> Result<(), StoreError>;
    /// Makes this position the node's last one and deletes those after it, or all of them.
    async fn delete_applied_after(&mut self, position: Option<u64>) -> Result<(), StoreError>;
    /// Deletes the answer that is kept under this key if it was made at `expired` or before, or if the
    /// request has only begun ([`IdempotencyRecord::BEGUN`]). `false` when there is no such answer.
    async fn delete_expired_answer(&mut self, key: &IdempotencyKey, expired: i64) -> Result<bool, StoreError>;
    /// Keeps an answer. `false` when one is kept under the same key; nothing is written then.
    async fn insert_answer(&mut self, record: &IdempotencyRecord) -> Result<bool, StoreError>;
    /// Adds to the number of a tenant's objects of a kind, or takes from it; returns the new number. It
    /// never gets below 0.
    async fn count(&mut self, tenant: TenantId, resource: Resource, change: i64) -> Result<u64, StoreError>;

    /// Writes a creation, or only the time at which it is due where it exists. Of more than
    /// [`Creation::MOST`] of a tenant, deletes the oldest.
    async fn put_creation(&mut self, creation: &Creation) -> Result<(), StoreError>;
    /// Deletes a creation, if it exists.
    async fn delete_creation(&mut self, tenant: TenantId, made_as: KeyId) -> Result<(), StoreError>;

    /// Seals and writes values.
    async fn put_sealed(&mut self, values: &[(SealedName, Secret)], existing: Existing) -> Result<(), StoreError>;
    /// Deletes every sealed value of a row.
    async fn delete_sealed(&mut self, tenant: TenantId, row: &str) -> Result<(), StoreError>;

    /// Writes a new tenant.
    async fn insert_tenant(&mut self, tenant: &Tenant) -> Result<(), StoreError>;
    /// Reads a tenant.
    async fn tenant(&mut self, id: TenantId) -> Result<Tenant, StoreError>;
    /// Writes the columns of a tenant that can change: whether it is suspended.
    async fn update_tenant(&mut self, tenant: &Tenant) -> Result<(), StoreError>;
    /// Writes a new principal.
    async fn insert_principal(&mut self, principal: &Principal) -> Result<(), StoreError>;
    /// Deletes a principal and its tokens, and remembers its name as deleted at this time. Returns the
    /// number of its tokens.
    async fn delete_principal(&mut self, tenant: TenantId, id: PrincipalId, at: i64) -> Result<u64, StoreError>;
    /// Writes a new token.
    async fn insert_token(&mut self, token: &Token) -> Result<(), StoreError>;
    /// Reads a token.
    async fn token(&mut self, tenant: TenantId, id: TokenId) -> Result<Token, StoreError>;
    /// Reads a token by the public id in its text, of any tenant, with what decides on it.
    async fn token_snapshot(&mut self, public_id: &str) -> Result<TokenSnapshot, StoreError>;
    /// Reads the parent of a token of this tenant: of the same tenant, or of the installation.
    async fn parent_token(&mut self, tenant: TenantId, parent: TokenId) -> Result<Token, StoreError>;
    /// Marks these tokens and all their descendants, of whatever tenant, as revoked at this time.
    /// Those that are revoked already keep their time. Returns the public ids of the others.
    async fn revoke_tokens(&mut self, roots: TokenRoots, at: i64) -> Result<Vec<String>, StoreError>;

    /// Writes a new connection.
    async fn insert_connection(&mut self, connection: &Connection) -> Result<(), StoreError>;
    /// Reads a connection.
    async fn connection(&mut self, tenant: TenantId, id: ConnectionId) -> Result<Connection, StoreError>;
    /// Writes the columns of a connection that can change.
    async fn update_connection(&mut self, connection: &Connection) -> Result<(), StoreError>;
    /// The versions of attached keys that use the connection: the key, the version's number, and whether it may
    /// wrap: it is the key's primary version, and not known to be replaced. The versions of a key follow each other.
    async fn users(&mut self, tenant: TenantId, id: ConnectionId) -> Result<Vec<(KeyId, u32, bool)>, StoreError>;
    /// The name of the first attached key, by name, of which a version uses the connection.
    async fn connection_user(&mut self, tenant: TenantId, id: ConnectionId) -> Result<Option<String>, StoreError>;
    /// Deletes a connection; detached keys lose their reference to it.
    async fn delete_connection(&mut self, tenant: TenantId, id: ConnectionId) -> Result<(), StoreError>;

    /// Reads an attached key.
    async fn key(&mut self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError>;
    /// Reads what an adoption needs of the row with this id, attached or detached.
    async fn holder(&mut self, tenant: TenantId, id: KeyId) -> Result<Option<Holder>, StoreError>;
    /// Every version of a key, oldest first; of a detached one, too. Empty without the key.
    async fn versions(&mut self, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError>;
    /// Writes a new key, without its labels and versions.
    async fn insert_key(&mut self, key: &Key) -> Result<(), StoreError>;
    /// Writes a key over the row of a detached one, without its labels and versions.
    async fn take_over_key(&mut self, key: &Key) -> Result<(), StoreError>;
    /// Writes an attached key, without its labels and versions.
    async fn update_key(&mut self, key: &Key) -> Result<(), StoreError>;
    /// Writes a key as detached, with its state: its name becomes free, its labels are deleted.
    async fn detach_key(&mut self, key: &Key) -> Result<(), StoreError>;
    /// Reads a detached key.
    async fn detached_key(&mut self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError>;
    /// The detached keys with a version that was reached through this connection.
    async fn detached_through(&mut self, tenant: TenantId, connection: ConnectionId) -> Result<Vec<Key>, StoreError>;
    /// Writes the columns of a detached key that can change: its state, its lifts, and whether enabling it needs `Restore`.
    async fn update_detached(&mut self, key: &Key) -> Result<(), StoreError>;
    /// Replaces a key's labels.
    async fn replace_labels(&mut self, key: &Key) -> Result<(), StoreError>;
    /// Writes new versions.
    async fn insert_versions(&mut self, key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError>;
    /// Writes the columns of versions that can change: their connections, their states and their times.
    async fn update_versions(&mut self, key: &Key, versions: &[KeyVersion]) -> Result<(), StoreError>;
    /// How many wraps of a version were reserved so far; the version of a detached key, too.
    async fn wraps_reserved(&mut self, tenant: TenantId, key: KeyId, version: u32) -> Result<u64, StoreError>;
    /// Writes how many wraps of a version are reserved.
    async fn set_wraps_reserved(&mut self, tenant: TenantId, key: KeyId, version: u32, total: u64) -> Result<(), StoreError>;
    /// Writes a claim of this key, if it does not have it already. If another key has it, writes nothing
    /// and returns that key's tenant.
    async fn claim(&mut self, claim: &Claim, key: &Key) -> Result<Option<TenantId>, StoreError>;
    /// The tenant's keys, attached and detached, that are based on provider keys of the claimed id, as
    /// [`Reads::provider_key_holders`] has them.
    async fn holders(&mut self, claim: &Claim, tenant: TenantId) -> Result<Vec<(KeyId, bool)>, StoreError>;
    /// Deletes the claims of a key.
    async fn drop_claims(&mut self, key: &Key) -> Result<(), StoreError>;
}
