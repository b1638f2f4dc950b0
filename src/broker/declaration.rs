//! What the operator's configuration declares, as the broker takes it.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::{KeyId, KeySpec, ProviderKind, Secret, TenantId};

/// Everything that is declared.
#[derive(Debug, Clone, Default)]
pub struct Declaration {
    /// Tenants.
    pub tenants: Vec<DeclaredTenant>,
    /// Connections, one for each tenant that shares it.
    pub connections: Vec<DeclaredConnection>,
    /// Keys.
    pub keys: Vec<DeclaredKey>,
}

/// Reads the declaration, each time anew.
#[async_trait]
pub trait Declarations: Send + Sync + 'static {
    /// Reads the declaration.
    ///
    /// # Errors
    /// What is wrong with it, as text for the operator; it contains no value of the configuration.
    async fn read(&self) -> Result<Declaration, String>;
}

/// A declared tenant.
#[derive(Debug, Clone)]
pub struct DeclaredTenant {
    /// Its name.
    pub name: String,
    /// The id to take.
    pub id: Option<TenantId>,
}

/// A declared connection of one tenant.
#[derive(Debug, Clone)]
pub struct DeclaredConnection {
    /// Its tenant's name.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Which family.
    pub provider: ProviderKind,
    /// Its settings, JSON, secrets included.
    pub settings: Arc<Secret>,
}

/// A declared key.
#[derive(Debug, Clone)]
pub struct DeclaredKey {
    /// Its tenant's name.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Its connection's name.
    pub connection: String,
    /// What it is made of.
    pub spec: KeySpec,
    /// A provider key to adopt.
    pub provider_key: Option<String>,
    /// The id to take.
    pub id: Option<KeyId>,
}
