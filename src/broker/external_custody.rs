//! What the tenant's own administrator alone decides in external custody, never an operator of the gateway: whether it
//! keeps data keys, and whether they are opened again after a sever.

use super::{Code, Failure, RequestContext};
use crate::store::model::CacheSettings;

/// Decides whether a request may change a key's cache settings to these, as [`may_cache`] does. The key's own may have it
/// turned on, so that an operator may not change its limits either.
///
/// # Errors
/// Those of [`may_cache`].
pub fn may_change_cache(cx: &RequestContext, cache: CacheSettings, external: bool) -> Result<(), Failure> {
    let limits = CacheSettings { enabled: None, ..cache };
    if external && cx.caller().is_operator() && limits != CacheSettings::default() {
        return Err(of_the_tenant(
            "Only the tenant's own administrator sets how long data keys in external custody are kept, never an operator.",
        )
        .advice("Leave the limits of `cache` out, or use a credential of the tenant."));
    }
    may_cache(cx, cache, external)
}

/// Decides whether a request may open again what a sever closed, for keys in external custody if `external`: the switch is
/// the customer's.
///
/// # Errors
/// `permission_denied` for an operator, if `external`.
pub fn may_restore(cx: &RequestContext, external: bool) -> Result<(), Failure> {
    match external && cx.caller().is_operator() {
        true => Err(
            of_the_tenant("Only the tenant's own administrator restores what an external key manager opens, never an operator.")
                .advice("Use a credential of the tenant."),
        ),
        false => Ok(()),
    }
}

fn of_the_tenant(detail: &'static str) -> Failure {
    Failure::new(Code::PermissionDenied, detail)
}

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
        return Err(of_the_tenant(
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
