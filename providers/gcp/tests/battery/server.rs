//! A fake of Google with a key ring, and connections to it.

use std::time::Duration;

use claviger_fake_google::FakeGoogle;
use claviger_provider::{Error, Factory, OpContext, SettingsOrigin};
use claviger_provider_gcp::{Endpoints, GcpFactory, GcpProvider};
pub use claviger_testkit::connection::new_key;
use claviger_testkit::connection::{TENANT, parts};
pub use claviger_testkit::values::{context, primary};
use serde_json::{Value, json};

pub const RING: &str = "projects/acme-1/locations/europe-west3/keyRings/claviger";

/// A fake for one case.
pub struct Server {
    pub fake: FakeGoogle,
}

impl Server {
    pub async fn start() -> Self {
        let fake = FakeGoogle::start().await.unwrap();
        fake.make_ring(RING).unwrap();
        Self { fake }
    }

    /// A connection with a token, which the fake accepts while no accounts are configured.
    pub async fn connect(&self) -> GcpProvider {
        self.connect_with(json!({"auth": {"token": "ya29.token"}})).await.unwrap()
    }

    pub async fn connect_with(&self, more: Value) -> Result<GcpProvider, Error> {
        self.connect_at(&self.fake.url(), more).await
    }

    /// As [`Server::connect_with`], by way of this URL.
    pub async fn connect_at(&self, url: &str, more: Value) -> Result<GcpProvider, Error> {
        let endpoints = Endpoints {
            kms: Some(url.to_owned()),
            sts: Some(url.to_owned()),
            iam: Some(url.to_owned()),
        };
        // Generating RSA keys takes long while other tests run.
        let factory = GcpFactory::new(endpoints, Duration::from_secs(60));
        let mut settings = json!({"key_ring": RING});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
        factory.provider(parts(&parsed.public, parsed.secrets)).await
    }

    /// A call as the key ring's owner, which must succeed; returns the response.
    pub async fn owner(&self, method: &str, path: &str, body: Value) -> Value {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let method = method.parse().unwrap();
        let request = client
            .request(method, format!("{}/v1/{path}", self.fake.url()))
            .bearer_auth("owner");
        let response = request.json(&body).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Creates a key as the owner, with the tenant's label.
    pub async fn owners_key(&self, id: &str, key: Value) -> Value {
        let mut key = key;
        key["labels"] = json!({"claviger-tenant": TENANT.to_string()});
        self.owner("POST", &format!("{RING}/cryptoKeys?cryptoKeyId={id}"), key).await
    }
}

pub fn cx() -> OpContext {
    OpContext::for_system("test", TENANT, Duration::from_secs(120))
}
