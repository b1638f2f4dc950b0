//! The gates: what moved is told, nothing is handed over after a change returned, and readers
//! and changes never wait for each other in a circle.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use claviger_provider::layers::PipelineConfig;
use claviger_provider::{Pipeline, SeverSwitch};
use claviger_testkit::{FakeConfig, FakeProvider, FakeServer};

use super::{ConnectionEntry, Gone, KeyEntry, Loads, Room};
use crate::keys::fixture::{Reached, World, row};
use crate::keys::{EpochGuard, KeyView, with_gates_held};
use crate::store::model::{Connection, Key};

fn connection_entry(connection: Connection) -> Arc<ConnectionEntry> {
    let provider = FakeProvider::new(FakeServer::new(), FakeConfig::default());
    Arc::new(ConnectionEntry::new(
        connection,
        Pipeline::new(Arc::new(provider), &PipelineConfig::default(), SeverSwitch::default()),
        Arc::new(Loads::new()),
    ))
}

fn key_entry(connection: &Arc<ConnectionEntry>, name: &str) -> Reached {
    let (key, version) = row(&connection.view(), name);
    let view = KeyView {
        key: Arc::new(key),
        versions: vec![version].into(),
    };
    entry_of(view, connection)
}

fn entry_of(view: KeyView, connection: &Arc<ConnectionEntry>) -> Reached {
    Reached {
        entry: Arc::new(KeyEntry::new(view, Arc::new(Loads::new()), Room::new(1))),
        connection: Arc::clone(connection),
    }
}

/// Puts the key's row with its epoch moved on.
fn move_on(entry: &KeyEntry) {
    let key = entry.view().unwrap().key;
    let moved = Key {
        epoch: key.epoch + 1,
        ..Key::clone(&key)
    };
    entry.put(moved, None);
}

/// Puts the connection's row with its epoch moved on.
fn move_connection_on(entry: &ConnectionEntry) {
    let connection = entry.view();
    let moved = Connection {
        epoch: connection.epoch + 1,
        ..Connection::clone(&connection)
    };
    entry.put(moved);
}

#[tokio::test]
async fn those_that_moved_on_are_told() {
    let world = World::new().await;
    let connection = connection_entry(world.connection.clone());
    let [a, b, c] = ["a", "b", "c"].map(|name| key_entry(&connection, name));
    let epoch_guards = || [&a, &b, &c, &a].map(|entry| entry.epoch_guard().unwrap());
    assert_eq!(with_gates_held(&[], || 1), Ok(1));
    assert_eq!(with_gates_held(&epoch_guards(), || 2), Ok(2));

    let before = epoch_guards();
    move_on(&b);
    assert_eq!(with_gates_held(&before, || ()), Err(vec![1]));
    assert!(!before[1].holds() && before[0].holds());
    assert_eq!(with_gates_held(&epoch_guards(), || 3), Ok(3));

    let before = epoch_guards();
    a.close();
    assert_eq!(with_gates_held(&before, || ()), Err(vec![0, 3]));

    let before = [b.epoch_guard().unwrap(), c.epoch_guard().unwrap()];
    move_connection_on(&connection);
    assert_eq!(with_gates_held(&before, || ()), Err(vec![0, 1]));
}

#[tokio::test]
async fn two_entries_of_one_id_are_two() {
    let world = World::new().await;
    let connection = connection_entry(world.connection.clone());
    let detached = key_entry(&connection, "k");
    let adopted = entry_of(detached.view().unwrap(), &connection);
    let epoch_guards = [detached.epoch_guard().unwrap(), adopted.epoch_guard().unwrap()];
    assert_eq!(with_gates_held(&epoch_guards, || 1), Ok(1));
    detached.close();
    assert_eq!(with_gates_held(&epoch_guards, || ()), Err(vec![0]));
}

#[tokio::test]
async fn a_detached_key_stays_detached() {
    let world = World::new().await;
    let entry = key_entry(&connection_entry(world.connection.clone()), "k");
    let view = entry.view().unwrap();
    entry.close();
    entry.put(Key::clone(&view.key), None);
    assert!(entry.view().is_err());
    entry.put(Key::clone(&view.key), Some(view.versions.to_vec()));
    assert!(entry.view().is_err());
    assert_eq!(entry.epoch_guard().err(), Some(Gone));
}

#[tokio::test]
async fn a_put_keeps_the_versions_it_does_not_name() {
    let world = World::new().await;
    let entry = key_entry(&connection_entry(world.connection.clone()), "k");
    let view = entry.view().unwrap();
    entry.put(Key::clone(&view.key), None);
    assert_eq!(entry.view().unwrap().versions.len(), 1);
    entry.put(Key::clone(&view.key), Some(Vec::new()));
    assert_eq!(entry.view().unwrap().versions.len(), 0);
}

/// Runs `threads` to their end, or fails when they do not come to one.
fn all_end(threads: Vec<std::thread::JoinHandle<()>>) {
    let (ended, all) = mpsc::channel();
    let count = threads.len();
    for thread in threads {
        let ended = ended.clone();
        std::thread::spawn(move || ended.send(thread.join().is_ok()));
    }
    for _ in 0..count {
        assert_eq!(all.recv_timeout(Duration::from_secs(60)), Ok(true), "a thread hangs or panicked");
    }
}

#[tokio::test]
async fn many_readers_and_changes_never_wait_in_a_circle() {
    const ROUNDS: usize = 2_000;
    let world = World::new().await;
    let connections: Vec<_> = (0..3)
        .map(|_| {
            connection_entry(Connection {
                id: claviger_provider::ConnectionId::random(),
                ..world.connection.clone()
            })
        })
        .collect();
    let keys: Vec<_> = (0..8).map(|at| key_entry(&connections[at % 3], &format!("k{at}"))).collect();
    let handed_over = Arc::new(AtomicUsize::new(0));

    let mut threads = Vec::new();
    for reader in 0..6_usize {
        let (keys, handed_over) = (keys.clone(), Arc::clone(&handed_over));
        threads.push(std::thread::spawn(move || {
            for round in 0..ROUNDS {
                // Another set in another order each time, each overlapping with the others'.
                let step = [1, 3, 5, 7][(reader + round) % 4];
                let epoch_guards: Vec<EpochGuard> = (0..5)
                    .filter_map(|at| keys[(reader + round + at * step) % keys.len()].epoch_guard().ok())
                    .collect();
                if with_gates_held(&epoch_guards, || ()).is_ok() {
                    handed_over.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    for writer in 0..3_usize {
        let (keys, connections) = (keys.clone(), connections.clone());
        threads.push(std::thread::spawn(move || {
            for round in 0..ROUNDS {
                move_on(&keys[(writer + round) % keys.len()]);
                if round % 4 == 0 {
                    move_connection_on(&connections[(writer + round) % 3]);
                }
            }
        }));
    }
    all_end(threads);
    assert!(handed_over.load(Ordering::Relaxed) > 0);
    let quiet: Vec<EpochGuard> = keys.iter().map(|key| key.epoch_guard().unwrap()).collect();
    assert_eq!(with_gates_held(&quiet, || ()), Ok(()));
}

#[tokio::test]
async fn nothing_is_handed_over_under_an_epoch_whose_end_returned() {
    let world = World::new().await;
    let entry = key_entry(&connection_entry(world.connection.clone()), "k");
    // The first epoch of which no answer may be handed over any more is this one's next.
    let ended = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for _ in 0..4 {
        let (entry, ended, stop) = (entry.clone(), Arc::clone(&ended), Arc::clone(&stop));
        threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let epoch_guard = entry.epoch_guard().unwrap();
                let epoch = epoch_guard.key_epoch();
                std::thread::yield_now();
                let _ = with_gates_held(&[epoch_guard], || {
                    assert!(ended.load(Ordering::SeqCst) < epoch, "handed over too late")
                });
            }
        }));
    }
    {
        let (entry, stop) = (entry.clone(), Arc::clone(&stop));
        threads.push(std::thread::spawn(move || {
            for _ in 0..5_000 {
                let epoch = entry.view().unwrap().key.epoch;
                move_on(&entry);
                ended.store(epoch, Ordering::SeqCst);
            }
            stop.store(true, Ordering::SeqCst);
        }));
    }
    all_end(threads);
}

#[tokio::test]
async fn only_an_enable_ends_a_disable_that_the_store_lacks() {
    let world = World::new().await;
    let reached = key_entry(&connection_entry(world.connection.clone()), "k");
    let entry = &reached.entry;
    let stored = Key::clone(&entry.view().unwrap().key);
    let mut cut = stored.clone();
    crate::store::rules::set_disabled(&mut cut, true, 1);
    entry.put_revoked(&cut);
    // A rotation's row, from a store that could not take the disable.
    entry.put(stored.clone(), None);
    let now = entry.view().unwrap().key;
    assert_eq!((now.state, now.epoch), (cut.state, cut.epoch));
    let mut enabled = stored;
    crate::store::rules::set_disabled(&mut enabled, false, 2);
    entry.put_enabled(enabled);
    let now = entry.view().unwrap().key;
    assert!(!now.state.is_disabled());
    assert!(
        now.epoch > cut.epoch,
        "answers from before the disable do not pass after the enable"
    );
}
