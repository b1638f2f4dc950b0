//! Keys that the owner created, and the gateway's ciphertexts in AWS's own tool.

use std::process::Command;

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{Algorithm, ErrorKind, Factory, Finding, KeySpec, Provider, Secret};
use claviger_provider_aws::{AwsFactory, Endpoints};
use serde_json::{Value, json};

use crate::server::{REGION, Server, context, cx, new_key, primary};

/// moto returns a key's usage only if it was set explicitly.
fn encrypting() -> Value {
    json!({"KeyUsage": "ENCRYPT_DECRYPT"})
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub async fn keys_are_adopted_by_each_of_their_names(server: Server) {
    let provider = server.connect().await;
    let made = server.owners_key(encrypting()).await;
    let (id, arn) = (text(&made["KeyId"]), text(&made["Arn"]));
    let alias = format!("alias/adopted-{id}");
    let body = json!({"AliasName": alias, "TargetKeyId": id});
    server.owner(REGION, "CreateAlias", body).await;
    let alias_arn = arn.replace(&format!("key/{id}"), &alias);
    for name in [id, arn.clone(), alias, alias_arn] {
        let key = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some(&name))).await.unwrap();
        assert_eq!((&key.id, key.versions.len(), key.spec), (&arn, 1, KeySpec::Aes256), "{name}");
    }
    for name in ["12345678-1234-1234-1234-123456789012", "alias/nobodys"] {
        let error = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some(name))).await.unwrap_err();
        assert!(error.kind == ErrorKind::KeyNotFound && error.advice.is_some(), "{name}: {error}");
    }
}

pub async fn keys_of_another_kind_are_refused(server: Server) {
    let provider = server.connect().await;
    for (unfit, says) in [
        (json!({"KeySpec": "RSA_3072", "KeyUsage": "SIGN_VERIFY"}), "signatures"),
        (json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}), "signatures"),
        (json!({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}), "HMAC"),
        (json!({"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"}), "RSA_3072"),
    ] {
        let made = server.owners_key(unfit.clone()).await;
        let request = new_key(KeySpec::Aes256, Some(made["Arn"].as_str().unwrap()));
        let error = provider.create_key(&cx(), &request).await.unwrap_err();
        assert!(
            error.kind == ErrorKind::InvalidInput && error.advice.unwrap().contains(says),
            "{unfit}: {error}"
        );
        let found = error.found.unwrap().to_string();
        assert!(found.starts_with(unfit["KeySpec"].as_str().unwrap()), "{found}");
    }
}

pub async fn keys_that_cannot_be_used_now_are_refused(server: Server) {
    let provider = server.connect().await;
    let disabled = text(&server.owners_key(encrypting()).await["Arn"]);
    server.owner(REGION, "DisableKey", json!({"KeyId": disabled})).await;
    let leaving = text(&server.owners_key(encrypting()).await["Arn"]);
    server
        .owner(REGION, "ScheduleKeyDeletion", json!({"KeyId": leaving, "PendingWindowInDays": 7}))
        .await;
    let empty = text(
        &server
            .owners_key(json!({"Origin": "EXTERNAL", "KeyUsage": "ENCRYPT_DECRYPT"}))
            .await["Arn"],
    );
    for (arn, says) in [
        (disabled, "enable-key"),
        (leaving, "cancel-key-deletion"),
        (empty, "import-key-material"),
    ] {
        let error = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some(&arn))).await.unwrap_err();
        assert!(
            error.kind == ErrorKind::KeyState && error.advice.unwrap().contains(says),
            "{says}: {error}"
        );
    }
}

pub async fn a_replica_opens_what_the_primary_wrapped(server: Server) {
    let here = server.connect().await;
    let made = server.owners_key(json!({"MultiRegion": true, "KeyUsage": "ENCRYPT_DECRYPT"})).await;
    let (id, arn) = (text(&made["KeyId"]), text(&made["Arn"]));
    server
        .owner(REGION, "ReplicateKey", json!({"KeyId": id, "ReplicaRegion": "us-east-1"}))
        .await;
    let kek = primary(&here.create_key(&cx(), &new_key(KeySpec::Aes256, Some(&arn))).await.unwrap());
    assert_eq!(kek.key.id, arn.replace(REGION, "*"));
    let (dek, context) = (Secret::random(32), context());
    let wrapped = here.wrap_key(&cx(), &kek, &dek, &context).await.unwrap();
    assert_eq!(wrapped.key, kek.key);
    assert_eq!(here.unwrap_key(&cx(), &wrapped, &context).await.unwrap(), dek);
    let there = server.connect_with(crate::server::access_key(), "us-east-1").await;
    assert_eq!(there.unwrap_key(&cx(), &wrapped, &context).await.unwrap(), dek);
    let nowhere = server.connect_with(crate::server::access_key(), "us-west-2").await;
    assert!(nowhere.unwrap_key(&cx(), &wrapped, &context).await.is_err());
}

pub async fn awss_own_tool_opens_what_was_wrapped(server: Server) {
    let tool = std::env::var("CLAVIGER_TEST_AWSCLI").expect("the path of awscli");
    let provider = server.connect().await;
    let specs: &[KeySpec] = match server {
        Server::Moto => &[KeySpec::Aes256],
        Server::LocalStack => &[KeySpec::Aes256, KeySpec::Rsa3072],
    };
    let factory = AwsFactory::new(Endpoints::default(), Egress::new(EgressPolicy::default()));
    let settings = json!({"region": REGION, "auth": {"static": {}}}).to_string();
    for spec in specs {
        let kek = primary(&provider.create_key(&cx(), &new_key(*spec, None)).await.unwrap());
        let (dek, context) = (Secret::random(32), context());
        let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context).await.unwrap();
        let expected = if *spec == KeySpec::Aes256 {
            Algorithm::ProviderOpaque
        } else {
            Algorithm::RsaOaep256
        };
        assert_eq!(wrapped.algorithm, expected);
        let folder = tempfile::tempdir().unwrap();
        let commands = factory
            .offline_decrypt(&settings, *spec, &wrapped, &context)
            .join("\n")
            .replace("aws kms", &format!("{tool} kms"));
        let output = Command::new("sh")
            .args(["-ec", &commands])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_ENDPOINT_URL", server.address().unwrap())
            .env("NO_PROXY", "*")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{commands}: {said}");
        use base64::Engine;
        let opened = base64::engine::general_purpose::STANDARD
            .decode(output.stdout.trim_ascii())
            .unwrap();
        assert_eq!(opened, dek.expose());
    }
}

pub async fn a_role_is_assumed_and_found_to_be_open(server: Server) {
    let role = "arn:aws:iam::123456789012:role/claviger";
    let auth = json!({"assume_role": {"role_arn": role, "base": crate::server::access_key()}});
    let provider = server.connect_with(auth, REGION).await;
    let kek = primary(&provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap());
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    assert!(wrapped.upstream_request_id.is_some());
    let probe = provider.probe(&cx(), &[kek]).await.unwrap();
    assert!(probe.detail.contains("assumed-role/claviger/claviger-"), "{}", probe.detail);
    // moto lets everyone assume every role.
    let found = probe.rights.iter().find(|right| right.operation == "external_id").unwrap();
    assert_eq!(found.finding, Finding::Excessive);
}

pub async fn a_lent_identity_adopts_no_key_without_a_policy(server: Server) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "header.payload.signature").unwrap();
    let role = "arn:aws:iam::123456789012:role/claviger";
    let auth = json!({"web_identity": {"role_arn": role, "token_file": file}});
    let provider = server.connect_with(auth, REGION).await;
    // A key that the gateway creates belongs to the tenant.
    provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap();
    let arn = text(&server.owners_key(encrypting()).await["Arn"]);
    let error = provider.create_key(&cx(), &new_key(KeySpec::Aes256, Some(&arn))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ProviderDenied, "{error}");
    assert!(error.advice.unwrap().contains("kms:EncryptionContext:claviger:tenant"));
}

pub async fn rotations_made_at_aws_are_seen(server: Server) {
    let provider = server.connect().await;
    let kek = primary(&provider.create_key(&cx(), &new_key(KeySpec::Aes256, None)).await.unwrap());
    let (dek, context) = (Secret::random(32), context());
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context).await.unwrap();
    server.owner(REGION, "RotateKeyOnDemand", json!({"KeyId": kek.key.id})).await;
    let described = provider.describe(&cx(), &kek).await.unwrap();
    assert_eq!((described.versions.len(), described.primary), (2, 1));
    let rotated = provider.rotate(&cx(), &kek).await.unwrap();
    assert_eq!((rotated.versions.len(), rotated.primary), (3, 2));
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context).await.unwrap(), dek);
}
