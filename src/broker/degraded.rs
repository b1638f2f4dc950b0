//! Connections that the operator's configuration declares, and whose secret files cannot be read or used. Such
//! a connection does not keep the gateway from serving everybody else.

use claviger_provider::TenantId;
use dashmap::DashMap;

/// The connections that lack a usable secret file now, by tenant and name, with the file and what is wrong with it.
#[derive(Default)]
pub(super) struct Degraded(DashMap<(TenantId, String), String>);

impl Degraded {
    /// A connection lacks a usable secret file. `why` names it, for the operator.
    pub(super) fn begin(&self, tenant: TenantId, name: &str, why: &str) {
        self.0.insert((tenant, name.to_owned()), why.to_owned());
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

    /// What is wrong with a connection's secret file; `None` if nothing is.
    pub(super) fn why(&self, tenant: TenantId, name: &str) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(tenant, name.to_owned())).map(|why| why.clone())
    }
}
