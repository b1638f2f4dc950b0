//! The real server, and what its administrator does to it.

use std::time::{Duration, Instant};

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{BoundContext, Factory, Kek, KeyDescription, KeyId, KeyRequest, KeySpec, OpContext, SettingsOrigin, TenantId};
use claviger_provider_vault::{VaultFactory, VaultProvider};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// Its address and root token.
#[derive(Default)]
pub struct Server {
    pub address: String,
    pub token: String,
}

impl Server {
    pub fn from_environment() -> Option<Self> {
        Some(Self {
            address: std::env::var("CLAVIGER_TEST_OPENBAO_ADDRESS").ok()?,
            token: std::env::var("CLAVIGER_TEST_OPENBAO_TOKEN").ok()?,
        })
    }

    /// A connection with this token to the engine that `start` made.
    pub fn connect(&self, token: &str) -> VaultProvider {
        self.connect_with(json!({"auth": {"token": token}}))
    }

    /// A connection with these settings and the server's address.
    pub fn connect_with(&self, mut settings: Value) -> VaultProvider {
        settings["address"] = json!(self.address);
        let policy = EgressPolicy {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            allow_plain_http: true,
        };
        let factory = VaultFactory::new(Egress::new(policy));
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        factory.provider(&parsed.public, parsed.secrets).unwrap()
    }

    /// A call of the administrator's; its status and data.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(&self.token, None, method, path, body).await
    }

    pub async fn call(&self, token: &str, namespace: Option<&str>, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let client = Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut request = client
            .request(
                Method::from_bytes(method.as_bytes()).unwrap(),
                format!("{}/v1/{path}", self.address),
            )
            .header("x-vault-token", token);
        if let Some(namespace) = namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// A call that must succeed; its whole answer.
    pub async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.admin(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// A token with these policies alone.
    pub async fn token(&self, policies: &[&str], more: Value) -> String {
        let mut body = json!({"policies": policies, "no_default_policy": true, "no_parent": true});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let answer = self.done("POST", "auth/token/create", body).await;
        answer["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    pub async fn policy(&self, name: &str, policy: &str) {
        self.done("POST", &format!("sys/policies/acl/{name}"), json!({"policy": policy}))
            .await;
    }
}

/// A name that no other case has.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", KeyId::random())
}

pub fn cx() -> OpContext {
    OpContext {
        request_id: "test".to_owned(),
        tenant: TenantId::random(),
        actor: "system".to_owned(),
        deadline: Instant::now() + Duration::from_secs(30),
    }
}

pub fn context() -> BoundContext {
    BoundContext::new(
        [("table".to_owned(), "orders".to_owned())].into(),
        b"\xa1\x65table\x66orders".to_vec(),
    )
}

pub fn new_key(adopt: Option<&str>) -> KeyRequest {
    KeyRequest {
        key_id: KeyId::random(),
        spec: KeySpec::Aes256,
        adopt: adopt.map(str::to_owned),
    }
}

pub fn primary(key: &KeyDescription) -> Kek {
    key.kek(KeyId::random()).unwrap()
}
