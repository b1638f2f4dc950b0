//! A key that is renamed between the admission of a change and its commit.

use std::borrow::Cow;
use std::sync::Arc;

use crate::access::{AccessRequest, Action, Authorizer, Caller, Deciding, Decision, Grants, KeySet, NewGrant, PolicyRef};
use crate::broker::fixture::{broker, request_info};
use crate::broker::{Authorized, Broker, Code, RequestContext, UpdateNamed, op};
use crate::keys::fixture::{PLAIN, World, connection, row};
use crate::store::model::KeyPatch;
use crate::store::{Reads, Store};

const OWNER: &str = "owner";

/// Lets everybody change keys, and only who says to be their owner create them.
struct OwnersCreate;

impl Authorizer for OwnersCreate {
    fn could_allow(&self, _: &Caller, _: Action) -> bool {
        true
    }

    fn keys<'a>(&self, _: &'a Caller, _: Action) -> &'a KeySet {
        &KeySet::All
    }

    fn decide<'a>(&'a self, request: AccessRequest<'a>) -> Deciding<'a> {
        Deciding::Now(match request.action == Action::CreateKey && request.justification != Some(OWNER) {
            true => Decision::Deny,
            false => Decision::Allow(PolicyRef {
                id: Cow::Borrowed("test"),
                version: 1,
            }),
        })
    }

    fn may_issue(&self, _: &Caller, _: NewGrant<'_>) -> bool {
        false
    }

    fn may_end(&self, _: &Caller, _: &Grants) -> bool {
        false
    }
}

/// An admitted change of the key `orders` that gives it this name.
async fn admitted(broker: &Broker, world: &World, who: &'static str, name: &str) -> Result<Authorized<op::UpdateKey>, Code> {
    let info = request_info(Some(who));
    let cx = RequestContext::new(Caller::configuration(world.tenant), Action::UpdateKey, info);
    let named = UpdateNamed {
        key: "orders",
        new_name: Some(name),
        allows_export: false,
    };
    broker.admit::<op::UpdateKey>(&cx, named).await.map_err(|failure| failure.code)
}

#[tokio::test]
async fn a_change_that_was_no_rename_gives_a_key_that_was_renamed_meanwhile_no_name_back() {
    let world = World::new().await;
    let through = connection(world.tenant, "own");
    world.store.create_connection(&through, Vec::new(), &PLAIN).await.unwrap();
    let (key, version) = row(&through, "orders");
    world.store.create_key(&key, &[version], &PLAIN).await.unwrap();
    let (broker, _folder) = broker(&world, Arc::new(OwnersCreate));
    let to = |name: &str| KeyPatch {
        name: Some(name.to_owned()),
        ..KeyPatch::default()
    };
    assert_eq!(
        admitted(&broker, &world, "thief", "bills").await.err(),
        Some(Code::PermissionDenied)
    );
    // Its own name is no other one.
    let same = admitted(&broker, &world, "thief", "orders").await.unwrap();
    assert!(broker.update_key(same, None, to("orders")).await.is_ok());

    let late = [
        admitted(&broker, &world, "thief", "orders").await.unwrap(),
        admitted(&broker, &world, "thief", "orders").await.unwrap(),
    ];
    let rename = admitted(&broker, &world, OWNER, "bills").await.unwrap();
    assert!(broker.update_key(rename, None, to("bills")).await.is_ok());
    let stored = world.store.key(world.tenant, key.id).await.unwrap();
    // Also if it has guessed the revision of the renamed key.
    for (late, revision) in late.into_iter().zip([None, Some(stored.revision)]) {
        let refused = broker.update_key(late, revision, to("orders")).await.err().unwrap();
        assert_eq!(refused.code, Code::PreconditionFailed, "{revision:?}");
    }
    assert_eq!(stored.name, "bills");
    assert_eq!(world.store.key(world.tenant, key.id).await.unwrap(), stored);
}
