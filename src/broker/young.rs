//! Keys that were made a moment ago. Cloud key services are eventually consistent: for some seconds, some of their
//! servers answer that there is no such key, or that it has no material yet. So a young key is never called gone.

use std::time::{Duration, Instant};

use chrono::Utc;
use claviger_provider::{Error, ErrorKind, ProviderKind, Retry};

use super::{Code, Failure, RequestContext};
use crate::store::model::KeyVersion;

/// How long after its creation a version may be unknown to some servers of its provider.
const YOUNG: Duration = Duration::from_secs(60);
/// The first pause between two calls, and the longest. It doubles each time.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// What of the request's time is left for its answer.
const ANSWER: Duration = Duration::from_millis(500);

/// Whether a version was made so short a time ago that its provider may not show it everywhere.
fn is_young(version: &KeyVersion, now: i64) -> bool {
    match version.provider {
        // Its keys are in the gateway's own store.
        ProviderKind::Local => false,
        _ => u128::from(now.abs_diff(version.created)) < YOUNG.as_micros(),
    }
}

/// Whether an error can be of a key that is not there yet.
fn may_be_early(error: &Error) -> bool {
    match error.kind {
        ErrorKind::KeyNotFound => true,
        // Its material is still made, say. An owner's disable is not to be retried.
        ErrorKind::KeyState => error.retry != Retry::Never,
        _ => false,
    }
}

/// The result of a call with a version of a key whose first attempt failed with `error`. If the version is young and
/// the error can come from that, the call is repeated, with growing pauses, until it gets another result or the
/// request's time is over.
///
/// # Errors
/// The call's own, and `provider_unavailable` for a young key that is not there in time.
pub(super) async fn while_young<T, F: Future<Output = Result<T, Error>>>(
    cx: &RequestContext,
    version: Option<&KeyVersion>,
    mut error: Error,
    call: impl Fn() -> F,
) -> Result<T, Failure> {
    if !version.is_some_and(|version| is_young(version, Utc::now().timestamp_micros())) {
        return Err(error.into());
    }
    let mut pause = FIRST;
    while may_be_early(&error) {
        if Instant::now() + pause + ANSWER >= cx.info().deadline {
            return Err(not_there_yet(&error));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
        match call().await {
            Ok(done) => return Ok(done),
            Err(again) => error = again,
        }
    }
    Err(error.into())
}

/// The failure of a young key that its provider does not know yet.
fn not_there_yet(error: &Error) -> Failure {
    let failure = Failure::from(error);
    Failure {
        code: Code::ProviderUnavailable,
        detail: "The provider does not know the key yet, which was made a moment ago.".into(),
        advice: Some("Repeat the request. If it fails for longer than a minute, look for the key at the provider."),
        retry_after: Some(Duration::from_secs(1)),
        ..failure
    }
}
