//! How many objects a tenant has, and what is refused over its quotas.

use std::sync::Arc;

use claviger::store::model::{Quotas, Resource, Usage};
use claviger::store::{Change, Store, StoreError};
use claviger_provider::TenantId;

use crate::support::{
    NONE, cases, connection, idempotency, key, new_connection, new_key, new_tenant, now, principal, refused, token, version,
};

cases! { contract:
    each_kind_is_refused_over_its_quota_and_leaves_no_row,
    a_tenant_s_quota_is_nothing_to_another,
    a_deletion_frees,
    a_detached_key_counts_and_comes_back,
    what_has_no_quotas_is_counted_and_not_refused,
    a_replaced_answer_counts_once_and_a_pruned_one_no_more,
    tokens_are_deleted_some_time_after_their_end,
    additions_at_the_same_time_do_not_exceed,
}

const DAY: i64 = 24 * 3600 * 1_000_000;

const ONE: Quotas = Quotas {
    keys: 1,
    versions: 2,
    connections: 1,
    principals: 1,
    tokens: 1,
    idempotency_keys: 1,
};

fn within(quotas: Quotas) -> Change {
    NONE.within(Some(quotas))
}

async fn usage(store: &dyn Store, tenant: TenantId) -> [u64; 6] {
    let usage = store.usage(tenant).await.unwrap();
    Resource::ALL.map(|resource| usage.of(resource))
}

async fn each_kind_is_refused_over_its_quota_and_leaves_no_row(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    assert_eq!(store.usage(ours).await.unwrap(), Usage::default());
    let main = connection(ours, "main");
    store.create_connection(&main, Vec::new(), &within(ONE)).await.unwrap();
    refused!(
        store.create_connection(&connection(ours, "second"), Vec::new(), &within(ONE)).await,
        StoreError::OverQuota(Resource::Connections, 1)
    );
    refused!(store.connection_by_name(ours, "second").await, StoreError::NotFound);

    let first = key(&main, "k", "provider/k");
    store
        .create_key(&first, std::slice::from_ref(&first.primary), &within(ONE))
        .await
        .unwrap();
    let second = key(&main, "l", "provider/l");
    refused!(
        store.create_key(&second, std::slice::from_ref(&second.primary), &within(ONE)).await,
        StoreError::OverQuota(Resource::Keys, 1)
    );
    refused!(store.key_by_name(ours, "l").await, StoreError::NotFound);
    let versions = [version(&first, 2, "provider/2", ""), version(&first, 3, "provider/3", "")];
    let none = NONE;
    let added = |n: usize| store.add_key_versions(ours, first.id, &versions[..n], 2, now(), &none);
    refused!(
        store.add_key_versions(ours, first.id, &versions, 2, now(), &within(ONE)).await,
        StoreError::OverQuota(Resource::Versions, 2)
    );
    assert_eq!(store.key_versions(ours, first.id).await.unwrap().len(), 1);
    added(1).await.unwrap();
    // What exists already adds nothing.
    store
        .add_key_versions(ours, first.id, &versions[..1], 1, now(), &within(ONE))
        .await
        .unwrap();
    refused!(
        store.move_key(ours, first.id, &versions[1..], 3, now(), &within(ONE)).await,
        StoreError::OverQuota(Resource::Versions, 2)
    );

    let p = principal(ours, "p");
    store.create_principal(&p, &within(ONE)).await.unwrap();
    refused!(
        store.create_principal(&principal(ours, "q"), &within(ONE)).await,
        StoreError::OverQuota(Resource::Principals, 1)
    );
    store.create_token(&token(&p, "one"), &within(ONE)).await.unwrap();
    refused!(
        store.create_token(&token(&p, "two"), &within(ONE)).await,
        StoreError::OverQuota(Resource::Tokens, 1)
    );
    refused!(store.token_by_public_id("two").await, StoreError::NotFound);

    let quotas = Quotas { principals: 9, ..ONE };
    let kept = |header| within(quotas).keeping(Some(idempotency(ours, header, now())));
    store.create_principal(&principal(ours, "r"), &kept("a")).await.unwrap();
    refused!(
        store.create_principal(&principal(ours, "s"), &kept("b")).await,
        StoreError::OverQuota(Resource::IdempotencyKeys, 1)
    );
    refused!(store.principal_by_name(ours, "s").await, StoreError::NotFound);
    assert_eq!(usage(&*store, ours).await, [1, 2, 1, 2, 1, 1]);
}

async fn a_tenant_s_quota_is_nothing_to_another(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    store.create_principal(&principal(ours, "p"), &within(ONE)).await.unwrap();
    store.create_principal(&principal(theirs, "p"), &within(ONE)).await.unwrap();
    assert_eq!(usage(&*store, theirs).await, [0, 0, 0, 1, 0, 0]);
}

async fn a_deletion_frees(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    for _ in 0..3 {
        let p = principal(ours, "p");
        store.create_principal(&p, &within(ONE)).await.unwrap();
        store.create_token(&token(&p, "one"), &within(ONE)).await.unwrap();
        store.delete_principal(ours, p.id, now(), &NONE).await.unwrap();
        let main = connection(ours, "main");
        store.create_connection(&main, Vec::new(), &within(ONE)).await.unwrap();
        store.delete_connection(ours, main.id, &NONE).await.unwrap();
    }
    assert_eq!(usage(&*store, ours).await, [0; 6]);
}

async fn a_detached_key_counts_and_comes_back(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let main = new_connection(&*store, ours, "main").await;
    let first = new_key(&*store, &main, "k").await;
    store.detach_key(ours, first.id, now(), &NONE).await.unwrap();
    assert_eq!(usage(&*store, ours).await[..2], [1, 1]);
    let second = key(&main, "l", "provider/l");
    refused!(
        store.create_key(&second, std::slice::from_ref(&second.primary), &within(ONE)).await,
        StoreError::OverQuota(Resource::Keys, 1)
    );
    store
        .create_key(&first, std::slice::from_ref(&first.primary), &within(ONE))
        .await
        .unwrap();
    assert_eq!(usage(&*store, ours).await[..2], [1, 1]);
}

async fn what_has_no_quotas_is_counted_and_not_refused(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let main = new_connection(&*store, ours, "main").await;
    let k = new_key(&*store, &main, "k").await;
    let p = principal(ours, "p");
    store.create_principal(&p, &NONE).await.unwrap();
    let t = token(&p, "one");
    store.create_token(&t, &NONE).await.unwrap();
    let versions = [version(&k, 2, "provider/2", "")];
    let nothing = Quotas {
        keys: 0,
        versions: 0,
        connections: 0,
        principals: 0,
        tokens: 0,
        idempotency_keys: 0,
    };
    store
        .add_key_versions(ours, k.id, &versions, 2, now(), &within(nothing).already_effective())
        .await
        .unwrap();
    assert_eq!(usage(&*store, ours).await, [1, 2, 1, 1, 1, 0]);
    // Far over the quotas: nothing that adds no row is refused.
    let over = within(nothing);
    store.set_key_disabled(ours, k.id, true, now(), &over).await.unwrap();
    store.set_connection_severed(ours, main.id, true, now(), &over).await.unwrap();
    store.revoke_token(ours, t.id, now(), &over).await.unwrap();
    store.delete_principal(ours, p.id, now(), &over).await.unwrap();
    store.detach_key(ours, k.id, now(), &over).await.unwrap();
    store.delete_connection(ours, main.id, &over).await.unwrap();
    store.set_tenant_suspended(ours, true, &over).await.unwrap();
    assert_eq!(usage(&*store, ours).await, [1, 2, 0, 0, 0, 0]);
}

async fn a_replaced_answer_counts_once_and_a_pruned_one_no_more(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let quotas = Quotas { principals: 9, ..ONE };
    let kept = |tenant, at| within(quotas).keeping(Some(idempotency(tenant, "once", at)));
    store
        .create_principal(&principal(ours, "p"), &kept(ours, now() - 2 * DAY))
        .await
        .unwrap();
    store
        .create_principal(&principal(ours, "q"), &kept(ours, now() - DAY - 1))
        .await
        .unwrap();
    store.create_principal(&principal(theirs, "p"), &kept(theirs, now())).await.unwrap();
    assert_eq!((usage(&*store, ours).await[5], usage(&*store, theirs).await[5]), (1, 1));
    assert_eq!(store.prune_idempotency(now() - DAY).await.unwrap(), 1);
    assert_eq!((usage(&*store, ours).await[5], usage(&*store, theirs).await[5]), (0, 1));
}

async fn tokens_are_deleted_some_time_after_their_end(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    let (p, q) = (principal(ours, "p"), principal(theirs, "q"));
    for principal in [&p, &q] {
        store.create_principal(principal, &NONE).await.unwrap();
    }
    let expiring = |principal, public_id: &str, expires| {
        let mut token = token(principal, public_id);
        token.expires = expires;
        token
    };
    let revoked = expiring(&p, "revoked", 1_000);
    for token in [
        &expiring(&p, "valid", 1_000),
        &expiring(&p, "expired", 90),
        &revoked,
        &expiring(&q, "theirs", 99),
        &expiring(&q, "at", 100),
    ] {
        store.create_token(token, &NONE).await.unwrap();
    }
    store.revoke_token(ours, revoked.id, 99, &NONE).await.unwrap();
    assert_eq!(store.prune_ended_tokens(100).await.unwrap(), 3);
    assert_eq!(store.prune_ended_tokens(100).await.unwrap(), 0);
    store.token_by_public_id("valid").await.unwrap();
    store.token_by_public_id("at").await.unwrap();
    refused!(store.token(ours, revoked.id).await, StoreError::NotFound);
    assert_eq!((usage(&*store, ours).await[4], usage(&*store, theirs).await[4]), (1, 1));
}

async fn additions_at_the_same_time_do_not_exceed(store: Arc<dyn Store>) {
    let ours = new_tenant(&*store, "ours").await;
    let quotas = Quotas { principals: 3, ..ONE };
    let made = (0..12).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let made = principal(ours, &format!("p{number}"));
            store.create_principal(&made, &within(quotas)).await
        })
    });
    let mut accepted = 0;
    for task in made.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(()) => accepted += 1,
            Err(StoreError::OverQuota(Resource::Principals, 3)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((accepted, usage(&*store, ours).await[3]), (3, 3));
}
