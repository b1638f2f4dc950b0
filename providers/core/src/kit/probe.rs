//! The check of a connection: reports on rights, each tried by itself, and the canary, random bytes
//! that are wrapped and unwrapped again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::call_error::MalformedResponse;
use crate::egress::SendError;
use crate::error::{Concerns, Error, ErrorKind, Retry, UpstreamMessage, printable};
use crate::ids::ProviderKind;
use crate::op_context::OpContext;
use crate::probe::{Finding, RightReport};
use crate::provider::{Exposure, Kek};
use crate::secret::Secret;

/// Why a right that is granted key by key cannot be tried yet.
pub const NO_KEY_YET: &str = "the connection has no key yet; make or adopt one and check again";

/// What to do about a call that was denied, where no single right is known to be missing.
const MISSING_RIGHT: &str = "Grant the missing right: the other rows name it, and the printed policy grants it.";

/// The length of a canary, in bytes.
const CANARY: usize = 32;
/// The longest time of one call of a check, so that one that hangs leaves time for the others.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much longer it may take for a login, whose first attempt may meet a dead connection.
const LOGINS: Duration = Duration::from_secs(2);
/// The time before the deadline in which no call runs: the report must still be recorded and sent.
const REST: Duration = Duration::from_millis(500);
/// The longest quotation of a provider, in characters.
const MAX_QUOTATION: usize = 240;

/// The calls of one check, and what they show about the connection as a whole.
#[derive(Default)]
pub struct Calls(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    /// Whether the provider served a call of the connection's credential, or refused it for what was asked.
    served: bool,
    /// Why the first call did not get through.
    problem: Option<Arc<Error>>,
    /// Why the first call failed that did get through: the provider responds, and is sealed or fails.
    failure: Option<Arc<Error>>,
}

impl Calls {
    /// Makes one call, for at most 3 s, and 2 s more if it waits for a login. Its error is [`shown`].
    ///
    /// # Errors
    /// The call's; `UpstreamTimeout`.
    pub async fn make<T>(&self, cx: &OpContext, call: impl Future<Output = Result<T, Error>>) -> Result<T, Arc<Error>> {
        let limit = PATIENCE.min(cx.remaining().saturating_sub(REST));
        // Boxed: a check makes many calls at once, whose futures would all be parts of its own.
        let logins = LOGINS.saturating_sub(cx.login().so_far());
        let result = cx.within(limit, logins, REST, Box::pin(call)).await;
        let result = result.unwrap_or_else(|| Err(Error::new(ErrorKind::UpstreamTimeout, "a call of the check").retry(Retry::Backoff)));
        let result = result.map_err(|error| Arc::new(shown(cx, error)));
        let mut seen = self.0.lock();
        match &result {
            Err(error) if unanswered(error) => {
                seen.problem.get_or_insert_with(|| Arc::clone(error));
            }
            Err(error) if matches!(error.kind, ErrorKind::UpstreamUnavailable | ErrorKind::UpstreamProtocol) => {
                seen.failure.get_or_insert_with(|| Arc::clone(error));
            }
            Ok(_) | Err(_) => seen.served = true,
        }
        result
    }

    /// Why no call was served; `None` if the provider served one.
    pub fn problem(self) -> Option<Arc<Error>> {
        let seen = self.0.into_inner();
        seen.failure.or(seen.problem).filter(|_| !seen.served)
    }
}

/// Whether the provider did not see the call, or not with a credential.
const fn unanswered(error: &Error) -> bool {
    match (error.concerns, error.kind) {
        (Concerns::Connection, _) | (_, ErrorKind::UpstreamTimeout) => true,
        (Concerns::Call, ErrorKind::UpstreamUnavailable | ErrorKind::Misconfigured) => error.upstream_code.is_none(),
        (Concerns::Call, _) => false,
    }
}

/// An error as a check reports it: without the provider's own message where the caller may not read that, and with
/// the cause on the gateway's machine, such as a file that is missing, where the caller is its operator.
#[must_use]
pub fn shown(cx: &OpContext, error: Error) -> Error {
    let error = match cx.quotes() {
        true => error,
        false => Error { message: None, ..error },
    };
    let cause = error.source.as_deref().and_then(|cause| cause.downcast_ref::<UpstreamMessage>());
    match cause
        .filter(|_| cx.reads_causes() && error.message.is_none())
        .map(ToString::to_string)
    {
        Some(cause) => error.message(cause),
        None => error,
    }
}

/// What a failed call says, for the report: the provider's own code and message where there are
/// any. At most 240 printable ASCII characters, without what the provider repeats of a request.
pub fn word(error: &Error) -> String {
    worded(error, error.message.as_ref().map(ToString::to_string))
}

/// As [`word`], without the provider's own message, which not every caller may read.
pub fn word_without_message(error: &Error) -> String {
    worded(error, None)
}

fn worded(error: &Error, message: Option<String>) -> String {
    let cause = error.source.as_deref().and_then(|cause| {
        let send = cause.downcast_ref::<SendError>().map(ToString::to_string);
        let malformed = || cause.downcast_ref::<MalformedResponse>().map(ToString::to_string);
        send.or_else(malformed)
    });
    let text = match (&error.upstream_code, message.or(cause)) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_string(),
        (None, Some(message)) => message,
        (None, None) => of_kind(error.kind).to_owned(),
    };
    text.chars().take(MAX_QUOTATION).map(printable).collect()
}

const fn of_kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::KeyState => "the key's state forbids it",
        ErrorKind::KeyNotFound => "there is no such key, or the identity may not see it",
        ErrorKind::Unsupported => "the service has no such call for the key",
        ErrorKind::RateLimited => "the service throttles",
        ErrorKind::UpstreamUnavailable => "the service is unavailable",
        ErrorKind::UpstreamTimeout => "no response in time",
        ErrorKind::UpstreamProtocol => "the response makes no sense",
        ErrorKind::ProviderDenied | ErrorKind::ExternalDenied => "denied",
        ErrorKind::Misconfigured => "the connection's settings or credentials are wrong",
        ErrorKind::CiphertextRejected => "the ciphertext was rejected",
        ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Conflict => "the request was rejected",
        ErrorKind::Crowded | ErrorKind::CircuitOpen | ErrorKind::Severed | ErrorKind::Internal => "the call was not made",
    }
}

impl RightReport {
    /// A report without advice.
    pub fn new(operation: &'static str, finding: Finding, how: impl Into<String>) -> Self {
        Self {
            operation,
            finding,
            how: how.into(),
            advice: None,
            key: None,
        }
    }

    /// Says what to grant or revoke.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The report on a call that failed, tried as `how` says. The error's own advice, if it has any, says
    /// what to do; of a right that is missing, it would only send its reader to the check.
    pub fn failed(operation: &'static str, how: &str, error: &Error) -> Self {
        let (finding, why) = Trial::failed(error).told();
        let report = Self::new(operation, finding, format!("{how}: {why}"));
        match (finding, error.advice) {
            (Finding::Denied, _) => report.advise(MISSING_RIGHT),
            (Finding::Granted | Finding::Excessive | Finding::NotTestable | Finding::Failed, Some(advice)) => report.advise(advice),
            (Finding::Granted | Finding::Excessive | Finding::NotTestable | Finding::Failed, None) => report,
        }
    }

    /// The report on a key whose material can leave the provider; `None` if it cannot.
    pub fn exposed(kek: &Kek, exposure: Exposure) -> Option<Self> {
        let ways = match (exposure.exportable, exposure.plaintext_backup) {
            (false, false) => return None,
            (true, false) => "is exportable",
            (false, true) => "allows a plaintext backup",
            (true, true) => "is exportable and allows a plaintext backup",
        };
        let how = format!("{} {ways}: whoever has that right at the provider gets its material", kek.key.id);
        let advice =
            "Make a key that is not exportable and allows no plaintext backup, and move there: `claviger keys rotate --provider-key`.";
        Some(Self::new("export_key", Finding::Excessive, how).advise(advice))
    }

    /// The report on a canary through a key.
    pub fn canary(kek: &Kek, result: Result<(), Arc<Error>>) -> Self {
        let how = format!("random bytes wrapped and unwrapped with {}", kek.key.id);
        let report = match result {
            Ok(()) => Self::new("canary", Finding::Granted, how),
            Err(error) => Self::failed("canary", &how, &error),
        };
        Self {
            key: Some(kek.id),
            ..report
        }
    }
}

/// Wraps and unwraps random bytes by `round_trip`, and compares.
///
/// # Errors
/// Those of `round_trip`, and `UpstreamProtocol` when other bytes come back.
pub async fn canary(provider: ProviderKind, round_trip: impl AsyncFnOnce(&Secret) -> Result<Secret, Error>) -> Result<(), Error> {
    let canary = Secret::random(CANARY);
    if round_trip(&canary).await? == canary {
        return Ok(());
    }
    let error = Error::new(ErrorKind::UpstreamProtocol, "unwrap a canary").provider(provider);
    Err(error.source(MalformedResponse("plaintext")))
}

/// What the trial of a right on one key showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// The right is granted.
    Granted,
    /// The right is missing; what the provider says.
    Denied(String),
    /// It could not be tried, for this reason.
    NotTestable(String),
    /// The call failed, with this.
    Failed(String),
}

impl Trial {
    /// What a call shows about the right to make it.
    pub fn of<T>(result: &Result<T, Arc<Error>>) -> Self {
        match result {
            Ok(_) => Self::Granted,
            Err(error) => Self::failed(error),
        }
    }

    /// What a call that failed shows about the right to make it.
    pub fn failed(error: &Error) -> Self {
        let word = word(error);
        match error.kind {
            // A login that is denied shows nothing about a right.
            ErrorKind::ProviderDenied | ErrorKind::ExternalDenied if error.concerns == Concerns::Call => Self::Denied(word),
            ErrorKind::KeyState | ErrorKind::Unsupported => Self::NotTestable(word),
            ErrorKind::ProviderDenied
            | ErrorKind::ExternalDenied
            | ErrorKind::InvalidInput
            | ErrorKind::KeyNotFound
            | ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::CiphertextRejected
            | ErrorKind::RateLimited
            | ErrorKind::Crowded
            | ErrorKind::UpstreamUnavailable
            | ErrorKind::CircuitOpen
            | ErrorKind::Severed
            | ErrorKind::UpstreamProtocol
            | ErrorKind::UpstreamTimeout
            | ErrorKind::Misconfigured
            | ErrorKind::Internal => Self::Failed(word),
        }
    }

    /// The finding, and why.
    fn told(self) -> (Finding, String) {
        match self {
            Self::Granted => (Finding::Granted, String::new()),
            Self::Denied(word) => (Finding::Denied, format!("refused: {word}")),
            Self::NotTestable(why) => (Finding::NotTestable, why),
            Self::Failed(word) => (Finding::Failed, word),
        }
    }

    /// The order in which trials on several keys are reported.
    const fn severity(&self) -> u8 {
        match self {
            Self::Denied(_) => 3,
            Self::Failed(_) => 2,
            Self::NotTestable(_) => 1,
            Self::Granted => 0,
        }
    }
}

/// One report for a right that is granted key by key: the worst of its trials, which are in the
/// order of the keys. `how` says how it was tried, `advice` what to do about a key without the
/// right. `None` where the right was tried on no key.
pub fn worst<'k>(
    operation: &'static str,
    how: &str,
    trials: impl IntoIterator<Item = (&'k Kek, Trial)>,
    advice: impl FnOnce(&Kek) -> String,
) -> Option<RightReport> {
    let trials: Vec<(&Kek, Trial)> = trials.into_iter().collect();
    let keys = trials.len();
    // Of several that are equally bad, the first.
    let (kek, trial) = trials.into_iter().rev().max_by_key(|(_, trial)| trial.severity())?;
    let denied = matches!(trial, Trial::Denied(_));
    let report = match trial.told() {
        (Finding::Granted, _) => RightReport::new(operation, Finding::Granted, format!("{how}, with {keys} of the connection's keys")),
        (finding, why) => RightReport::new(operation, finding, format!("{how} ({}): {why}", kek.key.id)),
    };
    Some(if denied { report.advise(advice(kek)) } else { report })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Calls, MISSING_RIGHT, MalformedResponse, Trial, canary, shown, word, worst};
    use crate::egress::SendError;
    use crate::{
        Concerns, Error, ErrorKind, Finding, Kek, KeyId, KeySpec, OpContext, ProviderKeyRef, ProviderKind, RightReport, Secret, TenantId,
        UpstreamMessage,
    };

    fn cx(deadline: Duration) -> OpContext {
        OpContext::new(
            "test",
            TenantId::random(),
            "system",
            (tokio::time::Instant::now() + deadline).into_std(),
        )
    }

    fn kek(id: &str) -> Kek {
        Kek {
            key: ProviderKeyRef {
                id: id.to_owned(),
                version: String::new(),
            },
            spec: KeySpec::Aes256,
            id: KeyId::from_bytes([1; 16]),
        }
    }

    #[tokio::test]
    async fn a_canary_must_come_back_as_it_was() {
        canary(ProviderKind::Vault, async |canary| Ok(Secret::copy_from(canary.expose())))
            .await
            .unwrap();
        let other = canary(ProviderKind::Vault, async |_| Ok(Secret::random(32))).await;
        assert_eq!(other.unwrap_err().kind, ErrorKind::UpstreamProtocol);
    }

    #[test]
    fn the_worst_trial_is_reported() {
        let (a, b, c) = (kek("a"), kek("b"), kek("c"));
        let (denied, failed) = (Trial::Denied("no".to_owned()), Trial::Failed("500".to_owned()));
        let report = |trials: &[(&Kek, &Trial)]| {
            let trials = trials.iter().map(|(kek, trial)| (*kek, (*trial).clone()));
            worst("wrap_key", "Encrypt", trials, |kek| format!("Grant it on {}.", kek.key.id))
        };
        let reported = report(&[(&a, &Trial::Granted), (&b, &failed), (&c, &denied)]);
        let expected = RightReport::new("wrap_key", Finding::Denied, "Encrypt (c): refused: no").advise("Grant it on c.");
        assert_eq!(reported, Some(expected));
        let reported = report(&[(&a, &Trial::Granted), (&b, &failed), (&c, &failed)]).unwrap();
        assert_eq!((reported.finding, reported.how.as_str()), (Finding::Failed, "Encrypt (b): 500"));
        assert_eq!(
            report(&[(&a, &Trial::Granted), (&b, &Trial::Granted)]).unwrap().finding,
            Finding::Granted
        );
        assert_eq!(report(&[]), None);
    }

    #[test]
    fn the_word_is_the_providers_and_bounded() {
        let refused = Error::new(ErrorKind::ProviderDenied, "x")
            .upstream_code("AccessDenied")
            .message(format!("not\nauthorized{}", "!".repeat(400)));
        let told = word(&refused);
        assert!(told.starts_with("AccessDenied: not authorized!") && told.len() == 240, "{told}");
        // Whoever may not read the message learns the code.
        let unquoted = shown(&cx(Duration::from_secs(1)).without_quotations(), refused);
        assert_eq!(word(&unquoted), "AccessDenied");
        // A message without a response of the provider's is the gateway's own cause, for the log alone.
        let local = Error::new(ErrorKind::Misconfigured, "x").source(UpstreamMessage("/etc/the-path".to_owned()));
        assert!(!word(&local).contains("path"));
        let denied = Error::new(ErrorKind::ProviderDenied, "x").advice("Run the connection's check.");
        let denied = RightReport::canary(&kek("a"), Err(Arc::new(denied)));
        assert_eq!((denied.finding, denied.advice.as_deref()), (Finding::Denied, Some(MISSING_RIGHT)));
        let unsent = SendError::Unreachable("connection refused".to_owned()).into_error("x");
        assert_eq!(word(&unsent), "no connection (connection refused)");
        let malformed = Error::new(ErrorKind::UpstreamProtocol, "x").source(MalformedResponse("key"));
        assert_eq!(word(&malformed), "the response's key is missing or malformed");
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_that_hangs_leaves_time_for_the_others_and_is_no_problem_of_the_connection() {
        let cx = cx(Duration::from_secs(10));
        let calls = Calls::default();
        let start = tokio::time::Instant::now();
        let hung = calls.make::<()>(&cx, std::future::pending()).await.unwrap_err();
        assert_eq!((hung.kind, start.elapsed()), (ErrorKind::UpstreamTimeout, Duration::from_secs(3)));
        calls.make(&cx, async { Ok(()) }).await.unwrap();
        assert!(calls.problem().is_none());

        let calls = Calls::default();
        let login = || {
            Error::new(ErrorKind::ProviderDenied, "log in")
                .upstream_code("403")
                .concerns(Concerns::Connection)
        };
        calls.make::<()>(&cx, async { Err(login()) }).await.unwrap_err();
        calls.make::<()>(&cx, std::future::pending()).await.unwrap_err();
        assert_eq!(calls.problem().map(|error| error.kind), Some(ErrorKind::ProviderDenied));

        let calls = Calls::default();
        let down = || Error::new(ErrorKind::UpstreamUnavailable, "x").upstream_code("500");
        calls.make::<()>(&cx, async { Err(down()) }).await.unwrap_err();
        let denied = || Error::new(ErrorKind::ProviderDenied, "x").upstream_code("403");
        calls.make::<()>(&cx, async { Err(denied()) }).await.unwrap_err();
        assert!(calls.problem().is_none(), "it serves other calls");

        let calls = Calls::default();
        calls.make::<()>(&cx, std::future::pending()).await.unwrap_err();
        calls.make::<()>(&cx, async { Err(down()) }).await.unwrap_err();
        let problem = calls.problem().map(|error| (error.kind, error.upstream_code.clone()));
        assert_eq!(
            problem,
            Some((ErrorKind::UpstreamUnavailable, Some("500".into()))),
            "it serves nothing"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_login_does_not_count_for_a_call() {
        let cx = cx(Duration::from_secs(10));
        let login = async {
            cx.login().during(tokio::time::sleep(Duration::from_secs(2))).await;
            tokio::time::sleep(Duration::from_millis(2_900)).await;
            Ok(())
        };
        Calls::default().make(&cx, login).await.unwrap();
        let long = async {
            cx.login().during(tokio::time::sleep(Duration::from_secs(50))).await;
            Ok(())
        };
        let start = tokio::time::Instant::now();
        Calls::default().make(&cx, long).await.unwrap_err();
        assert_eq!(start.elapsed().as_secs(), 3, "the calls before had the time of all logins");
    }

    #[test]
    fn only_the_operator_reads_what_is_wrong_on_the_gateways_machine() {
        let missing = || Error::new(ErrorKind::Misconfigured, "x").source(UpstreamMessage("/etc/the-path: not found".to_owned()));
        let cx = || cx(Duration::from_secs(1));
        assert_eq!(word(&shown(&cx().reading_causes(), missing())), "/etc/the-path: not found");
        for other in [cx(), cx().without_quotations()] {
            assert!(!word(&shown(&other, missing())).contains("path"));
        }
    }
}
