//! The requests, and responses that are not what they should be.

use claviger_fake::{Act, Fault};
use claviger_provider::{Algorithm, CallResult, ErrorKind, GcmParts, Provider, Purpose, Secret, Wrapped};
use claviger_testkit::connection::new_key;
use serde_json::{Value, json};

use crate::fixture::{Fixture, KEY, context, cx, dek, kek};

/// The metadata that a request with a key carries.
fn metadata(operation: &str) -> Value {
    let (tenant, key) = ("01".repeat(16), "02".repeat(16));
    json!({
        "awsPrincipalArn": format!("arn:claviger:iam::{tenant}:principal/system"),
        "kmsKeyArn": format!("arn:claviger:kms:eu-central-1:{tenant}:key/{key}"),
        "kmsOperation": operation,
        "kmsRequestId": "request-1",
    })
}

#[tokio::test]
async fn requests_carry_what_the_specification_permits_and_nothing_else() {
    let fixture = Fixture::new().await;
    let wrapped = fixture.wrap().await.unwrap();
    assert_eq!(fixture.unwrap(&wrapped).await.unwrap(), dek());
    fixture.provider.describe(&cx(), &kek()).await.unwrap();
    let [sent] = &fixture.bodies("/keys/orders/encrypt")[..] else {
        panic!("one encryption")
    };
    let expected = json!({
        "requestMetadata": metadata("Encrypt"),
        "plaintext": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
        "encryptionAlgorithm": "AES_GCM",
        "additionalAuthenticatedData": "oXRoZSBjb250ZXh0",
        "ciphertextDataIntegrityValueAlgorithm": "SHA_256",
    });
    assert_eq!(*sent, expected);
    let [sent] = &fixture.bodies("/keys/orders/decrypt")[..] else {
        panic!("one decryption")
    };
    let names: Vec<&String> = sent.as_object().unwrap().keys().collect();
    let expected = [
        "additionalAuthenticatedData",
        "authenticationTag",
        "ciphertext",
        "ciphertextMetadata",
        "encryptionAlgorithm",
        "initializationVector",
        "requestMetadata",
    ];
    assert_eq!(
        (names, &sent["requestMetadata"]),
        (expected.map(str::to_owned).iter().collect(), &metadata("Decrypt"))
    );
    let [sent] = &fixture.bodies("/keys/orders/metadata")[..] else {
        panic!("one description")
    };
    let mut expected = json!({"requestMetadata": metadata("DescribeKey")});
    expected["requestMetadata"].as_object_mut().unwrap().remove("kmsKeyArn");
    assert_eq!(*sent, expected);
}

#[tokio::test]
async fn the_operation_is_what_the_caller_asked_for() {
    let fixture = Fixture::new().await;
    for (purpose, encrypt, decrypt) in [
        (Purpose::GenerateDataKey, "GenerateDataKey", "Decrypt"),
        (Purpose::Wrap, "Encrypt", "Decrypt"),
        (Purpose::Unwrap, "Encrypt", "Decrypt"),
        (Purpose::Rewrap, "ReEncrypt", "ReEncrypt"),
    ] {
        let cx = cx().serving(Some(purpose));
        fixture.bench.fake.switches().journal.clear();
        let wrapped = fixture.provider.wrap_key(&cx, &kek(), &dek(), &context()).await.unwrap();
        fixture.provider.unwrap_key(&cx, &wrapped, &context()).await.unwrap();
        let sent = ["/encrypt", "/decrypt"].map(|path| fixture.bodies(path)[0]["requestMetadata"]["kmsOperation"].clone());
        assert_eq!(sent, [json!(encrypt), json!(decrypt)], "{purpose:?}");
    }
}

#[tokio::test]
async fn each_call_is_in_the_record() {
    let fixture = Fixture::new().await;
    let cx = cx();
    let wrapped = fixture.provider.wrap_key(&cx, &kek(), &dek(), &context()).await.unwrap();
    fixture.bench.fake.keys().remove(KEY);
    fixture.provider.unwrap_key(&cx, &wrapped, &context()).await.unwrap_err();
    let calls: Vec<_> = cx.take_calls().calls.iter().map(|call| (call.operation, call.result)).collect();
    let expected = [
        ("keys/encrypt", CallResult::Ok),
        ("keys/decrypt", CallResult::Error(ErrorKind::KeyNotFound)),
    ];
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn the_proxys_metadata_come_back_with_the_ciphertext() {
    let fixture = Fixture::new().await;
    let first = fixture.wrap().await.unwrap();
    fixture.bench.fake.keys().change(KEY, claviger_fake_xks::Key::rotate);
    let second = fixture.wrap().await.unwrap();
    let of = |wrapped: &Wrapped| GcmParts::parse(&wrapped.ciphertext).unwrap().metadata.to_vec();
    assert_eq!((of(&first), of(&second)), (b"v\0\0\0\0".to_vec(), b"v\0\0\0\x01".to_vec()));
    for wrapped in [first, second] {
        assert_eq!((wrapped.algorithm, wrapped.key.version.as_str()), (Algorithm::CborGcm, ""));
        assert_eq!(fixture.unwrap(&wrapped).await.unwrap(), dek());
    }
}

#[tokio::test]
async fn an_encryption_that_is_not_vouched_for_is_refused() {
    let fixture = Fixture::new().await;
    for patch in [
        json!({"ciphertextDataIntegrityValue": null}),
        json!({"ciphertextDataIntegrityValue": "AAAA"}),
        json!({"authenticationTag": "AAAAAAAAAAAAAAAAAAAAAA=="}),
        json!({"initializationVector": "AAAAAAAAAAAAAAAA"}),
        json!({"ciphertext": "AAAA"}),
        json!({"ciphertext": "no base64"}),
        json!({"ciphertextMetadata": "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"}),
        json!({"ciphertextMetadata": null}),
        json!({"ciphertext": null}),
    ] {
        let fault = Fault::once("/encrypt", Act::Change { patch: patch.clone() });
        fixture.bench.fake.switches().faults.set(vec![fault]);
        let error = fixture.wrap().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{patch}");
    }
}

/// Whatever a proxy answers, no other plaintext than one of the right length comes back, and the envelope's
/// commitment decides about that.
#[tokio::test]
async fn a_plaintext_of_another_length_is_refused() {
    let fixture = Fixture::new().await;
    let wrapped = fixture.wrap().await.unwrap();
    for plaintext in [json!(""), json!("AAAA"), json!("no base64"), json!(7), Value::Null] {
        fixture.respond("/decrypt", 200, &json!({"plaintext": plaintext}));
        let error = fixture.unwrap(&wrapped).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{plaintext}");
    }
}

#[tokio::test]
async fn what_no_external_key_made_is_refused_without_a_call() {
    let fixture = Fixture::new().await;
    let wrapped = fixture.wrap().await.unwrap();
    let other = |change: &dyn Fn(&mut Wrapped)| {
        let mut other = wrapped.clone();
        change(&mut other);
        other
    };
    fixture.bench.fake.switches().journal.clear();
    for (forged, kind) in [
        (
            other(&|wrapped| wrapped.algorithm = Algorithm::Aes256Gcm),
            ErrorKind::CiphertextRejected,
        ),
        (other(&|wrapped| wrapped.ciphertext.truncate(40)), ErrorKind::CiphertextRejected),
        (other(&|wrapped| wrapped.key.id = "a/../b".to_owned()), ErrorKind::KeyNotFound),
        (other(&|wrapped| wrapped.key.id = "..".to_owned()), ErrorKind::KeyNotFound),
        (
            other(&|wrapped| wrapped.key.version = "1".to_owned()),
            ErrorKind::CiphertextRejected,
        ),
    ] {
        assert_eq!(fixture.unwrap(&forged).await.unwrap_err().kind, kind);
    }
    assert_eq!(fixture.bodies("").len(), 0);
}

/// Whoever put it there: the commitment in the envelope decides for a key manager that opens everything.
#[tokio::test]
async fn another_key_under_the_same_name_opens_nothing() {
    let fixture = Fixture::new().await;
    let wrapped = fixture.wrap().await.unwrap();
    fixture.bench.fake.keys().make(KEY);
    assert_eq!(fixture.unwrap(&wrapped).await.unwrap_err().kind, ErrorKind::CiphertextRejected);
    let newer = fixture.wrap().await.unwrap();
    assert_eq!(fixture.unwrap(&newer).await.unwrap(), dek());
}

/// The fake makes IVs of 12 bytes. Those of 16, which hardware makes, go back as they came.
#[tokio::test]
async fn an_iv_of_16_bytes_goes_back_as_it_came() {
    let fixture = Fixture::new().await;
    let parts = GcmParts {
        iv: &[1; 16],
        ciphertext: &[2; 32],
        tag: &[3; 16],
        metadata: &[],
    };
    let wrapped = Wrapped {
        ciphertext: parts.encode().unwrap(),
        ..fixture.wrap().await.unwrap()
    };
    fixture.respond(
        "/decrypt",
        200,
        &json!({"plaintext": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}),
    );
    assert_eq!(fixture.unwrap(&wrapped).await.unwrap(), dek());
    let [sent] = &fixture.bodies("/decrypt")[..] else {
        panic!("one decryption")
    };
    assert_eq!(sent["initializationVector"], "AQEBAQEBAQEBAQEBAQEBAQ==");
    assert_eq!(sent.get("ciphertextMetadata"), None);
}

#[tokio::test]
async fn a_key_is_adopted_only_if_it_can_be_used() {
    use claviger_fake_xks::Key;
    let fixture = Fixture::new().await;
    let keys = fixture.bench.fake.keys();
    keys.put("one-way", Key::new(&["ENCRYPT"]));
    keys.put("asleep", Key::new(&["ENCRYPT", "DECRYPT"]));
    keys.change("asleep", |key| key.enabled = false);
    keys.put("other", Key::new(&["ENCRYPT", "DECRYPT"]));
    keys.change("other", |key| key.spec = "RSA_3072".to_owned());
    for (name, kind) in [
        ("one-way", ErrorKind::InvalidInput),
        ("asleep", ErrorKind::KeyState),
        ("other", ErrorKind::InvalidInput),
        ("absent", ErrorKind::KeyNotFound),
        ("a/b", ErrorKind::InvalidInput),
    ] {
        let request = new_key(claviger_provider::KeySpec::Aes256, Some(name));
        let error = fixture.provider.create_key(&cx(), &request).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}");
        assert!(error.advice.is_some() || kind == ErrorKind::KeyNotFound, "{name}");
    }
    // One that is described as sound, and does not open what it wrapped.
    let broken = Fault::always(
        "/decrypt",
        Act::Change {
            patch: json!({"plaintext": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}),
        },
    );
    fixture.bench.fake.switches().faults.set(vec![broken]);
    let request = new_key(claviger_provider::KeySpec::Aes256, Some(KEY));
    let error = fixture.provider.create_key(&cx(), &request).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol);
    fixture.bench.fake.switches().faults.set(Vec::new());
    let adopted = fixture.provider.create_key(&cx(), &request).await.unwrap();
    assert_eq!((adopted.id.as_str(), adopted.versions.len()), (KEY, 1));
}

#[tokio::test]
async fn a_data_key_of_4_kib_fits() {
    let fixture = Fixture::new().await;
    let dek = Secret::random(4096);
    let wrapped = fixture.provider.wrap_key(&cx(), &kek(), &dek, &context()).await.unwrap();
    assert_eq!(fixture.unwrap(&wrapped).await.unwrap(), dek);
    let error = fixture
        .provider
        .wrap_key(&cx(), &kek(), &Secret::random(4097), &context())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
}
