//! Principals and their tokens.

use std::sync::Arc;

use claviger::store::model::{Page, PrincipalKind};
use claviger::store::{Store, StoreError};
use claviger_provider::{PrincipalId, TenantId, TokenId};

use crate::support::{NONE, cases, first, new_tenant, now, principal, refused, token};

cases! { contract:
    a_principal_is_found_in_its_tenant_only,
    a_principal_s_name_is_taken_once_in_its_tenant,
    a_principal_needs_its_tenant,
    principals_are_listed_by_name,
    a_token_is_found_with_its_principal_and_tenant,
    a_token_needs_its_principal_in_its_tenant,
    a_public_id_is_taken_once_in_the_installation,
    a_revocation_stays_at_its_first_time,
    revoking_reaches_no_other_tenant,
    tokens_are_listed_by_id,
    deleting_a_principal_ends_its_tokens,
}

async fn a_principal_is_found_in_its_tenant_only(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    for kind in [PrincipalKind::ServiceAccount, PrincipalKind::Workload, PrincipalKind::Person] {
        let mut made = principal(ours, kind.as_str());
        made.kind = kind;
        store.create_principal(&made, &NONE).await.unwrap();
        assert_eq!(store.principal(ours, made.id).await.unwrap(), made);
        assert_eq!(store.principal_by_name(ours, kind.as_str()).await.unwrap(), made);
        refused!(store.principal(theirs, made.id).await, StoreError::NotFound);
        refused!(store.principal_by_name(theirs, kind.as_str()).await, StoreError::NotFound);
        refused!(store.delete_principal(theirs, made.id, &NONE).await, StoreError::NotFound);
        store.principal(ours, made.id).await.unwrap();
    }
}

async fn a_principal_s_name_is_taken_once_in_its_tenant(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    store.create_principal(&principal(ours, "p"), &NONE).await.unwrap();
    refused!(
        store.create_principal(&principal(ours, "p"), &NONE).await,
        StoreError::AlreadyExists
    );
    store.create_principal(&principal(theirs, "p"), &NONE).await.unwrap();
}

async fn a_principal_needs_its_tenant(store: Arc<dyn Store>) {
    refused!(
        store.create_principal(&principal(TenantId::random(), "p"), &NONE).await,
        StoreError::NotFound
    );
    store
        .create_principal(&principal(TenantId::INSTALLATION, "operator"), &NONE)
        .await
        .unwrap();
}

async fn principals_are_listed_by_name(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    for name in ["c", "a", "b"] {
        store.create_principal(&principal(ours, name), &NONE).await.unwrap();
    }
    store.create_principal(&principal(theirs, "ab"), &NONE).await.unwrap();
    let page = store
        .principals(
            ours,
            &Page {
                after: Some("a".to_owned()),
                size: 5,
            },
        )
        .await
        .unwrap();
    assert_eq!(page.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(store.principals(ours, &first(1)).await.unwrap()[0].name, "a");
}

async fn a_token_is_found_with_its_principal_and_tenant(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let owner = principal(ours, "p");
    store.create_principal(&owner, &NONE).await.unwrap();
    let mut made = token(&owner, "abcdefghijkl");
    made.revoked = Some(7);
    store.create_token(&made, &NONE).await.unwrap();
    let (found, its_owner, its_tenant) = store.token_by_public_id("abcdefghijkl").await.unwrap();
    assert_eq!((found, its_owner, its_tenant.id), (made, owner, ours));
    refused!(store.token_by_public_id("abcdefghijkL").await, StoreError::NotFound);
}

async fn a_token_needs_its_principal_in_its_tenant(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let owner = principal(ours, "p");
    store.create_principal(&owner, &NONE).await.unwrap();
    let mut foreign = token(&owner, "a");
    foreign.tenant = theirs;
    refused!(store.create_token(&foreign, &NONE).await, StoreError::NotFound);
    refused!(store.token_by_public_id("a").await, StoreError::NotFound);
}

async fn a_public_id_is_taken_once_in_the_installation(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    for (tenant, taken) in [(ours, false), (theirs, true)] {
        let owner = principal(tenant, "p");
        store.create_principal(&owner, &NONE).await.unwrap();
        let made = store.create_token(&token(&owner, "a"), &NONE).await;
        if taken {
            refused!(made, StoreError::AlreadyExists)
        } else {
            made.unwrap()
        }
    }
}

async fn a_revocation_stays_at_its_first_time(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let owner = principal(ours, "p");
    store.create_principal(&owner, &NONE).await.unwrap();
    let made = token(&owner, "a");
    store.create_token(&made, &NONE).await.unwrap();
    for at in [5, 6] {
        store.revoke_token(ours, made.id, at, &NONE).await.unwrap();
        assert_eq!(store.token_by_public_id("a").await.unwrap().0.revoked, Some(5));
    }
    refused!(store.revoke_token(ours, TokenId::random(), 7, &NONE).await, StoreError::NotFound);
}

async fn revoking_reaches_no_other_tenant(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let owner = principal(ours, "p");
    store.create_principal(&owner, &NONE).await.unwrap();
    let made = token(&owner, "a");
    store.create_token(&made, &NONE).await.unwrap();
    refused!(store.revoke_token(theirs, made.id, now(), &NONE).await, StoreError::NotFound);
    assert_eq!(store.token_by_public_id("a").await.unwrap().0.revoked, None);
    assert!(store.tokens(theirs, owner.id, &first(5)).await.unwrap().is_empty());
}

async fn tokens_are_listed_by_id(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let owner = principal(ours, "p");
    let other = principal(ours, "q");
    store.create_principal(&owner, &NONE).await.unwrap();
    store.create_principal(&other, &NONE).await.unwrap();
    for (number, id) in [0xff, 0x00, 0x7f].into_iter().enumerate() {
        let mut made = token(&owner, &format!("t{number}"));
        made.id = TokenId::from_bytes([id; 16]);
        store.create_token(&made, &NONE).await.unwrap();
    }
    store.create_token(&token(&other, "u"), &NONE).await.unwrap();
    let all = store.tokens(ours, owner.id, &first(9)).await.unwrap();
    assert_eq!(all.iter().map(|t| t.public_id.as_str()).collect::<Vec<_>>(), ["t1", "t2", "t0"]);
    let rest = store
        .tokens(
            ours,
            owner.id,
            &Page {
                after: Some(all[0].id.to_string()),
                size: 1,
            },
        )
        .await
        .unwrap();
    assert_eq!(rest.iter().map(|t| t.public_id.as_str()).collect::<Vec<_>>(), ["t2"]);
    refused!(
        store
            .tokens(
                ours,
                owner.id,
                &Page {
                    after: Some("no id".to_owned()),
                    size: 1
                }
            )
            .await,
        StoreError::NotFound
    );
}

async fn deleting_a_principal_ends_its_tokens(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let owner = principal(ours, "p");
    store.create_principal(&owner, &NONE).await.unwrap();
    store.create_token(&token(&owner, "a"), &NONE).await.unwrap();
    store.delete_principal(ours, owner.id, &NONE).await.unwrap();
    refused!(store.token_by_public_id("a").await, StoreError::NotFound);
    refused!(store.principal(ours, owner.id).await, StoreError::NotFound);
    refused!(store.delete_principal(ours, owner.id, &NONE).await, StoreError::NotFound);
    refused!(
        store.delete_principal(ours, PrincipalId::random(), &NONE).await,
        StoreError::NotFound
    );
    store.create_principal(&principal(ours, "p"), &NONE).await.unwrap();
}
