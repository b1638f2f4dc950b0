//! What a revocation does to callers who were let in before it.

use claviger_provider::TenantId;

use super::{Caller, EXPIRES, Issued, SwappableRouter};
use crate::access::{Authenticator, Ended};
use crate::store::{Refused, Store};

const GRANTS: &str = r#"{"operations":["Unwrap"],"keys":"all"}"#;

/// Whether an answer reaches the caller.
fn state(caller: &Caller) -> Result<(), Ended> {
    caller.while_in_force(false, 1, || ())
}

async fn let_in(door: &SwappableRouter, issued: &Issued) -> Caller {
    door.enter(&issued.text, None, 1).await.unwrap()
}

#[tokio::test]
async fn a_revocation_ends_callers_of_the_token_and_of_those_below_it() {
    let door = SwappableRouter::new().await;
    let parent = door.issue(door.world.tenant).await;
    let child = door.issue_below(door.world.tenant, GRANTS, Some(&parent.row)).await;
    let (of_parent, of_child) = (let_in(&door, &parent).await, let_in(&door, &child).await);
    let other = let_in(&door, &door.issue(door.world.tenant).await).await;
    for caller in [&of_parent, &of_child, &other] {
        assert_eq!(state(caller), Ok(()));
    }
    door.revoke(&child.row).await;
    assert_eq!((state(&of_parent), state(&of_child)), (Ok(()), Err(Ended::Credential)));
    door.revoke(&parent.row).await;
    assert_eq!((state(&of_parent), state(&other)), (Err(Ended::Credential), Ok(())));
}

#[tokio::test]
async fn a_caller_is_found_though_the_token_was_forgotten() {
    let door = SwappableRouter::new().await;
    // A memory that keeps nothing.
    let forgetful = Authenticator::new(door.store.clone(), 0);
    let issued = door.issue(door.world.tenant).await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        callers.push(forgetful.bearer(&issued.text, None, None, 1).await.unwrap());
    }
    let (_, ended) = door
        .world
        .store
        .revoke_token(issued.row.tenant, issued.row.id, 5, &super::PLAIN)
        .await
        .unwrap();
    forgetful.forget_tokens(ended.iter().map(String::as_str));
    for caller in &callers {
        assert_eq!(state(caller), Err(Ended::Credential));
    }
}

#[tokio::test]
async fn what_the_store_could_not_take_ends_callers_too() {
    let door = SwappableRouter::new().await;
    for by_principal in [false, true] {
        let parent = door.issue(door.world.tenant).await;
        let child = door.issue_below(door.world.tenant, GRANTS, Some(&parent.row)).await;
        let other = let_in(&door, &door.issue(door.world.tenant).await).await;
        let callers = [let_in(&door, &parent).await, let_in(&door, &child).await];
        door.authenticator.refuse(if by_principal {
            Refused::Principal(parent.row.principal)
        } else {
            Refused::Token(parent.row.id)
        });
        for caller in &callers {
            assert_eq!(state(caller), Err(Ended::Credential));
        }
        assert_eq!(state(&other), Ok(()));
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let door = SwappableRouter::new().await;
    let caller = let_in(&door, &door.issue(door.world.tenant).await).await;
    assert_eq!(caller.while_in_force(false, EXPIRES - 1, || 7), Ok(7));
    assert_eq!(caller.while_in_force(false, EXPIRES, || 7), Err(Ended::Credential));
    let configuration = Caller::configuration(door.world.tenant);
    assert_eq!(configuration.while_in_force(false, i64::MAX, || 7), Ok(7), "nothing ends it");
}

#[tokio::test]
async fn a_suspension_ends_all_callers_of_the_tenant_and_what_operators_do_in_it() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    let operator = door.issue(TenantId::INSTALLATION).await;
    let elsewhere = let_in(&door, &operator).await;
    for at_the_store in [true, false] {
        let own = let_in(&door, &issued).await;
        let acting = door.enter(&operator.text, Some("acme"), 1).await.unwrap();
        assert_eq!((state(&own), state(&acting)), (Ok(()), Ok(())));
        assert!(!acting.tenant_suspended());
        if at_the_store {
            door.authenticator.suspend(door.world.tenant);
        } else {
            door.authenticator.refuse(Refused::Tenant(door.world.tenant));
        }
        assert_eq!((state(&own), state(&acting)), (Err(Ended::Tenant), Err(Ended::Tenant)));
        assert_eq!(acting.while_in_force(true, 1, || ()), Ok(()), "it may read and revoke");
        assert!(acting.tenant_suspended());
        assert_eq!(state(&elsewhere), Ok(()));
        door.authenticator.readmit(Refused::Tenant(door.world.tenant));
        // Who was let in before gets nothing, though the tenant is served again.
        assert_eq!((state(&own), state(&let_in(&door, &issued).await)), (Err(Ended::Tenant), Ok(())));
        // Also at the next revocation of the token.
        assert_eq!(state(&door.enter(&operator.text, Some("acme"), 1).await.unwrap()), Ok(()));
    }
}

/// A revocation waits for the answers that are being handed over, and none begins after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_waits_for_the_answer_that_is_being_handed_over() {
    let door = SwappableRouter::new().await;
    let issued = door.issue(door.world.tenant).await;
    let caller = let_in(&door, &issued).await;
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let handing_over = std::thread::spawn({
        let caller = caller.clone();
        move || {
            caller.while_in_force(false, 1, || {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
            })
        }
    });
    has_begun.recv().unwrap();
    let revoking = tokio::task::spawn_blocking({
        let authenticator = door.authenticator.clone();
        let public_id = issued.row.public_id.clone();
        move || authenticator.forget_tokens([public_id.as_str()])
    });
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), async {
        while !revoking.is_finished() {
            tokio::task::yield_now().await;
        }
    });
    assert!(early.await.is_err(), "it was over while an answer was being handed over");
    go_on.send(()).unwrap();
    revoking.await.unwrap();
    assert_eq!(handing_over.join().unwrap(), Ok(()));
    assert_eq!(state(&caller), Err(Ended::Credential));
}
