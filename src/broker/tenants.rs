//! Tenants: make and list them. For platform operators only.

use claviger_provider::TenantId;

use super::{Broker, Code, Failure, Guarded, Keep, RequestContext};
use crate::access::{Permit, op};
use crate::audit::{self, Object, Verb};
use crate::keys::TenantSecrets;
use crate::store::StoreError;
use crate::store::model::Tenant;

/// What a new tenant is to be.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Unique in the installation.
    pub name: String,
    /// The id to take, to open blobs of a lost installation.
    pub id: Option<TenantId>,
}

impl Broker {
    /// Makes a tenant with seal and context-hash keys of its own.
    ///
    /// # Errors
    /// `already_exists` for a name or an id that is taken.
    pub async fn create_tenant(
        &self,
        cx: &RequestContext,
        permit: Permit<op::ManageTenants>,
        new: NewTenant,
        keep: Keep<'_, Tenant>,
    ) -> Result<Guarded<Tenant>, Failure> {
        cx.permitted(&permit);
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
            created: self.now(),
        };
        let change = self
            .announce(cx, audit::StateChange::new(Verb::Create, Object::Tenant, &tenant.id))
            .await?;
        self.store
            .create_tenant(&tenant, TenantSecrets::draw(tenant.id), &change.keeping(keep(&tenant)?))
            .await?;
        Ok(Guarded::free(tenant))
    }
}
