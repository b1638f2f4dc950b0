//! The requests and responses of the API.

use claviger_provider::{GcmParts, KeyId, OpContext, Purpose};
use serde::{Deserialize, Serialize};

use crate::names::{Region, key_arn, principal_arn};

const ALGORITHM: &str = "AES_GCM";
const DIGEST: &str = "SHA_256";

/// What the call is for, in the words of AWS KMS: a proxy may decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum KmsOperation {
    GenerateDataKey,
    Encrypt,
    Decrypt,
    ReEncrypt,
    DescribeKey,
    KmsHealthCheck,
}

impl KmsOperation {
    /// Those of calls with a key.
    pub(crate) const OF_KEYS: [Self; 5] = [
        Self::GenerateDataKey,
        Self::Encrypt,
        Self::Decrypt,
        Self::ReEncrypt,
        Self::DescribeKey,
    ];

    /// Of a wrap.
    pub(crate) const fn encrypting(cx: &OpContext) -> Self {
        match cx.purpose() {
            Some(Purpose::GenerateDataKey) => Self::GenerateDataKey,
            Some(Purpose::Rewrap) => Self::ReEncrypt,
            Some(Purpose::Wrap | Purpose::Unwrap) | None => Self::Encrypt,
        }
    }

    /// Of an unwrap.
    pub(crate) const fn decrypting(cx: &OpContext) -> Self {
        match cx.purpose() {
            Some(Purpose::Rewrap) => Self::ReEncrypt,
            Some(Purpose::GenerateDataKey | Purpose::Wrap | Purpose::Unwrap) | None => Self::Decrypt,
        }
    }
}

/// Who calls for what. The specification permits no other members.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestMetadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    aws_principal_arn: Option<String>,
    kms_operation: KmsOperation,
    kms_request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_key_arn: Option<String>,
}

impl<'a> RequestMetadata<'a> {
    /// Of a call that uses a key for a logical key.
    pub(crate) fn using(cx: &'a OpContext, operation: KmsOperation, region: &Region, key: KeyId) -> Self {
        Self {
            kms_key_arn: Some(key_arn(region, cx.tenant, key)),
            ..Self::describing(cx, operation)
        }
    }

    /// Of a call about a key.
    pub(crate) fn describing(cx: &'a OpContext, operation: KmsOperation) -> Self {
        Self {
            aws_principal_arn: Some(principal_arn(cx.tenant, &cx.actor)),
            ..Self::without_key(cx, operation)
        }
    }

    /// Of a call about the proxy.
    pub(crate) fn without_key(cx: &'a OpContext, operation: KmsOperation) -> Self {
        Self {
            aws_principal_arn: None,
            kms_operation: operation,
            kms_request_id: &cx.request_id,
            kms_key_arn: None,
        }
    }
}

/// The body of `/health` and `/keys/{id}/metadata`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Describe<'a> {
    pub(crate) request_metadata: RequestMetadata<'a>,
}

/// The body of `/keys/{id}/encrypt`. The texts are base64.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Encrypt<'a> {
    request_metadata: RequestMetadata<'a>,
    plaintext: &'a str,
    encryption_algorithm: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    additional_authenticated_data: &'a str,
    ciphertext_data_integrity_value_algorithm: &'static str,
}

impl<'a> Encrypt<'a> {
    pub(crate) const fn new(request_metadata: RequestMetadata<'a>, plaintext: &'a str, aad: &'a str) -> Self {
        Self {
            request_metadata,
            plaintext,
            encryption_algorithm: ALGORITHM,
            additional_authenticated_data: aad,
            ciphertext_data_integrity_value_algorithm: DIGEST,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Encrypted {
    pub(crate) ciphertext: String,
    pub(crate) initialization_vector: String,
    pub(crate) authentication_tag: String,
    #[serde(default)]
    pub(crate) ciphertext_metadata: Option<String>,
    #[serde(default)]
    pub(crate) ciphertext_data_integrity_value: Option<String>,
}

/// The body of `/keys/{id}/decrypt`. The texts are base64.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decrypt<'a> {
    request_metadata: RequestMetadata<'a>,
    ciphertext: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext_metadata: Option<String>,
    encryption_algorithm: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    additional_authenticated_data: &'a str,
    initialization_vector: String,
    authentication_tag: String,
}

impl<'a> Decrypt<'a> {
    pub(crate) fn new(request_metadata: RequestMetadata<'a>, parts: &GcmParts<'_>, aad: &'a str) -> Self {
        Self {
            request_metadata,
            ciphertext: encoded(parts.ciphertext),
            ciphertext_metadata: (!parts.metadata.is_empty()).then(|| encoded(parts.metadata)),
            encryption_algorithm: ALGORITHM,
            additional_authenticated_data: aad,
            initialization_vector: encoded(parts.iv),
            authentication_tag: encoded(parts.tag),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Decrypted {
    pub(crate) plaintext: String,
}

/// Standard base64.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The bytes of standard base64; `None` for another text.
pub(crate) fn decoded(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// The response of `/keys/{id}/metadata`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Key {
    pub(crate) key_spec: String,
    pub(crate) key_usage: Vec<String>,
    pub(crate) key_status: String,
}

/// The response of `/health`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    #[serde(default)]
    pub(crate) xks_proxy_vendor: String,
    #[serde(default)]
    pub(crate) xks_proxy_model: String,
    #[serde(default)]
    pub(crate) ekm_vendor: String,
    pub(crate) ekm_fleet_details: Vec<KeyManager>,
}

/// One key manager behind the proxy.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyManager {
    pub(crate) health_status: String,
}
