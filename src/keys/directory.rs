//! All keys and connections that are in use, loaded from the store when first asked for.

use std::sync::Arc;

use claviger_provider::layers::BreakerState;
use claviger_provider::{ConnectionId, KeyId, TenantId};
use dashmap::mapref::entry::Entry;
use dashmap::{DashMap, DashSet};

use super::entry::{ConnectionEntry, KeyEntry, KeyView};
use super::{Factories, TenantSecrets};
use crate::store::{Store, StoreError};

/// How many entries of a kind stay in memory while nobody uses them.
const KEPT: usize = 100_000;

/// The keys and connections in memory. A lookup that finds its entry does no I/O.
///
/// Changing a row goes: get the entry, hold its `change` lock, commit, then put the
/// committed row into the entry. Because the entry is there before the commit, a lookup that runs
/// meanwhile finds it and cannot bring an older row back.
pub struct Directory {
    store: Arc<dyn Store>,
    factories: Factories,
    keys: DashMap<KeyId, Arc<KeyEntry>>,
    names: DashMap<(TenantId, String), KeyId>,
    connections: DashMap<ConnectionId, Arc<ConnectionEntry>>,
    secrets: DashMap<TenantId, Arc<TenantSecrets>>,
    reserved: DashSet<(TenantId, String)>,
}

/// A name that a key is being made under; free again when dropped.
pub struct Reserved<'a> {
    names: &'a DashSet<(TenantId, String)>,
    name: (TenantId, String),
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.names.remove(&self.name);
    }
}

impl Directory {
    /// Over this store, with these provider families.
    pub fn new(store: Arc<dyn Store>, factories: Factories) -> Self {
        Self {
            store,
            factories,
            keys: DashMap::new(),
            names: DashMap::new(),
            connections: DashMap::new(),
            secrets: DashMap::new(),
            reserved: DashSet::new(),
        }
    }

    /// The provider families of this installation.
    pub const fn factories(&self) -> &Factories {
        &self.factories
    }

    /// A key by name; `None` when the tenant has none of that name.
    ///
    /// # Errors
    /// When the store or the connection's settings fail.
    pub async fn key_by_name(&self, tenant: TenantId, name: &str) -> Result<Option<Arc<KeyEntry>>, LoadError> {
        // The name's entry may be older than a rename, so the entry itself is asked.
        if let Some(id) = self.names.get(&(tenant, name.to_owned())).map(|id| *id)
            && let Some(entry) = self.keys.get(&id).map(|entry| Arc::clone(&entry))
            && entry.view().is_ok_and(|view| view.key.name == name)
        {
            return Ok(Some(entry));
        }
        let key = match self.store.key_by_name(tenant, name).await {
            Ok(key) => key,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(entry) = self.key(tenant, key.id).await? else {
            return Ok(None);
        };
        trim(&self.names, |_| true);
        self.names.insert((tenant, name.to_owned()), key.id);
        // Renamed or detached while it was loaded: the name leads nowhere now.
        Ok(entry.view().is_ok_and(|view| view.key.name == name).then_some(entry))
    }

    /// A key by id; `None` when the tenant has none of that id.
    ///
    /// # Errors
    /// When the store or the connection's settings fail.
    pub async fn key(&self, tenant: TenantId, id: KeyId) -> Result<Option<Arc<KeyEntry>>, LoadError> {
        if let Some(entry) = self.keys.get(&id) {
            return Ok((entry.tenant() == tenant && entry.view().is_ok()).then(|| Arc::clone(&entry)));
        }
        let key = match self.store.key(tenant, id).await {
            Ok(key) => key,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let versions = self.store.key_versions(tenant, id).await?;
        let Some(connection) = self.connection(tenant, key.connection).await? else {
            return Err(LoadError::Store(StoreError::Damaged("a key's connection is missing")));
        };
        trim(&self.keys, |entry| Arc::strong_count(entry) == 1);
        let loaded = Arc::new(KeyEntry::new(
            KeyView {
                key: Arc::new(key),
                versions: versions.into(),
            },
            connection,
        ));
        let entry = match self.keys.entry(id) {
            Entry::Occupied(there) => Arc::clone(there.get()),
            Entry::Vacant(free) => Arc::clone(&free.insert(loaded)),
        };
        Ok(entry.view().is_ok().then_some(entry))
    }

    /// Reserves a name while a key is made under it; `None` when somebody else is at it.
    pub fn reserve_name(&self, tenant: TenantId, name: &str) -> Option<Reserved<'_>> {
        let name = (tenant, name.to_owned());
        self.reserved.insert(name.clone()).then(|| Reserved {
            names: &self.reserved,
            name,
        })
    }

    /// Closes a detached key's entry. Call it while the key's `change` lock is held, after
    /// the commit. The closed entry stays, so that a lookup which read the row before the
    /// commit finds it and does not bring the key back.
    pub fn detached(&self, entry: &KeyEntry) {
        if let Ok(view) = entry.view() {
            self.names.remove(&(entry.tenant(), view.key.name.clone()));
        }
        entry.close();
    }

    /// Makes room for a key that is adopted again under the id of a detached one; after
    /// the commit.
    pub fn readopted(&self, id: KeyId) {
        self.keys.remove_if(&id, |_, entry| entry.view().is_err());
    }

    /// A connection by id; `None` when the tenant has none of that id.
    ///
    /// # Errors
    /// When the store or the connection's settings fail.
    pub async fn connection(&self, tenant: TenantId, id: ConnectionId) -> Result<Option<Arc<ConnectionEntry>>, LoadError> {
        if let Some(entry) = self.connections.get(&id) {
            return Ok((entry.tenant() == tenant).then(|| Arc::clone(&entry)));
        }
        let connection = match self.store.connection(tenant, id).await {
            Ok(connection) => connection,
            Err(StoreError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let pipeline = self.factories.connect(self.store.as_ref(), &connection).await?;
        trim(&self.connections, |entry| Arc::strong_count(entry) == 1);
        let loaded = Arc::new(ConnectionEntry::new(connection, pipeline));
        Ok(Some(match self.connections.entry(id) {
            Entry::Occupied(there) => Arc::clone(there.get()),
            Entry::Vacant(free) => Arc::clone(&free.insert(loaded)),
        }))
    }

    /// Forgets a deleted connection, after the commit.
    pub fn forget_connection(&self, id: ConnectionId) {
        self.connections.remove(&id);
    }

    /// A tenant's seal keys and context-hash key.
    ///
    /// # Errors
    /// When the store fails or they do not open.
    pub async fn secrets(&self, tenant: TenantId) -> Result<Arc<TenantSecrets>, LoadError> {
        if let Some(secrets) = self.secrets.get(&tenant) {
            return Ok(Arc::clone(&secrets));
        }
        let secrets = Arc::new(TenantSecrets::load(self.store.as_ref(), tenant).await?);
        trim(&self.secrets, |_| true);
        self.secrets.insert(tenant, Arc::clone(&secrets));
        Ok(secrets)
    }

    /// How many connections are in memory, and how many of their circuit breakers are open.
    pub fn breakers(&self) -> (usize, usize) {
        let open = self
            .connections
            .iter()
            .filter(|entry| entry.pipeline().breaker() == BreakerState::Open)
            .count();
        (self.connections.len(), open)
    }
}

/// Why an entry could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The connection's settings or secrets cannot be used.
    #[error(transparent)]
    Provider(#[from] claviger_provider::Error),
}

/// Drops what nobody holds once there is twice as much as should stay. `unused` is asked under the
/// map's own lock, so an entry that somebody else holds is never dropped: there would be
/// two gates for one key.
fn trim<K: Eq + std::hash::Hash, V>(map: &DashMap<K, V>, unused: impl Fn(&V) -> bool) {
    if map.len() < 2 * KEPT {
        return;
    }
    let mut surplus = map.len() - KEPT;
    map.retain(|_, value| {
        let drop = surplus > 0 && unused(value);
        if drop {
            surplus -= 1;
        }
        !drop
    });
}
