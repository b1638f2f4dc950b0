//! The smallest policy that a connection needs, to paste at the server.

use crate::names::{Engine, KeyName};

/// The policy in Vault's policy language. `keys` are those that the connection has already.
pub(crate) fn printed(engine: &Engine, keys: &[KeyName]) -> String {
    let mount = engine.mount.as_str();
    let namespace = engine.namespace.as_ref().map(|path| format!(" in the namespace {}", path.as_str()));
    let namespace = namespace.unwrap_or_default();
    let mut policy = format!(
        "# The smallest policy for Claviger{namespace}. `keys/+` is every key of the engine: give Claviger an engine of its own.\n\
         # A key of yours that Claviger adopts needs the encrypt and decrypt lines with its own name.\n\
         path \"{mount}/keys/+\" {{ capabilities = [\"read\", \"update\"] }}\n\
         path \"{mount}/keys/+/rotate\" {{ capabilities = [\"update\"] }}\n\
         path \"{mount}/encrypt/claviger-*\" {{ capabilities = [\"update\"] }}\n\
         path \"{mount}/decrypt/claviger-*\" {{ capabilities = [\"update\"] }}\n"
    );
    for key in keys.iter().filter(|key| !key.is_made()) {
        for operation in ["encrypt", "decrypt"] {
            policy += &format!("path \"{mount}/{operation}/{}\" {{ capabilities = [\"update\"] }}\n", key.as_str());
        }
    }
    policy
        + "path \"sys/capabilities-self\" { capabilities = [\"update\"] }\n\
           path \"auth/token/lookup-self\" { capabilities = [\"read\"] }\n\
           path \"auth/token/renew-self\" { capabilities = [\"update\"] }\n"
}
