//! The requests of a login, made anew where they get no response.

use std::time::Duration;

use tokio::time::timeout;

use super::identity::{LONGEST, Membership};
use crate::ErrorKind;
use crate::kit::call_error::{CallError, Refusal};

/// The times of a login's attempts, whoever waits for it. An open connection may swallow what is sent on it; the
/// attempt after it has another one ([`crate::egress::pool`]). The last one is for services that are slow.
const ATTEMPTS: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(3), LONGEST];

/// Makes the requests of a login. The time in which an attempt waits for its turn at the identity is not its own.
pub(super) async fn attempts<T, R: Refusal, F>(membership: Option<&Membership<R>>, make: impl Fn() -> F) -> Result<T, CallError<R>>
where
    F: Future<Output = Result<T, CallError<R>>>,
{
    let mut result = Err(CallError::Timeout.in_login());
    for time in ATTEMPTS {
        let made = match membership {
            Some(membership) => membership.waits().within(time, make()).await,
            None => timeout(time, make()).await.ok(),
        };
        result = made.unwrap_or_else(|| Err(CallError::Timeout.in_login()));
        let is_unanswered = result.as_ref().is_err_and(|error| error.kind() == ErrorKind::UpstreamTimeout);
        if !is_unanswered || membership.is_some_and(|membership| membership.pause().is_some()) {
            break;
        }
    }
    result
}
