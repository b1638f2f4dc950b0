//! What a check finds out without acting on any key: a canary is wrapped and unwrapped, dry
//! runs tell of the rest, and what has no dry run is said to have none.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use claviger_provider::{Error, ErrorKind, Finding, Kek, KeySpec, OpContext, Probe, RightReport, TenantId};
use futures::future::join_all;

use crate::codes::DRY_RUN;
use crate::errors::CallError;
use crate::ownership::{Proof, canary_context};
use crate::policy;
use crate::provider::AwsProvider;

/// The rights that are given key by key: the operation, the action of AWS, how it is tried.
const BY_KEY: [(Right, &str, &str, &str); 7] = [
    (Right::Describe, "describe", "kms:DescribeKey", "DescribeKey"),
    (Right::Wrap, "wrap_key", "kms:Encrypt", "a canary was encrypted"),
    (Right::PublicKey, "wrap_key", "kms:GetPublicKey", "the public key was fetched"),
    (Right::Unwrap, "unwrap_key", "kms:Decrypt", "the canary was decrypted"),
    (Right::Generate, "generate_data_key", "kms:GenerateDataKey", "a dry run"),
    (Right::Rewrap, "rewrap_key", "kms:ReEncryptFrom and kms:ReEncryptTo", "a dry run"),
    (Right::History, "list_rotations", "kms:ListKeyRotations", "ListKeyRotations"),
];

/// The rights that cannot be tried.
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

/// What one trial on one key showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Granted,
    Denied,
    /// The service took a dry run for a call: what it made was dropped.
    NoDryRun,
    /// It could not be tried, and why.
    Not(&'static str),
}

/// What a result shows.
fn seen<T>(result: &Result<T, CallError>) -> Seen {
    let failed = match result {
        Ok(_) => return Seen::Granted,
        Err(failed) => failed,
    };
    if failed.denied() {
        return Seen::Denied;
    }
    if failed.code() == Some(DRY_RUN) {
        return Seen::Granted;
    }
    match failed.kind() {
        ErrorKind::KeyState => Seen::Not("the key's state forbids it"),
        ErrorKind::KeyNotFound => Seen::Not("the key is gone"),
        ErrorKind::Unsupported => Seen::Not("the service has no such call for the key"),
        ErrorKind::RateLimited => Seen::Not("the service throttles"),
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
        | ErrorKind::Misconfigured
        | ErrorKind::Internal => Seen::Not("the call failed"),
    }
}

/// As [`seen`], of a call that was not to be carried out.
fn dry<T>(result: &Result<T, CallError>) -> Seen {
    match seen(result) {
        Seen::Granted if result.is_ok() => Seen::NoDryRun,
        other => other,
    }
}

pub(crate) async fn probe(provider: &AwsProvider, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
    let arn = caller(provider).await?;
    let (by_key, role) = tokio::join!(join_all(keks.iter().map(|kek| trials(provider, cx, kek))), role(provider));
    let mut rights: Vec<RightReport> = BY_KEY
        .iter()
        .filter_map(|(right, operation, action, how)| summed_up(*right, operation, action, how, keks, &by_key))
        .collect();
    rights.extend(UNTRIED.iter().map(|(operation, action)| RightReport {
        operation,
        finding: Finding::NotTestable,
        how: format!("AWS has no dry run of it; it needs {action}"),
        advice: None,
    }));
    rights.extend(role);
    rights.extend(alone(&by_key, keks));
    let shown = arn.as_deref().unwrap_or("an identity that STS did not tell");
    Ok(Probe {
        detail: format!("AWS KMS in {} as {shown}", provider.region.as_str()),
        rights,
        policy: Some(policy::printed(cx.tenant, &provider.region, arn.as_deref(), provider)),
    })
}

/// Who the identity is. Nobody can be refused this; where STS is out of reach, and KMS
/// perhaps not, `None`.
async fn caller(provider: &AwsProvider) -> Result<Option<String>, Error> {
    let request = provider.clients.sts.get_caller_identity();
    match provider.clients.call(|| request.clone().send()).await {
        Ok(answer) => Ok(answer
            .arn()
            .map(|arn| arn.chars().filter(|c| c.is_ascii_graphic()).take(512).collect())),
        Err(CallError::Unreachable(_) | CallError::Timeout) => Ok(None),
        Err(failed) => Err(failed.into_error("ask who the identity is")),
    }
}

/// What was seen of one key; the second is whether it let another tenant's context pass,
/// where that matters.
type Trials = (Vec<(Right, Seen)>, Option<Seen>);

async fn trials(provider: &AwsProvider, cx: &OpContext, kek: &Kek) -> Trials {
    let Ok(arn) = provider.arn(&kek.key) else {
        return (Vec::new(), None);
    };
    let kms = &provider.clients.kms;
    let mut found = Vec::new();
    let describe = kms.describe_key().key_id(arn.as_str());
    found.push((Right::Describe, seen(&provider.clients.call(|| describe.clone().send()).await)));
    let context = canary_context(cx.tenant, kek.id);
    match kek.spec {
        KeySpec::Aes256 => {
            let history = kms.list_key_rotations().key_id(arn.as_str()).limit(1);
            found.push((Right::History, seen(&provider.clients.call(|| history.clone().send()).await)));
            let generate = kms
                .generate_data_key()
                .key_id(arn.as_str())
                .number_of_bytes(32)
                .set_encryption_context(Some(context.clone()))
                .dry_run(true);
            found.push((Right::Generate, dry(&provider.clients.call(|| generate.clone().send()).await)));
            let encrypted = provider.canary_encrypt(&arn, kek.spec, context.clone()).await;
            found.push((Right::Wrap, seen(&encrypted)));
            if let Ok((_, ciphertext)) = encrypted {
                let rewrap = kms
                    .re_encrypt()
                    .ciphertext_blob(Blob::new(ciphertext.as_slice()))
                    .source_key_id(arn.as_str())
                    .set_source_encryption_context(Some(context.clone()))
                    .destination_key_id(arn.as_str())
                    .set_destination_encryption_context(Some(context.clone()))
                    .dry_run(true);
                found.push((Right::Rewrap, dry(&provider.clients.call(|| rewrap.clone().send()).await)));
                let opened = provider.canary_decrypt(&arn, kek.spec, ciphertext, context).await;
                found.push((Right::Unwrap, seen(&opened)));
            }
        }
        KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
            let public = kms.get_public_key().key_id(arn.as_str());
            found.push((Right::PublicKey, seen(&provider.clients.call(|| public.clone().send()).await)));
            // A ciphertext that is none: with the right, KMS says so after it looked.
            let decrypt = kms
                .decrypt()
                .key_id(arn.as_str())
                .ciphertext_blob(Blob::new([0_u8; 384]))
                .encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256)
                .dry_run(true);
            let opened = provider.clients.call(|| decrypt.clone().send()).await;
            let rejected = opened.as_ref().is_err_and(|failed| failed.kind() == ErrorKind::CiphertextRejected);
            found.push((Right::Unwrap, if rejected { Seen::Granted } else { seen(&opened) }));
        }
    }
    let stranger = match (provider.proof, kek.spec) {
        (Proof::KeyPolicy, KeySpec::Aes256) => {
            let context = canary_context(TenantId::random(), kek.id);
            Some(seen(&provider.canary_encrypt(&arn, kek.spec, context).await))
        }
        (Proof::Credential, _) | (Proof::KeyPolicy, KeySpec::Rsa3072 | KeySpec::Rsa4096) => None,
    };
    (found, stranger)
}

/// One report of all keys together: the worst that was seen.
fn summed_up(right: Right, operation: &'static str, action: &str, how: &str, keks: &[Kek], by_key: &[Trials]) -> Option<RightReport> {
    let report = |finding, how, advice| {
        Some(RightReport {
            operation,
            finding,
            how,
            advice,
        })
    };
    if keks.is_empty() {
        // Of the two ways to wrap, one stands for both.
        let why = "the connection has no key yet; make or adopt one and check again";
        return (right != Right::PublicKey)
            .then(|| report(Finding::NotTestable, why.to_owned(), None))
            .flatten();
    }
    let all: Vec<(&Kek, Seen)> = keks
        .iter()
        .zip(by_key)
        .flat_map(|(kek, (found, _))| found.iter().filter(|(at, _)| *at == right).map(move |(_, seen)| (kek, *seen)))
        .collect();
    if let Some((kek, _)) = all.iter().find(|(_, seen)| *seen == Seen::Denied) {
        let advice = format!("Grant {action} on {}, as in the printed policy.", kek.key.id);
        return report(Finding::Denied, format!("{how}: refused"), Some(advice));
    }
    if let Some((_, Seen::Not(why))) = all.iter().find(|(_, seen)| matches!(seen, Seen::Not(_))) {
        return report(Finding::NotTestable, format!("{how}: {why}"), None);
    }
    match all.len() {
        0 => None,
        _ if all.iter().any(|(_, seen)| *seen == Seen::NoDryRun) => {
            let said = "the service ignores DryRun; what it made was dropped";
            report(Finding::Granted, said.to_owned(), None)
        }
        keys => report(Finding::Granted, format!("{how}, with {keys} of the connection's keys"), None),
    }
}

/// Whether the role demands the connection's external id: without that, whoever learns its
/// name could have another tenant's connection use it.
async fn role(provider: &AwsProvider) -> Option<RightReport> {
    let role = provider.role.as_ref()?;
    let how = "AssumeRole without the external id".to_owned();
    let report = |finding, how, advice| RightReport {
        operation: "external_id",
        finding,
        how,
        advice,
    };
    Some(match role.assumable_by_anyone().await {
        Ok(()) => report(
            Finding::Excessive,
            format!("{how}: allowed"),
            Some("Have the role's trust policy demand sts:ExternalId, as in the printed one.".to_owned()),
        ),
        Err(CallError::NoIdentity(why)) if why.denied() => report(Finding::Granted, format!("{how}: refused, as it should be"), None),
        Err(_) => report(Finding::NotTestable, format!("{how}: the call failed"), None),
    })
}

/// Whether keys that a shared identity uses are each some tenant's alone.
fn alone(by_key: &[Trials], keks: &[Kek]) -> Option<RightReport> {
    let seen: Vec<(&Kek, Seen)> = keks
        .iter()
        .zip(by_key)
        .filter_map(|(kek, (_, stranger))| stranger.map(|seen| (kek, seen)))
        .collect();
    let how = "a canary with another tenant's context";
    let report = |finding, how, advice| RightReport {
        operation: "tenant_condition",
        finding,
        how,
        advice,
    };
    if let Some((kek, _)) = seen.iter().find(|(_, seen)| *seen == Seen::Granted) {
        let advice = format!(
            "Have the policy of {} demand kms:EncryptionContext:claviger:tenant, as in the printed statement.",
            kek.key.id
        );
        return Some(report(Finding::Excessive, format!("{how} was encrypted"), Some(advice)));
    }
    if seen.is_empty() {
        return None;
    }
    let all = seen.iter().all(|(_, seen)| *seen == Seen::Denied);
    let finding = if all { Finding::Granted } else { Finding::NotTestable };
    let said = if all {
        "was refused, as it should be"
    } else {
        "could not be tried"
    };
    Some(report(finding, format!("{how} {said}"), None))
}
