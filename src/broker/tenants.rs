//! Tenants: create them. For platform operators only.

use claviger_provider::TenantId;

use super::{Authorized, Broker, Code, Completed, Completion, Failure, Guarded, Keep, op};
use crate::audit::{self, Object, Verb};
use crate::keys::TenantSecrets;
use crate::store::StoreError;
use crate::store::model::Tenant;

/// A tenant to be created.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Unique in the installation.
    pub name: String,
    /// The id to take, to open the wrapped keys of a lost installation; random if `None`.
    pub id: Option<TenantId>,
}

impl Broker {
    /// Creates a tenant with its own seal keys and context-hash key.
    ///
    /// # Errors
    /// `already_exists` for a name or an id that is taken.
    pub async fn create_tenant(
        &self,
        authorized: Authorized<op::CreateTenant>,
        new: NewTenant,
        keep: Keep<Tenant>,
    ) -> Result<Guarded<Completed<Tenant>>, Failure> {
        let cx = authorized.cx();
        if new.id == Some(TenantId::INSTALLATION) {
            return Err(Failure::invalid("/id", "another id: zeros stand for the installation itself"));
        }
        match self.store.tenant_by_name(&new.name).await {
            Ok(_) => return Err(StoreError::AlreadyExists.into()),
            Err(StoreError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(id) = new.id {
            match self.store.tenant(id).await {
                Ok(_) => return Err(Failure::new(Code::AlreadyExists, "A tenant of that id exists.")),
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let tenant = Tenant {
            id: new.id.unwrap_or_else(TenantId::random),
            name: new.name,
            suspended: false,
            lifts: 0,
            created: self.now(),
        };
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Create, Object::Tenant, &tenant.id))
            .await?;
        let kept = keep.row(Completion::Created, &tenant, None)?;
        self.store
            .create_tenant(&tenant, TenantSecrets::draw(tenant.id), &change.keeping(kept))
            .await?;
        Ok(Guarded::free(Completed {
            completion: Completion::Created,
            object: tenant,
            revision: None,
        }))
    }
}
