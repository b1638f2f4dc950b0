//! Creation, adoption, enabling, disabling and soft deletion of keys.

use std::time::Duration;

use claviger_fake::{Act, Fault};
use claviger_provider::{ErrorKind, KeyRequest, KeySpec, KeyState, Provider, Retry, Secret};
use serde_json::{Value, json};

use crate::bench::{Bench, Place};
use crate::fixture::{context, cx, kek, made, owner, owners_key, request, requests};

#[tokio::test]
async fn a_key_is_made_with_what_it_needs_and_no_more() {
    let bench = Bench::start().await;
    for (place, spec, kind, operations) in [
        (Place::Vault, KeySpec::Rsa3072, "RSA", json!(["wrapKey", "unwrapKey"])),
        (Place::VaultHsm, KeySpec::Rsa4096, "RSA-HSM", json!(["wrapKey", "unwrapKey"])),
        (Place::Hsm, KeySpec::Rsa3072, "RSA-HSM", json!(["wrapKey", "unwrapKey"])),
        (Place::Hsm, KeySpec::Aes256, "oct-HSM", json!(["wrapKey", "unwrapKey"])),
        (Place::HsmGcm, KeySpec::Aes256, "oct-HSM", json!(["encrypt", "decrypt"])),
    ] {
        let provider = bench.connect(place);
        let request = request(spec, None);
        let key = provider.create_key(&cx(), &request).await.unwrap();
        assert!(key.id.ends_with(&format!("/keys/claviger-{}", request.made_as)), "{}", key.id);
        assert_eq!(key.versions[0].key.version.len(), 32);
        let described = owner(&bench, "GET", &key.id, Value::Null).await;
        assert_eq!(
            (&described["key"]["kty"], &described["key"]["key_ops"]),
            (&json!(kind), &operations)
        );
        let tags = json!({"claviger-tenant": cx().tenant.to_string(), "claviger-key": request.key_id.to_string()});
        assert_eq!(described["tags"], tags);
    }
}

#[tokio::test]
async fn a_key_vault_has_no_aes_keys() {
    let bench = Bench::start().await;
    let error = bench
        .connect(Place::Vault)
        .create_key(&cx(), &request(KeySpec::Aes256, None))
        .await
        .unwrap_err();
    assert!(
        error.kind == ErrorKind::Unsupported && error.advice.unwrap().contains("Managed HSM"),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_is_adopted_by_each_of_its_names_with_all_versions() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    let url = bench.fake.url();
    let name = owners_key(&bench, &url, json!({})).await;
    owner(&bench, "POST", &format!("{url}/keys/{name}/rotate"), json!({})).await;
    for text in [
        name.clone(),
        format!("{url}/keys/{name}"),
        format!("{url}/keys/{name}/"),
        name.to_uppercase(),
    ] {
        let key = provider.create_key(&cx(), &request(KeySpec::Rsa3072, Some(&text))).await.unwrap();
        // A key has one id, whichever form of its name was given.
        assert_eq!(
            (key.id.as_str(), key.versions.len(), key.primary),
            (format!("{url}/keys/{name}").as_str(), 2, 1),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_adopted_says_why() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    let url = bench.fake.url();
    let version = "0".repeat(32);
    for (text, says) in [
        ("no_such_form", "a key's name"),
        (format!("{url}/keys/orders/{version}").as_str(), "Leave the version out"),
        (format!("{url}/secrets/orders").as_str(), "a secret"),
        (format!("{url}/certificates/orders").as_str(), "a certificate"),
        ("https://other.vault.azure.net/keys/orders", "another vault"),
    ] {
        let error = provider
            .create_key(&cx(), &request(KeySpec::Rsa3072, Some(text)))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidInput, "{text}: {error}");
        assert!(error.advice.unwrap().contains(says), "{text}: {:?}", error.advice);
    }
    let error = provider
        .create_key(&cx(), &request(KeySpec::Rsa3072, Some("nobodys")))
        .await
        .unwrap_err();
    assert!(error.kind == ErrorKind::KeyNotFound && error.advice.is_some(), "{error}");
    let hour = 3600;
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap();
    for (more, kind, says) in [
        (json!({"tags": {}}), ErrorKind::ProviderDenied, "claviger-tenant"),
        (
            json!({"tags": {"claviger-tenant": "0b".repeat(16)}}),
            ErrorKind::ProviderDenied,
            "claviger-tenant",
        ),
        (json!({"key_size": 2048}), ErrorKind::InvalidInput, "3072"),
        (json!({"kty": "EC"}), ErrorKind::InvalidInput, "elliptic curve"),
        (
            json!({"key_ops": ["encrypt", "decrypt", "wrapKey"]}),
            ErrorKind::InvalidInput,
            "wrapKey",
        ),
        (json!({"attributes": {"enabled": false}}), ErrorKind::KeyState, "--enabled true"),
        (json!({"attributes": {"nbf": now + hour}}), ErrorKind::KeyState, "--not-before"),
        (json!({"attributes": {"exp": now - hour}}), ErrorKind::KeyState, "--expires"),
    ] {
        let name = owners_key(&bench, &url, more.clone()).await;
        let error = provider
            .create_key(&cx(), &request(KeySpec::Rsa3072, Some(&name)))
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{more}: {error}");
        assert!(error.advice.unwrap().contains(says), "{more}: {:?}", error.advice);
        let found = match (more["key_size"].as_i64(), more["kty"].as_str()) {
            (Some(2048), _) => Some("RSA of 2048 bits"),
            (_, Some("EC")) => Some("EC"),
            (_, _) => None,
        };
        assert_eq!(error.found.map(|found| found.to_string()).as_deref(), found);
    }
}

#[tokio::test]
async fn an_aes_key_of_another_length_is_found_out() {
    let bench = Bench::start().await;
    let url = bench.fake.hsm_url();
    for (place, operations) in [(Place::Hsm, ["wrapKey", "unwrapKey"]), (Place::HsmGcm, ["encrypt", "decrypt"])] {
        let provider = bench.connect(place);
        let of = |bits: u16| json!({"kty": "oct-HSM", "key_size": bits, "key_ops": operations});
        let short = owners_key(&bench, &url, of(128)).await;
        let error = provider
            .create_key(&cx(), &request(KeySpec::Aes256, Some(&short)))
            .await
            .unwrap_err();
        assert!(
            error.kind == ErrorKind::InvalidInput && error.advice.unwrap().contains("256 bits"),
            "{error}"
        );
        let right = owners_key(&bench, &url, of(256)).await;
        provider.create_key(&cx(), &request(KeySpec::Aes256, Some(&right))).await.unwrap();
        // Each AES algorithm requires its own operations.
        let other = bench.connect(if place == Place::Hsm { Place::HsmGcm } else { Place::Hsm });
        let error = other.create_key(&cx(), &request(KeySpec::Aes256, Some(&right))).await.unwrap_err();
        assert!(
            error.kind == ErrorKind::InvalidInput && error.advice.unwrap().contains("--ops"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn enabling_leaves_alone_what_its_owner_disabled() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let first = made(&provider, KeySpec::Aes256).await;
    let second = kek(&provider.rotate(&cx(), &first).await.unwrap());
    let third = kek(&provider.rotate(&cx(), &second).await.unwrap());
    let switch = |version: &str, enabled: bool| {
        let url = format!("{}/{version}", first.key.id);
        let bench = &bench;
        async move { owner(bench, "PATCH", &url, json!({"attributes": {"enabled": enabled}})).await }
    };
    switch(&first.key.version, false).await;
    let states = || async {
        let key = provider.describe(&cx(), &third).await.unwrap();
        let of = |version: &str| key.versions.iter().find(|known| known.key.version == version).unwrap().state;
        [&first, &second, &third].map(|kek| of(&kek.key.version))
    };
    provider.set_state(&cx(), &third, false).await.unwrap();
    assert_eq!(states().await, [KeyState::Disabled; 3]);
    provider.set_state(&cx(), &third, true).await.unwrap();
    assert_eq!(states().await, [KeyState::Disabled, KeyState::Enabled, KeyState::Enabled]);
    // Enabling a key enables its current version, whoever disabled it.
    switch(&third.key.version, false).await;
    provider.set_state(&cx(), &third, true).await.unwrap();
    assert_eq!(states().await[2], KeyState::Enabled);
    let tags = owner(&bench, "GET", &third.key.id, Value::Null).await["tags"].clone();
    assert!(
        tags.get("claviger-disabled").is_none() && tags.get("claviger-tenant").is_some(),
        "{tags}"
    );
}

/// A vault may refuse to describe a disabled key. Its list of versions says enough.
#[tokio::test]
async fn a_key_is_enabled_where_a_disabled_one_is_not_described() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    bench.fake.access().hide_disabled(true);
    let first = made(&provider, KeySpec::Aes256).await;
    let second = kek(&provider.rotate(&cx(), &first).await.unwrap());
    let dek = Secret::random(32);
    let wrapped = [
        provider.wrap_key(&cx(), &first, &dek, &context()).await.unwrap(),
        provider.wrap_key(&cx(), &second, &dek, &context()).await.unwrap(),
    ];
    let state = || async { provider.describe(&cx(), &second).await.unwrap().state };
    for _ in 0..2 {
        provider.set_state(&cx(), &second, false).await.unwrap();
        provider.set_state(&cx(), &second, false).await.unwrap();
        assert_eq!(state().await, KeyState::Disabled);
        provider.set_state(&cx(), &second, true).await.unwrap();
        provider.set_state(&cx(), &second, true).await.unwrap();
        assert_eq!(state().await, KeyState::Enabled);
        for wrapped in &wrapped {
            assert_eq!(provider.unwrap_key(&cx(), wrapped, &context()).await.unwrap(), dek);
        }
    }
    // Disabled by its owner, without our mark.
    let url = format!("{}/{}", second.key.id, second.key.version);
    owner(&bench, "PATCH", &url, json!({"attributes": {"enabled": false}})).await;
    provider.set_state(&cx(), &second, true).await.unwrap();
    assert_eq!(state().await, KeyState::Enabled);
    assert_eq!(provider.unwrap_key(&cx(), &wrapped[1], &context()).await.unwrap(), dek);
}

#[tokio::test]
async fn a_new_key_is_waited_for_until_it_is_found() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    bench.fake.switches().appearance.hide_new_keys(3);
    let request = request(KeySpec::Aes256, None);
    let key = kek(&provider.create_key(&cx(), &request).await.unwrap());
    provider
        .wrap_key(&cx(), &key, &Secret::random(32), &context())
        .await
        .expect("every server has it");
    assert_eq!(requests(&bench, "POST", "/create"), 1);
}

/// A creation of a key that exists would make a second version of it.
#[tokio::test]
async fn a_repeated_creation_waits_until_the_first_one_s_key_shows() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    let repeated = KeyRequest {
        repeated: true,
        ..request(KeySpec::Rsa3072, None)
    };
    // What an earlier attempt made.
    bench.fake.switches().appearance.hide_new_keys(3);
    let url = format!("{}/keys/claviger-{}/create", bench.fake.url(), repeated.made_as);
    let tags = json!({"claviger-tenant": cx().tenant.to_string(), "claviger-key": repeated.key_id.to_string()});
    let body = json!({"kty": "RSA", "key_size": 3072, "key_ops": ["wrapKey", "unwrapKey"], "tags": tags});
    owner(&bench, "POST", &url, body).await;
    let found = provider.create_key(&cx(), &repeated).await.unwrap();
    assert_eq!((found.versions.len(), requests(&bench, "POST", "/create")), (1, 1));
}

/// Azure may refuse to show a disabled version, and lists it still.
#[tokio::test]
async fn a_key_whose_current_version_is_disabled_is_described() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let first = made(&provider, KeySpec::Aes256).await;
    // The list has times in whole seconds, and no order.
    bench.fake.switches().clock.advance(Duration::from_secs(1));
    let second = kek(&provider.rotate(&cx(), &first).await.unwrap());
    let url = format!("{}/{}", second.key.id, second.key.version);
    owner(&bench, "PATCH", &url, json!({"attributes": {"enabled": false}})).await;
    let shown = provider.describe(&cx(), &first).await.unwrap();
    let states: Vec<_> = shown.versions.iter().map(|version| version.state).collect();
    assert_eq!((states, shown.primary), (vec![KeyState::Enabled, KeyState::Disabled], 1));

    let message = "Operation get is not allowed on a disabled key.";
    let body = json!({"error": {"code": "Forbidden", "message": message, "innererror": {"code": "KeyDisabled"}}});
    let refusal = || crate::fixture::response(403, &[("content-type", "application/json")], &body.to_string());
    let faults = &bench.fake.switches().faults;
    faults.set(vec![Fault::once("/keys/", refusal())]);
    assert_eq!(provider.describe(&cx(), &first).await.unwrap(), shown);
    // Without the list the refusal stands.
    faults.set(vec![Fault::always("/keys/", refusal())]);
    let error = provider.describe(&cx(), &first).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
}

/// Azure disables the versions of a key one by one, and each call may hang.
#[tokio::test]
async fn a_disable_that_takes_too_long_is_finished_by_the_next() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let first = made(&provider, KeySpec::Aes256).await;
    let second = kek(&provider.rotate(&cx(), &first).await.unwrap());
    let dek = Secret::random(32);
    let (old, new) = (
        provider.wrap_key(&cx(), &first, &dek, &context()).await.unwrap(),
        provider.wrap_key(&cx(), &second, &dek, &context()).await.unwrap(),
    );
    let faults = &bench.fake.switches().faults;
    // The first version is disabled but its response is lost; the caller gives up on the second.
    let switching = |after, act| Fault {
        method: Some("PATCH".to_owned()),
        after,
        ..Fault::once("", act)
    };
    faults.set(vec![switching(0, Act::BreakOff)]);
    let error = provider.set_state(&cx(), &second, false).await.unwrap_err();
    assert_eq!(
        (error.kind, error.retry),
        (ErrorKind::UpstreamUnavailable, Retry::Backoff),
        "{error}"
    );
    faults.set(vec![switching(0, Act::Hang)]);
    let cx_of_it = cx();
    let disable = provider.set_state(&cx_of_it, &second, false);
    assert!(tokio::time::timeout(Duration::from_millis(200), disable).await.is_err());
    // The current version was disabled first; the other one still unwraps.
    let error = provider.unwrap_key(&cx(), &new, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
    assert_eq!(provider.unwrap_key(&cx(), &old, &context()).await.unwrap(), dek);

    faults.set(vec![switching(0, Act::Delay { milliseconds: 200 })]);
    provider.set_state(&cx(), &second, false).await.unwrap();
    let error = provider.unwrap_key(&cx(), &old, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
    // All versions that were disabled here are enabled again.
    provider.set_state(&cx(), &second, true).await.unwrap();
    for wrapped in [&old, &new] {
        assert_eq!(provider.unwrap_key(&cx(), wrapped, &context()).await.unwrap(), dek);
    }
}

#[tokio::test]
async fn a_key_that_was_deleted_softly_tells_how_it_comes_back() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let request = request(KeySpec::Aes256, None);
    let gone = kek(&provider.create_key(&cx(), &request).await.unwrap());
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &gone, &dek, &context()).await.unwrap();
    owner(&bench, "DELETE", &gone.key.id, Value::Null).await;
    let name = gone.key.id.rsplit('/').next().unwrap().to_owned();
    let adopt = crate::fixture::request(KeySpec::Aes256, Some(&name));
    let errors = [
        provider.wrap_key(&cx(), &gone, &dek, &context()).await.map(drop).unwrap_err(),
        provider.unwrap_key(&cx(), &wrapped, &context()).await.map(drop).unwrap_err(),
        provider.describe(&cx(), &gone).await.map(drop).unwrap_err(),
        provider.rotate(&cx(), &gone).await.map(drop).unwrap_err(),
        provider.set_state(&cx(), &gone, false).await.unwrap_err(),
        provider.create_key(&cx(), &adopt).await.map(drop).unwrap_err(),
        provider.create_key(&cx(), &request).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
        assert!(error.advice.unwrap().contains("az keyvault key recover"), "{:?}", error.advice);
    }
    let id = gone.key.id.replace("/keys/", "/deletedkeys/");
    owner(&bench, "POST", &format!("{id}/recover"), json!({})).await;
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    owner(&bench, "DELETE", &gone.key.id, Value::Null).await;
    owner(&bench, "DELETE", &id, Value::Null).await;
    let error = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyNotFound, "{error}");
}

#[tokio::test]
async fn the_recorded_version_unwraps_whatever_is_current() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Vault);
    let first = made(&provider, KeySpec::Rsa3072).await;
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &first, &dek, &context()).await.unwrap();
    provider.rotate(&cx(), &first).await.unwrap();
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    // The gateway names the version that it knows as primary, not Azure's current one.
    assert_eq!(provider.wrap_key(&cx(), &first, &dek, &context()).await.unwrap().key, first.key);
    let version = &first.key.version;
    assert_eq!(requests(&bench, "POST", &format!("{version}/wrapkey")), 2);
    assert_eq!(requests(&bench, "POST", &format!("{version}/unwrapkey")), 1);
}

#[tokio::test]
async fn what_the_provider_sees_of_a_context() {
    let bench = Bench::start().await;
    for (place, path, sees) in [(Place::Hsm, "wrapkey", false), (Place::HsmGcm, "encrypt", true)] {
        let provider = bench.connect(place);
        let kek = made(&provider, KeySpec::Aes256).await;
        provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap();
        let journal = bench.fake.switches().journal.all();
        let call = journal.iter().rev().find(|request| request.path.ends_with(path)).unwrap();
        use base64::Engine;
        let aad = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(context().bytes());
        assert_eq!(call.body.get("aad"), sees.then(|| json!(aad)).as_ref());
    }
}

/// The list of versions can be behind: then an older version that its owner disabled is not the current one.
#[tokio::test]
async fn the_newest_version_is_the_current_one_also_where_the_list_is_behind() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    bench.fake.access().hide_disabled(true);
    let first = made(&provider, KeySpec::Aes256).await;
    bench.fake.switches().clock.advance(Duration::from_secs(1));
    let second = kek(&provider.rotate(&cx(), &first).await.unwrap());
    let disabled = json!({"attributes": {"enabled": false}});
    owner(
        &bench,
        "PATCH",
        &format!("{}/{}", first.key.id, first.key.version),
        disabled.clone(),
    )
    .await;
    let mut before = owner(&bench, "GET", &format!("{}/versions", first.key.id), Value::Null).await["value"].clone();
    owner(&bench, "PATCH", &format!("{}/{}", second.key.id, second.key.version), disabled).await;
    for says in [true, false] {
        for entry in before.as_array_mut().unwrap() {
            if !says {
                // Lists do not have to say how the material can leave: that is not known then.
                entry["attributes"].as_object_mut().unwrap().remove("exportable");
            }
        }
        let patch = json!({"value": before});
        crate::fixture::fault(&bench, "/versions", Act::Change { patch });
        let shown = provider.describe(&cx(), &first).await.unwrap();
        assert_eq!(shown.versions[shown.primary].key, second.key);
        assert!(
            shown.versions.iter().all(|version| version.state == KeyState::Disabled),
            "{shown:?}"
        );
        assert!(shown.versions.iter().all(|version| version.exposure.is_some() == says));
    }
}

#[tokio::test]
async fn an_enable_stops_at_the_newest_version() {
    let bench = Bench::start().await;
    let provider = bench.connect(Place::Hsm);
    let mut keks = vec![made(&provider, KeySpec::Aes256).await];
    for _ in 0..2 {
        bench.fake.switches().clock.advance(Duration::from_secs(1));
        let next = kek(&provider.rotate(&cx(), &keks[0]).await.unwrap());
        keks.push(next);
    }
    for kek in &keks {
        let url = format!("{}/{}", kek.key.id, kek.key.version);
        owner(&bench, "PATCH", &url, json!({"attributes": {"enabled": false}})).await;
    }
    // The vault goes on refusing to describe the key.
    let message = "Operation get is not allowed on a disabled key.";
    let body = json!({"error": {"code": "Forbidden", "message": message, "innererror": {"code": "KeyDisabled"}}});
    let refusal = crate::fixture::response(403, &[("content-type", "application/json")], &body.to_string());
    let faults = &bench.fake.switches().faults;
    faults.set(vec![
        Fault::always("/versions", Act::Delay { milliseconds: 0 }),
        Fault {
            method: Some("GET".to_owned()),
            ..Fault::always("/keys/", refusal)
        },
    ]);
    let error = provider.set_state(&cx(), &keks[2], true).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
    faults.set(Vec::new());
    let shown = provider.describe(&cx(), &keks[2]).await.unwrap();
    let states: Vec<_> = shown.versions.iter().map(|version| version.state).collect();
    assert_eq!(
        states,
        [KeyState::Disabled, KeyState::Disabled, KeyState::Enabled],
        "their owner disabled the others"
    );
}
