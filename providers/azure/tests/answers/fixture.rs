//! What the cases have in common.

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
        spec,
        adopt: adopt.map(str::to_owned),
    }
}

pub fn kek(key: &KeyDescription) -> Kek {
    key.kek(KeyId::random()).unwrap()
}

/// A key that the gateway makes; the version that wraps.
pub async fn made(provider: &impl Provider, spec: KeySpec) -> Kek {
    kek(&provider.create_key(&cx(), &request(spec, None)).await.unwrap())
}

/// A call of the vault's owner.
pub async fn owner(bench: &Bench, method: &str, url: &str, body: Value) -> Value {
    // Whoever asks is not the connection: the fake's own way, without its faults.
    bench.fake.access().permit("the-owners", ALL);
    let ca = reqwest::Certificate::from_pem(bench.fake.ca_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
    let answer = client
        .request(method.parse().unwrap(), format!("{url}?api-version=7.4"))
        .bearer_auth("the-owners")
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{method} {url}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// All that an owner may.
pub const ALL: &[&str] = &["get", "list", "create", "import", "update", "delete", "recover", "purge", "rotate"];

/// A key of the owner's, with the tag of the tenant in [`cx`] and what else is given; its name.
pub async fn owners_key(bench: &Bench, url: &str, more: Value) -> String {
    let mut body = json!({"kty": "RSA", "key_size": 3072, "tags": {"claviger-tenant": cx().tenant.to_string()}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let name = format!("theirs-{}", KeyId::random());
    owner(bench, "POST", &format!("{url}/keys/{name}/create"), body).await;
    name
}

/// Switches a fault on for paths with these words.
pub fn fault(bench: &Bench, path: &str, act: Act) {
    bench.fake.switches().faults.set(vec![Fault::always(path, act)]);
}

pub fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Act {
    Act::Respond {
        status,
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

/// How often something with these words in its path was asked for.
pub fn asked(bench: &Bench, method: &str, path: &str) -> usize {
    bench.fake.switches().journal.count(method, path)
}
