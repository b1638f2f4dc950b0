//! What a check finds out without acting on any key, and the least policy to paste.

use std::collections::BTreeMap;

use claviger_provider::{Error, ErrorKind, Finding, KeyId, Probe, RightReport};
use serde::Deserialize;
use serde_json::json;

use crate::api::{Reply, Request};
use crate::errors::{Failed, fault};
use crate::names::{KeyName, Place};
use crate::provider::VaultProvider;

const HOW: &str = "sys/capabilities-self";

#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    version: String,
    #[serde(default)]
    sealed: bool,
    initialized: bool,
}

#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
}

/// A path, and what is asked about it.
struct Right {
    operation: &'static str,
    path: String,
    capability: &'static str,
    /// Whether the gateway uses it; otherwise it would better be taken away.
    used: bool,
}

fn rights(place: &Place) -> Vec<Right> {
    let mount = place.mount.as_str();
    // Named like a key that we would make; it does not exist.
    let key = KeyName::made(KeyId::from_bytes([0; 16]));
    let key = key.as_str();
    let right = |operation, path: String, capability, used| Right {
        operation,
        path,
        capability,
        used,
    };
    let needed = |operation, path, capability| right(operation, path, capability, true);
    let unused = |operation, path, capability| right(operation, path, capability, false);
    vec![
        needed("wrap_key", format!("{mount}/encrypt/{key}"), "update"),
        needed("unwrap_key", format!("{mount}/decrypt/{key}"), "update"),
        needed("describe", format!("{mount}/keys/{key}"), "read"),
        needed("create_key", format!("{mount}/keys/{key}"), "update"),
        needed("rotate", format!("{mount}/keys/{key}/rotate"), "update"),
        needed("look_up_token", "auth/token/lookup-self".to_owned(), "read"),
        needed("renew_token", "auth/token/renew-self".to_owned(), "update"),
        unused("delete_key", format!("{mount}/keys/{key}"), "delete"),
        unused("configure_key", format!("{mount}/keys/{key}/config"), "update"),
        unused("trim_key", format!("{mount}/keys/{key}/trim"), "update"),
        unused("export_key", format!("{mount}/export/encryption-key/{key}"), "read"),
        unused("back_up_key", format!("{mount}/backup/{key}"), "read"),
        unused("make_key_by_encrypting", format!("{mount}/encrypt/{key}"), "create"),
        unused("generate_at_provider", format!("{mount}/datakey/plaintext/{key}"), "update"),
        unused("rewrap_at_provider", format!("{mount}/rewrap/{key}"), "update"),
    ]
}

/// The smallest policy under which everything works, in Vault's own language.
pub(crate) fn policy(place: &Place) -> String {
    let mount = place.mount.as_str();
    let namespace = place.namespace.as_ref().map(|path| format!(" in the namespace {}", path.as_str()));
    let namespace = namespace.unwrap_or_default();
    format!(
        "# The least that Claviger needs{namespace}. `keys/+` is every key of the engine: give Claviger one of its own.\n\
         # A key of yours that it is to adopt needs the encrypt and decrypt lines under its own name.\n\
         path \"{mount}/keys/+\" {{ capabilities = [\"read\", \"update\"] }}\n\
         path \"{mount}/keys/+/rotate\" {{ capabilities = [\"update\"] }}\n\
         path \"{mount}/encrypt/claviger-*\" {{ capabilities = [\"update\"] }}\n\
         path \"{mount}/decrypt/claviger-*\" {{ capabilities = [\"update\"] }}\n\
         path \"sys/capabilities-self\" {{ capabilities = [\"update\"] }}\n\
         path \"auth/token/lookup-self\" {{ capabilities = [\"read\"] }}\n\
         path \"auth/token/renew-self\" {{ capabilities = [\"update\"] }}\n"
    )
}

pub(crate) async fn probe(provider: &VaultProvider) -> Result<Probe, Error> {
    let detail = health(provider).await?;
    mount_is_transit(provider).await?;
    let rights = rights(&provider.place);
    let paths: Vec<&str> = rights.iter().map(|right| right.path.as_str()).collect();
    let doing = "ask for the rights";
    let request = Request::post(&["sys", "capabilities-self"], &json!({"paths": paths})).map_err(|failed| failed.into_error(doing))?;
    let result = provider.session.call::<BTreeMap<String, Vec<String>>>(request).await;
    let told = match result {
        Ok(reply) => Some(reply.data().map_err(|failed| failed.into_error(doing))?),
        Err(refused) if refused.denied() => {
            let alive = provider.session.alive().await.map_err(|failed| failed.into_error(doing))?;
            if !alive {
                return Err(refused.into_error(doing).advice(
                    "The server does not know the token: it has expired, was revoked, or is a wrapping token that must be unwrapped first.",
                ));
            }
            None
        }
        Err(other) => return Err(other.into_error(doing)),
    };
    Ok(Probe {
        detail,
        rights: match told {
            Some(told) => judged(&rights, &told),
            None => untold(&rights),
        },
        policy: Some(policy(&provider.place)),
    })
}

/// One line about the server.
async fn health(provider: &VaultProvider) -> Result<String, Error> {
    let doing = "ask for the health";
    let request = Request {
        query: &[("standbyok", "true"), ("perfstandbyok", "true")],
        ..Request::get(&["sys", "health"])
    };
    let health: Health = provider
        .session
        .api()
        .bare(request)
        .await
        .map_err(|failed| failed.into_error(doing))?;
    if health.sealed || !health.initialized {
        return Err(fault(ErrorKind::UpstreamUnavailable, doing).advice("The server is sealed or not initialised."));
    }
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    let version: String = health.version.chars().filter(plain).take(64).collect();
    Ok(format!("Vault or OpenBao {version}").trim_end().to_owned())
}

/// A token with any right below a mount may ask of which kind it is.
async fn mount_is_transit(provider: &VaultProvider) -> Result<(), Error> {
    let doing = "ask for the mount";
    let mut path = vec!["sys", "internal", "ui", "mounts"];
    path.extend(provider.place.mount.segments());
    match provider.session.call::<Mount>(Request::get(&path)).await.and_then(Reply::data) {
        Ok(mount) if mount.kind == "transit" => Ok(()),
        Ok(_) => Err(fault(ErrorKind::Misconfigured, doing)
            .advice("The engine at the connection's mount is no Transit: make a connection that names the Transit engine's mount.")),
        // No such mount or no right below it; the rights will tell.
        Err(Failed::Refused(_)) => Ok(()),
        Err(other) => Err(other.into_error(doing)),
    }
}

fn judged(rights: &[Right], told: &BTreeMap<String, Vec<String>>) -> Vec<RightReport> {
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

fn untold(rights: &[Right]) -> Vec<RightReport> {
    rights
        .iter()
        .filter(|right| right.used)
        .map(|right| RightReport {
            operation: right.operation,
            finding: Finding::NotTestable,
            how: format!("{HOW} was refused"),
            advice: Some("Grant \"update\" on \"sys/capabilities-self\", as in the printed policy.".to_owned()),
        })
        .collect()
}
