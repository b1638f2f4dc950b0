//! What the gateway knows to be wrong with a connection without calling its provider.

use claviger_provider::{Secret, SettingsOrigin, TenantId};

use super::declaration::{DeclaredConnection, MissingSecret};
use super::{Broker, Code, Failure};
use crate::store::model::Connection;

/// What to do about a secret file.
pub(super) const FILE_ADVICE: &str =
    "Ask the operator to provide or correct the file, which the gateway's log names. The gateway reads it every 5 seconds.";

impl Broker {
    /// The declared connection; without its settings where only the contents of files make them invalid. Then the
    /// files have to change, and not the configuration.
    #[must_use]
    pub fn with_usable_files(&self, mut declared: DeclaredConnection) -> DeclaredConnection {
        let unusable = declared
            .settings
            .as_ref()
            .ok()
            .and_then(|settings| self.unusable_files(&declared, settings));
        if let Some(why) = unusable {
            declared.settings = Err(MissingSecret(why));
        }
        declared
    }

    /// Which files contain what the provider cannot use, if nothing else is wrong with the settings.
    fn unusable_files(&self, declared: &DeclaredConnection, settings: &Secret) -> Option<String> {
        let factory = self.directory().factories().get(declared.provider)?;
        let text = std::str::from_utf8(settings.expose()).ok()?;
        let errors = factory.parse(text, SettingsOrigin::Operator).err()?;
        let files = declared.source.files();
        let unusable = errors.iter().map(|error| {
            let (_, path) = files.iter().find(|(pointer, _)| *pointer == error.pointer)?;
            Some(format!("the file {} does not contain {}", path.display(), error.expected)).filter(|_| !error.operator_only)
        });
        let unusable: Option<Vec<String>> = unusable.collect();
        unusable.map(|unusable| unusable.join("; "))
    }

    /// Notes that a declared connection lacks a usable secret file, until it is declared with it.
    ///
    /// # Errors
    /// When its tenant does not exist, or the store fails.
    pub async fn lacks_secret(&self, declared: &DeclaredConnection) -> Result<(), Failure> {
        let tenant = self.declared_tenant(&declared.tenant).await?;
        let why = declared.settings.as_ref().err().map_or("", |MissingSecret(why)| why.as_str());
        self.degraded.begin(tenant, &declared.name, why);
        Ok(())
    }

    /// The number of declared connections that lack a usable secret file.
    pub fn degraded_connections(&self) -> usize {
        self.degraded.len()
    }

    /// What is wrong with a connection, as far as the gateway knows without calling the provider.
    pub fn problem_of(&self, connection: &Connection) -> Option<Failure> {
        if self.degraded.why(connection.tenant, &connection.name).is_some() {
            let detail = "A secret file of the connection, which the operator's configuration names, cannot be read or used. The connection \
                          works with the secrets that the gateway read before.";
            return Some(Failure::new(Code::ConnectionMisconfigured, detail).advice(FILE_ADVICE));
        }
        self.directory.unusable(connection.id).as_ref().map(Failure::from)
    }

    /// The secret file of a declared connection that cannot be read or used, and why; `None` if none is wrong. For the
    /// operator alone.
    pub(super) fn unusable_secret_file(&self, connection: &Connection) -> Option<String> {
        self.degraded.why(connection.tenant, &connection.name)
    }

    /// The failure for a connection that does not exist, or could not be made yet. An operator reads which file is
    /// wrong.
    pub(super) fn no_such_connection(&self, tenant: TenantId, name: &str, is_operator: bool) -> Option<Failure> {
        let why = self.degraded.why(tenant, name)?;
        let detail = "The connection is not usable yet: a secret file that the operator's configuration names cannot be read or used";
        let failure = Failure::new(
            Code::ConnectionMisconfigured,
            match is_operator {
                true => format!("{detail}: {why}."),
                false => format!("{detail}."),
            },
        );
        Some(failure.advice(FILE_ADVICE))
    }
}
