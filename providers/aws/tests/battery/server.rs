//! The emulators of AWS, and connections to them.

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{BoundContext, ConnectionParts, DekId, Factory, SettingsOrigin, TenantId};
use claviger_provider_aws::{AwsFactory, AwsProvider, Endpoints};
pub use claviger_testkit::connection::new_key;
use claviger_testkit::connection::parts;
pub use claviger_testkit::values::{cx, primary};
use serde_json::{Value, json};

pub const REGION: &str = "eu-central-1";

/// Neither server checks signatures.
pub fn access_key() -> Value {
    json!({"static": {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "secret"}})
}

/// An emulator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Moto,
    LocalStack,
}

impl Server {
    pub const ALL: [Self; 2] = [Self::Moto, Self::LocalStack];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Moto => "moto",
            Self::LocalStack => "localstack",
        }
    }

    /// The address from `tests/backends/aws/start`, if it is running.
    pub fn address(self) -> Option<String> {
        let variable = format!("CLAVIGER_TEST_{}_ADDRESS", self.name().to_uppercase());
        std::env::var(variable).ok()
    }

    /// A connection with an access key that the server accepts.
    pub async fn connect(self) -> AwsProvider {
        self.connect_with(access_key(), REGION).await
    }

    pub async fn connect_with(self, auth: Value, region: &str) -> AwsProvider {
        self.connect_at(self.address().expect("the server's address"), auth, region).await
    }

    /// As [`Server::connect_with`], by way of this URL.
    pub async fn connect_at(self, address: String, auth: Value, region: &str) -> AwsProvider {
        let endpoints = Endpoints {
            kms: Some(address.clone()),
            sts: Some(address),
        };
        let factory = AwsFactory::new(endpoints, Egress::new(EgressPolicy::default()));
        let settings = json!({"region": region, "auth": auth});
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Operator).unwrap();
        let parts = ConnectionParts {
            tenant: TenantId::random(),
            ..parts(&parsed.public, parsed.secrets)
        };
        factory.provider(parts).await.unwrap()
    }
}

impl Server {
    /// A call of the account's owner. These servers need no signature.
    pub async fn owner(self, region: &str, operation: &str, body: Value) -> Value {
        let scope = format!("Credential=AKIAIOSFODNN7EXAMPLE/20260101/{region}/kms/aws4_request");
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let request = client
            .post(self.address().expect("the server's address"))
            .header("x-amz-target", format!("TrentService.{operation}"))
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"),
            )
            .header("content-type", "application/x-amz-json-1.1")
            .body(body.to_string());
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{operation}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Creates a key as the owner; returns its description.
    pub async fn owners_key(self, body: Value) -> Value {
        self.owner(REGION, "CreateKey", body).await["KeyMetadata"].clone()
    }
}

pub fn context() -> BoundContext {
    let pairs = [
        ("claviger:dek".to_owned(), DekId::random().to_string()),
        ("table".to_owned(), "orders".to_owned()),
    ];
    BoundContext::new(pairs.into(), b"\xa1\x65table\x66orders".to_vec())
}
