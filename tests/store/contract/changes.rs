//! What goes into one transaction with an effect.

use std::sync::Arc;

use claviger::store::model::{ConnectionPatch, IdempotencyKey, IdempotencyRecord, Key, KeyPatch, Liftable};
use claviger::store::{Change, Store, StoreError};
use claviger_provider::{PrincipalId, TenantId};

use crate::support::{
    NONE, cases, connection, first, idempotency, intent, key, new_connection, new_key, new_tenant, now, principal, refused, tenant, token,
    version,
};

const HOUR: i64 = 3_600_000_000;

cases! { contract:
    an_intent_is_applied_with_its_effect,
    every_kind_of_change_marks_its_intent,
    an_intent_may_have_several_changes,
    an_intent_without_effect_is_not_applied,
    a_change_that_changes_nothing_is_applied,
    pruning_keeps_the_last_position,
    a_rewind_takes_back_what_lies_behind_it,
    an_answer_is_kept_with_its_effect,
    an_answer_is_kept_under_all_its_parts,
    a_second_use_undoes_its_effect,
    an_effect_that_fails_keeps_no_answer,
    an_answer_is_gone_after_a_day,
    old_answers_are_pruned,
    the_number_of_lifts_goes_on_from_the_journal_s,
    one_of_two_at_once_wins,
}

fn with(record: IdempotencyRecord) -> Change {
    Change {
        intent: Some(5),
        idempotency: Some(record),
        ..NONE
    }
}

async fn an_intent_is_applied_with_its_effect(store: Arc<dyn Store>) {
    assert_eq!(store.last_applied().await.unwrap(), None);
    store.create_tenant(&tenant("a"), Vec::new(), &intent(7)).await.unwrap();
    store.create_tenant(&tenant("b"), Vec::new(), &intent(3)).await.unwrap();
    for (position, applied) in [(2, false), (3, true), (4, false), (7, true)] {
        assert_eq!(store.is_applied(position).await.unwrap(), applied, "{position}");
    }
    assert_eq!(store.last_applied().await.unwrap(), Some(7));
    let beyond = store.create_tenant(&tenant("c"), Vec::new(), &intent(u64::MAX)).await;
    refused!(beyond, StoreError::Damaged(_));
}

async fn every_kind_of_change_marks_its_intent(store: Arc<dyn Store>) {
    let mut position = 0;
    let mut next = || {
        position += 1;
        intent(position)
    };
    let ours = tenant("ours");
    store.create_tenant(&ours, Vec::new(), &next()).await.unwrap();
    let owner = principal(ours.id, "p");
    store.create_principal(&owner, &next()).await.unwrap();
    let its_token = token(&owner, "abcdefghijkl");
    store.create_token(&its_token, &next()).await.unwrap();
    store.revoke_token(ours.id, its_token.id, 0, &next()).await.unwrap();
    store.delete_principal(ours.id, owner.id, 1, &next()).await.unwrap();
    let on = connection(ours.id, "main");
    store.create_connection(&on, Vec::new(), &next()).await.unwrap();
    let patch = ConnectionPatch {
        expected_revision: 1,
        ..ConnectionPatch::default()
    };
    store.update_connection(ours.id, on.id, &patch, Vec::new(), &next()).await.unwrap();
    store.set_connection_severed(ours.id, on.id, true, 0, &next()).await.unwrap();
    let made = key(&on, "k", "arn");
    store.create_key(&made, std::slice::from_ref(&made.primary), &next()).await.unwrap();
    let patch = KeyPatch {
        expected_revision: 1,
        ..KeyPatch::default()
    };
    store.update_key(ours.id, made.id, &patch, &next()).await.unwrap();
    store.set_key_disabled(ours.id, made.id, true, 0, &next()).await.unwrap();
    store
        .add_key_versions(ours.id, made.id, &[version(&made, 2, "arn", "")], 2, 0, &next())
        .await
        .unwrap();
    store.detach_key(ours.id, made.id, 0, &next()).await.unwrap();
    store.disable_detached(ours.id, made.id, 0, &next()).await.unwrap();
    store.delete_connection(ours.id, on.id, &next()).await.unwrap();
    for position in 1..=position {
        assert!(store.is_applied(position).await.unwrap(), "{position}");
    }
    assert_eq!(store.last_applied().await.unwrap(), Some(15));
}

async fn an_intent_may_have_several_changes(store: Arc<dyn Store>) {
    for name in ["a", "b"] {
        store.create_tenant(&tenant(name), Vec::new(), &intent(1)).await.unwrap();
    }
    store.tenant_by_name("b").await.unwrap();
}

async fn an_intent_without_effect_is_not_applied(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let key = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    refused!(
        store.create_tenant(&tenant("ours"), Vec::new(), &intent(1)).await,
        StoreError::AlreadyExists
    );
    refused!(
        store
            .delete_connection(ours, key.primary.connection_id().unwrap(), &intent(2))
            .await,
        StoreError::InUse(_)
    );
    refused!(
        store.delete_principal(ours, PrincipalId::random(), 1, &intent(3)).await,
        StoreError::NotFound
    );
    let missing_primary = store
        .add_key_versions(ours, key.id, &[version(&key, 2, "new", "")], 3, 0, &intent(4))
        .await;
    refused!(missing_primary, StoreError::NotFound);
    assert_eq!(store.last_applied().await.unwrap(), None);
    assert_eq!(store.key_versions(ours, key.id).await.unwrap().len(), 1);
    assert_eq!(store.provider_key_holders(ours, key.primary.provider, "new").await.unwrap(), []);
}

async fn a_change_that_changes_nothing_is_applied(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    store
        .set_connection_severed(ours, connection.id, false, 0, &intent(4))
        .await
        .unwrap();
    assert!(store.is_applied(4).await.unwrap());
}

async fn pruning_keeps_the_last_position(store: Arc<dyn Store>) {
    for position in 1..=5 {
        store
            .create_tenant(&tenant(&format!("t{position}")), Vec::new(), &intent(position))
            .await
            .unwrap();
    }
    store.prune_applied(4).await.unwrap();
    let mut applied = Vec::new();
    for position in 1..=5 {
        applied.push(store.is_applied(position).await.unwrap());
    }
    assert_eq!(applied, [false, false, false, true, true]);
    store.prune_applied(1_000).await.unwrap();
    assert_eq!(store.last_applied().await.unwrap(), Some(5));
    assert!(!store.is_applied(4).await.unwrap());
}

async fn a_rewind_takes_back_what_lies_behind_it(store: Arc<dyn Store>) {
    for position in [3, 5, 9] {
        store
            .create_tenant(&tenant(&format!("t{position}")), Vec::new(), &intent(position))
            .await
            .unwrap();
    }
    store.rewind_applied(Some(6)).await.unwrap();
    assert_eq!(store.last_applied().await.unwrap(), Some(6));
    assert!(store.is_applied(5).await.unwrap() && !store.is_applied(9).await.unwrap());
    store.rewind_applied(None).await.unwrap();
    assert_eq!(store.last_applied().await.unwrap(), None);
    assert!(!store.is_applied(3).await.unwrap());
}

async fn an_answer_is_kept_with_its_effect(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let mut record = idempotency(ours, "once", now());
    record.etag = None;
    assert_eq!(store.idempotent(&record.key).await.unwrap(), None);
    store.create_principal(&principal(ours, "p"), &with(record.clone())).await.unwrap();
    assert_eq!(store.idempotent(&record.key).await.unwrap(), Some(record));
}

async fn an_answer_is_kept_under_all_its_parts(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let record = idempotency(ours, "once", now());
    store.create_principal(&principal(ours, "p"), &with(record.clone())).await.unwrap();
    let others = [
        IdempotencyKey {
            tenant: theirs,
            ..record.key.clone()
        },
        IdempotencyKey {
            principal: PrincipalId::random(),
            ..record.key.clone()
        },
        IdempotencyKey {
            route: "POST /v1/connections".to_owned(),
            ..record.key.clone()
        },
        IdempotencyKey {
            key: "twice".to_owned(),
            ..record.key.clone()
        },
    ];
    for (number, key) in others.into_iter().enumerate() {
        assert_eq!(store.idempotent(&key).await.unwrap(), None);
        let mut other = record.clone();
        other.key = key;
        store
            .create_principal(&principal(ours, &format!("p{number}")), &with(other))
            .await
            .unwrap();
    }
}

async fn a_second_use_undoes_its_effect(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let record = idempotency(ours, "once", now());
    store.create_principal(&principal(ours, "p"), &with(record.clone())).await.unwrap();
    let mut second = record.clone();
    second.body_hmac = [6; 32];
    let change = Change {
        intent: Some(6),
        idempotency: Some(second),
        ..NONE
    };
    refused!(
        store.create_principal(&principal(ours, "q"), &change).await,
        StoreError::IdempotencyTaken
    );
    refused!(store.principal_by_name(ours, "q").await, StoreError::NotFound);
    assert!(!store.is_applied(6).await.unwrap());
    assert_eq!(store.idempotent(&record.key).await.unwrap(), Some(record));
}

async fn an_effect_that_fails_keeps_no_answer(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    store.create_principal(&principal(ours, "p"), &NONE).await.unwrap();
    let record = idempotency(ours, "once", now());
    refused!(
        store.create_principal(&principal(ours, "p"), &with(record.clone())).await,
        StoreError::AlreadyExists
    );
    assert_eq!(store.idempotent(&record.key).await.unwrap(), None);
    assert!(!store.is_applied(5).await.unwrap());
}

async fn an_answer_is_gone_after_a_day(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let young = idempotency(ours, "young", now() - 23 * HOUR);
    let old = idempotency(ours, "old", now() - 25 * HOUR);
    store.create_principal(&principal(ours, "p"), &with(young.clone())).await.unwrap();
    store.create_principal(&principal(ours, "q"), &with(old.clone())).await.unwrap();
    assert_eq!(store.idempotent(&young.key).await.unwrap(), Some(young));
    assert_eq!(store.idempotent(&old.key).await.unwrap(), None);
    // Its key can be used anew.
    let anew = idempotency(ours, "old", now());
    store.create_principal(&principal(ours, "r"), &with(anew.clone())).await.unwrap();
    assert_eq!(store.idempotent(&old.key).await.unwrap(), Some(anew));
}

async fn old_answers_are_pruned(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let time = now();
    for (number, age) in [0, 1, 2].into_iter().enumerate() {
        let record = idempotency(ours, &format!("k{number}"), time - age * HOUR);
        store
            .create_principal(&principal(ours, &format!("p{number}")), &with(record))
            .await
            .unwrap();
    }
    assert_eq!(store.prune_idempotency(time - HOUR).await.unwrap(), 1);
    assert_eq!(store.prune_idempotency(time - HOUR).await.unwrap(), 0);
    assert_eq!(store.idempotent(&idempotency(ours, "k2", 0).key).await.unwrap(), None);
    assert!(store.idempotent(&idempotency(ours, "k1", 0).key).await.unwrap().is_some());
}

async fn the_number_of_lifts_goes_on_from_the_journal_s(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let connection = new_connection(&*store, ours, "main").await;
    let key = new_key(&*store, &connection, "k").await;
    let (of_key, of_connection) = (Liftable::Key(key.id), Liftable::Connection(connection.id));
    for (object, not_theirs) in [
        (of_key, of_key),
        (of_connection, of_connection),
        // A tenant is an operator's object, found from every tenant.
        (Liftable::Tenant(ours), Liftable::Tenant(TenantId::random())),
    ] {
        refused!(store.lifts(theirs, not_theirs).await, StoreError::NotFound);
        refused!(store.raise_lifts(theirs, not_theirs, 5).await, StoreError::NotFound);
        assert_eq!(store.lifts(ours, object).await.unwrap(), 0);
        for (journal, lifts) in [(0, 0), (5, 5), (3, 5)] {
            store.raise_lifts(ours, object, journal).await.unwrap();
            assert_eq!(store.lifts(ours, object).await.unwrap(), lifts);
        }
    }
    // Nothing else of the rows changes.
    assert!(!store.tenant(ours).await.unwrap().suspended);
    assert_eq!(store.lifts(theirs, Liftable::Tenant(theirs)).await.unwrap(), 0);
    assert_eq!(store.key(ours, key.id).await.unwrap(), Key { lifts: 5, ..key.clone() });
    assert_eq!(store.connection(ours, connection.id).await.unwrap().revision, connection.revision);
    // Nor is a number given again by an adoption.
    store.detach_key(ours, key.id, 0, &NONE).await.unwrap();
    let again = Key { lifts: 0, ..key };
    let adopted = store.create_key(&again, std::slice::from_ref(&again.primary), &NONE).await.unwrap();
    assert_eq!(adopted.lifts, 5);
}

async fn one_of_two_at_once_wins(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let record = idempotency(ours, "once", now());
    let attempts = (0..8).map(|number| {
        let (store, change) = (Arc::clone(&store), with(record.clone()));
        tokio::spawn(async move { store.create_principal(&principal(ours, &format!("p{number}")), &change).await })
    });
    let mut won = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert!(matches!(error, StoreError::IdempotencyTaken), "{error}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(store.principals(ours, &first(10)).await.unwrap().len(), 1);
}
