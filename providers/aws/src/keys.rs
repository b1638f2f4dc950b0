//! Keys as KMS describes them, and what of it the gateway can use.

use aws_sdk_kms::types::{
    EncryptionAlgorithmSpec, KeyManagerType, KeyMetadata, KeySpec as KmsSpec, KeyState as KmsState, KeyUsageType, RotationsListEntry,
};
use claviger_provider::{Error, ErrorKind, KeyDescription, KeySpec, KeyState, ProviderKeyRef, VersionDescription};

use crate::errors::{CallError, fault};
use crate::names::KeyArn;

/// The specification that KMS has for one of ours.
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

/// A key, as far as it matters here.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) arn: KeyArn,
    pub(crate) spec: KeySpec,
    pub(crate) state: KeyState,
    created: Option<i64>,
}

impl Key {
    /// Reads a description.
    ///
    /// # Errors
    /// `UpstreamProtocol` for one that makes no sense; `InvalidInput` for a key that cannot
    /// stand behind a logical key, with what to do.
    pub(crate) fn of(metadata: &KeyMetadata) -> Result<Self, Error> {
        let operation = "describe a key";
        let malformed = |part| CallError::MalformedResponse(part).into_error(operation);
        let arn = metadata.arn().and_then(KeyArn::parse).ok_or_else(|| malformed("ARN"))?;
        let unfit = |advice| Err(fault(ErrorKind::InvalidInput, "a KMS key that is not fit").advice(advice));
        if metadata.key_manager() == Some(&KeyManagerType::Aws) {
            return unfit("The key is managed by AWS for its own services, which alone may use it. Adopt a key that you manage.");
        }
        match metadata.key_usage() {
            Some(KeyUsageType::EncryptDecrypt) => {}
            Some(KeyUsageType::GenerateVerifyMac) => {
                return unfit("The key is for HMACs. Adopt a key of usage ENCRYPT_DECRYPT.");
            }
            Some(KeyUsageType::SignVerify) => {
                return unfit("The key is for signatures. Adopt a key of usage ENCRYPT_DECRYPT.");
            }
            Some(_) => return unfit("The key is not for encryption. Adopt a key of usage ENCRYPT_DECRYPT."),
            None => return Err(malformed("key usage")),
        }
        let Some(spec) = our_spec(metadata.key_spec().ok_or_else(|| malformed("key specification"))?) else {
            return unfit("The key has another specification. Adopt one of SYMMETRIC_DEFAULT, RSA_3072 or RSA_4096.");
        };
        let wanted = match spec {
            KeySpec::Aes256 => EncryptionAlgorithmSpec::SymmetricDefault,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => EncryptionAlgorithmSpec::RsaesOaepSha256,
        };
        if !metadata.encryption_algorithms().contains(&wanted) {
            return unfit("The key does not take SYMMETRIC_DEFAULT or RSAES_OAEP_SHA_256. Adopt a key that does.");
        }
        Ok(Self {
            arn,
            spec,
            state: state(metadata.key_state().ok_or_else(|| malformed("key state"))?).ok_or_else(|| malformed("key state"))?,
            created: metadata.creation_date().map(aws_sdk_kms::primitives::DateTime::secs),
        })
    }

    /// Whether it can be used now.
    ///
    /// # Errors
    /// `KeyState`, with what to do.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        let refused = |advice| Err(fault(ErrorKind::KeyState, "a KMS key that cannot be used now").advice(advice));
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => refused(
                "The KMS key is disabled, or its key store is not connected; its owner can enable it (`aws kms enable-key`), or connect the \
                 store.",
            ),
            KeyState::PendingDeletion | KeyState::Destroyed => {
                refused("The KMS key waits for its deletion; its owner can keep it (`aws kms cancel-key-deletion`, then `enable-key`).")
            }
            KeyState::PendingImport => {
                refused("The KMS key waits for its material; its owner can import it (`aws kms import-key-material`).")
            }
        }
    }

    /// In the gateway's words. Ciphertexts name no version, so each is the key with another
    /// time: the first when it was made, then one for each rotation.
    pub(crate) fn describe(&self, rotations: &[i64]) -> KeyDescription {
        let id = self.arn.id();
        let version = |created| VersionDescription {
            key: ProviderKeyRef {
                id: id.clone(),
                version: String::new(),
            },
            state: self.state,
            created,
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

/// `None` for a state that this release does not know.
fn state(state: &KmsState) -> Option<KeyState> {
    match state {
        // A multi-region key that is given another primary region can be used meanwhile.
        KmsState::Enabled | KmsState::Updating => Some(KeyState::Enabled),
        // Its custom key store is not connected, or it is not made yet.
        KmsState::Disabled | KmsState::Unavailable | KmsState::Creating => Some(KeyState::Disabled),
        KmsState::PendingImport => Some(KeyState::PendingImport),
        KmsState::PendingDeletion | KmsState::PendingReplicaDeletion => Some(KeyState::PendingDeletion),
        _ => None,
    }
}

/// When each rotation took place, in Unix seconds, oldest first. Material of an imported key
/// that waits to be rotated to is none yet.
pub(crate) fn rotation_times(entries: &[RotationsListEntry]) -> impl Iterator<Item = i64> {
    entries
        .iter()
        .filter_map(|entry| entry.rotation_date())
        .map(aws_sdk_kms::primitives::DateTime::secs)
}
