//! Caching in external custody: the tenant's administrator decides whether the gateway keeps data keys.

use super::{Code, Failure, RequestContext};
use crate::store::model::CacheSettings;

/// Decides whether a request may leave these cache settings to a key, of which a version is in external custody if
/// `external`. Without a request, nobody decides to cache.
///
/// # Errors
/// Where the settings turn the cache on for data keys in external custody: `permission_denied` for an operator, who must
/// not be able to keep what the customer's key manager opens, and where the gateway works on its own;
/// `invalid_request` without a reason.
pub fn may_cache<'a>(cx: impl Into<Option<&'a RequestContext>>, cache: CacheSettings, external: bool) -> Result<(), Failure> {
    if !external || cache.enabled != Some(true) {
        return Ok(());
    }
    let Some(cx) = cx.into() else {
        return Err(Failure::new(
            Code::PermissionDenied,
            "The key's cache was turned on, and nobody has decided that for external custody.",
        )
        .advice("Repeat the request with a credential of the tenant and a reason, or turn the key's cache off first."));
    };
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
            "the reason for which the gateway keeps data keys that an external key manager opened (in the CLI: --justification)",
        )),
    }
}
