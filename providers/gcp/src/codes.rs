//! Google's status codes and reasons, and what each means to the gateway.

use claviger_provider::ErrorKind;
use claviger_provider::kit::meaning::{CodeTable, Meaning};
use google_cloud_gax::error::rpc::Code;

const fn denied(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::ProviderDenied).advice(advice)
}

const fn key_state(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::KeyState).advice(advice)
}

const fn misconfigured(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::Misconfigured).advice(advice)
}

/// What a status code means where no reason is more specific.
pub(crate) fn of_code(code: &Code) -> Meaning {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Meaning::REJECTED_VALUE,
        Code::NotFound => Meaning::of(ErrorKind::KeyNotFound).advice(
            "Google has no such key, version, key ring or location: `gcloud kms keyrings list --location LOCATION` and `gcloud kms keys list` \
             list those that exist. Key rings are created by their owner.",
        ),
        Code::AlreadyExists => Meaning::of(ErrorKind::Conflict),
        Code::PermissionDenied => denied(
            "Google denies the connection's identity this call. Run the connection's check: it lists the missing permissions and prints a \
             role with them.",
        ),
        Code::Unauthenticated => denied(
            "Google does not accept the connection's credentials: the token has expired or was revoked, or the service account or its key was \
             deleted or disabled. Give the connection new secrets. If it has a service account's key, the gateway signs the tokens, with \
             the time of this machine: set its clock if that is wrong.",
        ),
        Code::ResourceExhausted => Meaning::of(ErrorKind::RateLimited)
            .retryable()
            .advice("Cloud KMS throttles the project: use the cache, or request a higher quota of cryptographic requests from Google."),
        Code::FailedPrecondition => key_state(
            "The key's state or purpose does not permit the call: `gcloud kms keys versions list` shows the state of each version.",
        ),
        Code::Aborted => {
            Meaning::of(ErrorKind::Conflict).advice("Another change of this key is in progress at Google: try again when it has finished.")
        }
        Code::Unimplemented => Meaning::of(ErrorKind::Unsupported),
        Code::DeadlineExceeded => Meaning::of(ErrorKind::UpstreamTimeout).retryable(),
        Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss | Code::Cancelled => {
            Meaning::of(ErrorKind::UpstreamUnavailable).retryable()
        }
        // Google's enum is non-exhaustive; no error has the code `Ok`.
        _ => Meaning::of(ErrorKind::UpstreamProtocol),
    }
}

/// Reasons: types of violated preconditions, and those of `ErrorInfo`.
const REASONS: CodeTable = CodeTable::new(&[
    (
        &["KEY_DISABLED"],
        key_state(
            "The key version is disabled; its owner can enable it (`gcloud kms keys versions enable`). If it was disabled through the \
             gateway: `claviger keys enable --at-provider`.",
        ),
    ),
    (
        &["KEY_DESTROYED"],
        key_state(
            "The key version is destroyed or scheduled for destruction; while it is scheduled, its owner can restore it (`gcloud kms keys \
             versions restore`, then `enable`).",
        ),
    ),
    (
        &["KEY_PENDING_GENERATION"],
        Meaning::of(ErrorKind::KeyState)
            .retryable()
            .advice("Google is still generating the version's material: try again in a moment."),
    ),
    (
        &["KEY_PENDING_IMPORT"],
        key_state("The key version waits for its material; its owner can import it."),
    ),
    // Cloud EKM: the key is in an external key manager.
    (
        &["EXTERNAL_PERMISSION_DENIED"],
        Meaning::of(ErrorKind::ExternalDenied).advice(
            "The external key manager denies Google the key, and Google has disabled the version: the key's owner must grant access again.",
        ),
    ),
    (
        &["EXTERNAL_NOT_FOUND"],
        key_state("The external key manager does not have the key: its owner must restore it."),
    ),
    (
        &["SERVICE_DISABLED"],
        misconfigured(
            "Cloud KMS, or the service that issues credentials, is not enabled in the project: `gcloud services enable \
             cloudkms.googleapis.com iamcredentials.googleapis.com sts.googleapis.com`.",
        ),
    ),
    (
        &["BILLING_DISABLED"],
        misconfigured("The project has no billing account, which Cloud KMS requires."),
    ),
    (
        &["CONSUMER_INVALID", "CONSUMER_SUSPENDED"],
        misconfigured("The project does not exist or is suspended."),
    ),
    (
        &["ACCESS_TOKEN_SCOPE_INSUFFICIENT"],
        denied("The token's scope does not include Cloud KMS: use https://www.googleapis.com/auth/cloudkms or cloud-platform."),
    ),
]);

/// What a reason means; `None` for one that says no more than the status code.
pub(crate) fn of_reason(reason: &str) -> Option<Meaning> {
    let external = || key_state("The external key manager refuses the operation with the key; its owner can find out why.");
    REASONS.meaning(reason).or_else(|| reason.starts_with("EXTERNAL_").then(external))
}

/// What an error response of a server other than Google's means, by its HTTP status.
pub(crate) const fn of_foreign_status(status: u16) -> Meaning {
    match status {
        300..=399 => Meaning::of(ErrorKind::UpstreamProtocol)
            .advice("The endpoint redirects, which is never followed: the operator's custom endpoint must be the service's own."),
        407 => misconfigured("A proxy requires authentication."),
        502..=504 => Meaning::of(ErrorKind::UpstreamUnavailable).retryable(),
        _ => Meaning::of(ErrorKind::UpstreamProtocol)
            .advice("The response is not one of Google's: it comes from a proxy, or the endpoint is another service's."),
    }
}

#[cfg(test)]
mod tests {
    use claviger_provider::{ErrorKind, Retry};
    use google_cloud_gax::error::rpc::Code;

    use super::{REASONS, of_code, of_reason};

    #[test]
    fn every_code_has_its_kind() {
        for (code, kind) in [
            ("CANCELLED", ErrorKind::UpstreamUnavailable),
            ("UNKNOWN", ErrorKind::UpstreamUnavailable),
            ("INVALID_ARGUMENT", ErrorKind::InvalidInput),
            ("DEADLINE_EXCEEDED", ErrorKind::UpstreamTimeout),
            ("NOT_FOUND", ErrorKind::KeyNotFound),
            ("ALREADY_EXISTS", ErrorKind::Conflict),
            ("PERMISSION_DENIED", ErrorKind::ProviderDenied),
            ("RESOURCE_EXHAUSTED", ErrorKind::RateLimited),
            ("FAILED_PRECONDITION", ErrorKind::KeyState),
            ("ABORTED", ErrorKind::Conflict),
            ("OUT_OF_RANGE", ErrorKind::InvalidInput),
            ("UNIMPLEMENTED", ErrorKind::Unsupported),
            ("INTERNAL", ErrorKind::UpstreamUnavailable),
            ("UNAVAILABLE", ErrorKind::UpstreamUnavailable),
            ("DATA_LOSS", ErrorKind::UpstreamUnavailable),
            ("UNAUTHENTICATED", ErrorKind::ProviderDenied),
        ] {
            let read = Code::try_from(code);
            assert!(read.as_ref().is_ok_and(|read| of_code(read).kind == kind), "{code}");
        }
        assert_eq!(of_code(&Code::Unavailable).retry, Retry::Backoff);
        assert_eq!(of_code(&Code::InvalidArgument).retry, Retry::Never);
    }

    #[test]
    fn a_reason_is_more_specific_than_its_code() {
        assert_eq!(REASONS.repeated(), None);
        let kind = |reason| of_reason(reason).map(|meaning| meaning.kind);
        assert_eq!(kind("KEY_DISABLED"), Some(ErrorKind::KeyState));
        assert_eq!(kind("EXTERNAL_PERMISSION_DENIED"), Some(ErrorKind::ExternalDenied));
        assert_eq!(kind("EXTERNAL_SOMETHING_NEW"), Some(ErrorKind::KeyState));
        assert_eq!(kind("SERVICE_DISABLED"), Some(ErrorKind::Misconfigured));
        assert_eq!(kind("IAM_PERMISSION_DENIED"), None);
    }
}
