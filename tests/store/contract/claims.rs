//! Claims on provider keys, and what detached keys remember.

use std::sync::Arc;

use claviger::store::model::{Connection, DetachedFilter, Key, KeyState, MAX_HOLDERS};
use claviger::store::{Store, StoreError};
use claviger_provider::{ClaimSpan, KeyId, ProviderKind, TenantId};

use crate::support::{NONE, cases, connection, first, key, new_connection, new_key, new_tenant, refused, version};

cases! { contract:
    a_provider_key_belongs_to_one_key_of_the_tenant,
    a_claim_within_a_tenant_is_nothing_to_another,
    keys_at_other_servers_have_claims_beside_each_other,
    no_more_keys_have_provider_keys_of_one_id_than_are_listed,
    a_claim_for_the_installation_excludes_other_tenants,
    a_service_is_a_span_of_its_own,
    a_conflict_within_the_tenant_hides_one_with_another,
    a_detach_ends_the_claims_and_not_the_memory,
    a_key_claims_all_its_versions_again_when_it_comes_back,
    detached_keys_are_listed_by_id,
    the_holder_is_told_to_its_tenant_only,
    a_restrictive_state_outlives_the_detach,
    a_journaled_disable_reaches_a_detached_key,
    a_severed_connection_that_is_deleted_leaves_its_detached_keys_disabled,
}

/// A connection whose keys are claimed for the installation, in this service.
async fn lent(store: &dyn Store, tenant: TenantId, name: &str, service: &str) -> Connection {
    let mut connection = connection(tenant, name);
    connection.claims = ClaimSpan::Installation {
        service: service.to_owned(),
    };
    store.create_connection(&connection, Vec::new(), &NONE).await.unwrap();
    assert_eq!(store.connection(tenant, connection.id).await.unwrap(), connection);
    let snapshot = store.connection_snapshot(tenant, connection.id).await.unwrap();
    assert_eq!(snapshot.connection.claims, connection.claims);
    connection
}

async fn adopt(store: &dyn Store, connection: &Connection, name: &str, provider_key: &str) -> Result<Key, StoreError> {
    let key = key(connection, name, provider_key);
    store.create_key(&key, std::slice::from_ref(&key.primary), &NONE).await
}

async fn tenants(store: &dyn Store) -> (TenantId, TenantId) {
    (new_tenant(store, "ours").await, new_tenant(store, "theirs").await)
}

async fn a_provider_key_belongs_to_one_key_of_the_tenant(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let connection = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &connection, "k").await;
    for other in [&connection, &new_connection(&*store, ours, "other").await] {
        let taken = key(other, "l", "fresh");
        let versions = [taken.primary.clone(), version(&taken, 2, &made.primary.provider_key, "")];
        refused!(store.create_key(&taken, &versions, &NONE).await, StoreError::ProviderKeyTaken);
        // Nothing of it stays, not even the claim that came first.
        refused!(store.key_by_name(ours, "l").await, StoreError::NotFound);
        assert_eq!(store.provider_key_holders(ours, made.primary.provider, "fresh").await.unwrap(), []);
    }
    // Another provider's key may have the same text.
    let mut elsewhere = crate::support::connection(ours, "vault");
    elsewhere.provider = ProviderKind::Vault;
    store.create_connection(&elsewhere, Vec::new(), &NONE).await.unwrap();
    adopt(&*store, &elsewhere, "v", &made.primary.provider_key).await.unwrap();
}

async fn keys_at_other_servers_have_claims_beside_each_other(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let (here, there) = (
        new_connection(&*store, ours, "here").await,
        new_connection(&*store, ours, "there").await,
    );
    let provider = here.provider;
    let first = adopt(&*store, &here, "a", "1").await.unwrap();
    let second = key(&there, "b", "1");
    let create = async |beside: &[KeyId]| {
        let change = NONE.beside(beside.to_vec());
        store.create_key(&second, std::slice::from_ref(&second.primary), &change).await
    };
    refused!(create(&[]).await, StoreError::ProviderKeyTaken);
    refused!(create(&[second.id]).await, StoreError::ProviderKeyTaken);
    create(&[first.id]).await.unwrap();
    let third = key(&there, "c", "1");
    let third_beside = NONE.beside(vec![first.id]);
    refused!(
        store.create_key(&third, std::slice::from_ref(&third.primary), &third_beside).await,
        StoreError::ProviderKeyTaken
    );
    // Neither has to prove again what it has: for a later version, nor when it comes back.
    for made in [&first, &second, &first] {
        let number = store.key_versions(ours, made.id).await.unwrap().len() + 1;
        let next = version(made, u32::try_from(number).unwrap(), "1", &format!("{number}"));
        let primary = next.number;
        store.add_key_versions(ours, made.id, &[next], primary, 5, &NONE).await.unwrap();
        store.detach_key(ours, made.id, 6, &NONE).await.unwrap();
        refused!(adopt(&*store, &here, "d", "1").await, StoreError::ProviderKeyTaken);
        let holders = store.provider_key_holders(ours, provider, "1").await.unwrap();
        assert_eq!((holders.len(), holders[1]), (2, (made.id, true)));
        let mut back = key(&here, &made.name, "1");
        back.id = made.id;
        store.create_key(&back, std::slice::from_ref(&back.primary), &NONE).await.unwrap();
    }
}

async fn no_more_keys_have_provider_keys_of_one_id_than_are_listed(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let here = new_connection(&*store, ours, "here").await;
    let mut holders: Vec<KeyId> = Vec::new();
    let create = async |name: &str, beside: &[KeyId]| {
        let made = key(&here, name, "1");
        let change = NONE.beside(beside.to_vec());
        store.create_key(&made, std::slice::from_ref(&made.primary), &change).await
    };
    for number in 1..MAX_HOLDERS {
        let made = create(&format!("k{number}"), &holders).await.unwrap();
        if number == 1 {
            // Attached keys are listed before it.
            store.set_key_disabled(ours, made.id, true, 5, &NONE).await.unwrap();
            store.detach_key(ours, made.id, 6, &NONE).await.unwrap();
        }
        holders.push(made.id);
    }
    refused!(create("more", &holders).await, StoreError::ProviderKeyTaken);
    let listed = store.provider_key_holders(ours, here.provider, "1").await.unwrap();
    assert_eq!((listed.len(), listed.last()), (holders.len(), Some(&(holders[0], true))));
    // One that has a provider key of the id comes back nevertheless, and has others of it.
    let mut back = key(&here, "k1", "1");
    back.id = holders[0];
    let back = store.create_key(&back, std::slice::from_ref(&back.primary), &NONE).await.unwrap();
    assert_eq!(back.state, KeyState::Disabled);
    let next = [version(&back, 2, "1", "2")];
    store.add_key_versions(ours, back.id, &next, 2, 7, &NONE).await.unwrap();
}

async fn a_claim_within_a_tenant_is_nothing_to_another(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let own = new_connection(&*store, ours, "own").await;
    adopt(&*store, &own, "k", "orders").await.unwrap();
    let theirs_own = new_connection(&*store, theirs, "own").await;
    let detached = adopt(&*store, &theirs_own, "k", "orders").await.unwrap();
    // Nor is what the other remembers, nor the other's claim for the installation.
    store.detach_key(theirs, detached.id, 5, &NONE).await.unwrap();
    let shared = lent(&*store, theirs, "shared", "").await;
    let mut back = key(&shared, "k", "orders");
    back.id = detached.id;
    store.create_key(&back, std::slice::from_ref(&back.primary), &NONE).await.unwrap();
    adopt(&*store, &shared, "p", "payments").await.unwrap();
    adopt(&*store, &own, "p", "payments").await.unwrap();
}

async fn a_claim_for_the_installation_excludes_other_tenants(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let (here, there) = (lent(&*store, ours, "c", "").await, lent(&*store, theirs, "c", "").await);
    let made = adopt(&*store, &here, "k", "orders").await.unwrap();
    refused!(adopt(&*store, &there, "k", "orders").await, StoreError::ClaimedElsewhere);
    refused!(store.key_by_name(theirs, "k").await, StoreError::NotFound);
    // A version that is added later claims alike.
    let other = adopt(&*store, &there, "k", "other").await.unwrap();
    let stolen = [version(&other, 2, "orders", "")];
    refused!(
        store.add_key_versions(theirs, other.id, &stolen, 2, 6, &NONE).await,
        StoreError::ClaimedElsewhere
    );
    // A key that was based on it before it was detached, and another tenant has it now.
    store.detach_key(ours, made.id, 7, &NONE).await.unwrap();
    adopt(&*store, &there, "l", "orders").await.unwrap();
    let mut back = key(&here, "k", "orders");
    back.id = made.id;
    refused!(
        store.create_key(&back, std::slice::from_ref(&back.primary), &NONE).await,
        StoreError::ClaimedElsewhere
    );
    assert_eq!(store.detached_key(ours, made.id).await.unwrap().at, 7);
}

async fn a_service_is_a_span_of_its_own(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let here = lent(&*store, ours, "c", "https://one").await;
    adopt(&*store, &here, "k", "transit/orders").await.unwrap();
    let there = lent(&*store, theirs, "c", "https://two").await;
    adopt(&*store, &there, "k", "transit/orders").await.unwrap();
    let same = lent(&*store, theirs, "d", "https://one").await;
    adopt(&*store, &here, "l", "transit/payments").await.unwrap();
    refused!(adopt(&*store, &same, "l", "transit/payments").await, StoreError::ClaimedElsewhere);
}

async fn a_conflict_within_the_tenant_hides_one_with_another(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let (here, there) = (lent(&*store, ours, "c", "").await, lent(&*store, theirs, "c", "").await);
    adopt(&*store, &here, "k", "orders").await.unwrap();
    adopt(&*store, &new_connection(&*store, theirs, "own").await, "k", "orders")
        .await
        .unwrap();
    refused!(adopt(&*store, &there, "l", "orders").await, StoreError::ProviderKeyTaken);
}

async fn a_detach_ends_the_claims_and_not_the_memory(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let (here, there) = (lent(&*store, ours, "c", "").await, lent(&*store, theirs, "c", "").await);
    let mut ids = Vec::new();
    for (connection, tenant) in [(&here, ours), (&there, theirs)] {
        let made = adopt(&*store, connection, "k", "orders").await.unwrap();
        store.detach_key(tenant, made.id, 5, &NONE).await.unwrap();
        ids.push(made.id);
        let provider = made.primary.provider;
        assert_eq!(
            store.provider_key_holders(tenant, provider, "orders").await.unwrap(),
            [(made.id, true)]
        );
        // Under no other id, neither as a first version nor as a later one.
        refused!(adopt(&*store, connection, "l", "orders").await, StoreError::ProviderKeyTaken);
        let other = new_key(&*store, connection, "other").await;
        let versions = [version(&other, 2, "orders", "")];
        refused!(
            store.add_key_versions(tenant, other.id, &versions, 2, 6, &NONE).await,
            StoreError::ProviderKeyTaken
        );
    }
    for (connection, tenant, id) in [(&here, ours, ids[0]), (&there, theirs, ids[1])] {
        let mut back = key(connection, "k", "orders");
        back.id = id;
        store.create_key(&back, std::slice::from_ref(&back.primary), &NONE).await.unwrap();
        assert_eq!(store.key_by_name(tenant, "k").await.unwrap().id, id);
        store.detach_key(tenant, id, 8, &NONE).await.unwrap();
    }
}

async fn a_key_claims_all_its_versions_again_when_it_comes_back(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let (here, there) = (lent(&*store, ours, "c", "").await, lent(&*store, theirs, "c", "").await);
    let made = adopt(&*store, &here, "k", "orders").await.unwrap();
    let next = version(&made, 2, "successor", "");
    store
        .add_key_versions(ours, made.id, std::slice::from_ref(&next), 2, 5, &NONE)
        .await
        .unwrap();
    store.detach_key(ours, made.id, 6, &NONE).await.unwrap();
    let mut back = key(&here, "k", "successor");
    back.id = made.id;
    back.primary = next;
    store.create_key(&back, std::slice::from_ref(&back.primary), &NONE).await.unwrap();
    for (name, provider_key) in [("k", "orders"), ("l", "successor")] {
        refused!(adopt(&*store, &there, name, provider_key).await, StoreError::ClaimedElsewhere);
        refused!(adopt(&*store, &here, "other", provider_key).await, StoreError::ProviderKeyTaken);
    }
}

async fn detached_keys_are_listed_by_id(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let (main, other) = (
        new_connection(&*store, ours, "main").await,
        new_connection(&*store, ours, "other").await,
    );
    let mut expected = Vec::new();
    for (connection, number) in [(&main, 1), (&other, 2), (&main, 3)] {
        let made = adopt(&*store, connection, "k", &format!("orders/{number}")).await.unwrap();
        store.detach_key(ours, made.id, number, &NONE).await.unwrap();
        expected.push((made.id, number, connection.id));
    }
    let attached = new_key(&*store, &main, "k").await;
    expected.sort();
    let all = DetachedFilter::default();
    let listed = store.detached_keys(ours, &all, &first(10)).await.unwrap().items;
    let shown: Vec<_> = listed
        .iter()
        .map(|detached| (detached.key.id, detached.at, detached.key.primary.connection_id().unwrap()))
        .collect();
    assert_eq!(shown, expected);
    let mut page = first(2);
    page.after = Some(expected[0].0.to_string());
    assert_eq!(store.detached_keys(ours, &all, &page).await.unwrap().items, listed[1..]);
    let through_main = DetachedFilter {
        connection: Some(main.id),
        ..DetachedFilter::default()
    };
    assert_eq!(store.detached_keys(ours, &through_main, &first(10)).await.unwrap().items.len(), 2);
    assert_eq!(store.detached_key(ours, expected[0].0).await.unwrap(), listed[0]);
    refused!(store.detached_key(ours, attached.id).await, StoreError::NotFound);
    refused!(store.detached_key(theirs, expected[0].0).await, StoreError::NotFound);
    assert_eq!(store.detached_keys(theirs, &all, &first(10)).await.unwrap().items, []);
}

async fn the_holder_is_told_to_its_tenant_only(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let made = new_key(&*store, &lent(&*store, ours, "main", "").await, "k").await;
    let holder = |tenant, provider| {
        let (store, provider_key) = (Arc::clone(&store), made.primary.provider_key.clone());
        async move { store.provider_key_holders(tenant, provider, &provider_key).await.unwrap() }
    };
    assert_eq!(holder(ours, made.primary.provider).await, [(made.id, false)]);
    assert_eq!(holder(theirs, made.primary.provider).await, []);
    assert_eq!(holder(ours, ProviderKind::Gcp).await, []);
    store.detach_key(ours, made.id, 0, &NONE).await.unwrap();
    assert_eq!(holder(ours, made.primary.provider).await, [(made.id, true)]);
    assert_eq!(holder(theirs, made.primary.provider).await, []);
}

/// The key that comes back under its id through a connection, and its state and needs.
async fn comes_back(store: &dyn Store, made: &Key, connection: &Connection) -> (Key, KeyState, bool) {
    let mut back = key(connection, "renamed", &made.primary.provider_key);
    back.id = made.id;
    let back = store.create_key(&back, std::slice::from_ref(&back.primary), &NONE).await.unwrap();
    assert_eq!(store.key(made.tenant, made.id).await.unwrap(), back);
    (back.clone(), back.state, back.needs_restore)
}

async fn a_restrictive_state_outlives_the_detach(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let (main, other) = (
        new_connection(&*store, ours, "main").await,
        new_connection(&*store, ours, "other").await,
    );
    let made = new_key(&*store, &main, "k").await;
    let through_other = version(&made, 2, "second", "");
    let through_other = claviger::store::model::KeyVersion {
        connection: Some((&other).into()),
        ..through_other
    };
    store.add_key_versions(ours, made.id, &[through_other], 1, 4, &NONE).await.unwrap();
    // Disabled when it was detached.
    store.set_key_disabled(ours, made.id, true, 5, &NONE).await.unwrap();
    store.detach_key(ours, made.id, 5, &NONE).await.unwrap();
    let (_, state, needs_restore) = comes_back(&*store, &made, &main).await;
    assert_eq!((state, needs_restore), (KeyState::Disabled, false));
    // Detached while the connection of any version was severed, and restored since.
    store.set_key_disabled(ours, made.id, false, 6, &NONE).await.unwrap();
    store.set_connection_severed(ours, other.id, true, 7, &NONE).await.unwrap();
    let detached = store.detach_key(ours, made.id, 8, &NONE).await.unwrap();
    assert_eq!((detached.state, detached.needs_restore), (KeyState::Disabled, true));
    store.set_connection_severed(ours, other.id, false, 9, &NONE).await.unwrap();
    let (back, state, needs_restore) = comes_back(&*store, &made, &main).await;
    assert_eq!((state, needs_restore), (KeyState::Disabled, true));
    let enabled = store.set_key_disabled(ours, made.id, false, 10, &NONE).await.unwrap();
    assert_eq!(
        (enabled.state, enabled.needs_restore, enabled.lifts),
        (KeyState::Enabled, false, back.lifts + 1)
    );
    // Severed after the detach.
    store.detach_key(ours, made.id, 11, &NONE).await.unwrap();
    assert!(!store.detached_key(ours, made.id).await.unwrap().key.needs_restore);
    store.set_connection_severed(ours, other.id, true, 12, &NONE).await.unwrap();
    let (_, state, needs_restore) = comes_back(&*store, &made, &main).await;
    assert_eq!((state, needs_restore), (KeyState::Disabled, true));
}

async fn a_journaled_disable_reaches_a_detached_key(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let main = new_connection(&*store, ours, "main").await;
    let made = new_key(&*store, &main, "k").await;
    refused!(store.disable_detached(ours, made.id, 0, &NONE).await, StoreError::NotFound);
    store.set_key_disabled(ours, made.id, false, 5, &NONE).await.unwrap();
    store.detach_key(ours, made.id, 6, &NONE).await.unwrap();
    refused!(store.disable_detached(theirs, made.id, 1, &NONE).await, StoreError::NotFound);
    // Enabled since, and not.
    for (journal, applied, disabled, lifts) in [(0, false, false, 1), (1, true, true, 1), (3, true, true, 3), (2, false, true, 3)] {
        assert_eq!(store.disable_detached(ours, made.id, journal, &NONE).await.unwrap(), applied);
        let kept = store.detached_key(ours, made.id).await.unwrap();
        assert_eq!((kept.key.state.is_disabled(), kept.key.lifts, kept.at), (disabled, lifts, 6));
    }
    let (back, state, needs_restore) = comes_back(&*store, &made, &main).await;
    assert_eq!((state, needs_restore, back.lifts), (KeyState::Disabled, false, 3));
}

async fn a_severed_connection_that_is_deleted_leaves_its_detached_keys_disabled(store: Arc<dyn Store>) {
    let (ours, theirs) = tenants(&*store).await;
    let other = new_connection(&*store, ours, "other").await;
    for (name, severed) in [("kept", false), ("severed", true)] {
        let connection = new_connection(&*store, ours, name).await;
        let made = new_key(&*store, &connection, name).await;
        store.detach_key(ours, made.id, 5, &NONE).await.unwrap();
        if severed {
            store.set_connection_severed(ours, connection.id, true, 6, &NONE).await.unwrap();
        }
        store.delete_connection(ours, connection.id, &NONE).await.unwrap();
        let kept = store.detached_key(ours, made.id).await.unwrap().key;
        assert_eq!((kept.state.is_disabled(), kept.needs_restore), (severed, severed));
        let (back, state, needs_restore) = comes_back(&*store, &made, &other).await;
        assert_eq!((state.is_disabled(), needs_restore), (severed, severed));
        store.detach_key(ours, back.id, 8, &NONE).await.unwrap();
    }
    // Another tenant's is nothing to this one.
    let foreign = new_connection(&*store, theirs, "severed").await;
    store.set_connection_severed(theirs, foreign.id, true, 9, &NONE).await.unwrap();
    store.delete_connection(theirs, foreign.id, &NONE).await.unwrap();
    let listed = store.detached_keys(ours, &DetachedFilter::default(), &first(10)).await.unwrap();
    assert_eq!(listed.items.len(), 2);
}
