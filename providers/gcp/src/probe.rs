//! What a check finds out without acting on any key: Google says which permissions there are,
//! and a canary is wrapped and unwrapped.

use claviger_provider::{Error, ErrorKind, Finding, Kek, KeySpec, OpContext, Probe, RightReport, Secret};
use futures::future::join_all;
use google_cloud_kms_v1::client::KeyManagementService;

use crate::errors::CallError;
use crate::keys::level;
use crate::names::{KeyName, Number};
use crate::policy;
use crate::provider::GcpProvider;

/// A right: the operation of ours that needs it, and Google's permission.
pub(crate) struct Right {
    operation: &'static str,
    permission: &'static str,
    /// Of symmetric keys, of RSA keys.
    of: [bool; 2],
}

const BOTH: [bool; 2] = [true, true];

const fn right(operation: &'static str, permission: &'static str, of: [bool; 2]) -> Right {
    Right { operation, permission, of }
}

impl Right {
    /// The permission for random bytes, which is the project's.
    pub(crate) const RANDOM: &'static str = "cloudkms.locations.generateRandomBytes";

    pub(crate) fn permission(&self) -> &'static str {
        self.permission
    }

    fn is_of(&self, spec: KeySpec) -> bool {
        match spec {
            KeySpec::Aes256 => self.of[0],
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => self.of[1],
        }
    }
}

/// The rights that are used with a key.
pub(crate) const BY_KEY: &[Right] = &[
    right("describe", "cloudkms.cryptoKeys.get", BOTH),
    right("describe", "cloudkms.cryptoKeyVersions.list", BOTH),
    right("wrap_key", "cloudkms.cryptoKeyVersions.useToEncrypt", [true, false]),
    right("wrap_key", "cloudkms.cryptoKeyVersions.viewPublicKey", [false, true]),
    right("unwrap_key", "cloudkms.cryptoKeyVersions.useToDecrypt", BOTH),
    right("rotate", "cloudkms.cryptoKeyVersions.create", BOTH),
    right("rotate", "cloudkms.cryptoKeyVersions.get", BOTH),
    right("rotate", "cloudkms.cryptoKeys.update", [true, false]),
    right("set_state", "cloudkms.cryptoKeyVersions.update", BOTH),
];

/// The rights that are used with the key ring.
pub(crate) const BY_RING: &[Right] = &[right("create_key", "cloudkms.cryptoKeys.create", BOTH)];

/// Permissions that the gateway has no use for, and that do harm: to whom they are granted can
/// be asked, so they are.
const EXCESSIVE: [&str; 3] = [
    "cloudkms.cryptoKeyVersions.destroy",
    "cloudkms.cryptoKeys.setIamPolicy",
    "cloudkms.cryptoKeyVersions.restore",
];

const HOW: &str = "testIamPermissions";

pub(crate) async fn probe(provider: &GcpProvider, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
    let ring = on_ring(provider).await?;
    let by_key = join_all(keks.iter().map(|kek| on_key(provider, kek))).await;
    let mut rights: Vec<RightReport> = BY_KEY.iter().filter_map(|right| by_keys(right, keks, &by_key)).collect();
    rights.push(ring);
    rights.extend(excessive(keks, &by_key));
    rights.push(random(provider).await);
    rights.extend(canaries(provider, cx, keks).await);
    let levels = by_key.iter().filter_map(|found| found.as_ref().ok()?.level).collect::<Vec<_>>();
    Ok(Probe {
        detail: detail(provider, &levels),
        rights,
        policy: Some(policy::printed(cx.tenant, &provider.ring, provider.random)),
    })
}

/// One line: where, and what the keys that were looked at are held in.
fn detail(provider: &GcpProvider, levels: &[&'static str]) -> String {
    let mut known = levels.to_vec();
    known.sort_unstable();
    known.dedup();
    let held = if known.is_empty() {
        String::new()
    } else {
        format!(", keys in {}", known.join(", "))
    };
    format!("Cloud KMS, {}{held}", provider.ring.as_str())
}

/// What was found of one key.
struct OnKey {
    granted: Vec<String>,
    level: Option<&'static str>,
}

async fn granted(provider: &GcpProvider, resource: &str, asked: &[&str]) -> Result<Vec<String>, CallError> {
    let send = |kms: &KeyManagementService| {
        let test = kms.test_iam_permissions().set_resource(resource);
        test.set_permissions(asked.iter().copied()).send()
    };
    provider.kms.call(send).await.map(|answer| answer.permissions)
}

/// A key's permissions, and where its material is. What fails here is said of each right.
async fn on_key(provider: &GcpProvider, kek: &Kek) -> Result<OnKey, &'static str> {
    let name = provider.name(&kek.key).map_err(|_| "the key is another key ring's")?;
    let needed = BY_KEY.iter().filter(|right| right.is_of(kek.spec)).map(Right::permission);
    let asked: Vec<&str> = needed.chain(EXCESSIVE).collect();
    let (granted, key) = tokio::join!(granted(provider, name.as_str(), &asked), provider.look_up(&name, "check"));
    Ok(OnKey {
        granted: granted.map_err(|failed| why(&failed.into_error("check")))?,
        level: key.ok().map(|key| level(&key.level)),
    })
}

fn why(error: &Error) -> &'static str {
    match error.kind {
        ErrorKind::KeyNotFound => "the key is gone, or may not be seen",
        ErrorKind::KeyState => "the key's state forbids it",
        ErrorKind::RateLimited => "the service throttles",
        ErrorKind::InvalidInput
        | ErrorKind::Conflict
        | ErrorKind::TooLarge
        | ErrorKind::CiphertextRejected
        | ErrorKind::ProviderDenied
        | ErrorKind::ExternalDenied
        | ErrorKind::UpstreamUnavailable
        | ErrorKind::CircuitOpen
        | ErrorKind::UpstreamProtocol
        | ErrorKind::UpstreamTimeout
        | ErrorKind::Unsupported
        | ErrorKind::Misconfigured
        | ErrorKind::Internal => "the call failed",
    }
}

/// The key ring's permission. It is asked first, so that a connection that does not work at all
/// says so.
async fn on_ring(provider: &GcpProvider) -> Result<RightReport, Error> {
    let [right] = BY_RING else {
        return Err(crate::errors::fault(ErrorKind::Internal, "the rights of a key ring"));
    };
    let ring = provider.ring.as_str();
    let granted = granted(provider, ring, &[right.permission]).await;
    let granted = granted.map_err(|failed| failed.into_error("ask for the permissions on the key ring"))?;
    let there = granted.iter().any(|permission| permission == right.permission);
    Ok(RightReport {
        operation: right.operation,
        finding: if there { Finding::Granted } else { Finding::Denied },
        how: format!("{HOW} on the key ring: {}", right.permission),
        advice: (!there).then(|| format!("Grant {} on {ring}, as in the printed role.", right.permission)),
    })
}

/// One right on all keys together: the worst that was seen.
fn by_keys(right: &Right, keks: &[Kek], by_key: &[Result<OnKey, &'static str>]) -> Option<RightReport> {
    let report = |finding, how, advice| {
        Some(RightReport {
            operation: right.operation,
            finding,
            how,
            advice,
        })
    };
    let permission = right.permission;
    if keks.is_empty() {
        let why = "the connection has no key yet; make or adopt one and check again";
        return report(Finding::NotTestable, format!("{permission}: {why}"), None);
    }
    let of: Vec<(&Kek, &Result<OnKey, &'static str>)> = keks.iter().zip(by_key).filter(|(kek, _)| right.is_of(kek.spec)).collect();
    let holds = |found: &OnKey| found.granted.iter().any(|granted| granted == permission);
    if let Some((kek, _)) = of.iter().find(|(_, found)| found.as_ref().is_ok_and(|found| !holds(found))) {
        let advice = format!("Grant {permission} on {}, as in the printed role.", kek.key.id);
        return report(Finding::Denied, format!("{HOW}: no {permission}"), Some(advice));
    }
    if let Some(Err(why)) = of.iter().map(|(_, found)| found).find(|found| found.is_err()) {
        return report(Finding::NotTestable, format!("{permission}: {why}"), None);
    }
    match of.len() {
        0 => None,
        keys => report(
            Finding::Granted,
            format!("{HOW} on {keys} of the connection's keys: {permission}"),
            None,
        ),
    }
}

/// Permissions that least privilege would take away.
fn excessive<'a>(keks: &'a [Kek], by_key: &'a [Result<OnKey, &'static str>]) -> impl Iterator<Item = RightReport> + 'a {
    EXCESSIVE.into_iter().filter_map(move |permission| {
        let holds =
            |found: &Result<OnKey, &'static str>| found.as_ref().is_ok_and(|found| found.granted.iter().any(|own| own == permission));
        let (kek, _) = keks.iter().zip(by_key).find(|(_, found)| holds(found))?;
        Some(RightReport {
            operation: "excessive_permission",
            finding: Finding::Excessive,
            how: format!("{HOW}: {permission}, which the gateway never uses"),
            advice: Some(format!("Take {permission} on {} away from the connection's identity.", kek.key.id)),
        })
    })
}

/// The HSM's generator, where data keys come from it.
async fn random(provider: &GcpProvider) -> RightReport {
    let report = |finding, how: String, advice| RightReport {
        operation: "generate_data_key",
        finding,
        how,
        advice,
    };
    if !provider.random {
        let how = "not needed: data keys are made in the gateway, as hsm_random is false";
        return report(Finding::NotTestable, how.to_owned(), None);
    }
    match provider.random_bytes(8).await {
        Ok(_) => report(Finding::Granted, "8 random bytes were drawn, and dropped".to_owned(), None),
        Err(error) if error.kind == ErrorKind::ProviderDenied => report(
            Finding::Denied,
            "random bytes were refused".to_owned(),
            Some(format!("Grant {} on the project, as in the printed role.", Right::RANDOM)),
        ),
        Err(error) => report(Finding::NotTestable, format!("random bytes: {}", why(&error)), None),
    }
}

/// A canary through each key.
async fn canaries(provider: &GcpProvider, cx: &OpContext, keks: &[Kek]) -> Option<RightReport> {
    let results = join_all(keks.iter().map(|kek| canary(provider, cx, kek))).await;
    let failed = keks
        .iter()
        .zip(&results)
        .find_map(|(kek, result)| Some((kek, result.as_ref().err()?)));
    let report = |finding, how, advice| {
        Some(RightReport {
            operation: "canary",
            finding,
            how,
            advice,
        })
    };
    match failed {
        None if keks.is_empty() => None,
        None => report(
            Finding::Granted,
            format!("a canary was wrapped and unwrapped with {} of the connection's keys", keks.len()),
            None,
        ),
        Some((kek, error)) if error.kind == ErrorKind::ProviderDenied => report(
            Finding::Denied,
            "a canary was refused".to_owned(),
            Some(format!(
                "Grant the permissions of wrap and unwrap on {}, as in the printed role.",
                kek.key.id
            )),
        ),
        Some((_, error)) => report(
            Finding::NotTestable,
            format!("a canary: {}", why(error)),
            error.advice.map(str::to_owned),
        ),
    }
}

async fn canary(provider: &GcpProvider, cx: &OpContext, kek: &Kek) -> Result<(), Error> {
    let (name, canary) = (provider.name(&kek.key)?, Secret::random(32));
    let number = GcpProvider::number(&kek.key)?;
    let opened = match kek.spec {
        KeySpec::Aes256 => symmetric(provider, cx, &name, number, &canary).await?,
        KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
            let public_key = provider.public_key(&name, number, kek.spec).await?;
            let wrapped = public_key.wrap(&canary);
            let wrapped = wrapped.map_err(|error| crate::errors::fault(ErrorKind::Internal, "wrap a canary").source(error))?;
            provider.asymmetric_decrypt(&name, number, &wrapped).await?
        }
    };
    if opened == canary {
        return Ok(());
    }
    Err(CallError::MalformedResponse("plaintext").into_error("open a canary"))
}

async fn symmetric(provider: &GcpProvider, cx: &OpContext, name: &KeyName, number: Number, canary: &Secret) -> Result<Secret, Error> {
    let aad = format!("claviger canary of {}", cx.tenant).into_bytes();
    let wrapped = provider.encrypt(name, Some(number), canary, &aad).await?;
    provider.decrypt(name, &wrapped.ciphertext, &aad).await
}
