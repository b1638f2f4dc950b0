//! The operator's configuration for all connections to Azure.

use std::path::PathBuf;

use crate::cloud::Service;

/// The operator's configuration for all connections to Azure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installation {
    /// URLs of Key Vaults outside of Azure's clouds, such as an emulator's.
    pub vaults: Vec<String>,
    /// URLs of Managed HSMs outside of Azure's clouds.
    pub managed_hsms: Vec<String>,
    /// The authority that issues tokens for these vaults, instead of the public cloud's.
    pub authority: Option<String>,
    /// The resource (audience) of the tokens for these Key Vaults, as their challenges name it,
    /// instead of the public cloud's. Azure calls it `AzureKeyVaultServiceEndpointResourceId`.
    pub vault_resource: Option<String>,
    /// The same for these Managed HSMs.
    pub managed_hsm_resource: Option<String>,
    /// The operator's application, which customers admit to their directories.
    pub application: Option<Application>,
}

/// A multi-tenant application of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The application's client id, a UUID.
    pub client_id: String,
    /// A file with its client secret, read each time a token is requested.
    pub secret_file: PathBuf,
}

impl Installation {
    /// The resource of the tokens for the operator's vaults of a service, if it is configured.
    pub(crate) fn resource(&self, service: Service) -> Option<&str> {
        let resource = match service {
            Service::KeyVault => self.vault_resource.as_deref(),
            Service::ManagedHsm => self.managed_hsm_resource.as_deref(),
        };
        resource.map(|resource| resource.trim_end_matches('/'))
    }

    /// The URLs of its vaults, with their services.
    pub(crate) fn vaults(&self) -> impl Iterator<Item = (Service, &str)> {
        let vaults = self.vaults.iter().map(|address| (Service::KeyVault, address.as_str()));
        vaults.chain(self.managed_hsms.iter().map(|address| (Service::ManagedHsm, address.as_str())))
    }
}
