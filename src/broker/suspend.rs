//! Suspend and resume: stop every request of a tenant, and serve it again. For platform operators.

use claviger_provider::TenantId;

use super::revoke::Revoked;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, op};
use crate::audit::{self, EmergencyRevocation, Object, Verb};
use crate::store::model::{Liftable, Tenant};
use crate::store::{Refused, rules};

impl Broker {
    /// Suspends a tenant: every request of its credentials is refused from the next one on. A
    /// repeated request is carried out again.
    ///
    /// # Errors
    /// None of its own, because a suspend takes effect without a healthy log.
    pub async fn suspend_tenant(&self, authorized: Authorized<op::SuspendTenant>) -> Result<Guarded<Completed<Tenant>>, Failure> {
        let (cx, tenant) = (authorized.cx(), authorized.object());
        self.suspensions.count(tenant.id);
        let _one_at_a_time = self.suspensions.turn().await;
        let mut after = tenant.clone();
        let is_new = rules::set_suspended(&mut after, true);
        after.lifts = self.suspensions.lifts(tenant.id, tenant.lifts);
        let suspended = self.revoke(cx, Revoked::Tenant(after), is_new).await?;
        // Once more, so that a resume that began before the commit fails, too.
        self.suspensions.count(tenant.id);
        match suspended {
            Revoked::Tenant(row) => Ok(Guarded::free(completed(row))),
            Revoked::Key(_) | Revoked::Connection(_) | Revoked::Token { .. } | Revoked::Principal { .. } => {
                Err(Failure::internal(&"a suspend left no tenant"))
            }
        }
    }

    /// Resumes a suspended tenant.
    ///
    /// # Errors
    /// `precondition_failed` when a suspend arrived meanwhile.
    pub async fn resume_tenant(
        &self,
        authorized: Authorized<op::ResumeTenant>,
        keep: Keep<Tenant>,
    ) -> Result<Guarded<Completed<Tenant>>, Failure> {
        let (cx, tenant) = (authorized.cx(), authorized.object());
        let suspends = self.suspensions.seen(tenant.id);
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Resume, Object::Tenant, &tenant.id))
            .await?;
        let _one_at_a_time = self.suspensions.turn().await;
        // A suspend that came after this request began wins. The code is one that no client retries.
        if self.suspensions.seen(tenant.id) != suspends {
            return Err(Failure::new(
                Code::PreconditionFailed,
                "The tenant was suspended while it was being resumed.",
            ));
        }
        // Count the lift in memory before the commit, as `Broker::enable` does and for the reason
        // given there.
        let mut after = tenant.clone();
        after.lifts = self.suspensions.lifts(tenant.id, tenant.lifts);
        self.store
            .raise_lifts(TenantId::INSTALLATION, Liftable::Tenant(tenant.id), after.lifts)
            .await?;
        rules::set_suspended(&mut after, false);
        self.suspensions.note_lift(tenant.id, after.lifts);
        let change = change.keeping(keep.row(Completion::Done, &after, None)?);
        let row = self.store.set_tenant_suspended(tenant.id, false, &change).await?;
        self.directory().factories().note_suspended(tenant.id, false);
        self.authenticator().readmit(Refused::Tenant(tenant.id));
        self.revocation_lifted(cx.tenant(), EmergencyRevocation::Suspend(tenant.id)).await;
        Ok(Guarded::free(completed(row)))
    }

    /// Whether a tenant is suspended. What the gateway does for it without a request asks this, and calls no
    /// provider then.
    pub(super) async fn is_suspended(&self, tenant: TenantId) -> Result<bool, Failure> {
        Ok(self.authenticator().refuses_tenant(tenant) || self.store.tenant(tenant).await?.suspended)
    }

    /// The answer to a repeated resume, which is never carried out again: the tenant as it is now. A
    /// suspend that came after the first request stays in force.
    pub fn resume_repeated(&self, authorized: &Authorized<op::ResumeTenant>) -> Guarded<Completed<Tenant>> {
        Guarded::free(completed(authorized.object().clone()))
    }
}

const fn completed(tenant: Tenant) -> Completed<Tenant> {
    Completed {
        completion: Completion::Done,
        object: tenant,
        revision: None,
    }
}
