//! Helpers of the cases.

use std::time::Duration;

use claviger_fake::{Act, Fault};
use claviger_provider::{BoundContext, Kek, KeyDescription, KeyId, KeyRequest, KeySpec, OpContext, Provider, TenantId};
use serde_json::{Value, json};

use crate::bench::Bench;

pub fn cx() -> OpContext {
    OpContext::for_system("test", "0a".repeat(16).parse::<TenantId>().unwrap(), Duration::from_secs(30))
}

pub fn context() -> BoundContext {
    BoundContext::new(
        [("table".to_owned(), "orders".to_owned())].into(),
        b"\xa1\x65table\x66orders".to_vec(),
    )
}

pub fn request(spec: KeySpec, adopt: Option<&str>) -> KeyRequest {
    KeyRequest {
        key_id: KeyId::random(),
        made_as: KeyId::random(),
        repeated: false,
        spec,
        adopt: adopt.map(str::to_owned),
        taken: false,
    }
}

pub fn kek(key: &KeyDescription) -> Kek {
    key.kek(KeyId::random()).unwrap()
}

/// Creates a key and returns its primary version.
pub async fn made(provider: &impl Provider, spec: KeySpec) -> Kek {
    kek(&provider.create_key(&cx(), &request(spec, None)).await.unwrap())
}

/// A call as the vault's owner.
pub async fn owner(bench: &Bench, method: &str, url: &str, body: Value) -> Value {
    // A token with all permissions, other than the connection's.
    bench.fake.access().permit("the-owners", ALL);
    let ca = reqwest::Certificate::from_pem(bench.fake.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let response = client
        .request(method.parse().unwrap(), format!("{url}?api-version=7.4"))
        .bearer_auth("the-owners")
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{method} {url}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// The permissions of an owner.
pub const ALL: &[&str] = &["get", "list", "create", "import", "update", "delete", "recover", "purge", "rotate"];

/// Creates a key as the owner, with the tag of the tenant in [`cx`] and `more`; returns its name.
pub async fn owners_key(bench: &Bench, url: &str, more: Value) -> String {
    let mut body = json!({"kty": "RSA", "key_size": 3072, "tags": {"claviger-tenant": cx().tenant.to_string()}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let name = format!("theirs-{}", KeyId::random());
    owner(bench, "POST", &format!("{url}/keys/{name}/create"), body).await;
    name
}

/// Injects a fault for paths that contain `path`.
pub fn fault(bench: &Bench, path: &str, act: Act) {
    bench.fake.switches().faults.set(vec![Fault::always(path, act)]);
}

pub fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Act {
    Act::Respond {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

/// The number of requests whose path contains `path`.
pub fn requests(bench: &Bench, method: &str, path: &str) -> usize {
    bench.fake.switches().journal.count(method, path)
}
