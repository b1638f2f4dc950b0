//! The check of a connection. It changes no key: it wraps and unwraps a canary, uses AWS's dry runs,
//! and reports what has no dry run as not testable.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use claviger_provider::egress::SendError;
use claviger_provider::kit::probe::{NO_KEY_YET, Trial, worst};
use claviger_provider::{Error, ErrorKind, Finding, Kek, KeySpec, OpContext, Probe, RightReport, TenantId};
use futures::future::join_all;

use crate::client::Kms;
use crate::codes::DRY_RUN;
use crate::credentials::Role;
use crate::errors::{CallError, code, denied, role_denied};
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
fn trial<T>(result: &Result<T, CallError>) -> Trial {
    match result {
        Ok(_) => Trial::Granted,
        Err(error) if denied(error) => Trial::Denied,
        Err(error) if code(error) == Some(DRY_RUN) => Trial::Granted,
        Err(error) => Trial::inconclusive(error.kind()),
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
    fn found<T>(&mut self, right: Right, result: &Result<T, CallError>) {
        self.trials.push((right, trial(result)));
    }

    fn found_by_dry_run<T>(&mut self, right: Right, result: &Result<T, CallError>) {
        if result.is_ok() {
            self.carried_out.push(right);
        }
        self.found(right, result);
    }
}

/// Checks a connection with some of its keys.
///
/// # Errors
/// When STS refuses the identity.
pub(crate) async fn probe(kms: &Kms, proof: Proof, role: Option<&Role>, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
    let caller = caller(kms, cx).await?;
    let (by_key, external_id) = tokio::join!(join_all(keks.iter().map(|kek| trials(kms, proof, cx, kek))), external_id(role));
    let mut rights: Vec<RightReport> = BY_KEY
        .iter()
        .filter_map(|(right, operation, action, how)| over_keys(*right, operation, action, how, &by_key))
        .collect();
    rights.extend(UNTRIED.iter().map(|(operation, action)| {
        let how = format!("AWS has no dry run of it; it needs {action}");
        RightReport::new(operation, Finding::NotTestable, how)
    }));
    rights.extend(external_id);
    rights.extend(tenant_condition(&by_key));
    let shown = caller.as_deref().unwrap_or("an identity that STS did not return");
    Ok(Probe {
        detail: format!("AWS KMS in {} as {shown}", kms.region.as_str()),
        rights,
        policy: Some(policy::printed(cx.tenant, &kms.region, caller.as_deref(), proof, role)),
    })
}

/// The ARN of the connection's identity. AWS allows every identity to read its own ARN, so a denial is not
/// expected. `None` if STS cannot be reached, while KMS may be.
async fn caller(kms: &Kms, cx: &OpContext) -> Result<Option<String>, Error> {
    let operation = "GetCallerIdentity";
    let request = kms.sts.get_caller_identity();
    match kms.try_call(cx, operation, || request.clone().send()).await {
        Ok(response) => Ok(response
            .arn()
            .map(|arn| arn.chars().filter(|c| c.is_ascii_graphic()).take(512).collect())),
        Err(
            CallError::Unsent(SendError::Unreachable(_) | SendError::NotTls | SendError::NotHttp)
            | CallError::Unreachable(_)
            | CallError::Timeout,
        ) => Ok(None),
        Err(error) => Err(error.into_error(operation)),
    }
}

async fn trials<'k>(kms: &Kms, proof: Proof, cx: &OpContext, kek: &'k Kek) -> KeyTrials<'k> {
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
    found.found(Right::Describe, &kms.try_call(cx, "DescribeKey", || describe.clone().send()).await);
    let context = canary_context(cx.tenant, kek.id);
    match kek.spec {
        KeySpec::Aes256 => {
            let history = kms.kms.list_key_rotations().key_id(arn.as_str()).limit(1);
            found.found(
                Right::History,
                &kms.try_call(cx, "ListKeyRotations", || history.clone().send()).await,
            );
            let generate = kms
                .kms
                .generate_data_key()
                .key_id(arn.as_str())
                .number_of_bytes(32)
                .set_encryption_context(Some(context.clone()))
                .dry_run(true);
            found.found_by_dry_run(
                Right::Generate,
                &kms.try_call(cx, "GenerateDataKey", || generate.clone().send()).await,
            );
            let encrypted = kms.canary_encrypt(cx, &arn, kek.spec, context.clone()).await;
            found.found(Right::Wrap, &encrypted);
            if let Ok((_, ciphertext)) = encrypted {
                let rewrap = kms
                    .kms
                    .re_encrypt()
                    .ciphertext_blob(Blob::new(ciphertext.as_slice()))
                    .source_key_id(arn.as_str())
                    .set_source_encryption_context(Some(context.clone()))
                    .destination_key_id(arn.as_str())
                    .set_destination_encryption_context(Some(context.clone()))
                    .dry_run(true);
                found.found_by_dry_run(Right::Rewrap, &kms.try_call(cx, "ReEncrypt", || rewrap.clone().send()).await);
                found.found(Right::Unwrap, &kms.canary_decrypt(cx, &arn, kek.spec, ciphertext, context).await);
            }
        }
        KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
            let public = kms.kms.get_public_key().key_id(arn.as_str());
            found.found(Right::PublicKey, &kms.try_call(cx, "GetPublicKey", || public.clone().send()).await);
            // Zeros are not a valid ciphertext. If the identity has the right, KMS tries to decrypt
            // them and reports an invalid ciphertext.
            let decrypt = kms
                .kms
                .decrypt()
                .key_id(arn.as_str())
                .ciphertext_blob(Blob::new([0_u8; 384]))
                .encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256)
                .dry_run(true);
            let decrypted = kms.try_call(cx, "Decrypt", || decrypt.clone().send()).await;
            let rejected = decrypted.as_ref().is_err_and(|error| error.kind() == ErrorKind::CiphertextRejected);
            let trial = if rejected { Trial::Granted } else { trial(&decrypted) };
            found.trials.push((Right::Unwrap, trial));
        }
    }
    found.other_tenant = match (proof, kek.spec) {
        (Proof::KeyPolicy, KeySpec::Aes256) => {
            let context = canary_context(TenantId::random(), kek.id);
            Some(trial(&kms.canary_encrypt(cx, &arn, kek.spec, context).await))
        }
        (Proof::Credential, _) | (Proof::KeyPolicy, KeySpec::Rsa3072 | KeySpec::Rsa4096) => None,
    };
    found
}

/// One report on a right for all keys together.
fn over_keys(right: Right, operation: &'static str, action: &str, how: &str, by_key: &[KeyTrials<'_>]) -> Option<RightReport> {
    if by_key.is_empty() {
        // `wrap_key` needs one of two rights; one report is enough.
        return (right != Right::PublicKey).then(|| RightReport::new(operation, Finding::NotTestable, NO_KEY_YET));
    }
    let trials = by_key.iter().flat_map(|key| {
        let of_right = key.trials.iter().filter(move |(tried, _)| *tried == right);
        of_right.map(|(_, trial)| (key.kek, *trial))
    });
    let report = worst(operation, how, trials, |kek| {
        format!("Grant {action} on {}, as in the printed policy.", kek.key.id)
    })?;
    let carried_out = by_key.iter().any(|key| key.carried_out.contains(&right));
    Some(match report.finding {
        Finding::Granted if carried_out => {
            RightReport::new(operation, Finding::Granted, "the service ignores DryRun; its result was dropped")
        }
        Finding::Granted | Finding::Denied | Finding::Excessive | Finding::NotTestable => report,
    })
}

/// Whether the role requires the connection's external id. Without it, anybody who knows the role's
/// name could use it through a connection of another tenant.
async fn external_id(role: Option<&Role>) -> Option<RightReport> {
    let report = |finding, outcome| RightReport::new("external_id", finding, format!("AssumeRole without the external id: {outcome}"));
    Some(match role?.assume_without_external_id().await {
        Ok(()) => report(Finding::Excessive, "allowed").advise("Require sts:ExternalId in the role's trust policy, as in the printed one."),
        Err(error) if role_denied(&error) => report(Finding::Granted, "denied, as it should be"),
        Err(_) => report(Finding::NotTestable, "the call failed"),
    })
}

/// Whether each key that a shared identity uses is one tenant's alone.
fn tenant_condition(by_key: &[KeyTrials<'_>]) -> Option<RightReport> {
    let trials: Vec<(&Kek, Trial)> = by_key.iter().filter_map(|key| Some((key.kek, key.other_tenant?))).collect();
    if trials.is_empty() {
        return None;
    }
    let report = |finding, outcome| {
        let how = format!("a canary with another tenant's context {outcome}");
        RightReport::new("tenant_condition", finding, how)
    };
    if let Some((kek, _)) = trials.iter().find(|(_, trial)| *trial == Trial::Granted) {
        let id = &kek.key.id;
        let advice = format!("Require kms:EncryptionContext:claviger:tenant in the policy of {id}, as in the printed statement.");
        return Some(report(Finding::Excessive, "was encrypted").advise(advice));
    }
    Some(match trials.iter().all(|(_, trial)| *trial == Trial::Denied) {
        true => report(Finding::Granted, "was denied, as it should be"),
        false => report(Finding::NotTestable, "could not be tried"),
    })
}
