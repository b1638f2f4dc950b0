//! The check of a connection, which changes no key: the permissions to read, and a canary through
//! each of the connection's keys.

use claviger_provider::kit::probe::{Calls, NO_KEY_YET};
use claviger_provider::{Error, ErrorKind, Finding, Kek, OpContext, Probe, RightReport};
use futures::future::join_all;

use crate::client::Client;
use crate::codes::DENIED;
use crate::errors::CallError;
use crate::names::{KeyName, TENANT_TAG, Version};
use crate::policy;

/// Operations that cannot be tried without a change, and the permission that each requires.
const UNTRIED: [(&str, &str); 3] = [
    ("create_key", "keys/create"),
    ("rotate", "keys/rotate"),
    ("set_state", "keys/update"),
];

/// Checks a connection. Each call is made by itself, so that one that fails or hangs takes nothing from
/// the others.
pub(crate) async fn probe(client: &Client, cx: &OpContext, keks: &[Kek]) -> Probe {
    let calls = Calls::default();
    let (get, list, canaries, described) = tokio::join!(
        get(client, &calls, cx),
        list(client, &calls, cx),
        join_all(keks.iter().map(|kek| canary(client, &calls, cx, kek))),
        join_all(keks.iter().map(|kek| described(client, cx, kek)))
    );
    let mut rights = vec![get, list];
    if keks.is_empty() {
        rights.extend(["wrap_key", "unwrap_key"].map(|operation| RightReport::new(operation, Finding::NotTestable, NO_KEY_YET)));
    }
    rights.extend(canaries);
    // A shared identity creates no keys.
    let untried = UNTRIED.iter().filter(|(operation, _)| *operation != "create_key" || !client.shared);
    rights.extend(untried.map(|(operation, permission)| {
        let how = format!("Azure has no dry run for this operation, which requires {permission}");
        RightReport::new(operation, Finding::NotTestable, how)
    }));
    rights.extend(described.into_iter().flatten());
    Probe {
        detail: format!("{} {} as {}", client.vault.service.name(), client.vault.base(), client.identity),
        problem: calls.problem(),
        rights,
        policy: Some(policy::printed(client, cx.tenant)),
    }
}

/// A key name that does not exist. Azure returns `KeyNotFound` for it to callers with the
/// permission.
fn missing_key() -> Option<KeyName> {
    KeyName::parse("claviger-check-of-a-name-without-a-key")
}

/// The report on a permission that was tried on a key that does not exist.
async fn report(
    calls: &Calls,
    cx: &OpContext,
    operation: &'static str,
    how: &str,
    call: impl Future<Output = Result<(), CallError>>,
) -> RightReport {
    let call = async { call.await.map_err(|error| error.into_error("check the permissions")) };
    match calls.make(cx, call).await {
        Ok(()) => RightReport::new(operation, Finding::Granted, how),
        Err(error) if error.kind == ErrorKind::KeyNotFound => RightReport::new(operation, Finding::Granted, how),
        Err(error) if lacks_permission(&error) => RightReport::failed(operation, how, &error).advise("Grant it as in the printed policy."),
        Err(error) => RightReport::failed(operation, how, &error),
    }
}

/// Whether the vault refused a call because the identity lacks the permission.
fn lacks_permission(error: &Error) -> bool {
    error.upstream_code.as_deref().is_some_and(|code| DENIED.contains(&code))
}

async fn get(client: &Client, calls: &Calls, cx: &OpContext) -> RightReport {
    let call = async {
        match missing_key() {
            Some(name) => client.api.get_key(cx, &name, None).await.map(drop),
            None => Ok(()),
        }
    };
    report(calls, cx, "describe", "keys/get, with the name of no key", call).await
}

async fn list(client: &Client, calls: &Calls, cx: &OpContext) -> RightReport {
    let call = async {
        match missing_key() {
            Some(name) => client.api.list_versions(cx, &name).await.map(drop),
            None => Ok(()),
        }
    };
    report(calls, cx, "list_versions", "keys/list, with the name of no key", call).await
}

/// Wraps and unwraps random bytes with a key of the connection.
async fn canary(client: &Client, calls: &Calls, cx: &OpContext, kek: &Kek) -> RightReport {
    let round_trip = async {
        let name = client.name(&kek.key)?;
        match Version::parse(&kek.key.version) {
            Some(version) => client.canary(cx, &name, &version, kek.spec).await,
            None => {
                let key = client.key(cx, &name, "check").await?;
                client.canary(cx, &key.name, &key.current.version, kek.spec).await
            }
        }
    };
    RightReport::canary(kek, calls.make(cx, round_trip).await)
}

/// Reports a key that lost the tag with its tenant, without which it cannot be adopted again, and one whose material
/// can leave the vault.
async fn described(client: &Client, cx: &OpContext, kek: &Kek) -> Vec<RightReport> {
    let Ok(name) = client.name(&kek.key) else { return Vec::new() };
    let Ok(key) = Calls::default().make(cx, client.key(cx, &name, "check")).await else {
        return Vec::new();
    };
    let tagged = key.current.tags.get(TENANT_TAG).map(String::as_str) == Some(cx.tenant.to_string().as_str());
    let untagged = (!tagged).then(|| {
        RightReport::new("tenant_tag", Finding::Denied, format!("the tags of {}", kek.key.id))
            .advise("Restore the tag claviger-tenant with the printed command: without it the key cannot be adopted again.")
    });
    // Where the right to list is missing, the report has it.
    let versions = Calls::default()
        .make(cx, client.versions(cx, &name, "check"))
        .await
        .unwrap_or_default();
    let exposed = RightReport::exposed(kek, key.exposure(&versions));
    untagged.into_iter().chain(exposed).collect()
}
