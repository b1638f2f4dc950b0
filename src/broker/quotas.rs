//! A tenant's quotas. The store checks them where rows are added, in the same transaction; a use case that calls a
//! provider first also checks them before, so that nothing is made there in vain.

use super::{Broker, Code, Failure, Keep, RequestContext};
use crate::access::{Caller, Credential};
use crate::keys::KeyView;
use crate::store::model::{Quotas, Resource};
use crate::store::rules;

/// One key has one part in so many of the tenant's quota of versions,
const PART_OF_KEY: u32 = 100;
/// and in any case so many.
const LEAST_OF_KEY: u32 = 100;

impl Broker {
    /// The quotas that limit what this request adds. `None` for the operator's configuration, whose
    /// objects count and are never refused.
    pub(super) fn quotas_of(&self, cx: &RequestContext) -> Option<Quotas> {
        match cx.caller().credential() {
            Credential::Token(_) => Some(self.quotas),
            Credential::Configuration => None,
        }
    }

    /// Whether the records of the caller's tenant have as many bytes today as its quota. `false` for an operator.
    pub fn is_at_log_quota(&self, caller: &Caller) -> bool {
        !caller.is_operator() && self.log_bytes.is_at_quota(caller.home())
    }

    /// Refuses a request if the records of the caller's tenant have as many bytes today as its quota, or, if the caller
    /// is not `permitted` to make it on any object, if the records of such requests have their part of it. Those of
    /// operators count to the tenant that they act for, and are never refused. To be asked once for a request, before its
    /// work; what is under way then is recorded.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub fn may_be_recorded(&self, caller: &Caller, permitted: bool) -> Result<(), Failure> {
        if caller.is_operator() {
            return Ok(());
        }
        let quota = self.log_bytes.quota();
        let detail = if self.is_at_log_quota(caller) {
            format!("The tenant has reached its quota of {quota} bytes of audit records a day. Revocations are still carried out.")
        } else if !permitted && !self.log_bytes.take_denied(caller.home()) {
            format!(
                "Requests that no permission of their credential covers have used their eighth of the tenant's quota of {quota} bytes of \
                 audit records a day, and this is one."
            )
        } else {
            return Ok(());
        };
        Err(Failure::new(Code::QuotaExceeded, detail).advice(
            "Repeat the request after midnight UTC, and send fewer requests: each one has a record. The operator can raise \
             `quotas.log_bytes_per_day`.",
        ))
    }

    /// Refuses a request that adds one of each of these, and the response to `keep`, if the tenant is at
    /// a quota. Another request may take the place before the commit, where the store checks again.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub(super) async fn has_room<T>(&self, cx: &RequestContext, adds: &[Resource], keep: &Keep<T>) -> Result<(), Failure> {
        let Some(quotas) = self.quotas_of(cx) else { return Ok(()) };
        let usage = self.store.usage(cx.tenant()).await?;
        let kept = keep.keeps().then_some(Resource::IdempotencyKeys);
        for resource in adds.iter().copied().chain(kept) {
            rules::check_quota(Some(&quotas), resource, usage.of(resource) + 1)?;
        }
        Ok(())
    }

    /// Refuses another version of a key that has its part of the tenant's quota: a credential that is limited to one key
    /// must leave versions for the others.
    ///
    /// # Errors
    /// `quota_exceeded`.
    pub(super) fn key_has_room(&self, cx: &RequestContext, view: &KeyView) -> Result<(), Failure> {
        let Some(quotas) = self.quotas_of(cx) else { return Ok(()) };
        let most = (quotas.versions / PART_OF_KEY).max(LEAST_OF_KEY);
        if u32::try_from(view.versions.len()).is_ok_and(|versions| versions < most) {
            return Ok(());
        }
        let detail = format!(
            "The key has {most} versions: a hundredth of the tenant's quota of {} key versions, and no less than {LEAST_OF_KEY}.",
            quotas.versions
        );
        Err(Failure::new(Code::QuotaExceeded, detail).advice("Make another key, or ask the operator to raise `quotas.versions`."))
    }
}
