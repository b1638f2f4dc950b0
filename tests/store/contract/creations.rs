//! Creations of provider keys: noted before the provider is asked, until a change ends them.

use std::sync::Arc;

use claviger::store::model::{CacheSettings, Creation, Wanted, WantedKey};
use claviger::store::{CredentialRef, Store, StoreError};
use claviger_provider::{ConnectionId, KeyId, KeySpec, TenantId};

use crate::support::{NONE, cases, connection, intent, key, labels, new_connection, new_tenant, refused};

cases! { contract:
    a_creation_lasts_until_a_change_ends_it,
    a_key_s_creation_is_found_by_name_and_connection,
    those_that_are_due_are_listed_by_tenant,
    beyond_the_most_the_oldest_are_forgotten,
}

fn creation(tenant: TenantId, begun: i64, wanted: Wanted) -> Creation {
    Creation {
        tenant,
        made_as: KeyId::random(),
        key: KeyId::random(),
        connection: ConnectionId::random(),
        spec: KeySpec::Aes256,
        wanted,
        asked_by: Some(CredentialRef {
            public_id: "token".to_owned(),
            acting: Some(tenant),
        }),
        begun,
        due: begun + 10,
    }
}

fn wanted_key(name: &str) -> Wanted {
    Wanted::Key(WantedKey {
        name: name.to_owned(),
        labels: labels([("team", "a")]),
        cache: CacheSettings {
            max_age_s: Some(5),
            ..CacheSettings::default()
        },
        declared: true,
    })
}

async fn a_creation_lasts_until_a_change_ends_it(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    for wanted in [wanted_key("k"), Wanted::VersionAfter(3)] {
        let begun = creation(ours, 5, wanted);
        store.mark_applied(ours, &NONE.beginning(begun.clone())).await.unwrap();
        assert_eq!(store.creation(ours, begun.made_as).await.unwrap(), begun);
        refused!(store.creation(theirs, begun.made_as).await, StoreError::NotFound);
        // Begun again, only the time changes at which it is due, and who asks.
        let again = Creation {
            begun: 7,
            due: 70,
            asked_by: None,
            ..begun.clone()
        };
        store.mark_applied(ours, &NONE.beginning(again)).await.unwrap();
        let due = Creation {
            due: 70,
            asked_by: None,
            ..begun.clone()
        };
        assert_eq!(store.creation(ours, begun.made_as).await.unwrap(), due);
        // Another tenant's change, and one that fails, end nothing.
        store.mark_applied(theirs, &NONE.ending(begun.made_as)).await.unwrap();
        let nowhere = key(&connection(ours, "nowhere"), "nowhere", "p");
        let failed = store
            .create_key(&nowhere, std::slice::from_ref(&nowhere.primary), &intent(9).ending(begun.made_as))
            .await;
        refused!(failed, StoreError::NotFound);
        assert_eq!(store.creation(ours, begun.made_as).await.unwrap(), due);
        let connection = new_connection(&*store, ours, &format!("c-{}", begun.made_as)).await;
        let made = key(&connection, &begun.made_as.to_string(), &begun.made_as.to_string());
        store
            .create_key(&made, std::slice::from_ref(&made.primary), &intent(9).ending(begun.made_as))
            .await
            .unwrap();
        refused!(store.creation(ours, begun.made_as).await, StoreError::NotFound);
    }
}

async fn a_key_s_creation_is_found_by_name_and_connection(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let first = creation(ours, 5, wanted_key("k"));
    let later = Creation {
        connection: first.connection,
        ..creation(ours, 6, wanted_key("k"))
    };
    let others = [
        creation(ours, 7, wanted_key("other")),
        creation(ours, 7, wanted_key("k")),
        creation(ours, 7, Wanted::VersionAfter(1)),
        creation(theirs, 7, wanted_key("k")),
    ];
    for begun in others.iter().chain([&first, &later]) {
        store.mark_applied(begun.tenant, &NONE.beginning(begun.clone())).await.unwrap();
    }
    let found = async |name, spec| store.creation_of_key(ours, name, first.connection, spec).await;
    assert_eq!(found("k", KeySpec::Aes256).await.unwrap(), later);
    refused!(found("k", KeySpec::Rsa3072).await, StoreError::NotFound);
    refused!(found("other", KeySpec::Aes256).await, StoreError::NotFound);
    store.mark_applied(ours, &NONE.ending(later.made_as)).await.unwrap();
    assert_eq!(found("k", KeySpec::Aes256).await.unwrap(), first);
}

async fn those_that_are_due_are_listed_by_tenant(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let mut all = Vec::new();
    for (tenant, begun) in [(ours, 1), (theirs, 2), (theirs, 3), (theirs, 4)] {
        let begun = creation(tenant, begun, Wanted::VersionAfter(1));
        store.mark_applied(tenant, &NONE.beginning(begun.clone())).await.unwrap();
        all.push(begun);
    }
    let due = async |now, most, for_each| {
        let mut due = store.due_creations(now, most, for_each).await.unwrap();
        due.sort_by_key(|creation| creation.begun);
        due
    };
    assert_eq!(due(10, 9, 9).await, []);
    assert_eq!(due(12, 9, 9).await, all[..2]);
    assert_eq!(due(99, 9, 9).await, all);
    assert_eq!(due(99, 9, 2).await, all[..3]);
    assert_eq!(due(99, 2, 9).await, all[..2]);
    // Noted by a clock that was set back since.
    assert_eq!(due(-Creation::LATEST, 9, 9).await, all);
    assert_eq!(due(12 - Creation::LATEST, 9, 9).await, all[2..]);
    store.set_tenant_suspended(theirs, true, &NONE).await.unwrap();
    assert_eq!(due(99, 9, 9).await, all[..1]);
}

async fn beyond_the_most_the_oldest_are_forgotten(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let other = creation(theirs, 0, Wanted::VersionAfter(1));
    store.mark_applied(theirs, &NONE.beginning(other)).await.unwrap();
    for begun in 0..=i64::from(Creation::MOST) {
        let begun = creation(ours, begun, Wanted::VersionAfter(1));
        store.mark_applied(ours, &NONE.beginning(begun)).await.unwrap();
    }
    let mut left = store.due_creations(i64::MAX, u32::MAX, u32::MAX).await.unwrap();
    left.retain(|creation| creation.tenant == ours);
    assert_eq!(left.len(), Creation::MOST as usize);
    assert!(left.iter().all(|creation| creation.begun > 0));
    assert_eq!(store.due_creations(i64::MAX, u32::MAX, 1).await.unwrap().len(), 2);
}
