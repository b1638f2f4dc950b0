//! The keys and connections in memory, loaded from the store at their first use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use claviger_provider::layers::BreakerState;
use claviger_provider::{
    ConnectionId, Error, ErrorKind, KeyId, LoginStatus, Pipeline, ProviderKind, SealedName, Secret, SeverSwitch, TenantId,
};
use dashmap::DashSet;

use super::entry::{ConnectionEntry, KeyEntry};
use super::errors::LoadError;
use super::looks::Looks;
use super::names::Names;
use super::unstored::Unstored;
use super::unusable::Reason;
use super::view::KeyView;
use super::{Factories, TenantSecrets};
use crate::loading_cache::{LoadingCache, WhenFull};
use crate::store::model::{Connection, Key, KeySelector, KeyVersion};
use crate::store::{Store, StoreError};

/// How many entries of each kind stay in memory. Entries that a request holds count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Keys; one with large labels or many versions counts as several, an eighth at most.
    pub keys: usize,
    /// Names of keys.
    pub names: usize,
    /// Connections, each with its pipeline.
    pub connections: usize,
    /// Tenants' seal keys and context-hash keys.
    pub tenants: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            keys: 100_000,
            names: 100_000,
            connections: 100_000,
            tenants: 100_000,
        }
    }
}

/// The keys and connections in memory. A lookup that finds its entry in memory does no I/O. Another
/// lookup reads the store once.
///
/// There is at most one open gate for a key or connection, because [`LoadingCache`] never evicts an
/// entry that somebody holds. A change therefore takes three steps: look the entry up and hold its
/// `change` lock, commit, put the committed row into the entry. Lookups that run meanwhile find
/// that entry; loads that read before the commit read again.
pub struct Directory {
    store: Arc<dyn Store>,
    factories: Factories,
    /// By tenant and id: an operator chooses ids, so two tenants can have one.
    keys: LoadingCache<(TenantId, KeyId), Arc<KeyEntry>>,
    names: Names,
    connections: LoadingCache<ConnectionId, Arc<ConnectionEntry>>,
    secrets: LoadingCache<TenantId, Arc<TenantSecrets>>,
    reserved: Arc<DashSet<(TenantId, String)>>,
    unstored_disables: Unstored<Key>,
    unstored_severs: Unstored<Connection>,
    looks: Looks,
}

/// A name that a key is being made under; free again when dropped.
pub struct Reserved {
    names: Arc<DashSet<(TenantId, String)>>,
    name: (TenantId, String),
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.names.remove(&self.name);
    }
}

impl Directory {
    /// An empty directory over this store, with these provider families.
    pub fn new(store: Arc<dyn Store>, factories: Factories, capacity: Capacity) -> Self {
        Self {
            store,
            factories,
            keys: LoadingCache::new("keys", capacity.keys, |entry| Arc::strong_count(entry) == 1)
                .shared(|(tenant, _), _| *tenant, |entry: &Arc<KeyEntry>| entry.places()),
            names: Names::new(capacity.names),
            connections: LoadingCache::new("connections", capacity.connections, |entry| Arc::strong_count(entry) == 1),
            secrets: LoadingCache::new("tenants", capacity.tenants, |_| true),
            reserved: Arc::default(),
            unstored_disables: Unstored::default(),
            unstored_severs: Unstored::default(),
            looks: Looks::default(),
        }
    }

    /// The provider families of this installation.
    pub const fn factories(&self) -> &Factories {
        &self.factories
    }

    /// A key by name, with `only` of these keys alone: what that costs does not depend on the tenant's other keys.
    /// `None` when none of them has that name.
    ///
    /// # Errors
    /// When the store fails, or memory has no room.
    pub async fn key_by_name(
        &self,
        tenant: TenantId,
        name: &str,
        only: Option<&BTreeSet<KeyId>>,
    ) -> Result<Option<Arc<KeyEntry>>, LoadError> {
        self.named(tenant, name, only, WhenFull::Refuse).await
    }

    /// As [`Directory::key_by_name`], for a disable, which may exceed the number of entries, so
    /// that it never fails for lack of room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn key_to_disable(
        &self,
        tenant: TenantId,
        name: &str,
        only: Option<&BTreeSet<KeyId>>,
    ) -> Result<Option<Arc<KeyEntry>>, LoadError> {
        self.named(tenant, name, only, WhenFull::Exceed).await
    }

    async fn named(
        &self,
        tenant: TenantId,
        name: &str,
        only: Option<&BTreeSet<KeyId>>,
        when_full: WhenFull,
    ) -> Result<Option<Arc<KeyEntry>>, LoadError> {
        // Names in memory are those of other keys, too: one of theirs is as good as none.
        let in_memory = self.names.get(tenant, name);
        let in_memory = in_memory.filter(|id| only.is_none_or(|only| only.contains(id)));
        if let Some(id) = in_memory
            && let Some(entry) = self.keys.get(&(tenant, id))
            && entry.is_named(name)
        {
            return Ok(Some(entry));
        }
        let selector = match only {
            None => KeySelector::Name(name),
            Some(only) => KeySelector::NameAmong(name, only),
        };
        let found = self.load(tenant, selector, when_full).await?;
        if let Some(entry) = &found {
            self.names.put(tenant, name, entry.id());
        }
        // The key may have been renamed while it was loaded. Then another key has this name, or
        // none.
        Ok(found.filter(|entry| entry.is_named(name)))
    }

    /// A key by id; `None` when the tenant has no key of that id.
    ///
    /// # Errors
    /// When the store fails, or memory has no room.
    pub async fn key(&self, tenant: TenantId, id: KeyId) -> Result<Option<Arc<KeyEntry>>, LoadError> {
        match self.keys.get(&(tenant, id)) {
            Some(entry) if !entry.is_closed() => Ok(Some(entry)),
            Some(_) | None => self.load(tenant, KeySelector::Id(id), WhenFull::Refuse).await,
        }
    }

    /// The connection that one of the key's versions is reached through; `None` when it does not
    /// exist any more.
    ///
    /// # Errors
    /// When the store or the connection's settings fail, or memory has no room.
    pub async fn reach(&self, entry: &Arc<KeyEntry>, version: &KeyVersion) -> Result<Option<Arc<ConnectionEntry>>, LoadError> {
        let Some(id) = version.connection_id() else { return Ok(None) };
        let found = self.connection(entry.tenant(), id).await?;
        if found.is_none() {
            // The store never deletes a connection that a version of an attached key uses. So the
            // key was detached in the store, and memory does not know it yet.
            self.forget_key(entry);
        }
        Ok(found)
    }

    /// Reads a key from the store and puts it into memory.
    async fn load(&self, tenant: TenantId, selector: KeySelector<'_>, when_full: WhenFull) -> Result<Option<Arc<KeyEntry>>, LoadError> {
        loop {
            let load = match selector {
                KeySelector::Id(id) => self.keys.loads().begin((tenant, id)),
                KeySelector::Name(_) | KeySelector::NameAmong(..) => self.keys.loads().begin_unknown(),
            };
            let mut snapshot = match self.store.key_snapshot(tenant, selector).await {
                Ok(snapshot) => snapshot,
                Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            self.unstored_disables.apply(&mut snapshot.key);
            let id = snapshot.key.id;
            let view = KeyView {
                key: Arc::new(snapshot.key),
                versions: snapshot.versions.into(),
            };
            let loaded = Arc::new(KeyEntry::new(view, Arc::clone(self.keys.loads()), Arc::clone(self.keys.room())));
            if let Some(entry) = self.keys.insert((tenant, id), loaded, &load, when_full)? {
                return Ok((!entry.is_closed()).then_some(entry));
            }
        }
    }

    /// Reserves a name while a key is made under it; `None` when another request has reserved it.
    pub fn reserve_name(&self, tenant: TenantId, name: &str) -> Option<Reserved> {
        let name = (tenant, name.to_owned());
        self.reserved.insert(name.clone()).then(|| Reserved {
            names: Arc::clone(&self.reserved),
            name,
        })
    }

    /// Closes a detached key's gate and forgets it. Call it after the commit, with the key's
    /// `change` lock held.
    pub fn detached(&self, entry: &Arc<KeyEntry>) {
        self.forget_key(entry);
    }

    /// Applies a committed disable: the row goes into the gate, if the key is in memory, and loads
    /// under way read again in any case. An older row than the one in memory changes nothing.
    pub fn key_revoked(&self, row: &Key) {
        self.keys.loads().note_change(&(row.tenant, row.id));
        if let Some(entry) = self.keys.peek(&(row.tenant, row.id)) {
            entry.put_revoked(row);
        }
    }

    /// As [`Directory::key_revoked`], for a committed sever.
    pub fn connection_revoked(&self, row: &Connection) {
        self.connections.loads().note_change(&row.id);
        if let Some(entry) = self.connections.peek(&row.id) {
            entry.put_revoked(row);
        }
    }

    /// Keeps a disable that the store could not take until [`Directory::key_stored`]: the key stays
    /// disabled also when it leaves memory and is loaded again.
    pub fn keep_disabled(&self, row: &Key) {
        self.unstored_disables.keep(row);
    }

    /// As [`Directory::keep_disabled`], for a sever.
    pub fn keep_severed(&self, row: &Connection) {
        self.unstored_severs.keep(row);
    }

    /// The store has the row of a kept disable, or the key was enabled.
    pub fn key_stored(&self, tenant: TenantId, id: KeyId) {
        self.unstored_disables.forget(&(tenant, id));
    }

    /// As [`Directory::key_stored`], for a sever.
    pub fn connection_stored(&self, id: ConnectionId) {
        self.unstored_severs.forget(&id);
    }

    /// Notes that a key was adopted again under the id of a detached one; after the commit.
    pub fn readopted(&self, tenant: TenantId, id: KeyId) {
        self.keys.loads().note_change(&(tenant, id));
        self.keys.remove_if(&(tenant, id), |entry| entry.is_closed());
    }

    /// Closes an entry, so that nothing made with it is handed over any more, and makes room for
    /// the next entry of its id.
    fn forget_key(&self, entry: &Arc<KeyEntry>) {
        entry.close();
        self.keys
            .remove_if(&(entry.tenant(), entry.id()), |there| Arc::ptr_eq(there, entry));
    }

    /// A connection by id; `None` when the tenant has no connection of that id.
    ///
    /// # Errors
    /// When the store or the connection's settings fail, or memory has no room.
    pub async fn connection(&self, tenant: TenantId, id: ConnectionId) -> Result<Option<Arc<ConnectionEntry>>, LoadError> {
        self.connected(tenant, id, WhenFull::Refuse).await
    }

    /// As [`Directory::connection`], for a sever, which may exceed the number of entries, so that
    /// it never fails for lack of room.
    ///
    /// # Errors
    /// When the store or the connection's settings fail.
    pub async fn connection_to_sever(&self, tenant: TenantId, id: ConnectionId) -> Result<Option<Arc<ConnectionEntry>>, LoadError> {
        self.connected(tenant, id, WhenFull::Exceed).await
    }

    async fn connected(&self, tenant: TenantId, id: ConnectionId, when_full: WhenFull) -> Result<Option<Arc<ConnectionEntry>>, LoadError> {
        if let Some(entry) = self.connections.get(&id) {
            return Ok((entry.tenant() == tenant).then_some(entry));
        }
        loop {
            let load = self.connections.loads().begin(id);
            let mut snapshot = match self.store.connection_snapshot(tenant, id).await {
                Ok(snapshot) => snapshot,
                Err(StoreError::NotFound) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            self.unstored_severs.apply(&mut snapshot.connection);
            let (connection, loads) = (&snapshot.connection, Arc::clone(self.connections.loads()));
            let loaded = match self.factories.connect(&snapshot, &[], SeverSwitch::default()).await {
                Ok(pipeline) => ConnectionEntry::new(snapshot.connection, pipeline, loads),
                // It can still be shown, severed, changed and deleted.
                Err(error) if matches!(error.kind, ErrorKind::Misconfigured | ErrorKind::Unsupported) => {
                    tracing::warn!(connection = %id, name = connection.name, %error, "no provider can be made of a connection's settings");
                    let reason = Reason::of(&error);
                    let switch = SeverSwitch::default();
                    if connection.severed {
                        switch.sever();
                    }
                    let pipeline = self.factories.unusable(connection, reason.clone(), switch);
                    ConnectionEntry::new(snapshot.connection, pipeline, loads).unusable(reason)
                }
                Err(error) => return Err(error.into()),
            };
            if let Some(entry) = self.connections.insert(id, Arc::new(loaded), &load, when_full)? {
                return Ok(Some(entry));
            }
        }
    }

    /// The pipeline that a connection will have once these secrets replace the stored ones of
    /// the same names and `connection` is its row; `switch` stops its traffic. No provider is called,
    /// and nothing changes.
    ///
    /// # Errors
    /// When the store fails, or no provider can be made from them.
    pub async fn connect_anew(
        &self,
        connection: &Connection,
        replaced: &[(SealedName, Secret)],
        switch: SeverSwitch,
    ) -> Result<Pipeline, LoadError> {
        let mut snapshot = self.store.connection_snapshot(connection.tenant, connection.id).await?;
        snapshot.connection = connection.clone();
        Ok(self.factories.connect(&snapshot, replaced, switch).await?)
    }

    /// Why no provider can be made of a connection in memory; `None` for one that can be used.
    pub fn unusable(&self, id: ConnectionId) -> Option<Error> {
        self.connections.peek(&id)?.why_unusable()
    }

    /// Forgets a deleted connection, after the commit.
    pub fn forget_connection(&self, id: ConnectionId) {
        self.connections.loads().note_change(&id);
        self.connections.remove_if(&id, |_| true);
    }

    /// A tenant's seal keys and context-hash key.
    ///
    /// # Errors
    /// When the store fails or they cannot be opened.
    pub async fn secrets(&self, tenant: TenantId) -> Result<Arc<TenantSecrets>, LoadError> {
        if let Some(secrets) = self.secrets.get(&tenant) {
            return Ok(secrets);
        }
        loop {
            let load = self.secrets.loads().begin(tenant);
            let loaded = Arc::new(TenantSecrets::load(self.store.as_ref(), tenant).await?);
            if let Some(secrets) = self.secrets.insert(tenant, loaded, &load, WhenFull::Refuse)? {
                return Ok(secrets);
            }
        }
    }

    /// Makes the pipeline of a connection in memory anew, because its files of secrets are others. No provider is
    /// called. A severed one gets its pipeline when it is restored.
    ///
    /// # Errors
    /// When the store fails, or no provider can be made.
    pub async fn reconnect(&self, id: ConnectionId) -> Result<(), LoadError> {
        let Some(entry) = self.connections.peek(&id) else { return Ok(()) };
        let _one_at_a_time = entry.change().lock().await;
        let row = Connection::clone(&entry.view());
        if !row.severed {
            let pipeline = self.connect_anew(&row, &[], entry.switch()).await?;
            entry.put_with(row, pipeline);
        }
        Ok(())
    }

    /// Notes that a request calls a provider of a key. Nobody but the gateway changes keys of the embedded provider,
    /// so calls to that one do not count.
    pub fn note_use(&self, key: &KeyEntry, provider: ProviderKind, now: Instant) {
        if provider != ProviderKind::Local && key.in_use().note(now) && !self.looks.enter(key.tenant(), key.id(), now) {
            key.in_use().end();
        }
    }

    /// The keys that are in use and to be looked at now at their providers, at most `most` and at most `of_tenant` of
    /// each tenant, the tenants that wait longest first. They stay due until [`Directory::looked`].
    pub fn keys_to_look_at(&self, now: Instant, most: usize, of_tenant: usize) -> Vec<(TenantId, Vec<Arc<KeyEntry>>)> {
        let in_use = |tenant, key| self.keys.peek(&(tenant, key)).filter(|entry| entry.in_use().lasts(now));
        self.looks.due(now, most, of_tenant, in_use)
    }

    /// Notes that a key was looked at, or could not be.
    pub fn looked(&self, key: &KeyEntry, now: Instant) {
        if !self.looks.looked(key.tenant(), key.id(), now) {
            key.in_use().end();
        }
    }

    /// Has a key that is in use looked at a minute after the last look.
    pub fn look_soon(&self, key: &KeyEntry) {
        self.looks.look_soon(key.tenant(), key.id());
    }

    /// The states of the logins of the connections in memory.
    pub fn logins(&self) -> Vec<(ConnectionId, LoginStatus)> {
        self.connections.collect(|entry| Some((entry.id(), entry.pipeline().login()?)))
    }

    /// How many connections are in memory, and how many of them have an open circuit breaker.
    pub fn breakers(&self) -> (usize, usize) {
        self.connections.count(|entry| entry.pipeline().breaker() == BreakerState::Open)
    }

    /// How many connections have keys with an open circuit, while their own is not open.
    pub fn connections_with_open_keys(&self) -> usize {
        let bad = |pipeline: Pipeline| pipeline.breaker() != BreakerState::Open && pipeline.open_keys() > 0;
        self.connections.count(|entry| bad(entry.pipeline())).1
    }
}

#[cfg(test)]
mod tests;
