//! Looks at keys in use, with the clock in the test's hand.

use std::sync::Arc;
use std::time::Instant;

use claviger_provider::TenantId;
use claviger_test_support::records;

use super::{ROUND, ROUND_OF_TENANT, fairly};
use crate::access::GrantsAuthorizer;
use crate::broker::Broker;
use crate::broker::fixture::broker;
use crate::keys::fixture::{PLAIN, World};
use crate::keys::{KeyEntry, LOOK_EVERY};
use crate::store::model::{Key, ProviderState};
use crate::store::{Reads, Store};

/// A key at the server, which was just used.
struct Scene {
    world: World,
    broker: Broker,
    folder: tempfile::TempDir,
    key: Key,
    entry: Arc<KeyEntry>,
    begin: Instant,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        let (broker, folder) = broker(&world, Arc::new(GrantsAuthorizer));
        let key = world.key("orders").await;
        world.server.make_key(&key.primary.provider_key);
        let entry = broker.directory().key(world.tenant, key.id).await.unwrap().unwrap();
        let begin = Instant::now();
        entry.in_use().note(begin);
        Self {
            world,
            broker,
            folder,
            key,
            entry,
            begin,
        }
    }

    /// How often the server was asked to describe the key, after one more round at this time.
    async fn asked_after(&self, now: Instant) -> u64 {
        self.broker.look_at_keys_in_use(now).await;
        self.world.server.faults().journal().of("describe")
    }

    /// Number and state at the provider of each version.
    fn versions(&self) -> Vec<(u32, ProviderState)> {
        let view = self.entry.view().unwrap();
        view.versions
            .iter()
            .map(|version| (version.number, version.provider_state))
            .collect()
    }
}

#[tokio::test]
async fn a_key_in_use_is_described_once_in_5_minutes_and_what_changed_is_stored() {
    let scene = Scene::new().await;
    let id = &scene.key.primary.provider_key;
    assert!(scene.world.server.rotate_key(id) && scene.world.server.change_version(id, 1, false));
    assert_eq!(scene.asked_after(scene.begin).await, 0);
    let due = scene.begin + LOOK_EVERY;
    assert_eq!(scene.asked_after(due).await, 1);
    assert_eq!(scene.versions(), [(1, ProviderState::Disabled), (2, ProviderState::Enabled)]);
    assert_eq!(scene.entry.view().unwrap().key.primary.number, 2);
    // As it is in the store, and in the log.
    let stored = scene.world.store.key_versions(scene.world.tenant, scene.key.id).await.unwrap();
    assert_eq!(*stored, *scene.entry.view().unwrap().versions);
    let learned = records(scene.folder.path());
    let kinds: Vec<&serde_json::Value> = learned.iter().map(|record| &record["kind"]).collect();
    assert_eq!(kinds, ["intent", "outcome"], "{learned:#?}");
    assert_eq!(learned[1]["result"], "success");

    assert_eq!(scene.asked_after(due).await, 1);
    scene.entry.in_use().note(due);
    assert_eq!(scene.asked_after(due + LOOK_EVERY).await, 2);
    // Nothing has changed, so nothing is recorded.
    assert_eq!(records(scene.folder.path()).len(), 2);
    // Nobody uses it any more.
    for minutes in 6..60 {
        scene.broker.look_at_keys_in_use(due + LOOK_EVERY / 5 * minutes).await;
    }
    let asked = scene.world.server.faults().journal().of("describe");
    assert!((3..=6).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_provider_that_fails_is_not_asked_more_often() {
    let scene = Scene::new().await;
    scene.world.server.remove_key(&scene.key.primary.provider_key);
    let due = scene.begin + LOOK_EVERY;
    for _ in 0..3 {
        assert_eq!(scene.asked_after(due).await, 1);
    }
    // What is not there is not known to be destroyed.
    assert_eq!(scene.versions(), [(1, ProviderState::Enabled)]);
}

#[tokio::test]
async fn a_key_that_must_not_be_used_is_not_looked_at() {
    for what in ["disabled", "severed", "suspended", "changing"] {
        let scene = Scene::new().await;
        let (store, tenant) = (&scene.world.store, scene.world.tenant);
        let _changing = match what {
            "disabled" => {
                let row = store.set_key_disabled(tenant, scene.key.id, true, 2, &PLAIN).await.unwrap();
                scene.entry.put(row, None);
                None
            }
            "severed" => {
                let connection = scene.world.connection.id;
                let row = store.set_connection_severed(tenant, connection, true, 2, &PLAIN).await.unwrap();
                let entry = scene.broker.directory().connection(tenant, connection).await.unwrap().unwrap();
                entry.put(row);
                None
            }
            "suspended" => {
                store.set_tenant_suspended(tenant, true, &PLAIN).await.unwrap();
                None
            }
            _ => Some(scene.entry.at_provider().lock().await),
        };
        assert_eq!(scene.asked_after(scene.begin + LOOK_EVERY).await, 0, "{what}");
    }
}

#[test]
fn a_tenant_of_many_keys_leaves_room_for_others() {
    let [many, few, one] = [(); 3].map(|()| TenantId::random());
    let due = (0..1_000_000).map(|key| (many, key));
    let due = due.chain([(few, 1_000_001), (few, 1_000_002), (one, 1_000_003)]);
    let taken = fairly(due.clone(), ROUND, ROUND_OF_TENANT);
    assert_eq!(taken.len(), ROUND_OF_TENANT + 3);
    // With little room each has its turn, in the order of its keys.
    let taken = fairly(due, 4, ROUND_OF_TENANT);
    assert!(
        taken.contains(&0) && taken.contains(&1_000_001) && taken.contains(&1_000_003),
        "{taken:?}"
    );
    assert_eq!(taken.len(), 4);
}
