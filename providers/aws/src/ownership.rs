//! Adopts a key once it is proven to belong to the tenant who names it, and not to another tenant
//! of the installation.

use std::collections::HashMap;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use claviger_provider::{DekId, Error, ErrorKind, KeyDescription, KeyId, KeySpec, OpContext, Secret, TenantId};

use crate::client::{Kms, bytes, same_key};
use crate::codes::ACCESS_DENIED;
use crate::errors::{CallError, denied, fault};
use crate::keys::Key;
use crate::names::{AdoptedName, KeyArn};
use crate::settings::Settings;

/// Evidence that a key belongs to the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The connection's identity is the tenant's own, or a role of the tenant's that requires the
    /// connection's external id. So the tenant may use every key that the identity may use.
    Credential,
    /// Several tenants share the identity, which is the operator's, so the key's own policy must
    /// name the tenant.
    KeyPolicy,
}

impl Proof {
    /// The proof that a connection with these settings needs.
    pub(crate) fn of(settings: &Settings) -> Self {
        match settings.auth.operator_owned() {
            true => Self::KeyPolicy,
            false => Self::Credential,
        }
    }

    /// Whether the identity may see keys of others than the tenant who asks.
    fn hides(self, cx: &OpContext) -> bool {
        self == Self::KeyPolicy && cx.claimant().is_some()
    }
}

const PROVE: &str = "prove the key's owner";
const CONDITION: &str = "Tenants share the connection's identity, so the key's policy must let it encrypt and decrypt only under the condition \
     StringEquals {\"kms:EncryptionContext:claviger:tenant\": the tenant's id}. The connection's check prints the statement. RSA keys take no \
     such context: use a connection with a role, whose external id proves the key's owner.";

/// A context with the gateway's own pairs, as every wrapped key of the tenant has.
pub(crate) fn canary_context(tenant: TenantId, key: KeyId) -> HashMap<String, String> {
    HashMap::from([
        ("claviger:tenant".to_owned(), tenant.to_string()),
        ("claviger:key".to_owned(), key.to_string()),
        ("claviger:dek".to_owned(), DekId::random().to_string()),
    ])
}

impl Kms {
    /// Encrypts random bytes; returns them and the ciphertext.
    pub(crate) async fn canary_encrypt(
        &self,
        cx: &OpContext,
        arn: &KeyArn,
        spec: KeySpec,
        context: HashMap<String, String>,
    ) -> Result<(Secret, Vec<u8>), CallError> {
        let canary = Secret::random(32);
        let request = self.kms.encrypt().key_id(arn.as_str()).plaintext(Blob::new(canary.expose()));
        let request = match spec {
            KeySpec::Aes256 => request.set_encryption_context(Some(context)),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => request.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256),
        };
        let response = self.try_call(cx, "Encrypt", || request.clone().send()).await?;
        let ciphertext = response.ciphertext_blob.ok_or(CallError::MalformedResponse("ciphertext"))?;
        Ok((canary, ciphertext.into_inner()))
    }

    /// Decrypts what [`Self::canary_encrypt`] encrypted.
    pub(crate) async fn canary_decrypt(
        &self,
        cx: &OpContext,
        arn: &KeyArn,
        spec: KeySpec,
        ciphertext: Vec<u8>,
        context: HashMap<String, String>,
    ) -> Result<Secret, CallError> {
        let request = self.kms.decrypt().key_id(arn.as_str()).ciphertext_blob(Blob::new(ciphertext));
        let request = match spec {
            KeySpec::Aes256 => request.set_encryption_context(Some(context)),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => request.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256),
        };
        let response = self.try_call(cx, "Decrypt", || request.clone().send()).await?;
        bytes(response.plaintext, "plaintext").map(Secret::new)
    }
}

/// Adopts a key that exists at AWS.
///
/// # Errors
/// `InvalidInput` for a name of another form or a key that does not fit, and `ProviderDenied` for
/// one whose owner is not proven, each with advice; `KeyState` for a key that cannot be used now;
/// the errors of the calls.
pub(crate) async fn adopt(kms: &Kms, proof: Proof, cx: &OpContext, name: &str, id: KeyId) -> Result<KeyDescription, Error> {
    let name = AdoptedName::parse(name, &kms.region).map_err(|hint| fault(ErrorKind::InvalidInput, "adopt a key").advice(hint.0))?;
    let key = kms.described(cx, name.as_str()).await.map_err(|error| match error.kind {
        _ if proof.hides(cx) => hidden(proof, error),
        ErrorKind::KeyNotFound => error.advice("The connection's region has no such key or alias, or the identity may not see it."),
        _ => error,
    })?;
    if let AdoptedName::Arn(arn) = &name {
        same_key(Some(key.arn.as_str()), arn).map_err(|error| error.into_error("DescribeKey"))?;
    }
    if !proof.hides(cx) {
        key.usable()?;
    }
    prove(kms, proof, cx, &key, id).await?;
    key.usable()?;
    let rotations = kms.rotation_history(cx, &key).await?;
    Ok(key.describe(&rotations))
}

/// What is said of a key before it is proven to be the tenant's: not whether there is one, of which kind, or in which
/// state. The shared identity may see keys of other tenants, and the operator's.
fn hidden(proof: Proof, error: Error) -> Error {
    match error.kind {
        ErrorKind::KeyNotFound | ErrorKind::KeyState | ErrorKind::InvalidInput | ErrorKind::ProviderDenied => unproven(proof),
        _ => error,
    }
}

/// The error of a proof that fails, as AWS's own refusal reads.
pub(crate) fn unproven(proof: Proof) -> Error {
    let denied = fault(ErrorKind::ProviderDenied, PROVE);
    match proof {
        Proof::KeyPolicy => denied.advice(CONDITION),
        Proof::Credential => denied.advice(ACCESS_DENIED),
    }
}

/// Proves that the key is the tenant's.
async fn prove(kms: &Kms, proof: Proof, cx: &OpContext, key: &Key, id: KeyId) -> Result<(), Error> {
    match (proof, key.spec) {
        (Proof::Credential, _) => {}
        (Proof::KeyPolicy, _) if cx.claimant().is_none() => {}
        (Proof::KeyPolicy, KeySpec::Rsa3072 | KeySpec::Rsa4096) => return Err(unproven(proof)),
        (Proof::KeyPolicy, KeySpec::Aes256) => {
            let other_tenant = canary_context(TenantId::random(), id);
            match kms.canary_encrypt(cx, &key.arn, key.spec, other_tenant).await {
                Ok(_) => return Err(unproven(proof)),
                Err(error) if denied(&error) => {}
                Err(error) => return Err(hidden(proof, error.into_error(PROVE))),
            }
        }
    }
    let explain = |error: CallError| match denied(&error) && proof.hides(cx) {
        true => unproven(proof),
        // Whoever passes the key's policy with the tenant's context may know its state.
        false => error.into_error(PROVE),
    };
    let context = canary_context(cx.tenant, id);
    let encrypted = kms.canary_encrypt(cx, &key.arn, key.spec, context.clone()).await;
    let (canary, ciphertext) = encrypted.map_err(explain)?;
    let decrypted = kms.canary_decrypt(cx, &key.arn, key.spec, ciphertext, context).await;
    if decrypted.map_err(explain)? != canary {
        return Err(CallError::MalformedResponse("plaintext").into_error(PROVE));
    }
    Ok(())
}
