//! Keys, their versions and their claims on provider keys.

use std::sync::Arc;

use claviger::store::model::{CacheSettings, ConnectionRef, Custody, KeyPatch, KeyState, Liftable, Material, ProviderState, SeenVersion};
use claviger::store::{Store, StoreError};
use claviger_provider::{ConnectionId, Exposure, KeyId, KeySpec, ProviderKind};

use crate::support::{NONE, cases, connection, key, labels, new_connection, new_key, new_tenant, refused, version};

cases! { contract:
    a_key_comes_back_as_it_was_made,
    another_tenant_s_key_is_absent,
    names_and_ids_are_taken_once,
    the_same_id_may_stand_in_two_tenants,
    a_key_needs_its_connection_and_its_primary_version,
    a_change_needs_the_revision_that_was_seen,
    the_epoch_follows_the_cache_rules,
    a_name_that_is_taken_is_refused_to_a_change,
    disabling_and_enabling_move_the_epoch_once_each,
    versions_are_added_with_their_claims,
    versions_that_are_there_stay,
    states_at_the_provider_are_stored_beside_ours,
    another_rotation_came_first,
    a_detached_key_is_gone_and_its_name_free,
    a_detached_key_is_adopted_again_under_its_id,
    a_detached_key_changes_no_provider,
}

async fn a_key_comes_back_as_it_was_made(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    let mut elsewhere = crate::support::connection(ours, "hsm");
    elsewhere.provider = ProviderKind::Pkcs11;
    store.create_connection(&elsewhere, Vec::new(), &NONE).await.unwrap();
    for spec in [KeySpec::Aes256, KeySpec::Rsa3072, KeySpec::Rsa4096] {
        let mut made = key(&connection, spec.as_str(), &format!("arn/{}", spec.as_str()));
        made.state = KeyState::Disabled;
        made.compromised_since = Some(8);
        made.needs_restore = true;
        made.allow_export = true;
        made.primary.number = 2;
        made.primary.spec = spec;
        made.primary.expires = Some(9);
        made.cache = CacheSettings {
            enabled: Some(false),
            max_age_s: Some(60),
            max_idle_s: None,
            max_uses: Some(9),
        };
        made.labels = labels([("team", "storage"), ("stage", "")]);
        made.managed_by = Some("config".to_owned());
        made.epoch = 4;
        made.lifts = 3;
        let mut old = version(&made, 1, "arn/old", &format!("v/{}", spec.as_str()));
        old.provider_key.push_str(spec.as_str());
        old.connection = Some((&elsewhere).into());
        old.provider = elsewhere.provider;
        old.spec = KeySpec::Rsa4096;
        old.custody = Custody::External;
        old.state = KeyState::Archived;
        old.provider_state = ProviderState::PendingDeletion;
        old.material = Material::Imported;
        old.compromised_since = Some(7);
        old.exposure.exportable = true;
        made.primary.exposure.plaintext_backup = true;
        let versions = [old, made.primary.clone()];
        assert_eq!(store.create_key(&made, &versions, &NONE).await.unwrap(), made);
        assert_eq!(store.key(ours, made.id).await.unwrap(), made);
        assert_eq!(store.key_by_name(ours, spec.as_str()).await.unwrap(), made);
        assert_eq!(store.key_versions(ours, made.id).await.unwrap(), versions);
    }
}

async fn another_tenant_s_key_is_absent(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    refused!(store.key(theirs, made.id).await, StoreError::NotFound);
    refused!(store.key_by_name(theirs, "k").await, StoreError::NotFound);
    refused!(store.key_versions(theirs, made.id).await, StoreError::NotFound);
    let patch = KeyPatch {
        expected_revision: 1,
        ..KeyPatch::default()
    };
    refused!(store.update_key(theirs, made.id, &patch, &NONE).await, StoreError::NotFound);
    refused!(store.set_key_disabled(theirs, made.id, true, 0, &NONE).await, StoreError::NotFound);
    refused!(
        store
            .add_key_versions(theirs, made.id, &[version(&made, 2, "x", "")], 2, 0, &NONE)
            .await,
        StoreError::NotFound
    );
    refused!(store.detach_key(theirs, made.id, 0, &NONE).await, StoreError::NotFound);
    assert_eq!(store.key(ours, made.id).await.unwrap(), made);
}

async fn names_and_ids_are_taken_once(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let connection = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &connection, "k").await;
    let same_name = key(&connection, "k", "other");
    refused!(
        store.create_key(&same_name, std::slice::from_ref(&same_name.primary), &NONE).await,
        StoreError::AlreadyExists
    );
    let mut same_id = key(&connection, "l", "other");
    same_id.id = made.id;
    refused!(
        store.create_key(&same_id, std::slice::from_ref(&same_id.primary), &NONE).await,
        StoreError::AlreadyExists
    );
    assert_eq!(store.provider_key_holders(ours, connection.provider, "other").await.unwrap(), []);
    assert_eq!(store.key(ours, made.id).await.unwrap(), made);
    new_key(&*store, &new_connection(&*store, theirs, "main").await, "k").await;
}

async fn the_same_id_may_stand_in_two_tenants(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let mut other = key(&new_connection(&*store, theirs, "main").await, "k", "other");
    other.id = made.id;
    store.create_key(&other, std::slice::from_ref(&other.primary), &NONE).await.unwrap();
    assert_eq!(store.key(ours, made.id).await.unwrap(), made);
    assert_eq!(store.key(theirs, made.id).await.unwrap(), other);
    assert_eq!(store.key_versions(theirs, made.id).await.unwrap(), [other.primary]);
}

async fn a_key_needs_its_connection_and_its_primary_version(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let foreign = new_connection(&*store, theirs, "main").await;
    let connection = new_connection(&*store, ours, "main").await;
    let made = key(&connection, "k", "arn");
    for id in [foreign.id, ConnectionId::random()] {
        let mut elsewhere = made.clone();
        elsewhere.primary.connection = Some(ConnectionRef {
            id,
            name: "main".to_owned(),
        });
        refused!(
            store.create_key(&elsewhere, std::slice::from_ref(&elsewhere.primary), &NONE).await,
            StoreError::NotFound
        );
    }
    refused!(store.create_key(&made, &[], &NONE).await, StoreError::NotFound);
    refused!(
        store.create_key(&made, &[version(&made, 2, "arn", "")], &NONE).await,
        StoreError::NotFound
    );
    refused!(
        store.create_key(&made, &[version(&made, 1, "other", "")], &NONE).await,
        StoreError::NotFound
    );
    refused!(store.key(ours, made.id).await, StoreError::NotFound);
}

async fn a_change_needs_the_revision_that_was_seen(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let patch = |expected_revision| KeyPatch {
        expected_revision,
        name: Some("renamed".to_owned()),
        labels: Some(labels([("a", "b")])),
        cache: None,
        allow_export: Some(true),
        at: 77,
    };
    refused!(store.update_key(ours, made.id, &patch(2), &NONE).await, StoreError::Precondition);
    assert_eq!(store.key(ours, made.id).await.unwrap(), made);
    let changed = store.update_key(ours, made.id, &patch(1), &NONE).await.unwrap();
    assert_eq!((changed.revision, changed.epoch, changed.updated), (2, 1, 77));
    assert_eq!((changed.name.as_str(), &changed.labels), ("renamed", &labels([("a", "b")])));
    assert!(changed.allow_export && !made.allow_export);
    assert_eq!(store.key_by_name(ours, "renamed").await.unwrap(), changed);
    refused!(store.key_by_name(ours, "k").await, StoreError::NotFound);
    refused!(
        store.update_key(ours, KeyId::random(), &patch(1), &NONE).await,
        StoreError::NotFound
    );
}

async fn the_epoch_follows_the_cache_rules(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let off = CacheSettings {
        enabled: Some(false),
        ..CacheSettings::default()
    };
    let steps = [(Some(off), 2), (Some(off), 2), (None, 2), (Some(CacheSettings::default()), 3)];
    for (revision, (cache, epoch)) in (made.revision..).zip(steps) {
        let patch = KeyPatch {
            expected_revision: revision,
            cache,
            ..KeyPatch::default()
        };
        let changed = store.update_key(ours, made.id, &patch, &NONE).await.unwrap();
        assert_eq!((changed.epoch, changed.revision), (epoch, revision + 1));
    }
}

async fn a_name_that_is_taken_is_refused_to_a_change(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    let (made, other) = (new_key(&*store, &connection, "k").await, new_key(&*store, &connection, "l").await);
    let rename = KeyPatch {
        expected_revision: 1,
        name: Some("l".to_owned()),
        ..KeyPatch::default()
    };
    refused!(store.update_key(ours, made.id, &rename, &NONE).await, StoreError::AlreadyExists);
    assert_eq!(store.key(ours, made.id).await.unwrap(), made);
    let stay = KeyPatch {
        expected_revision: 1,
        name: Some("k".to_owned()),
        ..KeyPatch::default()
    };
    store.update_key(ours, made.id, &stay, &NONE).await.unwrap();
    store.detach_key(ours, other.id, 0, &NONE).await.unwrap();
    store
        .update_key(
            ours,
            made.id,
            &KeyPatch {
                expected_revision: 2,
                ..rename
            },
            &NONE,
        )
        .await
        .unwrap();
}

async fn disabling_and_enabling_move_the_epoch_once_each(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    for (disabled, at, epoch, updated, lifts) in [(true, 5, 2, 5, 0), (true, 6, 2, 5, 0), (false, 7, 3, 7, 1), (false, 8, 3, 7, 2)] {
        let changed = store.set_key_disabled(ours, made.id, disabled, at, &NONE).await.unwrap();
        assert_eq!(
            (changed.state.is_disabled(), changed.epoch, changed.revision, changed.updated),
            (disabled, epoch, epoch, updated)
        );
        assert_eq!(
            (changed.lifts, store.lifts(ours, Liftable::Key(made.id)).await.unwrap()),
            (lifts, lifts)
        );
        assert_eq!(store.key(ours, made.id).await.unwrap(), changed);
    }
    refused!(
        store.set_key_disabled(ours, KeyId::random(), true, 0, &NONE).await,
        StoreError::NotFound
    );
}

async fn versions_are_added_with_their_claims(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let added = [
        version(&made, 2, &made.primary.provider_key, "b"),
        version(&made, 3, "successor", ""),
    ];
    let changed = store.add_key_versions(ours, made.id, &added, 3, 9, &NONE).await.unwrap();
    assert_eq!(&changed.primary, &added[1]);
    assert_eq!((changed.epoch, changed.revision, changed.updated), (1, 2, 9));
    assert_eq!(store.key(ours, made.id).await.unwrap(), changed);
    let numbers: Vec<_> = store.key_versions(ours, made.id).await.unwrap().iter().map(|v| v.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(
        store.provider_key_holders(ours, made.primary.provider, "successor").await.unwrap(),
        [(made.id, false)]
    );

    let other = new_key(&*store, &new_connection(&*store, ours, "other").await, "l").await;
    let stolen = [version(&other, 2, "fresh", ""), version(&other, 3, "successor", "")];
    refused!(
        store.add_key_versions(ours, other.id, &stolen, 2, 0, &NONE).await,
        StoreError::ProviderKeyTaken
    );
    assert_eq!(store.key_versions(ours, other.id).await.unwrap().len(), 1);
    assert_eq!(store.provider_key_holders(ours, made.primary.provider, "fresh").await.unwrap(), []);
}

async fn versions_that_are_there_stay(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let before = store.key_versions(ours, made.id).await.unwrap();
    let mut again = before[0].clone();
    again.provider_state = ProviderState::Disabled;
    again.created = 0;
    let same = store.add_key_versions(ours, made.id, &[again], 1, 5, &NONE).await.unwrap();
    assert_eq!(same, made);
    assert_eq!(store.key_versions(ours, made.id).await.unwrap(), before);
    // Only the primary version moves.
    store
        .add_key_versions(ours, made.id, &[version(&made, 2, &made.primary.provider_key, "b")], 2, 6, &NONE)
        .await
        .unwrap();
    let back = store.add_key_versions(ours, made.id, &[], 1, 7, &NONE).await.unwrap();
    assert_eq!((back.primary.number, back.revision, back.updated), (1, 3, 7));
    refused!(store.add_key_versions(ours, made.id, &[], 9, 8, &NONE).await, StoreError::NotFound);
    assert_eq!(store.key(ours, made.id).await.unwrap(), back);
}

async fn states_at_the_provider_are_stored_beside_ours(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let second = version(&made, 2, &made.primary.provider_key, "b");
    store.add_key_versions(ours, made.id, &[second], 1, 5, &NONE).await.unwrap();
    let states = [
        SeenVersion::in_state(1, ProviderState::Disabled),
        SeenVersion::in_state(2, ProviderState::Unknown),
        SeenVersion::in_state(9, ProviderState::Failed),
    ];
    let changed = store.set_provider_states(ours, made.id, &states, 6, &NONE).await.unwrap();
    assert_eq!(
        (changed.primary.provider_state, changed.state),
        (ProviderState::Disabled, KeyState::Enabled)
    );
    assert_eq!((changed.revision, changed.epoch, changed.updated), (3, 1, 6));
    assert_eq!(store.key(ours, made.id).await.unwrap(), changed);
    let told: Vec<_> = store
        .key_versions(ours, made.id)
        .await
        .unwrap()
        .into_iter()
        .map(|v| (v.number, v.state, v.provider_state))
        .collect();
    assert_eq!(
        told,
        [
            (1, KeyState::Enabled, ProviderState::Disabled),
            (2, KeyState::Enabled, ProviderState::Unknown)
        ]
    );
    // How the material can leave is stored with it, where the provider says so.
    let exposed = Some(Exposure {
        exportable: true,
        plaintext_backup: false,
    });
    let told = |exposure| SeenVersion {
        exposure,
        ..SeenVersion::in_state(1, ProviderState::Disabled)
    };
    for exposure in [exposed, None] {
        let key = store.set_provider_states(ours, made.id, &[told(exposure)], 6, &NONE).await.unwrap();
        assert_eq!((Some(key.primary.exposure), key.revision), (exposed, 4));
        assert_eq!(store.key(ours, made.id).await.unwrap(), key);
    }
    let changed = store
        .set_provider_states(ours, made.id, &[told(Some(Exposure::NONE))], 6, &NONE)
        .await
        .unwrap();
    assert_eq!((changed.primary.exposure, changed.revision), (Exposure::NONE, 5));
    // What is so already is no change.
    let same = store.set_provider_states(ours, made.id, &states, 7, &NONE).await.unwrap();
    assert_eq!(same, changed);
    refused!(
        store.set_provider_states(ours, KeyId::random(), &states, 7, &NONE).await,
        StoreError::NotFound
    );
}

async fn another_rotation_came_first(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    let rotate = |number, name: &str| [version(&made, number, &made.primary.provider_key, name)];
    let first = store.add_key_versions(ours, made.id, &rotate(2, "b"), 2, 5, &NONE).await.unwrap();
    // The number stands for another version; the provider's version has another number.
    refused!(
        store.add_key_versions(ours, made.id, &rotate(2, "c"), 2, 6, &NONE).await,
        StoreError::AlreadyExists
    );
    refused!(
        store.add_key_versions(ours, made.id, &rotate(3, "b"), 3, 6, &NONE).await,
        StoreError::AlreadyExists
    );
    assert_eq!(store.key(ours, made.id).await.unwrap(), first);
    store.add_key_versions(ours, made.id, &rotate(3, "c"), 3, 6, &NONE).await.unwrap();
    // Where the provider names no version, several may stand on one provider key.
    store.add_key_versions(ours, made.id, &rotate(4, ""), 4, 7, &NONE).await.unwrap();
}

async fn a_detached_key_is_gone_and_its_name_free(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &connection, "k").await;
    store.detach_key(ours, made.id, 5, &NONE).await.unwrap();
    refused!(store.key(ours, made.id).await, StoreError::NotFound);
    refused!(store.key_by_name(ours, "k").await, StoreError::NotFound);
    refused!(store.detach_key(ours, made.id, 6, &NONE).await, StoreError::NotFound);
    refused!(store.set_key_disabled(ours, made.id, true, 6, &NONE).await, StoreError::NotFound);
    refused!(store.add_key_versions(ours, made.id, &[], 1, 6, &NONE).await, StoreError::NotFound);
    let patch = KeyPatch {
        expected_revision: 2,
        ..KeyPatch::default()
    };
    refused!(store.update_key(ours, made.id, &patch, &NONE).await, StoreError::NotFound);
    assert_eq!(store.key_versions(ours, made.id).await.unwrap().len(), 1);

    // The name goes to another key, twice over; the provider key does not.
    for provider_key in ["second", "third"] {
        let next = key(&connection, "k", provider_key);
        store.create_key(&next, std::slice::from_ref(&next.primary), &NONE).await.unwrap();
        store.detach_key(ours, next.id, 7, &NONE).await.unwrap();
    }
    let thief = key(&connection, "k", &made.primary.provider_key);
    refused!(
        store.create_key(&thief, std::slice::from_ref(&thief.primary), &NONE).await,
        StoreError::ProviderKeyTaken
    );
}

async fn a_detached_key_is_adopted_again_under_its_id(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &connection, "k").await;
    store
        .add_key_versions(ours, made.id, &[version(&made, 2, "successor", "b")], 2, 5, &NONE)
        .await
        .unwrap();
    store.detach_key(ours, made.id, 5, &NONE).await.unwrap();
    store.delete_connection(ours, connection.id, &NONE).await.unwrap();

    let second = new_connection(&*store, ours, "second").await;
    let mut again = key(&second, "renamed", "successor");
    again.id = made.id;
    again.primary = version(&again, 2, "successor", "b");
    again.labels = labels([("a", "b")]);
    let versions = [again.primary.clone(), version(&again, 3, "successor", "c")];
    // A number that stood for another version is refused, and the key stays detached.
    let mut clash = again.clone();
    clash.primary.provider_version = "other".to_owned();
    refused!(
        store.create_key(&clash, std::slice::from_ref(&clash.primary), &NONE).await,
        StoreError::AlreadyExists
    );
    refused!(store.key(ours, made.id).await, StoreError::NotFound);

    let adopted = store.create_key(&again, &versions, &NONE).await.unwrap();
    // Grown on from the rotation and the detachment, so that nothing kept under an old epoch fits.
    assert_eq!((adopted.epoch, adopted.revision), (3, 4));
    assert_eq!(
        (adopted.primary.connection_id(), adopted.name.as_str(), adopted.primary.number),
        (Some(second.id), "renamed", 2)
    );
    assert_eq!(store.key_by_name(ours, "renamed").await.unwrap(), adopted);
    let kept: Vec<_> = store
        .key_versions(ours, made.id)
        .await
        .unwrap()
        .into_iter()
        .map(|v| (v.number, v.connection.map(|connection| connection.id), v.provider_key))
        .collect();
    assert_eq!(
        kept,
        [
            // Its provider key did not come back, and its connection is gone.
            (1, None, made.primary.provider_key),
            (2, Some(second.id), "successor".to_owned()),
            (3, Some(second.id), "successor".to_owned())
        ]
    );
    refused!(store.create_key(&again, &versions, &NONE).await, StoreError::AlreadyExists);
}

async fn a_detached_key_changes_no_provider(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_key(&*store, &new_connection(&*store, ours, "main").await, "k").await;
    store.detach_key(ours, made.id, 5, &NONE).await.unwrap();
    let mut elsewhere = connection(ours, "vault");
    elsewhere.provider = ProviderKind::Vault;
    store.create_connection(&elsewhere, Vec::new(), &NONE).await.unwrap();
    let mut again = key(&elsewhere, "k", "transit/k");
    again.id = made.id;
    refused!(
        store.create_key(&again, std::slice::from_ref(&again.primary), &NONE).await,
        StoreError::AlreadyExists
    );
}
