//! The requests that are sent, and the use of their responses.

use claviger_provider::{Algorithm, ErrorKind, KeySpec, Provider, Secret, Wrapped};
use serde_json::json;

use crate::fixture::{ARN, OTHER, TENANT, access_key, aes, always, answer, b64, calls, connect, context, cx, kek, wrapped};

#[tokio::test]
async fn the_context_is_exactly_the_pairs() {
    let body = json!({
        "KeyId": ARN, "SourceKeyId": ARN, "Plaintext": b64([1; 32]), "CiphertextBlob": b64("blob"), "KeyMaterialId": "material-1",
        "SourceKeyMaterialId": "material-1", "DestinationKeyMaterialId": "material-2",
    });
    let server = always(answer(body)).await;
    let provider = connect(&server, access_key()).await;
    let (cx, context) = (cx(), context());
    let made = provider
        .wrap_key(&cx, &aes(), &Secret::copy_from(&[3; 32]), &context)
        .await
        .unwrap();
    let expected = Wrapped {
        upstream_request_id: Some("id-of-the-call".to_owned()),
        ..wrapped()
    };
    assert_eq!(made, expected);
    assert_eq!(provider.unwrap_key(&cx, &wrapped(), &context).await.unwrap().expose(), [1; 32]);
    let generated = provider.generate_data_key(&cx, &aes(), 32, &context).await.unwrap();
    assert_eq!(
        (generated.plaintext.expose(), generated.wrapped.ciphertext.as_slice()),
        ([1; 32].as_slice(), b"blob".as_slice())
    );
    let rewrapped = provider.rewrap_key(&cx, &wrapped(), &aes(), &context).await.unwrap();
    // The response of Encrypt does not name the key material.
    let told = [made.key_material, generated.wrapped.key_material, rewrapped.wrapped.key_material];
    assert_eq!(told, [None, Some("material-1".to_owned()), Some("material-2".to_owned())]);

    let pairs = json!({"claviger:tenant": TENANT.to_string(), "table": "orders"});
    let plaintext = b64([3; 32]);
    assert_eq!(
        calls(&server, "Encrypt").await,
        [json!({"KeyId": ARN, "Plaintext": plaintext, "EncryptionContext": pairs})]
    );
    assert_eq!(
        calls(&server, "Decrypt").await,
        [json!({"KeyId": ARN, "CiphertextBlob": b64("blob"), "EncryptionContext": pairs})]
    );
    assert_eq!(
        calls(&server, "GenerateDataKey").await,
        [json!({"KeyId": ARN, "NumberOfBytes": 32, "EncryptionContext": pairs})]
    );
    assert_eq!(
        calls(&server, "ReEncrypt").await,
        [json!({
            "CiphertextBlob": b64("blob"), "SourceKeyId": ARN, "DestinationKeyId": ARN, "SourceEncryptionContext": pairs,
            "DestinationEncryptionContext": pairs,
        })]
    );
}

#[tokio::test]
async fn a_copied_key_is_called_in_the_connections_own_region() {
    let key = "key/mrk-1234abcd12ab34cd56ef1234567890ab";
    let (id, here) = (
        format!("arn:aws:kms:*:111122223333:{key}"),
        format!("arn:aws:kms:eu-central-1:111122223333:{key}"),
    );
    let body = json!({"KeyId": here, "Plaintext": b64([1; 32]), "CiphertextBlob": b64("blob")});
    let server = always(answer(body)).await;
    let provider = connect(&server, access_key()).await;
    let kek = kek(&id, KeySpec::Aes256);
    let made = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap();
    assert_eq!(made.key, kek.key);
    provider.unwrap_key(&cx(), &made, &context()).await.unwrap();
    assert_eq!(calls(&server, "Encrypt").await[0]["KeyId"], here.as_str());
    assert_eq!(calls(&server, "Decrypt").await[0]["KeyId"], here.as_str());
}

#[tokio::test]
async fn a_key_of_another_place_is_not_asked_for() {
    let server = always(answer(json!({}))).await;
    let provider = connect(&server, access_key()).await;
    for id in [
        "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:*:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "alias/orders",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
    ] {
        let kek = kek(id, KeySpec::Aes256);
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyNotFound, "{id}");
        let forged = Wrapped {
            key: kek.key.clone(),
            ..wrapped()
        };
        let error = provider.unwrap_key(&cx(), &forged, &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyNotFound, "{id}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_rsa_key_is_used_with_its_algorithm_and_without_a_context() {
    let server = always(answer(json!({"KeyId": ARN, "Plaintext": b64([1; 32])}))).await;
    let provider = connect(&server, access_key()).await;
    let rsa = Wrapped {
        algorithm: Algorithm::RsaOaep256,
        ..wrapped()
    };
    provider.unwrap_key(&cx(), &rsa, &context()).await.unwrap();
    assert_eq!(
        calls(&server, "Decrypt").await,
        [json!({"KeyId": ARN, "CiphertextBlob": b64("blob"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"})]
    );
}

#[tokio::test]
async fn a_public_half_that_makes_no_sense_wraps_nothing() {
    let algorithms = json!(["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]);
    for body in [
        json!({"KeyId": ARN, "EncryptionAlgorithms": algorithms}),
        json!({"KeyId": ARN, "EncryptionAlgorithms": algorithms, "PublicKey": b64("no key")}),
        json!({"KeyId": OTHER, "EncryptionAlgorithms": algorithms, "PublicKey": b64("no key")}),
        json!({"KeyId": ARN, "PublicKey": b64("no key")}),
    ] {
        let server = always(answer(body.clone())).await;
        let provider = connect(&server, access_key()).await;
        let kek = kek(ARN, KeySpec::Rsa3072);
        let error = provider.wrap_key(&cx(), &kek, &Secret::random(32), &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{body}: {error}");
    }
}
