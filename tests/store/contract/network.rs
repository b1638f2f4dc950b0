//! Network settings of connections, canaries, and what the configuration declares.

use std::sync::Arc;

use claviger::store::model::{Connection, ConnectionPatch, DeclaredRow, Key, NetworkPatch, ProviderState, Releasable, SeenVersion};
use claviger::store::{Store, StoreError, canary_name};
use claviger_provider::{ClaimSpan, KeyId, Secret, TenantId};

use crate::support::{NONE, cases, connection, key, new_connection, new_key, new_tenant, refused, sealed, version};

cases! { contract:
    new_settings_are_stored_with_their_secrets,
    a_version_that_was_not_proven_keeps_the_old_settings,
    a_version_that_was_replaced_needs_no_proof,
    the_claims_follow_the_settings,
    the_claims_follow_the_secrets,
    canaries_stand_with_their_versions,
    what_was_declared_is_listed_until_it_is_released,
}

fn patch(connection: &Connection, settings: &str, claims: ClaimSpan, proven: Option<&[&Key]>) -> ConnectionPatch {
    let proven = proven.map(|keys| keys.iter().map(|key| (key.id, key.primary.number)).collect());
    ConnectionPatch {
        expected_revision: connection.revision,
        network: Some(NetworkPatch {
            settings: settings.to_owned(),
            proven,
        }),
        claims: Some(claims),
        at: 7,
        ..ConnectionPatch::default()
    }
}

async fn new_settings_are_stored_with_their_secrets(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_connection(&*store, ours, "main").await;
    let used = new_key(&*store, &made, "k").await;
    let row = made.id.to_string();
    let wanted = patch(&made, "{\"ca\":\"new\"}", ClaimSpan::Tenant, Some(&[&used]));
    let secret = vec![sealed(ours, &row, "secret/token", b"new")];
    let changed = store.update_connection(ours, made.id, &wanted, secret, &NONE).await.unwrap();
    assert_eq!(
        (changed.settings.as_str(), changed.revision),
        ("{\"ca\":\"new\"}", made.revision + 1)
    );
    // What was made through the old settings stays good.
    assert_eq!(changed.epoch, made.epoch);
    let snapshot = store.connection_snapshot(ours, made.id).await.unwrap();
    assert_eq!((snapshot.connection, snapshot.secrets.len()), (changed, 1));
}

async fn a_version_that_was_not_proven_keeps_the_old_settings(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_connection(&*store, ours, "main").await;
    let (first, second) = (new_key(&*store, &made, "a").await, new_key(&*store, &made, "b").await);
    let update = async |proven: Option<&[&Key]>| {
        let wanted = patch(&made, "{\"ca\":\"new\"}", ClaimSpan::Tenant, proven);
        let secret = vec![sealed(ours, &made.id.to_string(), "secret/token", b"new")];
        store.update_connection(ours, made.id, &wanted, secret, &NONE).await
    };
    for proven in [&[][..], &[&first]] {
        refused!(update(Some(proven)).await, StoreError::Precondition);
    }
    // Nor one that came after the first was proven: a rotation.
    let rotated = version(&first, 2, &first.primary.provider_key, "2");
    let moved = store.add_key_versions(ours, first.id, &[rotated], 2, 5, &NONE).await.unwrap();
    refused!(update(Some(&[&first, &second])).await, StoreError::Precondition);
    assert_eq!(store.connection(ours, made.id).await.unwrap(), made);
    assert!(store.columns(ours, &made.id.to_string()).await.unwrap().is_empty());
    // Old versions and detached keys wrap nothing.
    store.detach_key(ours, second.id, 6, &NONE).await.unwrap();
    update(Some(&[&moved])).await.unwrap();
}

async fn a_version_that_was_replaced_needs_no_proof(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let made = new_connection(&*store, ours, "main").await;
    let (lost, good) = (new_key(&*store, &made, "lost").await, new_key(&*store, &made, "good").await);
    let wanted = patch(&made, "{}", ClaimSpan::Tenant, Some(&[&good]));
    let update = async || store.update_connection(ours, made.id, &wanted, Vec::new(), &NONE).await;
    for (state, wraps) in [(ProviderState::Unknown, true), (ProviderState::Replaced, false)] {
        let seen = SeenVersion::in_state(1, state);
        store.set_provider_states(ours, lost.id, &[seen], 6, &NONE).await.unwrap();
        match wraps {
            true => refused!(update().await, StoreError::Precondition),
            false => assert_eq!(update().await.unwrap().settings, "{}"),
        }
    }
}

/// A connection whose keys are claimed for the installation, in this service.
async fn lent(store: &dyn Store, tenant: TenantId, name: &str, service: &str) -> Connection {
    let mut lent = connection(tenant, name);
    lent.claims = in_service(service);
    store.create_connection(&lent, Vec::new(), &NONE).await.unwrap();
    lent
}

fn in_service(service: &str) -> ClaimSpan {
    ClaimSpan::Installation {
        service: service.to_owned(),
    }
}

async fn the_claims_follow_the_settings(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let here = lent(&*store, ours, "here", "one").await;
    let there = lent(&*store, theirs, "there", "two").await;
    let adopt = async |connection: &Connection, name: &str| {
        let key = key(connection, name, "orders");
        store.create_key(&key, std::slice::from_ref(&key.primary), &NONE).await
    };
    adopt(&here, "k").await.unwrap();
    adopt(&there, "k").await.unwrap();
    // In the other service the provider key is another tenant's.
    let wanted = patch(&here, "{}", in_service("two"), None);
    refused!(
        store.update_connection(ours, here.id, &wanted, Vec::new(), &NONE).await,
        StoreError::ClaimedElsewhere
    );
    assert_eq!(store.connection(ours, here.id).await.unwrap(), here);
    // The claim in the first one ends with the change, and that in the new one begins.
    let wanted = patch(&here, "{}", in_service("three"), None);
    store.update_connection(ours, here.id, &wanted, Vec::new(), &NONE).await.unwrap();
    let freed = lent(&*store, theirs, "freed", "one").await;
    refused!(adopt(&freed, "l").await, StoreError::ProviderKeyTaken);
    let third = new_tenant(&*store, "third").await;
    let freed = lent(&*store, third, "freed", "one").await;
    adopt(&freed, "l").await.unwrap();
    let taken = lent(&*store, third, "taken", "three").await;
    let elsewhere = key(&taken, "m", "orders");
    refused!(
        store.create_key(&elsewhere, std::slice::from_ref(&elsewhere.primary), &NONE).await,
        StoreError::ProviderKeyTaken
    );
}

async fn the_claims_follow_the_secrets(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let here = lent(&*store, ours, "here", "one").await;
    let there = lent(&*store, theirs, "there", "one").await;
    let used = key(&here, "k", "orders");
    store.create_key(&used, std::slice::from_ref(&used.primary), &NONE).await.unwrap();
    let adopt = async || {
        let key = key(&there, "k", "orders");
        store.create_key(&key, std::slice::from_ref(&key.primary), &NONE).await
    };
    let update = async |revision: u64, claims: Option<ClaimSpan>| {
        let wanted = ConnectionPatch {
            expected_revision: revision,
            claims,
            ..ConnectionPatch::default()
        };
        let secret = vec![sealed(ours, &here.id.to_string(), "secret/token", b"new")];
        store.update_connection(ours, here.id, &wanted, secret, &NONE).await.unwrap()
    };
    // Without another span, the claim stays.
    let kept = update(here.revision, None).await;
    assert_eq!(kept.claims, here.claims);
    refused!(adopt().await, StoreError::ClaimedElsewhere);
    let narrowed = update(kept.revision, Some(ClaimSpan::Tenant)).await;
    assert_eq!((narrowed.claims.clone(), &narrowed.settings), (ClaimSpan::Tenant, &here.settings));
    assert_eq!(store.connection(ours, here.id).await.unwrap(), narrowed);
    // The tenant's own claim stays, and the installation's is another tenant's now.
    let second = key(&here, "l", "orders");
    refused!(
        store.create_key(&second, std::slice::from_ref(&second.primary), &NONE).await,
        StoreError::ProviderKeyTaken
    );
    adopt().await.unwrap();
}

async fn canaries_stand_with_their_versions(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let made = new_connection(&*store, ours, "main").await;
    let other = new_connection(&*store, ours, "other").await;
    let (a, b) = (new_key(&*store, &made, "a").await, new_key(&*store, &made, "b").await);
    new_key(&*store, &other, "c").await;
    let second = version(&a, 2, &a.primary.provider_key, "2");
    store.add_key_versions(ours, a.id, &[second], 2, 5, &NONE).await.unwrap();
    for (key, number, text) in [(a.id, 1, "first"), (b.id, 1, "of b")] {
        let canary = (canary_name(ours, key, number), Secret::copy_from(text.as_bytes()));
        store.insert(vec![canary]).await.unwrap();
        let again = (canary_name(ours, key, number), Secret::copy_from(b"another"));
        assert!(store.insert(vec![again]).await.is_err(), "the first one stays");
    }
    type Found = Vec<(String, u32, bool, Option<Vec<u8>>)>;
    let found = async |tenant: TenantId, most: u32| -> Found {
        let found = store.canaries(tenant, made.id, most).await.unwrap();
        let row = |row: claviger::store::model::VersionCanary| {
            let canary = row.canary.map(|canary| canary.expose().to_vec());
            (row.name, row.version.number, row.is_primary, canary)
        };
        found.into_iter().map(row).collect()
    };
    let expected = [
        ("a".to_owned(), 2, true, None),
        ("a".to_owned(), 1, false, Some(b"first".to_vec())),
        ("b".to_owned(), 1, true, Some(b"of b".to_vec())),
    ];
    assert_eq!(found(ours, 9).await, expected);
    assert_eq!(found(ours, 2).await, expected[..2]);
    assert_eq!(found(theirs, 9).await, []);
    store.detach_key(ours, b.id, 6, &NONE).await.unwrap();
    assert_eq!(found(ours, 9).await, expected[..2]);
}

async fn what_was_declared_is_listed_until_it_is_released(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let mut declared = connection(ours, "declared");
    declared.managed_by = Some("config".to_owned());
    store.create_connection(&declared, Vec::new(), &NONE).await.unwrap();
    let own = new_connection(&*store, ours, "own").await;
    new_key(&*store, &own, "own").await;
    let mut managed = key(&declared, "managed", "provider/managed");
    managed.managed_by = Some("config".to_owned());
    store
        .create_key(&managed, std::slice::from_ref(&managed.primary), &NONE)
        .await
        .unwrap();
    let row = |kind, name: &str| DeclaredRow {
        kind,
        tenant: "ours".to_owned(),
        name: name.to_owned(),
    };
    let listed = [row(Releasable::Connection, "declared"), row(Releasable::Key, "managed")];
    assert_eq!(store.declared(9).await.unwrap(), listed);
    assert_eq!(store.declared(1).await.unwrap(), listed[..1]);

    let released = store.release_connection(ours, declared.id, 8, &NONE).await.unwrap();
    assert_eq!((released.managed_by.as_deref(), released.revision, released.updated), (None, 2, 8));
    assert_eq!(store.connection(ours, declared.id).await.unwrap(), released);
    assert_eq!(store.release_connection(ours, declared.id, 9, &NONE).await.unwrap(), released);
    let released = store.release_key(ours, managed.id, 8, &NONE).await.unwrap();
    assert_eq!((released.managed_by.as_deref(), released.revision), (None, managed.revision + 1));
    assert_eq!(store.key(ours, managed.id).await.unwrap(), released);
    assert_eq!(store.declared(9).await.unwrap(), []);
    refused!(store.release_key(ours, KeyId::random(), 8, &NONE).await, StoreError::NotFound);
}
