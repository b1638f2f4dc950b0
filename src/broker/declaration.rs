//! The objects that the operator's configuration declares, with the settings of connections resolved.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::{ProviderKind, Secret};

use crate::config::declared::{Key, Settings, Tenant};
use crate::store::model::{DeclaredRow, Releasable};

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

impl Declaration {
    /// The declared objects that can be released once they are removed from the configuration.
    pub(super) fn rows(&self) -> BTreeSet<DeclaredRow> {
        let row = |kind, tenant: &String, name: &String| DeclaredRow {
            kind,
            tenant: tenant.clone(),
            name: name.clone(),
        };
        let connections = self.connections.iter();
        let connections = connections.map(|declared| row(Releasable::Connection, &declared.tenant, &declared.name));
        let keys = self
            .keys
            .iter()
            .map(|declared| row(Releasable::Key, &declared.tenant, &declared.name));
        connections.chain(keys).collect()
    }
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

/// Why the settings of a declared connection lack a secret that can be used, for the operator: it names the file, and
/// nothing of what is in it.
#[derive(Debug, Clone)]
pub struct MissingSecret(pub String);
