//! A scripted server for KMS and STS, and a connection to it.

use std::sync::{Arc, Once};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{
    Algorithm, BackgroundCalls, BoundContext, ConnectionParts, Error, Factory, Kek, KeyId, KeySpec, OpContext, ProviderKeyRef,
    SettingsOrigin, SeverSwitch, Wrapped,
};
use claviger_provider_aws::{AwsFactory, AwsProvider, Endpoints};
use claviger_testkit::connection::parts;
pub use claviger_testkit::connection::{EXTERNAL_ID, TENANT};
use serde_json::{Value, json};
use wiremock::matchers::{any, body_string_contains, header};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

pub const REGION: &str = "eu-central-1";
pub const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
pub const OTHER: &str = "arn:aws:kms:eu-central-1:111122223333:key/99999999-12ab-34cd-56ef-1234567890ab";
pub const ROLE: &str = "arn:aws:iam::111122223333:role/claviger";
pub fn access_key() -> Value {
    json!({"static": {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "topsecret"}})
}

pub fn role() -> Value {
    json!({"assume_role": {"role_arn": ROLE, "base": access_key()}})
}

/// A connection from the operator's configuration to a server.
pub async fn connect(server: &MockServer, auth: Value) -> AwsProvider {
    connect_to(&server.uri(), auth).await
}

pub async fn connect_to(address: &str, auth: Value) -> AwsProvider {
    let endpoints = Endpoints {
        kms: Some(address.to_owned()),
        sts: Some(address.to_owned()),
    };
    let settings = json!({"region": REGION, "auth": auth});
    let egress = Egress::new(EgressPolicy::default());
    provider(endpoints, egress, SettingsOrigin::Operator, &settings).await.unwrap()
}

/// A connection with these settings.
pub async fn provider(endpoints: Endpoints, egress: Egress, origin: SettingsOrigin, settings: &Value) -> Result<AwsProvider, Error> {
    observed(endpoints, egress, origin, settings, None).await
}

/// The same, whose background calls are reported to `background`.
pub async fn observed(
    endpoints: Endpoints,
    egress: Egress,
    origin: SettingsOrigin,
    settings: &Value,
    background: Option<Arc<dyn BackgroundCalls>>,
) -> Result<AwsProvider, Error> {
    severable(endpoints, egress, origin, settings, background, SeverSwitch::default()).await
}

/// The same, with the connection's switch.
pub async fn severable(
    endpoints: Endpoints,
    egress: Egress,
    origin: SettingsOrigin,
    settings: &Value,
    background: Option<Arc<dyn BackgroundCalls>>,
    switch: SeverSwitch,
) -> Result<AwsProvider, Error> {
    static STACK: Once = Once::new();
    STACK.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
    let factory = AwsFactory::new(endpoints, egress);
    let parsed = factory.parse(&settings.to_string(), origin).unwrap();
    let parts = ConnectionParts {
        background,
        switch,
        ..parts(&parsed.public, parsed.secrets)
    };
    factory.provider(parts).await
}

pub fn cx() -> OpContext {
    OpContext::for_system("test", TENANT, Duration::from_secs(30))
}

pub fn context() -> BoundContext {
    let pairs = [
        ("claviger:tenant".to_owned(), TENANT.to_string()),
        ("table".to_owned(), "orders".to_owned()),
    ];
    BoundContext::new(pairs.into(), b"not what AWS is sent".to_vec())
}

pub fn kek(id: &str, spec: KeySpec) -> Kek {
    Kek {
        key: ProviderKeyRef {
            id: id.to_owned(),
            version: String::new(),
        },
        spec,
        id: KeyId::from_bytes([5; 16]),
    }
}

pub fn aes() -> Kek {
    kek(ARN, KeySpec::Aes256)
}

pub fn wrapped() -> Wrapped {
    Wrapped {
        key: aes().key,
        algorithm: Algorithm::ProviderOpaque,
        ciphertext: b"blob".to_vec(),
        key_material: None,
        upstream_request_id: None,
    }
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// A refusal of KMS.
pub fn refusal(code: &str) -> ResponseTemplate {
    refusal_with(400, code)
}

pub fn refusal_with(status: u16, code: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({"__type": code, "message": "for the log"}))
}

pub fn answer(body: Value) -> ResponseTemplate {
    ResponseTemplate::new(200)
        .insert_header("x-amzn-requestid", "id-of-the-call")
        .set_body_json(body)
}

/// The metadata of a key in DescribeKey, with changes.
pub fn metadata(arn: &str, changes: &Value) -> Value {
    let mut key = json!({
        "Arn": arn, "KeyId": arn.rsplit('/').next(), "AWSAccountId": "111122223333", "CreationDate": 1_700_000_000.5, "Enabled": true,
        "KeyState": "Enabled", "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT", "KeyManager": "CUSTOMER", "Origin": "AWS_KMS",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "MultiRegion": false,
    });
    for (name, value) in changes.as_object().unwrap() {
        key[name] = value.clone();
    }
    json!({"KeyMetadata": key})
}

/// Answers DescribeKey with the metadata of the key [`ARN`].
pub async fn describe_key(server: &MockServer) {
    let response = answer(metadata(ARN, &json!({})));
    kms("DescribeKey").respond_with(response).mount(server).await;
}

/// A mock of one KMS operation.
pub fn kms(operation: &str) -> wiremock::MockBuilder {
    Mock::given(header("x-amz-target", format!("TrentService.{operation}").as_str()))
}

/// A mock of one STS action.
pub fn sts(action: &str) -> wiremock::MockBuilder {
    Mock::given(body_string_contains(format!("Action={action}&")))
}

/// The response of AssumeRole with a session.
pub fn session(name: &str) -> ResponseTemplate {
    session_until(name, "2099-01-01T00:00:00Z")
}

/// The response of AssumeRole with a session that ends at this time.
pub fn session_until(name: &str, end: &str) -> ResponseTemplate {
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
         <AccessKeyId>ASIA{name}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token-{name}</SessionToken>\
         <Expiration>{end}</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId>\
         <Arn>arn:aws:sts::111122223333:assumed-role/claviger/x</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"
    );
    ResponseTemplate::new(200).set_body_raw(body, "text/xml")
}

/// A refusal of STS.
pub fn sts_refusal(code: &str) -> ResponseTemplate {
    let body = format!("<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>");
    ResponseTemplate::new(403).set_body_raw(body, "text/xml")
}

/// A server with this response to every call.
pub async fn always(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::builder().start().await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

/// The bodies of the calls of one KMS operation.
pub async fn calls(server: &MockServer, operation: &str) -> Vec<Value> {
    let target = format!("TrentService.{operation}");
    let requests = server.received_requests().await.unwrap();
    let meant = |request: &&Request| request.headers.get("x-amz-target").is_some_and(|value| value == target.as_str());
    requests
        .iter()
        .filter(meant)
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect()
}

/// The forms of the calls of one STS action.
pub async fn sts_calls(server: &MockServer, action: &str) -> Vec<String> {
    let requests = server.received_requests().await.unwrap();
    let bodies = requests.iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
    bodies.filter(|body| body.starts_with(&format!("Action={action}&"))).collect()
}
