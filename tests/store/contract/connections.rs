//! Connections.

use std::sync::Arc;

use claviger::store::model::{ConnectionPatch, Liftable, Page, Timeouts};
use claviger::store::{Store, StoreError};
use claviger_provider::{ConnectionId, ProviderKind};

use crate::support::{NONE, cases, connection, labels, new_connection, new_key, new_tenant, refused, sealed};

cases! { contract:
    a_connection_is_found_in_its_tenant_only,
    every_provider_is_kept,
    a_name_is_taken_once_in_its_tenant,
    a_change_needs_the_revision_that_was_seen,
    a_change_replaces_secrets_of_the_same_name,
    secrets_stand_under_the_connection,
    severing_and_restoring_move_the_epoch_once_each,
    what_a_key_uses_is_not_deleted,
    secrets_go_with_the_connection,
    connections_are_listed_by_name,
}

async fn a_connection_is_found_in_its_tenant_only(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let mut made = connection(ours, "main");
    made.managed_by = Some("config".to_owned());
    made.timeouts.attempt_ms = Some(1500);
    store.create_connection(&made, Vec::new(), &NONE).await.unwrap();
    assert_eq!(store.connection(ours, made.id).await.unwrap(), made);
    assert_eq!(store.connection_by_name(ours, "main").await.unwrap(), made);
    let patch = ConnectionPatch {
        expected_revision: 1,
        ..ConnectionPatch::default()
    };
    refused!(store.connection(theirs, made.id).await, StoreError::NotFound);
    refused!(store.connection_by_name(theirs, "main").await, StoreError::NotFound);
    refused!(
        store.update_connection(theirs, made.id, &patch, Vec::new(), &NONE).await,
        StoreError::NotFound
    );
    refused!(
        store.set_connection_severed(theirs, made.id, true, 0, &NONE).await,
        StoreError::NotFound
    );
    refused!(store.delete_connection(theirs, made.id, &NONE).await, StoreError::NotFound);
    assert_eq!(store.connection(ours, made.id).await.unwrap(), made);
}

async fn every_provider_is_kept(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    for provider in ProviderKind::ALL {
        let mut made = connection(ours, provider.as_str());
        made.provider = provider;
        store.create_connection(&made, Vec::new(), &NONE).await.unwrap();
        assert_eq!(store.connection(ours, made.id).await.unwrap().provider, provider);
    }
}

async fn a_name_is_taken_once_in_its_tenant(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let made = new_connection(&*store, ours, "main").await;
    let taken = connection(ours, "main");
    let secret = sealed(ours, &taken.id.to_string(), "secret/a", b"x");
    refused!(
        store.create_connection(&taken, vec![secret], &NONE).await,
        StoreError::AlreadyExists
    );
    assert!(store.columns(ours, &taken.id.to_string()).await.unwrap().is_empty());
    let mut same_id = connection(ours, "other");
    same_id.id = made.id;
    refused!(
        store.create_connection(&same_id, Vec::new(), &NONE).await,
        StoreError::AlreadyExists
    );
    new_connection(&*store, theirs, "main").await;
}

async fn a_change_needs_the_revision_that_was_seen(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_connection(&*store, ours, "main").await;
    let patch = |expected_revision| ConnectionPatch {
        expected_revision,
        labels: Some(labels([("a", "b")])),
        at: 77,
        ..ConnectionPatch::default()
    };
    refused!(
        store.update_connection(ours, made.id, &patch(2), Vec::new(), &NONE).await,
        StoreError::Precondition
    );
    assert_eq!(store.connection(ours, made.id).await.unwrap(), made);
    let changed = store.update_connection(ours, made.id, &patch(1), Vec::new(), &NONE).await.unwrap();
    assert_eq!((changed.revision, changed.epoch, changed.updated), (2, 1, 77));
    assert_eq!(changed.labels, labels([("a", "b")]));
    assert_eq!(store.connection(ours, made.id).await.unwrap(), changed);
    refused!(
        store.update_connection(ours, made.id, &patch(1), Vec::new(), &NONE).await,
        StoreError::Precondition
    );
    let unlabelled = ConnectionPatch {
        expected_revision: 2,
        timeouts: Some(Timeouts { attempt_ms: Some(500) }),
        at: 78,
        ..ConnectionPatch::default()
    };
    let changed = store
        .update_connection(ours, made.id, &unlabelled, Vec::new(), &NONE)
        .await
        .unwrap();
    assert_eq!((changed.revision, &changed.labels), (3, &labels([("a", "b")])));
    assert_eq!(changed.timeouts.attempt_ms, Some(500));
    assert_eq!(store.connection(ours, made.id).await.unwrap(), changed);
    // What is left out stays.
    assert_eq!(
        store
            .update_connection(ours, made.id, &patch(3), Vec::new(), &NONE)
            .await
            .unwrap()
            .timeouts,
        changed.timeouts
    );
}

async fn a_change_replaces_secrets_of_the_same_name(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = connection(ours, "main");
    let row = made.id.to_string();
    let secret = |column, value| sealed(ours, &row, column, value);
    let (kept, replaced) = (secret("secret/kept", b"1"), secret("secret/new", b"2"));
    let names = [kept.0.clone(), replaced.0.clone()];
    store.create_connection(&made, vec![kept, replaced], &NONE).await.unwrap();
    let patch = |expected_revision| ConnectionPatch {
        expected_revision,
        ..ConnectionPatch::default()
    };
    store
        .update_connection(ours, made.id, &patch(1), vec![secret("secret/new", b"3")], &NONE)
        .await
        .unwrap();
    // A change that is refused leaves the secrets as they were.
    refused!(
        store
            .update_connection(ours, made.id, &patch(1), vec![secret("secret/new", b"4")], &NONE)
            .await,
        StoreError::Precondition
    );
    assert_eq!(store.get(&names[0]).await.unwrap().unwrap().expose(), b"1");
    assert_eq!(store.get(&names[1]).await.unwrap().unwrap().expose(), b"3");
}

async fn secrets_stand_under_the_connection(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let made = connection(ours, "main");
    for foreign in [
        sealed(theirs, &made.id.to_string(), "a", b"x"),
        sealed(ours, "elsewhere", "a", b"x"),
    ] {
        refused!(store.create_connection(&made, vec![foreign], &NONE).await, StoreError::NotFound);
    }
    refused!(store.connection(ours, made.id).await, StoreError::NotFound);
}

async fn severing_and_restoring_move_the_epoch_once_each(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_connection(&*store, ours, "main").await;
    for (severed, at, epoch, updated, lifts) in [(true, 5, 2, 5, 0), (true, 6, 2, 5, 0), (false, 7, 3, 7, 1), (false, 8, 3, 7, 2)] {
        let changed = store.set_connection_severed(ours, made.id, severed, at, &NONE).await.unwrap();
        assert_eq!(
            (changed.severed, changed.epoch, changed.revision, changed.updated),
            (severed, epoch, epoch, updated)
        );
        let object = Liftable::Connection(made.id);
        assert_eq!((changed.lifts, store.lifts(ours, object).await.unwrap()), (lifts, lifts));
        assert_eq!(store.connection(ours, made.id).await.unwrap(), changed);
    }
    refused!(
        store.set_connection_severed(ours, ConnectionId::random(), true, 0, &NONE).await,
        StoreError::NotFound
    );
}

async fn what_a_key_uses_is_not_deleted(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_connection(&*store, ours, "main").await;
    let key = new_key(&*store, &made, "k").await;
    let later = new_key(&*store, &made, "later").await;
    match store.delete_connection(ours, made.id, &NONE).await {
        Err(StoreError::InUse(first)) => assert_eq!(first, "k"),
        other => panic!("{other:?}"),
    }
    store.detach_key(ours, later.id, 0, &NONE).await.unwrap();
    store.connection(ours, made.id).await.unwrap();
    store.detach_key(ours, key.id, 0, &NONE).await.unwrap();
    store.delete_connection(ours, made.id, &NONE).await.unwrap();
    refused!(store.connection(ours, made.id).await, StoreError::NotFound);
    refused!(store.delete_connection(ours, made.id, &NONE).await, StoreError::NotFound);
    // What the detached key held stays its own.
    let holder = store
        .provider_key_holders(ours, key.primary.provider, &key.primary.provider_key)
        .await
        .unwrap();
    assert_eq!(holder, [(key.id, true)]);
}

async fn secrets_go_with_the_connection(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = connection(ours, "main");
    let row = made.id.to_string();
    store
        .create_connection(&made, vec![sealed(ours, &row, "a", b"1"), sealed(ours, &row, "b", b"2")], &NONE)
        .await
        .unwrap();
    store.insert(vec![sealed(ours, "another row", "a", b"3")]).await.unwrap();
    store.delete_connection(ours, made.id, &NONE).await.unwrap();
    assert!(store.columns(ours, &row).await.unwrap().is_empty());
    assert_eq!(store.columns(ours, "another row").await.unwrap(), ["a"]);
}

async fn connections_are_listed_by_name(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    for name in ["c", "a", "b"] {
        new_connection(&*store, ours, name).await;
    }
    new_connection(&*store, theirs, "aa").await;
    let page = store
        .connections(
            ours,
            &Page {
                after: Some("a".to_owned()),
                size: 5,
            },
        )
        .await
        .unwrap();
    assert_eq!(page.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}
