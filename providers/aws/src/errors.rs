//! Converts responses of KMS and STS, and errors of the SDK, to the gateway's error type.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use claviger_provider::egress::SendError;
use claviger_provider::kit::call_error;
use claviger_provider::kit::meaning::Meaning;
use claviger_provider::kit::scrub::scrubbed;
use claviger_provider::{Error, ErrorKind, ProviderKind, innermost};

use crate::codes::{CODES, CREDENTIALS_REFUSED, DENIED, QUOTING, of_status};

/// Why a call to KMS or STS failed.
pub(crate) type CallError = call_error::CallError<Refusal>;

const ASSUME_ROLE: &str = "STS denies the connection's identity the role: the role's trust policy must name that identity and the connection's external id \
     (sts:ExternalId), and the identity needs sts:AssumeRole on the role.";
const NO_CREDENTIALS: &str = "There are no credentials: the operator's profile, token file or ambient identity provides none.";

/// A response other than success.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// The service's code; empty where the response has none.
    code: String,
    status: u16,
    message: Option<String>,
    request_id: Option<String>,
}

impl Refusal {
    fn of<E: ProvideErrorMetadata>(status: u16, error: &E, request_id: Option<&str>) -> Self {
        Self {
            code: error.code().unwrap_or_default().to_owned(),
            status,
            message: error.message().map(str::to_owned),
            request_id: request_id.map(str::to_owned),
        }
    }

    fn of_status(status: u16) -> Self {
        Self {
            code: String::new(),
            status,
            message: None,
            request_id: None,
        }
    }

    fn is_denied(&self) -> bool {
        DENIED.contains(&self.code.as_str())
    }
}

impl call_error::Refusal for Refusal {
    const PROVIDER: ProviderKind = ProviderKind::Aws;
    const LOGIN: &'static str = "assume the role";

    fn meaning(&self) -> Meaning {
        let of_status = of_status(self.status);
        match of_status.kind {
            // An emulator gives such a response a code that means something else at AWS.
            ErrorKind::Unsupported => of_status,
            _ => CODES.meaning(&self.code).unwrap_or(of_status),
        }
    }

    fn login_meaning(&self) -> Meaning {
        match self.is_denied() {
            true => self.meaning().advice(ASSUME_ROLE),
            false => self.meaning(),
        }
    }

    fn status(&self) -> Option<u16> {
        Some(self.status)
    }

    fn code(&self) -> Option<String> {
        Some(match self.code.as_str() {
            "" => self.status.to_string(),
            code => code.to_owned(),
        })
    }

    fn message(&self) -> Option<String> {
        let message = self.message.as_deref().unwrap_or_default();
        // A proxy that fails may repeat the request.
        let message = match QUOTING.contains(&self.code.as_str()) || self.status >= 500 {
            true => scrubbed(message),
            false => message.to_owned(),
        };
        match (message.as_str(), self.request_id.as_deref().unwrap_or_default()) {
            ("", "") => None,
            (message, request_id) => Some(format!("{message} (request {request_id})")),
        }
    }
}

/// The service's code of a refused call, if it gave one.
pub(crate) fn code(error: &CallError) -> Option<&str> {
    error.refusal().map(|refusal| refusal.code.as_str())
}

/// Whether the service says that the identity lacks a right.
pub(crate) fn denied(error: &CallError) -> bool {
    error.refusal().is_some_and(Refusal::is_denied)
}

/// Whether the service no longer accepts the credentials, so that a new session may help.
pub(crate) fn credentials_refused(error: &CallError) -> bool {
    code(error).is_some_and(|code| CREDENTIALS_REFUSED.contains(&code))
}

/// Whether STS denied the connection's identity the role.
pub(crate) fn role_denied(error: &CallError) -> bool {
    match error {
        CallError::NoCredential { why, .. } => denied(why),
        CallError::Refused(_)
        | CallError::NoSource { .. }
        | CallError::Unsent(_)
        | CallError::Timeout
        | CallError::Unreachable(_)
        | CallError::MalformedResponse(_)
        | CallError::Unbuilt(_) => false,
    }
}

/// What the SDK's error of a call means.
pub(crate) fn of_sdk<E>(error: SdkError<E, HttpResponse>) -> CallError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match &error {
        SdkError::ServiceError(refused) => {
            let status = refused.raw().status().as_u16();
            CallError::Refused(Refusal::of(status, refused.err(), error.request_id()))
        }
        SdkError::ResponseError(response) => match response.raw().status().as_u16() {
            200..=299 => CallError::MalformedResponse("body"),
            status => CallError::Refused(Refusal::of_status(status)),
        },
        SdkError::TimeoutError(_) => CallError::Timeout,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => CallError::Timeout,
        SdkError::DispatchFailure(_) => of_login(&error).unwrap_or_else(|| unsent(&error)),
        // The SDK resolves credentials while it builds a request. The enum is non-exhaustive.
        _ => of_login(&error).unwrap_or_else(|| CallError::Unbuilt(innermost(&error))),
    }
}

/// Why there are no credentials.
pub(crate) fn of_credentials(error: &CredentialsError) -> CallError {
    of_login(error).unwrap_or_else(|| no_source(error))
}

fn no_source(error: &(dyn StdError + 'static)) -> CallError {
    CallError::NoSource {
        advice: NO_CREDENTIALS,
        cause: innermost(error),
    }
}

/// A call that got no response.
fn unsent(error: &(dyn StdError + 'static)) -> CallError {
    match causes(error).find_map(|cause| cause.downcast_ref::<SendError>()) {
        Some(why) => CallError::Unsent(why.clone()),
        None => CallError::Unreachable(innermost(error)),
    }
}

/// The session's reason why there are no credentials, on its way through the SDK.
#[derive(Debug, thiserror::Error)]
#[error("no credentials")]
pub(crate) struct LoginFailed(pub(crate) CallError);

/// The failure of the call that gets credentials, where that is the cause.
fn of_login(error: &(dyn StdError + 'static)) -> Option<CallError> {
    if let Some(LoginFailed(failed)) = causes(error).find_map(|cause| cause.downcast_ref()) {
        return Some(failed.clone());
    }
    let refused =
        causes(error).find_map(|cause| of_sts::<AssumeRoleError>(cause).or_else(|| of_sts::<AssumeRoleWithWebIdentityError>(cause)));
    if let Some(refused) = refused {
        return Some(refused.in_login());
    }
    let why = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    match why {
        CredentialsError::ProviderTimedOut(_) => Some(CallError::Timeout),
        // The enum is non-exhaustive; whatever the reason, there are no credentials.
        _ => Some(no_source(why)),
    }
}

/// What the error of a call to STS means; `None` for another error.
fn of_sts<E>(error: &(dyn StdError + 'static)) -> Option<CallError>
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    Some(match error.downcast_ref::<SdkError<E, HttpResponse>>()? {
        SdkError::ServiceError(refused) => CallError::Refused(Refusal::of(refused.raw().status().as_u16(), refused.err(), None)),
        SdkError::TimeoutError(_) => CallError::Timeout,
        SdkError::ResponseError(_) => CallError::MalformedResponse("body of STS"),
        other => unsent(other),
    })
}

/// An error and its causes, outermost first.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

/// An error that no response of the service's caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Aws)
}
