//! What a connection's credential has to be allowed, and what it had better not be.

use std::collections::BTreeMap;

use claviger_provider::{Finding, KeyId, RightReport};

use crate::names::{KeyName, Place};

const HOW: &str = "sys/capabilities-self";

/// A path, and what is asked about it.
pub(crate) struct Right {
    operation: &'static str,
    pub(crate) path: String,
    capability: &'static str,
    /// Whether the gateway uses it; otherwise it would better be taken away.
    used: bool,
}

const fn needed(operation: &'static str, path: String, capability: &'static str) -> Right {
    Right {
        operation,
        path,
        capability,
        used: true,
    }
}

const fn unused(operation: &'static str, path: String, capability: &'static str) -> Right {
    Right {
        operation,
        path,
        capability,
        used: false,
    }
}

/// All that is asked: about a key as it would be made, about each of these, and about what
/// belongs to no key.
pub(crate) fn rights(place: &Place, keys: &[KeyName]) -> Vec<Right> {
    let mount = place.mount.as_str();
    // Named like a key that we would make; it does not exist.
    let made = KeyName::made(KeyId::from_bytes([0; 16]));
    let mut rights = of_key(mount, &made);
    rights.push(needed("create_key", format!("{mount}/keys/{}", made.as_str()), "update"));
    rights.extend(keys.iter().flat_map(|key| of_key(mount, key)));
    rights.extend([
        needed("look_up_token", "auth/token/lookup-self".to_owned(), "read"),
        needed("renew_token", "auth/token/renew-self".to_owned(), "update"),
        unused("configure_engine", format!("{mount}/config/keys"), "update"),
        unused("remove_engine", format!("sys/mounts/{mount}"), "delete"),
        unused("make_tokens", "auth/token/create".to_owned(), "update"),
        unused("change_policies", "sys/policies/acl/claviger".to_owned(), "update"),
    ]);
    rights
}

fn of_key(mount: &str, key: &KeyName) -> Vec<Right> {
    let key = key.as_str();
    vec![
        needed("wrap_key", format!("{mount}/encrypt/{key}"), "update"),
        needed("unwrap_key", format!("{mount}/decrypt/{key}"), "update"),
        needed("describe", format!("{mount}/keys/{key}"), "read"),
        needed("rotate", format!("{mount}/keys/{key}/rotate"), "update"),
        unused("delete_key", format!("{mount}/keys/{key}"), "delete"),
        unused("configure_key", format!("{mount}/keys/{key}/config"), "update"),
        unused("trim_key", format!("{mount}/keys/{key}/trim"), "update"),
        unused("import_key", format!("{mount}/keys/{key}/import"), "update"),
        unused("export_key", format!("{mount}/export/encryption-key/{key}"), "read"),
        unused("back_up_key", format!("{mount}/backup/{key}"), "read"),
        unused("restore_key", format!("{mount}/restore/{key}"), "update"),
        unused("make_key_by_encrypting", format!("{mount}/encrypt/{key}"), "create"),
        unused("generate_at_provider", format!("{mount}/datakey/plaintext/{key}"), "update"),
        unused("rewrap_at_provider", format!("{mount}/rewrap/{key}"), "update"),
    ]
}

/// The smallest policy under which everything works, in Vault's own language; `keys` are those
/// that the connection has already.
pub(crate) fn policy(place: &Place, keys: &[KeyName]) -> String {
    let mount = place.mount.as_str();
    let namespace = place.namespace.as_ref().map(|path| format!(" in the namespace {}", path.as_str()));
    let namespace = namespace.unwrap_or_default();
    let mut policy = format!(
        "# The least that Claviger needs{namespace}. `keys/+` is every key of the engine: give Claviger one of its own.\n\
         # A key of yours that it is to adopt needs the encrypt and decrypt lines under its own name.\n\
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

/// What the server's answer says of each right.
pub(crate) fn judged(rights: &[Right], told: &BTreeMap<String, Vec<String>>) -> Vec<RightReport> {
    let has = |path: &str, wanted: &str| {
        told.get(path)
            .is_some_and(|list| list.iter().any(|capability| capability == wanted))
    };
    let report = |right: &Right, finding, advice| RightReport {
        operation: right.operation,
        finding,
        how: format!("{HOW}: {} on {}", right.capability, right.path),
        advice,
    };
    if rights.iter().any(|right| has(&right.path, "root")) {
        let mut reports: Vec<RightReport> = rights
            .iter()
            .filter(|right| right.used)
            .map(|right| report(right, Finding::Granted, None))
            .collect();
        reports.push(RightReport {
            operation: "root",
            finding: Finding::Excessive,
            how: HOW.to_owned(),
            advice: Some("The token is a root token: give the connection one with the printed policy alone.".to_owned()),
        });
        return reports;
    }
    let granted = |right: &Right| has(&right.path, right.capability);
    rights
        .iter()
        .filter_map(|right| match (right.used, granted(right)) {
            (true, true) => Some(report(right, Finding::Granted, None)),
            (true, false) => {
                let advice = format!("Grant \"{}\" on \"{}\", as in the printed policy.", right.capability, right.path);
                Some(report(right, Finding::Denied, Some(advice)))
            }
            (false, true) => {
                let advice = format!("Take away \"{}\" on \"{}\": Claviger never uses it.", right.capability, right.path);
                Some(report(right, Finding::Excessive, Some(advice)))
            }
            (false, false) => None,
        })
        .collect()
}

/// When the server does not tell.
pub(crate) fn untold(rights: &[Right]) -> Vec<RightReport> {
    rights
        .iter()
        .filter(|right| right.used)
        .map(|right| RightReport {
            operation: right.operation,
            finding: Finding::NotTestable,
            how: format!("{HOW} was refused: {} on {}", right.capability, right.path),
            advice: Some("Grant \"update\" on \"sys/capabilities-self\", as in the printed policy.".to_owned()),
        })
        .collect()
}
