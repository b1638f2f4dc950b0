//! Whether a key that is adopted belongs to the tenant who names it, and not to another one
//! of the installation.

use std::collections::HashMap;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use claviger_provider::{DekId, Error, ErrorKind, KeyId, KeySpec, OpContext, Secret, TenantId};

use crate::errors::{CallError, fault};
use crate::keys::Key;
use crate::names::KeyArn;
use crate::provider::{AwsProvider, bytes};

/// What proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The connection's credential is the tenant's own, or a role of his that demands the
    /// connection's external id: what it may use is his to use.
    Credential,
    /// The identity is one that the operator lends to several tenants, so the key's own policy
    /// must name the tenant.
    KeyPolicy,
}

const CONDITION: &str = "The connection's identity is shared by tenants, so the key's policy must let it encrypt and decrypt only under the condition \
     StringEquals {\"kms:EncryptionContext:claviger:tenant\": the tenant's id}. The connection's check prints the statement.";

/// The pairs that every wrapped key of a tenant's is bound to.
pub(crate) fn canary_context(tenant: TenantId, key: KeyId) -> HashMap<String, String> {
    HashMap::from([
        ("claviger:tenant".to_owned(), tenant.to_string()),
        ("claviger:key".to_owned(), key.to_string()),
        ("claviger:dek".to_owned(), DekId::random().to_string()),
    ])
}

impl AwsProvider {
    /// Encrypts nothing of worth.
    pub(crate) async fn canary_encrypt(
        &self,
        arn: &KeyArn,
        spec: KeySpec,
        context: HashMap<String, String>,
    ) -> Result<(Secret, Vec<u8>), CallError> {
        let canary = Secret::random(32);
        let request = self
            .clients
            .kms
            .encrypt()
            .key_id(arn.as_str())
            .plaintext(Blob::new(canary.expose()));
        let request = match spec {
            KeySpec::Aes256 => request.set_encryption_context(Some(context)),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => request.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256),
        };
        let answer = self.clients.call(|| request.clone().send()).await?;
        let blob = answer.ciphertext_blob.ok_or(CallError::MalformedResponse("ciphertext"))?;
        Ok((canary, blob.into_inner()))
    }

    /// Decrypts it again.
    pub(crate) async fn canary_decrypt(
        &self,
        arn: &KeyArn,
        spec: KeySpec,
        ciphertext: Vec<u8>,
        context: HashMap<String, String>,
    ) -> Result<Secret, CallError> {
        let request = self
            .clients
            .kms
            .decrypt()
            .key_id(arn.as_str())
            .ciphertext_blob(Blob::new(ciphertext));
        let request = match spec {
            KeySpec::Aes256 => request.set_encryption_context(Some(context)),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => request.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256),
        };
        let answer = self.clients.call(|| request.clone().send()).await?;
        let opened = bytes(answer.plaintext, "plaintext", "decrypt").map_err(|_| CallError::MalformedResponse("plaintext"))?;
        Ok(Secret::new(opened))
    }

    /// Proves that the key is the tenant's.
    ///
    /// # Errors
    /// `InvalidInput` where it is not proven, with what to do; what AWS refuses.
    pub(crate) async fn prove(&self, cx: &OpContext, key: &Key, id: KeyId) -> Result<(), Error> {
        let operation = "prove whose key it is";
        let unproven = |advice| Err(fault(ErrorKind::InvalidInput, operation).advice(advice));
        match (self.proof, key.spec) {
            (Proof::Credential, _) => {}
            (Proof::KeyPolicy, _) if cx.claimant().is_none() => {}
            (Proof::KeyPolicy, KeySpec::Rsa3072 | KeySpec::Rsa4096) => {
                return unproven(
                    "The connection's identity is shared by tenants, and RSA keys take no encryption context that could name the tenant. Use a \
                     connection with a role, whose external id proves the key.",
                );
            }
            (Proof::KeyPolicy, KeySpec::Aes256) => {
                let stranger = canary_context(TenantId::random(), id);
                match self.canary_encrypt(&key.arn, key.spec, stranger).await {
                    Ok(_) => return unproven(CONDITION),
                    Err(failed) if failed.denied() => {}
                    Err(failed) => return Err(failed.into_error(operation)),
                }
            }
        }
        let explain = |failed: CallError| match (failed.denied(), self.proof) {
            (true, Proof::KeyPolicy) => failed.into_error(operation).advice(CONDITION),
            (true | false, _) => failed.into_error(operation),
        };
        let context = canary_context(cx.tenant, id);
        let (canary, ciphertext) = self.canary_encrypt(&key.arn, key.spec, context.clone()).await.map_err(explain)?;
        let opened = self
            .canary_decrypt(&key.arn, key.spec, ciphertext, context)
            .await
            .map_err(explain)?;
        if opened != canary {
            return Err(CallError::MalformedResponse("plaintext").into_error(operation));
        }
        Ok(())
    }
}
