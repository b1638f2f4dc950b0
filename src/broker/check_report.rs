//! What a check of a connection reports.

use std::time::SystemTime;

use claviger_provider::kit::probe;
use claviger_provider::{ConnectionId, Error, ErrorKind, Finding, LoginState, LoginStatus, Probe, RightReport};

use super::connection_problems::FILE_ADVICE;
use super::lost_versions::what_permits;
use super::{Code, Failure};
use crate::keys::KeyView;
use crate::store::model::{KeyVersion, ProviderState};

/// What a row says of a key that was replaced.
const REPLACED: &str = ": another key has, or may have, the name of the right one there";
/// What to do about the settings of a connection without keys.
const UNUSED: &str = "No key uses the connection, so nothing would show where other settings lead: to change more than its secrets, delete it \
                      (`claviger connections delete`) and create it again.";
/// The most versions of a key that a row names.
const MAX_NAMED: usize = 10;

/// The result of a check.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// Why the connection cannot be used; `None` if it can.
    pub problem: Option<Code>,
    /// The provider's version or identity, or why the connection cannot be used.
    pub detail: String,
    /// The permissions at the provider, each with the result of its test.
    pub rights: Vec<RightReport>,
    /// The least-privilege policy to set at the provider, if the provider has policies.
    pub policy: Option<String>,
    /// What to do if the connection cannot be used.
    pub advice: Option<&'static str>,
    /// What else to know before that is done.
    pub note: Option<&'static str>,
}

impl CheckReport {
    pub(super) fn of(probe: Probe) -> Self {
        match &probe.problem {
            Some(problem) => Self {
                rights: probe.rights,
                policy: probe.policy,
                ..Self::unusable(problem)
            },
            None => Self {
                problem: None,
                detail: probe.detail,
                rights: probe.rights,
                policy: probe.policy,
                advice: None,
                note: None,
            },
        }
    }

    /// Of a connection that cannot be used, with what the provider says of it.
    pub(super) fn unusable(problem: &Error) -> Self {
        let word = probe::word(problem);
        let failure = Failure::from(problem);
        // A response has the provider's code.
        let detail = detail_of(&failure, problem.upstream_code.is_some(), &word);
        let joined = match problem.repeated {
            true => {
                " The check made no login: the last ones were refused or not answered, and the provider locks an identity after a few more, \
                 for all who use it. It is tried again when the secret changes, or at the time that the connection's login shows."
            }
            false => "",
        };
        Self {
            problem: Some(failure.code),
            detail: format!("{detail}{joined}"),
            rights: Vec::new(),
            policy: None,
            advice: problem.advice.or_else(|| advice_of_check(problem.kind, failure.advice)),
            note: None,
        }
    }

    /// Notes that no version of a key uses the connection. Its settings do not change then, because no canary shows where
    /// others lead.
    pub(super) const fn note_unused(&mut self) {
        if matches!(self.problem, Some(Code::ConnectionMisconfigured | Code::ProviderProtocol)) {
            self.note = Some(UNUSED);
        }
    }

    /// Adds a secret file that cannot be read or used, for this reason, while the connection works with what was read
    /// before.
    pub(super) fn note_files(&mut self, why: Option<String>, reads_causes: bool) {
        if let Some(why) = why.filter(|_| self.problem.is_none()) {
            let hidden = || "a file that the operator's configuration names cannot be read or used".to_owned();
            let how = Some(why).filter(|_| reads_causes).unwrap_or_else(hidden);
            self.fail("secret_file", how, Some(FILE_ADVICE));
        }
    }

    /// Adds a renewal that fails, while the credential at hand serves. `reads_causes` says whether the caller may read
    /// what is wrong on the gateway's machine.
    pub(super) fn note_login(&mut self, login: Option<LoginStatus>, reads_causes: bool) {
        let failing = login.filter(|login| login.state == LoginState::RenewalFailing && self.problem.is_none());
        let Some((failure, expires)) = failing.and_then(|login| Some((login.failure?, login.expires))) else {
            return;
        };
        let left = expires.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default().as_secs());
        let serves = left.map_or_else(String::new, |left| format!(" It ends in {left} s."));
        let code = failure.upstream_code.as_deref().unwrap_or(failure.kind.as_str());
        let why = failure.cause.filter(|_| reads_causes).unwrap_or_else(|| code.to_owned());
        let how = format!("the credential at hand serves, and its renewal fails: {why}.{serves}");
        self.fail("renew_login", how, failure.advice);
    }

    /// Adds the versions of a key through this connection that the provider does not permit to be used, as it last
    /// described them. A canary through a key that has only the name of the right one proves nothing.
    pub(super) fn note_versions(&mut self, view: &KeyView, through: ConnectionId) {
        if !view.key.state.unwraps() {
            return;
        }
        let is_off = |version: &&KeyVersion| {
            // An older version has to unwrap alone.
            let serves = match version.number == view.key.primary.number {
                true => version.provider_state.wraps(),
                false => version.provider_state.unwraps(),
            };
            let is_off = !serves || matches!(version.provider_state, ProviderState::Unproven | ProviderState::Unfit);
            version.connection_id() == Some(through) && version.state.unwraps() && is_off
        };
        let mut by_state: Vec<Vec<&KeyVersion>> = Vec::new();
        for version in view.versions.iter().filter(is_off) {
            match by_state.iter_mut().find(|same| same[0].provider_state == version.provider_state) {
                Some(same) => same.push(version),
                None => by_state.push(vec![version]),
            }
        }
        for versions in by_state {
            self.note_state(view, &versions);
        }
    }

    fn note_state(&mut self, view: &KeyView, versions: &[&KeyVersion]) {
        let [first, ..] = versions else { return };
        let is_replaced = first.is_replaced() || first.provider_state == ProviderState::Unproven;
        let is_primary = versions.iter().any(|version| version.number == view.key.primary.number);
        let numbers: Vec<String> = versions.iter().map(|version| version.number.to_string()).take(MAX_NAMED).collect();
        let others = match versions.len() - numbers.len() {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let (numbers, name, state) = (numbers.join(", "), &view.key.name, first.provider_state.as_str());
        let how = match versions.len() {
            1 => format!("version {numbers} of the key `{name}` is `{state}` at the provider"),
            _ => format!("the versions {numbers}{others} of the key `{name}` are `{state}` at the provider"),
        };
        let meaning = if is_replaced { REPLACED } else { "" };
        if is_replaced && is_primary {
            let untrue = |right: &&mut RightReport| right.key == Some(view.key.id) && right.finding == Finding::Granted;
            for right in self.rights.iter_mut().filter(untrue) {
                right.finding = Finding::Failed;
                right.how.push_str(REPLACED);
            }
        }
        // An owner may end the use of old versions on purpose.
        let finding = if is_primary || is_replaced {
            Finding::Failed
        } else {
            Finding::NotTestable
        };
        let report = RightReport::new("key_version", finding, format!("{how}{meaning}"));
        self.rights.push(report.advise(what_permits(first)));
    }

    fn fail(&mut self, operation: &'static str, how: String, advice: Option<&'static str>) {
        let report = RightReport::new(operation, Finding::Failed, how);
        self.rights.push(match advice {
            Some(advice) => report.advise(advice),
            None => report,
        });
    }
}

/// What failed, with what the provider says, or why it says nothing.
pub(super) fn detail_of(failure: &Failure, responds: bool, word: &str) -> String {
    let detail = match responds && failure.code == Code::ProviderUnavailable {
        true => "The provider responds, but serves no call: it is sealed, overloaded or failing.",
        false => &failure.detail,
    };
    format!("{detail} ({word})")
}

/// What to do about a failed check where the provider's adapter does not say it: not another check, which the
/// advice for other requests begins with.
pub(super) const fn advice_of_check(kind: ErrorKind, of_request: Option<&'static str>) -> Option<&'static str> {
    match kind {
        ErrorKind::ProviderDenied => Some("Give the connection's identity the missing right at the provider, then check again."),
        ErrorKind::Misconfigured => Some(
            "Give the connection other secrets (`claviger connections update --secrets`), or make another one with the right settings and \
             move its keys there.",
        ),
        ErrorKind::UpstreamUnavailable | ErrorKind::CircuitOpen => {
            Some("Look at the provider, and at what is between it and the gateway, then check again.")
        }
        ErrorKind::InvalidInput
        | ErrorKind::KeyNotFound
        | ErrorKind::Conflict
        | ErrorKind::KeyState
        | ErrorKind::TooLarge
        | ErrorKind::CiphertextRejected
        | ErrorKind::RateLimited
        | ErrorKind::Crowded
        | ErrorKind::ExternalDenied
        | ErrorKind::Severed
        | ErrorKind::UpstreamProtocol
        | ErrorKind::UpstreamTimeout
        | ErrorKind::Unsupported
        | ErrorKind::Internal => of_request,
    }
}
