//! Guarantees of the embedded provider beyond the battery: tenants, store, memory.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{
    Algorithm, BoundContext, ErrorKind, Kek, KeyDescription, KeyId, KeyRequest, KeySpec, KeyState, OpContext, Provider, ProviderKind,
    SealedName, SealedStore, Secret, TenantId, Wrapped,
};
use claviger_provider_local::{LocalProvider, Settings};
use claviger_testkit::MemoryStore;

fn cx(tenant: TenantId) -> OpContext {
    OpContext::for_system("test", tenant, Duration::from_secs(30))
}

fn context() -> BoundContext {
    BoundContext::new(BTreeMap::new(), b"context".to_vec())
}

fn request(key_id: KeyId) -> KeyRequest {
    KeyRequest {
        key_id,
        made_as: key_id,
        repeated: false,
        spec: KeySpec::Aes256,
        adopt: None,
        taken: false,
    }
}

struct Bench {
    store: Arc<MemoryStore>,
    provider: LocalProvider,
    cx: OpContext,
    id: KeyId,
    kek: Kek,
}

impl Bench {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let provider = LocalProvider::new(Arc::clone(&store) as Arc<dyn SealedStore>, Settings {});
        let (cx, id) = (cx(TenantId::random()), KeyId::random());
        let made = provider.create_key(&cx, &request(id)).await.unwrap();
        let kek = made.kek(id).unwrap();
        Self {
            store,
            provider,
            cx,
            id,
            kek,
        }
    }

    /// The same store after a restart.
    fn restarted(self) -> Self {
        let provider = LocalProvider::new(Arc::clone(&self.store) as Arc<dyn SealedStore>, Settings {});
        Self { provider, ..self }
    }

    async fn wrap(&self, dek: &Secret) -> Result<Wrapped, ErrorKind> {
        let wrapped = self.provider.wrap_key(&self.cx, &self.kek, dek, &context()).await;
        wrapped.map_err(|error| error.kind)
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Secret, ErrorKind> {
        let dek = self.provider.unwrap_key(&self.cx, wrapped, &context()).await;
        dek.map_err(|error| error.kind)
    }
}

#[tokio::test]
async fn keys_are_named_by_the_logical_key_and_a_decimal_version() {
    let bench = Bench::new().await;
    let rotated = bench.provider.rotate(&bench.cx, &bench.kek).await.unwrap();
    let names = |key: &KeyDescription| key.versions.iter().map(|version| version.key.version.clone()).collect::<Vec<_>>();
    assert_eq!(
        (rotated.id.clone(), names(&rotated), rotated.primary),
        (bench.id.to_string(), vec!["1".into(), "2".into()], 1)
    );
    let wrapped = bench.wrap(&Secret::random(32)).await.unwrap();
    assert_eq!((wrapped.key, wrapped.algorithm), (bench.kek.key.clone(), Algorithm::Xaes256Gcm));
    assert_eq!(wrapped.ciphertext.len(), 24 + 32 + 16);
}

#[tokio::test]
async fn the_tenth_version_comes_after_the_second() {
    let bench = Bench::new().await;
    for _ in 0..10 {
        bench.provider.rotate(&bench.cx, &bench.kek).await.unwrap();
    }
    let described = bench.provider.describe(&bench.cx, &bench.kek).await.unwrap();
    assert_eq!(described.versions[described.primary].key.version, "11");
    let mut unnamed = bench.kek.clone();
    unnamed.key.version.clear();
    let wrapped = bench
        .provider
        .wrap_key(&bench.cx, &unnamed, &Secret::random(32), &context())
        .await
        .unwrap();
    assert_eq!(wrapped.key.version, "11", "where no version is named, the newest wraps");
}

#[tokio::test]
async fn another_tenants_key_does_not_exist() {
    let bench = Bench::new().await;
    let wrapped = bench.wrap(&Secret::random(32)).await.unwrap();
    let stranger = cx(TenantId::random());
    let provider = &bench.provider;
    let kinds = [
        provider
            .wrap_key(&stranger, &bench.kek, &Secret::random(32), &context())
            .await
            .unwrap_err()
            .kind,
        provider.unwrap_key(&stranger, &wrapped, &context()).await.unwrap_err().kind,
        provider.rotate(&stranger, &bench.kek).await.unwrap_err().kind,
        provider.describe(&stranger, &bench.kek).await.unwrap_err().kind,
        provider.set_state(&stranger, &bench.kek, false).await.unwrap_err().kind,
    ];
    assert_eq!(kinds, [ErrorKind::KeyNotFound; 5]);
    // The other tenant's key with the same id is another key.
    provider.create_key(&stranger, &request(bench.id)).await.unwrap();
    let error = provider.unwrap_key(&stranger, &wrapped, &context()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.provider),
        (ErrorKind::CiphertextRejected, Some(ProviderKind::Local))
    );
}

#[tokio::test]
async fn keys_versions_and_states_survive_a_restart() {
    let bench = Bench::new().await;
    let dek = Secret::random(32);
    let wrapped = bench.wrap(&dek).await.unwrap();
    bench.provider.rotate(&bench.cx, &bench.kek).await.unwrap();
    bench.provider.set_state(&bench.cx, &bench.kek, false).await.unwrap();

    let bench = bench.restarted();
    assert_eq!(bench.unwrap(&wrapped).await, Err(ErrorKind::KeyState));
    let described = bench.provider.describe(&bench.cx, &bench.kek).await.unwrap();
    assert_eq!((described.state, described.versions.len()), (KeyState::Disabled, 2));
    bench.provider.set_state(&bench.cx, &bench.kek, true).await.unwrap();

    let bench = bench.restarted();
    assert_eq!(bench.unwrap(&wrapped).await, Ok(dek));
}

#[tokio::test]
async fn an_opened_key_needs_no_store_until_its_state_changes() {
    let bench = Bench::new().await;
    let wrapped = bench.wrap(&Secret::random(32)).await.unwrap();
    let reads = bench.store.reads();
    for _ in 0..10 {
        bench.unwrap(&wrapped).await.unwrap();
        bench.wrap(&Secret::random(32)).await.unwrap();
    }
    assert_eq!(bench.store.reads(), reads);
    bench.provider.set_state(&bench.cx, &bench.kek, false).await.unwrap();
    assert_eq!(bench.unwrap(&wrapped).await, Err(ErrorKind::KeyState));
}

#[tokio::test]
async fn a_caller_that_gives_up_a_change_of_state_leaves_no_opened_key() {
    let bench = Bench::new().await;
    let wrapped = bench.wrap(&Secret::random(32)).await.unwrap();
    {
        let change = bench.provider.set_state(&bench.cx, &bench.kek, false);
        let mut change = std::pin::pin!(change);
        // Polled once and dropped: the change has started, and its caller is gone.
        let polled = std::future::poll_fn(|task| std::task::Poll::Ready(change.as_mut().poll(task))).await;
        assert!(polled.is_pending());
    }
    // On this single thread the change runs when the test yields.
    tokio::task::yield_now().await;
    assert_eq!(bench.unwrap(&wrapped).await, Err(ErrorKind::KeyState));
}

#[tokio::test]
async fn disabling_at_once_by_many_is_no_conflict() {
    let bench = Bench::new().await;
    let (a, b, c) = tokio::join!(
        bench.provider.set_state(&bench.cx, &bench.kek, false),
        bench.provider.set_state(&bench.cx, &bench.kek, false),
        bench.provider.set_state(&bench.cx, &bench.kek, false),
    );
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
}

#[tokio::test]
async fn the_row_holds_what_the_readme_says() {
    let bench = Bench::new().await;
    bench.provider.rotate(&bench.cx, &bench.kek).await.unwrap();
    bench.provider.set_state(&bench.cx, &bench.kek, false).await.unwrap();
    bench.provider.set_state(&bench.cx, &bench.kek, true).await.unwrap();
    let (tenant, row) = (bench.cx.tenant, bench.id.to_string());
    let columns = bench.store.columns(tenant, &row).await.unwrap();
    assert_eq!(columns, ["material/1", "material/2", "state/1", "state/2"]);
    let value = |column: &str| SealedName {
        tenant,
        row: row.clone(),
        column: column.into(),
    };
    assert_eq!(bench.store.get(&value("material/2")).await.unwrap().unwrap().len(), 32);
    assert_eq!(bench.store.get(&value("state/1")).await.unwrap().unwrap().expose(), [0]);
    assert_eq!(bench.store.get(&value("state/2")).await.unwrap().unwrap().expose(), [1]);
}

#[tokio::test]
async fn a_store_that_makes_no_sense_is_a_fault_and_not_a_key() {
    for (column, value) in [("material/1", vec![1; 31]), ("material/x", vec![1; 32]), ("state/9", vec![7])] {
        let bench = Bench::new().await;
        let id = KeyId::random();
        let name = |column: &str| SealedName {
            tenant: bench.cx.tenant,
            row: id.to_string(),
            column: column.into(),
        };
        let mut values = vec![(name(column), Secret::new(value))];
        if column != "material/1" {
            values.push((name("material/1"), Secret::random(32)));
        }
        bench.store.insert(values).await.unwrap();
        let mut kek = bench.kek.clone();
        kek.key.id = id.to_string();
        let error = bench
            .provider
            .wrap_key(&bench.cx, &kek, &Secret::random(32), &context())
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal, "{column}");
    }
}

#[tokio::test]
async fn nothing_outside_can_be_adopted() {
    let bench = Bench::new().await;
    for name in [KeyId::random().to_string(), "orders".to_owned()] {
        let request = KeyRequest {
            adopt: Some(name),
            ..request(bench.id)
        };
        let error = bench.provider.create_key(&bench.cx, &request).await.unwrap_err();
        assert_eq!((error.kind, error.advice.is_some()), (ErrorKind::InvalidInput, true));
    }
}

#[tokio::test]
async fn a_key_that_was_let_go_of_is_adopted_again_by_its_tenant_alone() {
    let bench = Bench::new().await;
    let again = KeyRequest {
        adopt: Some(bench.kek.key.id.clone()),
        ..request(bench.id)
    };
    let described = bench.provider.create_key(&bench.cx, &again).await.unwrap();
    assert_eq!(described.versions[described.primary].key, bench.kek.key);

    let error = bench.provider.create_key(&cx(TenantId::random()), &again).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidInput);
}

#[test]
fn there_are_no_settings() {
    assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings {});
    assert!(serde_json::from_str::<Settings>(r#"{"path": "/etc"}"#).is_err());
    assert!(serde_json::from_str::<Settings>("null").is_err());
}
