//! Keys as Google describes them, and what the gateway reads from that.

use claviger_provider::{Error, ErrorKind, Exposure, KeyDescription, KeySpec, KeyState, ProviderKeyRef, TenantId, VersionDescription};
use google_cloud_kms_v1::model::crypto_key::CryptoKeyPurpose;
use google_cloud_kms_v1::model::crypto_key_version::{CryptoKeyVersionAlgorithm as Algorithm, CryptoKeyVersionState as State};
use google_cloud_kms_v1::model::{CryptoKey, CryptoKeyVersion, ProtectionLevel};

use crate::errors::{CallError, fault};
use crate::names::{KeyName, VersionNumber};

/// The label that names a key's tenant.
pub(crate) const TENANT_LABEL: &str = "claviger-tenant";
/// The label of a created key that names its logical key.
pub(crate) const KEY_LABEL: &str = "claviger-key";

/// A key without its versions.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: KeyName,
    pub(crate) spec: KeySpec,
    pub(crate) level: ProtectionLevel,
    /// The version that Google encrypts with; symmetric keys only.
    primary: Option<VersionNumber>,
}

/// Google's purpose and algorithm of a specification.
pub(crate) fn purpose(spec: KeySpec) -> (CryptoKeyPurpose, Algorithm) {
    match spec {
        KeySpec::Aes256 => (CryptoKeyPurpose::EncryptDecrypt, Algorithm::GoogleSymmetricEncryption),
        KeySpec::Rsa3072 => (CryptoKeyPurpose::AsymmetricDecrypt, Algorithm::RsaDecryptOaep3072Sha256),
        KeySpec::Rsa4096 => (CryptoKeyPurpose::AsymmetricDecrypt, Algorithm::RsaDecryptOaep4096Sha256),
    }
}

impl Key {
    /// Reads the description of the key `name`.
    ///
    /// # Errors
    /// `UpstreamProtocol` for a malformed description or another key; `InvalidInput`, with advice,
    /// for a key that no logical key can use.
    pub(crate) fn of(key: &CryptoKey, name: &KeyName) -> Result<Self, Error> {
        let operation = "describe a key";
        let malformed = |part| CallError::MalformedResponse(part).into_error(operation);
        if key.name != name.as_str() {
            return Err(malformed("key"));
        }
        let template = key.version_template.as_ref().ok_or_else(|| malformed("version template"))?;
        let unusable = |advice| {
            let error = fault(ErrorKind::InvalidInput, "a key that cannot be used").advice(advice);
            // Google's client has no name for an algorithm that is newer than it.
            Err(match template.algorithm.name() {
                Some(algorithm) => error.found(algorithm),
                None => error,
            })
        };
        let spec = match (&key.purpose, &template.algorithm) {
            (CryptoKeyPurpose::EncryptDecrypt, Algorithm::GoogleSymmetricEncryption | Algorithm::ExternalSymmetricEncryption) => {
                KeySpec::Aes256
            }
            (CryptoKeyPurpose::AsymmetricDecrypt, Algorithm::RsaDecryptOaep3072Sha256) => KeySpec::Rsa3072,
            (CryptoKeyPurpose::AsymmetricDecrypt, Algorithm::RsaDecryptOaep4096Sha256) => KeySpec::Rsa4096,
            (CryptoKeyPurpose::AsymmetricDecrypt, _) => {
                return unusable(
                    "The key has an unsupported algorithm. Adopt one with RSA_DECRYPT_OAEP_3072_SHA256 or RSA_DECRYPT_OAEP_4096_SHA256 \
                     (2048 bits and other hashes are not supported).",
                );
            }
            (CryptoKeyPurpose::AsymmetricSign, _) => {
                return unusable("The key is for signatures. Adopt one of purpose ENCRYPT_DECRYPT or ASYMMETRIC_DECRYPT.");
            }
            (CryptoKeyPurpose::Mac, _) => {
                return unusable("The key is for MACs. Adopt one of purpose ENCRYPT_DECRYPT or ASYMMETRIC_DECRYPT.");
            }
            // Google's enum is non-exhaustive; raw encryption is among the others.
            (_, _) => return unusable("The key has another purpose. Adopt one of purpose ENCRYPT_DECRYPT or ASYMMETRIC_DECRYPT."),
        };
        let primary = match &key.primary {
            Some(version) => Some(name.version_of(&version.name).ok_or_else(|| malformed("primary version"))?),
            None => None,
        };
        Ok(Self {
            name: name.clone(),
            spec,
            level: template.protection_level.clone(),
            primary,
        })
    }

    /// Whether Google has a version to encrypt with.
    pub(crate) const fn has_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// The gateway's description of the key. Versions whose material is still generated are
    /// omitted, except for the only version of a new key. An operation with that one fails until
    /// its material is ready.
    ///
    /// # Errors
    /// `KeyState`, with advice, where no version is left; `UpstreamProtocol` for malformed versions.
    pub(crate) fn describe(&self, versions: &[CryptoKeyVersion]) -> Result<KeyDescription, Error> {
        let operation = "list a key's versions";
        let mut all = Vec::new();
        let new = matches!(versions, [only] if only.state == State::PendingGeneration);
        for version in versions {
            let number = self.name.version_of(&version.name);
            let number = number.ok_or_else(|| CallError::MalformedResponse("version").into_error(operation))?;
            if let Some(state) = state(&version.state).or(new.then_some(KeyState::Enabled)) {
                let created = version.create_time.as_ref().map(google_cloud_wkt::Timestamp::seconds);
                all.push((number, state, created));
            }
        }
        all.sort_by_key(|(number, _, _)| *number);
        let primary = match self.primary {
            Some(primary) => all.iter().position(|(number, _, _)| *number == primary),
            // Asymmetric keys have no primary version at Google, so the newest usable one is used.
            None => all
                .iter()
                .rposition(|(_, state, _)| *state == KeyState::Enabled)
                .or_else(|| all.len().checked_sub(1)),
        };
        let Some(primary) = primary else {
            return Err(fault(ErrorKind::KeyState, "a key without versions").advice(
                "The key has no version that was ever usable, or no primary one: its owner can create one (`gcloud kms keys versions create \
                 --primary`).",
            ));
        };
        let state = all.get(primary).map_or(KeyState::Disabled, |(_, state, _)| *state);
        Ok(KeyDescription {
            id: self.name.as_str().to_owned(),
            spec: self.spec,
            state,
            primary,
            versions: all
                .into_iter()
                .map(|(number, state, created)| VersionDescription {
                    key: version_ref(&self.name, number),
                    state,
                    created,
                    // Cloud KMS exports no key material.
                    exposure: Some(Exposure::NONE),
                })
                .collect(),
        })
    }
}

/// Fails unless the key has the label with this tenant.
///
/// # Errors
/// `ProviderDenied`; it does not reveal whether the label is missing or names another tenant.
pub(crate) fn belongs_to(key: &CryptoKey, tenant: TenantId) -> Result<(), Error> {
    let named = key.labels.get(TENANT_LABEL).map(String::as_str);
    if named == Some(tenant.to_string().as_str()) {
        Ok(())
    } else {
        Err(unproven())
    }
}

/// The error of an adoption whose owner is not proven by the key's label.
pub(crate) fn unproven() -> Error {
    fault(ErrorKind::ProviderDenied, "a key without the tenant's label").advice(
        "The key must carry the label claviger-tenant with the tenant's id (32 hex digits): `gcloud kms keys update KEY --keyring KEYRING \
         --location LOCATION --update-labels=claviger-tenant=ID`. The connection's check prints the command with the id.",
    )
}

/// The key and version in the form of an envelope.
pub(crate) fn version_ref(key: &KeyName, number: VersionNumber) -> ProviderKeyRef {
    ProviderKeyRef {
        id: key.as_str().to_owned(),
        version: number.to_string(),
    }
}

/// The gateway's state of a version; `None` for one whose material is still generated.
fn state(state: &State) -> Option<KeyState> {
    match state {
        State::Enabled => Some(KeyState::Enabled),
        State::Disabled => Some(KeyState::Disabled),
        State::DestroyScheduled | State::PendingExternalDestruction => Some(KeyState::PendingDeletion),
        State::Destroyed | State::ExternalDestructionFailed => Some(KeyState::Destroyed),
        State::PendingImport => Some(KeyState::PendingImport),
        State::GenerationFailed | State::ImportFailed => Some(KeyState::Failed),
        State::PendingGeneration => None,
        // Google's enum is non-exhaustive.
        _ => Some(KeyState::Unknown),
    }
}

/// The name of a protection level.
pub(crate) fn level(level: &ProtectionLevel) -> &'static str {
    match level {
        ProtectionLevel::Software => "SOFTWARE",
        ProtectionLevel::Hsm => "HSM",
        ProtectionLevel::External => "EXTERNAL",
        ProtectionLevel::ExternalVpc => "EXTERNAL_VPC",
        ProtectionLevel::HsmSingleTenant => "HSM_SINGLE_TENANT",
        // Google's enum is non-exhaustive.
        _ => "an unknown protection level",
    }
}
