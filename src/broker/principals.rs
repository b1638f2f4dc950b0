//! Principals: make and delete whoever may hold a credential.

use claviger_provider::PrincipalId;

use super::{Broker, Code, Failure, Guarded, Keep, RequestContext};
use crate::access::{Permit, op};
use crate::audit::{self, Object, Verb};
use crate::store::StoreError;
use crate::store::model::{Principal, PrincipalKind};

/// What a new principal is to be.
#[derive(Debug, Clone)]
pub struct NewPrincipal {
    /// Unique in the tenant.
    pub name: String,
    /// What kind of caller.
    pub kind: PrincipalKind,
}

impl Broker {
    /// Makes a principal in the caller's tenant.
    ///
    /// # Errors
    /// `already_exists`.
    pub async fn create_principal(
        &self,
        cx: &RequestContext,
        permit: Permit<op::ManagePrincipals>,
        new: NewPrincipal,
        keep: Keep<'_, Principal>,
    ) -> Result<Guarded<Principal>, Failure> {
        cx.permitted(&permit);
        match self.store.principal_by_name(cx.tenant(), &new.name).await {
            Ok(_) => return Err(StoreError::AlreadyExists.into()),
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let principal = Principal {
            id: PrincipalId::random(),
            tenant: cx.tenant(),
            name: new.name,
            kind: new.kind,
            created: self.now(),
        };
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Create, Object::Principal, &principal.id))
            .await?;
        self.store.create_principal(&principal, &change.keeping(keep(&principal)?)).await?;
        Ok(Guarded::free(principal))
    }

    /// Deletes a principal; its tokens are refused from then on.
    ///
    /// # Errors
    /// `not_found`; `in_use` for the caller itself, who would lock itself out half-way.
    pub async fn delete_principal(
        &self,
        cx: &RequestContext,
        permit: Permit<op::ManagePrincipals>,
        principal: &Principal,
    ) -> Result<Guarded<()>, Failure> {
        cx.permitted(&permit);
        if principal.id == cx.caller().principal() {
            return Err(Failure::new(Code::InUse, "A principal cannot delete itself."));
        }
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Delete, Object::Principal, &principal.id))
            .await?;
        self.store.delete_principal(principal.tenant, principal.id, &change).await?;
        self.authenticator().forget_all();
        Ok(Guarded::free(()))
    }
}
