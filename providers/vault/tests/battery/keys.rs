//! Keys that their owner created, disabled or reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::{ErrorKind, Exposure, Finding, Kek, KeyId, KeyRequest, KeySpec, KeyState, Provider, ProviderKeyRef, Secret};
use serde_json::{Value, json};

use crate::server::{Server, context, cx, new_key, primary, unique};

pub async fn existing_keys_are_adopted_and_unfit_ones_are_not(server: &Server) {
    let provider = server.connect(&server.token);
    let name = unique("adopted");
    server.done("POST", &format!("transit/keys/{name}"), json!({})).await;
    server.done("POST", &format!("transit/keys/{name}/rotate"), json!({})).await;
    for given in [name.clone(), format!("transit/{name}")] {
        let key = provider.create_key(&cx(), &new_key(Some(&given))).await.unwrap();
        assert_eq!((key.id, key.versions.len(), key.primary), (format!("transit/{name}"), 2, 1));
        assert!(key.versions.iter().all(|version| version.created.is_some()));
    }

    for unfit in [
        json!({"derived": true}),
        json!({"derived": true, "convergent_encryption": true}),
        json!({"type": "chacha20-poly1305"}),
        json!({"type": "aes128-gcm96"}),
        json!({"type": "rsa-3072"}),
        json!({"type": "ed25519"}),
    ] {
        let name = unique("unfit");
        server.done("POST", &format!("transit/keys/{name}"), unfit.clone()).await;
        let error = provider.create_key(&cx(), &new_key(Some(&name))).await.unwrap_err();
        assert!(error.kind == ErrorKind::InvalidInput && error.advice.is_some(), "{unfit}: {error}");
        let named = unfit["type"].as_str().unwrap_or("aes256-gcm96, derived");
        assert_eq!(error.found.unwrap().to_string(), named);
    }
    for (given, kind) in [
        (unique("missing").as_str(), ErrorKind::KeyNotFound),
        ("other-mount/key", ErrorKind::InvalidInput),
        ("transit/keys/key", ErrorKind::InvalidInput),
        ("../sys/seal", ErrorKind::InvalidInput),
    ] {
        let error = provider.create_key(&cx(), &new_key(Some(given))).await.unwrap_err();
        assert!(error.kind == kind && error.advice.is_some(), "{given}: {error}");
    }
}

pub async fn rsa_keys_stand_behind_their_own_specification(server: &Server) {
    let provider = server.connect(&server.token);
    let name = unique("rsa");
    server
        .done("POST", &format!("transit/keys/{name}"), json!({"type": "rsa-3072"}))
        .await;
    let request = |spec| KeyRequest {
        spec,
        ..new_key(Some(&name))
    };
    let key = provider.create_key(&cx(), &request(KeySpec::Rsa3072)).await.unwrap();
    assert_eq!((key.spec, key.versions.len()), (KeySpec::Rsa3072, 1));
    assert!(key.versions[0].created.is_some_and(|created| created > 1_700_000_000));
    for other in [KeySpec::Aes256, KeySpec::Rsa4096] {
        let error = provider.create_key(&cx(), &request(other)).await.unwrap_err();
        assert!(error.kind == ErrorKind::InvalidInput && error.advice.is_some(), "{error}");
    }
    let (key, dek) = (primary(&key), Secret::random(32));
    let wrapped = provider.wrap_key(&cx(), &key, &dek, &context()).await.unwrap();
    // Also through a connection that has not used the key before.
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    let fresh = server.connect(&server.token);
    assert_eq!(fresh.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    assert_eq!(fresh.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
}

pub async fn chacha20_poly1305_stands_behind_aes_256_where_the_connection_says_so(server: &Server) {
    let settings = json!({"symmetric_key_type": "chacha20-poly1305", "auth": {"token": server.token}});
    let provider = server.connect_with(settings);
    let made = primary(&provider.create_key(&cx(), &new_key(None)).await.unwrap());
    let told = server.done("GET", &format!("transit/keys/{}", name_of(&made)), Value::Null).await;
    assert_eq!(told["data"]["type"], "chacha20-poly1305");
    let name = unique("aes");
    server.done("POST", &format!("transit/keys/{name}"), json!({})).await;
    let error = provider.create_key(&cx(), &new_key(Some(&name))).await.unwrap_err();
    assert!(error.kind == ErrorKind::InvalidInput && error.advice.unwrap().contains("symmetric_key_type"));
}

/// The name of a Transit key of the engine that `start` made.
fn name_of(kek: &Kek) -> &str {
    kek.key.id.trim_start_matches("transit/")
}

pub async fn versions_that_are_switched_off_are_told_and_do_nothing(server: &Server) {
    let provider = server.connect(&server.token);
    let key = provider.create_key(&cx(), &new_key(None)).await.unwrap();
    let (first, path) = (primary(&key), format!("transit/keys/{}", key.id.trim_start_matches("transit/")));
    let wrapped = provider.wrap_key(&cx(), &first, &Secret::random(32), &context()).await.unwrap();
    let second = primary(&provider.rotate(&cx(), &first).await.unwrap());
    assert_eq!(second.key.version, "2");
    // The older version still wraps when the request names it.
    let older = provider.wrap_key(&cx(), &first, &Secret::random(32), &context()).await.unwrap();
    assert_eq!(older.key, first.key);

    let limits = json!({"min_decryption_version": 2, "min_encryption_version": 2});
    server.done("POST", &format!("{path}/config"), limits).await;
    let described = provider.describe(&cx(), &first).await.unwrap();
    assert_eq!(described.versions[0].state, KeyState::Disabled);
    let refused = provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert!(refused.kind == ErrorKind::KeyState && refused.advice.is_some(), "{refused}");
    let refused = provider.wrap_key(&cx(), &first, &Secret::random(32), &context()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::KeyState, "{refused}");

    server
        .done("POST", &format!("{path}/trim"), json!({"min_available_version": 2}))
        .await;
    let described = provider.describe(&cx(), &first).await.unwrap();
    assert_eq!(
        (described.versions[0].state, described.versions[1].state),
        (KeyState::Destroyed, KeyState::Enabled)
    );

    server.done("DELETE", &format!("{path}/soft-delete"), Value::Null).await;
    assert_eq!(provider.describe(&cx(), &first).await.unwrap().state, KeyState::Disabled);
    for error in [
        provider
            .wrap_key(&cx(), &second, &Secret::random(32), &context())
            .await
            .unwrap_err(),
        provider.rotate(&cx(), &second).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::KeyState, "{error}");
    }
    server.done("POST", &format!("{path}/soft-delete-restore"), json!({})).await;
    provider.wrap_key(&cx(), &second, &Secret::random(32), &context()).await.unwrap();
}

pub async fn keys_whose_material_can_leave_are_told(server: &Server) {
    let provider = server.connect(&server.token);
    for (exportable, plaintext_backup) in [(false, false), (true, false), (false, true), (true, true)] {
        let name = unique("exposed");
        let body = json!({"exportable": exportable, "allow_plaintext_backup": plaintext_backup});
        server.done("POST", &format!("transit/keys/{name}"), body).await;
        let key = provider.create_key(&cx(), &new_key(Some(&name))).await.unwrap();
        let exposure = Exposure {
            exportable,
            plaintext_backup,
        };
        assert_eq!(key.versions[0].exposure, Some(exposure));
        let described = provider.describe(&cx(), &primary(&key)).await.unwrap();
        assert_eq!(described.versions[0].exposure, Some(exposure));
        let probe = provider.probe(&cx(), &[primary(&key)]).await.unwrap();
        let told: Vec<_> = probe.rights.iter().filter(|right| right.operation == "export_key").collect();
        assert_eq!(told.len(), usize::from(exportable || plaintext_backup), "{told:?}");
        for right in told {
            assert!(right.finding == Finding::Excessive && right.how.contains(&name) && right.advice.is_some());
            assert_eq!(right.how.contains("is exportable"), exportable, "{}", right.how);
            assert_eq!(right.how.contains("plaintext backup"), plaintext_backup, "{}", right.how);
        }
    }
    // The owner can turn both on later, and never off.
    let made = provider.create_key(&cx(), &new_key(None)).await.unwrap();
    assert_eq!(made.versions[0].exposure, Some(Exposure::NONE));
    let path = format!("transit/keys/{}/config", name_of(&primary(&made)));
    server.done("POST", &path, json!({"exportable": true})).await;
    let exposure = provider.describe(&cx(), &primary(&made)).await.unwrap().versions[0].exposure;
    assert!(exposure.is_some_and(|exposure| exposure.exportable));
}

pub async fn a_key_of_another_type_under_the_same_name_wraps_nothing(server: &Server) {
    let provider = server.connect(&server.token);
    for (spec, mine, theirs) in [
        (KeySpec::Aes256, "aes256-gcm96", "rsa-3072"),
        (KeySpec::Rsa3072, "rsa-3072", "aes256-gcm96"),
        (KeySpec::Rsa3072, "rsa-3072", "rsa-4096"),
    ] {
        let name = unique("replaced");
        let path = format!("transit/keys/{name}");
        server.done("POST", &path, json!({"type": mine})).await;
        let request = KeyRequest {
            spec,
            ..new_key(Some(&name))
        };
        let kek = primary(&provider.create_key(&cx(), &request).await.unwrap());
        provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap();
        server
            .done("POST", &format!("{path}/config"), json!({"deletion_allowed": true}))
            .await;
        server.done("DELETE", &path, Value::Null).await;
        server.done("POST", &path, json!({"type": theirs})).await;
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyState, "{mine} by {theirs}: {error}");
        assert!(error.advice.unwrap().contains("replaced it under the same name"));
        let error = provider.describe(&cx(), &kek).await.unwrap_err();
        assert_eq!(error.found.unwrap().to_string(), theirs);
    }
}

pub async fn a_wrap_never_makes_a_key(server: &Server) {
    let provider = server.connect(&server.token);
    let name = unique("nobodys");
    for version in ["", "1"] {
        let kek = Kek {
            key: ProviderKeyRef {
                id: format!("transit/{name}"),
                version: version.to_owned(),
            },
            spec: KeySpec::Aes256,
            id: KeyId::random(),
        };
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyNotFound, "{error}");
    }
    let (status, _) = server.admin("GET", &format!("transit/keys/{name}"), Value::Null).await;
    assert_eq!(status, 404);
}

pub async fn namespaces_part_keys(server: &Server) {
    let namespace = unique("team");
    server.done("POST", &format!("sys/namespaces/{namespace}"), json!({})).await;
    let mount = json!({"type": "transit"});
    let (status, _) = server
        .call(&server.token, Some(&namespace), "POST", "sys/mounts/kms/keys", mount)
        .await;
    assert!(status.is_success(), "{status}");
    let settings = json!({"namespace": namespace, "mount": "kms/keys", "auth": {"token": server.token}});
    let (inside, outside) = (server.connect_with(settings), server.connect(&server.token));
    let key = inside.create_key(&cx(), &new_key(None)).await.unwrap();
    assert!(key.id.starts_with(&format!("{namespace}/kms/keys/claviger-")), "{}", key.id);
    let dek = Secret::random(32);
    let wrapped = inside.wrap_key(&cx(), &primary(&key), &dek, &context()).await.unwrap();
    assert_eq!(inside.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    assert_eq!(inside.probe(&cx(), &[]).await.unwrap().rights[0].operation, "wrap_key");
    let error = outside.unwrap_key(&cx(), &wrapped, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyNotFound, "{error}");
}

pub async fn the_servers_own_client_opens_what_was_wrapped(server: &Server) {
    let provider = server.connect(&server.token);
    let key = primary(&provider.create_key(&cx(), &new_key(None)).await.unwrap());
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &key, &dek, &context()).await.unwrap();
    let body = json!({
        "ciphertext": String::from_utf8(wrapped.ciphertext).unwrap(),
        "associated_data": STANDARD.encode(context().bytes()),
    });
    let opened = server.done("POST", &format!("transit/decrypt/{}", name_of(&key)), body).await;
    assert_eq!(opened["data"]["plaintext"], STANDARD.encode(dek.expose()));
}
