//! Keys that are rotated, and their versions in a description.

use claviger_provider::{ErrorKind, KeySpec, KeyState, Provider};
use serde_json::{Value, json};
use wiremock::MockServer;

use crate::fixture::{ARN, access_key, aes, always, answer, calls, connect, cx, describe_key, kms, metadata, refusal};

fn rotated(at: &[f64]) -> Value {
    let rotations: Vec<Value> = at
        .iter()
        .map(|at| json!({"KeyId": ARN, "RotationDate": at, "RotationType": "ON_DEMAND"}))
        .collect();
    json!({"Rotations": rotations, "Truncated": false})
}

#[tokio::test]
async fn a_description_has_a_version_for_each_rotation() {
    let server = MockServer::builder().start().await;
    describe_key(&server).await;
    // Two pages, newest rotation first.
    let mut first = rotated(&[1_700_000_300.0]);
    first["Truncated"] = json!(true);
    first["NextMarker"] = json!("more");
    kms("ListKeyRotations")
        .respond_with(answer(first))
        .up_to_n_times(1)
        .mount(&server)
        .await;
    kms("ListKeyRotations")
        .respond_with(answer(rotated(&[1_700_000_200.0])))
        .mount(&server)
        .await;
    let key = connect(&server, access_key()).await.describe(&cx(), &aes()).await.unwrap();
    let created: Vec<_> = key.versions.iter().map(|version| version.created.unwrap()).collect();
    assert_eq!((created, key.primary), (vec![1_700_000_000, 1_700_000_200, 1_700_000_300], 2));
    assert!(
        key.versions
            .iter()
            .all(|version| version.key == aes().key && version.state == KeyState::Enabled)
    );
    assert_eq!(calls(&server, "ListKeyRotations").await[1]["Marker"], "more");
}

#[tokio::test]
async fn a_history_without_an_end_is_none() {
    let mut endless = rotated(&[1.0]);
    endless["Truncated"] = json!(true);
    endless["NextMarker"] = json!("more");
    let server = MockServer::builder().start().await;
    describe_key(&server).await;
    kms("ListKeyRotations").respond_with(answer(endless)).mount(&server).await;
    let error = connect(&server, access_key()).await.describe(&cx(), &aes()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol);
    assert!(calls(&server, "ListKeyRotations").await.len() <= 10);
}

#[tokio::test]
async fn nothing_is_rotated_whose_history_may_not_be_seen() {
    for code in ["AccessDeniedException", "UnsupportedOperationException"] {
        let server = MockServer::builder().start().await;
        describe_key(&server).await;
        kms("ListKeyRotations").respond_with(refusal(code)).mount(&server).await;
        connect(&server, access_key()).await.rotate(&cx(), &aes()).await.unwrap_err();
        assert!(calls(&server, "RotateKeyOnDemand").await.is_empty(), "{code}");
    }
}

#[tokio::test]
async fn a_rotation_is_waited_for_and_told_when_it_is_seen() {
    let server = MockServer::builder().start().await;
    describe_key(&server).await;
    kms("RotateKeyOnDemand")
        .respond_with(answer(json!({"KeyId": ARN})))
        .expect(1)
        .mount(&server)
        .await;
    kms("ListKeyRotations")
        .respond_with(answer(rotated(&[])))
        .up_to_n_times(4)
        .mount(&server)
        .await;
    kms("ListKeyRotations")
        .respond_with(answer(rotated(&[1_700_000_200.0])))
        .mount(&server)
        .await;
    let key = connect(&server, access_key()).await.rotate(&cx(), &aes()).await.unwrap();
    assert_eq!((key.versions.len(), key.primary), (2, 1));
}

#[tokio::test]
async fn a_rotation_that_takes_its_time_shows_no_new_version() {
    let server = MockServer::builder().start().await;
    describe_key(&server).await;
    kms("RotateKeyOnDemand")
        .respond_with(answer(json!({"KeyId": ARN})))
        .expect(1)
        .mount(&server)
        .await;
    kms("ListKeyRotations").respond_with(answer(rotated(&[]))).mount(&server).await;
    let key = connect(&server, access_key()).await.rotate(&cx(), &aes()).await.unwrap();
    assert_eq!((key.versions.len(), key.primary), (1, 0));
}

#[tokio::test]
async fn a_rotation_that_aws_refuses_says_why() {
    for (code, kind) in [
        ("LimitExceededException", ErrorKind::Conflict),
        ("ConflictException", ErrorKind::Conflict),
        ("UnsupportedOperationException", ErrorKind::Unsupported),
        ("KMSInvalidStateException", ErrorKind::KeyState),
    ] {
        let server = MockServer::builder().start().await;
        describe_key(&server).await;
        kms("ListKeyRotations").respond_with(answer(rotated(&[]))).mount(&server).await;
        kms("RotateKeyOnDemand").respond_with(refusal(code)).mount(&server).await;
        let error = connect(&server, access_key()).await.rotate(&cx(), &aes()).await.unwrap_err();
        assert!(error.kind == kind && error.advice.is_some(), "{code}: {error}");
    }
}

#[tokio::test]
async fn a_key_that_is_switched_off_is_not_rotated() {
    for spec in ["SYMMETRIC_DEFAULT", "RSA_3072"] {
        let algorithms = if spec == "RSA_3072" {
            "RSAES_OAEP_SHA_256"
        } else {
            "SYMMETRIC_DEFAULT"
        };
        let off = json!({"KeyState": "Disabled", "KeySpec": spec, "EncryptionAlgorithms": [algorithms]});
        let server = always(answer(metadata(ARN, &off))).await;
        let kek = crate::fixture::kek(ARN, if spec == "RSA_3072" { KeySpec::Rsa3072 } else { KeySpec::Aes256 });
        let error = connect(&server, access_key()).await.rotate(&cx(), &kek).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::KeyState, "{spec}");
        assert!(calls(&server, "CreateKey").await.is_empty() && calls(&server, "RotateKeyOnDemand").await.is_empty());
    }
}
