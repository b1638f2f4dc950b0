//! Caching in external custody: the tenant's administrator decides whether the gateway keeps data keys.

use super::{Code, Failure, RequestContext};
use crate::store::model::CacheSettings;

/// Decides whether a request may leave these cache settings to a key, of which a version is in external custody if
/// `external`.
///
/// # Errors
/// Where the settings turn the cache on for data keys in external custody: `permission_denied` for an operator, who must
/// not be able to keep what the customer's key manager opens, and `invalid_request` without a reason.
pub fn may_cache(cx: &RequestContext, cache: CacheSettings, external: bool) -> Result<(), Failure> {
    if !external || cache.enabled != Some(true) {
        return Ok(());
    }
    if cx.caller().is_operator() {
        return Err(Failure::new(
            Code::PermissionDenied,
            "Only the tenant's own administrator turns the cache on for a key in external custody, never an operator.",
        )
        .advice("Leave `cache.enabled` out, or use a credential of the tenant."));
    }
    match cx.info().justification {
        Some(_) => Ok(()),
        None => Err(Failure::invalid(
            "header:Claviger-Justification",
            "the reason for which the gateway keeps data keys that an external key manager opened",
        )),
    }
}
