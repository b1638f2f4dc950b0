//! Keys as KMS describes them, and which of them the gateway can use.

use aws_sdk_kms::types::{
    EncryptionAlgorithmSpec, KeyManagerType, KeyMetadata, KeySpec as KmsSpec, KeyState as KmsState, KeyUsageType, RotationsListEntry,
};
use claviger_provider::{Error, ErrorKind, Exposure, KeyDescription, KeySpec, KeyState, ProviderKeyRef, VersionDescription};

use crate::errors::{CallError, fault};
use crate::names::KeyArn;

/// KMS's name of a key specification.
pub(crate) fn kms_spec(spec: KeySpec) -> KmsSpec {
    match spec {
        KeySpec::Aes256 => KmsSpec::SymmetricDefault,
        KeySpec::Rsa3072 => KmsSpec::Rsa3072,
        KeySpec::Rsa4096 => KmsSpec::Rsa4096,
    }
}

fn our_spec(spec: &KmsSpec) -> Option<KeySpec> {
    KeySpec::ALL.into_iter().find(|ours| kms_spec(*ours) == *spec)
}

/// A KMS key that a logical key can use.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) arn: KeyArn,
    pub(crate) spec: KeySpec,
    pub(crate) state: KeyState,
    created: Option<i64>,
}

impl Key {
    /// Parses a description.
    ///
    /// # Errors
    /// `UpstreamProtocol` for a malformed one; `InvalidInput` with advice for a key that cannot
    /// serve as a logical key's.
    pub(crate) fn of(metadata: &KeyMetadata) -> Result<Self, Error> {
        let operation = "DescribeKey";
        let malformed = |part| CallError::MalformedResponse(part).into_error(operation);
        let arn = metadata.arn().and_then(KeyArn::parse).ok_or_else(|| malformed("ARN"))?;
        let unfit = |advice| fault(ErrorKind::InvalidInput, "a KMS key that does not fit").advice(advice);
        if metadata.key_manager() == Some(&KeyManagerType::Aws) {
            return Err(unfit(
                "The key is managed by AWS for its own services, and only they may use it. Adopt a key that you manage.",
            ));
        }
        let named = metadata.key_spec().ok_or_else(|| malformed("key specification"))?;
        let usage = metadata.key_usage().ok_or_else(|| malformed("key usage"))?;
        let another = match usage {
            KeyUsageType::EncryptDecrypt => None,
            KeyUsageType::GenerateVerifyMac => Some("The key is for HMACs. Adopt a key of usage ENCRYPT_DECRYPT."),
            KeyUsageType::SignVerify => Some("The key is for signatures. Adopt a key of usage ENCRYPT_DECRYPT."),
            _ => Some("The key is not for encryption. Adopt a key of usage ENCRYPT_DECRYPT."),
        };
        if let Some(advice) = another {
            return Err(unfit(advice).found(format!("{} for {}", named.as_str(), usage.as_str())));
        }
        let Some(spec) = our_spec(named) else {
            let advice = "The key has another specification. Adopt one of SYMMETRIC_DEFAULT, RSA_3072 or RSA_4096.";
            return Err(unfit(advice).found(named.as_str()));
        };
        let wanted = match spec {
            KeySpec::Aes256 => EncryptionAlgorithmSpec::SymmetricDefault,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => EncryptionAlgorithmSpec::RsaesOaepSha256,
        };
        if !metadata.encryption_algorithms().contains(&wanted) {
            let advice = "The key supports neither SYMMETRIC_DEFAULT nor RSAES_OAEP_SHA_256. Adopt a key that does.";
            return Err(unfit(advice));
        }
        Ok(Self {
            arn,
            spec,
            state: state(metadata.key_state().ok_or_else(|| malformed("key state"))?),
            created: metadata.creation_date().map(aws_sdk_kms::primitives::DateTime::secs),
        })
    }

    /// Checks that the key can be used now.
    ///
    /// # Errors
    /// `KeyState`, with advice.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        let refused = |advice| Err(fault(ErrorKind::KeyState, "a KMS key that cannot be used now").advice(advice));
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => refused(
                "The KMS key is disabled, or its key store is not connected: its owner can enable it (`aws kms enable-key`) or connect the \
                 store. If it was disabled through the gateway: `claviger keys enable --at-provider`.",
            ),
            KeyState::PendingDeletion | KeyState::Destroyed => {
                refused("The KMS key is scheduled for deletion; its owner can keep it (`aws kms cancel-key-deletion`, then `enable-key`).")
            }
            KeyState::PendingImport => {
                refused("The KMS key has no key material yet; its owner can import it (`aws kms import-key-material`).")
            }
            KeyState::DecryptOnly | KeyState::Failed | KeyState::Unknown => refused(
                "AWS reports a state of the KMS key that this release does not know; its owner can see it (`aws kms describe-key`).",
            ),
        }
    }

    /// The key's description for the gateway. Ciphertexts name no version, so each version is the
    /// same key with another time: the key's creation, then each rotation.
    pub(crate) fn describe(&self, rotations: &[i64]) -> KeyDescription {
        let id = self.arn.id();
        let version = |created| VersionDescription {
            key: ProviderKeyRef {
                id: id.clone(),
                version: String::new(),
            },
            state: self.state,
            created,
            // KMS exports no key material.
            exposure: Some(Exposure::NONE),
        };
        let mut versions = vec![version(self.created)];
        versions.extend(rotations.iter().map(|at| version(Some(*at))));
        KeyDescription {
            id: id.clone(),
            spec: self.spec,
            state: self.state,
            primary: versions.len() - 1,
            versions,
        }
    }
}

/// The state in the gateway's terms. AWS may add states.
fn state(state: &KmsState) -> KeyState {
    match state {
        // A multi-region key whose primary region changes can be used meanwhile.
        KmsState::Enabled | KmsState::Updating => KeyState::Enabled,
        // `Unavailable`: the custom key store is not connected.
        KmsState::Disabled | KmsState::Unavailable | KmsState::Creating => KeyState::Disabled,
        KmsState::PendingImport => KeyState::PendingImport,
        KmsState::PendingDeletion | KmsState::PendingReplicaDeletion => KeyState::PendingDeletion,
        _ => KeyState::Unknown,
    }
}

/// The time of each rotation in Unix seconds. Imported material that is not rotated to yet has none.
pub(crate) fn rotation_times(entries: &[RotationsListEntry]) -> impl Iterator<Item = i64> {
    entries
        .iter()
        .filter_map(|entry| entry.rotation_date())
        .map(aws_sdk_kms::primitives::DateTime::secs)
}
