//! A server as in production: TLS with a private authority, storage, an audit device.

use std::sync::Arc;

use claviger_provider::{ErrorKind, Provider, Secret};
use claviger_testkit::connection::CertificateFiles;
use serde_json::{Value, json};

use crate::policy::printed;
use crate::server::{Server, context, cx, new_key, primary, unique};

pub async fn its_own_authority_is_trusted_and_no_other(server: &Server) {
    server.connect(&server.token).probe(&cx(), &[]).await.unwrap();
    let port = server.address.rsplit(':').next().unwrap();
    let strange = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    for (settings, hint) in [
        (json!({"ca": null}), "`ca`"),
        (json!({"ca": strange}), "`ca`"),
        (json!({"address": format!("https://127.0.0.1:{port}")}), "another host"),
    ] {
        let mut settings = settings;
        settings["auth"] = json!({"token": server.token});
        let provider = server.connect_with(settings.clone());
        for error in [
            provider.probe(&cx(), &[]).await.unwrap().problem.unwrap(),
            Arc::new(provider.create_key(&cx(), &new_key(None)).await.unwrap_err()),
        ] {
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
            assert!(error.advice.as_ref().unwrap().contains(hint), "{error:?}");
        }
    }
}

/// Lets clients with the authority's certificates log in; returns the mount.
async fn certificates(server: &Server, more: Value) -> String {
    let (mount, policy) = (unique("cert"), unique("least"));
    server.policy(&policy, &printed(server).await).await;
    server.done("POST", &format!("sys/auth/{mount}"), json!({"type": "cert"})).await;
    let mut role = json!({
        "certificate": server.file("ca.pem"), "allowed_common_names": ["client"],
        "token_policies": [policy], "token_no_default_policy": true, "token_ttl": "1h",
    });
    for (name, value) in more.as_object().unwrap() {
        role[name] = value.clone();
    }
    server.done("POST", &format!("auth/{mount}/certs/gateway"), role).await;
    mount
}

pub async fn a_client_certificate_logs_in_and_again_when_the_token_is_dropped(server: &Server) {
    let mount = certificates(server, json!({})).await;
    let (certificate, key) = (server.file("client.pem"), server.file("client.key"));
    for name in [Some("gateway"), None] {
        let auth = json!({"certificate": certificate, "key": key, "mount": mount});
        let mut settings = json!({"auth": {"cert": auth}});
        if let Some(name) = name {
            settings["auth"]["cert"]["name"] = json!(name);
        }
        let provider = server.connect_with(settings);
        let key = primary(&provider.create_key(&cx(), &new_key(None)).await.unwrap());
        let dek = Secret::random(32);
        let wrapped = provider.wrap_key(&cx(), &key, &dek, &context()).await.unwrap();
        server
            .done("POST", &format!("sys/leases/revoke-prefix/auth/{mount}"), json!({}))
            .await;
        assert_eq!(provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap(), dek);
    }
}

pub async fn a_certificate_that_the_role_does_not_take_is_denied(server: &Server) {
    let mount = certificates(server, json!({"allowed_common_names": ["somebody else"]})).await;
    let auth = json!({"certificate": server.file("client.pem"), "key": server.file("client.key"), "mount": mount});
    let error = server
        .connect_with(json!({"auth": {"cert": auth}}))
        .create_key(&cx(), &new_key(None))
        .await
        .unwrap_err();
    assert!(error.kind == ErrorKind::ProviderDenied && error.advice.is_some(), "{error}");
}

/// The next login shows the new one.
pub async fn a_client_certificate_that_is_replaced_logs_in(server: &Server) {
    let mount = certificates(server, json!({})).await;
    let strange = rcgen::generate_simple_self_signed(["somebody else".to_owned()]).unwrap();
    let (certificate, key) = (strange.cert.pem(), strange.signing_key.serialize_pem());
    let folder = tempfile::tempdir().unwrap();
    let files = Arc::new(CertificateFiles(folder.path().to_owned()));
    files.write(&certificate, &key).unwrap();
    let auth = json!({"certificate": certificate, "key": key, "mount": mount});
    let provider = server.connect_from(json!({"auth": {"cert": auth}}), Some(Arc::clone(&files) as Arc<_>));
    let create = async || provider.create_key(&cx(), &new_key(None)).await;
    assert_eq!(create().await.unwrap_err().kind, ErrorKind::ProviderDenied);
    files.write(&server.file("client.pem"), &server.file("client.key")).unwrap();
    create().await.unwrap();
}

/// The server's audit log lists its requests: none outside the least-privilege policy.
pub async fn the_servers_record_shows_only_calls_that_the_policy_names(server: &Server) {
    let policy = unique("least");
    server.policy(&policy, &printed(server).await).await;
    let token = server.token(&[&policy], json!({})).await;
    let provider = server.connect(&token);
    let key = primary(&provider.create_key(&cx(), &new_key(None)).await.unwrap());
    let wrapped = provider.wrap_key(&cx(), &key, &Secret::random(32), &context()).await.unwrap();
    provider.unwrap_key(&cx(), &wrapped, &context()).await.unwrap();
    provider.rotate(&cx(), &key).await.unwrap();
    provider.probe(&cx(), &[]).await.unwrap();
    let accessor = server.done("POST", "auth/token/lookup", json!({"token": token})).await["data"]["policies"].clone();
    let asked: Vec<Value> = server
        .file("audit.log")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|entry| entry["type"] == "response" && entry["auth"]["policies"] == accessor)
        .collect();
    assert!(asked.len() >= 8, "{asked:?}");
    for entry in asked {
        assert!(entry["error"].is_null(), "{entry}");
    }
}
