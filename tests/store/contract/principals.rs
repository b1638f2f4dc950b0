//! Principals and their tokens.

use std::sync::Arc;

use claviger::store::model::{Page, Principal, PrincipalKind, Token, TokenKind};
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
    a_token_comes_with_those_above_it,
    a_delegated_token_needs_a_parent_that_may_issue_it,
    a_revocation_reaches_every_token_below,
    deleting_a_principal_ends_every_token_below_its_own,
    a_deleted_principal_s_name_is_remembered_for_a_while,
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
        refused!(store.delete_principal(theirs, made.id, 1, &NONE).await, StoreError::NotFound);
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
    let found = store.token_by_public_id("abcdefghijkl").await.unwrap();
    assert_eq!((found.token, found.principal, found.tenant.id), (made, owner, ours));
    assert!(found.ancestors.is_empty());
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
        assert_eq!(store.token_by_public_id("a").await.unwrap().token.revoked, Some(5));
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
    assert_eq!(store.token_by_public_id("a").await.unwrap().token.revoked, None);
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
    store.delete_principal(ours, owner.id, 1, &NONE).await.unwrap();
    refused!(store.token_by_public_id("a").await, StoreError::NotFound);
    refused!(store.principal(ours, owner.id).await, StoreError::NotFound);
    refused!(store.delete_principal(ours, owner.id, 1, &NONE).await, StoreError::NotFound);
    refused!(
        store.delete_principal(ours, PrincipalId::random(), 1, &NONE).await,
        StoreError::NotFound
    );
    store.create_principal(&principal(ours, "p"), &NONE).await.unwrap();
}

/// A token of this principal that another one issued.
fn below(owner: &Principal, parent: &Token, public_id: &str) -> Token {
    Token {
        kind: TokenKind::Delegated,
        parent: Some(parent.id),
        depth: parent.depth + 1,
        expires: parent.expires - 1,
        ..token(owner, public_id)
    }
}

/// A line of tokens: an operator's `a`, and below it `b` to `d` of two principals of the tenant,
/// with `e` beside `d`.
async fn line(store: &dyn Store) -> (Principal, Vec<Token>) {
    let ours = new_tenant(store, "ours").await;
    let operator = principal(TenantId::INSTALLATION, "operator");
    let (p, q) = (principal(ours, "p"), principal(ours, "q"));
    for owner in [&operator, &p, &q] {
        store.create_principal(owner, &NONE).await.unwrap();
    }
    let a = token(&operator, "a");
    let b = below(&p, &a, "b");
    let c = below(&q, &b, "c");
    let d = below(&p, &c, "d");
    let e = below(&q, &c, "e");
    let all = vec![a, b, c, d, e];
    for made in &all {
        store.create_token(made, &NONE).await.unwrap();
    }
    (q, all)
}

async fn a_token_comes_with_those_above_it(store: Arc<dyn Store>) {
    let (_, all) = line(&*store).await;
    let [a, b, c, d, _] = &all[..] else { panic!("five") };
    let found = store.token_by_public_id("d").await.unwrap();
    assert_eq!(&found.token, d);
    assert_eq!(found.ancestors, [c.clone(), b.clone(), a.clone()]);
    assert_eq!(store.token(c.tenant, c.id).await.unwrap(), *c);
}

async fn a_delegated_token_needs_a_parent_that_may_issue_it(store: Arc<dyn Store>) {
    let (q, all) = line(&*store).await;
    let theirs = new_tenant(&*store, "theirs").await;
    let foreign = principal(theirs, "p");
    store.create_principal(&foreign, &NONE).await.unwrap();
    let parent = &all[2];
    for wrong in [
        // Of another tenant, unknown, too long a life, too deep, and a standing one with a parent.
        below(&foreign, parent, "x"),
        Token {
            parent: Some(TokenId::random()),
            ..below(&q, parent, "x")
        },
        Token {
            expires: parent.expires + 1,
            ..below(&q, parent, "x")
        },
        Token {
            depth: parent.depth + 2,
            ..below(&q, parent, "x")
        },
        Token {
            kind: TokenKind::Standing,
            depth: 0,
            ..below(&q, parent, "x")
        },
        Token {
            parent: None,
            ..below(&q, parent, "x")
        },
    ] {
        refused!(store.create_token(&wrong, &NONE).await, StoreError::NotFound);
    }
    store.create_token(&below(&q, parent, "x"), &NONE).await.unwrap();
    store.revoke_token(parent.tenant, parent.id, 1, &NONE).await.unwrap();
    refused!(store.create_token(&below(&q, parent, "y"), &NONE).await, StoreError::NotFound);
}

/// The times of revocation, by public id.
async fn revoked(store: &dyn Store, all: &[Token]) -> Vec<(String, Option<i64>)> {
    let mut times = Vec::new();
    for made in all {
        if let Ok(found) = store.token(made.tenant, made.id).await {
            times.push((found.public_id, found.revoked));
        }
    }
    times
}

fn times<const N: usize>(expected: [(&str, Option<i64>); N]) -> Vec<(String, Option<i64>)> {
    expected.into_iter().map(|(name, at)| (name.to_owned(), at)).collect()
}

async fn a_revocation_reaches_every_token_below(store: Arc<dyn Store>) {
    let (_, all) = line(&*store).await;
    let (_, ended) = store.revoke_token(all[3].tenant, all[3].id, 5, &NONE).await.unwrap();
    assert_eq!(ended, ["d"]);
    let (row, mut ended) = store.revoke_token(all[1].tenant, all[1].id, 6, &NONE).await.unwrap();
    ended.sort();
    assert_eq!(
        (row.revoked, ended),
        (Some(6), vec!["b".to_owned(), "c".to_owned(), "e".to_owned()])
    );
    let expected = times([("a", None), ("b", Some(6)), ("c", Some(6)), ("d", Some(5)), ("e", Some(6))]);
    assert_eq!(revoked(&*store, &all).await, expected);
    // From the installation into the tenant.
    let (row, ended) = store.revoke_token(TenantId::INSTALLATION, all[0].id, 7, &NONE).await.unwrap();
    assert_eq!((row.revoked, ended), (Some(7), vec!["a".to_owned()]));
    let (row, ended) = store.revoke_token(TenantId::INSTALLATION, all[0].id, 8, &NONE).await.unwrap();
    assert_eq!((row.revoked, ended.len()), (Some(7), 0));
}

async fn deleting_a_principal_ends_every_token_below_its_own(store: Arc<dyn Store>) {
    let (q, all) = line(&*store).await;
    let mut ended = store.delete_principal(q.tenant, q.id, 6, &NONE).await.unwrap();
    ended.sort();
    assert_eq!(ended, ["c", "d", "e"]);
    assert_eq!(revoked(&*store, &all).await, times([("a", None), ("b", None), ("d", Some(6))]));
    // Its parent's row is gone, too.
    let found = store.token_by_public_id("d").await.unwrap();
    assert!(found.ancestors.is_empty());
    assert_eq!(claviger::store::rules::token_ends(&found.token, &found.ancestors), None);
}

async fn a_deleted_principal_s_name_is_remembered_for_a_while(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    for at in [5, 9] {
        let made = principal(ours, "p");
        store.create_principal(&made, &NONE).await.unwrap();
        store.delete_principal(ours, made.id, at, &NONE).await.unwrap();
    }
    let known = async |tenant, name| store.was_principal_deleted(tenant, name).await.unwrap();
    assert!(known(ours, "p").await && !known(ours, "q").await && !known(theirs, "p").await);
    store.prune_deleted_principals(9).await.unwrap();
    assert!(known(ours, "p").await);
    store.prune_deleted_principals(10).await.unwrap();
    assert!(!known(ours, "p").await);
}
