//! The kinds of providers, as the API names them.

use claviger_provider::ProviderKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A kind of provider.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is a provider's name")]
pub enum ProviderName {
    Local,
    Aws,
    Gcp,
    Azure,
    Vault,
    Xks,
    Kmip,
    Pkcs11,
}

impl From<ProviderName> for ProviderKind {
    fn from(name: ProviderName) -> Self {
        match name {
            ProviderName::Local => Self::Local,
            ProviderName::Aws => Self::Aws,
            ProviderName::Gcp => Self::Gcp,
            ProviderName::Azure => Self::Azure,
            ProviderName::Vault => Self::Vault,
            ProviderName::Xks => Self::Xks,
            ProviderName::Kmip => Self::Kmip,
            ProviderName::Pkcs11 => Self::Pkcs11,
        }
    }
}

impl From<ProviderKind> for ProviderName {
    fn from(kind: ProviderKind) -> Self {
        match kind {
            ProviderKind::Local => Self::Local,
            ProviderKind::Aws => Self::Aws,
            ProviderKind::Gcp => Self::Gcp,
            ProviderKind::Azure => Self::Azure,
            ProviderKind::Vault => Self::Vault,
            ProviderKind::Xks => Self::Xks,
            ProviderKind::Kmip => Self::Kmip,
            ProviderKind::Pkcs11 => Self::Pkcs11,
        }
    }
}
