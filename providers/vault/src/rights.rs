//! The rights that a connection's credential needs, and those that it should not have.

use std::collections::BTreeMap;

use claviger_provider::kit::probe::word;
use claviger_provider::{Error, Finding, KeyId, RightReport};

use crate::names::{Engine, KeyName};

const HOW: &str = "sys/capabilities-self";

/// A right: a capability on a path.
pub(crate) struct Right {
    operation: &'static str,
    pub(crate) path: String,
    capability: &'static str,
    /// Whether the gateway uses it. A right that it does not use should be revoked.
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

/// The rights to ask about: on a key that the gateway would create, on each of these keys, and those
/// that belong to no key.
pub(crate) fn rights(engine: &Engine, keys: &[KeyName]) -> Vec<Right> {
    let mount = engine.mount.as_str();
    // A key that does not exist, with a name as the gateway gives it.
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

/// The report on each right by the server's response: the capabilities on each path.
pub(crate) fn reports(rights: &[Right], capabilities: &BTreeMap<String, Vec<String>>) -> Vec<RightReport> {
    let has = |path: &str, wanted: &str| {
        capabilities
            .get(path)
            .is_some_and(|list| list.iter().any(|capability| capability == wanted))
    };
    let report = |right: &Right, finding, advice| RightReport {
        operation: right.operation,
        finding,
        how: format!("{HOW}: {} on {}", right.capability, right.path),
        advice,
        key: None,
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
            advice: Some("The token is a root token: give the connection a token with the printed policy only.".to_owned()),
            key: None,
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
                let advice = format!("Revoke \"{}\" on \"{}\": Claviger never uses it.", right.capability, right.path);
                Some(report(right, Finding::Excessive, Some(advice)))
            }
            (false, false) => None,
        })
        .collect()
}

/// The reports where the server refuses to list capabilities.
pub(crate) fn not_testable(rights: &[Right]) -> Vec<RightReport> {
    rights
        .iter()
        .filter(|right| right.used)
        .map(|right| RightReport {
            operation: right.operation,
            finding: Finding::NotTestable,
            how: format!("{HOW} was refused: {} on {}", right.capability, right.path),
            advice: Some("Grant \"update\" on \"sys/capabilities-self\", as in the printed policy.".to_owned()),
            key: None,
        })
        .collect()
}

/// The reports where the capabilities cannot be asked for.
pub(crate) fn failed(rights: &[Right], error: &Error) -> Vec<RightReport> {
    let used = rights.iter().filter(|right| right.used);
    used.map(|right| {
        let how = format!("{HOW}: {} on {}: {}", right.capability, right.path, word(error));
        RightReport::new(right.operation, Finding::Failed, how)
    })
    .collect()
}
