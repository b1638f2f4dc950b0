//! Keys that are created and adopted.

use std::time::Duration;

use claviger_provider::{ErrorKind, KeyId, KeyRequest, KeySpec, OpContext, Provider, Retry};
use serde_json::{Value, json};
use wiremock::MockServer;

use crate::fixture::{ARN, OTHER, TENANT, access_key, answer, b64, calls, connect, cx, describe_key, kms, metadata, refusal};

fn request(spec: KeySpec, adopt: Option<&str>) -> KeyRequest {
    KeyRequest {
        key_id: KeyId::from_bytes([5; 16]),
        made_as: KeyId::from_bytes([5; 16]),
        repeated: false,
        spec,
        adopt: adopt.map(str::to_owned),
        taken: false,
    }
}

/// A server with one key that permits everything.
async fn server(changes: &Value) -> MockServer {
    let server = MockServer::builder().start().await;
    kms("DescribeKey").respond_with(answer(metadata(ARN, changes))).mount(&server).await;
    kms("Encrypt")
        .respond_with(answer(json!({"KeyId": ARN, "CiphertextBlob": b64("blob")})))
        .mount(&server)
        .await;
    kms("ListKeyRotations")
        .respond_with(answer(json!({"Rotations": [], "Truncated": false})))
        .mount(&server)
        .await;
    server
}

/// Decrypt returns the canary.
async fn opens(server: &MockServer) {
    let encrypted = |request: &wiremock::Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        answer(json!({"KeyId": ARN, "CiphertextBlob": body["Plaintext"]}))
    };
    let decrypted = |request: &wiremock::Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        answer(json!({"KeyId": ARN, "Plaintext": body["CiphertextBlob"]}))
    };
    kms("Encrypt").respond_with(encrypted).with_priority(1).mount(server).await;
    kms("Decrypt").respond_with(decrypted).with_priority(1).mount(server).await;
}

#[tokio::test]
async fn a_key_is_made_with_the_tenants_tags() {
    let server = MockServer::builder().start().await;
    kms("CreateKey")
        .respond_with(answer(metadata(ARN, &json!({}))))
        .mount(&server)
        .await;
    describe_key(&server).await;
    let key = connect(&server, access_key())
        .await
        .create_key(&cx(), &request(KeySpec::Aes256, None))
        .await
        .unwrap();
    assert_eq!(
        (key.id.as_str(), key.versions.len(), key.versions[0].created),
        (ARN, 1, Some(1_700_000_000))
    );
    let id = "05".repeat(16);
    assert_eq!(
        calls(&server, "CreateKey").await,
        [json!({
            "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT", "Description": format!("Claviger key {id}"),
            "Tags": [{"TagKey": "claviger:tenant", "TagValue": TENANT.to_string()}, {"TagKey": "claviger:key", "TagValue": id}],
        })]
    );
}

/// KMS is eventually consistent: for some seconds, a server may not know a new key.
#[tokio::test]
async fn a_new_key_is_waited_for_until_it_is_found() {
    let server = MockServer::builder().start().await;
    kms("CreateKey")
        .respond_with(answer(metadata(ARN, &json!({}))))
        .expect(1)
        .mount(&server)
        .await;
    kms("DescribeKey")
        .respond_with(refusal("NotFoundException"))
        .up_to_n_times(3)
        .mount(&server)
        .await;
    describe_key(&server).await;
    let provider = connect(&server, access_key()).await;
    let key = provider.create_key(&cx(), &request(KeySpec::Aes256, None)).await.unwrap();
    assert_eq!(key.id, ARN);
    assert_eq!(calls(&server, "DescribeKey").await.len(), 4);
}

#[tokio::test]
async fn a_new_key_that_is_not_found_in_time_or_not_to_be_described_is_created_all_the_same() {
    for (code, least) in [("NotFoundException", 3), ("AccessDeniedException", 1)] {
        let server = MockServer::builder().start().await;
        kms("CreateKey")
            .respond_with(answer(metadata(ARN, &json!({}))))
            .expect(1)
            .mount(&server)
            .await;
        kms("DescribeKey").respond_with(refusal(code)).mount(&server).await;
        let provider = connect(&server, access_key()).await;
        let hasty = OpContext::for_system("test", TENANT, Duration::from_secs(2));
        let key = provider.create_key(&hasty, &request(KeySpec::Aes256, None)).await.unwrap();
        assert_eq!(key.id, ARN);
        assert!(calls(&server, "DescribeKey").await.len() >= least, "{code}");
    }
}

/// So is its list of keys, and a key that is listed may not be described yet: the next try must not make a second one.
#[tokio::test]
async fn a_repeated_creation_waits_until_the_first_one_s_key_shows() {
    let server = MockServer::builder().start().await;
    let listed = |arn: &str| json!({"KeyId": arn.rsplit('/').next(), "KeyArn": arn});
    kms("ListKeys")
        .respond_with(answer(json!({"Keys": [listed(OTHER)], "Truncated": false})))
        .up_to_n_times(3)
        .mount(&server)
        .await;
    kms("ListKeys")
        .respond_with(answer(json!({"Keys": [listed(OTHER), listed(ARN)], "Truncated": false})))
        .mount(&server)
        .await;
    let described = json!({"Description": format!("Claviger key {}", "05".repeat(16))});
    let is_other = |request: &wiremock::Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        OTHER.ends_with(body["KeyId"].as_str().unwrap_or("-"))
    };
    kms("DescribeKey")
        .and(is_other)
        .respond_with(answer(metadata(OTHER, &json!({"Description": "somebody's"}))))
        .with_priority(1)
        .mount(&server)
        .await;
    kms("DescribeKey")
        .respond_with(refusal("NotFoundException"))
        .up_to_n_times(2)
        .mount(&server)
        .await;
    kms("DescribeKey")
        .respond_with(answer(metadata(ARN, &described)))
        .mount(&server)
        .await;
    let repeated = KeyRequest {
        repeated: true,
        ..request(KeySpec::Aes256, None)
    };
    let key = connect(&server, access_key()).await.create_key(&cx(), &repeated).await.unwrap();
    assert_eq!(key.id, ARN);
    assert!(calls(&server, "CreateKey").await.is_empty());
    // What the first search saw is not asked for again.
    let described = calls(&server, "DescribeKey").await;
    let others = described.iter().filter(|call| OTHER.ends_with(call["KeyId"].as_str().unwrap()));
    assert_eq!(others.count(), 1, "{described:?}");
}

#[tokio::test]
async fn a_repeated_creation_makes_the_key_that_does_not_show_in_five_seconds() {
    let server = MockServer::builder().start().await;
    kms("ListKeys")
        .respond_with(answer(json!({"Keys": [], "Truncated": false})))
        .mount(&server)
        .await;
    kms("CreateKey")
        .respond_with(answer(metadata(ARN, &json!({}))))
        .expect(1)
        .mount(&server)
        .await;
    describe_key(&server).await;
    let repeated = KeyRequest {
        repeated: true,
        ..request(KeySpec::Aes256, None)
    };
    let provider = connect(&server, access_key()).await;
    // One that has less time makes none.
    let hasty = OpContext::for_system("test", TENANT, Duration::from_secs(2));
    let error = provider.create_key(&hasty, &repeated).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::UpstreamUnavailable && error.retry == Retry::Backoff && error.advice.is_some(),
        "{error}"
    );
    assert!(calls(&server, "CreateKey").await.is_empty());
    let key = provider.create_key(&cx(), &repeated).await.unwrap();
    assert_eq!(key.id, ARN);
    assert!(calls(&server, "ListKeys").await.len() > 4);
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_refused_with_what_to_do() {
    for (changes, kind, says) in [
        (
            json!({"KeyState": "Disabled"}),
            ErrorKind::KeyState,
            "claviger keys enable --at-provider",
        ),
        (json!({"KeyState": "PendingDeletion"}), ErrorKind::KeyState, "cancel-key-deletion"),
        (
            json!({"KeyState": "PendingReplicaDeletion"}),
            ErrorKind::KeyState,
            "cancel-key-deletion",
        ),
        (json!({"KeyState": "PendingImport"}), ErrorKind::KeyState, "import-key-material"),
        (json!({"KeyState": "Unavailable"}), ErrorKind::KeyState, "store"),
        (
            json!({"KeyUsage": "SIGN_VERIFY", "KeySpec": "RSA_3072"}),
            ErrorKind::InvalidInput,
            "signatures",
        ),
        (
            json!({"KeyUsage": "GENERATE_VERIFY_MAC", "KeySpec": "HMAC_256"}),
            ErrorKind::InvalidInput,
            "HMAC",
        ),
        (
            json!({"KeyUsage": "KEY_AGREEMENT", "KeySpec": "ECC_NIST_P256"}),
            ErrorKind::InvalidInput,
            "ENCRYPT_DECRYPT",
        ),
        (json!({"KeySpec": "RSA_2048"}), ErrorKind::InvalidInput, "RSA_3072"),
        (json!({"KeySpec": "SM2"}), ErrorKind::InvalidInput, "RSA_3072"),
        (json!({"KeyManager": "AWS"}), ErrorKind::InvalidInput, "managed by AWS"),
        (json!({"EncryptionAlgorithms": []}), ErrorKind::InvalidInput, "SYMMETRIC_DEFAULT"),
        (json!({"KeyState": "SomethingNew"}), ErrorKind::KeyState, "does not know"),
        (json!({"Arn": "arn:aws:s3:::bucket"}), ErrorKind::UpstreamProtocol, ""),
        (
            json!({"Arn": "arn:aws:kms:us-east-1:111122223333:key/x"}),
            ErrorKind::UpstreamProtocol,
            "",
        ),
    ] {
        let server = server(&changes).await;
        let request = request(KeySpec::Aes256, Some("alias/orders"));
        let error = connect(&server, access_key()).await.create_key(&cx(), &request).await.unwrap_err();
        assert_eq!(error.kind, kind, "{changes}: {error}");
        assert!(error.advice.unwrap_or_default().contains(says), "{changes}: {:?}", error.advice);
        assert!(calls(&server, "Encrypt").await.is_empty(), "{changes}");
    }
}

#[tokio::test]
async fn a_wrong_name_is_told_the_right_form() {
    let server = server(&json!({})).await;
    let provider = connect(&server, access_key()).await;
    for (name, says) in [
        ("orders", "alias/"),
        ("arn:aws:kms:us-east-1:111122223333:key/x", "another region"),
        ("arn:aws:iam::111122223333:role/claviger", "not one of KMS"),
        ("alias/aws/s3", "AWS manages"),
    ] {
        let error = provider.create_key(&cx(), &request(KeySpec::Aes256, Some(name))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidInput, "{name}");
        assert!(error.advice.unwrap().contains(says), "{name}: {:?}", error.advice);
    }
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_name_may_not_lead_to_another_key() {
    let server = server(&json!({})).await;
    opens(&server).await;
    let provider = connect(&server, access_key()).await;
    let error = provider
        .create_key(&cx(), &request(KeySpec::Aes256, Some(OTHER)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamProtocol, "{error}");
    let key = provider
        .create_key(&cx(), &request(KeySpec::Aes256, Some("alias/orders")))
        .await
        .unwrap();
    assert_eq!(key.id, ARN);
}

#[tokio::test]
async fn a_tenants_own_credential_proves_a_key_that_it_can_use() {
    let server = server(&json!({})).await;
    opens(&server).await;
    let provider = connect(&server, access_key()).await;
    provider.create_key(&cx(), &request(KeySpec::Aes256, Some(ARN))).await.unwrap();
    let [encrypted] = calls(&server, "Encrypt").await.try_into().unwrap();
    assert_eq!(encrypted["EncryptionContext"]["claviger:tenant"], TENANT.to_string());

    let denied = self::server(&json!({})).await;
    kms("Decrypt").respond_with(refusal("AccessDeniedException")).mount(&denied).await;
    let error = connect(&denied, access_key())
        .await
        .create_key(&cx(), &request(KeySpec::Aes256, Some(ARN)))
        .await
        .unwrap_err();
    assert!(error.kind == ErrorKind::ProviderDenied && error.advice.is_some(), "{error}");
}

/// With the operator's identity, only a key whose policy names the tenant can be adopted.
#[tokio::test]
async fn a_lent_identity_adopts_only_a_key_whose_policy_names_the_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "token").unwrap();
    let auth = json!({"web_identity": {"role_arn": crate::fixture::ROLE, "token_file": file}});
    let operator_owned = async |server: &MockServer| {
        let body = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA</AccessKeyId>\
                    <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
                    </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
        crate::fixture::sts("AssumeRoleWithWebIdentity")
            .respond_with(wiremock::ResponseTemplate::new(200).set_body_raw(body, "text/xml"))
            .mount(server)
            .await;
        connect(server, auth.clone()).await
    };
    let adopt = request(KeySpec::Aes256, Some(ARN));

    // A key whose policy permits every tenant.
    let open = server(&json!({})).await;
    opens(&open).await;
    let error = operator_owned(&open).await.create_key(&cx(), &adopt).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
    assert!(error.advice.unwrap().contains("kms:EncryptionContext:claviger:tenant"));

    // A key whose policy names this tenant.
    let own = MockServer::builder().start().await;
    let stranger = |request: &wiremock::Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        body["EncryptionContext"]["claviger:tenant"] != TENANT.to_string().as_str() && body.get("Plaintext").is_some()
    };
    // Of two mocks with the same priority, the one that was mounted first responds.
    wiremock::Mock::given(stranger)
        .respond_with(refusal("AccessDeniedException"))
        .with_priority(1)
        .mount(&own)
        .await;
    describe_key(&own).await;
    kms("ListKeyRotations")
        .respond_with(answer(json!({"Rotations": [], "Truncated": false})))
        .mount(&own)
        .await;
    opens(&own).await;
    operator_owned(&own).await.create_key(&cx(), &adopt).await.unwrap();

    // A key whose policy names another tenant permits nothing.
    let shut = server(&json!({})).await;
    kms("Encrypt")
        .respond_with(refusal("AccessDeniedException"))
        .with_priority(1)
        .mount(&shut)
        .await;
    let error = operator_owned(&shut).await.create_key(&cx(), &adopt).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
    assert!(error.advice.unwrap().contains("kms:EncryptionContext:claviger:tenant"));

    // Of a key that is not proven to be the tenant's nothing is told: not its kind or state, nor that it is not there.
    let unproven = (error.kind, error.upstream_code, error.advice);
    let refused = |code: &'static str| async move {
        let server = MockServer::builder().start().await;
        kms("DescribeKey").respond_with(refusal(code)).mount(&server).await;
        server
    };
    let disabled = server(&json!({"KeyState": "Disabled"})).await;
    kms("Encrypt")
        .respond_with(refusal("DisabledException"))
        .with_priority(1)
        .mount(&disabled)
        .await;
    let rsa = json!({"KeySpec": "RSA_3072", "EncryptionAlgorithms": ["RSAES_OAEP_SHA_256"]});
    for server in [
        server(&rsa).await,
        server(&json!({"KeyUsage": "GENERATE_VERIFY_MAC", "KeySpec": "HMAC_256"})).await,
        server(&json!({"KeyManager": "AWS"})).await,
        disabled,
        refused("NotFoundException").await,
        refused("AccessDeniedException").await,
    ] {
        let error = operator_owned(&server).await.create_key(&cx(), &adopt).await.unwrap_err();
        assert!(error.found.is_none(), "{error}");
        assert_eq!((error.kind, error.upstream_code, error.advice), unproven);
    }
    // Once it is proven, its state is told.
    let own = MockServer::builder().start().await;
    wiremock::Mock::given(stranger)
        .respond_with(refusal("AccessDeniedException"))
        .with_priority(1)
        .mount(&own)
        .await;
    kms("DescribeKey")
        .respond_with(answer(metadata(ARN, &json!({"KeyState": "Disabled"}))))
        .mount(&own)
        .await;
    kms("Encrypt").respond_with(refusal("DisabledException")).mount(&own).await;
    let error = operator_owned(&own).await.create_key(&cx(), &adopt).await.unwrap_err();
    assert!(
        error.kind == ErrorKind::KeyState && error.advice.unwrap().contains("claviger keys enable --at-provider"),
        "{error}"
    );
}
