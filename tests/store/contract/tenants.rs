//! The installation and its tenants.

use std::sync::Arc;

use claviger::store::model::Page;
use claviger::store::{Store, StoreError};
use claviger_provider::TenantId;

use crate::support::{NONE, cases, first, new_tenant, refused, sealed, tenant};

cases! { contract:
    the_installation_has_an_identity,
    the_installation_s_own_tenant_is_there_and_not_listed,
    a_tenant_is_found_by_id_and_name,
    names_and_ids_are_taken_once,
    sealed_values_come_with_the_tenant_or_not_at_all,
    lists_go_by_name,
    a_tenant_is_suspended_and_resumed,
}

async fn the_installation_has_an_identity(store: Arc<dyn Store>) {
    let installation = store.installation().await.unwrap();
    assert_eq!(store.installation().await.unwrap(), installation);
}

async fn the_installation_s_own_tenant_is_there_and_not_listed(store: Arc<dyn Store>) {
    assert!(!store.tenant(TenantId::INSTALLATION).await.unwrap().suspended);
    assert!(store.tenants(&first(10)).await.unwrap().is_empty());
}

async fn a_tenant_is_found_by_id_and_name(store: Arc<dyn Store>) {
    let mut made = tenant("acme");
    made.suspended = true;
    store.create_tenant(&made, Vec::new(), &NONE).await.unwrap();
    assert_eq!(store.tenant(made.id).await.unwrap(), made);
    assert_eq!(store.tenant_by_name("acme").await.unwrap(), made);
    refused!(store.tenant_by_name("acm").await, StoreError::NotFound);
    refused!(store.tenant(TenantId::random()).await, StoreError::NotFound);
}

async fn names_and_ids_are_taken_once(store: Arc<dyn Store>) {
    let made = tenant("acme");
    store.create_tenant(&made, Vec::new(), &NONE).await.unwrap();
    refused!(
        store.create_tenant(&tenant("acme"), Vec::new(), &NONE).await,
        StoreError::AlreadyExists
    );
    let mut same_id = tenant("other");
    same_id.id = made.id;
    refused!(store.create_tenant(&same_id, Vec::new(), &NONE).await, StoreError::AlreadyExists);
    refused!(store.tenant_by_name("other").await, StoreError::NotFound);
}

async fn sealed_values_come_with_the_tenant_or_not_at_all(store: Arc<dyn Store>) {
    let made = tenant("acme");
    let value = sealed(made.id, "tenant", "seal/0001", b"seal key");
    let name = value.0.clone();
    store.create_tenant(&made, vec![value], &NONE).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap().unwrap().expose(), b"seal key");

    let foreign = tenant("mallory");
    refused!(
        store
            .create_tenant(&foreign, vec![sealed(made.id, "tenant", "seal/0002", b"x")], &NONE)
            .await,
        StoreError::NotFound
    );
    let twice = vec![sealed(foreign.id, "tenant", "a", b"x"), sealed(foreign.id, "tenant", "a", b"y")];
    refused!(store.create_tenant(&foreign, twice, &NONE).await, StoreError::AlreadyExists);
    refused!(store.tenant(foreign.id).await, StoreError::NotFound);
    assert_eq!(store.columns(made.id, "tenant").await.unwrap(), ["seal/0001"]);
    assert!(store.columns(foreign.id, "tenant").await.unwrap().is_empty());
}

async fn lists_go_by_name(store: Arc<dyn Store>) {
    for name in ["c", "a", "b"] {
        new_tenant(&*store, name).await;
    }
    let names = |tenants: Vec<claviger::store::model::Tenant>| tenants.into_iter().map(|t| t.name).collect::<Vec<_>>();
    assert_eq!(names(store.tenants(&first(2)).await.unwrap()), ["a", "b"]);
    assert_eq!(
        names(
            store
                .tenants(&Page {
                    after: Some("b".to_owned()),
                    size: 2
                })
                .await
                .unwrap()
        ),
        ["c"]
    );
}

async fn a_tenant_is_suspended_and_resumed(store: Arc<dyn Store>) {
    let (ours, theirs) = (new_tenant(&*store, "ours").await, new_tenant(&*store, "theirs").await);
    for (suspended, lifts) in [(true, 0), (true, 0), (false, 1), (true, 1), (false, 2), (false, 3)] {
        let row = store.set_tenant_suspended(ours, suspended, &NONE).await.unwrap();
        assert_eq!((row.suspended, row.lifts), (suspended, lifts));
        assert_eq!(store.tenant(ours).await.unwrap(), row);
        assert_eq!(store.tenant_by_name("ours").await.unwrap(), row);
        let all: &[TenantId] = if suspended { &[ours] } else { &[] };
        assert_eq!(store.suspended_tenants().await.unwrap(), all);
    }
    assert!(!store.tenant(theirs).await.unwrap().suspended);
    refused!(
        store.set_tenant_suspended(TenantId::random(), true, &NONE).await,
        StoreError::NotFound
    );
}
