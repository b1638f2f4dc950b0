//! Connections that the operator's configuration declares, and whose secret files cannot be read. Such
//! a connection does not keep the gateway from serving everybody else.

use claviger_provider::TenantId;
use dashmap::DashSet;

use super::declaration::DeclaredConnection;
use super::{Broker, Code, Failure};
use crate::store::model::Connection;

/// The connections that lack a secret file now, by tenant and name.
#[derive(Default)]
pub(super) struct Degraded(DashSet<(TenantId, String)>);

impl Degraded {
    /// A connection has its secrets again.
    pub(super) fn end(&self, tenant: TenantId, name: &str) {
        if !self.0.is_empty() {
            self.0.remove(&(tenant, name.to_owned()));
        }
    }

    fn contains(&self, tenant: TenantId, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&(tenant, name.to_owned()))
    }
}

const ADVICE: &str = "Ask the operator to provide the file, which the gateway's log names. The gateway looks for it every 5 seconds.";

impl Broker {
    /// Notes that a declared connection lacks a secret file, until it is declared with it.
    ///
    /// # Errors
    /// When its tenant does not exist, or the store fails.
    pub async fn lacks_secret(&self, declared: &DeclaredConnection) -> Result<(), Failure> {
        let tenant = self.declared_tenant(&declared.tenant).await?;
        self.degraded.0.insert((tenant, declared.name.clone()));
        Ok(())
    }

    /// The number of declared connections that lack a secret file.
    pub fn degraded_connections(&self) -> usize {
        self.degraded.0.len()
    }

    /// What is wrong with a connection, as far as the gateway knows without calling the provider.
    pub fn problem_of(&self, connection: &Connection) -> Option<Failure> {
        if self.degraded.contains(connection.tenant, &connection.name) {
            let detail = "A secret file of the connection, which the operator's configuration names, cannot be read. The connection works \
                          with the secrets that the gateway read before.";
            return Some(Failure::new(Code::ConnectionMisconfigured, detail).advice(ADVICE));
        }
        self.directory.unusable(connection.id).as_ref().map(Failure::from)
    }

    /// The failure for a connection that does not exist, or could not be made yet.
    pub(super) fn no_such_connection(&self, tenant: TenantId, name: &str) -> Option<Failure> {
        self.degraded.contains(tenant, name).then(|| {
            let detail = "The connection is not usable yet: a secret file that the operator's configuration names cannot be read.";
            Failure::new(Code::ConnectionMisconfigured, detail).advice(ADVICE)
        })
    }
}
