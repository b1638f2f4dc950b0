//! The check of a connection, on a fake with permissions.

use std::collections::BTreeMap;

use claviger_fake_google::{Access, Account};
use claviger_provider::{ErrorKind, Finding, Kek, KeySpec, Probe, Provider, Secret};
use claviger_provider_gcp::GcpProvider;
use serde_json::json;

use crate::server::{RING, Server, context, cx, new_key, primary};

/// A connection of an account with these permissions on the key ring.
async fn with(server: &Server, permissions: &[&str]) -> GcpProvider {
    let granted = permissions.iter().map(ToString::to_string).collect();
    let account = Account {
        tokens: vec!["ya29.limited".to_owned()],
        grants: BTreeMap::from([(RING.to_owned(), granted)]),
        ..Account::default()
    };
    let owner = Account {
        tokens: vec!["owner".to_owned()],
        grants: BTreeMap::from([("projects/acme-1".to_owned(), vec!["*".to_owned()])]),
        ..Account::default()
    };
    server.fake.set_access(Some(Access {
        accounts: [("limited".to_owned(), account), ("owner".to_owned(), owner)].into(),
        ..Access::default()
    }));
    server.connect_with(json!({"auth": {"token": "ya29.limited"}})).await.unwrap()
}

fn found(probe: &Probe, finding: Finding) -> Vec<String> {
    let of = probe.rights.iter().filter(|right| right.finding == finding);
    of.map(|right| format!("{}: {} {}", right.operation, right.how, right.advice.as_deref().unwrap_or_default()))
        .collect()
}

async fn keys(server: &Server) -> [Kek; 2] {
    let provider = server.connect().await;
    let mut keks = Vec::new();
    for spec in [KeySpec::Aes256, KeySpec::Rsa3072] {
        keks.push(primary(&provider.create_key(&cx(), &new_key(spec, None)).await.unwrap()));
    }
    keks.try_into().unwrap()
}

pub async fn a_check_names_what_is_missing_and_what_is_too_much() {
    let server = Server::start().await;
    let keks = keys(&server).await;
    let few = [
        "cloudkms.cryptoKeys.get",
        "cloudkms.cryptoKeyVersions.list",
        "cloudkms.cryptoKeyVersions.useToEncrypt",
        "cloudkms.cryptoKeyVersions.viewPublicKey",
        "cloudkms.cryptoKeyVersions.destroy",
    ];
    let provider = with(&server, &few).await;
    let journal = &server.fake.switches().journal;
    journal.clear();
    let probe = provider.probe(&cx(), &keks).await.unwrap();
    let denied = found(&probe, Finding::Denied).join("\n");
    for missing in [
        "cloudkms.cryptoKeyVersions.useToDecrypt",
        "cloudkms.cryptoKeyVersions.create",
        "cloudkms.cryptoKeys.create",
        "cloudkms.cryptoKeyVersions.update",
        "canary: a canary with",
    ] {
        assert!(denied.contains(missing), "{missing}: {denied}");
    }
    assert!(!denied.contains("useToEncrypt") && !denied.contains("viewPublicKey"), "{denied}");
    let excessive = found(&probe, Finding::Excessive);
    assert!(
        excessive.len() == 1 && excessive[0].contains("cryptoKeyVersions.destroy"),
        "{excessive:?}"
    );
    // It only read and used the keys for a canary: nothing was changed.
    let harmless = ["testIamPermissions", ":encrypt", ":decrypt", ":asymmetricDecrypt"];
    for request in journal.all() {
        let right = request.method == "GET" || harmless.iter().any(|verb| request.path.ends_with(verb));
        assert!(right, "{} {}", request.method, request.path);
    }
    // Without a key, the permissions on keys cannot be tested.
    let probe = provider.probe(&cx(), &[]).await.unwrap();
    let untested = found(&probe, Finding::NotTestable).join("\n");
    assert!(untested.contains("the connection has no key yet"), "{untested}");
    assert!(found(&probe, Finding::Denied).join("\n").contains("cloudkms.cryptoKeys.create"));
}

pub async fn a_key_that_the_identity_may_not_use_is_not_adopted() {
    let server = Server::start().await;
    let reads = ["cloudkms.cryptoKeys.get", "cloudkms.cryptoKeyVersions.list"];
    let uses = [
        "cloudkms.cryptoKeyVersions.useToEncrypt",
        "cloudkms.cryptoKeyVersions.useToDecrypt",
        "cloudkms.cryptoKeyVersions.viewPublicKey",
    ];
    let symmetric = json!({"purpose": "ENCRYPT_DECRYPT"});
    let rsa = json!({"purpose": "ASYMMETRIC_DECRYPT", "versionTemplate": {"algorithm": "RSA_DECRYPT_OAEP_3072_SHA256"}});
    for (id, key, spec) in [("aes", symmetric, KeySpec::Aes256), ("rsa", rsa, KeySpec::Rsa3072)] {
        server.owners_key(id, key).await;
        for few in [&uses[..0], &uses[..1], &uses[1..2]] {
            let provider = with(&server, &[&reads[..], few].concat()).await;
            let error = provider.create_key(&cx(), &new_key(spec, Some(id))).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::ProviderDenied, "{id} {few:?}: {error}");
            assert!(error.advice.unwrap().contains("to wrap and unwrap"), "{error}");
        }
        let provider = with(&server, &[&reads[..], &uses[..]].concat()).await;
        provider.create_key(&cx(), &new_key(spec, Some(id))).await.unwrap();
    }
}

pub async fn the_printed_role_suffices() {
    let server = Server::start().await;
    let keks = keys(&server).await;
    let probe = with(&server, &[]).await.probe(&cx(), &keks).await.unwrap();
    let policy = probe.policy.unwrap();
    let listed: Vec<&str> = policy.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    let provider = with(&server, &listed).await;
    let probe = provider.probe(&cx(), &keks).await.unwrap();
    assert_eq!(found(&probe, Finding::Denied), Vec::<String>::new());
    assert_eq!(found(&probe, Finding::Excessive), Vec::<String>::new());
    // They suffice for all operations of the gateway.
    for spec in [KeySpec::Aes256, KeySpec::Rsa3072] {
        let key = provider.create_key(&cx(), &new_key(spec, None)).await.unwrap();
        let kek = primary(&provider.rotate(&cx(), &primary(&key)).await.unwrap());
        let dek = Secret::random(32);
        let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
        assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
        provider.set_state(&cx(), &kek, false).await.unwrap();
        provider.set_state(&cx(), &kek, true).await.unwrap();
    }
    // Each permission is needed: without it, the check reports it as missing.
    for left_out in &listed {
        let others: Vec<&str> = listed.iter().copied().filter(|permission| permission != left_out).collect();
        let probe = with(&server, &others).await.probe(&cx(), &keks).await.unwrap();
        let denied = found(&probe, Finding::Denied).join("\n");
        assert!(denied.contains(left_out), "{left_out}: {denied}");
    }
}

pub async fn a_check_says_which_key_fails_and_that_a_ring_does_not_exist() {
    let server = Server::start().await;
    let keks = keys(&server).await;
    let provider = with(&server, &["*"]).await;
    let bad = keks[0].key.id.rsplit('/').next().unwrap();
    server.fake.switches().faults.set(vec![claviger_fake::Fault::always(
        &format!("/cryptoKeys/{bad}"),
        claviger_fake::Act::Unavailable,
    )]);
    let probe = provider.probe(&cx(), &keks).await.unwrap();
    assert!(probe.problem.is_none() && probe.policy.is_some());
    let failed = found(&probe, Finding::Failed);
    assert!(
        failed.iter().all(|right| right.contains(&keks[0].key.id)) && failed.len() > 3,
        "{failed:?}"
    );
    let granted = found(&probe, Finding::Granted).join("\n");
    assert!(
        granted.contains("cryptoKeys.create") && granted.contains("with 1 of the connection's keys"),
        "{granted}"
    );

    server.fake.switches().faults.set(Vec::new());
    let ring = "projects/acme-1/locations/europe-west3/keyRings/nowhere";
    let nowhere = json!({"key_ring": ring, "auth": {"token": "owner"}});
    let nowhere = server.connect_with(nowhere).await.unwrap();
    let probe = nowhere.probe(&cx(), &[]).await.unwrap();
    let failed = found(&probe, Finding::Failed).join("\n");
    assert!(
        failed.contains(ring) && failed.contains("does not exist") && failed.contains("NOT_FOUND"),
        "{failed}"
    );
}

pub async fn a_right_is_missed_and_used_again_at_the_next_call() {
    let server = Server::start().await;
    let [kek, _] = keys(&server).await;
    let all = ["cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt"];
    let provider = with(&server, &all).await;
    let dek = Secret::random(32);
    let wrapped = provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    with(&server, &[]).await;
    for _ in 0..2 {
        let wrap = provider.wrap_key(&cx(), &kek, &dek, &context()).await.map(drop);
        let unwrap = provider.unwrap_key(&cx(), &wrapped, &context()).await.map(drop);
        for error in [wrap.unwrap_err(), unwrap.unwrap_err()] {
            assert!(error.kind == ErrorKind::ProviderDenied && error.advice.is_some(), "{error}");
        }
    }
    with(&server, &all).await;
    provider.wrap_key(&cx(), &kek, &dek, &context()).await.unwrap();
    assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
}
