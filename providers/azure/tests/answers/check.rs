//! The check of a connection, and the policy that it prints.

use claviger_fake::Act;
use claviger_fake_azure::Application;
use claviger_provider::{ErrorKind, Exposure, Finding, KeySpec, Probe, Provider, Secret, SettingsOrigin};
use serde_json::{Value, json};

use crate::bench::{Bench, CLIENT, Place, SECRET};
use crate::fixture::{context, cx, fault, made, owner, requests};

fn finding(probe: &Probe, operation: &str) -> Finding {
    let found = probe.rights.iter().find(|right| right.operation == operation);
    found.unwrap_or_else(|| panic!("no {operation}: {probe:?}")).finding
}

fn allow(bench: &Bench, permissions: &[&str]) {
    let application = Application {
        secrets: vec![SECRET.to_owned()],
        permissions: Some(permissions.iter().map(ToString::to_string).collect()),
        ..Application::default()
    };
    bench.fake.access().register(CLIENT, application);
}

#[tokio::test]
async fn rights_are_tried_without_changing_anything() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let journal = &bench.fake.switches().journal;
    journal.clear();
    let probe = provider.probe(&cx(), &[kek]).await.unwrap();
    for operation in ["describe", "list_versions", "canary"] {
        assert_eq!(finding(&probe, operation), Finding::Granted, "{operation}");
    }
    for operation in ["create_key", "rotate", "set_state"] {
        assert_eq!(finding(&probe, operation), Finding::NotTestable, "{operation}");
    }
    assert!(
        probe.detail.contains("Managed HSM") && probe.detail.contains(CLIENT),
        "{}",
        probe.detail
    );
    let changes = |request: &claviger_fake::RecordedRequest| {
        let wraps = request.path.ends_with("wrapkey");
        request.method != "GET" && !wraps
    };
    assert!(!journal.all().iter().any(changes), "{:?}", journal.all());
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let bench = Bench::start().await;
    let kek = made(&bench.connect(Place::Vault), KeySpec::Rsa3072).await;
    for (permissions, denied) in [
        (&["list", "wrapKey", "unwrapKey"][..], "describe"),
        (&["get", "wrapKey", "unwrapKey"][..], "list_versions"),
        (&["get", "list", "unwrapKey"][..], "canary"),
        (&["get", "list", "wrapKey"][..], "canary"),
    ] {
        allow(&bench, permissions);
        let probe = bench.connect(Place::Vault).probe(&cx(), std::slice::from_ref(&kek)).await.unwrap();
        for operation in ["describe", "list_versions", "canary"] {
            let expected = if operation == denied { Finding::Denied } else { Finding::Granted };
            assert_eq!(finding(&probe, operation), expected, "{permissions:?}: {operation}");
        }
    }
}

#[tokio::test]
async fn a_check_says_when_the_key_lost_its_tag_or_is_gone() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    owner(&bench, "PATCH", &kek.key.id, json!({"tags": {}})).await;
    let probe = provider.probe(&cx(), std::slice::from_ref(&kek)).await.unwrap();
    assert_eq!(finding(&probe, "tenant_tag"), Finding::Denied);
    owner(&bench, "DELETE", &kek.key.id, Value::Null).await;
    let probe = provider.probe(&cx(), &[kek]).await.unwrap();
    let canary = probe.rights.iter().find(|right| right.operation == "canary").unwrap();
    assert!(
        canary.finding == Finding::NotTestable && canary.advice.as_ref().unwrap().contains("recover"),
        "{canary:?}"
    );
}

#[tokio::test]
async fn a_check_fails_where_the_vault_is_out_of_order_or_takes_no_token() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    fault(&bench, "/keys/", Act::Unavailable);
    let probe = provider.probe(&cx(), &[]).await.unwrap();
    assert!(probe.policy.is_some());
    for operation in ["describe", "list_versions"] {
        let right = probe.rights.iter().find(|right| right.operation == operation).unwrap();
        assert!(
            right.finding == Finding::Failed && right.how.contains("ServiceUnavailable"),
            "{right:?}"
        );
    }
    bench.fake.switches().faults.set(Vec::new());
    bench.fake.access().register(CLIENT, Application::default());
    let probe = bench.connect(Place::Vault).probe(&cx(), &[]).await.unwrap();
    assert_eq!(probe.problem.map(|error| error.kind), Some(ErrorKind::ProviderDenied));
}

#[tokio::test]
async fn a_vault_that_does_not_exist_is_named() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    drop(bench);
    let probe = provider.probe(&cx(), &[]).await.unwrap();
    let problem = probe.problem.unwrap();
    assert_eq!(problem.kind, ErrorKind::UpstreamUnavailable, "{problem}");
    assert!(problem.advice.unwrap().contains("vaultUri"), "{problem}");
    assert!(probe.policy.is_some());
}

#[tokio::test]
async fn one_key_that_fails_takes_nothing_from_the_others() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let (good, bad) = (made(&provider, KeySpec::Aes256).await, made(&provider, KeySpec::Aes256).await);
    let name = bad.key.id.rsplit('/').next().unwrap();
    fault(&bench, &format!("/keys/{name}"), Act::Unavailable);
    let probe = provider.probe(&cx(), &[bad.clone(), good.clone()]).await.unwrap();
    assert!(probe.problem.is_none() && probe.policy.is_some());
    assert_eq!(finding(&probe, "describe"), Finding::Granted);
    let of = |key: &str| {
        let canaries = probe.rights.iter().filter(|right| right.operation == "canary");
        canaries.clone().find(|right| right.how.contains(key)).unwrap()
    };
    assert_eq!(of(&good.key.id).finding, Finding::Granted);
    let failed = of(&bad.key.id);
    assert!(
        failed.finding == Finding::Failed && failed.how.contains("ServiceUnavailable"),
        "{failed:?}"
    );
}

#[tokio::test]
async fn the_printed_access_policy_is_enough_and_not_too_much() {
    let bench = Bench::start().await;
    for place in [Place::Vault, Place::Hsm, Place::HsmGcm] {
        let provider = bench.connect(place);
        let printed = provider.probe(&cx(), &[]).await.unwrap().policy.unwrap();
        assert!(printed.contains(&format!("claviger-tenant={}", cx().tenant)), "{printed}");
        let wraps: &[&str] = if place == Place::HsmGcm {
            &["encrypt", "decrypt"]
        } else {
            &["wrapKey", "unwrapKey"]
        };
        let all = [&["get", "list"], wraps, &["create", "update", "rotate"]].concat();
        if place == Place::Vault {
            assert!(printed.contains(&format!("--key-permissions {}\n", all.join(" "))), "{printed}");
        }
        let spec = if place == Place::Vault { KeySpec::Rsa3072 } else { KeySpec::Aes256 };
        let used = async |permissions: &[&str]| {
            allow(&bench, permissions);
            let provider = bench.connect(place);
            let kek = crate::fixture::kek(&provider.create_key(&cx(), &crate::fixture::request(spec, None)).await?);
            provider.rotate(&cx(), &kek).await?;
            provider.set_state(&cx(), &kek, false).await?;
            provider.set_state(&cx(), &kek, true).await?;
            let dek = Secret::random(32);
            let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await?;
            provider.unwrap_key(&cx(), &wrapped, &context()).await.map(drop)
        };
        used(&all).await.unwrap();
        for left_out in &all {
            let others: Vec<&str> = all.iter().copied().filter(|right| right != left_out).collect();
            let error = used(&others).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::ProviderDenied, "{left_out}: {error}");
        }
    }
    assert!(requests(&bench, "POST", "oauth2") > 0);
}

#[tokio::test]
async fn a_right_is_missed_and_used_again_at_the_next_call() {
    let bench = Bench::start().await;
    let kek = made(&bench.connect(Place::Hsm), KeySpec::Aes256).await;
    let settings = bench.settings(Place::Hsm, json!({"static": {"token": "of-the-gateway"}}));
    let grant = |permissions: &[&str]| bench.fake.access().permit("of-the-gateway", permissions);
    grant(&["wrapKey", "unwrapKey"]);
    let provider = bench.connect_as(&bench.installation(), &settings, SettingsOrigin::Tenant);
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    grant(&[]);
    for _ in 0..2 {
        let wrap = provider.wrap_key(&cx(), &kek, &dek, &context()).await.map(drop);
        let unwrap = provider.unwrap_key(&cx(), &wrapped, &context()).await.map(drop);
        for error in [wrap.unwrap_err(), unwrap.unwrap_err()] {
            assert!(error.kind == ErrorKind::ProviderDenied && error.advice.is_some(), "{error}");
        }
    }
    grant(&["wrapKey", "unwrapKey"]);
    provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
}

#[tokio::test]
async fn a_key_that_the_vault_releases_is_told() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let kek = made(&provider, KeySpec::Aes256).await;
    let told = async || {
        let probe = provider.probe(&cx(), std::slice::from_ref(&kek)).await.unwrap();
        probe.rights.into_iter().find(|right| right.operation == "export_key")
    };
    assert_eq!(told().await, None);
    let exposure = async || provider.describe(&cx(), &kek).await.unwrap().versions[0].exposure;
    assert_eq!(exposure().await, Some(Exposure::NONE));
    let path = kek.key.id.rsplit('/').next().unwrap();
    let patch = json!({"attributes": {"exportable": true}});
    fault(&bench, &format!("/keys/{path}"), Act::Change { patch });
    let right = told().await.unwrap();
    assert!(
        right.finding == Finding::Excessive && right.how.contains("is exportable"),
        "{right:?}"
    );
    assert!(exposure().await.is_some_and(|exposure| exposure.exportable));
}

/// Exposure is a property of a version: what leaves with an older one opens what that one wrapped.
#[tokio::test]
async fn an_older_version_that_the_vault_releases_is_told_as_such() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let first = made(&provider, KeySpec::Aes256).await;
    bench.fake.switches().clock.advance(std::time::Duration::from_secs(1));
    provider.rotate(&cx(), &first).await.unwrap();
    let mut listed = owner(&bench, "GET", &format!("{}/versions", first.key.id), Value::Null).await["value"].clone();
    for entry in listed.as_array_mut().unwrap() {
        let is_first = entry["kid"].as_str().unwrap().ends_with(&first.key.version);
        entry["attributes"]["exportable"] = json!(is_first);
    }
    let patch = json!({"value": listed});
    fault(&bench, "/versions", Act::Change { patch });
    let shown = provider.describe(&cx(), &first).await.unwrap();
    let exportable: Vec<_> = shown.versions.iter().map(|version| version.exposure.unwrap().exportable).collect();
    assert_eq!((exportable, shown.primary), (vec![true, false], 1));
    let probe = provider.probe(&cx(), std::slice::from_ref(&first)).await.unwrap();
    let right = probe.rights.iter().find(|right| right.operation == "export_key").unwrap();
    assert!(right.how.contains("is exportable"), "{right:?}");
}
