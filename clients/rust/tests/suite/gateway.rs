//! Every operation against a real gateway.

use std::time::Duration;

use claviger_client::models::*;
use claviger_client::settings::{AwsAccessKey, AwsAuth, AwsSettings, LocalSettings};
use claviger_client::{Client, ErrorCode, ErrorKind, Result};
use futures::{StreamExt, TryStreamExt};

use super::acme::Acme;
use super::support::{TABLE, failed};

#[tokio::test]
async fn data_keys_are_generated_and_unwrapped() {
    let acme = Acme::start().await;
    let client = acme.client();
    let data_key = client.generate_data_key("orders").context(TABLE).await.unwrap();
    let plaintext = data_key.plaintext.unwrap();
    assert_eq!((data_key.key.as_str(), data_key.version, plaintext.len()), ("orders", 1, 32));
    assert!(data_key.wrapped.starts_with("clv1.") && data_key.meta.request_id.is_some());
    assert!(data_key.meta.audit_index.unwrap().contains('#'));
    assert_eq!(client.unwrap(&data_key.wrapped).context(TABLE).await.unwrap().plaintext, plaintext);
    let opened = client.unwrap_with_key("orders", &data_key.wrapped).context(TABLE).await.unwrap();
    assert_eq!(opened.plaintext.expose(), plaintext.expose());
    assert_eq!(
        client.generate_data_key("orders").bytes(64).await.unwrap().plaintext.unwrap().len(),
        64
    );
    assert!(
        client
            .generate_data_key("orders")
            .plaintext(false)
            .await
            .unwrap()
            .plaintext
            .is_none()
    );
}

#[tokio::test]
async fn a_wrong_context_has_its_kind() {
    let acme = Acme::start().await;
    let client = acme.client();
    let wrapped = client.wrap("orders", b"0123456789").context(TABLE).await.unwrap().wrapped;
    let error = failed(
        client.unwrap(&wrapped).context([("table", "invoices")]).await,
        ErrorKind::CiphertextRejected,
    );
    assert_eq!((error.code(), error.status()), (&ErrorCode::CiphertextRejected, Some(422)));
    assert!(!error.is_retryable() && error.request_id().is_some() && error.audit_index().is_some());
    failed(client.unwrap("clv1.AAAA").await, ErrorKind::InvalidEnvelope);
    let inspected = client.inspect(&wrapped).context(TABLE).await.unwrap();
    assert_eq!((inspected.key.as_str(), inspected.plaintext_length), ("orders", 10));
    assert!(!inspected.recipients[0].ciphertext.is_empty());
}

#[tokio::test]
async fn a_key_lives() {
    let acme = Acme::start().await;
    let client = acme.client();
    let cache = CacheRules::default().enabled(true).max_age(Duration::from_secs(60));
    let request = client
        .create_key("documents", "embedded")
        .spec(Spec::Aes256)
        .labels([("env", "test")])
        .cache(cache);
    let key = request.await.unwrap();
    assert_eq!((&key.state, &key.spec, key.primary_version), (&KeyState::Enabled, &Spec::Aes256, 1));
    assert_eq!(key.cache.max_age, Some(Duration::from_secs(60)));
    let wrapped = client.generate_data_key("documents").await.unwrap().wrapped;
    assert_eq!(client.rotate_key("documents").await.unwrap().primary_version, 2);
    let versions = client.list_key_versions("documents").page_size(1).items().all().await.unwrap();
    assert_eq!(versions.iter().map(|version| version.number).collect::<Vec<_>>(), [1, 2]);
    let rewrapped = client.rewrap("documents", &wrapped).await.unwrap();
    assert!(rewrapped.changed && rewrapped.version == 2);
    let key = client.get_key("documents").await.unwrap();
    let changed = client
        .update_key("documents", &key.etag)
        .labels([("env", "prod")])
        .cache(key.cache.clone())
        .await
        .unwrap();
    assert_eq!((changed.labels["env"].as_str(), changed.labels.len()), ("prod", 1));
    let none: [(&str, &str); 0] = [];
    failed(
        client.update_key("documents", &key.etag).labels(none).await,
        ErrorKind::PreconditionFailed,
    );
    assert_eq!(client.disable_key("documents").await.unwrap().state, KeyState::Disabled);
    let error = failed(client.unwrap(&rewrapped.wrapped).await, ErrorKind::KeyUnusable);
    assert_eq!(error.code(), &ErrorCode::KeyDisabled);
    let at_provider = client
        .disable_key("documents")
        .at_provider(true)
        .await
        .unwrap()
        .at_provider
        .unwrap();
    assert_eq!(at_provider.result, AtProviderResult::Done);
    assert_eq!(
        client.enable_key("documents").at_provider(true).await.unwrap().state,
        KeyState::Enabled
    );
    client.delete_key("documents").await.unwrap();
    failed(client.get_key("documents").await, ErrorKind::NotFound);
    let detached = client.list_keys().state(KeyStateFilter::Detached).items().all().await.unwrap();
    let reattach = detached[0].reattach.clone().unwrap();
    assert!(detached[0].detached_at.unwrap() > key.created);
    let back = client
        .create_key("documents", &reattach.connection.unwrap())
        .provider_key(reattach.provider_key)
        .await
        .unwrap();
    assert_eq!(back.id, key.id);
}

#[tokio::test]
async fn lists_are_paged_to_the_end() {
    let acme = Acme::start().await;
    let client = acme.client();
    let names: Vec<String> = (0..7).map(|number| format!("k{number}")).collect();
    for name in &names {
        client.create_key(name, "embedded").labels([("test", "pages")]).await.unwrap();
    }
    for size in [2, 7, 100] {
        let keys: Vec<Key> = client
            .list_keys()
            .label("test=pages")
            .page_size(size)
            .items()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            keys.iter().map(|key| &key.name).collect::<Vec<_>>(),
            names.iter().collect::<Vec<_>>()
        );
    }
    // It may be left early, and is a stream.
    let mut keys = client.list_keys().label("test=pages").page_size(1).items();
    assert_eq!(keys.next().await.unwrap().unwrap().name, "k0");
    let rest = StreamExt::take(keys, 2).map(|key| key.unwrap().name).collect::<Vec<_>>().await;
    assert_eq!(rest, ["k1", "k2"]);
    assert!(client.list_keys().label("test=none of it").items().next().await.is_none());
    let mut refused = client.list_keys().page_size(1001).items();
    failed(refused.next().await.unwrap(), ErrorKind::InvalidRequest);
    assert!(refused.next().await.is_none());
}

#[tokio::test]
async fn a_batch_with_bad_items() {
    let acme = Acme::start().await;
    let client = acme.client();
    client.create_key("off", "embedded").await.unwrap();
    client.disable_key("off").await.unwrap();
    let items = [
        GenerateItem::new("orders").context(TABLE),
        GenerateItem::new("off"),
        GenerateItem::new("orders").bytes(16),
    ];
    let mut made = client.batch_generate_data_keys(items).await.unwrap();
    let lengths: Vec<_> = made
        .iter()
        .map(|item| item.as_ref().ok().and_then(|made| Some(made.plaintext.as_ref()?.len())))
        .collect();
    assert_eq!(lengths, [Some(32), None, Some(16)]);
    let refused = made.remove(1).unwrap_err();
    assert_eq!(refused.error.code(), &ErrorCode::KeyDisabled);
    assert!(refused.audit_index.is_some());
    let first = made.remove(0).unwrap();
    let wrapped = client
        .batch_wrap([WrapItem::new("orders", b"plain")])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    let items = [
        UnwrapItem::new(&first.wrapped).context(TABLE),
        UnwrapItem::new(&first.wrapped),
        UnwrapItem::new(&wrapped.wrapped).key("orders"),
    ];
    let opened = client.batch_unwrap(items).await.unwrap();
    assert_eq!(Some(&opened[0].as_ref().unwrap().plaintext), first.plaintext.as_ref());
    assert_eq!(opened[1].as_ref().unwrap_err().error.kind(), ErrorKind::CiphertextRejected);
    assert_eq!(opened[2].as_ref().unwrap().plaintext.expose(), b"plain");
    let rewrapped = client
        .batch_rewrap([RewrapItem::new("orders", &first.wrapped).context(TABLE)])
        .await
        .unwrap();
    assert_eq!(rewrapped[0].as_ref().unwrap().key, "orders");
    failed(
        client.batch_generate_data_keys([GenerateItem::new("No Name")]).await,
        ErrorKind::InvalidRequest,
    );
}

#[tokio::test]
async fn more_items_than_a_request_takes() {
    let acme = Acme::start().await;
    let client = acme.client();
    let items = (0..1203_u32).map(|number| WrapItem::new("orders", number.to_be_bytes()));
    let wrapped = client.batch_wrap(items).await.unwrap();
    let items = wrapped.into_iter().map(|item| UnwrapItem::new(item.unwrap().wrapped));
    let opened = client.batch_unwrap(items).await.unwrap();
    let numbers = opened
        .iter()
        .map(|item| u32::from_be_bytes(item.as_ref().unwrap().plaintext.expose().try_into().unwrap()));
    assert_eq!(numbers.collect::<Vec<_>>(), (0..1203).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_connection_lives() {
    let acme = Acme::start().await;
    let client = acme.client();
    let made = client
        .create_connection("second", LocalSettings::default())
        .labels([("a", "b")])
        .await
        .unwrap();
    assert_eq!((&made.provider, &made.state), (&ProviderName::Local, &ConnectionState::Active));
    let names: Vec<_> = client.list_connections().page_size(1).items().all().await.unwrap();
    assert_eq!(
        names.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
        ["embedded", "second"]
    );
    client.create_key("second", "second").await.unwrap();
    let wrapped = client.generate_data_key("second").await.unwrap().wrapped;
    assert!(client.check_connection("second").await.unwrap().reachable);
    assert!(client.get_connection_capabilities("second").await.unwrap().keys[0].spec.is_known());
    assert_eq!(client.sever_connection("second").await.unwrap().state, ConnectionState::Severed);
    let error = failed(client.unwrap(&wrapped).await, ErrorKind::KeyUnusable);
    assert_eq!(error.code(), &ErrorCode::ConnectionSevered);
    assert_eq!(client.restore_connection("second").await.unwrap().state, ConnectionState::Active);
    assert_eq!(client.unwrap(&wrapped).await.unwrap().key, "second");
    let none: [(&str, &str); 0] = [];
    assert!(
        client
            .update_connection("second", "*")
            .labels(none)
            .await
            .unwrap()
            .labels
            .is_empty()
    );
    assert_eq!(client.get_connection("second").await.unwrap().name, "second");
    assert_eq!(
        failed(client.delete_connection("second").await, ErrorKind::Conflict).code(),
        &ErrorCode::InUse
    );
    let settings = AwsSettings::new("eu", AwsAuth::Static(AwsAccessKey::new("", "")));
    failed(client.create_connection("third", settings).await, ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn principals_and_tokens_live() {
    let acme = Acme::start().await;
    let client = acme.client();
    client.create_principal("app").kind(PrincipalKind::Workload).await.unwrap();
    assert_eq!(client.get_principal("app").await.unwrap().kind, PrincipalKind::Workload);
    let operations = [Operation::GenerateDataKey, Operation::from("Unwrap")];
    let day = Duration::from_secs(86_400);
    let request = client
        .create_token("app", operations.clone())
        .keys(["orders"])
        .expires_in(day)
        .kind(TokenKind::Standing);
    let token = request.await.unwrap();
    let app = Client::builder(acme.address()).token(token.token.clone()).build().unwrap();
    let me = app.who_am_i().await.unwrap();
    assert_eq!((&me.id, me.operator, me.parent, me.revoked), (&token.id, false, None, None));
    assert_eq!((me.operations, (me.expires - me.created).num_hours()), (operations.to_vec(), 24));
    app.generate_data_key("orders").await.unwrap();
    failed(app.get_key("orders").await, ErrorKind::PermissionDenied);
    assert_eq!(client.list_tokens("app").items().all().await.unwrap()[0].id, token.id);
    // The same request with the same key makes no second token, and the text is not kept.
    let again = || client.create_token("app", [Operation::Unwrap]).idempotency_key("mine");
    let first = again().await.unwrap();
    assert_eq!(
        failed(again().await, ErrorKind::AlreadyCreated).created_id(),
        Some(first.id.as_str())
    );
    client.delete_token("app", &token.id).await.unwrap();
    failed(app.generate_data_key("orders").await, ErrorKind::Unauthenticated);
    client.delete_principal("app").await.unwrap();
    client.delete_principal("app").await.unwrap();
    let left = client.list_principals().items().all().await.unwrap();
    assert!(left.iter().all(|principal| principal.name != "app"));
}

#[tokio::test]
async fn tenants_and_the_service() {
    let acme = Acme::start().await;
    let operator = acme.operator().with_justification("Ticket 4711");
    let tenant = operator.create_tenant("other").await.unwrap();
    failed(operator.create_tenant("other").await, ErrorKind::AlreadyExists);
    assert_eq!(operator.get_tenant("other").await.unwrap().id, tenant.id);
    assert_eq!(operator.suspend_tenant("other").await.unwrap().state, TenantState::Suspended);
    assert_eq!(operator.resume_tenant("other").await.unwrap().state, TenantState::Active);
    assert!(operator.list_tenants().page_size(1).items().all().await.unwrap().len() >= 2);
    let other = operator.with_tenant("other");
    assert_eq!(
        other.create_connection("embedded", LocalSettings::default()).await.unwrap().tenant,
        tenant.id
    );
    assert!(other.list_keys().items().all().await.unwrap().is_empty());
    // An empty name is the operator's own tenant again.
    assert_ne!(other.with_tenant("").who_am_i().await.unwrap().tenant, tenant.id);
    assert!(operator.plan_declared().await.unwrap().steps.is_empty());
    assert_eq!(operator.apply_declared().await.unwrap().as_declared, 0);
    assert!(operator.release_declared(ReleasableKind::Key, "other", "no-key").await.is_err());
    assert!(operator.get_health().await.unwrap().alive);
    assert!(operator.get_readiness().await.unwrap().ready);
    assert!(operator.get_metrics().await.unwrap().contains("claviger"));
    assert!(operator.get_openapi().await.unwrap().contains_key("paths"));
}

#[tokio::test]
async fn the_callers_own_idempotency_key_is_used() {
    let acme = Acme::start().await;
    let client = acme.client();
    let create = |spec| client.create_key("documents", "embedded").spec(spec).idempotency_key("mine");
    let (first, second) = (create(Spec::Aes256).await.unwrap(), create(Spec::Aes256).await.unwrap());
    assert_eq!(first.id, second.id);
    let error = failed(create(Spec::Rsa3072).await, ErrorKind::Conflict);
    assert_eq!(error.code(), &ErrorCode::IdempotencyMismatch);
}

/// A gateway refuses a header that it cannot read, so both ends are tried.
#[tokio::test]
async fn the_deadline_is_taken_by_the_gateway() {
    let acme = Acme::start().await;
    for milliseconds in [100, 250, 9_999_000] {
        let client = acme.client().with_timeout(Duration::from_millis(milliseconds));
        let found: Result<Key> = client.get_key("orders").await;
        // Else the machine is busy, and so the deadline was taken.
        if let Err(error) = found {
            assert!(milliseconds < 1000 && error.kind() == ErrorKind::DeadlineExceeded, "{error}");
        }
    }
}

#[tokio::test]
async fn tasks_share_a_client_and_may_be_dropped() {
    let acme = Acme::start().await;
    let client = acme.client();
    let wrapped = client.generate_data_key("orders").await.unwrap().wrapped;
    let tasks = (0..8_u64).map(|number| {
        let (client, wrapped) = (client.clone(), wrapped.clone());
        tokio::spawn(async move {
            for step in 0..10 {
                let call = client.unwrap(&wrapped).into_future();
                let limit = if number % 2 == 1 {
                    Duration::from_micros(step * 250)
                } else {
                    Duration::from_secs(60)
                };
                // What is dropped in mid-flight leaves the client and its connections usable.
                if let Ok(opened) = tokio::time::timeout(limit, call).await {
                    assert_eq!(opened.unwrap().key, "orders");
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(client.unwrap(&wrapped).await.unwrap().key, "orders");
}
