//! A store for tests of races. It forwards to another store, but a method can be made to wait
//! before it returns what it read.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::{
    ConnectionId, Error, InstallationId, KeyId, KeySpec, PrincipalId, ProviderKind, SealedName, SealedStore, Secret, TenantId, TokenId,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::model::{
    Connection, ConnectionPatch, ConnectionSnapshot, Creation, DeclaredRow, DetachedFilter, DetachedKey, Holder, IdempotencyKey,
    IdempotencyRecord, Key, KeyFilter, KeyPatch, KeySelector, KeySnapshot, KeyVersion, Liftable, Page, Principal, Rows, SeenVersion,
    Tenant, Token, TokenSnapshot, Usage, VersionCanary, WrapsReserved,
};
use super::{Change, LastRecord, LogBytes, Reads, Store, StoreError};

/// A store whose reads can be made to wait; see the module.
pub(crate) struct PausingStore {
    inner: Arc<dyn Store>,
    pauses: Mutex<HashMap<&'static str, Waiting>>,
    called: Mutex<Vec<&'static str>>,
}

/// The channels of a call that is to wait.
struct Waiting {
    has_reached: oneshot::Sender<()>,
    may_resume: oneshot::Receiver<()>,
}

/// The next call of a method. It waits before it returns its answer.
pub(crate) struct Pause {
    reached: oneshot::Receiver<()>,
    resume: oneshot::Sender<()>,
}

/// A call that has its answer and waits.
pub(crate) struct Reached(oneshot::Sender<()>);

impl Pause {
    /// Returns once the call has its answer.
    pub(crate) async fn reached(self) -> Reached {
        self.reached.await.unwrap();
        Reached(self.resume)
    }
}

impl Reached {
    /// Lets the call return.
    pub(crate) fn resume(self) {
        self.0.send(()).unwrap();
    }
}

impl PausingStore {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            pauses: Mutex::default(),
            called: Mutex::default(),
        })
    }

    /// The next call of this method waits; those after it do not.
    pub(crate) fn pause_next(&self, method: &'static str) -> Pause {
        let (has_reached, reached) = oneshot::channel();
        let (resume, may_resume) = oneshot::channel();
        self.pauses.lock().insert(method, Waiting { has_reached, may_resume });
        Pause { reached, resume }
    }

    /// The methods called since the last time this was asked, in their order.
    pub(crate) fn reads(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.called.lock())
    }

    async fn pause(&self, method: &'static str) {
        self.called.lock().push(method);
        let paused = self.pauses.lock().remove(method);
        if let Some(Waiting { has_reached, may_resume }) = paused {
            has_reached.send(()).unwrap();
            may_resume.await.unwrap();
        }
    }
}

macro_rules! forward {
    ($trait:ident: $(fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $answer:ty;)*) => {
        #[async_trait]
        #[allow(clippy::let_unit_value, reason = "a close returns nothing")]
        impl $trait for PausingStore {
            $(async fn $name(&self $(, $arg: $type)*) -> $answer {
                let answer = self.inner.$name($($arg),*).await;
                self.pause(stringify!($name)).await;
                answer
            })*
        }
    };
}

forward! {
    SealedStore:
    fn get(&self, name: &SealedName) -> Result<Option<Secret>, Error>;
    fn columns(&self, tenant: TenantId, row: &str) -> Result<Vec<String>, Error>;
    fn insert(&self, values: Vec<(SealedName, Secret)>) -> Result<(), Error>;
    fn remove_row(&self, tenant: TenantId, row: &str) -> Result<(), Error>;
}

forward! {
    Reads:
    fn installation(&self) -> Result<InstallationId, StoreError>;
    fn is_applied(&self, intent: u64) -> Result<bool, StoreError>;
    fn applied(&self) -> Result<Vec<u64>, StoreError>;
    fn last_applied(&self) -> Result<Option<u64>, StoreError>;
    fn last_record(&self) -> Result<Option<LastRecord>, StoreError>;
    fn log_bytes(&self) -> Result<Vec<(i64, TenantId, u64)>, StoreError>;
    fn idempotent(&self, key: &IdempotencyKey) -> Result<Option<IdempotencyRecord>, StoreError>;
    fn usage(&self, tenant: TenantId) -> Result<Usage, StoreError>;
    fn tenant(&self, id: TenantId) -> Result<Tenant, StoreError>;
    fn tenant_by_name(&self, name: &str) -> Result<Tenant, StoreError>;
    fn tenants(&self, page: &Page) -> Result<Vec<Tenant>, StoreError>;
    fn suspended_tenants(&self) -> Result<Vec<TenantId>, StoreError>;
    fn sealed_row(&self, tenant: TenantId, row: &str) -> Result<Vec<(String, Secret)>, StoreError>;
    fn principal_by_name(&self, tenant: TenantId, name: &str) -> Result<Principal, StoreError>;
    fn principal(&self, tenant: TenantId, id: PrincipalId) -> Result<Principal, StoreError>;
    fn was_principal_deleted(&self, tenant: TenantId, name: &str) -> Result<bool, StoreError>;
    fn principals(&self, tenant: TenantId, page: &Page) -> Result<Vec<Principal>, StoreError>;
    fn token_by_public_id(&self, public_id: &str) -> Result<TokenSnapshot, StoreError>;
    fn tokens(&self, tenant: TenantId, principal: PrincipalId, page: &Page) -> Result<Vec<Token>, StoreError>;
    fn token(&self, tenant: TenantId, id: TokenId) -> Result<Token, StoreError>;
    fn token_family(&self, tenant: TenantId, id: TokenId) -> Result<Vec<String>, StoreError>;
    fn connection_by_name(&self, tenant: TenantId, name: &str) -> Result<Connection, StoreError>;
    fn connection(&self, tenant: TenantId, id: ConnectionId) -> Result<Connection, StoreError>;
    fn connection_snapshot(&self, tenant: TenantId, id: ConnectionId) -> Result<ConnectionSnapshot, StoreError>;
    fn canaries(&self, tenant: TenantId, connection: ConnectionId, most: u32) -> Result<Vec<VersionCanary>, StoreError>;
    fn declared(&self, most: u32) -> Result<Vec<DeclaredRow>, StoreError>;
    fn connections(&self, tenant: TenantId, page: &Page) -> Result<Vec<Connection>, StoreError>;
    fn key_by_name(&self, tenant: TenantId, name: &str) -> Result<Key, StoreError>;
    fn key(&self, tenant: TenantId, id: KeyId) -> Result<Key, StoreError>;
    fn key_snapshot(&self, tenant: TenantId, key: KeySelector<'_>) -> Result<KeySnapshot, StoreError>;
    fn provider_key_holders(&self, tenant: TenantId, provider: ProviderKind, provider_key: &str) -> Result<Vec<(KeyId, bool)>, StoreError>;
    fn claimant_of(&self, provider: ProviderKind, provider_key: &str, service: &str) -> Result<Option<TenantId>, StoreError>;
    fn keys(&self, tenant: TenantId, filter: &KeyFilter, page: &Page) -> Result<Rows<Key>, StoreError>;
    fn key_versions(&self, tenant: TenantId, key: KeyId) -> Result<Vec<KeyVersion>, StoreError>;
    fn detached_keys(&self, tenant: TenantId, filter: &DetachedFilter, page: &Page) -> Result<Rows<DetachedKey>, StoreError>;
    fn holder(&self, tenant: TenantId, id: KeyId) -> Result<Option<Holder>, StoreError>;
    fn detached_key(&self, tenant: TenantId, id: KeyId) -> Result<DetachedKey, StoreError>;
    fn rotating_keys(&self, most: u32, for_each: u32) -> Result<Vec<(TenantId, KeyId)>, StoreError>;
    fn lost_rotations(&self) -> Result<u64, StoreError>;
    fn creation(&self, tenant: TenantId, made_as: KeyId) -> Result<Creation, StoreError>;
    fn creation_of_key(&self, tenant: TenantId, name: &str, connection: ConnectionId, spec: KeySpec) -> Result<Creation, StoreError>;
    fn due_creations(&self, now: i64, most: u32, for_each: u32) -> Result<Vec<Creation>, StoreError>;
}

forward! {
    Store:
    fn close(&self) -> ();
    fn keep_last_record(&self, last: Option<LastRecord>, bytes: &LogBytes) -> Result<(), StoreError>;
    fn mark_applied(&self, tenant: TenantId, change: &Change) -> Result<(), StoreError>;
    fn prune_applied(&self, before: u64) -> Result<(), StoreError>;
    fn rewind_applied(&self, last: Option<u64>) -> Result<(), StoreError>;
    fn raise_lifts(&self, tenant: TenantId, object: Liftable, journal: u64) -> Result<(), StoreError>;
    fn prune_idempotency(&self, before: i64) -> Result<u64, StoreError>;
    fn prune_deleted_principals(&self, before: i64) -> Result<(), StoreError>;
    fn prune_ended_tokens(&self, before: i64) -> Result<u64, StoreError>;
    fn create_tenant(&self, tenant: &Tenant, sealed: Vec<(SealedName, Secret)>, change: &Change) -> Result<(), StoreError>;
    fn set_tenant_suspended(&self, id: TenantId, suspended: bool, change: &Change) -> Result<Tenant, StoreError>;
    fn create_principal(&self, principal: &Principal, change: &Change) -> Result<(), StoreError>;
    fn delete_principal(&self, tenant: TenantId, id: PrincipalId, at: i64, change: &Change) -> Result<Vec<String>, StoreError>;
    fn create_token(&self, token: &Token, change: &Change) -> Result<(), StoreError>;
    fn revoke_token(&self, tenant: TenantId, id: TokenId, at: i64, change: &Change) -> Result<(Token, Vec<String>), StoreError>;
    fn create_connection(&self, connection: &Connection, sealed: Vec<(SealedName, Secret)>, change: &Change) -> Result<(), StoreError>;
    fn update_connection(&self, tenant: TenantId, id: ConnectionId, patch: &ConnectionPatch, sealed: Vec<(SealedName, Secret)>, change: &Change) -> Result<Connection, StoreError>;
    fn set_connection_severed(&self, tenant: TenantId, id: ConnectionId, severed: bool, at: i64, change: &Change) -> Result<Connection, StoreError>;
    fn release_connection(&self, tenant: TenantId, id: ConnectionId, at: i64, change: &Change) -> Result<Connection, StoreError>;
    fn release_key(&self, tenant: TenantId, id: KeyId, at: i64, change: &Change) -> Result<Key, StoreError>;
    fn delete_connection(&self, tenant: TenantId, id: ConnectionId, change: &Change) -> Result<(), StoreError>;
    fn create_key(&self, key: &Key, versions: &[KeyVersion], change: &Change) -> Result<Key, StoreError>;
    fn update_key(&self, tenant: TenantId, id: KeyId, patch: &KeyPatch, change: &Change) -> Result<Key, StoreError>;
    fn set_key_disabled(&self, tenant: TenantId, id: KeyId, disabled: bool, at: i64, change: &Change) -> Result<Key, StoreError>;
    fn disable_detached(&self, tenant: TenantId, id: KeyId, lifts: u64, change: &Change) -> Result<bool, StoreError>;
    fn move_key(&self, tenant: TenantId, id: KeyId, versions: &[KeyVersion], primary: u32, at: i64, change: &Change) -> Result<Key, StoreError>;
    fn add_key_versions(&self, tenant: TenantId, id: KeyId, versions: &[KeyVersion], primary: u32, at: i64, change: &Change) -> Result<Key, StoreError>;
    fn set_provider_states(&self, tenant: TenantId, id: KeyId, seen: &[SeenVersion], at: i64, change: &Change) -> Result<Key, StoreError>;
    fn set_key_rotating(&self, tenant: TenantId, id: KeyId, since: Option<i64>, at: i64, change: &Change) -> Result<Key, StoreError>;
    fn reserve_wraps(&self, tenant: TenantId, key: KeyId, version: u32, count: u64) -> Result<WrapsReserved, StoreError>;
    fn detach_key(&self, tenant: TenantId, id: KeyId, at: i64, change: &Change) -> Result<Key, StoreError>;
}
