//! Keys that move: versions through several connections.

use std::sync::Arc;

use claviger::store::model::{Connection, KeyFilter};
use claviger::store::{Store, StoreError};
use claviger_provider::{ProviderKind, TenantId};

use crate::support::{NONE, cases, connection, first, key, new_connection, new_key, new_tenant, refused, through, version};

cases! { contract:
    a_key_moves_by_a_version_through_another_connection,
    a_move_repeats_no_version_of_the_key,
    a_rotation_in_place_repeats_one_only_where_it_is,
    a_move_claims_its_provider_key,
    a_connection_is_in_use_while_any_version_of_an_attached_key_is_on_it,
    a_key_is_listed_where_its_primary_version_is,
    old_versions_follow_a_key_that_is_adopted_again,
}

/// A connection to Vault; those of the other fixtures are to AWS.
async fn vault(store: &dyn Store, tenant: TenantId, name: &str) -> Connection {
    let mut made = connection(tenant, name);
    made.provider = ProviderKind::Vault;
    store.create_connection(&made, Vec::new(), &NONE).await.unwrap();
    made
}

async fn a_key_moves_by_a_version_through_another_connection(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    store.set_key_rotating(ours, made.id, Some(3), 4, &NONE).await.unwrap();
    let there = vault(&*store, ours, "vault").await;
    let next = through(&there, 2, "transit/k", "1");
    let moved = store
        .move_key(ours, made.id, std::slice::from_ref(&next), 2, 9, &NONE)
        .await
        .unwrap();
    assert_eq!(
        (&moved.primary, moved.rotating, moved.epoch, moved.revision, moved.updated),
        (&next, None, 1, 3, 9)
    );
    assert_eq!(store.key(ours, made.id).await.unwrap(), moved);
    assert_eq!(store.key_versions(ours, made.id).await.unwrap(), [made.primary, next]);
    let theirs = new_tenant(&*store, "theirs").await;
    let foreign = through(&vault(&*store, theirs, "vault").await, 3, "transit/l", "1");
    refused!(store.move_key(ours, made.id, &[foreign], 3, 10, &NONE).await, StoreError::NotFound);
    refused!(store.move_key(ours, made.id, &[], 7, 10, &NONE).await, StoreError::NotFound);
    assert_eq!(store.key(ours, made.id).await.unwrap(), moved);
}

async fn a_move_repeats_no_version_of_the_key(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let (here, there) = (
        new_connection(&*store, ours, "here").await,
        new_connection(&*store, ours, "there").await,
    );
    let unnamed = new_key(&*store, &here, "k").await;
    let mut named = key(&here, "l", "arn/l");
    named.primary.provider_version = "a".to_owned();
    let named = store.create_key(&named, std::slice::from_ref(&named.primary), &NONE).await.unwrap();
    for made in [unnamed, named] {
        let primary = &made.primary;
        for connection in [&here, &there] {
            let again = through(connection, 2, &primary.provider_key, &primary.provider_version);
            let fresh = through(connection, 3, "fresh", "");
            // Nor among others, and not under its own number.
            for versions in [vec![again.clone()], vec![fresh, again.clone()]] {
                refused!(
                    store.move_key(ours, made.id, &versions, 2, 5, &NONE).await,
                    StoreError::ProviderKeyTaken
                );
            }
        }
        refused!(
            store.move_key(ours, made.id, std::slice::from_ref(primary), 1, 5, &NONE).await,
            StoreError::ProviderKeyTaken
        );
        assert_eq!(store.key(ours, made.id).await.unwrap(), made);
        assert_eq!(store.key_versions(ours, made.id).await.unwrap().len(), 1);
    }
    assert_eq!(store.provider_key_holders(ours, here.provider, "fresh").await.unwrap(), []);
}

async fn a_rotation_in_place_repeats_one_only_where_it_is(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let (here, there) = (
        new_connection(&*store, ours, "here").await,
        new_connection(&*store, ours, "there").await,
    );
    let made = new_key(&*store, &here, "k").await;
    let provider_key = made.primary.provider_key.clone();
    let again = [version(&made, 2, &provider_key, "")];
    store.add_key_versions(ours, made.id, &again, 2, 5, &NONE).await.unwrap();
    let elsewhere = [through(&there, 3, &provider_key, "")];
    refused!(
        store.add_key_versions(ours, made.id, &elsewhere, 3, 6, &NONE).await,
        StoreError::ProviderKeyTaken
    );
    assert_eq!(store.key(ours, made.id).await.unwrap().primary.number, 2);
}

async fn a_move_claims_its_provider_key(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let there = vault(&*store, ours, "vault").await;
    let other = new_key(&*store, &there, "l").await;
    let taken = [through(&there, 2, &other.primary.provider_key, "7")];
    refused!(
        store.move_key(ours, made.id, &taken, 2, 5, &NONE).await,
        StoreError::ProviderKeyTaken
    );
    let next = [through(&there, 2, "transit/k", "1")];
    store.move_key(ours, made.id, &next, 2, 5, &NONE).await.unwrap();
    for (provider, provider_key) in [
        (ProviderKind::Vault, "transit/k"),
        (made.primary.provider, &made.primary.provider_key),
    ] {
        let holder = store.provider_key_holders(ours, provider, provider_key).await.unwrap();
        assert_eq!(holder, [(made.id, false)]);
    }
}

async fn a_connection_is_in_use_while_any_version_of_an_attached_key_is_on_it(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let here = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &here, "k").await;
    let there = vault(&*store, ours, "vault").await;
    let next = [through(&there, 2, "transit/k", "1")];
    store.move_key(ours, made.id, &next, 2, 5, &NONE).await.unwrap();
    for connection in [&here, &there] {
        refused!(store.delete_connection(ours, connection.id, &NONE).await, StoreError::InUse(_));
    }
    store.detach_key(ours, made.id, 6, &NONE).await.unwrap();
    store.delete_connection(ours, here.id, &NONE).await.unwrap();
    let versions = store.key_versions(ours, made.id).await.unwrap();
    let connections: Vec<_> = versions.iter().map(|version| version.connection_id()).collect();
    assert_eq!(connections, [None, Some(there.id)]);
    store.delete_connection(ours, there.id, &NONE).await.unwrap();
}

async fn a_key_is_listed_where_its_primary_version_is(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let here = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &here, "k").await;
    let there = vault(&*store, ours, "vault").await;
    let listed = |connection: &Connection| {
        let (store, id) = (Arc::clone(&store), connection.id);
        async move {
            let filter = KeyFilter {
                connection: Some(id),
                ..KeyFilter::default()
            };
            store.keys(ours, &filter, &first(10)).await.unwrap().items
        }
    };
    assert_eq!((listed(&here).await, listed(&there).await), (vec![made.clone()], vec![]));
    let next = [through(&there, 2, "transit/k", "1")];
    let moved = store.move_key(ours, made.id, &next, 2, 5, &NONE).await.unwrap();
    assert_eq!((listed(&here).await, listed(&there).await), (vec![], vec![moved]));
    let back = store.add_key_versions(ours, made.id, &[], 1, 6, &NONE).await.unwrap();
    assert_eq!((listed(&here).await, listed(&there).await), (vec![back], vec![]));
}

async fn old_versions_follow_a_key_that_is_adopted_again(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let here = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &here, "k").await;
    let there = vault(&*store, ours, "vault").await;
    let next = [through(&there, 2, "transit/k", "1")];
    store.move_key(ours, made.id, &next, 2, 5, &NONE).await.unwrap();
    store.detach_key(ours, made.id, 6, &NONE).await.unwrap();

    let other = vault(&*store, ours, "other").await;
    let mut again = key(&other, "k", "transit/k");
    again.id = made.id;
    again.primary = through(&other, 2, "transit/k", "1");
    store.create_key(&again, std::slice::from_ref(&again.primary), &NONE).await.unwrap();
    let versions = store.key_versions(ours, made.id).await.unwrap();
    let connections: Vec<_> = versions.iter().map(|version| version.connection_id()).collect();
    // That at the other provider stays where it was.
    assert_eq!(connections, [Some(here.id), Some(other.id)]);
    store.delete_connection(ours, there.id, &NONE).await.unwrap();
}
