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
    /// The URLs of its vaults, with their services.
    pub(crate) fn vaults(&self) -> impl Iterator<Item = (Service, &str)> {
        let vaults = self.vaults.iter().map(|address| (Service::KeyVault, address.as_str()));
        vaults.chain(self.managed_hsms.iter().map(|address| (Service::ManagedHsm, address.as_str())))
    }
}
