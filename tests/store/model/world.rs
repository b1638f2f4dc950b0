//! The store that a sequence runs on, and its comparison with the model.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger::store::model::{CacheSettings, Connection, Key, KeyFilter, KeyPatch, KeyVersion};
use claviger::store::{Store, StoreError};
use claviger_provider::{ClaimSpan, TenantId};

use super::{CONNECTIONS, IDS, Model, NAMES, Op, PROVIDER_KEYS, TENANTS, id_of, label_of, name_of};
use crate::support::{NONE, first, key, new_tenant, refused, through};

/// Where a sequence takes place: tenants and connections of its own.
pub struct World {
    store: Arc<dyn Store>,
    /// Provider keys are unique in the installation, so that each sequence has its own.
    number: u32,
    tenants: Vec<(TenantId, Vec<Connection>)>,
}

impl World {
    pub async fn new(store: Arc<dyn Store>, number: u32) -> Self {
        let mut tenants = Vec::new();
        for tenant in 0..TENANTS {
            let id = new_tenant(&*store, &format!("s{number}-{tenant}")).await;
            let mut connections = Vec::new();
            for connection in 0..CONNECTIONS {
                let mut row = crate::support::connection(id, &format!("c{connection}"));
                if connection == CONNECTIONS - 1 {
                    row.claims = ClaimSpan::INSTALLATION;
                }
                store.create_connection(&row, Vec::new(), &NONE).await.unwrap();
                connections.push(row);
            }
            tenants.push((id, connections));
        }
        Self { store, number, tenants }
    }

    fn provider_key(&self, provider_key: u8) -> String {
        format!("s{}/{provider_key}", self.number)
    }

    fn version(&self, connection: &Connection, (number, provider_key, name): (u32, u8, u8)) -> KeyVersion {
        let name = if name == 0 { String::new() } else { format!("v{name}") };
        through(connection, number, &self.provider_key(provider_key), &name)
    }

    pub async fn apply(&self, op: &Op) -> Result<(), StoreError> {
        let store = &self.store;
        match op {
            Op::Create {
                tenant,
                connection,
                id,
                name,
                label,
                versions,
                primary,
            } => {
                let connection = &self.tenants[*tenant].1[*connection];
                let versions: Vec<_> = versions.iter().map(|version| self.version(connection, *version)).collect();
                let mut new = key(connection, &name_of(*name), "none");
                new.id = id_of(*id);
                new.labels = label_of(*label);
                new.primary.number = *primary;
                if let Some(version) = versions.iter().find(|version| version.number == *primary) {
                    new.primary.clone_from(version);
                }
                store.create_key(&new, &versions, &NONE).await.map(drop)
            }
            Op::Update {
                tenant,
                id,
                stale,
                name,
                label,
                cached,
            } => {
                let tenant = self.tenants[*tenant].0;
                let revision = store.key(tenant, id_of(*id)).await.map_or(0, |key| key.revision);
                let patch = KeyPatch {
                    expected_revision: revision + u64::from(*stale),
                    name: name.map(name_of),
                    labels: label.map(label_of),
                    cache: cached.map(|on| CacheSettings {
                        enabled: Some(on),
                        ..CacheSettings::default()
                    }),
                    allow_export: None,
                    at: 0,
                };
                store.update_key(tenant, id_of(*id), &patch, &NONE).await.map(drop)
            }
            Op::Disable { tenant, id, disabled } => store
                .set_key_disabled(self.tenants[*tenant].0, id_of(*id), *disabled, 0, &NONE)
                .await
                .map(drop),
            Op::Add {
                tenant,
                id,
                versions,
                primary,
            } => {
                let (id_in_store, connections) = &self.tenants[*tenant];
                let through = store
                    .key(*id_in_store, id_of(*id))
                    .await
                    .ok()
                    .and_then(|key| key.primary.connection_id());
                let connection = connections.iter().find(|connection| Some(connection.id) == through);
                let connection = connection.unwrap_or(&connections[0]);
                let versions: Vec<_> = versions.iter().map(|version| self.version(connection, *version)).collect();
                store
                    .add_key_versions(self.tenants[*tenant].0, id_of(*id), &versions, *primary, 0, &NONE)
                    .await
                    .map(drop)
            }
            Op::Detach { tenant, id } => store.detach_key(self.tenants[*tenant].0, id_of(*id), 0, &NONE).await.map(drop),
        }
    }

    /// Every read gives what the model has.
    pub async fn compare(&self, model: &Model) {
        for (number, (tenant, connections)) in self.tenants.iter().enumerate() {
            for id in 0..IDS {
                self.compare_key(model, number, id).await;
            }
            for name in 0..NAMES {
                let expected = model
                    .keys
                    .iter()
                    .find(|(at, key)| at.0 == number && !key.detached && key.name == name);
                let found = self.store.key_by_name(*tenant, &name_of(name)).await.ok().map(|key| key.id);
                assert_eq!(found, expected.map(|(at, _)| id_of(at.1)));
            }
            for provider_key in 0..PROVIDER_KEYS {
                let expected = model.holder(number, provider_key).map(|(id, detached)| (id_of(id), detached));
                let kind = connections[0].provider;
                let holder = self
                    .store
                    .provider_key_holders(*tenant, kind, &self.provider_key(provider_key))
                    .await
                    .unwrap();
                assert_eq!(holder, Vec::from_iter(expected));
            }
            for (label, connection) in [(None, None), (Some(0), None), (Some(1), Some(0)), (None, Some(1))] {
                let mut expected: Vec<_> = model
                    .keys
                    .iter()
                    .filter(|(at, key)| at.0 == number && !key.detached)
                    .filter(|(_, key)| label.is_none_or(|label| key.label == label))
                    .filter(|(_, key)| connection.is_none_or(|connection| key.versions[&key.primary].2 == connection))
                    .map(|(_, key)| name_of(key.name))
                    .collect();
                expected.sort();
                let filter = KeyFilter {
                    connection: connection.map(|connection| connections[connection].id),
                    state: None,
                    label: label.map(|label| label_of(label).pop_first().unwrap()),
                    only: None,
                };
                let found = self.store.keys(*tenant, &filter, &first(100)).await.unwrap().items;
                assert_eq!(found.into_iter().map(|key| key.name).collect::<Vec<_>>(), expected);
            }
        }
    }

    async fn compare_key(&self, model: &Model, number: usize, id: u8) {
        let (tenant, connections) = &self.tenants[number];
        let found = self.store.key(*tenant, id_of(id)).await;
        let versions = self.store.key_versions(*tenant, id_of(id)).await;
        let Some(expected) = model.keys.get(&(number, id)) else {
            refused!(found, StoreError::NotFound);
            refused!(versions, StoreError::NotFound);
            return;
        };
        let told: BTreeMap<_, _> = versions
            .unwrap()
            .into_iter()
            .map(|v| {
                (
                    v.number,
                    (v.connection.map(|connection| connection.id), v.provider_key, v.provider_version),
                )
            })
            .collect();
        let versions: BTreeMap<_, _> = expected
            .versions
            .iter()
            .map(|(number, (provider_key, name, connection))| self.version(&connections[*connection], (*number, *provider_key, *name)))
            .map(|v| {
                (
                    v.number,
                    (v.connection.map(|connection| connection.id), v.provider_key, v.provider_version),
                )
            })
            .collect();
        assert_eq!(told, versions);
        if expected.detached {
            refused!(found, StoreError::NotFound);
            return;
        }
        let key: Key = found.unwrap();
        assert_eq!(
            (
                key.name,
                key.labels,
                key.state.is_disabled(),
                key.cache.enabled,
                key.epoch,
                key.revision,
                key.primary.number
            ),
            (
                name_of(expected.name),
                label_of(expected.label),
                expected.disabled,
                expected.cached,
                expected.epoch,
                expected.revision,
                expected.primary
            )
        );
        let primary = key.primary;
        let named = (
            primary.connection.map(|connection| connection.id),
            primary.provider_key,
            primary.provider_version,
        );
        assert_eq!(named, versions[&expected.primary]);
    }
}
