//! The check of a connection, which changes no key: Google reports the granted permissions, and
//! each of the connection's keys wraps and unwraps a canary (a random test value).

use claviger_provider::kit::probe::{NO_KEY_YET, Trial, worst};
use claviger_provider::{Error, ErrorKind, Finding, Kek, OpContext, Probe, RightReport};
use futures::future::join_all;

use crate::client::Client;
use crate::errors::fault;
use crate::keys::level;
use crate::policy::{self, BY_KEY, BY_RING, RANDOM, Right};

/// Permissions that the gateway does not use and that are dangerous, so the check reports them.
const EXCESSIVE: [&str; 3] = [
    "cloudkms.cryptoKeyVersions.destroy",
    "cloudkms.cryptoKeys.setIamPolicy",
    "cloudkms.cryptoKeyVersions.restore",
];

/// The API method that reports granted permissions.
const HOW: &str = "testIamPermissions";

/// Checks a connection.
///
/// # Errors
/// When Cloud KMS cannot be reached, or does not accept the credentials.
pub(crate) async fn probe(client: &Client, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
    // First, so that a connection that does not work at all fails here.
    let ring = ring_permission(client, cx).await?;
    let checked = join_all(keks.iter().map(|kek| check_key(client, cx, kek))).await;
    let mut rights: Vec<RightReport> = BY_KEY.iter().filter_map(|right| key_permission(right, keks, &checked)).collect();
    rights.push(ring);
    rights.extend(excessive(keks, &checked));
    rights.push(random(client, cx).await);
    rights.extend(canaries(client, cx, keks).await);
    let levels = checked.iter().filter_map(|key| key.as_ref().ok()?.level).collect();
    Ok(Probe {
        detail: detail(client, levels),
        rights,
        policy: Some(policy::printed(cx.tenant, &client.ring, client.random)),
    })
}

/// One line: the key ring, and the protection levels of the checked keys.
fn detail(client: &Client, mut levels: Vec<&'static str>) -> String {
    levels.sort_unstable();
    levels.dedup();
    let keys = if levels.is_empty() {
        String::new()
    } else {
        format!(", keys in {}", levels.join(", "))
    };
    format!("Cloud KMS, {}{keys}", client.ring.as_str())
}

/// The permissions on one key, and its protection level.
struct CheckedKey {
    granted: Vec<String>,
    level: Option<&'static str>,
}

impl CheckedKey {
    fn has(&self, permission: &str) -> bool {
        self.granted.iter().any(|granted| granted == permission)
    }
}

/// Why the permissions on a key are unknown.
type Unknown = Trial;

async fn check_key(client: &Client, cx: &OpContext, kek: &Kek) -> Result<CheckedKey, Unknown> {
    let name = client.name(&kek.key);
    let name = name.map_err(|_| Trial::NotTestable("the key is in another key ring"))?;
    let needed = BY_KEY
        .iter()
        .filter(|right| right.applies_to(kek.spec))
        .map(|right| right.permission);
    let permissions: Vec<&str> = needed.chain(EXCESSIVE).collect();
    let granted = client.api.test_permissions(cx, name.as_str(), &permissions);
    let (granted, key) = tokio::join!(granted, client.key(cx, &name, "check"));
    Ok(CheckedKey {
        granted: granted.map_err(|error| Trial::inconclusive(error.kind()))?,
        level: key.ok().map(|key| level(&key.level)),
    })
}

/// The permission on the key ring.
async fn ring_permission(client: &Client, cx: &OpContext) -> Result<RightReport, Error> {
    let [right] = BY_RING else {
        return Err(fault(ErrorKind::Internal, "the permissions of a key ring"));
    };
    let (ring, permission) = (client.ring.as_str(), right.permission);
    let granted = client.api.test_permissions(cx, ring, &[permission]).await;
    let granted = granted.map_err(|error| error.into_error("check the permissions on the key ring"))?;
    let how = format!("{HOW} on the key ring: {permission}");
    Ok(if granted.iter().any(|granted| granted == permission) {
        RightReport::new(right.operation, Finding::Granted, how)
    } else {
        let advice = format!("Grant {permission} on {ring}, as in the printed role.");
        RightReport::new(right.operation, Finding::Denied, how).advise(advice)
    })
}

/// The report on one permission over all keys that it applies to.
fn key_permission(right: &Right, keks: &[Kek], checked: &[Result<CheckedKey, Unknown>]) -> Option<RightReport> {
    let (operation, permission) = (right.operation, right.permission);
    if keks.is_empty() {
        return Some(RightReport::new(
            operation,
            Finding::NotTestable,
            format!("{permission}: {NO_KEY_YET}"),
        ));
    }
    let keys = keks.iter().zip(checked).filter(|(kek, _)| right.applies_to(kek.spec));
    let trials = keys.map(|(kek, key)| {
        let trial = match key {
            Ok(key) if key.has(permission) => Trial::Granted,
            Ok(_) => Trial::Denied,
            Err(unknown) => *unknown,
        };
        (kek, trial)
    });
    worst(operation, &format!("{HOW}: {permission}"), trials, |kek| {
        format!("Grant {permission} on {}, as in the printed role.", kek.key.id)
    })
}

/// Permissions that least privilege would revoke.
fn excessive<'a>(keks: &'a [Kek], checked: &'a [Result<CheckedKey, Unknown>]) -> impl Iterator<Item = RightReport> + 'a {
    EXCESSIVE.into_iter().filter_map(move |permission| {
        let has = |key: &Result<CheckedKey, Unknown>| key.as_ref().is_ok_and(|key| key.has(permission));
        let (kek, _) = keks.iter().zip(checked).find(|(_, key)| has(key))?;
        let how = format!("{HOW}: {permission}, which the gateway never uses");
        let advice = format!("Revoke {permission} on {} from the connection's identity.", kek.key.id);
        Some(RightReport::new("excessive_permission", Finding::Excessive, how).advise(advice))
    })
}

/// The HSM's random generator, if the connection uses it.
async fn random(client: &Client, cx: &OpContext) -> RightReport {
    let report = |finding, how: String| RightReport::new("generate_data_key", finding, how);
    if !client.random {
        let how = "not required: hsm_random is false, so the gateway generates data keys";
        return report(Finding::NotTestable, how.to_owned());
    }
    match client.random_bytes(cx, 8).await {
        Ok(_) => report(Finding::Granted, "8 random bytes were generated and discarded".to_owned()),
        Err(error) if error.kind == ErrorKind::ProviderDenied => report(Finding::Denied, "random bytes were refused".to_owned())
            .advise(format!("Grant {RANDOM} on the project, as in the printed role.")),
        Err(error) => report(Finding::NotTestable, format!("random bytes: {}", reason(error.kind))),
    }
}

fn reason(kind: ErrorKind) -> &'static str {
    match Trial::inconclusive(kind) {
        Trial::NotTestable(why) => why,
        Trial::Granted | Trial::Denied => "the call failed",
    }
}

/// A canary through each key: one report, on the first key that failed.
async fn canaries(client: &Client, cx: &OpContext, keks: &[Kek]) -> Option<RightReport> {
    let results = join_all(keks.iter().map(|kek| client.canary(cx, kek))).await;
    let failed = keks
        .iter()
        .zip(&results)
        .find_map(|(kek, result)| Some((kek, result.as_ref().err()?)));
    let report = |finding, how: String| RightReport::new("canary", finding, how);
    match failed {
        None if keks.is_empty() => None,
        None => Some(report(
            Finding::Granted,
            format!("a canary was wrapped and unwrapped with {} of the connection's keys", keks.len()),
        )),
        Some((kek, error)) if error.kind == ErrorKind::ProviderDenied => {
            let advice = format!(
                "Grant the permissions to wrap and unwrap on {}, as in the printed role.",
                kek.key.id
            );
            Some(report(Finding::Denied, "a canary was refused".to_owned()).advise(advice))
        }
        Some((_, error)) => {
            let report = report(Finding::NotTestable, format!("a canary: {}", reason(error.kind)));
            Some(match error.advice {
                Some(advice) => report.advise(advice),
                None => report,
            })
        }
    }
}
