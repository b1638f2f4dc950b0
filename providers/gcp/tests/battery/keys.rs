//! Keys that their owners created, and changes that owners make at Google.

use claviger_fake::{Act, Fault};
use claviger_provider::{ErrorKind, KeyRequest, KeySpec, KeyState, Provider, Retry, Secret};
use serde_json::{Value, json};

use crate::server::{RING, Server, context, cx, new_key, primary};

fn symmetric() -> Value {
    json!({"purpose": "ENCRYPT_DECRYPT"})
}

pub async fn a_key_is_adopted_by_its_label_alone() {
    let server = Server::start().await;
    let provider = server.connect().await;
    server.owners_key("mine", symmetric()).await;
    let whole = format!("{RING}/cryptoKeys/mine");
    for name in ["mine", &whole] {
        let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some(name))).await.unwrap();
        assert_eq!(
            (key.id.as_str(), key.versions.len(), key.state),
            (whole.as_str(), 1, KeyState::Enabled)
        );
    }
    // Without the label, and with another tenant's: the same error.
    server
        .owner("POST", &format!("{RING}/cryptoKeys?cryptoKeyId=bare"), symmetric())
        .await;
    let mut theirs = symmetric();
    theirs["labels"] = json!({"claviger-tenant": "09".repeat(16)});
    server.owner("POST", &format!("{RING}/cryptoKeys?cryptoKeyId=theirs"), theirs).await;
    let mut errors = Vec::new();
    for name in ["bare", "theirs"] {
        let error = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some(name))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ProviderDenied, "{name}");
        errors.push((error.advice, error.context));
    }
    assert_eq!(errors[0], errors[1]);
    assert!(errors[0].0.unwrap().contains("claviger-tenant"));
    // Only the tenant's own key was used.
    assert_eq!(server.fake.switches().journal.count("POST", "mine:encrypt"), 2);
    assert_eq!(server.fake.switches().journal.count("POST", ":encrypt"), 2);
}

pub async fn keys_that_do_not_fit_are_refused_with_what_does() {
    let server = Server::start().await;
    let provider = server.connect().await;
    for (id, purpose, algorithm) in [
        ("signs", "ASYMMETRIC_SIGN", "EC_SIGN_P256_SHA256"),
        ("macs", "MAC", "HMAC_SHA256"),
        ("small", "ASYMMETRIC_DECRYPT", "RSA_DECRYPT_OAEP_2048_SHA256"),
        ("sha1", "ASYMMETRIC_DECRYPT", "RSA_DECRYPT_OAEP_3072_SHA1"),
    ] {
        let key = json!({"purpose": purpose, "versionTemplate": {"algorithm": algorithm}});
        server.owners_key(id, key).await;
    }
    for (name, kind, says) in [
        ("signs", ErrorKind::InvalidInput, "for signatures"),
        ("macs", ErrorKind::InvalidInput, "for MACs"),
        ("small", ErrorKind::InvalidInput, "RSA_DECRYPT_OAEP_3072_SHA256"),
        ("sha1", ErrorKind::InvalidInput, "RSA_DECRYPT_OAEP_3072_SHA256"),
        ("none", ErrorKind::KeyNotFound, "gcloud kms keys list"),
        (
            &format!("{RING}/cryptoKeys/mine/cryptoKeyVersions/1"),
            ErrorKind::InvalidInput,
            "not one of its versions",
        ),
        (RING, ErrorKind::InvalidInput, "names a key ring"),
        (
            "projects/acme-1/locations/global/keyRings/claviger/cryptoKeys/mine",
            ErrorKind::InvalidInput,
            "another key ring",
        ),
        ("my key", ErrorKind::InvalidInput, "its id, or its full name"),
    ] {
        let error = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some(name))).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}: {error}");
        assert!(
            error.advice.is_some_and(|advice| advice.contains(says)),
            "{name}: {:?}",
            error.advice
        );
        let named = [
            ("signs", "EC_SIGN_P256_SHA256"),
            ("macs", "HMAC_SHA256"),
            ("small", "RSA_DECRYPT_OAEP_2048_SHA256"),
            ("sha1", "RSA_DECRYPT_OAEP_3072_SHA1"),
        ];
        let named = named.iter().find(|(key, _)| *key == name).map(|(_, algorithm)| *algorithm);
        assert_eq!(error.found.map(|found| found.to_string()).as_deref(), named);
    }
    // Nothing is said of a key without the tenant's label.
    let bare = json!({"purpose": "MAC", "versionTemplate": {"algorithm": "HMAC_SHA256"}});
    server.owner("POST", &format!("{RING}/cryptoKeys?cryptoKeyId=bare-mac"), bare).await;
    let error = provider
        .create_key(&cx(), &new_key(KeySpec::Aes256, Some("bare-mac")))
        .await
        .unwrap_err();
    assert!(error.kind == ErrorKind::ProviderDenied && error.found.is_none(), "{error}");
    // A location and a key ring that do not exist.
    for ring in [
        "projects/acme-1/locations/mars-1/keyRings/claviger",
        "projects/acme-1/locations/global/keyRings/none",
    ] {
        let settings = json!({"key_ring": ring, "auth": {"token": "ya29.token"}});
        let provider = server.connect_with(settings).await.unwrap();
        let error = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyNotFound, "{ring}");
        assert!(error.advice.unwrap().contains("gcloud kms keyrings list"), "{ring}");
    }
}

pub async fn keys_of_every_protection_level_are_taken() {
    let server = Server::start().await;
    let provider = server.connect().await;
    for level in ["SOFTWARE", "HSM"] {
        let key = json!({"purpose": "ENCRYPT_DECRYPT", "versionTemplate": {"protectionLevel": level}});
        server.owners_key(&level.to_lowercase(), key).await;
    }
    for level in ["EXTERNAL", "EXTERNAL_VPC"] {
        let template = json!({"protectionLevel": level, "algorithm": "EXTERNAL_SYMMETRIC_ENCRYPTION"});
        let id = level.to_lowercase().replace('_', "-");
        let path = format!("{id}&skipInitialVersionCreation=true");
        server
            .owners_key(&path, json!({"purpose": "ENCRYPT_DECRYPT", "versionTemplate": template}))
            .await;
        let version = json!({"externalProtectionLevelOptions": {"externalKeyUri": "https://ekm.example/key"}});
        server
            .owner("POST", &format!("{RING}/cryptoKeys/{id}/cryptoKeyVersions"), version)
            .await;
        let primary = json!({"cryptoKeyVersionId": "1"});
        server
            .owner("POST", &format!("{RING}/cryptoKeys/{id}:updatePrimaryVersion"), primary)
            .await;
    }
    let mut keks = Vec::new();
    for name in ["software", "hsm", "external", "external-vpc"] {
        let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some(name))).await.unwrap();
        let (kek, dek) = (primary(&key), Secret::random(32));
        let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
        assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek, "{name}");
        keks.push(kek);
    }
    let probe = provider.probe(&cx(), &keks).await.unwrap();
    assert!(
        probe.detail.ends_with("keys in EXTERNAL, EXTERNAL_VPC, HSM, SOFTWARE"),
        "{}",
        probe.detail
    );
    // A created key has the protection level of the connection.
    let settings = json!({"protection_level": "hsm", "auth": {"token": "ya29.token"}});
    let provider = server.connect_with(settings).await.unwrap();
    let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    let described = server.owner("GET", &key.id, json!({})).await;
    assert_eq!(described["versionTemplate"]["protectionLevel"], "HSM");
    assert_eq!(
        described["labels"]["claviger-tenant"],
        claviger_testkit::connection::TENANT.to_string()
    );
}

pub async fn a_new_key_is_waited_for_until_it_is_found() {
    let server = Server::start().await;
    let provider = server.connect().await;
    server.fake.switches().appearance.hide_new_keys(3);
    let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    let wrapped = provider.wrap_key(&cx(), &primary(&key), &Secret::random(32), &context()).await;
    wrapped.expect("every server has it");
    assert_eq!(server.fake.switches().journal.count("GET", "/cryptoKeyVersions"), 4);
}

/// Google refuses the name of a key that exists, also on a server that does not find the key yet.
pub async fn a_repeated_creation_waits_until_the_first_one_s_key_shows() {
    let server = Server::start().await;
    let provider = server.connect().await;
    let repeated = KeyRequest {
        repeated: true,
        ..new_key(KeySpec::Aes256, None)
    };
    server.fake.switches().appearance.hide_new_keys(3);
    let made = server.owners_key(&format!("claviger-{}", repeated.made_as), symmetric()).await;
    let found = provider.create_key(&cx(), &repeated).await.unwrap();
    assert_eq!((found.id.as_str(), found.versions.len()), (made["name"].as_str().unwrap(), 1));
}

pub async fn a_rotation_at_google_is_seen() {
    let server = Server::start().await;
    let provider = server.connect().await;
    let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    let old = primary(&key);
    server.owner("POST", &format!("{}/cryptoKeyVersions", key.id), json!({})).await;
    // A version that is not the primary one is not used to wrap.
    let described = provider.describe(&cx(), &old).await.unwrap();
    assert_eq!((described.versions.len(), described.primary), (2, 0));
    let primary_now = json!({"cryptoKeyVersionId": "2"});
    server.owner("POST", &format!("{}:updatePrimaryVersion", key.id), primary_now).await;
    let described = provider.describe(&cx(), &old).await.unwrap();
    assert_eq!((described.versions.len(), described.primary), (2, 1));
    // The named version wraps, or the primary one if none is named.
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &old, &dek, &context()).await.unwrap();
    assert_eq!(wrapped.key.version, "1");
    let mut any = old.clone();
    any.key.version.clear();
    assert_eq!(provider.wrap_key(&cx(), &any, &dek, &context()).await.unwrap().key.version, "2");
}

pub async fn a_key_without_a_primary_version_wraps_with_the_newest() {
    let server = Server::start().await;
    let provider = server.connect().await;
    let key = json!({"purpose": "ENCRYPT_DECRYPT"});
    let made = server.owners_key("bare&skipInitialVersionCreation=true", key).await;
    let name = made["name"].as_str().unwrap();
    for _ in 0..2 {
        server.owner("POST", &format!("{name}/cryptoKeyVersions"), json!({})).await;
    }
    let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some("bare"))).await.unwrap();
    let (mut kek, dek) = (primary(&key), Secret::random(32));
    assert_eq!(kek.key.version, "2");
    kek.key.version.clear();
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    assert_eq!(wrapped.key.version, "2");
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    // From then on it costs one more call, until that version is refused.
    let journal = &server.fake.switches().journal;
    journal.clear();
    provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    assert_eq!((journal.count("POST", ":encrypt"), journal.all().len()), (2, 2));
    let switch = async |state: &str| {
        let path = format!("{name}/cryptoKeyVersions/2?updateMask=state");
        server.owner("PATCH", &path, json!({"state": state})).await;
    };
    switch("DISABLED").await;
    let error = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    assert_eq!(wrapped.key.version, "1", "the newest that can be used");
    switch("ENABLED").await;
    // A primary version that cannot be used is not passed over.
    server
        .owner("POST", &format!("{name}:updatePrimaryVersion"), json!({"cryptoKeyVersionId": "1"}))
        .await;
    let state = json!({"state": "DISABLED"});
    server
        .owner("PATCH", &format!("{name}/cryptoKeyVersions/1?updateMask=state"), state)
        .await;
    let error = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
}

pub async fn a_version_that_google_still_makes_is_no_version() {
    let server = Server::start().await;
    let provider = server.connect().await;
    let key = provider.create_key(&cx(), &new_key(KeySpec::Rsa3072, None)).await.unwrap();
    let kek = primary(&key);
    let pending = json!({"cryptoKeyVersions": [
        {"name": format!("{}/cryptoKeyVersions/1", key.id), "state": 1}, {"name": format!("{}/cryptoKeyVersions/2", key.id), "state": 5},
    ]});
    let faults = &server.fake.switches().faults;
    faults.set(vec![Fault::once("/cryptoKeyVersions", Act::Change { patch: pending })]);
    let described = provider.describe(&cx(), &kek).await.unwrap();
    assert_eq!((described.versions.len(), described.primary), (1, 0));
    // The only version of a new key is described, and refuses until it is ready.
    let only = json!({"cryptoKeyVersions": [{"name": format!("{}/cryptoKeyVersions/1", key.id), "state": 5}]});
    faults.set(vec![Fault::once("/cryptoKeyVersions", Act::Change { patch: only })]);
    let described = provider.describe(&cx(), &kek).await.unwrap();
    assert_eq!((described.versions.len(), described.state), (1, KeyState::Enabled));
    let details =
        json!([{"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [{"type": "KEY_PENDING_GENERATION"}]}]);
    let body = json!({"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "not yet", "details": details}});
    let refusal = Act::Respond {
        status: 400,
        headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
        body: body.to_string(),
    };
    faults.set(vec![Fault::once("/publicKey", refusal)]);
    let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
    assert_eq!((error.kind, error.retry), (ErrorKind::KeyState, Retry::Backoff));
    assert!(error.advice.unwrap().contains("in a moment"));
    // A version whose generation failed is described as such.
    let failed = json!({"cryptoKeyVersions": [{"name": format!("{}/cryptoKeyVersions/1", key.id), "state": 8}]});
    faults.set(vec![Fault::once("/cryptoKeyVersions", Act::Change { patch: failed })]);
    let described = provider.describe(&cx(), &kek).await.unwrap();
    assert_eq!((described.versions.len(), described.state), (1, KeyState::Failed));
}

pub async fn a_disable_that_takes_its_time_is_a_disable() {
    let server = Server::start().await;
    let provider = server.connect().await;
    let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    let (kek, dek) = (primary(&key), Secret::random(32));
    let kek = primary(&provider.rotate(&cx(), &kek).await.unwrap());
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    server.fake.set_lag(3600);
    provider.set_state(&cx(), &kek, false).await.unwrap();
    // Google's state changes immediately for both versions; its servers follow later.
    let described = provider.describe(&cx(), &kek).await.unwrap();
    assert!(described.versions.iter().all(|version| version.state == KeyState::Disabled));
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    server.fake.switches().clock.advance(std::time::Duration::from_secs(3601));
    let error = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.upstream_code.as_deref()),
        (ErrorKind::KeyState, Some("FAILED_PRECONDITION/KEY_DISABLED"))
    );
    assert!(error.advice.unwrap().contains("gcloud kms keys versions enable"));
    provider.set_state(&cx(), &kek, true).await.unwrap();
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
}

pub async fn data_keys_come_from_the_hsm_where_asked() {
    let server = Server::start().await;
    let settings = json!({"hsm_random": true, "auth": {"token": "ya29.token"}});
    let provider = server.connect_with(settings).await.unwrap();
    for spec in [KeySpec::Aes256, KeySpec::Rsa3072] {
        let key = provider.create_key(&cx(), &new_key(spec, None)).await.unwrap();
        let kek = primary(&key);
        let mut generated = Vec::new();
        for bytes in [1, 16, 32, 64] {
            let made = provider.generate_data_key(&cx(), &kek, bytes, &context()).await.unwrap();
            assert_eq!(made.plaintext.len(), bytes);
            let opened = provider.unwrap_key(&cx(), &made.wrapped, &context()).await.unwrap();
            assert_eq!(opened, made.plaintext);
            generated.push(made.plaintext.expose().to_vec());
        }
        assert!(generated[2] != generated[3][..32], "two draws are two");
    }
    assert_eq!(server.fake.switches().journal.count("POST", ":generateRandomBytes"), 8);
}

pub async fn a_destroyed_version_is_told() {
    let server = Server::start().await;
    let provider = server.connect().await;
    let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    let old = primary(&key);
    let wrapped = provider.wrap_key(&cx(), &old, &Secret::random(32), &context()).await.unwrap();
    let new = primary(&provider.rotate(&cx(), &old).await.unwrap());
    server
        .owner("POST", &format!("{}/cryptoKeyVersions/1:destroy", key.id), json!({}))
        .await;
    let states = |key: claviger_provider::KeyDescription| key.versions.iter().map(|version| version.state).collect::<Vec<_>>();
    assert_eq!(
        states(provider.describe(&cx(), &new).await.unwrap()),
        [KeyState::PendingDeletion, KeyState::Enabled]
    );
    let error = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyState);
    assert!(error.advice.unwrap().contains("restore"));
    server.fake.switches().clock.advance(std::time::Duration::from_secs(31 * 86_400));
    assert_eq!(
        states(provider.describe(&cx(), &new).await.unwrap()),
        [KeyState::Destroyed, KeyState::Enabled]
    );
    // A destroyed version is not enabled.
    provider.set_state(&cx(), &new, false).await.unwrap();
    provider.set_state(&cx(), &new, true).await.unwrap();
    assert_eq!(
        states(provider.describe(&cx(), &new).await.unwrap()),
        [KeyState::Destroyed, KeyState::Enabled]
    );
}
