//! The codes of KMS and STS, each with what it means here. The services tell every cause by a
//! code; they are listed in this table and nowhere else.

use claviger_provider::{ErrorKind, Retry};

/// What a code means.
pub(crate) struct Meaning {
    pub(crate) codes: &'static [&'static str],
    pub(crate) kind: ErrorKind,
    pub(crate) retry: Retry,
    pub(crate) advice: Option<&'static str>,
}

const fn meaning(codes: &'static [&'static str], kind: ErrorKind, retry: Retry, advice: Option<&'static str>) -> Meaning {
    Meaning {
        codes,
        kind,
        retry,
        advice,
    }
}

/// What a dry run is answered with where the call would have been carried out.
pub(crate) const DRY_RUN: &str = "DryRunOperationException";

/// The code of a refused right.
pub(crate) const DENIED: [&str; 3] = ["AccessDeniedException", "AccessDenied", "UnauthorizedOperation"];

/// Codes that credentials get which were good and are not any more: others may be.
pub(crate) const DROPPED: [&str; 5] = [
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
];

/// The codes of KMS and STS, those of the real services first.
pub(crate) const CODES: &[Meaning] = &[
    // Throttling is answered with the status 400.
    meaning(
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
        ErrorKind::RateLimited,
        Retry::Backoff,
        Some("KMS throttles this account's calls: use the cache, or ask AWS for a higher quota of cryptographic operations in the region."),
    ),
    meaning(
        &DENIED,
        ErrorKind::ProviderDenied,
        Retry::Never,
        Some(
            "AWS refuses this identity the call, by its own policy, the key's policy or a boundary of the organisation. Run the \
             connection's check: it names the missing rights and prints both policies.",
        ),
    ),
    meaning(
        &["ExpiredTokenException", "ExpiredToken"],
        ErrorKind::ProviderDenied,
        Retry::Never,
        Some("The connection's session has expired: give it new secrets, or an access key without a session token, or a role."),
    ),
    meaning(
        &[
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "OptInRequired",
            "MissingAuthenticationTokenException",
            "MissingAuthenticationToken",
        ],
        ErrorKind::ProviderDenied,
        Retry::Never,
        Some(
            "AWS does not know the access key, or not in this region: it was deleted or deactivated, or the region is not enabled for the account.",
        ),
    ),
    meaning(
        &[
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "IncompleteSignatureException",
        ],
        ErrorKind::ProviderDenied,
        Retry::Never,
        Some("The signature does not hold: the secret access key does not belong to the access key id, or this machine's clock is wrong."),
    ),
    meaning(
        &["RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"],
        ErrorKind::Misconfigured,
        Retry::Never,
        Some("This machine's clock is wrong by more than five minutes."),
    ),
    meaning(&["NotFoundException"], ErrorKind::KeyNotFound, Retry::Never, None),
    meaning(
        &["DisabledException"],
        ErrorKind::KeyState,
        Retry::Never,
        Some("The KMS key is disabled; its owner can enable it (`aws kms enable-key`)."),
    ),
    meaning(
        &["KMSInvalidStateException"],
        ErrorKind::KeyState,
        Retry::Never,
        Some(
            "The KMS key's state forbids the call: it waits for deletion (`aws kms cancel-key-deletion`) or for its material, or its key \
             store is disconnected. `aws kms describe-key` tells which.",
        ),
    ),
    meaning(&["KeyUnavailableException"], ErrorKind::UpstreamUnavailable, Retry::Backoff, None),
    meaning(
        &["InvalidKeyUsageException"],
        ErrorKind::KeyState,
        Retry::Never,
        Some(
            "The KMS key is not for encryption: make one with key usage ENCRYPT_DECRYPT, and the specification SYMMETRIC_DEFAULT, RSA_3072 or RSA_4096.",
        ),
    ),
    meaning(
        &["InvalidCiphertextException", "IncorrectKeyException"],
        ErrorKind::CiphertextRejected,
        Retry::Never,
        None,
    ),
    meaning(&["AlreadyExistsException"], ErrorKind::Conflict, Retry::Never, None),
    meaning(
        &["ConflictException"],
        ErrorKind::Conflict,
        Retry::Never,
        Some("Another change of this key is under way at AWS, such as a rotation: try again when it is done."),
    ),
    meaning(
        &["LimitExceededException", "LimitExceeded"],
        ErrorKind::Conflict,
        Retry::Never,
        Some(
            "A quota of AWS is used up: keys in the region, or on-demand rotations, of which a key has a small number in its whole life. \
             Ask AWS for more, turn on its yearly rotation, or rewrap to a new key.",
        ),
    ),
    meaning(
        &[
            "UnsupportedOperationException",
            "UnknownOperationException",
            "NotImplementedException",
            "NotImplemented",
        ],
        ErrorKind::Unsupported,
        Retry::Never,
        Some("AWS does not do this with such a key: RSA keys, and keys in custom key stores, do not rotate on demand."),
    ),
    meaning(
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
        ErrorKind::UpstreamUnavailable,
        Retry::Backoff,
        None,
    ),
    // Custom key stores: the key is in an HSM cluster or behind somebody's own proxy.
    meaning(
        &[
            "CustomKeyStoreInvalidStateException",
            "CloudHsmClusterNotActiveException",
            "CloudHsmClusterInvalidConfigurationException",
            "CloudHsmClusterNotFoundException",
            "CloudHsmClusterNotRelatedException",
        ],
        ErrorKind::KeyState,
        Retry::Never,
        Some("The key's custom key store is not connected; its owner can connect it (`aws kms connect-custom-key-store`)."),
    ),
    meaning(
        &["CustomKeyStoreNotFoundException"],
        ErrorKind::KeyState,
        Retry::Never,
        Some("The key's custom key store is gone."),
    ),
    meaning(
        &["XksKeyNotFoundException"],
        ErrorKind::KeyState,
        Retry::Never,
        Some("The external key manager does not have the key that the KMS key stands for: its owner must bring it back there."),
    ),
    meaning(
        &["XksKeyInvalidConfigurationException", "XksKeyAlreadyInUseException"],
        ErrorKind::KeyState,
        Retry::Never,
        Some("The external key is disabled, of another kind than AES-256, or in use by another KMS key; its owner can tell."),
    ),
    meaning(
        &[
            "XksProxyUriUnreachableException",
            "XksProxyVpcEndpointServiceNotFoundException",
            "XksProxyVpcEndpointServiceInvalidConfigurationException",
        ],
        ErrorKind::UpstreamUnavailable,
        Retry::Backoff,
        Some("KMS does not reach the external key store's proxy; its owner can tell why."),
    ),
    meaning(
        &["XksProxyIncorrectAuthenticationCredentialException"],
        ErrorKind::ExternalDenied,
        Retry::Never,
        Some("The external key store's proxy refuses the credential that KMS has for it; the key store's owner can renew it."),
    ),
    meaning(
        &[
            "XksProxyInvalidResponseException",
            "XksProxyInvalidConfigurationException",
            "XksProxyUriInUseException",
            "XksProxyUriEndpointInUseException",
            "XksProxyVpcEndpointServiceInUseException",
        ],
        ErrorKind::UpstreamProtocol,
        Retry::Never,
        Some("The external key store's proxy answers KMS what it does not understand; the key store's owner can tell."),
    ),
    // What the adapter itself sent was not taken.
    meaning(
        &["InvalidArnException", "InvalidAliasNameException"],
        ErrorKind::InvalidInput,
        Retry::Never,
        Some("KMS does not take the key's name: an ARN, a key id, alias/NAME or an alias's ARN of the connection's region."),
    ),
    meaning(
        &["TagException"],
        ErrorKind::Misconfigured,
        Retry::Never,
        Some(
            "AWS does not take the tags claviger:tenant and claviger:key, by a tag policy of the organisation or for want of kms:TagResource.",
        ),
    ),
    meaning(
        &[
            "MalformedPolicyDocumentException",
            "MalformedPolicyDocument",
            "PackedPolicyTooLarge",
        ],
        ErrorKind::Misconfigured,
        Retry::Never,
        Some("AWS does not take a policy of the role or the key."),
    ),
    meaning(
        &["RegionDisabledException"],
        ErrorKind::Misconfigured,
        Retry::Never,
        Some("STS is switched off in the connection's region for this account."),
    ),
    meaning(
        &[
            "IDPRejectedClaim",
            "InvalidIdentityToken",
            "IDPRejectedClaimException",
            "InvalidIdentityTokenException",
        ],
        ErrorKind::ProviderDenied,
        Retry::Never,
        Some("STS refuses the web identity's token: it has expired, or the role trusts another issuer, audience or subject."),
    ),
    meaning(
        &["IDPCommunicationError", "IDPCommunicationErrorException"],
        ErrorKind::UpstreamUnavailable,
        Retry::Backoff,
        None,
    ),
    meaning(
        &[
            "ValidationException",
            "ValidationError",
            "SerializationException",
            "InvalidParameterValue",
            "InvalidAction",
            "DryRunOperationException",
            "InvalidGrantTokenException",
            "InvalidMarkerException",
        ],
        ErrorKind::UpstreamProtocol,
        Retry::Never,
        None,
    ),
];
