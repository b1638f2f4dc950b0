//! What tests of this module and of those above it stand on: a real store in a folder of its
//! own, a tenant, and a connection to a stand-in of a provider.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::layers::PipelineConfig;
use claviger_provider::{
    Call, Capabilities, ClaimSpan, ConnectionId, ConnectionParts, Error, Exposure, Factory, KeyId, KeySpec, Node, ParsedSettings,
    ProviderKind, SettingsError, SettingsOrigin, Shares, TenantId,
};
use claviger_testkit::{FakeConfig, FakeProvider, FakeServer};

use super::{Capacity, ConnectionEntry, Directory, EpochGuard, Factories, Gone, KeyEntry, TenantSecrets};
use crate::store::model::{
    CacheSettings, Connection, Custody, Key, KeyState, KeyVersion, Labels, Material, ProviderState, Tenant, Timeouts,
};
use crate::store::sealing::RootKey;
use crate::store::sqlite::SqliteStore;
use crate::store::{Change, Store};

/// A change without intent.
pub(crate) const PLAIN: Change = Change::unannounced();

/// A store with one tenant and one connection.
pub(crate) struct World {
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) tenant: TenantId,
    pub(crate) connection: Connection,
    /// What every connection of [`World::directory`] reaches.
    pub(crate) server: Arc<FakeServer>,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = RootKey::generate_to_file(&folder.path().join("root-key")).unwrap();
        let store = Arc::new(
            SqliteStore::create(&folder.path().join("claviger.db"), root, &Node::random())
                .await
                .unwrap(),
        );
        let tenant = new_tenant(store.as_ref(), "acme", false).await;
        let connection = new_connection(store.as_ref(), tenant, "main").await;
        Self {
            store,
            tenant,
            connection,
            server: FakeServer::new(),
            _folder: folder,
        }
    }

    /// A key that is in the store.
    pub(crate) async fn key(&self, name: &str) -> Key {
        new_key(self.store.as_ref(), &self.connection, name).await
    }

    /// A directory over the store.
    pub(crate) fn directory(&self) -> Directory {
        Directory::new(self.store.clone(), factories_at(&self.server), Capacity::default())
    }

    /// An entry that is in no directory.
    pub(crate) async fn loaded(&self, name: &str) -> Reached {
        let key = self.key(name).await;
        reached(&self.directory(), self.tenant, key.id).await.unwrap()
    }

    /// An epoch guard on a new key.
    pub(crate) async fn epoch_guard(&self, name: &str) -> EpochGuard {
        self.loaded(name).await.epoch_guard().unwrap()
    }
}

/// A key with the connection of its primary version.
#[derive(Clone)]
pub(crate) struct Reached {
    pub(crate) entry: Arc<KeyEntry>,
    pub(crate) connection: Arc<ConnectionEntry>,
}

impl Reached {
    pub(crate) const fn connection(&self) -> &Arc<ConnectionEntry> {
        &self.connection
    }

    /// For an answer that is made now.
    pub(crate) fn epoch_guard(&self) -> Result<EpochGuard, Gone> {
        let (view, row) = (self.entry.view()?, self.connection.view());
        Ok(EpochGuard::new(&self.entry, &view, &self.connection, &row))
    }

    /// Whether both are the same entry, not only the same key.
    pub(crate) fn is_same_gate(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entry, &other.entry)
    }
}

impl std::ops::Deref for Reached {
    type Target = KeyEntry;
    fn deref(&self) -> &KeyEntry {
        &self.entry
    }
}

/// A key and its primary version's connection; `None` if the key is detached.
pub(crate) async fn reached(directory: &Directory, tenant: TenantId, id: KeyId) -> Option<Reached> {
    connected(directory, directory.key(tenant, id).await.unwrap()?).await
}

/// As [`reached`], of an entry that was looked up.
pub(crate) async fn connected(directory: &Directory, entry: Arc<KeyEntry>) -> Option<Reached> {
    let version = entry.view().ok()?.key.primary.clone();
    let connection = directory.reach(&entry, &version).await.unwrap()?;
    entry.view().ok()?;
    Some(Reached { entry, connection })
}

pub(crate) async fn new_tenant(store: &dyn Store, name: &str, suspended: bool) -> TenantId {
    let tenant = Tenant {
        id: TenantId::random(),
        name: name.to_owned(),
        suspended,
        lifts: 0,
        created: 1,
    };
    store.create_tenant(&tenant, TenantSecrets::draw(tenant.id), &PLAIN).await.unwrap();
    tenant.id
}

/// A connection's row, not stored yet.
pub(crate) fn connection(tenant: TenantId, name: &str) -> Connection {
    Connection {
        id: ConnectionId::random(),
        tenant,
        name: name.to_owned(),
        provider: ProviderKind::Vault,
        settings: "{}".to_owned(),
        labels: Labels::new(),
        timeouts: Timeouts::default(),
        claims: ClaimSpan::Tenant,
        severed: false,
        epoch: 1,
        lifts: 0,
        managed_by: None,
        external_id: "0".repeat(32),
        revision: 1,
        created: 1,
        updated: 1,
    }
}

pub(crate) async fn new_connection(store: &dyn Store, tenant: TenantId, name: &str) -> Connection {
    let connection = connection(tenant, name);
    store.create_connection(&connection, Vec::new(), &PLAIN).await.unwrap();
    connection
}

/// A key's row with one version, not stored yet.
pub(crate) fn row(connection: &Connection, name: &str) -> (Key, KeyVersion) {
    let id = KeyId::random();
    let version = KeyVersion {
        number: 1,
        connection: Some(connection.into()),
        provider: connection.provider,
        provider_key: format!("provider/{id}"),
        provider_version: "1".to_owned(),
        spec: KeySpec::Aes256,
        custody: Custody::of(connection.provider),
        state: KeyState::Enabled,
        provider_state: ProviderState::Enabled,
        material: Material::of(connection.provider),
        expires: None,
        compromised_since: None,
        exposure: Exposure::NONE,
        created: 1,
    };
    let key = Key {
        id,
        tenant: connection.tenant,
        name: name.to_owned(),
        state: KeyState::Enabled,
        compromised_since: None,
        needs_restore: false,
        allow_export: false,
        primary: version.clone(),
        rotating: None,
        cache: CacheSettings::default(),
        labels: BTreeMap::new(),
        managed_by: None,
        epoch: 1,
        lifts: 0,
        revision: 1,
        created: 1,
        updated: 1,
    };
    (key, version)
}

pub(crate) async fn new_key(store: &dyn Store, connection: &Connection, name: &str) -> Key {
    let (key, version) = row(connection, name);
    store.create_key(&key, &[version], &PLAIN).await.unwrap()
}

/// One family, whose connections reach a server with nothing on it.
pub(crate) fn factories() -> Factories {
    factories_at(&FakeServer::new())
}

/// One family, whose connections reach this server.
fn factories_at(server: &Arc<FakeServer>) -> Factories {
    Factories::new(
        vec![Arc::new(Fakes(Arc::clone(server)))],
        PipelineConfig::default(),
        Shares::new(1024, 1024),
    )
}

struct Fakes(Arc<FakeServer>);

#[async_trait]
impl Factory for Fakes {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vault
    }

    fn capabilities(&self) -> Capabilities {
        FakeConfig::default().capabilities
    }

    fn parse(&self, settings: &str, _: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        Ok(ParsedSettings {
            public: settings.to_owned(),
            secrets: Vec::new(),
        })
    }

    fn network_settings(&self) -> &'static [&'static str] {
        &["address"]
    }

    async fn connect(&self, _: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(FakeProvider::new(Arc::clone(&self.0), FakeConfig::default())))
    }
}
