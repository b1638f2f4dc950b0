//! The objects that the operator's configuration declares, with the settings of connections resolved.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::{ProviderKind, Secret};

use crate::config::declared::{Key, Settings, Tenant};

/// All declared objects.
#[derive(Debug, Clone, Default)]
pub struct Declaration {
    /// Tenants.
    pub tenants: Vec<Tenant>,
    /// Connections, one for each tenant that shares it.
    pub connections: Vec<DeclaredConnection>,
    /// Keys.
    pub keys: Vec<Key>,
}

/// Reads the declaration, each time anew.
#[async_trait]
pub trait Declarations: Send + Sync + 'static {
    /// Reads the declaration.
    ///
    /// # Errors
    /// Why the configuration is invalid, as text for the operator without any of its values.
    async fn read(&self) -> Result<Declaration, String>;
}

/// A declared connection of one tenant.
#[derive(Debug, Clone)]
pub struct DeclaredConnection {
    /// Name of the tenant.
    pub tenant: String,
    /// Unique in the tenant.
    pub name: String,
    /// The provider.
    pub provider: ProviderKind,
    /// The provider's settings as JSON, secrets included.
    pub settings: Result<Arc<Secret>, MissingSecret>,
    /// The settings as they are declared, with the names of their files.
    pub source: Settings,
}

/// Why the settings of a declared connection lack a secret, for the operator: it names the file.
#[derive(Debug, Clone)]
pub struct MissingSecret(pub String);
