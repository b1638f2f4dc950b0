//! Admission: who may do what on which object, as one value.
//!
//! [`Broker::admit`] finds the object that a request names and asks the authorizer. What it gives
//! back, [`Authorized`], is the only way into a use case, and the only source of what the audit
//! record says of operation, object and policy.

mod decide;
mod objects;
mod operation;
mod scopes;
mod subject;
mod tokens;

use claviger_provider::{ConnectionId, KeyId};

use super::turns::Turn;
use super::{Broker, Code, Failure, RequestContext};
use crate::access::{Action, Caller, Resource};
use crate::store::for_revocation;
use crate::store::model::{Key, KeyVersion};

pub(super) use objects::InspectedKey;
pub use objects::{ConnectionUpdateNamed, KeyNamed, Names, NewPrimary, PairNamed, RotateNamed, UpdateNamed};
pub use operation::{Operation, op};
pub(super) use scopes::Through;
pub(super) use subject::Subject;
pub use tokens::{EndingPrincipal, NewTokenNamed, TokenNamed};

/// One operation that was allowed on one object, for one caller. Only [`Broker::admit`] makes
/// it; it cannot be copied, and a use case consumes it.
///
/// A use case takes the object from its authorization:
/// ```no_run
/// # use claviger::{broker::{Authorized, Broker, op}, envelope::{Context, Envelope}};
/// async fn unwrap(broker: &Broker, allowed: Authorized<op::Unwrap>, envelope: &Envelope, context: &Context) {
///     let _ = broker.unwrap(allowed, envelope, context).await;
/// }
/// ```
/// The examples below differ from code that compiles in the one line that is refused. An
/// authorization of another operation:
/// ```compile_fail,E0308
/// # use claviger::{broker::{Authorized, Broker, op}, envelope::{Context, Envelope}};
/// async fn unwrap(broker: &Broker, allowed: Authorized<op::Wrap>, envelope: &Envelope, context: &Context) {
///     let _ = broker.unwrap(allowed, envelope, context).await;
/// }
/// ```
/// Another object than the authorized one:
/// ```compile_fail,E0061
/// # use claviger::{broker::{Authorized, Broker, op}, envelope::{Context, Envelope}, keys::KeyEntry};
/// # use std::sync::Arc;
/// async fn unwrap(broker: &Broker, allowed: Authorized<op::Unwrap>, other: &Arc<KeyEntry>, envelope: &Envelope, context: &Context) {
///     let _ = broker.unwrap(allowed, other, envelope, context).await;
/// }
/// ```
/// The object is read, and never exchanged:
/// ```no_run
/// # use claviger::{broker::{Authorized, op}, keys::KeyEntry};
/// # use std::sync::Arc;
/// fn read(allowed: &Authorized<op::Unwrap>) -> &Arc<KeyEntry> {
///     allowed.object()
/// }
/// ```
/// ```compile_fail,E0616
/// # use claviger::{broker::{Authorized, op}, keys::KeyEntry};
/// # use std::sync::Arc;
/// fn exchange(allowed: &mut Authorized<op::Unwrap>, other: Arc<KeyEntry>) {
///     allowed.object = other;
/// }
/// ```
/// An authorization is made by admission alone, and not copied:
/// ```compile_fail,E0451
/// # use claviger::{broker::{Authorized, RequestContext, op}, keys::KeyEntry};
/// # use std::sync::Arc;
/// fn make(cx: RequestContext, object: Arc<KeyEntry>) -> Authorized<op::Unwrap> {
///     Authorized { cx, object }
/// }
/// ```
/// ```compile_fail,E0308
/// # use claviger::broker::{Authorized, op};
/// fn copy(allowed: &Authorized<op::Unwrap>) -> Authorized<op::Unwrap> {
///     allowed.clone()
/// }
/// ```
/// The record's operation and object come from it, and from nowhere else:
/// ```no_run
/// # use claviger::{access::Caller, broker::{Authorized, op}};
/// fn read(allowed: &Authorized<op::Unwrap>) -> &Caller {
///     allowed.caller()
/// }
/// ```
/// ```compile_fail,E0624
/// # use claviger::broker::{Authorized, op};
/// fn record_another_action(allowed: &Authorized<op::Unwrap>) {
///     allowed.cx().note(|fields| fields.cached = Some(true));
/// }
/// ```
pub struct Authorized<O: Operation> {
    cx: RequestContext,
    object: O::Object,
}

impl<O: Operation> Authorized<O> {
    /// The authenticated caller.
    pub fn caller(&self) -> &Caller {
        self.cx.caller()
    }

    /// The object that the operation may use.
    pub const fn object(&self) -> &O::Object {
        &self.object
    }

    /// The operation under way, which its record is made from.
    pub(super) const fn cx(&self) -> &RequestContext {
        &self.cx
    }
}

impl<O: Operation> Authorized<O> {
    /// Waits for the turn of a version's connection in a batch, as [`RequestContext::turn`]. An
    /// operation on two connections takes only the turn of its source. Otherwise two items could
    /// each have one turn and wait forever for the other's.
    ///
    /// # Errors
    /// `deadline_exceeded`.
    pub(super) async fn turn(&self, version: &KeyVersion) -> Result<Turn, Failure> {
        match version.connection_id() {
            Some(connection) => self.cx.turn(connection).await,
            None => Ok(Turn::default()),
        }
    }

    /// The record names this version's connection from here on.
    pub(super) fn names(&self, version: &KeyVersion) {
        self.cx.subject(|subject| {
            subject.connection = version.connection_id();
            subject.provider = Some(version.provider);
        });
    }
}

impl Authorized<op::CreateKey> {
    /// Gives the key its id: the record names it from here on.
    pub(super) fn creates(&self, key: KeyId) {
        self.cx.subject(|subject| subject.key = Some(key));
    }
}

impl Authorized<op::CreateConnection> {
    /// Gives the connection its id: the record names it from here on.
    pub(super) fn creates(&self, connection: ConnectionId) {
        self.cx.subject(|subject| subject.connection = Some(connection));
    }
}

impl Authorized<op::RewrapToOther> {
    /// The record names the target instead of the source from here on.
    pub(super) fn turn_to_target(&self) {
        let target = &self.object.target;
        self.cx.subject(|subject| subject.key = Some(target.id()));
        if let Ok(view) = target.view() {
            self.names(&view.key.primary);
        }
    }
}

impl Broker {
    /// Finds the object that a request names and decides the operation on it. The record of the
    /// request names operation, object and policy from here on, also if it is denied.
    ///
    /// # Errors
    /// `permission_denied`; `not_found` only for a caller who would be allowed, and
    /// `ciphertext_rejected` for a wrapped key of an unknown key; `invalid_request` for an operator
    /// who names no tenant where one is needed.
    pub async fn admit<O: Operation>(&self, cx: &RequestContext, named: impl Names<O::Object>) -> Result<Authorized<O>, Failure> {
        let again = cx.subject(|subject| {
            subject.action = O::ACTION;
            subject.while_suspended = O::WHILE_SUSPENDED;
            subject.policy.is_some()
        });
        if again {
            // The record of an operation has room for one object.
            return Err(Failure::internal(&"an operation was admitted twice"));
        }
        // A suspension overrides every policy, so the authorizer is not asked.
        if cx.caller().tenant_suspended() && !O::WHILE_SUSPENDED {
            return Err(Failure::new(
                Code::PermissionDenied,
                "The tenant is suspended: an operator can read and revoke in it, and nothing else.",
            )
            .advice("Resume the tenant first: `claviger tenants resume` (POST /v1/tenants/{tenant}/resume)."));
        }
        let admitted = named.admit(self, cx, O::ACTION);
        let (object, policy) = if O::REVOKES {
            Box::pin(for_revocation(admitted)).await?
        } else {
            admitted.await?
        };
        cx.subject(|subject| subject.policy = Some(policy));
        Ok(Authorized { cx: cx.clone(), object })
    }

    /// Whether the caller could be allowed the action on any object. This is checked before the
    /// body is read.
    pub fn could_allow(&self, caller: &Caller, action: Action) -> bool {
        self.authorizer.could_allow(caller, action)
    }

    /// Decides whether the operation under way may go on with an envelope whose seal this
    /// installation cannot check: one without a seal, or with another installation's. Recorded
    /// as `UnwrapUnsealed`, allowed or not.
    ///
    /// # Errors
    /// `permission_denied`.
    pub(super) async fn admit_unsealed(&self, cx: &RequestContext, key: &Key) -> Result<(), Failure> {
        cx.subject(|subject| subject.action = Action::UnwrapUnsealed);
        decide::allowed(self, cx, Action::UnwrapUnsealed, Resource::Key(Some(key)))
            .await
            .map(drop)
            .map_err(|_| {
                Failure::new(Code::PermissionDenied, "The wrapped key carries no seal of this installation.")
                    .advice("Opening it needs the permission UnwrapUnsealed, which is meant for recovery on another installation.")
            })
    }
}

#[cfg(test)]
mod tests;
