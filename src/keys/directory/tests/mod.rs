//! Lookups that race with changes. A lookup is held inside the store, after it read its row.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

mod room;

use std::sync::Arc;

use claviger_provider::TenantId;
use tokio::task::JoinSet;

use super::{Capacity, Directory};
use crate::keys::LoadError;
use crate::keys::fixture::{PLAIN, Reached, World, connected, factories, new_connection, new_tenant, reached};
use crate::store::model::{Key, KeyPatch};
use crate::store::pausing::PausingStore;
use crate::store::{Store, StoreError};

/// The reads of a load, in the order in which they are made.
const READS: [&str; 2] = ["key_snapshot", "connection_snapshot"];

/// A directory over a store whose methods can be made to wait.
struct Race {
    world: World,
    store: Arc<PausingStore>,
    directory: Arc<Directory>,
}

impl Race {
    async fn with_room(room: usize) -> Self {
        Self::with_capacity(Capacity {
            keys: room,
            names: room,
            connections: room,
            tenants: room,
        })
        .await
    }

    async fn with_capacity(capacity: Capacity) -> Self {
        let world = World::new().await;
        let store = PausingStore::new(world.store.clone());
        let directory = Arc::new(Directory::new(store.clone(), factories(), capacity));
        Self { world, store, directory }
    }

    async fn new() -> Self {
        Self::with_capacity(Capacity::default()).await
    }

    /// A lookup that runs on its own.
    fn lookup(&self, key: &Key) -> tokio::task::JoinHandle<Option<Reached>> {
        let (directory, tenant, id) = (Arc::clone(&self.directory), key.tenant, key.id);
        tokio::spawn(async move { reached(&directory, tenant, id).await })
    }

    async fn entry(&self, key: &Key) -> Reached {
        reached(&self.directory, key.tenant, key.id).await.unwrap()
    }

    async fn named(&self, tenant: TenantId, name: &str) -> Option<Reached> {
        let found = self.directory.key_by_name(tenant, name, None).await.unwrap()?;
        connected(&self.directory, found).await
    }

    /// Disables a key as the broker does.
    async fn disable(&self, key: &Key) {
        let entry = self.entry(key).await;
        let _one_at_a_time = entry.change().lock().await;
        let committed = self.store.set_key_disabled(key.tenant, key.id, true, 2, &PLAIN).await.unwrap();
        entry.put(committed, None);
    }

    /// Renames a key as the broker does.
    async fn rename(&self, key: &Key, name: &str) {
        let entry = self.entry(key).await;
        let _one_at_a_time = entry.change().lock().await;
        let patch = KeyPatch {
            expected_revision: entry.view().unwrap().key.revision,
            name: Some(name.to_owned()),
            ..KeyPatch::default()
        };
        let committed = self.store.update_key(key.tenant, key.id, &patch, &PLAIN).await.unwrap();
        entry.put(committed, None);
    }

    /// Detaches a key as the broker does.
    async fn detach(&self, key: &Key) {
        let entry = self.entry(key).await;
        let _one_at_a_time = entry.change().lock().await;
        self.store.detach_key(key.tenant, key.id, 2, &PLAIN).await.unwrap();
        self.directory.detached(&entry.entry);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_loads_make_one_entry() {
    let race = Race::new().await;
    let key = race.world.key("one").await;
    let mut lookups = JoinSet::new();
    for at in 0..64 {
        let (directory, tenant, id) = (Arc::clone(&race.directory), key.tenant, key.id);
        lookups.spawn(async move {
            match at % 2 {
                0 => reached(&directory, tenant, id).await.unwrap(),
                _ => {
                    let found = directory.key_by_name(tenant, "one", None).await.unwrap().unwrap();
                    connected(&directory, found).await.unwrap()
                }
            }
        });
    }
    let entries = lookups.join_all().await;
    assert!(entries.iter().all(|entry| entry.is_same_gate(&entries[0])));
    assert!(entries.iter().all(|entry| Arc::ptr_eq(entry.connection(), entries[0].connection())));
}

#[tokio::test]
async fn another_tenants_key_is_not_there() {
    let race = Race::new().await;
    let key = race.world.key("mine").await;
    let other = new_tenant(race.world.store.as_ref(), "other", false).await;
    assert!(race.directory.key(other, key.id).await.unwrap().is_none(), "from the store");
    race.entry(&key).await;
    assert!(race.directory.key(other, key.id).await.unwrap().is_none(), "from memory");
    assert!(race.named(other, "mine").await.is_none());
    assert!(
        race.directory
            .connection(other, key.primary.connection_id().unwrap())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_lookup_that_read_before_a_disable_finds_the_key_disabled() {
    for method in READS {
        let race = Race::new().await;
        let key = race.world.key("k").await;
        let pause = race.store.pause_next(method);
        let lookup = race.lookup(&key);
        let reached = pause.reached().await;
        race.disable(&key).await;
        reached.resume();
        let found = lookup.await.unwrap().unwrap();
        assert!(found.view().unwrap().key.state.is_disabled(), "{method}");
        assert!(found.is_same_gate(&race.entry(&key).await), "{method}");
    }
}

#[tokio::test]
async fn nor_does_it_bring_the_old_row_back_once_the_entry_was_dropped_for_room() {
    let race = Race::with_room(1).await;
    let key = race.world.key("k").await;
    // A lookup of its connection holds the key's entry, which is never dropped for room.
    let pause = race.store.pause_next("key_snapshot");
    let lookup = race.lookup(&key);
    let reached = pause.reached().await;
    race.disable(&key).await;
    let gate = Arc::downgrade(&race.entry(&key).await.entry);
    for other in 0..4 {
        let other = race.world.key(&format!("other-{other}")).await;
        race.entry(&other).await;
    }
    assert!(gate.upgrade().is_none(), "the disabled key's entry was to be dropped");
    reached.resume();
    let found = lookup.await.unwrap().unwrap();
    assert!(found.view().unwrap().key.state.is_disabled());
}

#[tokio::test]
async fn a_lookup_that_read_before_a_detach_finds_nothing() {
    for method in READS {
        let race = Race::new().await;
        let key = race.world.key("k").await;
        let pause = race.store.pause_next(method);
        let lookup = race.lookup(&key);
        let reached = pause.reached().await;
        race.detach(&key).await;
        reached.resume();
        assert!(lookup.await.unwrap().is_none(), "{method}");
        assert!(race.named(key.tenant, "k").await.is_none(), "{method}");
    }
}

#[tokio::test]
async fn a_lookup_that_read_before_a_key_was_adopted_again_finds_the_new_row() {
    let race = Race::new().await;
    let key = race.world.key("k").await;
    let pause = race.store.pause_next("key_snapshot");
    let lookup = race.lookup(&key);
    let reached = pause.reached().await;
    race.detach(&key).await;
    let again = Key {
        name: "again".to_owned(),
        ..key.clone()
    };
    let stored = race
        .store
        .create_key(&again, std::slice::from_ref(&key.primary), &PLAIN)
        .await
        .unwrap();
    race.directory.readopted(key.tenant, key.id);
    reached.resume();
    let found = lookup.await.unwrap().unwrap();
    let view = found.view().unwrap();
    assert_eq!((view.key.name.as_str(), view.key.epoch), ("again", stored.epoch));
    assert!(stored.epoch > key.epoch);
    assert!(found.is_same_gate(&race.named(key.tenant, "again").await.unwrap()));
    assert!(race.named(key.tenant, "k").await.is_none());
}

#[tokio::test]
async fn making_room_for_an_adopted_key_drops_no_open_entry() {
    let race = Race::new().await;
    let key = race.world.key("k").await;
    let entry = race.entry(&key).await;
    race.directory.readopted(key.tenant, key.id);
    assert!(entry.is_same_gate(&race.entry(&key).await));
}

#[tokio::test]
async fn a_lookup_by_name_that_read_before_a_rename_does_not_follow_the_old_name() {
    let race = Race::new().await;
    let key = race.world.key("old").await;
    let pause = race.store.pause_next("key_snapshot");
    let (directory, tenant) = (Arc::clone(&race.directory), key.tenant);
    let lookup = tokio::spawn(async move { directory.key_by_name(tenant, "old", None).await.unwrap() });
    let reached = pause.reached().await;
    race.rename(&key, "new").await;
    reached.resume();
    assert!(lookup.await.unwrap().is_none());
    assert_eq!(race.named(tenant, "new").await.unwrap().id(), key.id);
    // The name is free, and leads to whoever has it next.
    let next = race.world.key("old").await;
    assert_eq!(race.named(tenant, "old").await.unwrap().id(), next.id);
    race.rename(&next, "older").await;
    assert!(race.named(tenant, "old").await.is_none());
    race.rename(&key, "old").await;
    assert_eq!(race.named(tenant, "old").await.unwrap().id(), key.id);
}

#[tokio::test]
async fn a_lookup_that_read_before_a_connection_was_deleted_finds_nothing() {
    let race = Race::new().await;
    let connection = new_connection(race.world.store.as_ref(), race.world.tenant, "unused").await;
    let pause = race.store.pause_next("connection_snapshot");
    let (directory, tenant) = (Arc::clone(&race.directory), race.world.tenant);
    let lookup = tokio::spawn(async move { directory.connection(tenant, connection.id).await.unwrap() });
    let reached = pause.reached().await;
    let entry = race.directory.connection(tenant, connection.id).await.unwrap().unwrap();
    race.store.delete_connection(tenant, entry.id(), &PLAIN).await.unwrap();
    race.directory.forget_connection(entry.id());
    reached.resume();
    assert!(lookup.await.unwrap().is_none());
    assert_eq!(race.directory.breakers(), (0, 0));
}

#[tokio::test]
async fn a_lookup_of_a_key_that_goes_with_its_connection_meanwhile_finds_nothing() {
    let race = Race::new().await;
    let key = race.world.key("k").await;
    let pause = race.store.pause_next("key_snapshot");
    let lookup = race.lookup(&key);
    let reached = pause.reached().await;
    // On another node, as far as this directory knows: it holds neither.
    race.world.store.detach_key(key.tenant, key.id, 2, &PLAIN).await.unwrap();
    race.world
        .store
        .delete_connection(key.tenant, key.primary.connection_id().unwrap(), &PLAIN)
        .await
        .unwrap();
    reached.resume();
    assert!(lookup.await.unwrap().is_none());
}

#[tokio::test]
async fn names_of_nothing_and_damage_are_told_apart() {
    let race = Race::new().await;
    assert!(race.named(race.world.tenant, "nothing").await.is_none());
    assert!(
        race.directory
            .key(race.world.tenant, claviger_provider::KeyId::random())
            .await
            .unwrap()
            .is_none()
    );
    let nobody = TenantId::random();
    assert!(matches!(
        race.directory.secrets(nobody).await,
        Err(LoadError::Store(StoreError::Damaged(_)))
    ));
    let secrets = race.directory.secrets(race.world.tenant).await.unwrap();
    assert!(Arc::ptr_eq(&secrets, &race.directory.secrets(race.world.tenant).await.unwrap()));
}

#[tokio::test]
async fn a_name_is_reserved_once() {
    let race = Race::new().await;
    let other = TenantId::random();
    let first = race.directory.reserve_name(race.world.tenant, "n").unwrap();
    assert!(race.directory.reserve_name(race.world.tenant, "n").is_none());
    assert!(race.directory.reserve_name(other, "n").is_some());
    drop(first);
    assert!(race.directory.reserve_name(race.world.tenant, "n").is_some());
}
