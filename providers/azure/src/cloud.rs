//! Azure's clouds, their two key services, and their token endpoints.

use claviger_provider::KeySpec;

/// One of Azure's two key services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Key Vault: RSA keys, in software or in a shared HSM.
    KeyVault,
    /// Managed HSM: RSA and AES keys in an HSM of the customer's own.
    ManagedHsm,
}

impl Service {
    pub(crate) const ALL: [Self; 2] = [Self::KeyVault, Self::ManagedHsm];

    /// The product's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KeyVault => "Azure Key Vault",
            Self::ManagedHsm => "Azure Managed HSM",
        }
    }

    /// Whether it has keys of this specification.
    pub(crate) const fn has(self, spec: KeySpec) -> bool {
        match (self, spec) {
            (Self::ManagedHsm, _) | (Self::KeyVault, KeySpec::Rsa3072 | KeySpec::Rsa4096) => true,
            (Self::KeyVault, KeySpec::Aes256) => false,
        }
    }
}

/// One of Azure's clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    Public,
    UsGovernment,
    China,
}

impl Cloud {
    pub(crate) const ALL: [Self; 3] = [Self::Public, Self::UsGovernment, Self::China];

    /// The host suffix of the service's vaults, which is also the host of the resource that tokens
    /// are issued for.
    pub(crate) const fn suffix(self, service: Service) -> &'static str {
        match (self, service) {
            (Self::Public, Service::KeyVault) => "vault.azure.net",
            (Self::Public, Service::ManagedHsm) => "managedhsm.azure.net",
            (Self::UsGovernment, Service::KeyVault) => "vault.usgovcloudapi.net",
            (Self::UsGovernment, Service::ManagedHsm) => "managedhsm.usgovcloudapi.net",
            (Self::China, Service::KeyVault) => "vault.azure.cn",
            (Self::China, Service::ManagedHsm) => "managedhsm.azure.cn",
        }
    }

    /// The authority: the base URL of the token endpoints of its directories.
    pub(crate) const fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com/",
            Self::UsGovernment => "https://login.microsoftonline.us/",
            Self::China => "https://login.chinacloudapi.cn/",
        }
    }

    /// Other URLs of the same authority, which a vault's challenge may name.
    pub(crate) const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Public => &["https://login.windows.net/", "https://sts.windows.net/"],
            Self::UsGovernment => &["https://login-us.microsoftonline.com/"],
            Self::China => &["https://login.partner.microsoftonline.cn/"],
        }
    }
}
