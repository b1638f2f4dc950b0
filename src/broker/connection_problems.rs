//! What the gateway knows to be wrong with a connection without calling its provider.

use claviger_provider::TenantId;

use super::declaration::DeclaredConnection;
use super::{Broker, Code, Failure};
use crate::store::model::Connection;

const ADVICE: &str = "Ask the operator to provide the file, which the gateway's log names. The gateway looks for it every 5 seconds.";

impl Broker {
    /// Notes that a declared connection lacks a secret file, until it is declared with it.
    ///
    /// # Errors
    /// When its tenant does not exist, or the store fails.
    pub async fn lacks_secret(&self, declared: &DeclaredConnection) -> Result<(), Failure> {
        let tenant = self.declared_tenant(&declared.tenant).await?;
        self.degraded.begin(tenant, &declared.name);
        Ok(())
    }

    /// The number of declared connections that lack a secret file.
    pub fn degraded_connections(&self) -> usize {
        self.degraded.len()
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
