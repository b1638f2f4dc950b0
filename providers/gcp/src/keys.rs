//! Keys as Google describes them, and what of it the gateway can use.

use claviger_provider::{Error, ErrorKind, KeyDescription, KeySpec, KeyState, ProviderKeyRef, TenantId, VersionDescription};
use google_cloud_kms_v1::model::crypto_key::CryptoKeyPurpose;
use google_cloud_kms_v1::model::crypto_key_version::{CryptoKeyVersionAlgorithm as Algorithm, CryptoKeyVersionState as State};
use google_cloud_kms_v1::model::{CryptoKey, CryptoKeyVersion, ProtectionLevel};

use crate::errors::{CallError, fault};
use crate::names::{KeyName, Number};

/// The label that says whose a key is.
pub(crate) const TENANT_LABEL: &str = "claviger-tenant";
/// The label that says which logical key one was made for.
pub(crate) const KEY_LABEL: &str = "claviger-key";

/// A key, as far as it matters here.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: KeyName,
    pub(crate) spec: KeySpec,
    pub(crate) level: ProtectionLevel,
    /// The version that Google itself uses to encrypt; symmetric keys have one.
    primary: Option<Number>,
    tenant: Option<String>,
}

/// What Google has for a specification.
pub(crate) fn purpose(spec: KeySpec) -> (CryptoKeyPurpose, Algorithm) {
    match spec {
        KeySpec::Aes256 => (CryptoKeyPurpose::EncryptDecrypt, Algorithm::GoogleSymmetricEncryption),
        KeySpec::Rsa3072 => (CryptoKeyPurpose::AsymmetricDecrypt, Algorithm::RsaDecryptOaep3072Sha256),
        KeySpec::Rsa4096 => (CryptoKeyPurpose::AsymmetricDecrypt, Algorithm::RsaDecryptOaep4096Sha256),
    }
}

impl Key {
    /// Reads a description of the key that was asked for.
    ///
    /// # Errors
    /// `UpstreamProtocol` for one that makes no sense; `InvalidInput` for a key that cannot
    /// stand behind a logical key, with what to do.
    pub(crate) fn of(key: &CryptoKey, name: &KeyName) -> Result<Self, Error> {
        let operation = "describe a key";
        let malformed = |part| CallError::MalformedResponse(part).into_error(operation);
        if key.name != name.as_str() {
            return Err(malformed("key"));
        }
        let unfit = |advice| Err(fault(ErrorKind::InvalidInput, "a key that is not fit").advice(advice));
        let template = key.version_template.as_ref().ok_or_else(|| malformed("version template"))?;
        let spec = match (&key.purpose, &template.algorithm) {
            (CryptoKeyPurpose::EncryptDecrypt, Algorithm::GoogleSymmetricEncryption | Algorithm::ExternalSymmetricEncryption) => {
                KeySpec::Aes256
            }
            (CryptoKeyPurpose::AsymmetricDecrypt, Algorithm::RsaDecryptOaep3072Sha256) => KeySpec::Rsa3072,
            (CryptoKeyPurpose::AsymmetricDecrypt, Algorithm::RsaDecryptOaep4096Sha256) => KeySpec::Rsa4096,
            (CryptoKeyPurpose::AsymmetricDecrypt, _) => {
                return unfit(
                    "The key has another algorithm. Adopt one of RSA_DECRYPT_OAEP_3072_SHA256 or RSA_DECRYPT_OAEP_4096_SHA256 (2048 bits and \
                     other hashes are not taken).",
                );
            }
            (CryptoKeyPurpose::AsymmetricSign, _) => {
                return unfit("The key is for signatures. Adopt one of purpose ENCRYPT_DECRYPT or ASYMMETRIC_DECRYPT.");
            }
            (CryptoKeyPurpose::Mac, _) => {
                return unfit("The key is for MACs. Adopt one of purpose ENCRYPT_DECRYPT or ASYMMETRIC_DECRYPT.");
            }
            // Their enumeration may grow; raw encryption is among the rest.
            (_, _) => return unfit("The key is of another purpose. Adopt one of purpose ENCRYPT_DECRYPT or ASYMMETRIC_DECRYPT."),
        };
        let primary = match &key.primary {
            Some(version) => Some(name.number_of(&version.name).ok_or_else(|| malformed("primary version"))?),
            None => None,
        };
        Ok(Self {
            name: name.clone(),
            spec,
            level: template.protection_level.clone(),
            primary,
            tenant: key.labels.get(TENANT_LABEL).cloned(),
        })
    }

    /// Demands the label that says that the key is this tenant's.
    ///
    /// # Errors
    /// `InvalidInput` where it is missing or another tenant's: which of the two is not told.
    pub(crate) fn belongs_to(&self, tenant: TenantId) -> Result<(), Error> {
        if self.tenant.as_deref() == Some(tenant.to_string().as_str()) {
            return Ok(());
        }
        Err(fault(ErrorKind::InvalidInput, "prove whose key it is").advice(
            "The key must carry the label claviger-tenant with the tenant's id (32 hex digits): `gcloud kms keys update KEY --keyring \
             KEYRING --location LOCATION --update-labels=claviger-tenant=ID`. The connection's check prints the command with the id.",
        ))
    }

    /// In the gateway's words. A version that has no material yet, or never got any, is none;
    /// but the only one of a new key is there: until its material is, whatever is done with it
    /// says so.
    ///
    /// # Errors
    /// `KeyState` where no version is left, with what to do; `UpstreamProtocol` for versions
    /// that make no sense.
    pub(crate) fn describe(&self, versions: &[CryptoKeyVersion]) -> Result<KeyDescription, Error> {
        let operation = "list a key's versions";
        let mut all = Vec::new();
        let new = matches!(versions, [only] if only.state == State::PendingGeneration);
        for version in versions {
            let number = self.name.number_of(&version.name);
            let number = number.ok_or_else(|| CallError::MalformedResponse("version").into_error(operation))?;
            if let Some(state) = state(&version.state).or(new.then_some(KeyState::Enabled)) {
                let created = version.create_time.as_ref().map(google_cloud_wkt::Timestamp::seconds);
                all.push((number, state, created));
            }
        }
        all.sort_by_key(|(number, _, _)| *number);
        let primary = match self.primary {
            Some(primary) => all.iter().position(|(number, _, _)| *number == primary),
            // Asymmetric keys have none: the newest that can be used is the one that is used.
            None => all
                .iter()
                .rposition(|(_, state, _)| *state == KeyState::Enabled)
                .or_else(|| all.len().checked_sub(1)),
        };
        let Some(primary) = primary else {
            return Err(fault(ErrorKind::KeyState, "a key without versions").advice(
                "The key has no version that was ever usable, or no primary one: its owner can make one (`gcloud kms keys versions create \
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
                    key: named(&self.name, number),
                    state,
                    created,
                })
                .collect(),
        })
    }
}

/// A version as envelopes carry it.
pub(crate) fn named(key: &KeyName, number: Number) -> ProviderKeyRef {
    ProviderKeyRef {
        id: key.as_str().to_owned(),
        version: number.to_string(),
    }
}

/// A version's state in the gateway's words; `None` for one that is no version yet, or never
/// became one.
fn state(state: &State) -> Option<KeyState> {
    match state {
        State::Enabled => Some(KeyState::Enabled),
        State::Disabled => Some(KeyState::Disabled),
        State::DestroyScheduled | State::PendingExternalDestruction => Some(KeyState::PendingDeletion),
        State::Destroyed | State::ExternalDestructionFailed => Some(KeyState::Destroyed),
        State::PendingImport => Some(KeyState::PendingImport),
        // Of what is made at this moment, or was not: nothing is under it. Theirs may grow.
        _ => None,
    }
}

/// The word for where a key's material is.
pub(crate) fn level(level: &ProtectionLevel) -> &'static str {
    match level {
        ProtectionLevel::Software => "SOFTWARE",
        ProtectionLevel::Hsm => "HSM",
        ProtectionLevel::External => "EXTERNAL",
        ProtectionLevel::ExternalVpc => "EXTERNAL_VPC",
        ProtectionLevel::HsmSingleTenant => "HSM_SINGLE_TENANT",
        // Theirs, and it may grow.
        _ => "of a level that this release does not know",
    }
}
