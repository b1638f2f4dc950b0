//! The real server, and the calls of its administrator.

use std::path::PathBuf;
use std::sync::Arc;

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ConnectionParts, Factory, SecretFiles, SettingsOrigin};
use claviger_provider_vault::{VaultFactory, VaultProvider};
use claviger_testkit::connection::parts;
pub use claviger_testkit::values::{context, cx, new_aes_key as new_key, primary, unique};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// A server's address and root token.
#[derive(Default)]
pub struct Server {
    pub address: String,
    pub token: String,
    /// The folder with the certificates of the server with TLS.
    folder: Option<PathBuf>,
}

impl Server {
    /// The dev server.
    pub fn dev() -> Option<Self> {
        Some(Self {
            address: std::env::var("CLAVIGER_TEST_OPENBAO_ADDRESS").ok()?,
            token: std::env::var("CLAVIGER_TEST_OPENBAO_TOKEN").ok()?,
            folder: None,
        })
    }

    /// The server with TLS and storage.
    pub fn tls() -> Option<Self> {
        Some(Self {
            address: std::env::var("CLAVIGER_TEST_OPENBAO_TLS_ADDRESS").ok()?,
            token: std::env::var("CLAVIGER_TEST_OPENBAO_TLS_TOKEN").ok()?,
            folder: Some(std::env::var("CLAVIGER_TEST_OPENBAO_TLS_FOLDER").ok()?.into()),
        })
    }

    /// Whether it speaks TLS.
    pub fn is_encrypted(&self) -> bool {
        self.folder.is_some()
    }

    /// A file of the server with TLS.
    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.as_ref().unwrap().join(name)).unwrap()
    }

    /// A connection with this token to the engine that `start` created.
    pub fn connect(&self, token: &str) -> VaultProvider {
        self.connect_with(json!({"auth": {"token": token}}))
    }

    /// A connection with these settings. Address and CA certificates default to the server's.
    pub fn connect_with(&self, settings: Value) -> VaultProvider {
        self.connect_from(settings, None)
    }

    /// The same, whose secrets are in files.
    pub fn connect_from(&self, mut settings: Value, files: Option<Arc<dyn SecretFiles>>) -> VaultProvider {
        if settings["address"].is_null() {
            settings["address"] = json!(self.address);
        }
        if self.folder.is_some() && !settings.as_object().unwrap().contains_key("ca") {
            settings["ca"] = json!(self.file("ca.pem"));
        }
        settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let policy = EgressPolicy {
            allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            allow_plain_http: true,
        };
        let factory = VaultFactory::new(Egress::new(policy));
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        let parts = ConnectionParts {
            files,
            ..parts(&parsed.public, parsed.secrets)
        };
        factory.provider(parts).unwrap()
    }

    /// A call of the administrator; returns its status and data.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(&self.token, None, method, path, body).await
    }

    pub async fn call(&self, token: &str, namespace: Option<&str>, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let headers: Vec<_> = namespace.map(|namespace| ("x-vault-namespace", namespace)).into_iter().collect();
        self.send(token, &headers, method, path, body).await
    }

    async fn send(&self, token: &str, headers: &[(&str, &str)], method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let authorities = self.folder.as_ref().map(|_| self.file("ca.pem"));
        let authorities = authorities.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
        let client = Client::builder().no_proxy().tls_certs_only(authorities).build().unwrap();
        let mut request = client
            .request(
                Method::from_bytes(method.as_bytes()).unwrap(),
                format!("{}/v1/{path}", self.address),
            )
            .header("x-vault-token", token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// A call of the administrator whose response the server wraps in a token.
    pub async fn wrapped(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(&self.token, &[("x-vault-wrap-ttl", "60s")], method, path, body).await
    }

    /// A call that must succeed; returns its complete response.
    pub async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.admin(method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// A token with these policies only.
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
