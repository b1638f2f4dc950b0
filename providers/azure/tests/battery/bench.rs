//! A fake, and connections to it.

use claviger_fake_azure::{Application, DIRECTORY, FakeAzure};
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ConnectionId, ConnectionParts, Factory, SettingsOrigin, TenantId};
use claviger_provider_azure::{AzureFactory, AzureProvider, Installation};
use serde_json::{Value, json};

pub const CLIENT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
pub const SECRET: &str = "the-applications-secret";

/// What a connection leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Vault,
    /// With keys in its HSM.
    VaultHsm,
    Hsm,
    /// With AES-GCM instead of AES key wrap.
    HsmGcm,
}

pub struct Bench {
    pub fake: FakeAzure,
}

/// Loopback, as an operator allows it.
pub fn egress() -> Egress {
    Egress::new(EgressPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        allow_plain_http: false,
    })
}

/// An application with a secret.
pub fn client_secret() -> Value {
    json!({"client_secret": {"directory": DIRECTORY, "client_id": CLIENT, "secret": SECRET}})
}

impl Bench {
    /// With an application that the directory knows.
    pub async fn start() -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let fake = FakeAzure::start().await.unwrap();
        let application = Application {
            secrets: vec![SECRET.to_owned()],
            ..Application::default()
        };
        fake.access().register(CLIENT, application);
        fake.access().strict(true);
        Self { fake }
    }

    pub fn installation(&self) -> Installation {
        Installation {
            vaults: vec![self.fake.url()],
            managed_hsms: vec![self.fake.hsm_url()],
            authority: Some(self.fake.url()),
            application: None,
        }
    }

    pub fn settings(&self, place: Place, auth: Value) -> Value {
        let mut settings = json!({"vault": self.fake.url(), "ca": self.fake.ca_pem(), "auth": auth});
        match place {
            Place::Vault => {}
            Place::VaultHsm => settings["hsm"] = json!(true),
            Place::Hsm => settings["vault"] = json!(self.fake.hsm_url()),
            Place::HsmGcm => {
                settings["vault"] = json!(self.fake.hsm_url());
                settings["aes_algorithm"] = json!("A256GCM");
            }
        }
        settings
    }

    pub fn connect(&self, place: Place) -> AzureProvider {
        self.connect_as(&self.installation(), &self.settings(place, client_secret()), SettingsOrigin::Tenant)
    }

    pub fn connect_as(&self, installation: &Installation, settings: &Value, origin: SettingsOrigin) -> AzureProvider {
        let factory = AzureFactory::new(installation.clone(), egress());
        let parsed = factory.parse(&settings.to_string(), origin).unwrap();
        let parts = ConnectionParts {
            tenant: TenantId::random(),
            connection: ConnectionId::random(),
            external_id: "0123456789abcdef0123456789abcdef",
            settings: &parsed.public,
            secrets: parsed.secrets,
            background: None,
        };
        factory.provider(parts).unwrap()
    }
}
