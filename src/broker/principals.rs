//! Principals, which hold credentials: create and delete.

use claviger_provider::PrincipalId;

use super::admit::EndingPrincipal;
use super::revoke::Revoked;
use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, op};
use crate::audit::{self, Object, Verb};
use crate::store::StoreError;
use crate::store::model::{Principal, PrincipalKind};

/// A principal to be created.
#[derive(Debug, Clone)]
pub struct NewPrincipal {
    /// Unique in the tenant.
    pub name: String,
    /// The kind of caller.
    pub kind: PrincipalKind,
}

impl Broker {
    /// Creates a principal in the caller's tenant.
    ///
    /// # Errors
    /// `already_exists`.
    pub async fn create_principal(
        &self,
        authorized: Authorized<op::CreatePrincipal>,
        new: NewPrincipal,
        keep: Keep<Principal>,
    ) -> Result<Guarded<Completed<Principal>>, Failure> {
        let cx = authorized.cx();
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
        let kept = keep.row(Completion::Created, &principal, None)?;
        self.store.create_principal(&principal, &change.keeping(kept)).await?;
        Ok(Guarded::free(Completed {
            completion: Completion::Created,
            object: principal,
            revision: None,
        }))
    }

    /// Deletes a principal: a revocation of its tokens and of all tokens below them. Succeeds also
    /// if the principal was deleted before.
    ///
    /// # Errors
    /// `in_use` for the caller's own principal.
    pub async fn delete_principal(&self, authorized: Authorized<op::DeletePrincipal>) -> Result<Guarded<()>, Failure> {
        let (cx, EndingPrincipal::Present(principal)) = (authorized.cx(), authorized.object()) else {
            authorized.cx().set_revoked_earlier();
            return Ok(Guarded::free(()));
        };
        if principal.id == cx.caller().principal() {
            return Err(Failure::new(Code::InUse, "A principal cannot delete itself."));
        }
        let deleted = Revoked::Principal {
            tenant: principal.tenant,
            id: principal.id,
            at: self.now(),
            ended: Vec::new(),
        };
        self.revoke(cx, deleted, true).await?;
        Ok(Guarded::free(()))
    }
}
