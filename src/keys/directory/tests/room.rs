//! What stays in memory and what leaves, and that neither lets an answer past a revocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinSet;

use super::{READS, Race};
use crate::keys::fixture::{PLAIN, connected, factories, new_connection, new_key, new_tenant, reached, row};
use crate::keys::{Capacity, Directory, LoadError, with_gates_held};
use crate::store::Store;
use crate::store::model::{Connection, KeyPatch, Labels};

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
        let there = reached(&race.directory, entry.tenant(), entry.id()).await.unwrap();
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
        assert!(matches!(
            race.directory.key_by_name(third.tenant, "c", None).await,
            Err(LoadError::Full)
        ));
    }
    assert!(held[0].is_same_gate(&race.entry(&first).await), "what is in memory is still found");
    held.pop();
    assert_eq!(race.named(third.tenant, "c").await.unwrap().id(), third.id);
}

/// The most labels that a key can have.
fn largest_labels() -> Labels {
    (0..64).map(|number| (format!("{number:063}"), "v".repeat(256))).collect()
}

#[tokio::test]
async fn a_tenant_with_many_large_keys_pushes_out_its_own() {
    const ROOM: usize = 160;
    let race = Race::with_room(ROOM).await;
    let mut ours = Vec::new();
    for number in 0..40 {
        ours.push(race.world.key(&format!("ours-{number}")).await);
        race.named(race.world.tenant, &format!("ours-{number}")).await.unwrap();
    }
    let evil = new_tenant(race.world.store.as_ref(), "evil", false).await;
    let connection = new_connection(race.world.store.as_ref(), evil, "c").await;
    for number in 0..200 {
        let (mut key, version) = row(&connection, &format!("k{number}"));
        key.labels = largest_labels();
        let key = race.store.create_key(&key, &[version], &PLAIN).await.unwrap();
        race.named(evil, &key.name).await.unwrap();
        assert!(race.directory.keys.room().taken() <= ROOM);
    }
    assert!(race.directory.keys.len() < 60, "large keys count as several");
    race.store.reads();
    for key in &ours {
        race.named(key.tenant, &key.name).await.unwrap();
    }
    assert_eq!(race.store.reads(), Vec::<&str>::new());
}

#[tokio::test]
async fn a_key_that_grows_in_memory_makes_room() {
    const ROOM: usize = 160;
    let race = Race::with_room(ROOM).await;
    let ours = race.world.key("ours").await;
    race.entry(&ours).await;
    let evil = new_tenant(race.world.store.as_ref(), "evil", false).await;
    let connection = new_connection(race.world.store.as_ref(), evil, "c").await;
    let mut theirs = Vec::new();
    for number in 0..ROOM - 1 {
        let key = new_key(race.world.store.as_ref(), &connection, &format!("k{number}")).await;
        race.entry(&key).await;
        theirs.push(key);
    }
    assert_eq!(race.directory.keys.room().taken(), ROOM);
    for key in theirs {
        let entry = race.entry(&key).await;
        let patch = KeyPatch {
            expected_revision: key.revision,
            labels: Some(largest_labels()),
            ..KeyPatch::default()
        };
        let grown = race.store.update_key(evil, key.id, &patch, &PLAIN).await.unwrap();
        entry.put(grown, None);
        drop(entry);
        // The next lookup of any key makes room.
        race.entry(&ours).await;
        assert!(race.directory.keys.room().taken() <= ROOM);
    }
    race.store.reads();
    race.entry(&ours).await;
    assert_eq!(race.store.reads(), Vec::<&str>::new());
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
        keys.push(new_key(race.world.store.as_ref(), &connection, &format!("k{number}")).await);
    }
    for _ in 0..2 {
        for key in &keys {
            assert_eq!(race.entry(key).await.connection().id(), key.primary.connection_id().unwrap());
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
    let severed = Connection {
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
        assert!(lookup.await.unwrap().unwrap().view().unwrap().key.state.is_disabled(), "{method}");
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
    assert!(!guard.holds() && entry.view().unwrap().key.state.is_disabled());
    // Enabled again since; the feed repeats the disable.
    let enabled = race.store.set_key_disabled(key.tenant, key.id, false, 3, &PLAIN).await.unwrap();
    entry.put_enabled(enabled.clone());
    race.directory.key_revoked(&disabled);
    assert_eq!(*entry.view().unwrap().key, enabled);
    assert_eq!(entry.revocations().seen(), seen + 2);

    let guard = entry.epoch_guard().unwrap();
    let severed = race
        .store
        .set_connection_severed(key.tenant, key.primary.connection_id().unwrap(), true, 2, &PLAIN)
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
        .set_connection_severed(key.tenant, key.primary.connection_id().unwrap(), true, 2, &PLAIN)
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
    reached(&fresh, key.tenant, key.id).await.unwrap();
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
                    _ => race.directory.key_by_name(key.tenant, &key.name, None).await,
                };
                // Four readers and a writer hold five of six places at most.
                let found = connected(&race.directory, found.unwrap().unwrap()).await.unwrap();
                let guard = found.epoch_guard().unwrap();
                drop(found);
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
            .set_key_disabled(key.tenant, key.id, !before.state.is_disabled(), 2, &PLAIN)
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
