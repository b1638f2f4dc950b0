//! Where Azure's vaults are: the clouds, their two key services, and who logs in there.

/// Which of Azure's two key services a vault belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Key Vault: RSA keys, in software or in a shared HSM.
    KeyVault,
    /// Managed HSM: RSA and AES keys in an HSM of the customer's own.
    ManagedHsm,
}

impl Service {
    pub(crate) const ALL: [Self; 2] = [Self::KeyVault, Self::ManagedHsm];

    /// Its name for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KeyVault => "Azure Key Vault",
            Self::ManagedHsm => "Azure Managed HSM",
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

    /// What the host of every vault of the service ends in. It is also the host of the resource
    /// that tokens are made out to.
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

    /// Where its directories give out tokens.
    pub(crate) const fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com/",
            Self::UsGovernment => "https://login.microsoftonline.us/",
            Self::China => "https://login.chinacloudapi.cn/",
        }
    }

    /// Other names of the same authority, which a vault's challenge may tell.
    pub(crate) const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Public => &["https://login.windows.net/", "https://sts.windows.net/"],
            Self::UsGovernment => &["https://login-us.microsoftonline.com/"],
            Self::China => &["https://login.partner.microsoftonline.cn/"],
        }
    }
}
