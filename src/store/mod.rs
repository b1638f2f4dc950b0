//! The rows of the gateway: tenants, principals, tokens, connections, keys, versions, sealed
//! values and idempotency records.
//!
//! Three layers. [`Store`] is what others use: [`Reads`], and changes. [`rules`] says what a
//! change does to the rows, and [`changes`] makes each change one transaction; both exist once.
//! A [`Backend`](transaction::Backend) is the SQL below them: today [`sqlite`], tested by one
//! suite (`tests/store`). Used by `keys`, `access`, `broker` and `boot`; never by a
//! protocol.
//!
//! Every change is one transaction, and is on stable storage when it returns. The transaction
//! also marks the intent of the write-ahead log as applied ([`Change`]), so that a restart knows
//! which effects happened.
//!
//! A store is opened for one node, whose log the positions belong to. Several nodes can use one
//! database: each marks and reads its own positions only.

mod change_context;
mod changes;
mod check_credential;
mod claiming;
pub mod clock;
mod detached;
pub mod lock;
pub mod model;
#[cfg(test)]
pub(crate) mod pausing;
mod refusals;
pub mod rules;
pub mod sealing;
pub mod sqlite;
pub mod transaction;
mod urgent;

use async_trait::async_trait;
use claviger_provider::{
    ConnectionId, InstallationId, KeyId, KeySpec, Node, PrincipalId, ProviderKind, SealedName, SealedStore, Secret, TenantId, TokenId,
};

pub use change_context::{Asker, Change, CreationMark};
pub use model::CredentialRef;
use model::{
    Connection, ConnectionPatch, ConnectionSnapshot, Creation, DeclaredRow, DetachedFilter, DetachedKey, Holder, IdempotencyKey,
    IdempotencyRecord, Key, KeyFilter, KeyPatch, KeySelector, KeySnapshot, KeyVersion, Liftable, Page, Principal, Resource, Rows,
    SeenVersion, Tenant, Token, TokenSnapshot, Usage, VersionCanary, WrapsReserved,
};
pub use refusals::{Refusals, Refused};
pub use urgent::{for_revocation, is_for_revocation};

use crate::parent_folder;

/// Why a read or a change failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such row for this tenant.
    #[error("no such row")]
    NotFound,
    /// The name, or the id, is taken.
    #[error("the name is taken")]
    AlreadyExists,
    /// Another key of the tenant is based on this provider key, or was before it was detached.
    #[error("the provider key is taken")]
    ProviderKeyTaken,
    /// A key of another tenant has claimed this provider key for the installation.
    #[error("another tenant has claimed the provider key")]
    ClaimedElsewhere,
    /// The key of this name still uses the connection, the first of those that do.
    #[error("a key still uses it")]
    InUse(String),
    /// The tenant has as many of these as its quota, the number, allows.
    #[error("the quota of {1} {name} is reached", name = .0.as_str())]
    OverQuota(Resource, u32),
    /// The object's revision is not the expected one.
    #[error("the revision changed")]
    Precondition,
    /// The same idempotency key was committed by another request meanwhile.
    #[error("the idempotency key was used meanwhile")]
    IdempotencyTaken,
    /// The credential that asks for the change is revoked, deleted or expired, or one above it is.
    #[error("the credential has ended")]
    CredentialEnded,
    /// The tenant of the credential, or the one that it acts for, is suspended.
    #[error("the tenant is suspended")]
    TenantSuspended,
    /// Too many calls use the database; nothing was done.
    #[error("too many calls use the database")]
    Busy,
    /// The data cannot be what this release wrote, or does not open under the root key.
    #[error("damaged data: {0}")]
    Damaged(&'static str),
    /// Something else removed or replaced the database's files: what is committed now, the next start does not find.
    #[error("the database's files were removed or replaced")]
    FilesLost,
    /// The commit failed, and until it was overwritten a crash could have kept it.
    #[error("the database could not sync a change")]
    CommitFailed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The name under which a version's canary is sealed.
pub fn canary_name(tenant: TenantId, key: KeyId, version: u32) -> SealedName {
    SealedName {
        tenant,
        row: format!("canary/{key}"),
        column: version.to_string(),
    }
}

/// A node that has used the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// Its name.
    pub name: Node,
    /// The largest position of its log that was applied; `None` if none ever was.
    pub last: Option<u64>,
    /// Whether the name was handed to its data folder. `false` only between the migration that
    /// moves the name out of the store, and the first start after it.
    pub named: bool,
}

/// The last durable record of a node's log, as far as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// Its offset.
    pub position: u64,
    /// The CRC-32C of its JSON.
    pub crc: u32,
}

/// The bytes of tenants' records in a node's log on one day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogBytes {
    /// In days since 1970-01-01, UTC.
    pub day: i64,
    /// The bytes of each tenant.
    pub tenants: Vec<(TenantId, u64)>,
}

/// Reads. Each is one query, so its result is a state that the store had at one moment. A row of
/// another tenant behaves as one that does not exist. Lists are ordered by name.
#[async_trait]
pub trait Reads: Send + Sync {
    /// Whether the store's files are those that were opened. Otherwise it takes no change. To be called twice a second.
    fn has_its_files(&self) -> bool {
        true
    }
    /// The installation's identity, drawn at its first start.
    async fn installation(&self) -> Result<InstallationId, StoreError>;

    /// Whether the effect of this node's intent at this position was committed.
    async fn is_applied(&self, intent: u64) -> Result<bool, StoreError>;
    /// The positions of this node's log that were applied since the last prune, and the one before
    /// it, in rising order.
    async fn applied(&self) -> Result<Vec<u64>, StoreError>;
    /// The largest position of this node's log that was applied.
    async fn last_applied(&self) -> Result<Option<u64>, StoreError>;
    /// The last record of this node's log, as last kept.
    async fn last_record(&self) -> Result<Option<LastRecord>, StoreError>;
    /// The bytes of each tenant's records in this node's log, with the day that they are of, as last kept.
    async fn log_bytes(&self) -> Result<Vec<(i64, TenantId, u64)>, StoreError>;
    /// How often this object's revocation was lifted.
    async fn lifts(&self, tenant: TenantId, object: Liftable) -> Result<u64, StoreError> {
        Ok(match object {
            Liftable::Key(id) => self.key(tenant, id).await?.lifts,
            Liftable::Connection(id) => self.connection(tenant, id).await?.lifts,
            Liftable::Tenant(id) => self.tenant(id).await?.lifts,
        })
    }
    /// The answer kept for this idempotency key, if it is younger than 24 hours.
    async fn idempotent(&self, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError>;
    /// How many objects of each kind a tenant has.
    async fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError>;
    /// The opened values of a row by their columns, in byte order. Empty when the row has none.
    async fn sealed_row(&self, tenant: TenantId, row: &str) -> Result<Vec<(String, Secret)>, StoreError>;

    /// A tenant by id.
    async fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError>;
    /// A tenant by name.
    async fn tenant_by_name(&self, name: &str) -> Result<Tenant, StoreError>;
    /// Tenants, without the installation's own.
    async fn tenants(&self, page: &Page) -> Result<Vec<Tenant>, StoreError>;
    /// All suspended tenants, for the start.
    async fn suspended_tenants(&self) -> Result<Vec<TenantId>, StoreError>;

    /// A principal by name.
    async fn principal_by_name(&self, tenant: TenantId, name: &str) -> Result<Principal, StoreError>;
    /// A principal by id.
    async fn principal(&self, tenant: TenantId, id: PrincipalId) -> Result<Principal, StoreError>;
    /// Whether the name of a deleted principal is still remembered: for 30 days.
    async fn was_principal_deleted(&self, tenant: TenantId, name: &str) -> Result<bool, StoreError>;
    /// A tenant's principals.
    async fn principals(&self, tenant: TenantId, page: &Page) -> Result<Vec<Principal>, StoreError>;

    /// A token by the public id in its text, of any tenant, with its principal, its tenant and the
    /// tokens above it: this is how a caller is authenticated.
    async fn token_by_public_id(&self, public_id: &str) -> Result<TokenSnapshot, StoreError>;
    /// A principal's tokens, ordered by id.
    async fn tokens(&self, tenant: TenantId, principal: PrincipalId, page: &Page) -> Result<Vec<Token>, StoreError>;
    /// A token by id.
    async fn token(&self, tenant: TenantId, id: TokenId) -> Result<Token, StoreError>;
    /// The public ids of a token and of all that descend from it.
    async fn token_family(&self, tenant: TenantId, id: TokenId) -> Result<Vec<String>, StoreError>;

    /// A connection by name.
    async fn connection_by_name(&self, tenant: TenantId, name: &str) -> Result<Connection, StoreError>;
    /// A connection by id.
    async fn connection(&self, tenant: TenantId, id: ConnectionId) -> Result<Connection, StoreError>;
    /// A connection by id, with its opened secrets.
    async fn connection_snapshot(&self, tenant: TenantId, id: ConnectionId) -> Result<ConnectionSnapshot, StoreError>;
    /// The versions of attached keys that are reached through a connection, with their canaries
    /// ([`canary_name`]): by the keys' names, the newest first, at most `most`.
    async fn canaries(&self, tenant: TenantId, connection: ConnectionId, most: u32) -> Result<Vec<VersionCanary>, StoreError>;
    /// The objects of all tenants that the operator's configuration declares, or did: at most `most`.
    async fn declared(&self, most: u32) -> Result<Vec<DeclaredRow>, StoreError>;
    /// A tenant's connections.
    async fn connections(&self, tenant: TenantId, page: &Page) -> Result<Vec<Connection>, StoreError>;

    /// An attached key by name.
    async fn key_by_name(&self, tenant: TenantId, name: &str) -> Result<Key, StoreError>;
    /// An attached key by id.
    async fn key(&self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError>;
    /// An attached key with all of its versions.
    async fn key_snapshot(&self, tenant: TenantId, key: KeySelector<'_>) -> Result<KeySnapshot, StoreError>;
    /// The ids of the tenant's keys that are based on provider keys of this id, and whether each is detached; attached
    /// ones first, at most [`MAX_HOLDERS`](model::MAX_HOLDERS). Several only where each is at another server.
    async fn provider_key_holders(
        &self,
        tenant: TenantId,
        provider: ProviderKind,
        provider_key: &str,
    ) -> Result<Vec<(KeyId, bool)>, StoreError>;
    /// The tenant whose key has claimed this provider key of a service for the installation, if one has.
    async fn claimant_of(&self, provider: ProviderKind, provider_key: &str, service: &str) -> Result<Option<TenantId>, StoreError>;
    /// A tenant's attached keys. Reads at most [`Page::max_reads`] rows that do not match, so the
    /// page may have fewer rows than match, or none, and a next page.
    async fn keys(&self, tenant: TenantId, filter: &KeyFilter, page: &Page) -> Result<Rows<Key>, StoreError>;
    /// A tenant's detached keys, by id, since names may repeat; the page begins after an id in hex.
    /// Bounded as [`Reads::keys`].
    async fn detached_keys(&self, tenant: TenantId, filter: &DetachedFilter, page: &Page) -> Result<Rows<DetachedKey>, StoreError>;
    /// What an adoption needs of the row with this id, attached or detached.
    async fn holder(&self, tenant: TenantId, id: KeyId) -> Result<Option<Holder>, StoreError>;
    /// A detached key by id.
    async fn detached_key(&self, tenant: TenantId, id: KeyId) -> Result<DetachedKey, StoreError>;
    /// Every version of a key, oldest first. Also of a detached one: an adoption continues its numbers.
    async fn key_versions(&self, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError>;
    /// Attached keys whose rotation is under way, at most `most`, and at most `for_each` of one tenant, drawn
    /// at random: so neither another tenant's keys nor the tenant's own are passed over for long. Suspended
    /// tenants' are left out.
    async fn rotating_keys(&self, most: u32, for_each: u32) -> Result<Vec<(TenantId, KeyId)>, StoreError>;
    /// The number of attached keys with a rotation whose answer was lost.
    async fn lost_rotations(&self) -> Result<u64, StoreError>;
    /// A creation that has begun.
    async fn creation(&self, tenant: TenantId, made_as: KeyId) -> Result<Creation, StoreError>;
    /// The latest creation that has begun of a key of this name and specification through a connection.
    async fn creation_of_key(&self, tenant: TenantId, name: &str, connection: ConnectionId, spec: KeySpec) -> Result<Creation, StoreError>;
    /// Creations that are due at `now` (Unix microseconds, [`Creation::is_due`]), of each tenant the earliest due; otherwise as
    /// [`Reads::rotating_keys`].
    async fn due_creations(&self, now: i64, most: u32, for_each: u32) -> Result<Vec<Creation>, StoreError>;
}

/// A store: reads, and changes. Each change is one transaction and returns the rows that it
/// touched, as they are after it.
#[async_trait]
pub trait Store: Reads + SealedStore {
    /// Finishes what is under way and closes the store. Later calls fail.
    async fn close(&self);

    /// Keeps the last record of this node's log, or that none is known, and how many bytes these tenants' records
    /// have, in an ordinary turn.
    async fn keep_last_record(&self, last: Option<LastRecord>, bytes: &LogBytes) -> Result<(), StoreError>;
    /// Marks an intent as applied whose effect is at the provider alone. For a tenant that does not exist, the
    /// installation has the mark: an older store lacks the tenants that were created since.
    async fn mark_applied(&self, tenant: TenantId, change: &Change) -> Result<(), StoreError>;
    /// Deletes this node's applied positions below `before`, except the last one.
    async fn prune_applied(&self, before: u64) -> Result<(), StoreError>;
    /// Makes `last` the largest position applied of this node, or deletes all of its positions. For a log that was
    /// restored from an older copy: the positions after its end will be other intents'.
    async fn rewind_applied(&self, last: Option<u64>) -> Result<(), StoreError>;
    /// Raises this object's number of lifts to the journal's, if that is greater ([`rules::raise_lifts`]).
    async fn raise_lifts(&self, tenant: TenantId, object: Liftable, journal: u64) -> Result<(), StoreError>;
    /// Deletes idempotency records made before this time (Unix microseconds); returns how many.
    async fn prune_idempotency(&self, before: i64) -> Result<u64, StoreError>;
    /// Forgets the names of principals that were deleted before this time (Unix microseconds).
    async fn prune_deleted_principals(&self, before: i64) -> Result<(), StoreError>;
    /// Deletes tokens that expired or were revoked before this time (Unix microseconds), some of them if there
    /// are many; returns how many.
    async fn prune_ended_tokens(&self, before: i64) -> Result<u64, StoreError>;

    /// Creates a tenant with its sealed values (seal key, context-hash key). The installation's
    /// own tenant exists from the start.
    async fn create_tenant(&self, tenant: &Tenant, sealed: Vec<(SealedName, Secret)>, change: &Change) -> Result<(), StoreError>;

    /// Suspends or resumes a tenant ([`rules::set_suspended`]).
    async fn set_tenant_suspended(&self, id: TenantId, suspended: bool, change: &Change) -> Result<Tenant, StoreError>;

    /// Creates a principal.
    async fn create_principal(&self, principal: &Principal, change: &Change) -> Result<(), StoreError>;
    /// Deletes a principal and its tokens, and marks their descendants as revoked, whoever's they
    /// are. Its name is remembered as deleted. Returns the public ids of all tokens that ended.
    async fn delete_principal(&self, tenant: TenantId, id: PrincipalId, at: i64, change: &Change) -> Result<Vec<String>, StoreError>;

    /// Creates a token. `NotFound` when its principal, or the parent of a delegated one, does not
    /// exist, or the parent is revoked ([`rules::check_new_token`]).
    async fn create_token(&self, token: &Token, change: &Change) -> Result<(), StoreError>;
    /// Marks a token and all its descendants as revoked. Repeating it changes nothing and is no
    /// error. Returns the token, and the public ids of all tokens that ended.
    async fn revoke_token(&self, tenant: TenantId, id: TokenId, at: i64, change: &Change) -> Result<(Token, Vec<String>), StoreError>;

    /// Creates a connection with its sealed secrets, whose row is its id in hex.
    async fn create_connection(
        &self,
        connection: &Connection,
        sealed: Vec<(SealedName, Secret)>,
        change: &Change,
    ) -> Result<(), StoreError>;
    /// Changes labels, timeouts, network settings and secrets; the revision grows by one. `sealed` replaces
    /// values of the same names. New network settings may change the span of the claims, which are made
    /// anew then; `Precondition` also if a primary version came that may wrap and was not proven.
    async fn update_connection(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        patch: &ConnectionPatch,
        sealed: Vec<(SealedName, Secret)>,
        change: &Change,
    ) -> Result<Connection, StoreError>;
    /// Severs or restores a connection ([`rules::set_severed`]).
    async fn set_connection_severed(
        &self,
        tenant: TenantId,
        id: ConnectionId,
        severed: bool,
        at: i64,
        change: &Change,
    ) -> Result<Connection, StoreError>;
    /// Releases a connection from the operator's configuration: it is its tenant's like any other from then on.
    async fn release_connection(&self, tenant: TenantId, id: ConnectionId, at: i64, change: &Change) -> Result<Connection, StoreError>;
    /// As [`Store::release_connection`], for a key.
    async fn release_key(&self, tenant: TenantId, id: KeyId, at: i64, change: &Change) -> Result<Key, StoreError>;
    /// Deletes a connection and its sealed values. If it is severed, the detached keys that were
    /// reached through it come back disabled ([`rules::sever_detached`]). `InUse` while an attached
    /// key uses it.
    async fn delete_connection(&self, tenant: TenantId, id: ConnectionId, change: &Change) -> Result<(), StoreError>;

    /// Creates a key with its first versions and claims their provider keys for it ([`rules::claims`]).
    ///
    /// A key with the id of a detached key takes over its row ([`rules::adopt`]): the old versions
    /// stay, some of them under the new connection ([`rules::follow`]), those given are added as in
    /// [`Store::add_key_versions`], and the provider keys of all are claimed anew.
    ///
    /// Errors: `ProviderKeyTaken` when another key of the tenant is based on a provider key of the same id, also a
    /// detached one, unless the change names it ([`Change::beside`]); and where with this one
    /// [`MAX_HOLDERS`](model::MAX_HOLDERS) keys would be. `ClaimedElsewhere` when another tenant's has claimed one for the installation. `AlreadyExists` when the name
    /// or the id is taken. `NotFound` without the connection, or when the primary version is not among those given.
    async fn create_key(&self, key: &Key, versions: &[KeyVersion], change: &Change) -> Result<Key, StoreError>;
    /// Changes name, labels, cache rules or export ([`rules::patch_key`]).
    async fn update_key(&self, tenant: TenantId, id: KeyId, patch: &KeyPatch, change: &Change) -> Result<Key, StoreError>;
    /// Disables or enables a key ([`rules::set_disabled`]).
    async fn set_key_disabled(&self, tenant: TenantId, id: KeyId, disabled: bool, at: i64, change: &Change) -> Result<Key, StoreError>;
    /// Disables a detached key, for a journal that says it was attached: it comes back disabled. `false` when it was
    /// enabled since: more often than `lifts`, the journal's number, which its own is raised to.
    async fn disable_detached(&self, tenant: TenantId, id: KeyId, lifts: u64, change: &Change) -> Result<bool, StoreError>;
    /// Adds versions (existing ones stay as they are), claims their provider keys and sets the
    /// primary version ([`rules::set_primary`]).
    ///
    /// Errors: `AlreadyExists` when a number belongs to another version (another rotation came
    /// first), or a version that the provider names has another number; `NotFound` when there
    /// is no version `primary`; `ProviderKeyTaken` and `ClaimedElsewhere` as in [`Store::create_key`].
    async fn add_key_versions(
        &self,
        tenant: TenantId,
        id: KeyId,
        versions: &[KeyVersion],
        primary: u32,
        at: i64,
        change: &Change,
    ) -> Result<Key, StoreError>;
    /// As [`Store::add_key_versions`], for versions on another provider key, mostly through another
    /// connection: each must be new ([`rules::check_moved`]).
    ///
    /// Errors: `ProviderKeyTaken` also when a version of this key is the same by the provider's
    /// ids; `NotFound` without the connection.
    async fn move_key(
        &self,
        tenant: TenantId,
        id: KeyId,
        versions: &[KeyVersion],
        primary: u32,
        at: i64,
        change: &Change,
    ) -> Result<Key, StoreError>;
    /// Stores what the provider says of versions, by number ([`rules::set_provider_states`]). A number
    /// without a version changes nothing.
    async fn set_provider_states(
        &self,
        tenant: TenantId,
        id: KeyId,
        seen: &[SeenVersion],
        at: i64,
        change: &Change,
    ) -> Result<Key, StoreError>;
    /// Notes since when a rotation is under way at the provider, or that none is
    /// ([`rules::set_rotating`]).
    async fn set_key_rotating(&self, tenant: TenantId, id: KeyId, since: Option<i64>, at: i64, change: &Change) -> Result<Key, StoreError>;
    /// Reserves up to `count` more wraps of a version ([`rules::reserve_wraps`]), so that they count whatever
    /// becomes of this process. Also for a detached key. `NotFound` without the version.
    async fn reserve_wraps(&self, tenant: TenantId, key: KeyId, version: u32, count: u64) -> Result<WrapsReserved, StoreError>;
    /// Detaches a key: its row stays under its id, its name becomes free ([`rules::detach`]), and its
    /// claims end.
    async fn detach_key(&self, tenant: TenantId, id: KeyId, at: i64, change: &Change) -> Result<Key, StoreError>;
}

/// Writes a new file of mode 0600 from these parts. It appears whole or not at all, is on stable
/// storage when this returns, and never replaces another file.
///
/// # Errors
/// The file system's, also when the file exists.
pub fn write_new_file(path: &std::path::Path, parts: &[&[u8]]) -> std::io::Result<()> {
    use std::io::Write;
    // tempfile creates with O_EXCL and mode 0600; persist_noclobber never replaces.
    let mut file = tempfile::Builder::new().prefix(".claviger-").tempfile_in(parent_folder::of(path))?;
    for part in parts {
        file.write_all(part)?;
    }
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    parent_folder::sync(path)
}
