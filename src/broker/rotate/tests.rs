//! How long a rotation is waited for whose response was lost.

use std::sync::Arc;
use std::time::Duration;

use claviger_testkit::{Fault, Plan};

use super::{LOST, LOST_AND_SLOW, later};
use crate::access::GrantsAuthorizer;
use crate::broker::fixture::broker;
use crate::keys::fixture::{PLAIN, World};
use crate::store::{Reads, Store};

/// Whether a rotation is waited for so long after it was requested, at a provider with this fault.
async fn waits(fault: Fault, after: Duration) -> bool {
    let world = World::new().await;
    let (broker, _folder) = broker(&world, Arc::new(GrantsAuthorizer));
    let key = world.key("orders").await;
    world.server.make_key(&key.primary.provider_key);
    let since = broker.now() - later(0, after);
    let store = &world.store;
    store
        .set_key_rotating(world.tenant, key.id, Some(-since), since, &PLAIN)
        .await
        .unwrap();
    let (op, times) = (Some("describe".to_owned()), None);
    world.server.faults().plan(Plan { op, fault, times });
    assert_eq!(broker.finish_rotations().await, Ok(()), "no failure of the gateway's");
    store.key(world.tenant, key.id).await.unwrap().rotating.is_some()
}

#[tokio::test]
async fn a_key_that_was_deleted_or_hidden_is_not_waited_for_for_ever() {
    for fault in [Fault::KeyMissing, Fault::KeyDisabled, Fault::Denied] {
        assert!(waits(fault, LOST / 2).await, "{fault:?}");
        assert!(!waits(fault, LOST * 2).await, "{fault:?}");
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_waited_for_longer() {
    for fault in [Fault::Unavailable, Fault::Unreachable] {
        assert!(waits(fault, LOST * 2).await, "{fault:?}");
        assert!(!waits(fault, LOST_AND_SLOW * 2).await, "{fault:?}");
    }
}
