//! The questions that the broker puts to the authorizer.

use crate::access::{AccessRequest, Action, Decision, PolicyRef, Resource};
use crate::audit::Text;
use crate::broker::{Broker, Failure, RequestContext};

/// Denies, before anything is looked up, a caller who could not be allowed the action on any object.
///
/// # Errors
/// `permission_denied`.
pub fn precheck(broker: &Broker, cx: &RequestContext, action: Action) -> Result<(), Failure> {
    if broker.authorizer.could_allow(cx.caller(), action) {
        Ok(())
    } else {
        Err(Failure::denied(action))
    }
}

/// Decides the action on an object.
///
/// # Errors
/// `permission_denied`.
pub async fn allowed(broker: &Broker, cx: &RequestContext, action: Action, resource: Resource<'_>) -> Result<PolicyRef, Failure> {
    let request = AccessRequest {
        caller: cx.caller(),
        action,
        resource,
        justification: cx.info().justification.as_ref().map(Text::as_str),
    };
    match broker.authorizer.decide(request).decision().await {
        Decision::Allow(policy) => Ok(policy),
        Decision::Deny => Err(Failure::denied(action)),
    }
}
