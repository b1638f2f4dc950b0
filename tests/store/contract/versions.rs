//! The versions of a key: many of them, and those that a provider has yet to make.

use std::collections::BTreeSet;
use std::sync::Arc;

use claviger::store::model::{Key, KeyState, ProviderState, SeenVersion, WrapsReserved};
use claviger::store::{Store, StoreError};

use crate::support::{NONE, cases, key, new_connection, new_key, new_tenant, refused, version};

cases! { contract:
    a_rotation_under_way_is_noted_until_its_version_is_there,
    a_thousand_versions_are_written_and_changed,
    wraps_are_reserved_up_to_the_limit_and_never_given_back,
    wraps_reserved_at_once_count_each,
    a_version_that_was_replaced_gives_its_names_up_until_it_is_back,
}

/// The most wraps of one version.
const LIMIT: u64 = 1 << 32;

async fn a_version_that_was_replaced_gives_its_names_up_until_it_is_back(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let named = |number| version(&made, number, &made.primary.provider_key, "b");
    let seen = |number, state, created| SeenVersion {
        created,
        ..SeenVersion::in_state(number, state)
    };
    let states = async |states: &[SeenVersion]| {
        store.set_provider_states(ours, made.id, states, 9, &NONE).await.unwrap();
        let versions = store.key_versions(ours, made.id).await.unwrap();
        versions
            .iter()
            .map(|one| (one.provider_state, one.created))
            .skip(1)
            .collect::<Vec<_>>()
    };
    store.add_key_versions(ours, made.id, &[named(2)], 2, 9, &NONE).await.unwrap();
    let another = store.add_key_versions(ours, made.id, &[named(3)], 3, 9, &NONE).await;
    refused!(another, StoreError::AlreadyExists);
    let second = store.key_versions(ours, made.id).await.unwrap().remove(1).created;
    let (replaced, enabled) = (ProviderState::Replaced, ProviderState::Enabled);
    assert_eq!(states(&[seen(2, replaced, None)]).await, [(replaced, second)]);
    let added = store.add_key_versions(ours, made.id, &[named(3)], 3, 9, &NONE).await.unwrap();
    assert_eq!(added.primary.number, 3);
    let third = store.key_versions(ours, made.id).await.unwrap().remove(2).created;
    // The older one is back, created at another time, and the newer one is not.
    let back = states(&[seen(2, enabled, Some(7)), seen(3, replaced, None)]).await;
    assert_eq!(back, [(enabled, 7_000_000), (replaced, third)]);
    let primary = store.key(ours, made.id).await.unwrap().primary;
    assert_eq!(primary.provider_state, replaced);
}

const fn granted(granted: u64, total: u64) -> WrapsReserved {
    WrapsReserved { granted, total }
}

async fn wraps_are_reserved_up_to_the_limit_and_never_given_back(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let connection = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &connection, "k").await;
    let second = [version(&made, 2, &made.primary.provider_key, "b")];
    store.add_key_versions(ours, made.id, &second, 2, 9, &NONE).await.unwrap();
    let other = new_key(&*store, &connection, "other").await;
    let reserve = async |key: &Key, version, count| store.reserve_wraps(ours, key.id, version, count).await;

    assert_eq!(reserve(&made, 1, 1).await.unwrap(), granted(1, 1));
    assert_eq!(reserve(&made, 1, 2).await.unwrap(), granted(2, 3));
    assert_eq!(reserve(&made, 1, LIMIT - 5).await.unwrap(), granted(LIMIT - 5, LIMIT - 2));
    assert_eq!(reserve(&made, 1, 64).await.unwrap(), granted(2, LIMIT));
    assert_eq!(reserve(&made, 1, 64).await.unwrap(), granted(0, LIMIT));
    // Each version and each key has its own.
    assert_eq!(reserve(&made, 2, 4).await.unwrap(), granted(4, 4));
    assert_eq!(reserve(&other, 1, 4).await.unwrap(), granted(4, 4));
    refused!(reserve(&made, 3, 1).await, StoreError::NotFound);
    refused!(store.reserve_wraps(theirs, made.id, 1, 1).await, StoreError::NotFound);

    // It is no change of the key, and no change of the key or its versions touches it.
    let before = store.key(ours, made.id).await.unwrap();
    for state in [ProviderState::Disabled, ProviderState::Enabled] {
        let state = SeenVersion::in_state(1, state);
        store.set_provider_states(ours, made.id, &[state], 10, &NONE).await.unwrap();
        assert_eq!(reserve(&made, 1, 1).await.unwrap(), granted(0, LIMIT));
    }
    assert_eq!(store.key(ours, made.id).await.unwrap().revision, before.revision + 2);
    // Nor does a detach, or an adoption under the old id.
    store.detach_key(ours, made.id, 11, &NONE).await.unwrap();
    assert_eq!(reserve(&made, 1, 1).await.unwrap(), granted(0, LIMIT));
    let again = key(&connection, "again", &made.primary.provider_key);
    let again = Key { id: made.id, ..again };
    store.create_key(&again, std::slice::from_ref(&again.primary), &NONE).await.unwrap();
    assert_eq!(reserve(&made, 1, 1).await.unwrap(), granted(0, LIMIT));
    assert_eq!(reserve(&made, 2, 1).await.unwrap(), granted(1, 5));
}

async fn wraps_reserved_at_once_count_each(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let all = futures::future::join_all((1..=16).map(|count| store.reserve_wraps(ours, made.id, 1, count))).await;
    let mut totals: Vec<(u64, u64)> = all
        .into_iter()
        .map(|one| one.unwrap())
        .map(|one| (one.total, one.granted))
        .collect();
    totals.sort_unstable();
    let mut sum = 0;
    for (total, granted) in totals {
        sum += granted;
        assert_eq!(total, sum);
    }
    assert_eq!(sum, 136);
}

async fn a_thousand_versions_are_written_and_changed(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let other = new_key(&*store, &new_connection(&*store, ours, "other").await, "other").await;
    let versions: Vec<_> = (2..=1000)
        .map(|number| version(&made, number, &made.primary.provider_key, &format!("v{number}")))
        .collect();
    let added = store.add_key_versions(ours, made.id, &versions, 1000, 5, &NONE).await.unwrap();
    assert_eq!((added.primary.number, added.revision), (1000, made.revision + 1));
    let stored = store.key_versions(ours, made.id).await.unwrap();
    assert_eq!(stored[1..], versions);
    // Every second one changes, and no other key's.
    let states: Vec<_> = (1..=500)
        .map(|half| SeenVersion::in_state(2 * half, ProviderState::Disabled))
        .collect();
    store.set_provider_states(ours, made.id, &states, 6, &NONE).await.unwrap();
    for version in store.key_versions(ours, made.id).await.unwrap() {
        let disabled = version.number % 2 == 0;
        assert_eq!(version.provider_state == ProviderState::Disabled, disabled, "{}", version.number);
        assert_eq!(
            (version.connection_id(), version.state),
            (made.primary.connection_id(), KeyState::Enabled)
        );
    }
    assert_eq!(store.key_versions(ours, other.id).await.unwrap(), [other.primary]);
}

async fn a_rotation_under_way_is_noted_until_its_version_is_there(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let other = new_key(&*store, &new_connection(&*store, theirs, "main").await, "k").await;
    assert_eq!((made.rotating, store.rotating_keys(10, 4).await.unwrap()), (None, Vec::new()));
    let noted = store.set_key_rotating(ours, made.id, Some(7), 8, &NONE).await.unwrap();
    assert_eq!((noted.rotating, noted.revision, noted.updated), (Some(7), made.revision + 1, 8));
    assert_eq!(store.key(ours, made.id).await.unwrap(), noted);
    store.set_key_rotating(theirs, other.id, Some(5), 8, &NONE).await.unwrap();
    // One tenant's many keys keep no place from another's.
    let connection = new_connection(&*store, theirs, "second").await;
    for (name, since) in [("a", 1), ("b", 2), ("c", 3)] {
        let key = new_key(&*store, &connection, name).await;
        store.set_key_rotating(theirs, key.id, Some(since), 8, &NONE).await.unwrap();
    }
    let of_each = store.rotating_keys(2, 4).await.unwrap();
    assert_eq!(
        of_each.iter().map(|(tenant, _)| *tenant).collect::<BTreeSet<_>>(),
        BTreeSet::from([ours, theirs])
    );
    assert_eq!(store.rotating_keys(10, 2).await.unwrap().len(), 3);
    assert_eq!(store.rotating_keys(10, 4).await.unwrap().len(), 5);
    // Those of a suspended tenant wait, and keep no place from the others.
    store.set_tenant_suspended(theirs, true, &NONE).await.unwrap();
    assert_eq!(store.rotating_keys(10, 4).await.unwrap(), [(ours, made.id)]);
    store.set_tenant_suspended(theirs, false, &NONE).await.unwrap();
    assert_eq!(store.rotating_keys(10, 4).await.unwrap().len(), 5);

    // Those whose answer was lost are counted.
    assert_eq!(store.lost_rotations().await.unwrap(), 0);
    store.set_key_rotating(ours, made.id, Some(-7), 9, &NONE).await.unwrap();
    assert_eq!(store.lost_rotations().await.unwrap(), 1);

    let versions = [version(&made, 2, &made.primary.provider_key, "b")];
    let finished = store.add_key_versions(ours, made.id, &versions, 2, 9, &NONE).await.unwrap();
    assert_eq!((finished.rotating, finished.primary.number), (None, 2));
    assert_eq!(store.lost_rotations().await.unwrap(), 0);
    let given_up = store.set_key_rotating(theirs, other.id, None, 9, &NONE).await.unwrap();
    assert_eq!(given_up.rotating, None);
    let left = store.rotating_keys(10, 4).await.unwrap();
    assert!(
        left.len() == 3 && !left.contains(&(ours, made.id)) && !left.contains(&(theirs, other.id)),
        "{left:?}"
    );
    // A detached key is asked about no more, and comes back without it.
    store.set_key_rotating(ours, made.id, Some(7), 10, &NONE).await.unwrap();
    store.detach_key(ours, made.id, 11, &NONE).await.unwrap();
    assert!(!store.rotating_keys(10, 4).await.unwrap().contains(&(ours, made.id)));
    refused!(store.set_key_rotating(ours, made.id, None, 12, &NONE).await, StoreError::NotFound);
}
