//! The check of a connection, which changes no key: the permissions to read, and a canary through
//! each of the connection's keys.

use claviger_provider::kit::probe::NO_KEY_YET;
use claviger_provider::{Error, ErrorKind, Finding, Kek, OpContext, Probe, RightReport};
use futures::future::try_join_all;

use crate::client::Client;
use crate::errors::{CallError, lacks_permission};
use crate::names::{KeyName, TENANT_TAG, Version};
use crate::policy;

/// Operations that cannot be tried without a change, and the permission that each requires.
const UNTRIED: [(&str, &str); 3] = [
    ("create_key", "keys/create"),
    ("rotate", "keys/rotate"),
    ("set_state", "keys/update"),
];

/// Checks a connection.
///
/// # Errors
/// When the vault cannot be reached, or does not accept the credential.
pub(crate) async fn probe(client: &Client, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
    let mut rights = vec![get(client, cx).await?, list(client, cx).await?];
    if keks.is_empty() {
        rights.extend(["wrap_key", "unwrap_key"].map(|operation| RightReport::new(operation, Finding::NotTestable, NO_KEY_YET)));
    }
    rights.extend(try_join_all(keks.iter().map(|kek| canary(client, cx, kek))).await?);
    // A shared identity creates no keys.
    let untried = UNTRIED.iter().filter(|(operation, _)| *operation != "create_key" || !client.shared);
    rights.extend(untried.map(|(operation, permission)| {
        let how = format!("Azure has no dry run for this operation, which requires {permission}");
        RightReport::new(operation, Finding::NotTestable, how)
    }));
    for kek in keks {
        rights.extend(tag(client, cx, kek).await);
    }
    Ok(Probe {
        detail: format!("{} {} as {}", client.vault.service.name(), client.vault.base(), client.identity),
        rights,
        policy: Some(policy::printed(client, cx.tenant)),
    })
}

/// A key name that does not exist. Azure returns `KeyNotFound` for it to callers with the
/// permission.
fn missing_key() -> Option<KeyName> {
    KeyName::parse("claviger-check-of-a-name-without-a-key")
}

/// The report on a permission that was tried on a key that does not exist.
fn report(operation: &'static str, how: &str, result: Result<(), CallError>) -> Result<RightReport, Error> {
    match result {
        Ok(()) => Ok(RightReport::new(operation, Finding::Granted, how)),
        Err(error) if error.kind() == ErrorKind::KeyNotFound => Ok(RightReport::new(operation, Finding::Granted, how)),
        Err(error) if lacks_permission(&error) => {
            Ok(RightReport::new(operation, Finding::Denied, how).advise("Grant it as in the printed policy."))
        }
        Err(error) => Err(error.into_error("check the permissions")),
    }
}

async fn get(client: &Client, cx: &OpContext) -> Result<RightReport, Error> {
    let result = match missing_key() {
        Some(name) => client.api.get_key(cx, &name, None).await.map(drop),
        None => Ok(()),
    };
    report("describe", "keys/get, with the name of no key", result)
}

async fn list(client: &Client, cx: &OpContext) -> Result<RightReport, Error> {
    let result = match missing_key() {
        Some(name) => client.api.list_versions(cx, &name).await.map(drop),
        None => Ok(()),
    };
    report("list_versions", "keys/list, with the name of no key", result)
}

/// Wraps and unwraps random bytes with a key of the connection.
async fn canary(client: &Client, cx: &OpContext, kek: &Kek) -> Result<RightReport, Error> {
    let result = async {
        let name = client.name(&kek.key)?;
        match Version::parse(&kek.key.version) {
            Some(version) => client.canary(cx, &name, &version, kek.spec).await,
            None => {
                let key = client.key(cx, &name, "check").await?;
                client.canary(cx, &key.name, &key.current.version, kek.spec).await
            }
        }
    };
    RightReport::canary(kek, result.await)
}

/// Reports a key that lost the tag with its tenant, without which it cannot be adopted again.
async fn tag(client: &Client, cx: &OpContext, kek: &Kek) -> Option<RightReport> {
    let name = client.name(&kek.key).ok()?;
    let key = client.key(cx, &name, "check").await.ok()?;
    let tagged = key.current.tags.get(TENANT_TAG).map(String::as_str) == Some(cx.tenant.to_string().as_str());
    (!tagged).then(|| {
        RightReport::new("tenant_tag", Finding::Denied, format!("the tags of {}", kek.key.id))
            .advise("Restore the tag claviger-tenant with the printed command: without it the key cannot be adopted again.")
    })
}
