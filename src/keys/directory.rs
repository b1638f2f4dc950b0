//! All keys and connections that are in use, loaded from the store when first asked for.

use std::sync::Arc;

use claviger_provider::layers::BreakerState;
use claviger_provider::{ConnectionId, KeyId, Pipeline, SealedName, Secret, TenantId};
use dashmap::DashSet;

use super::entry::{ConnectionEntry, KeyEntry, KeyView};
use super::loading_cache::LoadingCache;
use super::{Factories, TenantSecrets};
use crate::store::model::Connection;
use crate::store::{Store, StoreError};

/// How many entries of a kind stay in memory while nobody uses them.
const KEPT: usize = 100_000;

/// The keys and connections in memory. A lookup that finds its entry does no I/O.
///
/// Changing a row goes: get the entry, hold its `change` lock, commit, then put the
/// committed row into the entry. Because the entry is there before the commit, a lookup that runs
/// meanwhile finds it and cannot bring an older row back; nor can one that runs on after
/// the entry was dropped again, since it loads anew then ([`LoadingCache`]).
pub struct Directory {
    store: Arc<dyn Store>,
    factories: Factories,
    keys: LoadingCache<KeyId, Arc<KeyEntry>>,
    names: LoadingCache<(TenantId, String), KeyId>,
    connections: LoadingCache<ConnectionId, Arc<ConnectionEntry>>,
    secrets: LoadingCache<TenantId, Arc<TenantSecrets>>,
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
        Self::with_room(store, factories, KEPT)
    }

    fn with_room(store: Arc<dyn Store>, factories: Factories, room: usize) -> Self {
        Self {
            store,
            factories,
            // An entry that somebody holds stays: there would be two gates for one key.
            keys: LoadingCache::new(room, |entry| Arc::strong_count(entry) == 1),
            names: LoadingCache::new(room, |_| true),
            connections: LoadingCache::new(room, |entry| Arc::strong_count(entry) == 1),
            secrets: LoadingCache::new(room, |_| true),
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
        let named = (tenant, name.to_owned());
        // The name's entry may be older than a rename, so the entry itself is asked.
        if let Some(id) = self.names.get(&named)
            && let Some(entry) = self.keys.get(&id)
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
        self.names.replace(named, key.id);
        // Renamed or detached while it was loaded: the name leads nowhere now.
        Ok(entry.view().is_ok_and(|view| view.key.name == name).then_some(entry))
    }

    /// A key by id; `None` when the tenant has none of that id.
    ///
    /// # Errors
    /// When the store or the connection's settings fail.
    pub async fn key(&self, tenant: TenantId, id: KeyId) -> Result<Option<Arc<KeyEntry>>, LoadError> {
        loop {
            if let Some(entry) = self.keys.get(&id) {
                return Ok((entry.tenant() == tenant && entry.view().is_ok()).then_some(entry));
            }
            let began = self.keys.load_begins();
            let key = match self.store.key(tenant, id).await {
                Ok(key) => key,
                Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let versions = self.store.key_versions(tenant, id).await?;
            let Some(connection) = self.connection(tenant, key.connection).await? else {
                // Detached since its row was read, and its connection deleted; or damage.
                match self.store.key(tenant, id).await {
                    Ok(again) if again.connection == key.connection => {
                        return Err(StoreError::Damaged("a key's connection is missing").into());
                    }
                    Ok(_) => continue,
                    Err(StoreError::NotFound) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            };
            let view = KeyView {
                key: Arc::new(key),
                versions: versions.into(),
            };
            if let Some(entry) = self.keys.insert(id, Arc::new(KeyEntry::new(view, connection)), began) {
                return Ok(entry.view().is_ok().then_some(entry));
            }
        }
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
            self.names
                .remove_if((entry.tenant(), view.key.name.clone()), |id| *id == entry.id());
        }
        entry.close();
    }

    /// Makes room for a key that is adopted again under the id of a detached one; after
    /// the commit.
    pub fn readopted(&self, id: KeyId) {
        if let Some(closed) = self.keys.get(&id)
            && closed.view().is_err()
        {
            self.keys.remove_if(id, |there| Arc::ptr_eq(there, &closed));
        }
    }

    /// A connection by id; `None` when the tenant has none of that id.
    ///
    /// # Errors
    /// When the store or the connection's settings fail.
    pub async fn connection(&self, tenant: TenantId, id: ConnectionId) -> Result<Option<Arc<ConnectionEntry>>, LoadError> {
        loop {
            if let Some(entry) = self.connections.get(&id) {
                return Ok((entry.tenant() == tenant).then_some(entry));
            }
            let began = self.connections.load_begins();
            let connection = match self.store.connection(tenant, id).await {
                Ok(connection) => connection,
                Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let pipeline = self.factories.connect(self.store.as_ref(), &connection, &[]).await?;
            let loaded = Arc::new(ConnectionEntry::new(connection, pipeline));
            if let Some(entry) = self.connections.insert(id, loaded, began) {
                return Ok(Some(entry));
            }
        }
    }

    /// The way to a connection's provider as it will be once these secrets take the place of
    /// kept ones of the same names; nothing is reached, and nothing changes yet.
    ///
    /// # Errors
    /// When the store fails, or the provider cannot be made from them.
    pub async fn connect_anew(&self, connection: &Connection, replaced: &[(SealedName, Secret)]) -> Result<Pipeline, LoadError> {
        self.factories.connect(self.store.as_ref(), connection, replaced).await
    }

    /// Forgets a deleted connection, after the commit.
    pub fn forget_connection(&self, id: ConnectionId) {
        self.connections.remove_if(id, |_| true);
    }

    /// A tenant's seal keys and context-hash key.
    ///
    /// # Errors
    /// When the store fails or they do not open.
    pub async fn secrets(&self, tenant: TenantId) -> Result<Arc<TenantSecrets>, LoadError> {
        loop {
            if let Some(secrets) = self.secrets.get(&tenant) {
                return Ok(secrets);
            }
            let began = self.secrets.load_begins();
            let loaded = Arc::new(TenantSecrets::load(self.store.as_ref(), tenant).await?);
            if let Some(secrets) = self.secrets.insert(tenant, loaded, began) {
                return Ok(secrets);
            }
        }
    }

    /// How many connections are in memory, and how many of their circuit breakers are open.
    pub fn breakers(&self) -> (usize, usize) {
        self.connections.count(|entry| entry.pipeline().breaker() == BreakerState::Open)
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

#[cfg(test)]
mod tests;
