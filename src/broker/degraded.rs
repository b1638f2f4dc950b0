//! Connections that the operator's configuration declares, and whose secret files cannot be read or used. Such
//! a connection does not keep the gateway from serving everybody else.

use claviger_provider::TenantId;
use dashmap::DashSet;

/// The connections that lack a usable secret file now, by tenant and name.
#[derive(Default)]
pub(super) struct Degraded(DashSet<(TenantId, String)>);

impl Degraded {
    /// A connection lacks a usable secret file.
    pub(super) fn begin(&self, tenant: TenantId, name: &str) {
        self.0.insert((tenant, name.to_owned()));
    }

    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A connection has its secrets again.
    pub(super) fn end(&self, tenant: TenantId, name: &str) {
        if !self.0.is_empty() {
            self.0.remove(&(tenant, name.to_owned()));
        }
    }

    /// Whether a connection lacks a usable secret file.
    pub(super) fn contains(&self, tenant: TenantId, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&(tenant, name.to_owned()))
    }
}
