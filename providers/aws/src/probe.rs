//! The check of a connection. It changes no key: it wraps and unwraps a canary, uses AWS's dry runs,
//! and reports what has no dry run as not testable.

use std::sync::Arc;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use claviger_provider::kit::probe::{Calls, NO_KEY_YET, Trial, shown, word, worst};
use claviger_provider::{Error, ErrorKind, Finding, Kek, KeySpec, OpContext, Probe, RightReport, TenantId};
use futures::future::join_all;

use crate::client::Kms;
use crate::codes::{DENIED, DRY_RUN};
use crate::credentials::Role;
use crate::errors::role_denied;
use crate::names::KeyArn;
use crate::ownership::{Proof, canary_context};
use crate::policy;

/// The rights that AWS grants key by key: the gateway's operation, AWS's action, how it is tried.
const BY_KEY: [(Right, &str, &str, &str); 7] = [
    (Right::Describe, "describe", "kms:DescribeKey", "DescribeKey"),
    (Right::Wrap, "wrap_key", "kms:Encrypt", "a canary was encrypted"),
    (Right::PublicKey, "wrap_key", "kms:GetPublicKey", "the public key was fetched"),
    (Right::Unwrap, "unwrap_key", "kms:Decrypt", "the canary was decrypted"),
    (Right::Generate, "generate_data_key", "kms:GenerateDataKey", "a dry run"),
    (Right::Rewrap, "rewrap_key", "kms:ReEncryptFrom and kms:ReEncryptTo", "a dry run"),
    (Right::History, "list_rotations", "kms:ListKeyRotations", "ListKeyRotations"),
];

/// The rights that cannot be tried without changing a key.
const UNTRIED: [(&str, &str); 4] = [
    ("create_key", "kms:CreateKey and kms:TagResource"),
    ("rotate", "kms:RotateKeyOnDemand"),
    ("enable_key", "kms:EnableKey"),
    ("disable_key", "kms:DisableKey"),
];

const IDENTITY: &str = "GetCallerIdentity";
const FIND: &str = "ListKeys";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Describe,
    Wrap,
    PublicKey,
    Unwrap,
    Generate,
    Rewrap,
    History,
}

/// What a call shows about the right to make it.
fn trial<T>(result: &Result<T, Arc<Error>>) -> Trial {
    let code = result.as_ref().err().and_then(|error| error.upstream_code.as_deref());
    match code {
        Some(DRY_RUN) => Trial::Granted,
        code => match Trial::of(result) {
            // Credentials that AWS does not accept show nothing about a right.
            Trial::Denied(word) if !code.is_some_and(|code| DENIED.contains(&code)) => Trial::Failed(word),
            other => other,
        },
    }
}

/// The results of the trials on one key.
struct KeyTrials<'k> {
    kek: &'k Kek,
    trials: Vec<(Right, Trial)>,
    /// Rights whose dry run the service carried out; its result was dropped.
    carried_out: Vec<Right>,
    /// Whether the key accepts another tenant's context, where that matters.
    other_tenant: Option<Trial>,
}

impl KeyTrials<'_> {
    fn found<T>(&mut self, right: Right, result: &Result<T, Arc<Error>>) {
        self.trials.push((right, trial(result)));
    }

    fn found_by_dry_run<T>(&mut self, right: Right, result: &Result<T, Arc<Error>>) {
        if result.is_ok() {
            self.carried_out.push(right);
        }
        self.found(right, result);
    }
}

/// Checks a connection with some of its keys. Each call is made by itself, so that one that fails or hangs
/// takes nothing from the others.
pub(crate) async fn probe(kms: &Kms, proof: Proof, role: Option<&Role>, cx: &OpContext, keks: &[Kek]) -> Probe {
    // STS is another service: whether it responds says nothing about KMS.
    let (calls, of_sts) = (Calls::default(), Calls::default());
    let keys = join_all(keks.iter().map(|kek| trials(kms, &calls, proof, cx, kek)));
    let (caller, find, by_key, external_id) =
        tokio::join!(caller(kms, &of_sts, cx), find_keys(kms, &calls, cx), keys, external_id(role, cx));
    let mut rights = vec![match &caller {
        Ok(_) => RightReport::new("identity", Finding::Granted, IDENTITY),
        Err(error) => RightReport::failed("identity", IDENTITY, error),
    }];
    rights.extend(
        BY_KEY
            .iter()
            .filter_map(|(right, operation, action, how)| over_keys(*right, operation, action, how, &by_key)),
    );
    let found = find == Trial::Granted;
    rights.push(match find {
        Trial::Denied(word) => RightReport::new("find_keys", Finding::Denied, format!("{FIND}: refused: {word}"))
            .advise("Grant kms:ListKeys, as in the printed policy: the gateway finds a key with it whose creation got no response."),
        Trial::Granted => RightReport::new("find_keys", Finding::Granted, FIND),
        Trial::NotTestable(word) | Trial::Failed(word) => RightReport::new("find_keys", Finding::Failed, format!("{FIND}: {word}")),
    });
    rights.extend(UNTRIED.iter().map(|(operation, action)| {
        let how = format!("AWS has no dry run of it; it needs {action}");
        RightReport::new(operation, Finding::NotTestable, how)
    }));
    rights.extend(external_id);
    rights.extend(tenant_condition(&by_key));
    let granted = found || by_key.iter().flat_map(|key| &key.trials).any(|(_, trial)| *trial == Trial::Granted);
    // Every identity may ask STS who it is: if that is denied, AWS does not know the credentials.
    let unknown = caller
        .as_ref()
        .err()
        .filter(|error| !granted && error.kind == ErrorKind::ProviderDenied);
    let problem = unknown.map(Arc::clone).or_else(|| calls.problem());
    let caller = caller.ok().flatten();
    let identity = caller.as_deref().unwrap_or("an identity that STS did not return");
    Probe {
        detail: format!("AWS KMS in {} as {identity}", kms.region.as_str()),
        problem,
        rights,
        policy: Some(policy::printed(cx.tenant, &kms.region, caller.as_deref(), proof, role)),
    }
}

/// The ARN of the connection's identity.
async fn caller(kms: &Kms, calls: &Calls, cx: &OpContext) -> Result<Option<String>, Arc<Error>> {
    let request = kms.sts.get_caller_identity();
    let response = calls.make(cx, kms.call(cx, IDENTITY, || request.clone().send())).await?;
    Ok(response
        .arn()
        .map(|arn| arn.chars().filter(|c| c.is_ascii_graphic()).take(512).collect()))
}

/// Whether the identity may list the region's keys, a call that needs no key.
async fn find_keys(kms: &Kms, calls: &Calls, cx: &OpContext) -> Trial {
    let request = kms.kms.list_keys().limit(1);
    trial(&calls.make(cx, kms.call(cx, FIND, || request.clone().send())).await)
}

async fn trials<'k>(kms: &Kms, calls: &Calls, proof: Proof, cx: &OpContext, kek: &'k Kek) -> KeyTrials<'k> {
    let mut found = KeyTrials {
        kek,
        trials: Vec::new(),
        carried_out: Vec::new(),
        other_tenant: None,
    };
    let Ok(arn) = kms.arn(&kek.key) else {
        return found;
    };
    let describe = kms.kms.describe_key().key_id(arn.as_str());
    let describe = calls.make(cx, kms.call(cx, "DescribeKey", || describe.clone().send()));
    match kek.spec {
        KeySpec::Aes256 => {
            let (described, ()) = tokio::join!(describe, symmetric(kms, calls, proof, cx, &arn, &mut found));
            found.found(Right::Describe, &described);
        }
        KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
            let (described, ()) = tokio::join!(describe, asymmetric(kms, calls, cx, &arn, &mut found));
            found.found(Right::Describe, &described);
        }
    }
    found
}

async fn symmetric(kms: &Kms, calls: &Calls, proof: Proof, cx: &OpContext, arn: &KeyArn, found: &mut KeyTrials<'_>) {
    let kek = found.kek;
    let context = canary_context(cx.tenant, kek.id);
    let history = kms.kms.list_key_rotations().key_id(arn.as_str()).limit(1);
    let generate = kms
        .kms
        .generate_data_key()
        .key_id(arn.as_str())
        .number_of_bytes(32)
        .set_encryption_context(Some(context.clone()))
        .dry_run(true);
    let encrypt = async |context| {
        let encrypted = kms.canary_encrypt(cx, arn, kek.spec, context).await;
        encrypted.map_err(|error| error.into_error("Encrypt"))
    };
    let other_tenant = async {
        match proof {
            Proof::KeyPolicy => {
                let context = canary_context(TenantId::random(), kek.id);
                Some(trial(&calls.make(cx, encrypt(context)).await))
            }
            Proof::Credential => None,
        }
    };
    let (history, generated, encrypted, other_tenant) = tokio::join!(
        calls.make(cx, kms.call(cx, "ListKeyRotations", || history.clone().send())),
        calls.make(cx, kms.call(cx, "GenerateDataKey", || generate.clone().send())),
        calls.make(cx, encrypt(context.clone())),
        other_tenant
    );
    found.found(Right::History, &history);
    found.found_by_dry_run(Right::Generate, &generated);
    found.found(Right::Wrap, &encrypted);
    found.other_tenant = other_tenant;
    let Ok((_, ciphertext)) = encrypted else { return };
    let rewrap = kms
        .kms
        .re_encrypt()
        .ciphertext_blob(Blob::new(ciphertext.as_slice()))
        .source_key_id(arn.as_str())
        .set_source_encryption_context(Some(context.clone()))
        .destination_key_id(arn.as_str())
        .set_destination_encryption_context(Some(context.clone()))
        .dry_run(true);
    let decrypt = async {
        let decrypted = kms.canary_decrypt(cx, arn, kek.spec, ciphertext, context).await;
        decrypted.map_err(|error| error.into_error("Decrypt"))
    };
    let (rewrapped, decrypted) = tokio::join!(
        calls.make(cx, kms.call(cx, "ReEncrypt", || rewrap.clone().send())),
        calls.make(cx, decrypt)
    );
    found.found_by_dry_run(Right::Rewrap, &rewrapped);
    found.found(Right::Unwrap, &decrypted);
}

async fn asymmetric(kms: &Kms, calls: &Calls, cx: &OpContext, arn: &KeyArn, found: &mut KeyTrials<'_>) {
    let public = kms.kms.get_public_key().key_id(arn.as_str());
    // Zeros are not a valid ciphertext. If the identity has the right, KMS tries to decrypt
    // them and reports an invalid ciphertext.
    let decrypt = kms
        .kms
        .decrypt()
        .key_id(arn.as_str())
        .ciphertext_blob(Blob::new([0_u8; 384]))
        .encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256)
        .dry_run(true);
    let (public, decrypted) = tokio::join!(
        calls.make(cx, kms.call(cx, "GetPublicKey", || public.clone().send())),
        calls.make(cx, kms.call(cx, "Decrypt", || decrypt.clone().send()))
    );
    found.found(Right::PublicKey, &public);
    let rejected = decrypted.as_ref().is_err_and(|error| error.kind == ErrorKind::CiphertextRejected);
    let trial = if rejected { Trial::Granted } else { trial(&decrypted) };
    found.trials.push((Right::Unwrap, trial));
}

/// One report on a right for all keys together.
fn over_keys(right: Right, operation: &'static str, action: &str, how: &str, by_key: &[KeyTrials<'_>]) -> Option<RightReport> {
    if by_key.is_empty() {
        // `wrap_key` needs one of two rights; one report is enough.
        return (right != Right::PublicKey).then(|| RightReport::new(operation, Finding::NotTestable, NO_KEY_YET));
    }
    let trials = by_key.iter().flat_map(|key| {
        let of_right = key.trials.iter().filter(move |(tried, _)| *tried == right);
        of_right.map(|(_, trial)| (key.kek, trial.clone()))
    });
    let report = worst(operation, how, trials, |kek| {
        format!("Grant {action} on {}, as in the printed policy.", kek.key.id)
    })?;
    let carried_out = by_key.iter().any(|key| key.carried_out.contains(&right));
    Some(match report.finding {
        Finding::Granted if carried_out => {
            RightReport::new(operation, Finding::Granted, "the service ignores DryRun; its result was dropped")
        }
        Finding::Granted | Finding::Denied | Finding::Excessive | Finding::NotTestable | Finding::Failed => report,
    })
}

/// Whether the role requires the connection's external id. Without it, anybody who knows the role's
/// name could use it through a connection of another tenant.
async fn external_id(role: Option<&Role>, cx: &OpContext) -> Option<RightReport> {
    let report =
        |finding, outcome: &str| RightReport::new("external_id", finding, format!("AssumeRole without the external id: {outcome}"));
    Some(match role?.assume_without_external_id().await {
        Ok(()) => report(Finding::Excessive, "allowed").advise("Require sts:ExternalId in the role's trust policy, as in the printed one."),
        Err(error) if role_denied(&error) => report(Finding::Granted, "denied, as it should be"),
        Err(error) => {
            let word = word(&shown(cx, error.into_error("AssumeRole")));
            report(Finding::Failed, &word)
        }
    })
}

/// Whether each key that a shared identity uses is one tenant's alone.
fn tenant_condition(by_key: &[KeyTrials<'_>]) -> Option<RightReport> {
    let trials: Vec<(&Kek, &Trial)> = by_key
        .iter()
        .filter_map(|key| Some((key.kek, key.other_tenant.as_ref()?)))
        .collect();
    if trials.is_empty() {
        return None;
    }
    let report = |finding, outcome: &str| {
        let how = format!("a canary with another tenant's context {outcome}");
        RightReport::new("tenant_condition", finding, how)
    };
    if let Some((kek, _)) = trials.iter().find(|(_, trial)| **trial == Trial::Granted) {
        let id = &kek.key.id;
        let advice = format!("Require kms:EncryptionContext:claviger:tenant in the policy of {id}, as in the printed statement.");
        return Some(report(Finding::Excessive, "was encrypted").advise(advice));
    }
    let failed = trials.iter().find_map(|(_, trial)| match trial {
        Trial::Failed(word) => Some(report(Finding::Failed, &format!("failed: {word}"))),
        Trial::NotTestable(why) => Some(report(Finding::NotTestable, &format!("could not be tried: {why}"))),
        Trial::Granted | Trial::Denied(_) => None,
    });
    Some(failed.unwrap_or_else(|| report(Finding::Granted, "was denied, as it should be")))
}
