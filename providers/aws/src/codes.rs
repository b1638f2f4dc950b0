//! The error codes of KMS and STS, and what each means to the gateway. Both services name every
//! cause by a code, and no other file knows the codes.

use claviger_provider::ErrorKind;
use claviger_provider::kit::meaning::{CodeTable, Meaning};

/// KMS's response to a dry run of a call that it would have carried out.
pub(crate) const DRY_RUN: &str = "DryRunOperationException";

/// The identity lacks a right.
pub(crate) const DENIED: [&str; 3] = ["AccessDeniedException", "AccessDenied", "UnauthorizedOperation"];

/// The advice for it.
pub(crate) const ACCESS_DENIED: &str = "AWS denies this identity the call: by its own policy, the key's policy or a policy of the organisation. \
     Run the connection's check: it names the missing rights and prints both policies.";

/// The credentials are no longer accepted; a new session may be.
pub(crate) const CREDENTIALS_REFUSED: [&str; 5] = [
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
];

/// Codes of requests with a wrong form. Their messages may repeat what was sent.
pub(crate) const QUOTING: [&str; 3] = ["ValidationException", "ValidationError", "SerializationException"];

/// Every code that has a meaning.
pub(crate) const CODES: CodeTable = CodeTable::new(&[
    // KMS throttles with status 400.
    (
        &[
            "ThrottlingException",
            "Throttling",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "RequestLimitExceeded",
            "TooManyRequestsException",
            "SlowDown",
            "BandwidthLimitExceeded",
        ],
        Meaning::of(ErrorKind::RateLimited).retryable().advice(
            "KMS throttles this account: use the cache, or ask AWS for a higher quota of cryptographic operations \
             in the region.",
        ),
    ),
    (&DENIED, Meaning::of(ErrorKind::ProviderDenied).advice(ACCESS_DENIED)),
    (
        &["ExpiredTokenException", "ExpiredToken"],
        Meaning::of(ErrorKind::ProviderDenied).advice(
            "The connection's session has expired: give the connection new secrets, such as an access key without \
             a session token, or make a connection that assumes a role.",
        ),
    ),
    (
        &[
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "OptInRequired",
            "MissingAuthenticationTokenException",
            "MissingAuthenticationToken",
        ],
        Meaning::of(ErrorKind::ProviderDenied).advice(
            "AWS does not know the access key in this region: it was deleted or deactivated, or the region is not \
             enabled for the account.",
        ),
    ),
    (
        &[
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "IncompleteSignatureException",
        ],
        Meaning::of(ErrorKind::ProviderDenied).advice(
            "AWS rejects the signature: the secret access key does not belong to the access key id, or this \
             machine's clock is wrong.",
        ),
    ),
    (
        &["RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"],
        Meaning::of(ErrorKind::Misconfigured).advice("This machine's clock is wrong by more than five minutes."),
    ),
    (&["NotFoundException"], Meaning::of(ErrorKind::KeyNotFound)),
    (
        &["DisabledException"],
        Meaning::of(ErrorKind::KeyState).advice(
            "The KMS key is disabled; its owner can enable it (`aws kms enable-key`). If it was disabled through the gateway: \
             `claviger keys enable --at-provider`.",
        ),
    ),
    (
        &["KMSInvalidStateException"],
        Meaning::of(ErrorKind::KeyState).advice(
            "The KMS key's state forbids the call: it is scheduled for deletion (`aws kms cancel-key-deletion`), \
             it has no key material (`aws kms import-key-material`), or its key store is disconnected. `aws kms \
             describe-key` shows the state.",
        ),
    ),
    (
        &["KeyUnavailableException"],
        Meaning::of(ErrorKind::UpstreamUnavailable).retryable(),
    ),
    (
        &["InvalidKeyUsageException"],
        Meaning::of(ErrorKind::KeyState).advice(
            "The KMS key is not for encryption: make one with key usage ENCRYPT_DECRYPT and the specification \
             SYMMETRIC_DEFAULT, RSA_3072 or RSA_4096.",
        ),
    ),
    (
        &["InvalidCiphertextException", "IncorrectKeyException"],
        Meaning::of(ErrorKind::CiphertextRejected),
    ),
    (&["AlreadyExistsException"], Meaning::of(ErrorKind::Conflict)),
    (
        &["ConflictException"],
        Meaning::of(ErrorKind::Conflict)
            .advice("Another change of this key, such as a rotation, is in progress at AWS: retry when it is done."),
    ),
    (
        &["LimitExceededException", "LimitExceeded"],
        Meaning::of(ErrorKind::Conflict).advice(
            "An AWS quota is used up: keys in the region, or on-demand rotations, of which each key has a small \
             lifetime number. Ask AWS for more, turn on yearly rotation, or move to a new key (`claviger keys rotate --provider-key`).",
        ),
    ),
    (
        &[
            "UnsupportedOperationException",
            "UnknownOperationException",
            "NotImplementedException",
            "NotImplemented",
        ],
        Meaning::of(ErrorKind::Unsupported).advice(
            "AWS does not support this for the key: RSA keys, and keys in custom key stores, cannot be rotated on \
             demand.",
        ),
    ),
    (
        &[
            "DependencyTimeoutException",
            "KMSInternalException",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "InternalFailure",
            "InternalError",
            "RequestTimeout",
            "RequestTimeoutException",
        ],
        Meaning::of(ErrorKind::UpstreamUnavailable).retryable(),
    ),
    // Custom key stores: the key is in an HSM cluster or behind a proxy of its owner's.
    (
        &[
            "CustomKeyStoreInvalidStateException",
            "CloudHsmClusterNotActiveException",
            "CloudHsmClusterInvalidConfigurationException",
            "CloudHsmClusterNotFoundException",
            "CloudHsmClusterNotRelatedException",
        ],
        Meaning::of(ErrorKind::KeyState).advice(
            "The key's custom key store is not connected; its owner can connect it (`aws kms connect-custom-key- \
             store`).",
        ),
    ),
    (
        &["CustomKeyStoreNotFoundException"],
        Meaning::of(ErrorKind::KeyState).advice("The key's custom key store no longer exists."),
    ),
    (
        &["XksKeyNotFoundException"],
        Meaning::of(ErrorKind::KeyState).advice(
            "The external key manager does not have the external key of this KMS key: its owner must restore it \
             there.",
        ),
    ),
    (
        &["XksKeyInvalidConfigurationException", "XksKeyAlreadyInUseException"],
        Meaning::of(ErrorKind::KeyState)
            .advice("The external key is disabled, is not AES-256, or is in use by another KMS key; ask its owner."),
    ),
    (
        &[
            "XksProxyUriUnreachableException",
            "XksProxyVpcEndpointServiceNotFoundException",
            "XksProxyVpcEndpointServiceInvalidConfigurationException",
        ],
        Meaning::of(ErrorKind::UpstreamUnavailable)
            .retryable()
            .advice("KMS cannot reach the external key store's proxy; ask its owner."),
    ),
    (
        &["XksProxyIncorrectAuthenticationCredentialException"],
        Meaning::of(ErrorKind::ExternalDenied).advice(
            "The external key store's proxy rejects the credential that KMS has for it; the owner of the key \
             store can renew it.",
        ),
    ),
    (
        &[
            "XksProxyInvalidResponseException",
            "XksProxyInvalidConfigurationException",
            "XksProxyUriInUseException",
            "XksProxyUriEndpointInUseException",
            "XksProxyVpcEndpointServiceInUseException",
        ],
        Meaning::of(ErrorKind::UpstreamProtocol).advice(
            "The external key store's proxy returns responses that KMS cannot use; ask the owner of the key \
             store.",
        ),
    ),
    // Rejections of what the adapter sent.
    (
        &["InvalidArnException", "InvalidAliasNameException"],
        Meaning::of(ErrorKind::InvalidInput).advice(
            "KMS rejects the key's name: use an ARN, a key id, alias/NAME or an alias's ARN of the connection's \
             region.",
        ),
    ),
    (
        &["TagException"],
        Meaning::of(ErrorKind::Misconfigured).advice(
            "AWS rejects the tags claviger:tenant and claviger:key: a tag policy of the organisation forbids \
             them, or kms:TagResource is missing.",
        ),
    ),
    (
        &[
            "MalformedPolicyDocumentException",
            "MalformedPolicyDocument",
            "PackedPolicyTooLarge",
        ],
        Meaning::of(ErrorKind::Misconfigured).advice("AWS rejects a policy of the role or the key."),
    ),
    (
        &["RegionDisabledException"],
        Meaning::of(ErrorKind::Misconfigured).advice("STS is disabled in the connection's region for this account."),
    ),
    (
        &[
            "IDPRejectedClaim",
            "InvalidIdentityToken",
            "IDPRejectedClaimException",
            "InvalidIdentityTokenException",
        ],
        Meaning::of(ErrorKind::ProviderDenied).advice(
            "STS rejects the web identity's token: it has expired, or the role trusts another issuer, audience or \
             subject.",
        ),
    ),
    (
        &["IDPCommunicationError", "IDPCommunicationErrorException"],
        Meaning::of(ErrorKind::UpstreamUnavailable).retryable(),
    ),
    (
        &["ValidationException", "ValidationError", "InvalidParameterValue"],
        Meaning::REJECTED_VALUE,
    ),
    (
        &[
            "SerializationException",
            "InvalidAction",
            "DryRunOperationException",
            "InvalidGrantTokenException",
            "InvalidMarkerException",
        ],
        Meaning::of(ErrorKind::UpstreamProtocol),
    ),
]);

/// The meaning of an HTTP status, for responses without a known error code.
pub(crate) const fn of_status(status: u16) -> Meaning {
    match status {
        // Emulators and proxies use it for a call that they do not implement.
        501 => Meaning::of(ErrorKind::Unsupported),
        300..=399 => Meaning::of(ErrorKind::UpstreamProtocol)
            .advice("The endpoint redirects, which the gateway never follows: the operator's custom endpoint must be that of KMS or STS."),
        _ => Meaning::of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use claviger_provider::ErrorKind;

    use super::{CODES, CREDENTIALS_REFUSED, DENIED};

    #[test]
    fn a_code_has_one_meaning() {
        assert_eq!(CODES.repeated(), None);
        for code in DENIED.into_iter().chain(CREDENTIALS_REFUSED) {
            let kind = CODES.meaning(code).map(|meaning| meaning.kind);
            assert_eq!(kind, Some(ErrorKind::ProviderDenied), "{code}");
        }
    }
}
