//! Looks at keys in use, with the clock in the test's hand.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{ProviderKind, TenantId};
use claviger_test_support::records;
use claviger_testkit::{Fault, Plan};

use super::{AT_ONCE_OF_TENANT, PATIENCE, ROUND, ROUND_OF_TENANT, ROUND_TIME, lanes};
use crate::access::{Action, Caller, GrantsAuthorizer};
use crate::audit::Text;
use crate::broker::fixture::broker;
use crate::broker::{Broker, RequestContext, RequestInfo};
use crate::keys::fixture::{PLAIN, World, connection, new_connection, new_key, new_tenant, row};
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
        broker.directory().note_use(&entry, ProviderKind::Vault, begin);
        Self {
            world,
            broker,
            folder,
            key,
            entry,
            begin,
        }
    }

    fn used(&self, now: Instant) {
        self.broker.directory().note_use(&self.entry, ProviderKind::Vault, now);
    }

    /// How often the server was asked to describe the key, after one more round at this time.
    async fn asked_after(&self, now: Instant) -> u64 {
        self.broker.look_at_keys_in_use(now).await;
        self.world.server.faults().journal().of("describe")
    }

    /// A request with so much time.
    fn request(&self, time: Duration) -> RequestContext {
        let started = Instant::now();
        let info = RequestInfo {
            request_id: Text::new("unwrap"),
            client_request_id: None,
            justification: None,
            started,
            deadline: started + time,
        };
        RequestContext::new(Caller::configuration(self.world.tenant), Action::Unwrap, info)
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
    scene.used(due);
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
    assert_eq!(scene.versions(), [(1, ProviderState::Unknown)]);
    assert_eq!(records(scene.folder.path()).len(), 2, "an intent and an outcome");
}

#[tokio::test]
async fn a_question_whose_caller_did_not_wait_is_asked_again_by_the_next_look() {
    let scene = Scene::new().await;
    let id = &scene.key.primary.provider_key;
    assert!(scene.world.server.change_version(id, 1, false));
    let due = scene.begin + LOOK_EVERY;
    assert_eq!(scene.asked_after(due).await, 1);
    assert_eq!(scene.versions(), [(1, ProviderState::Disabled)]);

    assert!(scene.world.server.change_version(id, 1, true));
    let faults = scene.world.server.faults();
    faults.plan(planned("describe", Fault::Hang, NonZeroU32::new(1)));
    let hasty = scene.request(Duration::from_millis(100));
    let asked = Box::pin(scene.broker.ask_anew(&hasty, &scene.entry, &scene.key.primary)).await;
    assert!(asked.is_err());
    assert_eq!(scene.versions(), [(1, ProviderState::Disabled)]);

    assert_eq!(scene.asked_after(due + Duration::from_secs(61)).await, 3);
    assert_eq!(scene.versions(), [(1, ProviderState::Enabled)]);
}

#[tokio::test]
async fn a_refusal_soon_after_a_question_has_the_key_looked_at() {
    let scene = Scene::new().await;
    let id = &scene.key.primary.provider_key;
    let refused = async |number: u32| {
        let versions = scene.entry.view().unwrap().versions;
        let version = versions.iter().find(|version| version.number == number).unwrap();
        Box::pin(scene.broker.look_into(&scene.request(PATIENCE), &scene.entry, version)).await
    };
    assert!(scene.world.server.rotate_key(id) && scene.world.server.change_version(id, 1, false));
    assert!(refused(1).await);
    assert_eq!(scene.versions(), [(1, ProviderState::Disabled), (2, ProviderState::Enabled)]);
    // Within 10 s, however often: the provider is not asked.
    assert!(scene.world.server.change_version(id, 2, false));
    for _ in 0..3 {
        assert!(!refused(2).await);
    }
    assert_eq!(scene.world.server.faults().journal().of("describe"), 1);
    for _ in 0..2 {
        assert_eq!(scene.asked_after(scene.begin + Duration::from_secs(61)).await, 2);
        assert_eq!(scene.versions(), [(1, ProviderState::Disabled), (2, ProviderState::Disabled)]);
    }
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

#[tokio::test]
async fn a_version_that_a_look_learns_gets_a_canary() {
    let scene = Scene::new().await;
    let id = &scene.key.primary.provider_key;
    assert!(scene.world.server.rotate_key(id));
    let due = scene.begin + LOOK_EVERY;
    // Without a canary at first: the provider does not wrap.
    let faults = scene.world.server.faults();
    faults.plan(planned("wrap_key", Fault::Denied, NonZeroU32::new(1)));
    assert_eq!(scene.asked_after(due).await, 1);
    assert_eq!(canaries(&scene).await, [(1, false), (2, false)]);
    // The next look makes it, and no other one.
    for looks in [1, 2] {
        let due = due + LOOK_EVERY * looks;
        scene.used(due);
        assert_eq!(scene.asked_after(due).await, 1 + u64::from(looks));
        assert_eq!(canaries(&scene).await, [(1, false), (2, true)]);
    }
    assert_eq!(faults.journal().of("wrap_key"), 2);
}

fn planned(op: &str, fault: Fault, times: Option<NonZeroU32>) -> Plan {
    let op = Some(op.to_owned());
    Plan { op, fault, times }
}

/// Number of each version, and whether it has a canary.
async fn canaries(scene: &Scene) -> Vec<(u32, bool)> {
    let (tenant, connection) = (scene.world.tenant, scene.world.connection.id);
    let found = scene.world.store.canaries(tenant, connection, 9).await.unwrap();
    let mut found: Vec<_> = found.iter().map(|one| (one.version.number, one.canary.is_some())).collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn an_embedded_primary_version_does_not_end_the_look_at_others() {
    let scene = Scene::new().await;
    let (tenant, id) = (scene.world.tenant, scene.key.id);
    let mut embedded = connection(tenant, "embedded");
    embedded.provider = ProviderKind::Local;
    scene.world.store.create_connection(&embedded, Vec::new(), &PLAIN).await.unwrap();
    let (_, mut version) = row(&embedded, "orders");
    version.number = 2;
    let moved = scene
        .world
        .store
        .move_key(tenant, id, &[version.clone()], 2, 2, &PLAIN)
        .await
        .unwrap();
    let versions = vec![scene.key.primary.clone(), version];
    scene.entry.put(moved, Some(versions));
    assert!(scene.world.server.change_version(&scene.key.primary.provider_key, 1, false));
    assert_eq!(scene.asked_after(scene.begin + LOOK_EVERY).await, 1);
    assert_eq!(scene.versions(), [(1, ProviderState::Disabled), (2, ProviderState::Enabled)]);
    // The embedded provider is not asked: there is none here, and the look does not fail.
    let again = scene.broker.look_at(&scene.entry, scene.begin + LOOK_EVERY).await;
    assert!(again.is_ok());
    // Calls to the embedded provider are no use that is followed.
    let other = scene.world.key("other").await;
    let other = scene.broker.directory().key(tenant, other.id).await.unwrap().unwrap();
    scene.broker.directory().note_use(&other, ProviderKind::Local, scene.begin);
    assert_eq!(
        scene.asked_after(scene.begin + LOOK_EVERY).await,
        2,
        "as often as after the second look"
    );
}

#[tokio::test]
async fn providers_that_hang_hold_up_no_other_tenant() {
    let scene = Scene::new().await;
    let store = &scene.world.store;
    let mut entries = Vec::new();
    for tenant in 0..8 {
        let tenant = new_tenant(store.as_ref(), &format!("slow-{tenant}"), false).await;
        let through = new_connection(store.as_ref(), tenant, "slow").await;
        for key in 0..20 {
            let key = new_key(store.as_ref(), &through, &format!("k{key}")).await;
            let entry = scene.broker.directory().key(tenant, key.id).await.unwrap().unwrap();
            scene.broker.directory().note_use(&entry, ProviderKind::Vault, scene.begin);
            entries.push(entry);
        }
    }
    // Of all keys at this server none is described.
    scene.world.server.faults().plan(planned("describe", Fault::Hang, None));
    let begin = Instant::now();
    scene.broker.look_at_keys_in_use(scene.begin + LOOK_EVERY).await;
    let took = begin.elapsed();
    assert!(took < ROUND_TIME + PATIENCE + Duration::from_secs(3), "{took:?}");
    // Each tenant had its lanes, also the one with a single key; the pipeline repeats a question that is not answered.
    let asked = scene.world.server.faults().journal().of("describe");
    assert!(asked > 8 * AT_ONCE_OF_TENANT as u64, "{asked}");
}

#[test]
fn a_round_has_a_few_lanes_for_each_tenant() {
    let tenants: Vec<(TenantId, Vec<usize>)> = (0..ROUND / ROUND_OF_TENANT)
        .map(|tenant| (TenantId::random(), (0..ROUND_OF_TENANT).map(|key| tenant * 1000 + key).collect()))
        .collect();
    let few = [(TenantId::random(), vec![999_999])];
    let lanes = lanes(tenants.into_iter().chain(few).collect());
    assert_eq!(lanes.len(), ROUND / ROUND_OF_TENANT * AT_ONCE_OF_TENANT + 1);
    // First one of every tenant.
    let first: Vec<usize> = lanes.iter().take(ROUND / ROUND_OF_TENANT + 1).map(|lane| lane[0]).collect();
    assert!(first.contains(&0) && first.contains(&5000) && first.contains(&999_999), "{first:?}");
    assert_eq!(
        lanes.iter().map(Vec::len).sum::<usize>(),
        ROUND / ROUND_OF_TENANT * ROUND_OF_TENANT + 1
    );
}
