//! A fake, and connections to it.

use claviger_fake_xks::{AccessKey, FakeXks, Transport};
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{Factory, SettingsOrigin};
use claviger_provider_xks::{XksFactory, XksProvider};
use claviger_testkit::connection::parts;
use serde_json::{Value, json};

/// The region of the fake.
pub const REGION: &str = "eu-central-1";
/// The budget of a call where a slow machine must not end it.
pub const AMPLE_MS: u64 = 10_000;

pub struct Bench {
    pub fake: FakeXks,
}

/// A factory whose egress policy allows loopback.
pub fn factory() -> XksFactory {
    XksFactory::new(Egress::new(EgressPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        allow_plain_http: true,
    }))
}

/// The setting `auth` with this access key.
pub fn auth(key: &AccessKey) -> Value {
    json!({"sigv4": {"access_key_id": key.id, "secret_access_key": key.secret}})
}

impl Bench {
    /// Starts a fake.
    pub async fn start(transport: Transport, prefix: &str) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        Self {
            fake: FakeXks::start(transport, prefix).await.unwrap(),
        }
    }

    /// The settings of a connection to the fake, at this address.
    pub fn settings_at(&self, address: &str, ca: Option<&str>) -> Value {
        let mut settings = json!({
            "address": address, "region": REGION, "budget_ms": AMPLE_MS, "auth": auth(&AccessKey::first()),
        });
        if let Some(ca) = ca {
            settings["ca"] = json!(ca);
        }
        settings
    }

    /// The settings of a connection to the fake, with a client certificate if it needs one.
    pub fn settings(&self) -> Value {
        let mut settings = self.settings_at(&self.fake.url(), self.fake.tls().map(|tls| tls.ca_pem()));
        if let Some(tls) = self.fake.tls() {
            let (certificate, key) = tls.client_certificate("claviger").unwrap();
            settings["auth"]["sigv4"]["client_certificate"] = json!({"certificate": certificate, "key": key});
        }
        settings
    }
}

/// A connection with these settings.
pub fn connect(settings: &Value) -> XksProvider {
    let parsed = factory().parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
    factory().provider(parts(&parsed.public, parsed.secrets)).unwrap()
}
