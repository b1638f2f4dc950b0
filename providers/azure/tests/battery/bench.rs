//! A fake, and connections to it.

use std::sync::Arc;

use claviger_fake_azure::{Application, DIRECTORY, FakeAzure};
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{BackgroundCalls, ConnectionParts, Factory, SettingsOrigin, SeverSwitch, TenantId};
use claviger_provider_azure::{AzureFactory, AzureProvider, Installation};
use claviger_testkit::connection::parts;
use serde_json::{Value, json};

pub const CLIENT: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
pub const SECRET: &str = "the-applications-secret";

/// The vault of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Vault,
    /// A Key Vault with keys in its HSM.
    VaultHsm,
    Hsm,
    /// A Managed HSM with AES-GCM instead of AES key wrap.
    HsmGcm,
}

pub struct Bench {
    pub fake: FakeAzure,
}

/// An egress policy that allows loopback.
pub fn egress() -> Egress {
    Egress::new(EgressPolicy {
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        allow_plain_http: false,
    })
}

/// An application with a secret.
pub fn client_secret() -> Value {
    json!({"client_secret": {"directory": DIRECTORY, "client_id": CLIENT, "secret": SECRET}})
}

impl Bench {
    /// Starts a fake with a registered application.
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
            ..Installation::default()
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
        Self::connect_observed(installation, settings, origin, None)
    }

    /// As [`Bench::connect_as`], with an observer of the connection's background calls.
    pub fn connect_observed(
        installation: &Installation,
        settings: &Value,
        origin: SettingsOrigin,
        background: Option<Arc<dyn BackgroundCalls>>,
    ) -> AzureProvider {
        Self::connect_severable(installation, settings, origin, background, SeverSwitch::default())
    }

    /// As [`Bench::connect_observed`], with the connection's switch.
    pub fn connect_severable(
        installation: &Installation,
        settings: &Value,
        origin: SettingsOrigin,
        background: Option<Arc<dyn BackgroundCalls>>,
        switch: SeverSwitch,
    ) -> AzureProvider {
        let factory = AzureFactory::new(installation.clone(), egress());
        let parsed = factory.parse(&settings.to_string(), origin).unwrap();
        let parts = ConnectionParts {
            tenant: TenantId::random(),
            background,
            switch,
            ..parts(&parsed.public, parsed.secrets)
        };
        factory.provider(parts).unwrap()
    }
}
