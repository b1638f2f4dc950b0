//! The owner of the provider keys, who acts at the provider itself.

use claviger_testkit::control::Request;
use reqwest::{Certificate, Method};
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::entries::{Start, google, openbao};

/// Rotates a provider key. Returns once the new version wraps.
pub async fn rotate(bench: &Bench, key: &Value) {
    let id = provider_key(key);
    match bench.entry.start {
        Start::Fake(_) => bench.at_provider(&Request::RotateKey { id: id.to_owned() }).await,
        Start::Google => {
            let made = at_google(Method::POST, &format!("{id}/cryptoKeyVersions"), json!({})).await;
            let name = made["name"].as_str().expect("a name").to_owned();
            while at_google(Method::GET, &name, Value::Null).await["state"] == "PENDING_GENERATION" {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            if bench.entry.spec == "aes-256" {
                let number = name.rsplit('/').next();
                let primary = json!({"cryptoKeyVersionId": number});
                at_google(Method::POST, &format!("{id}:updatePrimaryVersion"), primary).await;
            }
        }
        Start::Azure => drop(at_azure(Method::POST, &format!("{id}/rotate"), json!({})).await),
        Start::Serve => drop(at_openbao(bench, id, "rotate", json!({})).await),
        Start::Aws(_) => panic!("no owner of keys there"),
    }
}

/// Disables the first version of two, or enables it again.
pub async fn switch_first(bench: &Bench, key: &Value, enabled: bool) {
    let id = provider_key(key);
    match bench.entry.start {
        Start::Fake(_) => {
            let (id, version) = (id.to_owned(), 1);
            bench.at_provider(&Request::ChangeVersion { id, version, enabled }).await;
        }
        Start::Google => {
            let path = format!("{id}/cryptoKeyVersions/1?updateMask=state");
            let state = if enabled { "ENABLED" } else { "DISABLED" };
            at_google(Method::PATCH, &path, json!({"state": state})).await;
        }
        Start::Azure => {
            let versions = bench.client.list("/v1/keys/orders/versions").await;
            let version = versions[0]["provider_version"].as_str().expect("a version").to_owned();
            let attributes = json!({"attributes": {"enabled": enabled}});
            at_azure(Method::PATCH, &format!("{id}/{version}"), attributes).await;
        }
        Start::Serve => {
            let least = json!({"min_decryption_version": if enabled { 1 } else { 2 }});
            at_openbao(bench, id, "config", least).await;
        }
        Start::Aws(_) => panic!("no owner of keys there"),
    }
}

fn provider_key(key: &Value) -> &str {
    key["provider_key"].as_str().expect("a provider key")
}

async fn at_google(method: Method, path: &str, body: Value) -> Value {
    call(
        method,
        &format!("{}/v1/{path}", google()),
        None,
        ("authorization", "Bearer owner"),
        body,
    )
    .await
}

async fn at_azure(method: Method, url: &str, body: Value) -> Value {
    let file = std::env::var("CLAVIGER_TEST_FAKE_AZURE_CA").expect("the fake's authority");
    let ca = std::fs::read(file).expect("the fake's authority");
    let url = format!("{url}?api-version=7.4");
    call(method, &url, Some(ca), ("authorization", "Bearer owner"), body).await
}

async fn at_openbao(bench: &Bench, id: &str, act: &str, body: Value) -> Value {
    let (prefix, ca) = if bench.entry.name == "openbao-tls" {
        let folder = openbao("TLS_FOLDER").expect("a folder");
        ("TLS_", Some(std::fs::read(format!("{folder}/ca.pem")).expect("an authority")))
    } else {
        ("", None)
    };
    let variable = |name: &str| openbao(&format!("{prefix}{name}")).expect("a server");
    let (mount, name) = id.rsplit_once('/').expect("mount and name");
    let url = format!("{}/v1/{mount}/keys/{name}/{act}", variable("ADDRESS"));
    call(Method::POST, &url, ca, ("x-vault-token", &variable("TOKEN")), body).await
}

/// A call that must succeed.
async fn call(method: Method, url: &str, ca: Option<Vec<u8>>, (header, credential): (&str, &str), body: Value) -> Value {
    let trusted = ca.map(|pem| Certificate::from_pem(&pem).expect("a certificate"));
    let client = reqwest::Client::builder().no_proxy().tls_certs_only(trusted);
    let mut request = client.build().expect("a client").request(method, url).header(header, credential);
    if !body.is_null() {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
