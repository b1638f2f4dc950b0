//! The caller's credential as a gate of every answer and of every change.
//!
//! It is looked at after the body was read, before and after an intent, in the transaction of a change
//! (`store::rules::check_credential`), and last while an answer is handed over ([`super::conclude`]). What
//! was revoked meanwhile ([`super::revoke`]) gets `unauthenticated`, as at its next request.

use super::revoke::Revoked;
use super::{Broker, Code, Failure, RequestContext};
use crate::access::{Caller, Ended};
use crate::keys::{EpochGuard, with_gates_held};
use crate::store::CredentialRef;

/// Why an answer is not handed over.
pub(super) enum Closed {
    /// The credential is not in force.
    Credential(Ended),
    /// The key or the connection of the guards with these indices changed.
    Epochs(Vec<usize>),
}

impl Broker {
    /// Refuses to go on with a credential that was in force when the request's head was read and is
    /// not now.
    ///
    /// # Errors
    /// `unauthenticated`; `permission_denied` once its tenant is suspended.
    pub fn in_force(&self, cx: &RequestContext) -> Result<(), Failure> {
        Ok(self.while_in_force(cx, cx.may_answer_suspended(), || ())?)
    }

    /// Runs `hand_over` while the gates of the caller's credential are held shared. For answers to operators that concern
    /// no tenant: a suspension does not matter.
    ///
    /// # Errors
    /// As [`Broker::in_force`].
    pub fn while_caller_in_force<R>(&self, caller: &Caller, hand_over: impl FnOnce() -> R) -> Result<R, Failure> {
        Ok(caller.while_in_force(true, self.credential_time(), hand_over)?)
    }

    /// Runs `hand_over` while the gates of the credential are held shared, if it is in force.
    ///
    /// `while_suspended` as in [`crate::access::Caller::while_in_force`].
    pub(super) fn while_in_force<R>(&self, cx: &RequestContext, while_suspended: bool, hand_over: impl FnOnce() -> R) -> Result<R, Ended> {
        cx.caller().while_in_force(while_suspended, self.credential_time(), hand_over)
    }

    /// Runs `hand_over` while the gates of the credential, and of all guarded keys and connections, are
    /// held shared, if all are as they were. `hand_over` must not block.
    pub(super) fn while_all_hold<R>(&self, cx: &RequestContext, guards: &[EpochGuard], hand_over: impl FnOnce() -> R) -> Result<R, Closed> {
        let passing = || with_gates_held(guards, hand_over);
        // A revocation must be able to answer the credential that it ended.
        let passed = if cx.ended_itself() {
            Ok(passing())
        } else {
            self.while_in_force(cx, cx.may_answer_suspended(), passing)
        };
        passed.map_err(Closed::Credential)?.map_err(Closed::Epochs)
    }
}

impl RequestContext {
    /// The credential for the transaction of a change.
    pub(super) fn credential_ref(&self) -> Option<CredentialRef> {
        self.caller().credential_ref(self.may_answer_suspended())
    }

    /// Notes whether a revocation that this operation carries out ends its own credential.
    pub(super) fn note_end(&self, revoked: &Revoked) {
        let ends = match revoked {
            Revoked::Token { row, .. } => self.caller().ends_with(|token, _| token == row.id),
            Revoked::Principal { id, .. } => self.caller().ends_with(|_, principal| principal == *id),
            // An operator's credential is of no tenant that can be suspended.
            Revoked::Tenant(_) | Revoked::Key(_) | Revoked::Connection(_) => false,
        };
        if ends {
            self.set_ended_itself();
        }
    }
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Credential => Self::new(
                Code::Unauthenticated,
                "The credential was revoked or expired before the response was sent, so nothing is returned.",
            )
            .advice("Use a credential that is in force. After a change, read its object: the change may have been made."),
            Ended::Tenant => Self::new(
                Code::PermissionDenied,
                "The tenant was suspended before the response was sent, so nothing is returned.",
            )
            .advice("Ask the operator of the gateway to resume it. After a change, read its object then: the change may have been made."),
        }
    }
}
