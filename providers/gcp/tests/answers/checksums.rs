//! CRC32C in both directions, and incomplete responses.

use claviger_provider::{Algorithm, Error, ErrorKind, KeySpec, Provider, Retry, Secret};
use serde_json::{Value, json};
use wiremock::MockServer;

use crate::fixture::{KEY, b64, connect, context, crc, cx, kek, on, wrapped};

fn encrypted() -> Value {
    json!({
        "name": format!("{KEY}/cryptoKeyVersions/1"), "ciphertext": b64("blob"), "ciphertextCrc32c": crc("blob"),
        "verifiedPlaintextCrc32c": true, "verifiedAdditionalAuthenticatedDataCrc32c": true,
    })
}

fn changed(mut response: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(response.as_object_mut().unwrap().remove(name)),
        value => response[name] = value,
    }
    response
}

#[tokio::test]
async fn what_is_sent_carries_its_checksums() {
    let server = MockServer::builder().start().await;
    on(&server, ":encrypt", encrypted()).await;
    let provider = connect(&server).await;
    let dek = Secret::copy_from(&[0xfb; 32]);
    let made = provider.wrap_key(&cx(), &kek(KeySpec::Aes256), &dek, &context()).await.unwrap();
    assert_eq!((made.ciphertext.as_slice(), made.key.version.as_str()), (&b"blob"[..], "1"));
    let [request] = server.received_requests().await.unwrap().try_into().unwrap();
    assert_eq!(request.url.path(), format!("/v1/{KEY}/cryptoKeyVersions/1:encrypt"));
    let body: Value = request.body_json().unwrap();
    let expected = json!({
        "plaintext": b64(dek.expose()), "plaintextCrc32c": crc(dek.expose()),
        "additionalAuthenticatedData": b64("the context"), "additionalAuthenticatedDataCrc32c": crc("the context"),
    });
    assert_eq!(body, expected);
}

/// The error of a wrap whose response has this member changed.
async fn wrap_error(member: &str, value: Value) -> Error {
    let server = MockServer::builder().start().await;
    on(&server, ":encrypt", changed(encrypted(), member, value)).await;
    let provider = connect(&server).await;
    let result = provider
        .wrap_key(&cx(), &kek(KeySpec::Aes256), &Secret::random(32), &context())
        .await;
    result.unwrap_err()
}

#[tokio::test]
async fn an_encryption_whose_checksums_do_not_hold_is_none() {
    for (name, value) in [
        ("ciphertextCrc32c", json!("1")),
        ("ciphertextCrc32c", Value::Null),
        ("ciphertext", json!(b64("blub"))),
        ("ciphertext", Value::Null),
        ("verifiedPlaintextCrc32c", json!(false)),
        ("verifiedPlaintextCrc32c", Value::Null),
        ("verifiedAdditionalAuthenticatedDataCrc32c", Value::Null),
    ] {
        let error = wrap_error(name, value.clone()).await;
        assert_eq!(
            (error.kind, error.retry),
            (ErrorKind::UpstreamProtocol, Retry::Backoff),
            "{name} {value}: {error}"
        );
    }
    // Another version than requested, another key, no version.
    for name in [
        format!("{KEY}/cryptoKeyVersions/2"),
        format!("{KEY}2/cryptoKeyVersions/1"),
        String::new(),
    ] {
        let error = wrap_error("name", json!(name)).await;
        assert_eq!(
            (error.kind, error.retry),
            (ErrorKind::UpstreamProtocol, Retry::Never),
            "{name}: {error}"
        );
    }
}

#[tokio::test]
async fn a_decryption_whose_checksums_do_not_hold_is_none() {
    let right = json!({"plaintext": b64("key"), "plaintextCrc32c": crc("key"), "verifiedCiphertextCrc32c": true});
    let corrupt = (ErrorKind::UpstreamProtocol, Retry::Backoff);
    for (algorithm, verb) in [
        (Algorithm::ProviderOpaque, ":decrypt"),
        (Algorithm::RsaOaep256, ":asymmetricDecrypt"),
    ] {
        let server = MockServer::builder().start().await;
        // The response of Decrypt does not confirm the request's checksums.
        let mut good = right.clone();
        if algorithm == Algorithm::ProviderOpaque {
            good.as_object_mut().unwrap().remove("verifiedCiphertextCrc32c");
        }
        on(&server, verb, good).await;
        let opened = connect(&server)
            .await
            .unwrap_key(&cx(), &wrapped(algorithm), &context())
            .await
            .unwrap();
        assert_eq!(opened.expose(), b"key");
        for (name, value) in [
            ("plaintextCrc32c", json!("1")),
            ("plaintextCrc32c", Value::Null),
            ("plaintext", json!(b64("kez"))),
        ] {
            let server = MockServer::builder().start().await;
            on(&server, verb, changed(right.clone(), name, value.clone())).await;
            let error = connect(&server)
                .await
                .unwrap_key(&cx(), &wrapped(algorithm), &context())
                .await
                .unwrap_err();
            assert_eq!((error.kind, error.retry), corrupt, "{verb} {name} {value}: {error}");
        }
    }
    let server = MockServer::builder().start().await;
    on(
        &server,
        ":asymmetricDecrypt",
        changed(right, "verifiedCiphertextCrc32c", Value::Null),
    )
    .await;
    let result = connect(&server)
        .await
        .unwrap_key(&cx(), &wrapped(Algorithm::RsaOaep256), &context())
        .await;
    let error = result.unwrap_err();
    assert_eq!((error.kind, error.retry), corrupt);
    // No bytes, and more than a data key has, with correct checksums.
    for bytes in [vec![], vec![1; 4097]] {
        let server = MockServer::builder().start().await;
        on(
            &server,
            ":decrypt",
            json!({"plaintext": b64(&bytes), "plaintextCrc32c": crc(&bytes)}),
        )
        .await;
        let result = connect(&server)
            .await
            .unwrap_key(&cx(), &wrapped(Algorithm::ProviderOpaque), &context())
            .await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::UpstreamProtocol);
    }
}

#[tokio::test]
async fn a_public_key_is_of_its_version_and_whole() {
    let pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    let right = json!({"name": format!("{KEY}/cryptoKeyVersions/1"), "pem": pem, "pemCrc32c": crc(pem), "algorithm": 9});
    for (name, value, retry) in [
        // Unchanged: it is not a key of 3072 bits.
        ("algorithm", json!(9), Retry::Never),
        ("algorithm", json!(10), Retry::Never),
        ("name", json!(format!("{KEY}/cryptoKeyVersions/2")), Retry::Never),
        ("pemCrc32c", json!("1"), Retry::Backoff),
        ("pemCrc32c", Value::Null, Retry::Backoff),
        ("pem", Value::Null, Retry::Backoff),
    ] {
        let server = MockServer::builder().start().await;
        on(&server, "/publicKey", changed(right.clone(), name, value.clone())).await;
        let result = connect(&server)
            .await
            .wrap_key(&cx(), &kek(KeySpec::Rsa3072), &Secret::random(32), &context())
            .await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.kind, error.retry),
            (ErrorKind::UpstreamProtocol, retry),
            "{name} {value}: {error}"
        );
    }
}

#[tokio::test]
async fn descriptions_that_make_no_sense_are_refused() {
    let key = json!({
        "name": KEY, "purpose": 1, "versionTemplate": {"protectionLevel": 1, "algorithm": 1},
        "primary": {"name": format!("{KEY}/cryptoKeyVersions/1"), "state": 1},
    });
    let versions = json!({"cryptoKeyVersions": [{"name": format!("{KEY}/cryptoKeyVersions/1"), "state": 1}]});
    for (key, versions, kind) in [
        (
            changed(key.clone(), "name", json!(format!("{KEY}2"))),
            versions.clone(),
            ErrorKind::UpstreamProtocol,
        ),
        (
            changed(key.clone(), "versionTemplate", Value::Null),
            versions.clone(),
            ErrorKind::UpstreamProtocol,
        ),
        (
            changed(key.clone(), "primary", json!({"name": "elsewhere"})),
            versions.clone(),
            ErrorKind::UpstreamProtocol,
        ),
        (
            key.clone(),
            json!({"cryptoKeyVersions": [{"name": KEY, "state": 1}]}),
            ErrorKind::UpstreamProtocol,
        ),
        // The primary version is not in the list, or the list is empty.
        (key.clone(), json!({}), ErrorKind::KeyState),
        // An unknown purpose.
        (
            changed(key.clone(), "purpose", json!(77)),
            versions.clone(),
            ErrorKind::InvalidInput,
        ),
        // An endless list.
        (
            key.clone(),
            changed(versions, "nextPageToken", json!("again")),
            ErrorKind::UpstreamProtocol,
        ),
    ] {
        let server = MockServer::builder().start().await;
        on(&server, "/cryptoKeys/k", key).await;
        on(&server, "/cryptoKeyVersions", versions.clone()).await;
        let error = connect(&server).await.describe(&cx(), &kek(KeySpec::Aes256)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{versions}: {error}");
    }
}
