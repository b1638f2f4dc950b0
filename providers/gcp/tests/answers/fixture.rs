//! A mock server for Cloud KMS, and connections to it.

use std::sync::{Arc, Once};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::{
    Algorithm, BackgroundCalls, BoundContext, ConnectionParts, Factory, Kek, KeyId, KeySpec, OpContext, ProviderKeyRef, SettingsOrigin,
    SeverSwitch, Wrapped,
};
use claviger_provider_gcp::{Endpoints, GcpFactory, GcpProvider};
use claviger_testkit::connection::{TENANT, parts};
use serde_json::{Value, json};
use wiremock::matchers::{any, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

pub const RING: &str = "projects/p/locations/global/keyRings/r";
pub const KEY: &str = "projects/p/locations/global/keyRings/r/cryptoKeys/k";

/// The audience of a workload identity pool's provider.
pub const AUDIENCE: &str = "//iam.googleapis.com/projects/12/locations/global/workloadIdentityPools/pool/providers/own";

pub async fn connect(server: &MockServer) -> GcpProvider {
    connect_with(&server.uri(), json!({"auth": {"token": "ya29.topsecret"}})).await
}

pub async fn connect_with(address: &str, more: Value) -> GcpProvider {
    connect_observed(address, more, None).await
}

/// As [`connect_with`], with an observer of the connection's background calls.
pub async fn connect_observed(address: &str, more: Value, background: Option<Arc<dyn BackgroundCalls>>) -> GcpProvider {
    connect_severable(address, more, background, SeverSwitch::default()).await
}

/// As [`connect_observed`], with the connection's switch.
pub async fn connect_severable(
    address: &str,
    more: Value,
    background: Option<Arc<dyn BackgroundCalls>>,
    switch: SeverSwitch,
) -> GcpProvider {
    static STACK: Once = Once::new();
    STACK.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
    let endpoints = Endpoints {
        kms: Some(address.to_owned()),
        sts: Some(address.to_owned()),
        iam: Some(address.to_owned()),
    };
    let factory = GcpFactory::new(endpoints, Duration::from_secs(3));
    let mut settings = json!({"key_ring": RING});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
    let parts = ConnectionParts {
        background,
        switch,
        ..parts(&parsed.public, parsed.secrets)
    };
    factory.provider(parts).await.unwrap()
}

/// Responds to every call in this way.
pub async fn always(response: ResponseTemplate) -> MockServer {
    let server = MockServer::builder().start().await;
    Mock::given(any()).respond_with(response).mount(&server).await;
    server
}

/// Responds to calls whose path has this ending.
pub async fn on(server: &MockServer, ending: &str, body: Value) {
    let ending = format!("{}$", ending.replace('.', "\\."));
    let response = ResponseTemplate::new(200).set_body_json(body);
    Mock::given(path_regex(ending)).respond_with(response).mount(server).await;
}

/// An error response in Google's format.
pub fn refusal(status: u16, code: &str, details: Value) -> ResponseTemplate {
    let mut error = json!({"code": status, "status": code, "message": format!("{code} of {KEY}")});
    if !details.is_null() {
        error["details"] = details;
    }
    ResponseTemplate::new(status).set_body_json(json!({"error": error}))
}

pub fn violations(kinds: &[&str]) -> Value {
    let all: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind, "subject": KEY})).collect();
    json!([{"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": all}])
}

pub fn reason(reason: &str) -> Value {
    json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": {}}])
}

pub fn cx() -> OpContext {
    OpContext::for_system("test", TENANT, Duration::from_secs(30))
}

pub fn context() -> BoundContext {
    BoundContext::new([("table".to_owned(), "orders".to_owned())].into(), b"the context".to_vec())
}

pub fn kek(spec: KeySpec) -> Kek {
    Kek {
        key: ProviderKeyRef {
            id: KEY.to_owned(),
            version: "1".to_owned(),
        },
        spec,
        id: KeyId::from_bytes([5; 16]),
    }
}

pub fn wrapped(algorithm: Algorithm) -> Wrapped {
    Wrapped {
        key: kek(KeySpec::Aes256).key,
        algorithm,
        ciphertext: b"blob".to_vec(),
        key_material: None,
        upstream_request_id: None,
    }
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

pub fn crc(bytes: impl AsRef<[u8]>) -> String {
    crc32c::crc32c(bytes.as_ref()).to_string()
}
