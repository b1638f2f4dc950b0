//! What a check finds out without changing any key: the rights to read, and a canary through each
//! key that the connection has.

use claviger_provider::{Error, ErrorKind, Finding, Kek, OpContext, Probe, RightReport};
use futures::future::try_join_all;

use crate::errors::CallError;
use crate::lifecycle::TENANT_TAG;
use crate::names::{KeyName, Version};
use crate::policy;
use crate::provider::AzureProvider;
use crate::settings::Symmetric;

/// What changes something at Azure whenever it is tried.
const UNTRIED: [(&str, &str); 3] = [
    ("create_key", "keys/create"),
    ("rotate", "keys/rotate"),
    ("set_state", "keys/update"),
];

/// # Errors
/// When the vault is not reached, or does not take the credential.
pub(crate) async fn probe(provider: &AzureProvider, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
    let mut rights = vec![describe(provider).await?];
    rights.push(versions(provider).await?);
    if keks.is_empty() {
        rights.extend(["wrap_key", "unwrap_key"].map(|operation| RightReport {
            operation,
            finding: Finding::NotTestable,
            how: "the connection has no key yet; make or adopt one and check again".to_owned(),
            advice: None,
        }));
    }
    rights.extend(try_join_all(keks.iter().map(|kek| canary(provider, kek))).await?);
    let makes = |operation: &str| operation != "create_key" || !provider.shared;
    rights.extend(
        UNTRIED
            .iter()
            .filter(|(operation, _)| makes(operation))
            .map(|(operation, right)| RightReport {
                operation,
                finding: Finding::NotTestable,
                how: format!("Azure has no dry run of it; it needs {right}"),
                advice: None,
            }),
    );
    for kek in keks {
        rights.extend(tag(provider, cx, kek).await);
    }
    Ok(Probe {
        detail: format!(
            "{} {} as {}",
            provider.vault.service.name(),
            provider.vault.base(),
            provider.identity
        ),
        rights,
        policy: Some(policy::printed(provider, cx.tenant)),
    })
}

/// The name of a key that nobody has: whoever may read keys is told so.
fn nobodys() -> Option<KeyName> {
    KeyName::parse("claviger-check-of-a-name-without-a-key")
}

/// What came of a question about a key that is not there.
fn judged(operation: &'static str, how: &str, asked: Result<(), CallError>) -> Result<RightReport, Error> {
    let report = |finding, advice: Option<&str>| RightReport {
        operation,
        finding,
        how: how.to_owned(),
        advice: advice.map(str::to_owned),
    };
    match asked {
        Ok(()) => Ok(report(Finding::Granted, None)),
        Err(failed) if failed.kind() == ErrorKind::KeyNotFound => Ok(report(Finding::Granted, None)),
        Err(failed) if failed.denied() => Ok(report(Finding::Denied, Some("Grant it as in the printed policy."))),
        Err(failed) => Err(failed.into_error("check the rights")),
    }
}

async fn describe(provider: &AzureProvider) -> Result<RightReport, Error> {
    let asked = match nobodys() {
        Some(name) => provider.client.get_key(name.as_str(), None).await.map(drop).map_err(CallError::of),
        None => Ok(()),
    };
    judged("describe", "keys/get, with a name that no key has", asked)
}

async fn versions(provider: &AzureProvider) -> Result<RightReport, Error> {
    use futures::TryStreamExt;
    let asked = match nobodys() {
        Some(name) => match provider.client.list_key_properties_versions(name.as_str(), None) {
            Ok(mut entries) => entries.try_next().await.map(drop).map_err(CallError::of),
            Err(error) => Err(CallError::of(error)),
        },
        None => Ok(()),
    };
    judged("list_versions", "keys/list, with a name that no key has", asked)
}

/// Wraps and unwraps random bytes with a key of the connection.
async fn canary(provider: &AzureProvider, kek: &Kek) -> Result<RightReport, Error> {
    let tried = async {
        let name = provider.name(&kek.key)?;
        match Version::parse(&kek.key.version) {
            Some(version) => provider.canary(&name, &version, kek.spec).await,
            None => {
                let key = provider.look_up(&name, "check").await?;
                provider.canary(&key.name, &key.current.version, kek.spec).await
            }
        }
    };
    RightReport::canary(kek, tried.await)
}

/// Says so when a key has lost the tag that shows whose it is: it could not be adopted again.
async fn tag(provider: &AzureProvider, cx: &OpContext, kek: &Kek) -> Option<RightReport> {
    let name = provider.name(&kek.key).ok()?;
    let key = provider.look_up(&name, "check").await.ok()?;
    let kept = key.current.tags.get(TENANT_TAG).map(String::as_str) == Some(cx.tenant.to_string().as_str());
    (!kept).then(|| RightReport {
        operation: "tenant_tag",
        finding: Finding::Denied,
        how: format!("the tags of {}", kek.key.id),
        advice: Some("Put the tag claviger-tenant back, as in the printed command: without it the key cannot be adopted again.".to_owned()),
    })
}

/// Which rights the connection uses, in the words of access policies.
pub(crate) const fn used(aes: Symmetric) -> [&'static str; 2] {
    match aes {
        Symmetric::KeyWrap => ["wrapKey", "unwrapKey"],
        Symmetric::Gcm => ["encrypt", "decrypt"],
    }
}
