//! Google's status codes, each with what it means here, and the reasons that say more. They are
//! listed here and nowhere else.

use claviger_provider::{ErrorKind, Retry};
use google_cloud_gax::error::rpc::Code;

/// What a code or a reason means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) kind: ErrorKind,
    pub(crate) retry: Retry,
    pub(crate) advice: Option<&'static str>,
}

const fn meaning(kind: ErrorKind, retry: Retry, advice: Option<&'static str>) -> Meaning {
    Meaning { kind, retry, advice }
}

const DENIED: &str = "Google refuses this identity the call. Run the connection's check: it names the missing permissions and prints a role \
                      that has them.";
const CREDENTIALS: &str = "Google does not accept the connection's credentials: the token has expired or was revoked, or the service \
                           account or its key was deleted or disabled. Give the connection new secrets.";

/// What a status code means, where no reason says more.
pub(crate) fn of_code(code: &Code) -> Meaning {
    match code {
        // The request is ours, and its names were read before: Google takes it for wrong.
        Code::InvalidArgument | Code::OutOfRange => meaning(ErrorKind::UpstreamProtocol, Retry::Never, None),
        Code::NotFound => meaning(
            ErrorKind::KeyNotFound,
            Retry::Never,
            Some(
                "Google has no such key, version, key ring or location: `gcloud kms keyrings list --location LOCATION` and `gcloud kms keys \
                 list` tell what there is. Key rings are made by their owner.",
            ),
        ),
        Code::AlreadyExists => meaning(ErrorKind::Conflict, Retry::Never, None),
        Code::PermissionDenied => meaning(ErrorKind::ProviderDenied, Retry::Never, Some(DENIED)),
        Code::Unauthenticated => meaning(ErrorKind::ProviderDenied, Retry::Never, Some(CREDENTIALS)),
        Code::ResourceExhausted => meaning(
            ErrorKind::RateLimited,
            Retry::Backoff,
            Some("Cloud KMS throttles the project's calls: use the cache, or ask Google for a higher quota of cryptographic requests."),
        ),
        Code::FailedPrecondition => meaning(
            ErrorKind::KeyState,
            Retry::Never,
            Some("The key's state or purpose forbids the call: `gcloud kms keys versions list` tells the state of each version."),
        ),
        Code::Aborted => meaning(
            ErrorKind::Conflict,
            Retry::Never,
            Some("Another change of this key is under way at Google: try again when it is done."),
        ),
        Code::Unimplemented => meaning(ErrorKind::Unsupported, Retry::Never, None),
        Code::DeadlineExceeded => meaning(ErrorKind::UpstreamTimeout, Retry::Backoff, None),
        Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss | Code::Cancelled => {
            meaning(ErrorKind::UpstreamUnavailable, Retry::Backoff, None)
        }
        // The enumeration is Google's and may grow; no error is `Ok`.
        _ => meaning(ErrorKind::UpstreamProtocol, Retry::Never, None),
    }
}

/// What a reason says more than its code: a violation's type of FAILED_PRECONDITION, or the
/// reason of an ErrorInfo.
pub(crate) fn of_reason(reason: &str) -> Option<Meaning> {
    let state = |advice| Some(meaning(ErrorKind::KeyState, Retry::Never, Some(advice)));
    let misconfigured = |advice| Some(meaning(ErrorKind::Misconfigured, Retry::Never, Some(advice)));
    match reason {
        "KEY_DISABLED" => state("The key's version is disabled; its owner can enable it (`gcloud kms keys versions enable`)."),
        "KEY_DESTROYED" => state(
            "The key's version is destroyed or waits for it; as long as it waits, its owner can keep it (`gcloud kms keys versions \
             restore`, then `enable`).",
        ),
        "KEY_PENDING_GENERATION" => Some(meaning(
            ErrorKind::KeyState,
            Retry::Backoff,
            Some("Google still makes the version's material: try again in a moment."),
        )),
        "KEY_PENDING_IMPORT" => state("The key's version waits for its material; its owner can import it."),
        // Cloud EKM: the key is with somebody else's key manager.
        "EXTERNAL_PERMISSION_DENIED" => Some(meaning(
            ErrorKind::ExternalDenied,
            Retry::Never,
            Some(
                "The external key manager refuses Google the key, whose version Google has disabled for that: its owner must grant it again.",
            ),
        )),
        "EXTERNAL_NOT_FOUND" => {
            state("The external key manager does not have the key that Google's stands for: its owner must bring it back.")
        }
        external if external.starts_with("EXTERNAL_") => {
            state("The external key manager does not do with the key what Google asks; its owner can tell why.")
        }
        "SERVICE_DISABLED" => misconfigured(
            "Cloud KMS, or the service that makes credentials, is not enabled in the project: `gcloud services enable \
             cloudkms.googleapis.com iamcredentials.googleapis.com sts.googleapis.com`.",
        ),
        "BILLING_DISABLED" => misconfigured("The project has no billing account, without which Cloud KMS does nothing."),
        "CONSUMER_INVALID" | "CONSUMER_SUSPENDED" => misconfigured("The project does not exist or is suspended."),
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT" => Some(meaning(
            ErrorKind::ProviderDenied,
            Retry::Never,
            Some("The token's scope does not cover Cloud KMS: it needs https://www.googleapis.com/auth/cloudkms or cloud-platform."),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use claviger_provider::{ErrorKind, Retry};
    use google_cloud_gax::error::rpc::Code;

    use super::{of_code, of_reason};

    #[test]
    fn every_code_has_its_kind() {
        for (code, kind) in [
            ("CANCELLED", ErrorKind::UpstreamUnavailable),
            ("UNKNOWN", ErrorKind::UpstreamUnavailable),
            ("INVALID_ARGUMENT", ErrorKind::UpstreamProtocol),
            ("DEADLINE_EXCEEDED", ErrorKind::UpstreamTimeout),
            ("NOT_FOUND", ErrorKind::KeyNotFound),
            ("ALREADY_EXISTS", ErrorKind::Conflict),
            ("PERMISSION_DENIED", ErrorKind::ProviderDenied),
            ("RESOURCE_EXHAUSTED", ErrorKind::RateLimited),
            ("FAILED_PRECONDITION", ErrorKind::KeyState),
            ("ABORTED", ErrorKind::Conflict),
            ("OUT_OF_RANGE", ErrorKind::UpstreamProtocol),
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
    fn a_reason_says_more_than_its_code() {
        let kind = |reason| of_reason(reason).map(|meaning| meaning.kind);
        assert_eq!(kind("KEY_DISABLED"), Some(ErrorKind::KeyState));
        assert_eq!(kind("EXTERNAL_PERMISSION_DENIED"), Some(ErrorKind::ExternalDenied));
        assert_eq!(kind("EXTERNAL_SOMETHING_NEW"), Some(ErrorKind::KeyState));
        assert_eq!(kind("SERVICE_DISABLED"), Some(ErrorKind::Misconfigured));
        assert_eq!(kind("IAM_PERMISSION_DENIED"), None);
    }
}
