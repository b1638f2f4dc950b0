//! What the gateway remembers: tenants, principals, tokens, connections, keys, versions,
//! sealed values and idempotency records.
//!
//! One trait, [`Store`], one suite of tests (`tests/store`) and, today, one implementation,
//! [`sqlite`]. Used by `keys`, `access`, `broker` and `boot`; never by a face.
//!
//! Two rules hold for every method that changes something: it is one transaction, and what
//! it acknowledged is on stable storage. The transaction also marks the write-ahead log's
//! intent as applied ([`Change`]), so that a restart can tell which effects happened.

pub mod lock;
pub mod model;
#[cfg(test)]
pub(crate) mod pausing;
pub mod sealing;
pub mod sqlite;

use async_trait::async_trait;
use claviger_provider::{ConnectionId, InstallationId, KeyId, PrincipalId, SealedName, SealedStore, Secret, TenantId, TokenId};

use model::{
    Connection, ConnectionPatch, IdempotencyKey, IdempotencyRecord, Key, KeyFilter, KeyPatch, KeyVersion, Page, Principal, Tenant, Token,
};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such row for this tenant.
    #[error("no such row")]
    NotFound,
    /// The name, or the id, is taken.
    #[error("the name is taken")]
    AlreadyExists,
    /// Another logical key of the installation stands on this provider key.
    #[error("the provider key is taken")]
    ProviderKeyTaken,
    /// Another object still uses this one.
    #[error("still in use")]
    InUse,
    /// The object's revision is not the expected one.
    #[error("the revision changed")]
    Precondition,
    /// The same idempotency key was committed by another request meanwhile.
    #[error("the idempotency key was used meanwhile")]
    IdempotencyTaken,
    /// The data cannot be what this release wrote, or does not open under the root key.
    #[error("damaged data: {0}")]
    Damaged(&'static str),
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What every change carries into its transaction.
#[derive(Debug, Clone)]
pub struct Change {
    /// Position of the intent in the write-ahead log; `None` for acts that have none
    /// (the first start of an installation). Several changes may belong to one intent.
    pub intent: Option<u64>,
    /// Committed together with the effect, or not at all.
    pub idempotency: Option<IdempotencyRecord>,
}

impl Change {
    /// Of an intent at this position of the log.
    pub const fn announced(position: u64) -> Self {
        Self {
            intent: Some(position),
            idempotency: None,
        }
    }

    /// Of an act that has no intent.
    pub const fn unannounced() -> Self {
        Self {
            intent: None,
            idempotency: None,
        }
    }

    /// With the answer to keep, if there is one.
    #[must_use]
    pub fn keeping(mut self, kept: Option<IdempotencyRecord>) -> Self {
        self.idempotency = kept;
        self
    }
}

/// What a restart needs to know of the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Drawn once, at the first start.
    pub id: InstallationId,
    /// The node's name in the log: 32 hex digits drawn at the first start.
    pub node: String,
}

/// The gateway's memory. Every read and write names its tenant; a row of another tenant
/// behaves as one that does not exist.
#[async_trait]
pub trait Store: SealedStore {
    /// Waits for calls that are running and closes the store. Later calls fail.
    async fn close(&self);
    /// The installation's identity.
    async fn installation(&self) -> Result<Installation, StoreError>;

    /// Whether this intent's effect was committed.
    async fn is_applied(&self, intent: u64) -> Result<bool, StoreError>;
    /// Marks an intent as applied whose effect is at the provider alone.
    async fn mark_applied(&self, tenant: TenantId, change: &Change) -> Result<(), StoreError>;
    /// The largest intent position ever applied.
    async fn last_applied(&self) -> Result<Option<u64>, StoreError>;
    /// Forgets applied positions below `before`, but for the largest of all.
    async fn prune_applied(&self, before: u64) -> Result<(), StoreError>;
    /// Makes `last` the largest position applied, or forgets them all: for a log that was
    /// put back to an older copy, where the places after its end will be other intents'.
    async fn rewind_applied(&self, last: Option<u64>) -> Result<(), StoreError>;

    /// The answer kept for this idempotency key, if it is younger than 24 hours.
    async fn idempotent(&self, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError>;
    /// Deletes idempotency records made before this time (Unix microseconds).
    async fn prune_idempotency(&self, before: i64) -> Result<u64, StoreError>;

    /// Makes a tenant together with its sealed values (seal key, context-hash key). The
    /// installation's own is there from the start.
    async fn create_tenant(&self, tenant: &Tenant, sealed: Vec<(SealedName, Secret)>, change: &Change) -> Result<(), StoreError>;
    /// A tenant by id.
    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError>;
    /// A tenant by name.
    async fn tenant_by_name(&self, name: &str) -> Result<Tenant, StoreError>;
    /// Tenants by name, without the installation's own.
    async fn tenants(&self, page: &Page) -> Result<Vec<Tenant>, StoreError>;

    /// Makes a principal.
    async fn create_principal(&self, principal: &Principal, change: &Change) -> Result<(), StoreError>;
    /// A principal by name.
    async fn principal_by_name(&self, tenant: TenantId, name: &str) -> Result<Principal, StoreError>;
    /// A principal by id.
    async fn principal(&self, tenant: TenantId, id: PrincipalId) -> Result<Principal, StoreError>;
    /// Principals by name.
    async fn principals(&self, tenant: TenantId, page: &Page) -> Result<Vec<Principal>, StoreError>;
    /// Deletes a principal and its tokens.
    async fn delete_principal(&self, tenant: TenantId, id: PrincipalId, change: &Change) -> Result<(), StoreError>;

    /// Makes a token.
    async fn create_token(&self, token: &Token, change: &Change) -> Result<(), StoreError>;
    /// A token by the id that stands in its text, of whichever tenant: this is how a
    /// caller becomes known. With its principal and tenant, in one read.
    async fn token_by_public_id(&self, public_id: &str) -> Result<(Token, Principal, Tenant), StoreError>;
    /// A principal's tokens, by id.
    async fn tokens(&self, tenant: TenantId, principal: PrincipalId, page: &Page) -> Result<Vec<Token>, StoreError>;
    /// A token by id.
    async fn token(&self, tenant: TenantId, id: TokenId) -> Result<Token, StoreError>;
    /// Marks a token revoked. Repeating it changes nothing and is no error.
    async fn revoke_token(&self, tenant: TenantId, id: TokenId, at: i64, change: &Change) -> Result<(), StoreError>;

    /// Makes a connection together with its sealed secrets, whose row is its id in hex.
    async fn create_connection(
        &self,
        connection: &Connection,
        sealed: Vec<(SealedName, Secret)>,
        change: &Change,
    ) -> Result<(), StoreError>;
    /// A connection by name.
    async fn connection_by_name(&self, tenant: TenantId, name: &str) -> Result<Connection, StoreError>;
    /// A connection by id.
    async fn connection(&self, tenant: TenantId, id: ConnectionId) -> Result<Connection, StoreError>;
    /// Connections by name.
    async fn connections(&self, tenant: TenantId, page: &Page) -> Result<Vec<Connection>, StoreError>;
    /// Changes labels, timeouts and secrets; the revision grows by one.
    ///
    /// `sealed` replaces values of the same name.
    async fn update_connection(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        patch: &ConnectionPatch,
        sealed: Vec<(SealedName, Secret)>,
        change: &Change,
    ) -> Result<Connection, StoreError>;
    /// Severs or restores: sets the state, and the epoch grows by one when it changes.
    async fn set_connection_severed(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        severed: bool,
        at: i64,
        change: &Change,
    ) -> Result<Connection, StoreError>;
    /// Deletes a connection that no key uses (a detached key does not count), with its
    /// sealed values; `InUse` otherwise.
    async fn delete_connection(&self, tenant: TenantId, id: ConnectionId, change: &Change) -> Result<(), StoreError>;

    /// Makes a key with its first versions, and tells the row as it was stored. Claims the
    /// provider keys of all versions for it (`ProviderKeyTaken` where another key has one,
    /// a detached one too).
    ///
    /// A key with the id of a detached one of the same provider takes its row over: epoch
    /// and revision grow on from the old ones, the old versions and claims stay, and those
    /// given are added as in [`Store::add_key_versions`].
    ///
    /// `AlreadyExists` when the name or the id is taken. `NotFound` without the connection,
    /// or when no version given is the primary one on the key's `provider_key`.
    async fn create_key(&self, key: &Key, versions: &[KeyVersion], change: &Change) -> Result<Key, StoreError>;
    /// A key by name; never a detached one.
    async fn key_by_name(&self, tenant: TenantId, name: &str) -> Result<Key, StoreError>;
    /// A key by id; never a detached one.
    async fn key(&self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError>;
    /// The id of the key that holds this provider key, and whether it is detached;
    /// only if it is this tenant's.
    async fn provider_key_holder(
        &self,
        tenant: TenantId,
        provider: claviger_provider::ProviderKind,
        provider_key: &str,
    ) -> Result<Option<(KeyId, bool)>, StoreError>;
    /// Keys by name.
    async fn keys(&self, tenant: TenantId, filter: &KeyFilter, page: &Page) -> Result<Vec<Key>, StoreError>;
    /// Every version of a key, oldest first; of a detached one too, so that who adopts it
    /// again can number on.
    async fn key_versions(&self, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError>;
    /// Changes name, labels or cache settings; the revision grows by one. The epoch grows
    /// by one when the cache settings change.
    async fn update_key(&self, tenant: TenantId, id: KeyId, patch: &KeyPatch, change: &Change) -> Result<Key, StoreError>;
    /// Enables or disables: sets the state, and the epoch grows by one when it changes.
    async fn set_key_disabled(&self, tenant: TenantId, id: KeyId, disabled: bool, at: i64, change: &Change) -> Result<Key, StoreError>;
    /// Adds versions (those already there stay as they are), claims their provider keys and
    /// sets the primary one. The revision grows by one when something changed, and no
    /// rotation is under way then.
    ///
    /// `AlreadyExists` when a number stands for another version (another rotation came
    /// first), or a version that the provider names has another number; `NotFound` when
    /// there is no version `primary`.
    async fn add_key_versions(
        &self,
        tenant: TenantId,
        id: KeyId,
        versions: &[KeyVersion],
        primary: u32,
        at: i64,
        change: &Change,
    ) -> Result<Key, StoreError>;
    /// Notes since when a rotation is under way at the provider, or that none is. The revision
    /// grows by one.
    async fn set_key_rotating(&self, tenant: TenantId, id: KeyId, since: Option<i64>, at: i64, change: &Change) -> Result<Key, StoreError>;
    /// The keys of all tenants whose rotation is under way, those that wait longest first, at
    /// most `most`.
    async fn rotating_keys(&self, most: u32) -> Result<Vec<(TenantId, KeyId)>, StoreError>;
    /// Detaches: the row stays under its id, the name becomes free, the epoch grows.
    async fn detach_key(&self, tenant: TenantId, id: KeyId, at: i64, change: &Change) -> Result<(), StoreError>;
}

/// The folder that a file stands in.
fn parent(path: &std::path::Path) -> &std::path::Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => std::path::Path::new("."),
    }
}

/// Writes a new file of mode 0600 from these parts. It appears whole or not at all, is on
/// stable storage when this returns, and never takes the place of another.
///
/// # Errors
/// The file system's, also when the file exists.
pub fn write_new_file(path: &std::path::Path, parts: &[&[u8]]) -> std::io::Result<()> {
    use std::io::Write;
    let directory = parent(path);
    // tempfile creates with O_EXCL and mode 0600; persist_noclobber never replaces.
    let mut file = tempfile::Builder::new().prefix(".claviger-").tempfile_in(directory)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    std::fs::File::open(directory).and_then(|directory| directory.sync_all())
}
