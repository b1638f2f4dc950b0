//! What the gateway does for a caller who reaches one key alone and names others: the same whether they exist,
//! are detached or never existed. Reads of the store are counted, and what the record will say is compared.

use std::sync::Arc;

use claviger_provider::{Algorithm, ConnectionId, KeyId, ProviderKeyRef, ProviderKind, Secret, Wrapped};

use super::super::{ConnectionUpdateNamed, KeyNamed, Names, NewPrimary, Operation, PairNamed, RotateNamed, UpdateNamed, op};
use crate::access::{Action, ActionSet, Caller, Grants, GrantsAuthorizer, KeySet};
use crate::broker::fixture::{broker_over, request_info};
use crate::broker::{Broker, Code, KeyQuery, RequestContext};
use crate::envelope::{Context, Draft, Envelope, Origin};
use crate::keys::fixture::{PLAIN, World, factories, new_connection};
use crate::keys::{Capacity, Directory};
use crate::store::Store;
use crate::store::model::{Key, KeyPatch, Page};
use crate::store::pausing::PausingStore;

/// What a request named, and a wrapped key of it.
struct Named<'a> {
    key: &'a str,
    connection: &'a str,
    wrapped: Envelope,
}

/// What a request cost, and what came of it.
#[derive(Debug, PartialEq, Eq)]
struct Work {
    operation: &'static str,
    reads: Vec<&'static str>,
    outcome: String,
    subject: (Action, Option<KeyId>, Option<ConnectionId>, Option<ProviderKind>),
}

struct Scene {
    world: World,
    store: Arc<PausingStore>,
    broker: Broker,
    caller: Caller,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// With a caller who may do everything but read connections, on the key `orders`.
    async fn new() -> Self {
        let world = World::new().await;
        let orders = world.key("orders").await;
        let store = PausingStore::new(world.store.clone());
        let directory = Directory::new(store.clone(), factories(), Capacity::default());
        let (broker, folder) = broker_over(store.clone(), directory, Arc::new(GrantsAuthorizer));
        let operations: ActionSet = ActionSet::all().iter().filter(|action| *action != Action::ReadConnection).collect();
        let grants = Grants::new(operations, KeySet::Only([orders.id].into())).unwrap();
        Self {
            caller: Caller::with_token(world.tenant, grants),
            world,
            store,
            broker,
            _folder: folder,
        }
    }

    fn wrapped(&self, key: KeyId) -> Envelope {
        let origin = Origin {
            tenant: self.world.tenant,
            key,
            scope: None,
            created: 1,
        };
        let wrapped = Wrapped {
            key: ProviderKeyRef {
                id: "key".to_owned(),
                version: "1".to_owned(),
            },
            algorithm: Algorithm::ProviderOpaque,
            ciphertext: vec![0; 64],
            key_material: None,
            upstream_request_id: None,
        };
        let draft = Draft::sealed(origin, &Secret::copy_from(b"plaintext"), &Context::default()).unwrap();
        draft.finish_unsealed(ProviderKind::Vault, &wrapped).unwrap()
    }

    fn request<O: Operation>(&self) -> RequestContext {
        let info = request_info(None);
        RequestContext::new(self.caller.clone(), O::ACTION, info)
    }

    fn work<O: Operation>(&self, cx: &RequestContext, outcome: String) -> Work {
        let subject = cx.noted().subject;
        Work {
            operation: std::any::type_name::<O>(),
            reads: self.store.reads(),
            outcome,
            subject: (subject.action, subject.key, subject.connection, subject.provider),
        }
    }

    async fn denied<O: Operation>(&self, named: impl Names<O::Object>) -> Work {
        let cx = self.request::<O>();
        self.store.reads();
        let failure = self.broker.admit::<O>(&cx, named).await.err().unwrap();
        assert_eq!(failure.code, Code::PermissionDenied, "{}", std::any::type_name::<O>());
        self.work::<O>(&cx, format!("{} {:?}", failure.detail, failure.advice))
    }

    async fn listed(&self, connection: &str, detached: bool) -> Work {
        let cx = self.request::<op::ListKeys>();
        self.store.reads();
        let allowed = self.broker.admit::<op::ListKeys>(&cx, Some(connection)).await.ok().unwrap();
        let page = Page { after: None, size: 10 };
        let outcome = match detached {
            false => {
                let query = KeyQuery::default();
                format!("{:?}", self.broker.list_keys(allowed, query, &page).await.ok().unwrap().value.items)
            }
            true => format!(
                "{:?}",
                self.broker.list_detached_keys(allowed, &page).await.ok().unwrap().value.items
            ),
        };
        self.work::<op::ListKeys>(&cx, outcome)
    }

    async fn all(&self, named: &Named<'_>) -> Vec<Work> {
        let (key, wrapped) = (KeyNamed::Name(named.key), KeyNamed::Envelope(&named.wrapped));
        let update = UpdateNamed {
            key: named.key,
            new_name: Some("another"),
            allows_export: true,
        };
        let elsewhere = NewPrimary {
            connection: Some(named.connection),
            ..NewPrimary::default()
        };
        let rotate = |key, new| RotateNamed { key, new };
        let (from, to) = (
            PairNamed {
                source: named.key,
                target: "orders",
            },
            PairNamed {
                source: "orders",
                target: named.key,
            },
        );
        let network = ConnectionUpdateNamed {
            connection: named.connection,
            changes_network: true,
        };
        vec![
            self.denied::<op::GenerateDataKey>(key).await,
            self.denied::<op::Wrap>(key).await,
            self.denied::<op::Unwrap>(key).await,
            self.denied::<op::Unwrap>(wrapped).await,
            self.denied::<op::Rewrap>(key).await,
            self.denied::<op::RewrapToOther>(from).await,
            self.denied::<op::RewrapToOther>(to).await,
            self.denied::<op::Inspect>(wrapped).await,
            self.denied::<op::ReadKey>(key).await,
            self.denied::<op::UpdateKey>(update).await,
            self.denied::<op::DeleteKey>(key).await,
            self.denied::<op::Rotate>(rotate(named.key, NewPrimary::default())).await,
            self.denied::<op::Rotate>(rotate("orders", elsewhere)).await,
            self.denied::<op::Enable>(key).await,
            self.denied::<op::Disable>(key).await,
            self.denied::<op::CreateKey>(named.connection).await,
            self.denied::<op::UpdateConnection>(network).await,
            self.denied::<op::DeleteConnection>(named.connection).await,
            self.denied::<op::CheckConnection>(named.connection).await,
            self.denied::<op::Sever>(named.connection).await,
            self.denied::<op::Restore>(named.connection).await,
            self.listed(named.connection, false).await,
            self.listed(named.connection, true).await,
        ]
    }
}

#[tokio::test]
async fn names_outside_of_a_grant_cost_the_same_whether_they_exist() {
    let scene = Scene::new().await;
    let (tenant, store) = (scene.world.tenant, &scene.world.store);
    let [payroll, gone] = [scene.world.key("payroll").await, scene.world.key("gone").await];
    let spare = new_connection(store.as_ref(), tenant, "spare").await;
    store.detach_key(tenant, gone.id, 2, &PLAIN).await.unwrap();
    let named = |key: &'static str, id, connection| Named {
        key,
        connection,
        wrapped: scene.wrapped(id),
    };
    let there = named("payroll", payroll.id, "spare");
    let detached = named("gone", gone.id, "spare");
    let absent = named("nobodys", KeyId::random(), "nobodys");
    let orders: Key = {
        // What the caller reaches is in memory from here on.
        let directory = scene.broker.directory();
        let entry = directory.key_by_name(tenant, "orders", None).await.unwrap().unwrap();
        Key::clone(&entry.view().unwrap().key)
    };
    for in_memory in [false, true] {
        if in_memory {
            // Others use what this caller must not find.
            let directory = scene.broker.directory();
            directory.key_by_name(tenant, "payroll", None).await.unwrap().unwrap();
            directory.connection(tenant, spare.id).await.unwrap().unwrap();
        }
        let expected = scene.all(&absent).await;
        for named in [&there, &detached] {
            for (of_named, of_absent) in scene.all(named).await.into_iter().zip(&expected) {
                assert_eq!(of_named, *of_absent, "{} in memory: {in_memory}", named.key);
            }
        }
    }
    // What it does reach is found as before, by name and by a wrapped key, without a read.
    scene.store.reads();
    let wrapped = scene.wrapped(orders.id);
    for named in [KeyNamed::Name("orders"), KeyNamed::Envelope(&wrapped)] {
        let cx = scene.request::<op::Unwrap>();
        let allowed = scene.broker.admit::<op::Unwrap>(&cx, named).await.ok().unwrap();
        assert_eq!(allowed.object().id(), orders.id);
    }
    assert_eq!(scene.store.reads(), Vec::<&str>::new());
}

/// A key of the grant that is in no memory yet, and one that was renamed, are found by their names.
#[tokio::test]
async fn a_key_of_the_grant_is_found_by_the_name_that_it_has() {
    let scene = Scene::new().await;
    let found = async |name: &str| {
        let cx = scene.request::<op::Wrap>();
        let admitted = scene.broker.admit::<op::Wrap>(&cx, KeyNamed::Name(name)).await;
        admitted.ok().map(|allowed| allowed.object().id())
    };
    let orders = found("orders").await.unwrap();
    assert_eq!(scene.store.reads(), ["key_snapshot"]);
    let patch = KeyPatch {
        expected_revision: 1,
        name: Some("bills".to_owned()),
        ..KeyPatch::default()
    };
    let row = scene.store.update_key(scene.world.tenant, orders, &patch, &PLAIN).await.unwrap();
    let entry = scene.broker.directory().key(scene.world.tenant, orders).await.unwrap().unwrap();
    entry.put(row, None);
    assert_eq!((found("bills").await, found("orders").await), (Some(orders), None));
}
