//! Versions that their provider does not permit to be used, has no more, or has another key in place of.

use claviger_provider::{Error, ErrorKind, ProviderKind};

use super::Failure;
use crate::keys::KeyView;
use crate::store::model::{KeyVersion, ProviderState};

/// Why no version of a key's provider key is taken: it is another one by now, or that is not known.
pub(super) fn obstacle(view: &KeyView) -> Option<Failure> {
    let primary = &view.key.primary;
    let same_key = |version: &&KeyVersion| version.connection == primary.connection && version.provider_key == primary.provider_key;
    let unproven = |version: &&KeyVersion| version.provider_state == ProviderState::Unproven;
    let newest_unproven = || view.versions.iter().rev().filter(same_key).find(unproven);
    let replaced = Some(primary).filter(|primary| matches!(primary.provider_state, ProviderState::Replaced | ProviderState::Unfit));
    replaced.or_else(newest_unproven).map(forbidden_at_provider)
}

/// A version that a provider rejected a ciphertext of, or another one of its names, if the key's rows explain that.
pub(super) fn lost<'v>(view: &'v KeyView, named: &KeyVersion) -> Option<&'v KeyVersion> {
    let same_names = |version: &&KeyVersion| version.is(named.provider, &named.provider_key, &named.provider_version);
    let mut versions = view.versions.iter().filter(same_names);
    versions.find(|version| match version.provider_state {
        ProviderState::Replaced => true,
        ProviderState::Enabled | ProviderState::DecryptOnly => false,
        ProviderState::Disabled
        | ProviderState::PendingImport
        | ProviderState::PendingDeletion
        | ProviderState::Destroyed
        | ProviderState::Failed
        | ProviderState::Unproven
        | ProviderState::Unfit
        | ProviderState::Unknown
        | ProviderState::Unrecognized => version.number == named.number,
    })
}

/// The failure for a version that its provider does not permit to be used.
pub(super) fn forbidden_at_provider(version: &KeyVersion) -> Failure {
    let error = Error::new(ErrorKind::KeyState, "the version's stored state at the provider forbids it");
    let (number, state) = (version.number, version.provider_state.as_str());
    let detail = match version.provider_state {
        ProviderState::Replaced | ProviderState::Unfit if version.is_replaced() => {
            format!("Version {number} of the key was replaced at the provider: another key has its name there now.")
        }
        ProviderState::Unfit => {
            format!("The key of version {number} is of another type at the provider by now, or may not be used for what the gateway needs.")
        }
        ProviderState::Unproven => format!(
            "Version {number} of the key may be another one at the provider: it was created at another time, and nothing proves that it is \
             the same."
        ),
        ProviderState::Unknown => format!("The provider does not have version {number} of the key any more, or hides it."),
        ProviderState::Enabled
        | ProviderState::DecryptOnly
        | ProviderState::Disabled
        | ProviderState::PendingImport
        | ProviderState::PendingDeletion
        | ProviderState::Destroyed
        | ProviderState::Failed
        | ProviderState::Replaced
        | ProviderState::Unrecognized => format!("Version {number} of the key is `{state}` at the provider, which forbids this."),
    };
    Failure {
        detail: detail.into(),
        ..Failure::from(error.provider(version.provider).advice(what_permits(version)))
    }
}

/// A refused call's failure, now that the version is described. Some providers refuse a destroyed version in the words for
/// one that its owner can permit again.
pub(super) fn refused_as(version: &KeyVersion, refused: Failure) -> Failure {
    if version.provider_state != ProviderState::Destroyed {
        return refused;
    }
    let known = forbidden_at_provider(version);
    Failure {
        detail: known.detail,
        advice: known.advice,
        ..refused
    }
}

/// What the owner of a key can do about a version that its provider does not permit to be used.
pub(super) const fn what_permits(version: &KeyVersion) -> &'static str {
    match version.provider_state {
        ProviderState::Unfit if !version.is_replaced() => {
            "A check of the connection says what the key is now. Its owner can permit both wrapping and unwrapping with it again: requests \
             succeed within 10 s after that. Otherwise move to another key: `claviger keys rotate` with `--provider-key`, or with \
             `--connection` and another connection."
        }
        ProviderState::Replaced | ProviderState::Unproven | ProviderState::Unfit | ProviderState::Unknown => {
            "Another key opens nothing that the old one wrapped. The key's owner can restore the old one from a backup in its place: \
             requests succeed within 10 s after that. Otherwise move to another key: `claviger keys rotate` with `--provider-key`, or with \
             `--connection` and another connection."
        }
        ProviderState::Destroyed => destroyed_at(version.provider),
        ProviderState::PendingDeletion => deleted_soon_at(version.provider),
        ProviderState::PendingImport => {
            "The key's owner can import the material (AWS: `aws kms import-key-material`). Requests succeed within 10 s after that."
        }
        ProviderState::Failed => {
            "The provider could not make the version's material, and will not. Rotate the key (`claviger keys rotate`), or move to another one: \
             with `--provider-key`, or with `--connection` and another connection."
        }
        ProviderState::Enabled | ProviderState::DecryptOnly | ProviderState::Disabled | ProviderState::Unrecognized => {
            off_at(version.provider)
        }
    }
}

const fn destroyed_at(provider: ProviderKind) -> &'static str {
    match provider {
        ProviderKind::Aws | ProviderKind::Gcp => {
            "Nobody can enable or restore a destroyed version, and nothing else opens what it wrapped. For new data keys, rotate the key \
             (`claviger keys rotate`), or move to another one: with `--provider-key`, or with `--connection` and another connection."
        }
        ProviderKind::Local | ProviderKind::Azure | ProviderKind::Vault | ProviderKind::Xks | ProviderKind::Kmip | ProviderKind::Pkcs11 => {
            "Nobody can enable a destroyed version again, and nothing else opens what it wrapped. The key's owner can restore the key from a \
             backup that has the version: requests succeed within 10 s after that. For new data keys, rotate the key (`claviger keys rotate`), \
             or move to another one: with `--provider-key`, or with `--connection` and another connection."
        }
    }
}

const fn deleted_soon_at(provider: ProviderKind) -> &'static str {
    match provider {
        ProviderKind::Aws => {
            "The key is scheduled for deletion. Its owner can keep it (`aws kms cancel-key-deletion`, then `enable-key`). Requests succeed \
             within 10 s after that."
        }
        ProviderKind::Gcp => {
            "The version is scheduled for destruction. The key's owner can keep it (`gcloud kms keys versions restore`, then `enable`). \
             Requests succeed within 10 s after that."
        }
        ProviderKind::Local | ProviderKind::Azure | ProviderKind::Vault | ProviderKind::Xks | ProviderKind::Kmip | ProviderKind::Pkcs11 => {
            "The version is scheduled for deletion. The key's owner can keep it while that is not carried out. Requests succeed within 10 s \
             after that."
        }
    }
}

const fn off_at(provider: ProviderKind) -> &'static str {
    match provider {
        ProviderKind::Vault => {
            "The key's owner can permit the version again: it is soft-deleted (`keys/NAME/soft-delete-restore`), or below the key's \
             min_decryption_version or min_encryption_version. Requests succeed within 10 s after that."
        }
        ProviderKind::Kmip => {
            "The key is not active at the key manager. Its owner can activate one that never was, and requests succeed within 10 s after \
             that. One that was deactivated, compromised or destroyed stays so."
        }
        ProviderKind::Pkcs11 => {
            "The key's CKA_ENCRYPT or CKA_DECRYPT is false on the token. Its owner can set both, if the token permits it, and requests \
             succeed within 10 s after that."
        }
        ProviderKind::Aws => {
            "The key's owner can enable it again (`aws kms enable-key`), or connect its key store. Requests succeed within 10 s after that. \
             If it was disabled through the gateway: `claviger keys enable --at-provider`."
        }
        ProviderKind::Gcp => {
            "The key's owner can enable the version again (`gcloud kms keys versions enable`). Requests succeed within 10 s after that. If it \
             was disabled through the gateway: `claviger keys enable --at-provider`."
        }
        ProviderKind::Azure => {
            "The key's owner can enable the version again (`az keyvault key set-attributes --enabled true`). Requests succeed within 10 s \
             after that. If it was disabled through the gateway: `claviger keys enable --at-provider`."
        }
        ProviderKind::Local | ProviderKind::Xks => {
            "The key's owner can enable the key again in the key manager. Requests succeed within 10 s after that."
        }
    }
}

#[cfg(test)]
mod tests {
    use claviger_provider::{ProviderKind, TenantId};

    use super::what_permits;
    use crate::keys::fixture::{connection, row};
    use crate::store::model::{KeyVersion, ProviderState};

    #[test]
    fn a_destroyed_version_is_said_to_stay_so() {
        let (_, version) = row(&connection(TenantId::random(), "c"), "k");
        for provider in ProviderKind::ALL {
            let advice = |provider_state| {
                what_permits(&KeyVersion {
                    provider,
                    provider_state,
                    ..version.clone()
                })
            };
            let destroyed = advice(ProviderState::Destroyed);
            assert!(
                destroyed.starts_with("Nobody can enable") && destroyed.contains("claviger keys rotate"),
                "{provider}"
            );
            let has_backups = !matches!(provider, ProviderKind::Aws | ProviderKind::Gcp);
            assert_eq!(destroyed.contains("from a backup"), has_backups, "{provider}");
            assert_ne!(advice(ProviderState::Disabled), destroyed, "{provider}");
        }
    }
}
