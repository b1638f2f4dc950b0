//! Lookups that race with changes. A lookup is held inside the store, after it read its row.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use claviger_provider::TenantId;
use tokio::task::JoinSet;

use super::{Capacity, Directory, LoadError};
use crate::keys::fixture::{PLAIN, World, factories, new_connection, new_tenant, row};
use crate::keys::{KeyEntry, with_gates_held};
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
    fn lookup(&self, key: &Key) -> tokio::task::JoinHandle<Option<Arc<KeyEntry>>> {
        let (directory, tenant, id) = (Arc::clone(&self.directory), key.tenant, key.id);
        tokio::spawn(async move { directory.key(tenant, id).await.unwrap() })
    }

    async fn entry(&self, key: &Key) -> Arc<KeyEntry> {
        self.directory.key(key.tenant, key.id).await.unwrap().unwrap()
    }

    async fn named(&self, tenant: TenantId, name: &str) -> Option<Arc<KeyEntry>> {
        self.directory.key_by_name(tenant, name).await.unwrap()
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
        self.directory.detached(&entry);
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
                0 => directory.key(tenant, id).await.unwrap().unwrap(),
                _ => directory.key_by_name(tenant, "one").await.unwrap().unwrap(),
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
    assert!(race.directory.connection(other, key.connection).await.unwrap().is_none());
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
        assert!(found.view().unwrap().key.disabled, "{method}");
        assert!(found.is_same_gate(race.entry(&key).await.as_ref()), "{method}");
    }
}

#[tokio::test]
async fn nor_does_it_bring_the_old_row_back_once_the_entry_was_dropped_for_room() {
    for method in READS {
        let race = Race::with_room(1).await;
        let key = race.world.key("k").await;
        let pause = race.store.pause_next(method);
        let lookup = race.lookup(&key);
        let reached = pause.reached().await;
        race.disable(&key).await;
        let gate = Arc::downgrade(race.entry(&key).await.gate());
        for other in 0..4 {
            let other = race.world.key(&format!("other-{other}")).await;
            race.entry(&other).await;
        }
        assert!(gate.upgrade().is_none(), "the disabled key's entry was to be dropped");
        reached.resume();
        let found = lookup.await.unwrap().unwrap();
        assert!(found.view().unwrap().key.disabled, "{method}");
    }
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
    let pause = race.store.pause_next("connection_snapshot");
    let lookup = race.lookup(&key);
    let reached = pause.reached().await;
    race.detach(&key).await;
    let (_, version) = row(&race.world.connection, "k");
    let again = Key {
        name: "again".to_owned(),
        ..key.clone()
    };
    let version = crate::store::model::KeyVersion {
        provider_key: key.provider_key.clone(),
        ..version
    };
    let stored = race.store.create_key(&again, &[version], &PLAIN).await.unwrap();
    race.directory.readopted(key.id);
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
    race.directory.readopted(key.id);
    assert!(entry.is_same_gate(race.entry(&key).await.as_ref()));
}

#[tokio::test]
async fn a_lookup_by_name_that_read_before_a_rename_does_not_follow_the_old_name() {
    let race = Race::new().await;
    let key = race.world.key("old").await;
    let pause = race.store.pause_next("key_snapshot");
    let (directory, tenant) = (Arc::clone(&race.directory), key.tenant);
    let lookup = tokio::spawn(async move { directory.key_by_name(tenant, "old").await.unwrap() });
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
    let pause = race.store.pause_next("connection_snapshot");
    let lookup = race.lookup(&key);
    let reached = pause.reached().await;
    // On another node, as far as this directory knows: it holds neither.
    race.world.store.detach_key(key.tenant, key.id, 2, &PLAIN).await.unwrap();
    race.world
        .store
        .delete_connection(key.tenant, key.connection, &PLAIN)
        .await
        .unwrap();
    reached.resume();
    assert!(lookup.await.unwrap().is_none());
}

#[tokio::test]
async fn a_held_entry_is_never_dropped_for_room() {
    let race = Race::with_room(8).await;
    let mut held = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        held.push(race.entry(&race.world.key(name).await).await);
    }
    for other in 0..20 {
        let other = race.world.key(&format!("other-{other}")).await;
        let connection = new_connection(race.world.store.as_ref(), other.tenant, &format!("c-{}", other.name)).await;
        race.directory.connection(other.tenant, connection.id).await.unwrap();
        race.entry(&other).await;
    }
    for entry in &held {
        let there = race.directory.key(entry.tenant(), entry.id()).await.unwrap().unwrap();
        assert!(entry.is_same_gate(&there));
        assert!(Arc::ptr_eq(entry.connection(), there.connection()));
    }
    assert_eq!(race.directory.keys.len(), 8);
    assert_eq!(race.directory.breakers().0, 8);
}

#[tokio::test]
async fn with_every_entry_held_there_is_no_room_for_one_more() {
    let race = Race::with_room(2).await;
    let (first, second) = (race.world.key("a").await, race.world.key("b").await);
    let mut held = vec![race.entry(&first).await, race.entry(&second).await];
    let third = race.world.key("c").await;
    for _ in 0..2 {
        let refused = race.directory.key(third.tenant, third.id).await;
        assert!(matches!(refused, Err(LoadError::Full)));
        assert!(matches!(race.directory.key_by_name(third.tenant, "c").await, Err(LoadError::Full)));
    }
    assert!(
        held[0].is_same_gate(race.entry(&first).await.as_ref()),
        "what is in memory is still found"
    );
    held.pop();
    assert_eq!(race.named(third.tenant, "c").await.unwrap().id(), third.id);
}

#[tokio::test]
async fn a_connection_at_rest_leaves_though_keys_in_memory_use_it() {
    let race = Race::with_capacity(Capacity {
        connections: 2,
        ..Capacity::default()
    })
    .await;
    let mut keys = Vec::new();
    for number in 0..5 {
        let connection = new_connection(race.world.store.as_ref(), race.world.tenant, &format!("c{number}")).await;
        keys.push(crate::keys::fixture::new_key(race.world.store.as_ref(), &connection, &format!("k{number}")).await);
    }
    for _ in 0..2 {
        for key in &keys {
            assert_eq!(race.entry(key).await.connection().id(), key.connection);
        }
    }
    assert_eq!((race.directory.keys.len(), race.directory.breakers().0), (5, 2));
}

/// A sever must reach the calls of every key of the connection, also of those that were loaded
/// before and after the connection's entry left memory.
#[tokio::test]
async fn all_keys_of_a_connection_share_its_one_entry_whatever_left_memory() {
    let race = Race::with_capacity(Capacity {
        connections: 2,
        ..Capacity::default()
    })
    .await;
    let (one, two) = (race.world.key("one").await, race.world.key("two").await);
    let held = race.entry(&one).await;
    for number in 0..6 {
        let connection = new_connection(race.world.store.as_ref(), race.world.tenant, &format!("c{number}")).await;
        race.directory.connection(connection.tenant, connection.id).await.unwrap();
    }
    let guard = held.epoch_guard().unwrap();
    let other = race.entry(&two).await;
    assert!(Arc::ptr_eq(held.connection(), other.connection()));
    let severed = crate::store::model::Connection {
        epoch: 2,
        severed: true,
        ..race.world.connection.clone()
    };
    other.connection().put(severed);
    assert!(!guard.holds());
}

#[tokio::test]
async fn a_change_that_another_node_made_is_seen_by_a_load_under_way() {
    for method in READS {
        let race = Race::new().await;
        let key = race.world.key("k").await;
        let pause = race.store.pause_next(method);
        let lookup = race.lookup(&key);
        let reached = pause.reached().await;
        // Nothing of the key is in this node's memory.
        let row = race.store.set_key_disabled(key.tenant, key.id, true, 2, &PLAIN).await.unwrap();
        race.directory.key_revoked(&row);
        reached.resume();
        assert!(lookup.await.unwrap().unwrap().view().unwrap().key.disabled, "{method}");
    }
}

#[tokio::test]
async fn a_revocation_ends_answers_under_way_and_counts_though_it_comes_late() {
    let race = Race::new().await;
    let key = race.world.key("k").await;
    let entry = race.entry(&key).await;
    let guard = entry.epoch_guard().unwrap();
    let (seen, severs) = (entry.revocations().seen(), entry.connection().revocations().seen());
    let disabled = race.store.set_key_disabled(key.tenant, key.id, true, 2, &PLAIN).await.unwrap();
    race.directory.key_revoked(&disabled);
    assert!(!guard.holds() && entry.view().unwrap().key.disabled);
    // Enabled again since; the feed repeats the disable.
    let enabled = race.store.set_key_disabled(key.tenant, key.id, false, 3, &PLAIN).await.unwrap();
    entry.put(enabled.clone(), None);
    race.directory.key_revoked(&disabled);
    assert_eq!(*entry.view().unwrap().key, enabled);
    assert_eq!(entry.revocations().seen(), seen + 2);

    let guard = entry.epoch_guard().unwrap();
    let severed = race
        .store
        .set_connection_severed(key.tenant, key.connection, true, 2, &PLAIN)
        .await
        .unwrap();
    race.directory.connection_revoked(&severed);
    assert!(!guard.holds() && entry.connection().view().severed);
    assert_eq!(entry.connection().revocations().seen(), severs + 1);
}

#[tokio::test]
async fn a_sever_that_another_node_made_is_seen_by_a_load_under_way() {
    let race = Race::new().await;
    let key = race.world.key("k").await;
    let pause = race.store.pause_next("connection_snapshot");
    let lookup = race.lookup(&key);
    let reached = pause.reached().await;
    let row = race
        .store
        .set_connection_severed(key.tenant, key.connection, true, 2, &PLAIN)
        .await
        .unwrap();
    race.directory.connection_revoked(&row);
    reached.resume();
    assert!(lookup.await.unwrap().unwrap().connection().view().severed);
}

#[tokio::test]
async fn a_miss_is_one_read() {
    let race = Race::with_room(4).await;
    let key = race.world.key("k").await;
    race.entry(&key).await;
    race.store.reads();
    race.entry(&key).await;
    assert_eq!(race.store.reads(), Vec::<&str>::new());
    let others = [
        race.world.key("a").await,
        race.world.key("b").await,
        race.world.key("c").await,
        race.world.key("d").await,
    ];
    race.store.reads();
    for other in &others {
        race.entry(other).await;
    }
    assert_eq!(race.store.reads(), ["key_snapshot"; 4], "the connection is in memory");
    race.named(key.tenant, "k").await.unwrap();
    assert_eq!(race.store.reads(), ["key_snapshot"], "by name as well");
    race.named(key.tenant, "k").await.unwrap();
    assert_eq!(race.store.reads(), Vec::<&str>::new());
    let fresh = Directory::new(race.store.clone(), factories(), Capacity::default());
    fresh.key(key.tenant, key.id).await.unwrap().unwrap();
    assert_eq!(race.store.reads(), ["key_snapshot", "connection_snapshot"]);
    fresh.secrets(key.tenant).await.unwrap();
    assert_eq!(race.store.reads(), ["sealed_row"]);
}

/// Readers hand answers over while keys are disabled and enabled, with room for two of ten keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_answer_passes_a_disable_while_keys_come_and_go() {
    const CHANGES: u64 = 60;
    let race = Arc::new(Race::with_room(6).await);
    let mut keys = Vec::new();
    for number in 0..10 {
        keys.push(race.world.key(&format!("k{number}")).await);
    }
    let ended: Arc<Vec<AtomicU64>> = Arc::new(keys.iter().map(|_| AtomicU64::new(0)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for reader in 0..4_usize {
        let (race, keys, ended, stop) = (Arc::clone(&race), keys.clone(), Arc::clone(&ended), Arc::clone(&stop));
        readers.spawn(async move {
            let mut handed_over = 0;
            for round in reader.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let at = (round * 7 + reader) % keys.len();
                let key = &keys[at];
                let found = match round % 2 {
                    0 => race.directory.key(key.tenant, key.id).await,
                    _ => race.directory.key_by_name(key.tenant, &key.name).await,
                };
                // Four readers and a writer hold five of six places at most.
                let guard = found.unwrap().unwrap().epoch_guard().unwrap();
                let epoch = guard.key_epoch();
                tokio::task::yield_now().await;
                let passed = with_gates_held(&[guard], || {
                    assert!(ended[at].load(Ordering::SeqCst) < epoch, "handed over too late")
                });
                handed_over += u64::from(passed.is_ok());
            }
            handed_over
        });
    }
    for change in 0..CHANGES {
        let at = usize::try_from(change * 3).unwrap() % keys.len();
        let key = &keys[at];
        let entry = race.entry(key).await;
        let _one_at_a_time = entry.change().lock().await;
        let before = entry.view().unwrap().key;
        let row = race
            .store
            .set_key_disabled(key.tenant, key.id, !before.disabled, 2, &PLAIN)
            .await
            .unwrap();
        assert_eq!(row.epoch, before.epoch + 1);
        entry.put(row, None);
        ended[at].store(before.epoch, Ordering::SeqCst);
    }
    stop.store(true, Ordering::SeqCst);
    let handed_over: u64 = readers.join_all().await.into_iter().sum();
    assert!(handed_over > 0);
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
