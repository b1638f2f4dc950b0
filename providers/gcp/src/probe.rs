//! The check of a connection, which changes no key: Google reports the granted permissions, and
//! each of the connection's keys wraps and unwraps a canary (a random test value).

use claviger_provider::kit::probe::{Calls, NO_KEY_YET, Trial, worst};
use claviger_provider::{ErrorKind, Finding, Kek, OpContext, Probe, RightReport};
use futures::future::join_all;

use crate::client::Client;
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

/// Checks a connection. Each call is made by itself, so that one that fails or hangs takes nothing from
/// the others.
pub(crate) async fn probe(client: &Client, cx: &OpContext, keks: &[Kek]) -> Probe {
    let calls = Calls::default();
    let (ring, checked, random, canaries) = tokio::join!(
        ring_permissions(client, &calls, cx),
        join_all(keks.iter().map(|kek| check_key(client, &calls, cx, kek))),
        random(client, &calls, cx),
        canaries(client, &calls, cx, keks)
    );
    let mut rights: Vec<RightReport> = BY_KEY.iter().filter_map(|right| key_permission(right, keks, &checked)).collect();
    rights.extend(ring);
    rights.extend(excessive(keks, &checked));
    rights.push(random);
    rights.extend(canaries);
    let levels = checked.iter().filter_map(|key| key.as_ref().ok()?.level).collect();
    Probe {
        detail: detail(client, levels),
        problem: calls.problem(),
        rights,
        policy: Some(policy::printed(cx.tenant, &client.ring, client.random)),
    }
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

async fn check_key(client: &Client, calls: &Calls, cx: &OpContext, kek: &Kek) -> Result<CheckedKey, Unknown> {
    let name = client.name(&kek.key);
    let name = name.map_err(|_| Trial::Failed("the key is in another key ring".to_owned()))?;
    let needed = BY_KEY
        .iter()
        .filter(|right| right.applies_to(kek.spec))
        .map(|right| right.permission);
    let permissions: Vec<&str> = needed.chain(EXCESSIVE).collect();
    let granted = async {
        let granted = client.api.test_permissions(cx, name.as_str(), &permissions).await;
        granted.map_err(|error| error.into_error(HOW))
    };
    let (granted, key) = tokio::join!(calls.make(cx, granted), calls.make(cx, client.key(cx, &name, "check")));
    Ok(CheckedKey {
        granted: granted.map_err(|error| Trial::failed(&error))?,
        level: key.ok().map(|key| level(&key.level)),
    })
}

/// The permissions on the key ring, and whether it exists.
async fn ring_permissions(client: &Client, calls: &Calls, cx: &OpContext) -> Vec<RightReport> {
    let ring = client.ring.as_str();
    let permissions: Vec<&str> = BY_RING.iter().map(|right| right.permission).collect();
    let granted = async {
        let granted = client.api.test_permissions(cx, ring, &permissions).await;
        granted.map_err(|error| error.into_error("check the permissions on the key ring"))
    };
    let granted = calls.make(cx, granted).await;
    BY_RING
        .iter()
        .map(|right| {
            let how = format!("{HOW} on the key ring: {}", right.permission);
            match &granted {
                Ok(granted) if granted.iter().any(|granted| granted == right.permission) => {
                    RightReport::new(right.operation, Finding::Granted, how)
                }
                // Google says that it may give this answer for a key ring that does not exist, too.
                Ok(granted) => RightReport::new(right.operation, Finding::Denied, how).advise(format!(
                    "Grant {} on {ring}, as in the printed role{}.",
                    right.permission,
                    if granted.is_empty() {
                        "; if all of them are, check that this key ring exists"
                    } else {
                        ""
                    }
                )),
                Err(error) if error.kind == ErrorKind::KeyNotFound => RightReport::failed(right.operation, &how, error).advise(format!(
                    "The key ring {ring} does not exist, or the identity may not see it: create it (`gcloud kms keyrings create`), or make a \
                     connection with the right key ring."
                )),
                Err(error) => RightReport::failed(right.operation, &how, error),
            }
        })
        .collect()
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
            Ok(_) => Trial::Denied("not among the granted ones".to_owned()),
            Err(unknown) => unknown.clone(),
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
async fn random(client: &Client, calls: &Calls, cx: &OpContext) -> RightReport {
    let operation = "generate_data_key";
    if !client.random {
        let how = "not required: hsm_random is false, so the gateway generates data keys";
        return RightReport::new(operation, Finding::NotTestable, how);
    }
    match calls.make(cx, client.random_bytes(cx, 8)).await {
        Ok(_) => RightReport::new(operation, Finding::Granted, "8 random bytes were generated and discarded"),
        Err(error) => {
            let report = RightReport::failed(operation, "random bytes", &error);
            match report.finding {
                Finding::Denied => report.advise(format!("Grant {RANDOM} on the project, as in the printed role.")),
                Finding::Granted | Finding::Excessive | Finding::NotTestable | Finding::Failed => report,
            }
        }
    }
}

/// A canary through each key: one report on all that came back, and one on each other.
async fn canaries(client: &Client, calls: &Calls, cx: &OpContext, keks: &[Kek]) -> Vec<RightReport> {
    let results = join_all(keks.iter().map(|kek| calls.make(cx, client.canary(cx, kek)))).await;
    let granted = results.iter().filter(|result| result.is_ok()).count();
    let how = format!("a canary was wrapped and unwrapped with {granted} of the connection's keys");
    let granted = (granted > 0).then(|| RightReport::new("canary", Finding::Granted, how));
    let failed = keks.iter().zip(results).filter_map(|(kek, result)| {
        let error = result.err()?;
        let report = RightReport::failed("canary", &format!("a canary with {}", kek.key.id), &error);
        Some(match report.finding {
            Finding::Denied => report.advise(format!(
                "Grant the permissions to wrap and unwrap on {}, as in the printed role.",
                kek.key.id
            )),
            Finding::Granted | Finding::Excessive | Finding::NotTestable | Finding::Failed => report,
        })
    });
    granted.into_iter().chain(failed).collect()
}
