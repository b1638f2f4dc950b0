//! The state of a connection's login: written by the session of [`crate::kit::session`], shown by the
//! gateway. Logs each change of it once, and counts the logins.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::{counter, describe_counter};
use parking_lot::Mutex;

use crate::{ConnectionId, Error, ErrorKind, ProviderKind, TenantId, UpstreamMessage};

const LOGINS: &str = "claviger_provider_logins_total";

/// What to do about a given credential that the provider does not accept.
const REJECTED: &str = "The provider does not accept the connection's token or access key: it is wrong, has expired or was revoked. Give \
                        the connection another one (`claviger connections update --secrets`, or its file).";

/// Describes the metric of logins to the installed recorder. Called once at start.
pub(crate) fn describe() {
    describe_counter!(
        LOGINS,
        "Logins and renewals of connections at providers, by outcome: ok, refused (remembered, not repeated at once) or failed"
    );
}

/// The state of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginState {
    /// No credential is held: the next call logs in.
    None,
    /// The connection has a credential that it was given, and no call shows yet whether the provider accepts it.
    NotTried,
    /// The connection has a credential, and the provider accepted it.
    Ok,
    /// The connection has a credential, and its renewal failed.
    RenewalFailing,
    /// There is no credential, and the last login failed for a reason that can pass. The next call tries again.
    Failing,
    /// The provider refused the login: there is no credential, and calls fail without another login until
    /// the secret changes, the pause is over, or a check tries. Or it refuses the credential that the connection was
    /// given, which each call tries.
    Refused,
}

impl LoginState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::NotTried,
        Self::Ok,
        Self::RenewalFailing,
        Self::Failing,
        Self::Refused,
    ];

    /// The word in responses and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::NotTried => "not_tried",
            Self::Ok => "ok",
            Self::RenewalFailing => "renewal_failing",
            Self::Failing => "failing",
            Self::Refused => "refused",
        }
    }
}

/// Why the last login or renewal failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFailure {
    /// The kind of error that calls get.
    pub kind: ErrorKind,
    /// The provider's own code, if its response has one.
    pub upstream_code: Option<Box<str>>,
    /// What to do about it.
    pub advice: Option<&'static str>,
    /// What is wrong on the gateway's own machine, such as a file that cannot be read: for its operator alone.
    pub cause: Option<String>,
    /// When this failure began.
    pub since: SystemTime,
    /// When it is tried again at the earliest, where that is known.
    pub next_attempt: Option<SystemTime>,
    /// Whether the provider refused it, and would refuse a repetition.
    refused: bool,
}

/// What is known of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginStatus {
    /// The state.
    pub state: LoginState,
    /// When the credential ends; `None` where it does not end, or no credential is held.
    pub expires: Option<SystemTime>,
    /// Why the last login or renewal failed; `None` if it succeeded.
    pub failure: Option<LoginFailure>,
}

/// How long a credential is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Until(SystemTime),
    WithoutEnd,
}

impl Held {
    /// `None` for a credential without end.
    fn of(left: Option<Duration>) -> Self {
        left.map_or(Self::WithoutEnd, |left| Self::Until(SystemTime::now() + left))
    }
}

#[derive(Debug)]
struct Known {
    /// Whether the connection logs in at all.
    used: bool,
    held: Held,
    /// Whether the provider accepted what is held.
    proven: bool,
    failure: Option<LoginFailure>,
    /// The time that was left at the last warning.
    warned_at: Option<Duration>,
}

/// The report on one connection's login. Clones are the same report.
#[derive(Debug, Clone)]
pub struct LoginReport {
    tenant: TenantId,
    connection: ConnectionId,
    provider: ProviderKind,
    declared: bool,
    known: Arc<Mutex<Known>>,
}

impl LoginReport {
    /// An empty report.
    pub fn new(tenant: TenantId, connection: ConnectionId, provider: ProviderKind) -> Self {
        let known = Known {
            used: false,
            held: Held::Nothing,
            proven: false,
            failure: None,
            warned_at: None,
        };
        Self {
            tenant,
            connection,
            provider,
            declared: false,
            known: Arc::new(Mutex::new(known)),
        }
    }

    /// The same report, for a connection that the operator declares if `declared`.
    #[must_use]
    pub fn declared(self, declared: bool) -> Self {
        Self { declared, ..self }
    }

    /// The tenant who made the connection; `None` for one of the operator's.
    pub(crate) fn own_tenant(&self) -> Option<TenantId> {
        Some(self.tenant).filter(|tenant| !self.declared && *tenant != TenantId::INSTALLATION)
    }

    /// What is known now; `None` for a connection that has no login, as of the embedded provider.
    pub fn status(&self) -> Option<LoginStatus> {
        let known = self.known.lock();
        if !known.used {
            return None;
        }
        let now = SystemTime::now();
        let (is_held, expires) = match known.held {
            Held::Nothing => (false, None),
            Held::Until(end) => (end > now, Some(end)),
            Held::WithoutEnd => (true, None),
        };
        let state = match &known.failure {
            None if is_held && known.proven => LoginState::Ok,
            None if is_held => LoginState::NotTried,
            None => LoginState::None,
            Some(_) if is_held => LoginState::RenewalFailing,
            Some(failure) if failure.refused => LoginState::Refused,
            Some(_) => LoginState::Failing,
        };
        Some(LoginStatus {
            state,
            // An end in the past is worth an alert only while a renewal fails.
            expires: expires.filter(|_| state != LoginState::None),
            failure: known.failure.clone(),
        })
    }

    /// The connection logs in when it is used.
    pub(crate) fn begin(&self) {
        self.known.lock().used = true;
    }

    /// A login or renewal succeeded. `left` is the time until the credential's end, `None` where there is none.
    pub(crate) fn succeeded(&self, left: Option<Duration>) {
        self.count("ok");
        self.accepted(left);
    }

    /// The connection has another given credential, which the provider has not seen.
    pub(crate) fn given(&self, left: Option<Duration>) {
        let mut known = self.known.lock();
        known.held = Held::of(left);
        known.proven = false;
        known.warned_at = None;
        known.failure = None;
    }

    /// The provider accepted the credential that the connection holds.
    pub(crate) fn accepted(&self, left: Option<Duration>) {
        let mut known = self.known.lock();
        known.held = Held::of(left);
        known.proven = true;
        known.warned_at = None;
        if known.failure.take().is_some() {
            tracing::info!(
                tenant = %self.tenant, connection = %self.connection, provider = %self.provider,
                "the connection's login works again"
            );
        }
    }

    /// The provider does not accept the given credential, and there is no other.
    pub(crate) fn rejected(&self) {
        self.lost();
        // No login was made, so none is counted.
        let error = Error::new(ErrorKind::ProviderDenied, "use the given credential")
            .advice(REJECTED)
            .repeated();
        self.failed(&error, true, None, None);
    }

    /// The credential is no longer used: the provider refuses it.
    pub(crate) fn lost(&self) {
        self.known.lock().held = Held::Nothing;
    }

    /// A login or renewal failed. `left` is the time for which the old credential still serves, `None` without
    /// one; `refused` says that the provider refused, and `pause` when it is tried again at the earliest.
    pub(crate) fn failed(&self, error: &Error, refused: bool, left: Option<Duration>, pause: Option<Duration>) {
        // No login of this connection, but the refusal of another one's.
        if !error.repeated {
            self.count(if refused { "refused" } else { "failed" });
        }
        let now = SystemTime::now();
        let mut known = self.known.lock();
        let same =
            |before: &LoginFailure| (before.kind, &before.upstream_code, before.refused) == (error.kind, &error.upstream_code, refused);
        let before = known.failure.take().filter(same);
        let is_new = before.is_none();
        known.failure = Some(LoginFailure {
            kind: error.kind,
            upstream_code: error.upstream_code.clone(),
            advice: error.advice,
            cause: local_cause(error),
            since: before.map_or(now, |before| before.since),
            next_attempt: pause.map(|pause| now + pause),
            refused,
        });
        // Once for each failure, and again each time that half of the remaining time is over.
        let closer = left.is_some_and(|left| known.warned_at.is_none_or(|before| left <= before / 2));
        if !is_new && !closer {
            return;
        }
        known.warned_at = left;
        match left {
            Some(left) => tracing::warn!(
                tenant = %self.tenant, connection = %self.connection, provider = %self.provider, %error, refused,
                ends_in_seconds = (left < Duration::MAX).then_some(left.as_secs()),
                "the renewal of the connection's login failed; its credential serves until it ends"
            ),
            None => tracing::warn!(
                tenant = %self.tenant, connection = %self.connection, provider = %self.provider, %error, refused,
                next_attempt_in_seconds = pause.map(|pause| pause.as_secs()),
                "the connection's login failed"
            ),
        }
    }

    fn count(&self, outcome: &'static str) {
        counter!(LOGINS, "provider" => self.provider.as_str(), "outcome" => outcome).increment(1);
    }
}

/// The cause of an error that no response has: such an error is of the gateway's machine.
fn local_cause(error: &Error) -> Option<String> {
    let cause = error.source.as_deref()?.downcast_ref::<UpstreamMessage>()?;
    Some(cause.to_string()).filter(|_| error.kind == ErrorKind::Misconfigured && error.message.is_none())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::time::Duration;

    use super::{LoginReport, LoginState};
    use crate::{ConnectionId, Error, ErrorKind, ProviderKind, TenantId};

    const HOUR: Duration = Duration::from_secs(3600);

    fn report() -> LoginReport {
        let report = LoginReport::new(TenantId::random(), ConnectionId::random(), ProviderKind::Vault);
        assert_eq!(report.status(), None);
        report.begin();
        report
    }

    fn state(report: &LoginReport) -> LoginState {
        report.status().unwrap().state
    }

    #[test]
    fn a_refusal_is_shown_with_what_is_known_of_it() {
        let report = report();
        assert_eq!(state(&report), LoginState::None);
        let denied = Error::new(ErrorKind::ProviderDenied, "log in")
            .upstream_code("403")
            .advice("Mend it.");
        report.failed(&denied, true, None, Some(HOUR));
        let failure = report.status().unwrap().failure.unwrap();
        assert_eq!(state(&report), LoginState::Refused);
        assert_eq!((failure.upstream_code.as_deref(), failure.advice), (Some("403"), Some("Mend it.")));
        assert!(failure.next_attempt.unwrap() > failure.since);
        report.failed(&denied, true, None, Some(HOUR));
        assert_eq!(report.status().unwrap().failure.unwrap().since, failure.since, "the same failure");
        report.succeeded(None);
        assert_eq!((state(&report), report.status().unwrap().failure), (LoginState::Ok, None));
    }

    #[test]
    fn a_given_credential_is_neither_ok_nor_refused_before_it_is_tried() {
        let report = report();
        report.given(None);
        assert_eq!(state(&report), LoginState::NotTried);
        report.rejected();
        let failure = report.status().unwrap().failure.unwrap();
        assert_eq!((state(&report), failure.advice.is_some()), (LoginState::Refused, true));
        report.accepted(None);
        assert_eq!((state(&report), report.status().unwrap().failure), (LoginState::Ok, None));
        report.given(None);
        assert_eq!(state(&report), LoginState::NotTried, "another one");
    }

    #[test]
    fn an_end_is_shown_while_there_is_a_credential_or_its_renewal_fails() {
        let report = report();
        let away = Error::new(ErrorKind::UpstreamUnavailable, "log in");
        report.succeeded(Some(HOUR));
        assert!(report.status().unwrap().expires.is_some());
        report.failed(&away, false, Some(HOUR), None);
        assert_eq!(state(&report), LoginState::RenewalFailing);
        report.succeeded(Some(Duration::ZERO));
        assert_eq!((state(&report), report.status().unwrap().expires), (LoginState::None, None));
        report.failed(&away, false, None, None);
        assert_eq!(state(&report), LoginState::Failing);
        assert!(report.status().unwrap().expires.is_some());
        report.succeeded(Some(HOUR));
        report.lost();
        assert_eq!(state(&report), LoginState::None);
    }
}
